"""The figures of lesson 04: drawn from the model, described in words, clear about bad input."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
import tiny
import torch

from peft_helpers import accounting, backbones, plots

METHODS = {
    "adapters": ("attention_output", "ffn_out"),
    "LoRA": ("query", "value"),
    "norms": ("norm",),
    "head": ("head",),
}
PARTS = accounting.bert_parts(100, 16, 2, 32, 20)
MAPS = torch.rand(2, 3, 4, 4).softmax(-1)
FIGURES = {
    "anatomy": lambda: plots.anatomy(backbones.anatomy(tiny.model("bert")), METHODS),
    "parameter_shares": lambda: plots.parameter_shares({"one": PARTS, "two": PARTS | {"pooler": 5}}),
    "attention_maps": lambda: plots.attention_maps(MAPS, ["[CLS]", "a", "b", "[SEP]"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_words_and_is_the_same_each_time(name):
    first, again = FIGURES[name](), FIGURES[name]()
    assert len(first.alt.split()) > 10
    assert plots.png(first) == plots.png(again)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_the_words_end_in_a_full_stop(name):
    figure = FIGURES[name]()
    picture = matplotlib.image.imread(io.BytesIO(plots.png(figure, dpi=60)))[..., :3]
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edge == 1).all(), "something is drawn up to the edge: a label may be cut off"
    assert figure.alt.endswith(".") and "nan" not in figure.alt


@pytest.mark.parametrize("kind", backbones.ARCHITECTURES)
def test_anatomy_draws_every_architecture_with_all_its_parts(kind):
    model = tiny.model(kind)
    training = model.training
    parts = backbones.anatomy(model)
    figure = plots.anatomy(parts, METHODS)
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    for site in [*parts.layers[0].sites.values(), *parts.head]:
        assert site.name.replace("_", " ") in words
    assert set(METHODS) <= words and any("such layers" in word for word in words)
    assert model.training == training and not any(module._forward_pre_hooks for module in model.modules())


def test_anatomy_follows_the_order_in_which_the_parts_run():
    said = plots.anatomy(backbones.anatomy(tiny.model("bert"))).alt
    order = [
        "word embeddings",
        "query",
        "attention output",
        "attention.output.LayerNorm",
        "ffn in",
        "ffn out",
        "pooler",
    ]
    assert [said.index(word) for word in order] == sorted(said.index(word) for word in order)
    llama = plots.anatomy(backbones.anatomy(tiny.model("llama"))).alt
    assert llama.index("input_layernorm") < llama.index("query") < llama.index("post_attention_layernorm")
    bart = plots.anatomy(backbones.anatomy(tiny.model("bart"))).alt
    assert bart.index("final_layer_norm") < bart.index("decoder.layernorm_embedding") < bart.index("cross query")


def test_anatomy_tells_the_parameters_of_a_fused_matrix_by_thirds():
    assert plots.anatomy(backbones.anatomy(tiny.model("gpt2"))).alt.count("attn.c_attn: 272") == 3  # 16 · 16 + 16


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: plots.anatomy(backbones.anatomy(tiny.model("bert")), {"x": ("gate",)}),
            "x: there is no gate; there is",
        ),
        (lambda: plots.parameter_shares({}), "models is empty"),
        (lambda: plots.parameter_shares({"a": {"x": 0}}), "positive counts"),
        (lambda: plots.parameter_shares({"a": {}}), "1 to 6 parts"),
        (lambda: plots.attention_maps(MAPS, ["a", "b"]), r"\(2, 3, 4, 4\) for 2 tokens"),
        (lambda: plots.attention_maps(MAPS.repeat(3, 1, 1, 1), list("abcd")), "at most 16 maps"),
        (lambda: plots.attention_maps(MAPS * 2, list("abcd")), "adds up to 1"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_one_row_of_heads():
    figure = plots.attention_maps(np.full((2, 3, 3), 1 / 3), list("abc"), names=["last"])
    assert "last" in figure.alt and len(figure.axes) == 2

"""The backbone registry and the anatomy of every architecture."""

import pytest
import tiny
import torch

from peft_helpers import backbones, tasks

ATTENTION = ("query", "key", "value", "attention_output")


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("kind", backbones.ARCHITECTURES)
def test_anatomy_covers_the_whole_model(kind, head):
    """Every parameter belongs to exactly one named part; nothing is left out and nothing counted twice."""
    model = tiny.model(kind, head)
    parts = backbones.anatomy(model)
    sites = [*parts.embeddings, *parts.norms, *parts.head, *([parts.pooler] if parts.pooler else [])]
    for layer in parts.layers:
        sites += [*layer.sites.values(), *layer.norms]
    owned = {}
    for site in sites:
        assert model.get_submodule(site.path) is site.module
        for parameter in site.module.parameters():
            owned.setdefault(id(parameter), set()).add(site.path)
    missing = [name for name, p in model.named_parameters() if id(p) not in owned]
    assert missing == []
    shared = {tuple(sorted(paths)) for paths in owned.values() if len(paths) > 1}
    assert shared == set(), "a parameter belongs to two parts"
    assert bool(parts.head) == head
    assert parts.width == 16


@pytest.mark.parametrize("kind", backbones.ARCHITECTURES)
def test_projections_have_the_widths_their_names_promise(kind):
    parts = backbones.anatomy(tiny.model(kind))
    assert len(parts.layers) == (4 if kind == "bart" else 2)
    for site in parts.sites(("attention_output", "ffn_out")):
        weight = site.module.weight if kind != "gpt2" else site.module.weight.T  # Conv1D holds (in, out)
        assert weight.shape[0] == 16, f"{site.path} leads back to width D"
    for site in parts.sites(("ffn_in",)):
        weight = site.module.weight if kind != "gpt2" else site.module.weight.T
        assert weight.shape == (64 if kind == "gpt2" else 32, 16)


def test_gpt2_thirds_are_query_key_value_in_this_order():
    model = tiny.model("gpt2", head=False)
    parts = backbones.anatomy(model)
    sites = [parts.layers[0].sites[name] for name in ("query", "key", "value")]
    assert [site.third for site in sites] == [0, 1, 2]
    assert len({site.path for site in sites}) == 1
    assert sites[0].module.weight.shape == (16, 48)
    torch.manual_seed(0)
    hidden, width = torch.randn(1, 5, 16), 16
    with torch.no_grad():  # attention with these thirds is the module's own attention
        q, k, v = (
            sites[0].module(hidden)[..., s.third * width : (s.third + 1) * width].view(1, 5, 2, 8).transpose(1, 2)
            for s in sites
        )
        made = (
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(1, 5, 16)
        )
        attention = model.h[0].attn.eval()
        assert torch.allclose(attention.c_proj(made), attention(hidden)[0], atol=1e-6)


def test_unknown_parts_and_architectures_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"bert has no ffn_gate; it has .*ffn_out"):
        backbones.anatomy(tiny.model("bert")).sites(("query", "ffn_gate"))
    with pytest.raises(ValueError, match="no anatomy for 'Linear'; there is one for bert"):
        backbones.anatomy(torch.nn.Linear(2, 2))


def save_backbone(folder, kind="bert"):
    tiny.model(kind, head=False).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


def test_load_from_a_folder_and_by_peft_models(tmp_path, monkeypatch):
    save_backbone(tmp_path / "FacebookAI--roberta-base")
    model, tokenizer = backbones.load(str(tmp_path / "FacebookAI--roberta-base"), tiny.task())
    assert model.config.num_labels == 2
    assert model.config.id2label == {0: "warm", 1: "cold"}
    assert tokenizer.pad_token_id == 0
    monkeypatch.setenv("PEFT_MODELS", str(tmp_path))
    again, _ = backbones.load("roberta-base", tiny.task())
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), f"{name} differs although the seed is the same"
    monkeypatch.setenv("PEFT_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"PEFT_MODELS is set to .*nowhere"):
        backbones.load("roberta-base", tiny.task())


def test_random_weights_differ_from_pretrained_and_follow_the_seed(tmp_path):
    save_backbone(tmp_path)
    pretrained, _ = backbones.load(str(tmp_path), tiny.task())
    first, _ = backbones.load(str(tmp_path), tiny.task(), pretrained=False, seed=1)
    same, _ = backbones.load(str(tmp_path), tiny.task(), pretrained=False, seed=1)
    other, _ = backbones.load(str(tmp_path), tiny.task(), pretrained=False, seed=2)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weights = [dict(m.named_parameters())[name] for m in (pretrained, first, same, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[3])


def test_half_precision_folders_load_as_float32(tmp_path):
    tiny.model("bert", head=False).half().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    model, _ = backbones.load(str(tmp_path), tiny.task())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_mean_pooling_ignores_padding_and_has_no_pooler(tmp_path, monkeypatch):
    save_backbone(tmp_path / "minilm")
    monkeypatch.setenv("PEFT_MODELS", str(tmp_path))
    model, tokenizer = backbones.load("minilm", tiny.task())
    model.eval()
    one = tokenizer(["red sea"], return_tensors="pt")
    two = tokenizer(["red sea", "very very very cold blue sky"], padding=True, return_tensors="pt")
    assert torch.allclose(model(**one).logits[0], model(**two).logits[0], atol=1e-6)
    parts = backbones.anatomy(model)
    assert parts.pooler is None
    assert [site.path for site in parts.head] == ["classifier"]
    assert parts.layers[0].sites["query"].path == "base_model.encoder.layer.0.attention.self.query"


def test_an_encoder_that_should_write_names_models_of_both_kinds_that_can():
    task = tasks.load("trails")
    with pytest.raises(ValueError, match=r"pocket-bert is an encoder .* such as ") as caught:
        backbones.load("pocket-bert", task)
    named = str(caught.value).split("such as ")[1].split(" or ")
    kinds = {backbones.load(name, task)[0].config.is_encoder_decoder for name in named}
    assert kinds == {False, True}, "one decoder, one encoder-decoder, and both load for the task"


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not hold a complete model"):
        backbones.load(str(tmp_path), tiny.task())

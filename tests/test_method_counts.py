"""Exact parameter counts of real models and of methods on them; on the meta device, so nothing is downloaded."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from peft_helpers import accounting, methods
from peft_helpers.methods import surgery

BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
BERT_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
BERT = {"base": BERT_BASE, "large": BERT_LARGE}
GPT2 = {"small": (768, 12, 12), "medium": (1024, 24, 16), "large": (1280, 36, 20)}
D, L, I = {"base": 768, "large": 1024}, {"base": 12, "large": 24}, {"base": 3072, "large": 4096}  # noqa: E741


def bert(size: str) -> BertForSequenceClassification:
    with torch.device("meta"):
        return BertForSequenceClassification(BertConfig(**BERT[size], num_labels=2))


def gpt2(size: str) -> GPT2LMHeadModel:
    width, layers, heads = GPT2[size]
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=heads))
    model.tie_weights()
    return model


def bart(size: str) -> BartForConditionalGeneration:
    layers, heads, width, wide = (6, 12, 768, 3072) if size == "base" else (12, 16, 1024, 4096)
    sizes = {"d_model": width, "vocab_size": 50265}
    for half in ("encoder", "decoder"):
        sizes |= {f"{half}_layers": layers, f"{half}_attention_heads": heads, f"{half}_ffn_dim": wide}
    with torch.device("meta"):
        model = BartForConditionalGeneration(BartConfig(**sizes))
    model.tie_weights()
    return model


def total(model: torch.nn.Module) -> int:
    return accounting.count_parameters(model).total


def trained(model: torch.nn.Module, method: methods.Method) -> int:
    """What the method trains, without the head: measured, and checked against the method's own formula."""
    methods.apply(model, method)
    anatomy = model.adaptation.anatomy
    head = surgery.count(surgery.task_head(anatomy))
    measured = accounting.count_parameters(model).trainable - head
    assert measured == method.parameter_count(anatomy)
    methods.remove(model)
    return measured


def test_sizes_of_the_models():
    assert [total(bert(size)) for size in BERT] == [109_483_778, 335_143_938]
    with torch.device("meta"):
        encoders = [BertModel(BertConfig(**sizes)) for sizes in BERT.values()]
        bare = [BertModel(BertConfig(**sizes), add_pooling_layer=False) for sizes in BERT.values()]
    assert [total(model) for model in encoders] == [109_482_240, 335_141_888]
    assert [total(model) for model in bare] == [108_891_648, 334_092_288]
    assert [total(gpt2(size)) for size in GPT2] == [124_439_808, 354_823_168, 774_030_080]
    assert [total(bart(size)) for size in ("base", "large")] == [139_420_416, 406_291_456]


def test_parts_of_bert():
    for size, layer, pooler, head in (("base", 7_087_872, 590_592, 1_538), ("large", 12_596_224, 1_049_600, 2_050)):
        counts = accounting.count_parameters(bert(size)).by_part
        assert counts["encoder"] == L[size] * layer
        assert (counts["pooler"], counts["classifier"]) == (pooler, head)
        assert accounting.head_parameters(D[size], 2) == head
        assert accounting.layer_parameters(D[size], I[size]) == layer


METHODS_ON_BERT = [  # method, BERT-base, BERT-large, the formula in accounting
    (methods.LayerNormTuning(), 38_400, 100_352, lambda d, n, i: accounting.layer_norm_parameters(d, n)),
    (methods.BitFit(), 102_914 - 2, 272_386 - 2, accounting.bias_parameters),  # 2 more in the head, which is apart
    (
        methods.BitFit(("query", "ffn_in")),
        46_080,
        122_880,
        lambda d, n, i: accounting.projection_bias_parameters(d, n, i, narrow=1),
    ),
    (
        methods.BitFit(("query", "key", "value", "attention_output", "ffn_in", "ffn_out")),
        82_944,
        221_184,
        accounting.projection_bias_parameters,
    ),
    (methods.Houlsby(8), 313_536 + 38_400, 835_968 + 100_352, lambda d, n, i: accounting.houlsby_parameters(d, n, 8)),
    (methods.Houlsby(64), 2_417_664, 6_444_032, lambda d, n, i: accounting.houlsby_parameters(d, n, 64)),
    (
        methods.Houlsby(256),
        9_461_760 + 38_400,
        25_227_264 + 100_352,
        lambda d, n, i: accounting.houlsby_parameters(d, n, 256),
    ),
    (methods.LoRA(8), 294_912, 786_432, lambda d, n, i: accounting.lora_parameters(d, n, 8)),
    (methods.HeadOnly(), 0, 0, lambda d, n, i: 0),
    (
        methods.FullFineTuning(),
        109_482_240,
        335_141_888,
        lambda d, n, i: accounting.bert_parameters(30522, d, n, i, 512),
    ),
    (methods.TopLayers(1), 7_087_872, 12_596_224, lambda d, n, i: accounting.top_layers_parameters(d, 1, i)),
    (
        methods.TopLayers(2, pooler=True),
        2 * 7_087_872 + 590_592,
        2 * 12_596_224 + 1_049_600,
        lambda d, n, i: accounting.top_layers_parameters(d, 2, i, pooler=True),
    ),
]


@pytest.mark.parametrize(("method", "base", "large", "formula"), METHODS_ON_BERT, ids=tiny.called)
def test_methods_on_bert(method, base, large, formula):
    for size, expected in (("base", base), ("large", large)):
        assert trained(bert(size), method) == formula(D[size], L[size], I[size]) == expected


def test_houlsby_with_norms_and_head():
    for size, expected in (("base", 2_419_202), ("large", 6_446_082)):
        model = bert(size)
        methods.apply(model, methods.Houlsby(64))
        assert accounting.count_parameters(model).trainable == expected


def test_formulas_alone_give_the_houlsby_counts():
    """From sizes, without any model: adapters, norms and head; adapters alone."""
    for size, whole, alone in (
        ("base", 2_419_202, {8: 313_536, 64: 2_379_264, 256: 9_461_760}),
        ("large", 6_446_082, {8: 835_968, 64: 6_343_680, 256: 25_227_264}),
    ):
        width, layers = D[size], L[size]
        assert accounting.houlsby_parameters(width, layers, 64) + accounting.head_parameters(width, 2) == whole
        assert {m: accounting.houlsby_parameters(width, layers, m, norms=False) for m in alone} == alone


def test_layer_norms_and_head_are_the_papers_40k():
    """What the paper counts as 40k when only they are trained (arXiv:1902.00751, section 3.4)."""
    model = methods.apply(bert("base"), methods.LayerNormTuning())
    assert accounting.count_parameters(model).trainable == 38_400 + 1_538
    assert accounting.layer_norm_parameters(768, 12) + accounting.head_parameters(768, 2) == 39_938


def test_unipelts_four_counts():
    """BitFit 103K, prefix of 10 184K, LoRA 295K, adapter 895K on BERT-base (arXiv:2110.07577)."""
    assert accounting.bias_parameters(768, 12, 3072) + 2 == 102_914  # the head's two biases among them
    assert accounting.prefix_parameters(768, 12, 10) == 184_320
    assert accounting.lora_parameters(768, 12, 8) == 294_912
    assert accounting.pfeiffer_parameters(768, 12, 48) == 894_528


def test_one_adapter_a_layer():
    assert trained(bert("base"), methods.Pfeiffer(48)) == accounting.pfeiffer_parameters(768, 12, 48) == 894_528
    assert trained(bert("base"), methods.ParallelAdapter(48)) == 894_528
    for method in (methods.Pfeiffer(64), methods.ParallelAdapter(64)):
        assert trained(bert("large"), method) == accounting.pfeiffer_parameters(1024, 24, 64) == 6_343_680 // 2


@pytest.mark.parametrize(
    ("size", "biases", "lora"),
    [("small", 102_144, 147_456), ("medium", 271_360, 393_216), ("large", 508_160, 737_280)],
)
def test_methods_on_gpt2(size, biases, lora):
    width, layers, _ = GPT2[size]
    assert trained(gpt2(size), methods.BitFit()) == biases
    assert accounting.bias_parameters(width, layers, 4 * width, pooler=False) == biases
    assert trained(gpt2(size), methods.LoRA(4)) == accounting.lora_parameters(width, layers, 4) == lora
    assert trained(gpt2(size), methods.FullFineTuning()) == total(gpt2(size))


def test_top_two_of_gpt2_medium():
    """25.19 M in the prefix-tuning and LoRA papers."""
    assert trained(gpt2("medium"), methods.TopLayers(2)) == 25_192_448


@pytest.mark.parametrize(("size", "norms"), [("small", 38_400), ("medium", 100_352), ("large", 186_880)])
def test_adapters_and_norms_on_gpt2(size, norms):
    """GPT-2 has as many norms as BERT: the final one stands for the embeddings'."""
    width, layers, _ = GPT2[size]
    assert trained(gpt2(size), methods.LayerNormTuning()) == accounting.layer_norm_parameters(width, layers) == norms
    assert trained(gpt2(size), methods.Houlsby(64)) == accounting.houlsby_parameters(width, layers, 64)
    for method in (methods.Pfeiffer(64), methods.ParallelAdapter(64)):
        assert trained(gpt2(size), method) == accounting.pfeiffer_parameters(width, layers, 64)
    assert trained(gpt2(size), methods.TopLayers(2)) == accounting.top_layers_parameters(width, 2, 4 * width)


def test_full_fine_tuning_of_bart_trains_tied_tables_once():
    assert trained(bart("base"), methods.FullFineTuning()) == 139_420_416
    assert trained(bart("large"), methods.FullFineTuning()) == 406_291_456


@pytest.mark.parametrize(
    ("size", "width", "layers", "norms", "biases"),
    [("base", 768, 6, 49_152, 125_952), ("large", 1024, 12, 126_976, 333_824)],
)
def test_methods_on_bart(size, width, layers, norms, biases):
    """Its decoder layers have cross-attention, with a norm of its own; 2 L layers in all."""
    wide, both = 4 * width, 2 * layers
    assert trained(bart(size), methods.LayerNormTuning()) == norms
    assert accounting.bart_layer_norm_parameters(width, layers) == norms
    assert trained(bart(size), methods.BitFit()) == accounting.bart_bias_parameters(width, layers, wide) == biases
    assert trained(bart(size), methods.LoRA(8)) == accounting.lora_parameters(width, both, 8)
    crossed = methods.LoRA(8, targets=("query", "value", "cross_query", "cross_value"))
    assert trained(bart(size), crossed) == accounting.lora_parameters(width, both + layers, 8)
    adapters = accounting.houlsby_parameters(width, both, 64, norms=False)
    assert trained(bart(size), methods.Houlsby(64)) == adapters + norms
    for method in (methods.Pfeiffer(64), methods.ParallelAdapter(64)):
        assert trained(bart(size), method) == adapters // 2
    one, cross = accounting.layer_parameters(width, wide), 4 * (width**2 + width) + 2 * width
    assert trained(bart(size), methods.TopLayers(2)) == 2 * (one + cross)


def test_encoders_and_decoders_may_differ_in_depth():
    assert accounting.bart_layer_norm_parameters(8, 2, 1) == 16 * (4 + 3 + 2)
    assert accounting.bart_bias_parameters(8, 2, 10, 1) == 2 * 66 + 106 + 16
    for function, sizes in (
        (accounting.bart_layer_norm_parameters, (8, 0)),
        (accounting.bart_bias_parameters, (8, 0, 10)),
        (accounting.projection_bias_parameters, (8, 0, 10)),
        (accounting.top_layers_parameters, (8, 0, 10)),
    ):
        with pytest.raises(ValueError, match="layers must be a positive whole number; got 0"):
            function(*sizes)
    with pytest.raises(ValueError, match="labels must be a positive whole number"):
        accounting.head_parameters(8, 0)


def test_formulas_of_methods_that_are_not_adapters():
    base, large = (768, 12), (1024, 24)
    for (width, layers), numbers in (
        (base, (368_640, 9_864_704, 15_360, 24_576, 313_344)),
        (large, (983_040, 25_760_256, 20_480, 61_440, 835_584)),
    ):
        assert numbers == (
            accounting.prefix_parameters(width, layers, 20),
            accounting.prefix_parameters(width, layers, 20, hidden=512),
            accounting.prompt_parameters(width, 20),
            accounting.vera_parameters(width, layers, 256),
            accounting.lora_parameters(width, layers, 8, magnitudes=True),
        )
    assert accounting.ia3_parameters(768, 12, 3072) == 55_296
    prefixes = [accounting.prefix_parameters(width, layers, 5) for width, layers, _ in GPT2.values()]
    assert prefixes == [92_160, 245_760, 460_800]
    with pytest.raises(ValueError, match="rank must be a positive whole number"):
        accounting.lora_parameters(768, 12, 0)


def test_the_papers_shares():
    """Bottlenecks of 8, 64 and 256 on BERT-large: 0.25, 1.9 and 7.5 % of the model (without the norms)."""
    share = [accounting.houlsby_parameters(1024, 24, m, norms=False) / 335_141_888 for m in (8, 64, 256)]
    assert [round(100 * s, 2) for s in share] == [0.25, 1.89, 7.53]
    assert round(100 * accounting.houlsby_parameters(1024, 24, 64) / 335_141_888, 2) == 1.92  # norms trained, too

"""Every registered method on every architecture keeps every property of `conformance.py`."""

from __future__ import annotations

import pytest
from conformance import GENERATING, KINDS, PROPERTIES, Case, backbone, generates

from peft_helpers import methods

# Settings to test besides the defaults, because the defaults leave a part of the code untouched.
VARIANTS = {
    "LoRA": [methods.LoRA(rank=2, alpha=3.0, targets=("query", "key", "value", "attention_output", "ffn_in"))],
    "DoRA": [methods.DoRA(rank=2, alpha=3.0, targets=("query", "key", "value", "attention_output", "ffn_in"))],
    "AdaLoRA": [methods.AdaLoRA(rank=2, alpha=3.0, targets=("key", "ffn_out"))],
    "VeRA": [methods.VeRA(rank=5, targets=("key", "ffn_in", "ffn_out"), seed=3)],  # of three sizes
    "KronA": [methods.KronA(block=4, scale=2.0, targets=("query", "key", "value", "ffn_in"))],
    "SAID": [methods.SAID(dimension=30, targets=None)],
    "IA3": [methods.IA3(keys_and_values=("query", "attention_output"), feed_forward=("ffn_in",))],
    "MagnitudeMask": [methods.MagnitudeMask(share=0.1, targets=("key", "ffn_out"))],
    "FishMask": [methods.FishMask(share=0.1, targets=("key", "value", "ffn_in"))],
    "DiffPruning": [methods.DiffPruning(share=0.1, targets=("key", "ffn_in"), start=0.0)],
    "Compacter": [methods.Compacter(bottleneck=4, blocks=2, sites=("ffn_out",))],
    "Compose": [
        methods.Compose((methods.TopLayers(1), methods.DoRA(rank=2), methods.IA3(), methods.LoRA(2, targets=("key",)))),
        methods.Compose((methods.Part(methods.Pfeiffer(5), layers=(0,)), methods.PrefixTuning(length=3, hidden=4))),
    ],
    "S4": [methods.S4(bottleneck=5, length=3, rank=2)],
    "UniPELT": [methods.UniPELT(length=3, hidden=None, rank=2, bottleneck=5)],
    "TopLayers": [methods.TopLayers(layers=1)],
    "Houlsby": [methods.Houlsby(bottleneck=5)],
    "Pfeiffer": [methods.Pfeiffer(bottleneck=5, activation="silu")],
    "PrefixTuning": [
        methods.PrefixTuning(length=4, hidden=None, shift_positions=True),
        methods.PrefixTuning(length=3, hidden=5, init="activations", init_tokens=(5, 6)),
    ],
    "PromptTuning": [methods.PromptTuning(length=3, init="tokens", init_tokens=(5, 6))],
    "PTuning": [methods.PTuning(length=3, encoder="mlp", hidden=5)],
}
# Where the variants of these are tested, to save time: a fused Conv1D, and three kinds of attention.
SPARING = dict.fromkeys(
    [
        *("DoRA", "AdaLoRA", "VeRA", "KronA", "SAID", "IA3", "MagnitudeMask", "FishMask"),
        "DiffPruning",
        *("Compacter", "Compose", "S4", "UniPELT"),
    ],
    ("gpt2", "bart"),
)
REFUSALS = {("BitFit", "llama"): "has no biases", ("S4", "llama"): "has no biases"}

CASES = [
    Case(method, kind)
    for name in methods.available()
    for number, method in enumerate([methods.make(name), *VARIANTS.get(name, [])])
    for kind in KINDS
    if (name, kind) not in REFUSALS and not (number and name in SPARING and kind not in SPARING[name])
]


CELLS = [
    pytest.param(case, check, id=f"{case}-{check.__name__}")
    for case in CASES
    for check in PROPERTIES
    if check is not generates or case.kind in GENERATING
]


@pytest.mark.parametrize(("case", "check"), CELLS)
def test_conformance(case, check, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize(("name", "kind"), REFUSALS)
def test_refusals(name, kind):
    model = backbone(kind)
    with pytest.raises(ValueError, match=REFUSALS[name, kind]):
        methods.apply(model, methods.make(name))
    assert not hasattr(model, "adaptation")
    assert all(p.requires_grad for p in model.parameters()), "refused, but the model was frozen"

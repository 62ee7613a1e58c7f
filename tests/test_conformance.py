"""Every registered method on every architecture keeps every property of `conformance.py`."""

from __future__ import annotations

import pytest
from conformance import GENERATING, KINDS, PROPERTIES, Case, backbone, generates

from peft_helpers import methods

# Settings to test besides the defaults, because the defaults leave a part of the code untouched.
VARIANTS = {
    "LoRA": [methods.LoRA(rank=2, alpha=3.0, targets=("query", "key", "value", "attention_output", "ffn_in"))],
    "TopLayers": [methods.TopLayers(layers=1)],
    "Houlsby": [methods.Houlsby(bottleneck=5)],
    "Pfeiffer": [methods.Pfeiffer(bottleneck=5, activation="silu")],
}
REFUSALS = {("BitFit", "llama"): "has no biases"}

CASES = [
    Case(method, kind)
    for name in methods.available()
    for method in [methods.make(name), *VARIANTS.get(name, [])]
    for kind in KINDS
    if (name, kind) not in REFUSALS
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

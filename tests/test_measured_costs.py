"""Operations and kept bytes: cases that a hand can compute, and the figures of BERT-base, on shapes without numbers."""

from __future__ import annotations

import functools

import pytest
import tiny
import torch
from torch import nn

from peft_helpers import accounting, measured_costs, methods
from peft_helpers.measured_costs import BERT_BASE, StepCost, blank_bert, saved_bytes, step_cost, text_loss

FLOAT = 4
B, I, O = 4, 3, 5  # noqa: E741
PRODUCT = 2 * B * I * O  # a multiplication and an addition each


def linear(weight: bool, x: bool, bias: bool = False) -> tuple[nn.Linear, torch.Tensor]:
    """A projection and its input; which of them are trained."""
    module = nn.Linear(I, O).requires_grad_(False)
    module.weight.requires_grad_(weight)
    module.bias.requires_grad_(bias)
    return module, torch.ones(B, I, requires_grad=x)


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("weight", "x", "backward", "kept"),
    [(True, False, PRODUCT, B * I * FLOAT), (False, True, PRODUCT, 0), (True, True, 2 * PRODUCT, B * I * FLOAT)],
)
def test_a_projection(weight: bool, x: bool, backward: int, kept: int) -> None:
    """Forward one product; backward one for the weight, which keeps x, and one for x, which keeps no activation."""
    module, given = linear(weight, x)
    assert step_cost(lambda: module(given).sum(), module) == StepCost(PRODUCT, backward, kept)


def test_a_bias_keeps_nothing() -> None:
    module, given = linear(weight=False, x=False, bias=True)
    cost = step_cost(lambda: module(given).sum(), module)
    assert cost == StepCost(PRODUCT, 0, 0) and cost.operations == PRODUCT


def test_a_factor_keeps_what_it_multiplies() -> None:
    factor, h = nn.Parameter(torch.ones(O)), torch.ones(B, O)
    assert step_cost(lambda: (factor * h).sum()) == StepCost(0, 0, B * O * FLOAT)


def test_a_storage_counts_once_and_parameters_do_not() -> None:
    x = torch.ones(B, O, requires_grad=True)
    _, kept = saved_bytes(lambda: (y := x.exp()) * y.view(O, B).view(B, O))  # the same storage three times
    assert kept == B * O * FLOAT
    module, given = linear(weight=False, x=True)
    _, alone = saved_bytes(lambda: given @ module.weight.T)  # a transposed parameter is no Parameter any more
    _, known = saved_bytes(lambda: given @ module.weight.T, module)
    assert (alone, known) == (I * O * FLOAT, 0)


def test_the_same_as_in_accounting_and_the_same_on_every_device() -> None:
    for method in (methods.FullFineTuning(), methods.IA3(), methods.LoRA(2), methods.PrefixTuning(3, None)):
        model = methods.apply(tiny.still(tiny.model("bert")), method).train()
        loss = text_loss(model, 2, 7)
        kept = saved_bytes(loss, model)[1]
        assert kept == accounting.saved_activations(loss, model) > 0
    shape = {key: value // 48 for key, value in BERT_BASE.items()} | {"num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"attn_implementation": "eager"}
    costs = [step_cost(text_loss(m, 2, 9), m) for m in (blank_bert(methods.IA3(), shape, d) for d in ("meta", "cpu"))]
    assert costs[0] == costs[1]


def test_a_step_leaves_no_gradients() -> None:
    model = blank_bert(methods.BitFit(), {"num_hidden_layers": 1}, "meta")
    step_cost(text_loss(model), model)
    assert all(p.grad is None for p in model.parameters())


def test_what_is_no_step_is_named() -> None:
    with pytest.raises(ValueError, match="one number that depends on something trained; got tensor"):
        step_cost(lambda: torch.ones(3, requires_grad=True) * 2)
    with pytest.raises(ValueError, match="one number that depends on something trained"):
        step_cost(lambda: torch.ones(()))
    with pytest.raises(ValueError, match="tokens must be a positive whole number; got 0"):
        text_loss(tiny.model("bert"), 2, 0)


# ---------------------------------------------------------------- BERT-base, 4 texts of 128 tokens

LINEAR = 2 * 4 * 128 * 12 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 4 * (768**2 + 2 * 768)
ATTENTION = 2 * 2 * 4 * 128**2 * 768 * 12  # scores, and their products with the values


@functools.cache
def base(method: methods.Method) -> StepCost:
    model = blank_bert(method)
    return step_cost(text_loss(model), model)


def test_operations_of_full_fine_tuning_by_the_formula() -> None:
    cost = base(methods.FullFineTuning())
    assert pytest.approx(86.98, abs=0.005) == LINEAR / 1e9
    assert cost.forward == LINEAR + ATTENTION and cost.backward == 2 * cost.forward


RATIOS = [  # (backward without attention) / (linear layers forward); attention's backward is twice its forward
    (methods.FullFineTuning(), 2.0, 0.005),
    (methods.BitFit(), 1.0, 0.005),
    (methods.LoRA(), 0.985, 0.01),
    (methods.IA3(), 0.98, 0.01),
    (methods.PrefixTuning(20, None), 0.98, 0.01),
]


@pytest.mark.parametrize(("method", "ratio", "within"), RATIOS, ids=lambda part: str(part)[:12])
def test_frozen_weights_save_half_of_the_backward_pass(method: methods.Method, ratio: float, within: float) -> None:
    assert (base(method).backward - 2 * ATTENTION) / LINEAR == pytest.approx(ratio, abs=within)


def test_only_shallow_methods_shorten_the_way() -> None:
    head = base(methods.HeadOnly())
    assert head.backward == 2 * 4 * 768 * 2 and head.activations < 1e5  # the gradient of its own weight
    top = base(methods.TopLayers(2, pooler=True))
    assert top.backward / top.forward == pytest.approx(0.31, abs=0.005)


# Megabytes with the processor's fused attention, of which a layer's share is measured on two and on three layers.
KEPT = [
    (methods.FullFineTuning(), 306), (methods.BitFit(), 191), (methods.Houlsby(64), 235), (methods.LoRA(), 208),
    (methods.IA3(), 303), (methods.PrefixTuning(20, None), 195), (methods.PromptTuning(20), 221),
]  # fmt: skip


@pytest.mark.parametrize(("method", "megabytes"), KEPT, ids=lambda part: str(part)[:12])
def test_activations_of_bert_base(method: methods.Method, megabytes: float) -> None:
    shape, found = BERT_BASE | {"vocab_size": 20}, []
    for layers in (2, 3):
        model = blank_bert(method, shape | {"num_hidden_layers": layers}, "cpu")
        found.append(saved_bytes(text_loss(model, 1), model)[1])
    whole = 4 * (found[0] + 10 * (found[1] - found[0])) / 1e6
    assert whole == pytest.approx(megabytes, rel=0.01)


def test_few_trained_numbers_keep_nearly_all_activations() -> None:
    full, ia3 = base(methods.FullFineTuning()), base(methods.IA3())
    assert 0.9 < ia3.activations / full.activations < 0.95  # here without a fused kernel; with one it is 0.99
    sparse = base(methods.MagnitudeMask())
    assert sparse.activations > 2 * full.activations and sparse.operations > full.operations


def test_every_method_of_the_registry_can_be_measured_by_its_shape() -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    for name in methods.available():
        model = blank_bert(methods.make(name), shape)
        cost = step_cost(text_loss(model, 1, 16), model)
        assert cost.forward > 0 and all(p.is_meta for p in model.parameters()), name


def test_memory_of_a_run() -> None:
    memory = measured_costs.memory_of(blank_bert(methods.IA3()), 5)
    total, trained = 109_483_778 + 55_296, 55_296 + 1_538
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * total, 4 * trained, 8 * trained)
    half = measured_costs.memory_of(blank_bert(methods.IA3()), 5, weight_bytes=2)
    assert half.weights == 2 * (total - trained) + 4 * trained

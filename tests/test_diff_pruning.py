"""Diff pruning: gates and their penalty against the paper's formulas, exact counts, what is kept and trained on."""

from __future__ import annotations

import pytest
import torch
from conformance import Case, applied, backbone, backward, disturb, logits, stepped, trained
from test_method_counts import bert, gpt2
from test_method_counts import trained as trained_parameters

from peft_helpers import methods
from peft_helpers.methods import surgery
from peft_helpers.methods.diff_pruning import DiffLinear, opening

CASE = Case(methods.DiffPruning(share=0.05, targets=("query", "ffn_in"), start=0.0), "bert")


def layers(model: torch.nn.Module) -> list[DiffLinear]:
    return [module for module in model.modules() if isinstance(module, DiffLinear)]


def test_counts_trains_twice_the_weights_and_stores_half_a_percent():
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert trained_parameters(bert("base"), methods.DiffPruning()) == 2 * weights == 169_869_312
    assert trained_parameters(bert("base"), methods.DiffPruning(projected=True)) == 12 * (4 * 2_949 + 2 * 11_796)
    assert trained_parameters(gpt2("small"), methods.DiffPruning(targets=("query",))) == 2 * 12 * 768**2


def test_the_gates_are_hard_concrete():
    """P(z = 0) = 1 - sigmoid(alpha), P(z = 1) = sigmoid(alpha - log 5): 1 is cut off where the sigmoid passes 5/6."""
    layer = layers(applied(CASE))[0].train()
    layer.diff = torch.nn.Parameter(torch.ones(400, 500))
    for alpha in (-1.0, 0.0, 2.0):
        layer.gate = torch.nn.Parameter(torch.full((400, 500), alpha / layer.method.gate_speed))
        torch.manual_seed(0)
        gates = layer.delta().detach()
        share = torch.sigmoid(torch.tensor(alpha))
        assert (gates == 0).float().mean().item() == pytest.approx(1 - share.item(), abs=0.005)
        whole = torch.sigmoid(torch.tensor(alpha) - torch.log(torch.tensor(5.0))).item()
        assert (gates == 1).float().mean().item() == pytest.approx(whole, abs=0.005)
        assert gates.min() >= 0 and gates.max() <= 1


def test_the_penalty_is_in_the_gradient_of_the_gates_and_nowhere_else():
    """The same gradient as that of loss + lambda · sum sigmoid(alpha), of which the loop knows nothing."""
    gradients = {}
    for penalty in (0.0, 0.3):
        model = applied(Case(methods.DiffPruning(0.05, ("query",), penalty=penalty, start=0.5), "bert"))
        disturb(model)
        torch.manual_seed(3)
        backward(model)
        gradients[penalty] = {name: p.grad.clone() for name, p in surgery.trained_tensors(model).items()}
        layer = layers(model)[0]
    gate = layer.gate.detach().requires_grad_(True)
    (0.3 * torch.sigmoid(0.5 + layer.method.gate_speed * gate).sum()).backward()
    name = "bert.encoder.layer.0.attention.self.query"
    added = gradients[0.3][f"{name}.gate"] - gradients[0.0][f"{name}.gate"]
    assert torch.allclose(added, gate.grad, atol=1e-5) and added.abs().max() > 0.1
    assert torch.equal(gradients[0.3][f"{name}.diff"], gradients[0.0][f"{name}.diff"])
    x = torch.tensor([0.7, -3.0], dtype=torch.float64, requires_grad=True)
    assert torch.allclose(opening(x), torch.autograd.grad(torch.sigmoid(x).sum(), x)[0])


def test_a_strong_penalty_closes_the_gates():
    model = applied(Case(methods.DiffPruning(0.05, ("query",), penalty=10.0, start=2.0), "bert"))
    stepped(model, 8)
    assert all((layer.alpha() < -2).float().mean() > 0.9 for layer in layers(model))


def test_only_the_largest_changes_are_merged():
    model, base = trained(CASE), backbone("bert")
    kept = [layer.kept for layer in layers(model)]
    methods.merge(model.train())  # the mode does not matter
    changed = [
        int((one != other).sum())
        for (name, one), (_, other) in zip(model.named_parameters(), base.named_parameters(), strict=True)
        if "encoder" in name and one.shape == other.shape and not torch.equal(one, other)
    ]
    assert sorted(changed) == sorted(kept) == [13, 13, 26, 26]


def test_the_kept_values_are_trained_on(tmp_path):
    """The paper's last step: fixed places, only their values move."""
    model = trained(CASE)
    methods.save(model, tmp_path / "diff")
    again = methods.load(backbone("bert"), tmp_path / "diff")
    assert torch.equal(logits(again), logits(model)) and again.adaptation.method.projected
    head = sum(p.numel() for p in again.classifier.parameters())
    assert sum(p.numel() for p in surgery.trained_tensors(again).values()) - head == 78
    before = {name: p.detach().clone() for name, p in surgery.trained_tensors(again).items()}
    stepped(again)
    assert not any(torch.equal(p, before[name]) for name, p in surgery.trained_tensors(again).items())
    assert not torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("wrong", [{"penalty": -1.0}, {"gate_speed": 0.0}, {"start": float("inf")}])
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="penalty must be 0 or more, gate_speed above 0, start finite; got"):
        methods.DiffPruning(**wrong)
    with pytest.raises(ValueError, match="share must be above 0"):
        methods.DiffPruning(share=0)

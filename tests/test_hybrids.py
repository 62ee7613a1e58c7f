"""Hybrids are compositions: exact counts, what a part is shown, gates at their ends, what does not go together."""

from __future__ import annotations

import pytest
import torch
from conformance import Case, applied, assert_same, backbone, batch, disturb, logits, state, trained
from test_method_counts import bert, gpt2
from test_method_counts import trained as trained_parameters

from peft_helpers import backbones, methods
from peft_helpers.methods import surgery
from peft_helpers.methods.attached import attachments
from peft_helpers.methods.gates import Gate, PrefixGate
from peft_helpers.methods.hybrids import spindle

LORA, PFEIFFER = methods.LoRA(rank=2), methods.Pfeiffer(bottleneck=4)


# ---------------------------------------------------------------- counts


def test_counts_are_those_of_the_adapters_library():
    """Each as its default there: MAM with half the width in its parallel adapter, Houlsby's with frozen layer norms."""
    assert trained_parameters(bert("base"), methods.UniPELT()) == 11_083_376
    assert trained_parameters(bert("base"), methods.MAM(bottleneck=384)) == 22_493_984
    assert trained_parameters(bert("base"), methods.Houlsby(bottleneck=48)) == 1_789_056 + 25 * 2 * 768
    assert trained_parameters(bert("base"), methods.PrefixTuning(length=30, hidden=512)) == 9_872_384
    assert trained_parameters(bert("base"), methods.PrefixTuning(length=30, hidden=None)) == 552_960


def test_counts_of_unipelts_paper():
    """Prefix 184K, LoRA 295K, adapter 895K, together 1.4M (its table); 48 gates of 769."""
    parts = 184_320 + 294_912 + 894_528
    assert trained_parameters(bert("base"), methods.UniPELT(hidden=None)) == parts + 48 * 769 == 1_410_672


def test_the_paper_of_mam_trains_less_than_seven_percent():
    """6.7 % of BART-large with a prefix of 30 in all three attentions and m = 512."""
    from test_method_counts import bart

    made = methods.MAM(hidden=None).parameter_count(backbones.anatomy(bart("large")))
    assert made == 30 * 2 * 1024 * (12 + 2 * 12) + 24 * (2 * 512 * 1024 + 1024 + 512)
    assert 0.066 < made / 406_291_456 < 0.068


def test_a_sum_of_parts():
    both = methods.Compose((LORA, PFEIFFER))
    assert trained_parameters(gpt2("small"), both) == trained_parameters(gpt2("small"), LORA) + trained_parameters(
        gpt2("small"), PFEIFFER
    )


# ---------------------------------------------------------------- layers


def test_a_part_sees_its_layers_only():
    method = methods.Compose((methods.Part(PFEIFFER, (0,)), methods.Part(methods.BitFit(), (1,))))
    names = surgery.trained_tensors(applied(Case(method, "bert")))
    new = [name for name in names if "adapter" in name]
    biases = [name for name in names if "adapter" not in name and "classifier" not in name]
    assert len(new) == 4 and all(".layer.0." in name for name in new)
    assert len(biases) == 8 and all(".layer.1." in name and name.endswith(".bias") for name in biases)
    with methods.disabled(trained(Case(method, "bert")), layers=[0]) as model:
        assert not [name for name, module in model.named_modules() if isinstance(module, surgery.Wrapper)]
    with pytest.raises(ValueError, match=r"the model has layers 0 to 1; got \[2\] for Pfeiffer"):
        applied(Case(methods.Compose((methods.Part(PFEIFFER, (0, 2)),)), "bert"))


@pytest.mark.parametrize(
    ("layers", "sizes"), [(12, [2, 4, 4, 2]), (24, [4, 8, 8, 4]), (4, [1, 1, 1, 1]), (2, [0, 1, 1, 0])]
)
def test_a_spindle_is_thick_in_the_middle(layers, sizes):
    groups = spindle(layers)
    assert [len(group) for group in groups] == sizes
    assert [number for group in groups for number in group] == list(range(layers))


def test_the_layout_of_s4():
    """Adapter, LoRA; adapter, prefix; adapter, prefix, biases; prefix, biases, LoRA."""
    anatomy = backbones.anatomy(bert("base"))
    found = {}
    for part in methods.S4().parts_for(anatomy):
        for number in part.layers:
            found.setdefault(number, set()).add(type(part.method).__name__)
    a, p, b, l = "Pfeiffer", "PrefixTuning", "BitFit", "LoRA"  # noqa: E741
    groups = [{a, l}, {a, p}, {a, p, b}, {p, b, l}]
    assert [found[number] for number in range(12)] == [groups[n] for n in (0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3)]
    assert methods.S4().groups(backbones.anatomy(backbone("bart"))) == [[], [0, 2], [1, 3], []]


# ---------------------------------------------------------------- gates


def gated(bias: float, kind: str) -> torch.nn.Module:
    """UniPELT, trained, with every gate at sigmoid(bias)."""
    model = trained(Case(methods.UniPELT(length=3, hidden=None, rank=2, bottleneck=4), kind))
    with torch.no_grad():
        for gate in (module for module in model.modules() if isinstance(module, Gate | PrefixGate)):
            gate.linear.weight.zero_()
            gate.linear.bias.fill_(bias)
    return model


@pytest.mark.parametrize("kind", ["bert", "gpt2", "bart"])
def test_open_gates_give_the_sum_of_the_parts_and_closed_ones_the_base(kind):
    model = gated(30.0, kind)
    parts = (methods.PrefixTuning(length=3, hidden=None), methods.LoRA(2), methods.Pfeiffer(4))
    plain = applied(Case(methods.Compose(parts), kind))
    found = surgery.trained_tensors(model)
    with torch.no_grad():
        for name, parameter in surgery.trained_tensors(plain).items():
            parameter.copy_(found[name])
    assert torch.allclose(logits(model), logits(plain), atol=1e-5)
    closed, base = gated(-80.0, kind), backbone(kind)
    with torch.no_grad():
        for mine, heads in zip(surgery.task_head(closed.adaptation.anatomy), backbones.anatomy(base).head, strict=True):
            for (_, a), (_, b) in zip(mine.module.named_parameters(), heads.module.named_parameters(), strict=True):
                a.copy_(b)
    assert torch.allclose(logits(closed), logits(base), atol=1e-5)
    assert not torch.allclose(logits(model), logits(base), atol=1e-2)


def test_a_gate_is_a_number_for_each_token():
    model = trained(Case(methods.UniPELT(length=3, hidden=None, rank=2, bottleneck=4), "bert")).eval()
    layer, x = model.bert.encoder.layer[0].attention.self.value, torch.randn(2, 5, 16)
    gate = torch.sigmoid(x @ layer.gate.linear.weight.T + layer.gate.linear.bias)
    by_hand = x @ layer.weight.T + layer.bias + gate * 8.0 * (x @ layer.down.weight.T @ layer.up.weight.T)
    assert gate.shape == (2, 5, 1) and torch.allclose(layer(x), by_hand, atol=1e-5)
    out, z = model.bert.encoder.layer[0].output.dense, torch.randn(2, 5, 32)
    h = z @ out.weight.T + out.bias
    adapter, gate = out.adapter, torch.sigmoid(h @ out.gate.linear.weight.T + out.gate.linear.bias)
    assert torch.allclose(out(z), h + gate * adapter.up(torch.relu(adapter.down(h))), atol=1e-5)
    logits(model)
    assert all(not one.guest.lent for one in attachments(model) if one.name == "watch"), "used once and forgotten"


# ---------------------------------------------------------------- composition


def test_a_hybrid_of_mergeable_parts_can_be_merged():
    method = methods.Compose(
        (methods.BitFit(), methods.DoRA(2), methods.IA3(), methods.KronA(), methods.MagnitudeMask())
    )
    assert method.card.mergeable and method.card.identity_at_init is True
    for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        model = methods.apply(backbone("gpt2").to(dtype), method)
        disturb(model)
        wanted = logits(model)
        merged = logits(methods.merge(model))
        assert (merged - wanted).abs().max() <= close * wanted.abs().max()
        assert state(model).keys() == state(backbone("gpt2")).keys()
    assert not methods.Compose((LORA, PFEIFFER)).card.mergeable
    assert methods.Compose((LORA, PFEIFFER)).card.identity_at_init == methods.Pfeiffer.card.identity_at_init
    assert methods.Compose((LORA, methods.PrefixTuning())).card.identity_at_init is False


def test_settings_survive_json():
    import json

    method = methods.Compose((methods.Part(LORA, (0, 1)), methods.IA3(), methods.Compose((PFEIFFER,))))
    again = methods.make("Compose", **json.loads(json.dumps(method.settings())))
    assert again == method and again.parts[0].layers == (0, 1)
    assert methods.Compose((methods.PTuning(length=3), LORA)).positions == 3


def test_what_does_not_go_together():
    for parts, says in (
        ((methods.Houlsby(4), methods.LayerNormTuning()), "LayerNormTuning.* overlaps with a part before it: of 160"),
        ((methods.IA3(), methods.DoRA(2)), "in a hybrid, DoRA comes before"),
        ((methods.PrefixTuning(), methods.PrefixTuning()), "has a prefix already"),
    ):
        model = backbone("bert")
        before = state(model)
        with pytest.raises(ValueError, match=says):
            methods.apply(model, methods.Compose(parts))
        assert_same(state(model), before, "refused")
        assert torch.equal(logits(model), logits(backbone("bert")))
    for parts, says in (
        ((), "parts must be a tuple of methods"),
        (LORA, "parts must be a tuple of methods"),
        (("LoRA",), "a part is a method, or Part"),
    ):
        with pytest.raises(ValueError, match=says):
            methods.Compose(parts)
    for method, says in (
        (lambda: methods.MAM(bottleneck=0), "bottleneck must be a whole number"),
        (lambda: methods.UniPELT(rank=0), "rank must be a whole number"),
        (lambda: methods.S4(length=0), "length must be a whole number"),
    ):
        with pytest.raises(ValueError, match=says):
            method()


def test_the_mlp_of_a_hybrids_prefix_is_not_saved(tmp_path):
    for method in (methods.MAM(length=3, hidden=5, bottleneck=4), methods.UniPELT(length=3, hidden=5, bottleneck=4)):
        model = trained(Case(method, "bert"))
        folder = methods.save(model, tmp_path / type(method).__name__)
        loaded = methods.load(backbone("bert"), folder)
        assert loaded.adaptation.method.hidden is None
        assert torch.allclose(logits(loaded), logits(model), atol=1e-6)
        assert not any("trunk" in name or ("up.weight" in name and "prefix" in name) for name in state(loaded))


def test_training_changes_each_part():
    model = trained(Case(methods.Compose((LORA, PFEIFFER, methods.IA3())), "bert"))
    learned = logits(model, batch("bert"))
    for kind in ("LoRALinear", "WithAdapter", "ScaledInput", "ScaledOutput"):
        changed = [m for m in model.modules() if type(m).__name__ == kind]
        saved = [[p.detach().clone() for p in m.parameters(recurse=True) if p.requires_grad] for m in changed]
        with torch.no_grad():
            for module in changed:
                for p in (p for p in module.parameters() if p.requires_grad):
                    p.mul_(1.5)
        assert not torch.allclose(logits(model), learned, atol=1e-4), kind
        with torch.no_grad():
            for module, old in reversed(list(zip(changed, saved, strict=True))):
                for p, value in zip((p for p in module.parameters() if p.requires_grad), old, strict=True):
                    p.copy_(value)
        assert torch.equal(logits(model), learned)

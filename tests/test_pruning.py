"""Pruning: masks equal torch's, removed units equal silenced ones, pruned models come back from disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from torch.nn.utils import prune

from peft_helpers import accounting, pruning, training

KINDS = ("bert", "roberta")
OTHERS = {"gpt2": "share one matrix", "bart": "attend twice", "llama": "gated"}


def tokens(rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    """Made-up token ids, the last row padded."""
    ids = torch.arange(rows * length).view(rows, length) % (len(tiny.WORDS) - 5) + 5
    mask = torch.ones_like(ids)
    ids[-1, -3:], mask[-1, -3:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokens()).logits


# ---------------------------------------------------------------- unstructured


def layers() -> dict[str, nn.Linear]:
    torch.manual_seed(3)
    return {f"{i}": nn.Linear(5 + i, 7, dtype=torch.float64) for i in range(3)}


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.33, 0.5, 0.9, 1.0])
def test_masks_equal_torchs(sparsity: float) -> None:
    for scope in ("tensor", "global"):
        found = layers()
        masks = pruning.magnitude_masks({k: m.weight for k, m in found.items()}, sparsity, scope)
        if scope == "tensor":
            for module in found.values():
                prune.l1_unstructured(module, "weight", amount=sparsity)
        else:
            prune.global_unstructured([(m, "weight") for m in found.values()], prune.L1Unstructured, amount=sparsity)
        for name, module in found.items():
            assert torch.equal(masks[name], module.weight_mask), (scope, name)
            assert masks[name].dtype == module.weight.dtype


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_masks_equal_torchs_where_values_are_equal(scope: str) -> None:
    """Rounded weights have many ties: the same ones of them must go."""
    found = layers()
    for module in found.values():
        module.weight.data = module.weight.data.mul(8).round()
    masks = pruning.magnitude_masks({k: m.weight for k, m in found.items()}, 0.4, scope)
    if scope == "tensor":
        for module in found.values():
            prune.l1_unstructured(module, "weight", amount=0.4)
    else:
        prune.global_unstructured([(m, "weight") for m in found.values()], prune.L1Unstructured, amount=0.4)
    assert all(torch.equal(masks[name], module.weight_mask) for name, module in found.items())


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "bart", "llama"])
def test_zeroed_weights_of_every_architecture(kind: str) -> None:
    model = tiny.model(kind)
    before = sum(p.numel() for p in model.parameters())
    masks = pruning.zero_weights(model, 0.5)
    pruned = [model.get_submodule(path).weight for path in masks]
    zeros, total = sum(int((w == 0).sum()) for w in pruned), sum(w.numel() for w in pruned)
    assert zeros == round(0.5 * total)
    assert sum(p.numel() for p in model.parameters()) == before, "zeros are parameters too"
    assert not any("emb" in path or path.startswith(("wte", "wpe", "score", "classif")) for path in masks)


def test_zeros_stay_while_a_model_recovers() -> None:
    model, task = tiny.model(), tiny.task()
    masks = pruning.zero_weights(model, 0.6)
    names, before = list(model.state_dict()), {path: model.get_submodule(path).weight.clone() for path in masks}
    with pruning.held(model, masks):
        training.fit(
            model,
            tiny.tokenizer(),
            task,
            training.Settings(1e-2, epochs=2, batch_size=8, keep_best=False, progress=False),
        )
    assert sorted(model.state_dict()) == sorted(names), "afterwards the weights are plain again"
    for path, mask in masks.items():
        weight = model.get_submodule(path).weight
        assert isinstance(weight, nn.Parameter) and (weight[mask == 0] == 0).all()
        assert not torch.equal(weight, before[path])


def test_held_is_undone_after_an_error() -> None:
    model = tiny.model()
    masks = pruning.zero_weights(model, 0.5)
    names = sorted(model.state_dict())
    with pytest.raises(RuntimeError, match="interrupted"), pruning.held(model, masks):
        raise RuntimeError("interrupted")
    assert sorted(model.state_dict()) == names


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "half", None, True, float("nan")])
def test_a_sparsity_is_a_share(wrong: object) -> None:
    with pytest.raises(ValueError, match="share from 0 to 1"):
        pruning.magnitude_mask(torch.ones(3), wrong)
    with pytest.raises(ValueError, match="share from 0 to 1"):
        pruning.weakest(tiny.model(), wrong)


def test_other_misuse_of_masks() -> None:
    with pytest.raises(ValueError, match="scope is"):
        pruning.magnitude_masks({"a": torch.ones(2)}, 0.5, "layer")
    with pytest.raises(ValueError, match="at least one tensor"):
        pruning.magnitude_masks({}, 0.5)
    model = tiny.model()
    path = next(iter(pruning.matrices(model)))
    for masks in ({path: torch.ones(2, 2)}, {"nowhere": torch.ones(2, 2)}):
        with pytest.raises(ValueError, match="fits no weight"), pruning.held(model, masks):
            pass


# ---------------------------------------------------------------- structured

HEADS, UNITS = {0: [1], 1: [0]}, {0: [0, 3, 31], 1: list(range(5, 25))}


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_removed_equals_silenced(kind: str, with_head: bool) -> None:
    model = tiny.model(kind, head=with_head)
    with torch.no_grad():
        for module in pruning.matrices(model).values():
            module.weight *= 10  # fresh weights hardly do anything
    whole = copy.deepcopy(model)
    pruning.zero_units(model, HEADS, UNITS)
    small = pruning.remove_units(copy.deepcopy(whole), HEADS, UNITS)
    with torch.no_grad():
        for each in (model, small, whole):
            each.eval()
        (silenced, removed, before) = (m(**tokens())[0] for m in (model, small, whole))
    torch.testing.assert_close(removed, silenced, rtol=0, atol=1e-5)
    assert (removed - before).abs().max() > 1e-4, "they were not idle"


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_parameters_fall_as_they_should(kind: str) -> None:
    model = tiny.model(kind)
    before = accounting.count_parameters(model).total
    pruning.remove_units(model, HEADS, UNITS)
    head, unit = (
        4 * 16 * 8 + 3 * 8,
        2 * 16 + 1,
    )  # D = 16, 8 a head: four matrices, three biases; a row, a column, a bias
    assert accounting.count_parameters(model).total == before - 2 * head - 23 * unit
    assert [layer.sites["ffn_in"].module.out_features for layer in pruning.prunable_layers(model)] == [29, 12]


def test_a_smaller_model_trains_and_keeps_what_required_grad() -> None:
    model, task = tiny.model(), tiny.task()
    model.base_model.requires_grad_(False)
    pruning.remove_units(model, *pruning.weakest(model, 0.5))
    assert not any(p.requires_grad for p in model.base_model.parameters())
    model.requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    training.fit(
        model, tiny.tokenizer(), task, training.Settings(1e-2, epochs=1, batch_size=8, keep_best=False, progress=False)
    )
    assert not torch.equal(before["classifier.weight"], model.classifier.weight)


def test_removed_twice_equals_removed_at_once() -> None:
    once, twice = tiny.model(), tiny.model()
    pruning.remove_units(once, {0: [0]}, {0: [1, 2, 8], 1: [4]})
    pruning.remove_units(twice, {}, {0: [2], 1: [4]})
    pruning.remove_units(twice, {0: [0]}, {0: [1, 8]})
    assert pruning.kept(once) == pruning.kept(twice)
    torch.testing.assert_close(logits(once), logits(twice))
    silenced, removed = copy.deepcopy(twice), copy.deepcopy(twice)
    pruning.zero_units(silenced, {1: [1]}, {0: [3], 1: [30]})
    pruning.remove_units(removed, {1: [1]}, {0: [3], 1: [30]})
    torch.testing.assert_close(logits(removed), logits(silenced), rtol=0, atol=1e-5)


def test_the_weakest_are_the_smallest_and_never_all() -> None:
    model = tiny.model()
    with torch.no_grad():
        for index, layer in enumerate(pruning.prunable_layers(model)):
            for name in pruning.ATTENTION[:3]:
                layer.sites[name].module.weight[8 * index : 8 * index + 8] *= 1e-3  # head 0 in layer 0, 1 in layer 1
            layer.sites["attention_output"].module.weight[:, 8 * index : 8 * index + 8] *= 1e-3
            layer.sites["ffn_in"].module.weight[7] *= 1e-3
            layer.sites["ffn_out"].module.weight[:, 7] *= 1e-3
    heads, units = pruning.weakest(model, 1 / 32)
    assert (heads, units) == ({0: [], 1: []}, {0: [7], 1: [7]})
    heads, units = pruning.weakest(model, 0.5)
    assert heads == {0: [0], 1: [1]} and all(len(gone) == 16 and 7 in gone for gone in units.values())
    heads, units = pruning.weakest(model, 1.0)
    assert all(len(gone) == 1 for gone in heads.values()) and all(len(gone) == 31 for gone in units.values())
    pruning.remove_units(model, heads, units)
    again = pruning.weakest(model, 1.0)
    assert again == ({0: [], 1: []}, {0: [], 1: []})
    assert torch.isfinite(logits(model)).all()


def test_after_one_removal_the_numbers_are_still_the_whole_models() -> None:
    model = tiny.model()
    pruning.remove_units(model, {}, {0: range(10)})
    heads, units = pruning.weakest(model, 0.5)
    assert all(number >= 10 for number in units[0]) and len(units[0]) == 11
    pruning.remove_units(model, heads, units)
    assert len(pruning.kept(model)[0].units) == 11


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_are_refused_with_the_reason(kind: str) -> None:
    model = tiny.model(kind)
    for action in (pruning.kept, pruning.remove_units, pruning.zero_units, pruning.sizes):
        with pytest.raises(ValueError, match=OTHERS[kind]):
            action(model)


def test_a_wrapped_module_is_refused() -> None:
    model = tiny.model()
    attention = model.base_model.encoder.layer[0].attention.self
    attention.query = nn.Sequential(attention.query)
    with pytest.raises(ValueError, match=r"query is a Sequential, no nn\.Linear"):
        pruning.remove_units(model, {0: [0]})


@pytest.mark.parametrize(
    ("heads", "units", "says"),
    [
        ({7: [0]}, {}, "no layer 7; the model has layers 0 to 1"),
        ({0: [2]}, {}, "layer 0 has no head 2"),
        ({0: [0, 1]}, {}, "layer 0 would be left without a head"),
        ({}, {1: [-1]}, "layer 1 has no unit -1"),
        ({}, {1: range(32)}, "layer 1 would be left without a unit"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_changes(heads: dict, units: dict, says: str) -> None:
    model = tiny.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for action in (pruning.remove_units, pruning.zero_units):
        with pytest.raises(ValueError, match=says):
            action(model, heads, units)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_linear_layer_without_bias_and_in_half_precision() -> None:
    torch.manual_seed(0)
    old = nn.Linear(6, 5, bias=False, dtype=torch.float16)
    new = pruning.smaller_linear(old, rows=torch.tensor([4, 0]), columns=torch.tensor([1, 2, 5]))
    assert new.bias is None and new.weight.dtype == torch.float16
    assert torch.equal(new.weight, old.weight[[4, 0]][:, [1, 2, 5]])
    assert (new.in_features, new.out_features) == (3, 2)
    assert torch.equal(pruning.smaller_linear(old).weight, old.weight)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_model_comes_back_from_disk(kind: str, tmp_path: Path) -> None:
    model = pruning.remove_units(tiny.model(kind), HEADS, UNITS)
    pruning.save(model, tmp_path)
    back = pruning.load(tiny.model(kind, seed=9), tmp_path)
    assert torch.equal(logits(back), logits(model)) and pruning.kept(back) == pruning.kept(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "model.safetensors"]
    whole = tmp_path / "whole"
    pruning.save(tiny.model(kind), whole)
    assert (tmp_path / "model.safetensors").stat().st_size < (whole / "model.safetensors").stat().st_size


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"kept\.json"):
        pruning.load(tiny.model(), tmp_path)
    pruning.save(pruning.remove_units(tiny.model(), HEADS, UNITS), tmp_path)
    with pytest.raises(ValueError, match="holds bert with 2 layers; this model is roberta"):
        pruning.load(tiny.model("roberta"), tmp_path)
    with pytest.raises(ValueError, match="do not fit this model"):
        pruning.load(tiny.model(outputs=3), tmp_path)
    about = json.loads((tmp_path / "kept.json").read_text())
    for broken in ('{"architecture": "bert"', "[]", json.dumps({"architecture": "bert"}), json.dumps(about)[:-9]):
        (tmp_path / "kept.json").write_text(broken)
        with pytest.raises(ValueError, match=r"kept\.json is truncated"):
            pruning.load(tiny.model(), tmp_path)

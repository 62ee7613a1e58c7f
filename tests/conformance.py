"""What every method must keep on every architecture: one function a property, each raises AssertionError.

The models are tiny and random, with weights large enough that every part of them matters: attention is not uniform, no
gradient is too small to see. `test_conformance.py` runs all of it over the registry, `test_broken_methods.py` shows
that it refuses methods with typical mistakes.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from peft_helpers import backbones, methods, training
from peft_helpers.methods import surgery

ROUNDING = 1e-5  # of the largest logit: the same sums in another order
HALF = 0.05  # of the largest logit: two layers in bfloat16, whose unit is 1/256
HALF_AT_MOST = 0.08  # where rounding the weights alone already moves the logits by a fourth of that or more
ALIVE = 1e-5  # of the model's largest gradient; what is zero in exact arithmetic stays far below
KINDS = tuple(backbones.ARCHITECTURES)
GENERATING = ("gpt2", "bart", "llama")

# Trained tensors that can't have a gradient, and why.
NO_GRADIENT = {
    r"(\.key|\.k_proj)(\.base)*\.bias$": "a key's bias adds the same to all scores of a query; softmax does not see it",
}


@dataclass(frozen=True)
class Case:
    """One method on one architecture."""

    method: methods.Method
    kind: str

    def __str__(self) -> str:
        return f"{self.method}-{self.kind}"


@functools.cache
def _backbone(kind: str, task: str, head_seed: int) -> torch.nn.Module:
    if task == "classify":
        model = tiny.model(kind)
    else:
        make = AutoModelForSeq2SeqLM if kind == "bart" else AutoModelForCausalLM
        model = make.from_config(tiny.model(kind).config)
    head = {id(p) for site in backbones.anatomy(model).head for p in site.module.parameters()}
    head -= {id(p) for p in model.base_model.parameters()}
    draws = {True: torch.Generator().manual_seed(head_seed), False: torch.Generator().manual_seed(99)}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draws[id(parameter) in head])
            parameter.add_(noise * (0.3 if parameter.dim() > 1 else 0.1))
    return model.eval()


def backbone(kind: str, task: str = "classify", head_seed: int = 1) -> torch.nn.Module:
    """A tiny network with lively weights: the same base every time, and the head that this seed draws."""
    return copy.deepcopy(_backbone(kind, task, head_seed))


def batch(kind: str) -> dict[str, torch.Tensor]:
    """Three texts of 7, 5 and 4 tokens, padded on the right; each ends with the end token, as BART needs it."""
    texts = [[2, 5, 9, 7, 12, 8, 3], [2, 11, 6, 10, 3], [2, 14, 13, 3]]
    ids = torch.tensor([text + [0] * (7 - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


@torch.no_grad()
def logits(model: torch.nn.Module, inputs: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    model.eval()
    return model(**(inputs or batch(model.config.model_type))).logits


def applied(case: Case, model: torch.nn.Module | None = None) -> torch.nn.Module:
    model = backbone(case.kind) if model is None else model  # the first one of its kind draws, so it comes first
    torch.manual_seed(7)
    return methods.apply(model, case.method)


def backward(model: torch.nn.Module) -> None:
    model.train()
    inputs = batch(model.config.model_type)
    torch.nn.functional.cross_entropy(model(**inputs).logits.float(), torch.tensor([0, 1, 0])).backward()


def stepped(model: torch.nn.Module, steps: int = 3) -> dict[str, float]:
    """Take optimizer steps; returns each trained tensor's largest gradient over the steps (nan for none at all)."""
    trained = surgery.trained_tensors(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0)  # decay would move dead tensors too
    largest = dict.fromkeys(trained, float("nan"))
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad(set_to_none=True)
        backward(model)
        for name, parameter in trained.items():
            if parameter.grad is not None:
                largest[name] = max(parameter.grad.abs().max().item(), 0 if step == 0 else largest[name])
        optimizer.step()
    return largest


def trained(case: Case) -> torch.nn.Module:
    """The method after three steps, with noise on what it trains, so that no part of it is near its beginning."""
    return copy.deepcopy(_trained(case))


@functools.lru_cache(maxsize=1)  # the properties of one case follow each other
def _trained(case: Case) -> torch.nn.Module:
    model = applied(case)
    stepped(model)
    disturb(model)
    return model


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for parameter in surgery.trained_tensors(model).values():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def assert_close(made: torch.Tensor, wanted: torch.Tensor, share: float, what: str) -> None:
    difference, largest = (made.float() - wanted.float()).abs().max().item(), wanted.abs().max().item()
    assert difference <= share * largest, f"{what}: logits differ by {difference:.2e}, the largest is {largest:.2e}"


def assert_same(made: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], what: str) -> None:
    assert made.keys() == wanted.keys(), f"{what}: other names, {sorted(made.keys() ^ wanted.keys())}"
    changed = [name for name in wanted if not torch.equal(made[name], wanted[name])]
    assert not changed, f"{what}: {', '.join(changed)} changed"


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# ---------------------------------------------------------------- the properties


def identity_at_init(case: Case, folder: Path) -> None:
    """Just applied, the method changes nothing, or no more than it declares."""
    before, after = logits(backbone(case.kind)), logits(applied(case))
    allowed = case.method.card.identity_at_init
    if allowed is True:
        assert torch.equal(after, before), "the method declares to start as the identity, and does not"
    elif allowed is not False:
        assert_close(after, before, allowed, "at the start")


def formula_counts(case: Case, folder: Path) -> None:
    """The closed formula gives what is trained, head aside; trained tensors are float32, on the base's device."""
    model = applied(case)
    found, base = surgery.trained_tensors(model), {id(p) for p in model.adaptation.trainable_before}
    head = surgery.count(surgery.task_head(model.adaptation.anatomy))
    assert head > 0, "the head is not trained"
    measured = sum(p.numel() for p in found.values()) - head
    told = case.method.parameter_count(backbones.anatomy(backbone(case.kind)))
    assert measured == told, f"{measured} parameters are trained, the formula says {told}"
    assert {p.dtype for p in found.values()} == {torch.float32}
    assert not any(id(p) in base for p in found.values()), "a tensor of the base is trained in place"


def learns_and_leaves_the_rest(case: Case, folder: Path) -> None:
    """After an evaluation, three steps move every trained tensor by a gradient, and no other tensor by a bit."""
    model = applied(case)
    logits(model)  # without gradients: whatever a method keeps from here is useless for training
    before = {name: p.detach().clone() for name, p in surgery.trained_tensors(model).items()}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    kept = {name: p.detach().clone() for name, p in frozen.items()}
    gradients = stepped(model)
    floor = ALIVE * max(gradients.values())
    excused = {
        name
        for name in gradients
        if any(re.search(rule, name) for rule in NO_GRADIENT)
        and not hasattr(model.get_submodule(re.split(r"\.k(?:ey|_proj)\b", name)[0]), "prefix")  # its keys have no bias
    }
    dead = [name for name, largest in gradients.items() if name not in excused and not largest > floor]
    assert not dead, f"no gradient reaches {', '.join(dead)}"
    alive = [name for name in excused if gradients[name] > floor]
    assert not alive, f"listed as without gradient, but {', '.join(alive)} has one"
    after = surgery.trained_tensors(model)
    still = [name for name in before.keys() - excused if torch.equal(before[name], after[name])]
    assert not still, f"three steps did not move {', '.join(still)}"
    assert_same({name: p.detach() for name, p in frozen.items()}, kept, "frozen tensors after three steps")


def saves_and_loads(case: Case, folder: Path) -> None:
    """Saved, and loaded into a fresh backbone with another head: the same answers, to the bit."""
    model = trained(case)
    methods.save(model, folder / "saved")
    fresh = backbone(case.kind, head_seed=2)
    untouched = state(fresh.base_model)
    torch.manual_seed(11)
    methods.load(fresh, folder / "saved")
    assert torch.equal(logits(fresh), logits(model)), "the loaded model answers otherwise than the saved one"
    methods.remove(fresh)
    assert_same(state(fresh.base_model), untouched, "the backbone after load and remove")


def disabled_is_the_base(case: Case, folder: Path) -> None:
    """Disabled, and removed: the base to the bit, by answers and by tensors; enabled again: as before."""
    base, model = backbone(case.kind), trained(case)
    wanted, learned = logits(base), logits(model)
    assert not torch.equal(learned, wanted), "what was learned changes no answer"
    with methods.disabled(model):
        assert torch.equal(logits(model), wanted), "disabled, the model does not answer as the base"
        assert_same(state(model), state(base), "disabled")
    assert torch.equal(logits(model), learned), "enabled again, the model answers otherwise than before"
    methods.remove(model)
    assert torch.equal(logits(model), wanted), "removed, the model does not answer as the base"
    assert_same(state(model), state(base), "removed")
    assert all(p.requires_grad for p in model.parameters()), "removed, but the base stays frozen"


def switches(case: Case, folder: Path) -> None:
    """Task A, then B, then A again over one backbone: A's answers are the same to the bit; then the base's."""
    model = trained(case)
    first = logits(model)
    methods.save(model, folder / "a")
    other = applied(Case(methods.LoRA(rank=3), case.kind))
    disturb(other)
    methods.save(other, folder / "b")
    for _ in range(2):
        methods.switch(model, folder / "b")
        assert torch.equal(logits(model), logits(other)), "switched to B, which answers otherwise"
        methods.switch(model, folder / "a")
        assert torch.equal(logits(model), first), "switched back to A, which answers otherwise"
    methods.switch(model, None)
    assert torch.equal(logits(model), logits(backbone(case.kind))), "switched to no method, but not the base"


def merges(case: Case, folder: Path) -> None:
    """Merged: a plain model with the same answers. Not mergeable: refused, and nothing changed."""
    model = trained(case)
    wanted = logits(model)
    if not case.method.card.mergeable:
        with pytest.raises(ValueError, match="can't be merged"):
            methods.merge(model)
        assert torch.equal(logits(model), wanted)
        return
    methods.merge(model)
    assert_close(logits(model), wanted, ROUNDING, "merged")
    assert not hasattr(model, "adaptation")
    assert state(model).keys() == state(backbone(case.kind)).keys(), "merged, but no plain model"


def changes_where_it_says(case: Case, folder: Path) -> None:
    """What the method adds at the sites it names, added to the base's projections by hand, gives the same answers.

    An adapter behind the residual sum or behind the norm is not the same as one before it.
    """
    model = trained(case)
    wanted, anatomy = logits(model), model.adaptation.anatomy
    if not case.method.sites:  # a selective method, a prefix in attention, a prompt before the text
        projections = [model.get_submodule(site.path) for layer in anatomy.layers for site in layer.sites.values()]
        assert not any(isinstance(one, surgery.Wrapper) for one in projections), (
            "a projection is wrapped, none is named"
        )
        return
    names = [name for name in case.method.sites if any(name in layer.sites for layer in anatomy.layers)]
    paths = list(dict.fromkeys(site.path for site in anatomy.sites(names)))
    added: dict[str, torch.Tensor] = {}

    def listen(path: str) -> Callable:
        def hook(module, given, output):
            with torch.no_grad():
                added[path] = output - (module.innermost(*given) if isinstance(module, surgery.Wrapper) else output)

        return hook

    with contextlib.ExitStack() as hooks:
        for path in paths:
            hooks.enter_context(model.get_submodule(path).register_forward_hook(listen(path)))
        logits(model)

    def add(path: str) -> Callable:
        return lambda module, given, output: output + added[path]

    around = [swap for swap in model.adaptation.swaps if isinstance(swap.after, surgery.Wrapper)]
    assert all(swap.layer is not None for swap in around), "new modules stand outside the layers"
    with contextlib.ExitStack() as hooks:  # a prefix that is there too stays
        for swap in reversed(around):
            swap.undo()
        for path in paths:
            hooks.enter_context(model.get_submodule(path).register_forward_hook(add(path)))
        assert_close(logits(model), wanted, ROUNDING, f"the change stands elsewhere than at {case.method.sites}")


def eager_equals_sdpa(case: Case, folder: Path) -> None:
    """The same in a model that is set to eager attention before the method is loaded."""
    model, eager = trained(case), backbone(case.kind)
    methods.save(model, folder / "saved")
    eager.set_attn_implementation("eager")
    methods.load(eager, folder / "saved")
    assert_close(logits(eager), logits(model), ROUNDING, "eager attention")


def padding_changes_nothing(case: Case, folder: Path) -> None:
    """A text gets the same answer alone and padded beside longer ones."""
    model, inputs = trained(case), batch(case.kind)
    together = logits(model, inputs)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = logits(model, {key: value[row : row + 1, :length] for key, value in inputs.items()})
        assert_close(alone[0], together[row], ROUNDING, f"row {row} without its padding")


@torch.no_grad()
def rounded(model: torch.nn.Module) -> torch.nn.Module:
    """A float32 copy whose weights are bfloat16 numbers: what rounding costs before any sum is made in 16 bits."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))
    return model


def works_in_bfloat16(case: Case, folder: Path) -> None:
    """On a bfloat16 base: float32 is trained, the rest stays 16 bits; forward, disabled, save, load and merge hold."""
    full = trained(case)
    base = backbone(case.kind).to(torch.bfloat16)
    model = applied(case, copy.deepcopy(base))
    assert {p.dtype for p in surgery.trained_tensors(model).values()} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} <= {torch.bfloat16}
    assert torch.isfinite(torch.tensor(list(stepped(model, 1).values()))).all(), "no gradient in bfloat16"
    with torch.no_grad():
        for part in (surgery.trained_tensors, surgery.own_buffers):
            for name, tensor in part(full).items():
                part(model)[name].copy_(tensor)
    made = logits(model)
    assert made.dtype is torch.bfloat16, f"a bfloat16 model answers in {made.dtype}"
    wanted = logits(full)
    sensitivity = (logits(rounded(full)) - wanted).abs().max() / wanted.abs().max()
    share = min(HALF_AT_MOST, max(HALF, 4 * sensitivity.item()))
    share *= max(1.0, (logits(base).abs().max() / wanted.abs().max()).item())
    assert_close(made, wanted, share, "in bfloat16")
    with methods.disabled(copy.deepcopy(model)) as twin:
        assert torch.equal(logits(twin), logits(base)), "disabled in bfloat16, the model does not answer as the base"
        assert torch.equal(logits(model), made), "a deep copy in bfloat16 shares something with its model"
    methods.save(model, folder / "half")
    fresh = methods.load(backbone(case.kind, head_seed=2).to(torch.bfloat16), folder / "half")
    assert torch.equal(logits(fresh), made), "loaded in bfloat16, the model answers otherwise"
    if case.method.card.mergeable:
        methods.merge(fresh)
        assert {p.dtype for p in fresh.parameters()} == {torch.bfloat16}
        assert_close(logits(fresh), made, share, "merged in bfloat16")
        assert state(fresh).keys() == state(base).keys(), "merged in bfloat16, but no plain model"
    methods.remove(model)
    assert_same(state(model), state(base), "removed in bfloat16")


def copies_and_checkpoints(case: Case, folder: Path) -> None:
    """A deep copy is whole and independent; activation checkpointing gives the same gradients."""
    model = trained(case)
    twin, wanted = copy.deepcopy(model), logits(model)
    disturb(model)
    assert torch.equal(logits(twin), wanted), "a deep copy shares tensors with its model"
    with methods.disabled(twin):
        assert torch.equal(logits(twin), logits(backbone(case.kind)))
    gradients = []
    for checkpointing in (False, True):
        twin.zero_grad()
        torch.manual_seed(3)
        with training.activation_checkpointing(twin) if checkpointing else contextlib.nullcontext():
            backward(twin)
        gradients.append({name: p.grad.clone() for name, p in surgery.trained_tensors(twin).items()})
    for name, plain in gradients[0].items():
        again = gradients[1][name]
        assert torch.allclose(again, plain, rtol=1e-4, atol=1e-6), f"{name}: another gradient with checkpointing"


def generates(case: Case, folder: Path) -> None:
    """Language models: with and without cache the same text; a tied or pretrained head is not trained by itself."""
    model = backbone(case.kind, "generate")
    if isinstance(case.method, methods.HeadOnly):
        with pytest.raises(ValueError, match="trains nothing here"):
            applied(case, model)
        return
    applied(case, model)
    measured = sum(p.numel() for p in surgery.trained_tensors(model).values())
    assert measured == case.method.parameter_count(model.adaptation.anatomy), "more is trained than the method says"
    disturb(model)
    ids = torch.tensor([[2, 5, 9, 7, 12]])
    options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids), "eos_token_id": None}
    texts = [model.generate(ids, use_cache=cache, **options) for cache in (True, False)]
    assert torch.equal(*texts), "another text without the cache"


PROPERTIES = (
    identity_at_init,
    formula_counts,
    learns_and_leaves_the_rest,
    saves_and_loads,
    disabled_is_the_base,
    switches,
    merges,
    changes_where_it_says,
    eager_equals_sdpa,
    padding_changes_nothing,
    works_in_bfloat16,
    copies_and_checkpoints,
    generates,
)

"""The family tree of methods, their gallery and their table, from the registry: a new method appears by itself.

What a table says of a method is read from its card and its docstrings, or measured: the method is put into a model, and
its numbers are counted. Nothing is listed here by name.

Three counts, all without the task head (Lialin et al. 2023, arXiv:2303.15647): numbers that are *trained*; numbers of
the pretrained model that are *changed* when the method is in use, merged where it can be merged; numbers that are
*stored* for a task. They can be far apart: LoRA trains little and changes every entry of its matrices.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from peft_helpers import backbones, measured_costs, methods
from peft_helpers.measured_costs import StepCost
from peft_helpers.methods import surgery
from peft_helpers.methods.attached import Attachment
from peft_helpers.methods.attention_prefix import AttentionPrefix
from peft_helpers.methods.input_prompt import Prompt

NOISE = 0.1  # standard deviation of what is added to every trained number, so that all of them have moved
WHERE = ("input", "keys and values", "hidden states", "weights", "own tensors")
TEXTS, TOKENS = 4, 64  # the batch that costs are measured with; a prompt still fits before it


@dataclass(frozen=True)
class Entry:
    """One method of the registry, with its default settings.

    Attributes:
        name, family, paper: as registered.
        title: the first line of its docstring.
        formula: the first sentence of `parameter_count`'s docstring.
        method: the method itself.
    """

    name: str
    family: str
    paper: str
    title: str
    formula: str
    method: methods.Method

    @property
    def mergeable(self) -> bool:
        return self.method.card.mergeable

    @property
    def identity(self) -> str:
        """How the method begins: "exact", "within 2 %" of the largest logit, "no"."""
        allowed = self.method.card.identity_at_init
        return "exact" if allowed is True else "no" if allowed is False else f"within {100 * allowed:g} %"


@dataclass(frozen=True)
class Row:
    """What a method does to one model.

    Attributes:
        entry: the method.
        where: what it changes, some of `WHERE`.
        trained, changed, stored, added: numbers, the task head left out; `added` are those stored beside the model when
            the method can't be merged.
        total: numbers of the pretrained model, the head left out.
        cost, full: a training step with the method, and with full fine-tuning.
        memory, full_memory: bytes that this training keeps: weights, gradients, AdamW's state, activations.
        inference: floating-point operations of a forward pass in use, against the model without a method.
    """

    entry: Entry
    where: tuple[str, ...]
    trained: int
    changed: int
    stored: int
    added: int
    total: int
    cost: StepCost
    full: StepCost
    memory: int
    full_memory: int
    inference: float


def entry(name: str) -> Entry:
    """What the registry says of a method.

    Raises:
        ValueError: there is no such method.
    """
    method = methods.make(name)
    count = (inspect.getdoc(type(method).parameter_count) or "").strip().split("\n")[0]
    title = (inspect.getdoc(type(method)) or name).strip().split("\n")[0]
    return Entry(name, method.card.family, method.card.paper, title, count, method)


def tree() -> dict[str, list[Entry]]:
    """Family -> its methods, families in the order of `methods.FAMILIES`, methods in that of the registry.

    A family without methods is left out.
    """
    found = {family: [entry(name) for name in methods.available(family)] for family in methods.FAMILIES}
    return {family: entries for family, entries in found.items() if entries}


def gallery() -> str:
    """A Markdown table of all methods: family, method, what it is in a line, how many numbers it trains, paper."""
    lines = ["| family | method | in one line | trains | paper |", "|---|---|---|---|---|"]
    for family, entries in tree().items():
        for one in entries:
            cells = family, f"**{one.name}**", one.title, one.formula, one.paper
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------- measured on a model


def places(model: nn.Module) -> tuple[str, ...]:
    """What the method in a model changes, some of `WHERE`: found by looking at what it has exchanged."""
    found, heads = set(), {id(part) for site in _head(model) for part in site.module.modules()}
    for swap in model.adaptation.swaps:
        if isinstance(swap.after, surgery.Wrapper):
            merges = type(swap.after).merge is not surgery.Wrapper.merge
            found.add("weights" if merges else "hidden states")
        elif isinstance(swap.after, nn.Parameter) and id(swap.owner) not in heads:
            found.add("own tensors")
        elif isinstance(swap.owner, Attachment):
            kinds = {"keys and values": AttentionPrefix, "input": Prompt}
            found |= {name for name, kind in kinds.items() if isinstance(swap.owner.guest, kind)}
    return tuple(name for name in WHERE if name in found)


def measure(
    model: nn.Module, names: Sequence[str] | None = None, given: Mapping[str, methods.Method] | None = None
) -> list[Row]:
    """A row a method: the method is put into copies of the model and of its shape. The model itself is left alone.

    Args:
        model: a BERT classifier without a method, on the processor.
        names: of methods; by default all of the registry, family by family.
        given: other settings than the defaults, by the method's name.

    Raises:
        ValueError: the model carries a method, or there is no method of a name.
    """
    if hasattr(model, "adaptation"):
        raise ValueError(f"the model carries {model.adaptation.method}; methods.remove(model) takes it out")
    names = [one.name for entries in tree().values() for one in entries] if names is None else names
    shape = _shape(model)
    base = measured_costs.blank_bert(None, shape)
    plain = _forward(base)
    full, full_memory = _step(methods.FullFineTuning(), shape)
    rows = []
    for name in names:
        one = entry(name)
        method = (given or {}).get(name, one.method)
        cost, memory = _step(method, shape)
        inference = 1.0 if one.mergeable else _forward(measured_costs.blank_bert(method.as_stored(), shape)) / plain
        counts = _counted(model, one, method)
        rows.append(
            Row(one, **counts, cost=cost, full=full, memory=memory, full_memory=full_memory, inference=inference)
        )
    return rows


def _counted(model: nn.Module, one: Entry, method: methods.Method) -> dict[str, Any]:
    """What a row tells of numbers: found in a copy of the model."""
    adapted = copy.deepcopy(model)
    head = {f"{site.path}.{name}" for site in _head(model) for name, _ in site.module.named_parameters()}
    before = {name: parameter for name, parameter in model.named_parameters() if name not in head}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        methods.apply(adapted, method)
    trained = {name: p for name, p in surgery.trained_tensors(adapted).items() if name not in head}
    stored = {name: tensor for name, tensor in method.stored(adapted).items() if name not in head}
    where = places(adapted)
    _disturb(trained.values())
    if method.card.mergeable:
        methods.merge(adapted.eval())
        after, added = dict(adapted.named_parameters()), 0
    else:
        plain = {name.replace(".base.", "."): p for name, p in trained.items()}  # as it is called without wrappers
        after = {name: parameter for name, parameter in plain.items() if name in before}
        added = _count(stored) - _count(after)
    changed = sum(int((p != before[name]).sum()) for name, p in after.items() if name in before)
    return {
        "where": where,
        "trained": _count(trained),
        "changed": changed,
        "stored": _count(stored),
        "added": added,
        "total": _count(before),
    }


def _count(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _head(model: nn.Module) -> list[backbones.Site]:
    adaptation = getattr(model, "adaptation", None)
    return surgery.task_head(backbones.anatomy(model) if adaptation is None else adaptation.anatomy)


@torch.no_grad()
def _disturb(parameters: Iterable[nn.Parameter]) -> None:
    draw = torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.add_(NOISE * torch.randn(parameter.shape, generator=draw))


def _shape(model: nn.Module) -> dict[str, Any]:
    """The model's sizes, as `measured_costs.blank_bert` takes them."""
    wanted = (*measured_costs.BERT_BASE, "vocab_size", "max_position_embeddings")
    return {key: getattr(model.config, key) for key in wanted}


def _step(method: methods.Method, shape: Mapping[str, int]) -> tuple[StepCost, int]:
    """What a training step costs, and the bytes that training keeps."""
    model = measured_costs.blank_bert(method, shape)
    tokens = min(TOKENS, shape["max_position_embeddings"] - method.positions)
    cost = measured_costs.step_cost(measured_costs.text_loss(model, TEXTS, tokens), model)
    return cost, measured_costs.memory_of(model, cost.activations).total


@torch.no_grad()
def _forward(model: nn.Module) -> int:
    taken = model.adaptation.method.positions if hasattr(model, "adaptation") else 0
    tokens = min(TOKENS, model.config.max_position_embeddings - taken)
    with FlopCounterMode(display=False) as counter:
        measured_costs.text_loss(model.eval(), TEXTS, tokens)()
    return counter.get_total_flops()


COLUMNS = ("method", "changes", "trained", "changed", "stored", "step", "activations", "memory", "inference", "start")


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, a line for each family before its methods.

    trained, changed, stored: shares of the pretrained model, without the head. step, activations, memory: operations of
    a training step, bytes kept for its backward pass, and these with weights, gradients and AdamW's state, as shares of
    full fine-tuning's. inference: operations in use, more than without a method; a method that can be merged adds none.
    start: how close to the identity it begins.
    """
    if not rows:
        raise ValueError("there is nothing to show: rows is empty")
    lines, family = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"], None
    for row in rows:
        if row.entry.family != family:
            family = row.entry.family
            lines.append(f"| **{family}** |" + " |" * (len(COLUMNS) - 1))
        lines.append("| " + " | ".join(_cells(row)) + " |")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    counts = (share(number, row.total) for number in (row.trained, row.changed, row.stored))
    cost, full = row.cost, row.full
    costs = cost.operations / full.operations, cost.activations / full.activations, row.memory / row.full_memory
    inference = "merged" if row.entry.mergeable else f"{row.inference - 1:+.1%}"
    changes = ", ".join(row.where) or "nothing"
    return (row.entry.name, changes, *counts, *(f"{each:.0%}" for each in costs), inference, row.entry.identity)


def share(number: int, total: int) -> str:
    """A count as a share of the model, with as many digits as it needs: "100 %", "3.1 %", "0.055 %"; 0 is "0".

    >>> share(55, 100_000), share(3_123, 100_000), share(0, 7)
    ('0.055 %', '3.1 %', '0')
    """
    if number == 0:
        return "0"
    percent = 100 * number / total
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"

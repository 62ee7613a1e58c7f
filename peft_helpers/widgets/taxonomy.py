"""The explorer of training memory (lesson 11): any registered method -> weights, gradients, Adam, activations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle

from peft_helpers import accounting, measured_costs, methods
from peft_helpers.accounting import Memory, megabytes
from peft_helpers.plots.costs import HATCHES, PARTS
from peft_helpers.plots.style import COLORS, panels, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, steps

TOKENS = 128
SHAPES: Mapping[str, Mapping[str, int]] = {
    "pocket-bert": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024,
                    "vocab_size": 8192, "max_position_embeddings": 160},
    "BERT-base": measured_costs.BERT_BASE,
}  # fmt: skip
PRECISIONS = {"float32": 4, "16 bits": 2}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FULL = "FullFineTuning"


@functools.cache
def _measured(name: str, shape: str) -> tuple[int, int, int, int]:
    """(parameters, trained, activation bytes without a text, and a text more), on the meta device.

    What is kept grows with the number of texts along a straight line: the rest (a mask's matrices) does not depend on
    them.
    """
    model = measured_costs.blank_bert(methods.make(name), SHAPES[shape])
    one, two = (measured_costs.saved_bytes(measured_costs.text_loss(model, n, TOKENS), model)[1] for n in (1, 2))
    counts = accounting.count_parameters(model)
    return counts.total, counts.trainable, 2 * one - two, two - one


@dataclass(frozen=True)
class MethodMemory:
    """One state: a method in a BERT of this shape, texts in a batch, the precision of frozen weights."""

    method: str
    shape: str
    batch: int
    precision: str

    def memory(self, method: str | None = None) -> Memory:
        """Of the chosen method, or of another one at the same settings."""
        total, trained, fixed, each = _measured(method or self.method, self.shape)
        kept = fixed + self.batch * each
        return accounting.training_memory(total, trained, kept, PRECISIONS[self.precision])

    @property
    def share(self) -> float:
        """Trained numbers, of those of the model and the method together; the head is among both."""
        total, trained, _, _ = _measured(self.method, self.shape)
        return trained / total


class MemoryView:
    """Two stacked bars: the chosen method, and full fine-tuning with the same batch."""

    @styled
    def __init__(self) -> None:
        self.figure, (axes,) = panels(width=WIDTH, height=HEIGHT)
        self.boxes: dict[tuple[int, str], Rectangle] = {}
        for row in (0, 1):
            for part, color in PARTS.items():
                box = Rectangle((0, row - 0.36), 0, 0.72, facecolor=COLORS[color], hatch=HATCHES[part],
                                edgecolor="white", linewidth=0.6, label=part if row == 0 else None)  # fmt: skip
                self.boxes[row, part] = axes.add_patch(box)
        self.names = [axes.text(0.0, row - 0.42, "", va="bottom", fontsize=11.5, fontweight="bold") for row in (0, 1)]
        axes.set(xlim=(0, 1.28), ylim=(1.5, -0.75), xlabel="share of full fine-tuning's memory")
        axes.set_yticks([])
        axes.set_xticks(np.arange(0, 1.21, 0.2), [f"{100 * x:.0f} %" for x in np.arange(0, 1.21, 0.2)])
        self.figure.legend(loc="outside upper left", ncols=len(PARTS), handlelength=1.6)
        self.moving = [*self.boxes.values(), *self.names]

    def show(self, reading: MethodMemory) -> None:
        """Draw both bars; a bar that is longer than the picture is cut, and its total says so."""
        full = reading.memory(FULL)
        rows = {reading.method: reading.memory(), "full fine-tuning": full}
        for row, (name, memory) in enumerate(rows.items()):
            left = 0.0
            for part in PARTS:
                width = getattr(memory, part) / full.total
                self.boxes[row, part].set_x(left)
                self.boxes[row, part].set_width(width)
                left += width
            self.names[row].set_text(f"{name}: {megabytes(memory.total)}" + (" →" if left > 1.28 else ""))
        self.figure.alt = "Memory of a training step by part. " + describe_memory(reading).as_text().replace("\n", "; ")


def describe_memory(reading: MethodMemory) -> Readout:
    """The four parts of both runs, and the method's share of each."""
    mine, full = reading.memory(), reading.memory(FULL)
    summary = (
        f"{reading.method} in {reading.shape}, {reading.batch} texts of {TOKENS} tokens: {reading.share:.3%} of the "
        f"numbers are trained, with {mine.total / full.total:.0%} of full fine-tuning's memory."
    )
    rows = []
    for part in (*PARTS, "total"):
        a, b = getattr(mine, part), getattr(full, part)
        rows.append([part, megabytes(a), megabytes(b), f"{a / b:.1%}" if b else ""])
    return Readout(summary, ["part", reading.method, "full", "share"], rows)


def method_memory_explorer(method: str = "IA3") -> Explorer:
    """A method, a model's shape, a batch and the precision of frozen weights -> memory by part.

    The methods are those of the registry, with their default settings; BERT without dropout, attention not fused. A
    method is measured when it is first chosen.
    """
    names = [name for family in methods.FAMILIES for name in methods.available(family) if name != FULL]
    controls = {
        "shape": choice("model", [(name, name) for name in SHAPES], "BERT-base"),
        "precision": choice("frozen weights", [(name, name) for name in PRECISIONS], "float32"),
        "method": steps("method", names, method),
        "batch": steps("texts", [(str(n), n) for n in BATCHES], 4),
    }
    return Explorer("memory", "Explorer of memory by method", controls, MethodMemory, MemoryView, describe_memory)


__all__ = ["MemoryView", "MethodMemory", "describe_memory", "method_memory_explorer"]

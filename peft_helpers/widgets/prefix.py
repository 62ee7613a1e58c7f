"""Prefix explorer (lesson 10): length -> λ, text, score, from recorded runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from peft_helpers import prefix_runs, tasks
from peft_helpers.plots.style import COLORS, panels, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, steps

SHOWN = 5  # texts to choose from
SHORT = {"encoder": "enc.", "decoder": "dec."}


@dataclass(frozen=True)
class Lengths:
    """What is recorded of prefixes of several lengths.

    Attributes:
        lengths: ascending.
        bleu, errors: a length's score and slot errors, in percent.
        shares: length -> part -> λ by layer.
        sources, texts: what was asked, and length -> what was written, in that order.
        wrong: length -> slot errors of each text.
    """

    lengths: tuple[int, ...]
    bleu: dict[int, float]
    errors: dict[int, float]
    shares: dict[int, dict[str, list[float]]]
    sources: tuple[str, ...]
    texts: dict[int, list[str]]
    wrong: dict[int, list[int]]


@dataclass(frozen=True)
class LengthReading:
    """One state: a length, and the number of a text."""

    length: int
    text: int
    recorded: Lengths


def lengths_of(found: Iterable[Record], sources: Iterable[str]) -> Lengths:
    """The sweep over lengths, one record each.

    Raises:
        ValueError: fewer than two lengths, or a record without λ.
    """
    by = {record.settings["method_settings"]["length"]: record for record in found}
    if len(by) < 2:
        raise ValueError(f"records of at least two lengths are needed; {prefix_runs.COMMAND} --only length")
    if lacking := [length for length, record in by.items() if not record.settings.get("shares")]:
        raise ValueError(f"the record of length {lacking[0]} does not tell λ")
    lengths, scores = tuple(sorted(by)), {length: record.settings["scores"] for length, record in by.items()}
    sources = tuple(sources)[: min(SHOWN, *(len(record.settings["texts"]) for record in by.values()))]
    return Lengths(
        lengths,
        {n: 100 * scores[n]["bleu"] for n in lengths},
        {n: 100 * scores[n]["slot_error_rate"] for n in lengths},
        {n: by[n].settings["shares"] for n in lengths},
        sources,
        {n: by[n].settings["texts"] for n in lengths},
        {n: [int(count) for count in by[n].predictions] for n in lengths},
    )


class LengthView:
    """Left, BLEU and slot errors by length, the chosen one marked; right, λ by part and layer."""

    @styled
    def __init__(self, recorded: Lengths):
        self.recorded = recorded
        self.figure, (left, right) = panels(2, width=WIDTH, height=HEIGHT)
        places = range(len(recorded.lengths))
        looks = (("BLEU", recorded.bleu, "blue", "-", "o"), ("slot errors", recorded.errors, "orange", "--", "s"))
        self.marks = []
        for name, values, color, dash, marker in looks:
            look = {"color": COLORS[color], "linestyle": dash, "marker": marker}
            left.plot(places, [values[n] for n in recorded.lengths], **look, label=name)
            self.marks += left.plot([], [], marker="o", markersize=14, markerfacecolor="none", markeredgewidth=2.2,
                                    linestyle="none", color=COLORS["black"])  # fmt: skip
        left.set(xlabel="length l", title="written texts, %", xlim=(-0.3, len(recorded.lengths) - 0.7))
        left.set_xticks(places, [str(n) for n in recorded.lengths])
        left.set_ylim(0, 1.4 * max(*recorded.bleu.values(), *recorded.errors.values(), 1.0))
        left.legend(loc="upper right", borderaxespad=0)
        self.names = [
            (part, k) for part, found in recorded.shares[recorded.lengths[0]].items() for k in range(len(found))
        ]
        self.bars = right.bar(range(len(self.names)), np.zeros(len(self.names)), color=COLORS["green"], width=0.7)
        right.set(title="λ, share of the attention", ylim=(0, 1))
        right.set_xticks(
            range(len(self.names)), [f"{SHORT.get(part, part)}\n{k + 1}" for part, k in self.names], fontsize=9.5
        )
        right.grid(axis="x", visible=False)
        self.moving = [*self.marks, *self.bars]

    def show(self, reading: LengthReading) -> None:
        """Move the marks, set the bars."""
        found, n = self.recorded, reading.length
        for mark, values in zip(self.marks, (found.bleu, found.errors), strict=True):
            mark.set_data([found.lengths.index(n)], [values[n]])
        for bar, (part, k) in zip(self.bars, self.names, strict=True):
            bar.set_height(found.shares[n][part][k])
        self.figure.alt = "Left, BLEU and slot errors by the prefix's length; right, λ by part and layer. " + describe(
            reading
        ).as_text().replace("\n", "; ")


def describe(reading: LengthReading) -> Readout:
    """Scores, one text, and λ by part."""
    found, n, i = reading.recorded, reading.length, reading.text
    summary = (
        f"Prefix of {n}: BLEU {found.bleu[n]:.1f}, slot errors {found.errors[n]:.0f} %. Asked: {found.sources[i]}. "
        f"Written, with {found.wrong[n][i]} slot errors: {found.texts[n][i] or '(nothing)'}"
    )
    rows = [
        [part, *(f"{np.mean(found.shares[length][part]):.3f}" for length in found.lengths)] for part in found.shares[n]
    ]
    return Readout(summary, ["mean λ", *(f"l = {length}" for length in found.lengths)], rows)


def prefix_explorer(found: Iterable[Record] | None = None, sources: Iterable[str] | None = None) -> Explorer:
    """Length of the prefix and number of a text -> score, λ and what was written, from recorded runs.

    Args:
        found: records of `prefix_runs`' sweep over lengths; by default those that ship with the course.
        sources: the test split's sources, in its order; by default those of the task.

    Raises:
        ValueError: records of fewer than two lengths.
    """
    if found is None:
        found = [runs[0] for _, runs in prefix_runs.recorded("length")]
    if sources is None:
        task = tasks.load(prefix_runs.TASK)
        sources = list(task.splits["test"][task.text_columns[0]])
    recorded = lengths_of(found, sources)
    default = min(recorded.lengths, key=lambda n: abs(n - prefix_runs.LENGTH))
    controls = {
        "text": choice("text", [(str(i + 1), i) for i in range(len(recorded.sources))], 0),
        "length": steps("length l", [(str(n), n) for n in recorded.lengths], default),
    }
    return Explorer(
        "prefix", "Prefix explorer: length, text", controls,
        lambda length, text: LengthReading(length, text, recorded), partial(LengthView, recorded), describe,
    )  # fmt: skip

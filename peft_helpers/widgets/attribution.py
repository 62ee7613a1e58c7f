"""Attribution explorer (lesson 14): text, baseline and number of steps -> attributions, and what their sum lacks.

All states were computed when the course was made (`challenge_runs`, "attribution"), in float64, with one fine-tuned
model; moving a control only draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from peft_helpers import challenge_runs
from peft_helpers.plots.style import COLORS, LINES, panels, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, steps

SMALLEST = 1e-8  # a gap below this is drawn here
LONGEST = 26  # letters of a text on its button


@dataclass(frozen=True)
class Frames:
    """What is known of one text.

    Attributes:
        text, words, label: what was read, and the class that was asked about.
        score: F(x), the log odds of that class.
        starts: baseline -> F(x′).
        gaps: baseline -> (S,) Σ − (F(x) − F(x′)), one a number of steps.
        attributions: baseline -> (S, words).
        deleted: (words,) what the score loses when a word is taken out.
    """

    text: str
    words: tuple[str, ...]
    label: str
    score: float
    starts: dict[str, float]
    gaps: dict[str, np.ndarray]
    attributions: dict[str, np.ndarray]
    deleted: np.ndarray


@dataclass(frozen=True)
class AttributionReading:
    """One state of the explorer: the text, the baseline, and which number of steps."""

    frames: Frames
    baseline: str
    at: int
    steps: tuple[int, ...]


def frames_of(found: Iterable[Record]) -> tuple[list[Frames], tuple[int, ...]]:
    """The texts of the recorded experiment `challenge_runs.attribution`, and the numbers of steps.

    Raises:
        ValueError: there is no such record.
    """
    kept = [record for record in found if record.settings.get("experiment") == "attribution"]
    if not kept:
        raise ValueError(
            "the record of attributions is missing; python -m peft_helpers.challenge_runs --only attribution"
        )
    kept.sort(key=lambda record: record.settings["number"])
    return [_frames(record.settings["text"]) for record in kept], tuple(kept[0].settings["steps"])


def _frames(text: dict[str, Any]) -> Frames:
    shown = text["baselines"]
    return Frames(
        text["text"],
        tuple(text["words"]),
        text["label"],
        text["score"],
        {kind: one["score"] for kind, one in shown.items()},
        {kind: np.array(one["gaps"]) for kind, one in shown.items()},
        {kind: np.array(one["attributions"]) for kind, one in shown.items()},
        np.array(text["deleted"]),
    )


class AttributionView:
    """Left: the gap over the number of steps, a line a baseline. Right: each word's attribution, a bar a word."""

    @styled
    def __init__(self, texts: list[Frames], counts: tuple[int, ...]):
        self.counts = counts
        self.figure, (self.left, self.right) = panels(2, width=WIDTH, height=HEIGHT)
        everything = np.concatenate([np.abs(text.gaps[kind]) for text in texts for kind in text.starts])
        low, high = max(SMALLEST, everything.min() / 3), everything.max() * 3
        self.lines = {}
        for kind, look in zip(texts[0].starts, LINES, strict=False):
            (self.lines[kind],) = self.left.plot(counts, np.full(len(counts), high), **look, markersize=4, label=kind)
        self.left.axhline(1e-3, color=COLORS["gray"], linewidth=1.2, linestyle=(0, (1, 1.3)))
        self.left.set(xscale="log", yscale="log", xlabel="steps", title="|Σ − (F(x) − F(x′))|", ylim=(low, high))
        self.left.set_xticks(counts, [str(n) for n in counts])
        self.left.xaxis.set_minor_formatter(NullFormatter())
        self.left.minorticks_off()
        self.left.tick_params(axis="x", labelsize=9)
        (self.mark,) = self.left.plot(
            [counts[0]], [high], linestyle="none", marker="o", markersize=13, markerfacecolor="none",
            markeredgewidth=2, color=COLORS["black"],
        )  # fmt: skip
        most = max(len(text.words) for text in texts)
        usual = len(counts) // 2  # with few steps single bars run out of the picture
        most_of_all = max(np.abs(values[usual:]).max() for text in texts for values in text.attributions.values())
        reach = 1.15 * most_of_all or 1.0
        self.places = np.arange(most)
        self.bars = self.right.barh(self.places, np.zeros(most), 0.72)
        self.names = [
            self.right.text(-reach * 1.04, place, "", ha="right", va="center", fontsize=10, clip_on=False)
            for place in self.places
        ]
        self.right.axvline(0, color=COLORS["black"], linewidth=1)
        self.right.set(xlim=(-reach, reach), ylim=(most - 0.4, -0.6), title="attributions, log odds")
        longest = max((word for text in texts for word in text.words), key=len)
        self.right.set_yticks([0], [longest + " "], fontsize=10)  # unseen: keeps room for words that are drawn later
        self.right.tick_params(axis="y", length=0)
        for label in self.right.get_yticklabels():
            label.set_alpha(0)
        self.right.grid(axis="y", visible=False)
        self.figure.legend(*self.left.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        self.moving = [*self.lines.values(), self.mark, *self.bars, *self.names]

    def show(self, reading: AttributionReading) -> None:
        """Draw the text's gaps, mark the chosen one, and draw the words' bars."""
        frames = reading.frames
        for kind, line in self.lines.items():
            line.set_data(self.counts, np.maximum(np.abs(frames.gaps[kind]), SMALLEST))
        gap = max(abs(frames.gaps[reading.baseline][reading.at]), SMALLEST)
        self.mark.set_data([self.counts[reading.at]], [gap])
        values = frames.attributions[reading.baseline][reading.at]
        color = self.lines[reading.baseline].get_color()
        for place, (bar, name) in enumerate(zip(self.bars, self.names, strict=True)):
            there = place < len(frames.words)
            bar.set_width(values[place] if there else 0.0)
            bar.set_facecolor(color)
            name.set_text(frames.words[place] if there else "")
        told = describe(reading).as_text().replace("\n", "; ")
        words = ", ".join(f"{word} {figures(v, 2)}" for word, v in zip(frames.words, values, strict=True))
        self.figure.alt = f"Completeness gap by steps, and attributions by word: {words}. {told}"


def describe(reading: AttributionReading) -> Readout:
    """What the attributions add up to, and what they should."""
    frames, at = reading.frames, reading.at
    gap, wanted = frames.gaps[reading.baseline][at], frames.score - frames.starts[reading.baseline]
    count = reading.steps[at]
    summary = (
        f"“{frames.text}”, {frames.label}, baseline {reading.baseline}, {count} step{'s' * (count > 1)}: "
        f"the attributions add up to {figures(wanted + gap)}; F(x) − F(x′) is {figures(wanted)}; gap {figures(gap)}."
    )
    rows = []
    for kind, start in frames.starts.items():
        difference, missing = frames.score - start, frames.gaps[kind][at]
        numbers = (frames.score, start, difference, difference + missing, missing)
        rows.append([kind, *map(figures, numbers)])
    return Readout(summary, ["baseline", "F(x)", "F(x′)", "difference", "sum", "gap"], rows)


def attribution_explorer(found: Iterable[Record] | None = None, backbone: str = "pocket-bert") -> Explorer:
    """Text, baseline and steps -> attributions and their completeness gap, from the recorded frames.

    Args:
        found: records of `challenge_runs.attribution`; by default those that ship with the course.
        backbone: whose shipped records.

    Raises:
        ValueError: there is no such record.
    """
    texts, counts = frames_of(challenge_runs.recorded("attribution", backbone) if found is None else found)
    kinds = list(texts[0].starts)
    controls = {
        "baseline": choice("baseline", [(kind, kind) for kind in kinds], "[PAD]" if "[PAD]" in kinds else kinds[0]),
        "text": steps("text", [(_short(text.text), i) for i, text in enumerate(texts)], 0),
        "steps": steps("steps", [(str(n), i) for i, n in enumerate(counts)], len(counts) // 2),
    }
    return Explorer(
        "attribution", "Explorer of attributions", controls,
        lambda baseline, text, steps: AttributionReading(texts[text], baseline, steps, counts),
        partial(AttributionView, texts, counts), describe,
    )  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"

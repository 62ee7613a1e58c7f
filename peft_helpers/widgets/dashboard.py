"""The dashboard of lesson 13: what a method costs, what was recorded, whether a gap is real, and which method to take.

Three explorers (one picture each, redrawn in place) and a form. `open_dashboard()` puts them behind tabs; the same page
opens alone under Voilà by `make dashboard`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from peft_helpers import accounting, calculator, comparison, methods
from peft_helpers.comparison import Board, Result
from peft_helpers.plots.comparison import FAMILY_LOOKS, LINE_LOOKS, short
from peft_helpers.plots.costs import HATCHES, PARTS
from peft_helpers.plots.style import COLORS, LINES, ink, panels, score, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, steps

NOTEBOOK = Path(__file__).parents[1] / "dashboard.ipynb"  # the page that Voilà shows

# ---------------------------------------------------------------- the calculator

SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 128, 200, 256, 512)
BATCHES, LENGTHS, TASKS = (1, 2, 4, 8, 16, 32, 64), (32, 64, 128, 256, 512), (1, 2, 3, 5, 9, 20, 50, 100)
RANGE = 1.7  # the axes end at so many times full fine-tuning
ROWS = ("full fine-tuning", "this method", "head only")


@dataclass(frozen=True)
class CostReading:
    """One state of the calculator.

    Attributes:
        shape: the backbone. chosen, full, head: costs of the method, of full fine-tuning, of the head alone.
        tasks, batch, tokens: as set. note: what had to be adapted.
    """

    shape: calculator.Shape
    chosen: calculator.Cost | None
    full: calculator.Cost
    head: calculator.Cost
    tasks: int
    batch: int
    tokens: int
    note: str = ""

    def rows(self) -> list[calculator.Cost | None]:
        """In the order of ROWS."""
        return [self.full, self.chosen, self.head]


def read_costs(backbone: str, method: str, size: int, batch: int, tokens: int, tasks: int, half: bool) -> CostReading:
    """The calculator's figures for one state."""
    shape, notes = calculator.backbone(backbone), []
    if tokens > shape.positions:
        notes.append(f"{backbone} reads {shape.positions} tokens at most")
        tokens = shape.positions
    if method == "TopLayers" and size > shape.layers:
        notes.append(f"{backbone} has {shape.layers} layers")
        size = shape.layers
    if method == "SAID" and size <= shape.layers:
        notes.append(f"a dimension a layer, and one more: {backbone} has {shape.layers} layers")
        size = shape.layers + 1
    if method == "Compacter":
        size = max(4, size - size % 4)  # its four blocks share the bottleneck
    settings = {"batch": batch, "tokens": tokens, "tasks": tasks, "weight_bytes": 2 if half else 4}
    full, head = (calculator.cost(shape, m, **settings) for m in (methods.FullFineTuning(), methods.HeadOnly()))
    try:
        chosen = calculator.cost(shape, calculator.sized(method, size), **settings)
    except ValueError as error:
        chosen = None
        notes.append(str(error))
    return CostReading(shape, chosen, full, head, tasks, batch, tokens, "; ".join(notes))


class CostView:
    """Left, training memory by part; right, all tasks on disk; both as shares of full fine-tuning."""

    @styled
    def __init__(self) -> None:
        self.figure, (left, right) = panels(2, width=WIDTH, height=HEIGHT)
        self.bars: dict[str, list[Rectangle]] = {}
        for part, color in PARTS.items():
            self.bars[part] = [self._bar(left, row, COLORS[color], HATCHES[part]) for row in range(3)]
            left.barh([-9], [0], color=COLORS[color], hatch=HATCHES[part], edgecolor="white", label=part)  # legend
        self.files = [self._bar(right, row, COLORS["blue"]) for row in range(3)]
        self.words = [axes.text(0, row, "", va="center", fontsize=10.5) for axes in (left, right) for row in range(3)]
        for axes, label in ((left, "training memory"), (right, "all tasks on disk")):
            axes.set(xlim=(0, RANGE), ylim=(2.6, -0.6), xlabel=f"{label}, × full fine-tuning")
            axes.grid(axis="y", visible=False)
        left.set_yticks(range(3), ROWS)
        right.set_yticks(range(3), [""] * 3)
        self.figure.legend(loc="outside upper left", ncols=4)
        self.title = right.text(1.0, 1.04, "", transform=right.transAxes, ha="right", va="bottom", fontweight="bold")
        self.moving = [*(bar for row in self.bars.values() for bar in row), *self.files, *self.words, self.title]
        for artist in self.moving:
            artist.set_in_layout(False)  # the axes stay where they are, whatever is written

    @staticmethod
    def _bar(axes: Any, row: int, color: str, hatch: str = "") -> Rectangle:
        return axes.add_patch(
            Rectangle((0, row - 0.32), 0, 0.64, facecolor=color, hatch=hatch, edgecolor="white", linewidth=0.6)
        )

    def show(self, reading: CostReading) -> None:
        """Draw the three rows."""
        memory, disk = reading.full.memory.total, reading.full.all_tasks_bytes
        for row, one in enumerate(reading.rows()):
            before = 0.0
            for part, bars in self.bars.items():
                share = 0.0 if one is None else getattr(one.memory, part) / memory
                bars[row].set_x(before)
                bars[row].set_width(max(0.0, min(share, RANGE - before)))
                before += share
            file = 0.0 if one is None else one.all_tasks_bytes / disk
            self.files[row].set_width(min(file, RANGE))
            told = ("—", "—")
            if one is not None:
                told = accounting.megabytes(one.memory.total), accounting.megabytes(one.all_tasks_bytes)
            for text, at, words in zip((self.words[row], self.words[3 + row]), (before, file), told, strict=True):
                text.set_position((min(at, RANGE - 0.55) + 0.03, row))
                text.set_text(words)
        name = "—" if reading.chosen is None else reading.chosen.label
        self.title.set_text(f"{reading.shape.name}, {name}")
        self.figure.alt = "Training memory and disk. " + describe_costs(reading).as_text().replace("\n", "; ")


def describe_costs(reading: CostReading) -> Readout:
    """Counts, memory and files of the three rows."""
    chosen, shape = reading.chosen, reading.shape
    if chosen is None:
        summary = f"{reading.note}."
    else:
        summary = (
            f"{chosen.label} on {shape.name} ({shape.total:,} parameters): {chosen.trained / shape.total:.3%} trained; "
            f"inference: {chosen.latency}. Batches of {reading.batch} × {reading.tokens} tokens"
            f"{', activations estimated' if shape.estimated else ''}."
            f"{f' {reading.note}.' if reading.note else ''}"
        )
    rows = []
    for name, one in zip(ROWS, reading.rows(), strict=True):
        if one is None:
            rows.append([name, *["—"] * 6])
            continue
        counts = [f"{n:,}" for n in (one.trained, one.changed, one.stored)]
        sizes = [accounting.megabytes(n) for n in (one.memory.total, one.file_bytes, one.all_tasks_bytes)]
        rows.append([name if one is not chosen else one.label, *counts, *sizes])
    header = ["", "trained", "changed", "stored", "training", "a task's file", f"{reading.tasks} tasks"]
    return Readout(summary, header, rows)


def calculator_explorer(backbone: str = "BERT-base", method: str = "LoRA") -> Explorer:
    """Backbone, method, its size, batch, text length, tasks -> parameters, training memory, disk; no weights."""
    for name in calculator.available():
        calculator.backbone(name)  # on the meta device, once: a tenth of a second each; later changes are instant
    controls = {
        "backbone": pick("backbone", calculator.available(), backbone),
        "method": pick("method", sorted(methods.available(), key=str.lower), method),
        "size": steps("rank, m, l, k", [(str(n), n) for n in SIZES], 8),
        "batch": steps("batch", [(str(n), n) for n in BATCHES], 32),
        "tokens": steps("tokens", [(str(n), n) for n in LENGTHS], 128),
        "tasks": steps("tasks", [(str(n), n) for n in TASKS], 9),
        "half": choice("frozen weights", [("float32", False), ("16 bits", True)], False),
    }
    return Explorer("calculator", "Calculator", controls, read_costs, CostView, describe_costs)


# ---------------------------------------------------------------- the front under a budget

BUDGETS = 41  # places of the slider, from the cheapest to the dearest
TICKS = 5


@dataclass(frozen=True)
class FrontReading:
    """One state: a recorded comparison, the cost on the axis, and the budget.

    Attributes:
        board: the comparison. what: a name of `comparison.COSTS`. budget: in that cost's unit.
        inside: results within the budget, cheapest first; best: the highest of them; tied: those that the records
            can't tell from it.
        prices: result's label -> cost. blind: whether some gaps can't be judged, as the test labels are not here.
    """

    board: Board
    what: str
    budget: float
    inside: tuple[Result, ...]
    best: Result | None
    tied: tuple[Result, ...]
    prices: Mapping[str, float]
    blind: bool = False


@functools.lru_cache(maxsize=4096)
def _shown(folder: str | None, backbone: str, task: str, labels: int, a: str, b: str) -> bool | None:
    """Whether two results' gap is real, None if unknown; kept, since a slider asks again and again."""
    board = _board(folder, backbone, task, labels)
    return board.shown(board.results[a], board.results[b])


@functools.lru_cache(maxsize=64)
def _board(folder: str | None, backbone: str, task: str, labels: int) -> Board:
    return comparison.board(task, labels, backbone, folder)


class Fronts:
    """The recorded comparisons, read once."""

    def __init__(self, folder: str | Path | None, backbone: str):
        self.folder, self.backbone = None if folder is None else str(folder), backbone
        self.tables = list(comparison.tables(backbone, folder))
        if not self.tables:
            raise ValueError(f"nothing is recorded with {backbone}; python -m peft_helpers.experiments records")

    def board(self, table: tuple[str, int]) -> Board:
        return _board(self.folder, self.backbone, *table)

    def read(self, table: tuple[str, int], what: str, place: int) -> FrontReading:
        """One state; `place` runs from 0, the cheapest, to BUDGETS − 1, no limit."""
        board = self.board(table)
        prices = {label: one.price(what) for label, one in board.results.items()}
        low, high = min(prices.values()), max(prices.values())
        budget = high if place == BUDGETS - 1 else low * (high / low) ** (place / (BUDGETS - 1))
        inside = [one for one in board.results.values() if prices[one.label] <= budget * (1 + 1e-9)]
        inside.sort(key=lambda one: prices[one.label])
        best = max(inside, key=lambda one: (one.score, -prices[one.label]), default=None)
        known = (self.folder, self.backbone, *table)
        said = {one.label: _shown(*known, best.label, one.label) for one in inside if one is not best}
        tied = tuple(one for one in inside if said.get(one.label) is False)
        return FrontReading(board, what, budget, tuple(inside), best, tied, prices, None in said.values())


def round_up(value: float, steps: tuple[float, ...] = (1, 2, 2.5, 5, 10)) -> float:
    """The next larger number with one of these first digits: 0.013 is 0.02, 0.26 is 0.5."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in steps if step * power >= value * (1 - 1e-9)) * power


def round_range(bottom: float, top: float) -> tuple[float, float]:
    """A range that holds this one and whose `TICKS` ticks are round numbers."""
    step = round_up((top - bottom) / (TICKS - 1))
    start = math.floor(bottom / step) * step
    while start + (TICKS - 1) * step < top:
        step = round_up(1.01 * step)
        start = math.floor(bottom / step) * step
    return start, start + (TICKS - 1) * step


def freest(places: list[float]) -> float:
    """The middle of the widest gap between neighbors, where words hide no point; one half without any gap.

    >>> freest([0.1, 0.2, 0.8]), freest([0.3])
    (0.5, 0.5)
    """
    there = sorted(places)
    low, high = max(itertools.pairwise(there), key=lambda pair: pair[1] - pair[0], default=(0.0, 1.0))
    return (low + high) / 2 if high > low else 0.5


class FrontView:
    """Score over cost with intervals; what is beyond the budget is pale, the front under the budget is a line."""

    @styled
    def __init__(self, most: int) -> None:
        self.figure, (axes,) = panels(width=WIDTH, height=HEIGHT)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks(np.linspace(0.04, 0.90, TICKS), [""] * TICKS)
        axes.set_yticks(np.linspace(0, 1, TICKS), ["88.8 %"] * TICKS)
        axes.tick_params(axis="y", labelcolor="none")  # they keep the room; what is read are the moving ones
        axes.set_xlabel(" \n ")
        self.axes = axes
        self.beyond = axes.add_patch(Rectangle((1, 0), 0, 1, facecolor="#f0f0f0", edgecolor="none"))
        self.bars = axes.add_collection(LineCollection([], linewidths=1.4))
        self.points = [axes.plot([], [], linestyle="none", markersize=8, marker="o")[0] for _ in range(most)]
        self.front = axes.plot([], [], color=COLORS["gray"], linewidth=1.5, drawstyle="steps-post")[0]
        self.ring = axes.plot([], [], linestyle="none", marker="o", markersize=16, markerfacecolor="none",
                              markeredgecolor=COLORS["black"], markeredgewidth=2)[0]  # fmt: skip
        self.lines = [axes.plot([], [], color=COLORS["gray"], linewidth=1.1)[0] for _ in LINE_LOOKS]
        small = {"fontsize": 10, "clip_on": False}
        gray = small | {"color": COLORS["gray"], "bbox": {"fc": "white", "alpha": 0.8, "pad": 0.4, "ec": "none"}}
        self.line_names = [axes.text(0.5, 0, "", ha="center", va="bottom", **gray) for _ in LINE_LOOKS]
        self.x_ticks = [axes.text(x, -0.03, "", ha="center", va="top", **small) for x in axes.get_xticks()]
        self.y_ticks = [axes.text(-0.012, y, "", ha="right", va="center", **small) for y in axes.get_yticks()]
        self.label = axes.text(0.5, -0.14, "", ha="center", va="top", fontsize=11.5)
        self.names = [axes.text(0, 0, "", ha="center", va="bottom", **small) for _ in range(2)]
        for family, look in FAMILY_LOOKS.items():
            axes.plot([], [], linestyle="none", **look, label=family)
        axes.set_title(" ", pad=11)  # keeps the legend's room, at once; the legend itself would take two passes
        legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, columnspacing=1.2, handletextpad=0.1)
        legend.set_in_layout(False)
        self.moving = [self.beyond, *self.lines, self.front, self.bars, *self.points, self.ring,
                       *self.x_ticks, *self.y_ticks, self.label, *self.names, *self.line_names]  # fmt: skip
        for artist in self.moving:
            artist.set_in_layout(False)  # the axes stay where they are, whatever is written

    def show(self, reading: FrontReading) -> None:
        """Draw this comparison under this budget."""
        board, prices = reading.board, reading.prices
        low, high = math.log(min(prices.values())), math.log(max(prices.values()))
        span = (high - low) or 1.0

        def x(price: float) -> float:
            return 0.04 + 0.86 * (math.log(price) - low) / span

        values = [v for one in board.results.values() for v in (one.low, one.high) if math.isfinite(v)]
        values += [one.score for one in board.results.values()] + list(board.lines.values())
        bottom, top = min(values), max(values)
        room = (top - bottom) or 0.1
        bottom, top = round_range(bottom - 0.06 * room, top + 0.12 * room)

        def y(value: float) -> float:
            return (value - bottom) / (top - bottom)

        edge = x(reading.budget) + 0.012
        self.beyond.set_bounds(edge, 0, max(0.0, 1 - edge), 1)
        segments, colors = [], []
        for point, one in zip(self.points, [*board.results.values(), *[None] * len(self.points)], strict=False):
            if one is None:
                point.set_data([], [])
                continue
            look, inside = FAMILY_LOOKS[one.method.card.family], one in reading.inside
            point.set_data([x(prices[one.label])], [y(one.score)])
            point.set_marker(look["marker"])
            color = look["color"] if inside else "#bbbbbb"
            point.set_color(color)
            if math.isfinite(one.low):
                segments.append([(x(prices[one.label]), y(one.low)), (x(prices[one.label]), y(one.high))])
                colors.append(color)
        self.bars.set_segments(segments)
        self.bars.set_color(colors or ["none"])
        self._show_lines(board, y, freest([x(price) for price in prices.values()]))
        kept = list(reading.inside)
        order = comparison.pareto_front([prices[one.label] for one in kept], [one.score for one in kept])
        front = [kept[i] for i in order]
        xs, ys = [x(prices[one.label]) for one in front], [y(one.score) for one in front]
        self.front.set_data([*xs, edge], [*ys, ys[-1]] if ys else [0])
        best = reading.best
        self.ring.set_data([x(prices[best.label])], [y(best.score)])
        self._name(self.names[0], best, x(prices[best.label]), y(best.high if math.isfinite(best.high) else best.score))
        dearest = max(board.results.values(), key=lambda one: prices[one.label])
        far = dearest is not best
        self.names[1].set_text("")
        if far:
            height = y(dearest.high if math.isfinite(dearest.high) else dearest.score)
            self._name(self.names[1], dearest, x(prices[dearest.label]), height)
        for text, place in zip(self.x_ticks, np.linspace(0, 1, TICKS), strict=True):
            price = float(f"{math.exp(low + place * span):.2g}")
            text.set_text(short(price) if high > low or place == 0 else "")
        for text, place in zip(self.y_ticks, np.linspace(0, 1, TICKS), strict=True):
            text.set_text(score(bottom + place * (top - bottom), board.metric))
        self.label.set_text(f"{comparison.COSTS[reading.what]}  ·  {board.task}, {board.labels:,} labels")
        self.figure.alt = (
            f"{board.metric} over {comparison.COSTS[reading.what]}. " + describe_front(reading).as_text()
        ).replace("\n", "; ")

    def _show_lines(self, board: Board, y: Any, free: float) -> None:
        for (name, dash), line, text in zip(LINE_LOOKS.items(), self.lines, self.line_names, strict=True):
            there = name in board.lines
            line.set_data([0, 1] if there else [], [y(board.lines[name])] * 2 if there else [])
            line.set_linestyle(dash)
            text.set_text(name if there else "")
            if there:
                text.set_position((free, y(board.lines[name]) + 0.005))

    @staticmethod
    def _name(text: Any, one: Result, x: float, y: float) -> None:
        text.set_text(one.name)
        text.set_position((min(max(x, 0.07), 0.86), min(y + 0.015, 0.96)))
        text.set_color(ink(FAMILY_LOOKS[one.method.card.family]["color"]))


def describe_front(reading: FrontReading) -> Readout:
    """The best within the budget, what can't be told from it, and the table of what fits."""
    board, best = reading.board, reading.best
    unit = {"trained": "", "memory": " MB", "stored": " MB", "seconds": " s"}[reading.what]
    outside = len(board.results) - len(reading.inside)
    summary = (
        f"{board.task} with {board.labels:,} labels, budget {short(reading.budget)}{unit} "
        f"({comparison.COSTS[reading.what]}): {len(reading.inside)} of {len(board.results)} methods fit. Highest mean: "
        f"{best.name}, {board.metric} {score(best.score, board.metric)}. "
    )
    if reading.blind:
        summary += "The test labels are not here, so which of the others are behind can't be said. "
    elif reading.tied:
        cheapest = reading.tied[0] if reading.prices[reading.tied[0].label] < reading.prices[best.label] else best
        summary += f"Not told apart from it: {', '.join(one.name for one in reading.tied[:6])}"
        summary += f" and {len(reading.tied) - 6} more" if len(reading.tied) > 6 else ""
        summary += f"; the cheapest of these is {cheapest.name}. "
    elif len(reading.inside) > 1:
        summary += "All others that fit are shown to be behind. "
    summary += f"{outside} beyond the budget." if outside else ""
    order = sorted(reading.inside, key=lambda one: -one.score)[:6]
    rows = [
        [one.name, score(one.score, board.metric), f"{score(one.low, board.metric)} … {score(one.high, board.metric)}",
         f"{short(reading.prices[one.label])}{unit}", str(len(one.runs))]
        for one in order
    ]  # fmt: skip
    rows += [[name, score(value, board.metric), "", "", ""] for name, value in board.lines.items()]
    return Readout(summary.strip(), ["", board.metric, "95 % interval", "cost", "seeds"], rows)


def front_explorer(folder: str | Path | None = None, backbone: str = "pocket-bert") -> Explorer:
    """Task and labels, a cost, a budget -> the recorded methods within it, their front, and what can't be told apart.

    Args:
        folder: of records; by default those that ship with the course, and yours.
        backbone: whose records.

    Raises:
        ValueError: nothing is recorded with this backbone.
    """
    fronts = Fronts(folder, backbone)
    most = max(len(fronts.board(table).results) for table in fronts.tables)
    places = range(BUDGETS - 1, -1, -1)  # from no limit downward: a key to the right does something at first
    short_names = {"trained": "parameters", "memory": "memory", "stored": "file", "seconds": "seconds"}
    controls = {
        "what": choice("cost", [(short_names[name], name) for name in comparison.COSTS], "trained"),
        "table": tables_to_choose(fronts.tables),
        "place": steps("less budget", [(f"{1 - place / (BUDGETS - 1):.0%}", place) for place in places], BUDGETS - 1),
    }
    return Explorer(
        "front", "Recorded methods under a budget", controls, fronts.read, functools.partial(FrontView, most),
        describe_front,
    )  # fmt: skip


# ---------------------------------------------------------------- is it real?


@dataclass(frozen=True)
class GapReading:
    """One state: two results, their gap, and the intervals that one might have looked at instead.

    Attributes:
        gap: None where it can't be computed; then `trouble` says why.
        intervals: row's name -> (middle, low, high), in the metric's unit.
    """

    board: Board
    a: Result
    b: Result
    gap: comparison.Gap | None
    intervals: Mapping[str, tuple[float, float, float]]
    trouble: str = ""


ROWS_OF_GAPS = ("paired", "unpaired", "seeds alone")


class Gaps:
    """Any two results of one recorded comparison, kept once they are computed."""

    def __init__(self, fronts: Fronts):
        self.fronts, self.read = fronts, functools.lru_cache(maxsize=256)(self._read)

    def names(self, table: tuple[str, int]) -> list[str]:
        """What can be compared: methods, the dearest first, and the recorded baselines."""
        board = self.fronts.board(table)
        return [*reversed(board.results), *board.baselines]

    def _read(self, table: tuple[str, int], first: str, second: str) -> GapReading:
        board, names = self.fronts.board(table), self.names(table)
        first = first if first in names else names[0]
        second = second if second in names else names[-1]
        every = {**board.results, **board.baselines}
        a, b = every[first], every[second]
        difference = a.score - b.score
        spread = _error_of_means(a, b)
        intervals = {"seeds alone": (difference, difference - spread, difference + spread)}
        try:
            gap = board.gap(a, b)
        except ValueError as error:
            return GapReading(board, a, b, None, intervals, str(error))
        found = gap.interval
        half = math.hypot((a.high - a.low) / 2, (b.high - b.low) / 2)
        middle = found.difference
        intervals = {
            "paired": (middle, found.low, found.high),
            "unpaired": (middle, middle - half, middle + half),
        } | intervals
        return GapReading(board, a, b, gap, intervals)


def _error_of_means(a: Result, b: Result) -> float:
    """Two standard errors of the difference of two means over seeds: what says nothing about other test items."""
    parts = [one.spread**2 / len(one.runs) if len(one.runs) > 1 else 0.0 for one in (a, b)]
    return 2 * math.sqrt(sum(parts))


class GapView:
    """Three intervals of the same difference, and the line at 0."""

    @styled
    def __init__(self) -> None:
        self.figure, (axes,) = panels(width=WIDTH, height=HEIGHT)
        axes.set(xlim=(-1.08, 1.08), ylim=(2.6, -0.6), title=" ")
        axes.set_yticks(range(3), ROWS_OF_GAPS)
        axes.set_xticks(np.linspace(-1, 1, TICKS), [""] * TICKS)
        axes.set_xlabel(" \n ")
        axes.axvline(0, color=COLORS["black"], linewidth=1)
        self.bars = [axes.plot([], [], linewidth=4, color=look["color"])[0] for look in LINES[:3]]
        self.middles = [axes.plot([], [], marker="o", markersize=9, color=look["color"])[0] for look in LINES[:3]]
        self.ticks = [axes.text(x, 2.68, "", ha="center", va="top", fontsize=10, clip_on=False)
                      for x in axes.get_xticks()]  # fmt: skip
        self.label = axes.text(0, 3.02, "", ha="center", va="top", fontsize=11.5, clip_on=False)
        self.title = axes.text(-1.08, -0.7, "", ha="left", va="bottom", fontweight="bold", clip_on=False)
        self.moving = [*self.bars, *self.middles, *self.ticks, self.label, self.title]
        for artist in self.moving:
            artist.set_in_layout(False)  # the axes stay where they are, whatever is written

    def show(self, reading: GapReading) -> None:
        """Draw the intervals on a scale that holds them all."""
        ends = [abs(v) for row in reading.intervals.values() for v in row if math.isfinite(v)]
        scale = round_up(1.1 * max([*ends, 0.01]), (1, 2, 4, 6, 8, 10))
        for row, name in enumerate(ROWS_OF_GAPS):
            middle, low, high = reading.intervals.get(name, (math.nan,) * 3)
            self.bars[row].set_data([low / scale, high / scale], [row, row])
            self.bars[row].set_linestyle("-" if low > 0 or high < 0 else (0, (1.2, 0.8)))
            self.middles[row].set_data([middle / scale], [row])
        percent = reading.board.metric in ("accuracy", "f1", "matthews", "spearman")
        for text, place in zip(self.ticks, np.linspace(-1, 1, TICKS), strict=True):
            text.set_text(f"{place * scale * (100 if percent else 1):+g}".replace("-", "−") if place else "0")
        self.label.set_text(f"{reading.a.name} − {reading.b.name}, points of {reading.board.metric}")
        self.title.set_text(f"{reading.board.task}, {reading.board.labels:,} labels; dashed: holds 0")
        self.figure.alt = "Is the difference real? " + describe_gap(reading).as_text().replace("\n", "; ")


def describe_gap(reading: GapReading) -> Readout:
    """The verdict, and the three intervals in figures."""
    board = reading.board
    summary = reading.gap.verdict() if reading.gap else f"{reading.trouble}."
    if reading.a is reading.b:
        summary = "Choose two different results."
    if reading.gap and reading.gap.disagreement is not None and reading.a is not reading.b:
        summary += f" On {reading.gap.disagreement:.1%} of the items exactly one of two runs is right."
    rows = []
    for name in ROWS_OF_GAPS:
        if name in reading.intervals:
            middle, low, high = (f"{100 * v:+.1f}".replace("-", "−") for v in reading.intervals[name])
            real = reading.intervals[name][1] > 0 or reading.intervals[name][2] < 0
            rows.append([name, middle, low, high, "leaves out 0" if real else "holds 0"])
    for one in (reading.a, reading.b):
        rows.append([one.name, score(one.score, board.metric), score(one.low, board.metric),
                     score(one.high, board.metric), f"{len(one.runs)} seeds"])  # fmt: skip
    return Readout(summary, ["", "", "from", "to", ""], rows)


def gap_explorer(folder: str | Path | None = None, backbone: str = "pocket-bert") -> Explorer:
    """Task and labels, two results -> is their difference real? Beside the paired interval, two that mislead.

    Raises:
        ValueError: nothing is recorded with this backbone.
    """
    gaps = Gaps(Fronts(folder, backbone))
    table = tables_to_choose(gaps.fronts.tables)
    first, second = (steps(name, ["none"], "none") for name in ("first", "second"))

    def refill(_: Any = None) -> None:
        names, found = gaps.names(table.value), gaps.fronts.board(table.value)
        every = {**found.results, **found.baselines}
        for control, place in ((first, 0), (second, min(1, len(names) - 1))):
            control.options = [(every[name].name, name) for name in names]
            control.index = place

    refill()
    table.observe(refill, "value")  # before the explorer's own: what can be chosen comes first
    controls = {"table": table, "first": first, "second": second}
    return Explorer("gap", "Is it real?", controls, gaps.read, GapView, describe_gap)


# ---------------------------------------------------------------- which method for me?

NO_LIMIT = 0  # a slider's option can't be None
GIGABYTES = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 24, 40, 80)


def advice_panel(folder: str | Path | None = None) -> W.VBox:
    """Backbone, memory, disk, tasks, labels, latency -> what fits, in the order that the records support."""
    sizes = [(f"{n:g} GB", int(n * 1e9)) for n in GIGABYTES] + [("no limit", NO_LIMIT)]
    controls = {
        "backbone": pick("backbone", calculator.available(), "BERT-base"),
        "memory": steps("memory", sizes, int(4e9)),
        "storage": steps("disk", sizes, int(1e9)),
        "tasks": steps("tasks", [(str(n), n) for n in TASKS], 9),
        "labels": steps("labels", [(f"{n:,}", n) for n in (50, 100, 200, 500, 1000, 2000, 5000)], 200),
        "no_latency": choice("inference", [("may cost more", False), ("must not", True)], False),
    }
    answer = W.HTML(layout=W.Layout(width=f"{WIDTH * 100:.0f}px"))

    def refresh(_: Any = None) -> None:
        state = {name: control.value for name, control in controls.items()}
        backbone = state.pop("backbone")
        state |= {name: state[name] or None for name in ("memory", "storage")}
        evidence = comparison.nearest(state["labels"], folder=folder)
        answer.value = advice_html(comparison.advise(backbone, comparison.Budget(**state), evidence))

    for control in controls.values():
        control.observe(refresh, "value")
    refresh()
    rows = W.HBox(list(controls.values()), layout=W.Layout(flex_flow="row wrap", width=f"{WIDTH * 100:.0f}px"))
    made = W.VBox([rows, answer])
    made.add_class("pf-advice")
    return made


def advice_html(advice: comparison.Advice, rows: int = 6) -> str:
    """What fits, with reasons; what does not, with the reason, folded."""
    import html

    head = "No method fits this budget." if not advice.fitting else ""
    if advice.evidence is not None:
        board = advice.evidence
        head += (
            f" Evidence: {board.task} with {board.labels:,} labels on {board.backbone}, {len(board.results)} methods."
        )
    parts = [f'<div role="status" aria-live="polite" style="font-size:14px;line-height:1.5"><p>{html.escape(head)}</p>']
    for place, (one, reasons) in enumerate(advice.fitting[:rows], 1):
        told = f"{accounting.megabytes(one.memory.total)} to train, {accounting.megabytes(one.all_tasks_bytes)} on disk"
        parts.append(f"<p><b>{place}. {html.escape(one.label)}</b> ({told}): {html.escape('; '.join(reasons))}</p>")
    if len(advice.fitting) > rows:
        parts.append(f"<p>… and {len(advice.fitting) - rows} more that fit.</p>")
    if advice.refused:
        listed = "".join(f"<li>{html.escape(one.label)}: {html.escape(why)}</li>" for one, why in advice.refused)
        parts.append(f"<details><summary>{len(advice.refused)} do not fit</summary><ul>{listed}</ul></details>")
    return "".join(parts) + "</div>"


# ---------------------------------------------------------------- all of it


def open_dashboard(folder: str | Path | None = None, backbone: str = "pocket-bert") -> W.VBox:
    """Calculator, recorded results, 'is it real?' and 'which method for me', behind tabs."""
    pages = {
        "Calculator": calculator_explorer(),
        "Recorded results": front_explorer(folder, backbone),
        "Is it real?": gap_explorer(folder, backbone),
        "Which method?": advice_panel(folder),
    }
    tabs = W.Tab(children=list(pages.values()))
    for place, title in enumerate(pages):
        tabs.set_title(place, title)
    made = W.VBox([tabs])
    made.add_class("pf-dashboard")
    return made


def pick(label: str, options: Sequence[Any], value: Any) -> W.Dropdown:
    """A list to choose from, half a row wide."""
    half = {"style": {"description_width": "110px"}, "layout": W.Layout(width="364px", margin="2px 8px 2px 2px")}
    return W.Dropdown(options=list(options), value=value, description=label, **half)


def tables_to_choose(tables: Sequence[tuple[str, int]]) -> W.Dropdown:
    """The recorded comparisons by name, that with most methods first."""
    return pick("records", [(f"{task}, {labels:,} labels", (task, labels)) for task, labels in tables], tables[0])


__all__ = ["advice_panel", "calculator_explorer", "front_explorer", "gap_explorer", "open_dashboard"]

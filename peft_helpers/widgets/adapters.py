"""Explorers of adapters (lesson 08): layers whose adapters are taken out -> score; size and tasks -> parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import ipywidgets as W
import numpy as np
from matplotlib.patches import Rectangle

from peft_helpers import accounting, adapter_runs
from peft_helpers.plots.style import COLORS, LINES, panels, score, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, steps

# ---------------------------------------------------------------- layer spans


@dataclass(frozen=True)
class Spans:
    """What a model scores without the adapters of some neighboring layers, averaged over seeds.

    Attributes:
        scores, losses: (first, last) -> mean over the seeds; layers from 0.
        spreads: (first, last) -> (lowest, highest) score of a seed.
        whole, whole_loss: with all adapters.
        layers: how many there are.
        seeds, metric: of the records.
    """

    scores: dict[tuple[int, int], float]
    losses: dict[tuple[int, int], float]
    spreads: dict[tuple[int, int], tuple[float, float]]
    whole: float
    whole_loss: float
    layers: int
    seeds: int
    metric: str


@dataclass(frozen=True)
class SpanReading:
    """One state of the explorer: the span that is taken out."""

    span: tuple[int, int]
    spans: Spans


def spans_of(found: Iterable[Record]) -> Spans:
    """The recorded experiment `adapter_runs.spans`, all seeds together.

    Raises:
        ValueError: no such records, or one that is missing.
    """
    groups: dict[tuple[int, int] | None, dict[int, Record]] = {}
    for record in found:
        about = record.settings
        if about.get("experiment") == "span":
            span = None if about["first"] is None else (about["first"], about["last"])
            groups.setdefault(span, {})[record.seed] = record
    layers = 1 + max((span[1] for span in groups if span is not None), default=-1)
    wanted = {None, *adapter_runs.all_spans(layers)}
    seeds = {seed for runs in groups.values() for seed in runs}
    lacking = [span for span in wanted if set(groups.get(span, ())) != seeds]
    if lacking or not layers:
        told = "all of them" if not layers else f"without layers {lacking[0]}" if lacking[0] else "the whole model"
        raise ValueError(f"records of layer spans are missing ({told}); {adapter_runs.COMMAND} --only span")

    def mean(span: tuple[int, int] | None, what: str) -> float:
        runs = groups[span].values()
        return float(np.mean([run.score if what == "score" else run.settings["loss"] for run in runs]))

    every = adapter_runs.all_spans(layers)
    spreads = {span: [run.score for run in groups[span].values()] for span in every}
    return Spans(
        {span: mean(span, "score") for span in every},
        {span: mean(span, "loss") for span in every},
        {span: (min(runs), max(runs)) for span, runs in spreads.items()},
        mean(None, "score"),
        mean(None, "loss"),
        layers,
        len(seeds),
        next(iter(groups[None].values())).metric,
    )


class SpanView:
    """Left, the score without each span as a table of colored cells; right, the loss; the chosen span is framed."""

    @styled
    def __init__(self, spans: Spans):
        self.spans, self.frames = spans, []
        self.figure, axes = panels(2, width=WIDTH, height=HEIGHT)
        told = (
            (f"test {spans.metric}", spans.scores, spans.whole, 1),
            ("test loss", spans.losses, spans.whole_loss, -1),
        )
        for panel, (name, values, whole, sign) in zip(axes, told, strict=True):
            table = np.full((spans.layers, spans.layers), np.nan)
            for (first, last), value in values.items():
                table[first, last] = sign * (value - whole)
            low = min(float(np.nanmin(table)), -0.03)  # differences that chance makes stay pale
            panel.imshow(table, cmap="YlOrBr_r", vmin=1.6 * low, vmax=0, aspect="auto", origin="upper")
            for (first, last), value in values.items():
                text = f"{100 * value:.1f}" if name.endswith(("accuracy", "f1")) else f"{value:.3f}"
                dark = table[first, last] < 1.0 * low
                panel.text(last, first, text, ha="center", va="center", color="white" if dark else "black")
            shown = score(whole, spans.metric) if sign == 1 else f"{whole:.3f}"
            panel.set(title=f"{name}; whole model {shown}", xlabel="last layer without adapters")
            panel.set_xticks(range(spans.layers), range(1, spans.layers + 1))
            panel.set_yticks(range(spans.layers), range(1, spans.layers + 1))
            panel.grid(visible=False)
            frame = Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor=COLORS["blue"], linewidth=3.5)
            panel.add_patch(frame)
            self.frames.append(frame)
        axes[0].set_ylabel("first layer")
        self.moving = self.frames

    def show(self, reading: SpanReading) -> None:
        """Frame the chosen span."""
        first, last = reading.span
        for frame in self.frames:
            frame.set_xy((last - 0.5, first - 0.5))
        self.figure.alt = (
            f"Test {self.spans.metric} and loss without the adapters of every span of neighboring layers, nothing "
            f"trained again. {describe_span(reading).as_text()}".replace("\n", "; ")
        )


def describe_span(reading: SpanReading) -> Readout:
    """The chosen span against the whole model, and all spans of that length."""
    spans, (first, last) = reading.spans, reading.span
    value, (low, high) = spans.scores[first, last], spans.spreads[first, last]
    which = f"layer {first + 1}" if first == last else f"layers {first + 1} to {last + 1}"
    percent = spans.metric in ("accuracy", "f1")
    change = 100 * (value - spans.whole) if percent else value - spans.whole
    told = f"{change:+.1f} points" if percent else f"{change:+.3f}"
    if spans.seeds > 1:
        told += f"; seeds from {score(low, spans.metric)} to {score(high, spans.metric)}"
    summary = (
        f"Without the adapters of {which}, of {spans.layers} layers: {spans.metric} {score(value, spans.metric)} "
        f"({told}), loss "
        f"{spans.losses[first, last]:.3f} (whole model {score(spans.whole, spans.metric)}, {spans.whole_loss:.3f})."
    ).replace("-", "−")
    same = [(a, b) for a, b in spans.scores if b - a == last - first]
    rows = [
        [f"{a + 1}" if a == b else f"{a + 1} to {b + 1}", score(spans.scores[a, b], spans.metric),
         f"{spans.losses[a, b]:.3f}"]
        for a, b in same
    ]  # fmt: skip
    return Readout(summary, ["layers without", spans.metric, "loss"], rows)


def span_explorer(found: Iterable[Record] | None = None, backbone: str = "pocket-bert") -> Explorer:
    """First and last layer whose adapters are taken out -> score and loss of the recorded models.

    Args:
        found: records of `adapter_runs.spans`; by default those that ship with the course.
        backbone: whose shipped records.

    Raises:
        ValueError: no such records, or a span that is missing.
    """
    spans = spans_of(adapter_runs.recorded("span", backbone) if found is None else found)
    layers = W.SelectionRangeSlider(
        options=[(str(layer + 1), layer) for layer in range(spans.layers)],
        index=(0, min(1, spans.layers - 1)),  # both handles can move: they can't pass each other
        description="layers without",
        continuous_update=True,
        style={"description_width": "110px"},
        layout=W.Layout(width="364px", margin="2px 8px 2px 2px"),
    )
    return Explorer(
        "span", "Explorer of layer spans", {"span": layers},
        lambda span: SpanReading(tuple(span), spans), partial(SpanView, spans), describe_span,
    )  # fmt: skip


# ---------------------------------------------------------------- size and tasks

MODELS: Mapping[str, tuple[int, ...]] = {  # vocabulary, D, L, I, positions
    "pocket-bert": (8192, 256, 4, 1024, 128),
    "BERT-base": (30_522, 768, 12, 3072, 512),
    "BERT-large": (30_522, 1024, 24, 4096, 512),
}
BOTTLENECKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MOST_TASKS, CLASSES = 50, 2


@dataclass(frozen=True)
class SizeReading:
    """One state: a model's shape, the bottleneck, the number of tasks; counts of parameters."""

    model: str
    bottleneck: int
    tasks: int

    @property
    def base(self) -> int:
        """The pretrained model."""
        vocabulary, width, layers, inner, positions = MODELS[self.model]
        return accounting.bert_parameters(vocabulary, width, layers, inner, positions)

    @property
    def head(self) -> int:
        return CLASSES * MODELS[self.model][1] + CLASSES

    @property
    def one_adapter(self) -> int:
        return accounting.adapter_parameters(MODELS[self.model][1], self.bottleneck)

    @property
    def per_task(self) -> int:
        """Two adapters a layer, all layer norms, the head."""
        _, width, layers, _, _ = MODELS[self.model]
        return accounting.houlsby_parameters(width, layers, self.bottleneck) + self.head

    def totals(self, tasks: int) -> dict[str, int]:
        """All that has to be kept for so many tasks, in parameters."""
        return {"full fine-tuning": tasks * (self.base + self.head), "adapters": self.base + tasks * self.per_task}


class SizeView:
    """Parameters in multiples of the pretrained model over the number of tasks, copies against adapters."""

    @styled
    def __init__(self) -> None:
        self.figure, (axes,) = panels(width=WIDTH, height=HEIGHT)
        self.lines, self.marks = {}, {}
        for name, look in zip(("full fine-tuning", "adapters"), LINES, strict=False):
            look = {**look, "marker": None}
            self.lines[name] = axes.plot([], [], **look, label=name)[0]
            self.marks[name] = axes.plot([], [], marker="o", markersize=11, markerfacecolor="none", markeredgewidth=2,
                                         linestyle="none", color=look["color"])[0]  # fmt: skip
        axes.set(yscale="log", xlim=(0, MOST_TASKS + 1), ylim=(0.9, 70), xlabel="tasks",
                 ylabel="kept, × the pretrained model")  # fmt: skip
        axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        axes.minorticks_off()
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
        self.title = axes.text(1.0, 1.03, "", transform=axes.transAxes, ha="right", va="bottom", fontweight="bold")
        self.moving = [*self.lines.values(), *self.marks.values(), self.title]

    def show(self, reading: SizeReading) -> None:
        """Draw both lines for this model and size."""
        tasks = range(1, MOST_TASKS + 1)
        for name, line in self.lines.items():
            line.set_data(list(tasks), [reading.totals(n)[name] / reading.base for n in tasks])
            self.marks[name].set_data([reading.tasks], [reading.totals(reading.tasks)[name] / reading.base])
        self.title.set_text(f"{reading.model}, m = {reading.bottleneck}")
        self.figure.alt = (
            "Parameters kept over the number of tasks, in multiples of the pretrained model. "
            + describe_size(reading).as_text().replace("\n", "; ")
        )


def describe_size(reading: SizeReading) -> Readout:
    """Parameters and float32 megabytes, a task and for all tasks."""
    width = MODELS[reading.model][1]
    summary = (
        f"{reading.model}, m = {reading.bottleneck} (m/D = {reading.bottleneck / width:.3g}): an adapter has "
        f"{reading.one_adapter:,} parameters, a task {reading.per_task:,} with norms and head, "
        f"{reading.per_task / reading.base:.2%} of the model's {reading.base:,}."
    )
    rows = []
    for name, total in reading.totals(reading.tasks).items():
        each = reading.per_task if name == "adapters" else reading.base + reading.head
        rows.append([name, accounting.megabytes(4 * each), accounting.megabytes(4 * total), f"{total:,}",
                     f"{total / reading.base:.2f}"])  # fmt: skip
    return Readout(summary, [f"{reading.tasks} tasks", "a task", "all tasks", "parameters", "× model"], rows)


def size_explorer() -> Explorer:
    """A BERT's shape, the adapters' bottleneck and the number of tasks -> parameters and storage, from the formulas."""
    controls = {
        "model": choice("model", [(name, name) for name in MODELS], "BERT-large"),
        "bottleneck": steps("bottleneck m", [(str(m), m) for m in BOTTLENECKS], 64),
        "tasks": steps("tasks", [(str(n), n) for n in range(1, MOST_TASKS + 1)], 9),
    }
    return Explorer("size", "Explorer of adapter sizes", controls, SizeReading, SizeView, describe_size)


__all__ = ["MODELS", "SizeReading", "Spans", "size_explorer", "span_explorer", "spans_of"]

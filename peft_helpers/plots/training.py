"""Figures of training runs and of their comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from peft_helpers.plots.style import (
    COLORS,
    LINES,
    as_numbers,
    label_ends,
    number,
    panels,
    percent_axis,
    require_items,
    require_lines,
    score,
    sentence,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from peft_helpers.records import Record

NO_METRIC = {"step", "epoch", "split", "loss", "learning_rate", "seconds", "gradient_norm"}
BASELINE_LINES = ((0, (1, 1.3)), (0, (6, 2, 1.2, 2)), (0, (5, 2)))


@styled
def training_curve(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> Figure:
    """Loss on train and dev beside the metric on dev, over the steps.

    Args:
        history: the rows of `Run.history`: step, split ("train" or "dev"), loss, and the metric in the dev rows.
        metric: the metric's key; by default the one that the dev rows have.

    Raises:
        ValueError: if there are no rows, no dev rows, or no such metric.
    """
    require_items("history", history)
    train, dev = ([row for row in history if row["split"] == split] for split in ("train", "dev"))
    require_items("the history's dev rows", dev)
    metrics = [key for key, value in dev[0].items() if key not in NO_METRIC and isinstance(value, int | float)]
    metric = metric or next(iter(metrics), None)
    if metric not in metrics:
        raise ValueError(f"the dev rows have no metric {metric!r}; they have {', '.join(metrics) or 'none'}")
    figure, (left, right) = panels(2)
    steps, losses, scores = ([row[key] for row in dev] for key in ("step", "loss", metric))
    if train:
        x, y = [row["step"] for row in train], np.array([row["loss"] for row in train])
        left.plot(x, y, color=COLORS["blue"], alpha=0.25, linewidth=1)
        left.plot(x, _running_mean(y, max(1, len(y) // 15)), color=COLORS["blue"], label="train (batches, smoothed)")
    left.plot(steps, losses, color=COLORS["orange"], linestyle="--", marker="s", label="dev")
    left.set(xlabel="step", ylabel="loss (nats)" if metric != "spearman" else "loss (MSE)")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, borderaxespad=0.2)
    right.plot(steps, scores, color=COLORS["orange"], linestyle="--", marker="s")
    best = int(np.nanargmax(scores))
    right.plot(steps[best], scores[best], marker="o", markersize=13, markerfacecolor="none", color=COLORS["black"])
    right.set(xlabel="step", ylabel=f"dev {metric}", title=f"best {score(scores[best], metric)} at step {steps[best]}")
    right.margins(y=0.15)
    percent_axis(right.yaxis, metric)
    first = f"Training loss {number(train[0]['loss'])} to {number(train[-1]['loss'])}" if train else ""
    figure.alt = sentence(
        [
            first,
            f"dev loss {number(losses[0])} at step {steps[0]} to {number(losses[-1])} at step {steps[-1]}",
            f"dev {metric} {score(scores[0], metric)} to {score(scores[-1], metric)}, "
            f"best {score(scores[best], metric)} at step {steps[best]}",
        ]
    )
    return figure


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each place (fewer at the start)."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


@styled
def label_efficiency(
    curves: Mapping[str, Mapping[int, Any]],
    baselines: Mapping[str, float | Mapping[int, float]] | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Score against the number of labels, one line a way to start, the range over seeds as bars; baselines in gray.

    Args:
        curves: name -> {number of labels: one score or scores by seed}, in natural units (accuracy 0.87).
        baselines: name -> one score, or {number of labels: score}.
        metric: names the y axis.

    Raises:
        ValueError: if there is no curve or one has no points.
    """
    require_lines("curves", curves)
    figure, (axes,) = panels(height=3.6)
    ends, told, counts = [], [], set()
    for i, ((name, points), line) in enumerate(zip(curves.items(), LINES, strict=False)):
        require_items(f"curve {name!r}", points)
        labels = sorted(points)
        runs = [as_numbers(f"curve {name!r} at {n} labels", np.atleast_1d(points[n])) for n in labels]
        means = [run.mean() for run in runs]
        spread = [[m - run.min() for m, run in zip(means, runs, strict=True)],
                  [run.max() - m for m, run in zip(means, runs, strict=True)]]  # fmt: skip
        axes.errorbar([n * 1.02**i for n in labels], means, yerr=spread, **line, capsize=3, elinewidth=1.3)
        ends.append((labels[-1], means[-1], f"{name} {score(means[-1], metric)}", line["color"]))
        told.append(
            name + ": " + ", ".join(f"{score(m, metric)} at {n:,} labels" for n, m in zip(labels, means, strict=True))
        )
        counts.update(labels)
    ticks = sorted(counts)
    for (name, value), dash in zip((baselines or {}).items(), BASELINE_LINES * 3, strict=False):
        at = {n: v for n, v in value.items()} if isinstance(value, Mapping) else dict.fromkeys(ticks, value)
        require_items(f"baseline {name!r}", at)
        places = sorted(at)
        axes.plot(places, [at[n] for n in places], color=COLORS["gray"], linestyle=dash, linewidth=1.6)
        ends.append((places[-1], at[places[-1]], f"{name} {score(at[places[-1]], metric)}", "#5c5c5c"))
        told.append(f"{name}: {score(at[places[-1]], metric)}")
    axes.set(xscale="log", xlabel="labeled examples (log scale)", ylabel=f"test {metric}")
    axes.set_xlim(ticks[0] / 1.08, ticks[-1] * 1.08 if len(ticks) > 1 else ticks[-1] * 1.5)
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes.yaxis, metric)
    most = ticks[-1]  # a line that ends before says where
    label_ends(axes, [(y, text if n == most else f"{text} at {n:,}", color) for n, y, text, color in ends])
    figure.alt = f"Test {metric} by number of labels. " + sentence(told)
    return figure


@styled
def compare(
    rows: Sequence[Mapping[str, Any] | Record],
    metric: str | None = None,
    baselines: Mapping[str, float] | None = None,
    interval: str = "95 % interval",
) -> Figure:
    """One row a method: a dot for its score, a bar for its interval, small dots for its seeds; baselines as lines.

    Args:
        rows: {"name", "score", and if known "low", "high", "seeds": scores by seed}; or records, which are grouped by
            method and number of labels, with a bar for the range over seeds.
        metric: names the axis; records know theirs.
        baselines: name -> score, drawn as vertical lines.
        interval: what the bars mean, said on the axis.

    Raises:
        ValueError: if there are no rows, a row lacks a name or score, or the records have different metrics.
    """
    require_items("rows", rows)
    if not isinstance(rows[0], Mapping):
        rows, metric = _rows_of_records(rows)
        interval = "range over seeds"
    metric = metric or "accuracy"
    figure, (axes,) = panels(height=1.35 + 0.42 * len(rows))
    told = []
    for place, row in enumerate(reversed(rows)):
        if "name" not in row or "score" not in row:
            raise ValueError(f"a row needs a name and a score; got {sorted(row)}")
        low, high, line = row.get("low"), row.get("high"), LINES[0]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=line["color"], linewidth=2, solid_capstyle="butt")
            axes.plot([low, high], [place, place], color=line["color"], marker="|", markersize=10, linestyle="none")
        seeds = list(row.get("seeds", []))
        if len(seeds) > 1:
            axes.plot(
                seeds, [place - 0.24] * len(seeds), color=COLORS["gray"], marker="o", markersize=3.5, linestyle="none"
            )
        axes.plot(row["score"], place, color=line["color"], marker="o", markersize=8, linestyle="none")
        bar = (
            f" ({interval} {score(low, metric)} to {score(high, metric)})"
            if low is not None and high is not None
            else ""
        )
        told.insert(0, f"{row['name']} {score(row['score'], metric)}{bar}")
    for (name, value), dash in zip((baselines or {}).items(), BASELINE_LINES * 3, strict=False):
        axes.axvline(value, color=COLORS["gray"], linestyle=dash, linewidth=1.6, label=f"{name} {score(value, metric)}")
        told.append(f"{name} {score(value, metric)}")
    if baselines:
        _legend_above(axes)
    has_bars = any(row.get("low") is not None for row in rows)
    axes.set_yticks(range(len(rows)), [str(row["name"]) for row in reversed(rows)])
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel=f"test {metric}" + (f" (bar: {interval})" if has_bars else ""))
    axes.margins(x=0.08)
    axes.grid(axis="y", visible=False)
    percent_axis(axes.xaxis, metric)
    figure.alt = f"Test {metric}: " + sentence(told)
    return figure


def _rows_of_records(records: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """Records grouped by method and labels, in the order in which they come."""
    metrics = sorted({record.metric for record in records})
    if len(metrics) > 1:
        raise ValueError(f"the records have different metrics, {', '.join(metrics)}: compare them one metric at a time")
    groups: dict[tuple[str, int], list[float]] = {}
    for record in records:
        groups.setdefault((record.method, record.labels), []).append(record.score)
    several = len({labels for _, labels in groups}) > 1
    rows = []
    for (method, labels), scores in groups.items():
        bar = {"low": min(scores), "high": max(scores), "seeds": scores} if len(scores) > 1 else {}
        name = f"{method}, {labels:,} labels" if several else method
        rows.append({"name": name, "score": float(np.mean(scores))} | bar)
    return rows, metrics[0]


@styled
def learning_rate_sweep(sweeps: Mapping[str, Mapping[float, Any]], metric: str = "accuracy") -> Figure:
    """The score over the learning rate (log scale), one line a method, the best rate of each marked.

    Args:
        sweeps: name -> {learning rate: one score or scores by seed}; NaN stands for a run that diverged.
        metric: names the y axis.

    Raises:
        ValueError: if there is nothing to draw, a rate is not positive, or every run of a line diverged.
    """
    require_lines("sweeps", sweeps)
    figure, (axes,) = panels()
    told, rates = [], set()
    for (name, points), line in zip(sweeps.items(), LINES, strict=False):
        require_items(f"sweep {name!r}", points)
        at = np.array(sorted(points))
        if not (at > 0).all():
            raise ValueError(f"learning rates must be positive; {name!r} has {at.min():g}")
        runs = [as_numbers(f"sweep {name!r} at {rate:g}", np.atleast_1d(points[rate])) for rate in sorted(points)]
        means = np.array([run.mean() for run in runs])
        if not np.isfinite(means).any():
            raise ValueError(f"every run of {name!r} diverged: there is no best rate")
        spread = np.array([[m - run.min(), run.max() - m] for m, run in zip(means, runs, strict=True)]).T
        axes.errorbar(at, means, yerr=spread, **line, capsize=3, elinewidth=1.3, label=name)
        best = int(np.nanargmax(means))
        axes.plot(at[best], means[best], marker="o", markersize=14, markerfacecolor="none", color=COLORS["black"])
        told.append(f"{name}: best {score(means[best], metric)} at {at[best]:g}, "
                    f"{score(means[0], metric)} at {at[0]:g}, {score(means[-1], metric)} at {at[-1]:g}")  # fmt: skip
        rates.update(at)
    axes.set(xscale="log", xlabel="learning rate (log scale)", ylabel=f"dev {metric}")
    low, high = min(rates), max(rates)
    axes.set_xlim(low / 1.25, high * 1.25)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.15)
    percent_axis(axes.yaxis, metric)
    _legend_above(axes)
    figure.alt = f"Dev {metric} over the learning rate. " + sentence(told)
    return figure


def _legend_above(axes: Axes) -> None:
    """Where it covers no data."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=2.6, columnspacing=1.2
    )


@styled
def broken_runs(
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]], xlabel: str = "step", same_scales: bool = False
) -> Figure:
    """Small multiples of runs to diagnose: one column a run, its quantities below each other.

    Args:
        runs: "03-a" -> {"loss": {"train": (T,), "dev": …}, "accuracy": …}; a line is (T,) values at steps 0, 1 …, or a
            tuple (steps, values). At most 4 runs. A quantity that spans a factor of 100 gets a log scale.
        xlabel: what is counted along the x axis.
        same_scales: one y axis for all panels of a row, so that the runs can be compared by eye; on a log scale if one
            of them needs it and none has values of 0 or below.

    Raises:
        ValueError: if there are no runs, more than 4, a run without lines or without one finite value, or with
            `same_scales` runs that have not the same quantities.
    """
    require_items("runs", runs)
    if len(runs) > 4:
        raise ValueError(f"broken_runs draws at most 4 runs side by side; got {len(runs)}")
    if same_scales and len({tuple(run) for run in runs.values()}) > 1:
        told = "; ".join(f"{name}: {', '.join(run)}" for name, run in runs.items())
        raise ValueError(f"same_scales wants the same quantities in every run, in one order; got {told}")
    for name, run in runs.items():
        require_items(f"run {name!r}", run)
        for quantity, lines in run.items():
            require_items(f"{quantity} of run {name!r}", lines)
    labels = dict.fromkeys(label for run in runs.values() for lines in run.values() for label in lines)
    require_lines("the runs' labels", labels)
    styles = dict(zip(labels, LINES, strict=False))  # the same line means the same everywhere in the figure
    rows = max(len(run) for run in runs.values())
    width = max(4.2, 2.65 * len(runs))
    one_row = sum(len(label) + 8 for label in labels) * 0.09 < width  # a letter is about 0.09 inches wide
    columns = len(labels) if one_row else max(1, int(width / 0.09 / (max(map(len, labels)) + 8)))
    more = 0.26 * (math.ceil(len(labels) / columns) - 1)  # the legend takes no height from the panels
    figure, cells = panels(len(runs), rows, width=width, height=0.7 + 2.2 * rows + more)
    told = []
    for column, (name, run) in enumerate(runs.items()):
        for axes in cells[column + len(run) * len(runs) :: len(runs)]:
            axes.set_visible(False)
        for axes, (quantity, lines) in zip(cells[column :: len(runs)], run.items(), strict=False):
            told += _draw_run(axes, name, quantity, lines, styles)
            axes.set(xlabel=xlabel, ylabel=quantity)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        cells[column].set_title(f"run {name}")
    if same_scales:
        for row in range(rows):
            _share_scale(cells[row * len(runs) : (row + 1) * len(runs)])
    handles = {label: line for axes in cells for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(handles) > 1:
        figure.legend(handles.values(), handles, loc="outside upper right", ncols=columns, handlelength=2.2)
    figure.alt = sentence(told)
    return figure


def _share_scale(row: Sequence[Axes]) -> None:
    """One y scale and one range for these panels."""
    positive = all(min(line.get_ydata()) > 0 for axes in row for line in axes.get_lines())
    if any(axes.get_yscale() == "log" for axes in row):
        for axes in row:
            axes.set_yscale("log" if positive else "linear")
    low, high = zip(*(axes.get_ylim() for axes in row), strict=True)
    for axes in row:
        axes.set_ylim(min(low), max(high))


def _draw_run(axes: Axes, name: str, quantity: str, lines: Mapping[str, Any], styles: Mapping[str, dict]) -> list[str]:
    """The lines of one run in one panel; returns what they show, in words."""
    told, sizes = [], []  # what to say; every finite value
    for label, values in lines.items():
        line = styles[label]
        what = f"{quantity} ({label}) of run {name!r}"
        if isinstance(values, tuple):
            x, y = (as_numbers(what, part) for part in values)
        else:
            y = as_numbers(what, values)
            x = np.arange(len(y))
        if len(x) != len(y):
            raise ValueError(f"{what} must have as many steps as values; got {len(x)} steps, {len(y)} values")
        finite = np.isfinite(y)
        if not finite.any():
            raise ValueError(f"{what} has not one finite value")
        few = {"marker": line["marker"], "markersize": 4} if len(y) <= 15 else {}
        axes.plot(
            x[finite], y[finite], color=line["color"], linestyle=line["linestyle"], label=label, linewidth=1.7, **few
        )
        end = number(y[finite][-1])
        if not finite.all():
            lost = int(np.argmin(finite))
            last = max(lost - 1, 0)
            axes.plot(
                x[last],
                y[last],
                marker="x",
                color=COLORS["black"],
                markersize=10,
                markeredgewidth=2.2,
                linestyle="none",
            )
            axes.annotate("NaN", (x[last], y[last]), xytext=(7, -3), textcoords="offset points")
            end = f"{number(y[last])}, then NaN from step {number(x[lost])}"
        sizes += list(y[finite])
        told.append(f"run {name}, {quantity} ({label}): {number(y[0])} to {end}, lowest {number(y[finite].min())}, "
                    f"highest {number(y[finite].max())}")  # fmt: skip
    if quantity != "accuracy" and 0 < 100 * min(sizes) < max(sizes):
        axes.set_yscale("log")
    elif quantity == "accuracy":
        axes.set_ylim(0, 1.02)
        percent_axis(axes.yaxis, "accuracy")
    return told

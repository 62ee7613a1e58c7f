"""Figures of schedules, range tests, stopped runs and the spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peft_helpers.plots.style import (
    COLORS,
    LINES,
    Percent,
    as_numbers,
    number,
    panels,
    percent_axis,
    require_items,
    require_lines,
    score,
    sentence,
    styled,
)


@styled
def schedule_shapes(shapes: Mapping[str, Sequence[float]]) -> Figure:
    """The rate as a share of its peak over the steps, one line a schedule.

    Args:
        shapes: name -> (T,) shares, one a step.

    Raises:
        ValueError: if there are no shapes, or one is not a row of numbers.
    """
    require_lines("shapes", shapes)
    figure, (axes,) = panels(height=3.3)
    told = []
    for (name, values), line in zip(shapes.items(), LINES, strict=False):
        y = as_numbers(f"shape {name!r}", values)
        axes.plot(np.arange(len(y)), y, color=line["color"], linestyle=line["linestyle"], label=name)
        told.append(f"{name}: highest {number(y.max())}, at the end {number(y[-1])}, mean {number(y.mean())}")
    axes.set(xlabel="step", ylabel="share of the peak rate", ylim=(-0.03, 1.06))
    axes.margins(x=0.01)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6, borderaxespad=0.2, columnspacing=1.2)
    figure.alt = "Learning rate over the steps. " + sentence(told)
    return figure


@styled
def range_test(
    rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float], marks: Mapping[str, float] | None = None
) -> Figure:
    """The loss of each step over its rate (log scale), the smoothed line, and rates to mark.

    Args:
        rates, losses, smooth: (T,) each.
        marks: name -> rate, drawn as vertical lines.

    Raises:
        ValueError: unequal lengths, or rates that are not positive.
    """
    x, y, line = (as_numbers(n, v) for n, v in (("rates", rates), ("losses", losses), ("smooth", smooth)))
    if not len(x) == len(y) == len(line):
        raise ValueError(f"one loss a rate: got {len(x)} rates, {len(y)} losses, {len(line)} smoothed ones")
    if not (x > 0).all():
        raise ValueError(f"rates must be positive; got {x.min():g}")
    figure, (axes,) = panels(height=3.2)
    axes.plot(x, y, color=COLORS["blue"], alpha=0.3, linewidth=1, label="each batch")
    axes.plot(x, line, color=COLORS["blue"], label="smoothed")
    told = [f"smoothed loss {number(line[0])} at {number(x[0])}",
            f"lowest {number(line.min())} at {number(x[line.argmin()])}",
            f"{number(line[-1])} at {number(x[-1])}"]  # fmt: skip
    looks = zip((marks or {}).items(), ((0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1.2, 2))), strict=False)
    for (name, rate), dash in looks:
        axes.axvline(rate, color=COLORS["orange"], linestyle=dash, linewidth=1.8, label=f"{name}: {rate:.2g}")
        told.append(f"{name} {rate:.2g}")
    shown = y[np.isfinite(y)]
    low, top = shown.min(), max(line[0] * 1.35, float(np.quantile(shown, 0.9)) * 1.1)
    axes.set(xscale="log", xlabel="learning rate (log scale), one step each", ylabel="loss (nats)")
    axes.set_ylim(low - 0.08 * (top - low), top)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1.2)
    figure.alt = "Range test. " + sentence(told)
    return figure


@styled
def stopped_runs(
    runs: Mapping[str, Sequence[float]], stops: Mapping[str, tuple[int, int]] | None = None, metric: str = "accuracy"
) -> Figure:
    """One panel a run: its dev score at each evaluation, what is kept (ring), and where it stops (bar).

    Args:
        runs: name -> (E,) scores. At most 4.
        stops: name -> (last evaluation that takes place, the one that is kept), as `schedules.stopping_point` gives;
            what comes after the stop is drawn thin.
        metric: names the y axis.

    Raises:
        ValueError: if there are no runs, or more than 4.
    """
    require_items("runs", runs)
    if len(runs) > 4:
        raise ValueError(f"stopped_runs draws at most 4 runs side by side; got {len(runs)}")
    figure, cells = panels(len(runs), width=max(4.2, 2.55 * len(runs)), height=2.7)
    line, told = LINES[1], []
    for axes, (name, values) in zip(cells, runs.items(), strict=True):
        y = as_numbers(f"run {name!r}", values)
        x = np.arange(len(y))
        if stops and name in stops:
            last, kept = stops[name]
            axes.plot(x[last:], y[last:], color=COLORS["gray"], linewidth=1.2, linestyle=(0, (1, 1.3)))
            axes.plot(x[: last + 1], y[: last + 1], color=line["color"], marker="s", markersize=4)
            axes.axvline(last, color=COLORS["black"], linewidth=1.3, linestyle=(0, (5, 2)))
            axes.plot(kept, y[kept], marker="o", markersize=13, markerfacecolor="none", color=COLORS["black"])
            best = int(np.nanargmax(y))
            told.append(f"run {name} stops at evaluation {last}, keeps {kept} ({score(y[kept], metric)}); "
                        f"its best would be {best} ({score(y[best], metric)})")  # fmt: skip
        else:
            axes.plot(x, y, color=line["color"], marker="s", markersize=4)
            told.append(f"run {name}: " + ", ".join(score(value, metric) for value in y))
        axes.set(xlabel="evaluation", title=f"run {name}")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.margins(y=0.14)
        percent_axis(axes.yaxis, metric)
    cells[0].set_ylabel(f"dev {metric}")
    figure.alt = f"Dev {metric} at each evaluation. " + sentence(told)
    return figure


@styled
def fitting(runs: Mapping[str, Sequence[Mapping[str, Any]]], quantity: str = "loss") -> Figure:
    """Small multiples: train against dev over the steps, one column a run, the lowest dev loss ringed.

    Args:
        runs: name -> rows of `small_network.learn`. At most 4.
        quantity: "loss" or "accuracy".

    Raises:
        ValueError: if there are no runs, more than 4, or rows without that quantity.
    """
    require_items("runs", runs)
    if len(runs) > 4:
        raise ValueError(f"fitting draws at most 4 runs side by side; got {len(runs)}")
    figure, cells = panels(len(runs), width=max(4.2, 2.5 * len(runs)), height=2.9)
    told = []
    for axes, (name, rows) in zip(cells, runs.items(), strict=True):
        require_items(f"run {name!r}", rows)
        if f"dev {quantity}" not in rows[0]:
            raise ValueError(f"the rows of {name!r} have no {quantity!r}; they have {', '.join(rows[0])}")
        steps = [row["step"] for row in rows]
        for split, line in (("train", LINES[0]), ("dev", LINES[1])):
            y = [row[f"{split} {quantity}"] for row in rows]
            axes.plot(steps, y, color=line["color"], linestyle=line["linestyle"], label=split)
            told.append(f"{name}, {split} {quantity} {number(y[0])} to {number(y[-1])}")
        dev = [row[f"dev {quantity}"] for row in rows]
        best = int(np.argmin(dev) if quantity == "loss" else np.argmax(dev))
        axes.plot(steps[best], dev[best], marker="o", markersize=12, markerfacecolor="none", color=COLORS["black"])
        told.append(f"best dev {number(dev[best])} at step {steps[best]}")
        axes.set(title=name, xlabel="step")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        if quantity == "accuracy":
            axes.yaxis.set_major_formatter(Percent())
        else:
            axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
    cells[0].set_ylabel(quantity)
    cells[-1].legend(loc="best")
    figure.alt = sentence(told)
    return figure


@styled
def seed_spread(groups: Mapping[str, Sequence[float]], metric: str = "accuracy") -> Figure:
    """One row a group of runs: a dot a seed, a bar for mean ± standard deviation.

    Args:
        groups: name -> scores by seed, at least two.
        metric: names the axis.

    Raises:
        ValueError: if there are no groups, or one has fewer than two scores.
    """
    require_items("groups", groups)
    figure, (axes,) = panels(height=1.1 + 0.48 * len(groups))
    told = []
    for place, (name, values) in enumerate(reversed(list(groups.items()))):
        scores = as_numbers(f"group {name!r}", values)
        if len(scores) < 2:
            raise ValueError(f"group {name!r} has {len(scores)} score: a spread takes at least two seeds")
        mean, deviation = scores.mean(), scores.std(ddof=1)
        shifts = 0.16 * np.sin(2.4 * np.arange(len(scores)))  # so that equal scores can be told apart
        axes.plot(scores, place + shifts, marker="o", markersize=4.5, linestyle="none", color=COLORS["sky"])
        axes.plot([mean - deviation, mean + deviation], [place, place], color=COLORS["blue"], linewidth=2.4)
        axes.plot(mean, place, marker="D", markersize=8, color=COLORS["blue"])
        told.insert(0, f"{name}: mean {score(mean, metric)}, {score(scores.min(), metric)} to "
                       f"{score(scores.max(), metric)} over {len(scores)} seeds")  # fmt: skip
    axes.set_yticks(range(len(groups)), list(reversed(list(groups))))
    axes.set(ylim=(-0.6, len(groups) - 0.4), xlabel=f"test {metric} (bar: mean ± standard deviation)")
    axes.grid(axis="y", visible=False)
    percent_axis(axes.xaxis, metric)
    figure.alt = f"Test {metric} by seed. " + sentence(told)
    return figure

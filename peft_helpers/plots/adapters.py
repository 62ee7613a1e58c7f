"""Figures of adapters (lesson 08): where they stand, size against score, initialization scale, what is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.ticker import FuncFormatter

from peft_helpers.plots.style import (
    COLORS,
    DASHES,
    LINES,
    MARKERS,
    as_numbers,
    halo,
    label_ends,
    level_lines,
    number,
    panels,
    percent_axis,
    require_items,
    require_lines,
    score,
    sentence,
    styled,
    tell_levels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FROZEN, TRAINED = "#e9edf1", "#bfe3d6"
LAYER = (  # of BERT, from its input on: name, kind
    ("attention", "frozen"),
    ("projection to D", "frozen"),
    ("adapter", "adapter"),
    ("+", "sum"),
    ("layer norm", "trained"),
    ("feed-forward, D → I", "frozen"),
    ("projection to D", "frozen"),
    ("adapter", "adapter"),
    ("+", "sum"),
    ("layer norm", "trained"),
)
COMPARED_MARKERS = (*MARKERS, "X", "*", "p", "h")


@styled
def adapter_placement(width: int, bottleneck: int) -> Figure:
    """One encoder layer of BERT with its two adapters (left, from below upward), and one adapter's inside (right).

    Args:
        width: D.
        bottleneck: m.

    Raises:
        ValueError: sizes that are not positive.
    """
    if not (width >= 1 and bottleneck >= 1):
        raise ValueError(f"width and bottleneck must be positive; got {width} and {bottleneck}")
    figure, (left, right) = panels(2, width=7.4, height=5.0)
    for axes in (left, right):
        axes.set_axis_off()
        axes.grid(visible=False)
    _draw_layer(left)
    _draw_adapter(right, width, bottleneck)
    figure.alt = (
        "Left, one layer from its input upward: attention, projection, adapter, residual sum, layer norm, feed-"
        "forward, projection, adapter, residual sum, layer norm. Adapters and norms are trained, the rest is frozen. "
        f"Right, an adapter: {width} numbers down to {bottleneck}, an activation, up to {width}, and the input added."
    )
    return figure


def _draw_layer(axes: Axes) -> None:
    sums = []
    for place, (name, kind) in enumerate(LAYER):
        if kind == "sum":
            axes.plot(1.5, place, marker="o", markersize=17, markerfacecolor="white", color=COLORS["orange"])
            axes.text(1.5, place - 0.03, "+", ha="center", va="center", fontsize=14, color=COLORS["orange"])
            sums.append(place)
        else:
            _box(axes, 0.2, place, 2.6, name, FROZEN if kind == "frozen" else TRAINED, bold=kind == "adapter")
        if place + 1 < len(LAYER):
            axes.annotate("", (1.5, place + 0.68), (1.5, place + 0.34), arrowprops={"arrowstyle": "->", "lw": 1.1})
    for start, end in ((-0.62, sums[0]), (sums[0] + 1.46, sums[1])):
        axes.plot([1.5, 3.2, 3.2], [start, start, end], color=COLORS["orange"], linewidth=1.6)
        axes.annotate("", (1.76, end), (3.2, end),
                      arrowprops={"arrowstyle": "->", "lw": 1.6, "color": COLORS["orange"], "shrinkA": 0})  # fmt: skip
    axes.annotate("", (1.5, -0.36), (1.5, -1.0), arrowprops={"arrowstyle": "->", "lw": 1.1})
    axes.annotate("", (1.5, 10.0), (1.5, 9.34), arrowprops={"arrowstyle": "->", "lw": 1.1})
    axes.text(3.3, 1.2, "bypass", rotation=90, va="center", color=COLORS["orange"], fontsize=10)
    for x, color, name in ((0.2, TRAINED, "trained"), (1.6, FROZEN, "frozen")):
        axes.add_patch(FancyBboxPatch((x, 10.35), 0.32, 0.36, boxstyle="round,pad=0,rounding_size=0.06",
                                      facecolor=color, edgecolor=COLORS["gray"], linewidth=0.8))  # fmt: skip
        axes.text(x + 0.42, 10.52, name, va="center", fontsize=10.5)
    axes.set(xlim=(-0.1, 3.8), ylim=(-1.2, 11.0))


def _box(axes: Axes, x: float, y: float, width: float, name: str, color: str, bold: bool = False) -> None:
    axes.add_patch(FancyBboxPatch((x, y - 0.34), width, 0.68, boxstyle="round,pad=0,rounding_size=0.12",
                                  facecolor=color, edgecolor=COLORS["gray"], linewidth=0.8))  # fmt: skip
    axes.text(x + width / 2, y, name, ha="center", va="center", fontsize=10.5, fontweight="bold" if bold else None)


def _draw_adapter(axes: Axes, width: int, bottleneck: int) -> None:
    def funnel(bottom: float, wide: float, narrow: float, text: str) -> None:
        corners = [(2 - wide, bottom), (2 + wide, bottom), (2 + narrow, bottom + 1.6), (2 - narrow, bottom + 1.6)]
        axes.add_patch(Polygon(corners, facecolor=TRAINED, edgecolor=COLORS["gray"], linewidth=0.9))
        axes.text(2, bottom + 0.8, text, ha="center", va="center", fontsize=10.5)

    funnel(1.2, 1.5, 0.75, f"down\n{width} → {bottleneck}")
    _box(axes, 1.15, 3.9, 1.7, "activation", "white")
    funnel(5.0, 0.75, 1.5, f"up\n{bottleneck} → {width}")
    for start, end in ((-0.1, 1.2), (2.8, 3.56), (4.24, 5.0), (6.6, 7.5), (8.05, 9.3)):
        axes.annotate("", (2, end), (2, start), arrowprops={"arrowstyle": "->", "lw": 1.1})
    axes.plot(2, 7.75, marker="o", markersize=17, markerfacecolor="white", color=COLORS["orange"])
    axes.text(2, 7.72, "+", ha="center", va="center", fontsize=14, color=COLORS["orange"])
    axes.plot([2, 3.75, 3.75], [0.5, 0.5, 7.75], color=COLORS["orange"], linewidth=1.6)
    axes.annotate("", (2.3, 7.75), (3.75, 7.75),
                  arrowprops={"arrowstyle": "->", "lw": 1.6, "color": COLORS["orange"], "shrinkA": 0})  # fmt: skip
    axes.text(2, -0.35, f"h, {width} numbers a token", ha="center", va="top", fontsize=10.5)
    axes.text(2, 9.6, "close to h at first", ha="center", va="bottom", fontsize=10.5)
    axes.set(xlim=(0, 4.2), ylim=(-1.2, 11.0))


# ---------------------------------------------------------------- size against score


@styled
def size_against_score(
    methods: Mapping[str, Sequence[tuple[str, float, Any]]],
    baselines: Mapping[str, float] | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Score over the share of trained parameters, log scale; a line joins the sizes of one method, each with its size.

    Args:
        methods: family -> its sizes, each (label, trained share of all parameters, one score or scores by seed). A
            label such as "Houlsby 16" ends with the size.
        baselines: name -> score, horizontal lines.
        metric: names the y axis.

    Raises:
        ValueError: nothing to draw, a share that is not positive, more methods than markers.
    """
    require_items("methods", methods)
    if len(methods) > len(COMPARED_MARKERS):
        raise ValueError(f"{len(methods)} methods can't be told apart; at most {len(COMPARED_MARKERS)}")
    figure, (axes,) = panels(width=7.6, height=4.0)
    told, palette = [], [color for name, color in COLORS.items() if name != "gray"]
    for i, (family, sizes) in enumerate(methods.items()):
        require_items(f"method {family!r}", sizes)
        sizes = sorted(sizes, key=lambda size: size[1])
        shares = [share for _, share, _ in sizes]
        if min(shares) <= 0:
            raise ValueError(f"{family} trains a share of {min(shares)}; a log scale needs positive shares")
        runs = [as_numbers(label, np.atleast_1d(scores)) for label, _, scores in sizes]
        means = [run.mean() for run in runs]
        spread = [[m - run.min() for m, run in zip(means, runs, strict=True)],
                  [run.max() - m for m, run in zip(means, runs, strict=True)]]  # fmt: skip
        look = {"color": palette[i % len(palette)], "marker": COMPARED_MARKERS[i], "linestyle": DASHES[i % len(DASHES)]}
        axes.errorbar(shares, means, yerr=spread, **look, capsize=2.5, elinewidth=1.1, markersize=7, label=family)
        for (label, share, _), mean in zip(sizes, means, strict=True):
            if len(sizes) > 1:  # tell the sizes of one method apart
                place = {"xytext": (6, -13), "textcoords": "offset points", "zorder": 1.5}  # no marker is hidden
                halo(axes.annotate(label.split()[-1], (share, mean), **place, fontsize=9, color="#333333"))
        told += [f"{label} {score(m, metric)} at {share:.2%}"
                 for (label, share, _), m in zip(sizes, means, strict=True)]  # fmt: skip
    low = min(share for sizes in methods.values() for _, share, _ in sizes)
    axes.set(xscale="log", xlim=(low / 1.6, 1.9), xlabel="trained, share of the pretrained model (log scale)",
             ylabel=f"test {metric}")  # fmt: skip
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    percent_axis(axes.yaxis, metric)
    ends = level_lines(axes, baselines, metric)
    told += tell_levels(baselines, metric)
    axes.margins(y=0.1)
    label_ends(axes, ends, 0.14)
    figure.legend(loc="outside upper left", ncols=4, handlelength=2.4, columnspacing=1.2)
    figure.alt = f"Test {metric} by share of trained parameters. " + sentence(told)
    return figure


# ---------------------------------------------------------------- initialization, forgetting


@styled
def initialization_scales(
    scores: Mapping[float, Any], metric: str = "accuracy", baselines: Mapping[str, float] | None = None
) -> Figure:
    """Score over the standard deviation that adapters are drawn with (log scale), a dot a seed, and the mean.

    Args:
        scores: standard deviation -> one score or scores by seed.
        metric: names the y axis.
        baselines: name -> score, horizontal lines.

    Raises:
        ValueError: nothing to draw, or a standard deviation that is not positive.
    """
    require_items("scores", scores)
    if min(scores) <= 0:
        raise ValueError(f"a log scale needs positive standard deviations; got {min(scores)}")
    figure, (axes,) = panels(height=3.2)
    stds = sorted(scores)
    runs = [as_numbers(f"scores at {std:g}", np.atleast_1d(scores[std])) for std in stds]
    means = [run.mean() for run in runs]
    for std, run in zip(stds, runs, strict=True):
        axes.plot([std] * len(run), run, marker="o", markersize=4, linestyle="none", color=COLORS["gray"])
    axes.plot(stds, means, **LINES[0])
    ends = level_lines(axes, baselines, metric)
    axes.set(xscale="log", xlabel="standard deviation σ of the adapters' weights (log scale)", ylabel=f"dev {metric}")
    axes.set_xticks(stds, [f"{std:g}".replace("e-0", "e-") for std in stds])
    axes.minorticks_off()
    percent_axis(axes.yaxis, metric)
    axes.margins(y=0.1)
    label_ends(axes, ends, 0.15)
    figure.alt = f"Dev {metric} by initialization scale. " + sentence(
        [f"{score(m, metric)} at {std:g}" for std, m in zip(stds, means, strict=True)] + tell_levels(baselines, metric)
    )
    return figure


@styled
def forgetting(ways: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Each task's score from when it was learned on, while further tasks are learned; one panel a way to learn them.

    Args:
        ways: name -> task -> scores after 1, 2 … tasks; before a task is learned its scores are NaN or left out at the
            front, so that all lines end with the last task.

    Raises:
        ValueError: nothing to draw, more tasks than line styles, or a task without a score.
    """
    require_items("ways", ways)
    for way, tasks in ways.items():
        require_lines(f"tasks of {way!r}", tasks)
    figure, cells = panels(len(ways), width=4.4 + 3.2 * (len(ways) - 1), height=3.5)
    told, steps = [], max(len(scores) for tasks in ways.values() for scores in tasks.values())
    for axes, (way, tasks) in zip(cells, ways.items(), strict=True):
        for (task, scores), look in zip(tasks.items(), LINES, strict=False):
            y = as_numbers(f"{task} in {way!r}", scores)
            if not np.isfinite(y).any():
                raise ValueError(f"{task} in {way!r} has no score")
            x = np.arange(steps - len(y) + 1, steps + 1)
            axes.plot(x, y, **look, label=task)
            known = y[np.isfinite(y)]
            told.append(f"{way}, {task}: {number(known[0])} when learned, {number(known[-1])} at the end")
        axes.set(title=way, xlabel="tasks learned")
        axes.set_xticks(range(1, steps + 1))
    low = min(float(np.nanmin(list(map(float, s)))) for tasks in ways.values() for s in tasks.values())
    high = max(float(np.nanmax(list(map(float, s)))) for tasks in ways.values() for s in tasks.values())
    margin = 0.06 * (high - low) or 0.05
    for axes in cells:
        axes.set_ylim(low - margin, high + margin)
    cells[0].set_ylabel("test score, each by its metric")
    handles, labels = cells[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels) if len(ways) > 1 else 3,
                  handlelength=2.2, columnspacing=1.1)  # fmt: skip
    figure.alt = "Test scores while one task after the other is learned. " + sentence(told)
    return figure

"""Figures of compared methods (lesson 13): score against cost with the Pareto front, intervals of gaps, a live race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from peft_helpers.accounting import Memory, megabytes
from peft_helpers.plots.costs import HATCHES, PARTS
from peft_helpers.plots.style import (
    COLORS,
    DASHES,
    LINES,
    MARKERS,
    Percent,
    ink,
    label_ends,
    number,
    panels,
    require_items,
    require_lines,
    score,
    sentence,
    spread,
    styled,
)

FAMILY_LOOKS = {
    family: {"color": COLORS[color], "marker": marker}
    for family, color, marker in zip(
        ("additive", "selective", "reparametrization", "hybrid", "baseline"),
        ("blue", "orange", "green", "purple", "gray"),  # as in the family tree (plots/taxonomy.py)
        MARKERS,
        strict=False,
    )
}
LINE_LOOKS = dict(
    zip(("majority class", "bag of words", "linear probe"), (DASHES[2], DASHES[3], DASHES[1]), strict=True)
)


@styled
def score_against_cost(
    points: Sequence[tuple[str, str, float, float, float, float]],
    front: Sequence[str],
    lines: Mapping[str, float] | None = None,
    metric: str = "accuracy",
    cost: str = "trained parameters",
) -> Figure:
    """Score over cost, log scale, with intervals, the Pareto front as steps, and baselines as lines across.

    Args:
        points: (name, family, cost, score, low, high) a method; families of `methods.FAMILIES`.
        front: names of the methods on the front; they are labeled, and the dearest point is.
        lines: baseline -> score.
        metric, cost: what the axes show.

    Raises:
        ValueError: no points, a cost that is not positive, or a name on the front that is no point.
    """
    require_items("points", points)
    names = [point[0] for point in points]
    if wrong := [name for name in front if name not in names]:
        raise ValueError(f"{', '.join(wrong)} is on the front and no point; there are {', '.join(names)}")
    if bad := [name for name, _, price, *_ in points if not price > 0]:
        raise ValueError(f"on a log scale a cost must be positive; {', '.join(bad)} has another one")
    figure, (axes,) = panels(width=7.4, height=4.4)
    seen, order = set(), list(FAMILY_LOOKS)  # the legend lists the families as the tree does
    for _, family, price, value, low, high in sorted(points, key=lambda p: order.index(p[1]) if p[1] in order else 9):
        look = FAMILY_LOOKS.get(family, FAMILY_LOOKS["baseline"])
        known = {} if family in seen else {"label": family}
        axes.errorbar(
            price, value, yerr=[[max(0, value - low)], [max(0, high - value)]], fmt=look["marker"], color=look["color"],
            elinewidth=1.1, capsize=2.5, markersize=7, **known,
        )  # fmt: skip
        seen.add(family)
    best = sorted((p for p in points if p[0] in front), key=lambda p: p[2])
    prices = [p[2] for p in points]
    low, high = min(prices) / 1.7, max(prices) * 2.4
    axes.set(xscale="log", xlim=(low, high), xlabel=cost, ylabel=metric)
    if best:
        axes.step([*(p[2] for p in best), high], [*(p[3] for p in best), best[-1][3]], where="post",
                  color=COLORS["gray"], linewidth=1.3, zorder=0, label="Pareto front")  # fmt: skip
    tops = [p[5] for p in points] + list((lines or {}).values())
    bottoms = [p[4] for p in points] + list((lines or {}).values())
    room = max(tops) - min(bottoms) or 0.1
    axes.set_ylim(min(bottoms) - 0.08 * room, max(tops) + 0.08 * room)
    shown = {p[0] for p in best} | {max(points, key=lambda p: p[2])[0]}
    _label_points(axes, [p for p in points if p[0] in shown])
    for name, value in (lines or {}).items():
        axes.axhline(value, color=COLORS["gray"], linestyle=LINE_LOOKS.get(name, ":"), linewidth=1.2, zorder=0)
    label_ends(axes, [(value, name, COLORS["gray"]) for name, value in (lines or {}).items()])
    if metric in ("accuracy", "f1"):
        axes.yaxis.set_major_formatter(Percent())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.6)
    told = [f"{name} {score(value, metric)} ({score(a, metric)} to {score(b, metric)}) at {short(price)}"
            for name, _, price, value, a, b in sorted(points, key=lambda p: p[2])]  # fmt: skip
    told += [f"{name} {score(value, metric)}" for name, value in (lines or {}).items()]
    told.append(f"on the Pareto front: {', '.join(p[0] for p in best) or 'none'}")
    figure.alt = f"{metric} over {cost}: {sentence(told)}"
    return figure


def _label_points(axes, points) -> None:
    """Names in a row above all points, pushed apart, each with a thin line down to its interval."""
    low, high = (np.log(x) for x in axes.get_xlim())
    points = sorted(points, key=lambda p: p[2])
    places = spread([float((np.log(price) - low) / (high - low)) for _, _, price, *_ in points], gap=0.068)
    for place, (name, family, price, _, _, top) in zip(places, points, strict=True):
        color = FAMILY_LOOKS.get(family, FAMILY_LOOKS["baseline"])["color"]
        foot = axes.transAxes.inverted().transform(axes.transData.transform((price, top)))
        axes.annotate(
            name, xy=tuple(foot), xytext=(place, 1.02), xycoords="axes fraction", textcoords="axes fraction",
            rotation=35, rotation_mode="anchor", ha="left", va="bottom", color=ink(color), fontsize=10.5,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1,
                        "relpos": (0.0, 0.0)},
        )  # fmt: skip


def short(value: float) -> str:
    """A count or size on an axis: 1.5M, 20k, 0.3.

    >>> short(1_500_000), short(20_000), short(0.25)
    ('1.5M', '20k', '0.25')
    """
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{number(value / limit)}{unit}"
    return number(value)


@styled
def gap_intervals(gaps: Mapping[str, tuple[float, float, float]], unit: str = "points") -> Figure:
    """Differences with their intervals, one a row, and the line at 0.

    Args:
        gaps: name -> (difference, low, high), in the unit of the axis.

    Raises:
        ValueError: nothing to draw.
    """
    require_items("gaps", gaps)
    figure, (axes,) = panels(height=1.2 + 0.42 * len(gaps))
    for row, (_, (middle, low, high)) in enumerate(gaps.items()):
        real = low > 0 or high < 0
        color = COLORS["blue"] if real else COLORS["gray"]
        axes.plot(
            [low, high], [row, row], color=color, linewidth=3 if real else 2, linestyle="-" if real else DASHES[1]
        )
        axes.plot(middle, row, marker="o" if real else "s", color=color, markerfacecolor=color if real else "white")
    axes.axvline(0, color=COLORS["black"], linewidth=1)
    axes.set_yticks(range(len(gaps)), list(gaps))
    axes.set(ylim=(len(gaps) - 0.5, -0.5), xlabel=f"difference ({unit}); filled: the interval leaves out 0")
    told = [f"{name} {middle:+.1f} ({low:.1f} to {high:.1f}{', leaves out 0' if low > 0 or high < 0 else ''})"
            for name, (middle, low, high) in gaps.items()]  # fmt: skip
    figure.alt = f"Differences in {unit} with 95 % intervals: {sentence(told)}"
    return figure


@styled
def choice_on_test(tried: Sequence[int], lines: Mapping[str, Sequence[float]], truth: float) -> Figure:
    """The score of the best of k equally good configurations, over k, a line a size of the test set.

    Args:
        tried: k. lines: name -> mean best score, one a k. truth: the accuracy of each.

    Raises:
        ValueError: nothing to draw, or more lines than can be told apart.
    """
    require_lines("lines", lines)
    require_items("tried", tried)
    figure, (axes,) = panels()
    for (_, values), look in zip(lines.items(), LINES, strict=False):
        axes.plot(tried, values, **look)
    axes.axhline(truth, color=COLORS["gray"], linestyle=DASHES[2])
    axes.set(xscale="log", xlabel="equally good configurations tried", ylabel="reported accuracy")
    axes.set_xticks(list(tried), [str(k) for k in tried])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(Percent())
    ends = [(values[-1], name, look["color"]) for (name, values), look in zip(lines.items(), LINES, strict=False)]
    label_ends(axes, [*ends, (truth, "the truth", COLORS["gray"])])
    told = [
        f"{name}: {values[0]:.1%} for {tried[0]}, {values[-1]:.1%} for {tried[-1]}" for name, values in lines.items()
    ]
    figure.alt = (
        f"The best of k equally good configurations, chosen on test; the truth is {truth:.0%}: {sentence(told)}"
    )
    return figure


@styled
def costs_side_by_side(memories: Mapping[str, Memory], files: Mapping[str, float]) -> Figure:
    """Training memory by part (left) and the size of all tasks' files with the backbone (right), one row a method.

    Args:
        memories: method -> memory. files: method -> bytes for all tasks.

    Raises:
        ValueError: nothing to draw, or other methods on the right than on the left.
    """
    require_items("memories", memories)
    if list(memories) != list(files):
        raise ValueError(f"the same methods on both sides; got {list(memories)} and {list(files)}")
    figure, (left, right) = panels(2, width=7.6, height=1.5 + 0.34 * len(memories))
    names, places = list(memories), range(len(memories))
    before = np.zeros(len(names))
    for part, color in PARTS.items():
        sizes = np.array([getattr(memories[name], part) for name in names]) / 1e9
        left.barh(places, sizes, left=before, color=COLORS[color], hatch=HATCHES[part], label=part,
                  edgecolor="white", linewidth=0.6)  # fmt: skip
        before += sizes
    right.barh(places, [files[name] / 1e9 for name in names], color=COLORS["blue"])
    left.set_yticks(places, names)
    right.set_yticks(places, [""] * len(names))
    for axes, label in ((left, "training memory (GB)"), (right, "all tasks on disk (GB)")):
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=label)
    figure.legend(loc="outside upper left", ncols=4)
    told = [f"{name} {megabytes(memories[name].total)} training, {megabytes(files[name])} on disk" for name in names]
    figure.alt = f"Costs: {sentence(told)}"
    return figure


@styled
def race_lines(lines: Mapping[str, Sequence[tuple[int, float]]], metric: str, floor: float | None = None) -> Figure:
    """The dev scores of a race, a line a contestant, over the steps.

    Args:
        lines: name -> (step, score) pairs. metric: of the score. floor: what guessing reaches.

    Raises:
        ValueError: nothing to draw, a line without points, or more lines than can be told apart.
    """
    require_lines("lines", lines)
    figure, (axes,) = panels()
    ends = []
    for (name, points), look in zip(lines.items(), LINES, strict=False):
        require_items(f"line {name!r}", points)
        axes.plot(*zip(*points, strict=True), **look)
        ends.append((points[-1][1], name, look["color"]))
    if floor is not None:
        axes.axhline(floor, color=COLORS["gray"], linestyle=DASHES[2])
        ends.append((floor, "majority class", COLORS["gray"]))
    axes.set(xlabel="step", ylabel=f"dev {metric}")
    if metric in ("accuracy", "f1"):
        axes.yaxis.set_major_formatter(Percent())
    label_ends(axes, ends)
    told = [f"{name} from {score(points[0][1], metric)} to {score(points[-1][1], metric)} in {points[-1][0]} steps"
            for name, points in lines.items()]  # fmt: skip
    figure.alt = f"A race on dev {metric}: {sentence(told)}"
    return figure

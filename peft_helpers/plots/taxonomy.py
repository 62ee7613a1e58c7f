"""Figures of the families (lesson 11): their tree, subset against subspace, memory and scores by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from peft_helpers.accounting import Memory, megabytes
from peft_helpers.plots.costs import HATCHES, PARTS
from peft_helpers.plots.style import (
    COLORS,
    DASHES,
    MARKERS,
    Percent,
    as_numbers,
    ink,
    panels,
    require_items,
    score,
    sentence,
    styled,
)

PALETTE = tuple(COLORS[name] for name in ("blue", "orange", "green", "purple", "gray", "sky"))


def _looks(families: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Family -> its color and marker, the same in every figure."""
    from peft_helpers.methods import FAMILIES  # here, so that a figure of something else does not load PyTorch

    require_items("families", families)
    if set(families) <= set(FAMILIES):
        return {name: (PALETTE[i], MARKERS[i]) for i, name in enumerate(FAMILIES) if name in families}
    if len(families) > len(PALETTE):
        raise ValueError(f"{len(families)} families can't be told apart in one picture; at most {len(PALETTE)}")
    return {name: (PALETTE[i], MARKERS[i]) for i, name in enumerate(families)}


@styled
def family_tree(families: Mapping[str, Sequence[str]]) -> Figure:
    """A tree from left to right: a pretrained model, the families, their methods.

    Args:
        families: name -> names of methods.

    Raises:
        ValueError: nothing to draw, an empty family, or more families than colors.
    """
    looks = _looks(families)
    for name, methods in families.items():
        require_items(f"family {name!r}", methods)
    leaves = sum(map(len, families.values())) + 0.6 * (len(families) - 1)
    figure, (axes,) = panels(width=7.0, height=0.6 + 0.2 * leaves)
    axes.set_axis_off()
    axes.grid(visible=False)
    at, branches = 0.0, []
    for name, methods in families.items():
        places = [at + i for i in range(len(methods))]
        middle, (color, _) = float(np.mean(places)), looks[name]
        for place, method in zip(places, methods, strict=True):
            axes.plot([1.62, 1.78, 1.86, 2.0], [middle, middle, place, place], color=color, linewidth=1.2)
            axes.text(2.03, place, method, va="center", fontsize=10.5)
        axes.text(0.85, middle, name, va="center", fontweight="bold", color=ink(color), fontsize=11.5)
        branches.append((middle, color))
        at = places[-1] + 1.6
    root = float(np.mean([middle for middle, _ in branches]))
    for middle, color in branches:
        axes.plot([0.5, 0.62, 0.72, 0.82], [root, root, middle, middle], color=color, linewidth=1.6)
    axes.text(0.48, root, "pretrained\nmodel", va="center", ha="right")
    axes.set(xlim=(0, 2.75), ylim=(at - 0.9, -0.7))
    figure.alt = "A tree of methods. " + sentence(f"{name}: {', '.join(items)}" for name, items in families.items())
    return figure


@styled
def subset_and_subspace(
    direction: tuple[float, float] = (1.0, 0.6), minimum: tuple[float, float] = (1.5, 1.4)
) -> Figure:
    """Two weights, of which a method may train one number: along an axis (a subset) or a slanted line (a subspace).

    Both start at the pretrained weights, (0, 0); circles are levels of a loss. A dot marks the best point on each line.

    Args:
        direction: of the subspace.
        minimum: where the loss is lowest.

    Raises:
        ValueError: a direction of length 0.
    """
    u, goal = np.asarray(direction, dtype=float), np.asarray(minimum, dtype=float)
    if not np.linalg.norm(u) > 0:
        raise ValueError(f"direction must have a length; got {direction!r}")
    figure, cells = panels(2, width=7.0, height=3.3)
    grid = np.linspace(-0.8, 2.6, 120)
    a, b = np.meshgrid(grid, grid)
    loss = (a - goal[0]) ** 2 + (b - goal[1]) ** 2
    told = []
    for axes, name, way in zip(cells, ("a subset: w₁ is trained", "a subspace: w = θ p"), ((1.0, 0.0), u), strict=True):
        unit = np.asarray(way) / np.linalg.norm(way)
        best = unit * float(goal @ unit)
        axes.contour(a, b, loss, levels=[0.1, 0.4, 1.0, 2.0, 3.5, 5.5], colors=COLORS["gray"], linewidths=0.8)
        line = np.outer(np.array([-3.0, 4.0]), unit)
        axes.plot(line[:, 0], line[:, 1], color=COLORS["blue"], linewidth=2.4)
        axes.plot(0, 0, marker="s", color=COLORS["black"], linestyle="none")
        axes.annotate("pretrained", (0, 0), xytext=(6, -16), textcoords="offset points", fontsize=10)
        axes.plot(*best, marker="o", color=COLORS["orange"], linestyle="none", markersize=9)
        axes.set(title=name, xlabel="w₁", xlim=(-0.8, 2.6), ylim=(-0.8, 2.6), aspect="equal")
        axes.grid(visible=False)
        moved = [f"w{'₁₂'[i]}" for i in range(2) if abs(best[i]) > 1e-9]
        lowest = float(((best - goal) ** 2).sum())
        told.append(f"{name}: {' and '.join(moved)} moved, lowest loss on the line {lowest:.2f}")
    cells[0].set_ylabel("w₂")
    figure.alt = "Two weights and levels of a loss; one trained number each. " + sentence(told)
    return figure


@styled
def memory_by_method(families: Mapping[str, Mapping[str, Memory]]) -> Figure:
    """Stacked bars of what a training run keeps in memory, one a method, grouped by family.

    Args:
        families: family -> method -> Memory.

    Raises:
        ValueError: nothing to draw, or a family without methods.
    """
    looks = _looks(families)
    rows, places, at = [], [], 0.0
    for family, methods in families.items():
        require_items(f"family {family!r}", methods)
        for name, memory in methods.items():
            rows.append((family, name, memory))
            places.append(at)
            at += 1
        at += 0.5
    figure, (axes,) = panels(width=7.2, height=1.2 + 0.25 * at)
    left = np.zeros(len(rows))
    for part, color in PARTS.items():
        sizes = np.array([getattr(memory, part) / 1e6 for _, _, memory in rows])
        axes.barh(places, sizes, 0.8, left=left, color=COLORS[color], hatch=HATCHES[part], edgecolor="white",
                  linewidth=0.5, label=part)  # fmt: skip
        left += sizes
    for place, end, (_, _, memory) in zip(places, left, rows, strict=True):
        axes.text(end + 0.012 * left.max(), place, megabytes(memory.total), va="center", fontsize=9.5)
    axes.set_yticks(places, [name for _, name, _ in rows], fontsize=10)
    for label, (family, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(ink(looks[family][0]))
    axes.set(xlabel="MB (10⁶ bytes); names in their family's color", xlim=(0, 1.15 * left.max()))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=len(PARTS), handlelength=1.6)
    figure.alt = "Memory of a training run by method. " + sentence(
        f"{name} ({family}): {memory!r}" for family, name, memory in rows
    )
    return figure


@styled
def scores_by_family(
    families: Mapping[str, Mapping[str, Any]], metric: str = "accuracy", lines: Mapping[str, float] | None = None
) -> Figure:
    """Test scores, a row a method, grouped by family: a small dot a seed, a large one their mean.

    Args:
        families: family -> method -> score or scores by seed.
        lines: name -> score, vertical lines: majority class, bag of words, linear probe.

    Raises:
        ValueError: nothing to draw, or a family without methods.
    """
    looks = _looks(families)
    rows, at = [], 0.0
    for family, methods in families.items():
        require_items(f"family {family!r}", methods)
        for name, scores in methods.items():
            rows.append((at, family, name, as_numbers(f"scores of {name}", np.atleast_1d(scores))))
            at += 1
        at += 0.5
    figure, (axes,) = panels(width=7.2, height=1.5 + 0.23 * at)
    for place, family, _, runs in rows:
        color, marker = looks[family]
        axes.plot(runs, [place] * len(runs), marker="o", markersize=3.5, linestyle="none", color=COLORS["gray"])
        axes.plot(runs.mean(), place, marker=marker, markersize=8, linestyle="none", color=color)
    axes.set_yticks([place for place, *_ in rows], [name for _, _, name, _ in rows], fontsize=10)
    for label, (_, family, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(ink(looks[family][0]))
    axes.invert_yaxis()
    axes.set(xlabel=f"test {metric}")
    if metric in ("accuracy", "f1"):
        axes.xaxis.set_major_formatter(Percent())
    for family, (color, marker) in looks.items():
        axes.plot([], [], marker=marker, color=color, linestyle="none", markersize=8, label=family)
    for (name, value), dash in zip((lines or {}).items(), DASHES, strict=False):
        axes.axvline(value, color=COLORS["black"], linestyle=dash, linewidth=1.3, zorder=1, label=name)
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.8)
    figure.alt = f"Test {metric} by method. " + sentence(
        [f"{name} ({family}) {score(float(runs.mean()), metric)}" for _, family, name, runs in rows]
        + [f"{name} {score(value, metric)}" for name, value in (lines or {}).items()]
    )
    return figure

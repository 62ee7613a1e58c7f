"""Figures of what a model costs: memory by part, gradients in 16 bits, storage for many tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from peft_helpers.accounting import Memory, megabytes
from peft_helpers.plots.style import (
    COLORS,
    LINES,
    as_numbers,
    ink,
    label_ends,
    panels,
    require_items,
    require_lines,
    sentence,
    styled,
)

PARTS = {"weights": "blue", "gradients": "sky", "optimizer": "amber", "activations": "orange"}
HATCHES = {"weights": "", "gradients": "///", "optimizer": "...", "activations": "xx"}


@styled
def memory_bars(runs: Mapping[str, Mapping[str, Memory]]) -> Figure:
    """Stacked bars of the four parts, one a run and way of knowing it (predicted, measured).

    Args:
        runs: run's name -> {"predicted": Memory, "measured": Memory}, or any other names of bars.

    Raises:
        ValueError: if there is no run, or one has no bar.
    """
    require_items("runs", runs)
    for name, bars in runs.items():
        require_items(f"run {name!r}", bars)
    rows = [(name, label, memory) for name, bars in runs.items() for label, memory in bars.items()]
    figure, (axes,) = panels(height=1.3 + 0.36 * len(rows) + 0.14 * len(runs))
    places, at, before = [], 0.0, None
    for name, _, _ in rows:
        at += 1.4 if before not in (None, name) else 1.0
        places.append(at)
        before = name
    left = np.zeros(len(rows))
    for part, color in PARTS.items():
        sizes = np.array([getattr(memory, part) / 1e6 for _, _, memory in rows])
        axes.barh(places, sizes, 0.82, left=left, color=COLORS[color], hatch=HATCHES[part], edgecolor="white",
                  linewidth=0.6, label=part)  # fmt: skip
        left += sizes
    for place, end, (_, _, memory) in zip(places, left, rows, strict=True):
        axes.text(end + 0.012 * left.max(), place, megabytes(memory.total), va="center", fontsize=10.5)
    several = max(len(bars) for bars in runs.values()) > 1
    labels = [f"{name}, {label}" if several else name for name, label, _ in rows]
    axes.set_yticks(places, labels)
    axes.set(xlabel="MB (10⁶ bytes)", xlim=(0, 1.16 * left.max()))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=len(PARTS), handlelength=1.6)
    figure.alt = sentence(f"{label}: {memory!r}" for label, (_, _, memory) in zip(labels, rows, strict=True))
    return figure


@styled
def gradient_range(gradients: Any, scale: float) -> Figure:
    """Where a run's gradients lie among float16's numbers: as they are, and with the loss scaled.

    Args:
        gradients: (N,) numbers; zeros are left out.
        scale: of the loss.

    Raises:
        ValueError: if there is no number but zeros, or the scale is not positive.
    """
    values = np.abs(as_numbers("gradients", gradients))
    values = values[values > 0]
    if not len(values) or not scale > 0:
        raise ValueError(f"gradients need a number other than 0, and a positive scale; got scale {scale!r}")
    ends = {"becomes 0": 2.0**-25, "coarse": 2.0**-14, "normal": 65504.0}  # half the smallest number, smallest normal
    figure, rows = panels(rows=2, height=4.9)
    told = []
    for axes, factor, name in ((rows[0], 1.0, "as they are"), (rows[1], scale, f"loss × {scale:,.10g}")):
        powers = np.log10(values * factor)
        axes.hist(
            powers, bins=np.arange(-16, 6.01, 0.25), color=COLORS["blue"], weights=np.full(len(powers), 1 / len(powers))
        )
        left, shares = -16.0, []
        for zone, color in zip(ends, ("orange", "amber", "green"), strict=True):
            right = np.log10(ends[zone])
            axes.axvspan(left, right, color=COLORS[color], alpha=0.16, linewidth=0, zorder=0)
            inside = ((powers > left) | (left == -16.0)) & (powers <= right)
            shares.append(f"{inside.mean():.1%} {zone}")
            if factor == 1.0:
                axes.text((left + right) / 2, 1.02, zone, transform=axes.get_xaxis_transform(), ha="center",
                          color=ink(COLORS[color]))  # fmt: skip
            left = right
        axes.set(xlim=(-16, 6), ylabel="share")
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_locator(MaxNLocator(11, integer=True))
        axes.text(0.985, 0.9, name, transform=axes.transAxes, ha="right", va="top", fontweight="bold")
        told.append(f"{name}: " + ", ".join(shares))
    rows[0].set_xlabel("size of a gradient entry, power of ten")
    rows[1].set_xlabel("size of a scaled gradient entry, power of ten")
    figure.alt = "Share of the gradient's entries by size, in float16. " + sentence(told)
    return figure


@styled
def storage_by_tasks(lines: Mapping[str, Mapping[int, float]]) -> Figure:
    """Bytes on disk against the number of tasks, a line a way to keep them.

    Args:
        lines: name -> {number of tasks: bytes}.

    Raises:
        ValueError: if there is no line, more than can be told apart, or one without points.
    """
    require_lines("lines", lines)
    figure, (axes,) = panels(height=3.4)
    ends, told = [], []
    for (name, points), look in zip(lines.items(), LINES, strict=False):
        require_items(f"line {name!r}", points)
        tasks = sorted(points)
        axes.plot(tasks, [points[n] / 1e9 for n in tasks], **{**look, "marker": None})
        ends.append((points[tasks[-1]] / 1e9, f"{name}\n{points[tasks[-1]] / 1e9:.1f} GB", look["color"]))
        told.append(f"{name}: {points[tasks[-1]] / 1e9:.2f} GB for {tasks[-1]} tasks")
    axes.set(xlabel="tasks", ylabel="GB on disk", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.margins(x=0.01)
    label_ends(axes, ends, 0.17)
    figure.alt = "Storage by number of tasks. " + sentence(told)
    return figure

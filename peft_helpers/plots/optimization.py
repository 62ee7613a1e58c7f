"""Figures of paths downhill, of stability, and of step sizes (lessons 02 and 03)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from peft_helpers.plots.style import (
    COLORS,
    LINES,
    as_numbers,
    ink,
    label_ends,
    number,
    panels,
    require_lines,
    sentence,
    styled,
)

KINDS = {  # where a step on a quadratic becomes unstable: η λ_max as a function of β
    "plain": lambda beta: 2 + 0 * beta,
    "heavy ball": lambda beta: 2 * (1 + beta),
    "Nesterov": lambda beta: 2 * (1 + beta) / (1 + 2 * beta),
}


@styled
def one_dimensional_descent(
    function: Callable[[np.ndarray], np.ndarray],
    paths: Mapping[str, Any],
    limits: tuple[float, float] = (-3.0, 3.0),
) -> Figure:
    """A curve, and the points that descent visits on it: one panel a path, the steps numbered by their order.

    Args:
        function: f, vectorized over NumPy arrays.
        paths: name (such as "η = 0.1") -> (T,) positions; at most 4.
        limits: of the x axis; points outside are counted in the panel's corner.

    Raises:
        ValueError: if there are no paths, more than 4, or one is empty.
    """
    require_lines("paths", paths)
    if len(paths) > 4:
        raise ValueError(f"one_dimensional_descent draws at most 4 paths side by side; got {len(paths)}")
    figure, all_axes = panels(len(paths), width=7.2 if len(paths) < 4 else 8.4)
    grid, told = np.linspace(*limits, 300), []
    for axes, (name, path), line in zip(all_axes, paths.items(), LINES, strict=False):
        x = as_numbers(f"path {name!r}", path)
        y = function(x)
        axes.plot(grid, function(grid), color=COLORS["gray"], linewidth=1.4)
        axes.plot(x, y, color=line["color"], linewidth=1.1, marker=line["marker"], markersize=4.5)
        axes.plot(x[0], y[0], color=line["color"], marker=line["marker"], markersize=9, markerfacecolor="white")
        low, high = function(grid).min(), function(grid).max()
        axes.set(title=name, xlabel="x", xlim=limits, ylim=(low - 0.06 * (high - low), high * 1.04))
        outside = int((~((x >= limits[0]) & (x <= limits[1]))).sum())
        if outside:
            axes.text(
                0.5, 0.55, f"{outside} of {len(x)}\npoints outside", color=line["color"], ha="center", va="center",
                transform=axes.transAxes, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )  # fmt: skip
        if axes is not all_axes[0]:
            axes.tick_params(labelleft=False)
        told.append(f"{name}: from f = {number(y[0])} to {number(y[-1])} in {len(x) - 1} steps")
    all_axes[0].set_ylabel("f(x)")
    figure.alt = sentence(told)
    return figure


@styled
def loss_landscape_path(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    paths: Mapping[str, Any],
    limits: tuple[float, float, float, float] = (-3.0, 3.0, -2.0, 2.0),
    minimum: tuple[float, float] | None = (0.0, 0.0),
) -> Figure:
    """Contours of a loss over two parameters with the paths of optimizers, and the loss along each path.

    Args:
        function: f(x, y), vectorized.
        paths: optimizer's name -> (T, 2) points.
        limits: x low, x high, y low, y high.
        minimum: where to put the cross, if anywhere.

    Raises:
        ValueError: if there are no paths or one is not (T, 2).
    """
    require_lines("paths", paths)
    figure, (plane, curve) = panels(2, width=8.0, height=3.4)
    xs, ys = np.meshgrid(np.linspace(*limits[:2], 160), np.linspace(*limits[2:], 160))
    surface = function(xs, ys)
    levels = surface.min() + (surface.max() - surface.min()) * np.linspace(0.03, 1, 14) ** 2.2
    plane.contour(xs, ys, surface, levels=levels, colors="#c2c2c2", linewidths=0.9)
    plane.grid(visible=False)
    told, ends, longest = [], [], 1
    for (name, path), line in zip(paths.items(), LINES, strict=False):
        points = as_numbers(f"path {name!r}", path, dimensions=2)
        if points.shape[1] != 2:
            raise ValueError(f"path {name!r} must be (T, 2), two parameters a step; got {points.shape}")
        losses = function(points[:, 0], points[:, 1])
        every = max(1, len(points) // 12)
        plane.plot(*points.T, **line, markersize=4, markevery=every, linewidth=1.5)
        curve.plot(np.maximum(losses, 1e-300), color=line["color"], linestyle=line["linestyle"])
        reached = losses[np.isfinite(losses)]
        ends.append((float(np.maximum(reached[-1], 1e-300)), name, line["color"]))
        longest = max(longest, len(points) - 1)
        told.append(f"{name}: loss {number(losses[0])} to {number(losses[-1])} in {len(points) - 1} steps")
    if minimum is not None:
        plane.plot(*minimum, marker="x", color=COLORS["black"], markersize=9, markeredgewidth=2, linestyle="none")
    plane.set(xlim=limits[:2], ylim=limits[2:], xlabel="first parameter", ylabel="second parameter")
    curve.set(yscale="log", xlim=(0, longest), xlabel="step", ylabel="loss")
    label_ends(curve, ends)
    figure.alt = sentence(told)
    return figure


@styled
def stability_region(
    points: Mapping[str, tuple[float, float]] | None = None, kinds: Sequence[str] = tuple(KINDS)
) -> Figure:
    """Up to which learning rate each kind of step is stable on a quadratic, over the momentum β.

    Args:
        points: name -> (β, η λ_max) to mark.
        kinds: of "plain", "heavy ball", "Nesterov".

    Raises:
        ValueError: on an unknown kind, none at all, or a point outside 0 ≤ β < 1, η λ_max ≥ 0.
    """
    require_lines("kinds", kinds)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    figure, (axes,) = panels()
    beta = np.linspace(0, 1, 201)
    ends, told = [], []
    top = max([4.2, *(1.1 * at[1] for at in (points or {}).values())])
    for kind in kinds:
        line = LINES[list(KINDS).index(kind)]
        limit = KINDS[kind](beta)
        axes.plot(beta, limit, color=line["color"], linestyle=line["linestyle"])
        axes.fill_between(beta, 0, limit, color=line["color"], alpha=0.07, linewidth=0)
        ends.append((float(limit[-1]), kind, line["color"]))
        told.append(f"{kind} {number(float(KINDS[kind](np.array(0.9))))}")
    axes.set(xlim=(0, 1), ylim=(0, top), xlabel="momentum β", ylabel="learning rate × λ$_{max}$")
    for name, (b, rate) in (points or {}).items():
        if not (0 <= b < 1 and rate >= 0):
            raise ValueError(f"point {name!r} must have 0 ≤ β < 1 and η λ_max ≥ 0; got {(b, rate)}")
        axes.plot(b, rate, marker="o", markersize=8, color=COLORS["black"], linestyle="none")
        side = -1 if b > 0.5 else 1  # beside the dot, toward the middle
        axes.annotate(
            name, (b, rate), xytext=(9 * side, 0), textcoords="offset points", ha="right" if side < 0 else "left",
            va="center", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )  # fmt: skip
    label_ends(axes, ends)
    marked = "; ".join(f"marked: {name} at β {number(b)}, {number(rate)}" for name, (b, rate) in (points or {}).items())
    figure.alt = sentence([f"Stable below these learning rates times λ_max at β = 0.9: {', '.join(told)}", marked])
    return figure


@styled
def step_sizes(series: Mapping[str, Any], peaks: bool = True) -> Figure:
    """How far each update moves a parameter, in units of the learning rate η, over the steps.

    Args:
        series: name -> (T,) sizes |Δθ| / η of the steps 1 … T.
        peaks: mark each line's largest step with its value.

    Raises:
        ValueError: if there is no series or one is empty.
    """
    require_lines("series", series)
    figure, (axes,) = panels()
    ends, told, longest = [], [], 1
    axes.axhline(1, color=COLORS["gray"], linewidth=1)
    for (name, values), line in zip(series.items(), LINES, strict=False):
        sizes = as_numbers(f"series {name!r}", values)
        if not np.isfinite(sizes).any():
            raise ValueError(f"series {name!r} has not one finite value")
        steps = np.arange(1, len(sizes) + 1)
        few = {"marker": line["marker"], "markersize": 4} if len(sizes) <= 40 else {}
        axes.plot(steps, sizes, color=line["color"], linestyle=line["linestyle"], **few)
        top = int(np.flatnonzero(sizes >= np.nanmax(sizes) * (1 - 1e-9))[0])
        if peaks and sizes[top] > 1.1 * sizes[0]:
            axes.annotate(
                f"{sizes[top]:.2f} at step {top + 1}", (steps[top], sizes[top]), xytext=(0, 6),
                color=ink(line["color"]), textcoords="offset points", ha="left" if top < len(sizes) / 2 else "right",
            )  # fmt: skip
        ends.append((float(sizes[-1]), name, line["color"]))
        longest = max(longest, len(sizes))
        told.append(
            f"{name}: first step {number(sizes[0])}, largest {number(sizes[top])} at step {top + 1}, "
            f"last {number(sizes[-1])}"
        )
    axes.set(xlim=(0.5, longest), xlabel="step", ylabel="size of the step / η")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    label_ends(axes, ends)
    figure.alt = "Step sizes in units of the learning rate. " + sentence(told)
    return figure

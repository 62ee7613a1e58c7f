"""The ill-conditioned bowl that the descent and optimizer explorers roll down: ½ (λ₁ x₁² + λ₂ x₂²)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from peft_helpers.optimizers import Optimizer
from peft_helpers.plots.style import COLORS

CURVATURES = (0.5, 10.0)  # λ_min, λ_max: condition number 20
START = (-2.6, 0.9)
WINDOW = (-3.0, 3.0, -1.5, 1.5)  # x₁ low, x₁ high, x₂ low, x₂ high


def loss(points: Tensor) -> Tensor:
    """½ Σ λ x². Shape: (…, 2) -> (…)."""
    return 0.5 * (torch.tensor(CURVATURES, dtype=points.dtype) * points**2).sum(-1)


def gradient(points: Tensor) -> Tensor:
    """λ x, by hand. Shape: (…, 2) -> (…, 2)."""
    return torch.tensor(CURVATURES, dtype=points.dtype) * points


def trace(
    make_optimizer: Callable[[list[Tensor]], Optimizer],
    start: Tensor,
    gradient: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Where an optimizer of the course goes. Shape: start (D,) -> (steps + 1, D), the start included."""
    parameter = start.clone()
    optimizer = make_optimizer([parameter])
    places = [parameter.clone()]
    for _ in range(steps):
        parameter.grad = gradient(parameter)
        optimizer.step()
        places.append(parameter.clone())
    return torch.stack(places)


def draw(axes: Axes) -> None:
    """Contours, start and minimum."""
    x, y = np.meshgrid(np.linspace(*WINDOW[:2], 120), np.linspace(*WINDOW[2:], 120))
    surface = loss(torch.from_numpy(np.stack([x, y], -1))).numpy()
    axes.contour(x, y, surface, levels=surface.max() * np.linspace(0.06, 1, 9) ** 2.2, colors="#c2c2c2", linewidths=0.9)
    axes.plot(0, 0, marker="x", color=COLORS["black"], markersize=8, markeredgewidth=2)
    axes.set(xlim=WINDOW[:2], ylim=WINDOW[2:], xlabel="x₁", ylabel="x₂", xticks=[-2, 0, 2], yticks=[-1, 0, 1])
    axes.yaxis.labelpad = 0
    axes.grid(visible=False)


def drawable(values: Tensor, limit: float) -> np.ndarray:
    """Numbers that Agg can draw: whatever lies far outside the axes is moved just outside."""
    return values.clamp(-limit, limit).numpy()

"""Descent explorer (lesson 02): a dot (η, β) in the region of stability -> the path down a bowl, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peft_helpers.optimizers import SGD, stability_limit
from peft_helpers.plots.style import COLORS, LINES, panels, styled
from peft_helpers.widgets import bowl
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, slider

KINDS = {"plain": "plain", "heavy_ball": "heavy ball", "nesterov": "Nesterov"}
FORMULAS = {"plain": "2/λ_max", "heavy_ball": "2(1 + β)/λ_max", "nesterov": "2(1 + β)/((1 + 2β) λ_max)"}
LOOKS = dict(zip(KINDS, LINES, strict=False))
STEPS = 60
HIGHEST = 0.42  # learning rate on the axis
FLOOR, CEILING = 1e-6, 1e4  # losses on the axis


@dataclass(frozen=True)
class DescentReading:
    """One state, in float64.

    Attributes:
        learning_rate, momentum: η, β.
        kind: "plain", "heavy_ball" or "nesterov".
        limit: largest stable learning rate for this kind and β.
        path: (STEPS + 1, 2).
        losses: (STEPS + 1,).
    """

    learning_rate: float
    momentum: float
    kind: str
    limit: float
    path: Tensor
    losses: Tensor


def compute(kind: str, learning_rate: float, momentum: float) -> DescentReading:
    """One choice of the three controls -> everything that the explorer shows. Plain descent ignores the momentum."""
    used = 0.0 if kind == "plain" else momentum
    path = bowl.trace(
        lambda parameters: SGD(parameters, learning_rate, used, nesterov=kind == "nesterov" and used > 0),
        torch.tensor(bowl.START, dtype=torch.float64),
        bowl.gradient,
        STEPS,
    )
    limit = stability_limit(kind, max(bowl.CURVATURES), momentum)
    return DescentReading(learning_rate, momentum, kind, limit, path, bowl.loss(path))


class DescentView:
    """The region of stability with a dot in it, the path on the contours, and the loss at every step."""

    @styled
    def __init__(self):
        self.figure, (region, plane, curve) = panels(3, width=WIDTH, height=HEIGHT)
        self.betas = np.linspace(0, 0.99, 100)
        self.limits = {k: [stability_limit(k, max(bowl.CURVATURES), float(b)) for b in self.betas] for k in KINDS}
        self.area = region.fill_betweenx(
            self.betas, 0, self.limits["plain"], color=COLORS["gray"], alpha=0.22, linewidth=0
        )
        self.borders = {}
        for kind, name in KINDS.items():
            look = {"color": LOOKS[kind]["color"], "linestyle": LOOKS[kind]["linestyle"]}
            self.borders[kind] = region.plot(self.limits[kind], self.betas, **look, label=name)[0]
        self.dot = region.plot([], [], marker="o", markersize=10, color=COLORS["black"], markeredgecolor="white")[0]
        region.set(title="stable left of the line", xlabel="learning rate η", ylabel="momentum β",
                   xlim=(0, HIGHEST + 0.03), ylim=(0, 1.36), xticks=[0, 0.2, 0.4], yticks=[0, 0.5, 1])  # fmt: skip
        region.legend(loc="upper right", borderaxespad=0, handlelength=2.2, labelspacing=0.25)
        bowl.draw(plane)
        plane.set(title="path")
        self.path = plane.plot([], [], linewidth=1.2, markersize=4)[0]
        self.start = plane.plot(*bowl.START, marker="o", markersize=8, markerfacecolor="white", color=COLORS["black"])[
            0
        ]
        self.loss = curve.plot([], [])[0]
        curve.set(title="loss", xlabel="step", yscale="log", xlim=(0, STEPS), ylim=(FLOOR, CEILING),
                  yticks=[1e-6, 1e-4, 1e-2, 1, 1e2, 1e4])  # fmt: skip
        curve.minorticks_off()
        self.moving = [self.area, *self.borders.values(), self.dot, self.path, self.start, self.loss]

    def show(self, reading: DescentReading) -> None:
        """Update region, dot, path and loss."""
        look = LOOKS[reading.kind]
        edge = np.array([self.limits[reading.kind], self.betas]).T
        self.area.set_verts([np.vstack([[0, 0], edge, [0, self.betas[-1]]])])
        self.area.set_facecolor(look["color"])
        for kind, border in self.borders.items():
            border.set_linewidth(3.0 if kind == reading.kind else 1.4)
        self.dot.set_data([reading.learning_rate], [reading.momentum])
        self.path.set_data(*bowl.drawable(reading.path, 30.0).T)
        self.path.set(color=look["color"], marker=look["marker"])
        self.loss.set_data(np.arange(STEPS + 1), reading.losses.clamp(FLOOR * 1e-3, CEILING * 1e3).numpy())
        self.loss.set_color(look["color"])
        self.figure.alt = (
            "Three panels: the region of stable learning rates η and momenta β with a dot at the chosen pair, the path "
            "on the bowl's contours, and the loss over the steps. " + describe(reading).summary
        )


def describe(reading: DescentReading) -> Readout:
    """The exact values, and whether the run behaved as its limit says."""
    first, last = reading.losses[0].item(), reading.losses[-1].item()
    share = reading.learning_rate / reading.limit
    side = "below it: it converges" if share < 1 else "not below it: it does not converge"
    rates = f"η = {reading.learning_rate:.3f}"
    rates += " (momentum unused)" if reading.kind == "plain" else f", β = {reading.momentum:.2f}"
    earlier, later = reading.losses[-40:-20].max(), reading.losses[-20:].max()  # the tops of the swings
    factor = (later / earlier).item() ** (1 / 20)
    summary = (
        f"{KINDS[reading.kind]} with {rates}: {share * 100:.1f} % of the limit, {side}. "
        f"Loss {figures(first)} at the start, {figures(last)} after {STEPS} steps."
    )
    rows = [
        [
            f"{KINDS[kind]}{' ◂' if kind == reading.kind else ''}",
            FORMULAS[kind],
            figures(stability_limit(kind, max(bowl.CURVATURES), reading.momentum)),
            f"× {figures(factor)}" if kind == reading.kind else "",
        ]
        for kind in KINDS
    ]
    low, high = bowl.CURVATURES
    header = (
        f"λ_max = {high:g}, λ_min = {low:g}",
        "limit of η",
        f"at β = {reading.momentum:.2f}",
        "loss per step, at its tops",
    )
    return Readout(summary[0].upper() + summary[1:], header, rows)


def descent_explorer() -> Explorer:
    """Move a dot (η, β) through the region of stability; see the path on an ill-conditioned bowl, and the loss."""
    controls = {
        "kind": choice("kind of step", [(name, kind) for kind, name in KINDS.items()], "heavy_ball"),
        "learning_rate": slider("learning rate η", 0.1, 0.005, HIGHEST, 0.005, digits=3),
        "momentum": slider("momentum β", 0.8, 0.0, 0.99, 0.01),
    }
    title = "Descent explorer: kind of step, learning rate, momentum"
    return Explorer("descent", title, controls, compute, DescentView, describe)

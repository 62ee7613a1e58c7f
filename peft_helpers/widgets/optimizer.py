"""Optimizer explorer (lesson 03): Adam's β₁, β₂, ε and bias correction -> the size of its steps, and its path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from peft_helpers.optimizers import Adam
from peft_helpers.plots.style import COLORS, LINES, panels, styled
from peft_helpers.widgets import bowl
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, slider, steps

STEPS = 100
LEARNING_RATE = 0.1
USUAL = {"beta1": 0.9, "beta2": 0.999, "exponent": -8, "bias_correction": True, "scale": 0}
DEFAULTS = {**USUAL, "bias_correction": False}  # so that the first picture shows what the correction is for
BETAS2 = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
SMALLEST, LARGEST = 1e-3, 300.0  # steps on the axis, in units of η


@dataclass(frozen=True)
class OptimizerReading:
    """One state, in float64.

    Attributes:
        settings: the five controls' values.
        sizes: (STEPS,) |Δθ|/η of steps 1 … STEPS under a constant gradient of 1, times the scale.
        path: (STEPS + 1, 2) on the bowl, its loss times the scale.
        losses: (STEPS + 1,) of the bowl, without the scale.
    """

    settings: dict
    sizes: Tensor
    path: Tensor
    losses: Tensor


def compute(beta1: float, beta2: float, exponent: int, bias_correction: bool, scale: int) -> OptimizerReading:
    """One choice of the controls -> everything that the explorer shows.

    Adam works on each number alone, so that one run does both: x₀ sees a constant gradient, x₁ and x₂ the bowl's.

    Args:
        beta1, beta2: β₁, β₂.
        exponent: ε = 10^exponent.
        bias_correction: whether m and v are corrected for starting at zero.
        scale: the loss, and with it every gradient, is multiplied by 10^scale.
    """
    settings = {
        "beta1": beta1,
        "beta2": beta2,
        "exponent": exponent,
        "bias_correction": bias_correction,
        "scale": scale,
    }
    one = torch.ones(1, dtype=torch.float64)
    places = bowl.trace(
        lambda parameters: Adam(
            parameters, LEARNING_RATE, (beta1, beta2), 10.0**exponent, bias_correction=bias_correction
        ),
        torch.tensor((0.0, *bowl.START), dtype=torch.float64),
        lambda x: 10.0**scale * torch.cat([one, bowl.gradient(x[1:])]),
        STEPS,
    )
    path = places[:, 1:]
    return OptimizerReading(settings, places[:, 0].diff().abs() / LEARNING_RATE, path, bowl.loss(path))


class OptimizerView:
    """The size of each step under a constant gradient, and the path on the bowl; dashed: the usual Adam."""

    @styled
    def __init__(self):
        self.figure, (size, plane, curve) = panels(3, width=WIDTH, height=HEIGHT)
        usual = compute(**USUAL)
        chosen, dashed = LINES[0], {"color": COLORS["orange"], "linestyle": (0, (5, 2)), "linewidth": 1.6}
        numbers, times = np.arange(1, STEPS + 1), np.arange(STEPS + 1)
        size.plot(numbers, usual.sizes.numpy(), **dashed, label="usual Adam")
        self.size = size.plot([], [], color=chosen["color"], label="this one")[0]
        self.gradient = size.set_title("step / η")
        size.set(xlabel="step", xlim=(0.9, 110), ylim=(SMALLEST, LARGEST))
        size.set(xscale="log", yscale="log", xticks=[1, 10, 100], yticks=[1e-3, 1e-2, 1e-1, 1, 10, 100])
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        size.xaxis.set_major_formatter(plain)
        size.yaxis.set_major_formatter(plain)
        size.minorticks_off()
        size.legend(loc="lower left", borderaxespad=0, handlelength=2.2, labelspacing=0.25)
        bowl.draw(plane)
        self.epsilon = plane.set_title("path")
        plane.plot(*usual.path.numpy().T, **dashed)
        self.path = plane.plot([], [], color=chosen["color"], linewidth=1.3, marker=chosen["marker"], markersize=3)[0]
        self.start = plane.plot(*bowl.START, marker="o", markersize=8, markerfacecolor="white", color=COLORS["black"])[
            0
        ]
        curve.plot(times, usual.losses.numpy(), **dashed)
        self.loss = curve.plot([], [], color=chosen["color"])[0]
        curve.set(title="loss of the bowl", xlabel="step", yscale="log", xlim=(0, STEPS), ylim=(1e-4, 1e4),
                  yticks=[1e-4, 1e-2, 1, 1e2, 1e4])  # fmt: skip
        curve.minorticks_off()
        self.numbers, self.times = numbers, times
        self.moving = [self.gradient, self.epsilon, self.size, self.path, self.start, self.loss]

    def show(self, reading: OptimizerReading) -> None:
        """Update the lines; the titles say ε and the scale, which often change nothing else: that is the lesson."""
        self.gradient.set_text(f"step / η, gradient {power(reading.settings['scale'])}")
        self.epsilon.set_text(f"path with ε = {power(reading.settings['exponent'])}")
        self.size.set_data(self.numbers, reading.sizes.clamp(SMALLEST * 1e-3, LARGEST * 1e3).numpy())
        self.path.set_data(*bowl.drawable(reading.path, 30.0).T)
        self.loss.set_data(self.times, reading.losses.clamp(1e-8, 1e8).numpy())
        self.figure.alt = (
            "Three panels, with the usual Adam dashed: the size of each step under a constant gradient, the path on "
            "the bowl's contours, and the loss over the steps. " + describe(reading).summary
        )


def power(exponent: int) -> str:
    """10^exponent as it stands on the slider: 0.001 … 1000 in digits, else 1e−8."""
    return f"{10.0**exponent:g}" if abs(exponent) <= 3 else f"1e{exponent}".replace("-", "−")


def describe(reading: OptimizerReading) -> Readout:
    """The exact values."""
    sizes, at = reading.sizes, int((reading.sizes >= reading.sizes.max() * (1 - 1e-9)).nonzero()[0])
    known = reading.settings
    correction = "with" if known["bias_correction"] else "without"
    epsilon, scale = power(known["exponent"]), power(known["scale"])
    summary = (
        f"Adam {correction} bias correction, β₁ = {known['beta1']:.2f}, β₂ = {known['beta2']:g}, "
        f"ε = {epsilon}, loss × {scale}: the first step is {figures(sizes[0].item())} η, "
        f"the largest {figures(sizes[at].item())} η at step {at + 1}, step {STEPS} is {figures(sizes[-1].item())} η."
    )
    header = ("on the bowl, η = 0.1", *(f"step {step}" for step in (0, 1, 10, 50, STEPS)))
    chosen = (0, 1, 10, 50, STEPS)
    rows = [
        ["x₁", *(figures(reading.path[step, 0].item()) for step in chosen)],
        ["x₂", *(figures(reading.path[step, 1].item()) for step in chosen)],
        ["loss (unscaled)", *(figures(reading.losses[step].item()) for step in chosen)],
    ]
    return Readout(summary, header, rows)


def optimizer_explorer() -> Explorer:
    """Change Adam's β₁, β₂, ε, its bias correction and the scale of the loss; see its steps and its path."""
    powers = [(power(exponent), exponent) for exponent in range(-12, 1)]
    scales = [(power(exponent), exponent) for exponent in range(-6, 7)]
    controls = {
        "beta1": slider("β₁", DEFAULTS["beta1"], 0.0, 0.99, 0.01),
        "beta2": steps("β₂", [(f"{beta:g}", beta) for beta in BETAS2], DEFAULTS["beta2"]),
        "exponent": steps("ε", powers, DEFAULTS["exponent"]),
        "scale": steps("loss ×", scales, DEFAULTS["scale"]),
        "bias_correction": choice("bias correction", [("on", True), ("off", False)], DEFAULTS["bias_correction"]),
    }
    title = "Optimizer explorer: Adam's β₁, β₂, ε, bias correction, scale of the loss"
    return Explorer("optimizer", title, controls, compute, OptimizerView, describe)

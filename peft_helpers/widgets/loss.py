"""Loss explorer (lesson 01): three logits and the true class -> probabilities, losses, and what pulls on each logit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from peft_helpers import losses
from peft_helpers.plots.style import COLORS, LINES, panels, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, slider

CLASSES = "ABC"
DEFAULT_LOGITS, DEFAULT_TRUE = (4.0, 0.0, -2.0), "B"  # surely wrong: where squared error has stopped learning
LIMIT = 10.0  # of the logits
CROSS_ENTROPY, SQUARED_ERROR = LINES[0], LINES[1]


@dataclass(frozen=True)
class LossReading:
    """One state, in float64. Squared error is the sum over the classes of (p − y)².

    Attributes:
        logits, probabilities, label: (3,).
        true: index of the true class.
        cross_entropy, squared_error: scalars.
        cross_entropy_gradient, squared_error_gradient: (3,), by the logits.
        sweep: (N,) values of the true class's logit, the others kept.
        cross_entropy_pull, squared_error_pull: (N,) minus the gradient by that logit, for each of them.
    """

    logits: Tensor
    probabilities: Tensor
    label: Tensor
    true: int
    cross_entropy: float
    squared_error: float
    cross_entropy_gradient: Tensor
    squared_error_gradient: Tensor
    sweep: Tensor
    cross_entropy_pull: Tensor
    squared_error_pull: Tensor


def squared_error_gradient(logits: Tensor, label: Tensor) -> Tensor:
    """The gradient of Σ_k (p_k − y_k)² by the logits, through the softmax. Shape: (B, K), (B, K) -> (B, K)."""
    logits = logits.clone().requires_grad_()
    losses.mean_squared_error(losses.softmax(logits), label, reduction="sum").backward()
    return logits.grad


def compute(a: float, b: float, c: float, true: str) -> LossReading:
    """Three logits and the true class's letter -> everything that the explorer shows."""
    logits, index = torch.tensor([a, b, c], dtype=torch.float64), CLASSES.index(true)
    target = torch.tensor(index)
    probabilities, label = losses.softmax(logits), torch.eye(3, dtype=torch.float64)[index]
    sweep = torch.linspace(-LIMIT, LIMIT, 161, dtype=torch.float64)
    swept = logits.repeat(len(sweep), 1)
    swept[:, index] = sweep
    pulled = losses.cross_entropy_gradient(swept, target.expand(len(sweep)), reduction="none")
    pulled_squared = squared_error_gradient(swept, label.expand_as(swept))
    return LossReading(
        logits=logits,
        probabilities=probabilities,
        label=label,
        true=index,
        cross_entropy=losses.cross_entropy(logits, target).item(),
        squared_error=losses.mean_squared_error(probabilities, label, reduction="sum").item(),
        cross_entropy_gradient=losses.cross_entropy_gradient(logits, target),
        squared_error_gradient=squared_error_gradient(logits[None], label[None])[0],
        sweep=sweep,
        cross_entropy_pull=-pulled[:, index],
        squared_error_pull=-pulled_squared[:, index],
    )


class LossView:
    """Probabilities beside the label, both gradients by each logit, and the pull on the true logit."""

    @styled
    def __init__(self):
        self.figure, (shares, gradients, pull) = panels(3, width=WIDTH, height=HEIGHT)
        places = range(3)
        ticks = {"xticks": list(places), "xticklabels": list(CLASSES), "xlim": (-0.6, 2.6)}
        for axes in (shares, gradients):
            axes.grid(axis="x", visible=False)
        self.bars = shares.bar(places, [0.0] * 3, 0.62, color=COLORS["sky"])
        self.marks = shares.plot(places, [0.0] * 3, linestyle="none", marker="_", markersize=34, markeredgewidth=2.5,
                                 color=COLORS["black"], label="label y")[0]  # fmt: skip
        shares.set(title="probability p", ylim=(-0.03, 1.2), yticks=[0, 0.5, 1], **ticks)
        shares.legend(loc="upper right", borderaxespad=0, handlelength=1.2, markerscale=0.6)
        look = {"edgecolor": SQUARED_ERROR["color"], "color": "white", "hatch": "////"}
        self.slopes = gradients.bar([x - 0.19 for x in places], [0.0] * 3, 0.36, color=CROSS_ENTROPY["color"])
        self.squared_slopes = gradients.bar([x + 0.19 for x in places], [0.0] * 3, 0.36, **look)
        gradients.axhline(0, color=COLORS["black"], linewidth=1)
        gradients.set(title="gradient by each logit", ylim=(-1.06, 1.06), yticks=[-1, -0.5, 0, 0.5, 1], **ticks)
        lines = {"markevery": [0], "markersize": 9}
        self.pull = pull.plot([], [], **CROSS_ENTROPY, **lines, label="cross-entropy")[0]
        self.squared_pull = pull.plot([], [], **SQUARED_ERROR, **lines, label="squared error")[0]
        pull.set(title="pull on the true logit", xlabel="true class's logit", xlim=(-LIMIT - 0.6, LIMIT + 0.6),
                 ylim=(-0.04, 1.44), xticks=[-10, -5, 0, 5, 10], yticks=[0, 0.5, 1])  # fmt: skip
        pull.legend(loc="upper right", borderaxespad=0, handlelength=1.8)
        self.moving = [*self.bars, self.marks, *self.squared_slopes, *self.slopes, self.pull, self.squared_pull]

    def show(self, reading: LossReading) -> None:
        """Update bars, lines and dots."""
        for bars, heights in (
            (self.bars, reading.probabilities),
            (self.slopes, reading.cross_entropy_gradient),
            (self.squared_slopes, reading.squared_error_gradient),
        ):
            for bar, height in zip(bars, heights.tolist(), strict=True):
                bar.set_height(height)
        for k, bar in enumerate(self.bars):
            bar.set_facecolor(COLORS["blue"] if k == reading.true else COLORS["sky"])
        self.marks.set_ydata(reading.label.tolist())
        nearest = int((reading.sweep - reading.logits[reading.true]).abs().argmin())
        for line, values in (
            (self.pull, reading.cross_entropy_pull),
            (self.squared_pull, reading.squared_error_pull),
        ):
            line.set_data(reading.sweep.tolist(), values.tolist())
            line.set_markevery([nearest])
        self.figure.alt = (
            "Three panels: probabilities beside the label, the gradients of cross-entropy and of squared error by each "
            "logit, and the pull on the true class's logit. " + describe(reading).summary
        )


def describe(reading: LossReading) -> Readout:
    """The exact values."""
    true = CLASSES[reading.true]
    slope, squared = (g[reading.true].item() for g in (reading.cross_entropy_gradient, reading.squared_error_gradient))
    ratio = abs(slope / squared) if squared else float("inf")
    rows = [
        [
            f"{CLASSES[k]}{' (true)' if k == reading.true else ''}",
            figures(reading.logits[k].item(), 1),
            figures(reading.probabilities[k].item()),
            figures(reading.cross_entropy_gradient[k].item()),
            figures(reading.squared_error_gradient[k].item()),
        ]
        for k in range(3)
    ]
    summary = (
        f"Cross-entropy −ln p({true}) = {figures(reading.cross_entropy)} nats, squared error Σ(p − y)² = "
        f"{figures(reading.squared_error)}. On the true logit cross-entropy pulls {ratio:,.1f} times as hard."
    )
    return Readout(
        summary, ("class", "logit z", "probability p", "cross-entropy: p − y", "gradient of squared error"), rows
    )


def loss_explorer() -> Explorer:
    """Move three logits and choose the true class; see probabilities, cross-entropy and its gradient p − y.

    The gradient of squared error on the same probabilities stands beside it: it dies where the model is surely wrong.
    """
    controls = {
        letter.lower(): slider(f"logit of {letter}", value, -LIMIT, LIMIT, 0.1, digits=1)
        for letter, value in zip(CLASSES, DEFAULT_LOGITS, strict=True)
    }
    controls["true"] = choice("true class", [(letter, letter) for letter in CLASSES], DEFAULT_TRUE)
    return Explorer("loss", "Loss explorer: three logits, the true class", controls, compute, LossView, describe)

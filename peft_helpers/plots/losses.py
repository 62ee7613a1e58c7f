"""Figures of logits, probabilities, losses and gradients (lesson 01)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from peft_helpers.plots.style import COLORS, LINES, as_numbers, number, panels, styled

CROSS_ENTROPY, SQUARED_ERROR = LINES[0], LINES[1]


@styled
def loss_and_gradient(margin: float | None = None, limit: float = 8.0) -> Figure:
    """Cross-entropy and squared error of a two-class softmax, and the size of their gradients, over the margin.

    Squared error is the mean over both classes of (p − y)², so (1 − p)² with p = σ(margin).

    Args:
        margin: logit of the right class minus logit of the wrong one, to mark; None marks nothing.
        limit: the axis reaches from −limit to limit.

    Raises:
        ValueError: if the limit is not positive or the margin lies outside.
    """
    if not limit > 0 or (margin is not None and not -limit <= margin <= limit):
        raise ValueError(f"the margin must lie within ± a positive limit; got margin {margin}, limit {limit}")
    z = np.linspace(-limit, limit, 321)
    figure, (left, right) = panels(2)
    for axes, curves, what in (
        (left, _two_class_losses, "loss"),
        (right, _two_class_gradients, "size of the gradient"),
    ):
        for values, name, line in zip(curves(z), ("cross-entropy", "squared error"), LINES, strict=False):
            axes.plot(z, values, color=line["color"], linestyle=line["linestyle"], label=name)
            if margin is not None:
                axes.plot(
                    margin, np.interp(margin, z, values), color=line["color"], marker=line["marker"], markersize=8
                )
        axes.set(xlabel="margin of the right class (logits)", ylabel=what, ylim=(-0.03 * axes.get_ylim()[1], None))
    left.legend(loc="upper right")
    at = -6.0 if margin is None else margin
    losses, gradients = _two_class_losses(np.array(at)), _two_class_gradients(np.array(at))
    figure.alt = (
        f"At a margin of {number(at)} cross-entropy is {number(losses[0])} with a gradient of size "
        f"{number(gradients[0])}; squared error is {number(losses[1])} with a gradient of size {number(gradients[1])}. "
        "Where the model is surely wrong, the gradient of cross-entropy approaches 1, that of squared error dies."
    )
    return figure


def _two_class_losses(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.logaddexp(0, -z), (1 / (1 + np.exp(z))) ** 2


def _two_class_gradients(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, wrong = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
    return wrong, 2 * wrong * wrong * p


@styled
def probability_bars(logits: Any, target: int, names: Sequence[str] | None = None) -> Figure:
    """Softmax probabilities of one example, and the gradients of cross-entropy and of squared error by each logit.

    Args:
        logits: (K,), K at most 8.
        target: the right class, 0 … K − 1.
        names: the K classes' names.

    Raises:
        ValueError: on shapes that do not fit, or logits that are not finite.
    """
    logits = as_numbers("logits", logits)
    classes = len(logits)
    names = [f"class {k}" for k in range(classes)] if names is None else [str(name) for name in names]
    if not np.isfinite(logits).all() or not 2 <= classes <= 8 or len(names) != classes or target not in range(classes):
        raise ValueError(
            "probability_bars takes 2 to 8 finite logits, a target among them and as many names; "
            f"got {classes} logits, target {target}, {len(names)} names"
        )
    p, y = np.exp(logits - logits.max()), np.eye(classes)[target]
    p /= p.sum()
    squared = 2 / classes * p * ((p - y) - (p * (p - y)).sum())
    figure, (left, right) = panels(2)
    rows = np.arange(classes)[::-1]
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.set_ylim(-0.6, classes - 0.4)
    left.barh(rows, p, 0.62, color=[COLORS["blue"] if k == target else "#b9c4cc" for k in range(classes)])
    for row, value in zip(rows, p, strict=True):
        left.text(value + 0.02, row, f"{value:.3f}", va="center")
    left.set(xlim=(0, 1.22), xlabel="probability p", xticks=[0, 0.5, 1])
    left.set_yticks(rows, [f"{name} ✓" if k == target else name for k, name in enumerate(names)])
    for values, shift, line, hatch, name in (
        (p - y, 0.17, CROSS_ENTROPY, None, "cross-entropy: p − y"),
        (squared, -0.17, SQUARED_ERROR, "///", "squared error"),
    ):
        right.barh(rows + shift, values, 0.32, color="white" if hatch else line["color"], edgecolor=line["color"],
                   hatch=hatch, label=name)  # fmt: skip
    right.axvline(0, color=COLORS["black"], linewidth=1)
    right.set(xlim=(-1.05, 1.05), xlabel="gradient by the logit", yticks=rows, yticklabels=[])
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, borderaxespad=0.2)
    shares = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, p, strict=True))
    figure.alt = (
        f"Probabilities: {shares}; the right class is {names[target]}, its cross-entropy {number(-np.log(p[target]))}. "
        f"By its logit, the gradient of cross-entropy is {number(p[target] - 1)}, "
        f"that of squared error {number(squared[target])}."
    )
    return figure

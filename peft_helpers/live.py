"""What moves while a reader watches: the loss during training, and a model's verdict at every letter that is typed.

Made of core widgets common to ipywidgets 7.7.1 and 8. Drawn as SVG and HTML, which costs the training next to nothing.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as W

from peft_helpers.plots.style import COLORS

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 190, 46, 34  # pixels; LEFT and BOTTOM are for the numbers at the axes
SMOOTH = 8  # steps in the running mean


class LossCurve(W.HTML):
    """A curve that grows by a point a step: `training.fit(…, on_step=curve)`.

    Args:
        steps: how many there will be.
        guess: a loss to draw a line at, such as ln 2, that of guessing between two classes.
    """

    def __init__(self, steps: int, guess: float | None = None):
        super().__init__()
        self.steps, self.guess, self.losses = steps, guess, []
        self.value = loss_svg(self.losses, steps, guess)
        self.add_class("pf-live-loss")

    def __call__(self, row: dict[str, Any]) -> None:
        self.losses.append(float(row["loss"]))
        self.value = loss_svg(self.losses, self.steps, self.guess)

    def __repr__(self) -> str:
        return "The loss, live, while the model trains (in a running notebook; below is the figure of the same run)"


def loss_svg(losses: Sequence[float], steps: int, guess: float | None = None) -> str:
    """The losses so far, thin, and their running mean, bold, on axes for all `steps`; as SVG with a line of text."""
    top = max([1.0, *(loss for loss in losses if math.isfinite(loss))]) * 1.05

    def point(step: float, loss: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - 8) * step / steps:.1f},{(HEIGHT - BOTTOM) * (1 - loss / top):.1f}"

    def line(values: Sequence[float], look: str) -> str:
        points = " ".join(point(i + 1, value) for i, value in enumerate(values) if math.isfinite(value))
        return f'<polyline points="{points}" fill="none" {look}/>'

    def text(x: float, y: float, words: str, anchor: str = "end") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="13" fill="#444">{html.escape(words)}</text>'

    means = [sum(losses[max(0, i - SMOOTH + 1) : i + 1]) / min(i + 1, SMOOTH) for i in range(len(losses))]
    floor, blue = HEIGHT - BOTTOM, COLORS["blue"]
    parts = [
        f'<path d="M{LEFT},0V{floor}H{WIDTH - 8}" fill="none" stroke="#555"/>',
        text(LEFT - 6, floor + 4, "0"),
        text(LEFT - 6, floor * (1 - 1 / top) + 4, "1"),
        text(LEFT, HEIGHT - 18, "0", "middle"),
        text(WIDTH - 8, HEIGHT - 18, f"{steps}"),
        text((LEFT + WIDTH) / 2, HEIGHT - 14, "step", "middle"),
        text(LEFT + 8, 14, "loss (nats)", "start"),
    ]
    if guess is not None:
        y = floor * (1 - guess / top)
        parts.append(f'<path d="M{LEFT},{y:.1f}H{WIDTH - 8}" stroke="{COLORS["gray"]}" stroke-dasharray="3 3"/>')
        parts.append(text(WIDTH - 12, y - 5, f"guessing: {guess:.3f}"))
    parts.append(line(losses, f'stroke="{blue}" stroke-opacity="0.35" stroke-width="1.2"'))
    parts.append(line(means, f'stroke="{blue}" stroke-width="2.6"'))
    said = "waiting for the first step"
    if losses:
        recent = f"mean of the last {min(len(losses), SMOOTH)}: {means[-1]:.3f}"
        said = f"step {len(losses)} of {steps} · loss of this batch {losses[-1]:.3f} · {recent}"
    return (
        f'<div style="font-size:14px;line-height:1.6">{said}</div>'
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}" '
        f'style="background:white">{"".join(parts)}</svg>'
    )


class SentenceBox(W.VBox):
    """A line of text to type into, and what the model makes of it at every letter.

    Args:
        probabilities: texts -> one row of class probabilities each, (B, K).
        labels: the K classes' names.
        value: what stands there at first.
    """

    def __init__(self, probabilities: Callable[[list[str]], Any], labels: Sequence[str], value: str = ""):
        self.probabilities, self.labels = probabilities, list(labels)
        self.field = W.Text(
            value=value, description="Your text", placeholder="type a sentence", layout=W.Layout(width="640px")
        )
        self.field.continuous_update = True
        self.answer = W.HTML(layout=W.Layout(width="640px", min_height="70px"))
        self.field.observe(lambda _: self.read(), "value")
        super().__init__([self.field, self.answer])
        self.add_class("pf-sentence")
        self.read()

    def read(self) -> None:
        """Ask the model, and show its answer."""
        text = self.field.value.strip()
        if not text:
            self.answer.value = "Type a sentence: the bars follow."
            return
        shares = [float(share) for share in self.probabilities([text])[0]]
        self.answer.value = bars(self.labels, shares)

    def __repr__(self) -> str:
        return "Type a sentence, and see the model's verdict at every letter (in a running notebook)"


def bars(labels: Sequence[str], shares: Sequence[float]) -> str:
    """One bar a class, as HTML that screen readers read out."""
    rows = "".join(
        f'<tr><td style="padding:1px 10px 1px 0;text-align:right">{html.escape(label)}</td>'
        f'<td style="width:420px"><div style="height:16px;width:{100 * share:.1f}%;background:{color}"></div></td>'
        f'<td style="padding-left:10px">{100 * share:.1f} %</td></tr>'
        for label, share, color in zip(labels, shares, ["#D55E00", "#0072B2", "#009E73", "#CC79A7"] * 4, strict=False)
    )
    return f'<table role="status" aria-live="polite" style="font-size:14px">{rows}</table>'

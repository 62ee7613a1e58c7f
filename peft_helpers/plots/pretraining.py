"""The figure of how the pocket models were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from peft_helpers.plots.style import COLORS, number, panels, require_items, styled

SHOWN = {
    "masked": ("masked pieces", "blue", "-"),
    "prose": ("prose", "blue", "-"),
    "structured": ("structured text", "orange", "--"),
    "cosine": ("1 − cosine, sentences", "orange", "--"),
    "word_cosine": ("1 − cosine, words", "green", "-."),
}


@styled
def pretraining_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Held-out losses over the steps, one panel a model.

    Args:
        histories: model -> rows with step and held_out_… figures (cosines are shown as 1 − cosine).

    Raises:
        ValueError: if there is no model, or a model without rows.
    """
    require_items("histories", list(histories))
    figure, axes = panels(len(histories))
    told = []
    for panel, (name, rows) in zip(axes, histories.items(), strict=True):
        require_items(f"the rows of {name}", rows)
        steps = [row["step"] for row in rows]
        for key, (label, color, line) in SHOWN.items():
            if f"held_out_{key}" in rows[0]:
                values = [row[f"held_out_{key}"] for row in rows]
                values = [1 - value for value in values] if "cosine" in key else values
                panel.plot(steps, values, color=COLORS[color], linestyle=line, marker=".", label=label)
                told.append(f"{name}, {label}: from {number(values[0])} to {number(values[-1])}")
        panel.set(title=name, xlabel="step", ylabel="held-out loss (nats)", ylim=(0, None))
        panel.legend()
    figure.alt = "Held-out loss by step. " + "; ".join(told) + "."
    return figure

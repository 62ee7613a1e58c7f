"""Figures of decoders (lesson 09): who looks at whom across two texts; loss beside what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from peft_helpers.plots.style import COLORS, LINES, Percent, as_numbers, number, panels, require_items, sentence, styled

LONGEST = 60  # tokens an axis has room for


@styled
def cross_attention(weights: Any, written: Sequence[str], read: Sequence[str], title: str = "") -> Figure:
    """What a writer looks at in the text that was read: row, the token to be written; column, the one looked at.

    Args:
        weights: (T, S), or (H, T, S) for the mean over heads; every row adds up to 1.
        written: the T tokens that are predicted at the rows.
        read: the S tokens of the input.
        title: above the map.

    Raises:
        ValueError: shapes that do not fit, no tokens or more than 60, or rows that do not add up to 1.
    """
    shares = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=float)
    shares = shares.mean(axis=0) if shares.ndim == 3 else shares
    if shares.shape != (len(written), len(read)) or not 0 < min(shares.shape) <= max(shares.shape) <= LONGEST:
        raise ValueError(
            f"cross_attention takes (T, S) weights for T written and S read tokens, 1 to {LONGEST} each; "
            f"got {shares.shape} for {len(written)} and {len(read)}"
        )
    if not np.allclose(shares.sum(axis=-1), 1, atol=1e-3):
        raise ValueError("every row of an attention map adds up to 1; these do not")
    figure, (axes,) = panels(width=min(7.4, 1.6 + 0.26 * len(read)), height=1.5 + 0.21 * len(written))
    axes.imshow(shares, vmin=0, vmax=max(0.2, shares.max()), cmap="Blues", aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(read)), read, rotation=90, fontsize=9)
    axes.set_yticks(range(len(written)), written, fontsize=9)
    axes.tick_params(length=0)
    axes.set(xlabel="read by the encoder", ylabel="to be written", title=title)
    told = [
        f"{token!r}: {read[int(row.argmax())]!r} ({row.max():.0%})" for token, row in zip(written, shares, strict=True)
    ]
    figure.alt = f"Cross-attention map. To be written: what is looked at most. {sentence(told)}"
    return figure


@styled
def loss_and_writing(runs: Mapping[str, tuple[Sequence[float], tuple[Sequence[int], Sequence[float]]]]) -> Figure:
    """One column a run, all on the same scales: training loss above (log), share of right texts below.

    Args:
        runs: name -> (losses of steps 0, 1 …, (steps, shares of texts that are right, 0 to 1)); at most 4.

    Raises:
        ValueError: no runs or more than 4, losses that are not positive, shares outside 0 … 1, unequal lengths.
    """
    require_items("runs", runs)
    read = {}
    for name, (losses, (steps, shares)) in runs.items():
        losses, steps, shares = (as_numbers(f"{name}", column) for column in (losses, steps, shares))
        if not (losses > 0).all() or not ((shares >= 0) & (shares <= 1)).all() or len(steps) != len(shares):
            raise ValueError(
                f"run {name!r}: losses must be positive, and shares lie in 0 … 1, one a step that is looked at"
            )
        read[name] = losses, steps, shares
    if len(read) > 4:
        raise ValueError(f"loss_and_writing draws at most 4 runs side by side; got {len(read)}")
    figure, cells = panels(len(read), 2, width=max(4.2, 1.95 * len(read)), height=4.0)
    low, high = (pick(pick(losses) for losses, _, _ in read.values()) for pick in (min, max))
    told = []
    for column, (name, (losses, steps, shares)) in enumerate(read.items()):
        above, below = cells[column], cells[column + len(read)]
        above.plot(losses, color=LINES[0]["color"], linestyle=LINES[0]["linestyle"])
        above.set(title=f"run {name}", yscale="log", ylim=(low / 1.5, high * 1.5), xticklabels=[])
        line = LINES[1]
        below.plot(steps, shares, color=line["color"], linestyle=line["linestyle"], marker=line["marker"], markersize=4)
        below.set(ylim=(-0.06, 1.06), yticks=[0, 0.5, 1], xlabel="step")
        below.yaxis.set_major_formatter(Percent())
        for axes, label in ((above, "training loss"), (below, "written right")):
            axes.set_xlim(0, len(losses) - 1)
            axes.set_ylabel(label if column == 0 else "")
            if column:
                axes.tick_params(axis="y", labelleft=False)
        above.axhline(losses[-1], color=COLORS["gray"], linewidth=0.8)
        told.append(f"run {name}: loss {number(losses[0])} to {number(losses[-1])}, right {shares[-1]:.0%} in the end")
    figure.alt = f"Training loss and share of texts written right. {sentence(told)}"
    return figure

"""Figures of LoRA (lesson 12): what fine-tuning changed by rank, and alpha against the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from peft_helpers.plots.style import (
    COLORS,
    LINES,
    Percent,
    as_numbers,
    halo,
    number,
    panels,
    require_items,
    require_lines,
    score,
    sentence,
    styled,
)

RANDOM = {"color": COLORS["gray"], "linestyle": (0, (1, 1.3)), "linewidth": 1.6}


@styled
def change_spectra(changes: Mapping[str, Any], random: Mapping[str, Any] | None = None) -> Figure:
    """Share of the energy that the best matrix of rank 1, 2, … keeps, over the rank (log scale).

    Args:
        changes: what changed -> (k,) shares for ranks 1 to k, see `spectra.energy_kept`; at most six.
        random: the same for matrices of independent normal numbers, drawn dotted.

    Raises:
        ValueError: nothing to draw, more lines than styles, or shares outside 0 to 1.
    """
    require_lines("changes", changes)
    figure, (axes,) = panels(height=3.4)
    told, longest = [], 1
    curves = [*((name, values, look) for (name, values), look in zip(changes.items(), LINES, strict=False)),
              *((name, values, RANDOM) for name, values in (random or {}).items())]  # fmt: skip
    for name, values, look in curves:
        shares = as_numbers(name, values)
        if not ((shares >= 0) & (shares <= 1 + 1e-9)).all():
            raise ValueError(f"{name}: shares lie between 0 and 1; got {shares.min():g} to {shares.max():g}")
        ranks = np.arange(1, len(shares) + 1)
        longest = max(longest, len(shares))
        marks = [k - 1 for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if k <= len(shares)]
        axes.plot(ranks, shares, **look, markevery=marks, markersize=5, label=name)
        told.append(f"{name} {shares[0]:.0%} at rank 1, {shares[min(8, len(shares)) - 1]:.0%} at rank 8")
    axes.set(xscale="log", xlim=(0.93, 1.1 * longest), ylim=(0, 1.03), xlabel="rank (log scale)", ylabel="energy kept")
    ticks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if k <= longest]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(Percent())
    figure.legend(loc="outside right upper", handlelength=2.6)
    figure.alt = "Share of the energy kept over the rank. " + sentence(told)
    return figure


@styled
def alpha_and_rate(
    scores: Mapping[tuple[float, float], Any], moved: Mapping[tuple[float, float], Any], metric: str = "accuracy"
) -> Figure:
    """Two tables of colored cells, alpha down, learning rate to the right: the score, and how far the weights moved.

    Args:
        scores: (alpha, learning rate) -> one score or scores by seed.
        moved: the same for the size of the change relative to the weights.
        metric: names the scores.

    Raises:
        ValueError: nothing to draw, or the two have other cells.
    """
    require_items("scores", scores)
    if set(scores) != set(moved):
        raise ValueError("scores and moved must have the same cells (alpha, learning rate)")
    alphas, rates = (sorted({cell[i] for cell in scores}) for i in (0, 1))
    figure, cells = panels(2, width=7.6, height=1.5 + 0.42 * len(alphas))
    told = []
    parts = ((f"dev {metric}", scores, "YlGnBu"), ("‖change‖ / ‖weights‖", moved, "YlOrBr"))
    for axes, (title, values, colors) in zip(cells, parts, strict=True):
        table = np.full((len(alphas), len(rates)), np.nan)
        for (alpha, rate), value in values.items():
            table[alphas.index(alpha), rates.index(rate)] = np.mean(as_numbers(title, np.atleast_1d(value)))
        low, high = np.nanmin(table), np.nanmax(table)
        axes.imshow(table, cmap=colors, aspect="auto", vmin=low - 0.1 * (high - low), vmax=high + 0.6 * (high - low))
        for (i, j), value in np.ndenumerate(table):
            text = "–" if np.isnan(value) else score(value, metric) if values is scores else f"{value:.2%}"
            axes.text(j, i, text, ha="center", va="center", fontsize=10.5)
            told.append(f"alpha {alphas[i]:g}, rate {rates[j]:g}: {title} {text}")
        axes.set(title=title, xlabel="learning rate")
        axes.set_xticks(range(len(rates)), [_rate(rate) for rate in rates])
        axes.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        axes.grid(visible=False)
    cells[0].set_ylabel("alpha")
    figure.alt = "By alpha and learning rate. " + sentence(told)
    return figure


def _rate(rate: float) -> str:
    return f"{rate:g}".replace("e-0", "e-")


def draw_scores(
    axes: Any, ways: Mapping[str, Mapping[int, Any]], lines: Mapping[str, float] | None, metric: str
) -> Sequence[int]:
    """Draw scores over the rank, one line a way to come by it; ranks stand at even distances, 0 included.

    Args:
        axes: to draw into.
        ways: name -> rank -> one score or scores by seed.
        lines: name -> score, drawn across.
        metric: names the y axis.

    Returns:
        the ranks in the order of their places on the x axis.

    Raises:
        ValueError: nothing to draw.
    """
    ranks = sorted({rank for points in ways.values() for rank in points})
    require_items("ways", ranks)
    for (name, points), look in zip(ways.items(), LINES, strict=False):
        here = sorted(points)
        runs = [as_numbers(f"{name} at rank {rank}", np.atleast_1d(points[rank])) for rank in here]
        means = [run.mean() for run in runs]
        spread = [[m - run.min() for m, run in zip(means, runs, strict=True)],
                  [run.max() - m for m, run in zip(means, runs, strict=True)]]  # fmt: skip
        axes.errorbar(
            [ranks.index(r) for r in here], means, yerr=spread, **look, capsize=2.5, elinewidth=1.1, label=name
        )
    for name, value in (lines or {}).items():
        axes.axhline(value, color=COLORS["gray"], linestyle=(0, (5, 2)), linewidth=1.3, zorder=1)
        told = f"{name} {score(value, metric)}"
        halo(axes.text(-0.4, value, told, ha="left", va="bottom", fontsize=9.5, color="#5c5c5c"))
    axes.margins(y=0.12)
    axes.set(xlim=(-0.5, len(ranks) - 0.5), xlabel="rank", ylabel=f"test {metric}")
    axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
    if metric in ("accuracy", "f1"):
        axes.yaxis.set_major_formatter(Percent())
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    return ranks

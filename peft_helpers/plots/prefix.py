"""Figures of prefixes (lesson 10): where they stand, how much attention they get, score by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from peft_helpers.plots.style import (
    COLORS,
    DASHES,
    LINES,
    as_numbers,
    label_ends,
    number,
    panels,
    require_items,
    require_lines,
    sentence,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAINED, COMPUTED, FROZEN = "#bfe3d6", "#ffffff", "#e9edf1"

# ---------------------------------------------------------------- where a prefix stands


@styled
def prefix_placement(length: int = 2, layers: int = 3) -> Figure:
    """Columns are slots and tokens, rows are layers: prompt tuning, prefix-tuning of a decoder, of an encoder-decoder.

    Args:
        length: l, slots to draw; layers: L.

    Raises:
        ValueError: sizes that are not positive.
    """
    if not (length >= 1 and layers >= 1):
        raise ValueError(f"length and layers must be positive; got {length} and {layers}")
    figure, axes = panels(3, width=7.8, height=3.1)
    words = {"x": 2, "y": 2}
    _grid(axes[0], "prompt tuning", length, layers, words, everywhere=False)
    _grid(axes[1], "prefix, decoder", length, layers, words)
    _grid(axes[2], "prefix, encoder-decoder", length, layers, words, apart=True)
    for place, (color, name) in enumerate(((TRAINED, "trained"), (COMPUTED, "computed"), (FROZEN, "the text's own"))):
        figure.text(0.09 + 0.25 * place, 0.035, f"   {name}", va="center", fontsize=10.5)
        figure.patches.append(
            FancyBboxPatch((0.07 + 0.25 * place, 0.015), 0.018, 0.036, boxstyle="round,pad=0,rounding_size=0.004",
                           facecolor=color, edgecolor=COLORS["gray"], transform=figure.transFigure)
        )  # fmt: skip
    figure.get_layout_engine().set(rect=(0, 0.08, 1, 0.92))
    figure.alt = (
        f"Three grids, layers upward, {length} slots and then the words of x and y from left to right. Prompt tuning: "
        "the slots are trained in the lowest row only and computed above. Prefix-tuning of a decoder: the slots are "
        "trained in every layer. Of an encoder-decoder: slots in every layer of the encoder before x, and others in "
        "every layer of the decoder before y, for its own words and for what it reads from the encoder."
    )
    return figure


def _grid(
    axes: Axes,
    title: str,
    length: int,
    layers: int,
    words: dict[str, int],
    everywhere: bool = True,
    apart: bool = False,
) -> None:
    axes.set_axis_off()
    axes.grid(visible=False)
    x, starts = 0.0, []
    for name, count in words.items():
        slots = length if apart or not starts else 0
        if apart and starts:
            x += 0.7
        starts.append(x)
        if slots:
            axes.text(x + slots / 2 - 0.5, -1.0, "PREFIX′" if apart and name == "y" else "PREFIX", fontsize=9,
                      ha="center", va="center", color=COLORS["green"], fontweight="bold")  # fmt: skip
        for column in range(slots + count):
            for row in range(layers + 1):
                slot = column < slots
                if slot and row == 0 and everywhere:
                    continue  # a prefix has no embedding
                color = (TRAINED if everywhere or row == 0 else COMPUTED) if slot else FROZEN
                axes.add_patch(
                    FancyBboxPatch((x + column - 0.4, row - 0.32), 0.8, 0.64, boxstyle="round,pad=0,rounding_size=0.1",
                                   facecolor=color, edgecolor=COLORS["gray"], linewidth=0.9)
                )  # fmt: skip
        axes.text(x + slots + count / 2 - 0.5, -1.0, name, ha="center", va="center", fontsize=11)
        x += slots + count
    for row in range(layers + 1):
        axes.text(-0.75, row, "words" if row == 0 else f"layer {row}", ha="right", va="center", fontsize=9)
    axes.set(title=title, xlim=(-2.3, x - 0.3), ylim=(-1.5, layers + 0.6))


# ---------------------------------------------------------------- how much attention


@styled
def prefix_shares(shares: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """λ, the prefix's share of the attention, by part and layer; a group of bars a layer, a bar a name.

    Args:
        shares: name ("at first", "trained") -> part ("encoder") -> one share a layer.

    Raises:
        ValueError: nothing to draw, other parts or layers in one name than in another, more than three names.
    """
    require_items("shares", shares)
    if len(shares) > 3:
        raise ValueError(f"at most 3 names can be told apart as bars; got {len(shares)}")
    places = {name: [(part, k) for part, found in by.items() for k in range(len(found))] for name, by in shares.items()}
    first = next(iter(places.values()))
    if not first or any(other != first for other in places.values()):
        raise ValueError(f"all names must have the same parts and layers; got {places}")
    figure, (axes,) = panels(width=7.0, height=3.0)
    rows, told = np.arange(len(first)), []
    colors, hatches = (COLORS["gray"], COLORS["blue"], COLORS["orange"]), ("////", "", "..")
    for i, (name, by) in enumerate(shares.items()):
        values = as_numbers(name, [value for found in by.values() for value in found])
        width = 0.8 / len(shares)
        look = {"facecolor": "white" if hatches[i] else colors[i], "edgecolor": colors[i], "hatch": hatches[i]}
        axes.bar(rows - 0.4 + width * (i + 0.5), values, 0.92 * width, label=name, **look)
        pairs = zip(first, values.tolist(), strict=True)
        told.append(f"{name}: " + ", ".join(f"{part} {k + 1} {number(value)}" for (part, k), value in pairs))
    axes.set_xticks(rows, [f"{part}\n{k + 1}" for part, k in first])
    axes.set(ylabel="λ, share of the attention", ylim=(0, 1))
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper left", ncols=3)
    figure.alt = "The prefix's share of the attention by part and layer. " + sentence(told)
    return figure


# ---------------------------------------------------------------- score by length


@styled
def score_by_length(
    quantities: Mapping[str, Mapping[str, Mapping[int, Any]]], levels: Mapping[str, Mapping[str, float]] | None = None
) -> Figure:
    """One panel a quantity, lengths evenly spaced; a line a method, the range over seeds as bars; levels in gray.

    Args:
        quantities: "BLEU" -> "prefix" -> {length: one value or values by seed}.
        levels: "BLEU" -> "full fine-tuning" -> value.

    Raises:
        ValueError: nothing to draw, or more methods than line styles.
    """
    require_items("quantities", quantities)
    figure, cells = panels(len(quantities), width=3.9 * len(quantities), height=3.3)
    told = []
    for axes, (quantity, methods) in zip(cells, quantities.items(), strict=True):
        require_lines(f"methods of {quantity!r}", methods)
        lengths = sorted({length for points in methods.values() for length in points})
        place = {length: i for i, length in enumerate(lengths)}
        for (name, points), look in zip(methods.items(), LINES, strict=False):
            require_items(f"{name!r} in {quantity!r}", points)
            runs = [as_numbers(f"{name} at {n}", np.atleast_1d(points[n])) for n in sorted(points)]
            means = np.array([run.mean() for run in runs])
            ends = [means - [run.min() for run in runs], [run.max() for run in runs] - means]
            axes.errorbar([place[n] for n in sorted(points)], means, yerr=ends, **look, capsize=3, label=name)
            told.append(f"{quantity}, {name}: " + ", ".join(
                f"{number(mean)} at {n}" for n, mean in zip(sorted(points), means.tolist(), strict=True)))  # fmt: skip
        axes.set(title=quantity, xlabel="length l", xlim=(-0.3, len(lengths) - 0.7))
        axes.set_xticks(range(len(lengths)), [str(n) for n in lengths])
        level = (levels or {}).get(quantity, {})
        for (name, value), dash in zip(level.items(), DASHES[2:], strict=False):
            axes.axhline(value, color=COLORS["gray"], linestyle=dash, linewidth=1.5, zorder=1)
            told.append(f"{quantity}, {name}: {number(value)}")
        axes.margins(y=0.12)
        label_ends(axes, [(value, f"{name}\n{number(value)}", "#5c5c5c") for name, value in level.items()], 0.16)
    handles, labels = cells[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    figure.alt = "By length of the prefix. " + sentence(told)
    return figure

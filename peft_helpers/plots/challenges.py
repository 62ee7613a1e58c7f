"""Figures of lesson 14: size against score, completeness by steps, attributions and deletions, layers compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from peft_helpers.accounting import megabytes
from peft_helpers.plots.style import (
    COLORS,
    DASHES,
    LINES,
    Percent,
    as_numbers,
    halo,
    label_ends,
    number,
    panels,
    require_items,
    require_lines,
    score,
    sentence,
    styled,
)


@styled
def size_and_score(
    families: Mapping[str, Sequence[tuple[str, float, Any]]],
    baselines: Mapping[str, float] | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Score over a model's size in bytes, log scale; a line joins the models of one family, each with its label.

    Args:
        families: name -> its models, each (label, bytes, one score or scores by seed).
        baselines: name -> score, horizontal lines.
        metric: names the y axis.

    Raises:
        ValueError: nothing to draw, more families than line styles, or a size that is not positive.
    """
    require_lines("families", families)
    figure, (axes,) = panels(width=7.6, height=3.8)
    told = []
    for i, ((family, models), look) in enumerate(zip(families.items(), LINES, strict=False)):
        require_items(f"family {family!r}", models)
        models = sorted(models, key=lambda model: model[1])
        if models[0][1] <= 0:
            raise ValueError(f"{models[0][0]} has {models[0][1]} bytes; sizes must be positive")
        runs = [as_numbers(label, np.atleast_1d(scores)) for label, _, scores in models]
        means = [run.mean() for run in runs]
        spread = [[m - run.min() for m, run in zip(means, runs, strict=True)],
                  [run.max() - m for m, run in zip(means, runs, strict=True)]]  # fmt: skip
        x = [size / 1e6 * 1.03**i for _, size, _ in models]  # equal sizes stand beside each other
        axes.errorbar(x, means, yerr=spread, **look, capsize=3, elinewidth=1.2, label=family)
        for (label, size, _), place, mean in zip(models, x, means, strict=True):
            if len(models) > 1:
                side = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
                halo(axes.annotate(label, (place, mean), **side, fontsize=9.5, color="#555555"))
            told.append(f"{family}, {label}: {megabytes(size)}, {score(mean, metric)}")
    ends = [(value, f"{name}\n{score(value, metric)}", "#5c5c5c") for name, value in (baselines or {}).items()]
    for (value, _, _), dash in zip(ends, DASHES[2:], strict=False):
        axes.axhline(value, color=COLORS["gray"], linestyle=dash, linewidth=1.5, zorder=1)
    told += [f"{name} {score(value, metric)}" for name, value in (baselines or {}).items()]
    axes.set(xscale="log", xlabel="size, MB (10⁶ bytes, log scale)", ylabel=f"test {metric}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if metric in ("accuracy", "f1"):
        axes.yaxis.set_major_formatter(Percent())
    axes.margins(y=0.12)
    label_ends(axes, ends, 0.14)
    figure.legend(loc="outside upper left", ncols=2, handlelength=2.4, columnspacing=1.2)
    figure.alt = f"Test {metric} by size. " + sentence(told)
    return figure


@styled
def completeness(gaps: Mapping[str, Mapping[int, float]]) -> Figure:
    """How far the attributions' sum is from F(x) − F(x′), over the number of steps; both axes logarithmic.

    Args:
        gaps: line's name -> {steps: gap}; the sign is left out, and a gap of exactly 0 is not drawn.

    Raises:
        ValueError: nothing to draw, or a number of steps below 1.
    """
    require_lines("gaps", gaps)
    figure, (axes,) = panels(height=3.4)
    told, counts = [], set()
    for (name, line), look in zip(gaps.items(), LINES, strict=False):
        require_items(f"line {name!r}", line)
        if min(line) < 1:
            raise ValueError(f"{name}: a number of steps is 1 or more; got {min(line)}")
        steps = sorted(line)
        sizes = np.abs(as_numbers(name, [line[n] for n in steps]))
        shown = sizes > 0
        axes.plot(np.array(steps)[shown], sizes[shown], **look, label=name)
        told.append(f"{name}: {number(sizes[0])} with {steps[0]}, {number(sizes[-1])} with {steps[-1]}")
        counts.update(steps)
    axes.axhline(1e-3, color=COLORS["gray"], linestyle=DASHES[2], linewidth=1.4)
    axes.set(xscale="log", yscale="log", xlabel="steps (log scale)", ylabel="|Σ − (F(x) − F(x′))|")
    axes.set_xticks(sorted(counts), [str(n) for n in sorted(counts)])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    figure.legend(loc="outside upper left", ncols=len(gaps), handlelength=2.6)
    figure.alt = "Completeness gap by steps. " + sentence([*told, "a gray line marks 0.001"])
    return figure


@styled
def word_bars(words: Sequence[str], series: Mapping[str, Any], xlabel: str = "log odds of positive") -> Figure:
    """One group of bars a word, one bar a way to attribute: to the right for the class, to the left against it.

    Args:
        words: from the first word of the text down.
        series: name -> (number of words,) numbers.
        xlabel: of the x axis.

    Raises:
        ValueError: nothing to draw, or another number of numbers than of words.
    """
    require_items("words", words)
    require_lines("series", series)
    figure, (axes,) = panels(height=0.9 + 0.34 * len(words) + 0.1 * len(series))
    thick, told = 0.8 / len(series), []
    hatches = ("", "///", "...", "xx")
    for i, ((name, values), look) in enumerate(zip(series.items(), LINES, strict=False)):
        bars = as_numbers(name, values)
        if len(bars) != len(words):
            raise ValueError(f"{name} has {len(bars)} numbers for {len(words)} words")
        places = np.arange(len(words)) + (i - (len(series) - 1) / 2) * thick
        axes.barh(places, bars, thick, color=look["color"], hatch=hatches[i % 4], edgecolor="white", label=name)
        told += [f"{name}, {word}: {value:+.2f}".replace(": -", ": −") for word, value in zip(words, bars, strict=True)]
    axes.axvline(0, color=COLORS["black"], linewidth=1)
    axes.set_yticks(range(len(words)), list(words))
    axes.set(xlabel=xlabel)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=len(series), handlelength=1.8)
    figure.alt = f"By word, {xlabel}. " + sentence(told)
    return figure


@styled
def attribution_and_deletion(ways: Mapping[str, tuple[Any, Any]]) -> Figure:
    """What a word was attributed against what its deletion cost, a dot a word; one panel a way to attribute.

    Args:
        ways: name -> (attributions, deletion effects), both (N,).

    Raises:
        ValueError: nothing to draw, or pairs of unequal lengths.
    """
    require_lines("ways", ways)
    figure, cells = panels(len(ways), width=3.4 * len(ways) + 0.6, height=3.2)
    told = []
    for axes, (name, (given, measured)), look in zip(cells, ways.items(), LINES, strict=False):
        x, y = as_numbers(f"attributions of {name!r}", given), as_numbers(f"effects of {name!r}", measured)
        if len(x) != len(y):
            raise ValueError(f"{name} has {len(x)} attributions and {len(y)} effects")
        axes.plot(x, y, marker=look["marker"], markersize=4, alpha=0.55, linestyle="none", color=look["color"])
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=COLORS["gray"], linestyle=DASHES[1], linewidth=1.2)
        axes.axhline(0, color=COLORS["gray"], linewidth=0.8)
        axes.axvline(0, color=COLORS["gray"], linewidth=0.8)
        other = np.mean(np.sign(x) != np.sign(y))
        axes.set(title=name, xlabel="attribution")
        told.append(f"{name}: {len(x)} words, {other:.0%} with another sign when deleted")
    cells[0].set_ylabel("lost by deletion")
    figure.alt = "Attribution against deletion, a dot a word; equal on the dashed line. " + sentence(told)
    return figure


@styled
def layer_comparison(changes: Mapping[str, Mapping[str, float]], likeness: Mapping[str, Sequence[float]]) -> Figure:
    """Left, how far each part's weights moved; right, how alike the texts' vectors are before and after.

    Args:
        changes: run's name -> {part: relative change}, the same parts in all.
        likeness: run's name -> (L + 1,) kernel alignments, after the embeddings and after every layer.

    Raises:
        ValueError: nothing to draw, or runs with different parts.
    """
    require_lines("changes", changes)
    require_lines("likeness", likeness)
    parts = list(next(iter(changes.values())))
    figure, (left, right) = panels(2, width=7.6, height=3.4)
    told, thick = [], 0.8 / len(changes)
    for i, ((name, values), look) in enumerate(zip(changes.items(), LINES, strict=False)):
        if list(values) != parts:
            raise ValueError(f"{name} has the parts {', '.join(values)}; the first run has {', '.join(parts)}")
        places = np.arange(len(parts)) + (i - (len(changes) - 1) / 2) * thick
        left.barh(places, list(values.values()), thick, color=look["color"], hatch=("", "///", "...")[i % 3],
                  edgecolor="white", label=name)  # fmt: skip
        told += [f"{name}, {part}: weights moved by {value:.1%}" for part, value in values.items()]
    left.set_yticks(range(len(parts)), parts)
    left.invert_yaxis()
    left.xaxis.set_major_formatter(Percent())
    left.xaxis.set_major_locator(MaxNLocator(4))
    left.grid(axis="y", visible=False)
    left.set(title="weights moved, relative")
    for (name, values), look in zip(likeness.items(), LINES, strict=False):
        alike = as_numbers(name, values)
        right.plot(range(len(alike)), alike, **look, label=name)
        told.append(
            f"{name}: likeness {number(alike[0])} after the embeddings, {number(alike[-1])} after the last layer"
        )
    right.set(title="vectors before and after: CKA", xlabel="after layer (0: embeddings)", ylim=(None, 1.03))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), handlelength=2.4)
    figure.alt = "What fine-tuning changed. " + sentence(told)
    return figure

"""Curve explorer (lessons 00, 05 and later): a slider over recorded or precomputed runs -> the run's curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from peft_helpers.plots.style import COLORS, LINES, Percent, label_ends, number, panels, require_lines, sentence, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, steps


@dataclass(frozen=True)
class CurveSet:
    """All that a curve explorer can show.

    Attributes:
        runs: setting -> name of a line -> (x, y), two arrays of one length.
        setting, x, y: what the slider and the axes are called.
        references: name -> y of a horizontal line, such as the majority class.
        percent: whether y is a share to be shown in percent.
        best: "max", "min", or None to name no best point.
        limits: of the y axis.
        note: a sentence for the readout, such as where the runs come from.
    """

    runs: dict[Any, dict[str, tuple[np.ndarray, np.ndarray]]]
    setting: str
    x: str
    y: str
    references: dict[str, float]
    percent: bool
    best: str | None
    limits: tuple[float, float]
    log_x: bool
    note: str

    def names(self) -> list[str]:
        """Every line's name, in the order of first use."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run))

    def spoken(self, value: float) -> str:
        """A y value for the readout."""
        return f"{value * 100:.1f} %" if self.percent and np.isfinite(value) else number(value)


class CurveView:
    """The chosen run's lines over those of all other runs in gray."""

    @styled
    def __init__(self, curves: CurveSet):
        self.curves = curves
        self.figure, (axes,) = panels(width=WIDTH, height=HEIGHT)
        names = curves.names()
        for run in curves.runs.values():
            for x, y in run.values():
                axes.plot(x, y, color="#c6c6c6", linewidth=1.0, zorder=1)
        for value in curves.references.values():
            axes.axhline(value, color=COLORS["gray"], linewidth=1.4, linestyle=(0, (1, 1.3)), zorder=1.5)
        few = max(len(x) for run in curves.runs.values() for x, _ in run.values()) <= 30
        self.lines = {}
        for name, look in zip(names, LINES, strict=False):
            look = look if few else {**look, "marker": None}
            self.lines[name] = axes.plot([], [], **look, label=name)[0]
        everything = [x for run in curves.runs.values() for x, _ in run.values()]
        low, high = min(x.min() for x in everything), max(x.max() for x in everything)
        if curves.log_x:
            axes.set(xscale="log", xlim=(low / 1.1, high * 1.1))
        else:
            margin = 0.02 * (high - low) or 1.0
            axes.set_xlim(low - margin, high + margin)
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=all((x % 1 == 0).all() for x in everything)))
        axes.set(xlabel=curves.x, ylabel=curves.y, ylim=curves.limits)
        if curves.percent:
            axes.yaxis.set_major_formatter(Percent())
        gray = COLORS["gray"]
        label_ends(
            axes, [(value, f"{name}\n{curves.spoken(value)}", gray) for name, value in curves.references.items()], 0.2
        )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(names), borderaxespad=0.2)
        self.title = axes.text(1.0, 1.03, "", transform=axes.transAxes, ha="right", va="bottom", fontweight="bold")
        self.moving = [*self.lines.values(), self.title]

    def show(self, setting: Any) -> None:
        """Show the run of a setting."""
        run = self.curves.runs[setting]
        for name, line in self.lines.items():
            line.set_data(*run.get(name, ([], [])))
        self.title.set_text(f"{self.curves.setting}: {named(setting)}")
        y = self.curves.y
        self.figure.alt = (
            f"{y[:1].upper()}{y[1:]} over {self.curves.x}, the chosen run before all others in gray. "
            f"{describe(self.curves, setting).summary} {in_words(self.curves, setting)}"
        )


def named(setting: Any) -> str:
    """A setting as it stands on the slider."""
    if isinstance(setting, float):
        return number(setting)
    return f"{setting:,}" if isinstance(setting, int) else str(setting)


def reached(curves: CurveSet, setting: Any) -> dict[str, dict[str, tuple[str, str]]]:
    """Name of a line -> "first", "best" (if asked for) and "last" -> (value, where), both as text."""
    found = {}
    for name, (x, y) in curves.runs[setting].items():
        points = {"first": 0, "last": -1}
        if curves.best:
            finite = np.where(np.isfinite(y), y, -np.inf if curves.best == "max" else np.inf)
            at = int(finite.argmax() if curves.best == "max" else finite.argmin())
            points = {"first": 0, "best": at, "last": -1}
        found[name] = {point: (curves.spoken(y[at]), number(x[at])) for point, at in points.items()}
    return found


def describe(curves: CurveSet, setting: Any) -> Readout:
    """First, best and last value of each line, and the references."""
    rows = [
        [name, *(f"{value} ({where})" for value, where in points.values())]
        for name, points in reached(curves, setting).items()
    ]
    header = [f"{curves.y} (at {curves.x})", "first", *(["best"] if curves.best else []), "last"]
    known = "".join(f" {name}: {curves.spoken(value)}." for name, value in curves.references.items())
    return Readout(f"{curves.setting}: {named(setting)}.{known} {curves.note}".strip(), header, rows)


def in_words(curves: CurveSet, setting: Any) -> str:
    """The rows of `describe` as a sentence: where each line begins, has its best value, and ends."""
    told = []
    for name, points in reached(curves, setting).items():
        (first, begin), (last, end) = points["first"], points["last"]
        text = f"{name} goes from {first} at {curves.x} {begin} to {last} at {curves.x} {end}"
        if curves.best:
            text += ", best {} at {} {}".format(points["best"][0], curves.x, points["best"][1])
        told.append(text)
    return sentence(told)


def curve_explorer(
    curves: Mapping[Any, Mapping[str, Any]],
    setting: str = "setting",
    x: str = "step",
    y: str = "loss",
    *,
    value: Any = None,
    references: Mapping[str, float] | None = None,
    percent: bool = False,
    best: str | None = None,
    limits: tuple[float, float] | None = None,
    log_x: bool = False,
    note: str = "",
    name: str = "curve",
) -> Explorer:
    """A slider over runs that are already there: each position shows one run's curves, the other runs in gray behind.

    >>> curve_explorer({50: {"dev": ([0, 10], [0.5, 0.7])}, 200: {"dev": ([0, 10], [0.5, 0.8])}}, "labels",
    ...                y="accuracy", percent=True, best="max", references={"majority class": 0.5})  # doctest: +SKIP

    Args:
        curves: setting (a number or a text, in the slider's order) -> name of a line -> (xs, ys), or ys at 0, 1, 2 ….
        setting: what the slider is called. x, y: the axes' names.
        value: the setting to start with; by default the one in the middle.
        references: name -> y of a horizontal line: majority class, bag of words, linear probe.
        percent: y is a share, shown in percent.
        best: "max" or "min" adds the best point of each line to the readout.
        limits: of the y axis; by default from the data.
        log_x: the x axis is logarithmic.
        note: a sentence for the readout, such as "recorded on a laptop, seed 0".
        name: the CSS class becomes `pf-<name>-explorer`.

    Raises:
        ValueError: if there is nothing to show, a line is empty or not numbers, or `value` or `best` is unknown.
    """
    if best not in (None, "max", "min"):
        raise ValueError(f'best is "max", "min" or None; got {best!r}')
    runs = {
        key: {line: as_line(f"{line!r} of {key!r}", data) for line, data in run.items()} for key, run in curves.items()
    }
    require_lines("curves' lines", list(dict.fromkeys(line for run in runs.values() for line in run)))
    keys = list(runs)
    if value is None:
        value = keys[len(keys) // 2]
    if value not in runs:
        raise ValueError(f"value {value!r} is no setting; there are {', '.join(map(str, keys))}")
    references = dict(references or {})
    if limits is None:
        ys = np.concatenate([*(y for run in runs.values() for _, y in run.values()), list(references.values())])
        ys = ys[np.isfinite(ys)]
        if not len(ys):
            raise ValueError("no curve has a finite value")
        margin = 0.06 * (ys.max() - ys.min()) or 0.5
        limits = (float(ys.min() - margin), float(ys.max() + margin))
    shown = CurveSet(runs, setting, x, y, references, percent, best, limits, log_x, note)
    control = steps(setting, [(named(key), key) for key in keys], value)
    control.layout.width = "560px"
    return Explorer(
        name, f"Explorer of recorded curves by {setting}", {"setting": control}, lambda setting: setting,
        partial(CurveView, shown), partial(describe, shown),
    )  # fmt: skip


def as_line(what: str, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """(xs, ys) or ys alone as two float arrays of one length."""
    pair = data if isinstance(data, tuple) else (range(len(data)), data)
    try:
        x, y = (np.asarray(part, dtype=float) for part in pair)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the line {what} must be (xs, ys) or ys, all numbers; got {data!r:.80}") from error
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"the line {what} needs as many xs as ys, at least one; got shapes {x.shape} and {y.shape}")
    return x, y

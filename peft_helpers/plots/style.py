"""One look for all figures: colors that the color-blind can tell apart, line styles beside them, and few ornaments."""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.text import Text

# Okabe and Ito 2008, "Color universal design": told apart with any kind of color vision. Yellow is left out: too pale.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "amber": "#E69F00",
    "black": "#222222",
    "gray": "#767676",
}
DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1.2, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = tuple(
    {"color": COLORS[name], "linestyle": dash, "marker": marker}
    for name, dash, marker in zip(list(COLORS)[:6], DASHES, MARKERS, strict=True)
)
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 11.5,
    "axes.titlesize": 12,
    "axes.labelsize": 11.5,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.titlelocation": "left",
    "lines.linewidth": 2.0,
    "lines.markersize": 6.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}
WIDTH, HEIGHT = 7.0, 3.2  # inches


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a plot function under `STYLE`, whatever the reader's own matplotlib settings are."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": matplotlib.get_backend(), **STYLE}):
            return function(*args, **kwargs)

    return wrapper


def panels(columns: int = 1, rows: int = 1, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """A figure that pyplot knows nothing of, and its axes in reading order."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.06)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def png(figure: Figure, dpi: float = 110) -> bytes:
    """The figure as PNG; equal figures give equal bytes, however often they are drawn."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": matplotlib.get_backend(), **STYLE}):
        if (engine := figure.get_layout_engine()) is not None:
            figure.set_dpi(dpi)
            for _ in range(2):  # the second pass knows how long the tick labels are
                engine.execute(figure)
            figure.set_layout_engine("none")  # every further pass would move things by a hair
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})  # ticks are made while drawing
    return buffer.getvalue()


def show(figure: Figure, dpi: float = 110) -> None:
    """Show the figure in a notebook as PNG, with its text alternative for readers and programs that can't see it.

    Raises:
        ValueError: the figure has no text alternative in `figure.alt`.
    """
    from IPython import get_ipython
    from IPython.display import display

    alt = getattr(figure, "alt", "")
    if not alt:
        raise ValueError("the figure has no text alternative: set figure.alt to a sentence with its figures")
    if get_ipython() is None:  # a plain terminal shows no pictures
        print(alt)
        return
    picture = base64.b64encode(png(figure, dpi)).decode("ascii")
    display({"image/png": picture, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


# ---------------------------------------------------------------- labels and numbers


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 0.085) -> None:
    """Write names to the right of the lines' ends, moved apart where they would overlap.

    Args:
        axes: with its final limits and scales.
        ends: (y in data units, text, color) a line.
        gap: smallest distance between two labels, as a share of the axes' height.
    """
    to_share = axes.transScale + axes.transLimits
    x = axes.get_xlim()[1]
    heights = [float(to_share.transform((x, y))[1]) for y, _, _ in ends]
    for (_, text, color), height, place in zip(ends, heights, spread(heights, gap), strict=True):
        axes.annotate(
            text, xy=(1.0, height), xytext=(1.035, place), xycoords="axes fraction", textcoords="axes fraction",
            color=ink(color), va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def halo(text: Text) -> Text:
    """A white rim around the letters, so that they can be read where a line runs behind them."""
    text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
    return text


def ink(color: str) -> tuple[float, ...]:
    """A line's color, darkened: text is thinner than lines and needs more contrast."""
    return tuple(0.72 * part for part in matplotlib.colors.to_rgb(color))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The same places, pushed apart to at least `gap`, each group staying around its mean.

    >>> spread([0.5, 0.5], 0.1)
    [0.45, 0.55]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[list[int], float]] = []  # (indices, center)
    for i in order:
        members, center = [i], places[i]
        while (
            groups
            and center - (len(members) - 1) / 2 * gap < groups[-1][1] + (len(groups[-1][0]) + 1) / 2 * gap - 1e-12
        ):
            earlier, other = groups.pop()
            center = (center * len(members) + other * len(earlier)) / (len(members) + len(earlier))
            members = earlier + members
        groups.append((members, center))
    result = [0.0] * len(places)
    for members, center in groups:
        for rank, i in enumerate(members):
            result[i] = center + (rank - (len(members) - 1) / 2) * gap
    return result


def number(value: float) -> str:
    """Three significant digits, in words where it is no number.

    >>> number(0.00012345), number(1234.5), number(float("nan"))
    ('0.000123', '1230', 'NaN')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("infinity" if value > 0 else "minus infinity")
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.10f}".rstrip("0").rstrip(".") if rounded else "0"


IN_PERCENT = ("accuracy", "f1")  # metrics that are read as shares


class Percent(Formatter):
    """Tick labels of shares, in percent: as many decimals as the ticks need, the same for all of them.

    >>> Percent().format_ticks([0.5, 0.55]), Percent().format_ticks([0.5, 0.5025])
    (['50 %', '55 %'], ['50.00 %', '50.25 %'])
    """

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """The labels of all ticks."""
        ticks = [100 * value for value in values]
        digits = next((d for d in range(6) if all(abs(tick - round(tick, d)) < 1e-7 for tick in ticks)), 6)
        return [f"{tick:.{digits}f} %" for tick in ticks]

    def __call__(self, value: float, pos: int | None = None) -> str:
        """The label of one tick alone."""
        return self.format_ticks([value])[0]


def score(value: float, metric: str) -> str:
    """A score as it is spoken of: accuracy in percent, others with three digits."""
    if not math.isfinite(value):
        return number(value)
    return f"{value * 100:.1f} %" if metric in IN_PERCENT else number(value)


def percent_axis(axis: Axis, metric: str) -> None:
    """Ticks in percent where the metric is read so; `axis` is `axes.xaxis` or `axes.yaxis`."""
    if metric in IN_PERCENT:
        axis.set_major_formatter(Percent())


def level_lines(axes: Axes, levels: Mapping[str, float] | None, metric: str) -> list[tuple[float, str, str]]:
    """A horizontal gray line a level, such as a baseline's score.

    Returns:
        Their labels, for `label_ends` once the axes have their limits.
    """
    for value, dash in zip((levels or {}).values(), cycle(DASHES[2:])):
        axes.axhline(value, color=COLORS["gray"], linestyle=dash, linewidth=1.5, zorder=1)
    return [(value, f"{name}\n{score(value, metric)}", "#5c5c5c") for name, value in (levels or {}).items()]


def tell_levels(levels: Mapping[str, float] | None, metric: str) -> list[str]:
    """The same for the text alternative."""
    return [f"{name} {score(value, metric)}" for name, value in (levels or {}).items()]


def sentence(parts: Iterable[str]) -> str:
    """Parts joined by semicolons, with a full stop."""
    return "; ".join(part for part in parts if part).rstrip(".") + "."


# ---------------------------------------------------------------- input checks


def require_items(what: str, items: Mapping | Sequence | None) -> None:
    """Refuse nothing to draw."""
    if items is None or len(items) == 0:
        raise ValueError(f"there is nothing to draw: {what} is empty")


def require_lines(what: str, items: Mapping | Sequence) -> None:
    """Refuse more lines than there are styles to tell them apart."""
    require_items(what, items)
    if len(items) > len(LINES):
        raise ValueError(f"{what} has {len(items)} lines; more than {len(LINES)} can't be told apart in one picture")


def as_numbers(what: str, values: Any, dimensions: int = 1) -> np.ndarray:
    """Values (also tensors) as a float array with `dimensions` dimensions, not empty; NaN and inf are allowed."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be numbers; got {values!r:.80}") from error
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"{what} must have {dimensions} dimension(s) and not be empty; got shape {array.shape}")
    return array

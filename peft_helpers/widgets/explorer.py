"""What every explorer is made of: controls, one picture that is redrawn in place, the exact values, and a reset button.

Only what `ipywidgets` 7.7.1 and 8 have in common is used: Colab has the older one.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ipywidgets as W
import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Pixels

from peft_helpers.plots.style import STYLE

WIDTH, HEIGHT = 7.6, 3.3  # inches
ON_PAGE = 100  # pixels an inch on the page
IN_PICTURE = 200  # pixels an inch in the picture: sharp on screens with two pixels for one


@dataclass(frozen=True)
class Readout:
    """The exact values of a state, for the page and as plain text.

    Attributes:
        summary: one or two sentences.
        header: the table's first row; empty for no table.
        rows: the table, each row's name first.
    """

    summary: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    def as_text(self) -> str:
        """The same for a page without widgets."""
        lines = [self.summary]
        if self.rows:
            table = [self.header, *self.rows]
            widths = [max(len(row[i]) for row in table) for i in range(len(self.header))]
            for name, *values in table:
                cells = [value.rjust(width) for value, width in zip(values, widths[1:], strict=True)]
                lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
        return "\n".join(lines)

    def as_html(self) -> str:
        """The same for the page; screen readers read it out when it changes."""

        def cells(row: Sequence[str], tag: str) -> str:
            sides = ["left", *["right"] * (len(row) - 1)]
            return "".join(
                f'<{tag} style="text-align:{side};padding:1px 18px 1px 0;font-weight:{600 if tag == "th" else 400}">'
                f"{html.escape(text)}</{tag}>"
                for text, side in zip(row, sides, strict=True)
            )

        table = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self.rows)
        if table:
            head = f"<tr>{cells(self.header, 'th')}</tr>"
            table = f'<table style="border-collapse:collapse;font-size:14px;line-height:1.45">{head}{table}</table>'
        style = "font-size:14px;line-height:1.5;font-variant-numeric:tabular-nums;white-space:normal"
        two_lines = "min-height:3em;margin-bottom:4px"  # always, so that nothing below jumps when a text grows
        summary = f'<div style="{two_lines}">{html.escape(self.summary)}</div>'
        return f'<div role="status" aria-live="polite" style="{style}">{summary}{table}</div>'


class View(Protocol):
    """A figure that is made once, and shows one reading after another."""

    figure: Figure
    moving: Sequence[Artist]  # everything that `show` changes, in the order of drawing

    def show(self, reading: Any) -> None:
        """Update the moving artists and `figure.alt`."""


class Picture:
    """Draws a view fast: what never moves is rendered once and kept, the rest is drawn over it.

    Args:
        view: its axes and texts, the moving artists aside, must stay as they are.
    """

    def __init__(self, view: View):
        self.view = view
        view.figure.set_dpi(IN_PICTURE)
        self.canvas = FigureCanvasAgg(view.figure)
        for artist in view.moving:
            artist.set_animated(True)  # leaves it out of draw()
        with matplotlib.rc_context(STYLE):  # ticks are made while drawing
            self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(view.figure.bbox)

    def jpeg(self, reading: Any) -> bytes:
        """The picture of a reading; equal readings give equal bytes.

        JPEG, as it is made five times as fast as PNG; at two pixels for one its traces can't be seen.
        """
        self.view.show(reading)
        self.canvas.restore_region(self.background)
        for artist in self.view.moving:
            self.view.figure.draw_artist(artist)
        buffer = io.BytesIO()
        pixels = np.ascontiguousarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
        Pixels.fromarray(pixels).save(buffer, "jpeg", quality=90, subsampling=0)
        return buffer.getvalue()


class Explorer(W.VBox):
    """Controls over a picture over its exact values. Any change of a control redraws both.

    Args:
        name: becomes the CSS class `pf-<name>-explorer`.
        title: what the page without widgets calls it.
        controls: name -> widget with a `value`, in the order of the page; `compute` gets the values by these names.
        compute: state -> reading. A ValueError from it is shown as text, and the picture stays.
        make_view: makes a fresh `View`.
        describe: reading -> the exact values.
    """

    def __init__(
        self,
        name: str,
        title: str,
        controls: Mapping[str, W.DOMWidget],
        compute: Callable[..., Any],
        make_view: Callable[[], View],
        describe: Callable[[Any], Readout],
    ):
        self.controls, self.title = dict(controls), title
        self.compute, self.make_view, self.describe = compute, make_view, describe
        self.defaults = self.state()
        self.picture = Picture(make_view())
        size = {
            "width": f"{WIDTH * ON_PAGE:.0f}px",
            "height": f"{HEIGHT * ON_PAGE:.0f}px",
        }  # fixed: the page never jumps
        self.image = W.Image(format="jpeg", layout=W.Layout(flex="0 0 auto", **size))
        self.readout = W.HTML(layout=W.Layout(width=size["width"], max_width="100%"))
        self.reset_button = W.Button(description="Reset", icon="undo", layout=W.Layout(width="90px"))
        self.reset_button.on_click(lambda _: self.reset())
        for control in self.controls.values():
            control.observe(lambda _: self.redraw(), "value")
        self._paused = False
        rows = [self._first_row(), self._other_controls(size["width"])]
        super().__init__([*rows, self.image, self.readout], layout=W.Layout(margin="4px 0 12px 0", overflow="visible"))
        self.add_class("pf-explorer")
        self.add_class(f"pf-{name}-explorer")
        self.redraw()

    def _first_row(self) -> W.HBox:
        """The buttons to choose from, each group behind its name, and Reset."""
        children = []
        for control in self.controls.values():
            if isinstance(control, W.ToggleButtons):
                # A description of its own would stand above the buttons, and make the rows of uneven height.
                name = f'<div style="text-align:right;padding-right:6px">{html.escape(control.description)}</div>'
                children += [W.HTML(value=name, layout=W.Layout(width="110px")), control]
                control.tooltips = [f"{control.description}: {option}" for option, _ in control.options]
                control.description = ""
        return W.HBox([*children, self.reset_button], layout=W.Layout(align_items="center"))

    def _other_controls(self, width: str) -> W.HBox:
        """The sliders, two a row."""
        sliders = [control for control in self.controls.values() if not isinstance(control, W.ToggleButtons)]
        return W.HBox(sliders, layout=W.Layout(flex_flow="row wrap", align_items="center", width=width))

    def __repr__(self) -> str:
        note = "needs a running notebook; the picture beside it shows the same state"
        return f"{self.title} ({note})\n{self.describe(self.compute(**self.defaults)).as_text()}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget's view, with the whole text beside it (ipywidgets would cut it after 110 characters)."""
        return super()._repr_mimebundle_(**options) | {"text/plain": repr(self)}

    def state(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Bring picture and values up to the controls."""
        if self._paused:
            return
        reading = self.compute(**self.state())
        self.readout.value = self.describe(reading).as_html()  # first: who sees the new picture has the new values
        self.image.value = self.picture.jpeg(reading)

    def reset(self) -> None:
        """Back to the default state, drawn once."""
        self._paused = True
        for name, value in self.defaults.items():
            self.controls[name].value = value
        self._paused = False
        self.redraw()

    def static(self) -> Figure:
        """A fresh figure of the default state, with its text alternative in `figure.alt`."""
        view = self.make_view()
        view.show(self.compute(**self.defaults))
        return view.figure


# ---------------------------------------------------------------- controls that look alike


def slider(label: str, value: float, low: float, high: float, step: float, digits: int = 2) -> W.FloatSlider:
    """A slider over numbers, half a row wide; arrow keys move it by `step`."""
    return W.FloatSlider(
        value=value, min=low, max=high, step=step, description=label, readout_format=f".{digits}f",
        continuous_update=True, **_half_row(),
    )  # fmt: skip


def steps(label: str, options: Sequence[Any], value: Any) -> W.SelectionSlider:
    """A slider over a few chosen values; `options` are values or (text, value) pairs."""
    return W.SelectionSlider(options=options, value=value, description=label, continuous_update=True, **_half_row())


def choice(label: str, options: Sequence[tuple[str, Any]], value: Any) -> W.ToggleButtons:
    """A few buttons in a row, one of them pressed."""
    button = max(len(text) for text, _ in options) * 8 + 24
    return W.ToggleButtons(
        options=list(options),
        value=value,
        description=label,
        style={"button_width": f"{button}px"},
        layout=W.Layout(width="auto", margin="2px 16px 2px 2px"),
    )


def _half_row() -> dict[str, Any]:
    return {"style": {"description_width": "110px"}, "layout": W.Layout(width="364px", margin="2px 8px 2px 2px")}


def figures(value: float, digits: int = 4) -> str:
    """A number for a readout: fixed digits, or a power of ten where those would show nothing; a real minus sign."""
    small = value != 0 and abs(value) < 10**-digits
    text = f"{value:.2e}" if small or abs(value) >= 1e5 else f"{value:.{digits}f}"
    return text.replace("-", "−")

"""What holds for every explorer, without a browser: set a control, and picture and values follow.

A widget's test file names its explorers in a subclass of `ExplorerTests` and has a fixture `made`, which makes one.
"""

from __future__ import annotations

import html
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ipywidgets as W
import numpy as np
import pytest
from PIL import Image as Pixels

from peft_helpers import plots, widgets
from peft_helpers.widgets import explorer

ALLOWED = (
    W.FloatSlider, W.SelectionSlider, W.SelectionRangeSlider, W.ToggleButtons, W.Button, W.Image, W.HTML, W.HBox,
    widgets.Explorer,
)  # fmt: skip


def text(made: widgets.Explorer) -> str:
    """The readout without its marks, with a keyboard's minus sign."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", made.readout.value))).replace("−", "-")


def options(control: W.DOMWidget) -> list[Any]:
    """The values that a control with options can have; for a range, the values of its ends."""
    return [option[1] if isinstance(option, tuple) else option for option in control.options]


def ends(control: W.DOMWidget) -> tuple[Any, Any]:
    """The two extreme values of a control: first and last, or for a range the narrowest and the widest."""
    if isinstance(control, W.SelectionRangeSlider):
        values = options(control)
        return (values[0], values[0]), (values[0], values[-1])
    if hasattr(control, "options"):
        values = options(control)
        return values[0], values[-1]
    return control.min, control.max


def other_value(control: W.DOMWidget) -> Any:
    """A value that the control has not now."""
    if hasattr(control, "options") and not isinstance(control, W.SelectionRangeSlider):
        return next(value for value in options(control) if value != control.value)
    low, high = ends(control)
    return high if control.value != high else low


def everything(widget: W.Widget) -> Iterator[W.Widget]:
    """A widget and all that is in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def pixels(picture: bytes) -> np.ndarray:
    """Its gray values, 0 to 255."""
    return np.asarray(Pixels.open(io.BytesIO(picture)).convert("L"), dtype=float)


class ExplorerTests:
    """What all explorers have in common.

    A subclass (its name begins with `Test`) sets `names`; `made`, a fixture of the class or of its file, gives a fresh
    explorer, and may ask for `name`, the one in turn.
    """

    names: Sequence[str]  # what the explorers are called: the page has the CSS class `pf-<name>-explorer`
    changes: Mapping[str, Sequence[tuple[str, Any]]] = {}  # name -> (control, value); else each control's `other_value`

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Pytest asks here for the cases of every test of the class: the explorers."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names)

    def moves(self, name: str, made: widgets.Explorer) -> list[tuple[str, Any]]:
        """(control, another value), every control at least once."""
        moves = list(self.changes.get(name, [(label, other_value(one)) for label, one in made.controls.items()]))
        assert {label for label, _ in moves} == set(made.controls), "every control is tried"
        return moves

    def test_every_control_changes_picture_and_readout_and_reset_restores_them(self, name, made) -> None:
        picture, readout = made.image.value, made.readout.value
        for label, value in self.moves(name, made):
            made.controls[label].value = value
            assert made.image.value != picture, f"{label} leaves the picture as it was"
            assert made.readout.value != readout, f"{label} leaves the readout as it was"
            made.reset_button.click()
            assert made.image.value == picture and made.readout.value == readout and made.state() == made.defaults

    def test_reset_draws_once(self, name, made) -> None:
        for label, value in self.moves(name, made):
            made.controls[label].value = value
        drawn = []
        made.image.observe(drawn.append, "value")
        made.reset_button.click()
        assert len(drawn) == 1

    def test_picture_is_sharp_and_its_place_is_fixed(self, name, made) -> None:
        width, height = Pixels.open(io.BytesIO(made.image.value)).size
        assert (made.image.layout.width, made.image.layout.height) == (f"{width // 2}px", f"{height // 2}px")

    def test_every_extreme_can_be_drawn(self, name, made) -> None:
        """Both ends of every control with both ends of every other: no warning, no error, no infinite number."""
        for corner in itertools.product(*map(ends, made.controls.values())):
            reading = made.compute(**dict(zip(made.controls, corner, strict=True)))
            made.picture.jpeg(reading)
            shown = made.describe(reading).as_text()
            assert not re.search(r"\b(nan|NaN|inf(inity)?)\b", shown), (corner, shown)

    def test_selectors_keyboard_and_text(self, name, made) -> None:
        assert {"pf-explorer", f"pf-{name}-explorer"} <= set(made._dom_classes)
        assert 'aria-live="polite"' in made.readout.value
        assert all(getattr(control, "continuous_update", True) for control in made.controls.values())
        assert "needs a running notebook" in repr(made) and "VBox(" not in repr(made)

    def test_static_picture_shows_the_default_state_with_a_text_alternative(self, name, made) -> None:
        figure = widgets.static(made)
        assert made.describe(made.compute(**made.defaults)).summary in figure.alt
        still, alive = pixels(plots.png(figure, dpi=explorer.IN_PICTURE)), pixels(made.image.value)
        # of 255: JPEG and the order of drawing make small differences
        assert abs(still - alive).mean() < 2, "the static picture and the widget's differ"

    def test_made_of_core_widgets(self, name, made) -> None:
        assert all(type(widget) in ALLOWED for widget in everything(made))

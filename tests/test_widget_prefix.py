"""Lesson 10's explorer and figures: controls move picture and values, gaps are named."""

from __future__ import annotations

import html
import io
import re

import ipywidgets as W
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pixels
from test_prefix_runs import record

from peft_helpers import plots, widgets
from peft_helpers.widgets import explorer as frame
from peft_helpers.widgets import prefix as view

SOURCES = ["name: Elm | level: easy", "name: Oak", "name: Fir"]


def swept(lengths: tuple[int, ...] = (1, 5, 20), shares: bool = True) -> list:
    """Made-up records: the longer, the better, and the more attention."""
    found = []
    for i, n in enumerate(lengths):
        about = {"method_settings": {"length": n}, "texts": [f"text {k} of {n}" for k in range(3)]}
        if shares:
            about["shares"] = {"encoder": [0.1 * i + 0.1], "decoder": [0.2 * i + 0.1], "cross": [0.05 * i + 0.1]}
        found.append(record(f"prefix {n}", 0.1 + 0.05 * i, about=about, predictions=[3 - i, 2, 1]))
    return found


@pytest.fixture(scope="module")
def made() -> widgets.Explorer:
    return widgets.prefix_explorer(swept(), SOURCES)


def text(explorer: widgets.Explorer) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", explorer.readout.value)))


def test_length_moves_picture_and_readout_and_reset_restores_them(made) -> None:
    picture, readout = made.image.value, made.readout.value
    assert made.state() == {"text": 0, "length": 20}, "the length nearest to the usual one"
    made.controls["length"].value = 5
    assert made.image.value != picture and made.readout.value != readout
    made.reset_button.click()
    assert made.image.value == picture and made.readout.value == readout


def test_the_text_is_chosen(made) -> None:
    made.controls["text"].value = 2
    assert "Asked: name: Fir. Written, with 1 slot errors: text 2 of 20" in text(made)
    made.reset_button.click()
    assert "Asked: name: Elm | level: easy. Written, with 1 slot errors: text 0 of 20" in text(made)


def test_it_says_what_the_records_say(made) -> None:
    told = made.describe(made.compute(length=5, text=1)).as_text()
    assert "Prefix of 5: BLEU 15.0, slot errors 85 %." in told and "text 1 of 5" in told
    assert re.search(r"decoder +0\.100 +0\.300 +0\.500", told)


def test_every_state_can_be_drawn(made) -> None:
    for length in (1, 5, 20):
        for i in range(3):
            reading = made.compute(length=length, text=i)
            assert not re.search(r"\b(nan|NaN|inf)\b", made.describe(reading).as_text())
            made.picture.jpeg(reading)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (swept((5,)), "records of at least two lengths are needed; python -m peft_helpers.prefix_runs"),
        (swept(shares=False), "the record of length 1 does not tell λ"),
    ],
)
def test_gaps_are_named(found, says) -> None:
    with pytest.raises(ValueError, match=says):
        widgets.prefix_explorer(found, SOURCES)


def test_an_empty_text_is_named() -> None:
    found = swept()
    found[0].settings["texts"][0] = ""
    explorer = widgets.prefix_explorer(found, SOURCES)
    assert "(nothing)" in explorer.describe(explorer.compute(length=1, text=0)).summary


def test_selectors_and_static_picture(made) -> None:
    assert {"pf-prefix-explorer", "pf-explorer"} <= set(made._dom_classes)
    assert 'aria-live="polite"' in made.readout.value and "needs a running notebook" in repr(made)
    width, height = Pixels.open(io.BytesIO(made.image.value)).size
    assert (made.image.layout.width, made.image.layout.height) == (f"{width // 2}px", f"{height // 2}px")
    figure = widgets.static(made)
    assert made.describe(made.compute(**made.defaults)).summary in figure.alt
    static = np.asarray(Pixels.open(io.BytesIO(plots.png(figure, dpi=frame.IN_PICTURE))).convert("L"), dtype=float)
    alive = np.asarray(Pixels.open(io.BytesIO(made.image.value)).convert("L"), dtype=float)
    assert abs(static - alive).mean() < 2
    assert isinstance(made.controls["length"], W.SelectionSlider)


def test_on_the_shipped_records() -> None:
    explorer = widgets.prefix_explorer()
    assert len(explorer.compute(**explorer.defaults).recorded.lengths) >= 2
    assert len(explorer.controls["text"].options) == view.SHOWN


# ---------------------------------------------------------------- figures

PARTS = {"encoder": [0.1, 0.2], "cross": [0.4, 0.3]}
FIGURES = {
    "placement": lambda: plots.prefix_placement(3, 2),
    "shares": lambda: plots.prefix_shares({"at first": PARTS, "trained": {**PARTS, "cross": [0.6, 0.5]}}),
    "length": lambda: plots.score_by_length(
        {"BLEU": {"prefix": {1: 5.0, 20: [9.0, 11.0]}, "embedding only": {1: 2.0}}, "errors": {"prefix": {1: 70.0}}},
        {"BLEU": {"full": 20.0}},
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_described_and_repeatable(name) -> None:
    figure = FIGURES[name]()
    assert isinstance(figure, Figure) and len(figure.alt.split()) > 8
    assert plots.png(figure) == plots.png(FIGURES[name]())


def test_figures_tell_their_numbers() -> None:
    assert "trained: encoder 1 0.1, encoder 2 0.2, cross 1 0.6, cross 2 0.5" in FIGURES["shares"]().alt
    alt = FIGURES["length"]().alt
    assert "BLEU, prefix: 5 at 1, 10 at 20" in alt and "BLEU, full: 20" in alt and "errors, prefix: 70 at 1" in alt


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: plots.prefix_placement(0, 2), "length and layers must be positive; got 0 and 2"),
        (lambda: plots.prefix_shares({}), "nothing to draw: shares is empty"),
        (lambda: plots.prefix_shares({"a": PARTS, "b": {"encoder": [0.1]}}), "the same parts and layers"),
        (lambda: plots.prefix_shares(dict.fromkeys("abcd", PARTS)), "at most 3 names"),
        (lambda: plots.score_by_length({}), "nothing to draw: quantities is empty"),
        (lambda: plots.score_by_length({"BLEU": {"prefix": {}}}), "nothing to draw"),
    ],
)
def test_bad_input_to_figures_is_named(make, says) -> None:
    with pytest.raises(ValueError, match=says):
        make()

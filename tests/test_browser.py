"""The explorers in a real JupyterLab and Chromium: keyboard, mouse, every frame, no error.

Nothing here asserts a time: `tests/benchmarks/widget_latency.py` measures, and the tests print what they saw (-s).
PEFT_SCREENSHOTS=folder keeps pictures of every explorer at its default and at extremes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest

REASON = browser.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"browser tests: {REASON}")

SLIDERS = {"loss": 3, "descent": 2, "optimizer": 4, "curve": 1}
LESSONS = sorted((browser.ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    with browser.running_lab(folder) as address:
        yield address


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with browser.browser_page() as page:
        yield page


@pytest.fixture(scope="module")
def opened(page: Any, lab: str, folder: Path) -> browser.OpenNotebook:
    """The notebook with all explorers, run from top to bottom."""
    notebook = browser.OpenNotebook(page, lab, folder, browser.explorer_notebook(), "explorers.ipynb")
    notebook.run_all()
    return notebook


def test_the_notebook_runs_without_errors(opened):
    assert opened.errors() == []


@pytest.mark.parametrize("name", SLIDERS)
def test_every_slider_moves_the_picture_by_keyboard_and_reset_restores_it(opened, name):
    explorer = browser.OpenExplorer(opened.page, name)
    assert explorer.sliders.count() == SLIDERS[name]
    explorer.settle()
    explorer.screenshot(f"{name}-default")
    picture, text = explorer.pixels(), explorer.readout()
    for slider in range(SLIDERS[name]):
        times = explorer.latencies(slider, presses=2)
        print(f"{name}, slider {slider + 1}: {browser.summarize(times)}")
        explorer.press(slider, "End")
        explorer.settle()
        assert not explorer.comes_to(text, picture, seconds=0)
        explorer.screenshot(f"{name}-slider-{slider + 1}-end")
        explorer.press(slider, "Home")
        explorer.settle()
        explorer.screenshot(f"{name}-slider-{slider + 1}-home")
        explorer.click("Reset")
        assert explorer.comes_to(text, picture), f"Reset left {explorer.readout()!r}; it was {text!r}"


@pytest.mark.parametrize(
    "name, button, told",
    [("loss", "C", "p(C)"), ("descent", "Nesterov", "Nesterov with"), ("optimizer", "on", "with bias")],
)
def test_buttons_work_by_keyboard(opened, name, button, told):
    explorer = browser.OpenExplorer(opened.page, name)
    explorer.click(button)
    assert told in explorer.readout()
    explorer.screenshot(f"{name}-{button}")
    explorer.click("Reset")


@pytest.mark.parametrize("name", SLIDERS)
def test_no_frame_is_blank_or_collapsed_during_a_drag(opened, name):
    explorer = browser.OpenExplorer(opened.page, name)
    seen = explorer.drag(0)
    explorer.click("Reset")
    print(f"{name}: {seen}")
    assert seen["pictures"] > 2, "the picture does not follow the mouse"
    assert seen["blank"] == 0
    assert len(seen["sizes"]) == 1 and len(seen["heights"]) == 1, "the page jumps"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_widgets_of_the_lessons(page, lab, folder, path):
    """A lesson's `widget` cells need nothing but its `setup` cells, and their explorers follow the keyboard."""
    if (notebook := browser.widgets_of(path)) is None:
        pytest.skip("this lesson has no widget")
    opened = browser.OpenNotebook(page, lab, folder, notebook, path.name)
    opened.run_all()
    assert opened.errors() == []
    names = opened.explorers()
    assert names, "no explorer is on the page"
    for name in names:
        explorer = browser.OpenExplorer(page, name)
        explorer.screenshot(f"{path.stem}-{name}")
        explorer.press(0)
    opened.shut_down()

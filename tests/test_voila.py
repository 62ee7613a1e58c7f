"""The dashboard as a page of its own: served by Voilà as `make dashboard` does, used in a real browser."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator

import browser
import pytest

from peft_helpers.widgets.dashboard import NOTEBOOK

REASON = browser.missing() or (None if importlib.util.find_spec("voila") else "needs Voilà (the extra lab)")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"browser tests: {REASON}")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Voilà over the dashboard's notebook, on a free port, with settings of its own."""
    folder = tmp_path_factory.mktemp("voila")
    port = browser.free_port()
    places = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "voila", str(NOTEBOOK), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    environment = {**os.environ, **places, "PYTHONPATH": str(browser.ROOT)}
    with browser.served(command, f"http://127.0.0.1:{port}/voila/static/", folder, environment):
        yield f"http://127.0.0.1:{port}/"


def test_every_tab_answers_to_the_keyboard(address: str) -> None:
    with browser.browser_page() as page:
        page.goto(address, wait_until="domcontentloaded", timeout=180_000)
        page.locator(".pf-calculator-explorer img").first.wait_for(state="visible", timeout=180_000)
        tabs = page.locator(".lm-TabBar-tab")
        assert tabs.all_inner_texts() == ["Calculator", "Recorded results", "Is it real?", "Which method?"]
        for place, name in enumerate(("calculator", "front", "gap")):
            tabs.nth(place).click()
            explorer = browser.OpenExplorer(page, name)
            print(f"{name}: {explorer.press(0):.0f} ms")
        tabs.nth(3).click()
        panel = page.locator(".pf-advice")
        panel.wait_for(state="visible")
        before = panel.inner_text()
        panel.locator(".noUi-handle").first.focus()
        page.keyboard.press("Home")  # the smallest memory
        page.wait_for_function("before => document.querySelector('.pf-advice').innerText !== before", arg=before)
        assert re.search(r"\d+ do not fit", panel.inner_text())
        assert not page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count()

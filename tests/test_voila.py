"""The dashboard as a page of its own: served by Voilà as `make dashboard` does, used in a real browser."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest

from peft_helpers.widgets.dashboard import NOTEBOOK

REASON = browser.missing() or (None if importlib.util.find_spec("voila") else "needs Voilà (the extra lab)")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"browser tests: {REASON}")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Voilà over the dashboard's notebook, on a free port, with settings of its own."""
    folder = tmp_path_factory.mktemp("voila")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    log = folder / "voila.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "voila", str(NOTEBOOK), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"],
            env={**os.environ, **places, "PYTHONPATH": str(browser.ROOT)}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/voila/static/", server, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(15)


def _wait(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end and server.poll() is None:
        try:
            with opener.open(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("Voilà did not start; its last words:\n" + log.read_text(errors="replace")[-2000:])


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

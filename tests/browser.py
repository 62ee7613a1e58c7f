"""JupyterLab in a real browser: what the browser tests and `tests/benchmarks/widget_latency.py` share.

Lab gets its own folders for settings and run-time files, so that nothing of the user's is read or changed; Chromium
reaches nothing beyond this machine.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
from PIL import Image as Pixels

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_FLAGS = (
    "--no-sandbox",  # containers often run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--metrics-recording-only",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}


def chromium() -> str | None:
    """Path of an installed Chromium or Chrome (the environment's CHROMIUM first), or None."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing() -> str | None:
    """Why no browser test can run here, or None."""
    for module in ("playwright", "jupyterlab"):
        if importlib.util.find_spec(module) is None:
            return f"needs the Python package {module} (pip install -e '.[lab,test]')"
    if chromium() is None:
        return "needs Chromium or Chrome: install it, or name its path in the environment variable CHROMIUM"
    return None


def explorer_notebook() -> nbformat.NotebookNode:
    """A small notebook with every explorer, one a cell."""
    curves = (
        "sizes = (2, 5, 10, 20, 30, 40, 50, 60, 80, 100)\n"
        "runs = {n: {'train': [0.5, 1 - 0.4 * 0.9**n, 1 - 0.3 * 0.9**n],\n"
        "            'dev': [0.5, 0.8 - 0.2 * 0.9**n, 0.9 - 0.3 * 0.9**n]} for n in sizes}\n"
        "widgets.curve_explorer(runs, 'labels', 'epoch', 'accuracy', percent=True, best='max', limits=(0, 1.1),\n"
        "                       references={'majority class': 0.5, 'bag of words': 0.78})"
    )
    cells = ["from peft_helpers import widgets"]
    cells += [f"widgets.{name}_explorer()" for name in ("loss", "descent", "optimizer")]
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in [*cells, curves]],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


def widgets_of(lesson: Path) -> nbformat.NotebookNode | None:
    """A lesson's `widget` cells, which need nothing but its `setup` cells, with these; None if it has no widget."""
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if {"setup", "widget"} & set(cell.metadata.get("tags", []))]
    return notebook if any("widget" in cell.metadata.tags for cell in notebook.cells) else None


# ---------------------------------------------------------------- JupyterLab


@contextmanager
def running_lab(folder: Path) -> Iterator[str]:
    """JupyterLab over `folder`/notebooks, on a free port of this machine; gives its address, without a slash.

    Raises:
        RuntimeError: with the server's last lines, if it does not answer within 90 seconds.
    """
    private = folder / "jupyter"
    (private / "config" / "labconfig").mkdir(parents=True)
    (private / "config" / "labconfig" / "page_config.json").write_text(json.dumps(NO_NEWS), encoding="utf-8")
    (folder / "notebooks").mkdir(exist_ok=True)
    port = free_port()
    token, address = secrets.token_hex(8), f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder / 'notebooks'}", "--expose-app-in-browser",
    ]  # fmt: skip
    with served(command, f"{address}/api/status?token={token}", folder, environment):
        yield f"{address}|{token}"


@contextmanager
def served(command: list[str], url: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A server's process, from its first answer at `url` (an HTTP error is one) until the block ends.

    Raises:
        RuntimeError: with the server's last lines, if it does not answer within 90 seconds.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_until_up(url, server, log)
        yield
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(15)


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_up(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
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
    raise RuntimeError("The server did not start; its last words:\n" + log.read_text(errors="replace")[-2000:])


# ---------------------------------------------------------------- a notebook on the page


@contextmanager
def browser_page(width: int = 1180, height: int = 1000) -> Iterator[Any]:
    """A fresh page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(CHROMIUM_FLAGS))
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


class OpenNotebook:
    """A notebook in Lab's single-document mode.

    Args:
        page: of the browser.
        lab: what `running_lab` gave.
        folder: the same folder as there.
        notebook: written to that folder under `name`, then opened.
    """

    def __init__(self, page: Any, lab: str, folder: Path, notebook: nbformat.NotebookNode, name: str):
        self.page = page
        nbformat.write(notebook, folder / "notebooks" / name)
        address, token = lab.split("|")
        page.goto(f"{address}/doc/tree/{name}?reset&token={token}", wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context", timeout=60_000)
        page.evaluate(
            "async () => { const w = jupyterapp.shell.currentWidget;"
            " await w.context.ready; await w.sessionContext.ready; }"
        )

    def run_all(self) -> None:
        """Run every cell and wait for the last one."""
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")

    def errors(self) -> list[str]:
        """What went wrong in the cells: one line an error output."""
        outputs = self.page.evaluate(
            "() => { const cells = jupyterapp.shell.currentWidget.content.model.cells, found = [];"
            "  for (let i = 0; i < cells.length; i++) found.push(...(cells.get(i).toJSON().outputs || []));"
            "  return found.filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`); }"
        )
        return outputs

    def explorers(self) -> list[str]:
        """The names of the explorers on the page, whatever a lesson calls them."""
        self.page.locator(".pf-explorer").first.wait_for(state="visible", timeout=30_000)
        return self.page.evaluate(
            "() => [...new Set([...document.querySelectorAll('.pf-explorer')].flatMap(box =>"
            "  [...box.classList].map(name => name.match(/^pf-(.+)-explorer$/)?.[1]).filter(Boolean)))]"
        )

    def shut_down(self) -> None:
        """Stop the kernel, so that notebooks do not pile up in memory."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")


WATCH_KEY = """selector => {
  const image = document.querySelector(selector + ' img'), before = image.src;
  window.pfElapsed = null;
  addEventListener('keydown', () => {
    const start = performance.now();
    const look = () => {
      if (image.src !== before && image.complete && image.naturalWidth) window.pfElapsed = performance.now() - start;
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, {capture: true, once: true});
}"""

WATCH_SIZES = """selector => {
  const box = document.querySelector(selector), image = box.querySelector('img');
  const seen = window.pfSeen = {on: true, pictures: new Set(), sizes: new Set(), heights: new Set()};
  const look = () => {
    const size = image.getBoundingClientRect();
    seen.pictures.add(image.src);
    seen.sizes.add(`${size.width}x${size.height}`);
    seen.heights.add(box.getBoundingClientRect().height);
    if (seen.on) requestAnimationFrame(look);
  };
  look();
}"""

STOP_WATCHING = """() => { const {pictures, sizes, heights} = window.pfSeen;
  window.pfSeen.on = false;
  return {pictures: pictures.size, sizes: [...sizes], heights: [...heights]}; }"""


@contextmanager
def painted_frames(page: Any) -> Iterator[list[Pixels.Image]]:
    """Collect every frame that Chromium really paints, as a screen recorder would."""
    recorder, frames = page.context.new_cdp_session(page), []

    def keep(event: dict[str, Any]) -> None:
        frames.append(Pixels.open(io.BytesIO(base64.b64decode(event["data"]))).convert("L"))
        recorder.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    recorder.on("Page.screencastFrame", keep)
    recorder.send("Page.startScreencast", {"format": "jpeg", "quality": 70})
    try:
        yield frames
    finally:
        recorder.send("Page.stopScreencast")
        recorder.detach()


SETTLE = """async selector => {
  const image = document.querySelector(selector + ' img');
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const pause = () => new Promise(resolve => setTimeout(resolve, 25));
  await pause();
  for (let quiet = 0, before = image.src; quiet < 10; quiet++, before = image.src) {
    await pause();
    if (kernel.status !== 'idle' || !image.complete || image.src !== before) quiet = -1;
  }
}"""


class OpenExplorer:
    """One explorer on the page, used as a reader would: with keys and the mouse.

    Args:
        page: of the browser.
        name: "loss", "descent" …, as in the CSS class `pf-<name>-explorer`.
    """

    def __init__(self, page: Any, name: str):
        self.page, self.selector = page, f".pf-{name}-explorer"
        self.box = page.locator(self.selector).first
        self.box.wait_for(state="visible", timeout=30_000)
        page.wait_for_function(f"() => document.querySelector('{self.selector} img')?.naturalWidth > 0")
        self.box.scroll_into_view_if_needed()
        self.sliders = self.box.locator(".noUi-handle")
        self.image = self.box.locator("img")

    def press(self, slider: int, key: str = "ArrowRight") -> float:
        """Press a key on the slider's handle; milliseconds until the picture has changed."""
        self.sliders.nth(slider).focus()
        self.page.evaluate(WATCH_KEY, self.selector)
        self.page.keyboard.press(key)
        self.page.wait_for_function("() => window.pfElapsed !== null", timeout=10_000)
        return self.page.evaluate("() => window.pfElapsed")

    def latencies(self, slider: int, presses: int = 8) -> list[float]:
        """Milliseconds for each of several presses, away and back, after one that is not counted."""
        away, back = "ArrowRight", "ArrowLeft"
        handle = self.sliders.nth(slider)
        if handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax"):
            away, back = back, away
        self.press(slider, away)
        return [self.press(slider, (back, away)[i % 2]) for i in range(presses)]

    def click(self, text: str) -> None:
        """Press the button with this text, by keyboard."""
        self.box.locator("button", has_text=re.compile(rf"^\s*{re.escape(text)}\s*$")).focus()
        self.page.keyboard.press("Enter")
        self.settle()

    def settle(self) -> None:
        """Wait until the kernel is idle and the picture has stayed the same for a quarter of a second."""
        self.page.evaluate(SETTLE, self.selector)

    def drag(self, slider: int, moves: int = 24) -> dict[str, Any]:
        """Drag a slider from end to end with the mouse, watching every frame.

        Returns:
            pictures: how many different ones; sizes and heights: of the picture and of the whole explorer, each once;
            frames: how many were painted; blank: how many of these had nothing where the picture is.
        """
        track = self.box.locator(".noUi-target").nth(slider).bounding_box()
        handle = self.sliders.nth(slider).bounding_box()
        place = self.image.bounding_box()
        y = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, y)
        self.page.evaluate(WATCH_SIZES, self.selector)
        with painted_frames(self.page) as frames:
            self.page.mouse.down()
            for i in range(moves + 1):
                self.page.mouse.move(track["x"] + track["width"] * i / moves, y)
                self.page.wait_for_timeout(40)
            self.page.mouse.up()
            self.settle()
        area = (place["x"], place["y"], place["x"] + place["width"], place["y"] + place["height"])
        pictures = [frame.crop([round(edge) for edge in area]) for frame in frames]
        blank = sum(low > 120 or high < 200 for low, high in (picture.getextrema() for picture in pictures))
        return {**self.page.evaluate(STOP_WATCHING), "frames": len(frames), "blank": blank}

    def readout(self) -> str:
        """The exact values, as text."""
        return self.box.locator("[role=status]").inner_text()

    def comes_to(self, readout: str, pixels: str, seconds: float = 15) -> bool:
        """Whether the explorer shows these values and this picture, now or soon: a loaded machine is slow."""
        limit = time.monotonic() + seconds
        while not (same := self.readout() == readout and self.pixels() == pixels) and time.monotonic() < limit:
            self.page.wait_for_timeout(50)
        return same

    def pixels(self) -> str:
        """The picture as the page has it, as a data address."""
        return self.page.evaluate(
            "async s => { const i = document.querySelector(s + ' img'), c = document.createElement('canvas');"
            " await i.decode().catch(() => null);"
            " [c.width, c.height] = [i.naturalWidth, i.naturalHeight];"
            " c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL(); }",
            self.selector,
        )

    def screenshot(self, name: str) -> None:
        """Into the folder named by PEFT_SCREENSHOTS, if it is set."""
        if folder := os.environ.get("PEFT_SCREENSHOTS"):
            self.settle()
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.box.screenshot(path=str(Path(folder) / f"{name}.png"))


def summarize(milliseconds: Sequence[float]) -> str:
    """Median and range."""
    return f"median {median(milliseconds):.0f} ms ({min(milliseconds):.0f} to {max(milliseconds):.0f})"

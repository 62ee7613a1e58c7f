"""How long after a key the pictures of the course's widgets change, in JupyterLab and Chromium on this machine.

    python tests/benchmarks/widget_latency.py                      # every slider of every lesson, a line each
    python tests/benchmarks/widget_latency.py --lessons 13 14

From the browser's keydown event to the first animation frame that holds the new picture, fully loaded; so the slider,
both ways over the kernel's connection, the calculation, the drawing and the decoding are in it. Each explorer's first
slider is then drawn from end to end with the mouse, every painted frame watched.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import browser
import numpy as np

from peft_helpers import storage

RESULT = Path(__file__).parent / "results" / "widget_latency.json"
LESSONS = {path.stem[:2]: path for path in sorted((browser.ROOT / "notebooks").glob("[0-9]*.ipynb"))}


def measure(explorer: browser.OpenExplorer, presses: int) -> dict[str, Any]:
    """Milliseconds by slider, their median and 95th percentile, and what the mouse saw."""
    labels = explorer.box.locator(".widget-slider .widget-label").all_inner_texts()
    sliders = {}
    for slider, label in enumerate(labels):
        sliders[label] = [round(time, 1) for time in explorer.latencies(slider, presses)]
        explorer.settle()
    times = [time for found in sliders.values() for time in found]
    seen = explorer.drag(0)
    return {
        "median_ms": round(median(times), 1),
        "p95_ms": round(float(np.percentile(times, 95)), 1),
        "sliders": sliders,
        "drag": {"pictures": seen["pictures"], "frames": seen["frames"], "blank": seen["blank"]},
    }


def lesson(page: Any, lab: str, folder: Path, path: Path, presses: int) -> dict[str, Any]:
    """Every explorer of a lesson by name; a failure is told in its place."""
    notebook, found = browser.widgets_of(path), {}
    if notebook is None:
        return found
    opened = browser.OpenNotebook(page, lab, folder, notebook, path.name)
    opened.run_all()
    for name in opened.explorers():
        explorer = browser.OpenExplorer(page, name)
        if not explorer.sliders.count():
            continue
        found[name] = measure(explorer, presses)
        told = {key: found[name][key] for key in ("median_ms", "p95_ms", "drag")}
        print(f"{path.stem[:2]} {name:14} {len(found[name]['sliders'])} sliders {told}", flush=True)
    opened.shut_down()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", nargs="+", choices=LESSONS, default=list(LESSONS), metavar="NN")
    parser.add_argument("--presses", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if reason := browser.missing():
        sys.exit(f"cannot measure here: {reason}")
    found = {}
    with tempfile.TemporaryDirectory() as name, browser.running_lab(Path(name)) as lab, browser.browser_page() as page:
        for number in given.lessons:
            if widgets := lesson(page, lab, Path(name), LESSONS[number], given.presses):
                found[number] = widgets
    times = [
        time
        for widgets in found.values()
        for widget in widgets.values()
        for presses in widget["sliders"].values()
        for time in presses
    ]
    print(f"{sum(map(len, found.values()))} widgets: median {median(times):.0f} ms, p95 {np.percentile(times, 95):.0f}")
    storage.write_json(
        given.out,
        {
            "median_ms": round(median(times), 1),
            "p95_ms": round(float(np.percentile(times, 95)), 1),
            "lessons": found,
            "presses": given.presses,
            "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
            "cpus": os.cpu_count(),
            "platform": platform.platform(),
            "versions": {name: version(name) for name in ("ipywidgets", "jupyterlab", "matplotlib", "torch")},
        },
    )


if __name__ == "__main__":
    main()

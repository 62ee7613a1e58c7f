"""How long after a key the explorers' pictures change, in JupyterLab and Chromium on this machine.

    python tests/benchmarks/widget_latency.py                     # prints a line a slider
    python tests/benchmarks/widget_latency.py --output file.json  # and writes all figures

From the browser's keydown event to the first animation frame that holds the new picture, fully loaded; so the slider,
both ways over the kernel's connection, the calculation, the drawing and the decoding are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import browser
import nbformat

EXPLORERS = ("loss", "descent", "optimizer", "curve")
LESSON_13 = ("calculator", "front", "gap")  # in a notebook of their own: they read the shipped records


def comparison_notebook() -> nbformat.NotebookNode:
    """The explorers of lesson 13, one a cell."""
    cells = ["from peft_helpers import widgets", *(f"widgets.{name}_explorer()" for name in LESSON_13)]
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


def measure(presses: int, kinds: tuple[str, ...] = EXPLORERS) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by explorer and slider label."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with browser.running_lab(folder) as lab, browser.browser_page() as page:
            made = comparison_notebook() if kinds == LESSON_13 else browser.explorer_notebook()
            notebook = browser.OpenNotebook(page, lab, folder, made, "explorers.ipynb")
            notebook.run_all()
            for kind in kinds:
                explorer = browser.OpenExplorer(page, kind)
                labels = explorer.box.locator(".widget-slider .widget-label").all_inner_texts()
                for slider, label in enumerate(labels):
                    times = explorer.latencies(slider, presses)
                    found.setdefault(kind, {})[label] = [round(time, 1) for time in times]
                    print(f"{kind:10} {label:16} {browser.summarize(times)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=8)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--lesson-13", action="store_true", help="only the explorers of lesson 13")
    arguments = parser.parse_args()
    if reason := browser.missing():
        sys.exit(f"cannot measure here: {reason}")
    found: dict[str, dict[str, list[float]]] = {}
    for kinds in (LESSON_13,) if arguments.lesson_13 else (EXPLORERS, LESSON_13):
        found |= measure(arguments.presses, kinds)
    overall = median(time for sliders in found.values() for times in sliders.values() for time in times)
    print(f"median over all: {overall:.0f} ms")
    if arguments.output:
        record = {
            "median_ms": round(overall, 1),
            "milliseconds": found,
            "presses": arguments.presses,
            "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
            "cpus": os.cpu_count(),
            "platform": platform.platform(),
            "versions": {name: version(name) for name in ("ipywidgets", "jupyterlab", "matplotlib", "torch")},
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

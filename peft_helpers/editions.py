"""The notebooks' editions: the learner's working copies, the published links, and the stored outputs.

    python -m peft_helpers.editions workspace       copies without outputs in workspace/, never overwriting a file
    python -m peft_helpers.editions links           pyproject's address into badges and install lines; the README's map
    python -m peft_helpers.editions refresh [05 …]  run the lessons and store their outputs

It needs a clone of the repository: the installed package alone has no notebooks.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_helpers.storage import replace_atomically, write_json, write_text

# The plan of the course; a lesson that exists is described by its own metadata instead.
LESSONS = {
    0: ("Start here", "What happens when we fine-tune a pretrained model, and how does this course work?"),
    1: ("Loss functions", "How do we turn a prediction into one number that says how wrong it is?"),
    2: ("Gradient descent", "How far may a step go before it makes the loss worse?"),
    3: ("Adam", "What does Adam do to a gradient, and what does it cost?"),
    4: ("Inside an encoder", "What happens between a sentence and a prediction?"),
    5: ("Full fine-tuning", "What does pretraining buy, and how do we know?"),
    6: ("Training well", "Which settings matter, and how do we tell what went wrong?"),
    7: ("What a model costs", "Where do memory, time and disk space go?"),
    8: ("Adapters", "How little can we add, and still learn the task?"),
    9: ("Decoders and generation", "How does a model write, and how do we score what it wrote?"),
    10: ("Prefix-tuning", "Can a frozen decoder be steered from in front of the text?"),
    11: ("The PEFT taxonomy", "What do the four families of methods have in common?"),
    12: ("LoRA and its relatives", "How low is the rank of what fine-tuning changes?"),
    13: ("Comparing methods", "Which method for which budget, and which differences are real?"),
    14: ("Open challenges", "What is still hard?"),
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
RUN_TIME = re.compile(r"in (?:about |less than )?\d+ seconds")
PROGRESS_BAR = re.compile(r"\s*\d+%\|")
MAP_BEGIN, MAP_END = "<!-- map: written by `make links` -->", "<!-- end of map -->"


# ------------------------------------------------------------------------------------------------ finding things


def project_root() -> Path:
    """The clone that this package is installed from.

    Raises:
        ValueError: if the package was installed without a clone (no notebooks, no pyproject.toml).
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").is_file():
        raise ValueError(f"{root} is no clone of the course (no pyproject.toml); run this in a clone: pip install -e .")
    return root


def notebooks(root: Path) -> list[Path]:
    """The lessons in reading order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def select(root: Path, names: Iterable[str]) -> list[Path]:
    """The lessons named by number ("05"), name or path; all of them without names.

    Raises:
        ValueError: for a name that fits no lesson, or more than one.
    """
    every, chosen = notebooks(root), []
    for name in names:
        stem = Path(name).stem
        found = [path for path in every if path.stem == stem or path.stem.startswith(f"{stem}_")]
        if len(found) != 1:
            raise ValueError(f"no lesson is named {name!r}; there are: {', '.join(path.stem for path in every)}")
        chosen += found
    return chosen or every


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook as plain JSON.

    Raises:
        ValueError: if the file is no notebook of format 4.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise KeyError("nbformat 4 with a list of cells")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole notebook of format 4 ({error})") from error
    return notebook


# ------------------------------------------------------------------------------------------------ working copies


@dataclass
class Copies:
    """What `workspace` did, by file name."""

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)  # kept, though the lesson has changed since the copy was made


def workspace(root: Path, folder: Path | None = None) -> Copies:
    """Copy the lessons without outputs, and their images, into `folder` (default: workspace/ in the clone).

    A file that is there already is never written again: it may hold somebody's work.
    """
    source, folder, copies = root / "notebooks", folder or root / "workspace", Copies()
    folder.mkdir(parents=True, exist_ok=True)
    for path in notebooks(root):
        target, lesson = folder / path.name, without_outputs(read_notebook(path))
        if not target.exists():
            write_json(target, lesson)
            copies.new.append(path.name)
        else:
            copies.kept.append(path.name)
            if _edition_of_copy(target) != lesson["metadata"]["peft_course"]["edition"]:
                copies.outdated.append(path.name)
    for path in sorted(source.glob("images/**/*")):
        target = folder / path.relative_to(source)
        if path.is_file() and not target.exists():
            with replace_atomically(target) as temporary:
                shutil.copyfile(path, temporary)
    return copies


def without_outputs(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs and counts, marked with the edition it was made from."""
    cells = []
    for cell in notebook["cells"]:
        cell = dict(cell)
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
        cells.append(cell)
    text = json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells])
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "widgets"}
    edition = hashlib.sha256(text.encode()).hexdigest()[:12]
    metadata["peft_course"] = metadata.get("peft_course", {}) | {"edition": edition}
    return notebook | {"cells": cells, "metadata": metadata}


def _edition_of_copy(path: Path) -> str | None:
    try:
        return read_notebook(path)["metadata"]["peft_course"]["edition"]
    except (OSError, ValueError, KeyError, TypeError):  # the learner's file: whatever it holds is theirs
        return None


# ------------------------------------------------------------------------------------------------ published links


def repository(root: Path) -> str:
    """The published address, from pyproject's `project.urls.Repository`.

    Raises:
        ValueError: if it is not a GitHub address (Colab opens notebooks from GitHub).
    """
    address = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"Repository in pyproject.toml must be https://github.com/OWNER/NAME, not {address!r}")
    return address


def with_links(text: str, address: str) -> str:
    """`text` with every Colab link, install line and clone line pointing at `address`."""
    name = address.removeprefix("https://github.com/")
    text = re.sub(r"(https://colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(?=/blob/)", rf"\g<1>{name}", text)
    return re.sub(
        r"""(git\+|git clone |repository-code: ")https://github\.com/[^\s@"'`)\\]+""", rf"\g<1>{address}", text
    )


def links(root: Path) -> list[Path]:
    """Write the published address into lessons, README and citation, and the README's map; return what changed."""
    address, changed = repository(root), []
    for path in [root / "README.md", root / "CITATION.cff", *notebooks(root)]:
        if not path.is_file():
            continue
        old = path.read_text(encoding="utf-8")
        new = with_links(old, address)
        if path.name == "README.md":
            new = with_map(new, lesson_map(root))
        if new != old:
            write_text(path, new)
            changed.append(path)
    return changed


def lesson_map(root: Path) -> str:
    """The course as a Markdown table: written lessons from their metadata, the others from the plan."""
    written = {int(path.name[:2]): path for path in notebooks(root)}
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    colab = repository(root).replace("https://github.com/", "https://colab.research.google.com/github/")
    rows = ["| | Lesson | The question it answers | Class | Runs in | |", "|---|---|---|---|---|---|"]
    for number, (title, question) in LESSONS.items():
        if number not in written:
            rows.append(f"| {number:02} | {title} | {question} | planned | | |")
            continue
        path = written[number]
        about = read_notebook(path)["metadata"].get("peft_course", {})
        title, question = about.get("title", title), about.get("question", question)
        minutes = f"{about['class_minutes']} min" if about.get("class_minutes") else ""
        seconds = f"{about['seconds_cpu']:.0f} s" if about.get("seconds_cpu") else ""
        opened = f"[![Open In Colab]({badge})]({colab}/blob/main/notebooks/{path.name})"
        rows.append(
            f"| {number:02} | [{title}](notebooks/{path.name}) | {question} | {minutes} | {seconds} | {opened} |"
        )
    return "\n".join(rows)


def with_map(text: str, table: str) -> str:
    """`text` with `table` between the two markers.

    Raises:
        ValueError: if the markers are missing or not once each.
    """
    if text.count(MAP_BEGIN) != 1 or text.count(MAP_END) != 1:
        raise ValueError(f"README.md needs the lines {MAP_BEGIN!r} and {MAP_END!r} once each, around the map")
    before, rest = text.split(MAP_BEGIN)
    return f"{before}{MAP_BEGIN}\n\n{table}\n\n{MAP_END}{rest.split(MAP_END)[1]}"


# ------------------------------------------------------------------------------------------------ stored outputs


def refresh(root: Path, names: Iterable[str] = ()) -> list[str]:
    """Run lessons from top to bottom and store their outputs; return the names of those that failed.

    Stored outputs are those of the pocket profile on the CPU, offline. A lesson that fails keeps its old file. Lesson
    00 draws the README's map, with the run times of all lessons: it runs last, on a map that knows the new ones.
    """
    failed = []
    chosen = sorted(select(root, names), key=lambda path: path.name.startswith("00_"))  # in order, but 00 last
    with _reference_conditions():
        for position, path in enumerate(chosen, 1):
            if path.name.startswith("00_"):
                _write_map(root)
            print(f"[{position}/{len(chosen)}] {path.stem} …", end=" ", flush=True)
            try:
                seconds, cells = _run(path)
                print(f"{cells} cells in {seconds:.1f} s", flush=True)
            except RuntimeError as error:  # nbclient's errors: a cell raised, hung, or killed its kernel
                failed.append(path.stem)
                print(f"FAILED, its file is unchanged\n{error}", flush=True)
    _write_map(root)
    return failed


def tell_run_time(header: str, seconds: float) -> str:
    """A lesson's header with its run time, in steps of five seconds: "in about 25 seconds"."""
    return RUN_TIME.sub(f"in about {5 * max(1, math.ceil(seconds / 5))} seconds", header, count=1)


def _write_map(root: Path) -> None:
    """Bring the README's map, which shows the seconds, up to the lessons' metadata."""
    if (root / "README.md").is_file():
        links(root)


@contextlib.contextmanager
def _reference_conditions() -> Iterator[None]:
    """The environment that stored outputs are made in; the learner's log and records stay out of it."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(
            PEFT_PROFILE="pocket",
            HF_HUB_OFFLINE="1",
            CUDA_VISIBLE_DEVICES="",
            PEFT_LOG=str(Path(scratch) / "lesson_log.jsonl"),
            PEFT_RECORDS=str(Path(scratch) / "records"),
        )
        os.environ.pop("MPLBACKEND", None)  # a kernel chooses its inline backend itself
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _run(path: Path) -> tuple[float, int]:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    started = time.perf_counter()
    try:
        client.execute()
    except (CellControlSignal, TimeoutError) as error:
        raise RuntimeError(str(error)) from error
    seconds = round(time.perf_counter() - started, 1)  # the header is made from the stored figure
    tidy(notebook)
    notebook.metadata.setdefault("peft_course", {})["seconds_cpu"] = seconds
    notebook.cells[0].source = tell_run_time(notebook.cells[0].source, seconds)
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")
    store_pictures(notebook, path.parent)
    return seconds, len(notebook.cells)


def tidy(notebook: Any) -> None:
    """Make an executed notebook fit for GitHub, in place: no widget state, widgets as text, counts from 1."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}  # the rest changes with the machine
    count = 0
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        ran = bool(cell.source.strip())
        count += ran
        cell.execution_count = count if ran else None
        for output in cell.outputs:
            if "data" in output:  # the repr in text/plain stays: GitHub, nbval and screen readers show that
                output.data.pop(WIDGET_VIEW, None)
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
        cell.outputs = [output for output in cell.outputs if output.get("data") != {} and not _is_progress_bar(output)]


def _is_progress_bar(output: Any) -> bool:
    """A bar that is over says nothing; what would be stored is how it began, at 0 %."""
    return PROGRESS_BAR.match(output.get("data", {}).get("text/plain", "")) is not None


def store_pictures(notebook: Any, folder: Path) -> None:
    """Write the figure of every cell with metadata `picture` (a path below notebooks/), for README and the like."""
    for cell in notebook.cells:
        if "picture" in cell.metadata:
            images = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
            with replace_atomically(folder / cell.metadata["picture"]) as temporary:
                temporary.write_bytes(base64.b64decode(images[-1]))


# ------------------------------------------------------------------------------------------------ command line


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when it did what it should."""
    parser = argparse.ArgumentParser(prog="python -m peft_helpers.editions", description="The notebooks' editions.")
    parser.add_argument("--root", type=Path, help="the clone to work in (default: this one)")
    commands = parser.add_subparsers(dest="command", required=True)
    copying = commands.add_parser("workspace", help="working copies without outputs, never overwriting a file")
    copying.add_argument("--into", type=Path, help="another folder than workspace/")
    commands.add_parser("links", help="badges, install lines and the README's map from pyproject.toml")
    running = commands.add_parser("refresh", help="run lessons and store their outputs")
    running.add_argument("names", nargs="*", help="numbers or names of lessons (default: all)")
    chosen = parser.parse_args(arguments)
    try:
        root = chosen.root or project_root()
        if chosen.command == "workspace":
            copies = workspace(root, chosen.into)
            folder = chosen.into or root / "workspace"
            print(f"{folder}: {len(copies.new)} new lessons, {len(copies.kept)} kept as they are")
            for name in copies.outdated:
                print(f"  {name} has changed since your copy was made: rename yours to get the new one beside it")
        elif chosen.command == "links":
            changed = links(root)
            print(f"links: {', '.join(path.name for path in changed) or 'nothing to change'}")
        else:
            return 1 if refresh(root, chosen.names) else 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m peft_helpers.classroom`: write student/ and instructor/ into a clone of the course."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from peft_helpers import editions
from peft_helpers.classroom import assignments, exercises, folders, grading, guide, inventory, slides
from peft_helpers.classroom.variants import VARIANTS
from peft_helpers.storage import replace_atomically, write_json, write_text


def build(root: Path, into: Path, names: Iterable[str] = (), set_aside: bool = False) -> list[str]:
    """Write both folders below `into`; the stems of the lessons that are in them.

    Args:
        root: the clone whose lessons are taken.
        names: numbers or names of lessons; all of them without names.
        set_aside: rename an existing folder with work in it, instead of refusing.

    Raises:
        ValueError: if a folder holds work, a lesson is not named rightly, or an exercise is not whole.
    """
    targets = (into / "student", into / "instructor")
    for folder in targets:
        folders.check(folder, set_aside)
    lessons = {path.stem: editions.read_notebook(path) for path in editions.select(root, names)}
    with (
        folders.replace_folder(targets[0], set_aside) as student,
        folders.replace_folder(targets[1], set_aside) as instructor,
    ):
        write_student(student, lessons, root)
        write_instructor(instructor, lessons, root)
    return list(lessons)


def write_student(folder: Path, lessons: dict[str, dict], root: Path) -> None:
    """The students' copies, both variants, and the questions for before and after."""
    write_text(folder / "README.md", (guide.HERE / "handout.md").read_text(encoding="utf-8"))
    write_text(folder / "concept_inventory.md", inventory.questionnaire())
    for variant in VARIANTS:
        for stem, notebook in lessons.items():
            write_json(folder / f"variant_{variant}" / f"{stem}.ipynb", assignments.student(notebook, variant))
        copy_images(folder / f"variant_{variant}", lessons, root)


def write_instructor(folder: Path, lessons: dict[str, dict], root: Path) -> None:
    """What the teacher has: sources for nbgrader with the solutions, the guide, slides."""
    for variant in VARIANTS:
        for stem, notebook in lessons.items():
            assignment = folder / "source" / f"{stem[:2]}{variant}"
            write_json(assignment / f"{stem}.ipynb", assignments.key(notebook, variant))
            copy_images(assignment, {stem: notebook}, root)
    write_text(folder / "nbgrader_config.py", grading.CONFIG)
    write_text(folder / "README.md", guide.readme(lessons))
    write_text(folder / "concept_inventory_key.md", inventory.key())
    for stem, notebook in lessons.items():
        write_text(folder / "guide" / f"{stem}.md", guide.page(stem, notebook))
        write_text(folder / "slides" / f"{stem}.html", slides.deck(notebook))


def copy_images(folder: Path, lessons: dict[str, dict], root: Path) -> None:
    """Copy the pictures that the lessons' text shows from notebooks/ into `folder`."""
    for notebook in lessons.values():
        texts = (exercises.source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        for name in re.findall(r"\]\((images/[\w./-]+)\)", "\n".join(texts)):
            with replace_atomically(folder / name) as temporary:
                shutil.copyfile(root / "notebooks" / name, temporary)


def main(arguments: list[str] | None = None) -> int:
    """Write the folders; the exit status is 0 when both are there."""
    parser = argparse.ArgumentParser(prog="python -m peft_helpers.classroom", description=__doc__)
    parser.add_argument("names", nargs="*", help="numbers or names of lessons (default: all)")
    parser.add_argument("--into", type=Path, help="where student/ and instructor/ go (default: the clone)")
    parser.add_argument("--root", type=Path, help="the clone whose lessons are taken (default: this one)")
    parser.add_argument("--set-aside", action="store_true", help="rename an existing folder that holds work")
    chosen = parser.parse_args(arguments)
    try:
        root = chosen.root or editions.project_root()
        made = build(root, chosen.into or root, chosen.names, chosen.set_aside)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{chosen.into or root}: student/ and instructor/ with {len(made)} lessons; begin with instructor/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

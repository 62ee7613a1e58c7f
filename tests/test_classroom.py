"""The classroom: nothing leaks to students, right answers get all points, and nobody's work is overwritten."""

from __future__ import annotations

import ast
import copy
import csv
import functools
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checker_cases
import made_lesson
import pytest
import test_exercises
from notebook_rules import ROOT

from peft_helpers import checks, classroom, editions
from peft_helpers.checks.framework import FunctionExercise, Probe, attempt
from peft_helpers.classroom import __main__ as command
from peft_helpers.classroom import assignments, exercises, folders, grading, variant_numbers, variants
from peft_helpers.storage import write_json

LESSONS = {path.stem: path for path in editions.notebooks(ROOT)}
by_lesson = pytest.mark.parametrize("stem", LESSONS)
by_variant = pytest.mark.parametrize("variant", variants.VARIANTS)


@functools.cache
def lesson(stem: str) -> dict[str, Any]:
    """A lesson as JSON."""
    return editions.read_notebook(LESSONS[stem])


@functools.cache
def parts() -> dict[str, exercises.Part]:
    """Every exercise of the course."""
    return {part.id: part for stem in LESSONS for part in exercises.find(lesson(stem))}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exercise writes stays out of the working tree; no window opens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


# ---------------------------------------------------------------- what students get


def normal(code: str) -> str:
    """Code without what a formatter would change."""
    return re.sub(r"\s", "", code)


@by_variant
@by_lesson
def test_students_get_no_solution_and_no_output(stem: str, variant: str) -> None:
    copied = assignments.student(lesson(stem), variant)
    whole = normal("".join(exercises.source(cell) for cell in copied["cells"]))
    for part in exercises.find(lesson(stem)):
        solved = assignments.in_variant(part, variant).solution
        assert normal(solved) not in whole and normal(part.solution) not in whole, part.id
    for cell in copied["cells"]:
        assert "solution" not in exercises.tags(cell)
        assert "### BEGIN" not in exercises.source(cell) and "<summary>Solution" not in exercises.source(cell)
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    old = [cell for cell in lesson(stem)["cells"] if "solution" not in exercises.tags(cell)]
    assert len(old) == len(copied["cells"]), "nothing else is left out, hints stay"
    for before, after in zip(old, copied["cells"], strict=True):
        assert before["metadata"].get("nbgrader") == after["metadata"].get("nbgrader")


@by_variant
@by_lesson
def test_the_key_is_the_students_copy_with_solutions_and_hidden_tests(stem: str, variant: str) -> None:
    student, key = (make(lesson(stem), variant)["cells"] for make in (assignments.student, assignments.key))
    assert len(student) == len(key)
    found = 0
    for before, after in zip(student, key, strict=True):
        plain, cleared = exercises.source(before), exercises.source(after)
        for begin, end in ((assignments.BEGIN, assignments.END), (grading.BEGIN, grading.END)):
            cleared, count = re.subn(rf"{begin}\n.*?{end}\n?", "", cleared, flags=re.DOTALL)
            found += count
        assert cleared.rstrip("\n") == plain.rstrip("\n")
        if after["cell_type"] == "code":
            ast.parse(exercises.source(after).replace("%pip", "pass  #"))
    assert found == 2 * len(exercises.find(lesson(stem)))


# ---------------------------------------------------------------- points


@by_variant
@by_lesson
def test_a_blank_copy_gets_no_points_and_the_key_all(stem: str, variant: str) -> None:
    key = assignments.key(lesson(stem), variant)["cells"]
    blank = assignments.student(lesson(stem), variant)["cells"]
    for part in exercises.find(lesson(stem)):
        cells = {role: [c for c in key if c["metadata"].get("exercise") == part.id] for role in ("stub", "check")}
        stub, check = (next(c for c in cells[role] if role in exercises.tags(c)) for role in ("stub", "check"))
        empty = next(c for c in blank if c["metadata"].get("exercise") == part.id and "stub" in exercises.tags(c))
        names = dict(test_exercises.setup(LESSONS[stem]))
        exec(exercises.source(empty), names)
        with pytest.raises(grading.NotPassed, match="· Not answered yet"):
            exec(exercises.source(check), names)
        names = dict(test_exercises.setup(LESSONS[stem]))
        exec(exercises.source(stub), names)
        exec(exercises.source(check), names)  # raises where the key does not pass


@functools.cache
def right_styles() -> dict[str, list[str]]:
    """Checker -> right answers as source, as the tests of the checkers know them."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").glob("test_checks*.py")):
        for value in vars(importlib.import_module(path.stem)).values():
            if isinstance(value, type) and issubclass(value, checker_cases.CheckerTests) and hasattr(value, "right"):
                found |= value.right
    return found


def coded() -> list[str]:
    """The checkers of exercises with hidden inputs."""
    return [part.checker for part in parts().values() if variants.kind(part) == "hidden inputs"]


@pytest.mark.parametrize("checker", coded())
def test_right_answers_in_every_style_pass_on_hidden_inputs(checker: str) -> None:
    known = exercises.exercise_of(checker)
    for seed in variants.SEEDS.values():
        hidden = variants.with_other_inputs(checker, known, seed)
        for source in right_styles().get(checker, []):
            verdict = hidden.judge(checker_cases.written(source))
            assert verdict, f"{verdict}\n{source}"


def test_the_styles_are_found() -> None:
    assert len(set(coded()) & set(right_styles())) > 30


def as_key(value: Any) -> Any:
    """Something that tells arguments apart."""
    if isinstance(value, dict):
        return tuple((as_key(k), as_key(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(as_key(part) for part in value)
    return str(value.tolist()) if hasattr(value, "tolist") else repr(value)


def by_heart(checker: str) -> Callable:
    """An answer that knows what the right function says to the checker's own inputs, and nothing else."""
    known, table = exercises.exercise_of(checker), {}

    def learn(*arguments: Any) -> Any:
        given = as_key(arguments)
        table[given] = known.right(*arguments)
        return table[given]

    for probe in known.probes:
        attempt(probe, learn)
    some = next(iter(table.values()))
    return lambda *arguments: copy.deepcopy(table.get(as_key(arguments), some))


@by_variant
def test_an_answer_learned_by_heart_passes_the_checker_and_gets_no_points(variant: str) -> None:
    passed = []
    for part in parts().values():
        if variants.kind(part) == "hidden inputs":
            answer = by_heart(part.checker)
            if getattr(checks, part.checker)(answer):
                passed.append(part.id)
                verdict = variants.judge(part.id, part.checker, answer, variant)
                assert verdict.passed is False and verdict.message.startswith("With other inputs"), part.id
    assert len(passed) > 30, passed


def inputs_seen(exercise: FunctionExercise) -> str:
    """What the right function is called with."""
    seen: list[Any] = []

    def spy(*arguments: Any) -> Any:
        seen.append(as_key(arguments))
        return exercise.right(*arguments)

    for probe in exercise.probes:
        attempt(probe, spy)
    return str(seen)


def test_the_variants_have_inputs_of_their_own() -> None:
    for checker in coded():
        known = exercises.exercise_of(checker)
        other = [variants.with_other_inputs(checker, known, seed) for seed in (1, 1, 2)]
        a, again, b = (re.sub(r"0x\w+", "", inputs_seen(exercise)) for exercise in other)
        assert a == again, checker
        assert a != b, checker


def test_points_are_lost_by_a_wrong_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(grading.NotPassed, match="sharper"):
        grading.require("01-1", "check_softmax", lambda z, t: (z * t).softmax(-1), "a")

    def loud(logits: Any, temperature: float) -> Any:
        print("thinking", file=sys.stderr)
        return (logits / temperature).softmax(-1)

    grading.require("01-1", "check_softmax", loud, "a")
    written = capfd.readouterr()
    assert "✓" in written.out and written.err == "", "nbgrader takes the points from a cell that writes to stderr"
    with pytest.raises(ValueError, match="the variants are a and b"):
        grading.require("01-1", "check_softmax", loud, "c")
    with pytest.raises(ValueError, match="no checker 'check_nothing'"):
        grading.require("01-1", "check_nothing", loud, "a")


# ---------------------------------------------------------------- other numbers


@pytest.mark.parametrize("name", variants.NUMBERS)
def test_other_numbers(name: str) -> None:
    part, numbers = parts()[name], variants.NUMBERS[name]
    other = assignments.in_variant(part, "b")
    assert other.statement != part.statement and other.solution != part.solution
    right = list(numbers.right.values())
    given = right[0] if len(right) == 1 else tuple(right)
    assert classroom.check(name, given).passed is True
    assert classroom.check(name, None).passed is None
    assert (
        "too" in classroom.check(name, tuple(1.5 * x + 1 for x in right) if len(right) > 1 else 1.5 * right[0]).message
    )
    draws = {str(variant_numbers.draw(seed)[name].right) for seed in range(20)}
    assert len(draws) > 1
    assert variant_numbers.draw(3)[name] == variant_numbers.draw(3)[name]


def test_every_drawn_exercise_fits_its_lesson() -> None:
    for seed in range(30):
        for name, numbers in variant_numbers.draw(seed).items():
            right = list(numbers.right.values())
            old = getattr(checks, parts()[name].checker)(right[0] if len(right) == 1 else right)
            assert old.passed is False, f"{name}: the right answer of b must be wrong in a"
            variant_numbers.edited(parts()[name].statement, numbers.statement)
            variant_numbers.edited(parts()[name].solution, numbers.solution)


def test_numbers_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="'8 texts' is not in the exercise any more"):
        variant_numbers.edited("4 texts", (("8 texts", "9 texts"),))
    assert classroom.check("00-1", (variants.NUMBERS["00-1"].right["loss"], 66.7)), "an accuracy may be in percent"
    assert classroom.check("00-1", (None, None)).passed is None
    with pytest.raises(ValueError, match="no other numbers for '01-1'"):
        classroom.check("01-1", 3)


# ---------------------------------------------------------------- what checkers know


def test_the_exercises_behind_the_checkers() -> None:
    known = [part.id for part in parts().values() if exercises.exercise_of(part.checker) is not None]
    assert len(known) > 0.8 * len(parts())
    errors = exercises.likely_errors("check_softmax")
    assert errors["temperature-multiplied"].startswith("A higher temperature makes your distribution sharper")
    assert exercises.likely_errors("check_stability_limits")["effective-rate"].startswith("heavy_ball: ")
    assert exercises.likely_errors("check_claims") == {}
    for name in ("check_nothing", "odd_numbers"):
        with pytest.raises(ValueError, match="there is no checker"):
            exercises.exercise_of(name)


@pytest.mark.parametrize("code", ["checks.check_softmax(a, b)", "print(3)", "x = 3", "checks.odd_numbers(a)"])
def test_a_check_that_is_none(code: str) -> None:
    with pytest.raises(ValueError, match="exercise 01-1: the check's last line"):
        exercises.checked(code, "01-1")


def test_an_exercise_that_is_not_whole() -> None:
    notebook = made_lesson.lesson()
    notebook["cells"] = [cell for cell in notebook["cells"] if "stub" not in cell["metadata"]["tags"]]
    with pytest.raises(ValueError, match="exercise 01-1 has no cell tagged stub"):
        exercises.find(notebook)


# ---------------------------------------------------------------- folders


def made(folder: Path) -> Path:
    """A small clone with one lesson, whose exercise is checked by a checker of the course."""

    def change(notebook: dict[str, Any]) -> None:
        made_lesson.tagged(notebook, "check")["source"] = ["checks.check_adapter(double)"]
        made_lesson.tagged(notebook, "retrieval")["source"] = ["See ![a line](images/line.png)"]

    made_lesson.write(folder / "notebooks", change)
    (folder / "notebooks" / "images").mkdir()
    (folder / "notebooks" / "images" / "line.png").write_bytes(b"png")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(tmp_path / "clone")
    assert command.main(["--root", str(root), "--into", str(tmp_path)]) == 0
    assert "with 1 lessons" in capsys.readouterr().out
    copies = {f"variant_{v}/{name}" for v in "ab" for name in ("01_made_up.ipynb", "images/line.png")}
    assert names(tmp_path / "student") == copies | {"README.md", "concept_inventory.md", ".made.json"}
    sources = {f"source/01{v}/{name}" for v in "ab" for name in ("01_made_up.ipynb", "images/line.png")}
    pages = {"README.md", "concept_inventory_key.md", "guide/01_made_up.md", "slides/01_made_up.html"}
    assert names(tmp_path / "instructor") == sources | pages | {"nbgrader_config.py", ".made.json"}
    compile((tmp_path / "instructor" / "nbgrader_config.py").read_text(), "nbgrader_config.py", "exec")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "instructor", "student"], "no traces"
    assert command.main(["--root", str(root), "--into", str(tmp_path)]) == 0, "untouched folders are replaced"


@pytest.mark.parametrize("change", ["added", "changed", "removed", "strange"])
def test_work_is_never_overwritten(tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    root, student = made(tmp_path / "clone"), tmp_path / "student"
    arguments = ["--root", str(root), "--into", str(tmp_path)]
    assert command.main(arguments) == 0
    notebook = student / "variant_a" / "01_made_up.ipynb"
    match change:
        case "added":
            (student / "variant_a" / "mine.ipynb").write_text("mine")
        case "changed":
            notebook.write_text("mine")
        case "removed":
            notebook.unlink()
        case "strange":
            (student / ".made.json").write_text("{")
    before, instructor = names(student), (tmp_path / "instructor" / ".made.json").stat().st_mtime_ns
    assert command.main(arguments) == 2
    message = capsys.readouterr().err
    assert "holds work" in message and "--set-aside" in message and "variant_a" in message
    assert names(student) == before
    assert (tmp_path / "instructor" / ".made.json").stat().st_mtime_ns == instructor, "both folders or none"

    assert command.main([*arguments, "--set-aside"]) == 0
    assert names(tmp_path / "student.before-1") == before
    assert folders.work(student) == []
    notebook.write_text("mine again")
    assert command.main([*arguments, "--set-aside"]) == 0
    assert (tmp_path / "student.before-2" / "variant_a" / "01_made_up.ipynb").read_text() == "mine again"
    assert not (tmp_path / "instructor.before-1").exists(), "nobody worked there"


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path / "clone")
    command.build(root, tmp_path)
    before = {name: folders.hashes(tmp_path / name) for name in ("student", "instructor")}
    made_lesson.write(root / "notebooks", lambda notebook: made_lesson.tagged(notebook, "check").update(source=["1"]))
    assert command.main(["--root", str(root), "--into", str(tmp_path)]) == 2
    assert {name: folders.hashes(tmp_path / name) for name in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "instructor", "student"]
    monkeypatch.setattr(command, "write_instructor", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.build(made(tmp_path / "other"), tmp_path)
    assert {name: folders.hashes(tmp_path / name) for name in before} == before


def test_work_that_begins_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(folders.HasWork), folders.replace_folder(tmp_path / "student") as new:
        (new / "a.txt").write_text("generated")
        (tmp_path / "student").mkdir()
        (tmp_path / "student" / "b.txt").write_text("mine")
    assert names(tmp_path) == {"student/b.txt"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(folders.HasWork, match="is a file, not a folder"):
        folders.check(tmp_path / "file")


def test_git_and_ruff_leave_the_folders_alone() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/student/", "/instructor/"} <= set(ignored)
    assert re.search(r'extend-exclude = \[.*"student\*", "instructor\*"', (ROOT / "pyproject.toml").read_text())
    assert "make classroom" in (ROOT / "README.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- nbgrader


def nbgrader(folder: Path, *arguments: str) -> str:
    """Run nbgrader in `folder`, as a teacher would with the environment active; what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PEFT_QUICK": "1", "JUPYTER_CONFIG_DIR": str(folder / "config")}
    answer = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, f"{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
    return answer.stdout + answer.stderr


def test_nbgraders_round_trip(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader", reason="nbgrader is not installed (pip install -e '.[instructor]')")
    stem = "01_loss_functions"
    command.build(ROOT, tmp_path, ["01"])
    student, instructor = tmp_path / "student", tmp_path / "instructor"
    blank = editions.read_notebook(student / "variant_b" / f"{stem}.ipynb")
    key = editions.read_notebook(instructor / "source" / "01b" / f"{stem}.ipynb")
    wrong = copy.deepcopy(key)
    first = next(cell for cell in wrong["cells"] if "stub" in exercises.tags(cell))
    assert "logits / temperature" in exercises.source(first)
    first["source"] = exercises.source(first).replace("logits / temperature", "logits * temperature")
    for cell in wrong["cells"]:
        if "check" in exercises.tags(cell):
            cell["source"] = "pass"  # what a student does to a check cell is put back
    for name, notebook in {"ada": key, "bob": blank, "cyd": wrong}.items():
        write_json(instructor / "submitted" / name / "01b" / f"{stem}.ipynb", notebook)

    nbgrader(instructor, "generate_assignment", "01b")
    released = editions.read_notebook(instructor / "release" / "01b" / f"{stem}.ipynb")
    texts = [[exercises.source(cell).rstrip("\n") for cell in copied["cells"]] for copied in (released, blank)]
    assert texts[0] == texts[1], "what nbgrader releases is the students' copy"
    nbgrader(instructor, "autograde", "01b")
    nbgrader(instructor, "generate_feedback", "01b")
    nbgrader(instructor, "export")
    with open(instructor / "grades.csv", encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    count = len(exercises.find(lesson(stem)))
    assert rows == {"ada": (count, count), "bob": (0, count), "cyd": (count - 1, count)}
    page = (instructor / "feedback" / "cyd" / "01b" / f"{stem}.html").read_text(encoding="utf-8")
    assert "A higher temperature makes your distribution sharper" in page
    assert "gradebook.db" in "".join(folders.work(instructor)), "grades are work"


def test_a_probe_that_the_right_function_refuses_is_left_out() -> None:
    known = exercises.exercise_of("check_softmax")
    broken = Probe("nothing", lambda function: "no numbers")
    assert not variants._differs(known.probes[0], broken, known.right)

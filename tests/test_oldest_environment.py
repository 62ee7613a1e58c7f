"""Colab's packages satisfy pyproject.toml, and the script that runs the course under them judges rightly."""

from __future__ import annotations

import sys

import oldest_environment as old
import pytest
from notebook_rules import ROOT
from packaging.requirements import Requirement

from peft_helpers import editions

LESSONS = editions.notebooks(ROOT)
COLAB = {"torch": "2.11.0", **dict(line.split("==") for line in old.constraints(floors=False).splitlines())}
BASE = {"torch": "2.11.0", "ipywidgets": "7.7.1"}


def report(**packages: str) -> dict:
    return {"install": [{"metadata": {"name": name, "version": version}} for name, version in packages.items()]}


def test_colab_has_nothing_that_pyproject_would_replace() -> None:
    wanted = [Requirement(text) for text in old.PROJECT["dependencies"]]
    there = [requirement for requirement in wanted if requirement.name in COLAB]
    assert {"torch", "transformers", "datasets", "accelerate", "ipywidgets"} <= {item.name for item in there}
    for requirement in there:
        assert requirement.specifier.contains(COLAB[requirement.name]), f"{requirement}: Colab has {COLAB}"


def test_floors_are_pyprojects_lower_bounds() -> None:
    lowest = dict(line.split("==") for line in old.constraints(floors=True).splitlines())
    for requirement in map(Requirement, old.PROJECT["dependencies"]):
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        if requirement.name == "torch":
            assert "torch" not in lowest, "which build of torch there is, the machine decides"
        elif bounds:
            assert lowest[requirement.name] == bounds[0]
    assert lowest["ipython"] == COLAB["ipython"]


def test_every_lesson_has_a_cell_that_installs_the_course_on_colab() -> None:
    found = old.setup_cells(LESSONS)
    assert sorted(number for numbers in found.values() for number in numbers) == [path.name[:2] for path in LESSONS]
    for source in found:
        assert source.startswith('if "google.colab" in sys.modules:\n    %pip install ')
        assert source.endswith(f"git+{editions.repository(ROOT)}")


def test_what_a_setup_cell_may_install() -> None:
    planned = old.plan(report(peft_helpers="0.1.0", sacrebleu="2.6.0"), BASE)
    assert planned == {"peft-helpers": "0.1.0", "sacrebleu": "2.6.0"}
    with pytest.raises(old.Broken, match=r"change ipywidgets 7\.7\.1 to 8\.1\.9"):
        old.plan(report(peft_helpers="0.1.0", ipywidgets="8.1.9"), BASE)
    with pytest.raises(old.Broken, match=r"not install the course, but nothing"):
        old.plan(report(), BASE)


BAD = [(["--lessons", "77"], "no lesson begins with 77"), (["--only", "x"], "invalid choice")]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_arguments(arguments: list[str], said: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["oldest_environment.py", *arguments])
    with pytest.raises(SystemExit):
        old.main()
    assert said in capsys.readouterr().err


def test_a_pattern_without_files_is_named() -> None:
    with pytest.raises(old.Broken, match="no test file is named no_such"):
        old.check_tests(None, ["metrics", "no_such"])

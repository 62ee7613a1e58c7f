"""Packaging, links, working copies and stored outputs: what a stranger meets before the first lesson."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import made_lesson
import network_guard
import pytest
from notebook_rules import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from peft_helpers import editions

NOTEBOOKS = editions.notebooks(ROOT)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    """constraints.txt as name -> version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, extras included."""
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]


# ------------------------------------------------------------------------------------------------ packaging


def test_constraints_pin_what_pyproject_asks_for() -> None:
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    assert not [version for version in pinned.values() if "+" in version], "a local suffix fits one build only"
    for requirement in requirements():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"{requirement} does not take {version}"


def test_pins_take_the_oldest_python_that_we_promise() -> None:
    pinned, looked_at = pins(), 0
    for distribution in importlib.metadata.distributions():
        if pinned.get(canonicalize_name(distribution.name)) == distribution.version.split("+")[0]:
            looked_at += 1
            wanted = SpecifierSet(distribution.metadata["Requires-Python"] or "")
            assert wanted.contains("3.11.0"), f"{distribution.name} {distribution.version} wants Python {wanted}"
    assert looked_at > 50


def test_pyproject_has_ranges_without_ceilings() -> None:
    for requirement in requirements():
        assert all(part.operator == ">=" for part in requirement.specifier), f"{requirement}: only >= (Colab, updates)"


def test_conda_points_at_pyproject_and_constraints() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    dependencies = [line.strip() for line in text.split("dependencies:")[1].splitlines() if line.strip()]
    assert [line.split("=")[0] for line in dependencies[:2]] == ["- python", "- pip"]
    assert dependencies[2:] == ["- pip:", "- -c constraints.txt", "- -e .[lab,test]"]
    version = tuple(int(part) for part in re.search(r"python=(\d+)\.(\d+)", text).groups())
    assert version >= (3, 11)
    assert PROJECT["requires-python"] == ">=3.11"


def test_license_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


def test_readme_commands_exist() -> None:
    makefile, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^|\| )make ([a-z]+)", readme, flags=re.MULTILINE))
    assert {"lab", "test"} <= named <= targets
    for command in re.findall(r"peft_helpers\.editions (\w+)", readme + makefile):
        assert command in ("workspace", "links", "refresh")
    assert "-m pytest" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"


@pytest.mark.skipif(not NOTEBOOKS, reason="no lesson is written yet")
def test_readme_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"


def test_import_is_fast_and_lazy() -> None:
    program = (
        "import sys, time; start = time.perf_counter(); import peft_helpers; seconds = time.perf_counter() - start; "
        "print(seconds, [name for name in ('torch', 'transformers', 'datasets', 'matplotlib', 'ipywidgets', 'sklearn') "
        "if name in sys.modules])"
    )
    seconds = []
    for _ in range(5):
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
        elapsed, loaded = answer.stdout.split(maxsplit=1)
        assert loaded.strip() == "[]", f"import peft_helpers loads {loaded}"
        seconds.append(float(elapsed))
    assert min(seconds) < 0.3, f"import peft_helpers took {min(seconds):.2f} s at best"


# What begins with "_" belongs to the library that wrote it, and may go with its next version.
PRIVATE = {
    "methods/attention_prefix.py": ["self.model.config._attn_implementation"],  # transformers has no public getter
    "widgets/explorer.py": ["super()._repr_mimebundle_"],  # IPython's documented protocol, in spite of its name
}


def private_names(source: str) -> list[str]:
    """Names that begin with "_", of others than `self` and `cls`: read, imported, or as a text for getattr."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            found += [ast.unparse(node)] if re.match("_[^_]", node.attr) else []
        elif isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{each.name}" for each in node.names]
            found += [path for path in paths if re.search(r"(^|\.)_[^_]", path)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            found += [ast.unparse(node)] if re.match("['\"]_[^_]", ast.unparse(node.args[1])) else []
    return found


def test_no_private_names_of_others() -> None:
    for source in ("model.config._attn", "from transformers import _x", "from a._b import c", "getattr(a, '_b')"):
        assert private_names(source), source
    package = ROOT / "peft_helpers"
    found = {str(p.relative_to(package)): private_names(p.read_text(encoding="utf-8")) for p in package.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == PRIVATE


# ------------------------------------------------------------------------------------------------ links


def test_published_links_are_pyprojects() -> None:
    address = editions.repository(ROOT)
    for path in [ROOT / "README.md", ROOT / "CITATION.cff", *NOTEBOOKS]:
        text = path.read_text(encoding="utf-8")
        assert editions.with_links(text, address) == text, f"{path.name}: other address than pyproject's; make links"
    assert f"git clone {address} " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'repository-code: "{address}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_readme_map_is_fresh() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert editions.with_map(readme, editions.lesson_map(ROOT)) == readme, "the map is stale; make links"
    assert len(re.findall(r"^\| \d\d \|", readme, flags=re.MULTILINE)) == 15


def clone(folder: Path, address: str = "https://github.com/a/b") -> Path:
    """A small clone: pyproject, README, one lesson with an image."""
    made_lesson.write(folder / "notebooks")
    (folder / "notebooks" / "images").mkdir()
    (folder / "notebooks" / "images" / "line.png").write_bytes(b"png")
    (folder / "pyproject.toml").write_text(f'[project]\n[project.urls]\nRepository = "{address}"\n')
    (folder / "README.md").write_text(f"git clone https://github.com/x/y y\n{editions.MAP_BEGIN}\n{editions.MAP_END}\n")
    return folder


def test_links_rewrites_once(tmp_path: Path) -> None:
    root = clone(tmp_path)
    assert [path.name for path in editions.links(root)] == ["README.md", "01_made_up.ipynb"]
    lesson = (root / "notebooks" / "01_made_up.ipynb").read_text(encoding="utf-8")
    assert "git+https://github.com/a/b" in lesson
    assert "research.google.com/github/a/b/blob/main/notebooks/01_made_up.ipynb" in lesson
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "git clone https://github.com/a/b y" in readme
    assert "[Made up](notebooks/01_made_up.ipynb) | How long is a line? | 60 min | 12 s |" in readme
    assert "| 14 | Open challenges |" in readme and "planned" in readme
    assert editions.links(root) == []


@pytest.mark.parametrize("address", ["https://example.org/a/b", "https://github.com/a", "git@github.com:a/b"])
def test_an_address_that_colab_cannot_open(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="Repository in pyproject"):
        editions.links(clone(tmp_path, address))


def test_a_readme_without_markers(tmp_path: Path) -> None:
    (clone(tmp_path) / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="needs the lines"):
        editions.links(tmp_path)


# ------------------------------------------------------------------------------------------------ working copies


def test_workspace_copies_without_outputs_and_never_overwrites(tmp_path: Path) -> None:
    root = clone(tmp_path)
    assert editions.workspace(root).new == ["01_made_up.ipynb"]
    copy = root / "workspace" / "01_made_up.ipynb"
    cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == len(made_lesson.lesson()["cells"])
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert (root / "workspace" / "images" / "line.png").read_bytes() == b"png"

    copies = editions.workspace(root)
    assert (copies.new, copies.kept, copies.outdated) == ([], ["01_made_up.ipynb"], [])
    copy.write_text("my work", encoding="utf-8")
    (root / "workspace" / "images" / "line.png").write_bytes(b"mine")
    second = root / "notebooks" / "02_more.ipynb"
    second.write_bytes((root / "notebooks" / "01_made_up.ipynb").read_bytes())
    assert editions.workspace(root).new == ["02_more.ipynb"]
    assert copy.read_text(encoding="utf-8") == "my work"
    assert (root / "workspace" / "images" / "line.png").read_bytes() == b"mine"


def test_workspace_says_when_a_lesson_has_changed(tmp_path: Path) -> None:
    root = clone(tmp_path)
    editions.workspace(root)
    made_lesson.write(root / "notebooks", lambda nb: made_lesson.tagged(nb, "figure").update(outputs=[]))
    assert editions.workspace(root).outdated == [], "other outputs are no new edition"
    made_lesson.write(root / "notebooks", lambda nb: nb["cells"].pop())
    assert editions.workspace(root).outdated == ["01_made_up.ipynb"]


@pytest.mark.parametrize("content", ["", "{", '{"cells": [', "[]", '{"nbformat": 3, "worksheets": []}'])
def test_a_broken_lesson_is_named(tmp_path: Path, content: str) -> None:
    path = clone(tmp_path) / "notebooks" / "02_broken.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"02_broken\.ipynb is not a whole notebook"):
        editions.workspace(tmp_path)


# ------------------------------------------------------------------------------------------------ stored outputs

WIDGETS = """import ipywidgets, os
ipywidgets.IntSlider(value=3)"""
CONDITIONS = """import os
from pathlib import Path
print(os.environ["PEFT_PROFILE"], os.environ["HF_HUB_OFFLINE"], Path.cwd().name)"""


def test_refresh_stores_text_instead_of_widgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(notebook: dict) -> None:
        notebook["cells"] = [made_lesson.code(WIDGETS), made_lesson.code(""), made_lesson.code(CONDITIONS)]
        for position, cell in enumerate(notebook["cells"]):
            cell["id"] = f"cell-{position}"
        notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}

    root = clone(tmp_path)
    path = made_lesson.write(root / "notebooks", change)
    before = dict(os.environ)
    assert editions.refresh(root, ["01"]) == []
    assert dict(os.environ) == before
    assert "01_made_up" in capsys.readouterr().out
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]
    assert notebook["metadata"]["peft_course"]["seconds_cpu"] > 0
    slider, empty, printed = notebook["cells"]
    assert list(slider["outputs"][0]["data"]) == ["text/plain"] and "IntSlider" in str(slider["outputs"])
    assert "".join(printed["outputs"][0]["text"]) == "pocket 1 notebooks\n"
    assert [cell["execution_count"] for cell in (slider, empty, printed)] == [1, None, 2]

    old = made_lesson.write(root / "notebooks", lambda nb: nb.update(cells=[made_lesson.code("1 / 0") | {"id": "a"}]))
    content = old.read_text(encoding="utf-8")
    assert editions.main(["--root", str(root), "refresh", "01_made_up"]) == 1
    assert old.read_text(encoding="utf-8") == content, "a lesson that fails keeps its file"
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_refresh_runs_lesson_00_last_on_a_map_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, seen = clone(tmp_path), []
    first = root / "notebooks" / "01_made_up.ipynb"
    for name in ("00_start.ipynb", "02_more.ipynb"):
        (root / "notebooks" / name).write_bytes(first.read_bytes())

    def run(path: Path) -> tuple[float, int]:
        """As if every lesson took 77 seconds; lesson 00 draws what the README's map says when it runs."""
        seen.append((path.name[:2], (root / "README.md").read_text(encoding="utf-8").count("| 77 s |")))
        lesson = editions.read_notebook(path)
        lesson["metadata"]["peft_course"]["seconds_cpu"] = 77.0
        path.write_text(json.dumps(lesson), encoding="utf-8")
        return 77.0, 1

    monkeypatch.setattr(editions, "_run", run)
    assert editions.refresh(root) == []
    assert seen == [("01", 0), ("02", 0), ("00", 2)], "00 draws the map with the times of before"
    assert (root / "README.md").read_text(encoding="utf-8").count("| 77 s |") == 3


def test_header_tells_the_measured_run_time_in_steps_of_five() -> None:
    for before in ("It runs in about 20 seconds.", "It runs in 12 seconds.", "It runs in less than 60 seconds."):
        assert editions.tell_run_time(before, 25.1) == "It runs in about 30 seconds."
    assert editions.tell_run_time("in 12 seconds", 25.0) == "in about 25 seconds"
    assert editions.tell_run_time("It runs at once.", 3.0) == "It runs at once."


def test_refresh_of_an_unknown_lesson(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert editions.main(["--root", str(clone(tmp_path)), "refresh", "77"]) == 2
    assert "no lesson is named '77'; there are: 01_made_up" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the network guard


@pytest.mark.tries_network
def test_the_network_is_blocked_here_and_in_subprocesses() -> None:
    with pytest.raises(network_guard.NetworkBlocked, match="192"), socket.socket() as outside:
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(network_guard.NetworkBlocked, match="example"):
        socket.getaddrinfo("example.org", 443)
    program = "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=5)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "the tests run without a network" in answer.stderr


def test_loopback_is_open() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"


def test_refresh_drops_progress_bars_and_stores_pictures(tmp_path):
    import base64

    import nbformat

    def output(**data):
        return {"output_type": "display_data", "data": data, "metadata": {}}

    png = base64.b64encode(b"picture").decode()
    outputs = [
        output(**{"text/plain": "  0%|          | 0/21 [00:00<?, ?step/s]"}),
        output(**{"text/plain": "50% of them", "image/png": png}),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("show()", metadata={"picture": "images/a.png"})]
    )
    notebook.cells[0].outputs = [nbformat.from_dict(o) for o in outputs]
    editions.tidy(notebook)
    assert [o.data["text/plain"] for o in notebook.cells[0].outputs] == ["50% of them"]
    editions.store_pictures(notebook, tmp_path)
    assert (tmp_path / "images" / "a.png").read_bytes() == b"picture"

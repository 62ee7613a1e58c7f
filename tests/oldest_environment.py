"""The course under old packages: those of Google Colab, or the oldest that pyproject.toml takes.

    python tests/oldest_environment.py                         everything under Colab's versions (tests/colab.txt)
    python tests/oldest_environment.py --floors                under pyproject's lower bounds, Colab's for the rest
    python tests/oldest_environment.py --only setup lessons --lessons 00 05

An environment of its own stands in for Colab's runtime: it has what Colab has, and not the course. In it

    setup    runs the lessons' own setup cells, as on Colab: what is there must stay as it is, in the same version;
    imports  imports every module of the installed course;
    tests    runs the tests of the widgets and of what lies next to transformers and datasets;
    lessons  runs the lessons in a folder where nothing else is, offline, in the pocket profile.

The environment is kept (.oldest/) and made anew when its list of packages changes. Making it and running the setup
cells needs the network. $TORCH says which torch to install ("torch>=2.10"); pip's own variables choose its index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "tests" / "colab.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COURSE = "peft_helpers"
# What the course asks for and Colab has; sacrebleu and rouge-score it has not.
THERE = ("accelerate", "datasets", "ipykernel", "ipywidgets", "matplotlib", "numpy", "peft", "safetensors", "tqdm")
THERE += ("scikit-learn", "scipy", "transformers", "absl-py", "nltk", "lxml", "tabulate", "regex", "pip")
TOOLS = ("pytest", "nbval", "nbclient", "nbformat", "hypothesis")
STEPS = ("setup", "imports", "tests", "lessons")
TESTS = (
    *("widget*", "plots", "lesson", "calculator"),
    *("backbones", "pocket_models", "encoder", "decoder", "generation", "decoding", "prefix_tuning", "hub"),
    *("tasks", "pocket_data", "training", "saving", "interchange", "accounting", "metrics", "evaluation"),
)
TEST_SECONDS, LESSON_SECONDS = 3600, 1800


class Broken(Exception):
    """What the course does under the old packages is not what it should do."""


# ------------------------------------------------------------------------------------------------ the environment


def constraints(floors: bool) -> str:
    """Colab's versions; with `floors`, pyproject's lower bounds instead, where it has one (but torch's)."""
    pinned = dict(line.split("==") for line in COLAB.read_text(encoding="utf-8").split() if "==" in line)
    if floors:
        bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+)", text) for text in PROJECT["dependencies"]]
        pinned |= {bound[1]: bound[2] for bound in bounds if bound and bound[1] != "torch"}
    return "".join(f"{name}=={version}\n" for name, version in pinned.items())


class Environment:
    """A virtual environment with Colab's packages and the test tools, and without the course.

    Args:
        folder: where it is kept. torch: torch's requirement. pins: pip's constraints for all the others.
    """

    def __init__(self, folder: Path, torch: str, pins: str) -> None:
        self.folder, self.torch, self.pins = folder, torch, pins
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python; text in and out."""
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(command, text=True, check=options.pop("check", True), **options)

    def packages(self) -> dict[str, str]:
        """Every installed package, by its name in lower case with hyphens, and its version."""
        text = self.run("-m", "pip", "list", "--format", "json", stdout=subprocess.PIPE).stdout
        return {canonical(entry["name"]): entry["version"] for entry in json.loads(text)}

    def make(self) -> dict[str, str]:
        """Install what Colab has, unless that is done already; return it.

        Whatever came on top since then (the course, by the setup cell) is taken away again.
        """
        wanted = hashlib.sha256(repr((self.torch, self.pins, THERE, TOOLS, sys.version)).encode()).hexdigest()
        stamp = self.folder / "made.json"
        made = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
        if made.get("wanted") == wanted:
            base, now = made["packages"], self.packages()
            if added := sorted(now.keys() - base.keys()):
                self.run("-m", "pip", "uninstall", "--yes", "--quiet", *added)
            if self.packages() == base:
                return base
        print(f"Making {self.folder}: a few minutes, mostly downloads.", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        pins = self.folder / "constraints.txt"
        pins.write_text(self.pins, encoding="utf-8")
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", pins)
        self.run(*install, "pip")
        self.run(*install, self.torch)
        self.run(*install, "torch", *THERE, *TOOLS)
        base = self.packages()
        stamp.write_text(json.dumps({"wanted": wanted, "packages": base}, indent=1), encoding="utf-8")
        return base


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------------------ the setup cells


def published(folder: Path) -> dict[str, str]:
    """Make a repository of the working tree; return the variables that send git there from the published address."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for command in (["init", "--quiet"], ["add", "--all", "--force"], ["commit", "--quiet", "--message", "as it is"]):
        identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": PROJECT["urls"]["Repository"],
    }


def setup_cells(paths: Iterable[Path]) -> dict[str, list[str]]:
    """The different cells that install something on Colab, and the lessons that begin with them."""
    found: dict[str, list[str]] = {}
    for path in paths:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = next("".join(cell["source"]) for cell in cells if "google.colab" in "".join(cell["source"]))
        found.setdefault(source[source.index("if ") :], []).append(path.name[:2])
    return found


def run_cells(environment: Environment, sources: list[str], folder: Path, variables: dict[str, str]) -> str:
    """Run cells in the environment's own kernel, in `folder`; return what they printed.

    Raises:
        Broken: if a cell raises.
    """
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    notebook = folder / "cells.ipynb"
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    answer = execute(environment, notebook, folder, variables)
    if answer["errors"]:
        raise Broken(f"a setup cell fails: {answer['errors']}")
    return answer["printed"]


def check_setup_cells(environment: Environment, base: dict[str, str], lessons: list[Path]) -> None:
    """Run the lessons' setup cells as Colab would: what is there stays, what is missing is named.

    Raises:
        Broken: if pip wants to touch a package that is there, or did, or the course is not there afterwards.
    """
    on_colab = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')"
    with tempfile.TemporaryDirectory() as scratch:
        folder, report = Path(scratch), Path(scratch) / "report.json"
        (folder / "repository").mkdir()
        variables = published(folder / "repository") | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        found = setup_cells(lessons)
        for source, numbers in found.items():
            report.unlink(missing_ok=True)
            # not by pip's environment variables: those would reach the pip that builds the course, too
            dry = source.replace("%pip install", f"%pip install --dry-run --report {report}")
            printed = run_cells(environment, [on_colab, "import sys\n" + dry], folder, variables)
            if not report.is_file():
                raise Broken(f"the setup cell of {', '.join(numbers)} did not get as far as a plan:\n{printed}")
            planned = plan(json.loads(report.read_text(encoding="utf-8")), base)
            print(f"setup cell of {' '.join(numbers)}: would install {named(planned)}", flush=True)
        printed = run_cells(environment, [on_colab, "import sys\n" + next(iter(found))], folder, variables)
    now = environment.packages()
    if changed := {name: now.get(name, "gone") for name, version in base.items() if now.get(name) != version}:
        raise Broken(f"the setup cell changed what was there: {named(changed)}")
    if canonical(COURSE) not in now:
        raise Broken(f"the setup cell did not install the course:\n{printed}")
    print(f"installed on top: {named({name: now[name] for name in now.keys() - base.keys()})}", flush=True)


def plan(report: dict[str, Any], base: dict[str, str]) -> dict[str, str]:
    """What pip would install, from the report of its dry run.

    Raises:
        Broken: if that touches a package of `base`, or leaves out the course.
    """
    items = [item["metadata"] for item in report["install"]]
    planned = {canonical(item["name"]): item["version"] for item in items}
    if touched := [f"{name} {base[name]} to {version}" for name, version in planned.items() if name in base]:
        raise Broken(f"a setup cell would change {', '.join(touched)}")
    if canonical(COURSE) not in planned:
        raise Broken(f"a setup cell would not install the course, but {named(planned)}")
    return planned


def named(packages: dict[str, str]) -> str:
    """Packages as text: "a 1.0, b 2.1"."""
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or "nothing"


# ------------------------------------------------------------------------------------------------ imports, tests


def offline(scratch: Path) -> dict[str, str]:
    """The environment variables of the pocket profile without a network; log and records go to `scratch`."""
    return {
        "PYTHONPATH": str(ROOT / "tests" / "network_guard"),
        "HF_HUB_OFFLINE": "1",
        "PEFT_PROFILE": "pocket",
        "PEFT_LOG": str(scratch / "lesson_log.jsonl"),
        "PEFT_RECORDS": str(scratch / "records"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


IMPORTS = f"""
import importlib, pkgutil, {COURSE}
assert "site-packages" in {COURSE}.__file__, {COURSE}.__file__
names = [module.name for module in pkgutil.walk_packages({COURSE}.__path__, "{COURSE}.")]
for name in names:
    importlib.import_module(name)
print(len(names), "modules imported")
"""


def check_imports(environment: Environment) -> None:
    """Import every module of the installed course, away from the clone.

    Raises:
        Broken: if one can't be imported.
    """
    with tempfile.TemporaryDirectory() as scratch:
        variables = dict(os.environ) | offline(Path(scratch))
        if environment.run("-c", IMPORTS, cwd=scratch, env=variables, check=False).returncode:
            raise Broken("a module can't be imported")


def check_tests(environment: Environment, patterns: Iterable[str]) -> None:
    """Run test files; the old packages' own deprecations, which nobody here can mend, are no errors.

    Raises:
        Broken: if a test fails, or a pattern names no file.
    """
    files = [sorted((ROOT / "tests").glob(f"test_{pattern}.py")) for pattern in patterns]
    if missing := [pattern for pattern, found in zip(patterns, files, strict=True) if not found]:
        raise Broken(f"no test file is named {', '.join(missing)}")
    names = dict.fromkeys(str(path.relative_to(ROOT)) for found in files for path in found)
    options = ("-q", "-p", "no:cacheprovider", "-o", "filterwarnings=")
    variables = dict(os.environ) | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    answer = environment.run(
        "-m", "pytest", *options, *names, cwd=ROOT, env=variables, check=False, timeout=TEST_SECONDS
    )
    if answer.returncode:
        raise Broken("tests fail")


# ------------------------------------------------------------------------------------------------ lessons

# Runs in the environment: a notebook from top to bottom, past errors; what went wrong and what was printed as JSON.
EXECUTE = """
import json, sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", allow_errors=True, record_timing=False,
                                 extra_arguments=["--log-level=ERROR"])
client.execute()
answer = {"errors": [], "printed": "", "complaints": []}
for position, cell in enumerate(notebook.cells, 1):
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            trace = "\\n".join(output.traceback[-3:])
            answer["errors"].append([position, f"{output.ename}: {output.evalue}", trace])
        elif output.output_type == "stream":
            answer["printed"] += output.text
            if output.name == "stderr":
                answer["complaints"].append([position, output.text])
json.dump(answer, open(sys.argv[2], "w"))
"""


def execute(environment: Environment, notebook: Path, folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run a notebook in `folder` in the environment's own kernel, and go on after errors."""
    answer = folder / "answer.json"
    # its own python3, not the user's; and no word about breakpoints from the older kernel
    kernel = {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    everything = dict(os.environ) | variables | kernel
    everything.pop("MPLBACKEND", None)
    environment.run("-c", EXECUTE, notebook, answer, cwd=folder, env=everything, timeout=LESSON_SECONDS)
    return json.loads(answer.read_text(encoding="utf-8"))


def run_lessons(environment: Environment, paths: Iterable[Path]) -> Iterator[str]:
    """Run each lesson in a folder where nothing else is, as Colab opens it; yield the cells that fail."""
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(shutil.copy(path, scratch))
            answer = execute(environment, copy, Path(scratch), offline(Path(scratch)))
        print(f"{path.stem}: {len(answer['errors'])} cells fail", flush=True)
        for position, text in answer["complaints"]:
            print(f"  cell {position} writes to stderr: {text.strip()[:300]}", flush=True)
        for position, text, trace in answer["errors"]:
            print(trace, flush=True)
            yield f"{path.stem}, cell {position}: {text}"


# ------------------------------------------------------------------------------------------------ command line


def main() -> int:
    """Run the chosen steps; the exit status is 0 when nothing is broken."""
    parser = argparse.ArgumentParser(description="The course under Colab's packages, or the oldest ones it takes.")
    parser.add_argument("--floors", action="store_true", help="pyproject's lower bounds; Colab's versions for the rest")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="some of the steps")
    parser.add_argument("--lessons", nargs="+", metavar="NN", default=[""], help="some of the lessons: 00 05")
    parser.add_argument("--tests", nargs="+", metavar="NAME", default=TESTS, help="test files, as in test_NAME.py")
    chosen = parser.parse_args()
    lessons = [p for p in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")) if p.name.startswith(tuple(chosen.lessons))]
    if not lessons:
        parser.error(f"no lesson begins with {' or '.join(chosen.lessons)}")
    folder = ROOT / ".oldest" / ("floors" if chosen.floors else "colab")
    environment = Environment(folder, os.environ.get("TORCH", "torch>=2.10"), constraints(chosen.floors))
    broken: list[str] = []
    try:
        base = environment.make()
        shown = ("torch", "transformers", "datasets", "accelerate", "ipywidgets", "ipython", "numpy", "peft")
        print(f"{folder.name}: {named({name: base[name] for name in shown})}", flush=True)
        # The setup cells are what installs the course: the other steps begin with them, on one lesson's.
        check_setup_cells(environment, base, lessons if "setup" in chosen.only else lessons[:1])
        if "imports" in chosen.only:
            check_imports(environment)
        if "lessons" in chosen.only:
            broken += run_lessons(environment, lessons)
        if "tests" in chosen.only:
            check_tests(environment, chosen.tests)
    except Broken as problem:
        broken.append(str(problem))
    print("\n".join(["", *broken]) if broken else "\nnothing is broken", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

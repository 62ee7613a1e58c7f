"""The rules that every lesson keeps, each a function from a lesson to the list of its breaches.

`test_notebook_rules.py` applies them to every notebook and, so that a rule can't be empty, to broken ones.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_helpers import editions

ROOT = Path(__file__).resolve().parents[1]
CORE_MINUTES, CODE_LINES, DEFINITION_LINES, SECONDS = 85, 20, 25, 90
LESSON_CODE_LINES, LESSON_WORDS, LESSON_CELLS = 450, 2500, (30, 90)
EXERCISE_ROLES = ("exercise", "stub", "check", "hint", "solution")
MARKDOWN_TAGS = {"header", "exercise", "hint", "solution", "recap", "references"}
CODE_TAGS = {"setup", "definition", "predict", "outcome", "widget", "figure", "stub", "check"}
EITHER_TAGS = {"core", "more", "retrieval", "diagnose", "nbval-check-output", "nbval-ignore-output"}
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|work|private|var|usr|opt|mnt|media|content|srv)/\w|\b[A-Z]:\\+\w"
)
WIDGET_MIME = "application/vnd.jupyter.widget"

Rule = Callable[["Lesson"], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its function's name."""
    RULES[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------------ reading a lesson


@dataclass
class Cell:
    """One cell, with its position for messages."""

    at: int
    kind: str
    source: str
    metadata: dict[str, Any]
    outputs: list[dict[str, Any]]
    count: int | None

    @property
    def tags(self) -> list[str]:
        """The cell's tags."""
        return self.metadata.get("tags", [])

    @property
    def lines(self) -> int:
        """Lines of code, blank ones aside."""
        return sum(bool(line.strip()) for line in self.source.splitlines())

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of a code cell, its magics made into comments."""
        return ast.parse(re.sub(r"^(\s*)[%!](.*)$", r"\1pass  # \2", self.source, flags=re.MULTILINE))

    def __str__(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip()), "")
        return f"cell {self.at} ({first[:50]!r})"


@dataclass
class Lesson:
    """A notebook as its rules see it."""

    path: Path
    metadata: dict[str, Any]
    cells: list[Cell]

    @property
    def number(self) -> str:
        """The two digits that the file name begins with."""
        return self.path.name[:2]

    def code(self) -> list[Cell]:
        """The code cells."""
        return [cell for cell in self.cells if cell.kind == "code"]

    def tagged(self, tag: str) -> list[Cell]:
        """The cells that carry `tag`."""
        return [cell for cell in self.cells if tag in cell.tags]

    def exercises(self) -> list[str]:
        """The ids of the exercises ("01-3"), in order of appearance."""
        ids = [cell.metadata.get("exercise") for cell in self.cells if set(EXERCISE_ROLES) & set(cell.tags)]
        return list(dict.fromkeys(str(name) for name in ids))

    def part(self, exercise: str, role: str) -> list[Cell]:
        """The cells that play `role` in `exercise`."""
        return [cell for cell in self.tagged(role) if cell.metadata.get("exercise") == exercise]


def read(path: Path) -> Lesson:
    """Read a notebook.

    Raises:
        ValueError: if it is not a whole notebook of format 4.
    """
    notebook = editions.read_notebook(path)
    cells = [
        Cell(
            position,
            cell["cell_type"],
            "".join(cell["source"]),
            cell["metadata"],
            cell.get("outputs", []),
            cell.get("execution_count"),
        )
        for position, cell in enumerate(notebook["cells"], 1)
    ]
    return Lesson(path, notebook["metadata"], cells)


def lessons(folder: Path) -> list[Path]:
    """Every notebook below `folder`.

    Raises:
        ValueError: if the folder holds files but no lesson, or a notebook that is not named like one: the tests over
            the notebooks would pass without having looked at anything.
    """
    found = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    strangers = [path for path in found if path.parent != folder or not re.fullmatch(r"\d\d_[a-z_]+", path.stem)]
    if strangers:
        raise ValueError(f"not named like a lesson (NN_name.ipynb in {folder.name}/): {', '.join(map(str, strangers))}")
    if not found and folder.is_dir() and any(path.is_file() for path in folder.rglob("*")):
        raise ValueError(f"{folder} has files, but not one lesson among them")
    if len({path.name[:2] for path in found}) < len(found):
        raise ValueError("two lessons have the same number")
    return found


def stored_text(cell: Cell) -> str:
    """Everything readable in the cell's outputs."""
    texts = []
    for output in cell.outputs:
        texts.append("".join(output.get("text", "")))
        texts += ["".join(value) for mime, value in output.get("data", {}).items() if mime.startswith("text/")]
    return "\n".join(texts)


def mimes(cell: Cell) -> set[str]:
    """The media types of the cell's outputs."""
    return {mime for output in cell.outputs for mime in output.get("data", {})}


def python_block(cell: Cell) -> str:
    """The code of a folded solution.

    Raises:
        ValueError: if the cell does not hold exactly one python block.
    """
    blocks = re.findall(r"^```python\n(.*?)^```", cell.source, flags=re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        raise ValueError(f"{cell} holds {len(blocks)} python blocks, not one")
    return blocks[0]


def calls(cell: Cell, name: str) -> Iterator[ast.Call]:
    """The calls of `lesson.<name>` in a code cell."""
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"lesson.{name}":
            yield node


# ------------------------------------------------------------------------------------------------ the rules


@rule
def metadata(lesson: Lesson) -> Iterator[str]:
    """Kernel, course facts and Colab's settings stand in the notebook's metadata."""
    about = lesson.metadata.get("peft_course", {})
    if lesson.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is not python3"
    if f"{about.get('lesson')!s:0>2}" != lesson.number:
        yield f"peft_course.lesson is {about.get('lesson')!r}, the file is number {lesson.number}"
    for key in ("title", "question"):
        if not (isinstance(about.get(key), str) and about[key].strip()):
            yield f"peft_course.{key} is missing"
    if not isinstance(about.get("class_minutes"), int | float):
        yield "peft_course.class_minutes is missing"
    seconds = about.get("seconds_cpu")
    if not (isinstance(seconds, int | float) and 0 < seconds <= SECONDS):
        yield f"peft_course.seconds_cpu is {seconds!r}; make notebooks measures it, {SECONDS} at most"
    if lesson.metadata.get("accelerator") != "GPU":
        yield "metadata.accelerator is not 'GPU'"
    if lesson.metadata.get("colab") != {"gpuType": "T4", "provenance": []}:
        yield "metadata.colab is not {'gpuType': 'T4', 'provenance': []}"


@rule
def tags(lesson: Lesson) -> Iterator[str]:
    """Every cell is core or more, and carries known tags on the right kind of cell."""
    for cell in lesson.cells:
        if len({"core", "more"} & set(cell.tags)) != 1:
            yield f"{cell}: needs exactly one of the tags core, more"
        if len(set(cell.tags)) < len(cell.tags):
            yield f"{cell}: a tag twice"
        fitting = EITHER_TAGS | (CODE_TAGS if cell.kind == "code" else MARKDOWN_TAGS)
        if wrong := sorted(set(cell.tags) - fitting):
            yield f"{cell}: {cell.kind} cells don't take the tags {wrong}"


@rule
def header(lesson: Lesson) -> Iterator[str]:
    """The first cell: title, badge, question, objectives that exercises answer, run time and class time."""
    first, about = lesson.cells[0], lesson.metadata.get("peft_course", {})
    if first.kind != "markdown" or "header" not in first.tags or len(lesson.tagged("header")) != 1:
        yield "the first cell, and no other, is the markdown cell tagged header"
        return
    text = re.sub(r"\s+", " ", re.sub(r"[*_]", "", first.source))
    if not re.match(r"# \S", first.source):
        yield "the header does not begin with '# Title'"
    badge = "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    colab = editions.repository(ROOT).replace("https://github.com/", "https://colab.research.google.com/github/")
    if f"{badge}({colab}/blob/main/notebooks/{lesson.path.name})" not in first.source:
        yield f"the header has no Colab badge that opens {lesson.path.name} (make links mends the address)"
    for key in ("title", "question"):
        if re.sub(r"\s+", " ", re.sub(r"[*_]", "", str(about.get(key)))) not in text:
            yield f"the header does not say the {key} that the metadata has"
    if not (re.search(r"\bminutes?\b", text) and re.search(r"\bseconds?\b|\d s\b", text)):
        yield "the header does not say class time (minutes) and run time (seconds)"
    elif isinstance(seconds := about.get("seconds_cpu"), int | float) and editions.tell_run_time(text, seconds) != text:
        yield f"the header's run time is not the measured one, {seconds} seconds; make notebooks writes it"
    items = re.findall(r"^\d+\. (.*(?:\n(?!\d+\. |\s*$).*)*)", first.source, flags=re.MULTILINE)
    if len(items) < 2:
        yield "the header has no numbered list of objectives"
    for item in items:
        named = re.search(r"\(exercises? ([\d, and]+)\)\W*$", item)
        if named is None:
            yield f"objective without its exercise at the end: {item[:60]!r}"
            continue
        for number in re.findall(r"\d+", named[1]):
            if f"{lesson.number}-{number}" not in lesson.exercises():
                yield f"an objective names exercise {number}, which does not exist"


@rule
def setup(lesson: Lesson) -> Iterator[str]:
    """The first code cells install on Colab only, import, and choose the profile with a seed."""
    code, cells = lesson.code(), lesson.tagged("setup")
    if not cells or code[: len(cells)] != cells:
        yield "the code does not begin with the cells tagged setup"
        return
    if 'if "google.colab" in sys.modules:' not in cells[0].source:
        yield f"{cells[0]}: no 'if \"google.colab\" in sys.modules:'"
    if not re.search(rf"%pip install .*git\+{re.escape(editions.repository(ROOT))}(?![\w./-])", cells[0].source):
        yield f"{cells[0]}: no '%pip install … git+' with pyproject's Repository (make links mends the address)"
    if not re.search(r"peft_helpers\.setup\(.*seed=\d", "\n".join(cell.source for cell in cells)):
        yield "no setup cell calls peft_helpers.setup(seed=…)"


@rule
def minutes(lesson: Lesson) -> Iterator[str]:
    """Sections and exercises say their minutes; the core ones fit a class."""
    total = 0.0
    for cell in lesson.cells:
        value = cell.metadata.get("minutes")
        opens = cell.kind == "markdown" and (re.match(r"## \S", cell.source.lstrip()) or "exercise" in cell.tags)
        if value is None:
            if opens and not {"recap", "references"} & set(cell.tags):
                yield f"{cell}: opens a section or an exercise without minutes"
        elif cell.kind != "markdown" or isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            yield f"{cell}: minutes {value!r}; they are a number, on markdown cells"
        elif "core" in cell.tags:
            total += value
    planned = lesson.metadata.get("peft_course", {}).get("class_minutes", CORE_MINUTES)
    if not 0 < total <= min(CORE_MINUTES, planned):
        yield f"the core minutes add up to {total:g}; the class has {planned}, and no lesson more than {CORE_MINUTES}"


@rule
def lengths(lesson: Lesson) -> Iterator[str]:
    """Short cells, short definitions, a lesson that fits a class."""
    low, high = LESSON_CELLS
    if not low <= len(lesson.cells) <= high:
        yield f"{len(lesson.cells)} cells; a lesson has {low} to {high}"
    for cell in lesson.code():
        limit = DEFINITION_LINES if "definition" in cell.tags else CODE_LINES
        if cell.lines > limit:
            yield f"{cell}: {cell.lines} lines of code, more than {limit}"
        if cell.source.rstrip().endswith(";"):
            yield f"{cell}: ends with a semicolon; end with a display or a print"
    if (total := sum(cell.lines for cell in lesson.code())) > LESSON_CODE_LINES:
        yield f"{total} lines of code, more than {LESSON_CODE_LINES}"
    if (total := sum(words(cell) for cell in lesson.cells)) > LESSON_WORDS:
        yield f"{total} words, more than {LESSON_WORDS}"


def words(cell: Cell) -> int:
    """Words of prose: code, formulas, links, tags and the list of references don't count."""
    if cell.kind != "markdown" or "references" in cell.tags:
        return 0
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]+`", " x ", cell.source, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>|\]\([^)]*\)|https?://\S+", " ", text)
    return len(re.findall(r"[A-Za-z0-9][\w'.-]*", text))


@rule
def definitions(lesson: Lesson) -> Iterator[str]:
    """What a lesson builds from scratch is the package's own code, docstrings aside."""
    for cell in lesson.tagged("definition"):
        name = str(cell.metadata.get("module"))
        if not re.fullmatch(r"peft_helpers(\.\w+)+", name) or (spec := importlib.util.find_spec(name)) is None:
            yield f"{cell}: metadata.module {name!r} is no module of peft_helpers"
            continue
        package = defined(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
        here = defined(cell.tree)
        if not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in cell.tree.body):
            yield f"{cell}: tagged definition, but defines neither function nor class"
        for node in cell.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and span(node, cell.source) > DEFINITION_LINES:
                yield f"{cell}: {node.name} has {span(node, cell.source)} lines, more than {DEFINITION_LINES}"
            if not isinstance(
                node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom
            ):
                yield f"{cell}: line {node.lineno} is neither a definition nor an import"
        for key, tree in here.items():
            if key not in package:
                yield f"{cell}: {key} is not in {name}"
            elif package[key] != tree:
                yield f"{cell}: {key} differs from {name}.{key}"


def span(node: ast.FunctionDef | ast.ClassDef, source: str) -> int:
    """Lines of a definition with its decorators, blank ones aside."""
    begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return sum(bool(line.strip()) for line in source.splitlines()[begin - 1 : node.end_lineno])


def defined(tree: ast.Module) -> dict[str, str]:
    """What a module defines at its top level: name -> syntax tree without docstrings."""
    found = {}
    for node in tree.body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and ast.get_docstring(inner):
                inner.body = inner.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found[ast.unparse(target)] = ast.dump(node)
    return found


@rule
def outputs(lesson: Lesson) -> Iterator[str]:
    """Run from top to bottom, outputs stored: no errors, no stderr, no widget state, no paths of a machine."""
    if "widgets" in lesson.metadata:
        yield "metadata.widgets is stored (GitHub may call the notebook invalid); make notebooks drops it"
    expected = 0
    for cell in lesson.code():
        expected += bool(cell.source.strip())
        if cell.source.strip() and cell.count != expected:
            yield f"{cell}: execution count {cell.count}, expected {expected} (make notebooks)"
        for output in cell.outputs:
            if output["output_type"] == "error":
                yield f"{cell}: stored error {output.get('ename')}"
            if output.get("name") == "stderr":
                yield f"{cell}: stored stderr {''.join(output['text'])[:60]!r}"
        if any(mime.startswith(WIDGET_MIME) for mime in mimes(cell)):
            yield f"{cell}: stored widget view; make notebooks leaves its text"
        if path := ABSOLUTE_PATH.search(stored_text(cell)):
            yield f"{cell}: an absolute path in the output: {path[0]!r}"
        if "figure" in cell.tags:
            yield from figure_problems(cell)
        if {"check", "predict", "outcome", "widget"} & set(cell.tags) and not stored_text(cell).strip():
            yield f"{cell}: no text is stored for its output"
    if not any(cell.outputs for cell in lesson.code()):
        yield "no outputs are stored at all"


def figure_problems(cell: Cell) -> Iterator[str]:
    """A figure is a stored PNG with a text alternative, made by the cell's last line."""
    last = cell.tree.body[-1] if cell.tree.body else None
    if not (isinstance(last, ast.Expr) and ast.unparse(last).startswith("plots.show(")):
        yield f"{cell}: a figure cell ends with plots.show(figure)"
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    if not pictures:
        yield f"{cell}: no picture is stored"
    for output in pictures:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if len(alt.split()) < 4 or alt.startswith("<"):
            yield f"{cell}: the picture has no text alternative"


@rule
def checked_outputs(lesson: Lesson) -> Iterator[str]:
    """Three to six cells have their printed output compared at every test run."""
    cells = lesson.tagged("nbval-check-output")
    if not 3 <= len(cells) <= 6:
        yield f"{len(cells)} cells are tagged nbval-check-output; 3 to 6 are wanted"
    for cell in cells:
        kinds = {(output["output_type"], output.get("name")) for output in cell.outputs}
        if kinds != {("stream", "stdout")}:
            yield f"{cell}: nbval-check-output is for cells that print, and nothing else"


@rule
def exercises(lesson: Lesson) -> Iterator[str]:
    """Every exercise has statement, stub, check, hint and solution, in this order and with nbgrader's marks."""
    names = lesson.exercises()
    if names != [f"{lesson.number}-{k}" for k in range(1, len(names) + 1)] or not names:
        yield f"the exercises are {names}; expected {lesson.number}-1, {lesson.number}-2, … in order"
    for name in names:
        parts = {role: lesson.part(name, role) for role in EXERCISE_ROLES}
        if counts := [f"{len(cells)} × {role}" for role, cells in parts.items() if len(cells) != 1]:
            yield f"exercise {name}: {', '.join(counts)}; each is wanted once"
            continue
        statement, stub, check, hint, solution = cells = [parts[role][0] for role in EXERCISE_ROLES]
        if [cell.at for cell in cells] != sorted(cell.at for cell in cells):
            yield f"exercise {name}: not in the order {', '.join(EXERCISE_ROLES)}"
        if len({"more" in cell.tags for cell in cells}) > 1:
            yield f"exercise {name}: partly core, partly more"
        title = re.match(r"### Exercise (\d+) · \S.* \(([\d.]+) minutes?\)\n", statement.source + "\n")
        if title is None or title[1] != name.split("-")[-1]:
            yield f"exercise {name}: the statement does not begin with '### Exercise k · Title (m minutes)'"
        elif float(title[2]) != statement.metadata.get("minutes"):
            yield f"exercise {name}: title and metadata disagree about the minutes"
        common = {"schema_version": 3, "task": False}
        if stub.metadata.get("nbgrader") != common | {
            "grade_id": f"ex-{name}",
            "solution": True,
            "grade": False,
            "locked": False,
        }:
            yield f"exercise {name}: the stub's nbgrader metadata"
        graded = dict(check.metadata.get("nbgrader", {}))
        points = graded.pop("points", 0)
        if not points > 0 or graded != common | {
            "grade_id": f"check-{name}",
            "solution": False,
            "grade": True,
            "locked": True,
        }:
            yield f"exercise {name}: the check's nbgrader metadata"
        if not re.fullmatch(r"checks\.check_\w+\(.*\)", ast.unparse(check.tree.body[-1]), flags=re.DOTALL):
            yield f"exercise {name}: the check's last line is not checks.check_…(…)"
        for cell, summary in ((hint, "Hint"), (solution, "Solution")):
            if not re.match(rf"<details>\s*<summary>.*{summary}.*</summary>.*</details>\s*$", cell.source, re.DOTALL):
                yield f"exercise {name}: {cell} is not folded: <details> <summary>{summary}</summary> … </details>"
        try:
            ast.parse(python_block(solution))
        except (ValueError, SyntaxError) as error:
            yield f"exercise {name}: the solution: {error}"


@rule
def widgets(lesson: Lesson) -> Iterator[str]:
    """A cell that makes an explorer is tagged widget: these are tried out in a browser and in `test_exercises`."""
    for cell in lesson.code():
        for node in ast.walk(cell.tree):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("_explorer")
                and "widget" not in cell.tags
            ):
                yield f"{cell}: makes an explorer without the tag widget"


@rule
def predictions(lesson: Lesson) -> Iterator[str]:
    """Every prediction meets its outcome later, once; a lesson has at least one."""
    asked = {"predict": Counter(), "outcome": Counter()}
    for cell in lesson.code():
        for name, keys in asked.items():
            for call in calls(cell, name):
                key = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
                if key is None:
                    yield f"{cell}: the key of lesson.{name} is not written out"
                elif name not in cell.tags:
                    yield f"{cell}: calls lesson.{name} without the tag {name}"
                elif name == "outcome" and key not in asked["predict"]:
                    yield f"{cell}: the outcome of {key!r} comes without, or before, its prediction"
                keys[key] += 1
    if asked["predict"] != asked["outcome"] or any(count > 1 for count in asked["predict"].values()):
        yield f"predictions {sorted(map(str, asked['predict']))}, outcomes {sorted(map(str, asked['outcome']))}"
    if not asked["predict"]:
        yield "there is no prediction"


@rule
def closing(lesson: Lesson) -> Iterator[str]:
    """Retrieval and diagnose questions (after lesson 00), a recap in both languages, references."""
    wanted = ("recap", "references") if lesson.number == "00" else ("retrieval", "diagnose", "recap", "references")
    for tag in wanted:
        if not lesson.tagged(tag):
            yield f"no cell is tagged {tag}"
    text = "\n".join(cell.source for cell in lesson.tagged("recap"))
    points = re.findall(r"^\s*(?:[-*]|\d+\.) +(.*)", text, flags=re.MULTILINE)
    chinese = sum(bool(re.search(r"[\u4e00-\u9fff]", point)) for point in points)
    if (len(points) - chinese, chinese) != (5, 5):
        yield f"the recap has {len(points) - chinese} lines in English, {chinese} in Chinese; wanted: five and five"
    listed = re.findall(
        r"^\s*(?:[-*]|\d+\.) +(.*)", "\n".join(c.source for c in lesson.tagged("references")), re.MULTILINE
    )
    if not listed:
        yield "the references are no list"
    for line in listed:
        if not re.search(r"arXiv:\d{4}\.\d{4,5}|arxiv\.org/abs/|doi\.org/|https://", line):
            yield f"a reference without arXiv id or link: {line[:60]!r}"
    yield from unlisted_references(lesson)


ARXIV = re.compile(r"(?:arXiv:|arxiv\.org/abs/)(\d{4}\.\d{4,5})")


def listed_papers(lesson: Lesson) -> dict[str, set[tuple[str, str]]]:
    """arXiv id -> the titles and years with which the lesson's references list it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for cell in lesson.tagged("references"):
        for line in cell.source.splitlines():
            title, year = re.search(r"\*(.+?)\*", line), re.search(r"\b((?:19|20)\d\d)\.", line)
            for number in ARXIV.findall(line):
                found.setdefault(number, set()).add((title[1] if title else "", year[1] if year else ""))
    return found


@functools.cache
def course_papers() -> dict[str, set[tuple[str, str]]]:
    """The papers that all lessons of the course list."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in editions.notebooks(ROOT):
        for number, forms in listed_papers(read(path)).items():
            found.setdefault(number, set()).update(forms)
    return found


def unlisted_references(lesson: Lesson) -> Iterator[str]:
    """Papers cited in the prose that no lesson lists, and papers that another lesson lists in another way."""
    own = listed_papers(lesson)
    for cell in lesson.cells:
        if cell.kind == "markdown":
            for cited in set(ARXIV.findall(cell.source)) - own.keys() - course_papers().keys():
                yield f"{cell}: arXiv:{cited} is in no lesson's references"
    for number, forms in own.items():
        if len(forms := forms | course_papers().get(number, set())) > 1:
            yield f"arXiv:{number} is listed in several ways: {'; '.join(map(', '.join, sorted(forms)))}"


def problems(path: Path, names: tuple[str, ...] = ()) -> list[str]:
    """Every breach in one notebook, of all rules or the named ones."""
    lesson = read(path)
    return [f"{name}: {breach}" for name in (names or RULES) for breach in RULES[name](lesson)]

"""Pictures of the first lesson: the course as a map, how the words of fine-tuning hang together, runs to read.

Pure functions that return a Figure with a text alternative in `figure.alt`, like those of `plots`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import FuncFormatter

from peft_helpers import editions
from peft_helpers.plots.style import COLORS, LINES, panels, require_items, sentence, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from peft_helpers.records import Record
    from peft_helpers.tasks import Task
    from peft_helpers.training import Run

# What a lesson builds on, at least; the lessons before those come along.
NEEDS = {0: (), 1: (0,), 2: (1,), 3: (2,), 4: (1,), 5: (3, 4), 6: (5,), 7: (5,), 8: (6, 7), 9: (5,), 10: (8, 9),
         11: (10,), 12: (8,), 13: (11, 12), 14: (12,)}  # fmt: skip
PLACES = {0: (1, 0), 1: (1, 1), 2: (0, 2), 4: (2, 2), 3: (0, 3), 5: (1, 4), 6: (0, 5), 7: (1, 5), 9: (2, 5), 8: (1, 6),
          10: (2, 7), 12: (1, 7), 11: (2, 8), 14: (0, 8), 13: (1, 9)}  # fmt: skip
ROW = re.compile(r"\| (\d\d) \| \[?([^\]|]+?)\]?(?:\([^)]*\))? \|[^|]*\| ([^|]*) \| ?([^|]*) ?\|")


# ---------------------------------------------------------------- the map of the course


@dataclass(frozen=True)
class Lesson:
    """One row of the course's map.

    Attributes:
        number, title: as in the file's name and header.
        needs: numbers of the lessons it builds on.
        minutes: of class; None while the lesson is planned.
        seconds: measured run time; None if not measured.
    """

    number: int
    title: str
    needs: tuple[int, ...]
    minutes: float | None = None
    seconds: float | None = None


def course(readme: str | None = None) -> list[Lesson]:
    """The lessons with class and run times, as the README's map has them.

    Args:
        readme: its text; by default the clone's README, or the one that was installed with the package.
    """
    found = {}
    for number, title, minutes, seconds in ROW.findall(_readme() if readme is None else readme):
        found[int(number)] = (title.strip(), _leading_number(minutes), _leading_number(seconds))
    lessons = []
    for number, (title, _) in editions.LESSONS.items():
        title, minutes, seconds = found.get(number, (title, None, None))
        lessons.append(Lesson(number, title, NEEDS[number], minutes, seconds))
    return lessons


def _readme() -> str:
    path = Path(editions.__file__).resolve().parents[1] / "README.md"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    try:
        return str(metadata.metadata("peft_helpers").json.get("description", ""))
    except metadata.PackageNotFoundError:  # a copied folder: then only the plan is known
        return ""


def _leading_number(text: str) -> float | None:
    found = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    return float(found[1]) if found else None


@styled
def course_map(lessons: Sequence[Lesson]) -> Figure:
    """The lessons from top to bottom, an arrow from each to those that build on it; planned ones are dashed.

    Raises:
        ValueError: if there are no lessons, or one has no place on the map.
    """
    require_items("the course", lessons)
    if unknown := [lesson.number for lesson in lessons if lesson.number not in PLACES]:
        raise ValueError(f"no place on the map for lesson {unknown}; there are places for {sorted(PLACES)}")
    figure, axes = _canvas(7.6, 7.05)
    width, height = 2.45, 0.5
    at = {number: (1.26 + 2.54 * column, 6.77 - 0.72 * row) for number, (column, row) in PLACES.items()}
    for lesson in lessons:
        x, y = at[lesson.number]
        planned = lesson.minutes is None
        look = {"facecolor": "white", "edgecolor": COLORS["gray"], "linestyle": (0, (4, 2))} if planned else {}
        _box(axes, x, y, width, height, **look)
        axes.text(x, y + 0.09, f"{lesson.number:02} {lesson.title}", ha="center", va="center", fontsize=10.5,
                  fontweight="bold", color="#555555" if planned else COLORS["black"])  # fmt: skip
        axes.text(x, y - 0.12, _times(lesson), ha="center", va="center", fontsize=10, color="#444444")
        for need in lesson.needs:
            _arrow_between(axes, at[need], (x, y), height)
    told = []
    for lesson in lessons:
        needs = f" needs {' and '.join(f'{number:02}' for number in lesson.needs)}" if lesson.needs else ""
        told.append(f"{lesson.number:02} {lesson.title} ({_times(lesson)}){needs}")
    figure.alt = "Map of the course: " + sentence(told)
    return figure


def _times(lesson: Lesson) -> str:
    if lesson.minutes is None:
        return "planned"
    runs = f" · runs in {lesson.seconds:.0f} s" if lesson.seconds else ""
    return f"{lesson.minutes:.0f} min{runs}"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose data units are inches, without axes."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    """A rounded box around the center (x, y)."""
    look = {"facecolor": "#E8F1F8", "edgecolor": COLORS["blue"], "linewidth": 1.4} | look
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", **look))


def _arrow_between(axes: Axes, start: tuple[float, float], end: tuple[float, float], height: float) -> None:
    """From the lower edge of one box to the upper edge of another below it."""
    shift = 0.28 * float(np.sign(end[0] - start[0]))  # arrows from the side arrive on their side
    _arrow(axes, (start[0] + shift, start[1] - height / 2), (end[0] - shift, end[1] + height / 2))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **look: Any) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 13, "color": "#555555", "linewidth": 1.4} | look
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **look))


# ---------------------------------------------------------------- the words and how they connect


@styled
def vocabulary() -> Figure:
    """One turn of fine-tuning: text -> pretrained model and head -> probabilities -> loss -> gradient -> optimizer."""
    figure, axes = _canvas(7.0, 3.16)
    axes.set_ylim(0.2, 3.36)
    xs, y, height = (0.83, 2.72, 4.5, 6.2), 2.0, 0.78
    widths = (1.4, 1.75, 1.4, 1.3)
    words = (
        "text\n“Coffee like\ndishwater again.”",
        "pretrained model\n+ new head",
        "probabilities\none a class",
        "loss\none number",
    )
    for x, width, text in zip(xs, widths, words, strict=True):
        _box(axes, x, y, width, height)
        title, rest = text.split("\n", 1)
        _two_lines(axes, x, y, title, rest)
    for i in range(3):
        _arrow(axes, (xs[i] + widths[i] / 2, y), (xs[i + 1] - widths[i + 1] / 2, y))
    _box(axes, xs[3], 3.07, 1.3, 0.44, facecolor="#FBEBDD", edgecolor=COLORS["orange"])
    axes.text(xs[3], 3.07, "label: negative", ha="center", va="center", fontsize=11)
    _arrow(axes, (xs[3], 2.85), (xs[3], y + height / 2))
    _box(axes, xs[1], 0.62, 1.75, 0.62, facecolor="#E3F3EE", edgecolor=COLORS["green"])
    _two_lines(axes, xs[1], 0.62, "optimizer", "takes one step")
    look = {"color": COLORS["green"], "linewidth": 2.0}
    axes.plot([xs[3], xs[3]], [y - height / 2, 0.62], **look)
    _arrow(axes, (xs[3], 0.62), (xs[1] + 0.875, 0.62), **look)
    axes.text(4.9, 0.72, "gradient: where does each\nweight push the loss?", ha="center", va="bottom", fontsize=11)
    _arrow(axes, (xs[1], 0.93), (xs[1], y - height / 2), **look)
    axes.text(xs[1] - 0.1, 1.27, "changed weights", ha="right", va="center", fontsize=11)
    axes.text(0.13, 3.07, "fine-tuning: round and round, one batch a turn", ha="left", va="center", fontweight="bold")
    figure.alt = (
        "One turn of fine-tuning. A text goes into the pretrained model with its new head, which gives one "
        "probability a class. Together with the label they make the loss, one number. Its gradient goes to the "
        "optimizer, which takes one step and hands changed weights back to the model."
    )
    return figure


def _two_lines(axes: Axes, x: float, y: float, title: str, rest: str) -> None:
    lines = rest.count("\n") + 2
    top = y + 0.095 * (lines - 1)
    axes.text(x, top, title, ha="center", va="center", fontsize=11, fontweight="bold")
    axes.text(x, top - 0.1 - 0.095 * (lines - 1), rest, ha="center", va="center", fontsize=10.5, linespacing=1.3)


# ---------------------------------------------------------------- runs to read


@styled
def run_to_read(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy of a run by split, side by side.

    Args:
        rows: "step", and "train loss", "dev accuracy" … (the columns of `checks.reading.RUN`).

    Raises:
        ValueError: if there are no rows.
    """
    require_items("the run", rows)
    figure, (left, right) = panels(2)
    steps, told = [row["step"] for row in rows], []
    looks = dict(zip(("train", "dev", "test"), LINES, strict=False))
    for axes, quantity in ((left, "loss"), (right, "accuracy")):
        for split, look in looks.items():
            if (name := f"{split} {quantity}") in rows[0]:
                values = [row[name] for row in rows]
                axes.plot(steps, values, **look, label=split)
                told.append(f"{name} {values[0]:.3g} to {values[-1]:.3g}")
        axes.set(xlabel="step", ylabel="loss (nats)" if quantity == "loss" else quantity)
    left.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=3, handlelength=2.8)
    figure.alt = f"A run of {steps[-1]} steps: " + sentence(told)
    return figure


@styled
def verdicts(
    texts: Sequence[str], shares: Sequence[float], labels: tuple[str, str] = ("negative", "positive")
) -> Figure:
    """What a model makes of some texts: a bar from the middle toward the class that it prefers.

    Args:
        texts: what was read.
        shares: for each text, the probability of the second label.
        labels: the two classes' names.

    Raises:
        ValueError: no texts, not as many shares as texts, or a share outside 0 to 1.
    """
    require_items("texts", texts)
    shares = [float(share) for share in shares]
    if len(shares) != len(texts) or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"there must be one share from 0 to 1 a text; got {shares} for {len(texts)} texts")
    figure, (axes,) = panels(height=0.95 + 0.52 * len(texts))
    places = range(len(texts))[::-1]
    for place, share in zip(places, shares, strict=True):
        color = COLORS["orange"] if share < 0.5 else COLORS["blue"]
        axes.barh(place, share - 0.5, left=0.5, height=0.5, color=color)
        axes.text(
            share, place, f" {100 * max(share, 1 - share):.0f} % ", va="center", ha="right" if share < 0.5 else "left"
        )
    axes.axvline(0.5, color=COLORS["black"], linewidth=1)
    axes.set(xlim=(-0.14, 1.14), xlabel=f"probability of {labels[1]}")
    axes.set_yticks(list(places), [textwrap.fill(text, 34) for text in texts])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [f"0 %\n{labels[0]}", "25 %", "50 %", "75 %", f"100 %\n{labels[1]}"])
    axes.grid(axis="y", visible=False)
    figure.alt = "The model's verdicts: " + sentence(
        f"“{text}” {labels[share >= 0.5]}, {100 * max(share, 1 - share):.0f} %"
        for text, share in zip(texts, shares, strict=True)
    )
    return figure


def curves_by_labels(runs: Iterable[Record | Run]) -> dict[int, dict[str, tuple[list[int], list[float]]]]:
    """The dev scores of runs for `widgets.curve_explorer`: number of labels -> {"dev": (steps, scores)}.

    Args:
        runs: records, or what `training.fit` returns. Of several with as many labels, those that were looked at in the
            same steps as the first of them are averaged; the others are left out.
    """
    found: dict[int, tuple[list[int], list[list[float]]]] = {}
    for run in sorted(runs, key=lambda run: run.labels):
        rows = [row for row in run.history if run.metric in row]
        steps, scores = [row["step"] for row in rows], [row[run.metric] for row in rows]
        if rows and found.setdefault(run.labels, (steps, []))[0] == steps:
            found[run.labels][1].append(scores)
    return {labels: {"dev": (steps, np.mean(scores, axis=0).tolist())} for labels, (steps, scores) in found.items()}


def recorded_curves(task_name: str, backbone: str) -> dict[int, dict[str, tuple[list[int], list[float]]]]:
    """`curves_by_labels` of the recorded fine-tuning runs; empty where none is recorded for these weights."""
    from peft_helpers import backbones, records

    known = {"backbone": backbone, "backbone_sha256": backbones.weights_hash(backbone)}
    return curves_by_labels(records.load(task=task_name, method="full", **known))


def reference_lines(task: Task, split: str = "dev") -> dict[str, float]:
    """What two simple systems score on a split, for `widgets.curve_explorer`: majority class, and a bag of words.

    Args:
        task: all labels of its train split are used; the bag of words' name says how many those are.
        split: where they are judged.
    """
    from peft_helpers import baselines, evaluation

    train, judged = (list(task.splits[name]["label"]) for name in ("train", split))
    return {
        "majority class": evaluation.majority_score(task.metric, train, judged),
        f"bag of words ({len(train):,})": baselines.bag_of_words(task, split=split).score,
    }


# ---------------------------------------------------------------- broken runs


def runs_to_diagnose(task: Task, labels: int = 40, steps: int = 60, seed: int = 1) -> dict[str, Any]:
    """The runs 00-a and 00-b, for `plots.broken_runs`: a small network on word counts, a second for both.

    Args:
        task: gives the texts; `labels` of them are learned from, in batches of 8.
        steps: how many steps each run takes.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    column = task.text_columns[0]
    few = task.subset(labels, seed)
    counter = CountVectorizer(binary=True).fit(few.splits["train"][column])

    def counted(rows: Any) -> tuple[np.ndarray, np.ndarray]:
        return counter.transform(rows[column]).toarray(), np.array(rows["label"])

    data = {"train": counted(few.splits["train"]), "dev": counted(task.splits["dev"])}
    return {"00-a": _small_run(data, 3e-3, steps, seed), "00-b": _small_run(data, 1e-9, steps, seed)}


def _small_run(
    data: dict[str, tuple[np.ndarray, np.ndarray]], learning_rate: float, steps: int, seed: int
) -> dict[str, Any]:
    """Losses and accuracies of a two-layer network, trained with Adam on batches of 8."""
    import torch
    from torch import nn

    tensors = {split: (torch.tensor(x, dtype=torch.float32), torch.tensor(y)) for split, (x, y) in data.items()}
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(tensors["train"][0].shape[1], 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    batch_losses, at = [], list(range(0, steps + 1, max(1, steps // 10)))
    dev_losses, accuracies = [], {"train": [], "dev": []}
    for step in range(steps + 1):
        if step in at:
            with torch.no_grad():
                for split, (x, y) in tensors.items():
                    logits = model(x)
                    accuracies[split].append((logits.argmax(1) == y).double().mean().item())
                dev_losses.append(nn.functional.cross_entropy(logits, y).item())  # dev comes last
        rows = torch.randint(len(tensors["train"][1]), (8,), generator=generator)
        loss = nn.functional.cross_entropy(model(tensors["train"][0][rows]), tensors["train"][1][rows])
        batch_losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        "loss": {"train": batch_losses, "dev": (at, dev_losses)},
        "accuracy": {split: (at, values) for split, values in accuracies.items()},
    }


def lucky_choice(trials: int = 30, items: int = 50, fresh: int = 400, seed: int = 3) -> dict[str, Any]:
    """The run 00-c, for `plots.broken_runs`: models that guess; the best so far, and the same on fresh items."""
    generator = np.random.default_rng(seed)
    tried, again = generator.binomial(items, 0.5, trials) / items, generator.binomial(fresh, 0.5, trials) / fresh
    best = [int(np.argmax(tried[: i + 1])) for i in range(trials)]
    lines = {f"best so far, {items} test items": tried[best], f"the same model, {fresh} fresh items": again[best]}
    return {"00-c": {"accuracy": lines}}

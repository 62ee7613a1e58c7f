"""The first lesson's figures and live widgets: right by their inputs, described in words, and equal for equal input."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from peft_helpers import backbones, baselines, editions, evaluation, lesson_figures, live, plots, records, tasks
from peft_helpers.checks import reading
from peft_helpers.lesson_figures import Lesson

README = """
| | Lesson | The question it answers | Class | Runs in | |
|---|---|---|---|---|---|
| 00 | [Start here](notebooks/00_start_here.ipynb) | What? | 50 min | 36 s | [![Open In Colab](x)](y) |
| 01 | [Losses (new)](notebooks/01_loss_functions.ipynb) | How? | 84 min | | |
| 02 | Gradient descent | How far may a step go before it makes the loss worse? | planned | | |
"""
TEXTS, SHARES = ["Fine.", "A text that is so long that it needs two lines beside its bar."], [0.25, 0.9]
FIGURES: dict[str, Callable[[], Figure]] = {
    "course_map": lambda: lesson_figures.course_map(lesson_figures.course(README)),
    "vocabulary": lesson_figures.vocabulary,
    "run_to_read": lambda: lesson_figures.run_to_read(reading.RUN),
    "verdicts": lambda: lesson_figures.verdicts(TEXTS, SHARES),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_described_and_repeatable(name: str) -> None:
    figure = FIGURES[name]()
    assert len(figure.alt.split()) > 10 and "nan" not in figure.alt
    assert plots.png(figure, 60) == plots.png(FIGURES[name](), 60)


@pytest.mark.parametrize("name", FIGURES)
def test_texts_stay_inside_the_picture(name: str) -> None:
    figure = FIGURES[name]()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text


def test_the_course_comes_from_the_readme() -> None:
    lessons = lesson_figures.course(README)
    assert [lesson.number for lesson in lessons] == list(editions.LESSONS)
    assert lessons[0] == Lesson(0, "Start here", (), 50, 36)
    assert lessons[1] == Lesson(1, "Losses (new)", (0,), 84, None)
    assert lessons[2] == Lesson(2, "Gradient descent", (1,), None, None)
    assert lessons[14].title == "Open challenges" and lessons[14].minutes is None
    assert "00 Start here (50 min · runs in 36 s)" in FIGURES["course_map"]().alt


def test_the_repositorys_own_readme_is_understood() -> None:
    root = editions.project_root()
    lessons = {lesson.number: lesson for lesson in lesson_figures.course()}
    for path in editions.notebooks(root):
        about = editions.read_notebook(path)["metadata"]["peft_course"]
        lesson = lessons[about["lesson"]]
        assert (lesson.title, lesson.minutes) == (about["title"], about["class_minutes"])
    planned = [Lesson(n, title, lesson_figures.NEEDS[n]) for n, (title, _) in editions.LESSONS.items()]
    assert lesson_figures.course("") == planned


def test_lessons_build_on_earlier_ones_and_have_a_place_below_them() -> None:
    assert set(lesson_figures.NEEDS) == set(lesson_figures.PLACES) == set(editions.LESSONS)
    assert len(set(lesson_figures.PLACES.values())) == len(lesson_figures.PLACES)
    for number, needs in lesson_figures.NEEDS.items():
        assert bool(needs) == bool(number)
        for need in needs:
            assert need < number and lesson_figures.PLACES[need][1] < lesson_figures.PLACES[number][1]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="empty"):
        lesson_figures.course_map([])
    with pytest.raises(ValueError, match=r"lesson \[15\]"):
        lesson_figures.course_map([Lesson(15, "Beyond", ())])
    with pytest.raises(ValueError, match="empty"):
        lesson_figures.run_to_read([])
    for shares in ([0.5], [0.5, 1.5], [0.5, math.nan]):
        with pytest.raises(ValueError, match="one share from 0 to 1"):
            lesson_figures.verdicts(TEXTS, shares)


def test_curves_average_runs_that_were_looked_at_alike() -> None:
    def run(labels: int, steps: list[int], scores: list[float], train: bool = False) -> SimpleNamespace:
        rows = [{"step": s, "loss": 0.5, "accuracy": a} for s, a in zip(steps, scores, strict=True)]
        batches = [{"step": 1, "split": "train", "loss": 0.7}] if train else []
        return SimpleNamespace(labels=labels, metric="accuracy", history=batches + rows)

    runs = [
        run(200, [0, 7], [0.5, 0.7]), run(50, [0, 2], [0.5, 0.6], train=True), run(200, [0, 7], [0.4, 0.6]),
        run(200, [0, 9], [0.9, 0.9]), run(600, [], []),
    ]  # fmt: skip
    curves = lesson_figures.curves_by_labels(runs)
    assert list(curves) == [50, 200]
    assert curves[50] == {"dev": ([0, 2], [0.5, 0.6])}
    assert curves[200]["dev"][0] == [0, 7] and curves[200]["dev"][1] == pytest.approx([0.45, 0.65])
    assert lesson_figures.curves_by_labels([]) == {}


def test_the_recorded_curves_are_those_of_these_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, rows = {}, [{"step": 0, "loss": 0.7, "accuracy": 0.5}, {"step": 9, "loss": 0.5, "accuracy": 0.75}]

    def load(**equal: object) -> list[SimpleNamespace]:
        asked.update(equal)
        return [SimpleNamespace(labels=50, metric="accuracy", history=rows)]

    monkeypatch.setattr(backbones, "weights_hash", lambda name: f"hash of {name}")
    monkeypatch.setattr(records, "load", load)
    assert lesson_figures.recorded_curves("tiny", "small-bert") == {50: {"dev": ([0, 9], [0.5, 0.75])}}
    backbone = {"backbone": "small-bert", "backbone_sha256": "hash of small-bert"}
    assert asked == {"task": "tiny", "method": "full"} | backbone


def test_the_reference_lines_are_the_simple_systems_of_that_split() -> None:
    task = tasks.load("sentiment", labels=60)
    lines = lesson_figures.reference_lines(task)
    assert list(lines) == ["majority class", "bag of words (60)"]
    labels = {split: list(task.splits[split]["label"]) for split in ("train", "dev")}
    assert lines["majority class"] == evaluation.majority_score("accuracy", labels["train"], labels["dev"])
    assert lines["bag of words (60)"] == baselines.bag_of_words(task, split="dev").score
    assert list(lesson_figures.reference_lines(task, "test").values()) != list(lines.values())


def test_the_runs_to_diagnose_show_what_their_questions_say() -> None:
    task = tasks.load("sentiment")
    runs = lesson_figures.runs_to_diagnose(task)
    assert runs == lesson_figures.runs_to_diagnose(task)
    by_heart, frozen = runs["00-a"], runs["00-b"]
    assert by_heart["accuracy"]["train"][1][-1] == 1.0 and max(by_heart["accuracy"]["dev"][1]) < 0.7
    assert by_heart["loss"]["train"][-1] < 0.2
    assert len(set(frozen["accuracy"]["dev"][1])) == 1 and abs(frozen["accuracy"]["dev"][1][0] - 0.5) < 0.05
    assert max(frozen["loss"]["dev"][1]) - min(frozen["loss"]["dev"][1]) < 1e-4
    assert all(abs(loss - math.log(2)) < 0.25 for loss in frozen["loss"]["train"]), "a batch of 16 wavers"
    assert statistics.mean(frozen["loss"]["train"]) == pytest.approx(math.log(2), abs=0.03), "around ln 2"
    (lucky, fresh) = lesson_figures.lucky_choice()["00-c"]["accuracy"].values()
    assert all(b >= a for a, b in itertools.pairwise(lucky)) and lucky[-1] > 0.6
    assert all(abs(score - 0.5) < 0.06 for score in fresh)


# ---------------------------------------------------------------- live widgets


def test_the_loss_curve_grows_with_each_step() -> None:
    curve = live.LossCurve(4, guess=math.log(2))
    assert "waiting" in curve.value and "guessing: 0.693" in curve.value
    for loss in (0.7, 1.9, float("nan"), 0.4):
        curve({"step": 1, "loss": loss})
    assert "step 4 of 4 · loss of this batch 0.400" in curve.value
    assert 'points="' in curve.value and "nan," not in curve.value and ",nan" not in curve.value
    assert len(repr(curve)) <= 110, "ipywidgets cuts a longer text"


def test_the_sentence_box_answers_every_text() -> None:
    asked = []

    def probabilities(texts: list[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[0.25, 0.75] for _ in texts]

    box = live.SentenceBox(probabilities, ["negative", "positive"], "Fine.")
    assert asked == ["Fine."] and "75.0 %" in box.answer.value and "negative" in box.answer.value
    box.field.value = "<b>Bad</b>"
    assert asked[-1] == "<b>Bad</b>" and "<b>" not in box.answer.value
    box.field.value = "  "
    assert len(asked) == 2 and "Type a sentence" in box.answer.value
    assert len(repr(box)) <= 110

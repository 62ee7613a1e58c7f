"""The runs of lesson 01 show what the questions about them say."""

from __future__ import annotations

import pytest

from peft_helpers import loss_runs, plots, question_bank


@pytest.fixture(scope="module")
def runs() -> dict[str, loss_runs.Run]:
    return loss_runs.runs_to_diagnose(tuple(loss_runs.RUNS))


def test_every_run_has_its_question_and_every_question_its_run(runs):
    asked = [name for name, question in question_bank.of_lesson("01").items() if question.kind == "diagnose"]
    assert list(runs) == asked


@pytest.mark.parametrize(
    ("name", "first", "last", "accuracy"),
    [
        ("01-a", 0.693, 0.3133, 1.0),
        ("01-b", 4.84, 0.13, 0.95),
        ("01-c", 0.693, 0.325, 0.9),
        ("01-e", 0.693, 0.199, 1.0),
    ],
)
def test_first_and_last_values(runs, name, first, last, accuracy):
    losses, accuracies = runs[name]["loss"]["train"], runs[name]["accuracy"]["train"]
    assert losses[0] == pytest.approx(first, abs=0.01)
    assert losses[-1] == pytest.approx(last, abs=0.005)
    assert accuracies[-1] == pytest.approx(accuracy, abs=0.005)


def test_without_information_accuracy_never_moves(runs):
    assert set(runs["01-c"]["accuracy"]["train"]) == {0.9}


def test_ever_surer_loses_on_dev_while_accuracy_stays(runs):
    (_, losses), (_, accuracies) = runs["01-d"]["loss"]["dev"], runs["01-d"]["accuracy"]["dev"]
    lowest = losses.index(min(losses))
    assert losses[-1] > 1.5 * losses[lowest]
    assert all(accuracy == pytest.approx(0.87, abs=0.01) for accuracy in accuracies[lowest:])
    assert runs["01-d"]["loss"]["train"][-1] < 0.01


def test_they_can_be_drawn(runs):
    three = plots.broken_runs(loss_runs.runs_to_diagnose())
    assert "0.313" in three.alt
    assert plots.broken_runs({name: runs[name] for name in ("01-d", "01-e")}).alt


def test_an_unknown_run_is_refused():
    with pytest.raises(ValueError, match="no run '01-z'; there are 01-a"):
        loss_runs.runs_to_diagnose(["01-z"])

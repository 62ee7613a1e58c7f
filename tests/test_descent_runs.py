"""The runs of lesson 02 show what the questions about them say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from peft_helpers import descent_runs, plots, question_bank


@pytest.fixture(scope="module")
def losses() -> dict[str, list[float]]:
    return {name: run["loss"]["train"] for name, run in descent_runs.runs_to_diagnose().items()}


def peaks(values: list[float]) -> list[float]:
    """The values that are larger than both neighbors."""
    return [b for a, b, c in zip(values, values[1:], values[2:], strict=False) if a < b > c]


def test_every_run_has_its_question_and_every_question_its_run(losses):
    asked = [name for name, question in question_bank.of_lesson("02").items() if question.kind == "diagnose"]
    assert list(losses) == asked


def test_diverging_grows_by_a_constant_factor(losses):
    run = losses["02-a"]
    assert run[-1] > 1e5
    assert run[-1] / run[-2] == pytest.approx(1.21, rel=1e-3)


def test_a_long_valley_halves_at_once_and_then_stalls(losses):
    run = losses["02-b"]
    assert run[0] == pytest.approx(3.8)
    assert run[1] == pytest.approx(2.0, rel=1e-2)
    assert 1.3 < run[-1] < 1.4
    assert run[-1] / run[-2] == pytest.approx(0.999**2)


def test_waves_get_smaller(losses):
    tops = peaks(losses["02-c"])
    assert len(tops) > 5
    assert all(later < earlier for earlier, later in pairwise(tops))


def test_without_zeroing_the_swing_never_rests(losses):
    run = losses["02-d"]
    assert len(peaks(run)) > 5
    assert peaks(run) == pytest.approx([1.0] * len(peaks(run)), abs=0.02)
    assert min(run) < 0.02


def test_they_can_be_drawn():
    assert "02-a" in plots.broken_runs(descent_runs.runs_to_diagnose(["02-a", "02-b"])).alt


def test_an_unknown_run_is_refused():
    with pytest.raises(ValueError, match="no run '02-z'; there are 02-a"):
        descent_runs.runs_to_diagnose(["02-z"])

"""The schedule explorer without a browser: set a control, and picture and values follow."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from widget_cases import ExplorerTests, text

from peft_helpers import records, schedule_sweep, schedules, training, widgets
from peft_helpers.widgets import schedules as schedule_widget

RATES = (1e-4, 1e-3, 1e-2)


def made_record(shape: str, rate: float) -> records.Record:
    place = list(schedules.DECAYS).index(shape)
    history = [
        {"step": step, "loss": 0.7 - 0.02 * place - rate * step, "accuracy": 0.5 + 0.01 * place + step * rate}
        for step in (0, 10, 20, 30)
    ]
    return records.Record(
        id=f"x-{shape}-{rate:g}", task="sentiment", split="dev", labels=200, backbone="none", backbone_sha256=None,
        method=f"{shape} at {rate:g}", settings={"learning_rate": rate, "warmup": 0.1, "schedule": shape}, seed=0,
        metric="accuracy", score=history[-1]["accuracy"], predictions=[0, 1],
        parameters=dict.fromkeys(records.PARAMETERS, 1), seconds=1.0, peak_memory_mb=None, device="cpu", versions={},
        history=history, command=schedule_sweep.COMMAND,
    )  # fmt: skip


RUNS = {(shape, rate): made_record(shape, rate) for shape in schedules.DECAYS for rate in RATES}


@pytest.fixture
def made() -> widgets.Explorer:
    return widgets.schedule_explorer(RUNS)


class TestScheduleExplorer(ExplorerTests):
    names = ("schedule",)
    changes = {"schedule": [("shape", "cosine"), ("rate", 1e-2)]}


def test_every_state_can_be_drawn_and_told(made):
    for shape, rate in RUNS:
        reading = made.compute(shape=shape, rate=rate)
        made.picture.jpeg(reading)
        shown = made.describe(reading).as_text()
        assert shape in shown and not re.search(r"\b(nan|NaN|infinity)\b", shown)
        assert len(reading.rates) == 30
        share = [training.rate_factor(step, 30, 0.1, shape) for step in range(30)]
        assert reading.rates == pytest.approx(rate * np.array(share))


def test_the_readout_has_the_recorded_values(made):
    made.controls["shape"].value, made.controls["rate"].value = "cosine", 1e-2
    assert "cosine, peak rate 0.01: dev loss 0.660 before training, 0.360 at step 30" in text(made)
    assert "0.360 ◂" in text(made)


def test_a_rate_that_diverged_for_one_shape_is_left_out():
    some = {key: run for key, run in RUNS.items() if key != ("constant", 1e-2)}
    made = widgets.schedule_explorer(some)
    assert [value for _, value in made.controls["rate"].options] == [1e-4, 1e-3]


def test_without_records_the_error_names_the_command():
    with pytest.raises(ValueError, match=r"python -m peft_helpers\.schedule_sweep"):
        widgets.schedule_explorer({})
    with pytest.raises(ValueError, match="no run with the schedule 'cosine' at 3"):
        schedule_widget.reading(RUNS, "cosine", 3.0)


def test_other_weights_are_said():
    other = {key: replace(run, backbone_sha256="0" * 64) for key, run in RUNS.items()}
    assert "other weights" in repr(widgets.schedule_explorer(other))
    assert "other weights" not in repr(widgets.schedule_explorer(RUNS))


def test_the_shipped_runs_can_be_shown():
    made = widgets.schedule_explorer()
    assert [value for _, value in made.controls["shape"].options] == list(schedules.DECAYS)
    assert widgets.static("schedule").alt == made.static().alt

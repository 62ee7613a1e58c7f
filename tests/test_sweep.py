"""The resumable sweep: killed, shared by two processes, and stopped at awkward moments. Nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from peft_helpers import sweep

pytest.importorskip("optuna", reason="needs Optuna (the extra lab)")

HERE = Path(__file__).resolve().parent
CHOICES = {"learning_rate": [1e-3, 1e-2], "epochs": [1, 2]}

# A process that sweeps over a tiny model's settings and writes down what it begins, every step it takes, what it ends.
WORKER = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import tiny, torch
from peft_helpers import methods, sweep, training

log, pause = Path(sys.argv[2]), float(sys.argv[3])

def note(**what):
    with log.open("a") as file:
        file.write(json.dumps(what | {{"process": os.getpid()}}) + "\\n")

def objective(parameters, folder):
    note(event="begins", **parameters)
    model = methods.apply(tiny.model("bert"), methods.LoRA(rank=2))
    settings = training.Settings(batch_size=8, progress=False, keep_best=False, **parameters)
    def on_step(row):
        note(event="step", step=row["step"], loss=float(row["loss"]), **parameters)
        time.sleep(pause)
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings, checkpoints=folder, checkpoint_every=1,
                       on_step=on_step)
    note(event="ends", **parameters)
    return -run.rows("dev")[-1]["loss"]

sweep.run(sys.argv[1], objective, {choices!r})
note(event="over")
"""


def start(folder: Path, log: Path, pause: float) -> subprocess.Popen:
    script = WORKER.format(tests=str(HERE), choices=CHOICES)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(folder), str(log), str(pause)]
    return subprocess.Popen(command, env=environment, cwd=HERE)


def events(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(log: Path, condition, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition(events(log)):
        assert time.monotonic() < end, "the worker does nothing"
        assert process.poll() is None, "the worker is gone"
        time.sleep(0.02)


def key(event: dict) -> tuple:
    return event["learning_rate"], event["epochs"]


def scores(rows: list[sweep.Row]) -> dict[tuple, float]:
    return {key(row.parameters): row.score for row in rows}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[tuple, float]:
    """The scores of a sweep that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder / "sweep", folder / "log", 0.0).wait(180) == 0
    rows = sweep.progress(folder / "sweep")
    assert len(rows) == 4 and all(row.state == "done" and row.sittings == 1 for row in rows)
    return scores(rows)


def test_killed_in_the_middle_of_a_trial_it_goes_on_and_loses_nothing(tmp_path, undisturbed):
    folder, log = tmp_path / "sweep", tmp_path / "log"
    first = start(folder, log, 0.05)
    wait_for(log, lambda seen: sum(e["event"] == "step" and e["epochs"] == 2 for e in seen) >= 3, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = events(log)
    finished = {key(e) for e in before if e["event"] == "ends"}
    assert finished and len(finished) < 4
    assert start(folder, log, 0.0).wait(180) == 0
    rows = sweep.progress(folder)
    assert scores(rows) == undisturbed, "bit for bit"
    after = events(log)[len(before) :]
    begun_again = {key(e) for e in after if e["event"] == "begins"}
    assert not begun_again & finished, "what was finished is not run twice"
    steps = Counter((key(e), e["step"]) for e in events(log) if e["event"] == "step")
    twice = {step: n for step, n in steps.items() if n > 1}
    assert len(twice) <= 1, f"at most the step that the kill fell into is done again; got {twice}"
    assert max(row.sittings for row in rows) == 2 and sum(row.sittings == 2 for row in rows) == 1


def test_two_processes_share_the_work(tmp_path, undisturbed):
    folder, log = tmp_path / "sweep", tmp_path / "log"
    workers = [start(folder, log, 0.05) for _ in range(2)]
    assert [worker.wait(180) for worker in workers] == [0, 0]
    begun = [e for e in events(log) if e["event"] == "begins"]
    assert sorted(map(key, begun)) == sorted(undisturbed), "every configuration once"
    assert len({e["process"] for e in begun}) == 2, "both took part"
    assert scores(sweep.progress(folder)) == undisturbed


# ---------------------------------------------------------------- in this process


def squares(calls: list):
    def objective(parameters, folder):
        calls.append(parameters["x"])
        return -((parameters["x"] - 3) ** 2)

    return objective


def test_it_stops_where_it_is_asked_and_goes_on(tmp_path):
    calls: list[int] = []
    rows = sweep.run(tmp_path, squares(calls), {"x": [1, 2, 3, 4]}, on_trial=lambda row: len(calls) == 2)
    assert calls == [1, 2] and [row.state for row in rows] == ["done", "done", "waiting", "waiting"]
    rows = sweep.run(tmp_path, squares(calls), {"x": [1, 2, 3, 4]})
    assert calls == [1, 2, 3, 4] and [row.score for row in rows] == [-4, -1, 0, -1]
    assert sweep.best(rows).parameters == {"x": 3}
    assert sweep.run(tmp_path, squares(calls), {"x": [1, 2, 3, 4]}) == rows and len(calls) == 4
    assert not list(tmp_path.glob("*.alive*")), "no worker's lock is left"


def test_an_error_leaves_the_trial_to_the_next_sitting(tmp_path):
    def breaks(parameters, folder):
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="the power is out"):
        sweep.run(tmp_path, breaks, {"x": [1]})
    assert [row.state for row in sweep.progress(tmp_path)] == ["running"]
    (row,) = sweep.run(tmp_path, squares([]), {"x": [1]})
    assert (row.state, row.score, row.sittings) == ("done", -4, 2)


def test_a_result_on_the_disk_is_not_computed_again(tmp_path):
    """Killed between the objective's last line and Optuna's first."""
    place = sweep.trial_folder(tmp_path, {"x": 2})
    place.mkdir(parents=True)
    (place / "result.json").write_text('{"parameters": {"x": 2}, "score": 7.5}')
    calls: list[int] = []
    rows = sweep.run(tmp_path, squares(calls), {"x": [1, 2]})
    assert calls == [1] and rows[1].score == 7.5


def test_other_choices_and_empty_ones_are_refused(tmp_path):
    sweep.run(tmp_path, squares([]), {"x": [1]})
    with pytest.raises(ValueError, match=r"holds a sweep over \{'x': \[1\]\}, not over \{'x': \[1, 2\]\}"):
        sweep.run(tmp_path, squares([]), {"x": [1, 2]})
    for empty in ({}, {"x": []}):
        with pytest.raises(ValueError, match="at least one value each"):
            sweep.run(tmp_path / "other", squares([]), empty)
    with pytest.raises(ValueError, match="holds no sweep"):
        sweep.progress(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no trial is finished"):
        sweep.best([sweep.Row({"x": 1}, "waiting", None, 0)])


def test_without_optuna_the_error_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="pip install optuna"):
        sweep.run(tmp_path, squares([]), {"x": [1]})


def test_the_grid_is_every_combination_in_order():
    assert sweep.grid({"a": [1, 2], "b": ["x"]}) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]

"""Lesson 03's comparison goes on where it was stopped, and its broken runs do what their questions say."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from peft_helpers import optimizer_comparison, optimizer_runs, records, training
from peft_helpers.optimizers import SGD


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The comparison on a tiny network, two rates, one seed; the list fills with the training runs."""
    runs, train = [], optimizer_comparison.train
    for name, value in {"LABELS": 20, "EPOCHS": 1, "MAX_LENGTH": 16, "SPLITS": 2, "SEEDS": 1, "MANY_SEEDS": 1}.items():
        monkeypatch.setattr(optimizer_comparison, name, value)
    monkeypatch.setattr(optimizer_comparison, "BASELINES", ())
    monkeypatch.setattr(optimizer_comparison, "RATES", {"SGD": (1e-2, 1e30), "AdamW": (1e-3, 1e-2)})
    kinds = {name: optimizer_comparison.OPTIMIZERS[name] for name in ("SGD", "AdamW", optimizer_comparison.UNCORRECTED)}
    monkeypatch.setattr(optimizer_comparison, "OPTIMIZERS", kinds)
    monkeypatch.setattr(optimizer_comparison.tasks, "load", lambda name: tiny.task())
    monkeypatch.setattr(
        optimizer_comparison.backbones, "load", lambda name, task, seed=0: (tiny.model(seed=seed), tiny.tokenizer())
    )
    monkeypatch.setattr(optimizer_comparison.backbones, "weights_hash", lambda name: "first")
    monkeypatch.setattr(optimizer_comparison, "train", lambda *given: runs.append(given) or train(*given))
    return runs


def test_a_stopped_comparison_goes_on(small: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = optimizer_comparison.compare("tiny", "tiny", tmp_path)
    assert [record.method for record in made] == ["SGD", "AdamW", "AdamW, uncorrected"]
    assert len(small) == 2 * 2 * 2 + 3  # optimizers × rates × splits, and the runs that are recorded
    assert made[0].settings["learning_rate"] == 0.01  # the other rate diverged
    assert made[0].settings["tuned_rates"][1]["loss"] is None

    assert optimizer_comparison.compare("tiny", "tiny", tmp_path) == made
    assert len(small) == 11
    (tmp_path / f"{made[1].id}.json").unlink()
    assert optimizer_comparison.compare("tiny", "tiny", tmp_path)[1].predictions == made[1].predictions
    assert len(small) == 12

    monkeypatch.setattr(optimizer_comparison.backbones, "weights_hash", lambda name: "second")
    assert {record.backbone_sha256 for record in optimizer_comparison.compare("tiny", "tiny", tmp_path)} == {"second"}
    assert len(small) == 23
    assert len(records.load(tmp_path)) == 3


def test_the_lesson_finds_its_records(small: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_RECORDS", str(tmp_path))
    assert optimizer_comparison.recorded("tiny", "tiny") == []
    made = optimizer_comparison.compare("tiny", "tiny", tmp_path / "optimizers")
    assert {record.id for record in optimizer_comparison.recorded("tiny", "tiny")} == {record.id for record in made}
    assert optimizer_comparison.recorded("tiny", "another") == []


def test_fine_tune_is_repeatable_and_learns() -> None:
    def losses() -> list[float]:
        model, task = tiny.model(), tiny.task()
        data = training.encode(task, "train", tiny.tokenizer(), 16)
        return optimizer_comparison.fine_tune(model, data, SGD(model.parameters(), 0.5), epochs=8, seed=0)

    first = losses()
    assert first == losses()
    assert torch.tensor(first[-3:]).mean() < torch.tensor(first[:3]).mean()


def test_the_broken_runs_do_what_the_questions_say() -> None:
    losses = {name: run["loss"]["train"] for name, run in optimizer_runs.runs_to_diagnose().items()}
    mended = {name: run["loss"]["mended"] for name, run in optimizer_runs.mended_runs().items()}
    assert max(losses["03-a"]) > 1.4 * losses["03-a"][0]
    assert max(mended["03-a"]) < 1.1 * mended["03-a"][0]
    assert round(max(losses["03-b"])) == 28
    assert max(mended["03-b"]) == mended["03-b"][0]
    assert losses["03-c"][80] > 1e7 * losses["03-c"][79]
    assert losses["03-c"][81] > 1000 * mended["03-c"][81]

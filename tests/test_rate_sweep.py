"""The recorded learning-rate sweep: one run a start and rate, judged on dev, resumable, made anew for other weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from peft_helpers import rate_sweep, records, training


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The sweep on a tiny task and network; the list fills with the training runs."""
    runs, fit = [], training.fit
    for name, value in {"LABELS": 20, "EPOCHS": 2, "BATCH": 8}.items():
        monkeypatch.setattr(rate_sweep, name, value)
    monkeypatch.setattr(rate_sweep.tasks, "load", lambda name, labels: tiny.task().subset(labels))

    def load(name, task, pretrained=True, seed=0):
        model = tiny.model(seed=seed if pretrained else 9)
        model.name = name
        return model, tiny.tokenizer()

    monkeypatch.setattr(rate_sweep.backbones, "load", load)
    monkeypatch.setattr(rate_sweep.backbones, "weights_hash", lambda name: "first")
    monkeypatch.setattr(rate_sweep.training, "fit", lambda *given: runs.append(given) or fit(*given))
    return runs


def test_every_start_and_rate_leaves_its_curve(small: list[tuple], tmp_path: Path) -> None:
    made = rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-4, 1e-2))
    assert [r.method for r in made] == ["full at 0.0001", "full at 0.01", "scratch at 0.0001", "scratch at 0.01"]
    assert {(r.split, r.labels, r.seed, r.backbone_sha256) for r in made} == {("dev", 20, 0, "first")}
    for record in made:
        dev = [row for row in record.history if row["split"] == "dev"]
        assert [row["step"] for row in dev] == [0, 3, 6]
        assert dev[-1]["accuracy"] == pytest.approx(record.score, abs=1e-4)
        assert [row["step"] for row in record.history if row["split"] == "train"] == [1, 2, 3, 4, 5, 6]
        assert len(record.predictions) == 16
    assert "full at 0.01" in records.table(made)  # rates are different methods, not runs to be averaged


def test_a_stopped_sweep_goes_on_and_other_weights_start_anew(
    small: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-2,))
    assert len(small) == 2
    rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-3, 1e-2))
    assert len(small) == 4
    monkeypatch.setattr(rate_sweep.backbones, "weights_hash", lambda name: "second")
    made = rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-2,))
    assert len(small) == 6 and {record.backbone_sha256 for record in made} == {"second"}


def test_a_rate_that_diverges_leaves_no_record(
    small: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_):
        raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(rate_sweep.training, "fit", diverge)
    assert rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-2,)) == []
    assert not list(tmp_path.glob("*.json"))


def test_the_curves_of_a_sweep(small: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {record.method: record for record in rate_sweep.sweep("tiny", "tiny", tmp_path, rates=(1e-2, 1e-4))}
    curves = rate_sweep.curves("tiny", "tiny", tmp_path)
    assert list(curves) == [1e-4, 1e-2], "the slider's order"
    assert all(list(lines) == ["pretrained", "random weights"] for lines in curves.values())
    rows = made["scratch at 0.01"].history
    expected = [row["accuracy"] for row in rows if row["split"] == "dev"]
    assert curves[1e-2]["random weights"] == ([0, 3, 6], expected)
    assert curves[1e-2]["pretrained"][1][-1] == pytest.approx(made["full at 0.01"].score, abs=1e-4)
    assert rate_sweep.history("tiny", "tiny", 1e-2, "random weights", tmp_path) == rows
    assert rate_sweep.history("tiny", "tiny", 3e-2, folder=tmp_path) == [], "a rate that was not recorded"
    assert rate_sweep.curves("another", "tiny", tmp_path) == {}
    monkeypatch.setattr(rate_sweep.backbones, "weights_hash", lambda name: "second")
    assert rate_sweep.curves("tiny", "tiny", tmp_path) == {}, "the curves of other weights are not these"

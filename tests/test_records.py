"""Records: what is written is read again, what is no record is refused with the file's and the field's name."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from peft_helpers import evaluation, records, storage


def example(**changes) -> records.Record:
    fields = {
        "id": "sentiment-full-200-0",
        "task": "sentiment",
        "split": "test",
        "labels": 200,
        "backbone": "pocket-bert",
        "backbone_sha256": "ab" * 32,
        "method": "full fine-tuning",
        "settings": {"learning_rate": 1e-4, "epochs": 3},
        "seed": 0,
        "metric": "accuracy",
        "score": 0.8725,
        "predictions": [0, 1, 1, 0],
        "parameters": {"trained": 100, "changed": 100, "stored": 100, "total": 120},
        "seconds": 12.5,
        "peak_memory_mb": 812.0,
        "device": "cpu (x86_64), 1 thread",
        "versions": {"torch": "2.13.0"},
        "history": [{"step": 0, "split": "dev", "loss": 0.69}],
        "created": "2026-01-31",
        "command": "python -m something",
    }
    return records.Record(**(fields | changes))


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PEFT_RECORDS", str(tmp_path / "own"))
    monkeypatch.setattr(records, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "own"


def test_what_is_saved_is_loaded(own_folder):
    path = records.save(example())
    assert path == own_folder / "sentiment-full-200-0.json"
    assert records.load() == [example()] == records.load(own_folder)
    assert records.save(example()) == path  # the same again is no conflict


def test_numbers_from_numpy_and_torch_become_plain_and_short(tmp_path):
    record = example(
        predictions=torch.tensor([0.123456, 4.0]),
        score=np.float64(1 / 3),
        seed=np.int64(3),
        settings={"betas": (0.9, 0.999), "rates": np.array([0.1])},
        backbone_sha256=None,
        peak_memory_mb=None,
    )
    assert record.predictions == [0.1235, 4.0] and record.score == 0.333333 and type(record.seed) is int
    assert record.settings == {"betas": [0.9, 0.999], "rates": [0.1]}
    assert records.read(records.save(record, tmp_path)) == record


@pytest.mark.parametrize(
    "predictions", [[0, 1] * 436, np.random.default_rng(0).normal(2.5, 1.3, 400), np.linspace(0, 5, 1000)]
)
def test_a_record_is_small(tmp_path, predictions):
    history = [{"step": i, "epoch": i / 10, "split": "dev", "loss": 0.123456, "accuracy": 0.987654} for i in range(20)]
    path = records.save(example(predictions=predictions, history=history), tmp_path)
    assert path.stat().st_size < 12_000


def test_rounded_predictions_keep_the_score():
    generator = np.random.default_rng(0)
    labels = generator.integers(11, size=400) / 2
    predictions = labels + generator.normal(size=400)
    exact = evaluation.spearman(predictions, labels)
    assert evaluation.spearman(example(predictions=predictions).predictions, labels) == pytest.approx(exact, abs=1e-4)


def test_another_record_of_the_same_id_is_not_overwritten(tmp_path):
    records.save(example(), tmp_path)
    with pytest.raises(ValueError, match=r"sentiment-full-200-0\.json holds another record"):
        records.save(example(score=0.9), tmp_path)
    assert records.load(tmp_path) == [example()]
    records.save(example(score=0.9), tmp_path, replace=True)
    assert records.load(tmp_path)[0].score == 0.9


def test_a_full_disk_leaves_the_old_record_whole(tmp_path, monkeypatch):
    records.save(example(), tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        records.save(example(score=0.9), tmp_path, replace=True)
    assert records.load(tmp_path) == [example()]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"id": "x", "ta', "truncated or no JSON"),
        ("[1, 2]", "holds a JSON list"),
        ('"text"', "holds a JSON str"),
        ("", "truncated or no JSON"),
        ('{"model_type": "bert"}', r"lacks field\(s\) id, task"),
    ],
)
def test_foreign_files_are_named(own_folder, content, says):
    own_folder.mkdir()
    (own_folder / "strange.json").write_text(content)
    with pytest.raises(ValueError, match=rf"strange\.json.*{says}"):
        records.load()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("score", "high", "field score must be float or int"),
        ("score", True, "field score"),
        ("seed", 1.5, "field seed must be int"),
        ("labels", -1, "field.* labels"),
        ("task", None, "field task must be str"),
        ("predictions", [], "field predictions"),
        ("predictions", ["a"], "field predictions"),
        ("parameters", {"trained": 1}, "field parameters"),
        ("created", "yesterday", "field created"),
        ("created", "20260131", "field created"),
        ("id", "../escape", "field id"),
        ("history", {"step": 1}, "field history must be list"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, field, value, says):
    content = dataclasses.asdict(example()) | {field: value}
    path = tmp_path / "sentiment-full-200-0.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"sentiment-full-200-0\.json.*{says}"):
        records.read(path)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(records.Record)])
def test_every_field_is_needed_and_no_other(tmp_path, field):
    content = dataclasses.asdict(example())
    path = tmp_path / "sentiment-full-200-0.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if key != field}))
    with pytest.raises(ValueError, match=rf"lacks field\(s\) {field}$"):
        records.read(path)
    path.write_text(json.dumps(content | {"mood": "good"}))
    with pytest.raises(ValueError, match=r"unknown field\(s\) mood$"):
        records.read(path)


def test_nan_and_objects_are_refused_by_field():
    with pytest.raises(ValueError, match="field score holds nan"):
        example(score=math.nan)
    with pytest.raises(ValueError, match=r"field settings\.when holds a object"):
        example(settings={"when": object()})


def test_a_renamed_file_and_two_of_one_id_are_refused(tmp_path):
    path = records.save(example(), tmp_path)
    renamed = path.with_name("other.json")
    os.rename(path, renamed)
    with pytest.raises(ValueError, match=r"other\.json: field id is .*renamed"):
        records.load(tmp_path)
    renamed.unlink()
    records.save(example(), tmp_path / "a")
    records.save(example(), tmp_path / "b")
    with pytest.raises(ValueError, match="two records have the id"):
        records.load(tmp_path)


def test_load_selects_and_your_own_record_takes_the_place_of_a_shipped_one(own_folder):
    records.save(example(), records.SHIPPED / "05")
    records.save(example(id="other", task="similarity", metric="spearman"), records.SHIPPED)
    assert [r.id for r in records.load()] == ["other", "sentiment-full-200-0"]
    assert [r.id for r in records.load(task="sentiment", labels=200)] == ["sentiment-full-200-0"]
    assert records.load(task="cola") == []
    records.save(example(score=0.5))
    assert [r.score for r in records.load(task="sentiment")] == [0.5]
    with pytest.raises(ValueError, match="no field mode; they have id, task"):
        records.load(mode="x")
    with pytest.raises(ValueError, match="no folder"):
        records.load(own_folder / "missing")


def test_without_any_folder_there_are_no_records():
    assert records.load() == []


def test_summary_and_table_average_over_seeds():
    runs = [example(id=f"r{seed}", seed=seed, score=score) for seed, score in enumerate([0.80, 0.82, 0.84])]
    runs.append(example(id="probe", method="linear probe", labels=2000, score=0.7))
    first, second = records.summary(runs)
    assert (first["mean"], first["spread"], first["seeds"]) == pytest.approx((0.82, 0.02, 3))
    assert second["labels"] == 2000 and math.isnan(second["spread"])
    lines = records.table(runs).splitlines()
    assert len(lines) == 4 and lines[2].startswith(
        "| sentiment | test | pocket-bert | full fine-tuning | 200 | accuracy 82.0 ± 2.0 | 3 |"
    )
    assert "accuracy 70.0 |" in lines[3] and "2,000" in lines[3]


def test_different_settings_of_one_seed_are_not_averaged():
    with pytest.raises(ValueError, match="a and b are one group and seed"):
        records.table([example(id="a"), example(id="b", settings={"learning_rate": 1})])


def test_environment_fills_device_and_versions():
    found = records.environment("cpu")
    assert "thread" in found["device"] and {"python", "torch", "transformers", "peft_helpers"} <= set(found["versions"])
    assert example(**found).device == found["device"]


def test_shipped_records_can_be_read_and_are_small(monkeypatch):
    monkeypatch.undo()
    for path in records.SHIPPED.rglob("*.json"):
        record = records.read(path)
        assert record.id == path.stem and path.stat().st_size < 8_000 + 8 * len(record.predictions), path

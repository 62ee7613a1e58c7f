"""Tables of the real tasks: made from whatever records there are, baselines beside the runs they belong to."""

import re

import pytest

from peft_helpers import evaluation, real_results, records


def record(task, method, seed, score, backbone="pocket-bert", labels=100):
    plain = re.sub("[^A-Za-z0-9]+", "-", method)
    return records.Record(
        id=f"{task}-{labels}-{backbone}-{plain}-{seed}",
        task=task, split="test", labels=labels,
        backbone=backbone, backbone_sha256=None, method=method, seed=seed, metric="accuracy", score=score,
        settings={
            "epochs": 2, "batch_size": 10, "learning_rate": 3e-4,
            "tuned_rates": [{"learning_rate": 1e-4, "score": 0.5}, {"learning_rate": 3e-4, "score": 0.75}],
        },
        predictions=[0, 1], parameters=dict.fromkeys(records.PARAMETERS, 1234), seconds=10.0 + seed,
        peak_memory_mb=None, history=[{"step": 0, "loss": 1.0}, {"step": 20, "loss": 0.5}],
        **records.environment("cpu"),
    )  # fmt: skip


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHIPPED", tmp_path)
    for seed, score in enumerate((0.7, 0.8)):
        records.save(record("trec", "full", seed, score), tmp_path / "trec")
        records.save(record("sst2", "full", seed, score + 0.1), tmp_path / "sst2")
        records.save(record("trec", "bag of words", seed, 0.6, backbone="none"), tmp_path / "trec")
    return tmp_path


def test_scores_stand_beside_their_baselines(shelf):
    lines = real_results.scores_table().splitlines()
    assert lines[2] == "| SST-2 | accuracy | 100 | pocket-bert | 85.0 ± 7.1 |  |  |  |"
    assert lines[3] == "| TREC | accuracy | 100 | pocket-bert | 75.0 ± 7.1 |  |  | 60.0 ± 0.0 |"


def test_one_seed_has_no_spread(shelf):
    records.save(record("cola", "full", 0, 0.125), shelf / "cola")
    assert "| 12.5 |" in real_results.scores_table() and "nan" not in real_results.scores_table()


def test_rates_and_costs(shelf):
    rates = real_results.rates_table().splitlines()
    assert rates[2] == "| SST-2 | 100 | pocket-bert | accuracy | 0.0001: 0.500   0.0003: 0.750 | 0.0003 |"
    costs = real_results.costs_table().splitlines()
    assert costs[3].startswith("| TREC | 100 | pocket-bert | 1,234 | 20 (2 epochs of 10) | 10 | 525 |")


def test_the_shipped_records_make_tables():
    assert {r.task for r in real_results.runs("full")} <= set(real_results.TASKS)
    assert "SST-2" in real_results.scores_table()
    for table in (real_results.scores_table(), real_results.rates_table(), real_results.costs_table()):
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("task", real_results.TASKS)
def test_the_shipped_labels_give_the_shipped_scores(task):
    shelf = records.load(records.SHIPPED, task=task, split="test")
    truth = real_results.truth(task)
    assert shelf and truth is not None
    for one in shelf:
        near = 1e-4
        if one.metric == "spearman":  # a record keeps four digits, which ties nearly equal predictions
            near = 0.05 if len(set(one.predictions)) < 0.1 * len(truth) else 1e-3
        assert evaluation.score(one.metric, one.predictions, truth) == pytest.approx(one.score, abs=near), one.id


def test_labels_that_are_not_shipped(shelf):
    assert real_results.truth("trec") is None

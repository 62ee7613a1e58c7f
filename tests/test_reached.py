"""The page of what pocket models reach is made from records, and the shipped page is up to date."""

import math

from test_real_results import record

from peft_helpers import backbones, records
from peft_helpers.pretraining import reached


def test_gaps_and_shares_are_of_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHIPPED", tmp_path)
    for method, score in (("full", 0.7), ("scratch", 0.55), ("bag of words", 0.5), ("linear probe", 0.6)):
        backbone = "none" if method == "bag of words" else "pocket-bert"
        records.save(record("topic", method, 0, score, backbone, labels=200), tmp_path / "topic")
    assert reached.pocket_tasks().splitlines()[2].endswith("| +15.0 |")
    for method, score in (("full", 0.4), ("PrefixTuning(length=20)", 0.3)):
        made = record("trails", method, 0, score, "pocket-gpt2", labels=50)
        made.settings["scores"] = dict.fromkeys(reached.SCORES, 0.5)
        records.save(made, tmp_path / "trails")
    last = reached.writing().splitlines()[-1]
    assert "PrefixTuning(length=20)" in last and last.endswith("| 75% |")
    assert math.isclose(reached.average(records.load(tmp_path, task="trails", method="full")), 0.4)


def test_bars_are_held_against_the_records_of_both_models(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHIPPED", tmp_path)
    for folder, backbone, method, score in (
        ("sst2", "pocket-bert", "scratch", 0.7),
        ("pretraining", "early-pocket-bert", "full", 0.75),
        ("sst2", "pocket-bert", "full", 0.81),
    ):
        records.save(record("sst2", method, 0, score, backbone, labels=2000), tmp_path / folder)
    rows = [line.split(" | ") for line in reached.growth().splitlines()[2:]]
    assert [row[2] for row in rows] == ["0", "19", "26"] and [row[-1] for row in rows] == ["10.0 |", "5.0 |", "0.0 |"]
    writes = record("trails", "PrefixTuning(length=20)", 0, 0.3, "pocket-gpt2", labels=1500)
    writes.settings["scores"] = dict.fromkeys(reached.SCORES, 0.9)
    records.save(writes, tmp_path / "trails")
    last = reached.growth().splitlines()[-1]
    assert "| 90.0 |" in last and last.endswith("| 5.0 |")


def test_the_shipped_page_shows_the_shipped_records():
    assert reached.section() in (backbones.POCKET / "README.md").read_text("utf-8")

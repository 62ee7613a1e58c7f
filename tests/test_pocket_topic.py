"""The pocket task `topic`: sizes, keys, values, balance, shares of the kinds, and a grammar that rebuilds train."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

import peft_helpers

DATA = Path(peft_helpers.__file__).parent / "pocket" / "data" / "topic"
SIZES = {"train": 1800, "dev": 200, "test": 400}
LABELS = ("nature", "health", "technology", "food", "travel", "money", "sport", "art")
KINDS = {"plain": 0.55, "indirect": 0.25, "distractor": 0.20}
WRITTEN = 600
SHARED_TRIGRAMS = 0.8  # of a text's three-word sequences, found in one text of another split


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def trigrams(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


@pytest.mark.parametrize("split", SIZES)
def test_sizes_keys_and_values(split):
    found = rows(split)
    assert len(found) == SIZES[split]
    for row in found:
        assert list(row) == ["text", "label", "kind"] + ["source"] * (split == "train")
        assert row["label"] in LABELS and row["kind"] in KINDS
        assert row.get("source", "written") in ("written", "grammar")
        assert row["text"].isascii() and row["text"] == " ".join(row["text"].split()), row
        assert 3 <= len(row["text"].split()) <= 30, row


@pytest.mark.parametrize("split", SIZES)
def test_labels_and_kinds_are_balanced(split):
    found = rows(split)
    assert Counter(row["label"] for row in found) == dict.fromkeys(LABELS, SIZES[split] // len(LABELS))
    for label in LABELS:
        kinds = Counter(row["kind"] for row in found if row["label"] == label)
        assert all(abs(kinds[kind] / kinds.total() - share) <= 0.06 for kind, share in KINDS.items()), (label, kinds)


@pytest.mark.parametrize("split", SIZES)
def test_length_does_not_tell_the_label(split):
    found = rows(split)
    assert 8 <= median(len(row["text"].split()) for row in found) <= 17
    lengths = [median(len(row["text"].split()) for row in found if row["label"] == label) for label in LABELS]
    assert max(lengths) - min(lengths) <= 4, dict(zip(LABELS, lengths, strict=True))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_no_opening_returns_often(split):
    openings = Counter(" ".join(words(row["text"])[:4]) for row in rows(split))
    assert [opening for opening, count in openings.items() if count > 2] == []


def test_no_text_occurs_twice():
    seen = Counter(" ".join(words(row["text"])) for split in SIZES for row in rows(split))
    assert [text for text, count in seen.items() if count > 1] == []


@pytest.mark.parametrize(("split", "other"), [("dev", "train"), ("test", "train"), ("test", "dev")])
def test_no_text_is_nearly_one_of_another_split(split, other):
    others = [(row["text"], trigrams(row["text"])) for row in rows(other)]
    close = []
    for row in rows(split):
        triples = trigrams(row["text"])
        close += [
            (row["text"], text) for text, known in others if len(triples & known) >= SHARED_TRIGRAMS * len(triples)
        ]
    assert close == []


def test_the_grammar_rebuilds_train(tmp_path):
    grammar = importlib.import_module("peft_helpers.pocket.grammar.topic")
    shutil.copy(DATA / "train_written.jsonl", tmp_path)
    grammar.build(tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == (DATA / "train.jsonl").read_bytes()
    assert grammar.generate(80, 1) == grammar.generate(80, 1) != grammar.generate(80, 2)


def test_written_items_are_in_train():
    written = rows("train_written")
    assert len(written) == WRITTEN and all(row["source"] == "written" for row in written)
    train = rows("train")
    texts = {row["text"] for row in train if row["source"] == "written"}
    assert texts == {row["text"] for row in written}
    assert Counter(row["label"] for row in written) == dict.fromkeys(LABELS, WRITTEN // len(LABELS))

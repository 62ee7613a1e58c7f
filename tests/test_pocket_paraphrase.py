"""The pocket paraphrase task's files: sizes, keys, balance, kinds, shared words, and train's grammar."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import pytest

import peft_helpers
from peft_helpers.pocket.grammar import paraphrase

DATA = Path(peft_helpers.__file__).parent / "pocket" / "data" / "paraphrase"
SIZES = {"train": 1800, "dev": 200, "test": 400}
KEYS = ["first", "second", "label", "domain", "kind"]
LABELS = {"reworded": "paraphrase", "restructured": "paraphrase", "light": "paraphrase"} | dict.fromkeys(
    ("role", "negated", "detail", "related", "modal"), "different"
)
SHARES = {"reworded": 0.25, "restructured": 0.125, "light": 0.125}  # of all pairs; the others have 0.1 each
DOMAINS = set(paraphrase.DOMAINS)


@cache
def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def overlap(row: dict) -> float:
    first, second = set(words(row["first"])), set(words(row["second"]))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("split", SIZES)
def test_sizes_keys_and_values(split):
    found = rows(split)
    assert len(found) == SIZES[split]
    for row in found:
        assert list(row) == KEYS + (["source"] if split == "train" else [])
        assert row["domain"] in DOMAINS and row["label"] == LABELS[row["kind"]], row
        assert row.get("source", "written") in ("written", "grammar")
        for text in (row["first"], row["second"]):
            assert text.isascii() and text == " ".join(text.split()), row
            assert 4 <= len(words(text)) <= 25, row


@pytest.mark.parametrize("split", SIZES)
def test_labels_kinds_and_domains_are_balanced(split):
    found = rows(split)
    assert Counter(row["label"] for row in found) == {"paraphrase": len(found) // 2, "different": len(found) // 2}
    kinds = Counter(row["kind"] for row in found)
    assert all(abs(kinds[kind] / len(found) - SHARES.get(kind, 0.1)) <= 0.02 for kind in LABELS), kinds
    domains = Counter(row["domain"] for row in found)
    assert set(domains) == DOMAINS and max(domains.values()) <= 1.5 * min(domains.values())
    if split == "train":
        positive = Counter(row["domain"] for row in found if row["label"] == "paraphrase")
        assert all(positive[domain] == domains[domain] / 2 for domain in DOMAINS)


@pytest.mark.parametrize("split", SIZES)
def test_neither_length_nor_shared_words_decide(split):
    shared = {label: [overlap(row) for row in rows(split) if row["label"] == label] for label in set(LABELS.values())}
    higher = mean((a > b) + 0.5 * (a == b) for a in shared["paraphrase"] for b in shared["different"])
    assert 0.3 <= higher <= 0.7, higher
    lengths = {
        label: mean(
            len(words(row["first"])) + len(words(row["second"])) for row in rows(split) if row["label"] == label
        )
        for label in set(LABELS.values())
    }
    assert 0.85 <= lengths["paraphrase"] / lengths["different"] <= 1.18, lengths
    assert 8 <= median(len(words(row[side])) for row in rows(split) for side in ("first", "second")) <= 17


@pytest.mark.parametrize("split", SIZES)
def test_kinds_are_what_they_say(split):
    of_kind = {kind: mean(overlap(row) for row in rows(split) if row["kind"] == kind) for kind in LABELS}
    assert max(of_kind["reworded"], of_kind["related"]) < 0.35, of_kind
    assert min(of_kind["restructured"], of_kind["light"], of_kind["role"]) > 0.45, of_kind


def test_negations_occur_in_both_classes_of_train():
    marks = {"not", "no", "never", "nobody", "none", "nothing", "without", "refused", "could", "should", "may", "would"}
    for source in ("written", "grammar"):
        found = [row for row in rows("train") if row["source"] == source]
        marked = Counter(row["label"] for row in found if marks & set(words(row["first"] + " " + row["second"])))
        assert 0.5 <= marked["paraphrase"] / marked["different"] <= 2, (source, marked)


def test_no_sentence_occurs_twice_in_any_split():
    seen = Counter(" ".join(words(row[side])) for split in SIZES for row in rows(split) for side in ("first", "second"))
    assert [text for text, count in seen.items() if count > 1] == []


def test_the_grammar_rebuilds_train(tmp_path):
    (tmp_path / "train_written.jsonl").write_bytes((DATA / "train_written.jsonl").read_bytes())
    paraphrase.build(tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == (DATA / "train.jsonl").read_bytes()
    made = [row for row in rows("train") if row["source"] == "grammar"]
    assert len(made) == paraphrase.GENERATED and len(rows("train_written")) >= 600
    assert paraphrase.generate(60, seed=1) != paraphrase.generate(60, seed=0)
    sources = [row["source"] for row in rows("train")]
    assert sum(a != b for a, b in pairwise(sources)) > len(sources) / 4


def test_every_situation_has_two_wordings_of_each_meaning():
    for situation in paraphrase.SITUATIONS:
        assert len(situation.meanings) in (1, 3), situation
        assert all(len(set(wordings)) >= 2 for wordings in situation.meanings.values()), situation


def test_the_data_card_has_the_counts():
    card = (DATA / "README.md").read_text(encoding="utf-8")
    for split, size in SIZES.items():
        assert re.search(rf"`{split}\.jsonl` \| {size:,} \|", card)
    for kind, count in Counter(row["kind"] for row in rows("train")).items():
        assert re.search(rf"\| `{kind}` \| {LABELS[kind]} \| .* \| {count} \|", card), kind
    assert f"{len(rows('train_written'))} written train pairs" in card
    assert f"{len(paraphrase.SITUATIONS)} situations" in card

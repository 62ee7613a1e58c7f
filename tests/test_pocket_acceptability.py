"""The pocket acceptability task's files: sizes, keys, values, balance in every kind, and the grammar behind train."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import mean, median

import pytest

import peft_helpers
from peft_helpers.pocket.grammar import acceptability as grammar

DATA = Path(peft_helpers.__file__).parent / "pocket" / "data" / "acceptability"
SIZES = {"train": 1800, "train_written": 600, "dev": 200, "test": 400}
SPLITS = ("train", "dev", "test")
KEYS = ["text", "label", "domain", "kind"]
LABELS = {"unacceptable", "acceptable"}
KINDS = {"agreement", "verb_form", "word_order", "missing", "pronoun", "argument"}
DOMAINS = set(
    re.findall(
        r"\w+",
        """
        film food train tool book hotel music phone garden clinic software sport clothes school neighborhood theater
        game car museum office
        """,
    )
)


@cache
def rows(split: str) -> list[dict]:
    path = DATA / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:['-][a-z]+)*", text.lower())


@pytest.mark.parametrize("split", SIZES)
def test_sizes_keys_and_values(split):
    found = rows(split)
    assert len(found) == SIZES[split]
    for row in found:
        assert list(row) == KEYS + (["source"] if split.startswith("train") else [])
        assert row["label"] in LABELS and row["domain"] in DOMAINS and row["kind"] in KINDS
        assert row.get("source", "written") in ("written", "grammar")
        text = row["text"]
        assert text.isascii() and text == " ".join(text.split()) and text[-1] in ".?!", row
        assert text[0].isupper() and 4 <= len(words(text)) <= 25, row


def test_no_text_occurs_twice():
    seen = Counter(" ".join(words(row["text"])) for split in SPLITS for row in rows(split))
    assert [text for text, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("split", SIZES)
def test_the_classes_are_balanced_in_every_kind_and_domain(split):
    found = rows(split)
    assert Counter(row["label"] for row in found) == dict.fromkeys(LABELS, len(found) // 2)
    for field, names in (("kind", KINDS), ("domain", DOMAINS)):
        sizes = Counter(row[field] for row in found)
        acceptable = Counter(row[field] for row in found if row["label"] == "acceptable")
        assert set(sizes) == names
        assert all(0.3 <= acceptable[name] / sizes[name] <= 0.7 for name in names), (sizes, acceptable)
        shares = [size * len(names) / len(found) for size in sizes.values()]
        assert min(shares) >= 0.7 and max(shares) <= 1.3, sizes
    kinds = Counter((row["kind"], row["label"]) for row in found)
    assert all(abs(kinds[kind, "acceptable"] - kinds[kind, "unacceptable"]) <= 0.03 * len(found) for kind in KINDS)


@pytest.mark.parametrize("split", SPLITS)
def test_length_does_not_tell_the_classes_apart(split):
    lengths = {label: [len(words(row["text"])) for row in rows(split) if row["label"] == label] for label in LABELS}
    assert abs(mean(lengths["acceptable"]) - mean(lengths["unacceptable"])) <= 1.0
    assert all(8 <= median(found) <= 17 and max(found) >= 15 for found in lengths.values())


def test_train_is_the_written_and_the_generated_items_shuffled():
    assert all(row["source"] == "written" for row in rows("train_written"))
    made = rows("train_written") + grammar.generate(grammar.GENERATED, grammar.SEED)
    random.Random(grammar.SEED).shuffle(made)
    assert rows("train") == made
    assert grammar.generate(60, seed=1) != grammar.generate(60, seed=0)


def test_build_writes_the_train_file_again(tmp_path):
    written = (DATA / "train_written.jsonl").read_bytes()
    (tmp_path / "train_written.jsonl").write_bytes(written)
    assert len(grammar.build(tmp_path)) == SIZES["train"]
    assert (tmp_path / "train.jsonl").read_bytes() == (DATA / "train.jsonl").read_bytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_frame_has_one_bracket_with_a_right_and_a_wrong_side(kind):
    for frame in grammar.FRAMES[kind].strip().splitlines():
        (bracket,) = re.findall(r"\[(.*?)\]", frame)
        right, wrong = bracket.split("|")
        assert not set(right.split("/")) & set(wrong.split("/")), frame


def test_the_data_card_names_sizes_columns_and_license():
    card = (DATA / "README.md").read_text(encoding="utf-8")
    for split in SPLITS:
        assert re.search(rf"`{split}\.jsonl` *\| *{SIZES[split]:,}\b", card)
    assert all(f"`{key}`" in card for key in {*KEYS, *KINDS, *LABELS, "source"})
    assert "Apache-2.0" in card and "## Limits" in card
    assert re.search(r"\| majority class \| 0\.0 \| 0\.0 \|", card)
    assert re.search(r"\| bag of words \| -?[\d.]+ \| -?[\d.]+ \|", card)

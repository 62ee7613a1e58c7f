"""The pocket task trails: sizes, slots, values, names known to one split only, references that say what is given."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

import peft_helpers
from peft_helpers.pocket.grammar import trails as grammar

DATA = Path(peft_helpers.__file__).parent / "pocket" / "data" / "trails"
SIZES = {"train": 1500, "dev": 150, "test": 150}
SLOTS = ("name", "length", "climb", "level", "surface", "start", "sight", "season", "dogs", "shape")
VALUES = {
    "length": {f"{miles} miles" for miles in range(2, 19)},
    "climb": {"flat", "gentle", "steep"},
    "level": {"easy", "moderate", "hard"},
    "surface": {"gravel", "dirt", "rock", "boardwalk", "sand"},
    "season": {"spring", "summer", "fall", "winter"},
    "dogs": {"yes", "no"},
    "shape": {"loop", "out and back", "one way"},
}
WORDED = ("climb", "level", "surface", "season", "dogs", "shape")  # the slots of wordings.json


@cache
def rows(split: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def wordings() -> dict[str, dict[str, set[str]]]:
    """Slot to value to phrases, from both files."""
    merged = {slot: {value: set() for value in VALUES[slot]} for slot in WORDED}
    for name in ("wordings.json", "wordings_train.json"):
        for slot, values in json.loads((DATA / name).read_text(encoding="utf-8")).items():
            for value, phrases in values.items():
                merged[slot][value] |= set(phrases)
    return merged


@cache
def phrase_pattern(slot: str) -> re.Pattern:
    """Finds the phrases of a slot, the longest first, at word boundaries."""
    phrases = {phrase for found in wordings()[slot].values() for phrase in found}
    ordered = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, ordered)) + r")(?!\w)")


def bare(value: str) -> str:
    """A start or sight without its article."""
    return re.sub(r"^(the|an|a) ", "", value.lower())


def without_names(meaning: dict, text: str) -> str:
    """The text in lower case, less the trail's name, start and sight, whose words say nothing of other slots."""
    for slot in ("name", "start", "sight"):
        if slot in meaning:
            text = re.sub(re.escape(bare(meaning[slot])), "#", text.lower())
    return text.lower()


def said(text: str, slot: str) -> set[str]:
    """The values of a slot that a text says, among the worded slots."""
    found = set(phrase_pattern(slot).findall(text))
    return {value for value, phrases in wordings()[slot].items() if phrases & found}


def missing(meaning: dict, text: str) -> list[str]:
    """The given slots that a text does not say."""
    lost = [slot for slot in ("start", "sight") if slot in meaning and bare(meaning[slot]) not in text.lower()]
    if meaning["name"] not in text:
        lost.append("name")
    plain = without_names(meaning, text)
    if "length" in meaning:
        number = meaning["length"].split()[0]
        if not re.search(rf"\b{number}[ -]miles?\b", plain):
            lost.append("length")
    return lost + [slot for slot in WORDED if slot in meaning and meaning[slot] not in said(plain, slot)]


@pytest.mark.parametrize("split", SIZES)
def test_sizes_keys_and_values(split):
    assert len(rows(split)) == SIZES[split]
    for row in rows(split):
        assert list(row) == ["meaning", "references"] + (["source"] if split == "train" else []), row
        assert row.get("source", "written") in ("written", "grammar")
        meaning = row["meaning"]
        assert "name" in meaning and 3 <= len(meaning) <= 7, row
        assert list(meaning) == [slot for slot in SLOTS if slot in meaning], row
        assert all(meaning[slot] in VALUES[slot] for slot in VALUES if slot in meaning), row
        assert all(1 <= len(meaning[s].split()) <= 4 for s in ("name", "start", "sight") if s in meaning), row


@pytest.mark.parametrize("split", SIZES)
def test_references_are_clean_and_of_the_right_length(split):
    lengths = []
    for row in rows(split):
        assert len(row["references"]) == 1 if split == "train" else len(row["references"]) >= 2, row
        for text in row["references"]:
            assert text.isascii() and text == " ".join(text.split()), text
            assert text[-1] in '.!?"', text
            lengths.append(len(text.split()))
    assert min(lengths) >= 8 and max(lengths) <= 45
    assert 12 <= median(lengths) <= 25 and len(set(lengths)) >= 15


@pytest.mark.parametrize("split", SIZES)
def test_sizes_slots_and_values_are_balanced(split):
    meanings = [row["meaning"] for row in rows(split)]
    sizes = Counter(map(len, meanings))
    assert all(0.15 <= sizes[size] / len(meanings) <= 0.25 for size in range(3, 8)), sizes
    used = Counter(slot for meaning in meanings for slot in meaning)
    assert all(used[slot] >= 0.25 * len(meanings) for slot in SLOTS), used
    for slot in WORDED:
        values = Counter(meaning[slot] for meaning in meanings if slot in meaning)
        assert set(values) == VALUES[slot]
        assert min(values.values()) >= 0.5 * used[slot] / len(VALUES[slot]), values


def test_names_are_unique_and_no_split_knows_those_of_another():
    names = {split: [row["meaning"]["name"].lower() for row in rows(split)] for split in SIZES}
    assert all(len(set(found)) == len(found) for found in names.values())
    for split, other in (("dev", "train"), ("test", "train"), ("test", "dev")):
        assert set(names[split]) & set(names[other]) == set()


def test_no_reference_occurs_twice():
    seen = Counter(text.lower() for split in SIZES for row in rows(split) for text in row["references"])
    assert [text for text, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("split", SIZES)
def test_every_reference_says_every_given_slot(split):
    lost = [
        (slots, text) for row in rows(split) for text in row["references"] if (slots := missing(row["meaning"], text))
    ]
    assert lost == []


@pytest.mark.parametrize("split", SIZES)
def test_references_say_nothing_else(split):
    for meaning, text in ((row["meaning"], text) for row in rows(split) for text in row["references"]):
        plain = without_names(meaning, text)
        assert set(re.findall(r"\d+", plain)) == set(re.findall(r"\d+", meaning.get("length", ""))), text
        for slot in WORDED:
            assert said(plain, slot) == ({meaning[slot]} if slot in meaning else set()), (slot, text)


def test_no_phrase_stands_for_two_values():
    for slot, values in wordings().items():
        assert all(values.values())
        shared = [
            phrase for phrase, count in Counter(p for found in values.values() for p in found).items() if count > 1
        ]
        assert shared == [], slot
        assert all(p == " ".join(p.lower().split()) and p.isascii() for found in values.values() for p in found)


def test_written_items_vary():
    written = rows("train_written")
    assert len(written) >= 300
    starts = Counter(tuple(row["references"][0].lower().split()[:4]) for row in written)
    assert max(starts.values()) <= 3, starts.most_common(3)


def test_the_grammar_makes_its_part_of_train_again():
    def key(row: dict) -> str:
        return json.dumps(row)

    made = [row for row in rows("train") if row["source"] == "grammar"]
    written = [row for row in rows("train") if row["source"] == "written"]
    assert sorted(grammar.generate(grammar.GENERATED, grammar.SEED), key=key) == sorted(made, key=key)
    assert sorted(rows("train_written"), key=key) == sorted(written, key=key)
    assert grammar.generate(60, seed=1) != grammar.generate(60, seed=0)
    assert len(grammar.FRAMES) == len(set(grammar.FRAMES)) >= 40
    sources = [row["source"] for row in rows("train")]
    assert sum(a != b for a, b in pairwise(sources)) > len(sources) / 5


def test_the_data_card_names_sizes_columns_slots_and_license():
    card = (DATA / "README.md").read_text(encoding="utf-8")
    for split, size in SIZES.items():
        assert re.search(rf"`{split}\.jsonl` *\| *{size:,}\b", card), split
    assert all(f"`{key}`" in card for key in (*SLOTS, "meaning", "references", "source"))
    assert "Apache-2.0" in card and "## Limits" in card
    assert re.search(r"\| template \(`meaning.recite`\) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", card)

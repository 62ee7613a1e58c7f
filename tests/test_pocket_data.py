"""The pocket tasks' files: sizes, keys, labels, balance, no leaks between splits, and words that only test knows."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import pytest
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

import peft_helpers
from peft_helpers import baselines, evaluation, tasks

DATA = Path(peft_helpers.__file__).parent / "pocket" / "data"
NAMES = ("sentiment", "similarity")
SIZES = {"train": (1000, 3000), "dev": (200, 200), "test": (400, 400)}
TEXTS = {"sentiment": ("text",), "similarity": ("first", "second")}
KEYS = {"sentiment": {"text", "label", "domain", "kind"}, "similarity": {"first", "second", "score", "domain", "kind"}}
KINDS = {
    "sentiment": {"plain", "negation", "contrast", "irony", "implied"},
    "similarity": {"paraphrase", "edit", "role", "negated", "number", "detail", "topic", "unrelated"},
}
DOMAINS = set(
    re.findall(
        r"\w+",
        """
        film food train tool book hotel music phone garden clinic software sport clothes school neighborhood theater
        game car museum office
        """,
    )
)
SHARED_TRIGRAMS = 0.8  # of a text's three-word sequences, found in one text of another split

# Words that decide verdicts in the sentiment test set, picked by reading it; used to see how many train never shows.
DECIDING = set(
    re.findall(
        r"\w+",
        """
        grindy soulless patronizing muddled enthralled grimy ravishing cringeworthy godsend smug mush
        painless nastiness reeks shrill comfiest tinny flaky slick mumbled crooks overpriced stuffy shabby
        curt leafy walkable neighborly triumphant stench gentle unhurried disgraceful dependable sparkling
        clunky joyless chaos shameful cynical rehash grateful shivered wonder turgid inventive playful limp
        moldy stellar itchy gorgeous hideous extraordinary blisters pointless unforgivable rudely stingy
        petty scratchy crooked junk scenic leisurely irritating bored forgettable fluff highlight loveliest
        smitten heroes sublime lemon serene thankful dispiriting treasure warmest safest sedative rude
        superb kinder phenomenal cringed effortless wickedly replayable marvel con addictive bargain
        appalled tender sly delight thriving heartfelt sluggish paperweight juiciest generous kudos cheerful
        moreish silky delicious humiliating terrific gem radiant wonders sagged poise astonishing filthy
        lifeless giddy dingy dreary worst considerate blissful bliss polished goosebumps nimble witty
        oddities invigorating shambles flimsy unfailingly dud amateurish plodding dismal neglected botched
        unfair excruciating mannered infuriating flattering breathtaking migraine pitiful wretched droning
        nuisance keeper nightmare dangerous finest luminous tedious hazard snappy unspeakably bitterly
        feeble insolent heartless shapeless marvelously captivated satisfying fantastic joyful infuriatingly
        fabulous heavenly elegant unapologetic uplifting sensational dreadful nasty absurd fortunate
        outstanding horrible flourishing appallingly useless heroic inattentive joyous affecting pretentious
        irritatingly inaccurate shoddy unsafe pleasant miserable disaster
        """,
    )
)


@cache
def rows(name: str, split: str) -> list[dict]:
    path = DATA / name / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def texts(name: str, split: str) -> list[str]:
    return [row[column] for row in rows(name, split) for column in TEXTS[name]]


def content_words(text: str) -> set[str]:
    return {word for word in words(text) if word.isalpha() and len(word) > 2} - ENGLISH_STOP_WORDS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SIZES)
def test_sizes_keys_and_values(name, split):
    found = rows(name, split)
    assert SIZES[split][0] <= len(found) <= SIZES[split][1]
    for row in found:
        assert set(row) == KEYS[name] | ({"source"} if split == "train" else set())
        assert row["domain"] in DOMAINS and row["kind"] in KINDS[name]
        assert row.get("source", "written") in ("written", "grammar")
        for column in TEXTS[name]:
            assert row[column].isascii() and row[column] == " ".join(row[column].split()) != "", row
        if name == "sentiment":
            assert row["label"] in ("negative", "positive")
        else:
            assert row["score"] * 2 in range(11), row


@pytest.mark.parametrize("name", NAMES)
def test_no_text_occurs_twice_in_any_split(name):
    seen = Counter(" ".join(words(text)) for split in SIZES for text in texts(name, split))
    assert [text for text, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("split", "other"), [("dev", "train"), ("test", "train"), ("test", "dev")])
def test_no_text_is_nearly_one_of_another_split(name, split, other):
    """Fewer than 80 % of a held-out text's three-word sequences stand in any one text of the other split."""
    where: dict[tuple, set[int]] = {}
    for i, text in enumerate(texts(name, other)):
        for triple in trigrams(text):
            where.setdefault(triple, set()).add(i)
    close = []
    for text in texts(name, split):
        triples = trigrams(text)
        shared = Counter(i for triple in triples for i in where.get(triple, ()))
        if shared and shared.most_common(1)[0][1] >= SHARED_TRIGRAMS * len(triples):
            close.append((text, texts(name, other)[shared.most_common(1)[0][0]]))
    assert close == []


def trigrams(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


@pytest.mark.parametrize("split", SIZES)
def test_sentiment_is_balanced_in_every_split_domain_and_kind(split):
    found = rows("sentiment", split)
    assert Counter(row["label"] for row in found) == {"negative": len(found) // 2, "positive": len(found) // 2}
    for field, names in (("domain", DOMAINS), ("kind", KINDS["sentiment"])):
        sizes = Counter(row[field] for row in found)
        positive = Counter(row[field] for row in found if row["label"] == "positive")
        assert set(sizes) == names
        assert all(0.25 <= positive[name] / sizes[name] <= 0.75 for name in names), (sizes, positive)
    shares = Counter(row["kind"] for row in found)
    expected = {"plain": 0.72, "negation": 0.10, "contrast": 0.08, "irony": 0.03, "implied": 0.07}
    assert all(abs(shares[kind] / len(found) - share) <= 0.02 for kind, share in expected.items()), shares


@pytest.mark.parametrize("split", SIZES)
def test_similarity_scores_spread_over_the_range(split):
    found = rows("similarity", split)
    bins = Counter(int(row["score"]) for row in found)  # [0, 0.5], [1, 1.5], … [5]
    assert all(0.10 <= bins[i] / len(found) <= 0.24 for i in range(6)), bins
    assert {row["domain"] for row in found} == DOMAINS and {row["kind"] for row in found} == KINDS["similarity"]
    assert all(row["score"] <= 0.5 for row in found if row["kind"] == "unrelated")
    assert all(row["score"] >= 3 for row in found if row["kind"] == "paraphrase")


@pytest.mark.parametrize("split", SIZES)
def test_lengths_vary(split):
    lengths = [len(words(text)) for text in texts("sentiment", split)]
    assert 8 <= median(lengths) <= 17 and min(lengths) < 6
    assert max(lengths) > 28 and max(lengths) <= 50
    if split != "train":  # the grammar's sentences are of middle length
        assert sum(n < 6 for n in lengths) >= 0.04 * len(lengths) and sum(n > 28 for n in lengths) >= 0.04 * len(
            lengths
        )
    pairs = [len(words(text)) for text in texts("similarity", split)]
    assert min(pairs) >= 3 and max(pairs) <= 30 and len(set(pairs)) >= 10


@pytest.mark.parametrize("split", ["dev", "test"])
def test_held_out_texts_share_no_frame(split):
    starts = Counter(tuple(words(text)[:4]) for text in texts("sentiment", split))
    assert max(starts.values()) <= 2, starts.most_common(3)


def test_plain_words_of_praise_do_not_carry_the_sentiment_task():
    plain = {"good", "bad", "great", "terrible", "love", "hate", "loved", "hated", "loves", "hates"}
    for split in ("dev", "test"):
        assert sum(bool(plain & set(words(text))) for text in texts("sentiment", split)) <= 0.08 * len(
            rows("sentiment", split)
        )


def test_test_needs_words_that_train_does_not_have():
    """So that pretraining matters: the words of test, and of its verdicts, are in part unseen in train."""
    known = {word for text in texts("sentiment", "train") for word in words(text)}
    test = texts("sentiment", "test")
    with_unseen = sum(bool(content_words(text) - known) for text in test) / len(test)
    assert with_unseen >= 0.30, with_unseen
    used = DECIDING & {word for text in test for word in words(text)}
    assert len(used) >= 0.9 * len(DECIDING), f"test was rewritten; no longer in it: {sorted(DECIDING - used)}"
    unseen = len(used - known) / len(used)
    assert unseen >= 0.25, unseen


def test_word_overlap_is_an_honest_but_mediocre_predictor():

    found = rows("similarity", "test")
    overlap = []
    for row in found:
        first, second = set(words(row["first"])), set(words(row["second"]))
        overlap.append(len(first & second) / len(first | second))
    assert 0.15 <= evaluation.spearman(overlap, [row["score"] for row in found]) <= 0.75


@pytest.mark.parametrize("name", NAMES)
def test_the_grammar_makes_its_part_of_train_again(name):
    grammar = importlib.import_module(f"peft_helpers.pocket.grammar.{name}")
    made = [row for row in rows(name, "train") if row["source"] == "grammar"]
    written = [row for row in rows(name, "train") if row["source"] == "written"]

    def key(row: dict) -> str:
        return json.dumps(row, sort_keys=True)

    assert sorted(grammar.generate(len(made), seed=0), key=key) == sorted(made, key=key)
    assert sorted(rows(name, "train_written"), key=key) == sorted(written, key=key)
    assert grammar.generate(60, seed=1) != grammar.generate(60, seed=0)
    assert len(written) >= 500


@pytest.mark.parametrize("name", NAMES)
def test_train_is_shuffled(name):
    sources = [row["source"] for row in rows(name, "train")]
    changes = sum(a != b for a, b in pairwise(sources))
    assert changes > len(sources) / 4


@pytest.mark.parametrize("name", NAMES)
def test_the_data_card_names_sizes_columns_and_license(name):
    card = (DATA / name / "README.md").read_text(encoding="utf-8")
    for split in SIZES:
        size = len(rows(name, split))
        assert re.search(rf"`{split}\.jsonl` *\| *{size:,}\b", card), (
            f"the card does not say that {split} has {size:,} rows"
        )
    assert all(f"`{key}`" in card for key in KEYS[name] | KINDS[name])
    assert "Apache-2.0" in card and "## Limits" in card


@pytest.mark.parametrize("name", (*NAMES, "topic", "acceptability", "paraphrase"))
def test_the_data_card_publishes_what_a_bag_of_words_reaches(name):
    card = (DATA / name / "README.md").read_text(encoding="utf-8")
    task = tasks.load(name)
    few = mean(baselines.bag_of_words(task, 200, seed).score for seed in range(3))
    line = re.search(r"\| bag of words \| (-?[\d.]+) \| (-?[\d.]+) \|", card)
    published = [float(figure) for figure in line.groups()]
    assert published == pytest.approx([100 * few, 100 * baselines.bag_of_words(task).score], abs=0.3)

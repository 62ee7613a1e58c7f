"""Merges and cuts of lesson 04 against the `tokenizers` library."""

from __future__ import annotations

from collections import Counter

import pytest
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer

from peft_helpers import backbones, subwords, tasks

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def corpus() -> Counter:
    """The words of a pocket task, lower case, letters only."""
    texts = tasks.load("sentiment").splits["dev"]["text"]
    return Counter(word for text in texts for word in text.lower().split() if word.isalpha())


def test_merges_by_hand():
    assert subwords.learn_merges({"ananas": 5, "can": 1, "sea": 6, "tea": 1}, 2) == [("a", "n"), ("e", "a")]
    assert subwords.learn_merges({"ab": 3}, 10) == [("a", "b")], "where nothing is left to merge, it stops"
    assert subwords.learn_merges(WORDS, 0) == []
    by_likelihood = subwords.learn_merges({"ab": 9, "ac": 9, "xy": 2}, 1, wordpiece=True)
    assert by_likelihood == [("x", "y")], "x and y never occur apart"


def test_merging_walks_from_the_left():
    assert subwords.merge_pair("aaab", ("a", "a")) == ("aa", "a", "b")
    assert subwords.merge_pair(("ca", "b", "a", "b"), ("a", "b")) == ("ca", "b", "ab")
    assert subwords.merge_pair((), ("a", "b")) == ()


def test_training_takes_as_common_pairs_as_the_library():
    """Of equally common pairs the library takes another one, so counts are compared, step by step."""
    words = corpus()
    made = Tokenizer(models.BPE())
    made.train_from_iterator(
        [word for word, count in words.items() for _ in range(count)],
        trainers.BpeTrainer(vocab_size=len({a for word in words for a in word}) + 60, show_progress=False),
    )
    gains = []
    for merges in (subwords.learn_merges(words, 60), [tuple(pair) for pair in eval_merges(made)]):
        split, gained = {tuple(word): count for word, count in words.items()}, []
        for pair in merges[:20]:
            gained.append(subwords.count_pairs(split)[pair])
            split = {subwords.merge_pair(symbols, pair): count for symbols, count in split.items()}
        gains.append(gained)
    assert gains[0][:8] == gains[1][:8]


def eval_merges(tokenizer: Tokenizer) -> list[list[str]]:
    """The library's merges, as its JSON holds them."""
    import json

    return [
        pair if isinstance(pair, list) else pair.split(" ")
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]


def test_cuts_equal_the_library():
    words = corpus()
    merges = subwords.learn_merges(words, 150)
    symbols = [*dict.fromkeys(a for word in words for a in word), *dict.fromkeys(a + b for a, b in merges)]
    theirs = models.BPE({symbol: i for i, symbol in enumerate(symbols)}, merges)
    for word in words:
        assert subwords.bpe(word, merges) == [token.value for token in theirs.tokenize(word)]


def test_wordpiece_equals_the_shipped_tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(backbones.find("pocket-bert"))
    vocabulary = tokenizer.get_vocab()
    for word in corpus():
        assert subwords.wordpiece(word, vocabulary) == tokenizer.tokenize(word)


def test_wordpiece_without_a_fitting_piece_is_unknown():
    assert subwords.wordpiece("playing", {"play", "##ing", "##i"}) == ["play", "##ing"]
    assert subwords.wordpiece("playx", {"play"}) == ["[UNK]"]
    assert subwords.wordpiece("", {"a"}) == []


@pytest.mark.parametrize("wrong", [({}, 3), ({"": 2}, 3), ({"a": 0}, 3), ({"a": 1}, -1)])
def test_nothing_to_learn_from_is_refused(wrong):
    with pytest.raises(ValueError, match="merges are learned from words"):
        subwords.learn_merges(*wrong)

"""BLEU and ROUGE-L from scratch against sacreBLEU and rouge-score."""

from __future__ import annotations

import random

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from peft_helpers import generation_metrics, overlap, tasks

ODD = [
    "A 7-mile walk, $3.50 (or 1,200 steps) -- isn't it?",
    "'Quoted' and \"quoted\": yes/no; a.b,c 3.5-4 end.",
    "U.S. trails [steep] {sandy} ~ten% #1 @home *star* ^up_ `tick` |bar|",
    "one",
    "Ends with a number 12.",
]


@pytest.mark.parametrize("text", ODD)
def test_tokens_equal_sacrebleus(text):
    assert overlap.split_13a(text) == Tokenizer13a()(text).split()


def made_up(seed: int, texts: int = 12) -> tuple[list[str], list[list[str]]]:
    """Real references, and texts that are damaged copies of them."""
    draw = random.Random(seed)
    references = draw.sample(list(tasks.load("trails").splits["test"]["label"]), texts)
    made = []
    for its in references:
        words = [word for word in draw.choice(its).split() if draw.random() < 0.8]
        draw.shuffle(words[: len(words) // 3])
        made.append(" ".join(words) or "nothing")
    return made, references


@pytest.mark.parametrize("seed", range(6))
def test_bleu_and_rouge_equal_the_libraries(seed):
    texts, references = made_up(seed)
    assert overlap.bleu(texts, references) == pytest.approx(generation_metrics.bleu(texts, references), abs=1e-9)
    scorer = RougeScorer(["rougeL"])
    theirs = [
        max(scorer.score(each, text)["rougeL"].fmeasure for each in its)
        for text, its in zip(texts, references, strict=True)
    ]
    assert overlap.rouge_l(texts, references) == pytest.approx(sum(theirs) / len(theirs), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("the the the the the", ["the cat is on the mat"]),  # counts are clipped
        ("a b c d e f", ["a b c d e f g h i j"]),  # too short
        ("a b x d e y g", ["a b c d e f g"]),  # no common 4-gram: smoothed
        ("x y z u v", ["a b c d e"]),  # nothing in common
        ("one two three", ["one two three"]),  # no 4-gram at all
        ("a b c d e", ["a b c d e x", "a b c d"]),  # two references equally close
    ],
)
def test_edges_of_bleu_equal_sacrebleus(text, references):
    columns = [[each] for each in references]
    assert overlap.bleu([text], [references]) == pytest.approx(
        sacrebleu.corpus_bleu([text], columns).score / 100, abs=1e-9
    )


def test_rouge_of_nothing_is_zero():
    assert overlap.rouge_l(["", "a"], [["a b"], ["!"]]) == 0.0


def test_longest_common_subsequence():
    assert overlap.longest_common("abcbdab", "bdcaba") == 4
    assert overlap.longest_common([], ["a"]) == overlap.longest_common(["a"], []) == 0
    assert overlap.longest_common("abc", "abc") == 3


@pytest.mark.parametrize("metric", [overlap.bleu, overlap.rouge_l])
def test_texts_and_references_must_fit(metric):
    with pytest.raises(ValueError, match="list of strings"):
        metric("text", [["a"]])
    with pytest.raises(ValueError, match="2 lists for 1 texts"):
        metric(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="at least one reference"):
        metric(["a"], [[]])

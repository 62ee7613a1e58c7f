"""How much a text shares with its references, from scratch: BLEU and ROUGE-L. What lesson 09 builds.

`generation_metrics` has both from libraries. BLEU agrees with sacreBLEU's. ROUGE-L agrees with rouge-score's without
stemming; `generation_metrics.rouge_l` stems, so that "walks" equals "walk" there and not here (see the tests).

Sources: BLEU, Papineni et al. 2002, https://aclanthology.org/P02-1040/; its tokenizer and smoothing, arXiv:1804.08771;
ROUGE-L, Lin 2004, https://aclanthology.org/W04-1013/.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence


def split_13a(text: str) -> list[str]:
    """Words and punctuation apart, as mteval-v13a, sacreBLEU's default, does it.

    Capitals stay.

    >>> split_13a("A 7-mile walk, $3.50.")
    ['A', '7', '-', 'mile', 'walk', ',', '$', '3.50', '.']
    """
    text = re.sub(r"([!-&(-+:-@/\[-`{-~])", r" \1 ", f" {text} ")  # all but ' , - .
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)  # a point or comma stays only between two digits
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Every n tokens that stand side by side, and how often."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]], longest: int = 4) -> float:
    """Corpus BLEU, 0 to 1: the geometric mean of four precisions, times a penalty for being short.

    An n-gram counts as often as the reference that has it most often; so repeating a good word earns nothing. Counts
    are added up over all texts before anything is divided. Precisions of 0 become 1/2, 1/4 … of a match (sacreBLEU's
    smoothing "exp").

    Args:
        texts: N generated texts.
        references: for each, one or more.
        longest: n-grams of 1 … `longest` tokens.

    Raises:
        ValueError: unequal numbers of texts and references, none, or a text without reference.
    """
    require_references(texts, references)
    matched, total, length, wanted = [0] * longest, [0] * longest, 0, 0
    for text, its in zip(texts, references, strict=True):
        tokens, rows = split_13a(text), [split_13a(reference) for reference in its]
        length += len(tokens)
        wanted += min((abs(len(row) - len(tokens)), len(row)) for row in rows)[1]  # the closest reference's length
        for n in range(1, longest + 1):
            made, allowed = ngrams(tokens, n), Counter()
            for row in rows:
                allowed |= ngrams(row, n)  # the larger count
            matched[n - 1] += (made & allowed).total()  # the smaller count
            total[n - 1] += made.total()
    if not all(total):
        return 0.0
    zeros = iter(range(1, longest + 1))
    precisions = [(m or 0.5 ** next(zeros)) / t for m, t in zip(matched, total, strict=True)]
    brevity = min(1.0, math.exp(1 - wanted / length))
    return brevity * math.exp(sum(map(math.log, precisions)) / longest) if any(matched) else 0.0


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence: the same order, gaps allowed.

    >>> longest_common("the dog sees a cat".split(), "the cat sees the dog".split())
    2
    """
    row = [0] * (len(b) + 1)
    for x in a:
        before, row = row, [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


def rouge_l(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L, 0 to 1: F1 of the longest common subsequence with the best reference.

    Words are letters and digits in lower case, not stemmed. Arguments and errors as for `bleu`.
    """
    require_references(texts, references)
    best = []
    for text, its in zip(texts, references, strict=True):
        words, *rows = (re.findall(r"[a-z0-9]+", each.lower()) for each in (text, *its))
        best.append(max(2 * longest_common(words, row) / max(1, len(words) + len(row)) for row in rows))
    return sum(best) / len(best)


def require_references(texts: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Refuse texts and references that do not fit together."""
    if isinstance(texts, str) or any(isinstance(each, str) for each in references):
        raise ValueError("texts is a list of strings, references a list of lists of strings (one list a text)")
    if len(texts) != len(references) or not len(texts):
        raise ValueError(f"one list of references a text is wanted; got {len(references)} lists for {len(texts)} texts")
    if not all(len(each) for each in references):
        raise ValueError("each text needs at least one reference")

"""Words into pieces, from scratch: what lesson 04 builds.

Byte-pair encoding (arXiv:1508.07909) learns merges from counts and applies them in the order learned; WordPiece
(arXiv:1609.08144) chooses its merges by another score, and cuts a word by the longest piece that fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[str, str]


def merge_pair(symbols: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """Every occurrence of the pair becomes one symbol, from left to right.

    >>> merge_pair("aaab", ("a", "a"))
    ('aa', 'a', 'b')
    """
    merged, at = [], 0
    while at < len(symbols):
        found = tuple(symbols[at : at + 2]) == tuple(pair)
        merged.append(pair[0] + pair[1] if found else symbols[at])
        at += 2 if found else 1
    return tuple(merged)


def count_pairs(words: Mapping[tuple[str, ...], int]) -> Counter[Pair]:
    """How often every two symbols stand side by side inside a word; a word's pairs count as often as the word.

    >>> count_pairs({("a", "b", "a", "b"): 3})[("a", "b")]
    6
    """
    pairs = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += count
    return pairs


def learn_merges(words: Mapping[str, int], merges: int, wordpiece: bool = False) -> list[Pair]:
    """The merges that byte-pair encoding learns from words and how often they occur; it stops where nothing is left.

    Args:
        words: word -> count.
        merges: how many to learn.
        wordpiece: choose by count(ab) / (count(a) count(b)), the gain in likelihood, instead of count(ab). Of equals,
            the alphabetically last pair is taken.

    Raises:
        ValueError: no words, an empty word, a count below 1, or a negative number of merges.
    """
    require_words(words, merges)
    split, learned = {tuple(word): count for word, count in words.items()}, []
    while len(learned) < merges and (pairs := count_pairs(split)):
        single = Counter(symbol for symbols, count in split.items() for symbol in symbols * count)
        gain = {(a, b): n / (single[a] * single[b]) if wordpiece else n for (a, b), n in pairs.items()}
        best = max(gain, key=lambda pair: (gain[pair], pair))
        split = {merge_pair(symbols, best): count for symbols, count in split.items()}
        learned.append(best)
    return learned


def bpe(word: str, merges: Sequence[Pair]) -> list[str]:
    """Cut a word: of the pairs that it has, merge the one learned first, until none is left."""
    symbols, ranks = tuple(word), {pair: rank for rank, pair in enumerate(merges)}
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = merge_pair(symbols, min(known, key=ranks.get))
    return list(symbols)


def wordpiece(word: str, vocabulary: Iterable[str], unknown: str = "[UNK]") -> list[str]:
    """Cut a word: the longest piece that the vocabulary has, from the left; pieces inside a word begin with ##.

    A word with a part that no piece fits is unknown as a whole.

    >>> wordpiece("playing", {"play", "##i", "##ing"})
    ['play', '##ing']
    """
    pieces, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        tried = (("##" if start else "") + word[start:end] for end in ends)
        piece = next((piece for piece in tried if piece in vocabulary), None)
        if piece is None:
            return [unknown]
        pieces.append(piece)
        start += len(piece) - (2 if start else 0)
    return pieces


def require_words(words: Mapping[str, int], merges: int) -> None:
    """Refuse counts that nothing can be learned from."""
    if not words or not all(words) or min(words.values()) < 1 or merges < 0:
        raise ValueError(f"merges are learned from words with counts of at least 1; got {dict(words)!r:.80}, {merges}")

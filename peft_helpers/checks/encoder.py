"""The exercises of lesson 04, inside an encoder.

04-1  `bpe_step(words)`: {symbols of a word: count} -> (the commonest pair, words with it merged) (6 min)
      checker: `check_bpe_step`
      mistakes: counts-ignored, once-a-word, rarest-pair, pair-joined, first-only, from-the-right, not-skipped,
        inside-symbols, words-dropped, not-merged, words-joined

04-2  `multi_head_attention(query, key, value, heads, mask)`: (B, T, D) each, mask (B, T) -> (B, T, D) (9 min)
      checker: `check_attention`
      mistakes: no-scaling, scaled-by-width, scaled-twice, scaling-inverted, mask-after-softmax, mask-forgotten,
        mask-inverted, masked-score-zero, mask-added, queries-masked, wrong-axis, heads-merged-wrongly,
        heads-split-wrongly, heads-ignored, heads-interleaved, heads-averaged, value-forgotten, query-key-swapped

04-3  `position_ids(attention_mask)`: (B, T) -> (B, T), a text's own tokens counted from 0, padding 0 (4 min)
      checker: `check_position_ids`
      mistakes: padding-counted, off-by-one, padding-not-zero, counted-from-the-right, wrong-axis, mask-returned

04-4  `count_layer(width, feed_forward, heads)`: -> parameters of (attention, feed-forward, norms) (5 min)
      checker: `check_layer_count`
      mistakes: biases-forgotten, output-projection-forgotten, heads-multiplied, heads-divided, one-matrix,
        wrong-bias, one-norm, one-number-a-norm

04-5  `text_vector(hidden, mask)`: (B, T, D), (B, T) -> (B, D), the mean over a text's own tokens (4 min)
      checker: `check_masked_mean`
      mistakes: padding-in-mean, padding-below, padding-above, sum-for-mean, batch-mean, first-token, wrong-axis
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers import encoder, subwords
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    Nothing,
    Probe,
    Refused,
    Verdict,
    attempt,
    call,
    odd_numbers,
    refused,
)

# ---------------------------------------------------------------- 04-1

Words = dict[tuple[str, ...], int]
FRUIT: Words = {tuple("ananas"): 5, tuple("can"): 1, tuple("pan"): 1, tuple("sea"): 3, tuple("tea"): 1,
                tuple("pea"): 1, tuple("lea"): 1, tuple("flea"): 1, tuple("or"): 9, tuple("plea"): 1}  # fmt: skip
LATER: Words = {tuple("abxab"): 4, ("ca", "b"): 2, ("d", "e"): 1, ("ab", "x"): 1, tuple("ba"): 3}
REPEATED: Words = {tuple("aaab"): 3, ("b", "c"): 1}


def code(thing: str) -> Tensor:
    """A text as eight numbers, to be compared like any answer."""
    return torch.tensor(list(hashlib.sha256(thing.encode()).digest()[:8]), dtype=torch.float64) + 1


def bpe_results(function: Callable, words: Words) -> tuple[tuple[str, str], Words]:
    """What an answer makes of `words`, of the right types."""
    pair, merged = call(function, dict(words), outputs=2)
    if pair is None or merged is None:
        raise Nothing
    if isinstance(pair, str) and isinstance(merged, str):
        raise Refused("wrong-outputs", "It must return 2 values, the pair and the new words; got the pair alone.")
    if isinstance(pair, str):
        raise Refused("pair-joined", f"The pair must be two symbols, (a, b); got the one text {pair!r}.")
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        raise Refused("wrong-type", "The first value must be a pair of symbols, (a, b).")
    if not isinstance(merged, Mapping) or not all(isinstance(count, int | float) for count in merged.values()):
        raise Refused("wrong-type", "The second value must be a dictionary from tuples of symbols to counts.")
    if any(isinstance(key, str) for key in merged):
        raise Refused(
            "words-joined", "The words have become plain texts. A word is a tuple of symbols: ('ab', 'x'), not 'abx'."
        )
    if not all(isinstance(key, tuple) and all(isinstance(part, str) for part in key) for key in merged):
        raise Refused("wrong-type", "A word must be a tuple of symbols.")
    return (pair[0], pair[1]), dict(merged)


def spell(words: Words) -> str:
    """The words in one order, symbols apart."""
    return "; ".join(f"{' '.join(symbols)}: {count}" for symbols, count in sorted(words.items()))


def step(
    words: Words,
    *,
    pairs: Callable[[Words], Counter] = subwords.count_pairs,
    choose: Callable = max,
    merge: Callable = subwords.merge_pair,
    keep: Callable[[tuple[str, ...], tuple[str, str]], bool] = lambda symbols, pair: True,
) -> tuple[tuple[str, str], Words]:
    """The right step; every keyword makes one mistake."""
    counted = pairs(words)
    best = choose(counted, key=counted.get)
    return best, {merge(symbols, best): count for symbols, count in words.items() if keep(symbols, best)}


def has(symbols: tuple[str, ...], pair: tuple[str, str]) -> bool:
    """Whether the pair occurs."""
    return pair in list(pairwise(symbols))


def merge_first(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Only the first occurrence."""
    for i in range(len(symbols) - 1):
        if symbols[i : i + 2] == pair:
            return (*symbols[:i], pair[0] + pair[1], *symbols[i + 2 :])
    return symbols


def merge_without_skipping(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The second symbol of a merged pair stays."""
    return tuple(pair[0] + pair[1] if symbols[i : i + 2] == pair else symbols[i] for i in range(len(symbols)))


def merge_from_the_right(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Overlapping pairs from the other end."""
    return (
        subwords.merge_pair(symbols[::-1], pair[::-1])[::-1]
        if pair[0] == pair[1]
        else subwords.merge_pair(symbols, pair)
    )


def merge_as_text(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """`replace` on the symbols with spaces between them also finds the end of a longer symbol."""
    return tuple(" ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" "))


BPE = FunctionExercise(
    right=step,
    probes=[
        Probe("the pair", lambda f: code(" ".join(bpe_results(f, FRUIT)[0]))),
        *(
            Probe(name, lambda f, words=words: code(spell(bpe_results(f, words)[1])))
            for name, words in (("the words", FRUIT), ("words with merged symbols", LATER), ("repeated", REPEATED))
        ),
    ],
    mistakes=[
        Mistake(
            "counts-ignored",
            "Every word counts once. A word that occurs five times brings its pairs five times.",
            partial(step, pairs=lambda words: subwords.count_pairs(dict.fromkeys(words, 1))),
        ),
        Mistake(
            "once-a-word",
            "A pair that a word holds twice counts once only: 'ananas' has 'a n' in two places.",
            partial(
                step,
                pairs=lambda words: sum(
                    (
                        Counter(dict.fromkeys(subwords.count_pairs({symbols: 1}), count))
                        for symbols, count in words.items()
                    ),
                    Counter(),
                ),
            ),
        ),
        Mistake(
            "rarest-pair",
            "That is the rarest pair: byte-pair encoding merges the commonest.",
            partial(step, choose=min),
        ),
        Mistake(
            "first-only",
            "Only the first occurrence in a word is merged; 'a n a n a s' has two.",
            partial(step, merge=merge_first),
        ),
        Mistake(
            "not-skipped",
            "The second symbol of a merged pair is still there: 'a n' became 'an n'. Both make place for one.",
            partial(step, merge=merge_without_skipping),
        ),
        Mistake(
            "inside-symbols",
            "Symbols are found inside longer symbols: the symbol 'ca' ends with a, but it is not the symbol 'a'. "
            "Compare symbols, not letters (`replace` on a joined text can't tell).",
            partial(step, merge=merge_as_text),
        ),
        Mistake(
            "from-the-right",
            "Where occurrences overlap, as in 'a a a b', they are merged from the left: 'aa a b'.",
            partial(step, merge=merge_from_the_right),
        ),
        Mistake(
            "words-dropped",
            "Words without the pair are missing. They stay as they are.",
            partial(step, keep=has),
        ),
        Mistake(
            "not-merged",
            "The pair is right, but the words come back as they were.",
            partial(step, merge=lambda symbols, pair: symbols),
        ),
    ],
    praise="Right: pairs weighted by how often their word occurs, merged from the left. Again and again, it is BPE.",
)


def check_bpe_step(answer: Any) -> Verdict:
    """Exercise 04-1: `bpe_step(words)` -> (pair, words)."""
    verdict = BPE.judge(answer)
    if verdict.mistake not in ("wrong-value", "precision-lost"):
        return verdict
    for words in (FRUIT, LATER, REPEATED):  # the numbers of `code` say nothing: say it in letters
        got: list[Any] = []
        attempt(Probe("", lambda f, words=words, got=got: got.append(bpe_results(f, words)) or 0.0), answer)
        (pair, merged), (wanted, right) = got[0], step(words)
        if pair != wanted:
            return refused("wrong-value", f"Of {spell(words)}: the pair is {pair}, it should be {wanted}.")
        if merged != right:
            return refused(
                "wrong-value", f"Merging {pair}: got {spell(merged)!r:.120}, should be {spell(right)!r:.120}."
            )
    return verdict


# ---------------------------------------------------------------- 04-3

BOTH_SIDES = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
POSITIONS = FunctionExercise(
    right=encoder.position_ids,
    probes=[Probe("padding on both sides", lambda f: call(f, BOTH_SIDES))],
    mistakes=[
        Mistake(
            "padding-counted",
            "Padding takes up numbers: a text that is padded on the left would start at another position than alone.",
            lambda mask: torch.arange(mask.shape[1]).expand_as(mask),
        ),
        Mistake(
            "padding-counted",
            "Padding in front takes up numbers; it is only marked with 0 itself.",
            lambda mask: torch.arange(mask.shape[1]) * mask,
        ),
        Mistake("off-by-one", "The first token gets 1. Positions count from 0.", lambda mask: mask.cumsum(1) * mask),
        Mistake("off-by-one", "The first token gets 1. Positions count from 0.", lambda mask: mask.cumsum(1)),
        Mistake(
            "padding-not-zero",
            "The text is right. Padding on the left gets −1, which no table of positions has; the exercise asks for 0.",
            lambda mask: mask.cumsum(1) - 1,
        ),
        Mistake(
            "padding-not-zero",
            "Padding behind the text repeats the last number; the exercise asks for 0.",
            lambda mask: (mask.cumsum(1) - 1).clamp(min=0),
        ),
        Mistake(
            "counted-from-the-right",
            "The last token gets 0: it is counted from the right.",
            lambda mask: (mask.flip(1).cumsum(1).flip(1) - 1) * mask,
        ),
        Mistake("wrong-axis", "It counts down the batch: dimension 0.", lambda mask: (mask.cumsum(0) - 1) * mask),
        Mistake("mask-returned", "That is the mask itself: the tokens are marked, not counted.", lambda mask: mask),
    ],
    praise="Right: the running count of real tokens, less one. Generation with left padding (lesson 09) needs this.",
)


def check_position_ids(answer: Any) -> Verdict:
    """Exercise 04-3: `position_ids(attention_mask)` (B, T) -> (B, T)."""
    return POSITIONS.judge(answer)


# ---------------------------------------------------------------- 04-2

B, T, D, H = 2, 5, 6, 3
QUERY, KEY, VALUE = (odd_numbers(B, T, D, seed=seed) for seed in (41, 42, 43))
TEXT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
NEVER = -1e9  # a score so low that its weight is 0


def scaled(scores: Tensor, query: Tensor) -> Tensor:
    return scores / query.shape[-1] ** 0.5


def masked_before(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask[:, None, None] == 0, NEVER).softmax(-1)


def split_interleaved(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    mask: Tensor,
    *,
    split: Callable = encoder.split_heads,
    merge: Callable = encoder.merge_heads,
    scale: Callable = scaled,
    weigh: Callable = masked_before,
    score: Callable = lambda q, k: q @ k.transpose(-2, -1),
) -> Tensor:
    """Multi-head attention; every keyword makes one mistake."""
    q, k, v = (split(x, heads) for x in (query, key, value))
    return merge(weigh(scale(score(q, k), q), mask) @ v)


def variants(slug: str, message: str, *changes: Mapping[str, Callable], **mistake: Any) -> list[Mistake]:
    """One mistake, several ways to make it."""
    return [Mistake(slug, message, partial(attend, **change), **mistake) for change in changes]


def averaged(x: Tensor) -> Tensor:
    return x.mean(1)


ATTENTION = FunctionExercise(
    right=attend,
    probes=[
        Probe("one head, nothing masked", lambda f: call(f, QUERY[:1], KEY[:1], VALUE[:1], 1, TEXT[:1])),
        Probe("one head, with padding", lambda f: call(f, QUERY, KEY, VALUE, 1, TEXT)),
        Probe("three heads", lambda f: call(f, QUERY, KEY, VALUE, H, TEXT)),
    ],
    mistakes=[
        *variants(
            "no-scaling",
            "The scores are not divided by √d. The longer the vectors, the larger their products: the softmax "
            "would put everything on one token, and hardly any gradient would come back.",
            {"scale": lambda scores, q: scores},
        ),
        *variants(
            "scaled-by-width",
            "Right with one head, not with three: the scores are divided by √D, the width of all heads together. A"
            " head's vectors have d = D / H entries.",
            {"scale": lambda scores, q: scores / (q.shape[-1] * q.shape[1]) ** 0.5},
        ),
        *variants(
            "scaled-twice",
            "The scores are divided by d, not by its root.",
            {"scale": lambda scores, q: scores / q.shape[-1]},
        ),
        *variants(
            "scaling-inverted",
            "The scores are multiplied by √d.",
            {"scale": lambda scores, q: scores * q.shape[-1] ** 0.5},
        ),
        *variants(
            "mask-after-softmax",
            "The weights of padding are set to 0 after the softmax: then the others no longer add up to 1, since "
            "padding has taken its share before. Mask the scores, so that the softmax never sees them.",
            {"weigh": lambda scores, mask: scores.softmax(-1) * mask[:, None, None]},
        ),
        *variants(
            "mask-forgotten",
            "Padding is looked at like text: the mask has no influence.",
            {"weigh": lambda scores, mask: scores.softmax(-1)},
        ),
        *variants(
            "mask-inverted",
            "The text is masked, and the padding seen. 1 in the mask means: this is text.",
            {"weigh": lambda scores, mask: masked_before(scores, 1 - mask)},
            {"weigh": lambda scores, mask: scores.masked_fill(mask[:, None, None] == 1, float("-inf")).softmax(-1)},
        ),
        *variants(
            "masked-score-zero",
            "The scores of padding are set to 0. But exp(0) = 1: a score of 0 is an ordinary score. Which score "
            "has the weight 0?",
            {"weigh": lambda scores, mask: (scores * mask[:, None, None]).softmax(-1)},
        ),
        *variants(
            "mask-added",
            "The mask is added as numbers, 1 for text: that favors text by a factor e, and no more.",
            {"weigh": lambda scores, mask: (scores + mask[:, None, None]).softmax(-1)},
        ),
        *variants(
            "queries-masked",
            "The rows of padding are masked, the queries. It is the *keys* of padding that nobody may look at: the"
            " last dimension of the scores.",
            {"weigh": lambda scores, mask: scores.masked_fill(mask[:, None, :, None] == 0, NEVER).softmax(-1)},
            {"weigh": lambda scores, mask: scores.masked_fill(mask[:, None, :, None] == 0, float("-inf")).softmax(-1)},
        ),
        *variants(
            "wrong-axis",
            "The softmax runs over the queries: each column adds up to 1. Each *row* should, over the keys.",
            {"weigh": lambda scores, mask: scores.masked_fill(mask[:, None, None] == 0, NEVER).softmax(-2)},
        ),
        *variants(
            "wrong-axis",
            "The softmax runs over the heads. It should run over the keys, in each head apart.",
            {"weigh": lambda scores, mask: scores.masked_fill(mask[:, None, None] == 0, NEVER).softmax(1)},
        ),
        *variants(
            "heads-merged-wrongly",
            "The heads are split well and put together wrongly: (B, H, T, d) is reshaped to (B, T, D) at once, "
            "which mixes tokens. First swap H and T back.",
            {"merge": lambda x: x.reshape(x.shape[0], x.shape[2], -1)},
        ),
        *variants(
            "heads-split-wrongly",
            "(B, T, D) is reshaped to (B, H, T, d) at once, which cuts the tokens apart, not their columns. First "
            "(B, T, H, d), then swap T and H.",
            {"split": lambda x, heads: x.reshape(x.shape[0], heads, x.shape[1], -1)},
            {
                "split": lambda x, heads: x.reshape(x.shape[0], heads, x.shape[1], -1),
                "merge": lambda x: x.reshape(x.shape[0], x.shape[2], -1),
            },
        ),
        *variants(
            "heads-ignored",
            "Right with one head, not with three: all columns are compared at once. Each head compares its own d "
            "columns.",
            {"split": lambda x, heads: x[:, None], "merge": lambda x: x[:, 0]},
        ),
        *variants(
            "heads-interleaved",
            "A head gets every third column. Heads own neighboring columns: the first d, the next d, …",
            {"split": split_interleaved},
            {"split": split_interleaved, "merge": lambda x: x.permute(0, 2, 3, 1).flatten(-2)},
        ),
        *variants(
            "heads-averaged",
            "The heads are added up or averaged, and the result has d columns. They are put side by side: D columns.",
            {"merge": averaged},
            {"merge": lambda x: x.sum(1)},
        ),
        *variants(
            "query-key-swapped",
            "Queries and keys have changed places: row i has the scores that others give to token i.",
            {"score": lambda q, k: k @ q.transpose(-2, -1)},
        ),
        Mistake(
            "value-forgotten",
            "The weights mix the keys. Keys say whom to look at; what is brought home are the values.",
            lambda q, k, v, h, m: attend(q, k, k, h, m),
        ),
    ],
    praise="Right: √d, −∞ before the softmax, heads side by side.",
)


def check_attention(answer: Any) -> Verdict:
    """Exercise 04-2: `multi_head_attention(query, key, value, heads, mask)` -> (B, T, D)."""
    return ATTENTION.judge(answer)


# ---------------------------------------------------------------- 04-4

SIZES = (6, 21, 3)


def count_layer(width: int, feed_forward: int, heads: int) -> tuple[int, int, int]:
    """Parameters of a layer's attention, feed-forward block and norms."""
    return 4 * (width**2 + width), 2 * width * feed_forward + feed_forward + width, 2 * 2 * width


def changed(place: int, count: Callable[[int, int, int], float]) -> Callable:
    """The right counts with one of them replaced."""

    def variant(width: int, feed_forward: int, heads: int) -> tuple[float, ...]:
        right = list(count_layer(width, feed_forward, heads))
        right[place] = count(width, feed_forward, heads)
        return tuple(right)

    return variant


LAYER_COUNT = FunctionExercise(
    right=count_layer,
    probes=[
        Probe(name, lambda f, i=i: call(f, *SIZES, outputs=3)[i])
        for i, name in enumerate(("attention", "the feed-forward block", "the norms"))
    ],
    mistakes=[
        Mistake(
            "biases-forgotten",
            "The matrices are counted, their biases are not: every linear layer from n to m has n m + m parameters.",
            changed(0, lambda D, I, H: 4 * D**2),  # noqa: E741
        ),
        Mistake(
            "biases-forgotten",
            "Attention is right. In the feed-forward block the biases are missing: I behind the first matrix, D behind "
            "the second.",
            changed(1, lambda D, I, H: 2 * D * I),  # noqa: E741
        ),
        *(
            Mistake(
                "output-projection-forgotten",
                "Query, key and value make three. The heads' results go through a fourth matrix, the output "
                "projection.",
                changed(0, count),
            )
            for count in (lambda D, I, H: 3 * (D**2 + D), lambda D, I, H: 3 * D**2)  # noqa: E741
        ),
        *(
            Mistake(
                "heads-multiplied",
                "Each head is counted with whole matrices. The heads *share* the D columns: their number does not "
                "matter.",
                changed(0, count),
            )
            for count in (
                lambda D, I, H: 4 * H * (D**2 + D),  # noqa: E741
                lambda D, I, H: 3 * H * (D**2 + D) + D**2 + D,  # noqa: E741
            )
        ),
        *(
            Mistake(
                "heads-divided",
                "That is one head's part, D / H columns. A layer has all H heads, so all D columns.",
                changed(0, count),
            )
            for count in (
                lambda D, I, H: 4 * (D * D // H + D // H),  # noqa: E741
                lambda D, I, H: 4 * ((D // H) ** 2 + D // H),  # noqa: E741
                lambda D, I, H: 3 * (D * D // H + D // H) + D**2 + D,  # noqa: E741
            )
        ),
        *(
            Mistake(
                "one-matrix",
                "The feed-forward block has two matrices: up from D to I, and down again.",
                changed(1, count),
            )
            for count in (lambda D, I, H: D * I + I, lambda D, I, H: D * I + I + D, lambda D, I, H: D * I)  # noqa: E741
        ),
        *(
            Mistake(
                "wrong-bias",
                "The two matrices are right, the biases are not: one has I entries (after going up), the other D.",
                changed(1, count),
            )
            for count in (
                lambda D, I, H: 2 * D * I + 2 * I,  # noqa: E741
                lambda D, I, H: 2 * D * I + 2 * D,  # noqa: E741
                lambda D, I, H: 2 * D * I + I,  # noqa: E741
                lambda D, I, H: 2 * D * I + D,  # noqa: E741
            )
        ),
        Mistake(
            "one-norm",
            "That is half. A layer has two norms, and each has a scale and a shift for every column.",
            changed(2, lambda D, I, H: 2 * D),  # noqa: E741
        ),
        *(
            Mistake(
                "one-number-a-norm",
                "A layer norm has a scale and a shift for *every column*: 2 D numbers.",
                changed(2, count),
            )
            for count in (lambda D, I, H: 4, lambda D, I, H: 2, lambda D, I, H: D)  # noqa: E741
        ),
    ],
    praise="Right: 4 (D² + D), 2 D I + I + D and 4 D; the number of heads does not matter.",
)


def check_layer_count(answer: Any) -> Verdict:
    """Exercise 04-4: `count_layer(width, feed_forward, heads)` -> (attention, feed-forward, norms)."""
    return LAYER_COUNT.judge(answer)


# ---------------------------------------------------------------- 04-5

HIDDEN = odd_numbers(3, 4, 5, seed=44)
LENGTHS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])


def mean_of(hidden: Tensor, mask: Tensor, above: Callable, below: Callable) -> Tensor:
    weights = mask[..., None].to(hidden.dtype)
    return above(hidden, weights) / below(hidden, weights)


def kept(hidden: Tensor, weights: Tensor) -> Tensor:
    return (hidden * weights).sum(1)


def number(hidden: Tensor, weights: Tensor) -> Tensor:
    return weights.sum(1)


MASKED_MEAN = FunctionExercise(
    right=encoder.masked_mean,
    probes=[
        Probe("a text without padding", lambda f: call(f, HIDDEN[:1], LENGTHS[:1])),
        Probe("texts of unequal length", lambda f: call(f, HIDDEN, LENGTHS)),
    ],
    mistakes=[
        Mistake(
            "padding-in-mean",
            "Padding leaks into the mean: its hidden states are no zeros, and they are added up with the rest.",
            lambda hidden, mask: hidden.mean(1),
        ),
        Mistake(
            "padding-below",
            "The sum leaves padding out, but it is divided by T, padding included: short texts come out too small.",
            lambda hidden, mask: mean_of(hidden, mask, kept, lambda h, w: h.shape[1]),
        ),
        Mistake(
            "padding-above",
            "It is divided by the number of real tokens, but the sum above runs over all of them.",
            lambda hidden, mask: mean_of(hidden, mask, lambda h, w: h.sum(1), number),
        ),
        Mistake(
            "sum-for-mean",
            "That is the sum: a long text would get a long vector.",
            lambda hidden, mask: mean_of(hidden, mask, kept, lambda h, w: 1),
        ),
        Mistake(
            "batch-mean",
            "It is divided by the number of real tokens in the whole batch: each text has its own.",
            lambda hidden, mask: mean_of(hidden, mask, kept, lambda h, w: w.sum()),
        ),
        Mistake("first-token", "That is the first token's vector, no mean.", lambda hidden, mask: hidden[:, 0]),
        *(
            Mistake(
                "wrong-axis",
                "The mean does not run over the tokens. In (B, T, D) they are dimension 1, and the result is (B, D).",
                lambda hidden, mask, axis=axis: (
                    (hidden * mask[..., None]).sum(axis) / mask[..., None].sum(axis).clamp(min=1)
                ),
            )
            for axis in (0, 2)
        ),
    ],
    praise="Right: the mask counts above and below the fraction bar.",
)


def check_masked_mean(answer: Any) -> Verdict:
    """Exercise 04-5: `text_vector(hidden, mask)` -> (B, D)."""
    return MASKED_MEAN.judge(answer)


# ---------------------------------------------------------------- runs to diagnose

VOCABULARY, LENGTH = 40, 9  # pieces, 0 to 4 of them special; tokens of a text
PAD, CLS, MASK = 0, 2, 4


class SmallNetwork(nn.Module):
    """Our encoder at width 32, with an output for every word piece and one for two classes."""

    def __init__(self, positions: bool = True):
        super().__init__()
        self.encoder = encoder.Encoder(VOCABULARY, 32, 2, 2, 64, 48)
        for table in (self.encoder.embeddings.words, self.encoder.embeddings.positions, self.encoder.embeddings.types):
            nn.init.normal_(table.weight, std=0.02)
        if not positions:
            nn.init.zeros_(self.encoder.embeddings.positions.weight).requires_grad_(False)
        self.pieces, self.classes = nn.Linear(32, VOCABULARY), nn.Linear(32, 2)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output = self.encoder(ids, mask)
        return self.pieces(output.states[-1]), self.classes(output.pooled)


def train(network: nn.Module, loss: Callable[[torch.Generator], Tensor], steps: int, watch: Callable[[], float]):
    """Losses of the steps, and what `watch` says every 10 steps."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    generator, losses, seen = torch.Generator().manual_seed(0), [], ([], [])
    for at in range(steps):
        if at % 10 == 0:
            with torch.no_grad():
                seen[0].append(at)
                seen[1].append(watch())
        current = loss(generator)
        optimizer.zero_grad()
        current.backward()
        optimizer.step()
        losses.append(current.item())
    return losses, seen


def random_texts(rows: int, generator: torch.Generator, length: int = LENGTH) -> Tensor:
    """[CLS] and random pieces; nothing in them can be foreseen."""
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=generator)
    ids[:, 0] = CLS
    return ids


def run_that_sees_the_answer() -> dict[str, dict[str, Any]]:
    """04-a: masked language modeling whose loss runs over all tokens, most of which stand there to be copied."""
    network = SmallNetwork()

    def hide(ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        hidden = (torch.rand(ids.shape, generator=generator) < 0.15) & (ids != CLS)
        return torch.where(hidden, MASK, ids), hidden

    def loss(generator: torch.Generator) -> Tensor:
        ids = random_texts(64, generator)
        damaged, _ = hide(ids, generator)
        return nn.functional.cross_entropy(network(damaged)[0].flatten(0, 1), ids.flatten())

    def watch() -> float:
        generator = torch.Generator().manual_seed(1)
        ids = random_texts(256, generator)
        damaged, hidden = hide(ids, generator)
        return float((network(damaged)[0].argmax(-1) == ids)[hidden].float().mean())

    losses, seen = train(network, loss, 90, watch)
    return {"loss": {"training": losses}, "accuracy": {"hidden words": seen}}


def run_without_positions() -> dict[str, dict[str, Any]]:
    """04-b: which of two words comes first? Without positions nobody can know."""
    network = SmallNetwork(positions=False)

    def batch(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ids = torch.randint(7, VOCABULARY, (rows, LENGTH), generator=generator)
        ids[:, 0] = CLS
        places = torch.rand(rows, LENGTH - 1, generator=generator).argsort(1)[:, :2] + 1
        ids.scatter_(1, places, torch.tensor([5, 6]).expand(rows, 2))
        return ids, (places[:, 0] < places[:, 1]).long()

    def loss(generator: torch.Generator) -> Tensor:
        ids, labels = batch(64, generator)
        return nn.functional.cross_entropy(network(ids)[1], labels)

    def watch() -> float:
        ids, labels = batch(256, torch.Generator().manual_seed(1))
        return float((network(ids)[1].argmax(-1) == labels).float().mean())

    losses, seen = train(network, loss, 90, watch)
    return {"loss": {"training": losses}, "accuracy": {"dev": seen}}


class UpsideDown(nn.Module):
    """One attention layer whose mask is the wrong way around: it looks at padding, and at nothing else."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(VOCABULARY, 32), nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.classes = nn.Linear(32, 2)

    def forward(self, ids: Tensor) -> Tensor:
        def weigh(scores: Tensor, mask: Tensor) -> Tensor:
            return scores.masked_fill(mask[:, None, None] == 1, float("-inf")).softmax(-1)

        hidden, mask = self.words(ids), (ids != PAD).long()
        return self.classes(attend(*(part(hidden) for part in self.mix), 2, mask, weigh=weigh).mean(1))


def run_with_the_mask_upside_down() -> dict[str, dict[str, Any]]:
    """04-c: the loss stays at that of guessing, and becomes NaN with the first text that has no padding."""
    network, unpadded = UpsideDown(), 60

    def batch(generator: torch.Generator, longest: int) -> tuple[Tensor, Tensor]:
        ids = random_texts(64, generator, LENGTH + 1)
        lengths = torch.randint(4, longest + 1, (64, 1), generator=generator)
        labels = (ids[:, 1] % 2).long()
        return ids.masked_fill(torch.arange(LENGTH + 1) >= lengths, PAD), labels

    steps = iter(range(1000))

    def loss(generator: torch.Generator) -> Tensor:
        ids, labels = batch(generator, LENGTH + (next(steps) >= unpadded))
        return nn.functional.cross_entropy(network(ids), labels)

    def watch() -> float:
        ids, labels = batch(torch.Generator().manual_seed(1), LENGTH)
        return float((network(ids).argmax(-1) == labels).float().mean())

    losses, seen = train(network, loss, 90, watch)
    return {"loss": {"training": losses}, "accuracy": {"dev": seen}}


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Three broken runs of a very small encoder on made-up texts, for `plots.broken_runs`."""
    makers = {"04-a": run_that_sees_the_answer, "04-b": run_without_positions, "04-c": run_with_the_mask_upside_down}
    runs = {}
    with torch.random.fork_rng(devices=[]):
        for name, make in makers.items():
            torch.manual_seed(4)
            runs[name] = make()
    return runs

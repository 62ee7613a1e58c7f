"""The exercises of lesson 09, decoders and generation.

09-1  `causal_mask(attention_mask)`: (B, T) of 1 and 0 -> (B, T, T), true where row t may see column s (4 min)
      checker: `check_causal_mask`
      mistakes: future-visible, not-causal, itself-hidden, padding-visible, row-without-key, queries-masked,
        mask-inverted

09-2  `answer_labels(prompt, answer, end, length)`: lists of ids -> `length` labels (6 min)
      checker: `check_answer_labels`
      mistakes: loss-on-x, off-by-one, padding-counted, end-forgotten, wrong-ignored, all-ignored, padded-left,
        first-token-lost

09-3  `cache_megabytes`: keys and values of a batch (3 min)
      checker: `check_cache_memory`
      mistakes: half-counted, elements, heads-multiplied, one-head, one-layer, one-text, one-token, bytes,
        mebibytes

09-4  `sampling_probabilities(logits, temperature, top_p)`: (V,) -> (V,) (7 min)
      checker: `check_sampling`
      mistakes: temperature-multiplied, temperature-ignored, temperature-on-probabilities, temperature-late,
        crossing-token-lost, threshold-on-one, not-renormalized, order-lost, zero-logit, likeliest-dropped, nothing-cut

09-5  `clipped_matches(tokens, references, n)`: -> (matched, counted) n-grams (5 min)
      checker: `check_clipped_matches`
      mistakes: not-clipped, references-added, first-reference, sets, recall, off-by-one, single-tokens,
        words-for-ngrams

09-6  `slot_errors(given, said)`: two dictionaries -> number of errors (4 min)
      checker: `check_slot_errors`
      mistakes: wrong-twice, added-ignored, missing-ignored, values-ignored, slots-ignored, rate-returned
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from peft_helpers import decoder, overlap
from peft_helpers.batching import IGNORED
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)

# ---------------------------------------------------------------- 09-1

ALL_TEXT = torch.ones(1, 4, dtype=torch.long)
PADDED = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def as_mask(function: Callable, attention_mask: Tensor) -> Tensor:
    """The answer's mask as 0 and 1, whatever its type."""
    made = call(function, attention_mask)
    return made.long() if isinstance(made, Tensor) and made.dtype == torch.bool else made


def earlier(attention_mask: Tensor) -> Tensor:
    """(T, T), True on and below the diagonal."""
    size = attention_mask.shape[1]
    return torch.ones(size, size, dtype=torch.bool).tril()


def keys(attention_mask: Tensor) -> Tensor:
    """(B, T, T), True where the column is text, or the row itself."""
    return attention_mask.bool()[:, None, :] | torch.eye(attention_mask.shape[1], dtype=torch.bool)


CAUSAL = FunctionExercise(
    right=lambda m: decoder.causal_mask(m).long(),
    probes=[
        Probe("four tokens without padding", lambda f: as_mask(f, ALL_TEXT)),
        Probe("padding on the left, none, and on the right", lambda f: as_mask(f, PADDED)),
    ],
    mistakes=[
        Mistake(
            "future-visible",
            "Rows look ahead: `triu` keeps what comes later. Row t may see the columns up to t.",
            lambda m: (earlier(m).T & keys(m)).long(),
        ),
        Mistake(
            "not-causal",
            "Every token sees every other, as in an encoder: the answer stands in front of the model's eyes.",
            lambda m: keys(m).long(),
        ),
        Mistake(
            "not-causal",
            "Every token sees every other, as in an encoder: the answer stands in front of the model's eyes.",
            lambda m: m[:, None, :].expand(-1, m.shape[1], -1),
        ),
        Mistake(
            "itself-hidden",
            "A token does not see itself. At place t the input is token t, the target is token t + 1: looking at "
            "itself is allowed, and the first token has nothing else.",
            lambda m: (earlier(m).tril(-1) & keys(m)).long(),
        ),
        Mistake(
            "itself-hidden",
            "A token does not see itself. At place t the input is token t, the target is token t + 1.",
            lambda m: (earlier(m).tril(-1) & m.bool()[:, None, :]).long(),
        ),
        Mistake(
            "padding-visible",
            "Padding is seen. A column whose `attention_mask` is 0 is hidden from all rows but its own.",
            lambda m: earlier(m).expand(len(m), -1, -1).long(),
        ),
        Mistake(
            "row-without-key",
            "With padding on the left the first rows have nothing to look at: a softmax over nothing is NaN. Let "
            "every row see itself (`torch.eye`), padding too: nobody looks at the result.",
            lambda m: (earlier(m) & m.bool()[:, None, :]).long(),
        ),
        Mistake(
            "queries-masked",
            "The padding's *rows* are hidden instead of its columns: `[:, None, :]` is for keys.",
            lambda m: (earlier(m) & (m.bool()[:, :, None] | torch.eye(m.shape[1], dtype=torch.bool))).long(),
        ),
        Mistake(
            "queries-masked",
            "The padding's *rows* are hidden instead of its columns: `[:, None, :]` is for keys.",
            lambda m: (earlier(m) & m.bool()[:, :, None]).long(),
        ),
        Mistake(
            "mask-inverted",
            "It is the other way around: true means that the row may see the column.",
            lambda m: (~(earlier(m) & keys(m))).long(),
        ),
    ],
    praise="Right: no row sees what comes later, nobody sees padding, and every row has something to see.",
)


def check_causal_mask(answer: Any) -> Verdict:
    """Exercise 09-1: `causal_mask(attention_mask)` (B, T) -> (B, T, T)."""
    return CAUSAL.judge(answer)


# ---------------------------------------------------------------- 09-2


def label_row(
    prompt: Sequence[int],
    answer: Sequence[int],
    end: int,
    length: int,
    *,
    on_x: bool = False,
    last: bool = True,
    fill: int = IGNORED,
    hidden: int = IGNORED,
    skip: int = 0,
) -> list[int]:
    """The right labels; every keyword makes one mistake."""
    x = list(prompt) if on_x else [hidden] * len(prompt)
    y = [hidden] * skip + list(answer)[skip:]
    row = [*x, *y, end if last else IGNORED]
    return row + [fill] * (length - len(row))


def moved(step: int) -> Callable:
    """The right labels, `step` places further right (or left)."""

    def variant(prompt, answer, end, length):
        row = label_row(prompt, answer, end, length)
        return ([IGNORED] * step + row)[:length] if step > 0 else row[-step:] + [IGNORED] * -step

    return variant


SHORT, LONG = ([11, 12, 13], [21, 22], 0, 6), ([11, 12], [21, 22, 23], 0, 9)
LABELS = FunctionExercise(
    right=label_row,
    probes=[
        Probe("three tokens of x, two of y, no padding", lambda f: call(f, *SHORT)),
        Probe("two tokens of x, three of y, three of padding", lambda f: call(f, *LONG)),
    ],
    mistakes=[
        Mistake(
            "loss-on-x",
            "The prompt has labels: the model is paid for predicting x, which nobody will ask it to write.",
            partial(label_row, on_x=True),
        ),
        Mistake(
            "off-by-one",
            "The labels are moved to the left, each to the place that predicts it. The loss does that already: moved "
            "twice, every token learns to name the next but one.",
            moved(-1),
        ),
        Mistake("off-by-one", "The labels stand one place too far to the right: behind their own tokens.", moved(1)),
        Mistake(
            "padding-counted",
            "Padding has labels. The model learns to write padding, and the loss looks better the more of it there is.",
            partial(label_row, fill=0),
        ),
        Mistake(
            "end-forgotten",
            "The end has no label: the model never learns to stop. (Masking by id does that where the end and the "
            "padding are the same token.)",
            partial(label_row, last=False),
        ),
        Mistake(
            "wrong-ignored",
            f"Ignored places hold 0. But 0 is a token like any other; `cross_entropy` leaves out {IGNORED}.",
            partial(label_row, hidden=0, fill=0),
        ),
        Mistake(
            "wrong-ignored",
            f"Ignored places hold 0. But 0 is a token like any other; `cross_entropy` leaves out {IGNORED}.",
            partial(label_row, hidden=0),
        ),
        Mistake(
            "wrong-ignored",
            f"Ignored places hold −1. `cross_entropy` leaves out {IGNORED}, and calls −1 an error.",
            partial(label_row, hidden=-1, fill=-1),
        ),
        Mistake(
            "all-ignored",
            "Every label is ignored: there is nothing left to learn, and the mean over nothing is NaN.",
            lambda prompt, answer, end, length: [IGNORED] * length,
        ),
        Mistake(
            "padded-left",
            "The padding stands in front. Training pads on the right; the labels must follow.",
            lambda prompt, answer, end, length: (
                [IGNORED] * (length - len(prompt) - len(answer) - 1)
                + label_row(prompt, answer, end, len(prompt) + len(answer) + 1)
            ),
        ),
        Mistake(
            "first-token-lost",
            "The answer's first token is ignored. It is predicted from the prompt's last place: that is the very step "
            "from x to y.",
            partial(label_row, skip=1),
        ),
    ],
    praise="Right: y and the end, each at its own place; the rest is ignored, whatever id it has.",
)


def check_answer_labels(answer: Any) -> Verdict:
    """Exercise 09-2: `answer_labels(prompt, answer, end, length)` -> `length` labels."""
    return LABELS.judge(answer)


# ---------------------------------------------------------------- 09-3

LAYERS, WIDTH, HEADS, BATCH, TOKENS, BYTES = 24, 1024, 16, 8, 1000, 4  # GPT-2 medium
CACHE = 2 * LAYERS * WIDTH * BATCH * TOKENS * BYTES / 1e6

CACHE_MEMORY = NumberExercise(
    right=CACHE,
    mistakes=[
        WrongNumber(CACHE / 2, "half-counted", "That is half: either keys or values, or two bytes a number."),
        WrongNumber(CACHE / 4, "elements", "That counts numbers. A float32 has 4 bytes."),
        WrongNumber(
            CACHE * HEADS,
            "heads-multiplied",
            "The heads share the width: all of them together keep D numbers a token and layer, not D each.",
        ),
        WrongNumber(CACHE / HEADS, "one-head", "That is one head's share of the width."),
        WrongNumber(CACHE / LAYERS, "one-layer", "Every layer has keys and values of its own."),
        WrongNumber(CACHE / BATCH, "one-text", "That is one text; there are 8."),
        WrongNumber(CACHE / TOKENS, "one-token", "That is what one more token adds. There are 1,000."),
        WrongNumber(CACHE * 1e6 / 2**20, "mebibytes", "Those are mebibytes, 2²⁰ bytes; MB here are 10⁶."),
        WrongNumber(CACHE * 1e6, "bytes", "In bytes, yes. Megabytes: divide by 10⁶."),
    ],
    praise=f"Right, {CACHE:,.0f} MB, more than the 1,419 MB of the weights. 2 · L · D numbers a token and text.",
)


def check_cache_memory(answer: Any) -> Verdict:
    """Exercise 09-3: megabytes (10⁶ bytes) of the cache."""
    return CACHE_MEMORY.judge(answer)


# ---------------------------------------------------------------- 09-4


def sampled(
    logits: Tensor,
    temperature: float,
    top_p: float,
    *,
    warm: Callable = lambda z, t: z / t,
    cut: Callable = lambda shares, p: shares.cumsum(-1) - shares >= p,
    fill: float = float("-inf"),
    late: bool = False,
    again: bool = True,
    descending: bool = True,
    back: bool = True,
) -> Tensor:
    """The right probabilities; every keyword makes one mistake."""
    z = logits if late else warm(logits, temperature)
    shares, places = z.softmax(-1).sort(dim=-1, descending=descending)
    gone = cut(shares, top_p)
    gone = gone.scatter(-1, places, gone) if back else gone
    if not back:
        z = z[places]
    if not again:
        return z.softmax(-1).masked_fill(gone, 0.0)
    z = z.masked_fill(gone, fill)
    return (warm(z, temperature) if late else z).softmax(-1)


Z = odd_numbers(9, seed=91)
SAMPLING = FunctionExercise(
    right=sampled,
    probes=[
        Probe("temperature 0.5, nothing cut (top_p = 1)", lambda f: call(f, Z, 0.5, 1.0)),
        Probe("temperature 1, top_p = 0.6", lambda f: call(f, Z, 1.0, 0.6)),
        Probe("temperature 2, top_p = 0.7", lambda f: call(f, Z, 2.0, 0.7)),
        Probe("temperature 1, top_p = 0.05", lambda f: call(f, Z, 1.0, 0.05)),
    ],
    mistakes=[
        Mistake(
            "temperature-multiplied",
            "The logits are multiplied by the temperature. They are divided: a low temperature sharpens.",
            partial(sampled, warm=lambda z, t: z * t),
        ),
        Mistake("temperature-ignored", "The temperature does nothing.", partial(sampled, warm=lambda z, t: z)),
        Mistake(
            "temperature-on-probabilities",
            "The *probabilities* are divided by the temperature; scaled to 1 again, they are what they were (or no "
            "probabilities at all). The logits are divided.",
            lambda z, t, p: sampled(z, 1.0, p) / t,
        ),
        Mistake(
            "temperature-late",
            "The cut comes before the temperature, so it is made in another distribution than the one that is drawn "
            "from. First the temperature, then top-p.",
            partial(sampled, late=True),
        ),
        Mistake(
            "crossing-token-lost",
            "The token that crosses the line is cut too: what is kept has *less* than top_p. It stays.",
            partial(sampled, cut=lambda shares, p: shares.cumsum(-1) > p + 1e-9),
            raises=("NaN", "nan"),
        ),
        Mistake(
            "threshold-on-one",
            "Every token's own probability is compared with top_p. What counts is the sum of the likelier ones.",
            partial(sampled, cut=lambda shares, p: shares < p),
        ),
        Mistake(
            "threshold-on-one",
            "Every token's own probability is compared with 1 − top_p. What counts is the sum of the likelier ones.",
            partial(sampled, cut=lambda shares, p: shares < 1 - p),
        ),
        Mistake(
            "not-renormalized",
            "After the cut the probabilities no longer add up to 1.",
            partial(sampled, again=False),
        ),
        Mistake(
            "order-lost",
            "The probabilities come back in sorted order: which one belongs to which token is lost. `scatter`, or "
            "`argsort` of the order, brings them back.",
            partial(sampled, back=False),
        ),
        Mistake(
            "zero-logit",
            "What was cut has the logit 0, and with it a probability. −∞ has none.",
            partial(sampled, fill=0.0),
        ),
        Mistake(
            "likeliest-dropped",
            "The sum starts at the *least* likely token: it keeps the tail and cuts the head.",
            partial(sampled, descending=False),
        ),
        Mistake("nothing-cut", "top_p does nothing.", lambda z, t, p: sampled(z, t, 1.0)),
    ],
    praise="Right: temperature first, then the smallest set of likeliest tokens that has top_p, scaled up to 1 again.",
)


def check_sampling(answer: Any) -> Verdict:
    """Exercise 09-4: `sampling_probabilities(logits, temperature, top_p)` (V,) -> (V,)."""
    return SAMPLING.judge(answer)


# ---------------------------------------------------------------- 09-5

MADE = ["the", "dog", "saw", "the", "dog", "saw", "the", "dog", "and", "the", "sea"]
REFERENCES = [
    ["the", "dog", "saw", "the", "sea", "and", "the", "sea", "saw", "the", "dog"],
    ["a", "dog", "and", "the", "dog", "saw", "the", "sea"],
]


def clipped(
    tokens: Sequence[str],
    references: Sequence[Sequence[str]],
    n: int,
    *,
    grams: Callable = overlap.ngrams,
    join: Callable = lambda a, b: a | b,
    limit: Callable = lambda made, allowed: made & allowed,
    rows: Callable = lambda references: references,
    count: Callable = lambda made, allowed: made.total(),
) -> tuple[int, int]:
    """The right counts; every keyword makes one mistake."""
    made, allowed = grams(tokens, n), Counter()
    for row in rows(references):
        allowed = join(allowed, grams(row, n))
    return limit(made, allowed).total(), count(made, allowed)


def unclipped(made: Counter, allowed: Counter) -> Counter:
    """Everything that any reference has at all."""
    return Counter({gram: n for gram, n in made.items() if gram in allowed})


def shifted_ngrams(tokens: Sequence[str], n: int) -> Counter:
    """The last n-gram forgotten."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n))


CLIPPED = FunctionExercise(
    right=clipped,
    probes=[
        Probe("two references, n = 1", lambda f: call(f, MADE, REFERENCES, 1, outputs=2)),
        Probe("two references, n = 2", lambda f: call(f, MADE, REFERENCES, 2, outputs=2)),
        Probe("one reference, n = 3", lambda f: call(f, MADE, REFERENCES[:1], 3, outputs=2)),
    ],
    mistakes=[
        Mistake(
            "not-clipped",
            "A repeated n-gram scores every time: 'the the the' would be perfect. It counts at most as often as the "
            "reference that has it most often.",
            partial(clipped, limit=unclipped),
        ),
        Mistake(
            "references-added",
            "The counts of the references are added up. An n-gram is allowed as often as in *one* of them: the largest "
            "count (`Counter` has `|` for that).",
            partial(clipped, join=lambda a, b: a + b),
        ),
        Mistake(
            "first-reference",
            "Only the first reference is looked at.",
            partial(clipped, rows=lambda references: references[:1]),
        ),
        Mistake(
            "sets",
            "Every n-gram counts once, however often it stands there.",
            partial(clipped, grams=lambda tokens, n: Counter(set(overlap.ngrams(tokens, n)))),
        ),
        Mistake(
            "recall",
            "The second number counts the references' n-grams: that is recall. BLEU's precision divides by what was "
            "*written*; a penalty for being short comes on top.",
            partial(clipped, count=lambda made, allowed: allowed.total()),
        ),
        Mistake(
            "off-by-one",
            "The last n-gram is missing: T tokens have T − n + 1 of them.",
            partial(clipped, grams=shifted_ngrams),
        ),
        Mistake(
            "single-tokens",
            "These are single tokens, whatever n is.",
            partial(clipped, grams=lambda tokens, n: overlap.ngrams(tokens, 1)),
        ),
        Mistake(
            "words-for-ngrams",
            "The second number counts the words. T words have T − n + 1 n-grams.",
            lambda tokens, references, n: (clipped(tokens, references, n)[0], len(tokens)),
        ),
    ],
    praise="Right: what was written, each n-gram at most as often as one reference has it.",
)


def check_clipped_matches(answer: Any) -> Verdict:
    """Exercise 09-5: `clipped_matches(tokens, references, n)` -> (matched, counted)."""
    return CLIPPED.judge(answer)


# ---------------------------------------------------------------- 09-6

GIVEN = {"name": "Elk Run", "length": "3 miles", "dogs": "no", "shape": "loop", "level": "easy"}
SAID = {"name": "Elk Run", "dogs": "yes", "shape": "one way", "level": "easy", "season": "fall", "climb": "steep"}
THREE = {"dogs": "no", "level": "easy", "shape": "loop"}


def slots_wrong(given: dict, said: dict, *, missing: int = 1, added: int = 1, wrong: int = 1) -> int:
    """Missing, added and wrong slots, each so many times."""
    both = given.keys() & said.keys()
    lost, new = len(given.keys() - said.keys()), len(said.keys() - given.keys())
    return missing * lost + added * new + wrong * sum(given[slot] != said[slot] for slot in both)


SLOTS = FunctionExercise(
    right=slots_wrong,
    probes=[
        Probe("a text without a mistake", lambda f: call(f, GIVEN, dict(GIVEN))),
        Probe("one missing, two wrong, two added", lambda f: call(f, GIVEN, SAID)),
        Probe("nothing said", lambda f: call(f, GIVEN, {})),
        Probe("one slot given, three said", lambda f: call(f, {"dogs": "no"}, THREE)),
    ],
    mistakes=[
        Mistake(
            "wrong-twice",
            "A wrong value counts twice, as missing and as added. It is one error.",
            partial(slots_wrong, wrong=2),
        ),
        Mistake(
            "added-ignored",
            "What the text adds out of thin air costs nothing. Such a claim is an error as well.",
            partial(slots_wrong, added=0),
        ),
        Mistake(
            "missing-ignored",
            "What the text leaves out costs nothing: an empty text would be perfect.",
            partial(slots_wrong, missing=0),
        ),
        Mistake(
            "values-ignored",
            "Only the slots are compared, not their values: 'dogs: yes' for 'dogs: no' passes.",
            partial(slots_wrong, wrong=0),
        ),
        Mistake(
            "slots-ignored",
            "Only slots that both have are compared.",
            partial(slots_wrong, missing=0, added=0),
        ),
        Mistake(
            "rate-returned",
            "That is a rate. Return the number of errors; rates are made at the end, from all texts together.",
            lambda given, said: slots_wrong(given, said) / len(given),
        ),
    ],
    praise="Right. All errors of all texts, divided by all slots given, are the slot error rate.",
)


def check_slot_errors(answer: Any) -> Verdict:
    """Exercise 09-6: `slot_errors(given, said)` -> number of errors."""
    return SLOTS.judge(answer)

"""The checkers of lesson 09: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import pytest
from checker_cases import (
    JUNK,
    Wrong,
    assert_accepted,
    assert_edit_refused,
    assert_refused,
    assert_unanswered,
    judge,
    written,
)

from peft_helpers.checks import decoding

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 09-1

RIGHT["check_causal_mask"] = [
    """
def answer(attention_mask):
    size = attention_mask.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool).tril()
    itself = torch.eye(size, dtype=torch.bool)
    return earlier & (attention_mask.bool()[:, None, :] | itself)
""",
    """
def answer(m):
    B, T = m.shape
    out = torch.zeros(B, T, T)
    for b in range(B):
        for t in range(T):
            for s in range(t + 1):
                out[b, t, s] = float(m[b, s] == 1 or s == t)
    return out
""",
]
WRONG["check_causal_mask"] = [
    Wrong("future-visible", 0, ".tril()", ".triu()"),
    Wrong("not-causal", 0, "earlier & ", ""),
    Wrong("not-causal", 1, "range(t + 1)", "range(T)"),
    Wrong("itself-hidden", 0, ".tril()", ".tril(-1)"),
    Wrong("itself-hidden", 1, "range(t + 1)", "range(t)"),
    Wrong("padding-visible", 0, "attention_mask.bool()[:, None, :]", "torch.ones_like(attention_mask).bool()[:, None]"),
    Wrong("padding-visible", 1, "m[b, s] == 1 or s == t", "True"),
    Wrong("row-without-key", 0, " | itself", ""),
    Wrong("row-without-key", 1, " or s == t", ""),
    Wrong("queries-masked", 0, "[:, None, :]", "[:, :, None]"),
    Wrong("queries-masked", 1, "m[b, s]", "m[b, t]"),
    Wrong("mask-inverted", 0, "return earlier & (attention_mask.bool()[:, None, :] | itself)",
          "return ~(earlier & (attention_mask.bool()[:, None, :] | itself))"),
    Wrong("wrong-shape", 0, "return earlier & (attention_mask.bool()[:, None, :] | itself)", "return earlier"),
]  # fmt: skip

# ---------------------------------------------------------------- 09-2

RIGHT["check_answer_labels"] = [
    """
def answer(prompt, answer, end, length):
    labels = [-100] * len(prompt) + list(answer) + [end]
    return labels + [-100] * (length - len(labels))
""",
    """
def answer(prompt, answer, end, length):
    labels = torch.full((length,), -100)
    first, last = len(prompt), len(prompt) + len(answer)
    labels[first:last] = torch.tensor(answer)
    labels[last] = end
    return labels
""",
]
WRONG["check_answer_labels"] = [
    Wrong("loss-on-x", 0, "[-100] * len(prompt)", "list(prompt)"),
    Wrong("loss-on-x", 1, "labels[last] = end", "labels[last] = end; labels[:first] = torch.tensor(prompt)"),
    Wrong("off-by-one", 0, "[-100] * len(prompt)", "[-100] * (len(prompt) - 1)"),
    Wrong("off-by-one", 1, "return labels", "return torch.cat([labels[1:], torch.tensor([-100])])"),
    Wrong("off-by-one", 1, "return labels", "return torch.cat([torch.tensor([-100]), labels[:-1]])"),
    Wrong("padding-counted", 0, "labels + [-100] *", "labels + [end] *"),
    Wrong("padding-counted", 1, "labels[last] = end", "labels[last:] = end"),
    Wrong("end-forgotten", 0, "+ [end]", "+ [-100]"),
    Wrong("end-forgotten", 1, "labels[last] = end", "pass"),
    Wrong("wrong-ignored", 0, "-100", "0"),
    Wrong("wrong-ignored", 0, "-100", "-1"),
    Wrong("wrong-ignored", 0, "[-100] * len(prompt)", "[0] * len(prompt)"),
    Wrong("all-ignored", 1, "labels[first:last] = torch.tensor(answer)\n    labels[last] = end", "pass"),
    Wrong("padded-left", 0, "labels + [-100] * (length - len(labels))", "[-100] * (length - len(labels)) + labels"),
    Wrong("first-token-lost", 1, "    labels[last] = end", "    labels[last] = end; labels[first] = -100"),
    Wrong("wrong-shape", 0, "labels + [-100] * (length - len(labels))", "labels"),
    Wrong("input-changed", 0, "    return", "    prompt += answer\n    return"),
]

# ---------------------------------------------------------------- 09-4

RIGHT["check_sampling"] = [
    """
def answer(logits, temperature, top_p):
    shares, places = (logits / temperature).softmax(-1).sort(descending=True)
    kept = torch.where(shares.cumsum(-1) - shares < top_p, shares, 0.0)
    probabilities = torch.zeros_like(shares)
    probabilities[places] = kept / kept.sum()
    return probabilities
""",
    """
def answer(logits, temperature, top_p):
    z = logits / temperature
    p = F.softmax(z, -1)
    order = p.argsort(descending=True)
    total, keep = 0.0, []
    for i in order.tolist():
        keep.append(i)
        total += p[i].item()
        if total >= top_p:
            break
    out = torch.full_like(z, float("-inf"))
    out[keep] = z[keep]
    return out.softmax(0)
""",
]
WRONG["check_sampling"] = [
    Wrong("temperature-multiplied", 0, "logits / temperature", "logits * temperature"),
    Wrong("temperature-ignored", 1, "logits / temperature", "logits"),
    Wrong("temperature-ignored", 0, "logits / temperature", "logits"),
    Wrong("temperature-late", 1, "p = F.softmax(z, -1)", "p = F.softmax(logits, -1)"),
    Wrong("crossing-token-lost", 0, "shares.cumsum(-1) - shares < top_p", "shares.cumsum(-1) <= top_p + 1e-9"),
    Wrong("threshold-on-one", 0, "shares.cumsum(-1) - shares < top_p", "shares >= top_p"),
    Wrong("threshold-on-one", 0, "shares.cumsum(-1) - shares < top_p", "shares >= 1 - top_p"),
    Wrong("not-renormalized", 0, "kept / kept.sum()", "kept"),
    Wrong("order-lost", 0, "return probabilities", "return kept / kept.sum()"),
    Wrong("zero-logit", 1, 'float("-inf")', "0.0"),
    Wrong("likeliest-dropped", 0, "descending=True", "descending=False"),
    Wrong("likeliest-dropped", 1, "descending=True", "descending=False"),
    Wrong("nothing-cut", 1, "        if total >= top_p:\n            break\n", ""),
    Wrong("precision-lost", 0, "return probabilities", "return probabilities.float()"),
]  # fmt: skip

# ---------------------------------------------------------------- 09-5

RIGHT["check_clipped_matches"] = [
    """
def answer(tokens, references, n):
    def grams(words):
        return Counter(tuple(words[i:i + n]) for i in range(len(words) - n + 1))
    allowed = Counter()
    for reference in references:
        allowed |= grams(reference)
    return (grams(tokens) & allowed).total(), grams(tokens).total()
""",
    """
def answer(tokens, references, n):
    def grams(words):
        return [" ".join(words[i:i + n]) for i in range(len(words) - n + 1)]
    made, matched = grams(tokens), 0
    for gram in set(made):
        most = max(grams(reference).count(gram) for reference in references)
        matched += min(made.count(gram), most)
    return [matched, len(made)]
""",
]
WRONG["check_clipped_matches"] = [
    Wrong("not-clipped", 1, "min(made.count(gram), most)", "made.count(gram) if most else 0"),
    Wrong("references-added", 0, "allowed |= ", "allowed += "),
    Wrong("references-added", 1, "max(grams", "sum(grams"),
    Wrong("first-reference", 0, "in references:", "in references[:1]:"),
    Wrong("sets", 1, "made, matched = grams(tokens), 0", "made, matched = list(set(grams(tokens))), 0"),
    Wrong("recall", 0, "grams(tokens).total()", "allowed.total()"),
    Wrong("off-by-one", 0, "len(words) - n + 1", "len(words) - n"),
    Wrong("single-tokens", 0, "words[i:i + n]) for i in range(len(words) - n + 1)", "[w]) for w in words"),
    Wrong("wrong-outputs", 0, ", grams(tokens).total()", ""),
]

# ---------------------------------------------------------------- 09-6

RIGHT["check_slot_errors"] = [
    """
def answer(given, said):
    return sum(given.get(slot) != said.get(slot) for slot in given.keys() | said.keys())
""",
    """
def answer(given, said):
    errors = 0
    for slot, value in given.items():
        if slot not in said:
            errors += 1
        elif said[slot] != value:
            errors += 1
    for slot in said:
        if slot not in given:
            errors += 1
    return errors
""",
]
WRONG["check_slot_errors"] = [
    Wrong("wrong-twice", 1, "!= value:\n            errors += 1", "!= value:\n            errors += 2"),
    Wrong("added-ignored", 0, "given.keys() | said.keys()", "given"),
    Wrong("missing-ignored", 0, "given.keys() | said.keys()", "said"),
    Wrong("values-ignored", 1, "elif said[slot] != value:", "elif False:"),
    Wrong("slots-ignored", 0, "given.keys() | said.keys()", "given.keys() & said.keys()"),
    Wrong("rate-returned", 1, "return errors", "return errors / len(given)"),
]  # fmt: skip

# ---------------------------------------------------------------- 09-7

RIGHT["check_longest_common"] = [
    """
def answer(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else best
    return table[-1][-1]
""",
    """
def answer(a, b):
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + answer(a[1:], b[1:])
    return max(answer(a[1:], b), answer(a, b[1:]))
""",
]
WRONG["check_longest_common"] = [
    Wrong("wrong-value", 0, "best = max(table[i][j + 1], table[i + 1][j])", "best = 0"),
    Wrong("order-ignored", 0, "    return table[-1][-1]", "    return (Counter(a) & Counter(b)).total()"),
    Wrong("order-ignored", 0, "    return table[-1][-1]", "    return len(set(a) & set(b))"),
    Wrong("same-places", 0, "    return table[-1][-1]", "    return sum(x == y for x, y in zip(a, b))"),
]  # fmt: skip

CONTIGUOUS = """
def answer(a, b):
    best, row = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0] + [row[j] + 1 if x == y else 0 for j, y in enumerate(b)]
        best = max(best, *row)
    return best
"""
GREEDY = """
def answer(a, b):
    at = found = 0
    for x in a:
        for j in range(at, len(b)):
            if b[j] == x:
                at, found = j + 1, found + 1
                break
    return found
"""

FUNCTIONS = sorted(RIGHT)


@pytest.mark.parametrize(("checker", "source"), [(name, source) for name in FUNCTIONS for source in RIGHT[name]])
def test_right_answers_pass(checker, source):
    assert_accepted(checker, written(source))


@pytest.mark.parametrize(("checker", "wrong"), [(name, wrong) for name in FUNCTIONS for wrong in WRONG[name]])
def test_wrong_answers_are_named(checker, wrong):
    assert_edit_refused(checker, RIGHT[checker], wrong)


@pytest.mark.parametrize(("source", "slug"), [(CONTIGUOUS, "contiguous"), (GREEDY, "greedy")])
def test_other_ways_to_compare_texts_are_named(source, slug):
    assert_refused("check_longest_common", written(source), slug)


def test_probabilities_divided_by_the_temperature_are_named():
    def answer(logits, temperature, top_p):
        shares, places = logits.softmax(-1).sort(descending=True)
        shares = shares.where(shares.cumsum(-1) - shares < top_p, 0 * shares)
        return (shares / shares.sum()).gather(0, places.argsort()) / temperature

    assert_refused("check_sampling", answer, "temperature-on-probabilities")


@pytest.mark.parametrize("checker", FUNCTIONS)
def test_no_answer_is_no_failure(checker):
    assert_unanswered(checker, None)
    assert_unanswered(checker, lambda *arguments: None)


@pytest.mark.parametrize("checker", [*FUNCTIONS, "check_cache_memory"])
@pytest.mark.parametrize("junk", JUNK)
def test_junk_never_raises(checker, junk):
    assert not judge(checker, JUNK[junk])


# ---------------------------------------------------------------- 09-3


@pytest.mark.parametrize("answer", [2 * 24 * 1024 * 8 * 1000 * 4 / 1e6, 1573, 1572.864])
def test_the_cache_is_counted(answer):
    assert_accepted("check_cache_memory", answer)


@pytest.mark.parametrize(
    ("answer", "slug"),
    [
        (24 * 1024 * 8 * 1000 * 4 / 1e6, "half-counted"),
        (2 * 24 * 1024 * 8 * 1000 / 1e6, "elements"),
        (2 * 24 * 16 * 1024 * 8 * 1000 * 4 / 1e6, "heads-multiplied"),
        (2 * 24 * 64 * 8 * 1000 * 4 / 1e6, "one-head"),
        (2 * 1024 * 8 * 1000 * 4 / 1e6, "one-layer"),
        (2 * 24 * 1024 * 1000 * 4 / 1e6, "one-text"),
        (2 * 24 * 1024 * 8 * 4 / 1e6, "one-token"),
        (2 * 24 * 1024 * 8 * 1000 * 4, "bytes"),
        (3, "wrong-value"),
    ],
)
def test_miscounted_caches_are_named(answer, slug):
    assert_refused("check_cache_memory", answer, slug)


def test_the_right_number_is_none_of_the_mistakes():
    assert all(abs(mistake.value / decoding.CACHE - 1) > 0.02 for mistake in decoding.CACHE_MEMORY.mistakes)

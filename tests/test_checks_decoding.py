"""The checkers of lesson 09: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

from checker_cases import ValueCheckerTests, Wrong, assert_refused

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
    """
def answer(attention_mask):
    places = torch.arange(attention_mask.shape[1])
    row, column = places[:, None], places[None, :]
    return torch.where(column < row, attention_mask[:, None, :], (column == row).long())
""",
]
WRONG["check_causal_mask"] = [
    Wrong("future-visible", 0, ".tril()", ".triu()"),
    Wrong("not-causal", 0, "earlier & ", ""),
    Wrong("not-causal", 1, "range(t + 1)", "range(T)"),
    Wrong("itself-hidden", 0, ".tril()", ".tril(-1)"),
    Wrong("itself-hidden", 1, "range(t + 1)", "range(t)"),
    Wrong("itself-hidden", 2, "(column == row).long()", "0"),
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
    """
def answer(prompt, answer, end, length):
    row = [*prompt, *answer, end]
    return [row[t] if len(prompt) <= t < len(row) else -100 for t in range(length)]
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
    Wrong("end-forgotten", 2, "< len(row)", "< len(row) - 1"),
    Wrong("wrong-ignored", 0, "-100", "0"),
    Wrong("wrong-ignored", 0, "-100", "-1"),
    Wrong("wrong-ignored", 0, "[-100] * len(prompt)", "[0] * len(prompt)"),
    Wrong("all-ignored", 1, "labels[first:last] = torch.tensor(answer)\n    labels[last] = end", "pass"),
    Wrong("padded-left", 0, "labels + [-100] * (length - len(labels))", "[-100] * (length - len(labels)) + labels"),
    Wrong("first-token-lost", 1, "    labels[last] = end", "    labels[last] = end; labels[first] = -100"),
    Wrong("first-token-lost", 2, "<= t", "< t"),
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
    """
def answer(logits, temperature, top_p):
    shares = np.exp(logits.numpy() / temperature)
    shares = shares / shares.sum()
    order = np.argsort(-shares)
    before = np.cumsum(shares[order]) - shares[order]
    shares[order[before >= top_p]] = 0
    return shares / shares.sum()
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
    Wrong("not-renormalized", 2, "return shares / shares.sum()", "return shares"),
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
    """
def answer(tokens, references, n):
    def grams(words):
        return Counter(zip(*(words[i:] for i in range(n))))
    made, allowed = grams(tokens), {}
    for reference in references:
        for gram, count in grams(reference).items():
            allowed[gram] = max(allowed.get(gram, 0), count)
    return sum(min(count, allowed.get(gram, 0)) for gram, count in made.items()), sum(made.values())
""",
]
WRONG["check_clipped_matches"] = [
    Wrong("not-clipped", 1, "min(made.count(gram), most)", "made.count(gram) if most else 0"),
    Wrong("references-added", 0, "allowed |= ", "allowed += "),
    Wrong("references-added", 1, "max(grams", "sum(grams"),
    Wrong("references-added", 2, "max(allowed.get(gram, 0), count)", "allowed.get(gram, 0) + count"),
    Wrong("first-reference", 0, "in references:", "in references[:1]:"),
    Wrong("sets", 1, "made, matched = grams(tokens), 0", "made, matched = list(set(grams(tokens))), 0"),
    Wrong("recall", 0, "grams(tokens).total()", "allowed.total()"),
    Wrong("off-by-one", 0, "len(words) - n + 1", "len(words) - n"),
    Wrong("words-for-ngrams", 0, "grams(tokens).total()", "len(tokens)"),
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
    """
def answer(given, said):
    missing = [slot for slot in given if slot not in said]
    added = [slot for slot in said if slot not in given]
    wrong = [slot for slot in given if slot in said and given[slot] != said[slot]]
    return len(missing + added + wrong)
""",
]
WRONG["check_slot_errors"] = [
    Wrong("wrong-twice", 1, "!= value:\n            errors += 1", "!= value:\n            errors += 2"),
    Wrong("wrong-twice", 2, "added + wrong", "added + wrong + wrong"),
    Wrong("added-ignored", 0, "given.keys() | said.keys()", "given"),
    Wrong("missing-ignored", 0, "given.keys() | said.keys()", "said"),
    Wrong("values-ignored", 1, "elif said[slot] != value:", "elif False:"),
    Wrong("slots-ignored", 0, "given.keys() | said.keys()", "given.keys() & said.keys()"),
    Wrong("rate-returned", 1, "return errors", "return errors / len(given)"),
]  # fmt: skip


# ---------------------------------------------------------------- 09-3

VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_cache_memory": (
        [2 * 24 * 1024 * 8 * 1000 * 4 / 1e6, 1573, 1572.864],
        [
            ("half-counted", 24 * 1024 * 8 * 1000 * 4 / 1e6),
            ("elements", 2 * 24 * 1024 * 8 * 1000 / 1e6),
            ("heads-multiplied", 2 * 24 * 16 * 1024 * 8 * 1000 * 4 / 1e6),
            ("one-head", 2 * 24 * 64 * 8 * 1000 * 4 / 1e6),
            ("one-layer", 2 * 1024 * 8 * 1000 * 4 / 1e6),
            ("one-text", 2 * 24 * 1024 * 1000 * 4 / 1e6),
            ("one-token", 2 * 24 * 1024 * 8 * 4 / 1e6),
            ("mebibytes", 2 * 24 * 1024 * 8 * 1000 * 4 / 2**20),
            ("bytes", 2 * 24 * 1024 * 8 * 1000 * 4),
            ("wrong-value", 3),
        ],
    )
}

# ---------------------------------------------------------------- the tests


class TestLesson09(ValueCheckerTests):
    modules = (decoding,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_causal_mask": decoding.CAUSAL,
        "check_answer_labels": decoding.LABELS,
        "check_sampling": decoding.SAMPLING,
        "check_clipped_matches": decoding.CLIPPED,
        "check_slot_errors": decoding.SLOTS,
    }
    valued = {"check_cache_memory": decoding.CACHE_MEMORY}
    untried = frozenset({"temperature-on-probabilities"})  # tried below: it takes more than one edit


def test_probabilities_divided_by_the_temperature_are_named():
    def answer(logits, temperature, top_p):
        shares, places = logits.softmax(-1).sort(descending=True)
        shares = shares.where(shares.cumsum(-1) - shares < top_p, 0 * shares)
        return (shares / shares.sum()).gather(0, places.argsort()) / temperature

    assert_refused("check_sampling", answer, "temperature-on-probabilities")

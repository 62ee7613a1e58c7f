"""The checkers of lesson 04: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import math

import pytest
import torch
from checker_cases import CheckerTests, Wrong, assert_refused, judge, written

from peft_helpers.checks import encoder

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 04-1

RIGHT["check_bpe_step"] = [
    """
def answer(words):
    pairs = {}
    for symbols, count in words.items():
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] = pairs.get(pair, 0) + count
    best = max(pairs, key=pairs.get)
    merged = {}
    for symbols, count in words.items():
        new = []
        for symbol in symbols:
            if new and (new[-1], symbol) == best:
                new[-1] = best[0] + best[1]
            else:
                new.append(symbol)
        merged[tuple(new)] = count
    return best, merged
""",
    """
def answer(words):
    pairs = Counter()
    for symbols, count in words.items():
        for i in range(len(symbols) - 1):
            pairs[symbols[i], symbols[i + 1]] += count
    (a, b), _ = pairs.most_common(1)[0]
    out = {}
    for symbols, count in words.items():
        new, i = (), 0
        while i < len(symbols):
            if symbols[i:i + 2] == (a, b):
                new, i = new + (a + b,), i + 2
            else:
                new, i = new + (symbols[i],), i + 1
        out[new] = count
    return [a, b], out
""",
    """
def answer(words):
    pairs = Counter()
    for symbols, count in words.items():
        pairs.update({pair: 0 for pair in zip(symbols, symbols[1:])})
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += count
    best = sorted(pairs, key=lambda pair: -pairs[pair])[0]
    def merge(symbols):
        if len(symbols) < 2:
            return symbols
        if symbols[:2] == best:
            return ("".join(best), *merge(symbols[2:]))
        return (symbols[0], *merge(symbols[1:]))
    return best, {merge(symbols): count for symbols, count in words.items()}
""",
]
WRONG["check_bpe_step"] = [
    Wrong("counts-ignored", 0, "pairs.get(pair, 0) + count", "pairs.get(pair, 0) + 1"),
    Wrong("counts-ignored", 1, "+= count", "+= 1"),
    Wrong("once-a-word", 0, "in zip(symbols, symbols[1:])", "in set(zip(symbols, symbols[1:]))"),
    Wrong("rarest-pair", 0, "max(pairs", "min(pairs"),
    Wrong("pair-joined", 0, "return best, merged", "return ''.join(best), merged"),
    Wrong("first-only", 1, "if symbols[i:i + 2] == (a, b):", "if symbols[i:i + 2] == (a, b) and a + b not in new:"),
    Wrong("first-only", 2, "*merge(symbols[2:]))", "*symbols[2:])"),
    Wrong("not-skipped", 1, "(a + b,), i + 2", "(a + b,), i + 1"),
    Wrong("not-skipped", 2, "*merge(symbols[2:]))", "*merge(symbols[1:]))"),
    Wrong(
        "inside-symbols",
        0,
        "        merged[tuple(new)] = count",
        "        merged[tuple(' '.join(symbols).replace(' '.join(best), ''.join(best)).split())] = count",
    ),
    Wrong(
        "from-the-right",
        2,
        "return best, {merge(symbols): count",
        "turned = lambda w: merge(w[::-1])[::-1] if best[0] == best[1] else merge(w)\n"
        "    return best, {turned(symbols): count",
    ),
    Wrong(
        "words-dropped",
        0,
        "        merged[tuple(new)] = count",
        "        if best[0] + best[1] in new: merged[tuple(new)] = count",
    ),
    Wrong("not-merged", 0, "return best, merged", "return best, words"),
    Wrong("words-joined", 0, "merged[tuple(new)]", "merged[' '.join(new)]"),
    Wrong("wrong-outputs", 0, "return best, merged", "return best"),
    Wrong("wrong-value", 0, "merged[tuple(new)] = count", "merged[tuple(new)] = 1"),
    Wrong("wrong-type", 0, "return best, merged", "return best, list(merged)"),
    Wrong("wrong-type", 0, "return best, merged", "return pairs[best], merged"),
]

# ---------------------------------------------------------------- 04-2

RIGHT["check_attention"] = [
    """
def answer(query, key, value, heads, mask):
    batch, length, width = query.shape
    q, k, v = (x.reshape(batch, length, heads, -1).transpose(1, 2) for x in (query, key, value))
    scores = q @ k.transpose(-2, -1) / math.sqrt(width // heads)
    scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    mixed = scores.softmax(dim=-1) @ v
    return mixed.transpose(1, 2).reshape(batch, length, width)
""",
    """
def answer(query, key, value, heads, mask):
    parts = []
    for q, k, v in zip(*(x.chunk(heads, dim=-1) for x in (query, key, value))):
        scores = torch.einsum("btd,bsd->bts", q, k) * q.shape[-1] ** -0.5
        scores = scores + (1 - mask[:, None, :].to(scores.dtype)) * torch.finfo(scores.dtype).min
        parts.append(torch.softmax(scores, dim=2) @ v)
    return torch.cat(parts, dim=-1)
""",
    """
def answer(query, key, value, heads, mask):
    split = [x.unflatten(-1, (heads, -1)).permute(0, 2, 1, 3) for x in (query, key, value)]
    mixed = F.scaled_dot_product_attention(*split, attn_mask=mask[:, None, None].bool())
    return mixed.permute(0, 2, 1, 3).flatten(2)
""",
]
SPLIT = "x.reshape(batch, length, heads, -1).transpose(1, 2)"
MASKED = '    scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))\n'
WRONG["check_attention"] = [
    Wrong("no-scaling", 0, " / math.sqrt(width // heads)", ""),
    Wrong("no-scaling", 1, " * q.shape[-1] ** -0.5", ""),
    Wrong("no-scaling", 2, ".bool())", ".bool(), scale=1.0)"),
    Wrong("scaled-by-width", 0, "width // heads", "width"),
    Wrong("scaled-by-width", 1, "q.shape[-1]", "query.shape[-1]"),
    Wrong("scaled-twice", 0, "math.sqrt(width // heads)", "(width // heads)"),
    Wrong("scaled-twice", 1, "** -0.5", "** -1"),
    Wrong("scaling-inverted", 1, "** -0.5", "** 0.5"),
    Wrong(
        "mask-after-softmax",
        0,
        MASKED + "    mixed = scores.softmax(dim=-1) @ v",
        "    mixed = scores.softmax(dim=-1).masked_fill(mask[:, None, None, :] == 0, 0) @ v",
    ),
    Wrong("mask-forgotten", 0, MASKED, ""),
    Wrong("mask-forgotten", 2, ", attn_mask=mask[:, None, None].bool()", ""),
    Wrong("mask-inverted", 0, ":] == 0", ":] == 1"),
    Wrong("mask-inverted", 1, "(1 - mask[:, None, :].to(scores.dtype))", "mask[:, None, :]"),
    Wrong("masked-score-zero", 0, 'float("-inf")', "0"),
    Wrong("masked-score-zero", 0, MASKED, "    scores = scores * mask[:, None, None, :]\n"),
    Wrong("mask-added", 0, MASKED, "    scores = scores + mask[:, None, None, :]\n"),
    Wrong("mask-added", 2, ".bool())", ".double())"),
    Wrong("queries-masked", 0, "mask[:, None, None, :]", "mask[:, None, :, None]"),
    Wrong("queries-masked", 0, ':, None, None, :] == 0, float("-inf")', ":, None, :, None] == 0, -1e9"),
    Wrong("wrong-axis", 0, "softmax(dim=-1)", "softmax(dim=-2)"),
    Wrong("wrong-axis", 0, "softmax(dim=-1)", "softmax(dim=1)"),
    Wrong("heads-merged-wrongly", 0, "mixed.transpose(1, 2).reshape", "mixed.reshape"),
    Wrong("heads-merged-wrongly", 2, "mixed.permute(0, 2, 1, 3).flatten(2)", "mixed.reshape(query.shape)"),
    Wrong("heads-split-wrongly", 0, SPLIT, "x.reshape(batch, heads, length, -1)"),
    Wrong(
        "heads-split-wrongly",
        2,
        "unflatten(-1, (heads, -1)).permute(0, 2, 1, 3)",
        "reshape(len(x), heads, x.shape[1], -1)",
    ),
    Wrong("heads-ignored", 1, "chunk(heads, dim=-1)", "chunk(1, dim=-1)"),
    Wrong(
        "heads-interleaved",
        2,
        "unflatten(-1, (heads, -1)).permute(0, 2, 1, 3)",
        "unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)",
    ),
    Wrong("heads-interleaved", 1, "x.chunk(heads, dim=-1)", "[x[..., h::heads] for h in range(heads)]"),
    Wrong("heads-averaged", 1, "torch.cat(parts, dim=-1)", "sum(parts) / heads"),
    Wrong("heads-averaged", 0, "mixed.transpose(1, 2).reshape(batch, length, width)", "mixed.sum(1)"),
    Wrong("value-forgotten", 0, "softmax(dim=-1) @ v", "softmax(dim=-1) @ k"),
    Wrong("query-key-swapped", 0, "q @ k.transpose(-2, -1)", "k @ q.transpose(-2, -1)"),
    Wrong(
        "precision-lost", 0, "for x in (query, key, value))", "for x in (query.float(), key.float(), value.float()))"
    ),
    Wrong("wrong-shape", 0, ".reshape(batch, length, width)", ""),
    Wrong("wrong-signature", 0, "heads, mask):", "heads, mask, dropout):"),
]

# ---------------------------------------------------------------- 04-3

RIGHT["check_position_ids"] = [
    """
def answer(attention_mask):
    return (attention_mask.cumsum(dim=1) - 1) * attention_mask
""",
    """
def answer(attention_mask):
    positions = torch.zeros_like(attention_mask)
    for row, mask in enumerate(attention_mask):
        places = mask.nonzero()[:, 0]
        positions[row, places] = torch.arange(len(places))
    return positions
""",
    """
def answer(attention_mask):
    return (torch.cumsum(attention_mask, 1) - 1).masked_fill(attention_mask == 0, 0).tolist()
""",
]
WRONG["check_position_ids"] = [
    Wrong("padding-counted", 0, "(attention_mask.cumsum(dim=1) - 1)", "torch.arange(attention_mask.shape[1])"),
    Wrong("padding-counted", 1, "torch.arange(len(places))", "places"),
    Wrong(
        "padding-counted",
        0,
        "(attention_mask.cumsum(dim=1) - 1) * attention_mask",
        "torch.arange(attention_mask.shape[1]).repeat(len(attention_mask), 1)",
    ),
    Wrong("off-by-one", 0, " - 1", ""),
    Wrong("off-by-one", 0, "(attention_mask.cumsum(dim=1) - 1) * attention_mask", "attention_mask.cumsum(dim=1)"),
    Wrong("padding-not-zero", 2, ".masked_fill(attention_mask == 0, 0)", ""),
    Wrong("padding-not-zero", 0, ") * attention_mask", ").clamp(min=0)"),
    Wrong("counted-from-the-right", 1, "torch.arange(len(places))", "torch.arange(len(places)).flip(0)"),
    Wrong("wrong-axis", 0, "dim=1", "dim=0"),
    Wrong("mask-returned", 0, "(attention_mask.cumsum(dim=1) - 1) * attention_mask", "attention_mask"),
    Wrong("input-changed", 1, "torch.zeros_like(attention_mask)", "attention_mask"),
]

# ---------------------------------------------------------------- 04-4

RIGHT["check_layer_count"] = [
    """
def answer(width, feed_forward, heads):
    attention = 4 * (width * width + width)
    block = width * feed_forward + feed_forward + feed_forward * width + width
    return attention, block, 2 * 2 * width
""",
    """
def answer(width, feed_forward, heads):
    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())
    nn = torch.nn
    return [
        count(*(nn.Linear(width, width) for _ in range(4))),
        count(nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)),
        count(nn.LayerNorm(width), nn.LayerNorm(width)),
    ]
""",
    """
def answer(width, feed_forward, heads):
    head = 3 * (width * (width // heads) + width // heads)
    attention = heads * head + width**2 + width
    return torch.tensor(attention), (width + 1) * feed_forward + (feed_forward + 1) * width, 4 * width
""",
]
BLOCK = "width * feed_forward + feed_forward + feed_forward * width + width"
WRONG["check_layer_count"] = [
    Wrong("biases-forgotten", 0, "width * width + width", "width * width"),
    Wrong("biases-forgotten", 0, BLOCK, "2 * width * feed_forward"),
    Wrong("output-projection-forgotten", 0, "4 * (width", "3 * (width"),
    Wrong("output-projection-forgotten", 2, " + width**2 + width", ""),
    Wrong("output-projection-forgotten", 0, "4 * (width * width + width)", "3 * width * width"),
    Wrong("heads-multiplied", 0, "4 * (width", "heads * 4 * (width"),
    Wrong("heads-multiplied", 2, "width * (width // heads) + width // heads", "width * width + width"),
    Wrong("heads-divided", 2, "heads * head", "head"),
    Wrong("heads-divided", 0, "4 * (width * width + width)", "4 * (width * (width // heads) + width // heads)"),
    Wrong(
        "one-matrix",
        1,
        "count(nn.Linear(width, feed_forward), nn.Linear(feed_forward, width))",
        "count(nn.Linear(width, feed_forward))",
    ),
    Wrong("one-matrix", 0, " + feed_forward * width", ""),
    Wrong("wrong-bias", 0, BLOCK, "2 * (width * feed_forward + feed_forward)"),
    Wrong("wrong-bias", 0, BLOCK, "2 * (width * feed_forward + width)"),
    Wrong("wrong-bias", 0, "feed_forward * width + width", "feed_forward * width"),
    Wrong("one-norm", 1, "count(nn.LayerNorm(width), nn.LayerNorm(width))", "count(nn.LayerNorm(width))"),
    Wrong("one-norm", 0, "2 * 2 * width", "2 * width"),
    Wrong("one-number-a-norm", 0, "2 * 2 * width", "4"),
    Wrong("one-number-a-norm", 0, "2 * 2 * width", "2"),
    Wrong("wrong-outputs", 0, "return attention, block, 2 * 2 * width", "return attention + block + 4 * width"),
    Wrong("wrong-value", 0, "2 * 2 * width", "5 * width"),
]

# ---------------------------------------------------------------- 04-5

RIGHT["check_masked_mean"] = [
    """
def answer(hidden, mask):
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
""",
    """
def answer(hidden, mask):
    return torch.stack([states[keep == 1].mean(0) for states, keep in zip(hidden, mask)])
""",
    """
def answer(hidden, mask):
    return torch.einsum("btd,bt->bd", hidden, mask.double()) / mask.sum(1, keepdim=True)
""",
]
WRONG["check_masked_mean"] = [
    Wrong("padding-in-mean", 1, "states[keep == 1].mean(0)", "states.mean(0)"),
    Wrong("padding-in-mean", 0, "(hidden * weights).sum(dim=1) / weights.sum(dim=1)", "hidden.mean(dim=1)"),
    Wrong("padding-below", 0, "(hidden * weights).sum(dim=1) / weights.sum(dim=1)", "(hidden * weights).mean(dim=1)"),
    Wrong("padding-below", 2, "mask.sum(1, keepdim=True)", "mask.shape[1]"),
    Wrong("padding-above", 0, "(hidden * weights).sum", "hidden.sum"),
    Wrong("sum-for-mean", 2, " / mask.sum(1, keepdim=True)", ""),
    Wrong("batch-mean", 2, "mask.sum(1, keepdim=True)", "mask.sum()"),
    Wrong("first-token", 1, "states[keep == 1].mean(0)", "states[0]"),
    Wrong(
        "wrong-axis",
        0,
        "(hidden * weights).sum(dim=1) / weights.sum(dim=1)",
        "(hidden * weights).sum(2) / weights.sum(2).clamp(1)",
    ),
    Wrong(
        "wrong-axis",
        0,
        "(hidden * weights).sum(dim=1) / weights.sum(dim=1)",
        "(hidden * weights).sum(0) / weights.sum(0).clamp(1)",
    ),
    Wrong("raised", 0, "mask[..., None]", "mask"),
    Wrong("wrong-shape", 1, "states[keep == 1].mean(0)", "states[keep == 1].mean()"),
]


# ---------------------------------------------------------------- the tests


class TestLesson04(CheckerTests):
    modules = (encoder,)
    right, wrong = RIGHT, WRONG
    exercises = {
        "check_bpe_step": encoder.BPE,
        "check_attention": encoder.ATTENTION,
        "check_position_ids": encoder.POSITIONS,
        "check_layer_count": encoder.LAYER_COUNT,
        "check_masked_mean": encoder.MASKED_MEAN,
    }
    shortest_message = 6


@pytest.mark.parametrize(
    "answer",
    [
        lambda words: (("a", "b"), {1: 2}),
        lambda words: (("a", "b"), {("a", 3): 2}),
        lambda words: (("a", "b"), {("a", "b"): "2"}),
        lambda words: (("a", 3), {}),
        lambda words: (("a", "b", "c"), {}),
        lambda words: ({"a", "b"}, {}),
        lambda words: (("a", "n"), {}),
        lambda words: (None, None),
    ],
)
def test_odd_merges_are_refused(answer) -> None:
    verdict = judge("check_bpe_step", answer)
    assert verdict.passed is not True and verdict.message


def test_wrong_merges_are_told_in_letters() -> None:
    verdict = judge("check_bpe_step", lambda words: (("s", "e"), dict(words)))
    assert "('s', 'e'), it should be ('a', 'n')" in verdict.message
    nearly = written(RIGHT["check_bpe_step"][0].replace("= count\n", "= count + 1\n"))
    assert "should be" in judge("check_bpe_step", nearly).message and "index" not in verdict.message


def test_not_a_tensor_of_numbers_is_refused() -> None:
    assert_refused("check_attention", lambda *arguments: "nothing", "wrong-type")


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = encoder.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["04-a", "04-b", "04-c"]
    copied, blind, upside_down = (run["loss"]["training"] for run in runs.values())
    assert copied[0] == pytest.approx(math.log(encoder.VOCABULARY), abs=0.3)
    assert max(copied[-20:]) < 1 < math.log(encoder.VOCABULARY - 5)
    assert max(runs["04-a"]["accuracy"]["hidden words"][1]) < 0.1
    assert all(abs(loss - math.log(2)) < 0.1 for loss in blind)
    assert all(abs(share - 0.5) < 0.08 for share in runs["04-b"]["accuracy"]["dev"][1])
    assert all(abs(loss - math.log(2)) < 0.1 for loss in upside_down[:60])
    assert all(math.isnan(loss) for loss in upside_down[60:])


def test_with_positions_the_order_can_be_learned() -> None:
    """Run 04-b's twin, as its question claims: the same code learns where the input says what the answer needs."""
    torch.manual_seed(4)
    network = encoder.SmallNetwork()
    ids = torch.tensor([[encoder.CLS, 5, 6], [encoder.CLS, 6, 5]])

    def loss(generator: torch.Generator) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(ids)[1], torch.tensor([0, 1]))

    losses, _ = encoder.train(network, loss, 60, lambda: 0.0)
    assert losses[-1] < 0.05

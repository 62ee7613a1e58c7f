"""The exercises of lesson 10, prefix-tuning.

10-1  `prefix_mask(attention_mask, length)`: (B, T) -> (B, T, l + T), true where a token may look (5 min)
      checker: `check_prefix_mask`
      mistakes: not-extended, prefix-closed, prefix-behind, corner-aligned, prefix-as-tokens, not-causal,
        padding-visible, itself-hidden, mask-inverted

10-2  `text_positions(attention_mask, length)`: (B, T) -> (B, T), of a text behind a prefix that counts (4 min)
      checker: `check_text_positions`
      mistakes: shift-forgotten, off-by-one, padding-counted, prefix-included, shifted-back, shifted-twice

10-3  `prefix_attention(query, key, value, prefix_key, prefix_value, mask)` of one head -> (T, d) (8 min)
      checker: `check_prefix_attention`
      mistakes: prefix-behind, values-behind, prefix-closed, mask-ignored, not-extended, softmax-apart, averaged,
        dead-values, dead-keys, keys-for-values, scale-forgotten

10-4  `prefix_share(query, key, prefix_key)`: λ of one query (5 min)
      checker: `check_prefix_share`
      mistakes: counted, swapped, scale-forgotten, ratio, not-normalized, slots-averaged, scores-shared

10-5  three numbers: a prefix with MLP in GPT-2: trained, changed in the pretrained model, stored (5 min)
      checker: `check_prefix_counts`
      mistakes: mlp-forgotten, made-counted, one-layer, half-counted, biases-forgotten, mlp-kept, table-kept,
        heads-multiplied, nothing-changed-there

10-6  `is_trained(name)`: of a parameter of a GPT-2 with a prefix (4 min)
      checker: `check_prefix_names`
      mistakes: embedding-trained, norms-trained, attention-trained, table-only, mlp-frozen, trunk-frozen,
        first-layer-only, everything-trained, nothing-trained, mask-inverted
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peft_helpers import accounting, decoder
from peft_helpers.checks.adapters import flags_of
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    SeveralNumbers,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)

# ---------------------------------------------------------------- 10-1

ALL_TEXT = torch.ones(1, 4, dtype=torch.long)
PADDED = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def as_mask(function: Callable, attention_mask: Tensor, length: int) -> Tensor:
    """The answer's mask as 0 and 1, whatever its type."""
    made = call(function, attention_mask, length)
    return made.long() if isinstance(made, Tensor) and made.dtype == torch.bool else made


def front(attention_mask: Tensor, length: int, rows: Tensor, value: int = 1) -> Tensor:
    """`rows` (B, T, T) behind l columns of 0 or 1."""
    columns = torch.full((*attention_mask.shape, length), value)
    return torch.cat([columns, rows.long()], dim=2)


def corner(attention_mask: Tensor, length: int) -> Tensor:
    """The triangle begins in the upper left corner: row t sees the columns up to t, prefix included."""
    batch, size = attention_mask.shape
    keys = torch.cat([torch.ones(batch, length, dtype=torch.bool), attention_mask.bool()], dim=1)
    return (torch.ones(size, length + size, dtype=torch.bool).tril() & keys[:, None]).long()


def everything(attention_mask: Tensor) -> Tensor:
    """No causal mask: (B, T, T)."""
    return attention_mask.bool()[:, None, :].expand(-1, attention_mask.shape[1], -1)


def earlier(attention_mask: Tensor) -> Tensor:
    """No padding mask: (B, T, T)."""
    size = attention_mask.shape[1]
    return torch.ones(size, size, dtype=torch.bool).tril().expand(len(attention_mask), -1, -1)


def as_tokens(attention_mask: Tensor, length: int) -> Tensor:
    """A mask over l + T tokens: (B, l + T, l + T)."""
    return decoder.causal_mask(torch.cat([attention_mask.new_ones(len(attention_mask), length), attention_mask], 1))


PREFIX_MASK = FunctionExercise(
    right=lambda m, n: front(m, n, decoder.causal_mask(m)),
    probes=[
        Probe("four tokens without padding, prefix of 3", lambda f: as_mask(f, ALL_TEXT, 3)),
        Probe("padding on the left, none, and on the right, prefix of 2", lambda f: as_mask(f, PADDED, 2)),
    ],
    mistakes=[
        Mistake(
            "not-extended",
            "The mask has T columns, but there are l + T keys: it was not extended. Put l columns in front.",
            lambda m, n: decoder.causal_mask(m).long(),
        ),
        Mistake(
            "prefix-closed",
            "The prefix's columns are closed: nobody sees it, no gradient reaches it, nothing is learned.",
            lambda m, n: front(m, n, decoder.causal_mask(m), 0),
        ),
        Mistake(
            "prefix-behind",
            "The open columns stand behind the text's. The keys are [prefix; text]: so every token sees l words that "
            "are not open to it, and the mask of the first words falls on the prefix.",
            lambda m, n: front(m, n, decoder.causal_mask(m)).roll(-n, 2),
        ),
        Mistake(
            "corner-aligned",
            "The triangle begins in the upper left corner, over the prefix: row t sees columns up to t, so the last l "
            "words it should see are hidden, and the first row sees one slot only. All l columns are open to all rows.",
            corner,
        ),
        Mistake(
            "prefix-as-tokens",
            "There are l + T rows: the prefix has queries of its own. But it is keys and values only; nobody looks out "
            "of it. (Vectors that look are prompt tuning.)",
            lambda m, n: as_tokens(m, n).long(),
        ),
        Mistake(
            "not-causal",
            "The text sees what comes later. Only the prefix is open to all rows; the text stays causal.",
            lambda m, n: front(m, n, everything(m)),
        ),
        Mistake(
            "padding-visible",
            "Padding is seen: behind the prefix the mask must be what it was without.",
            lambda m, n: front(m, n, earlier(m)),
        ),
        Mistake(
            "itself-hidden",
            "Padding does not see itself any more. It does no harm here (it sees the prefix), but the mask behind the "
            "prefix should be what it was without: `causal_mask(attention_mask)`.",
            lambda m, n: front(m, n, earlier(m) & everything(m)),
        ),
        Mistake(
            "mask-inverted",
            "It is the other way around: true means that the row may see the column.",
            lambda m, n: 1 - front(m, n, decoder.causal_mask(m)),
        ),
    ],
    praise="Right: l open columns in front, for every row; behind them the mask as it was.",
)


def check_prefix_mask(answer: Any) -> Verdict:
    """Exercise 10-1: `prefix_mask(attention_mask, length)` (B, T) -> (B, T, l + T)."""
    return PREFIX_MASK.judge(answer)


# ---------------------------------------------------------------- 10-2


def at_text(function: Callable, attention_mask: Tensor, length: int) -> Any:
    """The answer where there is text; padding may have any position. Other shapes as they are."""
    made = call(function, attention_mask, length)
    if isinstance(made, Tensor) and made.shape == attention_mask.shape:
        return torch.where(attention_mask.bool(), made, 0)
    return made


def counted(attention_mask: Tensor) -> Tensor:
    """0, 1, 2 … from the first real token on."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


SHIFT = (
    "The text begins at position 0: the shift was forgotten. Here the prefix counts as l tokens, so the first word "
    "stands at position l; a prefix that was trained so meets other positions otherwise."
)
POSITIONS = FunctionExercise(
    right=lambda m, n: counted(m) + n,
    probes=[
        Probe("four tokens without padding, prefix of 3", lambda f: at_text(f, ALL_TEXT, 3)),
        Probe("padding on the left, none, and on the right, prefix of 2", lambda f: at_text(f, PADDED, 2)),
    ],
    mistakes=[
        Mistake("shift-forgotten", SHIFT, lambda m, n: counted(m)),
        Mistake("shift-forgotten", SHIFT, lambda m, n: torch.arange(m.shape[1]).expand(m.shape)),
        Mistake(
            "off-by-one",
            "One too many: the prefix has the positions 0 to l − 1, so the first word stands at l.",
            lambda m, n: m.cumsum(-1) + n,
        ),
        Mistake(
            "off-by-one",
            "One too few: the prefix has the positions 0 to l − 1, so the first word stands at l.",
            lambda m, n: counted(m) + n - 1,
        ),
        Mistake(
            "padding-counted",
            "Padding on the left is counted: that row begins later than it would alone. Count real tokens (`cumsum`).",
            lambda m, n: (torch.arange(m.shape[1]) + n).expand(m.shape),
        ),
        Mistake(
            "prefix-included",
            "There are l + T positions. The prefix is keys and values: it is not looked up in the table.",
            lambda m, n: counted(torch.cat([m.new_ones(len(m), n), m], 1)),
        ),
        Mistake(
            "shifted-back",
            "The text is moved to the left, before position 0.",
            lambda m, n: counted(m) - n,
        ),
        Mistake("shifted-twice", "The text is moved by 2 l.", lambda m, n: counted(m) + 2 * n),
    ],
    praise="Right: real tokens are counted from l on. The longest text is l tokens shorter now.",
)


def check_text_positions(answer: Any) -> Verdict:
    """Exercise 10-2: `text_positions(attention_mask, length)` (B, T) -> (B, T)."""
    return POSITIONS.judge(answer)


# ---------------------------------------------------------------- 10-3

QUERY, KEY, VALUE = (odd_numbers(4, 3, seed=seed) for seed in (201, 202, 203))
PREFIX_KEY, PREFIX_VALUE = odd_numbers(2, 3, seed=204), odd_numbers(2, 3, seed=205)
OPEN, CAUSAL = torch.ones(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool).tril()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: bool = True) -> Tensor:
    """Plain attention of one head."""
    scores = query @ key.T / (query.shape[-1] ** 0.5 if scale else 1.0)
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value


def opened(mask: Tensor, length: int, value: bool = True) -> Tensor:
    """(T, l + S): l columns in front."""
    return torch.cat([torch.full((len(mask), length), value), mask], dim=-1)


def with_prefix(q, k, v, pk, pv, mask, *, keys="front", values="front", see=True, scale=True, dead="") -> Tensor:
    """The right attention; every keyword makes one mistake."""
    order = {"front": lambda one, two: torch.cat([one, two]), "behind": lambda one, two: torch.cat([two, one])}
    pk, pv = (0 * pk if dead == "keys" else pk), (0 * pv if dead == "values" else pv)
    return attend(q, order[keys](pk, k), order[values](pv, v), opened(mask, len(pk), see), scale)


def apart(share: float | None) -> Callable:
    """Two attentions by themselves, added, or mixed with a fixed share."""

    def variant(q, k, v, pk, pv, mask):
        text, prefix = attend(q, k, v, mask), attend(q, pk, pv, torch.ones(len(q), len(pk), dtype=torch.bool))
        return text + prefix if share is None else (1 - share) * text + share * prefix

    return variant


def by(**changed: Any) -> Callable:
    """`with_prefix` with a mistake."""
    return lambda *given: with_prefix(*given, **changed)


BEHIND = (
    "The prefix stands behind the text's keys, and the mask was extended in front: columns and keys don't belong "
    "together any more. Attention itself knows no order; the mask does. Put the prefix in front, [prefix; text]."
)
PREFIX_ATTENTION = FunctionExercise(
    right=with_prefix,
    probes=[
        Probe("a mask that hides nothing", lambda f: call(f, QUERY, KEY, VALUE, PREFIX_KEY, PREFIX_VALUE, OPEN)),
        Probe("a causal mask", lambda f: call(f, QUERY, KEY, VALUE, PREFIX_KEY, PREFIX_VALUE, CAUSAL)),
    ],
    mistakes=[
        Mistake("prefix-behind", BEHIND, by(keys="behind", values="behind")),
        Mistake(
            "values-behind",
            "Keys are [prefix; text], values [text; prefix]: every weight falls on somebody else's value.",
            by(values="behind"),
        ),
        Mistake(
            "values-behind",
            "Keys are [text; prefix], values [prefix; text]: every weight falls on somebody else's value.",
            by(keys="behind"),
        ),
        Mistake(
            "prefix-closed",
            "Nobody sees the prefix: that is the attention without it. Join its keys and values, and open its columns.",
            by(see=False),
        ),
        Mistake(
            "not-extended",
            "The mask has fewer columns than there are keys: extend it by l open ones in front.",
            None,
            ("must match the size", "size mismatch", "shape of mask", "broadcast", "expanded size"),
        ),
        Mistake(
            "mask-ignored",
            "The mask is not used: the text sees what it may not see.",
            lambda q, k, v, pk, pv, mask: with_prefix(q, k, v, pk, pv, torch.ones_like(mask)),
        ),
        Mistake(
            "softmax-apart",
            "Text and prefix have a softmax each, and the results are added: weights that add up to 2. One softmax "
            "over all l + S scores lets them compete.",
            apart(None),
        ),
        Mistake(
            "averaged",
            "Text and prefix are mixed half and half. How much goes to the prefix, the scores decide.",
            apart(0.5),
        ),
        Mistake(
            "averaged",
            "Text and prefix are mixed by their numbers of keys. How much goes to the prefix, the scores decide.",
            apart(2 / 6),
        ),
        Mistake(
            "dead-values",
            "The prefix's keys take their share, and its values are zeros: half of what is trained gets no gradient.",
            by(dead="values"),
        ),
        Mistake(
            "dead-keys",
            "The prefix's keys are zeros: half of what is trained gets no gradient, and every query sees the same.",
            by(dead="keys"),
        ),
        Mistake(
            "keys-for-values",
            "The prefix's keys stand where its values belong.",
            lambda q, k, v, pk, pv, mask: with_prefix(q, k, v, pk, pk, mask),
        ),
        Mistake("scale-forgotten", "The scores are not divided by √d.", by(scale=False)),
    ],
    praise="Right: one softmax over l + S keys, the prefix open to every query.",
)


def check_prefix_attention(answer: Any) -> Verdict:
    """Exercise 10-3: `prefix_attention(query, key, value, prefix_key, prefix_value, mask)` -> (T, d)."""
    return PREFIX_ATTENTION.judge(answer)


# ---------------------------------------------------------------- 10-4


def share(q: Tensor, k: Tensor, pk: Tensor, *, scale: bool = True) -> Tensor:
    """λ of one query, (d,)."""
    scores = torch.cat([pk, k]) @ q / (q.shape[-1] ** 0.5 if scale else 1.0)
    return scores.softmax(-1)[: len(pk)].sum()


def weights(q: Tensor, k: Tensor) -> Tensor:
    return (k @ q / q.shape[-1] ** 0.5).exp()


SHARE = FunctionExercise(
    right=share,
    probes=[
        Probe("four words and a prefix of 2", lambda f: call(f, QUERY[0], KEY, PREFIX_KEY)),
        Probe("another query, two words and a prefix of 3", lambda f: call(f, QUERY[1], KEY[:2], VALUE[:3])),
    ],
    mistakes=[
        Mistake(
            "counted",
            "That is l / (l + S): keys are counted. How much a query looks at the prefix depends on the scores.",
            lambda q, k, pk: torch.tensor(len(pk) / (len(pk) + len(k)), dtype=q.dtype),
        ),
        Mistake("swapped", "That is 1 − λ, the text's share.", lambda q, k, pk: 1 - share(q, k, pk)),
        Mistake(
            "scale-forgotten",
            "The scores are not divided by √d: the softmax is too sharp.",
            lambda q, k, pk: share(q, k, pk, scale=False),
        ),
        Mistake(
            "ratio",
            "That is prefix over text. λ is prefix over *all*: put the prefix's sum below the bar too.",
            lambda q, k, pk: weights(q, pk).sum() / weights(q, k).sum(),
        ),
        Mistake(
            "not-normalized",
            "That is the prefix's part of the softmax's numerator; divide by the sum over all keys.",
            lambda q, k, pk: weights(q, pk).sum(),
        ),
        Mistake(
            "slots-averaged",
            "That is the mean of the prefix's weights. λ is their sum.",
            lambda q, k, pk: share(q, k, pk) / len(pk),
        ),
        Mistake(
            "slots-averaged",
            "Prefix and text are averaged before they are compared: then ten slots would weigh no more than one.",
            lambda q, k, pk: weights(q, pk).mean() / (weights(q, pk).mean() + weights(q, k).mean()),
        ),
        Mistake(
            "scores-shared",
            "Those are shares of the scores themselves. First exp: scores may be negative.",
            lambda q, k, pk: (pk @ q).sum() / ((pk @ q).sum() + (k @ q).sum()),
        ),
    ],
    praise="Right: λ is the prefix's part of the softmax's denominator.",
)


def check_prefix_share(answer: Any) -> Verdict:
    """Exercise 10-4: `prefix_share(query, key, prefix_key)`, (d,), (S, d), (l, d) -> λ."""
    return SHARE.judge(answer)


# ---------------------------------------------------------------- 10-5

WIDTH, LAYERS, HEADS, LENGTH, HIDDEN = 768, 12, 12, 10, 512  # GPT-2
TRAINED = accounting.prefix_parameters(WIDTH, LAYERS, LENGTH, HIDDEN)
STORED = accounting.prefix_parameters(WIDTH, LAYERS, LENGTH)
HALF = "That is half: either keys or values. A slot has both, in every layer."
COUNTS = SeveralNumbers(
    {
        "trained": NumberExercise(
            TRAINED,
            [
                WrongNumber(STORED, "mlp-forgotten", "That is what the MLP makes. Trained are the table and the MLP."),
                WrongNumber(LENGTH * WIDTH + WIDTH * HIDDEN + HIDDEN + 2 * WIDTH * (HIDDEN + 1), "one-layer",
                            "The last matrix makes the keys and values of one layer only; it has 2 L D outputs."),
                WrongNumber(LENGTH * WIDTH + WIDTH * HIDDEN + HIDDEN + LAYERS * WIDTH * (HIDDEN + 1), "half-counted",
                            HALF),
                WrongNumber(TRAINED + STORED, "made-counted", "Keys and values are not trained: they are made."),
                WrongNumber(TRAINED - HIDDEN - 2 * LAYERS * WIDTH, "biases-forgotten",
                            "The biases are missing: both matrices have one, b₁ with h, b₂ with 2 L D entries."),
                WrongNumber(TRAINED - 2 * LAYERS * WIDTH, "biases-forgotten",
                            "The second bias is missing: b₂ has an entry for each output, 2 L D."),
                WrongNumber(TRAINED - HIDDEN, "biases-forgotten", "The first bias is missing: b₁ has h entries."),
            ],
            tolerance=2e-5,  # b₁ is 5e-5 of it
        ),
        "changed": NumberExercise(
            0.0,
            [
                WrongNumber(STORED, "nothing-changed-there",
                            "That many numbers are new. Of the pretrained model, not one is changed."),
                WrongNumber(TRAINED, "nothing-changed-there",
                            "That many numbers are trained. Of the pretrained model, not one is changed."),
            ],
        ),
        "stored": NumberExercise(
            STORED,
            [
                WrongNumber(TRAINED, "mlp-kept",
                            "The MLP is kept. It makes the same numbers every time: keep those, drop the MLP."),
                WrongNumber(STORED / 2, "half-counted", HALF),
                WrongNumber(STORED / LAYERS, "one-layer", "That is one layer's. Every layer has its own."),
                WrongNumber(LENGTH * WIDTH, "table-kept",
                            "That is the small table, which is of no use without the MLP. (Or prompt tuning.)"),
                WrongNumber(STORED * HEADS, "heads-multiplied", "The heads share the width."),
            ],
        ),
    },
    praise=f"Right: {TRAINED:,} trained, 0 changed, {STORED:,} stored, {STORED / 124_439_808:.2%} of GPT-2.",
)  # fmt: skip


def check_prefix_counts(answer: Any) -> Verdict:
    """Exercise 10-5: trained, changed in the pretrained model, stored."""
    return COUNTS.judge(answer)


# ---------------------------------------------------------------- 10-6

LAYER_NAMES = ("ln_1.weight", "attn.c_attn.weight", "attn.c_proj.bias", "ln_2.bias", "mlp.c_fc.weight")
PREFIX_NAMES = ("attn.prefix.trunk.table", "attn.prefix.trunk.down.weight", "attn.prefix.up.weight",
                "attn.prefix.up.bias")  # fmt: skip
NAMES = [
    "transformer.wte.weight", "transformer.wpe.weight",
    *(f"transformer.h.0.{name}" for name in (*LAYER_NAMES, *PREFIX_NAMES)),
    *(f"transformer.h.1.{name}" for name in (*LAYER_NAMES, *PREFIX_NAMES[2:])),
    "transformer.ln_f.weight", "lm_head.weight",
]  # fmt: skip


def is_trained(name: str) -> bool:
    return ".prefix." in name


def adds(slug: str, message: str, extra: Callable[[str], bool]) -> Mistake:
    return Mistake(slug, message, lambda name: is_trained(name) or extra(name))


TIED = (
    "The head is trained beside the prefix. In GPT-2 `lm_head.weight` *is* the table of token embeddings (they are "
    "tied): the pretrained model changes for every task that uses it."
)
IS_TRAINED = FunctionExercise(
    right=is_trained,
    probes=[Probe("the names of a GPT-2 with a prefix", lambda f: flags_of(f, NAMES))],
    mistakes=[
        adds("embedding-trained", TIED, lambda name: name.startswith("lm_head")),
        adds("embedding-trained", TIED, lambda name: name.startswith("lm_head") or ".wte." in name),
        adds("embedding-trained", "The embeddings are trained too.", lambda name: ".wte." in name or ".wpe." in name),
        adds("norms-trained", "The layer norms are trained too, as with adapters.", lambda name: ".ln_" in name),
        adds("attention-trained", "'attn' also matches the pretrained projections.", lambda name: ".attn." in name),
        Mistake(
            "table-only",
            "Only the small table is trained. The MLP is new and random: with it frozen the keys and values can only "
            "move in what it makes by chance.",
            lambda name: name.endswith("prefix.trunk.table"),
        ),
        Mistake(
            "mlp-frozen",
            "The last matrices (`up`) stay frozen; they make the keys and values.",
            lambda name: "prefix.trunk" in name,
        ),
        Mistake(
            "trunk-frozen",
            "The table and the first matrix stay frozen; they are new and random.",
            lambda name: "prefix.up" in name,
        ),
        Mistake(
            "first-layer-only",
            "Only the first layer's prefix is trained. Every layer has one: that is the difference to prompt tuning.",
            lambda name: ".h.0." in name and is_trained(name),
        ),
        Mistake("everything-trained", "Everything is trained: full fine-tuning with a prefix.", lambda name: True),
        Mistake("nothing-trained", "Nothing is trained.", lambda name: False),
        Mistake("mask-inverted", "It is the other way around.", lambda name: not is_trained(name)),
    ],
    praise="Right: table and MLP, nothing of the pretrained model, and never a tied head.",
)


def check_prefix_names(answer: Any) -> Verdict:
    """Exercise 10-6: `is_trained(name)` -> bool."""
    return IS_TRAINED.judge(answer)

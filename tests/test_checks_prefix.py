"""The checkers of lesson 10: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

from checker_cases import ValueCheckerTests, Wrong

from peft_helpers.checks import prefix

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}
VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {}

# ---------------------------------------------------------------- 10-1

RIGHT["check_prefix_mask"] = [
    """
def answer(attention_mask, length):
    size = attention_mask.shape[1]
    text = attention_mask.bool()[:, None, :] | torch.eye(size, dtype=torch.bool)
    text = text & torch.ones(size, size, dtype=torch.bool).tril()
    opened = torch.ones(len(text), size, length, dtype=torch.bool)
    return torch.cat([opened, text], dim=2)
""",
    """
def answer(m, n):
    B, T = m.shape
    out = torch.zeros(B, T, n + T)
    for b in range(B):
        for t in range(T):
            for s in range(n + T):
                if s < n:
                    out[b, t, s] = 1
                else:
                    out[b, t, s] = float(s - n <= t and (m[b, s - n] == 1 or s - n == t))
    return out
""",
    """
def answer(attention_mask, length):
    from peft_helpers.decoder import causal_mask
    return F.pad(causal_mask(attention_mask), (length, 0), value=True)
""",
]
WRONG["check_prefix_mask"] = [
    Wrong("not-extended", 0, "torch.cat([opened, text], dim=2)", "text"),
    Wrong("prefix-closed", 0, "opened = torch.ones", "opened = torch.zeros"),
    Wrong("prefix-closed", 2, "True", "False"),
    Wrong("prefix-behind", 0, "[opened, text]", "[text, opened]"),
    Wrong("prefix-behind", 2, "(length, 0)", "(0, length)"),
    Wrong("corner-aligned", 1, "out[b, t, s] = 1", "out[b, t, s] = float(s <= t)\n"
          "                elif s > t:\n                    out[b, t, s] = 0"),
    Wrong("prefix-as-tokens", 2, "F.pad(causal_mask(attention_mask), (length, 0), value=True)",
          "causal_mask(F.pad(attention_mask, (length, 0), value=1))"),
    Wrong("not-causal", 0, "    text = text & torch.ones(size, size, dtype=torch.bool).tril()\n", ""),
    Wrong("padding-visible", 0, "attention_mask.bool()[:, None, :] | torch.eye(size, dtype=torch.bool)",
          "torch.ones(len(attention_mask), size, size).bool()"),
    Wrong("itself-hidden", 1, " or s - n == t", ""),
    Wrong("mask-inverted", 0, "torch.cat([opened, text], dim=2)", "~torch.cat([opened, text], dim=2)"),
]  # fmt: skip

# ---------------------------------------------------------------- 10-2

RIGHT["check_text_positions"] = [
    """
def answer(attention_mask, length):
    return (attention_mask.cumsum(-1) - 1).clamp(min=0) + length
""",
    """
def answer(attention_mask, length):
    return attention_mask.cumsum(1) + length - 1
""",
    """
def answer(m, n):
    out = torch.zeros(m.shape)
    for b in range(len(m)):
        place = n
        for t in range(m.shape[1]):
            if m[b, t]:
                out[b, t] = place
                place += 1
    return out
""",
]
WRONG["check_text_positions"] = [
    Wrong("shift-forgotten", 0, " + length", ""),
    Wrong("shift-forgotten", 2, "place = n", "place = 0"),
    Wrong("off-by-one", 1, " - 1", ""),
    Wrong("off-by-one", 2, "place = n", "place = n - 1"),
    Wrong("padding-counted", 2, "                place += 1", "            place += 1"),
    Wrong("prefix-included", 1, "attention_mask.cumsum(1) + length - 1",
          "F.pad(attention_mask, (length, 0), value=1).cumsum(1) - 1"),
    Wrong("shifted-back", 0, " + length", " - length"),
    Wrong("shifted-twice", 1, " + length", " + 2 * length"),
]  # fmt: skip

# ---------------------------------------------------------------- 10-3

RIGHT["check_prefix_attention"] = [
    """
def answer(query, key, value, prefix_key, prefix_value, mask):
    key = torch.cat([prefix_key, key])
    value = torch.cat([prefix_value, value])
    opened = torch.ones(len(query), len(prefix_key), dtype=torch.bool)
    mask = torch.cat([opened, mask], dim=1)
    scores = query @ key.T / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value
""",
    """
def answer(q, k, v, pk, pv, mask):
    out = torch.zeros(len(q), v.shape[1], dtype=q.dtype)
    for t in range(len(q)):
        scores, values = [], []
        for i in range(len(pk)):
            scores.append((q[t] @ pk[i]) / q.shape[1] ** 0.5)
            values.append(pv[i])
        for s in range(len(k)):
            if mask[t, s]:
                scores.append((q[t] @ k[s]) / q.shape[1] ** 0.5)
                values.append(v[s])
        weights = torch.stack(scores).softmax(0)
        out[t] = (weights[:, None] * torch.stack(values)).sum(0)
    return out
""",
    """
def answer(q, k, v, pk, pv, mask):
    mask = F.pad(mask, (len(pk), 0), value=True)
    return F.scaled_dot_product_attention(q, torch.cat([pk, k]), torch.cat([pv, v]), attn_mask=mask)
""",
    """
def answer(q, k, v, pk, pv, mask):
    text = torch.where(mask, (q @ k.T / q.shape[1] ** 0.5).exp(), 0.0)
    front = (q @ pk.T / q.shape[1] ** 0.5).exp()
    total = front.sum(1, keepdim=True) + text.sum(1, keepdim=True)
    return (front @ pv + text @ v) / total
""",
]
WRONG["check_prefix_attention"] = [
    Wrong("prefix-behind", 2, "torch.cat([pk, k]), torch.cat([pv, v])", "torch.cat([k, pk]), torch.cat([v, pv])"),
    Wrong("values-behind", 0, "[prefix_value, value]", "[value, prefix_value]"),
    Wrong("values-behind", 0, "[prefix_key, key]", "[key, prefix_key]"),
    Wrong("prefix-closed", 0, "opened = torch.ones", "opened = torch.zeros"),
    Wrong("prefix-closed", 2, "True", "False"),
    Wrong("not-extended", 0, "    mask = torch.cat([opened, mask], dim=1)\n", ""),
    Wrong("not-extended", 2, "    mask = F.pad(mask, (len(pk), 0), value=True)\n", ""),
    Wrong("mask-ignored", 1, "if mask[t, s]:", "if True:"),
    Wrong("softmax-apart", 3, "(front @ pv + text @ v) / total",
          "front / front.sum(1, keepdim=True) @ pv + text / text.sum(1, keepdim=True) @ v"),
    Wrong("averaged", 3, "(front @ pv + text @ v) / total",
          "(front / front.sum(1, keepdim=True) @ pv + text / text.sum(1, keepdim=True) @ v) / 2"),
    Wrong("averaged", 3, "(front @ pv + text @ v) / total",
          "(2 * (front / front.sum(1, keepdim=True) @ pv) + 4 * (text / text.sum(1, keepdim=True) @ v)) / 6"),
    Wrong("dead-values", 0, "[prefix_value, value]", "[torch.zeros_like(prefix_value), value]"),
    Wrong("dead-keys", 1, "(q[t] @ pk[i]) / q.shape[1] ** 0.5", "0 * q[t, 0]"),
    Wrong("keys-for-values", 1, "values.append(pv[i])", "values.append(pk[i])"),
    Wrong("scale-forgotten", 0, " / math.sqrt(query.shape[-1])", ""),
    Wrong("prefix-closed", 1, "for i in range(len(pk)):", "for i in []:"),
]  # fmt: skip

# ---------------------------------------------------------------- 10-4

RIGHT["check_prefix_share"] = [
    """
def answer(query, key, prefix_key):
    scores = torch.cat([prefix_key, key]) @ query / math.sqrt(len(query))
    return scores.softmax(0)[: len(prefix_key)].sum()
""",
    """
def answer(query, key, prefix_key):
    front = (prefix_key @ query / len(query) ** 0.5).exp()
    text = (key @ query / len(query) ** 0.5).exp()
    return front.sum() / (front.sum() + text.sum())
""",
    """
def answer(q, k, pk):
    front = torch.logsumexp(pk @ q / len(q) ** 0.5, 0)
    text = torch.logsumexp(k @ q / len(q) ** 0.5, 0)
    return torch.sigmoid(front - text).item()
""",
]
WRONG["check_prefix_share"] = [
    Wrong("counted", 0, "scores.softmax(0)[: len(prefix_key)].sum()", "len(prefix_key) / len(scores)"),
    Wrong("swapped", 0, "[: len(prefix_key)]", "[len(prefix_key) :]"),
    Wrong("swapped", 2, "front - text", "text - front"),
    Wrong("scale-forgotten", 0, " / math.sqrt(len(query))", ""),
    Wrong("ratio", 1, "(front.sum() + text.sum())", "text.sum()"),
    Wrong("not-normalized", 1, " / (front.sum() + text.sum())", ""),
    Wrong("slots-averaged", 0, "].sum()", "].mean()"),
    Wrong("slots-averaged", 1, "front.sum() / (front.sum() + text.sum())", "front.mean() / (front.mean()+text.mean())"),
    Wrong("scores-shared", 1, ".exp()", ""),
]  # fmt: skip

# ---------------------------------------------------------------- 10-5

MLP, MADE = 768 * 10 + 768 * 512 + 512 + 24 * 768 * 513, 2 * 10 * 12 * 768
VALUES["check_prefix_counts"] = (
    [(MLP, 0, MADE), [9_857_024, 0, 184_320], {"trained": MLP, "changed": 0.0, "stored": MADE}],
    [
        ("mlp-forgotten", (MADE, 0, MADE)),
        ("one-layer", (7_680 + 393_216 + 512 + 2 * 768 * 513, 0, MADE)),
        ("half-counted", (7_680 + 393_216 + 512 + 12 * 768 * 513, 0, MADE)),
        ("made-counted", (MLP + MADE, 0, MADE)),
        ("biases-forgotten", (7_680 + 393_216 + 24 * 768 * 512, 0, MADE)),
        ("biases-forgotten", (7_680 + 393_216 + 512 + 24 * 768 * 512, 0, MADE)),
        ("biases-forgotten", (7_680 + 393_216 + 24 * 768 * 513, 0, MADE)),
        ("nothing-changed-there", (MLP, MADE, MADE)),
        ("nothing-changed-there", (MLP, MLP, MADE)),
        ("wrong-value", (MLP, 1, MADE)),
        ("mlp-kept", (MLP, 0, MLP)),
        ("half-counted", (MLP, 0, MADE / 2)),
        ("one-layer", (MLP, 0, 2 * 10 * 768)),
        ("table-kept", (MLP, 0, 7_680)),
        ("heads-multiplied", (MLP, 0, 12 * MADE)),
        ("not-numbers", (MLP, MADE)),
        ("not-a-number", (MLP, "none", MADE)),
    ],
)

# ---------------------------------------------------------------- 10-6

RIGHT["check_prefix_names"] = [
    """
def answer(name):
    return ".prefix." in name
""",
    """
def answer(name):
    parts = name.split(".")
    return "prefix" in parts
""",
    """
def answer(name):
    import re
    return re.search(r"attn\\.prefix", name) is not None
""",
]
WRONG["check_prefix_names"] = [
    Wrong("embedding-trained", 0, '".prefix." in name', '".prefix." in name or name.startswith("lm_head")'),
    Wrong("embedding-trained", 0, '".prefix." in name', '".prefix." in name or ".wte." in name or "lm_head" in name'),
    Wrong("embedding-trained", 0, '".prefix." in name', '".prefix." in name or ".wte." in name or ".wpe." in name'),
    Wrong("norms-trained", 0, '".prefix." in name', '".prefix." in name or ".ln_" in name'),
    Wrong("attention-trained", 1, '"prefix" in parts', '"attn" in parts'),
    Wrong("table-only", 0, '".prefix." in name', 'name.endswith(".table")'),
    Wrong("mlp-frozen", 0, '".prefix." in name', '".prefix.trunk." in name'),
    Wrong("trunk-frozen", 0, '".prefix." in name', '".prefix.up." in name'),
    Wrong("first-layer-only", 1, '"prefix" in parts', '"prefix" in parts and "0" in parts'),
    Wrong("everything-trained", 0, '".prefix." in name', '"." in name'),
    Wrong("nothing-trained", 0, '".prefix." in name', '"prefixes" in name'),
    Wrong("mask-inverted", 0, '".prefix." in name', '".prefix." not in name'),
]


class TestLesson10(ValueCheckerTests):
    modules = (prefix,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_prefix_mask": prefix.PREFIX_MASK,
        "check_text_positions": prefix.POSITIONS,
        "check_prefix_attention": prefix.PREFIX_ATTENTION,
        "check_prefix_share": prefix.SHARE,
        "check_prefix_names": prefix.IS_TRAINED,
    }
    valued = {"check_prefix_counts": prefix.COUNTS}
    silent_junk = frozenset({("a dictionary", "check_prefix_counts")})  # none of the parts is in it
    raised_only = frozenset({"not-extended"})

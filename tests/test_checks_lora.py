"""The checkers of lesson 12: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import pytest
import tiny
import torch
from checker_cases import CheckerTests, Wrong, assert_accepted, assert_refused, written
from torch import nn

from peft_helpers import backbones, plots, quantization, question_bank, spectra
from peft_helpers.checks import lora
from peft_helpers.methods.lora import LoRALinear

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 12-1

RIGHT["check_lora"] = [
    """
def answer(x, weight, bias, a, b, alpha):
    return x @ weight.T + bias + alpha / len(a) * (x @ a.T @ b.T)
""",
    """
def answer(x, weight, bias, a, b, alpha):
    r = a.shape[0]
    return F.linear(x, weight, bias) + F.linear(F.linear(x, a), b) * (alpha / r)
""",
    """
def answer(x, weight, bias, a, b, alpha):
    whole = weight + alpha / b.shape[1] * torch.einsum("or,ri->oi", b, a)
    return x @ whole.T + bias
""",
]
WRONG["check_lora"] = [
    Wrong("unscaled", 0, "alpha / len(a) * ", ""),
    Wrong("not-divided", 0, "alpha / len(a)", "alpha"),
    Wrong("not-divided", 1, "(alpha / r)", "alpha"),
    Wrong("width-for-rank", 1, "a.shape[0]", "a.shape[1]"),
    Wrong("rank-stabilized", 1, "(alpha / r)", "(alpha / math.sqrt(r))"),
    Wrong("base-scaled", 1, "F.linear(x, weight, bias) + F.linear(F.linear(x, a), b) * (alpha / r)",
          "(F.linear(x, weight, bias) + F.linear(F.linear(x, a), b)) * (alpha / r)"),
    Wrong("base-missing", 0, "x @ weight.T + bias + ", ""),
    Wrong("change-missing", 0, " + alpha / len(a) * (x @ a.T @ b.T)", ""),
    Wrong("bias-scaled", 0, "bias + alpha / len(a) * (", "alpha / len(a) * (bias + "),
    Wrong("bias-forgotten", 0, " + bias", ""),
    Wrong("wrong-side", 0, "x @ a.T @ b.T", "x @ a @ b"),
    Wrong("wrong-side", 0, "x @ a.T @ b.T", "x @ b.T @ a.T"),
]  # fmt: skip

# ---------------------------------------------------------------- 12-2

RIGHT["check_lora_start"] = [
    """
def answer(rank, inputs, outputs):
    return torch.randn(rank, inputs) / inputs**0.5, torch.zeros(outputs, rank)
""",
    """
def answer(rank, inputs, outputs):
    a, b = torch.empty(rank, inputs), torch.empty(outputs, rank)
    torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))
    torch.nn.init.zeros_(b)
    return a, b
""",
    """
def answer(rank, inputs, outputs):
    return torch.zeros(rank, inputs), 0.01 * torch.randn(outputs, rank)
""",
    """
def answer(rank, inputs, outputs):
    return np.random.randn(rank, inputs), np.zeros((outputs, rank))
""",
]
WRONG["check_lora_start"] = [
    Wrong("both-zero", 0, "torch.randn(rank, inputs) / inputs**0.5", "torch.zeros(rank, inputs)"),
    Wrong("both-zero", 2, "0.01 * torch.randn", "0.0 * torch.randn"),
    Wrong("both-random", 0, "torch.zeros(", "torch.randn("),
    Wrong("both-random", 1, "zeros_(b)", "normal_(b, std=1e-3)"),
    Wrong("all-alike", 0, "torch.randn(", "torch.ones("),
    Wrong("shapes-swapped", 0, "torch.randn(rank, inputs) / inputs**0.5, torch.zeros(outputs, rank)",
          "torch.randn(inputs, rank), torch.zeros(rank, outputs)"),
]  # fmt: skip

# ---------------------------------------------------------------- 12-3

RIGHT["check_lora_attention"] = [
    """
def answer(x, w_query, w_key, w_value, change_query, change_value):
    q = x @ w_query.T + change_query(x)
    k = x @ w_key.T
    v = x @ w_value.T + change_value(x)
    return (q @ k.T / x.shape[-1] ** 0.5).softmax(-1) @ v
""",
    """
def answer(x, w_query, w_key, w_value, change_query, change_value):
    q, k, v = (F.linear(x, w) for w in (w_query, w_key, w_value))
    q, v = q + change_query(x), v + change_value(x)
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
""",
    """
def answer(x, w_query, w_key, w_value, change_query, change_value):
    scores = torch.einsum("id,jd->ij", change_query(x) + x @ w_query.T, x @ w_key.T) / math.sqrt(x.shape[1])
    shares = torch.exp(scores - torch.logsumexp(scores, 1, keepdim=True))
    return shares @ (x @ w_value.T) + shares @ change_value(x)
""",
]
WRONG["check_lora_attention"] = [
    Wrong("key-for-query", 0, "w_query.T + change_query(x)\n    k = x @ w_key.T",
          "w_query.T\n    k = x @ w_key.T + change_query(x)"),
    Wrong("swapped", 1, "q + change_query(x), v + change_value(x)", "q + change_value(x), v + change_query(x)"),
    Wrong("query-only", 0, "w_value.T + change_value(x)", "w_value.T"),
    Wrong("value-only", 0, "w_query.T + change_query(x)", "w_query.T"),
    Wrong("everywhere", 0, "x @ w_key.T", "x @ w_key.T + change_query(x)"),
    Wrong("on-the-output", 0, """v = x @ w_value.T + change_value(x)
    return (q @ k.T / x.shape[-1] ** 0.5).softmax(-1) @ v""", """v = x @ w_value.T
    m = (q @ k.T / x.shape[-1] ** 0.5).softmax(-1) @ v
    return m + change_value(m)"""),
    Wrong("on-the-input", 0, """q = x @ w_query.T + change_query(x)
    k = x @ w_key.T
    v = x @ w_value.T + change_value(x)""", """q = (x + change_query(x)) @ w_query.T
    k = x @ w_key.T
    v = (x + change_value(x)) @ w_value.T"""),
    Wrong("behind", 1, "q + change_query(x), v + change_value(x)", "q + change_query(q), v + change_value(v)"),
    Wrong("not-scaled", 0, " / x.shape[-1] ** 0.5", ""),
]  # fmt: skip

# ---------------------------------------------------------------- 12-4

RIGHT["check_lora_merge"] = [
    """
def answer(weight, a, b, alpha, merged, transposed):
    if merged:
        return weight, True
    change = alpha / len(a) * b @ a
    return weight + (change.T if transposed else change), True
""",
    """
def answer(weight, a, b, alpha, merged, transposed):
    if not merged:
        change = torch.zeros_like(weight)
        for k in range(len(a)):
            outer = torch.outer(b[:, k], a[k])
            change += outer.T if transposed else outer
        weight = weight + change * (alpha / len(a))
    return weight, True
""",
    """
def answer(weight, a, b, alpha, merged, transposed):
    scale = 0.0 if merged else alpha / b.shape[1]
    return torch.add(weight, (a.T @ b.T) if transposed else (b @ a), alpha=scale), True
""",
]
WRONG["check_lora_merge"] = [
    Wrong("merged-twice", 0, "if merged", "if False"),
    Wrong("merged-twice", 0, "if merged", "if merged and not transposed"),
    Wrong("merged-twice", 2, "0.0 if merged else ", ""),
    Wrong("unscaled", 0, "alpha / len(a) * ", ""),
    Wrong("not-divided", 0, "alpha / len(a)", "alpha"),
    Wrong("not-transposed", 0, "(change.T if transposed else change)", "change"),
    Wrong("subtracted", 0, "weight + (", "weight - ("),
    Wrong("base-missing", 0, "weight + (change.T if transposed else change)", "change.T if transposed else change"),
    Wrong("flag-forgotten", 0, "else change), True", "else change), merged"),
    Wrong("wrong-order", 0, "b @ a", "a @ b"),
]

# ---------------------------------------------------------------- 12-5

RIGHT["check_rank_needed"] = [
    """
def answer(sigma, share):
    kept = (sigma**2).cumsum(0) / (sigma**2).sum()
    return int((kept < share).sum()) + 1
""",
    """
def answer(sigma, share):
    energy, total = 0.0, sum(s * s for s in sigma.tolist())
    for r, s in enumerate(sigma.tolist(), 1):
        energy += s * s
        if energy / total >= share:
            return r
""",
    """
def answer(sigma, share):
    kept = np.cumsum(sigma.numpy() ** 2) / np.sum(sigma.numpy() ** 2)
    return np.argmax(kept >= share) + 1
""",
]
WRONG["check_rank_needed"] = [
    Wrong("not-squared", 0, "sigma**2", "sigma"),
    Wrong("not-squared", 1, "s * s", "s"),
    Wrong("one-short", 0, " + 1", ""),
    Wrong("one-short", 1, "enumerate(sigma.tolist(), 1)", "enumerate(sigma.tolist())"),
    Wrong("one-too-many", 0, " + 1", " + 2"),
    Wrong("one-too-many", 1, "share:\n            return r", "share:\n            return r + 1"),
    Wrong("share-of-largest", 0, "int((kept < share).sum()) + 1", "int((sigma >= (1 - share) * sigma[0]).sum())"),
    Wrong("from-the-smallest", 0, "(sigma**2).cumsum(0)", "(sigma**2).flip(0).cumsum(0)"),
    Wrong("share-left-out", 0, "kept < share", "kept < 1 - share"),
]

# ---------------------------------------------------------------- 12-6

RIGHT["check_quantize"] = [
    """
def answer(weight):
    scales = weight.abs().amax(1) / 127
    return (weight / scales.clamp(min=1e-30)[:, None]).round(), scales
""",
    """
def answer(weight):
    scales = weight.abs().max(dim=1, keepdim=True).values / 127
    safe = torch.where(scales > 0, scales, torch.ones_like(scales))
    return torch.round(weight / safe).to(torch.int8), scales
""",
    """
def answer(weight):
    codes, scales = [], []
    for row in weight:
        scale = row.abs().max() / 127
        codes.append((row / scale).round() if scale > 0 else torch.zeros_like(row))
        scales.append(scale)
    return torch.stack(codes), torch.stack(scales)
""",
]
WRONG["check_quantize"] = [
    Wrong("one-scale", 0, "weight.abs().amax(1) / 127", "weight.abs().max().repeat(len(weight)) / 127"),
    Wrong("one-scale", 0, "weight.abs().amax(1) / 127", "(weight.abs().max() / 127)[None]"),
    Wrong("per-column", 0, "return (weight / scales.clamp(min=1e-30)[:, None])",
          "scales = weight.abs().amax(0) / 127\n    return (weight / scales)"),
    Wrong("sign-lost", 0, ".abs()", ""),
    Wrong("one-twenty-eight", 0, "/ 127", "/ 128"),
    Wrong("one-twenty-eight", 0, "/ 127\n    return (weight / scales.clamp(min=1e-30)[:, None]).round()",
          "/ 128\n    return (weight / scales.clamp(min=1e-30)[:, None]).round().clamp(-128, 127)"),
    Wrong("one-twenty-eight", 1, "/ 127", "/ 128"),
    Wrong("cut-off", 1, "torch.round(weight / safe)", "(weight / safe)"),
    Wrong("not-rounded", 0, ".round()", ""),
    Wrong("inverted", 2, "scales.append(scale)", "scales.append(1 / scale if scale > 0 else scale)"),
    Wrong("zero-row", 0, ".clamp(min=1e-30)", ""),
]  # fmt: skip


class TestLesson12(CheckerTests):
    modules = (lora,)
    right, wrong = RIGHT, WRONG
    exercises = {
        "check_lora": lora.LORA,
        "check_lora_start": lora.START,
        "check_lora_attention": lora.ATTENTION,
        "check_lora_merge": lora.MERGE,
        "check_rank_needed": lora.RANK_NEEDED,
        "check_quantize": lora.QUANTIZE,
    }
    raised_only = frozenset({"wrong-side", "wrong-order"})


# ---------------------------------------------------------------- the right answers are the library's


def started(rank: int, inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How the library starts."""
    made = LoRALinear(linear := nn.Linear(inputs, outputs), backbones.Site("made", "made", linear), rank, alpha=1.0)
    return made.down.weight, made.up.weight


def test_the_right_layer_start_and_merge_are_the_librarys() -> None:
    model = tiny.model()
    site = backbones.anatomy(model).sites(["ffn_in"])[0]
    layer = LoRALinear(site.module, site, rank=lora.RANK, alpha=lora.ALPHA)
    assert not layer.up.weight.any() and torch.linalg.matrix_rank(layer.down.weight) == lora.RANK
    assert_accepted("check_lora_start", started)
    nn.init.normal_(layer.up.weight)
    x, (weight, bias) = torch.randn(3, 16), (layer.base.weight, layer.base.bias)
    ours = lora.lora(x, weight, bias, layer.down.weight, layer.up.weight, lora.ALPHA)
    assert torch.allclose(layer(x), ours, atol=1e-6)
    folded, merged = lora.fold(weight.detach(), layer.down.weight, layer.up.weight, lora.ALPHA, False, False)
    layer.merge()
    assert merged and torch.allclose(layer.base.weight, folded, atol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_the_right_rank_is_that_of_the_spectra(share: float) -> None:
    change = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lora.rank_needed(torch.linalg.svdvals(change), share)
    kept = [0.0, *spectra.energy_kept(change).tolist()]
    assert kept[found] >= share > kept[found - 1]


def test_the_right_codes_are_the_librarys() -> None:
    for weight in (lora.MATRIX, lora.WITH_ZEROS):
        codes, scales = quantization.quantize_rows(weight)
        assert torch.equal(codes.double(), lora.quantize(weight)[0]) and torch.equal(scales, lora.quantize(weight)[1])
    assert_accepted("check_quantize", quantization.quantize_rows)


def test_a_start_that_is_not_finite_is_refused() -> None:
    source = RIGHT["check_lora_start"][0].replace("torch.randn(rank, inputs)", "torch.full((rank, inputs), math.inf)")
    broken = written(source)
    assert_refused("check_lora_start", broken, "not-finite")


# ---------------------------------------------------------------- runs to diagnose


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = lora.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["12-a", "12-b", "12-c"]
    assert all(question_bank.find(name).kind == "diagnose" for name in runs)
    norms = runs["12-a"]["gradient norm"]
    assert max(norms["A, B"]) == 0 and min(norms["head"]) > 0
    (seen,) = runs["12-b"]["accuracy"].values()
    assert seen[99] > 0.95 and seen[-1] < seen[99] - 0.1, "every merge adds the change once more"
    top, low = runs["12-c"]["gradient norm"].values()
    assert max(low) == 0 < min(top), "what has no backward pass ends the gradient's way down"
    assert plots.broken_runs(runs).alt

"""The exercises of lesson 12, LoRA.

12-1  `lora(x, weight, bias, a, b, alpha)`: (T, in), (out, in), (out,), (r, in), (out, r), a number -> (T, out) (6 min)
      checker: `check_lora`
      mistakes: unscaled, not-divided, width-for-rank, rank-stabilized, base-scaled, base-missing, change-missing,
        bias-scaled, bias-forgotten, wrong-side

12-2  `start(rank, inputs, outputs)`: A (r, in) and B (out, r) that change nothing, and can learn (4 min)
      checker: `check_lora_start`
      mistakes: both-zero, both-random, all-alike, shapes-swapped

12-3  `attention(x, w_query, w_key, w_value, change_query, change_value)`: one head with LoRA (6 min)
      checker: `check_lora_attention`
      mistakes: key-for-query, swapped, query-only, value-only, everywhere, on-the-output, on-the-input, behind,
        not-scaled

12-4  `fold(weight, a, b, alpha, merged, transposed)` -> the merged weight and True (6 min)
      checker: `check_lora_merge`
      mistakes: merged-twice, unscaled, not-divided, not-transposed, subtracted, base-missing, flag-forgotten,
        wrong-order

12-5  `rank_needed(sigma, share)`: the smallest rank that keeps this share of the energy (5 min)
      checker: `check_rank_needed`
      mistakes: not-squared, one-short, one-too-many, share-of-largest, from-the-smallest, share-left-out

12-6  `quantize(weight)`: (out, in) -> whole numbers from -127 to 127, and a scale a row (6 min)
      checker: `check_quantize`
      mistakes: one-scale, per-column, sign-lost, one-twenty-eight, cut-off, not-rounded, inverted, zero-row
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    Probe,
    Refused,
    Verdict,
    as_numbers,
    call,
    odd_numbers,
)

# ---------------------------------------------------------------- 12-1

TOKENS, INPUTS, OUTPUTS, RANK, ALPHA = 3, 5, 4, 2, 7.0
X = odd_numbers(TOKENS, INPUTS, seed=201)
WEIGHT, BIAS = odd_numbers(OUTPUTS, INPUTS, seed=202), odd_numbers(OUTPUTS, seed=203)
A, B = odd_numbers(RANK, INPUTS, seed=204), odd_numbers(OUTPUTS, RANK, seed=205)
NOT_SQUARE = "mat1 and mat2", "size mismatch", "must match the size", "matmul", "dimension", "shapes cannot"


def lora(
    x: Tensor, weight: Tensor, bias: Tensor, a: Tensor, b: Tensor, alpha: float, *,
    scale: Callable | None = None, parts: tuple[float, float] = (1.0, 1.0), biases: float = 1.0, scaled: str = "",
) -> Tensor:  # fmt: skip
    """The right linear layer with LoRA; every keyword makes one mistake."""
    s = alpha / len(a) if scale is None else scale(alpha, a)
    base = s * (x @ weight.T) if scaled == "base" else x @ weight.T
    base = base + biases * bias * (s if scaled else 1.0)
    return parts[0] * base + parts[1] * s * (x @ a.T @ b.T)


SCALES: dict[str, tuple[Callable, str]] = {
    "unscaled": (
        lambda alpha, a: 1.0,
        "The change is not scaled: alpha / r is missing. Without it, another rank would need another learning rate.",
    ),
    "not-divided": (
        lambda alpha, a: alpha,
        "You multiply by alpha alone. The factor is alpha / r: a change of rank 64 is a sum of 64 parts.",
    ),
    "width-for-rank": (
        lambda alpha, a: alpha / a.shape[1],
        "You divide by the number of inputs. r is the number of rows of A.",
    ),
    "rank-stabilized": (
        lambda alpha, a: alpha / math.sqrt(len(a)),
        "You divide by the square root of r. That is the later, rank-stabilized variant; the paper divides by r.",
    ),
}
BASE = "The frozen part W x + bias is missing: LoRA stands beside it, and adds."
LORA = FunctionExercise(
    right=lora,
    probes=[
        Probe("three tokens, 5 inputs, 4 outputs, r = 2", lambda f: call(f, X, WEIGHT, BIAS, A, B, ALPHA)),
        Probe("a batch, (2, 3, 5)", lambda f: call(f, torch.stack([X, -X]), WEIGHT, BIAS, A, B, ALPHA)),
    ],
    mistakes=[
        *(Mistake(slug, message, partial(lora, scale=scale)) for slug, (scale, message) in SCALES.items()),
        Mistake(
            "base-scaled",
            "You scale the sum, the frozen part too. Then the model would not start as the pretrained one.",
            partial(lora, scaled="base"),
        ),
        Mistake("base-missing", BASE, partial(lora, parts=(0.0, 1.0))),
        Mistake("change-missing", "There is nothing of A and B in it.", partial(lora, parts=(1.0, 0.0))),
        Mistake(
            "bias-scaled",
            "The bias belongs to the frozen layer: it is added as it is, not times alpha / r.",
            partial(lora, scaled="bias"),
        ),
        Mistake("bias-forgotten", "The frozen layer's bias is missing.", partial(lora, biases=0.0)),
        Mistake(
            "wrong-side",
            "The shapes do not fit. All matrices are stored as (outputs, inputs): first `x @ a.T`, which is (T, r), "
            "then `@ b.T`.",
            raises=NOT_SQUARE,
        ),
    ],
    praise="Right: the frozen layer, and a change of rank r beside it.",
)


def check_lora(answer: Any) -> Verdict:
    """Exercise 12-1: `lora(x, weight, bias, a, b, alpha)` -> (T, out)."""
    return LORA.judge(answer)


# ---------------------------------------------------------------- 12-2


def start(rank: int, inputs: int, outputs: int, *, a: str = "random", b: str = "zero") -> tuple[Tensor, Tensor]:
    """A right start; `a` and `b` are "random", "zero" or "alike"."""

    def made(how: str, rows: int, columns: int, seed: int) -> Tensor:
        if how == "random":
            return odd_numbers(rows, columns, seed=seed)
        return torch.full((rows, columns), 0.5 if how == "alike" else 0.0, dtype=torch.float64)

    return made(a, rank, inputs, 206), made(b, outputs, rank, 207)


def _properties(function: Callable, rank: int, inputs: int, outputs: int) -> Tensor:
    """What a start is judged by: [does it change the output, can anything move, are its r directions different]."""
    with torch.random.fork_rng(devices=[]):
        a, b = map(as_numbers, call(function, rank, inputs, outputs, outputs=2))
    if a.shape != (rank, inputs) or b.shape != (outputs, rank):
        swapped = (a.shape, b.shape) in (((inputs, rank), (rank, outputs)), ((outputs, rank), (rank, inputs)))
        slug = "shapes-swapped" if swapped else "wrong-shape"
        told = f"A is {tuple(a.shape)} and B {tuple(b.shape)}; they must be ({rank}, {inputs}) and ({outputs}, {rank})."
        raise Refused(slug, told)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise Refused("not-finite", "not all numbers are finite (is it `torch.empty`?).")
    carrier = a if a.any() else b
    different = torch.linalg.matrix_rank(carrier) == min(rank, *carrier.shape)
    return torch.tensor([float((b @ a).any()), float(a.any() or b.any()), float(different)])


START = FunctionExercise(
    right=start,
    probes=[
        Probe("r = 3, 6 inputs, 4 outputs", lambda f: _properties(f, 3, 6, 4)),
        Probe("r = 1, 4 inputs, 5 outputs", lambda f: _properties(f, 1, 4, 5)),
    ],
    mistakes=[
        Mistake(
            "both-zero",
            "Both are zero. The gradient of B has A as a factor, and the gradient of A has B: nothing ever moves.",
            partial(start, a="zero"),
        ),
        Mistake(
            "both-random",
            "B A is not zero at first: the pretrained model is disturbed before it has learned anything.",
            partial(start, b="random"),
        ),
        Mistake(
            "all-alike",
            "All numbers of a matrix are alike. Then its r directions get the same gradient and stay the same: a rank "
            "of 1, whatever r is. Draw them at random.",
            partial(start, a="alike"),
        ),
    ],
    praise="Right: B A is exactly 0, and one factor is random, so the other one gets a gradient in the first step.",
)


def check_lora_start(answer: Any) -> Verdict:
    """Exercise 12-2: `start(rank, inputs, outputs)` -> A (r, in), B (out, r)."""
    return START.judge(answer)


# ---------------------------------------------------------------- 12-3

WIDTH = 4
STATES = odd_numbers(TOKENS, WIDTH, seed=210)
PROJECTIONS = tuple(0.4 * odd_numbers(WIDTH, WIDTH, seed=211 + k) for k in range(3))
CHANGES = tuple(
    (lambda x, k=k: 0.2 * x @ odd_numbers(WIDTH, 1, seed=221 + k) @ odd_numbers(1, WIDTH, seed=231 + k))
    for k in range(2)
)


def attention(
    x: Tensor, w_query: Tensor, w_key: Tensor, w_value: Tensor, change_query: Callable, change_value: Callable, *,
    wrong: str = "",
) -> Tensor:  # fmt: skip
    """One head of attention with LoRA on query and value; `wrong` names one mistake."""
    first, second = (change_value, change_query) if wrong == "swapped" else (change_query, change_value)
    if wrong == "on-the-input":
        q, k, v = (x + first(x)) @ w_query.T, x @ w_key.T, (x + second(x)) @ w_value.T
    elif wrong == "behind":
        q, k, v = x @ w_query.T, x @ w_key.T, x @ w_value.T
        q, v = q + first(q), v + second(v)
    else:
        q, k, v = x @ w_query.T, x @ w_key.T, x @ w_value.T
        q = q + first(x) * (wrong not in ("key-for-query", "value-only"))
        k = k + first(x) * (wrong in ("key-for-query", "everywhere"))
        v = v + second(x) * (wrong not in ("query-only", "on-the-output"))
    shares = (q @ k.T / (1.0 if wrong == "not-scaled" else math.sqrt(x.shape[-1]))).softmax(-1)
    mixed = shares @ v
    return mixed + second(mixed) if wrong == "on-the-output" else mixed


ATTENTION_MESSAGES = {
    "key-for-query": "The query's change is added to the keys. LoRA of the paper leaves the keys as they are.",
    "swapped": "The two changes are swapped: `change_query` belongs to the queries.",
    "query-only": "The values are not changed.",
    "value-only": "The queries are not changed.",
    "everywhere": "The keys are changed, too, with the query's change. Only queries and values have one here.",
    "on-the-output": "The value's change is applied to the mixture. It belongs to each token's value, before mixing.",
    "on-the-input": "The changes are added to x, before the projection. LoRA reads x, and adds to what W x gives.",
    "behind": "The changes read what the projection gives, as an adapter would. LoRA stands beside it, and reads x.",
    "not-scaled": "The scores are not divided by the root of D: that is lesson 04's attention, as ever.",
}
ATTENTION = FunctionExercise(
    right=attention,
    probes=[
        Probe("three tokens of width 4", lambda f: call(f, STATES, *PROJECTIONS, *CHANGES)),
        Probe("other states", lambda f: call(f, 0.5 - STATES, *PROJECTIONS, *CHANGES)),
    ],
    mistakes=[Mistake(slug, told, partial(attention, wrong=slug)) for slug, told in ATTENTION_MESSAGES.items()],
    praise="Right: both changes read x, and are added to the queries and the values.",
)


def check_lora_attention(answer: Any) -> Verdict:
    """Exercise 12-3: one head with LoRA on query and value, (T, D) -> (T, D)."""
    return ATTENTION.judge(answer)


# ---------------------------------------------------------------- 12-4

SQUARE, A_SQUARE, B_SQUARE = (odd_numbers(*shape, seed=240 + k) for k, shape in enumerate(((4, 4), (2, 4), (4, 2))))


def fold(
    weight: Tensor, a: Tensor, b: Tensor, alpha: float, merged: bool, transposed: bool, *, wrong: str = ""
) -> tuple[Tensor, bool]:
    """The right merge; `wrong` names one mistake."""
    if merged and wrong != "merged-twice":
        return weight, True
    scale = {"unscaled": 1.0, "not-divided": alpha}.get(wrong, alpha / len(a))
    change = scale * (b @ a)
    change = change.T if transposed and wrong != "not-transposed" else change
    if wrong == "base-missing":
        return change, True
    return weight - change if wrong == "subtracted" else weight + change, wrong != "flag-forgotten"


def _folded(function: Callable, times: int, weight: Tensor, a: Tensor, b: Tensor, transposed: bool) -> Tensor:
    """The weight after so many calls, and the flag as a number behind it."""
    merged: Any = False
    for _ in range(times):
        weight, merged = call(function, weight, a, b, ALPHA, merged, transposed, outputs=2)
        weight, merged = as_numbers(weight), bool(merged)
    return torch.cat([weight.flatten(), torch.tensor([float(merged)], dtype=torch.float64)])


MERGE_MESSAGES = {
    "merged-twice": "Called a second time, it adds the change once more: W + 2 (alpha / r) B A. `merged` says whether "
    "it is in already.",
    "unscaled": "The change is added without alpha / r. The merged model would not be the one that was trained.",
    "not-divided": "The change is multiplied by alpha. The factor is alpha / r.",
    "not-transposed": "This weight is stored as (in, out), as GPT-2's Conv1D does, and B A is (out, in). On a square "
    "matrix that raises no error, and is wrong all the same: transpose the change.",
    "subtracted": "You subtract. That is how one takes a merged change out again.",
    "base-missing": "The pretrained weight is gone: the change is added to it.",
    "flag-forgotten": "The second value must be True once the change is in; else the next call adds it again.",
}
MERGE = FunctionExercise(
    right=fold,
    probes=[
        Probe("a linear layer", lambda f: _folded(f, 1, WEIGHT, A, B, False)),
        Probe("a second call", lambda f: _folded(f, 2, WEIGHT, A, B, False)),
        Probe("a weight stored as (in, out)", lambda f: _folded(f, 1, SQUARE, A_SQUARE, B_SQUARE, True)),
        Probe("a second call, stored as (in, out)", lambda f: _folded(f, 2, SQUARE, A_SQUARE, B_SQUARE, True)),
    ],
    mistakes=[
        *(Mistake(slug, told, partial(fold, wrong=slug)) for slug, told in MERGE_MESSAGES.items()),
        Mistake("wrong-order", "The shapes do not fit: the change is B A, (out, r) times (r, in).", raises=NOT_SQUARE),
    ],
    praise="Right: once, scaled, and the right way around.",
)


def check_lora_merge(answer: Any) -> Verdict:
    """Exercise 12-4: `fold(weight, a, b, alpha, merged, transposed)` -> (weight, True)."""
    return MERGE.judge(answer)


# ---------------------------------------------------------------- 12-5

SIGMAS = {
    "five values": torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64),
    "a slow fall": torch.tensor([4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0], dtype=torch.float64),
    "half of it exactly in the first": torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64),
}


def rank_needed(sigma: Tensor, share: float, *, wrong: str = "") -> int:
    """The right rank; `wrong` names one mistake."""
    if wrong == "share-of-largest":
        return int((sigma >= (1 - share) * sigma[0]).sum())
    if wrong == "share-left-out":
        share = 1 - share
    energy = sigma if wrong == "not-squared" else sigma.square()
    energy = energy.flip(0) if wrong == "from-the-smallest" else energy
    kept = energy.cumsum(0) / energy.sum()
    found = int((kept < share - 1e-12).sum()) + 1
    return found + {"one-short": -1, "one-too-many": 1}.get(wrong, 0)


RANK_MESSAGES = {
    "not-squared": "You add up the singular values. The energy is the sum of their squares.",
    "one-short": "That is an index that counts from 0, or the last rank that is not yet enough. One more.",
    "one-too-many": "One less is enough: keeping exactly this share counts, and ranks are counted from 1.",
    "share-of-largest": "You count singular values that are large beside the first one. Add up energy instead, from "
    "the largest on, until the share is reached.",
    "from-the-smallest": "You add up from the smallest. The best matrix of rank r keeps the largest ones.",
    "share-left-out": "You stop when what is *left* is this share; it is what is to be kept.",
}
RANK_NEEDED = FunctionExercise(
    right=rank_needed,
    probes=[
        Probe("a slow fall, 60 %", lambda f: call(f, SIGMAS["a slow fall"], 0.6)),
        Probe("five values, 90 %", lambda f: call(f, SIGMAS["five values"], 0.9)),
        Probe("a share that the first value keeps exactly",
              lambda f: call(f, SIGMAS["half of it exactly in the first"], 0.5)),
    ],
    mistakes=[Mistake(slug, told, partial(rank_needed, wrong=slug)) for slug, told in RANK_MESSAGES.items()],
    praise="Right: squares, from the largest on, until the share is there.",
)  # fmt: skip


def check_rank_needed(answer: Any) -> Verdict:
    """Exercise 12-5: `rank_needed(sigma, share)` -> a whole number."""
    return RANK_NEEDED.judge(answer)


# ---------------------------------------------------------------- 12-6

MATRIX = odd_numbers(4, 6, seed=250) * torch.tensor([1.0, 0.1, 3.0, 0.5], dtype=torch.float64)[:, None]
MATRIX[1, 2], MATRIX[3, 4] = -0.31, -1.7  # the largest magnitude of two rows is negative
WITH_ZEROS = torch.cat([MATRIX[:2], torch.zeros(1, 6, dtype=torch.float64)])


def quantize(weight: Tensor, *, wrong: str = "") -> tuple[Tensor, Tensor]:
    """The right codes and scales; `wrong` names one mistake."""
    largest = weight.abs().amax(1)
    if wrong == "one-scale":
        largest = weight.abs().max().expand(len(weight))
    if wrong == "sign-lost":
        largest = weight.amax(1)
    scales = largest / (128 if wrong in ("one-twenty-eight", "wrapped", "clamped") else 127)
    if wrong == "per-column":
        scales = weight.abs().amax(0) / 127
        return (weight / scales).round(), scales
    codes = weight / (scales if wrong == "zero-row" else scales.where(scales != 0, 1))[:, None]
    if wrong == "cut-off":
        codes = codes.trunc()
    elif wrong != "not-rounded":
        codes = codes.round()
    if wrong == "wrapped":
        codes = codes.where(codes < 128, codes - 256)  # what int8 makes of 128
    if wrong == "clamped":
        codes = codes.clamp(-128, 127)
    return codes, 1 / scales if wrong == "inverted" else scales


def _quantized(function: Callable, weight: Tensor) -> Tensor:
    """Codes, and codes times scales: a row of zeros may have any scale."""
    codes, scales = call(function, weight, outputs=2)
    codes, scales = as_numbers(codes), as_numbers(scales).flatten()
    if codes.shape != weight.shape or len(scales) != len(weight):
        slug = "per-column" if len(scales) == weight.shape[1] else "one-scale" if len(scales) == 1 else "wrong-shape"
        wanted = f"({len(weight)}, {weight.shape[1]}) and ({len(weight)},)"
        raise Refused(slug, f"codes and scales are {tuple(codes.shape)} and {tuple(scales.shape)}; wanted: {wanted}.")
    return torch.cat([codes, codes * scales[:, None]])


QUANTIZE_MESSAGES = {
    "one-scale": "All rows have the same scale. One large row would make all the others coarse: one scale a row.",
    "sign-lost": "The scale is made of the largest value. A row's largest *magnitude* may be negative: take `abs` "
    "first, or codes leave the range.",
    "one-twenty-eight": "You divide by 128. The largest weight gets the code 128, and int8 ends at 127.",
    "wrapped": "You divide by 128. The largest weight gets the code 128, and int8 ends at 127: it has become −128, the "
    "other end.",
    "clamped": "You divide by 128, and the largest weight, code 128, is cut to 127. Divide by 127: both ends fit.",
    "cut-off": "The codes are cut off, not rounded (`.to(torch.int8)` alone does that): the error is up to twice as "
    "large, and always toward 0.",
    "not-rounded": "The codes are no whole numbers.",
    "inverted": "The scales are upside down: codes times scales must give the weight back.",
    "zero-row": "A row of zeros gives 0 / 0. Its codes are 0, with any scale.",
}
SLUGS = {"clamped": "one-twenty-eight", "wrapped": "one-twenty-eight"}
QUANTIZE = FunctionExercise(
    right=quantize,
    probes=[
        Probe("four rows of very different size", lambda f: _quantized(f, MATRIX)),
        Probe("a row of zeros", lambda f: _quantized(f, WITH_ZEROS)),
    ],
    mistakes=[
        Mistake(SLUGS.get(slug, slug), told, partial(quantize, wrong=slug)) for slug, told in QUANTIZE_MESSAGES.items()
    ],
    praise="Right: no weight is off by more than half its row's scale.",
)


def check_quantize(answer: Any) -> Verdict:
    """Exercise 12-6: `quantize(weight)` -> codes (out, in), scales (out,)."""
    return QUANTIZE.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


class _Layer(nn.Module):
    """A frozen mixture, then tanh of a frozen linear map with a low-rank change beside it."""

    def __init__(self, width: int = 24, rank: int = 8, cut: bool = False):
        super().__init__()
        self.mix = nn.Linear(width, width).requires_grad_(False)
        nn.init.orthogonal_(self.mix.weight)
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        x = x.detach() if self.cut else x
        return torch.tanh(self.base(x) + self.up(self.down(x)))

    @torch.no_grad()
    def merge(self) -> None:
        """Add the change to the weight; the branch stays, so the change is in the output twice."""
        self.base.weight += self.up.weight @ self.down.weight


class _Network(nn.Module):
    """Three layers with LoRA, and a head."""

    def __init__(self, cut: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(cut=cut) for _ in range(3))
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    with torch.random.fork_rng(devices=[]):
        return {"12-a": _zeros(), "12-b": _merged_again(), "12-c": _cut_off()}


def _data() -> tuple[Tensor, Tensor]:
    """Points and a class that is no linear function of them."""
    torch.manual_seed(1)
    x = torch.randn(256, 24)
    return x, (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] > 0).long()


def _train(model: _Network, data: tuple[Tensor, Tensor], steps: int, look: Callable, rate: float = 1e-2) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        look()
        optimizer.step()


def _norm(parameters: list[nn.Parameter]) -> float:
    """Of all these parameters' gradients together; no gradient counts as 0."""
    return math.sqrt(sum(p.grad.square().sum().item() for p in parameters if p.grad is not None))


def _zeros(steps: int = 60) -> dict[str, dict[str, Any]]:
    """A and B both start at exactly zero."""
    torch.manual_seed(0)
    model, norms = _Network(), {"A, B": [], "head": []}
    for layer in model.layers:
        nn.init.zeros_(layer.down.weight)
    factors = [p for layer in model.layers for p in (layer.down.weight, layer.up.weight)]

    def look() -> None:
        norms["A, B"].append(_norm(factors))
        norms["head"].append(_norm(list(model.head.parameters())))

    _train(model, _data(), steps, look)
    return {"gradient norm": norms}


def _merged_again(steps: int = 100, merges: int = 10) -> dict[str, dict[str, Any]]:
    """From the last step on, each evaluation merges first, into the same weights, and the branch stays."""
    torch.manual_seed(0)
    model, data, seen = _Network(), _data(), []

    def look() -> None:
        with torch.no_grad():
            seen.append((model(data[0]).argmax(-1) == data[1]).double().mean().item())

    _train(model, data, steps, look)
    for _ in range(merges):
        for layer in model.layers:
            layer.merge()
        for _ in range(4):  # wide enough to be seen
            look()
    return {"accuracy": {"model": seen}}


def _cut_off(steps: int = 60) -> dict[str, dict[str, Any]]:
    """The frozen mixtures have no backward pass, as a product of integers has none: only the top layer learns."""
    torch.manual_seed(0)
    model = _Network(cut=True)
    norms: dict[str, list[float]] = {"layer 3": [], "layers 1, 2": []}

    def look() -> None:
        for name, layers in zip(norms, (model.layers[2:], model.layers[:2]), strict=True):
            norms[name].append(_norm([p for layer in layers for p in (layer.down.weight, layer.up.weight)]))

    _train(model, _data(), steps, look)
    return {"gradient norm": norms}

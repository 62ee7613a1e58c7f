"""The exercises of lesson 11, the PEFT taxonomy.

11-1  five unseen methods, each a family: a dictionary from the method's name to "additive", "selective",
      "reparametrization" or "hybrid" (6 min)
      checker: `check_families`
      mistakes: subset-for-subspace, subspace-for-subset, states-for-weights, reading-for-choosing, half-a-hybrid,
        not-new, no-mixture

11-2  what six operations keep for the backward pass: a dictionary (5 min)
      checker: `check_kept`
      mistakes: frozen-keeps-input, trained-keeps-nothing, bias-keeps-input, factor-keeps-nothing, bend-keeps-nothing,
        softmax-keeps-input, everything-kept, nothing-kept

11-3  `read_basis(basis)`: (N, d), the directions in which N weights can move -> dimension, changed weights, subset or
      not (5 min)
      checker: `check_basis`
      mistakes: columns-counted, entries-counted, all-changed, one-hot-wanted, few-is-a-subset, columns-for-rows,
        subset-and-subspace-swapped

11-4  three numbers: LoRA's trained, changed and stored numbers in BERT-base, with the head (4 min)
      checker: `check_three_counts`
      mistakes: head-forgotten, one-matrix, one-factor, one-layer, trained-for-changed, whole-model, one-target,
        head-counted, merged-stored

11-5  three numbers: memory of full fine-tuning, of (IA)³, and the share saved (4 min)
      checker: `check_memory_saved`
      mistakes: weights-forgotten, activations-forgotten, optimizer-forgotten, frozen-has-state, left-for-saved,
        trained-share, percent

11-6  `prefix_as_change(q, k, v, prefix_k, prefix_v)` -> share (T, 1) and change (T, d) (7 min)
      checker: `check_prefix_as_change`
      mistakes: scale-forgotten, share-swapped, share-by-length, text-keeps-its-share, share-forgotten, sum-not-share,
        attention-returned, share-flat, overflow
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import accounting, unified_view
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
    refused,
    unanswered,
)

# ---------------------------------------------------------------- 11-1

FAMILIES = ("additive", "selective", "reparametrization", "hybrid")
UNSEEN = {  # name -> family; arXiv:2110.07560, 2306.07280, 2206.06522, 2404.03592, 2210.04284
    "LT-SFT": "selective",
    "OFT": "reparametrization",
    "LST": "additive",
    "ReFT": "additive",
    "SparseAdapter": "hybrid",
}
WRONG_FAMILY = {  # (method, answer) -> mistake, message
    ("LT-SFT", "reparametrization"): (
        "subspace-for-subset",
        "It trains some of the model's own weights and leaves the others exactly as they are: a subset, moves along "
        "axes. In a subspace every weight may move, in a few directions.",
    ),
    ("OFT", "selective"): (
        "subset-for-subspace",
        "Multiplied by an orthogonal matrix, every entry of W changes; no subset of them stays. What is small is the "
        "set of matrices that can be reached.",
    ),
    ("OFT", "additive"): (
        "not-new",
        "The rotation is folded into W afterwards: nothing new is left in the model, so what was learned is a change "
        "of W, written with few numbers.",
    ),
    ("LST", "selective"): (
        "reading-for-choosing",
        "The backbone is only read: none of its own weights is trained. What is trained is a network beside it.",
    ),
    ("LST", "reparametrization"): ("not-new", "No weight of the backbone changes. A new network stands beside it."),
    ("ReFT", "reparametrization"): (
        "states-for-weights",
        "Its subspace is one of hidden states, not of weights: at some tokens the state is edited by new matrices that "
        "no weight of the model can take in. Reparametrization means the weights' change.",
    ),
    ("ReFT", "selective"): (
        "states-for-weights",
        "It selects tokens, not weights. What is trained are new matrices that edit their hidden states.",
    ),
    ("SparseAdapter", "additive"): (
        "half-a-hybrid",
        "The adapters are additive; that only a subset of their weights is trained is the second idea.",
    ),
    ("SparseAdapter", "selective"): (
        "half-a-hybrid",
        "The mask is selective; what it is laid over are new modules, not the model's own weights.",
    ),
    ("SparseAdapter", "reparametrization"): ("half-a-hybrid", "Two ideas are in it; a subspace of W is neither."),
}


def check_families(answer: Any) -> Verdict:
    """Exercise 11-1: a dictionary, method -> family."""
    if answer is None:
        return unanswered()
    if not isinstance(answer, Mapping) or not set(UNSEEN) <= set(map(str, answer)):
        return refused("not-a-dictionary", f"The answer must be a dictionary with the keys {', '.join(UNSEEN)}.")
    for name, right in UNSEEN.items():
        given = answer[name]
        if given is None or given is Ellipsis:
            return unanswered(f"Not answered yet: {name}.")
        chosen = str(given).strip().lower()
        if not isinstance(given, str) or chosen not in FAMILIES:
            return refused("not-a-family", f"{name}: choose one of {', '.join(FAMILIES)}.")
        if chosen == right:
            continue
        if chosen == "hybrid":
            return refused("no-mixture", f"{name}: there is one idea in it, not two. Which?")
        slug, message = WRONG_FAMILY.get(
            (name, chosen), ("not-new", f"Is there anything new in the model afterwards, as in {chosen} methods?")
        )
        return refused(slug, f"{name}: {message}")
    return Verdict(True, "Right. Ask what is trained, old weights or new ones, and whether it can be folded into W.")


# ---------------------------------------------------------------- 11-3


def read_basis(basis: Tensor, *, wrong: str = "") -> tuple[float, float, float]:
    """(dimension, weights that can change, 1 for a subset); `wrong` names one mistake."""
    dimension = float(torch.linalg.matrix_rank(basis))
    changed = float((basis != 0).any(1).sum())
    if wrong == "columns-counted":
        dimension = float(basis.shape[1])
    if wrong == "columns-for-rows":
        changed = float((basis != 0).any(0).sum())
    if wrong == "entries-counted":
        changed = float((basis != 0).sum())
    if wrong == "all-changed":
        changed = float(len(basis))
    subset = float(dimension == changed)
    if wrong == "one-hot-wanted":
        subset = float(bool(((basis != 0).sum(0) == 1).all()))
    if wrong == "few-is-a-subset":
        subset = float(changed < len(basis))
    return dimension, changed, 1 - subset if wrong == "subset-and-subspace-swapped" else subset


def _basis(*columns: tuple[float, ...]) -> Tensor:
    return torch.tensor(columns, dtype=torch.float64).T.contiguous()


BASES = {
    "a slanted line through three of five weights": _basis((0.5, 0, -1.5, 0, 2)),
    "two axes of five": _basis((0, 1, 0, 0, 0), (0, 0, 0, 3, 0)),
    "a plane through all five weights": _basis((1, 2, 3, 4, 5), (2, -1, 1, 0.5, 3)),
    "two directions that span two axes": _basis((1, 1, 0, 0, 0), (1, -1, 0, 0, 0)),
    "three directions, one the sum of the others": _basis((1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (1, 1, 0, 0, 0)),
}
BASIS = FunctionExercise(
    right=read_basis,
    probes=[
        Probe(name, lambda f, basis=basis: [float(part) for part in call(f, basis, outputs=3)])
        for name, basis in BASES.items()
    ],
    mistakes=[
        Mistake(slug, message, lambda basis, slug=slug: read_basis(basis, wrong=slug))
        for slug, message in {
            "columns-counted": "You count the columns. Some may be sums of others: the dimension is the rank.",
            "entries-counted": "You count the entries that are not 0. A weight is a row: it can move if any entry of "
            "its row is not 0, and it is one weight however many there are.",
            "all-changed": "A weight whose row is all zeros can't move, whatever is trained.",
            "columns-for-rows": "You look along the wrong side: the rows are the weights, the columns the directions.",
            "one-hot-wanted": "Two slanted directions can span the same plane as two axes. It is a subset when every "
            "weight that moves can move freely: as many dimensions as changed weights.",
            "few-is-a-subset": "That few weights move does not make it a subset: three weights on one slanted line "
            "still move together. Compare the dimension with the number of changed weights.",
            "subset-and-subspace-swapped": "Subset and subspace are the wrong way around: a subset has as many "
            "dimensions as weights that change.",
        }.items()
    ],
    praise="Right: a subset is the special subspace in which every weight that moves, moves freely.",
)


def check_basis(answer: Any) -> Verdict:
    """Exercise 11-3: `read_basis(basis)` -> (dimension, changed, subset)."""
    return BASIS.judge(answer)


# ---------------------------------------------------------------- 11-4

D, L, RANK, CLASSES = 768, 12, 8, 2
HEAD = accounting.head_parameters(D, CLASSES)
LORA = accounting.lora_parameters(D, L, RANK)
MATRICES = 2 * L * D * D
WHOLE = accounting.bert_parameters(30_522, D, L, 4 * D, 512)
FORGOT = "The head is new, so it is trained, and stored, with every method: add its 2 D + 2."


def _counted(what: str, *more: WrongNumber) -> NumberExercise:
    """Trained or stored: they are the same numbers for LoRA."""
    return NumberExercise(
        float(LORA + HEAD),
        [
            WrongNumber(float(LORA), "head-forgotten", FORGOT),
            WrongNumber(LORA / 2 + HEAD, "one-matrix", f"{what}: two matrices a layer, each with A and B."),
            WrongNumber(LORA / 2, "one-matrix", "Two matrices a layer, each with an A and a B; and the head."),
            WrongNumber(LORA / 4 + HEAD, "one-factor", "A (r, D) and B (D, r), for each of two matrices."),
            WrongNumber(LORA / L + HEAD, "one-layer", "That is one layer's; there are 12."),
            *more,
        ],
        tolerance=0.001,
    )  # fmt: skip


THREE_COUNTS = SeveralNumbers(
    {
        "trained": _counted("trained"),
        "changed": NumberExercise(
            float(MATRICES),
            [
                WrongNumber(float(LORA), "trained-for-changed", "B A is added to W: which of its entries are 0?"),
                WrongNumber(float(LORA + HEAD), "trained-for-changed", "Merged, B A is added to W: which entries of it "
                            "are 0? And the head is not a part of the pretrained model."),
                WrongNumber(float(WHOLE), "whole-model", "Only the targets change, query and value of each layer."),
                WrongNumber(MATRICES / 2, "one-target", "Two matrices a layer are targets, query and value."),
                WrongNumber(MATRICES / L, "one-layer", "That is one layer's; there are 12."),
                WrongNumber(float(MATRICES + HEAD), "head-counted", "The head is new: it is not a part of the "
                            "pretrained model that changes."),
            ],
            tolerance=0.00002,
        ),
        "stored": _counted(
            "stored",
            WrongNumber(float(MATRICES + HEAD), "merged-stored", "Stored are A and B, not their product."),
            WrongNumber(float(MATRICES), "merged-stored", "Stored are A and B, not their product; and the head."),
            WrongNumber(float(WHOLE + HEAD), "whole-model", "The pretrained model is stored once, for all tasks."),
        ),
    },
    praise="Right: 0.27 % trained and stored, 13 % changed. 'Parameter-efficient' does not mean that little changes.",
)  # fmt: skip


def check_three_counts(answer: Any) -> Verdict:
    """Exercise 11-4: (trained, changed, stored) of LoRA, r = 8, in BERT-base."""
    return THREE_COUNTS.judge(answer)


# ---------------------------------------------------------------- 11-6

Q, K, V = (odd_numbers(4, 3, seed=seed) for seed in (141, 142, 143))
PREFIX_K, PREFIX_V = (odd_numbers(2, 3, seed=seed) for seed in (144, 145))


def prefix_as_change(
    q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, *, wrong: str = ""
) -> tuple[Tensor, Tensor]:
    """(share, change); `wrong` names one mistake."""
    scaled = q * q.shape[-1] ** 0.5 if wrong == "scale-forgotten" else q
    share = unified_view.prefix_share(scaled, k, prefix_k)
    text, prefix = unified_view.attend(scaled, k, v), unified_view.attend(scaled, prefix_k, prefix_v)
    if wrong == "share-swapped":
        share = 1 - share
    if wrong == "share-by-length":
        share = torch.full_like(share, len(prefix_k) / (len(prefix_k) + len(k)))
    if wrong == "sum-not-share":
        share = share / (1 - share)
    if wrong == "text-keeps-its-share":
        return share, share * prefix
    if wrong == "share-forgotten":
        return share, prefix - text
    if wrong == "attention-returned":
        return share, text + share * (prefix - text)
    return share.squeeze(-1) if wrong == "share-flat" else share, share * (prefix - text)


def _joined(function: Callable, *given: Tensor) -> Tensor:
    """Share and change side by side, (T, 1 + d); a share that is not (T, 1) alone, since it can't be joined."""
    share, change = call(function, *given, outputs=2)
    shapes = getattr(share, "shape", None), getattr(change, "shape", None)
    return torch.cat([share, change], -1) if None in shapes or len(shapes[0]) == len(shapes[1]) else share


PREFIX = FunctionExercise(
    right=prefix_as_change,
    probes=[
        Probe("four tokens, a prefix of two", lambda f: _joined(f, Q, K, V, PREFIX_K, PREFIX_V)),
        Probe(
            "large scores",
            lambda f: _joined(f, 300 * Q, 20 * K, V, 20 * PREFIX_K, PREFIX_V),
            Mistake("overflow", "Large scores overflow in exp. Use `logsumexp`, or `softmax` over all keys together."),
        ),
    ],
    mistakes=[
        Mistake(slug, message, lambda *given, slug=slug: prefix_as_change(*given, wrong=slug))
        for slug, message in {
            "scale-forgotten": "The scores are not divided by √d before the softmax.",
            "share-swapped": "That is the text's share, 1 - λ. λ is the prefix's.",
            "share-by-length": "You give every key the same weight, l / (l + T). The share depends on the scores: each "
            "query looks at the prefix as much as it fits.",
            "text-keeps-its-share": "What the prefix takes, the text loses: h becomes (1 - λ) h + λ h_prefix, so the "
            "change is λ (h_prefix - h).",
            "share-forgotten": "That would replace the text's part completely. The change is weighted with λ.",
            "sum-not-share": "You divide by the sum over the text alone. Softmax divides by all, prefix and text.",
            "attention-returned": "That is the attention with the prefix. Asked is what it adds: take the attention "
            "without the prefix away.",
            "share-flat": "`share` is (T,), asked is (T, 1): sum with `keepdim=True`, then it multiplies row by row.",
        }.items()
    ],
    praise="Right: a prefix moves h toward what it holds, by as much as the query looks at it.",
)  # fmt: skip


def check_prefix_as_change(answer: Any) -> Verdict:
    """Exercise 11-6: `prefix_as_change(q, k, v, prefix_k, prefix_v)` -> (share, change)."""
    return PREFIX.judge(answer)


# ---------------------------------------------------------------- 11-2

KINDS = ("nothing", "input", "output")
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "W x, W frozen": lambda x: F.linear(x, torch.ones(5, 5, dtype=x.dtype)),
    "W x, W trained": lambda x: F.linear(x, nn.Parameter(torch.ones(5, 5, dtype=x.dtype))),
    "W x + b, only b trained": lambda x: F.linear(x, torch.ones(5, 5, dtype=x.dtype), nn.Parameter(x.new_ones(5))),
    "l * x, l trained": lambda x: x * nn.Parameter(x.new_ones(5)),
    "gelu(x)": F.gelu,
    "softmax(x)": lambda x: x.softmax(-1),
}


def kept_by(operation: str) -> str:
    """Which activation autograd keeps, measured: "nothing", "input" or "output". x itself needs a gradient.

    Raises:
        ValueError: no such operation.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation {operation!r}; there are {', '.join(OPERATIONS)}")
    x, seen = odd_numbers(3, 5, seed=150).requires_grad_(True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        y = OPERATIONS[operation](x)
    addresses = {tensor.untyped_storage().data_ptr() for tensor in seen}
    both = {"input": x, "output": y}
    found = [name for name, tensor in both.items() if tensor.untyped_storage().data_ptr() in addresses]
    return found[0] if found else "nothing"


WHY = {
    "W x, W frozen": ("frozen-keeps-input", "The gradient of x is Wᵀ times what comes from above; x is not in it. x is "
                      "only needed for W's own gradient, and W is frozen."),
    "W x, W trained": ("trained-keeps-nothing", "W's gradient is what comes from above times xᵀ: x must be kept."),
    "W x + b, only b trained": ("bias-keeps-input", "b's gradient is the sum of what comes from above. Neither x nor "
                                "the output is in it: that is why BitFit saves activations."),
    "l * x, l trained": ("factor-keeps-nothing", "l's gradient is what comes from above times x: the number that is "
                         "multiplied must be kept, however few numbers l has."),
    "gelu(x)": ("bend-keeps-nothing", "The slope depends on where x was, so x must be kept, although nothing is "
                "trained here."),
    "softmax(x)": ("softmax-keeps-input", "Its derivative can be written with the output alone, p (g - Σ p g): that "
                   "is what is kept."),
}  # fmt: skip


def check_kept(answer: Any) -> Verdict:
    """Exercise 11-2: a dictionary, operation -> "nothing", "input" or "output"."""
    if answer is None:
        return unanswered()
    if not isinstance(answer, Mapping) or not set(OPERATIONS) <= set(map(str, answer)):
        return refused("not-a-dictionary", f"The answer must be a dictionary with the keys {', '.join(OPERATIONS)}.")
    given = {name: answer[name] for name in OPERATIONS}
    for name, value in given.items():
        if value is None or value is Ellipsis:
            return unanswered(f"Not answered yet: {name}.")
        if not isinstance(value, str) or value.strip().lower() not in KINDS:
            return refused("not-a-choice", f"{name}: choose one of {', '.join(KINDS)}.")
    chosen = {name: value.strip().lower() for name, value in given.items()}
    if set(chosen.values()) == {"nothing"}:
        return refused("nothing-kept", "Then no gradient could be computed: d(l x)/dl is x. What does each one need?")
    if "nothing" not in chosen.values():
        return refused("everything-kept", "Not everything is kept: with W frozen, is x needed for any gradient?")
    for name, value in chosen.items():
        if value != kept_by(name):
            slug, message = WHY[name]
            return refused(slug, f"{name}: {message}")
    return Verdict(True, "Right. A multiplication with what is trained keeps its input; addition keeps nothing.")


# ---------------------------------------------------------------- 11-5

SIZE, IA3 = WHOLE + HEAD, accounting.ia3_parameters(D, L, 4 * D) + HEAD
ACTIVATIONS = {"full": 306e6, "(IA)³": 302e6}  # fused attention, 4 texts of 128 tokens; measured in the lesson
FULL_MEMORY = accounting.training_memory(SIZE, SIZE, int(ACTIVATIONS["full"])).total / 1e6
IA3_MEMORY = accounting.training_memory(SIZE + IA3 - HEAD, IA3, int(ACTIVATIONS["(IA)³"])).total / 1e6
MEMORY_SAVED = SeveralNumbers(
    {
        "full, MB": NumberExercise(
            FULL_MEMORY,
            [
                WrongNumber(FULL_MEMORY - 306, "activations-forgotten", "That is weights, gradients and Adam; the "
                            "activations come on top."),
                WrongNumber(FULL_MEMORY - 4 * SIZE / 1e6, "weights-forgotten", "The weights themselves are missing, "
                            "4 bytes each."),
                WrongNumber(FULL_MEMORY - 8 * SIZE / 1e6, "optimizer-forgotten", "Adam keeps two more numbers for each "
                            "trained weight."),
            ],
        ),
        "(IA)³, MB": NumberExercise(
            IA3_MEMORY,
            [
                WrongNumber(IA3_MEMORY - 302, "activations-forgotten", "Without activations, or with 0.05 % of them? "
                            "They do not go with the share of trained numbers: 302 MB were measured."),
                WrongNumber(IA3_MEMORY - 4 * SIZE / 1e6, "weights-forgotten", "The frozen weights are in memory too."),
                WrongNumber(FULL_MEMORY * IA3 / SIZE, "trained-share", "0.05 % trained is not 0.05 % of the memory."),
                WrongNumber(16 * SIZE / 1e6 + 302, "frozen-has-state", "Frozen weights have neither gradient nor Adam "
                            "state."),
            ],
        ),
        "share saved": NumberExercise(
            1 - IA3_MEMORY / FULL_MEMORY,
            [
                WrongNumber(IA3_MEMORY / FULL_MEMORY, "left-for-saved", "That share is left; the rest is saved."),
                WrongNumber(1 - IA3 / SIZE, "trained-share", "That is the share of numbers that are not trained, not "
                            "of memory."),
                WrongNumber(100 * (1 - IA3_MEMORY / FULL_MEMORY), "percent", "As a share, between 0 and 1."),
            ],
            tolerance=0.02,
        ),
    },
    praise="Right: gradients and Adam go away, weights and activations stay. With larger batches the saving shrinks.",
)  # fmt: skip


def check_memory_saved(answer: Any) -> Verdict:
    """Exercise 11-5: (full, (IA)³, share saved), the first two in MB."""
    return MEMORY_SAVED.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    with torch.random.fork_rng(devices=[]):
        return {"11-a": _masked_gradients(), "11-b": _one_rate_for_all(), "11-c": _factors_from_zero()}


def _problem(seed: int, width: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """A pretrained matrix, inputs, and what another matrix near it makes of them."""
    torch.manual_seed(seed)
    weight, x = torch.randn(width, width) / width**0.5, torch.randn(128, width)
    shift = torch.randn(width, 2) @ torch.randn(2, width) / width
    return weight, x, x @ (weight + shift).T


def _masked_gradients(steps: int = 60) -> dict[str, dict[str, Any]]:
    """A sparse method by masked gradients, with AdamW: weight decay moves the weights outside the mask too."""
    weight, x, wanted = _problem(0)
    start, trained = weight.clone(), nn.Parameter(weight.clone())
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[weight.abs().reshape(-1).topk(round(0.05 * weight.numel())).indices] = True
    mask = mask.view_as(weight)
    optimizer = torch.optim.AdamW([trained], lr=1e-2, weight_decay=0.5)
    seen: dict[str, list[float]] = {"in the mask (5 %)": [], "outside": []}
    for _ in range(steps):
        moved = (trained.detach() - start).square()
        for name, part in zip(seen, (mask, ~mask), strict=True):
            seen[name].append(moved[part].mean().sqrt().item())
        optimizer.zero_grad()
        F.mse_loss(x @ trained.T, wanted).backward()
        trained.grad *= mask
        optimizer.step()
    return {"distance moved": seen}


def _low_rank_losses(rate: float, steps: int = 20) -> list[float]:
    weight, x, wanted = _problem(1)
    a, b = nn.Parameter(torch.randn(2, 24) / 24**0.5), nn.Parameter(torch.zeros(24, 2))
    return _losses([a, b], lambda: x @ (weight + b @ a).T, wanted, rate, steps)


def _whole_losses(rate: float, steps: int = 20) -> list[float]:
    weight, x, wanted = _problem(1)
    trained = nn.Parameter(weight.clone())
    return _losses([trained], lambda: x @ trained.T, wanted, rate, steps)


def _losses(trained: list[nn.Parameter], output: Callable, wanted: Tensor, rate: float, steps: int) -> list[float]:
    optimizer, seen = torch.optim.Adam(trained, lr=rate), []
    for _ in range(steps):
        loss = F.mse_loss(output(), wanted)
        seen.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return seen


def _one_rate_for_all(rate: float = 1e-2) -> dict[str, dict[str, Any]]:
    """Two methods compared at one rate, which was tuned for the first; the second would need five times as much."""
    return {"loss": {"full fine-tuning": _whole_losses(rate), "LoRA": _low_rank_losses(rate)}}


def _factors_from_zero(rate: float = 1e-2) -> dict[str, dict[str, Any]]:
    """(IA)³ with factors that start at 0: what is added starts at 0, what multiplies starts at 1."""
    weight, x, _ = _problem(2)
    h = x @ weight.T
    wanted = h * (1 + 0.3 * torch.randn(h.shape[1]))
    found = {}
    for name, start in (("another run", 1.0), ("this run", 0.0)):
        factors = nn.Parameter(torch.full((h.shape[1],), start))
        found[name] = _losses([factors], lambda factors=factors: h * factors, wanted, rate, 150)
    return {"loss": found}

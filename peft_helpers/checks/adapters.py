"""The exercises of lesson 08, adapters.

08-1  `adapter(h, w_down, b_down, w_up, b_up)`: (T, D), (m, D), (m,), (D, m), (D,) -> (T, D), with GELU (6 min)
      checker: `check_adapter`
      mistakes: no-residual, activation-missing, activation-behind, activation-twice, another-activation,
        approximate-gelu, bias-forgotten, residual-inside, residual-twice, wrong-side, whole-scaled, wrong-place

08-2  which of an adapter's four tensors get a gradient in the first step, for four ways to initialize: a dictionary
      from the way's name to a set of names (5 min)
      checker: `check_first_gradients`
      mistakes: nothing-moves, everything-moves, up-moves, down-moves, bias-stays, down-stays, up-stays

08-3  `adapted_layer(x, attention, feed_forward, norm_1, norm_2, adapter_1, adapter_2)`: one encoder layer with
      adapters (8 min)
      checker: `check_adapted_layer`
      mistakes: after-residual-sum, after-norm, four-per-layer, one-per-layer, one-adapter-twice, before-the-block,
        swapped, parallel, parallel-for-sum, bypass-twice, residual-lost, skips-from-input, norm-forgotten,
        norms-swapped, serial

08-4  `is_trained(name)`: of a parameter of BERT with adapters (5 min)
      checker: `check_is_trained`
      mistakes: norms-frozen, embedding-norm-frozen, head-forgotten, head-only, pooler-trained, backbone-biases,
        base-trained, adapters-frozen, everything-trained, nothing-trained

08-5  `trained_parameters(D, L, m, K)` of Houlsby's adapters on BERT, with norms and head (5 min)
      checker: `check_trained_parameters`
      mistakes: one-per-layer, four-per-layer, one-matrix, biases-forgotten, norms-forgotten, norms-halved,
        embedding-norm-forgotten, head-forgotten, head-bias-forgotten, norms-and-head-forgotten, pooler-counted,
        feed-forward-width, per-layer-only

08-6  two numbers: twenty tasks over one BERT-large, in BERT-larges, by copies and by adapters of 1.9 %; and the number
      of tasks with which the adapters are as large as the model (4 min)
      checker: `check_many_tasks`
      mistakes: shared-model-forgotten, shared-model-counted-twice, percent-for-share, one-copy, one-task, compounded,
        pretrained-kept, with-the-model
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import accounting
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Refused,
    SeveralNumbers,
    Verdict,
    WrongNumber,
    as_numbers,
    attempt,
    call,
    odd_numbers,
    refused,
    unanswered,
)

# ---------------------------------------------------------------- 08-1

TOKENS, WIDTH, BOTTLENECK = 4, 5, 3
H = odd_numbers(TOKENS, WIDTH, seed=101)
TENSORS = (
    odd_numbers(BOTTLENECK, WIDTH, seed=102),
    odd_numbers(BOTTLENECK, seed=103),
    odd_numbers(WIDTH, BOTTLENECK, seed=104),
    odd_numbers(WIDTH, seed=105),
)
NOT_SQUARE = "mat1 and mat2", "size mismatch", "must match the size", "matmul", "dimension"


def adapter(
    h: Tensor,
    w_down: Tensor,
    b_down: Tensor,
    w_up: Tensor,
    b_up: Tensor,
    *,
    bypass: float = 1.0,
    inside: bool = False,
    before: Callable | None = None,
    activation: Callable | None = F.gelu,
    behind: Callable | None = None,
    biases: tuple[bool, bool] = (True, True),
    scaled: bool = False,
) -> Tensor:
    """The right adapter; every keyword makes one mistake."""
    same = lambda x: x  # noqa: E731
    z = (before or same)(h) @ w_down.T + biases[0] * b_down
    z = (activation or same)(z)
    change = (behind or same)(z @ w_up.T + biases[1] * b_up)
    if scaled:
        return h * (1 + change)
    return F.gelu(h + change) if inside else bypass * h + change


BIAS = "A bias is missing: each of the two linear maps has one, and the formula counts both (D + m)."
ADAPTER = FunctionExercise(
    right=adapter,
    probes=[
        Probe("four tokens of width 5", lambda f: call(f, H, *TENSORS)),
        Probe("a batch, (2, 4, 5)", lambda f: call(f, torch.stack([H, -H]), *TENSORS)),
    ],
    mistakes=[
        Mistake(
            "no-residual",
            "The bypass is missing: your adapter's answer takes the place of h. With small weights that is almost 0, "
            "and every layer would forget what it had. Add h.",
            partial(adapter, bypass=0.0),
        ),
        Mistake("residual-twice", "h is added twice.", partial(adapter, bypass=2.0)),
        Mistake(
            "activation-missing",
            "There is no activation between the two matrices. Without one they are a single matrix of rank m, and the "
            "adapter is a linear map.",
            partial(adapter, activation=None),
        ),
        Mistake(
            "activation-behind",
            "The activation stands behind the second matrix. Its place is between the two, on the m numbers.",
            partial(adapter, activation=None, behind=F.gelu),
        ),
        Mistake(
            "activation-twice",
            "There is a second activation, behind the way up. GELU cuts off nearly everything negative: the adapter "
            "could only add.",
            partial(adapter, behind=F.gelu),
        ),
        Mistake(
            "residual-inside",
            "The activation is applied to the sum: h itself would be bent, and the adapter would not start as nothing.",
            partial(adapter, activation=None, inside=True),
        ),
        Mistake(
            "residual-inside",
            "The sum goes through an activation once more: h itself would be bent, and the adapter would not start as "
            "nothing.",
            partial(adapter, inside=True),
        ),
        Mistake(
            "another-activation",
            "That is ReLU; this exercise, like the paper's code, takes GELU.",
            partial(adapter, activation=F.relu),
        ),
        Mistake(
            "another-activation",
            "That is SiLU (swish); this exercise, like the paper's code, takes GELU.",
            partial(adapter, activation=F.silu),
        ),
        Mistake(
            "another-activation",
            "That is tanh; this exercise, like the paper's code, takes GELU.",
            partial(adapter, activation=torch.tanh),
        ),
        Mistake(
            "approximate-gelu",
            "That is GELU's approximation by tanh. Take the exact one, PyTorch's default.",
            partial(adapter, activation=partial(F.gelu, approximate="tanh")),
        ),
        *(Mistake("bias-forgotten", BIAS, partial(adapter, biases=b)) for b in ((0, 1), (1, 0), (0, 0))),
        Mistake(
            "wrong-place",
            "The activation is applied to h, before the way down. Its place is between the two matrices, on the m "
            "numbers.",
            partial(adapter, before=F.gelu, activation=None),
        ),
        Mistake("whole-scaled", "You multiply with h. The adapter adds to it.", partial(adapter, scaled=True)),
        Mistake(
            "wrong-side",
            "The shapes do not fit. Like `nn.Linear`, the weights are stored as (outputs, inputs): `h @ w_down.T`.",
            raises=NOT_SQUARE,
        ),
    ],
    praise="Right: down, bend, up, and h beside it.",
)


def check_adapter(answer: Any) -> Verdict:
    """Exercise 08-1: `adapter(h, w_down, b_down, w_up, b_up)` -> (T, D)."""
    return ADAPTER.judge(answer)


# ---------------------------------------------------------------- 08-2

FOUR = ("w_down", "b_down", "w_up", "b_up")
WAYS = ("both small", "both zero", "up zero", "down zero")


def first_gradients(way: str) -> frozenset[str]:
    """Which tensors have a gradient that is not zero, measured; biases start at zero in every way.

    `way` says which matrices are exactly zero; the others are random.
    """
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r}; there are {', '.join(WAYS)}")
    w_down, _, w_up, _ = TENSORS
    zero = {"both small": (1, 1), "both zero": (0, 0), "up zero": (1, 0), "down zero": (0, 1)}[way]
    tensors = [w_down * zero[0], torch.zeros(BOTTLENECK), w_up * zero[1], torch.zeros(WIDTH)]
    leaves = [tensor.double().clone().requires_grad_(True) for tensor in tensors]
    loss = (adapter(H, *leaves) * odd_numbers(TOKENS, WIDTH, seed=106)).sum()
    gradients = torch.autograd.grad(loss, leaves)
    return frozenset(name for name, gradient in zip(FOUR, gradients, strict=True) if gradient.abs().max() > 0)


WHY = {
    ("b_up", False): (
        "bias-stays",
        "`b_up` is added to every token, whatever the matrices are: its gradient is the sum of what comes from above.",
    ),
    ("w_up", True): (
        "up-moves",
        "The gradient of `w_up` is what comes from above times what it reads, gelu(w_down h + b_down). With w_down = 0 "
        "that is gelu(0) = 0.",
    ),
    ("w_up", False): (
        "up-stays",
        "`w_up` reads gelu(w_down h), which is not zero here: it has a gradient, whatever its own value is.",
    ),
    ("w_down", True): ("down-moves", "What comes from above reaches `w_down` only through `w_up`, which is zero here."),
    ("w_down", False): (
        "down-stays",
        "`w_up` is not zero here, so something comes through to `w_down`; and gelu has the slope ½ at 0.",
    ),
    ("b_down", True): ("down-moves", "What comes from above reaches `b_down` only through `w_up`, which is zero here."),
    ("b_down", False): (
        "down-stays",
        "`w_up` is not zero here, so something comes through to `b_down`; and gelu has the slope ½ at 0.",
    ),
}


def check_first_gradients(answer: Any) -> Verdict:
    """Exercise 08-2: a dictionary, name of a way -> the names of the tensors that get a gradient."""
    if answer is None:
        return unanswered()
    if not isinstance(answer, Mapping) or not set(WAYS) <= set(map(str, answer)):
        return refused("not-a-dictionary", f"The answer must be a dictionary with the keys {', '.join(WAYS)}.")
    given: dict[str, set[str]] = {}
    for way in WAYS:
        names = answer[way]
        if names is None or names is Ellipsis:
            return unanswered(f"Not answered yet: {way}.")
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, Collection) or not set(map(str, names)) <= set(FOUR):
            return refused("not-names", f"{way}: give a set with some of the names {', '.join(FOUR)}.")
        given[way] = set(map(str, names))
    right = {way: first_gradients(way) for way in WAYS}
    if all(given[way] == set(FOUR) for way in WAYS):
        return refused(
            "everything-moves",
            "You say that everything gets a gradient, always. A product with zero is zero: follow it.",
        )
    if not any(given[way] for way in WAYS if way != "both small"):
        return refused(
            "nothing-moves", "Zeros do not stop everything: `b_up` is added behind them. Which way leads to it?"
        )
    for way in WAYS:
        for name in ("b_up", "w_up", "w_down", "b_down"):
            if (name in given[way]) != (name in right[way]):
                slug, message = WHY[name, name in given[way]]
                return refused(slug, f"{way}: {message}")
    return Verdict(
        True,
        "Right. With both at zero only `b_up` ever moves: the same constant for every text. With one at zero the other "
        "moves first, and after one step all four do; LoRA starts like that.",
    )


# ---------------------------------------------------------------- 08-3

X = odd_numbers(3, WIDTH, seed=110)
PARTS = [
    (lambda x, k=k: torch.tanh(x @ odd_numbers(WIDTH, WIDTH, seed=111 + k)) + 0.1 * (k + 1) * x.mean(0))
    for k in range(4)
]  # attention, feed-forward, two adapters' changes; odd functions of all tokens, no two alike


def _norm(x: Tensor, k: int) -> Tensor:
    return F.layer_norm(x, (WIDTH,)) * (1 + 0.2 * odd_numbers(WIDTH, seed=120 + k)) + 0.1 * k


LAYER = (
    PARTS[0],
    PARTS[1],
    partial(_norm, k=1),
    partial(_norm, k=2),
    lambda h: h + 0.3 * PARTS[2](h),
    lambda h: h + 0.3 * PARTS[3](h),
)


def adapted_layer(
    x: Tensor,
    attention: Callable,
    feed_forward: Callable,
    norm_1: Callable,
    norm_2: Callable,
    adapter_1: Callable,
    adapter_2: Callable,
    *,
    wrong: str = "",
) -> Tensor:
    """One encoder layer of BERT with Houlsby's adapters; `wrong` names one mistake."""
    first, second = adapter_1, adapter_2
    if wrong == "one-adapter-twice":
        second = adapter_1
    if wrong == "swapped":
        first, second = adapter_2, adapter_1
    if wrong == "norms-swapped":
        norm_1, norm_2 = norm_2, norm_1
    if wrong == "serial":
        return second(first(norm_2((y := norm_1(x + attention(x))) + feed_forward(y))))

    def block(x: Tensor, part: Callable, norm: Callable, adapter: Callable, origin: Tensor) -> Tensor:
        if wrong == "after-residual-sum":
            return norm(adapter(origin + part(x)))
        if wrong == "after-norm":
            return adapter(norm(origin + part(x)))
        if wrong == "before-the-block":
            return norm(origin + part(adapter(x)))
        if wrong == "parallel":
            return norm(origin + part(x) + adapter(x))
        if wrong == "parallel-for-sum":
            return norm(part(x) + adapter(x))
        if wrong == "bypass-twice":
            return norm(origin + part(x) + adapter(part(x)))
        if wrong == "residual-lost":
            return norm(adapter(part(x)))
        if wrong == "norm-forgotten":
            return origin + adapter(part(x))
        return norm(origin + adapter(part(x)))

    if wrong == "four-per-layer":
        y = norm_1(x + second(first(attention(x))))
        return norm_2(y + second(first(feed_forward(y))))
    none = lambda h: h  # noqa: E731
    y = block(x, attention, norm_1, none if wrong in ("one-per-layer", "only-last") else first, x)
    last = {"only-last": first, "only-first": none}.get(wrong, second)
    return block(y, feed_forward, norm_2, last, x if wrong == "skips-from-input" else y)


LAYER_MESSAGES = {
    "after-residual-sum": "Your adapter works on the residual sum, and bends the bypass as well. Its place is before "
    "the sum, right on the block's output.",
    "after-norm": "Your adapter stands behind the layer norm. Its place is before the residual sum, right on the "
    "block's output.",
    "four-per-layer": "Each block has both adapters behind it, one after the other: four a layer. 'Two serial "
    "adapters' in some descriptions means two a layer, one behind each block.",
    "one-per-layer": "There is no adapter behind attention. One a layer, behind the feed-forward block, is Pfeiffer's "
    "variant; Houlsby has two.",
    "only-first": "There is no adapter behind the feed-forward block.",
    "only-last": "There is no adapter behind attention, and the first one stands behind the feed-forward block.",
    "one-adapter-twice": "The same adapter stands behind both blocks. Each block has its own.",
    "swapped": "The adapters are swapped: `adapter_1` belongs to attention.",
    "before-the-block": "Your adapter works on what the block reads. Its place is on what the block gives.",
    "parallel": "Your adapter reads what the block reads, and its answer is added beside the block's. That is a "
    "parallel adapter (and x would be added twice); here it stands behind the block.",
    "parallel-for-sum": "Your adapter stands in the layer's bypass, beside the block: x goes through it on its way to "
    "the sum. Its place is on the block's output; the layer's bypass stays untouched.",
    "bypass-twice": "The block's output is added twice: once by you, once by the adapter's own bypass.",
    "residual-lost": "The layer's own residual sums are missing. The adapter's bypass does not replace them: it goes "
    "around the adapter, not around the block.",
    "skips-from-input": "The second sum adds x, the layer's input. It must add what the feed-forward block has read.",
    "norm-forgotten": "The layer norms are missing.",
    "norms-swapped": "The norms are swapped: `norm_1` comes first.",
    "serial": "Both adapters stand at the end of the layer, one behind the other. There is one behind each block.",
}
ADAPTED_LAYER = FunctionExercise(
    right=adapted_layer,
    probes=[
        Probe("three tokens of width 5", lambda f: call(f, X, *LAYER)),
        Probe("two tokens", lambda f: call(f, X[:2] - 1, *LAYER)),
    ],
    mistakes=[
        Mistake("one-per-layer" if slug.startswith("only") else slug, message, partial(adapted_layer, wrong=slug))
        for slug, message in LAYER_MESSAGES.items()
    ],
    praise="Right: block, adapter, sum, norm; twice.",
)


def check_adapted_layer(answer: Any) -> Verdict:
    """Exercise 08-3: `adapted_layer(x, attention, feed_forward, norm_1, norm_2, adapter_1, adapter_2)` -> (T, D)."""
    return ADAPTED_LAYER.judge(answer)


# ---------------------------------------------------------------- 08-4

_LAYER_NAMES = [
    *(f"attention.self.{part}.{kind}" for part in ("query", "key", "value") for kind in ("weight", "bias")),
    *(
        f"{place}.dense.{part}.{kind}"
        for place in ("attention.output", "output")
        for part in ("base", "adapter.down", "adapter.up")
        for kind in ("weight", "bias")
    ),
    *(f"{place}.LayerNorm.{kind}" for place in ("attention.output", "output") for kind in ("weight", "bias")),
    "intermediate.dense.weight",
    "intermediate.dense.bias",
]
NAMES = [
    *(f"bert.embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")),
    *(f"bert.embeddings.LayerNorm.{kind}" for kind in ("weight", "bias")),
    *(f"bert.encoder.layer.{layer}.{name}" for layer in (0, 1) for name in _LAYER_NAMES),
    *(f"{place}.{kind}" for place in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")),
]


def is_trained(name: str) -> bool:
    """Adapters, every layer norm, and the head."""
    return ".adapter." in name or ".LayerNorm." in name or name.startswith("classifier.")


def ask_names(function: Callable) -> Tensor:
    """One entry a name of a BERT with adapters: 1 for trained."""
    return flags_of(function, NAMES)


def flags_of(function: Callable, names: Collection[str]) -> Tensor:
    """One entry a name: 1 for trained."""
    flags = []
    for name in names:
        given = call(function, name)
        if isinstance(given, Tensor) and given.numel() == 1:
            given = given.item()
        if isinstance(given, re.Match):
            given = True
        if given not in (True, False):
            raise Refused("not-a-flag", f"for {name} it returns {given!r:.40}; return True or False.")
        flags.append(float(given))
    return torch.tensor(flags, dtype=torch.float64)


def _forgets(slug: str, message: str, *words: str) -> Mistake:
    """Everything right but the names with one of these words, which stay frozen."""
    return Mistake(slug, message, lambda name: is_trained(name) and not any(word in name for word in words))


def _adds(slug: str, message: str, extra: Callable[[str], bool]) -> Mistake:
    return Mistake(slug, message, lambda name: is_trained(name) or extra(name))


NORMS = (
    "The layer norms stay frozen. The paper trains them with the adapters, a copy a task: 2 D numbers each, which set "
    "the scale of what the adapters add."
)
IS_TRAINED = FunctionExercise(
    right=is_trained,
    probes=[Probe("the names of a BERT with adapters", ask_names)],
    mistakes=[
        _forgets("norms-frozen", NORMS, "LayerNorm"),
        _forgets(
            "embedding-norm-frozen",
            "The norm behind the embeddings stays frozen. The paper's code trains every layer norm, that one too.",
            "embeddings.LayerNorm",
        ),
        _forgets(
            "head-forgotten",
            "The head stays frozen. It is new and random: whatever the adapters learn, it would be read by a coin.",
            "classifier",
        ),
        _forgets("norms-frozen", NORMS + " And the head is new and random: train it.", "LayerNorm", "classifier"),
        _forgets("adapters-frozen", "The adapters themselves stay frozen.", "adapter"),
        Mistake(
            "head-only",
            "Only the head is trained: that is a linear probe.",
            lambda name: name.startswith("classifier"),
        ),
        _adds(
            "pooler-trained",
            "The pooler is trained too. It belongs to the pretrained model, and the paper leaves it frozen.",
            lambda name: "pooler" in name,
        ),
        _adds(
            "backbone-biases",
            "The backbone's biases are trained too. A part of a name, such as 'bias', matches more than the adapters'.",
            lambda name: name.endswith("bias"),
        ),
        _adds(
            "base-trained",
            "The wrapped projections are trained too: 'dense.base' is the pretrained matrix, only 'adapter' is new.",
            lambda name: ".base." in name,
        ),
        _adds(
            "base-trained",
            "Everything under 'output' is trained, pretrained projections included.",
            lambda name: "output" in name,
        ),
        _adds(
            "base-trained",
            "Everything named 'dense' is trained, pretrained projections included.",
            lambda name: "dense" in name,
        ),
        Mistake("everything-trained", "Everything is trained: that is full fine-tuning, and more.", lambda name: True),
        Mistake("nothing-trained", "Nothing is trained.", lambda name: False),
    ],
    praise="Right: adapters, all layer norms, head; and nothing else.",
)


def check_is_trained(answer: Any) -> Verdict:
    """Exercise 08-4: `is_trained(name)` -> True or False."""
    verdict = IS_TRAINED.judge(answer)
    flags = attempt(IS_TRAINED.probes[0], answer) if verdict.mistake == "wrong-value" else None
    if not isinstance(flags, Tensor):
        return verdict
    wrong = [name for name, flag in zip(NAMES, flags.tolist(), strict=True) if flag != is_trained(name)]
    if not wrong:  # it answers otherwise when it is asked again
        return verdict
    here = "is trained, and your answer freezes it" if is_trained(wrong[0]) else "is frozen, and your answer trains it"
    return refused("wrong-value", f"`{wrong[0]}` {here}; {len(wrong)} of {len(NAMES)} names are wrong.")


# ---------------------------------------------------------------- 08-5


def trained_parameters(
    width: int,
    layers: int,
    bottleneck: int,
    classes: int,
    *,
    per_layer: float = 2,
    matrices: int = 2,
    biases: bool = True,
    inner: int = 1,
    norms: int = 2,
    first_norm: bool = True,
    norm_tensors: int = 2,
    head: bool = True,
    head_bias: bool = True,
    pooler: bool = False,
    all_layers: bool = True,
) -> int:
    """Adapters, layer norms and head; every keyword makes one mistake."""
    one = inner * matrices * bottleneck * width + biases * (width + bottleneck)
    repeated = layers if all_layers else 1
    total = repeated * per_layer * one + norm_tensors * width * (norms * layers + first_norm * bool(norms))
    return int(total + head * (width * classes + head_bias * classes) + pooler * (width**2 + width))


SIZES = ((7, 5, 3, 4), (1024, 24, 64, 2))
COUNTED = FunctionExercise(
    right=trained_parameters,
    probes=[
        Probe(f"D = {d}, L = {n}, m = {m}, K = {k}", lambda f, size=(d, n, m, k): as_numbers(call(f, *size)))
        for d, n, m, k in SIZES
    ],
    mistakes=[
        Mistake(slug, message, partial(trained_parameters, **wrong))
        for slug, message, wrong in (
            ("one-per-layer", "You count one adapter a layer; Houlsby has two.", {"per_layer": 1}),
            ("four-per-layer", "You count four adapters a layer; there are two.", {"per_layer": 4}),
            ("one-matrix", "An adapter has two matrices, one down and one up.", {"matrices": 1}),
            ("biases-forgotten", "An adapter's biases are missing: m on the way down, D up.", {"biases": False}),
            ("norms-forgotten", "The layer norms are missing. They are trained too.", {"norms": 0}),
            (
                "norms-forgotten",
                "You count one layer norm a layer, and BERT has two.",
                {"norms": 1},
            ),
            (
                "embedding-norm-forgotten",
                "One layer norm is missing: that behind the embeddings.",
                {"first_norm": False},
            ),
            ("norms-halved", "A layer norm has a scale and a shift: 2 D numbers.", {"norm_tensors": 1}),
            ("head-forgotten", "The head is missing: K D + K.", {"head": False}),
            ("head-bias-forgotten", "The head's bias is missing: K numbers.", {"head_bias": False}),
            ("pooler-counted", "You count the pooler, which stays frozen.", {"pooler": True}),
            ("feed-forward-width", "An adapter reads and writes width D, not the 4 D inside the block.", {"inner": 4}),
            ("per-layer-only", "Those are the adapters of one layer; there are L layers.", {"all_layers": False}),
            (
                "norms-and-head-forgotten",
                "Those are the adapters alone. Layer norms and head are trained, and stored, with them.",
                {"norms": 0, "head": False},
            ),
        )
    ],
    praise="Right: 2 L (2 m D + D + m) + 2 D (2 L + 1) + K D + K.",
)


def check_trained_parameters(answer: Any) -> Verdict:
    """Exercise 08-5: `trained_parameters(D, L, m, K)` -> a number."""
    return COUNTED.judge(answer)


# ---------------------------------------------------------------- 08-6

LARGE = accounting.bert_parameters(30_522, 1024, 24, 4096, 512)
PER_TASK = trained_parameters(1024, 24, 64, 2)
SHARE = PER_TASK / LARGE  # 1.92 %
TASKS = 20
MANY_TASKS = SeveralNumbers(
    {
        "full fine-tuning": NumberExercise(
            float(TASKS),
            [
                WrongNumber(
                    TASKS + 1.0,
                    "pretrained-kept",
                    "The pretrained model itself need not be kept: each of the copies does its own task.",
                ),
                WrongNumber(1.0, "one-copy", "That is one copy; each task needs its own."),
            ],
            tolerance=0.001,
        ),
        "adapters": NumberExercise(
            1 + TASKS * SHARE,
            [
                WrongNumber(
                    TASKS * SHARE,
                    "shared-model-forgotten",
                    "Those are the tasks' own tensors. Without the model under them they are of no use: add 1.",
                ),
                WrongNumber(1 + SHARE, "one-task", "That is one task; there are 20."),
                WrongNumber(
                    TASKS * (1 + SHARE), "shared-model-counted-twice", "The model is counted once a task. It is shared."
                ),
                WrongNumber(1 + TASKS * 100 * SHARE, "percent-for-share", "1.92 % are 0.0192 of the model."),
                WrongNumber(
                    (1 + SHARE) ** TASKS,
                    "compounded",
                    "The tasks stand beside each other: each adds 1.92 % of the model, not of all that is there.",
                ),
            ],
            tolerance=0.005,
        ),
        "tasks until it doubles": NumberExercise(
            1 / SHARE,
            [
                WrongNumber(
                    2 / SHARE, "with-the-model", "One of the two is the model itself; the adapters make up the other."
                ),
                WrongNumber(1 / (100 * SHARE), "percent-for-share", "1.92 % are 0.0192 of the model."),
            ],
            tolerance=0.02,
        ),
    },
    praise="Right: 20 against 1.38; and about 52 tasks fit beside the model before it doubles.",
)


def check_many_tasks(answer: Any) -> Verdict:
    """Exercise 08-6: (copies, with adapters, tasks until it doubles), the first two in BERT-larges."""
    return MANY_TASKS.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


class _Stream(nn.Module):
    """A frozen random network with adapters: three blocks with residual sum and norm, read by a linear head."""

    def __init__(self, width: int = 24, bottleneck: int = 8, blocks: int = 3, std: float = 1e-2):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks)).requires_grad_(False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(width, bottleneck) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(bottleneck, width) for _ in range(blocks))
        for linear in [*self.down, *self.up]:
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block, norm, down, up in zip(self.blocks, self.norms, self.down, self.up, strict=True):
            h = torch.tanh(block(x))
            x = norm(x + h + up(F.gelu(down(h))))
        return self.head(x)

    def own(self) -> list[nn.Parameter]:
        """Adapters and head; the norms apart."""
        return [p for part in (self.down, self.up, self.head) for p in part.parameters()]


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    with torch.random.fork_rng(devices=[]):
        return {"08-a": _zeros(), "08-b": _norms_shared(), "08-c": _head_not_saved()}


def _data(seed: int, rule: int) -> tuple[Tensor, Tensor]:
    """Points and a class that is no linear function of them; two rules for two tasks."""
    torch.manual_seed(seed)
    x = torch.randn(256, 24)
    pairs = ((0, 1), (2, 3)) if rule == 0 else ((4, 5), (6, 7))
    return x, (sum(x[:, i] * x[:, j] for i, j in pairs) > 0).long()


def _train(model: _Stream, data: tuple[Tensor, Tensor], steps: int, look: Callable, rate: float = 1e-2) -> None:
    """Adam on everything that requires grad; `look` sees each step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        look()
        optimizer.step()


def _accuracy(model: _Stream, data: tuple[Tensor, Tensor]) -> float:
    with torch.no_grad():
        return (model(data[0]).argmax(-1) == data[1]).double().mean().item()


def _zeros(steps: int = 60) -> dict[str, dict[str, Any]]:
    """Both matrices at exactly zero: their gradients stay zero."""
    torch.manual_seed(0)
    model, data = _Stream(), _data(1, 0)
    for linear in [*model.down, *model.up]:
        nn.init.zeros_(linear.weight)
    norms: dict[str, list[float]] = {"both matrices": [], "b_up": []}

    def look() -> None:
        weights = [linear.weight.grad for linear in [*model.down, *model.up]]
        norms["both matrices"].append(torch.stack([g.norm() for g in weights]).norm().item())
        norms["b_up"].append(torch.stack([linear.bias.grad.norm() for linear in model.up]).norm().item())

    _train(model, data, steps, look)
    return {"gradient norm": norms}


def _norms_shared(steps: int = 80) -> dict[str, dict[str, Any]]:
    """Adapters and head are swapped with the task, layer norms are not: the second task spoils the first."""
    torch.manual_seed(1)
    model, first, second = _Stream(), _data(1, 0), _data(2, 1)
    seen: list[float] = []
    _train(model, first, steps, lambda: seen.append(_accuracy(model, first)))
    kept = [p.detach().clone() for p in model.own()]

    def look() -> None:
        now = [p.detach().clone() for p in model.own()]
        _put(model.own(), kept)
        seen.append(_accuracy(model, first))
        _put(model.own(), now)

    _train(model, second, steps, look, rate=3e-2)
    return {"accuracy": {"first task": seen}}


@torch.no_grad()
def _put(targets: list[nn.Parameter], values: list[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


def _head_not_saved(steps: int = 80) -> dict[str, dict[str, Any]]:
    """Saved and loaded without the head: from there on a random one reads the trained adapters."""
    torch.manual_seed(2)
    model, data, seen = _Stream(), _data(1, 0), []
    _train(model, data, steps, lambda: seen.append(_accuracy(model, data)))
    torch.manual_seed(4)
    model.head.reset_parameters()
    return {"accuracy": {"first task": [*seen, *[_accuracy(model, data)] * 20]}}

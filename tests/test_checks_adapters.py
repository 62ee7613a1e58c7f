"""The checkers of lesson 08: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from checker_cases import ValueCheckerTests, Wrong

from peft_helpers import methods, plots, question_bank
from peft_helpers.checks import adapters
from peft_helpers.methods.houlsby import BottleneckAdapter

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 08-1

RIGHT["check_adapter"] = [
    """
def answer(h, w_down, b_down, w_up, b_up):
    z = F.gelu(h @ w_down.T + b_down)
    return h + z @ w_up.T + b_up
""",
    """
def answer(h, w_down, b_down, w_up, b_up):
    return h + F.linear(F.gelu(F.linear(h, w_down, b_down)), w_up, b_up)
""",
    """
def answer(h, w_down, b_down, w_up, b_up):
    small = torch.einsum("...d,md->...m", h, w_down) + b_down
    small = small * 0.5 * (1 + torch.erf(small / math.sqrt(2)))
    return torch.einsum("...m,dm->...d", small, w_up) + b_up + h
""",
]
WRONG["check_adapter"] = [
    Wrong("no-residual", 0, "h + z", "z"),
    Wrong("no-residual", 1, "h + F", "F"),
    Wrong("residual-twice", 0, "h + z", "2 * h + z"),
    Wrong("activation-missing", 0, "F.gelu", ""),
    Wrong("activation-behind", 1, "h + F.linear(F.gelu(F.linear(h, w_down, b_down)), w_up, b_up)",
          "h + F.gelu(F.linear(F.linear(h, w_down, b_down), w_up, b_up))"),
    Wrong("activation-twice", 0, "h + z @ w_up.T + b_up", "h + F.gelu(z @ w_up.T + b_up)"),
    Wrong("residual-inside", 0, "h + z @ w_up.T + b_up", "F.gelu(h + z @ w_up.T + b_up)"),
    Wrong("residual-inside", 1, "h + F.linear(F.gelu(F.linear(h, w_down, b_down)), w_up, b_up)",
          "F.gelu(h + F.linear(F.linear(h, w_down, b_down), w_up, b_up))"),
    Wrong("another-activation", 0, "F.gelu", "F.relu"),
    Wrong("another-activation", 0, "F.gelu", "F.silu"),
    Wrong("another-activation", 0, "F.gelu", "torch.tanh"),
    Wrong("approximate-gelu", 0, "+ b_down)", "+ b_down, approximate='tanh')"),
    Wrong("bias-forgotten", 0, " + b_down", ""),
    Wrong("bias-forgotten", 0, " + b_up", ""),
    Wrong("wrong-place", 0, "F.gelu(h @ w_down.T + b_down)", "F.gelu(h) @ w_down.T + b_down"),
    Wrong("whole-scaled", 0, "h + z @ w_up.T + b_up", "h * (1 + z @ w_up.T + b_up)"),
    Wrong("wrong-side", 0, "w_down.T", "w_down"),
]  # fmt: skip

# ---------------------------------------------------------------- 08-3

RIGHT["check_adapted_layer"] = [
    """
def answer(x, attention, feed_forward, norm_1, norm_2, adapter_1, adapter_2):
    y = norm_1(x + adapter_1(attention(x)))
    return norm_2(y + adapter_2(feed_forward(y)))
""",
    """
def answer(x, attention, feed_forward, norm_1, norm_2, adapter_1, adapter_2):
    for block, adapter, norm in ((attention, adapter_1, norm_1), (feed_forward, adapter_2, norm_2)):
        x = norm(adapter(block(x)) + x)
    return x
""",
    """
def answer(x, attention, feed_forward, norm_1, norm_2, adapter_1, adapter_2):
    a = attention(x)
    a = adapter_1(a)
    first = norm_1(a + x)
    f = feed_forward(first)
    f = adapter_2(f)
    return norm_2(torch.add(f, first))
""",
]
WRONG["check_adapted_layer"] = [
    Wrong("after-residual-sum", 1, "norm(adapter(block(x)) + x)", "norm(adapter(block(x) + x))"),
    Wrong("after-norm", 1, "norm(adapter(block(x)) + x)", "adapter(norm(block(x) + x))"),
    Wrong("four-per-layer", 1, "adapter(block(x))", "adapter_2(adapter_1(block(x)))"),
    Wrong("one-per-layer", 0, "adapter_1(attention(x))", "attention(x)"),
    Wrong("one-per-layer", 0, "adapter_2(feed_forward(y))", "feed_forward(y)"),
    Wrong("one-adapter-twice", 0, "adapter_2(f", "adapter_1(f"),
    Wrong("before-the-block", 1, "adapter(block(x))", "block(adapter(x))"),
    Wrong("swapped", 1, "(attention, adapter_1, norm_1), (feed_forward, adapter_2,",
          "(attention, adapter_2, norm_1), (feed_forward, adapter_1,"),
    Wrong("parallel", 1, "adapter(block(x)) + x", "block(x) + x + adapter(x)"),
    Wrong("parallel-for-sum", 1, "adapter(block(x)) + x", "block(x) + adapter(x)"),
    Wrong("bypass-twice", 1, "adapter(block(x)) + x", "x + (b := block(x)) + adapter(b)"),
    Wrong("residual-lost", 1, " + x)", ")"),
    Wrong("skips-from-input", 0, "norm_2(y +", "norm_2(x +"),
    Wrong("norm-forgotten", 1, "norm(adapter(block(x)) + x)", "adapter(block(x)) + x"),
    Wrong("norms-swapped", 1, "adapter_1, norm_1), (feed_forward, adapter_2, norm_2",
          "adapter_1, norm_2), (feed_forward, adapter_2, norm_1"),
    Wrong("serial", 0, """y = norm_1(x + adapter_1(attention(x)))
    return norm_2(y + adapter_2(feed_forward(y)))""", """y = norm_1(x + attention(x))
    return adapter_2(adapter_1(norm_2(y + feed_forward(y))))"""),
]  # fmt: skip

# ---------------------------------------------------------------- 08-4

RIGHT["check_is_trained"] = [
    """
def answer(name):
    return ".adapter." in name or ".LayerNorm." in name or name.startswith("classifier.")
""",
    """
def answer(name):
    return any(part in name.split(".") for part in ("adapter", "LayerNorm", "classifier"))
""",
    """
import re
def answer(name):
    return re.search("adapter|LayerNorm|classifier", name) is not None
""",
]
WRONG["check_is_trained"] = [
    Wrong("norms-frozen", 0, ' or ".LayerNorm." in name', ""),
    Wrong("norms-frozen", 1, ', "LayerNorm", "classifier")', ",)"),
    Wrong("embedding-norm-frozen", 0, '".LayerNorm." in name', '("layer" in name and ".LayerNorm." in name)'),
    Wrong("head-forgotten", 0, ' or name.startswith("classifier.")', ""),
    Wrong("head-only", 0, '".adapter." in name or ".LayerNorm." in name or ', ""),
    Wrong("pooler-trained", 1, '"adapter",', '"adapter", "pooler",'),
    Wrong("backbone-biases", 1, '"adapter",', '"adapter", "bias",'),
    Wrong("base-trained", 1, '"adapter",', '"adapter", "base",'),
    Wrong("base-trained", 1, '"adapter",', '"adapter", "output",'),
    Wrong("base-trained", 1, '"adapter",', '"adapter", "dense",'),
    Wrong("adapters-frozen", 0, '".adapter." in name or ', ""),
    Wrong("everything-trained", 0, '".adapter." in name', '"." in name'),
    Wrong("nothing-trained", 1, '("adapter", "LayerNorm", "classifier")', '("adapters", "layernorm", "head")'),
    Wrong("not-a-flag", 0, 'return ".adapter."', 'return "yes" if "bert" in name else ".adapter."'),
]

# ---------------------------------------------------------------- 08-5

RIGHT["check_trained_parameters"] = [
    """
def answer(D, L, m, K):
    return 2 * L * (2 * m * D + m + D) + 2 * D * (2 * L + 1) + K * D + K
""",
    """
def answer(D, L, m, K):
    adapter = (D * m + m) + (m * D + D)
    norm, head = 2 * D, (D + 1) * K
    return sum([2 * adapter + 2 * norm] * L) + norm + head
""",
    """
def answer(D, L, m, K):
    linear = lambda a, b: torch.nn.Linear(a, b, device="meta")
    parts = [linear(D, m), linear(m, D)] * (2 * L) + [torch.nn.LayerNorm(D, device="meta")] * (2 * L + 1)
    return sum(p.numel() for part in [*parts, linear(D, K)] for p in part.parameters())
""",
]
WRONG["check_trained_parameters"] = [
    Wrong("one-per-layer", 0, "2 * L * (2", "L * (2"),
    Wrong("four-per-layer", 0, "2 * L * (2", "4 * L * (2"),
    Wrong("one-matrix", 0, "(2 * m * D", "(m * D"),
    Wrong("biases-forgotten", 0, " + m + D)", ")"),
    Wrong("norms-forgotten", 0, " + 2 * D * (2 * L + 1)", ""),
    Wrong("norms-forgotten", 0, "(2 * L + 1)", "(L + 1)"),
    Wrong("embedding-norm-forgotten", 0, "(2 * L + 1)", "(2 * L)"),
    Wrong("norms-halved", 0, "+ 2 * D * (2", "+ D * (2"),
    Wrong("head-forgotten", 0, " + K * D + K", ""),
    Wrong("head-bias-forgotten", 0, "K * D + K", "K * D"),
    Wrong("pooler-counted", 0, "K * D + K", "K * D + K + D * D + D"),
    Wrong("feed-forward-width", 0, "2 * m * D", "2 * m * 4 * D"),
    Wrong("per-layer-only", 0, "2 * L * (2 * m", "2 * (2 * m"),
    Wrong("norms-and-head-forgotten", 0, " + 2 * D * (2 * L + 1) + K * D + K", ""),
]

# ---------------------------------------------------------------- 08-2 and 08-6

GRADIENTS = {
    "both small": {"w_down", "b_down", "w_up", "b_up"},
    "both zero": {"b_up"},
    "up zero": {"w_up", "b_up"},
    "down zero": {"w_down", "b_down", "b_up"},
}
FOUR = set(adapters.FOUR)
VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_first_gradients": (
        [GRADIENTS, {way: sorted(names) for way, names in GRADIENTS.items()}, GRADIENTS | {"both zero": "b_up"}],
        [
            ("everything-moves", dict.fromkeys(GRADIENTS, FOUR)),
            ("nothing-moves", GRADIENTS | {"both zero": set(), "up zero": set(), "down zero": set()}),
            ("bias-stays", GRADIENTS | {"both zero": set()}),
            ("up-moves", GRADIENTS | {"both zero": {"b_up", "w_up"}}),
            ("up-moves", GRADIENTS | {"down zero": FOUR}),
            ("up-stays", GRADIENTS | {"up zero": {"b_up"}}),
            ("down-moves", GRADIENTS | {"both zero": {"b_up", "w_down"}}),
            ("down-moves", GRADIENTS | {"up zero": FOUR}),
            ("down-moves", GRADIENTS | {"up zero": {"w_up", "b_up", "b_down"}}),
            ("down-stays", GRADIENTS | {"down zero": {"b_up"}}),
            ("down-stays", GRADIENTS | {"down zero": {"b_up", "w_down"}}),
            ("not-names", GRADIENTS | {"up zero": {"W_up"}}),
            ("not-names", GRADIENTS | {"up zero": 3}),
            ("not-a-dictionary", {"both zero": {"b_up"}}),
        ],
    ),
    "check_many_tasks": (
        [(20, 1.3847, 52), [20.0, 1 + 20 * 0.0192, 1 / 0.0192], torch.tensor([20, 1.384, 52.1])],
        [
            ("pretrained-kept", (21, 1.384, 52)),
            ("one-copy", (1, 1.384, 52)),
            ("shared-model-forgotten", (20, 0.384, 52)),
            ("one-task", (20, 1.0192, 52)),
            ("shared-model-counted-twice", (20, 20.384, 52)),
            ("percent-for-share", (20, 39.4, 52)),
            ("compounded", (20, 1.0192**20, 52)),
            ("with-the-model", (20, 1.384, 104)),
            ("percent-for-share", (20, 1.384, 1 / 1.92)),
            ("wrong-value", (20, 1.384, 60)),
            ("not-numbers", (20, 1.384)),
        ],
    ),
}


# ---------------------------------------------------------------- the tests


class TestLesson08(ValueCheckerTests):
    modules = (adapters,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_adapter": adapters.ADAPTER,
        "check_adapted_layer": adapters.ADAPTED_LAYER,
        "check_is_trained": adapters.IS_TRAINED,
        "check_trained_parameters": adapters.COUNTED,
    }
    valued = {"check_many_tasks": adapters.MANY_TASKS}
    half_answered = {
        "check_first_gradients": [
            dict.fromkeys(GRADIENTS), GRADIENTS | {"down zero": None}, GRADIENTS | {"down zero": ...},
        ],
    }  # fmt: skip
    silent_junk = frozenset({("a dictionary", "check_first_gradients"), ("a dictionary", "check_many_tasks")})
    raised_only = frozenset({"wrong-side"})
    unlisted = frozenset({"not-a-flag", "not-names", "not-a-dictionary"})

    def test_every_reason_has_a_known_wrong_answer(self) -> None:
        tried = {slug for slug, _ in VALUES["check_first_gradients"][1]}
        assert {slug for slug, _ in adapters.WHY.values()} <= tried


# ---------------------------------------------------------------- the right answers are the library's


def test_the_right_adapter_is_the_librarys() -> None:
    module = BottleneckAdapter(adapters.WIDTH, adapters.BOTTLENECK).double()
    tensors = (module.down.weight, module.down.bias, module.up.weight, module.up.bias)
    with torch.no_grad():
        for tensor, value in zip(tensors, adapters.TENSORS, strict=True):
            tensor.copy_(value)
    assert torch.allclose(module(adapters.H), adapters.adapter(adapters.H, *adapters.TENSORS), atol=1e-12)


def test_the_right_names_and_count_are_the_librarys() -> None:
    model = methods.apply(tiny.model("bert", outputs=3), methods.Houlsby(bottleneck=5))
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, _ in model.named_parameters()} == set(adapters.NAMES)
    assert {name for name in adapters.NAMES if adapters.is_trained(name)} == set(trained)
    assert adapters.trained_parameters(16, 2, 5, 3) == sum(trained.values())


def test_the_right_layer_is_the_librarys() -> None:
    model = methods.apply(tiny.still(tiny.model("bert", head=False)), methods.Houlsby(bottleneck=5, init_std=0.3))
    model, layer = model.double().eval(), model.encoder.layer[0]
    x = torch.randn(1, 4, 16, dtype=torch.float64)
    blocks = layer.attention.output, layer.output

    def attention(x):
        return blocks[0].dense.base(layer.attention.self(x)[0])

    def feed_forward(x):
        return blocks[1].dense.base(layer.intermediate(x))

    norms = [block.LayerNorm for block in blocks]
    inside = [lambda h, block=block: block.dense.adapter(h) for block in blocks]
    for block in blocks:  # the wrapper computes in float32; here everything is float64
        block.dense.forward = lambda x, block=block: block.dense.adapter(block.dense.base(x))
    made = layer(x)
    made = made[0] if isinstance(made, tuple) else made
    assert torch.allclose(made, adapters.adapted_layer(x, attention, feed_forward, *norms, *inside), atol=1e-10)


def test_a_name_that_is_wrong_is_named() -> None:
    verdict = adapters.check_is_trained(lambda name: "adapter" in name or "bias" in name or "classifier" in name)
    assert verdict.mistake == "wrong-value"
    assert "`bert.embeddings.LayerNorm.weight` is trained, and your answer freezes it" in verdict.message


def test_first_gradients_are_those_of_the_library_and_unknown_ways_are_named() -> None:
    for way, names in GRADIENTS.items():
        assert adapters.first_gradients(way) == names
    with pytest.raises(ValueError, match="unknown way 'all'; there are both small, both zero"):
        adapters.first_gradients("all")


# ---------------------------------------------------------------- runs to diagnose


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = adapters.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["08-a", "08-b", "08-c"]
    assert all(question_bank.find(name).kind == "diagnose" for name in runs)
    norms = runs["08-a"]["gradient norm"]
    assert max(norms["both matrices"]) == 0 and min(norms["b_up"]) > 0
    (first,) = runs["08-b"]["accuracy"].values()
    half = len(first) // 2
    assert first[half - 1] > 0.95 and min(first[half:]) < first[half - 1] - 0.05, "the second task spoils the first"
    (loaded,) = runs["08-c"]["accuracy"].values()
    assert loaded[-21] > 0.95 and loaded[-1] < 0.75, "a random head reads the adapters"
    assert plots.broken_runs(runs).alt

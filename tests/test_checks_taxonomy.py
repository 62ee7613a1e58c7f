"""The checkers of lesson 11: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checker_cases import ValueCheckerTests, Wrong
from test_method_counts import bert

from peft_helpers import measured_costs, methods, plots, question_bank
from peft_helpers.checks import taxonomy

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}
VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {}

# ---------------------------------------------------------------- 11-1

FAMILIES = dict(taxonomy.UNSEEN)
VALUES["check_families"] = (
    [FAMILIES, {name: f" {family.upper()} " for name, family in FAMILIES.items()}, FAMILIES | {"another": "additive"}],
    [
        *((slug, FAMILIES | {name: chosen}) for (name, chosen), (slug, _) in taxonomy.WRONG_FAMILY.items()),
        ("no-mixture", FAMILIES | {"OFT": "hybrid"}),
        ("no-mixture", FAMILIES | {"LST": "hybrid"}),
        ("not-new", FAMILIES | {"LT-SFT": "additive"}),
        ("not-a-family", FAMILIES | {"OFT": "rotation"}),
        ("not-a-family", FAMILIES | {"OFT": 3}),
        ("not-a-dictionary", ["selective", "additive"]),
        ("not-a-dictionary", {name: family for name, family in FAMILIES.items() if name != "LST"}),
    ],
)

# ---------------------------------------------------------------- 11-2

KEPT = {name: taxonomy.kept_by(name) for name in taxonomy.OPERATIONS}
VALUES["check_kept"] = (
    [KEPT, {name: value.upper() for name, value in KEPT.items()}],
    [
        ("frozen-keeps-input", KEPT | {"W x, W frozen": "input"}),
        ("frozen-keeps-input", KEPT | {"W x, W frozen": "output"}),
        ("trained-keeps-nothing", KEPT | {"W x, W trained": "nothing"}),
        ("bias-keeps-input", KEPT | {"W x + b, only b trained": "input"}),
        ("factor-keeps-nothing", KEPT | {"l * x, l trained": "nothing"}),
        ("bend-keeps-nothing", KEPT | {"gelu(x)": "nothing"}),
        ("softmax-keeps-input", KEPT | {"softmax(x)": "input"}),
        ("nothing-kept", dict.fromkeys(KEPT, "nothing")),
        ("everything-kept", dict.fromkeys(KEPT, "input")),
        ("not-a-choice", KEPT | {"gelu(x)": "the input"}),
        ("not-a-choice", KEPT | {"gelu(x)": 1}),
        ("not-a-dictionary", list(KEPT.values())),
    ],
)

# ---------------------------------------------------------------- 11-3

RIGHT["check_basis"] = [
    """
def answer(basis):
    dimension = int(torch.linalg.matrix_rank(basis))
    changed = int((basis != 0).any(dim=1).sum())
    return dimension, changed, dimension == changed
""",
    """
def answer(basis):
    rows = [row for row in basis if row.abs().sum() > 0]
    found = np.linalg.matrix_rank(basis.numpy())
    return [found, len(rows), found == len(rows)]
""",
    """
def answer(basis):
    dimension = (torch.linalg.svdvals(basis) > 1e-9).sum()
    changed = basis.abs().amax(1).count_nonzero()
    return dimension, changed, torch.equal(dimension, changed)
""",
]
WRONG["check_basis"] = [
    Wrong("columns-counted", 0, "int(torch.linalg.matrix_rank(basis))", "basis.shape[1]"),
    Wrong("columns-for-rows", 0, "any(dim=1)", "any(dim=0)"),
    Wrong("entries-counted", 0, "(basis != 0).any(dim=1).sum()", "(basis != 0).sum()"),
    Wrong("all-changed", 0, "int((basis != 0).any(dim=1).sum())", "len(basis)"),
    Wrong("one-hot-wanted", 0, "dimension == changed", "bool(((basis != 0).sum(0) == 1).all())"),
    Wrong("few-is-a-subset", 0, "dimension == changed", "changed < len(basis)"),
    Wrong("subset-and-subspace-swapped", 0, "dimension == changed", "dimension != changed"),
    Wrong("wrong-outputs", 0, ", dimension == changed", ""),
]

# ---------------------------------------------------------------- 11-4

TRAINED, CHANGED = 294_912 + 1_538, 12 * 2 * 768**2
VALUES["check_three_counts"] = (
    [(TRAINED, CHANGED, TRAINED), [296_450.0, 14_155_776, 296_450],
     {"stored": TRAINED, "changed": CHANGED, "trained": TRAINED}, torch.tensor([296_450, 14_155_776, 296_450])],
    [
        ("head-forgotten", (294_912, CHANGED, TRAINED)),
        ("head-forgotten", (TRAINED, CHANGED, 294_912)),
        ("one-matrix", (147_456 + 1_538, CHANGED, TRAINED)),
        ("one-matrix", (147_456, CHANGED, TRAINED)),
        ("one-factor", (73_728 + 1_538, CHANGED, TRAINED)),
        ("one-layer", (294_912 / 12 + 1_538, CHANGED, TRAINED)),
        ("trained-for-changed", (TRAINED, 294_912, TRAINED)),
        ("trained-for-changed", (TRAINED, TRAINED, TRAINED)),
        ("whole-model", (TRAINED, 109_482_240, TRAINED)),
        ("one-target", (TRAINED, CHANGED / 2, TRAINED)),
        ("one-layer", (TRAINED, CHANGED / 12, TRAINED)),
        ("head-counted", (TRAINED, CHANGED + 1_538, TRAINED)),
        ("merged-stored", (TRAINED, CHANGED, CHANGED + 1_538)),
        ("merged-stored", (TRAINED, CHANGED, CHANGED)),
        ("whole-model", (TRAINED, CHANGED, 109_483_778)),
        ("not-numbers", (1, 2)),
    ],
)  # fmt: skip

# ---------------------------------------------------------------- 11-5

FULL = 16 * 109_483_778 / 1e6 + 306
IA3 = (4 * (109_483_778 + 55_296) + 12 * (55_296 + 1_538)) / 1e6 + 302
SAVED = 1 - IA3 / FULL
WEIGHTS = 4 * 109_483_778 / 1e6
VALUES["check_memory_saved"] = (
    [(FULL, IA3, SAVED), [2058, 741, 0.64]],
    [
        ("activations-forgotten", (FULL - 306, IA3, SAVED)),
        ("weights-forgotten", (FULL - WEIGHTS, IA3, SAVED)),
        ("optimizer-forgotten", (FULL - 2 * WEIGHTS, IA3, SAVED)),
        ("activations-forgotten", (FULL, IA3 - 302, SAVED)),
        ("weights-forgotten", (FULL, IA3 - WEIGHTS, SAVED)),
        ("activations-forgotten", (FULL, 439.3, SAVED)),
        ("trained-share", (FULL, FULL * 56_834 / 109_483_778, SAVED)),
        ("frozen-has-state", (FULL, FULL - 4, SAVED)),
        ("left-for-saved", (FULL, IA3, 1 - SAVED)),
        ("trained-share", (FULL, IA3, 0.9995)),
        ("percent", (FULL, IA3, 64)),
        ("not-numbers", (1, 2)),
    ],
)

# ---------------------------------------------------------------- 11-6

RIGHT["check_prefix_as_change"] = [
    """
def answer(q, k, v, prefix_k, prefix_v):
    scores = q @ torch.cat([prefix_k, k]).T / q.shape[-1] ** 0.5
    weights = scores.softmax(-1)
    share = weights[:, : len(prefix_k)].sum(-1, keepdim=True)
    with_prefix = weights @ torch.cat([prefix_v, v])
    alone = (q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v
    return share, with_prefix - alone
""",
    """
def answer(q, k, v, prefix_k, prefix_v):
    scale = math.sqrt(q.shape[-1])
    a, b = q @ prefix_k.T / scale, q @ k.T / scale
    share = torch.sigmoid(a.logsumexp(-1, keepdim=True) - b.logsumexp(-1, keepdim=True))
    return share, share * (a.softmax(-1) @ prefix_v - b.softmax(-1) @ v)
""",
    """
def answer(q, k, v, prefix_k, prefix_v):
    d, l = q.shape[-1], prefix_k.shape[0]
    everything = torch.softmax(torch.cat([q @ prefix_k.T, q @ k.T], 1) / d ** 0.5, 1)
    share = everything[:, :l].sum(1)[:, None]
    text = torch.softmax(q @ k.T / d ** 0.5, 1)
    return share, everything[:, :l] @ prefix_v - share * (text @ v)
""",
]
WRONG["check_prefix_as_change"] = [
    Wrong("scale-forgotten", 1, "scale = math.sqrt(q.shape[-1])", "scale = 1"),
    Wrong("share-swapped", 1, "share = torch.sigmoid(a", "share = 1 - torch.sigmoid(a"),
    Wrong("share-by-length", 1, "torch.sigmoid(a.logsumexp(-1, keepdim=True) - b.logsumexp(-1, keepdim=True))",
          "torch.full((len(q), 1), len(prefix_k) / (len(prefix_k) + len(k)), dtype=q.dtype)"),
    Wrong("text-keeps-its-share", 1, " - b.softmax(-1) @ v", ""),
    Wrong("share-forgotten", 1, "share * (a", "(a"),
    Wrong("sum-not-share", 1, "torch.sigmoid(", "torch.exp("),
    Wrong("attention-returned", 0, "with_prefix - alone", "with_prefix"),
    Wrong("share-flat", 0, "sum(-1, keepdim=True)", "sum(-1)"),
    Wrong("overflow", 1, "torch.sigmoid(a.logsumexp(-1, keepdim=True) - b.logsumexp(-1, keepdim=True))",
          "a.exp().sum(-1, keepdim=True) / (a.exp().sum(-1, keepdim=True) + b.exp().sum(-1, keepdim=True))"),
]  # fmt: skip


class TestLesson11(ValueCheckerTests):
    modules = (taxonomy,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {"check_basis": taxonomy.BASIS, "check_prefix_as_change": taxonomy.PREFIX}
    valued = {"check_three_counts": taxonomy.THREE_COUNTS, "check_memory_saved": taxonomy.MEMORY_SAVED}
    half_answered = {
        "check_families": [dict.fromkeys(FAMILIES), FAMILIES | {"ReFT": None}, FAMILIES | {"ReFT": ...}],
        "check_kept": [dict.fromkeys(KEPT), KEPT | {"softmax(x)": None}],
    }
    silent_junk = frozenset({("a dictionary", "check_three_counts"), ("a dictionary", "check_memory_saved")})
    unlisted = frozenset({"not-a-dictionary", "not-a-family"})

    def test_every_reason_has_a_known_wrong_answer(self) -> None:
        tried = {slug for slug, _ in VALUES["check_kept"][1]}
        assert {slug for slug, _ in taxonomy.WHY.values()} <= tried
        assert set(taxonomy.WHY) == set(taxonomy.OPERATIONS)


# ---------------------------------------------------------------- the right answers are the library's


def test_the_counts_are_those_of_the_registry() -> None:
    model = methods.apply(bert("base"), methods.LoRA())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == TRAINED
    assert taxonomy.LORA + taxonomy.HEAD == TRAINED and taxonomy.MATRICES == CHANGED


def test_the_bases_are_what_their_names_say() -> None:
    wanted = {(1, 3, 0), (2, 2, 1), (2, 5, 0)}
    assert {taxonomy.read_basis(basis) for basis in taxonomy.BASES.values()} == wanted


def test_what_is_kept_is_measured_and_unknown_operations_are_named() -> None:
    assert list(KEPT.values()) == ["nothing", "input", "nothing", "input", "input", "output"]
    with pytest.raises(ValueError, match="unknown operation 'add'; there are W x, W frozen"):
        taxonomy.kept_by("add")


def test_the_memory_is_that_of_the_models() -> None:
    small = measured_costs.memory_of(measured_costs.blank_bert(methods.IA3()), 302_000_000)
    full = measured_costs.memory_of(measured_costs.blank_bert(methods.FullFineTuning()), 306_000_000)
    assert (full.total / 1e6, small.total / 1e6) == pytest.approx((FULL, IA3))
    assert pytest.approx((FULL, IA3)) == (taxonomy.FULL_MEMORY, taxonomy.IA3_MEMORY)


# ---------------------------------------------------------------- runs to diagnose


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = taxonomy.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["11-a", "11-b", "11-c"]
    assert all(question_bank.find(name).kind == "diagnose" for name in runs)
    (drift,) = runs["11-a"].values()
    assert drift["outside"][0] == 0 and all(a < b for a, b in zip(drift["outside"], drift["outside"][1:], strict=False))
    (losses,) = runs["11-b"].values()
    full, low_rank = losses["full fine-tuning"], losses["LoRA"]
    assert low_rank[-1] > 10 * full[-1]
    others = [taxonomy._whole_losses(rate)[-1] for rate in (1e-3, 3e-3, 3e-2, 1e-1)]
    assert full[-1] < 1.02 * min(others), "the rate is tuned for full fine-tuning"
    assert taxonomy._low_rank_losses(5e-2)[-1] < full[-1], "with five times the rate LoRA gets there"
    (losses,) = runs["11-c"].values()
    assert losses["this run"][0] > 10 * losses["another run"][0] and losses["this run"][-1] < losses["this run"][0] / 10
    assert plots.broken_runs(runs).alt

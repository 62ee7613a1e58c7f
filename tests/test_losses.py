"""The from-scratch losses equal torch's in float64, their hand-made gradients equal autograd's, bad input is named."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from peft_helpers import losses

RELATIVE = 1e-12  # float64, the promise of the lesson
RELATIVE_FLOAT32 = 2e-6  # float32: some ten units in the last place
REDUCTIONS = ("none", "mean", "sum")


def equal(ours: Tensor, theirs: Tensor, relative: float = RELATIVE, scale: float = 1.0) -> None:
    """Within the relative bound; `scale` is the size of the numbers that a result near 0 was computed from."""
    torch.testing.assert_close(ours, theirs, rtol=relative, atol=relative * scale * 1e-1)


def batch(rows: int = 7, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=generator)
    weight = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    return logits, labels, weight


def gradient_of(function, point: Tensor) -> Tensor:
    point = point.clone().requires_grad_()
    function(point).sum().backward()
    return point.grad


# ---------------------------------------------------------------- equal to torch


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_family_equals_torch(dim: int) -> None:
    logits = 30 * torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    equal(losses.softmax(logits, dim), torch.softmax(logits, dim))
    equal(losses.log_softmax(logits, dim), torch.log_softmax(logits, dim))
    equal(losses.log_sum_exp(logits, dim), torch.logsumexp(logits, dim))
    slope = torch.linspace(-1, 2, 60, dtype=torch.float64).reshape(4, 3, 5)
    for ours, theirs in ((losses.softmax, torch.softmax), (losses.log_softmax, torch.log_softmax)):
        mine = gradient_of(lambda z, f=ours: f(z, dim) * slope, logits)
        equal(mine, gradient_of(lambda z, f=theirs: f(z, dim) * slope, logits))
    equal(gradient_of(lambda z: losses.log_sum_exp(z, dim), logits), torch.softmax(logits, dim))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [0, 1, 4])
def test_cross_entropy_equals_torch(reduction: str, smoothing: float, weighted: bool, ignored: int) -> None:
    logits, labels, weight = batch(seed=ignored)
    labels[:ignored] = -100
    options = {"weight": weight if weighted else None, "label_smoothing": smoothing, "reduction": reduction}
    equal(losses.cross_entropy(logits, labels, **options), F.cross_entropy(logits, labels, **options))
    theirs = gradient_of(lambda z: F.cross_entropy(z, labels, **options), logits)
    equal(losses.cross_entropy_gradient(logits, labels, **options), theirs)
    equal(gradient_of(lambda z: losses.cross_entropy(z, labels, **options), logits), theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_probabilities_equals_torch(reduction: str, smoothing: float, weighted: bool) -> None:
    logits, _, weight = batch(seed=3)
    targets = torch.softmax(batch(seed=4)[0], -1)
    options = {"weight": weight if weighted else None, "label_smoothing": smoothing, "reduction": reduction}
    equal(losses.cross_entropy(logits, targets, **options), F.cross_entropy(logits, targets, **options))
    theirs = gradient_of(lambda z: F.cross_entropy(z, targets, **options), logits)
    equal(losses.cross_entropy_gradient(logits, targets, **options), theirs)


def test_cross_entropy_takes_tokens_and_another_ignore_index() -> None:
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    labels = torch.tensor([[1, 4, 0, 2, 7, 7], [3, 3, 1, 7, 7, 7]])
    ours = losses.cross_entropy(logits, labels, ignore_index=7)
    equal(ours, F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=7))
    equal(losses.perplexity(logits, labels, ignore_index=7), ours.exp())
    one_row = losses.cross_entropy(logits[0, 0], torch.tensor(1))
    equal(one_row, F.cross_entropy(logits[0, 0], torch.tensor(1)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mean_squared_error_equals_torch(reduction: str) -> None:
    predictions, targets = batch(seed=6)[0], batch(seed=7)[0]
    equal(
        losses.mean_squared_error(predictions, targets, reduction),
        F.mse_loss(predictions, targets, reduction=reduction),
    )
    theirs = gradient_of(lambda p: F.mse_loss(p, targets, reduction=reduction), predictions)
    equal(losses.mean_squared_error_gradient(predictions, targets, reduction), theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", ["no", "rows", "entries"])
@pytest.mark.parametrize("positive", [None, "one", "classes"])
@pytest.mark.parametrize("soft", [False, True])
def test_binary_cross_entropy_equals_torch(reduction: str, weighted: str, positive: str | None, soft: bool) -> None:
    logits, _, class_weight = batch(seed=8)
    logits[0, 0], logits[1, 1] = 0.0, 45.0
    targets = torch.sigmoid(batch(seed=9)[0])
    targets = targets if soft else targets.round()
    weight = {"no": None, "rows": targets[:, :1] + 0.5, "entries": targets + 0.5}[weighted]
    pos_weight = {None: None, "one": torch.tensor(3.0, dtype=torch.float64), "classes": class_weight}[positive]
    options = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
    ours = losses.binary_cross_entropy_with_logits(logits, targets, **options)
    equal(ours, F.binary_cross_entropy_with_logits(logits, targets, **options))
    theirs = gradient_of(lambda x: F.binary_cross_entropy_with_logits(x, targets, **options), logits)
    equal(losses.binary_cross_entropy_gradient(logits, targets, **options), theirs)
    equal(gradient_of(lambda x: losses.binary_cross_entropy_with_logits(x, targets, **options), logits), theirs)


def test_softplus_and_sigmoid_equal_torch_far_out() -> None:
    x = torch.tensor([-700.0, -40, -1, 0, 1e-9, 1, 15, 700], dtype=torch.float64)
    equal(losses.softplus(x), torch.logaddexp(x, torch.zeros_like(x)), scale=0)
    equal(losses.sigmoid(x), torch.sigmoid(x), scale=0)


def test_kl_divergence_equals_torch_and_is_what_cross_entropy_adds() -> None:
    p, log_q = torch.softmax(batch(seed=10)[0], -1), torch.log_softmax(batch(seed=11)[0], -1)
    p[0] = torch.tensor([0, 0, 1, 0, 0])
    equal(losses.kl_divergence(p, log_q), F.kl_div(log_q, p, reduction="batchmean"))
    equal(losses.kl_divergence(p, log_q, "sum"), F.kl_div(log_q, p, reduction="sum"))
    equal(losses.kl_divergence(p, log_q, "none"), F.kl_div(log_q, p, reduction="none").sum(-1))
    entropy = losses.cross_entropy(p.clamp(min=1e-300).log(), p)
    equal(losses.cross_entropy(log_q, p) - entropy, losses.kl_divergence(p, log_q))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_float32_stays_within_the_stated_bound(reduction: str) -> None:
    logits, labels, _ = batch(rows=64, classes=11, seed=12)
    targets = torch.sigmoid(batch(rows=64, classes=11, seed=13)[0])
    pairs = (
        (losses.cross_entropy, F.cross_entropy, labels),
        (losses.mean_squared_error, F.mse_loss, targets),
        (losses.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits, targets),
    )
    for ours, theirs, wanted in pairs:
        single = wanted.float() if wanted.is_floating_point() else wanted
        mine = ours(logits.float(), single, reduction=reduction)
        assert mine.dtype == torch.float32
        equal(mine, theirs(logits.float(), single, reduction=reduction), RELATIVE_FLOAT32)
        equal(mine.double(), theirs(logits, wanted, reduction=reduction), RELATIVE_FLOAT32)


# ---------------------------------------------------------------- figures that the lesson quotes


def test_figures_of_the_lesson() -> None:
    imbalanced = torch.tensor([0] * 90 + [1] * 10)
    assert losses.label_entropy(imbalanced).item() == pytest.approx(0.325, abs=5e-4)
    assert losses.label_entropy(torch.arange(6)).item() == pytest.approx(math.log(6))
    assert losses.label_entropy(torch.zeros(5, dtype=torch.long)).item() == 0
    for classes, floor in ((2, 0.313), (6, 1.044)):  # a perfect classifier with a softmax too many
        perfect = 1000 * torch.eye(classes, dtype=torch.float64)
        twice = losses.cross_entropy(losses.softmax(perfect), torch.arange(classes))
        assert twice.item() == pytest.approx(floor, abs=5e-4)
    uniform = torch.zeros(4, 7, dtype=torch.float64)
    assert losses.perplexity(uniform, torch.tensor([0, 3, 6, 2])).item() == pytest.approx(7)


# ---------------------------------------------------------------- properties

entry = st.floats(-1e4, 1e4, allow_nan=False)
fast = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def problems(draw) -> tuple[Tensor, Tensor]:
    rows, classes = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rows_of = st.lists(entry, min_size=classes, max_size=classes)
    logits = torch.tensor(draw(st.lists(rows_of, min_size=rows, max_size=rows)), dtype=torch.float64)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    return logits, torch.tensor(labels)


@fast
@given(problems())
def test_extreme_logits_stay_finite_and_equal_torch(problem: tuple[Tensor, Tensor]) -> None:
    logits, labels = problem
    for reduction in REDUCTIONS:
        ours = losses.cross_entropy(logits, labels, reduction=reduction)
        assert torch.isfinite(ours).all()
        equal(ours, F.cross_entropy(logits, labels, reduction=reduction))
    equal(losses.softmax(logits).sum(-1), torch.ones(len(logits), dtype=torch.float64))
    gradient = losses.cross_entropy_gradient(logits, labels)
    equal(gradient, gradient_of(lambda z: F.cross_entropy(z, labels), logits))
    equal(gradient.sum(-1), torch.zeros(len(logits), dtype=torch.float64), scale=100)
    single = losses.cross_entropy(logits.float(), labels)
    assert torch.isfinite(single)
    equal(single, F.cross_entropy(logits.float(), labels), RELATIVE_FLOAT32)


@fast
@given(problems(), entry)
def test_a_constant_added_to_all_logits_changes_nothing(problem: tuple[Tensor, Tensor], shift: float) -> None:
    logits, labels = problem
    moved = losses.cross_entropy(logits + shift, labels)
    torch.testing.assert_close(moved, losses.cross_entropy(logits, labels), rtol=1e-9, atol=1e-9)


@fast
@given(problems())
def test_one_hot_probabilities_are_labels(problem: tuple[Tensor, Tensor]) -> None:
    logits, labels = problem
    rows = F.one_hot(labels, logits.shape[-1]).double()
    equal(losses.cross_entropy(logits, rows), losses.cross_entropy(logits, labels))


@fast
@given(st.lists(st.tuples(entry, st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=8))
def test_binary_cross_entropy_on_extreme_logits(pairs: list[tuple[float, float]]) -> None:
    logits, targets = torch.tensor(pairs, dtype=torch.float64).T
    ours = losses.binary_cross_entropy_with_logits(logits, targets)
    assert torch.isfinite(ours) and ours >= 0
    equal(ours, F.binary_cross_entropy_with_logits(logits, targets))
    zero = losses.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), reduction="none")
    equal(zero, losses.softplus(logits))


@fast
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_label_entropy_is_the_best_constant_loss(labels: list[int]) -> None:
    labels = torch.tensor(labels)
    entropy = losses.label_entropy(labels)
    assert 0 <= entropy <= math.log(len(labels.unique())) + 1e-12
    shares = torch.bincount(labels, minlength=5).double() / len(labels)
    constant = shares.clamp(min=1e-300).log().expand(len(labels), 5)
    torch.testing.assert_close(losses.cross_entropy(constant, labels), entropy, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- bad input is named

GOOD, LABELS = torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 1, 3])
NAN = torch.tensor([[0.0, float("nan")], [1, 2]])
INF = torch.tensor([[0.0, 1], [2, -float("inf")]])
BAD = {
    "empty batch": (lambda: losses.cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)), "empty"),
    "empty labels": (lambda: losses.label_entropy(torch.zeros(0, dtype=torch.long)), "empty"),
    "empty regression": (lambda: losses.mean_squared_error(torch.zeros(0), torch.zeros(0)), "empty"),
    "NaN logits": (lambda: losses.cross_entropy(NAN, torch.tensor([0, 1])), r"NaN.*\(0, 1\)"),
    "inf logits": (lambda: losses.softmax(INF), r"inf.*\(1, 1\)"),
    "NaN gradient": (lambda: losses.cross_entropy_gradient(NAN, torch.tensor([0, 1])), "NaN"),
    "inf prediction": (lambda: losses.mean_squared_error(INF, INF), "inf"),
    "NaN binary": (lambda: losses.binary_cross_entropy_with_logits(NAN, torch.zeros(2, 2)), "NaN"),
    "label too large": (lambda: losses.cross_entropy(GOOD, LABELS + 1), "label 4 is out of range.*0 to 3"),
    "negative label": (lambda: losses.cross_entropy(GOOD, LABELS - 1), "label -1 is out of range"),
    "negative entropy label": (lambda: losses.label_entropy(LABELS - 1), "label -1 is out of range"),
    "labels of another length": (lambda: losses.cross_entropy(GOOD, LABELS[:2]), r"\(3, 4\).*\(3,\).*\(2,\)"),
    "bool labels": (lambda: losses.cross_entropy(GOOD, LABELS > 0), "integers.*bool"),
    "list labels": (lambda: losses.cross_entropy(GOOD, [0, 1, 3]), "integers.*list"),
    "integer logits": (lambda: losses.softmax(LABELS), "floating-point.*int64"),
    "a single number": (lambda: losses.cross_entropy(torch.tensor(1.0), torch.tensor(0)), "classes last"),
    "no distribution": (lambda: losses.cross_entropy(GOOD, GOOD + 0.3), "sum to 1.*1.2"),
    "negative probability": (lambda: losses.kl_divergence(GOOD - 1, GOOD), "negative"),
    "shapes": (lambda: losses.kl_divergence(GOOD + 0.25, GOOD[:2]), r"equal.*p \(3, 4\), log_q \(2, 4\)"),
    "regression column": (lambda: losses.mean_squared_error(torch.zeros(3, 1), torch.zeros(3)), r"\(3, 1\).*\(3,\)"),
    "binary shapes": (lambda: losses.binary_cross_entropy_gradient(torch.zeros(3, 1), torch.zeros(3)), "equal"),
    "binary targets": (lambda: losses.binary_cross_entropy_with_logits(GOOD, GOOD + 2), r"0 … 1; got 2 … 2"),
    "pos_weight shape": (lambda: losses.binary_cross_entropy_with_logits(GOOD, GOOD, None, GOOD[:2]), "pos_weight"),
    "negative weight": (lambda: losses.cross_entropy(GOOD, LABELS, GOOD[0] - 1), "weight.*≥ 0"),
    "weight length": (lambda: losses.cross_entropy(GOOD, LABELS, GOOD[0, :3]), "4 numbers"),
    "smoothing": (lambda: losses.cross_entropy(GOOD, LABELS, label_smoothing=1.5), "between 0 and 1; got 1.5"),
    "reduction": (lambda: losses.cross_entropy(GOOD, LABELS, reduction="avg"), '"none", "mean" or "sum".*avg'),
    "gradient reduction": (lambda: losses.mean_squared_error_gradient(GOOD, GOOD, "avg"), "avg"),
    "all ignored": (lambda: losses.cross_entropy(GOOD, LABELS * 0 - 100), "over nothing"),
    "all ignored, gradient": (lambda: losses.cross_entropy_gradient(GOOD, LABELS * 0 - 100), "over nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        function()


def test_all_ignored_rows_sum_to_zero() -> None:
    assert losses.cross_entropy(GOOD, LABELS * 0 - 100, reduction="sum") == 0


# ---------------------------------------------------------------- short enough for a notebook cell


def code_lines(definition: object) -> int:
    """Lines of a function or class without its docstring(s), comments of their own included."""
    source = textwrap.dedent(inspect.getsource(definition))
    skipped = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            skipped += node.body[0].end_lineno - node.body[0].lineno + 1
    return sum(bool(line.strip()) for line in source.splitlines()) - skipped


TAUGHT = [name for name, value in vars(losses).items() if inspect.isfunction(value) and not name.startswith("require")]


@pytest.mark.parametrize("name", TAUGHT)
def test_taught_definitions_are_short(name: str) -> None:
    assert code_lines(getattr(losses, name)) <= 25

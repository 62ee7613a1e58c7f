"""The from-scratch optimizers follow torch.optim step by step, and the stability limits are where the formulas say."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import code_lines
from torch import Tensor

from peft_helpers import losses, optimizers

RELATIVE = 1e-12  # float64, of the largest entry, at each of 200 steps
RELATIVE_FLOAT32 = 1e-5  # float32, after 200 steps: rounding adds up
STEPS = 200

# name: (ours, torch's), and sets of (our settings, torch's settings)
RATE = "learning_rate"


def both(**given) -> tuple[dict, dict]:
    """Our settings and torch's names for them."""
    theirs = {{RATE: "lr", "epsilon": "eps"}.get(name, name): value for name, value in given.items()}
    return given, theirs


CASES = {
    "SGD": (
        optimizers.SGD,
        torch.optim.SGD,
        [
            both(learning_rate=0.1),
            both(learning_rate=0.01),
            both(learning_rate=0.5),
            both(learning_rate=0.1, weight_decay=0.1),
            both(learning_rate=0.2, weight_decay=1e-4),
            both(learning_rate=1e-3, weight_decay=2.0),
        ],
    ),
    "momentum": (
        optimizers.SGD,
        torch.optim.SGD,
        [
            both(learning_rate=0.1, momentum=0.9),
            both(learning_rate=0.02, momentum=0.99),
            both(learning_rate=0.3, momentum=0.5),
            both(learning_rate=0.1, momentum=0.9, dampening=0.9),
            both(learning_rate=0.2, momentum=0.7, dampening=0.3, weight_decay=0.1),
            both(learning_rate=0.1, momentum=0.9, weight_decay=0.5),
            both(learning_rate=0.1, momentum=0.3, dampening=1.0),
        ],
    ),
    "Nesterov": (
        optimizers.SGD,
        torch.optim.SGD,
        [
            both(learning_rate=0.1, momentum=0.9, nesterov=True),
            both(learning_rate=0.02, momentum=0.99, nesterov=True),
            both(learning_rate=0.3, momentum=0.5, nesterov=True),
            both(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
            both(learning_rate=0.05, momentum=0.1, nesterov=True),
            both(learning_rate=0.01, momentum=0.95, nesterov=True, weight_decay=1.0),
        ],
    ),
    "RMSprop": (
        optimizers.RMSprop,
        torch.optim.RMSprop,
        [
            both(learning_rate=0.01),
            both(learning_rate=0.1, alpha=0.9),
            both(learning_rate=0.01, alpha=0.5, epsilon=1e-2),
            both(learning_rate=0.02, alpha=0.99, weight_decay=0.1),
            both(learning_rate=0.01, alpha=0.9, momentum=0.9),
            both(learning_rate=0.01, alpha=0.95, momentum=0.5, epsilon=1e-3, weight_decay=0.2),
        ],
    ),
    "Adam": (
        optimizers.Adam,
        torch.optim.Adam,
        [
            both(learning_rate=1e-3),
            both(learning_rate=0.1),
            both(learning_rate=0.05, betas=(0.5, 0.9)),
            both(learning_rate=0.05, betas=(0.0, 0.99), epsilon=1e-3),
            both(learning_rate=0.05, betas=(0.9, 0.98), weight_decay=0.1),
            both(learning_rate=0.02, betas=(0.95, 0.999), epsilon=0.1, weight_decay=1.0),
        ],
    ),
    "AdamW": (
        optimizers.AdamW,
        torch.optim.AdamW,
        [
            both(learning_rate=1e-3),
            both(learning_rate=0.1, weight_decay=0.1),
            both(learning_rate=0.05, betas=(0.5, 0.9), weight_decay=0.5),
            both(learning_rate=0.05, betas=(0.0, 0.99), epsilon=1e-3, weight_decay=0.0),
            both(learning_rate=0.05, betas=(0.9, 0.98), weight_decay=2.0),
            both(learning_rate=0.02, betas=(0.95, 0.999), epsilon=0.1, weight_decay=1.0),
        ],
    ),
}
ALL = [(name, i) for name, case in CASES.items() for i in range(len(case[2]))]


def start(dtype: torch.dtype) -> list[Tensor]:
    """A weight matrix and a bias, away from 0."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (3,))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def logistic_loss(parameters: list[Tensor], step: int) -> Tensor:
    """Three-class logistic regression on mini-batches of 8 out of 32 examples, so that each step's gradient differs."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 4, generator=generator, dtype=torch.float64).to(parameters[0].dtype)
    labels = torch.randint(3, (32,), generator=generator)
    rows = torch.arange(8) + 8 * (step % 4)
    return losses.cross_entropy(inputs[rows] @ parameters[0].T + parameters[1], labels[rows])


def largest_difference(name: str, index: int, dtype: torch.dtype) -> float:
    """Relative to the largest entry, the worst of all steps and parameters."""
    ours_class, theirs_class, sets = CASES[name]
    ours, theirs = start(dtype), start(dtype)
    mine = ours_class(ours, **sets[index][0])
    reference = theirs_class(theirs, **sets[index][1], foreach=False)
    worst = 0.0
    for step in range(STEPS):
        for parameters, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            logistic_loss(parameters, step).backward()
            optimizer.step()
        for a, b in zip(ours, theirs, strict=True):
            worst = max(worst, ((a - b).abs().max() / b.abs().max()).item())
    assert not torch.equal(ours[0], start(dtype)[0])
    return worst


@pytest.mark.parametrize(("name", "index"), ALL)
def test_every_step_equals_torch(name: str, index: int) -> None:
    assert largest_difference(name, index, torch.float64) <= RELATIVE


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_within_the_stated_bound(name: str) -> None:
    assert largest_difference(name, 1, torch.float32) <= RELATIVE_FLOAT32


def test_at_least_six_sets_each() -> None:
    assert all(len(sets) >= 6 for _, _, sets in CASES.values())


def test_a_parameter_without_gradient_is_left_alone_and_counts_no_step() -> None:
    ours, theirs = start(torch.float64), start(torch.float64)
    mine, reference = optimizers.Adam(ours, 0.1), torch.optim.Adam(theirs, 0.1)
    for step in range(10):
        for parameters, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            logistic_loss(parameters, step).backward()
            if step < 4:
                parameters[1].grad = None
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=RELATIVE, atol=0)
    assert [state["step"] for state in mine.state] == [10, 6]


def test_state_tensors_per_trained_parameter() -> None:
    """0 plain, 1 with momentum or RMSprop, 2 for Adam."""

    def tensors(make) -> int:
        parameters = start(torch.float64)
        optimizer = make(parameters)
        logistic_loss(parameters, 0).backward()
        optimizer.step()
        return sum(isinstance(value, Tensor) for state in optimizer.state for value in state.values()) // 2

    made = [optimizers.SGD, lambda p: optimizers.SGD(p, momentum=0.9), optimizers.RMSprop, optimizers.Adam]
    assert [tensors(make) for make in made] == [0, 1, 1, 2]


def test_zero_grad_forgets_and_backward_adds() -> None:
    parameters = start(torch.float64)
    optimizer = optimizers.SGD(parameters)
    logistic_loss(parameters, 0).backward()
    once = parameters[0].grad.clone()
    logistic_loss(parameters, 0).backward()
    torch.testing.assert_close(parameters[0].grad, 2 * once)
    optimizer.zero_grad()
    assert parameters[0].grad is None


# ---------------------------------------------------------------- the figures that lesson 03 quotes


def steps_under_constant_gradient(count: int, gradient: float = 1.0, **options) -> list[float]:
    x = torch.zeros((), dtype=torch.float64)
    optimizer, sizes = optimizers.Adam([x], learning_rate=1.0, epsilon=0.0, **options), []
    for _ in range(count):
        x.grad = torch.full_like(x, gradient)
        before = x.item()
        optimizer.step()
        sizes.append(before - x.item())
    return sizes


def test_first_steps_with_and_without_correction() -> None:
    uncorrected = steps_under_constant_gradient(40, bias_correction=False)
    assert uncorrected[0] == pytest.approx(3.162, abs=1e-3)
    assert max(uncorrected) == pytest.approx(6.57, abs=5e-3)
    assert uncorrected.index(max(uncorrected)) + 1 == 12
    assert steps_under_constant_gradient(40) == pytest.approx([1.0] * 40)


def test_a_loss_times_thousand_leaves_adams_path_the_same() -> None:
    assert steps_under_constant_gradient(20, 1000.0) == pytest.approx(steps_under_constant_gradient(20), rel=1e-12)


def test_adam_with_l2_is_not_adamw() -> None:
    """Under L2 a weight with a large gradient hardly decays; decoupled, all decay alike."""
    shrunk = {}
    for kind in (optimizers.Adam, optimizers.AdamW):
        weights = torch.ones(2, dtype=torch.float64)
        optimizer = kind([weights], learning_rate=0.01, weight_decay=1.0)
        for step in range(400):
            weights.grad = torch.tensor([0.1, 100.0], dtype=torch.float64) * (-1) ** step  # no drift on average
            optimizer.step()
        shrunk[kind] = weights
    assert shrunk[optimizers.Adam][0] < 0.1 < 0.9 < shrunk[optimizers.Adam][1]
    assert torch.allclose(shrunk[optimizers.AdamW][0], shrunk[optimizers.AdamW][1])


# ---------------------------------------------------------------- stability


def distance_after(kind: str, rate: float, momentum: float, curvatures: Tensor, steps: int = 4000) -> float:
    x = torch.ones_like(curvatures)
    momentum = 0.0 if kind == "plain" else momentum
    optimizer = optimizers.SGD([x], rate, momentum=momentum, nesterov=kind == "nesterov")
    for _ in range(steps):
        x.grad = curvatures * x
        optimizer.step()
        if x.abs().max() > 1e3:
            return float("inf")
    return x.abs().max().item()


@pytest.mark.parametrize("kind", ["plain", "heavy_ball", "nesterov"])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_stability_limits_are_hit_within_one_percent(kind: str, momentum: float) -> None:
    curvatures = torch.tensor([0.9, 3.7], dtype=torch.float64)
    limit = optimizers.stability_limit(kind, 3.7, momentum)
    assert distance_after(kind, 0.995 * limit, momentum, curvatures) < 1e-1
    assert distance_after(kind, 1.005 * limit, momentum, curvatures) == float("inf")


def test_stability_figures_of_the_lesson() -> None:
    assert optimizers.stability_limit("plain", 1.0) == 2
    assert optimizers.stability_limit("heavy_ball", 1.0, 0.9) == pytest.approx(3.8)
    assert optimizers.stability_limit("nesterov", 1.0, 0.9) == pytest.approx(1.357, abs=1e-3)


# ---------------------------------------------------------------- the small functions


def test_gradient_descent_step_makes_a_new_tensor() -> None:
    x = torch.tensor([1.0, -2.0])
    moved = optimizers.gradient_descent_step(x, torch.tensor([10.0, 10.0]), 0.1)
    assert moved.tolist() == [0, -3] and x.tolist() == [1, -2]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_numerical_gradient_agrees_with_the_one_by_hand(values: list[float]) -> None:
    logits, labels = torch.tensor(values, dtype=torch.float64).reshape(2, 3), torch.tensor([2, 0])
    numerical = optimizers.numerical_gradient(lambda z: losses.cross_entropy(z, labels), logits)
    torch.testing.assert_close(numerical, losses.cross_entropy_gradient(logits, labels), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e6])
def test_clipping_equals_torch(max_norm: float) -> None:
    ours, theirs = start(torch.float64), start(torch.float64)
    for parameters in (ours, theirs):
        logistic_loss(parameters, 0).backward()
    norm = optimizers.clip_gradient_norm(ours, max_norm)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm), rtol=RELATIVE, atol=0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=RELATIVE, atol=0)


# ---------------------------------------------------------------- bad input is named


def step_on_nan() -> None:
    x = torch.zeros(2)
    x.grad = torch.tensor([1.0, float("nan")])
    optimizers.SGD([x]).step()


ONE = torch.zeros(2)
BAD = {
    "no parameters": (lambda: optimizers.SGD([]), "empty"),
    "a bare tensor": (lambda: optimizers.SGD(ONE), r"write \[tensor\]"),
    "twice the same": (lambda: optimizers.Adam([ONE, ONE]), "more than once"),
    "integers": (lambda: optimizers.SGD([torch.tensor([1, 2])]), "parameter 0.*int64"),
    "negative rate": (lambda: optimizers.SGD([ONE], -0.1), "learning_rate is -0.1; allowed is a finite number, 0 or"),
    "NaN rate": (lambda: optimizers.Adam([ONE], float("nan")), "learning_rate is nan"),
    "rate in words": (lambda: optimizers.RMSprop([ONE], "0.1"), "learning_rate is '0.1'"),
    "momentum of 1": (lambda: optimizers.SGD([ONE], 0.1, momentum=1.0), "momentum is 1.0; allowed is 0 ≤ momentum < 1"),
    "dampening": (lambda: optimizers.SGD([ONE], momentum=0.9, dampening=2), "dampening is 2"),
    "Nesterov alone": (lambda: optimizers.SGD([ONE], nesterov=True), "nesterov needs momentum"),
    "Nesterov dampened": (lambda: optimizers.SGD([ONE], momentum=0.9, dampening=0.1, nesterov=True), "dampening 0.1"),
    "decay": (lambda: optimizers.AdamW([ONE], weight_decay=-1), "weight_decay is -1"),
    "alpha": (lambda: optimizers.RMSprop([ONE], alpha=1), "alpha is 1"),
    "one beta": (lambda: optimizers.Adam([ONE], betas=0.9), "two numbers"),
    "beta2": (lambda: optimizers.Adam([ONE], betas=(0.9, 1.0)), "beta2 is 1.0"),
    "epsilon": (lambda: optimizers.Adam([ONE], epsilon=-1e-8), "epsilon is -1e-08"),
    "NaN gradient": (step_on_nan, "gradient holds 1 value.*NaN.*index \\(1,\\)"),
    "clip nothing": (lambda: optimizers.clip_gradient_norm([ONE], 1.0), "backward"),
    "clip to 0": (lambda: optimizers.clip_gradient_norm([ONE], 0.0), "max_norm is 0.0"),
    "float32 probe": (lambda: optimizers.numerical_gradient(torch.sum, ONE), "float64"),
    "probe step": (lambda: optimizers.numerical_gradient(torch.sum, ONE.double(), 0.0), "step is 0.0"),
    "kind": (lambda: optimizers.stability_limit("adam", 1.0), '"plain", "heavy_ball" or "nesterov"; got \'adam\''),
    "curvature": (lambda: optimizers.stability_limit("plain", 0.0), "curvature is 0.0"),
    "limit's momentum": (lambda: optimizers.stability_limit("nesterov", 1.0, 1.5), "momentum is 1.5"),
    "step's rate": (lambda: optimizers.gradient_descent_step(ONE, ONE, -1.0), "learning_rate is -1.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        function()


def test_the_base_class_says_what_is_missing() -> None:
    x = torch.zeros(2)
    x.grad = torch.ones(2)
    with pytest.raises(NotImplementedError, match="how one parameter moves"):
        optimizers.Optimizer([x], 0.1).step()


TAUGHT = [
    name
    for name, value in vars(optimizers).items()
    if (inspect.isfunction(value) or inspect.isclass(value))
    and value.__module__ == optimizers.__name__
    and not name.startswith("require")
]


@pytest.mark.parametrize("name", TAUGHT)
def test_taught_definitions_are_short(name: str) -> None:
    assert code_lines(getattr(optimizers, name)) <= 25

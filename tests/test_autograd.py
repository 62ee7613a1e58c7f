"""The scalar autograd engine gives torch's values and gradients on any expression, and refuses what has none."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_losses import code_lines

from peft_helpers import autograd
from peft_helpers.autograd import Value, backward

RELATIVE = 1e-12

# name: (ours, torch's, how many inputs). Each is smooth and defined for all numbers, so that any graph can be drawn;
# denominators, logarithms and fractional powers get 1 + x² or more.
STEPS: dict[str, tuple[Callable, Callable, int]] = {
    "a + b": (lambda a, b: a + b, lambda a, b: a + b, 2),
    "a − b": (lambda a, b: a - b, lambda a, b: a - b, 2),
    "a · b": (lambda a, b: a * b, lambda a, b: a * b, 2),
    "a / b": (lambda a, b: a / (1 + b * b), lambda a, b: a / (1 + b * b), 2),
    "−a": (lambda a: -a, lambda a: -a, 1),
    "numbers on the left": (lambda a: 2 - 3 * (0.5 + a), lambda a: 2 - 3 * (0.5 + a), 1),
    "numbers on the right": (lambda a: (a - 2) / 3 + 0.5, lambda a: (a - 2) / 3 + 0.5, 1),
    "number over a": (lambda a: 2 / (1 + a * a), lambda a: 2 / (1 + a * a), 1),
    "a³": (lambda a: a**3, lambda a: a**3, 1),
    "a⁰": (lambda a: a**0 + a, lambda a: a**0 + a, 1),
    "√a": (lambda a: (1 + a * a) ** 0.5, lambda a: (1 + a * a) ** 0.5, 1),
    "tanh": (autograd.tanh, torch.tanh, 1),
    "exp": (lambda a: autograd.exp(autograd.tanh(a)), lambda a: torch.exp(torch.tanh(a)), 1),
    "log": (lambda a: autograd.log(1 + a * a), lambda a: torch.log(1 + a * a), 1),
}
step = st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 10**6), st.integers(0, 10**6))
numbers = st.floats(-2, 2, allow_subnormal=False)


def grow(leaves: list, steps: list, kind: int) -> object:
    """A result made from the leaves by the steps; each step takes any earlier values, so values are used many times."""
    values = list(leaves)
    for name, i, j in steps:
        function, inputs = STEPS[name][kind], STEPS[name][2]
        values.append(function(*(values[k % len(values)] for k in (i, j)[:inputs])))
    return sum(values[1:], values[0] * 1)  # every value counts, also those that no later step took


@given(st.lists(numbers, min_size=1, max_size=4), st.lists(step, max_size=14))
def test_random_graphs_equal_torch(starts: list[float], steps: list) -> None:
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in starts]
    result = grow(theirs, steps, kind=1)
    result.backward()
    expected = [result.item(), *(x.grad.item() for x in theirs)]
    if not all(abs(x) < 1e100 for x in expected):  # a tower of powers: nothing to compare
        return
    ours = [Value(x) for x in starts]
    mine = grow(ours, steps, kind=0)
    backward(mine)
    scale = max(1.0, *map(abs, expected))  # sums may cancel: exact within the size of what was added up
    assert [mine.data, *(x.grad for x in ours)] == pytest.approx(expected, rel=RELATIVE, abs=RELATIVE * scale)


def test_a_value_that_is_used_twice_gets_both_shares() -> None:
    x = Value(3.0)
    y = x * x + x
    backward(y)
    assert (y.data, x.grad) == (12.0, 7.0)


def test_gradients_add_up_over_calls_as_in_torch() -> None:
    x, there = Value(0.7), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y, same = autograd.tanh(x * x) * x, torch.tanh(there * there) * there
    for call in (1, 2, 3):
        backward(y)
        same.backward(retain_graph=True)
        assert x.grad == pytest.approx(there.grad.item(), rel=RELATIVE), f"after call {call}"


def test_logistic_regression_equals_torch() -> None:
    rows, labels = [(0.3, -1.2), (1.7, 0.4), (-0.6, 0.9)], (1, 0, 1)
    weights = [Value(0.2), Value(-0.5)]
    loss = Value(0.0)
    for row, y in zip(rows, labels, strict=True):
        logit = weights[0] * row[0] + row[1] * weights[1]
        loss = loss + autograd.log(1 + autograd.exp((1 - 2 * y) * logit)) / len(rows)
    backward(loss)
    w = torch.tensor([0.2, -0.5], dtype=torch.float64, requires_grad=True)
    logits = torch.tensor(rows, dtype=torch.float64) @ w
    there = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels, dtype=torch.float64))
    there.backward()
    assert loss.data == pytest.approx(there.item(), rel=RELATIVE)
    assert [v.grad for v in weights] == pytest.approx(w.grad.tolist(), rel=RELATIVE)


def test_deep_graphs_need_no_recursion() -> None:
    x = Value(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1e-4 * x
    backward(y)
    assert x.grad == pytest.approx(3.0)


def test_shared_graphs_take_no_exponential_time() -> None:
    x = Value(1.0)
    y = x
    for _ in range(60):  # 2⁶⁰ ways from the result to x
        y = y * 0.5 + y * 0.5
    backward(y)
    assert x.grad == pytest.approx(1.0)
    assert len(autograd.topological_order(y)) < 400


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Value(math.nan), "finite number is needed; got nan"),
        (lambda: Value("3"), "got '3'"),
        (lambda: Value(1.0) + "3", "got '3'"),
        (lambda: Value(1.0) * torch.ones(2), "got tensor"),
        (lambda: Value(1e200) * Value(1e200), "got inf"),
        (lambda: Value(2.0) ** Value(3.0), "got Value"),
        (lambda: autograd.log(Value(0.0)), r"log\(0\)"),
        (lambda: autograd.log(Value(-1.0)), r"log\(-1\)"),
        (lambda: autograd.exp(Value(1000.0)), r"exp\(1000\)"),
        (lambda: Value(1.0) / 0, r"pow\(0, -1\)"),
        (lambda: Value(1.0) / Value(0.0), r"pow\(0, -1\)"),
        (lambda: Value(0.0) ** 0.5, r"pow\(0, -0\.5\)"),
        (lambda: Value(-2.0) ** 0.5, r"pow\(-2, "),
    ],
)
def test_what_has_no_value_is_refused(made: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def test_repr() -> None:
    assert repr(Value(2.5)) == "Value(2.5, grad=0)"


def test_short_enough_for_a_lesson() -> None:
    source = inspect.getsource(autograd)
    assert len(source.splitlines()) < 130
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert code_lines(getattr(autograd, node.name)) <= 25, node.name

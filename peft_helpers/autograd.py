"""Reverse-mode automatic differentiation of scalars: what `loss.backward()` does, small enough to read in one sitting.

Each `Value` knows what it was made from, and its slope with respect to each of these. `backward` walks from the result
to the beginnings and multiplies and adds slopes, the chain rule (arXiv:1502.05767, section 3.2). Python's numbers are
float64, so the derivatives equal those of torch in that precision.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence


class Operators:
    """What follows from sum, product and power: −a = a·(−1), a − b = a + (−b), a / b = a·b⁻¹."""

    def __neg__(self) -> Value:
        return self * -1

    def __sub__(self, other: Value | float) -> Value:
        return self + as_value(other) * -1

    def __rsub__(self, other: float) -> Value:
        return self * -1 + other

    def __truediv__(self, other: Value | float) -> Value:
        return self * as_value(other) ** -1

    def __rtruediv__(self, other: float) -> Value:
        return self**-1 * other


class Value(Operators):
    """A number that remembers how it was made.

    Attributes:
        data: the number.
        grad: the derivative by this value of everything that `backward` was called on so far, added up as in torch.
        parents: what it was made from.
        slopes: its derivative by each parent.
    """

    def __init__(self, data: float, parents: Sequence[Value] = (), slopes: Sequence[float] = ()):
        self.data, self.grad = require_number(data), 0.0
        self.parents, self.slopes = parents, slopes

    def __add__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> Value:
        y = finite(math.pow, self.data, require_number(exponent))
        slope = exponent * finite(math.pow, self.data, exponent - 1) if exponent else 0.0
        return Value(y, (self,), (slope,))

    __radd__, __rmul__ = __add__, __mul__  # 2 + x and 2 * x

    def __repr__(self) -> str:
        return f"Value({self.data:g}, grad={self.grad:g})"


def exp(x: Value) -> Value:
    """eˣ, its own derivative."""
    y = finite(math.exp, x.data)
    return Value(y, (x,), (y,))


def log(x: Value) -> Value:
    """The natural logarithm, with slope 1/x."""
    return Value(finite(math.log, x.data), (x,), (1 / x.data,))


def tanh(x: Value) -> Value:
    """tanh x, with slope 1 − tanh² x."""
    y = math.tanh(x.data)
    return Value(y, (x,), (1 - y * y,))


def topological_order(result: Value) -> list[Value]:
    """`result` and everything it was made from, each value after its parents. No recursion: graphs can be deep."""
    order, seen, waiting = [], set(), [(result, False)]
    while waiting:
        value, parents_done = waiting.pop()
        if parents_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            waiting.append((value, True))
            waiting.extend((parent, False) for parent in value.parents)
    return order


def backward(result: Value) -> None:
    """Add ∂result/∂value to `value.grad`, for every value that `result` was made from.

    From the end to the beginning, all uses of a value come before the value itself: its derivative is complete, with a
    share from every use, when it is handed on.
    """
    derivative = {result: 1.0}
    for value in reversed(topological_order(result)):
        value.grad += derivative[value]
        for parent, slope in zip(value.parents, value.slopes, strict=True):
            derivative[parent] = derivative.get(parent, 0.0) + derivative[value] * slope


def as_value(given: Value | float) -> Value:
    """Numbers become values without parents."""
    return given if isinstance(given, Value) else Value(given)


def require_number(given: float) -> float:
    """Refuse what is no finite number."""
    if not isinstance(given, numbers.Real) or not math.isfinite(given):
        raise ValueError(f"a finite number is needed; got {given!r}")
    return float(given)


def finite(function: Callable[..., float], *inputs: float) -> float:
    """function(*inputs); ValueError where that is undefined or too large: log 0, 0⁻¹, e¹⁰⁰⁰."""
    try:
        return function(*inputs)
    except (ValueError, OverflowError) as error:
        given = ", ".join(f"{x:g}" for x in inputs)
        raise ValueError(f"{function.__name__}({given}) is undefined or beyond float64") from error

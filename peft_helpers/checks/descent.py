"""The exercises of lesson 02, gradient descent.

02-1  `gradient_descent(gradient, start, learning_rate, steps)`: -> path, steps + 1 points; `gradient` is a function
      (7 min)
      checker: `check_gradient_descent`
      mistakes: wrong-sign, learning-rate-twice, learning-rate-ignored, gradient-frozen, aliased-path,
        start-missing, last-point-only, one-step-short

02-2  `train(weights, loss_function, learning_rate, steps)`: the loop with autograd, weights changed in place and
      returned (8 min)
      checker: `check_training_loop`
      mistakes: forgotten-zeroing, zeroed-too-early, wrong-sign, learning-rate-twice, one-step,
        step-recorded-by-autograd, left-the-graph

02-3  `momentum_step(parameter, gradient, velocity, learning_rate, momentum)`: -> (parameter, velocity), new tensors
      (7 min)
      checker: `check_momentum_step`
      mistakes: momentum-sign, wrong-sign, learning-rate-twice, dampened, velocity-forgotten, stale-velocity,
        momentum-ignored, look-ahead, outputs-swapped

02-4  `nesterov_step(parameter, gradient, velocity, learning_rate, momentum)`: -> (parameter, velocity) (6 min)
      checker: `check_nesterov_step`
      mistakes: no-look-ahead, velocity-for-gradient, look-ahead-not-scaled, momentum-sign, wrong-sign,
        learning-rate-twice, dampened, velocity-forgotten, outputs-swapped

02-5  `numerical_gradient(function, point, step)`: central differences, shaped like point (7 min)
      checker: `check_numerical_gradient`
      mistakes: one-sided, wrong-divisor, all-at-once, not-divided, wrong-sign, exact-gradient

02-6  three numbers: largest stable rate of plain, heavy ball and Nesterov; Hessian eigenvalues 0.5 and 8, β = 0.8
      (5 min)
      checker: `check_stability_limits`
      mistakes: smallest-curvature, factor-two-missing, fastest-not-largest, minus-for-plus, effective-rate,
        plain-limit, heavy-ball-limit, nesterov-limit, numerator-forgotten

02-7  a number: f(x) = λx²/2, rate 0.2, the loss grows by 1.44 a step: λ (5 min)
      checker: `check_curvature`
      mistakes: root-forgotten, sign-not-flipped, absolute-value-forgotten, one-forgotten, limit
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peft_helpers import optimizers
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    Nothing,
    NumberExercise,
    Probe,
    SeveralNumbers,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)

START = odd_numbers(3, seed=6)
CURVATURES = torch.tensor([0.7, 2.3, 5.1], dtype=torch.float64)


def slope(x: Tensor) -> Tensor:
    """The gradient of Σ (λ x² / 2 + x³ / 30), a bowl that is no exact quadratic."""
    return CURVATURES * x + x**2 / 10


# ---------------------------------------------------------------- 02-1


def descend(gradient: Callable, start: Tensor, learning_rate: float, steps: int) -> list[Tensor]:
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - learning_rate * gradient(path[-1]))
    return path


DESCENT = FunctionExercise(
    right=descend,
    probes=[Probe("a bowl in three dimensions", lambda f: call(f, slope, START, 0.13, 5))],
    mistakes=[
        Mistake(
            "wrong-sign",
            "The path climbs: the gradient points uphill, and you walk along it.",
            lambda g, x, rate, n: descend(g, x, -rate, n),
        ),
        Mistake(
            "learning-rate-twice",
            "The learning rate is applied twice: each step is η² times the gradient.",
            lambda g, x, rate, n: descend(g, x, rate**2, n),
        ),
        Mistake(
            "learning-rate-ignored",
            "The learning rate has no influence: each step is the whole gradient.",
            lambda g, x, rate, n: descend(g, x, 1.0, n),
        ),
        Mistake(
            "gradient-frozen",
            "All steps use the gradient at the start. It changes with the point: compute it anew each step.",
            lambda g, x, rate, n: descend(lambda _: g(x), x, rate, n),
        ),
        Mistake(
            "aliased-path",
            "All rows of the path are the same: it holds one tensor many times, changed in place afterwards (`x -= "
            "…`). Each step needs a new tensor, or a `.clone()` in the path.",
            lambda g, x, rate, n: [descend(g, x, rate, n)[-1]] * (n + 1),
        ),
        Mistake(
            "start-missing",
            "The path begins after the first step; it should begin with the start, and so have steps + 1 points.",
            lambda g, x, rate, n: descend(g, x, rate, n)[1:],
        ),
        Mistake(
            "one-step-short",
            "The path ends one step early: the start and then `steps` steps make steps + 1 points.",
            lambda g, x, rate, n: descend(g, x, rate, n - 1),
        ),
        Mistake(
            "last-point-only",
            "That is the end point; asked for is the whole path, start included.",
            lambda g, x, rate, n: descend(g, x, rate, n)[-1],
        ),
    ],
    praise="Right: downhill, step by step.",
)


def check_gradient_descent(answer: Any) -> Verdict:
    """Exercise 02-1: `gradient_descent(gradient, start, learning_rate, steps)`."""
    return DESCENT.judge(answer)


# ---------------------------------------------------------------- 02-2

INPUTS, OUTPUTS = odd_numbers(6, 3, seed=7), odd_numbers(6, seed=8)


def fit_error(weights: Tensor) -> Tensor:
    """The mean squared error of a linear model: (3,) -> scalar."""
    return ((INPUTS @ weights - OUTPUTS) ** 2).mean()


def run_training(function: Callable, steps: int) -> Tensor:
    """Let an answer train fresh weights; it may return them or only change them in place."""
    weights = START.clone().requires_grad_()
    result = function(weights, fit_error, 0.05, steps)
    if result is None and torch.equal(weights, START):
        raise Nothing
    return weights if result is None else result


def train(weights: Tensor, loss_function: Callable, learning_rate: float, steps: int, gather: bool = False) -> Tensor:
    """The right loop; `gather` adds the gradients up, as autograd does if nobody zeroes them."""
    point, total = weights.detach().clone(), torch.zeros_like(weights)
    for _ in range(steps):
        gradient = torch.func.grad(loss_function)(point)
        total = total + gradient if gather else gradient
        point = point - learning_rate * total
    return point


TRAINING_LOOP = FunctionExercise(
    right=train,
    probes=[Probe("one step", lambda f: run_training(f, 1)), Probe("four steps", lambda f: run_training(f, 4))],
    mistakes=[
        Mistake(
            "forgotten-zeroing",
            "The first step is right, the later ones are not: `backward()` adds to `.grad`, and each step uses the "
            "sum of all gradients so far. Zero it in every round.",
            lambda w, f, rate, n: train(w, f, rate, n, gather=True),
        ),
        Mistake(
            "zeroed-too-early",
            "The weights do not move. Is the gradient zeroed between `backward()` and the step that should use it?",
            lambda w, f, rate, n: w.detach(),
        ),
        Mistake(
            "wrong-sign",
            "The loss rises: the step goes along the gradient, not against it.",
            lambda w, f, rate, n: train(w, f, -rate, n),
        ),
        Mistake(
            "learning-rate-twice",
            "The learning rate is applied twice: each step is η² times the gradient.",
            lambda w, f, rate, n: train(w, f, rate**2, n),
        ),
        Mistake(
            "one-step",
            "However many steps are asked for, only one is made: is the `return` inside the loop?",
            lambda w, f, rate, n: train(w, f, rate, 1),
        ),
        Mistake(
            "step-recorded-by-autograd",
            "Autograd objects: weights that require gradients are changed in place while it records. The step itself "
            "is no part of the loss; wrap it in `with torch.no_grad():`.",
            raises=("leaf Variable",),
        ),
        Mistake(
            "left-the-graph",
            "The weights got lost: after `weights = weights − …` the name means a new tensor, which is no leaf and "
            "collects no gradient, so `.grad` is None (or it was set to None before the step). Change the weights in "
            "place instead.",
            raises=("NoneType", "does not require grad"),
        ),
    ],
    praise="Right: backward, step, zero.",
)


def check_training_loop(answer: Any) -> Verdict:
    """Exercise 02-2: `train(weights, loss_function, learning_rate, steps)`."""
    return TRAINING_LOOP.judge(answer)


# ---------------------------------------------------------------- 02-3 and 02-4

GRADIENTS = odd_numbers(5, 3, seed=9)


def run_steps(function: Callable) -> list[Tensor]:
    """Five steps with given gradients, the velocity handed on; only the parameters are compared.

    So v ← βv + g with θ ← θ − ηv, and v ← βv + ηg with θ ← θ − v, are both right.
    """
    parameter, velocity, path = START, torch.zeros_like(START), []
    for gradient in GRADIENTS:
        parameter, velocity = call(function, parameter, gradient, velocity, 0.3, 0.6, outputs=2)
        path.append(parameter)
    return path


def momentum_by(velocity_of: Callable, direction_of: Callable) -> Callable:
    """A variant: velocity_of(v, g, β) gives the new velocity, direction_of(v, g, β, η) what θ moves against, per η."""

    def step(parameter, gradient, velocity, rate, beta):
        new = velocity_of(velocity, gradient, beta)
        return parameter - rate * direction_of(new, gradient, beta, rate), new

    return step


def accumulated(v: Tensor, g: Tensor, beta: float) -> Tensor:
    return beta * v + g


def heavy_ball(v: Tensor, g: Tensor, beta: float, rate: float) -> Tensor:
    return v


def nesterov(v: Tensor, g: Tensor, beta: float, rate: float) -> Tensor:
    return g + beta * v


def stale(parameter: Tensor, gradient: Tensor, velocity: Tensor, rate: float, beta: float) -> tuple[Tensor, Tensor]:
    return parameter - rate * velocity, accumulated(velocity, gradient, beta)


def swapped(step: Callable) -> Callable:
    return lambda *arguments: step(*arguments)[::-1]


def velocity_mistakes(direction: Callable) -> list[Mistake]:
    """The mistakes that heavy ball and Nesterov share."""
    return [
        Mistake(
            "momentum-sign",
            "The old velocity is subtracted from the new gradient: momentum turns around each step. It should carry "
            "on.",
            momentum_by(lambda v, g, beta: g - beta * v, direction),
        ),
        Mistake(
            "wrong-sign",
            "The parameter moves along the velocity, uphill. Where is the minus?",
            momentum_by(accumulated, lambda v, g, beta, rate: -direction(v, g, beta, rate)),
        ),
        Mistake(
            "learning-rate-twice",
            "The learning rate is applied twice, once inside the velocity and once in the step. One of the two is "
            "enough.",
            momentum_by(accumulated, lambda v, g, beta, rate: rate * direction(v, g, beta, rate)),
        ),
        Mistake(
            "dampened",
            "The gradient enters the velocity with the factor 1 − β. That is a running mean (dampening); the exercise "
            "asks for the running sum, whose steps grow up to 1/(1 − β) times.",
            momentum_by(lambda v, g, beta: beta * v + (1 - beta) * g, direction),
        ),
        Mistake(
            "momentum-ignored",
            "The velocity never fades: β does not act on it, so old gradients count forever.",
            momentum_by(lambda v, g, beta: v + g, direction),
        ),
        Mistake(
            "velocity-forgotten",
            "The steps do not remember: is the new velocity computed from the old one, and returned?",
            momentum_by(lambda v, g, beta: g, direction),
        ),
        Mistake(
            "outputs-swapped",
            "The two results are in the wrong order: the new parameter first, then the velocity.",
            swapped(momentum_by(accumulated, direction)),
        ),
    ]


MOMENTUM = FunctionExercise(
    right=momentum_by(accumulated, heavy_ball),
    probes=[Probe("five steps", run_steps)],
    mistakes=[
        *velocity_mistakes(heavy_ball),
        Mistake(
            "stale-velocity",
            "The parameter moves with the old velocity: the newest gradient comes one step late. Update the velocity "
            "first.",
            stale,
        ),
        Mistake(
            "look-ahead",
            "That is Nesterov's form, with a look ahead; asked for is the plain heavy ball.",
            momentum_by(accumulated, nesterov),
        ),
    ],
    praise="Right: the heavy ball rolls.",
)


def check_momentum_step(answer: Any) -> Verdict:
    """Exercise 02-3: `momentum_step(parameter, gradient, velocity, learning_rate, momentum)`."""
    return MOMENTUM.judge(answer)


NESTEROV = FunctionExercise(
    right=momentum_by(accumulated, nesterov),
    probes=[Probe("five steps", run_steps)],
    mistakes=[
        Mistake(
            "no-look-ahead",
            "That is the heavy ball. Nesterov's step goes along g + βv, with the *new* v (with the old one, g + βv is "
            "nothing but the new velocity).",
            momentum_by(accumulated, heavy_ball),
        ),
        *velocity_mistakes(nesterov),
        Mistake(
            "velocity-for-gradient",
            "The step goes along v + βv; it is the gradient that looks ahead: g + βv.",
            momentum_by(accumulated, lambda v, g, beta, rate: v + beta * v),
        ),
        Mistake(
            "look-ahead-not-scaled",
            "The step goes along g + v: the look ahead lacks its factor β.",
            momentum_by(accumulated, lambda v, g, beta, rate: g + v),
        ),
    ],
    praise="Right: it looks where the velocity is about to carry it.",
)


def check_nesterov_step(answer: Any) -> Verdict:
    """Exercise 02-4: `nesterov_step(parameter, gradient, velocity, learning_rate, momentum)`."""
    return NESTEROV.judge(answer)


# ---------------------------------------------------------------- 02-5

MATRIX = odd_numbers(2, 3, seed=10)


def wavy(x: Tensor) -> Tensor:
    """A function with all derivatives, of a tensor of any shape: -> scalar."""
    return (x.sin() * torch.arange(1, x.numel() + 1, dtype=x.dtype).reshape(x.shape)).sum() + x.prod() + (x**3).sum()


def by_coordinates(difference: Callable) -> Callable:
    """A variant from difference(function, point, offset): it is asked for one coordinate's offset after another."""

    def gradient(function, point, step):
        offsets = step * torch.eye(point.numel(), dtype=point.dtype).reshape(-1, *point.shape)
        return torch.stack([difference(function, point, offset) / step for offset in offsets]).reshape(point.shape)

    return gradient


NUMERICAL_GRADIENT = FunctionExercise(
    right=optimizers.numerical_gradient,
    probes=[
        Probe("a point with three coordinates", lambda f: call(f, wavy, START, 0.1)),
        Probe("a point of shape (2, 3)", lambda f: call(f, wavy, MATRIX, 0.1)),
    ],
    mistakes=[
        Mistake(
            "one-sided",
            "Those are one-sided differences, (f(x + h) − f(x)) / h: their error shrinks with h only. Step to both "
            "sides, and it shrinks with h².",
            by_coordinates(lambda f, x, offset: f(x + offset) - f(x)),
        ),
        Mistake(
            "one-sided",
            "Those are one-sided (backward) differences: their error shrinks with h only. Step to both sides.",
            by_coordinates(lambda f, x, offset: f(x) - f(x - offset)),
        ),
        Mistake(
            "wrong-divisor",
            "Twice too large: how far apart are the two points whose values you subtract?",
            by_coordinates(lambda f, x, offset: f(x + offset) - f(x - offset)),
        ),
        Mistake(
            "wrong-divisor",
            "Divided by h/2 where it should be 2h: mind the parentheses, `a / 2 * h` is (a / 2)·h.",
            by_coordinates(lambda f, x, offset: (f(x + offset) - f(x - offset)) / 2 * offset.sum() ** 2),
        ),
        Mistake(
            "not-divided",
            "The difference of the two values is not divided by their distance.",
            by_coordinates(lambda f, x, offset: (f(x + offset) - f(x - offset)) * offset.sum()),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned: which of the two values comes first?",
            lambda f, x, h: -optimizers.numerical_gradient(f, x, h),
        ),
        Mistake(
            "all-at-once",
            "All coordinates are moved at once, so every entry is the sum of the partial derivatives. Move one at a "
            "time.",
            lambda f, x, h: torch.full_like(x, float(f(x + h) - f(x - h)) / (2 * h)),
        ),
        Mistake(
            "all-at-once",
            "All coordinates are moved at once: that gives one number. Move one at a time, and return the point's "
            "shape.",
            lambda f, x, h: (f(x + h) - f(x - h)) / (2 * h),
        ),
        Mistake(
            "exact-gradient",
            "That is the exact gradient. Fine, but a check of autograd must not use autograd: use function values "
            "only.",
            lambda f, x, h: torch.func.grad(f)(x),
        ),
    ],
    praise="Right: now you can check any gradient.",
)


def check_numerical_gradient(answer: Any) -> Verdict:
    """Exercise 02-5: `numerical_gradient(function, point, step)`."""
    return NUMERICAL_GRADIENT.judge(answer)


# ---------------------------------------------------------------- 02-6 and 02-7

FLAT, STEEP, BETA = 0.5, 8.0, 0.8
SMALLEST = "That is the limit of the flattest direction. The steepest one diverges first: which eigenvalue is that?"
FACTOR = "Twice too small: 1/λ is the rate that arrives in one step; it stays stable up to twice that."


def limit(kind: str, curvature: float = STEEP) -> float:
    return optimizers.stability_limit(kind, curvature, BETA)


STABILITY_LIMITS = SeveralNumbers(
    {
        "plain": NumberExercise(
            limit("plain"),
            [
                WrongNumber(limit("plain", FLAT), "smallest-curvature", SMALLEST),
                WrongNumber(limit("plain") / 2, "factor-two-missing", FACTOR),
                WrongNumber(
                    2 / (FLAT + STEEP),
                    "fastest-not-largest",
                    "That is 2/(λ_min + λ_max), the rate with the fastest convergence; asked for is the largest "
                    "stable one.",
                ),
            ],
        ),
        "heavy_ball": NumberExercise(
            limit("heavy_ball"),
            [
                WrongNumber(limit("heavy_ball", FLAT), "smallest-curvature", SMALLEST),
                WrongNumber(
                    limit("heavy_ball") / 2,
                    "factor-two-missing",
                    "Twice too small: is the 2 in front missing?",
                ),
                WrongNumber(
                    2 * (1 - BETA) / STEEP,
                    "minus-for-plus",
                    "1 − β in place of 1 + β: the heavy ball raises the limit.",
                ),
                WrongNumber(
                    2 / STEEP / (1 - BETA),
                    "effective-rate",
                    "1/(1 − β) is how far a constant gradient carries; near the limit the gradient alternates.",
                ),
                WrongNumber(
                    limit("plain"),
                    "plain-limit",
                    "That is the limit without momentum; the heavy ball's is higher.",
                ),
                WrongNumber(
                    limit("nesterov"),
                    "nesterov-limit",
                    "That is Nesterov's limit. The order is plain, heavy ball, Nesterov.",
                ),
            ],
        ),
        "nesterov": NumberExercise(
            limit("nesterov"),
            [
                WrongNumber(limit("nesterov", FLAT), "smallest-curvature", SMALLEST),
                WrongNumber(limit("nesterov") / 2, "factor-two-missing", "Twice too small: is the 2 in front missing?"),
                WrongNumber(
                    limit("heavy_ball"),
                    "heavy-ball-limit",
                    "That is the heavy ball's limit. The look ahead costs a factor 1 + 2β.",
                ),
                WrongNumber(
                    limit("plain"),
                    "plain-limit",
                    "That is the limit without momentum; Nesterov's is below it.",
                ),
                WrongNumber(
                    2 / ((1 + 2 * BETA) * STEEP),
                    "numerator-forgotten",
                    "The divisor 1 + 2β is there, the factor 1 + β of the numerator is not.",
                ),
            ],
        ),
    },
    praise="Right: momentum raises the limit, the look ahead lowers it below plain descent.",
)


def check_stability_limits(answer: Any) -> Verdict:
    """Exercise 02-6: (plain, heavy ball, Nesterov) for eigenvalues 0.5 and 8, momentum 0.8."""
    return STABILITY_LIMITS.judge(answer)


CURVATURE = NumberExercise(
    right=(1 + 1.2) / 0.2,
    mistakes=[
        WrongNumber(
            (1 + 1.44) / 0.2,
            "root-forgotten",
            "1.44 was taken as the factor of x. The loss goes with x², so x grows by its root.",
        ),
        WrongNumber(
            (1 - 1.2) / 0.2,
            "absolute-value-forgotten",
            "1 − ηλ = +1.2 gives a negative curvature: a hill. On a bowl, |1 − ηλ| > 1 happens below −1.",
        ),
        WrongNumber(
            (1.2 - 1) / 0.2,
            "sign-not-flipped",
            "ηλ − 1 = 0.2? With ηλ = 0.2 the loss would fall. x changes sign each step: 1 − ηλ = −1.2.",
        ),
        WrongNumber(1.2 / 0.2, "one-forgotten", "The factor of x is 1 − ηλ, not ηλ."),
        WrongNumber(
            2 / 0.2,
            "limit",
            "That is the curvature just at the limit, where the loss would stay the same. It grows.",
        ),
        WrongNumber(
            (1.44 - 1) / 0.2,
            "sign-not-flipped",
            "x changes sign each step, and the loss goes with x²: two things to undo.",
        ),
    ],
    praise="Right: the factor of x is 1 − ηλ = −1.2. A diverging curve tells the curvature.",
)


def check_curvature(answer: Any) -> Verdict:
    """Exercise 02-7: the curvature, from a loss that grows by 1.44 a step at rate 0.2."""
    return CURVATURE.judge(answer)

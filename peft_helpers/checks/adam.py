"""The exercises of lesson 03, Adam.

03-1  `rmsprop_step(parameter, gradient, v, learning_rate, alpha, epsilon)`: -> (parameter, v), new tensors (6 min)
      checker: `check_rmsprop_step`
      mistakes: missing-root, epsilon-inside-root, gradient-not-squared, alpha-swapped, never-forgets, stale-v,
        v-not-kept, wrong-sign

03-2  `adam_step(parameter, gradient, m, v, t, learning_rate, betas, epsilon)`: -> (parameter, m, v), new tensors; t
      = 1, 2, … (10 min)
      checker: `check_adam_step`
      mistakes: missing-bias-correction, first-moment-uncorrected, second-moment-uncorrected, correction-stored,
        epsilon-inside-root, epsilon-not-rescaled, wrong-power-of-beta, step-counter-from-zero, betas-swapped,
        missing-root, gradient-not-squared, negative-under-root, wrong-sign

03-3  `adamw(gradient, start, learning_rate, betas, epsilon, weight_decay, steps)`: -> path, steps + 1 points (12
      min)
      checker: `check_adamw`
      mistakes: those of 03-2, l2-instead-of-decoupled, decay-missing, decay-without-rate, decay-after-step,
        decay-sign, gradient-after-decay, aliased-path, shared-moments, moments-reset, input-changed

03-4  a number: first step without correction, constant gradient, β = (0.8, 0.99), in units of η (4 min)
      checker: `check_first_uncorrected_step`
      mistakes: corrected, numerator-only, root-forgotten, inverted, betas-swapped, beta-for-one-minus-beta,
        usual-betas

03-5  `clip_gradients(gradients, max_norm)`: list of tensors -> list, of joint length at most max_norm (6 min)
      checker: `check_clip_gradients`
      mistakes: each-tensor-alone, each-entry-alone, always-rescaled, root-forgotten, largest-entry, sum-of-norms,
        never-clipped, max-norm-forgotten

03-6  a number: megabytes (10⁶ bytes) of Adam's state, LoRA trains 294,912 of 109,482,240 weights, float32 (4 min)
      checker: `check_optimizer_memory`
      mistakes: frozen-counted, one-moment, gradients-counted, weights-counted, bytes-forgotten,
        bytes-for-megabytes, mebibytes, whole-model
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)

START, GRADIENTS = odd_numbers(3, seed=11), odd_numbers(6, 3, seed=12)
RATE, BETAS, EPSILON, DECAY = 0.1, (0.7, 0.9), 0.05, 0.6  # far from the defaults, so that every mistake shows

# ---------------------------------------------------------------- 03-1


def run_rmsprop(function: Callable) -> list[Tensor]:
    """Six steps with given gradients; v is handed on, the parameters are compared."""
    parameter, v, path = START, torch.zeros_like(START), []
    for gradient in GRADIENTS:
        parameter, v = call(function, parameter, gradient, v, RATE, BETAS[1], EPSILON, outputs=2)
        path.append(parameter)
    return path


def rmsprop_with(mistake: str = "") -> Callable:
    """RMSprop's step, with one mistake."""

    def step(parameter, gradient, v, learning_rate, alpha, epsilon):
        square = gradient.abs() if mistake == "gradient-not-squared" else gradient**2
        if mistake == "never-forgets":
            new = v + square
        elif mistake == "alpha-swapped":
            new = (1 - alpha) * v + alpha * square
        else:
            new = alpha * v + (1 - alpha) * square
        used = v if mistake == "stale-v" else new
        divisor = used.sqrt() + epsilon
        if mistake == "missing-root":
            divisor = used + epsilon
        elif mistake == "epsilon-inside-root":
            divisor = (used + epsilon).sqrt()
        sign = -1 if mistake == "wrong-sign" else 1
        return parameter - sign * learning_rate * gradient / divisor, v if mistake == "v-not-kept" else new

    return step


SHARED_MESSAGES = {  # mistakes of RMSprop that Adam's learners make as well
    "missing-root": "The gradient is divided by v, its mean square, without the root: doubling the gradient would "
    "halve the step, where it should leave it the same.",
    "epsilon-inside-root": "ε stands inside the root, √(v + ε). There it acts like √ε, far larger than meant; add it "
    "after taking the root.",
    "gradient-not-squared": "v collects |g| or g, not its square.",
    "wrong-sign": "The parameter moves uphill. Where is the minus?",
}

RMSPROP = FunctionExercise(
    right=rmsprop_with(),
    probes=[Probe("six steps", run_rmsprop)],
    mistakes=[
        Mistake(slug, message, rmsprop_with(slug))
        for slug, message in {
            **SHARED_MESSAGES,
            "alpha-swapped": "The weights are swapped: α, close to 1, belongs to the old v; the new square gets 1 − α.",
            "never-forgets": "The squares are summed and never fade. That is AdaGrad: its steps shrink for good.",
            "stale-v": "The gradient is divided by the old v, which is still 0 in the first step. Update v first.",
            "v-not-kept": "v is never handed on: what you return is the old one, so each step forgets all before it.",
        }.items()
    ],
    praise="Right: each coordinate in units of its own recent gradients.",
)


def check_rmsprop_step(answer: Any) -> Verdict:
    """Exercise 03-1: `rmsprop_step(parameter, gradient, v, learning_rate, alpha, epsilon)`."""
    return RMSPROP.judge(answer)


# ---------------------------------------------------------------- 03-2


def run_adam(function: Callable) -> list[Tensor]:
    """Six steps with given gradients, t from 1; m and v are handed on, the parameters are compared."""
    parameter, m, v, path = START, torch.zeros_like(START), torch.zeros_like(START), []
    for t, gradient in enumerate(GRADIENTS, start=1):
        parameter, m, v = call(function, parameter, gradient, m, v, t, RATE, BETAS, EPSILON, outputs=3)
        path.append(parameter)
    return path


def adam_with(mistake: str = "") -> Callable:
    """Adam's step, with one mistake."""

    def step(parameter, gradient, m, v, t, learning_rate, betas, epsilon):
        beta1, beta2 = reversed(betas) if mistake == "betas-swapped" else betas
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * (gradient.abs() if mistake == "gradient-not-squared" else gradient**2)

        power = {"power-missing": 1, "power-one-too-high": t + 1, "step-counter-from-zero": t - 1}.get(mistake, t)
        first = second = 1.0
        if mistake not in ("missing-bias-correction", "first-moment-uncorrected"):
            first = 1 - beta1**power
        if mistake not in ("missing-bias-correction", "second-moment-uncorrected"):
            second = 1 - beta2**power
        if mistake == "power-as-factor":
            first, second = 1 - beta1 * t, 1 - beta2 * t
        m_hat, v_hat = m / first, v / second

        divisor = v_hat.sqrt() + epsilon
        if mistake == "missing-root":
            divisor = v_hat + epsilon
        elif mistake == "epsilon-inside-root":
            divisor = (v_hat + epsilon).sqrt()
        elif mistake == "epsilon-not-rescaled":
            divisor = (v.sqrt() + epsilon) / second**0.5
        sign = -1 if mistake == "wrong-sign" else 1
        kept = (m_hat, v_hat) if mistake == "correction-stored" else (m, v)
        return parameter - sign * learning_rate * m_hat / divisor, *kept

    return step


ADAM_MESSAGES = {
    "missing-bias-correction": "The bias correction is missing. m and v start at 0, so early on both are too small, by "
    "different factors; the first steps come out with the wrong length.",
    "first-moment-uncorrected": "v is corrected, m is not: the first steps are too short.",
    "second-moment-uncorrected": "m is corrected, v is not: the first steps are too long, v is still too small.",
    "correction-stored": "The corrected m̂ and v̂ are kept for the next step. The running means must go on "
    "uncorrected, or the correction is applied again and again.",
    **SHARED_MESSAGES,
    "epsilon-not-rescaled": "That is the paper's short form, in which ε is added to the uncorrected √v. Here (and in "
    "torch) it is added to √v̂, after the correction.",
    "power-missing": "The correction divides by 1 − β at every step: β's power is missing, so it never fades.",
    "power-one-too-high": "The correction's power is one too high: t already counts from 1.",
    "power-as-factor": "β·t in place of β to the power of t (`**`).",
    "betas-swapped": "β₁ and β₂ are swapped: the first belongs to m, the second, closer to 1, to v.",
    "step-counter-from-zero": "The step counter starts at 0 in the correction: 1 − β⁰ = 0, and the first step divides "
    "by 0. The first step is t = 1.",
}
SLUGS = {name: "wrong-power-of-beta" for name in ("power-missing", "power-one-too-high", "power-as-factor")}


RAISES = {
    "step-counter-from-zero": ("ZeroDivisionError",),
    "negative-under-root": ("math domain error", "nonnegative input"),
}


def adam_mistakes(make: Callable[[str], Callable]) -> list[Mistake]:
    """The table of Adam's mistakes; `make` builds the variant from its name."""
    named = [Mistake(SLUGS.get(n, n), text, make(n), RAISES.get(n, ())) for n, text in ADAM_MESSAGES.items()]
    negative = Mistake(
        "negative-under-root",
        "The root of a negative number is taken. v is a mean of squares, and 1 − β to the power of t is positive: is "
        "there β·t in place of β to the power of t, or do m and v share one list?",
        raises=RAISES["negative-under-root"],
    )
    return [*named, negative]


ADAM = FunctionExercise(
    right=adam_with(),
    probes=[Probe("six steps", run_adam)],
    mistakes=adam_mistakes(adam_with),
    praise="Right, to the last digit of torch.optim.Adam.",
)


def check_adam_step(answer: Any) -> Verdict:
    """Exercise 03-2: `adam_step(parameter, gradient, m, v, t, learning_rate, betas, epsilon)`."""
    return ADAM.judge(answer)


# ---------------------------------------------------------------- 03-3

CURVATURES = torch.tensor([0.4, 1.9, 6.3], dtype=torch.float64)


def slope(x: Tensor) -> Tensor:
    """The gradient of a bowl whose lowest point is not at 0, so that weight decay matters."""
    return CURVATURES * (x - 1.5) + x**2 / 10


def adamw_with(mistake: str = "") -> Callable:
    """AdamW's whole loop, with one mistake."""
    adam_step = adam_with(mistake)

    def adamw(gradient, start, learning_rate, betas, epsilon, weight_decay, steps):
        x, path = start, [start]
        m, v = torch.zeros_like(start), torch.zeros_like(start)
        for t in range(1, steps + 1):
            g = gradient(x)
            decay = {
                "decay-missing": 0.0,
                "decay-without-rate": weight_decay,
                "decay-sign": -learning_rate * weight_decay,
            }
            shrink = 1 - decay.get(mistake, learning_rate * weight_decay)
            if mistake == "gradient-after-decay":
                g = gradient(shrink * x)
            if mistake == "l2-instead-of-decoupled":
                g, shrink = g + weight_decay * x, 1.0
            if mistake == "shared-moments":  # m and v are one tensor: the second update starts from the first's result
                m = betas[0] * m + (1 - betas[0]) * g
                m = v = betas[1] * m + (1 - betas[1]) * g**2
                x = shrink * x - learning_rate * m / (1 - betas[0] ** t) / ((v / (1 - betas[1] ** t)).sqrt() + epsilon)
            elif mistake == "decay-after-step":
                x, m, v = adam_step(x, g, m, v, t, learning_rate, betas, epsilon)
                x = shrink * x
            else:
                x, m, v = adam_step(shrink * x, g, m, v, t, learning_rate, betas, epsilon)
            if mistake == "moments-reset":
                m, v = torch.zeros_like(start), torch.zeros_like(start)
            path.append(x)
        return [x] * len(path) if mistake == "aliased-path" else path

    return adamw


ADAMW = FunctionExercise(
    right=adamw_with(),
    probes=[Probe("six steps in a bowl", lambda f: call(f, slope, START, RATE, BETAS, EPSILON, DECAY, 6))],
    mistakes=[
        *adam_mistakes(adamw_with),
        *(
            Mistake(slug, message, adamw_with(slug))
            for slug, message in {
                "l2-instead-of-decoupled": "That is Adam with L2: λθ is added to the gradient and then divided by "
                "√v̂, so weights with large gradients hardly decay. In AdamW the decay bypasses m and v.",
                "decay-missing": "That is Adam: the weight decay has no influence.",
                "decay-without-rate": "Each step shrinks the weights by λ; it should be by η·λ.",
                "decay-sign": "The weights are made larger: decay should pull them toward 0.",
                "decay-after-step": "The decay acts on the weights after the step; it should act on those before it.",
                "gradient-after-decay": "The gradient is taken at the weights that have already decayed; it belongs to "
                "those before. Compute it first, then decay.",
                "aliased-path": "All rows of the path are the same: it holds one tensor many times, changed in place "
                "afterwards. Each step needs a new tensor, or a `.clone()` in the path.",
                "shared-moments": "m and v are one and the same tensor (`m = v = torch.zeros_like(…)`), and changing "
                "one in place changes the other. Make two.",
                "moments-reset": "m and v start at 0 again in each step: are they created inside the loop?",
            }.items()
        ),
    ],
    praise="Right, to the last digit of torch.optim.AdamW.",
)


def check_adamw(answer: Any) -> Verdict:
    """Exercise 03-3: `adamw(gradient, start, learning_rate, betas, epsilon, weight_decay, steps)`."""
    return ADAMW.judge(answer)


# ---------------------------------------------------------------- 03-4

FIRST_UNCORRECTED_STEP = NumberExercise(
    right=0.2 / 0.01**0.5,
    mistakes=[
        WrongNumber(1.0, "corrected", "That is the first step *with* correction: η, whatever the betas."),
        WrongNumber(
            0.2,
            "numerator-only",
            "That is m alone. v is too small as well, and it stands under the fraction.",
        ),
        WrongNumber(0.2 / 0.01, "root-forgotten", "m is divided by v; the root of v is missing."),
        WrongNumber(0.01**0.5 / 0.2, "inverted", "The fraction is upside down: m stands above, √v below."),
        WrongNumber(0.01 / 0.2**0.5, "betas-swapped", "β₁ and β₂ are swapped: the first belongs to m."),
        WrongNumber(0.8 / 0.99**0.5, "beta-for-one-minus-beta", "The new gradient enters with 1 − β, not with β."),
        WrongNumber(0.1 / 0.001**0.5, "usual-betas", "That is for β = (0.9, 0.999); here they are 0.8 and 0.99."),
    ],
    praise="Right: without correction the first step is too long, not too short.",
)


def check_first_uncorrected_step(answer: Any) -> Verdict:
    """Exercise 03-4: Adam's first step without bias correction for β = (0.8, 0.99), in units of η."""
    return FIRST_UNCORRECTED_STEP.judge(answer)


# ---------------------------------------------------------------- 03-5

# Long enough that the 1e-6 which torch adds to the norm does not show.
LONG = [3e4 * odd_numbers(2, 3, seed=13), 1e4 * odd_numbers(4, seed=14)]
SHORT = [0.1 * odd_numbers(2, 3, seed=13), 0.2 * odd_numbers(4, seed=14)]


def flattened(function: Callable, gradients: list[Tensor]) -> Tensor:
    """All clipped entries in a row, so that lists of differently shaped tensors compare."""
    return torch.cat([torch.as_tensor(g).flatten() for g in call(function, gradients, 2.5, outputs=len(gradients))])


def joint_norm(gradients: list[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


def clip_by(norm_of: Callable[[list[Tensor]], Tensor]) -> Callable:
    """A variant that measures the length in its own way."""

    def clip(gradients, max_norm):
        scale = (max_norm / norm_of(gradients)).clamp(max=1.0)
        return [scale * g for g in gradients]

    return clip


CLIPPING = FunctionExercise(
    right=clip_by(joint_norm),
    probes=[
        Probe("a long gradient", lambda f: flattened(f, LONG)),
        Probe("a gradient shorter than max_norm", lambda f: flattened(f, SHORT)),
    ],
    mistakes=[
        Mistake(
            "each-tensor-alone",
            "Each tensor is clipped by its own length: the direction of the whole gradient changes. Measure all "
            "together.",
            lambda gradients, limit: [clip_by(joint_norm)([g], limit)[0] for g in gradients],
        ),
        Mistake(
            "each-entry-alone",
            "Each entry is clamped by itself (clipping by value): the direction changes. Scale all entries by one "
            "factor.",
            lambda gradients, limit: [g.clamp(-limit, limit) for g in gradients],
        ),
        Mistake(
            "always-rescaled",
            "Right for a long gradient, but a short one is stretched to max_norm. It should stay as it is.",
            lambda gradients, limit: [g * limit / joint_norm(gradients) for g in gradients],
        ),
        Mistake(
            "root-forgotten",
            "The sum of squares is used as the length: the root is missing.",
            clip_by(lambda gradients: joint_norm(gradients) ** 2),
        ),
        Mistake(
            "largest-entry",
            "The largest entry is used as the length; asked for is the Euclidean one.",
            clip_by(lambda gradients: torch.stack([g.abs().max() for g in gradients]).max()),
        ),
        Mistake(
            "sum-of-norms",
            "The lengths of the tensors are added. Joint length is the root of the sum of all squares.",
            clip_by(lambda gradients: torch.stack([g.norm() for g in gradients]).sum()),
        ),
        Mistake(
            "never-clipped", "A gradient longer than max_norm comes out unchanged.", lambda gradients, limit: gradients
        ),
        Mistake(
            "max-norm-forgotten",
            "A long gradient comes out with length 1, whatever max_norm is.",
            lambda gradients, limit: [g / joint_norm(gradients) for g in gradients],
        ),
    ],
    praise="Right: shorter, and in the same direction.",
)


def check_clip_gradients(answer: Any) -> Verdict:
    """Exercise 03-5: `clip_gradients(gradients, max_norm)`."""
    return CLIPPING.judge(answer)


# ---------------------------------------------------------------- 03-6

ALL, TRAINED, MEGABYTE = 109_482_240, 294_912, 1e6

OPTIMIZER_MEMORY = NumberExercise(
    right=2 * 4 * TRAINED / MEGABYTE,
    mistakes=[
        WrongNumber(
            2 * 4 * ALL / MEGABYTE,
            "frozen-counted",
            "State was counted for all weights. Frozen ones have no gradient, so the optimizer keeps nothing for them.",
        ),
        WrongNumber(
            4 * TRAINED / MEGABYTE,
            "one-moment",
            "That is one tensor per trained weight; Adam keeps two, m and v.",
        ),
        WrongNumber(
            3 * 4 * TRAINED / MEGABYTE,
            "gradients-counted",
            "That includes the gradients. They cost memory too, but are no optimizer state.",
        ),
        WrongNumber(
            4 * 4 * TRAINED / MEGABYTE,
            "weights-counted",
            "That includes weights and gradients; asked for is the optimizer's state alone.",
        ),
        WrongNumber(
            2 * TRAINED / MEGABYTE,
            "bytes-forgotten",
            "That is the number of values, in millions. How many bytes does a float32 take?",
        ),
        WrongNumber(2 * 4 * TRAINED, "bytes-for-megabytes", "That is in bytes; asked for are megabytes of 10⁶ bytes."),
        WrongNumber(
            2 * 4 * TRAINED / 2**20,
            "mebibytes",
            "That is in mebibytes (2²⁰ bytes); asked for are megabytes of 10⁶ bytes.",
        ),
        WrongNumber(
            4 * ALL / MEGABYTE,
            "whole-model",
            "That is the memory of the model's weights, not of the optimizer's state.",
        ),
    ],
    praise="Right: 2.36 MB, against 876 MB if all were trained.",
)


def check_optimizer_memory(answer: Any) -> Verdict:
    """Exercise 03-6: megabytes of Adam's state when LoRA trains 294,912 of BERT-base's 109,482,240 weights."""
    return OPTIMIZER_MEMORY.judge(answer)

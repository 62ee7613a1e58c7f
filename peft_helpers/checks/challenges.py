"""The exercises of lesson 14, open challenges.

14-1  `distillation_loss(student_logits, teacher_logits, temperature)`: T² · KL(teacher ‖ student), the mean over the
      batch (8 min)
      checker: `check_distillation_loss`
      mistakes: t-squared-forgotten, t-once, teacher-softmax-missing, teacher-log, student-log-missing, kl-reversed,
        teacher-not-softened, student-not-softened, temperature-multiplied, cross-entropy, hard-labels, logits-mse,
        summed, mean-over-classes, wrong-axis

14-2  `round_rows(weight, bits)`: each row on equally spaced levels, symmetric around 0 (6 min)
      checker: `check_round_rows`
      mistakes: one-scale, scale-by-column, levels-doubled, one-level-too-many, sign-forgotten, cut-off, codes-returned,
        zero-moves, bits-ignored

14-3  three numbers: memory of LoRA over 7 billion weights in 16 and in 4 bits, and their ratio (5 min)
      checker: `check_four_bits`
      mistakes: everything-quartered, scales-forgotten, activations-forgotten, adam-forgotten, weights-alone,
        bits-for-bytes, adapters-rounded, ratio-of-weights, ratio-upside-down

14-4  `stacked(h, domain, task)`: a task adapter on top of a domain adapter (4 min)
      checker: `check_stacked`
      mistakes: order-swapped, parallel, averaged, bypass-twice, domain-forgotten, task-forgotten, task-twice

14-5  `integrated_gradients(gradient, x, baseline, steps)`, at midpoints (8 min)
      checker: `check_integrated_gradients`
      mistakes: factor-forgotten, factor-x, factor-reversed, baseline-ignored, path-overshoots, gradient-at-input,
        gradient-at-baseline, end-points-only, summed, left-ends, right-ends, both-ends, absolute, added-up

14-6  `deletion_effects(score, words)` (5 min)
      checker: `check_deletion_effects`
      mistakes: sign-reversed, first-occurrence, all-occurrences, word-alone, replaced, cumulative, relative,
        difference-forgotten
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
)

# ---------------------------------------------------------------- 14-1

STUDENT, TEACHER = odd_numbers(4, 3, seed=141), odd_numbers(4, 3, seed=142)


def soft_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    *,
    power: int = 2,
    soften: tuple[float, float] = (1.0, 1.0),
    axis: int = -1,
    divergence: Callable = lambda p, q: p.exp() * (p - q),
    reduce: Callable = lambda rows: rows.sum(-1).mean(),
) -> Tensor:
    """The right loss; every keyword makes one mistake. `soften` holds the power of T under student and teacher."""
    log_q = F.log_softmax(student / temperature ** soften[0], dim=axis)
    log_p = F.log_softmax(teacher / temperature ** soften[1], dim=axis)
    return temperature**power * reduce(divergence(log_p, log_q))


def _unnormalized(student: Tensor, teacher: Tensor, temperature: float, *, entropy: bool, softened: bool) -> Tensor:
    """The teacher's logits taken for probabilities."""
    log_q, target = F.log_softmax(student / temperature, -1), teacher / (temperature if softened else 1)
    if entropy:
        return temperature**2 * F.kl_div(log_q, target, reduction="batchmean")
    return -(temperature**2) * (target * log_q).sum(-1).mean()


def _hard(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(student, teacher.argmax(-1))


def _logit_squares(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student - teacher).square().mean()


def _logs_twice(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    log_q, log_p = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean")


NO_SOFTMAX = (
    "The teacher's logits stand where its probabilities belong: they are not positive and do not add up to 1. The "
    "softmax is missing on the teacher's side."
)
SOFT = FunctionExercise(
    right=soft_loss,
    probes=[
        Probe("four texts, three classes, T = 3", lambda f: call(f, STUDENT, TEACHER, 3.0)),
        Probe("all logits positive, T = 2", lambda f: call(f, STUDENT + 3, TEACHER + 3, 2.0)),
        Probe("T = 1", lambda f: call(f, STUDENT, TEACHER, 1.0)),
        Probe("a student that agrees", lambda f: call(f, TEACHER, TEACHER.clone(), 2.0) + 1),
    ],
    mistakes=[
        Mistake(
            "t-squared-forgotten",
            "The factor T² is missing. Softening divides the gradient by about T²: without the factor, a higher "
            "temperature is a lower learning rate.",
            partial(soft_loss, power=0),
        ),
        Mistake(
            "t-once", "The factor is T², yours is T: one 1/T comes from each softmax.", partial(soft_loss, power=1)
        ),
        *(
            Mistake("teacher-softmax-missing", NO_SOFTMAX, partial(_unnormalized, entropy=entropy, softened=softened))
            for entropy in (True, False)
            for softened in (True, False)
        ),
        Mistake(
            "teacher-log",
            "F.kl_div wants log-probabilities of the student and plain probabilities of the teacher; you give it the "
            "teacher's logs (that needs `log_target=True`).",
            _logs_twice,
        ),
        Mistake(
            "student-log-missing",
            "The student's probabilities stand where their logs belong.",
            partial(soft_loss, divergence=lambda p, q: p.exp() * (p - q.exp())),
        ),
        Mistake(
            "kl-reversed",
            "That is KL(student ‖ teacher). The teacher's probabilities weigh the sum: the student shall cover what "
            "the teacher holds likely.",
            partial(soft_loss, divergence=lambda p, q: q.exp() * (q - p)),
        ),
        Mistake(
            "teacher-not-softened",
            "The teacher is not divided by T. Both sides are softened alike, or the student is asked to be sharper "
            "than its teacher.",
            partial(soft_loss, soften=(1.0, 0.0)),
        ),
        Mistake(
            "student-not-softened",
            "The student is not divided by T. Both sides are softened alike.",
            partial(soft_loss, soften=(0.0, 1.0)),
        ),
        Mistake(
            "temperature-multiplied",
            "You multiply by T: that sharpens. Divide the logits.",
            partial(soft_loss, soften=(-1.0, -1.0)),
        ),
        Mistake(
            "cross-entropy",
            "That is the cross-entropy with soft targets. Its gradient is right, but it is not 0 when the student "
            "agrees: the teacher's own entropy is not subtracted.",
            partial(soft_loss, divergence=lambda p, q: -p.exp() * q),
        ),
        Mistake(
            "hard-labels",
            "You train on the teacher's favorite class alone. What it thinks of the other classes is what soft "
            "targets add.",
            _hard,
        ),
        Mistake(
            "logits-mse",
            "That is the squared difference of the logits, another way to distill (nearly what a very high T does).",
            _logit_squares,
        ),
        Mistake("summed", "The texts are added up; take their mean.", partial(soft_loss, reduce=torch.sum)),
        Mistake(
            "mean-over-classes",
            "The mean is over classes too. A divergence is a sum over classes; only the texts are averaged "
            '(`reduction="batchmean"`).',
            partial(soft_loss, reduce=torch.mean),
        ),
        Mistake(
            "wrong-axis",
            "The softmax runs over the texts. Each row is one text, and the classes lie along the last axis.",
            partial(soft_loss, axis=0),
        ),
    ],
    praise="Right: T² times KL(teacher ‖ student), both softened, the mean over the texts.",
)


def check_distillation_loss(answer: Any) -> Verdict:
    """Exercise 14-1: `distillation_loss(student_logits, teacher_logits, temperature)` -> a number."""
    return SOFT.judge(answer)


# ---------------------------------------------------------------- 14-2

WEIGHT = odd_numbers(3, 5, seed=143) * torch.tensor([[1.0], [0.1], [3.0]], dtype=torch.float64)
WEIGHT[1, 2] = -0.37  # the largest of its row is negative


def rounded(
    weight: Tensor,
    bits: int,
    *,
    dim: int | None = 1,
    levels: Callable[[int], int] = lambda bits: 2 ** (bits - 1) - 1,
    size: Callable[[Tensor], Tensor] = torch.abs,
    to_whole: Callable[[Tensor], Tensor] = torch.round,
    back: bool = True,
) -> Tensor:
    """The right rounding; every keyword makes one mistake."""
    sizes = size(weight)
    scale = (sizes.max() if dim is None else sizes.amax(dim=dim, keepdim=True)) / levels(bits)
    codes = to_whole(weight / scale)
    return codes * scale if back else codes


def _asymmetric(weight: Tensor, bits: int) -> Tensor:
    low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    return ((weight - low) / scale).round() * scale + low


ROUNDED = FunctionExercise(
    right=rounded,
    probes=[
        Probe("a (3, 5) matrix, 4 bits", lambda f: call(f, WEIGHT, 4)),
        Probe("3 bits", lambda f: call(f, WEIGHT, 3)),
        Probe("8 bits", lambda f: call(f, WEIGHT.T.contiguous(), 8)),
    ],
    mistakes=[
        Mistake(
            "one-scale",
            "One scale serves the whole matrix. A row of small weights then has hardly any levels left: each row needs "
            "its own.",
            partial(rounded, dim=None),
        ),
        Mistake(
            "scale-by-column",
            "The scales are the columns'. A row of the matrix makes one output.",
            partial(rounded, dim=0),
        ),
        Mistake(
            "levels-doubled",
            "That many levels fit on both sides together, not on each: one bit is the sign.",
            partial(rounded, levels=lambda bits: 2**bits - 1),
        ),
        Mistake(
            "one-level-too-many",
            "2^(b−1) steps on either side of 0 are one code more than b bits have: 2^(b−1) − 1.",
            partial(rounded, levels=lambda bits: 2 ** (bits - 1)),
        ),
        Mistake(
            "sign-forgotten",
            "The scale comes from the largest weight, not from the largest magnitude: rows whose largest entry is "
            "negative do not fit.",
            partial(rounded, size=lambda x: x),
        ),
        Mistake("cut-off", "You cut off instead of rounding.", partial(rounded, to_whole=torch.floor)),
        Mistake("cut-off", "You cut off instead of rounding.", partial(rounded, to_whole=torch.trunc)),
        Mistake(
            "codes-returned",
            "Those are the whole numbers. Multiply by the scale to get weights back.",
            partial(rounded, back=False),
        ),
        Mistake(
            "zero-moves",
            "Your levels run from the row's smallest to its largest weight. They use the range better, but 0 is none "
            "of them; asked for are levels around 0.",
            _asymmetric,
        ),
        Mistake(
            "bits-ignored",
            "It always uses 8 bits; `bits` decides.",
            partial(rounded, levels=lambda bits: 127),
        ),
    ],
    praise="Right: 2^b − 1 levels a row, 0 among them.",
)


def check_round_rows(answer: Any) -> Verdict:
    """Exercise 14-2: `round_rows(weight, bits)`, (out, in) -> (out, in)."""
    return ROUNDED.judge(answer)


# ---------------------------------------------------------------- 14-3

FROZEN, TRAINED, ACTIVATIONS = 7.0, 0.02, 8.0  # billions of weights; GB
BLOCK = 64
ADAPTERS = 16 * TRAINED  # weight, gradient, two moments: 4 bytes each
SIXTEEN, FOUR = 2 * FROZEN, (4 + 32 / BLOCK) / 8 * FROZEN
WHOLE, SMALL = SIXTEEN + ADAPTERS + ACTIVATIONS, FOUR + ADAPTERS + ACTIVATIONS


def _forgotten(weights: float) -> list[WrongNumber]:
    return [
        WrongNumber(
            weights + ADAPTERS,
            "activations-forgotten",
            "The activations are missing: 8 GB, in whatever type the weights are.",
        ),
        WrongNumber(
            weights + 4 * TRAINED + ACTIVATIONS,
            "adam-forgotten",
            "LoRA's own weights have gradients and two moments in Adam: 16 bytes each, not 4.",
        ),
        WrongNumber(weights, "weights-alone", "Those are the frozen weights alone."),
    ]


FOUR_BITS = SeveralNumbers(
    {
        "16 bits": NumberExercise(
            WHOLE,
            [
                *_forgotten(SIXTEEN),
                WrongNumber(16 * FROZEN + ADAPTERS + ACTIVATIONS, "bits-for-bytes", "16 bits are 2 bytes."),
                WrongNumber(
                    16 * FROZEN + ACTIVATIONS,
                    "bits-for-bytes",
                    "16 bits are 2 bytes; and frozen weights have no gradients and no moments.",
                ),
            ],
            tolerance=0.002,
        ),
        "4 bits": NumberExercise(
            SMALL,
            [
                WrongNumber(
                    WHOLE / 4,
                    "everything-quartered",
                    "You quarter everything. Only the frozen weights are stored in 4 bits; activations, and what is "
                    "trained, stay as they are.",
                ),
                WrongNumber(
                    FROZEN / 2 + ADAPTERS + ACTIVATIONS,
                    "scales-forgotten",
                    "The scales are missing: 32 bits for each 64 weights are half a bit a weight.",
                ),
                WrongNumber(
                    FOUR + ADAPTERS / 4 + ACTIVATIONS,
                    "adapters-rounded",
                    "What is trained stays in float32: a 4-bit weight does not move under small steps.",
                ),
                *_forgotten(FOUR),
                WrongNumber(
                    4.5 * FROZEN + ADAPTERS + ACTIVATIONS, "bits-for-bytes", "Those are bits; a byte has eight."
                ),
            ],
            tolerance=0.002,
        ),
        "ratio": NumberExercise(
            SMALL / WHOLE,
            [
                WrongNumber(FOUR / SIXTEEN, "ratio-of-weights", "That is the ratio of the frozen weights alone."),
                WrongNumber(0.25, "everything-quartered", "A quarter is what becomes of the weights alone, nearly."),
                WrongNumber(WHOLE / SMALL, "ratio-upside-down", "Upside down: 4 bits over 16 bits."),
            ],
            tolerance=0.01,
        ),
    },
    praise=f"Right: {WHOLE:.1f} and {SMALL:.1f} GB. Four bits save much here, but by far no three quarters.",
)


def check_four_bits(answer: Any) -> Verdict:
    """Exercise 14-3: (GB with 16 bits, GB with 4 bits, their ratio)."""
    return FOUR_BITS.judge(answer)


# ---------------------------------------------------------------- 14-4

HIDDEN = odd_numbers(3, 4, seed=144)


def _adapters() -> tuple[Callable, Callable]:
    down, up = odd_numbers(2, 4, seed=145), odd_numbers(4, 2, seed=146)
    return (lambda h: h + torch.tanh(h @ down.T) @ up.T), (lambda h: h + torch.relu(h @ up + 0.5) @ down)


DOMAIN, TASK = _adapters()
STACKED = FunctionExercise(
    right=lambda h, domain, task: task(domain(h)),
    probes=[
        Probe("three tokens of width 4", lambda f: call(f, HIDDEN, DOMAIN, TASK)),
        Probe("the two exchanged", lambda f: call(f, HIDDEN, TASK, DOMAIN)),
    ],
    mistakes=[
        Mistake(
            "order-swapped",
            "The domain's adapter reads what the task's made. The other way around the task adapter would have to know "
            "which domain comes after it; below it, the domain adapter hands on what the task is used to.",
            lambda h, domain, task: domain(task(h)),
        ),
        Mistake(
            "parallel",
            "The two stand side by side: the task's adapter does not see what the domain's did. Stack them.",
            lambda h, domain, task: domain(h) + task(h) - h,
        ),
        Mistake("averaged", "You average two adapters; stack them.", lambda h, domain, task: (domain(h) + task(h)) / 2),
        Mistake(
            "bypass-twice",
            "h is added once more; each adapter has its own bypass inside.",
            lambda h, domain, task: h + task(domain(h)),
        ),
        Mistake(
            "bypass-twice",
            "A bypass is added once more; each adapter has its own inside.",
            lambda h, domain, task: domain(h) + task(domain(h)),
        ),
        Mistake("bypass-twice", "h is counted twice: once in each.", lambda h, domain, task: domain(h) + task(h)),
        Mistake("domain-forgotten", "The domain adapter is not used.", lambda h, domain, task: task(h)),
        Mistake("task-forgotten", "The task adapter is not used.", lambda h, domain, task: domain(h)),
        Mistake("task-twice", "The same adapter is used twice.", lambda h, domain, task: task(task(h))),
        Mistake("task-twice", "The same adapter is used twice.", lambda h, domain, task: domain(domain(h))),
    ],
    praise="Right: task(domain(h)). For another domain, exchange the inner one.",
)


def check_stacked(answer: Any) -> Verdict:
    """Exercise 14-4: `stacked(h, domain, task)`, (T, D) -> (T, D)."""
    return STACKED.judge(answer)


# ---------------------------------------------------------------- 14-5

X, START = odd_numbers(5, seed=147), odd_numbers(5, seed=148)


def bent(points: Tensor) -> Tensor:
    """The gradient of a function that is no straight line. (…, D) -> (…, D)."""
    return torch.cos(points) * points.roll(1, -1) + torch.sin(points.roll(-1, -1))


def integrated(
    gradient: Callable,
    x: Tensor,
    baseline: Tensor,
    steps: int,
    *,
    factor: Callable = lambda x, start: x - start,
    at: Callable = lambda steps: (torch.arange(steps, dtype=torch.float64) + 0.5) / steps,
    path: Callable = lambda x, start, alpha: start + alpha * (x - start),
    reduce: Callable = lambda found: sum(found) / len(found),
    change: Callable = lambda one: one,
) -> Tensor:
    """The right sum; every keyword makes one mistake."""
    found = [change(gradient(path(x, baseline, alpha))) for alpha in at(steps)]
    return factor(x, baseline) * reduce(found)


def _points(low: int, high: int) -> Callable:
    """α = k / n for k from `low` to n − 1 + `high`."""
    return lambda steps: torch.arange(low, steps + high, dtype=torch.float64) / steps


INTEGRATED = FunctionExercise(
    right=integrated,
    probes=[
        Probe("five entries, 7 steps", lambda f: call(f, bent, X, START, 7)),
        Probe("one step", lambda f: call(f, bent, X, START, 1)),
        Probe("the baseline 0", lambda f: call(f, bent, X, torch.zeros(5, dtype=torch.float64), 4)),
    ],
    mistakes=[
        Mistake(
            "factor-forgotten",
            "The factor x − x′ is missing: the mean gradient says how steep the way is, not how far one walks.",
            partial(integrated, factor=lambda x, start: 1.0),
        ),
        Mistake(
            "factor-x",
            "The factor is x. The way that was walked is x − x′; the two agree only for the baseline 0.",
            partial(integrated, factor=lambda x, start: x),
        ),
        Mistake("factor-reversed", "The sign is reversed: x − x′, not x′ − x.",
                partial(integrated, factor=lambda x, start: start - x)),
        Mistake(
            "baseline-ignored",
            "Your way starts at 0, not at the baseline that was asked for.",
            partial(integrated, path=lambda x, start, alpha: alpha * x),
        ),
        Mistake(
            "baseline-ignored",
            "Baseline and way are those of 0; another baseline was asked for.",
            partial(integrated, path=lambda x, start, alpha: alpha * x, factor=lambda x, start: x),
        ),
        Mistake(
            "path-overshoots",
            "x′ + α x ends at x′ + x. The straight way is x′ + α (x − x′).",
            partial(integrated, path=lambda x, start, alpha: start + alpha * x),
        ),
        Mistake(
            "gradient-at-input",
            "You use the gradient at x alone; that is gradient × input, moved to the baseline. It misses how the "
            "slope changes on the way.",
            partial(integrated, at=lambda steps: [1.0]),
        ),
        Mistake("gradient-at-baseline", "You use the gradient at the baseline alone.",
                partial(integrated, at=lambda steps: [0.0])),
        Mistake(
            "end-points-only",
            "Only the two ends of the way are used, however many steps were asked for.",
            partial(integrated, at=lambda steps: [0.0, 1.0]),
        ),
        Mistake(
            "summed",
            "The gradients are added up. With twice the steps the attributions would be twice as large: take the mean.",
            partial(integrated, reduce=sum),
        ),
        Mistake("left-ends", "α runs over the left ends k/n, from 0; asked for are the midpoints (k + ½)/n, whose "
                "error shrinks with n², not with n.", partial(integrated, at=_points(0, 0))),
        Mistake("right-ends", "α runs over the right ends (k + 1)/n; asked for are the midpoints (k + ½)/n, whose "
                "error shrinks with n², not with n.", partial(integrated, at=_points(1, 1))),
        Mistake("both-ends", "Both ends are among your points, and count as much as the others: asked for are the "
                "midpoints of n parts.",
                partial(integrated, at=lambda steps: torch.linspace(0, 1, steps, dtype=torch.float64))),
        Mistake("both-ends", "Both ends are among your n + 1 points, and count as much as the others: asked for are "
                "the midpoints of n parts.", partial(integrated, at=_points(0, 1))),
        Mistake(
            "absolute",
            "You take absolute values. A word may speak against the class; the signs are needed for the sum.",
            partial(integrated, change=torch.abs),
        ),
        Mistake(
            "added-up",
            "It returns one number. Each entry has its own attribution; their sum is the check.",
            lambda gradient, x, baseline, steps: integrated(gradient, x, baseline, steps).sum(),
        ),
    ],
    praise="Right: (x − x′) times the mean gradient at the midpoints of the way.",
)  # fmt: skip


def check_integrated_gradients(answer: Any) -> Verdict:
    """Exercise 14-5: `integrated_gradients(gradient, x, baseline, steps)`, (D,) -> (D,)."""
    return INTEGRATED.judge(answer)


# ---------------------------------------------------------------- 14-6

WORDS = ["good", "room", "but", "not", "good", "at", "all"]


def made_up_score(words: Sequence[str]) -> float:
    """A score in which place and neighbors matter."""
    total = 0.3
    for i, word in enumerate(words):
        total += math.sin(1.7 * sum(map(ord, word)) + 0.9 * i) + 0.2 * len(word) * (i % 3)
    return total


def deleted(
    score: Callable,
    words: list[str],
    *,
    without: Callable = lambda words, i: [*words[:i], *words[i + 1 :]],
    compare: Callable = lambda whole, part: whole - part,
) -> list[float]:
    """The right effects; every keyword makes one mistake."""
    whole = score(words)
    return [compare(whole, score(without(words, i))) for i in range(len(words))]


def _first_gone(words: list[str], i: int) -> list[str]:
    left = list(words)
    left.remove(words[i])
    return left


DELETED = FunctionExercise(
    right=deleted,
    probes=[
        Probe("seven words, one of them twice", lambda f: call(f, made_up_score, WORDS)),
        Probe("two words", lambda f: call(f, made_up_score, ["too", "late"])),
    ],
    mistakes=[
        Mistake("sign-reversed", "The sign is reversed: what the score *loses* is score(all) − score(without).",
                partial(deleted, compare=lambda whole, part: part - whole)),
        Mistake("first-occurrence", "A word that occurs twice: you always take out its first occurrence "
                "(`list.remove` does). Delete by place.", partial(deleted, without=_first_gone)),
        Mistake("all-occurrences", "A word that occurs twice: you take out both. Delete by place.",
                partial(deleted, without=lambda words, i: [w for w in words if w != words[i]])),
        Mistake("word-alone", "You keep the word and delete the rest.",
                partial(deleted, without=lambda words, i: [words[i]])),
        *(
            Mistake("replaced", f"The word is replaced by {other!r}, not taken out: the text keeps its length. That is "
                    "a test, too, but another one.",
                    partial(deleted, without=lambda words, i, other=other: [*words[:i], other, *words[i + 1 :]]))
            for other in ("", "[MASK]", "[PAD]")
        ),
        Mistake("cumulative", "Words stay deleted: take out one at a time, of the whole text.",
                partial(deleted, without=lambda words, i: words[i + 1 :])),
        Mistake("relative", "You divide by the whole score, which may be near 0 or negative. Asked for is the "
                "difference.", partial(deleted, compare=lambda whole, part: (whole - part) / whole)),
        Mistake("difference-forgotten", "Those are the scores of the shorter texts; subtract them from the whole "
                "text's.", partial(deleted, compare=lambda whole, part: part)),
    ],
    praise="Right: delete by place, one word at a time.",
)  # fmt: skip


def check_deletion_effects(answer: Any) -> Verdict:
    """Exercise 14-6: `deletion_effects(score, words)` -> one number a word."""
    return DELETED.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    with torch.random.fork_rng(devices=[]):
        return {"14-a": _too_cold(), "14-b": _no_convergence(), "14-c": _not_frozen()}


def _too_cold(steps: int = 120) -> dict[str, dict[str, Any]]:
    """Distillation without T²: at T = 8 the steps are some sixty times too short."""
    torch.manual_seed(0)
    x, teacher = torch.randn(256, 8), nn.Linear(8, 3)
    with torch.no_grad():
        targets = 3 * teacher(x)
    agree: dict[str, list[float]] = {}
    for temperature in (1.0, 8.0):
        torch.manual_seed(1)
        student = nn.Linear(8, 3)
        optimizer, seen = torch.optim.SGD(student.parameters(), lr=0.5), []
        for _ in range(steps):
            said = student(x)
            seen.append((said.argmax(-1) == targets.argmax(-1)).double().mean().item())
            optimizer.zero_grad()
            (soft_loss(said, targets, temperature) / temperature**2).backward()
            optimizer.step()
        agree[f"T = {temperature:g}"] = seen
    return {"agrees with teacher": agree}


def _no_convergence() -> dict[str, dict[str, Any]]:
    """The factor is x instead of x − x′: more steps do not help."""
    steps = [1, 2, 4, 8, 16, 32, 64, 128]

    def height(p: Tensor) -> Tensor:
        return (torch.sin(p) * p.roll(1, -1)).sum()

    slope = torch.func.grad(height)
    gaps = []
    for n in steps:
        found = integrated(slope, X, START, n, factor=lambda x, start: x)
        gaps.append(abs((found.sum() - (height(X) - height(START))).item()))
    return {"completeness gap": {"Σ − (F(x) − F(x′))": (steps, gaps)}}


def _not_frozen(steps: int = 80) -> dict[str, dict[str, Any]]:
    """The source's domain map was trained along with the task: the target's no longer fits under it."""
    torch.manual_seed(2)
    x, turn = torch.randn(256, 10), torch.linalg.qr(torch.randn(10, 10)).Q
    labels = (x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] > 0).long()
    domain = nn.Linear(10, 10, bias=False)  # undoes what its side does to the texts: nothing, on the source's side
    task = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 2))
    target_domain = turn.T
    with torch.no_grad():
        domain.weight.copy_(torch.eye(10))
    optimizer = torch.optim.Adam([*task.parameters(), *domain.parameters()], lr=0.05)
    seen: dict[str, list[float]] = {"source": [], "target, domain exchanged": []}
    for _ in range(steps):
        with torch.no_grad():
            seen["source"].append((task(domain(x)).argmax(-1) == labels).double().mean().item())
            undone = (x @ turn) @ target_domain
            seen["target, domain exchanged"].append((task(undone).argmax(-1) == labels).double().mean().item())
        optimizer.zero_grad()
        F.cross_entropy(task(domain(x)), labels).backward()
        optimizer.step()
    return {"accuracy": seen}

"""Other numbers for the exercises answered by a number: what changes in statement, solution and right answer.

Each function draws from numbers that make a sensible exercise, and computes the right answer by the lesson's formula.
Statement and solution name the course's own numbers: a test compares them with the notebooks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Edits = tuple[tuple[str, str], ...]  # (old text, new text)


@dataclass(frozen=True)
class Numbers:
    """An exercise with other numbers. `right` has one value, or several by name, in the order of the answer."""

    statement: Edits
    solution: Edits
    right: Mapping[str, float]
    tolerance: float = 0.01


DRAWS: dict[str, Callable[[random.Random], Numbers]] = {}


def other_numbers(exercise: str) -> Callable:
    """Register a function that draws other numbers for this exercise."""

    def register(function: Callable[[random.Random], Numbers]) -> Callable[[random.Random], Numbers]:
        DRAWS[exercise] = function
        return function

    return register


def draw(seed: int) -> dict[str, Numbers]:
    """Other numbers for every exercise that can have them; the same for the same seed."""
    return {exercise: function(random.Random(f"{exercise} {seed}")) for exercise, function in DRAWS.items()}


def edited(text: str, edits: Edits) -> str:
    """`text` with every old text replaced by the new one.

    Raises:
        ValueError: if an old text is not there: the lesson has changed, and its numbers with it.
    """
    for old, new in edits:
        if old not in text:
            raise ValueError(f"{old!r} is not in the exercise any more: {text[:80]!r}")
        text = text.replace(old, new)
    return text


# ---------------------------------------------------------------- the exercises


@other_numbers("00-1")
def three_texts(rng: random.Random) -> Numbers:
    a, b, c = rng.choice([0.9, 0.95]), rng.choice([0.6, 0.65, 0.75]), rng.choice([0.05, 0.15, 0.2])
    return Numbers(
        (("80 %, 70 % and 10 %", f"{a:.0%}, {b:.0%} and {c:.0%}".replace("%", " %")),),
        (("math.log(0.8) + math.log(0.7) + math.log(0.1)", f"math.log({a}) + math.log({b}) + math.log({c})"),),
        {"loss": -(math.log(a) + math.log(b) + math.log(c)) / 3, "accuracy": 2 / 3},
    )


@other_numbers("01-7")
def constant_answer(rng: random.Random) -> Numbers:
    shares = rng.choice([(0.6, 0.3, 0.1), (0.8, 0.15, 0.05), (0.5, 0.3, 0.2)])
    a, b, c = (f"{100 * share:.0f} %" for share in shares)
    return Numbers(
        (
            (
                "70 % of the labels are class 0, 20 % class 1, 10 % class 2",
                f"{a} of the labels are class 0, {b} class 1, {c} class 2",
            ),
        ),
        (("(0.7, 0.2, 0.1)", str(shares)),),
        {"loss": -sum(p * math.log(p) for p in shares)},
    )


@other_numbers("02-6")
def three_limits(rng: random.Random) -> Numbers:
    steep, beta = rng.choice([5, 16, 20]), rng.choice([0.5, 0.7, 0.9])
    return Numbers(
        (("0.5 and 8; momentum is β = 0.8", f"0.5 and {steep}; momentum is β = {beta}"),),
        (
            (
                "(2 / 8, 2 * (1 + 0.8) / 8, 2 * (1 + 0.8) / ((1 + 2 * 0.8) * 8))",
                f"(2 / {steep}, 2 * (1 + {beta}) / {steep}, 2 * (1 + {beta}) / ((1 + 2 * {beta}) * {steep}))",
            ),
        ),
        {
            "plain": 2 / steep,
            "heavy ball": 2 * (1 + beta) / steep,
            "Nesterov": 2 * (1 + beta) / ((1 + 2 * beta) * steep),
        },
    )


@other_numbers("02-7")
def curvature_of_a_diverging_run(rng: random.Random) -> Numbers:
    rate, growth = rng.choice([0.1, 0.4, 0.5]), rng.choice([1.1, 1.3, 1.5])
    factor = f"{growth**2:.2f}"
    return Numbers(
        (("η = 0.2", f"η = {rate}"), ("factor 1.44", f"factor {factor}")),
        (("(1 + 1.44**0.5) / 0.2", f"(1 + {factor}**0.5) / {rate}"), ("−1.2", f"−{growth}")),
        {"curvature": (1 + growth) / rate},
    )


@other_numbers("03-4")
def other_betas(rng: random.Random) -> Numbers:
    first, second = rng.choice([0.7, 0.85, 0.95]), rng.choice([0.98, 0.995])
    return Numbers(
        ((r"\beta_1 = 0.8$, $\beta_2 = 0.99$", rf"\beta_1 = {first}$, $\beta_2 = {second}$"),),
        (("(1 - 0.8) / (1 - 0.99)", f"(1 - {first}) / (1 - {second})"),),
        {"first step": (1 - first) / (1 - second) ** 0.5},
    )


@other_numbers("03-6")
def state_under_lora(rng: random.Random) -> Numbers:
    trained = rng.choice([147_456, 589_824, 1_179_648])  # rank 4, 16, 32 in place of 8
    return Numbers(
        (("trains 294,912 weights", f"trains {trained:,} weights"),),
        (("294_912", f"{trained:_}"),),
        {"megabytes": 2 * 4 * trained / 1e6},
    )


@other_numbers("05-2")
def labels_used(rng: random.Random) -> Numbers:
    train, dev, test = rng.choice([(800, 250, 300), (300, 120, 500), (1000, 350, 400)])
    return Numbers(
        (
            ("500 labeled texts", f"{train} labeled texts"),
            ("150 dev texts", f"{dev} dev texts"),
            ("400 test texts", f"{test} test texts"),
        ),
        (("500 + 150", f"{train} + {dev}"),),
        {"labels": train + dev},
        tolerance=0.001,
    )


@other_numbers("07-6")
def tasks_on_the_disk(rng: random.Random) -> Numbers:
    tasks, percent = rng.choice([12, 30, 50]), rng.choice([0.3, 1.2, 4.2])
    share = f"{percent / 100:.3f}"
    return Numbers(
        (("Each of 20 tasks brings its own 2.1 %", f"Each of {tasks} tasks brings its own {percent} %"),),
        (("(1 + 20 * 0.021)", f"(1 + {tasks} * {share})"),),
        {"megabytes": 4 * 109_482_240 * (1 + tasks * percent / 100) / 1e6},
    )


@other_numbers("08-6")
def many_tasks(rng: random.Random) -> Numbers:
    tasks, percent = rng.choice([12, 35, 40]), rng.choice([0.8, 2.5, 3.2])
    share = f"{percent / 100:.3f}"
    return Numbers(
        (("keeps 20 tasks", f"keeps {tasks} tasks"), ("1.92 % a task", f"{percent} % a task")),
        (("(20, 1 + 20 * 0.0192, 1 / 0.0192)", f"({tasks}, 1 + {tasks} * {share}, 1 / {share})"),),
        {
            "full fine-tuning": tasks,
            "adapters": 1 + tasks * percent / 100,
            "tasks until it doubles": 100 / percent,
        },
        tolerance=0.005,
    )


@other_numbers("09-3")
def cache_of_a_decoder(rng: random.Random) -> Numbers:
    texts, tokens = rng.choice([4, 16, 32]), rng.choice([300, 600, 700])
    return Numbers(
        (("8 texts at once, each of 1,000 tokens", f"{texts} texts at once, each of {tokens} tokens"),),
        (("* 8 * 1000 *", f"* {texts} * {tokens} *"),),
        {"megabytes": 2 * 24 * 1024 * texts * tokens * 4 / 1e6},
    )


@other_numbers("10-5")
def prefix_counts(rng: random.Random) -> Numbers:
    length, hidden = rng.choice([5, 20, 50]), rng.choice([256, 800])
    return Numbers(
        (("A prefix of 10 with an MLP of h = 512", f"A prefix of {length} with an MLP of h = {hidden}"),),
        (
            (
                "10 * 768 + 768 * 512 + 512 + 2 * 12 * 768 * (512 + 1)",
                f"{length} * 768 + 768 * {hidden} + {hidden} + 2 * 12 * 768 * ({hidden} + 1)",
            ),
            ("2 * 10 * 12 * 768", f"2 * {length} * 12 * 768"),
        ),
        {
            "trained": length * 768 + 768 * hidden + hidden + 2 * 12 * 768 * (hidden + 1),
            "changed": 0,
            "stored": 2 * length * 12 * 768,
        },
        tolerance=2e-5,
    )


@other_numbers("11-4")
def three_counts(rng: random.Random) -> Numbers:
    rank, classes = rng.choice([4, 16, 32]), rng.choice([3, 5, 6])
    trained = 12 * 2 * 2 * 768 * rank + classes * 768 + classes
    return Numbers(
        (("a head of two classes", f"a head of {classes} classes"), ("$r = 8$", f"$r = {rank}$")),
        (("12 * 2 * 2 * 768 * 8 + 2 * 768 + 2", f"12 * 2 * 2 * 768 * {rank} + {classes} * 768 + {classes}"),),
        {"trained": trained, "changed": 12 * 2 * 768**2, "stored": trained},
        tolerance=0.0005,
    )


@other_numbers("13-4")
def texts_needed(rng: random.Random) -> Numbers:
    differ = rng.choice([0.08, 0.16, 0.2])

    def needed(gap: float) -> float:
        return ((1.96 * differ**0.5 + 0.8416 * (differ - gap**2) ** 0.5) / gap) ** 2

    return Numbers(
        ((r"$\psi = 0.12$", rf"$\psi = {differ}$"),),
        (("psi=0.12", f"psi={differ}"),),
        {"2 points": needed(0.02), "1 point": needed(0.01)},
    )


@other_numbers("14-3")
def four_bits(rng: random.Random) -> Numbers:
    trained, activations = rng.choice([10, 40, 80]), rng.choice([4, 6, 12])
    rest = 16 * trained / 1000 + activations
    return Numbers(
        (
            ("LoRA trains 20 million more", f"LoRA trains {trained} million more"),
            ("activations take 8 GB", f"activations take {activations} GB"),
        ),
        (("20e6 * 16 / 1e9 + 8", f"{trained}e6 * 16 / 1e9 + {activations}"),),
        {"16 bits": 14 + rest, "4 bits": 7 * 4.5 / 8 + rest, "ratio": (7 * 4.5 / 8 + rest) / (14 + rest)},
        tolerance=0.005,
    )

"""Other inputs for the exercises whose inputs are counts, labels, words or masks: floats can be bent, these are drawn.

Each function draws the arguments of one call, such that everything that the exercise is about occurs in them: ties,
padding on both sides, a class that is never predicted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from peft_helpers.checks import encoder

TRIALS = 3
DRAWS: dict[str, Callable[[random.Random], tuple[Any, ...]]] = {}
READ: dict[str, Callable] = {"check_bpe_step": encoder.bpe_results}  # results that are no numbers, in one form


def inputs_of(checker: str) -> Callable:
    """Register a function that draws the arguments for an exercise."""

    def register(function: Callable[[random.Random], tuple[Any, ...]]) -> Callable:
        DRAWS[checker] = function
        return function

    return register


def draw(checker: str, seed: int) -> list[tuple[Any, ...]]:
    """The arguments of `TRIALS` calls; none where no inputs are drawn for this checker."""
    if checker not in DRAWS:
        return []
    return [DRAWS[checker](random.Random(f"{checker} {seed} {trial}")) for trial in range(TRIALS)]


@inputs_of("check_step_to_ship")
def history(rng: random.Random) -> tuple[Any, ...]:
    steps = range(0, 10 * rng.randint(5, 9), 10)
    scores = rng.sample(range(500, 900), len(steps))  # all different: one step is the best
    losses = rng.sample(range(300, 700), len(steps))
    rows: list[dict[str, Any]] = []
    for step, score, loss in zip(steps, scores, losses, strict=True):
        if step:
            rows.append({"step": step, "epoch": step / 40, "split": "train", "loss": 0.9 - step / 100, "seconds": step})
        dev = {"split": "dev", "loss": loss / 1000, "accuracy": score / 1000, "seconds": step + 1}
        rows.append({"step": step, "epoch": step / 40} | dev)
    return (rows,)


@inputs_of("check_majority_accuracy")
def labels(rng: random.Random) -> tuple[Any, ...]:
    train = [0] * rng.randint(2, 4) + [1] * rng.randint(2, 4) + [2] * rng.randint(6, 9)
    test = [rng.choice([0, 0, 0, 1, 2]) for _ in range(rng.randint(20, 30))] + [0, 2]
    rng.shuffle(train)
    return train, test


@inputs_of("check_bpe_step")
def words(rng: random.Random) -> tuple[Any, ...]:
    letters = rng.sample("abcdefgh", 4)
    a, b, c, d = letters
    many = rng.randint(20, 40)
    return (
        {
            (a, b, a, b, c): many,
            (b, a, b): many + 3,
            (c, d): many - 7,
            (d, c, b): rng.randint(2, 5),
            (a, b): 1,
            (d,): 9,
        },
    )


@inputs_of("check_position_ids")
@inputs_of("check_causal_mask")
def masks(rng: random.Random) -> tuple[Any, ...]:
    length = rng.randint(6, 9)
    left, right = rng.randint(1, length - 2), rng.randint(1, length - 2)
    rows = [[1] * length, [0] * left + [1] * (length - left), [1] * right + [0] * (length - right)]
    return (torch.tensor(rows),)


@inputs_of("check_layer_count")
def layer(rng: random.Random) -> tuple[Any, ...]:
    heads = rng.randint(2, 5)
    return heads * rng.randint(3, 9), rng.randint(20, 90), heads


@inputs_of("check_paired_interval")
def pairs(rng: random.Random) -> tuple[Any, ...]:
    generator = np.random.default_rng(rng.randrange(10**6))
    right_a = (generator.random(83) < 0.8).astype(float)
    right_b = np.where(generator.random(83) < 0.3, (generator.random(83) < 0.5).astype(float), right_a)
    return right_a, right_b, generator.integers(83, size=(400, 83))


@inputs_of("check_matthews")
def two_classes(rng: random.Random) -> tuple[Any, ...]:
    generator = np.random.default_rng(rng.randrange(10**6))
    truth = np.r_[(generator.random(37) < 0.3).astype(int), 0, 1, 1]
    return np.r_[np.where(generator.random(37) < 0.3, 1 - truth[:37], truth[:37]), 1, 0, 1], truth


@inputs_of("check_macro_f1")
def several_classes(rng: random.Random) -> tuple[Any, ...]:
    generator = np.random.default_rng(rng.randrange(10**6))
    truth = np.r_[generator.integers(4, size=41), 0, 1, 2, 3]
    said = np.where(generator.random(45) < 0.4, generator.integers(3, size=45), truth)
    return np.where(said == 3, 0, said), truth, 4  # class 3 is never predicted


@inputs_of("check_spearman")
def scores(rng: random.Random) -> tuple[Any, ...]:
    generator = np.random.default_rng(rng.randrange(10**6))
    truth = generator.integers(6, size=15) / 2  # with ties
    return (truth + generator.normal(size=15)).round(1), np.r_[truth[:14], truth[0]]


@inputs_of("check_cosine_schedule")
def schedule(rng: random.Random) -> tuple[Any, ...]:
    steps = rng.randint(40, 90)
    warmup = rng.randint(4, 12)
    return rng.choice([rng.randint(1, warmup - 1), rng.randint(warmup + 1, steps - 1)]), steps, warmup


@inputs_of("check_run_memory")
def memory(rng: random.Random) -> tuple[Any, ...]:
    sizes = (rng.randint(20_000, 90_000), rng.randint(500, 900), rng.randint(9_000, 40_000), rng.randint(3, 40))
    return (*sizes, rng.random() < 0.5)


@inputs_of("check_trained_parameters")
def adapters(rng: random.Random) -> tuple[Any, ...]:
    return rng.randint(20, 90), rng.randint(2, 12), rng.randint(3, 16), rng.randint(2, 6)


@inputs_of("check_answer_labels")
def prompt_and_answer(rng: random.Random) -> tuple[Any, ...]:
    ids = rng.sample(range(3, 99), 11)
    cut, end = rng.randint(3, 6), rng.randint(7, 10)
    return ids[:cut], ids[cut:end], 1, end + rng.randint(2, 5)


@inputs_of("check_clipped_matches")
def texts(rng: random.Random) -> tuple[Any, ...]:
    vocabulary = ["the", "the", "trail", "is", "long", "and", "steep"]
    said, first, second = ([rng.choice(vocabulary) for _ in range(rng.randint(8, 12))] for _ in range(3))
    return said, [first, second], rng.randint(1, 3)


@inputs_of("check_slot_errors")
def slots(rng: random.Random) -> tuple[Any, ...]:
    names = ["name", "length", "dogs", "shape", "level", "season", "climb"]
    given = {name: rng.choice("pqrs") for name in rng.sample(names, 5)}
    said = {name: value if rng.random() < 0.5 else "z" for name, value in given.items() if rng.random() < 0.8}
    return given, said | {name: "p" for name in rng.sample(names, 2) if name not in given}


@inputs_of("check_prefix_mask")
def mask_and_length(rng: random.Random) -> tuple[Any, ...]:
    return (*masks(rng), rng.randint(1, 5))


@inputs_of("check_text_positions")
def whole_texts_and_length(rng: random.Random) -> tuple[Any, ...]:
    return torch.ones(rng.randint(2, 4), rng.randint(4, 9), dtype=torch.long), rng.randint(1, 7)  # padding may hold all


@inputs_of("check_basis")
def directions(rng: random.Random) -> tuple[Any, ...]:
    basis = torch.zeros(8, 4, dtype=torch.float64)
    for column in range(3):
        for row in rng.sample(range(6), rng.randint(1, 3)):
            basis[row, column] = rng.choice([-2.0, 0.5, 1.0, 3.0])
    basis[:, 3] = basis[:, 0] - 2 * basis[:, 1]
    return (basis,)


@inputs_of("check_pareto_front")
def costs_and_scores(rng: random.Random) -> tuple[Any, ...]:
    costs = [float(rng.randint(1, 9)) for _ in range(10)]
    return costs, [rng.randint(60, 75) / 100 for _ in range(10)]


@inputs_of("check_paired_differences")
def pairs_and_few_draws(rng: random.Random) -> tuple[Any, ...]:
    right_a, right_b, draws = pairs(rng)
    return right_a, right_b, draws[: rng.randint(5, 9)]


@inputs_of("check_choose")
def methods(rng: random.Random) -> tuple[Any, ...]:
    costs = [float(cost) for cost in rng.sample(range(1, 60), 7)]
    scores = [score / 1000 for score in rng.sample(range(600, 760), 7)]
    real = [[abs(a - b) > 0.05 for b in scores] for a in scores]
    return costs, scores, real, sorted(costs)[rng.randint(2, 5)]


@inputs_of("check_deletion_effects")
def score_and_words(rng: random.Random) -> tuple[Any, ...]:
    vocabulary = ["not", "good", "at", "all", "but", "cheap"]
    worth = {word: rng.uniform(-2, 2) for word in vocabulary}
    said = [rng.choice(vocabulary) for _ in range(rng.randint(4, 7))]
    return (lambda text: sum(worth[word] / (place + 1) for place, word in enumerate(text))), [*said, said[0]]

"""The exercises of lesson 13, comparing methods.

13-1  `pareto_front(costs, scores)`: the indices that no other beats, cheapest first (6 min)
      checker: `check_pareto_front`
      mistakes: best-only, low-scores, order-of-input, equal-but-dearer, same-cost-worse, best-ratio, values-returned,
        neighbors-only, dominated-returned, nothing-left-out, beaten-in-both

13-2  `paired_differences(right_a, right_b, draws)`: (N,), (N,), (S, N) -> (S,), the difference on each drawn set
      (6 min)
      checker: `check_paired_differences`
      mistakes: unpaired, not-resampled, absolute, wrong-sign, not-divided, over-draws, only-disagreements,
        first-draw-only

13-3  `honest_score(held_out, test)`: (R,), (R, S) -> the score to report, of R learning rates and S seeds (5 min)
      checker: `check_honest_score`
      mistakes: tuned-on-test, best-of-seeds, reports-held-out, everything-averaged, tuned-on-test-best-seed,
        last-rate, one-seed, median-of-seeds, lowest-held-out

13-4  two numbers: the test items that it takes to find a difference of 2 points, and one of 1 point (5 min)
      checker: `check_items_needed`
      mistakes: unpaired, one-sided, power-forgotten, percent-for-share, not-squared, linear-in-the-difference,
        same-for-half, difference-forgotten

13-5  what is wrong with each of seven claims: a dictionary from the claim's letter to a word (6 min)
      checker: `check_which_are_real`
      mistakes: overlap-is-no-test, best-of-seeds, tuned-on-test, seeds-are-not-items, one-rate-for-all,
        sound-claim-doubted, absence-of-evidence

13-6  `choose(costs, scores, real, budget)`: the cheapest method within the budget that is not shown to be behind the
      best one within it (7 min)
      checker: `check_choose`
      mistakes: higher-mean-wins, budget-ignored, cheapest-of-all, best-beyond-budget, dearest-of-the-tied,
        budget-excluded, value-returned, only-what-is-behind
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peft_helpers import statistics
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    SeveralNumbers,
    Verdict,
    WrongNumber,
    call,
    refused,
    unanswered,
)

# ---------------------------------------------------------------- 13-1

COSTS = [30.0, 2.0, 9.0, 100.0, 5.0, 12.0, 2.0, 60.0, 80.0]
SCORES = [0.71, 0.60, 0.69, 0.74, 0.64, 0.69, 0.55, 0.70, 0.705]


def pareto_front(costs: Sequence[float], scores: Sequence[float], *, wrong: str = "") -> list:
    """The right front; `wrong` names one mistake."""
    every = range(len(costs))
    better = (lambda a, b: a < b) if wrong == "low-scores" else (lambda a, b: a > b)
    if wrong == "best-only":
        return [max(every, key=lambda i: (scores[i], -costs[i]))]
    if wrong == "best-ratio":
        return [max(every, key=lambda i: scores[i] / costs[i])]
    if wrong == "neighbors-only":
        order = sorted(every, key=lambda i: (costs[i], -scores[i]))
        return [i for before, i in zip([None, *order], order, strict=False)
                if before is None or scores[i] > scores[before]]  # fmt: skip
    order = sorted(every, key=lambda i: (costs[i], scores[i] if wrong == "same-cost-worse" else -scores[i]))
    if wrong == "nothing-left-out":
        return order
    if wrong == "beaten-in-both":
        return [i for i in order if not any(costs[j] < costs[i] and scores[j] > scores[i] for j in every)]
    front: list[int] = []
    for i in order:
        known = [scores[j] for j in front]
        if all(better(scores[i], value) or (wrong == "equal-but-dearer" and scores[i] == value) for value in known):
            front.append(i)
    if wrong == "order-of-input":
        front = sorted(front)
    if wrong == "dominated-returned":
        front = [i for i in order if i not in front]
    return [costs[i] for i in front] if wrong == "values-returned" else front


PARETO = FunctionExercise(
    right=pareto_front,
    probes=[
        Probe("nine methods", lambda f: call(f, COSTS, SCORES)),
        Probe("two at the same cost, the worse one first", lambda f: call(f, [5.0, 5.0, 8.0], [0.6, 0.7, 0.9])),
        Probe("three with the same score", lambda f: call(f, [3.0, 1.0, 2.0], [0.7, 0.7, 0.7])),
        Probe("a single method", lambda f: call(f, [4.0], [0.5])),
    ],
    mistakes=[
        Mistake("best-only", "That is the best method alone. The front also holds the cheaper ones that nobody beats "
                "at their price.", partial(pareto_front, wrong="best-only")),
        Mistake("low-scores", "That front keeps the *lowest* scores. Of the costs the small ones are good, of the "
                "scores the large ones.", partial(pareto_front, wrong="low-scores")),
        Mistake("order-of-input", "Those are the right methods, in the order of the input. Return the cheapest first.",
                partial(pareto_front, wrong="order-of-input")),
        Mistake("equal-but-dearer", "You keep a method that costs more and scores the same as another one. It is "
                "dominated: who would pay for it?", partial(pareto_front, wrong="equal-but-dearer")),
        Mistake("same-cost-worse", "Of two methods at the same cost you keep the worse one as well. Break ties in the "
                "cost by the score, best first.", partial(pareto_front, wrong="same-cost-worse")),
        Mistake("best-ratio", "Score divided by cost names one method, and nearly always the cheapest. A front needs "
                "no exchange rate between the two.", partial(pareto_front, wrong="best-ratio")),
        Mistake("values-returned", "Those are the costs of the right methods. Return their indices.",
                partial(pareto_front, wrong="values-returned")),
        Mistake("neighbors-only", "Each method is compared with the next cheaper one only. It must beat the best of "
                "*all* cheaper ones.", partial(pareto_front, wrong="neighbors-only")),
        Mistake("dominated-returned", "Those are the methods that are beaten; the front is the others.",
                partial(pareto_front, wrong="dominated-returned")),
        Mistake("nothing-left-out", "Those are all methods, sorted by cost. Leave out each one that another beats.",
                partial(pareto_front, wrong="nothing-left-out")),
        Mistake("beaten-in-both", "You leave out only what is beaten in both, cost and score. To cost the same and "
                "score less is to be beaten, too; and so is to score the same and cost more.",
                partial(pareto_front, wrong="beaten-in-both")),
    ],
    praise="Right: walking from the cheapest up, a method stays if it beats everything before it.",
)  # fmt: skip


def check_pareto_front(answer: Any) -> Verdict:
    """Exercise 13-1: `pareto_front(costs, scores)` -> indices, cheapest first."""
    return PARETO.judge(answer)


# ---------------------------------------------------------------- 13-2

RIGHT_A = np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 0], dtype=float)
RIGHT_B = np.array([1, 0, 0, 1, 1, 1, 0, 1, 1, 0], dtype=float)
DRAWS = np.array(
    [
        [6, 6, 1, 0, 3, 9, 4, 4, 7, 2],
        [5, 5, 5, 1, 8, 8, 0, 2, 9, 3],
        [0, 1, 2, 3, 4, 6, 1, 7, 8, 9],
        [1, 6, 6, 6, 1, 0, 3, 3, 7, 5],
    ]
)


def paired_differences(right_a: NDArray, right_b: NDArray, draws: NDArray, *, wrong: str = "") -> NDArray:
    """The right differences; `wrong` names one mistake."""
    a, b = right_a[draws], right_b[np.roll(draws, 1, axis=0) if wrong == "unpaired" else draws]
    difference = b - a if wrong == "wrong-sign" else a - b
    if wrong == "not-resampled":
        return np.full(len(draws), (right_a - right_b).mean())
    if wrong == "absolute":
        return np.abs(difference).mean(1)
    if wrong == "not-divided":
        return difference.sum(1)
    if wrong == "over-draws":
        return difference.mean(0)
    if wrong == "only-disagreements":
        return difference.sum(1) / np.maximum(1, np.abs(difference).sum(1))
    if wrong == "first-draw-only":
        return np.full(len(draws), difference[0].mean())
    return difference.mean(1)


PAIRED = FunctionExercise(
    right=paired_differences,
    probes=[
        Probe("ten items, four draws", lambda f: call(f, RIGHT_A, RIGHT_B, DRAWS)),
        Probe("the two systems exchanged", lambda f: call(f, RIGHT_B, RIGHT_A, DRAWS[::-1].copy())),
    ],
    mistakes=[
        Mistake("unpaired", "The two systems are judged on different draws. Then a lucky draw for one is not one for "
                "the other, and the interval gets too wide: take the same row of `draws` for both.",
                partial(paired_differences, wrong="unpaired")),
        Mistake("not-resampled", "Every draw gives the same number: `draws` is not used. Index the items by it.",
                partial(paired_differences, wrong="not-resampled")),
        Mistake("absolute", "That is how often the two disagree. Wins and losses must cancel, so no absolute value.",
                partial(paired_differences, wrong="absolute")),
        Mistake("wrong-sign", "That is b − a. Asked is a − b: positive where a is ahead.",
                partial(paired_differences, wrong="wrong-sign")),
        Mistake("not-divided", "Those are counts of items. An accuracy is a share: divide by N.",
                partial(paired_differences, wrong="not-divided")),
        Mistake("over-draws", "The mean runs over the draws. It must run over the items of each draw, `axis=1`.",
                partial(paired_differences, wrong="over-draws")),
        Mistake("only-disagreements", "You divide by the items on which the two disagree. The accuracies are shares of "
                "all N items.", partial(paired_differences, wrong="only-disagreements")),
        Mistake("first-draw-only", "Only the first draw is used, for all.",
                partial(paired_differences, wrong="first-draw-only")),
    ],
    praise="Right: one draw of items, both systems on it. The interval is between the 2.5 % and the 97.5 % quantile.",
)  # fmt: skip


def check_paired_differences(answer: Any) -> Verdict:
    """Exercise 13-2: `paired_differences(right_a, right_b, draws)` -> (S,)."""
    return PAIRED.judge(answer)


# ---------------------------------------------------------------- 13-3

HELD_OUT = np.array([0.62, 0.71, 0.69, 0.40])
TEST = np.array([[0.60, 0.635, 0.61], [0.66, 0.70, 0.64], [0.705, 0.68, 0.69], [0.45, 0.50, 0.38]])


def honest_score(held_out: NDArray, test: NDArray, *, wrong: str = "") -> float:
    """The right score; `wrong` names one mistake."""
    chosen, best = int(held_out.argmax()), int(test.mean(1).argmax())
    return float(
        {
            "tuned-on-test": test[best].mean(),
            "tuned-on-test-best-seed": test.max(),
            "best-of-seeds": test[chosen].max(),
            "reports-held-out": held_out[chosen],
            "everything-averaged": test.mean(),
            "last-rate": test[-1].mean(),
            "one-seed": test[chosen, 0],
            "median-of-seeds": np.median(test[chosen]),
            "lowest-held-out": test[int(held_out.argmin())].mean(),
        }.get(wrong, test[chosen].mean())
    )


HONEST = FunctionExercise(
    right=honest_score,
    probes=[
        Probe("four rates, three seeds", lambda f: call(f, HELD_OUT, TEST)),
        Probe("three rates, two seeds", lambda f: call(f, np.array([0.8, 0.7, 0.75]), TEST[:3, :2] + 0.013)),
    ],
    mistakes=[
        Mistake("tuned-on-test", "The rate is chosen by its test score. Then test has been used for tuning, and what "
                "you report is too good: choose by `held_out`.", partial(honest_score, wrong="tuned-on-test")),
        Mistake("tuned-on-test-best-seed", "That is the best cell of the whole table: rate and seed are both chosen on "
                "test. Nobody else will see that number again.",
                partial(honest_score, wrong="tuned-on-test-best-seed")),
        Mistake("best-of-seeds", "That is the luckiest seed. A reader who trains once gets the mean, not the best.",
                partial(honest_score, wrong="best-of-seeds")),
        Mistake("reports-held-out", "That is the held-out score of the chosen rate. It was used to choose, so it is "
                "too good, and it was measured on other items: report test.",
                partial(honest_score, wrong="reports-held-out")),
        Mistake("everything-averaged", "You average over all rates. A method is judged at the rate that tuning gave "
                "it.",
                partial(honest_score, wrong="everything-averaged")),
        Mistake("last-rate", "That is the last rate, whatever the held-out scores say.",
                partial(honest_score, wrong="last-rate")),
        Mistake("one-seed", "That is the first seed alone. Report the mean over all of them.",
                partial(honest_score, wrong="one-seed")),
        Mistake("median-of-seeds", "That is the median over the seeds. Here the mean is asked for: it is what the "
                "paired interval averages, too.", partial(honest_score, wrong="median-of-seeds")),
        Mistake("lowest-held-out", "You take the rate with the *lowest* held-out score; scores are better when larger.",
                partial(honest_score, wrong="lowest-held-out")),
    ],
    praise="Right: held-out data chooses, test is looked at once, and every seed counts.",
)  # fmt: skip


def check_honest_score(answer: Any) -> Verdict:
    """Exercise 13-3: `honest_score(held_out, test)` -> one number."""
    return HONEST.judge(answer)


# ---------------------------------------------------------------- 13-4

GAP, DISAGREEMENT, ACCURACY = 0.02, 0.12, 0.85
Z_LEVEL, Z_POWER = 1.96, 0.8416


def _items(delta: float, psi: float, z_level: float = Z_LEVEL, z_power: float = Z_POWER) -> float:
    return ((z_level * psi**0.5 + z_power * (psi - delta**2) ** 0.5) / delta) ** 2


def _unpaired(delta: float) -> float:
    """Items for two separate test sets: twice the variance of one accuracy."""
    return 2 * ACCURACY * (1 - ACCURACY) * (Z_LEVEL + Z_POWER) ** 2 / delta**2


def _needed(delta: float) -> NumberExercise:
    right = statistics.items_needed(delta, DISAGREEMENT)
    wrong = [
        (_unpaired(delta), "unpaired", "That is the number for two separate test sets, 2 p (1 − p) in place of ψ. Both "
         "systems answer the same items here, and agree on 88 % of them."),
        (_items(delta, DISAGREEMENT, 1.645), "one-sided", "z = 1.645 looks for a difference in one direction only. "
         "Two-sided at 95 % it is 1.96."),
        (_items(delta, DISAGREEMENT, Z_LEVEL, 0.0), "power-forgotten", "Without z_power a true difference of this size "
         "is found in half of all cases only."),
        (_items(delta, DISAGREEMENT) / 1e4, "percent-for-share", "Two points are 0.02, not 2."),
        (_items(delta, DISAGREEMENT) ** 0.5, "not-squared", "The whole fraction is squared."),
        (_items(delta, DISAGREEMENT) * delta**2, "difference-forgotten", "The sum must be divided by δ before it is "
         "squared."),
    ]  # fmt: skip
    if delta != GAP:
        before = _items(GAP, DISAGREEMENT)
        wrong += [
            (
                2 * before,
                "linear-in-the-difference",
                "Half the difference does not take twice the items: δ is squared.",
            ),
            (before, "same-for-half", "That is the number for 2 points; a smaller difference takes more items."),
        ]
    return NumberExercise(float(right), [WrongNumber(*row) for row in wrong], tolerance=0.01)


NEEDED = SeveralNumbers(
    {"2 points": _needed(GAP), "1 point": _needed(GAP / 2)},
    praise="Right: some 2,400 items for two points, four times as many for one. With 400 items, small gaps stay open.",
)


def check_items_needed(answer: Any) -> Verdict:
    """Exercise 13-4: (items for a difference of 2 points, items for 1 point)."""
    return NEEDED.judge(answer)


# ---------------------------------------------------------------- 13-5

FLAWS = (
    "nothing", "overlapping bars", "best of seeds", "tuned on test", "seeds for items", "one rate for all",
    "not shown is not equal",
)  # fmt: skip
CLAIMS = {  # letter -> (what is wrong, slug, message)
    "A": ("overlapping bars", "overlap-is-no-test",
          "Two separate error bars may overlap, and the difference may still be real: both methods read the same "
          "texts. Only the paired interval of the difference answers the question."),
    "B": ("best of seeds", "best-of-seeds",
          "One number is a best, the other a mean. The best of five is higher than the mean of the same five, whatever "
          "the method."),
    "C": ("tuned on test", "tuned-on-test",
          "The configuration was chosen by the very items that judge it. The best of twenty equals looks better, too."),
    "D": ("seeds for items", "seeds-are-not-items",
          "More seeds tell how much training runs differ. How much another 400 texts would differ, they do not tell."),
    "E": ("one rate for all", "one-rate-for-all",
          "The rate suits full fine-tuning. Methods with few parameters mostly want larger ones: each needs its own "
          "tuning."),
    "F": ("nothing", "sound-claim-doubted",
          "Own rates from held-out training data, all seeds averaged, one paired interval that leaves out 0: this "
          "claim is sound for texts of this kind."),
    "G": ("not shown is not equal", "absence-of-evidence",
          "The interval holds 0, but also a gap of two points. No difference was *shown*; the two were not shown to be "
          "equal."),
}  # fmt: skip


def check_which_are_real(answer: Any) -> Verdict:
    """Exercise 13-5: claim's letter -> one of `FLAWS`."""
    if answer is None:
        return unanswered()
    if not isinstance(answer, Mapping) or not set(CLAIMS) <= set(map(str, answer)):
        return refused("not-a-dictionary", f"The answer must be a dictionary with the keys {', '.join(CLAIMS)}.")
    given = {}
    for letter in CLAIMS:
        value = answer[letter]
        if value is None or value is Ellipsis:
            return unanswered(f"Not answered yet: claim {letter}.")
        words = " ".join(value.lower().replace("_", " ").replace("-", " ").split()) if isinstance(value, str) else ""
        if words not in FLAWS:
            return refused("not-a-word", f"Claim {letter}: choose one of {', '.join(FLAWS)}.")
        given[letter] = words
    for letter, (right, slug, message) in CLAIMS.items():
        if given[letter] != right:
            return refused(slug, f"Claim {letter}: {message}")
    return Verdict(True, "Right. One of seven was sound; in the wild the share is not much better.")


# ---------------------------------------------------------------- 13-6

PRICES = [100.0, 4.0, 20.0, 8.0, 60.0, 2.0]
MEANS = [0.760, 0.735, 0.744, 0.738, 0.742, 0.650]
REAL = [  # whether the gap of two methods was shown to be real
    [False, False, True, True, True, True],
    [False, False, True, False, True, True],
    [True, True, False, False, False, True],
    [True, False, False, False, False, True],
    [True, True, False, False, False, True],
    [True, True, True, True, True, False],
]


def choose(costs: Sequence[float], scores: Sequence[float], real: Sequence, budget: float, *, wrong: str = "") -> float:
    """The right choice; `wrong` names one mistake."""
    every = range(len(costs))
    inside = [i for i in every if costs[i] <= budget]
    if wrong == "budget-ignored":
        inside = list(every)
    if wrong == "budget-excluded":
        inside = [i for i in every if costs[i] < budget]
    best = max(every if wrong == "best-beyond-budget" else inside, key=lambda i: scores[i])
    tied = [i for i in inside if not real[best][i]] or [min(inside, key=lambda i: costs[i])]
    if wrong == "higher-mean-wins":
        tied = [best]
    if wrong == "cheapest-of-all":
        tied = inside
    if wrong == "only-what-is-behind":
        tied = [i for i in inside if real[best][i]] or [best]
    pick = max if wrong == "dearest-of-the-tied" else min
    chosen = pick(tied, key=lambda i: costs[i])
    return costs[chosen] if wrong == "value-returned" else chosen


CHOICE = FunctionExercise(
    right=choose,
    probes=[
        Probe("a budget of 60", lambda f: call(f, PRICES, MEANS, REAL, 60.0)),
        Probe("a budget of 4", lambda f: call(f, PRICES, MEANS, REAL, 4.0)),
        Probe("no limit", lambda f: call(f, PRICES, MEANS, REAL, 1000.0)),
        Probe("two that nobody can tell apart", lambda f: call(f, [1.0, 2.0], [0.7, 0.71], [[False] * 2] * 2, 9.0)),
        Probe("a budget for one method only", lambda f: call(f, PRICES, MEANS, REAL, 3.0)),
    ],
    mistakes=[
        Mistake("higher-mean-wins", "You take the highest mean within the budget. If a cheaper method can't be told "
                "from it, you pay for noise.", partial(choose, wrong="higher-mean-wins")),
        Mistake("best-beyond-budget", "You compare with the best of all methods, also of those beyond the budget. "
                "Compare with the best that you can afford.", partial(choose, wrong="best-beyond-budget")),
        Mistake("budget-ignored", "Your choice looks at methods beyond the budget as well.",
                partial(choose, wrong="budget-ignored")),
        Mistake("cheapest-of-all", "That is the cheapest method, though it is shown to be behind the best that fits.",
                partial(choose, wrong="cheapest-of-all")),
        Mistake("dearest-of-the-tied", "Of the methods that can't be told apart, you take the dearest.",
                partial(choose, wrong="dearest-of-the-tied")),
        Mistake("budget-excluded", "A method that costs exactly the budget fits: use ≤.",
                partial(choose, wrong="budget-excluded")),
        Mistake("value-returned", "That is the right method's cost. Return its index.",
                partial(choose, wrong="value-returned")),
        Mistake("only-what-is-behind", "`real[i][j]` is True where the gap *is* real. You keep those that are shown to "
                "be behind.", partial(choose, wrong="only-what-is-behind")),
    ],
    praise="Right: within the budget, the cheapest that nobody has shown to be worse than the best.",
)  # fmt: skip


def check_choose(answer: Any) -> Verdict:
    """Exercise 13-6: `choose(costs, scores, real, budget)` -> an index."""
    return CHOICE.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    return {"13-a": _chosen_on_test(), "13-b": _seeds_for_items(), "13-c": _one_tuned()}


def _chosen_on_test(tried: int = 60, items: int = 400, accuracy: float = 0.75) -> dict[str, dict[str, Any]]:
    """All configurations are equally good; the best so far on test is reported, and tried again on fresh texts."""
    generator = np.random.default_rng(5)
    scores = generator.binomial(items, accuracy, size=tried) / items
    best = np.maximum.accumulate(scores)
    changed = np.concatenate([[True], best[1:] > best[:-1]])
    again = generator.binomial(items, accuracy, size=tried) / items
    fresh = again[np.maximum.accumulate(np.where(changed, np.arange(tried), 0))]
    counts = list(range(1, tried + 1))
    return {"score (%)": {"test texts": (counts, 100 * best), "fresh texts": (counts, 100 * fresh)}}


def _seeds_for_items(seeds: int = 60, items: int = 400) -> dict[str, dict[str, Any]]:
    """Two equally good methods: the test set favors one by chance, and more seeds make that look certain."""
    generator = np.random.default_rng(18)
    luck = abs(generator.normal(0, (0.2 / items) ** 0.5))  # what these items give away, at a disagreement of 0.2
    by_seed = generator.normal(0, 0.02, size=seeds)
    gaps, fresh = luck + by_seed, by_seed + generator.normal(0, (0.2 / 50_000) ** 0.5)
    counts = np.arange(3, seeds + 1)
    means = np.array([gaps[:n].mean() for n in counts])
    margin = np.array([2 * gaps[:n].std(ddof=1) / n**0.5 for n in counts])
    return {
        "gap (points)": {
            "test texts": (counts, 100 * means),
            "lower end, by seeds": (counts, 100 * (means - margin)),
            "fresh texts": (counts, 100 * np.array([fresh[:n].mean() for n in counts])),
        }
    }


def _one_tuned(tried: int = 20, items: int = 50_000) -> dict[str, dict[str, Any]]:
    """Two methods, equally good at their best rates: A is tuned, B is one run at the rate that others recommend."""
    generator = np.random.default_rng(8)
    tuned = _tuned(generator, 10 ** generator.uniform(-5, -2, size=tried), best=2e-3, items=items)
    untuned = generator.binomial(items, _accuracy_at(2e-5, best=2e-4)) / items
    counts = list(range(1, tried + 1))
    return {"score (%)": {"A": (counts, 100 * tuned), "B": (counts, np.full(tried, 100 * untuned))}}


def _accuracy_at(rates: NDArray | float, best: float) -> NDArray | float:
    """True accuracy at learning rates: 0.76 at the best one, 5 points less a factor of 10 away, never below chance."""
    return np.maximum(0.5, 0.76 - 0.05 * np.log10(np.asarray(rates) / best) ** 2)


def _tuned(
    generator: np.random.Generator, rates: NDArray, best: float, held_out: int = 400, items: int = 50_000
) -> NDArray:
    """(R,) rates -> (R,): fresh texts' score of the rate that the held-out texts choose among the first 1 … R."""
    accuracies = _accuracy_at(rates, best)
    by_held_out = generator.binomial(held_out, accuracies)
    fresh = generator.binomial(items, accuracies) / items
    return fresh[[by_held_out[:n].argmax() for n in range(1, len(rates) + 1)]]

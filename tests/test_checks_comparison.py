"""The checkers of lesson 13: right answers in several styles, known-wrong ones refused by name, junk never raises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checker_cases import ValueCheckerTests, Wrong, assert_refused

from peft_helpers import checks, comparison, plots, question_bank, statistics
from peft_helpers.checks import comparison as lesson

RIGHT = {
    "check_pareto_front": [
        """
def answer(costs, scores):
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front, best = [], -math.inf
    for i in order:
        if scores[i] > best:
            front.append(i)
            best = scores[i]
    return front
""",
        """
def answer(costs, scores):
    def beaten(i):
        return any(
            (costs[j] < costs[i] and scores[j] >= scores[i]) or (costs[j] <= costs[i] and scores[j] > scores[i])
            or (costs[j] == costs[i] and scores[j] == scores[i] and j < i)
            for j in range(len(costs))
        )
    return sorted((i for i in range(len(costs)) if not beaten(i)), key=lambda i: costs[i])
""",
        """
def answer(costs, scores):
    order = np.lexsort((-np.array(scores), np.array(costs)))
    ranked = np.array(scores)[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked)[:-1]])
    return order[ranked > before]
""",
    ],
    "check_paired_differences": [
        """
def answer(right_a, right_b, draws):
    return (right_a - right_b)[draws].mean(1)
""",
        """
def answer(right_a, right_b, draws):
    a, b = right_a[draws].mean(axis=1), right_b[draws].mean(axis=1)
    return a - b
""",
        """
def answer(right_a, right_b, draws):
    return [sum(right_a[i] - right_b[i] for i in row) / len(row) for row in draws]
""",
    ],
    "check_honest_score": [
        """
def answer(held_out, test):
    return test[held_out.argmax()].mean()
""",
        """
def answer(held_out, test):
    means = test.mean(axis=1)
    chosen = max(range(len(held_out)), key=lambda i: held_out[i])
    return means[chosen]
""",
        """
def answer(held_out, test):
    row = test[np.argmax(held_out)]
    return float(sum(row) / len(row))
""",
    ],
    "check_choose": [
        """
def answer(costs, scores, real, budget):
    inside = [i for i in range(len(costs)) if costs[i] <= budget]
    best = max(inside, key=lambda i: scores[i])
    tied = [i for i in inside if not real[best][i]]
    return min(tied, key=lambda i: costs[i])
""",
        """
def answer(costs, scores, real, budget):
    fits = {i for i, cost in enumerate(costs) if not cost > budget}
    top = sorted(fits, key=lambda i: scores[i])[-1]
    for i in sorted(fits, key=lambda i: costs[i]):
        if not real[top][i]:
            return i
""",
        """
def answer(costs, scores, real, budget):
    costs, scores, real = map(np.array, (costs, scores, real))
    fits = costs <= budget
    top = np.where(fits, scores, -1).argmax()
    return np.where(fits & ~real[top], costs, np.inf).argmin()
""",
    ],
}
WRONG = {
    "check_pareto_front": [
        Wrong("best-only", 0, "return front", "return front[-1:]"),
        Wrong("low-scores", 0, "-math.inf\n    for i in order:\n        if scores[i] > best",
              "math.inf\n    for i in order:\n        if scores[i] < best"),
        Wrong("order-of-input", 1,
              "return sorted((i for i in range(len(costs)) if not beaten(i)), key=lambda i: costs[i])",
              "return [i for i in range(len(costs)) if not beaten(i)]"),
        Wrong("equal-but-dearer", 0, "> best", ">= best"),
        Wrong("same-cost-worse", 0, "(costs[i], -scores[i])", "(costs[i], scores[i])"),
        Wrong("best-ratio", 0, "return front", "return [max(order, key=lambda i: scores[i] / costs[i])]"),
        Wrong("values-returned", 0, "front.append(i)", "front.append(costs[i])"),
        Wrong("neighbors-only", 0, "            best = scores[i]", "        best = scores[i]"),
        Wrong("dominated-returned", 0, "return front", "return [i for i in order if i not in front]"),
        Wrong("nothing-left-out", 0, "return front", "return order"),
        Wrong("beaten-in-both", 1,
              "(costs[j] < costs[i] and scores[j] >= scores[i]) or (costs[j] <= costs[i] and scores[j] > scores[i])\n"
              "            or (costs[j] == costs[i] and scores[j] == scores[i] and j < i)",
              "costs[j] < costs[i] and scores[j] > scores[i]"),
    ],
    "check_paired_differences": [
        Wrong("unpaired", 1, "right_b[draws]", "right_b[np.roll(draws, 1, axis=0)]"),
        Wrong("not-resampled", 0, "(right_a - right_b)[draws].mean(1)",
              "np.full(len(draws), (right_a - right_b).mean())"),
        Wrong("absolute", 0, "(right_a - right_b)", "abs(right_a - right_b)"),
        Wrong("wrong-sign", 1, "a - b", "b - a"),
        Wrong("not-divided", 0, "mean(1)", "sum(1)"),
        Wrong("over-draws", 0, "mean(1)", "mean(0)"),
        Wrong("only-disagreements", 2, "len(row)", "max(1, sum(abs(right_a[i] - right_b[i]) for i in row))"),
        Wrong("first-draw-only", 2, "for i in row)", "for i in draws[0])"),
    ],
    "check_honest_score": [
        Wrong("tuned-on-test", 0, "held_out.argmax()", "test.mean(1).argmax()"),
        Wrong("tuned-on-test-best-seed", 0, "test[held_out.argmax()].mean()", "test.max()"),
        Wrong("best-of-seeds", 0, ".mean()", ".max()"),
        Wrong("reports-held-out", 1, "means[chosen]", "held_out[chosen]"),
        Wrong("everything-averaged", 0, "test[held_out.argmax()]", "test"),
        Wrong("last-rate", 0, "held_out.argmax()", "-1"),
        Wrong("one-seed", 0, ".mean()", "[0]"),
        Wrong("median-of-seeds", 0, "test[held_out.argmax()].mean()", "np.median(test[held_out.argmax()])"),
        Wrong("lowest-held-out", 2, "argmax", "argmin"),
    ],
    "check_choose": [
        Wrong("higher-mean-wins", 0, "return min(tied, key=lambda i: costs[i])", "return best"),
        Wrong("budget-ignored", 0, " if costs[i] <= budget", ""),
        Wrong("cheapest-of-all", 0, "if not real[best][i]", ""),
        Wrong("best-beyond-budget", 0, "max(inside,", "max(range(len(costs)),"),
        Wrong("dearest-of-the-tied", 0, "min(tied", "max(tied"),
        Wrong("budget-excluded", 0, "<= budget", "< budget"),
        Wrong("value-returned", 0, "return min(tied, key=lambda i: costs[i])", "return min(costs[i] for i in tied)"),
        Wrong("only-what-is-behind", 0, "if not real[best][i]]", "if real[best][i]] or [best]"),
    ],
}  # fmt: skip
SOUND = {letter: right for letter, (right, _, _) in lesson.CLAIMS.items()}
N2, N1 = (statistics.items_needed(delta, lesson.DISAGREEMENT) for delta in (0.02, 0.01))


class TestComparison(ValueCheckerTests):
    modules = (lesson,)
    right, wrong = RIGHT, WRONG
    exercises = {
        "check_pareto_front": lesson.PARETO,
        "check_paired_differences": lesson.PAIRED,
        "check_honest_score": lesson.HONEST,
        "check_choose": lesson.CHOICE,
    }
    values = {
        "check_items_needed": (
            [(N2, N1), [2353.0, 9420.0], {"2 points": N2, "1 point": N1}, np.array([N2, N1])],
            [
                ("unpaired", (lesson._unpaired(0.02), N1)),
                ("unpaired", (N2, lesson._unpaired(0.01))),
                ("one-sided", (lesson._items(0.02, 0.12, 1.645), N1)),
                ("power-forgotten", (lesson._items(0.02, 0.12, 1.96, 0.0), N1)),
                ("percent-for-share", (N2 / 1e4, N1)),
                ("not-squared", (math.sqrt(N2), N1)),
                ("difference-forgotten", (N2 * 0.02**2, N1)),
                ("linear-in-the-difference", (N2, 2 * N2)),
                ("same-for-half", (N2, N2)),
                ("wrong-value", (N2, 123)),
                ("not-numbers", (N2,)),
            ],
        ),
        "check_which_are_real": (
            [SOUND, {letter: word.upper() for letter, word in SOUND.items()}],
            [
                ("overlap-is-no-test", SOUND | {"A": "nothing"}),
                ("best-of-seeds", SOUND | {"B": "nothing"}),
                ("best-of-seeds", SOUND | {"B": "tuned on test"}),
                ("tuned-on-test", SOUND | {"C": "best of seeds"}),
                ("seeds-are-not-items", SOUND | {"D": "nothing"}),
                ("one-rate-for-all", SOUND | {"E": "nothing"}),
                ("sound-claim-doubted", SOUND | {"F": "overlapping bars"}),
                ("absence-of-evidence", SOUND | {"G": "nothing"}),
                ("not-a-word", SOUND | {"A": "luck"}),
                ("not-a-word", SOUND | {"A": 3}),
                ("not-a-dictionary", {"A": "nothing"}),
            ],
        ),
    }
    valued = {"check_items_needed": lesson.NEEDED}
    half_answered = {"check_which_are_real": [dict.fromkeys(SOUND), SOUND | {"G": None}, SOUND | {"G": ...}]}
    silent_junk = frozenset({("a dictionary", "check_items_needed")})
    unlisted = frozenset({"not-a-word", "not-a-dictionary"})


def test_every_claim_has_a_wrong_answer_that_names_it() -> None:
    for letter, (right, slug, _) in lesson.CLAIMS.items():
        for word in lesson.FLAWS:
            if word != right:
                assert_refused("check_which_are_real", SOUND | {letter: word}, slug)
    assert {right for right, _, _ in lesson.CLAIMS.values()} == set(lesson.FLAWS)


def test_the_right_answers_are_the_librarys() -> None:
    assert lesson.pareto_front(lesson.COSTS, lesson.SCORES) == comparison.pareto_front(lesson.COSTS, lesson.SCORES)
    rng = np.random.default_rng(3)
    for _ in range(200):
        costs, scores = rng.integers(1, 6, 7).tolist(), rng.integers(1, 6, 7).tolist()
        assert lesson.pareto_front(costs, scores) == comparison.pareto_front(costs, scores)
    assert lesson._items(0.02, 0.12) == pytest.approx(statistics.items_needed(0.02, 0.12), rel=2e-3)


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    runs = checks.comparison.runs_to_diagnose()
    assert list(runs) == ["13-a", "13-b", "13-c"]
    assert all(question_bank.find(name).kind == "diagnose" for name in runs)
    best, fresh = (line[1] / 100 for line in runs["13-a"]["score (%)"].values())
    assert best[-1] > 0.785 and abs(np.mean(fresh) - 0.75) < 0.025 and (np.diff(best) >= 0).all()
    gap = runs["13-b"]["gap (points)"]
    lower, truth = (gap[name][1] for name in ("lower end, by seeds", "fresh texts"))
    assert lower[-1] > 0.5 and abs(truth[-1]) < 0.5, "more seeds make chance look certain"
    a, b = (line[1] for line in runs["13-c"]["score (%)"].values())
    assert a[0] < b[0] and len(set(b)) == 1, "the tuned one begins behind; the other one is a single run"
    margin = 1.96 * 100 * sum(share * (1 - share) / 50_000 for share in (a[-1] / 100, b[-1] / 100)) ** 0.5
    assert 3.5 < a[-1] - b[-1] < 4.5 and 0.4 < margin < 0.6, "four points, and chance is about half a point"
    assert plots.broken_runs(runs, "how many").alt


def test_tuned_alike_both_methods_of_13_c_do_as_well() -> None:
    a, b = lesson._accuracy_at(2e-3, best=2e-3), lesson._accuracy_at(2e-4, best=2e-4)
    assert a == b == 0.76 and lesson._accuracy_at(2e-5, best=2e-4) == pytest.approx(0.71)
    gaps = []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        rates = 10 ** generator.uniform(-5, -2, size=20)
        gaps.append(np.subtract(*(lesson._tuned(generator, rates, best)[-1] for best in (2e-3, 2e-4))))
    assert abs(np.mean(gaps)) < 0.002 and np.std(gaps) < 0.02, "a fifth of a point at most, against four"


def test_the_rate_of_13_c_is_chosen_on_other_texts_than_those_that_judge() -> None:
    scores = lesson._tuned(np.random.default_rng(0), np.array([1e-5, 2e-3, 1e-5, 1e-5]), best=2e-3)
    assert scores[0] < 0.55 and scores[1] > 0.75 and (scores[1:] == scores[1]).all(), "the best one found stays"
    equal = np.full(20, 2e-3)  # twenty times the same: chosen by 400 fresh texts, the score would be 4 points too high
    ends = [lesson._tuned(np.random.default_rng(seed), equal, best=2e-3, items=400)[-1] for seed in range(400)]
    assert abs(np.mean(ends) - 0.76) < 0.004

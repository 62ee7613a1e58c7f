"""The checkers of lesson 14: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checker_cases import (
    JUNK,
    Wrong,
    assert_accepted,
    assert_edit_refused,
    assert_refused,
    assert_unanswered,
    judge,
    written,
)
from torch.nn import functional as F

from peft_helpers import checks, distillation, interpret, plots, question_bank, rounding
from peft_helpers.checks import challenges, framework

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

RIGHT["check_distillation_loss"] = [
    """
def answer(student_logits, teacher_logits, temperature):
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
""",
    """
def answer(student_logits, teacher_logits, temperature):
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    p = F.softmax(teacher_logits / temperature, dim=-1)
    return F.kl_div(log_q, p, reduction="batchmean") * temperature**2
""",
    """
def answer(student_logits, teacher_logits, temperature):
    total = 0.0
    for s, t in zip(student_logits, teacher_logits):
        p, q = torch.softmax(t / temperature, 0), torch.softmax(s / temperature, 0)
        total += sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist()))
    return temperature * temperature * total / len(student_logits)
""",
]
WRONG["check_distillation_loss"] = [
    Wrong("t-squared-forgotten", 0, "temperature**2 * (", "("),
    Wrong("t-squared-forgotten", 1, " * temperature**2", ""),
    Wrong("t-once", 0, "temperature**2", "temperature"),
    Wrong("teacher-softmax-missing", 1, "F.softmax(teacher_logits / temperature, dim=-1)", "teacher_logits"),
    Wrong("teacher-softmax-missing", 1, "F.softmax(teacher_logits / temperature, dim=-1)",
          "teacher_logits / temperature"),
    Wrong("teacher-softmax-missing", 0, "(log_p.exp() * (log_p - log_q))", "(-teacher_logits * log_q)"),
    Wrong("teacher-log", 1, "F.softmax(teacher", "F.log_softmax(teacher"),
    Wrong("student-log-missing", 1, "F.log_softmax(student", "F.softmax(student"),
    Wrong("kl-reversed", 0, "log_p.exp() * (log_p - log_q)", "log_q.exp() * (log_q - log_p)"),
    Wrong("teacher-not-softened", 1, "teacher_logits / temperature", "teacher_logits"),
    Wrong("student-not-softened", 1, "student_logits / temperature", "student_logits"),
    Wrong("temperature-multiplied", 0, "_logits / temperature", "_logits * temperature"),
    Wrong("cross-entropy", 0, "log_p.exp() * (log_p - log_q)", "-log_p.exp() * log_q"),
    Wrong("hard-labels", 1, 'F.kl_div(log_q, p, reduction="batchmean") * temperature**2',
          "F.cross_entropy(student_logits, teacher_logits.argmax(-1))"),
    Wrong("logits-mse", 1, 'F.kl_div(log_q, p, reduction="batchmean") * temperature**2',
          "F.mse_loss(student_logits, teacher_logits)"),
    Wrong("summed", 1, '"batchmean"', '"sum"'),
    Wrong("mean-over-classes", 1, '"batchmean"', '"mean"'),
    Wrong("mean-over-classes", 0, ".sum(-1).mean()", ".mean()"),
    Wrong("wrong-axis", 0, "dim=-1", "dim=0"),
]  # fmt: skip

RIGHT["check_round_rows"] = [
    """
def answer(weight, bits):
    scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (weight / scale).round() * scale
""",
    """
def answer(weight, bits):
    levels = 2 ** (bits - 1) - 1
    scales = torch.stack([row.abs().max() / levels for row in weight])
    codes = torch.clamp(torch.round(weight / scales[:, None]), -levels, levels)
    return codes * scales[:, None]
""",
    """
def answer(weight, bits):
    levels = 2 ** (bits - 1) - 1
    scale = weight.abs().max(dim=1).values / levels
    zero = torch.zeros(len(weight), dtype=torch.int32)
    return torch.stack([(row / s).round() * s for row, s in zip(weight, scale)]) + 0 * zero[:, None]
""",
]
WRONG["check_round_rows"] = [
    Wrong("one-scale", 0, ".amax(dim=1, keepdim=True)", ".max()"),
    Wrong("scale-by-column", 0, "dim=1", "dim=0"),
    Wrong("levels-doubled", 0, "2 ** (bits - 1) - 1", "2**bits - 1"),
    Wrong("one-level-too-many", 0, "2 ** (bits - 1) - 1", "2 ** (bits - 1)"),
    Wrong("sign-forgotten", 0, ".abs()", ""),
    Wrong("cut-off", 0, ".round()", ".floor()"),
    Wrong("cut-off", 0, ".round()", ".trunc()"),
    Wrong("codes-returned", 0, ".round() * scale", ".round()"),
    Wrong("bits-ignored", 0, "(2 ** (bits - 1) - 1)", "127"),
    Wrong("zero-moves", 0, """scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (weight / scale).round() * scale""", """low = weight.amin(1, keepdim=True)
    scale = (weight.amax(1, keepdim=True) - low) / (2**bits - 1)
    return ((weight - low) / scale).round() * scale + low"""),
]  # fmt: skip

RIGHT["check_stacked"] = [
    "def answer(h, domain, task):\n    return task(domain(h))\n",
    "def answer(h, domain, task):\n    inner = domain(h)\n    return task(inner)\n",
    "def answer(h, domain, task):\n    for one in (domain, task):\n        h = one(h)\n    return h\n",
]
WRONG["check_stacked"] = [
    Wrong("order-swapped", 2, "(domain, task):\n        h", "(task, domain):\n        h"),
    Wrong("parallel", 0, "task(domain(h))", "domain(h) + task(h) - h"),
    Wrong("averaged", 0, "task(domain(h))", "(domain(h) + task(h)) / 2"),
    Wrong("bypass-twice", 0, "task(", "h + task("),
    Wrong("bypass-twice", 1, "return task(inner)", "return inner + task(inner)"),
    Wrong("bypass-twice", 0, "task(domain(h))", "domain(h) + task(h)"),
    Wrong("domain-forgotten", 1, "task(inner)", "task(h)"),
    Wrong("task-forgotten", 1, "return task(inner)", "return inner"),
    Wrong("task-twice", 2, "in (domain, task)", "in (task, task)"),
    Wrong("task-twice", 2, "in (domain, task)", "in (domain, domain)"),
]

RIGHT["check_integrated_gradients"] = [
    """
def answer(gradient, x, baseline, steps):
    total = torch.zeros_like(x)
    for k in range(steps):
        alpha = (k + 0.5) / steps
        total = total + gradient(baseline + alpha * (x - baseline))
    return (x - baseline) * total / steps
""",
    """
def answer(gradient, x, baseline, steps):
    alpha = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps)[:, None]
    return (x - baseline) * gradient(baseline + alpha * (x - baseline)).mean(dim=0)
""",
    """
def answer(gradient, x, baseline, steps):
    ends = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    middles = (ends[1:] + ends[:-1]) / 2
    found = [gradient((1 - a) * baseline + a * x) for a in middles]
    return torch.stack(found).mean(0) * (x - baseline)
""",
]
WRONG["check_integrated_gradients"] = [
    Wrong("factor-forgotten", 0, "(x - baseline) * total", "total"),
    Wrong("factor-forgotten", 2, " * (x - baseline)", ""),
    Wrong("factor-x", 0, "(x - baseline) * total", "x * total"),
    Wrong("factor-reversed", 0, "(x - baseline) * total", "(baseline - x) * total"),
    Wrong("baseline-ignored", 0, "baseline + alpha * (x - baseline)", "alpha * x"),
    Wrong("baseline-ignored", 1, "(x - baseline) * gradient(baseline + alpha * (x - baseline))",
          "x * gradient(alpha * x)"),
    Wrong("path-overshoots", 0, "alpha * (x - baseline)", "alpha * x"),
    Wrong("gradient-at-input", 0, "alpha = (k + 0.5) / steps", "alpha = 1.0"),
    Wrong("gradient-at-baseline", 0, "alpha = (k + 0.5) / steps", "alpha = 0.0"),
    Wrong("end-points-only", 2, "in middles", "in (0.0, 1.0)"),
    Wrong("summed", 0, "total / steps", "total"),
    Wrong("summed", 1, ".mean(dim=0)", ".sum(dim=0)"),
    Wrong("left-ends", 0, "k + 0.5", "k"),
    Wrong("right-ends", 0, "k + 0.5", "k + 1"),
    Wrong("both-ends", 2, "in middles", "in ends"),
    Wrong("both-ends", 2, "in middles", "in torch.linspace(0, 1, steps, dtype=torch.float64)"),
    Wrong("absolute", 0, "gradient(baseline + alpha * (x - baseline))",
          "gradient(baseline + alpha * (x - baseline)).abs()"),
    Wrong("added-up", 0, "(x - baseline) * total / steps", "((x - baseline) * total / steps).sum()"),
]  # fmt: skip

RIGHT["check_deletion_effects"] = [
    """
def answer(score, words):
    whole = score(words)
    return [whole - score(words[:i] + words[i + 1:]) for i in range(len(words))]
""",
    """
def answer(score, words):
    effects = []
    for i in range(len(words)):
        left = list(words)
        del left[i]
        effects.append(score(words) - score(left))
    return effects
""",
    """
def answer(score, words):
    whole = score(words)
    return torch.tensor([whole - score([w for j, w in enumerate(words) if j != i]) for i in range(len(words))],
                        dtype=torch.float64)
""",
]
WRONG["check_deletion_effects"] = [
    Wrong("sign-reversed", 1, "score(words) - score(left)", "score(left) - score(words)"),
    Wrong("first-occurrence", 1, "del left[i]", "left.remove(words[i])"),
    Wrong("all-occurrences", 2, "if j != i", "if w != words[i]"),
    Wrong("word-alone", 2, "if j != i", "if j == i"),
    Wrong("replaced", 1, "del left[i]", 'left[i] = "[MASK]"'),
    Wrong("replaced", 1, "del left[i]", 'left[i] = ""'),
    Wrong("cumulative", 0, "words[:i] + words[i + 1:]", "words[i + 1:]"),
    Wrong("relative", 0, "whole - score(words[:i] + words[i + 1:])", "1 - score(words[:i] + words[i + 1:]) / whole"),
    Wrong("relative", 2, "whole - score([w for j, w in enumerate(words) if j != i])",
          "(whole - score([w for j, w in enumerate(words) if j != i])) / whole"),
    Wrong("difference-forgotten", 0, "whole - score", "score"),
]  # fmt: skip

W, A, T = challenges.FROZEN, challenges.ADAPTERS, challenges.ACTIVATIONS
BIG, SMALL = challenges.WHOLE, challenges.SMALL
FOUR_BITS: list[tuple[str, Any]] = [
    ("everything-quartered", (BIG, BIG / 4, 0.25)),
    ("everything-quartered", (22.3, 12.26, 0.25)),
    ("scales-forgotten", (BIG, W / 2 + A + T, 0.53)),
    ("activations-forgotten", (2 * W + A, SMALL, SMALL / BIG)),
    ("adam-forgotten", (2 * W + 0.08 + T, SMALL, SMALL / BIG)),
    ("weights-alone", (14, SMALL, SMALL / BIG)),
    ("bits-for-bytes", (16 * W + A + T, SMALL, SMALL / BIG)),
    ("adapters-rounded", (BIG, 4.5 / 8 * W + A / 4 + T, 0.5)),
    ("ratio-of-weights", (BIG, SMALL, 4.5 / 16)),
    ("ratio-upside-down", (BIG, SMALL, BIG / SMALL)),
    ("wrong-value", (BIG, SMALL, 0.4)),
    ("not-numbers", (BIG, SMALL)),
]

CHECKERS = [*RIGHT, "check_four_bits"]
EXERCISES = {
    "check_distillation_loss": challenges.SOFT,
    "check_round_rows": challenges.ROUNDED,
    "check_stacked": challenges.STACKED,
    "check_integrated_gradients": challenges.INTEGRATED,
    "check_deletion_effects": challenges.DELETED,
}


@pytest.mark.parametrize(("checker", "source"), [(c, s) for c, styles in RIGHT.items() for s in styles])
def test_right_answers_pass_in_any_style(checker: str, source: str) -> None:
    assert_accepted(checker, written(source))


@pytest.mark.parametrize(
    ("checker", "wrong"), [(c, w) for c, table in WRONG.items() for w in table], ids=lambda part: str(part)[:60]
)
def test_wrong_answers_are_refused_by_name(checker: str, wrong: Wrong) -> None:
    assert_edit_refused(checker, RIGHT[checker], wrong)


def test_four_bits() -> None:
    assert (round(BIG, 2), round(SMALL, 2)) == (22.32, 12.26)
    for answer in ((22.32, 12.26, 0.549), [BIG, SMALL, SMALL / BIG], torch.tensor([BIG, SMALL, SMALL / BIG]),
                   {"16 bits": BIG, "4 bits": SMALL, "ratio": SMALL / BIG}):  # fmt: skip
        assert_accepted("check_four_bits", answer)
    for slug, answer in FOUR_BITS:
        assert_refused("check_four_bits", answer, slug)


@pytest.mark.parametrize("checker", CHECKERS)
def test_stubs_are_not_answered(checker: str) -> None:
    assert_unanswered(checker, None)
    if checker in RIGHT:
        assert_unanswered(checker, lambda *arguments: None)


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_refused_and_never_raises(checker: str, junk: str) -> None:
    assert judge(checker, JUNK[junk]).passed is not True


def test_what_the_lesson_builds_passes() -> None:
    assert_accepted("check_distillation_loss", distillation.distillation_loss)
    assert_accepted("check_round_rows", rounding.round_rows)

    def ours(gradient, x, baseline, steps):  # a score whose gradient is the given field: its value does not matter
        class Field(torch.autograd.Function):
            @staticmethod
            def forward(ctx, points):
                ctx.save_for_backward(points)
                return points.sum(-1)

            @staticmethod
            def backward(ctx, grad):
                return grad[:, None] * gradient(ctx.saved_tensors[0])

        return interpret.integrated_gradients(Field.apply, x, baseline, steps)

    # float32 midpoints of the library's path: equal for the steps of the probes that are powers of two
    assert torch.allclose(
        ours(challenges.bent, challenges.X, challenges.START, 4),
        challenges.integrated(challenges.bent, challenges.X, challenges.START, 4),
    )
    words = ["too", "late", "too"]
    assert interpret.deletion_effects(challenges.made_up_score, words) == challenges.deleted(
        challenges.made_up_score, words
    )


@pytest.mark.parametrize("checker", EXERCISES)
def test_every_variant_is_named_as_itself(checker: str) -> None:
    for mistake in EXERCISES[checker].mistakes:
        assert judge(checker, mistake.variant).mistake == mistake.slug


def test_every_mistake_has_a_known_wrong_answer_and_stands_in_the_list() -> None:
    found = [e for e in vars(challenges).values() if isinstance(e, framework.FunctionExercise)]
    assert len(found) == len(EXERCISES) and all(e in found for e in EXERCISES.values())
    text = challenges.__doc__ or ""
    for checker, exercise in EXERCISES.items():
        assert {m.slug for m in exercise.mistakes} <= {w.slug for w in WRONG[checker]}, checker
        assert all(m.slug in text for m in exercise.mistakes) and len(RIGHT[checker]) >= 3
    numbers = {m.slug for part in challenges.FOUR_BITS.parts.values() for m in part.mistakes}
    assert numbers <= {slug for slug, _ in FOUR_BITS} and all(slug in text for slug in numbers)
    assert all(f"`{checker}`" in text and checker in checks.__all__ for checker in CHECKERS)


def test_only_the_factor_and_the_temperature_matter_for_the_gradient() -> None:
    """What two messages claim: soft cross-entropy has the same gradient; without T² it is about T² smaller."""
    student = challenges.STUDENT.clone().requires_grad_(True)

    def gradient(loss) -> torch.Tensor:
        return torch.autograd.grad(loss, student)[0]

    right = gradient(challenges.soft_loss(student, challenges.TEACHER, 3.0))
    cross = gradient(challenges.soft_loss(student, challenges.TEACHER, 3.0, divergence=lambda p, q: -p.exp() * q))
    assert torch.allclose(right, cross)
    bare = [gradient(challenges.soft_loss(student, challenges.TEACHER, t, power=0)).norm() for t in (20.0, 40.0)]
    assert bare[0] / bare[1] == pytest.approx(4, rel=0.1)
    assert gradient(F.cross_entropy(student, challenges.TEACHER.argmax(-1))).norm() > 0


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = challenges.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["14-a", "14-b", "14-c"] and set(runs) <= set(question_bank.of_lesson("14"))
    warm, hot = runs["14-a"]["agrees with teacher"].values()
    assert warm[-1] > 0.95 and hot[-1] < warm[-1] - 0.1 and hot[0] == warm[0]
    (gaps,) = (values for _, values in runs["14-b"]["completeness gap"].values())
    assert min(gaps[3:]) > 0.1 and abs(gaps[-1] - gaps[-2]) < 0.01 * gaps[-1]
    source, target = runs["14-c"]["accuracy"].values()
    assert source[-1] > 0.9 and target[-1] < source[-1] - 0.2 and source[0] == target[0]
    assert plots.broken_runs(runs).alt

"""Schedules equal torch's and transformers', early stopping equals `fit`'s, and the range test reads as it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from peft_helpers import rate_range, schedules, training
from peft_helpers.training import Settings


def library_rates(make, steps: int) -> list[float]:
    """The rates of a scheduler on an optimizer with the rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


RUNS = [(10, 0), (57, 14), (100, 10), (200, 1)]
TRANSFORMERS = {
    "constant": lambda o, w, n: get_constant_schedule_with_warmup(o, w),
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
}


@pytest.mark.parametrize(("steps", "warmup"), RUNS)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_schedules_equal_transformers(name, steps, warmup):
    theirs = library_rates(lambda optimizer: TRANSFORMERS[name](optimizer, warmup, steps), steps)
    ours = [schedules.schedule(name, step, steps, warmup) for step in range(steps)]
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("steps", [9, 10, 57, 200])
def test_schedules_equal_torch(steps):
    lr = torch.optim.lr_scheduler
    makers = {
        "step": lambda o: lr.StepLR(o, math.ceil(steps / 3), gamma=0.1),
        "exponential": lambda o: lr.ExponentialLR(o, 0.01 ** (1 / steps)),
        "cosine": lambda o: lr.CosineAnnealingLR(o, steps),
        "linear": lambda o: lr.LinearLR(o, 1.0, 0.0, steps),
        "constant": lambda o: lr.ConstantLR(o, 1.0),
    }
    assert set(makers) == set(schedules.DECAYS)
    for name, make in makers.items():
        ours = [schedules.schedule(name, step, steps) for step in range(steps)]
        assert ours == pytest.approx(library_rates(make, steps), abs=1e-12), name


@given(st.sampled_from(list(schedules.DECAYS)), st.integers(1, 300), st.data())
def test_a_share_lies_between_0_and_1_and_never_rises_after_the_warmup(name, steps, data):
    warmup = data.draw(st.integers(0, steps))
    shares = [schedules.schedule(name, step, steps, warmup) for step in range(steps + 5)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(a >= b - 1e-15 for a, b in zip(shares[warmup:], shares[warmup + 1 :], strict=False))
    assert warmup == steps or shares[warmup] == 1.0


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        (("cosin", 0, 10), "one of constant, linear, cosine, step, exponential; got 'cosin'"),
        ((["linear"], 0, 10), "schedule must be one of"),
        (("linear", 0, 0), "at least 1 step; got steps = 0"),
        (("linear", -1, 10), "counted from 0; got now = -1"),
        (("linear", 0, 10, 11), "0 to 10 steps; got 11"),
        (("linear", 0, 10, -1), "got -1"),
    ],
)
def test_bad_runs_are_refused(given_, says):
    with pytest.raises(ValueError, match=says):
        schedules.schedule(*given_)


# ---------------------------------------------------------------- in fit


def test_settings_take_a_schedule_by_name():
    assert Settings(1e-3).schedule == "linear"
    with pytest.raises(ValueError, match="schedule must be one of"):
        Settings(1e-3, schedule="cyclic")


@pytest.mark.parametrize("name", schedules.DECAYS)
def test_fit_follows_the_schedule(name):
    chosen = Settings(2e-3, epochs=2, batch_size=8, warmup=0.2, schedule=name, progress=False, precision="fp32")
    run = training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), chosen)
    rates = [row["learning_rate"] for row in run.rows("train")]
    assert rates[:2] == pytest.approx([1e-3, 2e-3])  # one step up the ramp
    assert rates[2:] == pytest.approx([2e-3 * schedules.schedule(name, step, 10, 2) for step in range(2, 10)])


def test_the_ramp_fills_a_run_that_is_all_warmup():
    assert [training.rate_factor(step, 3, 0.9) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])


# ---------------------------------------------------------------- early stopping


@pytest.mark.parametrize(
    ("scores", "patience", "expected"),
    [
        ([0.5, 0.6, 0.7], 1, (2, 2)),
        ([0.5, 0.6, 0.55, 0.54, 0.9], 2, (3, 1)),
        ([0.5, 0.6, 0.55, 0.54, 0.9], 3, (4, 4)),
        ([0.5, 0.5, 0.5, 0.5], 2, (2, 0)),
        ([0.9, 0.8, 0.7], 5, (2, 0)),
        ([0.5], 1, (0, 0)),
        ([-math.inf, 0.2, 0.1], 1, (2, 1)),
    ],
)
def test_stopping_points(scores, patience, expected):
    assert schedules.stopping_point(scores, patience) == expected


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_fit_stops_where_the_rule_says(patience):
    common = {"epochs": 12, "batch_size": 8, "progress": False, "precision": "fp32", "schedule": "constant"}
    whole = training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), Settings(1e-2, **common))
    scores = [row["accuracy"] for row in whole.rows("dev")]
    stopped, kept = schedules.stopping_point(scores, patience)
    run = training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), Settings(1e-2, patience=patience, **common))
    assert [row["accuracy"] for row in run.rows("dev")] == scores[: stopped + 1]
    assert run.best["step"] == run.rows("dev")[kept]["step"]


@pytest.mark.parametrize(
    ("scores", "patience", "says"),
    [
        ([], 1, "at least one number"),
        ([[0.1]], 1, r"got shape \(1, 1\)"),
        ([0.1, math.nan], 1, "NaN"),
        ([0.1], 0, "patience is a number of evaluations, 1 or more; got 0"),
    ],
)
def test_scores_that_cannot_be_stopped(scores, patience, says):
    with pytest.raises(ValueError, match=says):
        schedules.stopping_point(scores, patience)


# ---------------------------------------------------------------- the range test


def test_range_test_is_adamw_on_the_batches_of_fit():
    task, rates = tiny.task(), np.geomspace(1e-5, 1e-1, 12)
    model = tiny.model()
    losses = rate_range.range_test(model, tiny.tokenizer(), task, rates, batch_size=8)
    assert losses == rate_range.range_test(tiny.model(), tiny.tokenizer(), task, rates, batch_size=8)

    twin = tiny.model().train()
    data = training.encode(task, "train", tiny.tokenizer(), 32)
    optimizer = torch.optim.AdamW(twin.parameters(), weight_decay=0.0)
    torch.manual_seed(0)
    plan = training.batches(data.lengths, 8, 0, 0)
    for expected, rate in zip(losses[:5], rates, strict=False):
        batch = training.collate(data, plan.pop(), 0)
        labels = batch.pop("labels")
        loss = torch.nn.functional.cross_entropy(twin(**batch).logits, labels)
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()


def test_range_test_ends_when_the_loss_explodes_or_is_no_number():
    rates = np.geomspace(1e-2, 1e4, 30)
    losses = rate_range.range_test(tiny.model(), tiny.tokenizer(), tiny.task(), rates, batch_size=8)
    assert len(losses) < 30 and not losses[-1] < 4 * losses[0]


def test_smoothed_is_adams_corrected_mean():
    assert rate_range.smoothed([3.0] * 5) == pytest.approx([3.0] * 5)
    losses = [1.0, 0.5, 2.0]
    m = 0.1 * (0.9**2 * 1.0 + 0.9 * 0.5 + 2.0)
    assert rate_range.smoothed(losses)[-1] == pytest.approx(m / (1 - 0.9**3), rel=1e-12)


def test_steepest_looks_at_the_way_down_only():
    rates = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert rate_range.steepest(rates, [0.7, 0.6, 0.2, 3.0, 0.5]) == 1e-3
    assert rate_range.steepest(rates, [0.7, 0.3, 0.2, 0.1, 0.09]) == 1e-4


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rate_range.steepest([1, 2], [1, 2, 3]), "got 2 rates and 3 losses"),
        (lambda: rate_range.steepest([1], [1]), "at least two"),
        (lambda: rate_range.steepest([1, 2], [1, math.nan]), "NaN or infinite"),
        (lambda: rate_range.steepest([1, 2], [1, 2]), "never falls below its first value"),
        (lambda: rate_range.range_test(None, None, None, [1e-3]), "at least two rates; got 1"),
        (lambda: rate_range.range_test(None, None, None, [1e-3, 1e-4]), "positive and rise"),
        (lambda: rate_range.range_test(None, None, None, [0.0, 1e-4]), "positive and rise"),
    ],
)
def test_bad_range_tests_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()

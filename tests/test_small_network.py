"""The small network, its penalty and made-up runs; augmentation; the recorded sweep; the figures of lesson 06."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from peft_helpers import augmentation, fitting_runs, plots, records, schedule_sweep, schedules, small_network, training

# ---------------------------------------------------------------- the network


def made_splits(count: int = 40) -> dict:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (count + 60,), generator=generator)
    x = torch.randn(count + 60, 8, generator=generator, dtype=torch.float64) + y[:, None]
    return {"train": (x[:count], y[:count]), "dev": (x[count:], y[count:])}


def test_learn_is_repeatable_leaves_the_generator_and_learns():
    before = torch.get_rng_state()
    first, again = (small_network.learn(made_splits(), steps=60, seed=3) for _ in range(2))
    assert first == again and torch.equal(before, torch.get_rng_state())
    assert [row["step"] for row in first] == list(range(0, 61, small_network.LOOK))
    assert first[-1]["train loss"] < 0.5 * first[0]["train loss"]
    assert first[-1]["dev accuracy"] > 0.7
    assert first != small_network.learn(made_splits(), steps=60, seed=4)


def test_learn_equals_a_plain_loop():
    splits = made_splits()
    rows = small_network.learn(splits, width=5, steps=20, rate=1e-2, l1=0.02, l2=0.1, seed=7)
    torch.manual_seed(7)
    model = small_network.network(8, 5, 2).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = splits["train"]
    for _ in range(20):
        weights = [model[0].weight, model[3].weight]
        loss = F.cross_entropy(model(x), y)
        loss = loss + sum(0.02 * w.abs().sum() + 0.05 * (w**2).sum() for w in weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert rows[-1]["train loss"] == pytest.approx(F.cross_entropy(model(x), y).item(), abs=1e-12)


def test_l1_ends_with_zeros_and_l2_does_not():
    def near_zero(**penalty: float) -> int:
        torch.manual_seed(0)
        weights = torch.randn(200, dtype=torch.float64, requires_grad=True)
        for _ in range(900):
            l1, l2 = penalty.get("l1", 0.0), penalty.get("l2", 0.0)
            loss = ((weights - 0.05) ** 2).sum() / 2 + l1 * weights.abs().sum() + l2 / 2 * (weights**2).sum()
            (gradient,) = torch.autograd.grad(loss, weights)
            weights = (weights - 0.01 * gradient).detach().requires_grad_()
        return int((weights.abs() < 0.005).sum())

    assert near_zero(l1=0.3) == 200 and near_zero(l2=0.3) == 0


def test_penalty_spares_biases():
    layer = torch.nn.Linear(3, 2).double()
    expected = 0.2 * layer.weight.abs().sum() + 0.15 * (layer.weight**2).sum()
    assert small_network.penalty(layer, 0.2, 0.3).item() == pytest.approx(expected.item(), rel=1e-12)


def test_width_0_is_a_linear_model():
    model = small_network.network(8, 0, 3)
    assert [tuple(p.shape) for p in model.parameters()] == [(3, 8), (3,)]


@pytest.mark.parametrize(
    ("given", "says"),
    [((0, 4, 2), "inputs"), ((8, -1, 2), "width must be a whole number from 0"), ((8, 4, 0), "classes"),
     ((8, 2.5, 2), "width"), ((8, 4, 2, 1.0), "dropout")],
)  # fmt: skip
def test_sizes_that_are_no_network(given, says):
    with pytest.raises(ValueError, match=says):
        small_network.network(*given)


def test_standardized_looks_at_train_alone():
    generator = np.random.default_rng(0)
    raw = {name: (generator.normal(3, 2, (20, 4)), np.arange(20) % 2) for name in ("train", "dev")}
    raw["train"][0][:, 3] = 7.0  # a constant column
    made = small_network.standardized(raw)
    train = made["train"][0]
    assert train.mean(0).abs().max() < 1e-6 and (train.std(0, unbiased=False)[:3] - 1).abs().max() < 1e-5
    assert (train[:, 3] == 0).all()
    expected = (raw["dev"][0] - raw["train"][0].mean(0))[:, :3] / raw["train"][0].std(0)[:3]
    assert made["dev"][0][:, :3].numpy() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="no train split"):
        small_network.standardized({"dev": raw["dev"]})
    with pytest.raises(ValueError, match="at least two rows"):
        small_network.standardized({"train": (np.ones(3), np.ones(3))})


def test_frozen_splits_have_a_row_a_text():
    made = small_network.frozen_splits(tiny.model(), tiny.tokenizer(), tiny.task())
    assert {name: (x.shape, y.shape) for name, (x, y) in made.items()} == {
        "train": ((40, 16), (40,)), "dev": ((16, 16), (16,)), "test": ((16, 16), (16,)),
    }  # fmt: skip


# ---------------------------------------------------------------- made-up runs


def test_negations_need_two_words_together():
    texts, labels = fitting_runs.negations(2000, seed=1)
    assert (texts, labels) == fitting_runs.negations(2000, seed=1)
    for text, label in zip(texts, labels, strict=True):
        assert label == (("good" in text.split()) != ("not" in text.split()))
    for word in ("good", "bad", "not"):
        share = np.mean([label for text, label in zip(texts, labels, strict=True) if word in text.split()])
        assert abs(share - 0.5) < 0.05, "a single word must not tell the label"
    with pytest.raises(ValueError, match="at least one text"):
        fitting_runs.negations(0)


def test_more_data_does_not_cure_underfitting_but_pairs_and_units_do():
    def ends(count: int, pairs: bool = False, **given) -> dict[str, float]:
        texts = {"train": fitting_runs.negations(count), "dev": fitting_runs.negations(400, seed=99)}
        return small_network.learn(fitting_runs.counted(texts, pairs), **{"rate": 1e-2, "steps": 300, **given})[-1]

    few, many = (ends(count, width=0) for count in (40, 2000))
    assert few["train accuracy"] > many["train accuracy"] + 0.15
    assert abs(many["train accuracy"] - 0.5) < 0.08 and abs(many["dev accuracy"] - 0.5) < 0.08
    assert ends(2000, width=16)["dev accuracy"] > 0.98
    assert ends(2000, pairs=True, width=0)["dev accuracy"] > 0.98


def test_patience_2_stops_run_b_too_early_and_no_other():
    missed = {}
    for name, scores in fitting_runs.patience_runs().items():
        assert len(scores) == 16
        missed[name] = max(scores) - scores[schedules.stopping_point(scores, 2)[1]]
    assert missed["B"] > 0.3 and missed["A"] < 0.02 and missed["C"] < 0.02
    assert schedules.stopping_point(fitting_runs.patience_runs()["C"], 2)[0] < 15


def test_runs_to_diagnose_show_what_the_questions_say():
    before = torch.get_rng_state()
    runs, mended = fitting_runs.runs_to_diagnose(), fitting_runs.mended_runs()
    assert torch.equal(before, torch.get_rng_state())
    gone = runs["06-a"]["accuracy"]["dev"][1]
    assert len(set(gone[1:])) == 1 and gone[-1] < 0.7 and mended["06-a"]["accuracy"]["dev"][1][-1] > 0.9
    swinging = runs["06-b"]["loss"]["train"]
    assert min(swinging[:10]) < 0.05 and max(swinging[10:20]) > 3 * swinging[0]
    assert max(mended["06-b"]["loss"]["train"]) < 0.5 * max(swinging)
    leaked = {split: values[-1] for split, (_, values) in runs["06-c"]["accuracy"].items()}
    assert leaked["dev"] > 0.98 and leaked["train"] > 0.98 and 0.6 < leaked["test"] < 0.8
    healthy = runs["06-d"]["accuracy"]
    assert np.mean(np.subtract(healthy["dev"][1][1:], healthy["train"][1][1:]) > 0) > 0.8
    assert "NaN" not in plots.broken_runs(runs).alt


# ---------------------------------------------------------------- augmentation


def test_words_and_edits():
    chance = random.Random(0)
    text = "It isn't bad, not at all!"
    assert augmentation.words(text) == ["It", "isn't", "bad", ",", "not", "at", "all", "!"]
    assert augmentation.delete_words(text, 0.0, chance) == "It isn't bad , not at all !"
    assert len(augmentation.delete_words(text, 1.0, chance).split()) == 1
    assert augmentation.delete_words("", 0.5, chance) == ""
    swapped = augmentation.swap_words(text, 3, chance)
    assert sorted(swapped.split()) == sorted(augmentation.words(text)) and swapped != text
    assert augmentation.swap_words("one", 3, chance) == "one"
    kept = np.mean([len(augmentation.delete_words("a b c d e f g h", 0.25, chance).split()) for _ in range(500)])
    assert abs(kept - 6) < 0.2
    with pytest.raises(ValueError, match=r"0 to 1; got 1\.5"):
        augmentation.delete_words(text, 1.5, chance)


def test_rewrite_and_augment_change_texts_and_keep_labels():
    task = tiny.task()
    changed = augmentation.rewrite(task, str.upper, splits=("train",))
    assert changed.splits["train"]["text"][0] == task.splits["train"]["text"][0].upper()
    assert list(changed.splits["dev"]["text"]) == list(task.splits["dev"]["text"])
    more = augmentation.augment(task, str.upper, copies=2)
    assert len(more.splits["train"]) == 3 * len(task.splits["train"]) and more.splits["test"] is task.splits["test"]
    assert list(more.splits["train"]["label"]) == list(task.splits["train"]["label"]) * 3
    assert list(more.splits["train"]["text"])[:40] == list(task.splits["train"]["text"])
    assert all(text.isupper() for text in list(more.splits["train"]["text"])[40:])
    with pytest.raises(ValueError, match="no split extra"):
        augmentation.rewrite(task, str.upper, splits=("extra",))
    with pytest.raises(ValueError, match="at least one copy"):
        augmentation.augment(task, str.upper, copies=0)


# ---------------------------------------------------------------- the recorded sweep


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple]:
    """The sweep on a tiny task and network; the list fills with the training runs."""
    runs, fit = [], training.fit
    for name, value in {"LABELS": 20, "EPOCHS": 2, "BATCH": 8, "COUNTS": (10, 30), "STEPS": 8}.items():
        monkeypatch.setattr(schedule_sweep, name, value)
    monkeypatch.setattr(schedule_sweep, "TASK", "tiny")
    monkeypatch.setattr(schedule_sweep, "TASKS", ("tiny", "missing"))

    def load_task(name: str, labels: int | None = None):
        if name == "missing":
            raise ValueError("unknown task")
        return tiny.task() if labels is None else tiny.task().subset(labels)

    def load(name, task, seed=0):
        model = tiny.model(seed=seed)
        model.name = name
        return model, tiny.tokenizer()

    monkeypatch.setattr(schedule_sweep.tasks, "load", load_task)
    monkeypatch.setattr(schedule_sweep.backbones, "load", load)
    monkeypatch.setattr(schedule_sweep.backbones, "weights_hash", lambda name: "first")
    monkeypatch.setattr(schedule_sweep.training, "fit", lambda *given: runs.append(given) or fit(*given))
    monkeypatch.setenv("PEFT_RECORDS", str(tmp_path / "own"))
    monkeypatch.setattr(records, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    return runs


def test_sweep_records_every_shape_and_rate_and_goes_on(small, tmp_path, monkeypatch):
    folder = tmp_path / "own"
    made = schedule_sweep.shapes("tiny", folder, rates=(1e-3, 1e-2))
    assert len(made) == len(small) == 10
    assert {(r.split, r.labels, r.backbone_sha256) for r in made} == {("dev", 20, "first")}
    assert schedule_sweep.shapes("tiny", folder, rates=(1e-3, 1e-2)) == made and len(small) == 10
    found = schedule_sweep.recorded("tiny", "tiny")
    assert list(found) == [(shape, rate) for shape in schedules.DECAYS for rate in (1e-3, 1e-2)]
    assert found["cosine", 1e-2].settings["schedule"] == "cosine"
    assert [row["step"] for row in found["cosine", 1e-2].history] == [0, 3, 6]

    monkeypatch.setattr(schedule_sweep.backbones, "weights_hash", lambda name: "second")
    old = schedule_sweep.recorded("tiny", "tiny")
    assert old and not any(map(schedule_sweep.of_these_weights, old.values()))
    schedule_sweep.shapes("tiny", folder, rates=(1e-2,))
    assert len(small) == 15 and {r.backbone_sha256 for r in schedule_sweep.recorded("tiny", "tiny").values()} == {
        "second"
    }


def test_sweep_by_task_passes_over_missing_tasks_and_diverged_rates(small, tmp_path, monkeypatch):
    made = schedule_sweep.by_task("tiny", tmp_path / "own", rates=(1e-3, 1e-2))
    assert len(made) == 4 and all(len(r.predictions) == 16 for r in made)
    found = schedule_sweep.recorded_by_task("tiny")
    assert {key: list(rates) for key, rates in found.items()} == {
        ("tiny", 10): [1e-3, 1e-2], ("tiny", 30): [1e-3, 1e-2],
    }  # fmt: skip
    assert [len(r.history) for r in made] == [5, 5, 3, 3]  # about 8 steps each: 4 epochs of 2, 2 of 4

    def diverge(*_):
        raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(schedule_sweep.training, "fit", diverge)
    assert schedule_sweep.by_task("tiny", tmp_path / "other", rates=(1e-2,)) == []


# ---------------------------------------------------------------- figures


def test_figures_tell_what_they_show():
    figure = plots.schedule_shapes({"linear": [1.0, 0.5, 0.0], "constant": [1.0, 1.0, 1.0]})
    assert "linear: highest 1, at the end 0, mean 0.5" in figure.alt
    figure = plots.range_test([1e-4, 1e-3, 1e-2], [0.7, 0.5, 9.0], [0.7, 0.6, 2.0], {"steepest": 1e-4})
    assert "lowest 0.6 at 0.001" in figure.alt and "steepest 0.0001" in figure.alt
    figure = plots.stopped_runs({"A": [0.5, 0.7, 0.6, 0.8]}, {"A": (2, 1)})
    assert "stops at evaluation 2, keeps 1 (70.0 %); its best would be 3 (80.0 %)" in figure.alt
    assert "50.0 %, 70.0 %" in plots.stopped_runs({"A": [0.5, 0.7]}).alt
    rows = [{"step": t, "train loss": 1 / (t + 1), "dev loss": abs(t - 2) + 0.5} for t in range(5)]
    assert "best dev 0.5 at step 2" in plots.fitting({"nothing done": rows}).alt
    figure = plots.seed_spread({"texts": [0.6, 0.7, 0.65], "weights": [0.64, 0.65]})
    assert "texts: mean 65.0 %, 60.0 % to 70.0 % over 3 seeds" in figure.alt
    for made in (figure, plots.fitting({"a": rows, "b": rows})):
        assert plots.png(made)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plots.schedule_shapes({}), "nothing to draw|empty"),
        (lambda: plots.range_test([1, 2], [1, 2, 3], [1, 2]), "one loss a rate"),
        (lambda: plots.range_test([0, 1], [1, 2], [1, 2]), "positive"),
        (lambda: plots.stopped_runs({}), "empty"),
        (lambda: plots.stopped_runs({str(i): [1, 2] for i in range(5)}), "at most 4"),
        (lambda: plots.fitting({str(i): [{}] for i in range(5)}), "at most 4"),
        (lambda: plots.fitting({"a": [{"step": 0}]}), "no 'loss'"),
        (lambda: plots.seed_spread({"a": [1.0]}), "at least two seeds"),
    ],
)
def test_figures_refuse_what_they_cannot_draw(call, says):
    with pytest.raises(ValueError, match=says):
        call()

"""Comparing records: the front, real and unreal gaps, false alarms, advice. And races, which need no luck."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import tiny
import torch

from peft_helpers import calculator, comparison, evaluation, methods, race, records, statistics, tasks, training
from peft_helpers.comparison import Budget, pareto_front
from peft_helpers.records import Record

TRUTH = np.array(tasks.load("sentiment").splits["test"]["label"])
N = len(TRUTH)


def made(method: str, seed: int, right: np.ndarray, trained: int, labels: int = 200, task: str = "sentiment", **more):
    """A record whose answers are right where `right` says so."""
    answers = np.where(right, TRUTH, 1 - TRUTH)
    name = "".join(c if c.isalnum() else "-" for c in method)
    return Record(
        id=f"{task}-{labels}-{name}-{seed}", task=task, split="test", labels=labels,
        backbone=more.pop("backbone", "pocket-bert"), backbone_sha256=None, method=method,
        settings={"learning_rate": 1e-3, "batch_size": 16} | more.pop("settings", {}), seed=seed, metric="accuracy",
        score=float(right.mean()), predictions=answers.tolist(),
        parameters={"trained": trained, "changed": trained, "stored": trained, "total": 5_000_000}, seconds=10.0 + seed,
        peak_memory_mb=None, device="cpu", versions={"python": "3"},
    )  # fmt: skip


def answers(accuracy: float, seed: int) -> np.ndarray:
    """Easy and hard texts: the same ones are hard for everybody, so that methods agree on most."""
    hardness = np.random.default_rng(0).permutation(N) / N
    noise = np.random.default_rng(seed).normal(0, 0.05, N)
    return hardness + noise < np.quantile(hardness + noise, accuracy)


@pytest.fixture
def shelf(tmp_path):
    """Full fine-tuning a little ahead, LoRA close behind, BitFit far, two baselines; three seeds each."""
    shown = (("full", 0.80, 5_356_290), ("LoRA(rank=4)", 0.79, 17_000), ("BitFit", 0.62, 10_000))
    for method, accuracy, trained in shown:
        for seed in range(3):
            records.save(made(method, seed, answers(accuracy, 100 * trained + seed), trained), tmp_path)
    for seed in range(3):
        records.save(made("linear probe", seed, answers(0.70, seed), 0), tmp_path)
        records.save(made("bag of words", seed, answers(0.66, seed + 9), 0, backbone="none"), tmp_path)
    records.save(made("scratch", 0, answers(0.55, 77), 5_356_290), tmp_path)
    return tmp_path


# ---------------------------------------------------------------- the front


def test_the_front_holds_what_no_other_beats():
    generator = np.random.default_rng(0)
    for _ in range(300):
        costs, scores = generator.integers(1, 7, 8).tolist(), generator.integers(1, 7, 8).tolist()
        front = pareto_front(costs, scores)
        assert [costs[i] for i in front] == sorted(costs[i] for i in front)
        for i, j in itertools.permutations(range(8), 2):
            beats = costs[j] <= costs[i] and scores[j] >= scores[i] and (costs[j], scores[j]) != (costs[i], scores[i])
            assert not (beats and i in front)
        for i in set(range(8)) - set(front):
            assert any(costs[j] <= costs[i] and scores[j] >= scores[i] for j in front)
    assert pareto_front([], []) == []


# ---------------------------------------------------------------- gaps


def test_the_interval_from_scratch_is_the_librarys():
    a, b = answers(0.8, 1).astype(float), answers(0.77, 2).astype(float)
    library = statistics.paired_bootstrap(a, b, samples=2500)
    assert comparison.paired_interval(a, b, 2500, 0) == pytest.approx((library.low, library.high))
    low, high = comparison.unpaired_interval(a, b, 2500, 0)
    assert high - low > 1.3 * (library.high - library.low)


def test_counts_of_wins_and_losses_say_all_that_the_items_do():
    a, b = answers(0.8, 1).astype(float), answers(0.77, 2).astype(float)
    wins, losses = int(((a - b) > 0).sum()), int(((a - b) < 0).sum())
    library = statistics.paired_bootstrap(a, b, samples=10_000)
    found = comparison.counted_interval(wins, losses, N, samples=10_000)
    assert found == pytest.approx((library.low, library.high), abs=0.004)
    for wrong in ((-1, 2, 10), (5, 6, 10), (0, 0, 1)):
        with pytest.raises(ValueError, match="wins and losses are counts"):
            comparison.counted_interval(*wrong)


@pytest.mark.parametrize(("items", "disagreement"), [(400, 0.2), (400, 0.1), (872, 0.15), (200, 0.4)])
def test_under_the_null_five_percent_are_false_alarms(items, disagreement):
    assert comparison.false_alarms(items, disagreement, rounds=10_000) == pytest.approx(0.05, abs=0.01)


def test_the_simulation_is_that_of_the_whole_bootstrap():
    """The same null, judged by `statistics.paired_bootstrap` on items, round by round."""
    generator, alarms = np.random.default_rng(2), 0
    for _ in range(600):
        draw = generator.random(400)
        a = np.where(draw < 0.1, 1.0, np.where(draw < 0.2, 0.0, 1.0))
        b = np.where(draw < 0.1, 0.0, 1.0)
        alarms += statistics.paired_bootstrap(a, b, samples=1000).excludes_zero
    assert alarms / 600 == pytest.approx(0.05, abs=0.025)  # 2.8 standard errors of 600 rounds
    with pytest.raises(ValueError, match="disagreement lies in"):
        comparison.false_alarms(disagreement=0.0)


def test_gaps_name_the_interval_the_items_and_the_seeds(shelf):
    board = comparison.board("sentiment", 200, folder=shelf)
    far = board.gap("full", "BitFit")
    assert far.real and "full would be ahead" in far.verdict() and far.disagreement > 0.15
    close = board.gap("full", "LoRA(rank=4)")
    assert not close.real and close.needed > N and f"about {close.needed:,} items" in close.verdict()
    expected = statistics.items_needed(close.interval.difference, close.disagreement)
    assert close.needed == expected
    assert close.seeds[0] == pytest.approx(board.results["full"].spread)
    same = board.gap("full", "full")
    assert same.needed is None and not same.real
    assert board.gap("full", "bag of words").real, "baselines can be compared, too"


def test_two_classes_can_be_compared_without_the_labels(shelf):
    board = comparison.board("sentiment", 200, folder=shelf)
    a, b = board.results["full"], board.results["LoRA(rank=4)"]
    blind, seen = comparison.gap(a, b, None), comparison.gap(
        *(dataclasses.replace(one, runs=one.runs[:1]) for one in (a, b)), TRUTH
    )  # fmt: skip
    assert blind.interval.difference == pytest.approx(seen.interval.difference)
    assert blind.interval.low == pytest.approx(seen.interval.low, abs=0.006)
    assert blind.disagreement == pytest.approx(seen.disagreement)
    assert "only the first run" in blind.note


def test_what_cannot_be_compared_is_refused(shelf):
    board = comparison.board("sentiment", 200, folder=shelf)
    a = board.results["full"]
    other = dataclasses.replace(a, runs=(made("full", 0, answers(0.8, 1), 5, task="topic"),))
    with pytest.raises(ValueError, match="not judged on the same items"):
        comparison.gap(a, other, TRUTH)
    three = [0, 1, 2, *TRUTH[3:].tolist()]
    run = dataclasses.replace(a.runs[0], predictions=three)
    with pytest.raises(ValueError, match="set PEFT_DATA"):
        comparison.gap(a, dataclasses.replace(a, runs=(run,)), None)


def test_the_best_of_equals_is_too_high():
    honest, many = comparison.best_of_equals(1), comparison.best_of_equals(20)
    assert honest == pytest.approx(0.8, abs=0.003) and many > 0.83


# ---------------------------------------------------------------- boards


def test_a_board_holds_methods_baselines_lines_and_costs(shelf):
    board = comparison.board("sentiment", folder=shelf)
    assert (board.task, board.metric, board.labels, board.items) == ("sentiment", "accuracy", 200, N)
    assert list(board.results) == ["BitFit", "LoRA(rank=4)", "full"]
    assert set(board.baselines) == {"linear probe", "bag of words", "scratch"}
    assert list(board.lines) == ["majority class", "linear probe", "bag of words"]
    train = tasks.load("sentiment").splits["train"]["label"]
    assert board.lines["majority class"] == evaluation.majority_score("accuracy", train, TRUTH)
    full, lora = board.results["full"], board.results["LoRA(rank=4)"]
    assert lora.method == methods.LoRA(rank=4) and lora.name == "LoRA 4" and full.name == "full"
    assert full.price("trained") == 5_356_290 and full.price("seconds") == 11.0
    assert lora.cost.trained == calculator.cost(calculator.backbone("pocket-bert"), methods.LoRA(rank=4)).trained
    assert lora.price("memory") < full.price("memory") and lora.price("stored") < full.price("stored")
    assert [one.name for one in board.front()] == ["BitFit", "LoRA 4", "full"]
    assert board.best is full and {one.name for one in board.tied()} == {"full", "LoRA 4"}
    assert full.low < full.score < full.high and full.high - full.low < 0.1
    with pytest.raises(ValueError, match="a cost is one of trained, memory, stored, seconds; got 'love'"):
        full.price("love")


def test_the_interval_of_a_score_is_that_of_its_items(shelf):
    full = comparison.board("sentiment", 200, folder=shelf).results["full"]
    right = comparison.right_answers(full.runs, TRUTH).mean(0)
    generator = np.random.default_rng(3)
    draws = right[generator.integers(N, size=(4000, N))].mean(1)
    assert (full.low, full.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.006)
    low, high = comparison.score_interval(full.runs[:1], None)  # without labels: a binomial of one run
    assert low < full.runs[0].score < high


def test_nothing_recorded_says_what_there_is(shelf):
    with pytest.raises(ValueError, match=r"no method is recorded on topic with None labels.*sentiment with 200"):
        comparison.board("topic", folder=shelf)
    with pytest.raises(ValueError, match="with 7 labels"):
        comparison.board("sentiment", 7, folder=shelf)


def test_foreign_and_unknown_records_are_left_out(shelf):
    records.save(made("Nonsense(rank=3)", 0, answers(0.9, 1), 5), shelf)
    records.save(made("LoRA(rank=8)", 0, answers(0.9, 1), 5, settings={"experiment": "span"}), shelf)
    records.save(made("LoRA(depth=3)", 0, answers(0.9, 1), 5, settings={"method_settings": {"depth": 3}}), shelf)
    assert list(comparison.board("sentiment", 200, folder=shelf).results) == ["BitFit", "LoRA(rank=4)", "full"]


def test_the_shipped_records_make_boards():
    for task, labels in comparison.tables():
        board = comparison.board(task, labels)
        assert board.results and board.best in board.front()
        assert all(math.isfinite(one.price(what)) for one in board.results.values() for what in comparison.COSTS)


# ---------------------------------------------------------------- advice


def test_advice_keeps_the_budget_and_follows_the_evidence(shelf):
    board = comparison.board("sentiment", 200, folder=shelf)
    free = comparison.advise("BERT-base", Budget(), board)
    first, second, third = (one.label for one, _ in free.fitting[:3])
    assert (first, second, third) == ("LoRA 4", "FullFineTuning", "BitFit"), "tied by cost, then what is behind"
    assert "not told apart from the highest" in free.fitting[0][1][0]
    assert "the highest mean recorded" in free.fitting[1][1][0]
    assert "shown to be behind full" in free.fitting[2][1][0]
    assert any("no higher than the" in reason for reason in free.fitting[2][1])
    assert all("not recorded" in reasons[0] for _, reasons in free.fitting[3:]) and not free.refused
    tight = comparison.advise("BERT-base", Budget(trained=20_000, memory=2_200_000_000, no_latency=True), board)
    assert all(one.trained <= 20_000 and one.mergeable for one, _ in tight.fitting)
    assert all(one.memory.total <= 2_200_000_000 for one, _ in tight.fitting)
    why = {one.label: reason for one, reason in tight.refused}
    assert "trains 109,483,778 parameters, the budget is 20,000" in why["FullFineTuning"]
    assert "can't be merged" in why["PromptTuning 20"]
    storage = comparison.advise("BERT-base", Budget(storage=500_000_000, tasks=9), board)
    assert "9 tasks take 3,941 MB of 500 MB" in dict((o.label, r) for o, r in storage.refused)["FullFineTuning"]
    assert "| 1 | LoRA 4 |" in free.table() and "✗ | FullFineTuning" in storage.table(refused=99)
    assert "and " in free.table(rows=2) and free.table(rows=2).count("\n") == 4


def test_data_that_is_here_comes_first(shelf):
    for method in ("full", "BitFit", "LoRA(rank=2)", "LoRA(rank=4)", "LoRA(rank=8)"):
        record = made(method, 0, answers(0.8, 1), 10, task="trec")
        classes = [index % 3 for index in range(N)]
        records.save(dataclasses.replace(record, predictions=classes if method == "full" else classes[::-1]), shelf)
    assert list(comparison.tables(folder=shelf)) == [("sentiment", 200), ("trec", 200)]
    assert comparison.nearest(200, folder=shelf).task == "sentiment"
    board = comparison.board("trec", folder=shelf)
    assert board.shown(board.best, board.results["LoRA(rank=2)"]) is None and len(board.tied()) == 5
    assert comparison.advise("BERT-base", Budget(), board).fitting


def test_advice_without_evidence_goes_by_cost():
    found = comparison.advise("pocket-bert", Budget(), None)
    trained = [one.trained for one, _ in found.fitting]
    assert trained == sorted(trained) and len(trained) > 15
    nothing = comparison.advise("BERT-base", Budget(memory=1_000_000), None)
    assert not nothing.fitting and len(nothing.refused) > 15
    with pytest.raises(ValueError, match="a budget of memory must be positive"):
        comparison.advise("BERT-base", Budget(memory=0), None)
    with pytest.raises(ValueError, match="no configuration"):
        comparison.advise("BERT-tiny", Budget(), None)


def test_the_nearest_comparison_is_nearest_by_ratio(shelf):
    for seed in range(2):
        for method in ("full", "BitFit"):
            records.save(made(method, seed, answers(0.8, seed), 10, labels=2000), shelf)
    assert comparison.nearest(300, folder=shelf).labels == 200
    assert comparison.nearest(1000, folder=shelf).labels == 2000
    assert comparison.nearest(100, task="cola", folder=shelf) is None


# ---------------------------------------------------------------- races


def runner(name: str, method: methods.Method | None, rate: float = 1e-2) -> race.Contestant:
    model = tiny.model("bert")
    torch.manual_seed(0)
    return race.Contestant(name, model if method is None else methods.apply(model, method), rate)


def test_a_race_goes_as_if_each_ran_alone():
    pair = [runner("full", None, 1e-3), runner("LoRA", methods.LoRA(rank=2))]
    seen: list[int] = []
    run = race.run(pair, tiny.tokenizer(), tiny.task(), steps=12, slice_steps=5, batch_size=8,
                   on_slice=lambda now: seen.append(sum(one.points[-1][0] for one in now.contestants)))  # fmt: skip
    assert [step for step, _ in pair[0].points] == [0, 5, 10, 12] and seen == [5, 10, 15, 20, 22, 24]
    again = [runner("LoRA", methods.LoRA(rank=2)), runner("other", methods.BitFit())]
    race.run(again, tiny.tokenizer(), tiny.task(), steps=12, slice_steps=3, batch_size=8)
    ours, theirs = pair[1].model.state_dict(), again[0].model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "neither company nor slices matter"
    assert run.ended == "all steps done" and "LoRA" in repr(run) and run.metric == "accuracy"


def test_a_race_stops_when_asked_and_leaves_the_random_state():
    state = torch.get_rng_state()
    pair = [runner("a", methods.BitFit()), runner("b", methods.LoRA(rank=2))]
    run = race.run(pair, tiny.tokenizer(), tiny.task(), steps=50, slice_steps=2, on_slice=lambda now: True)
    assert run.ended == "stopped" and pair[0].points[-1][0] == 2 and pair[1].points[-1][0] == 0
    state = torch.get_rng_state()

    def interrupt(now):
        raise KeyboardInterrupt

    run = race.run(pair, tiny.tokenizer(), tiny.task(), steps=50, slice_steps=2, on_slice=interrupt)
    assert run.ended == "interrupted" and torch.equal(state, torch.get_rng_state())


def test_a_race_needs_two_that_train():
    tokenizer, task, one = tiny.tokenizer(), tiny.task(), runner("a", methods.BitFit())
    for wrong in ([one], [one, one]):
        with pytest.raises(ValueError, match="at least two contestants with different names"):
            race.run(wrong, tokenizer, task)
    idle = race.Contestant("idle", tiny.model("bert").requires_grad_(False), 1e-3)
    with pytest.raises(ValueError, match="idle has nothing to train"):
        race.run([one, idle], tokenizer, task)
    with pytest.raises(ValueError, match="are positive; got 0, 10, 16"):
        race.run([one, runner("b", methods.LoRA())], tokenizer, task, steps=0)


def test_the_race_on_the_page_tells_it_in_text():
    pair = [runner("a <b>", methods.BitFit()), runner("b", methods.LoRA(rank=2))]
    view = race.RaceView()
    race.run(pair, tiny.tokenizer(), tiny.task(), steps=4, slice_steps=2, on_slice=view)
    assert view.bar.value == view.bar.max == 8
    assert "a &lt;b&gt;" in view.lines.value and 'role="status"' in view.lines.value
    assert view.lines.value.count("<polyline") == 2 and "at step 4" in view.lines.value


def test_races_train_as_fit_does():
    """The same batches, rates and clipping as `training.fit` without dropout: the same weights."""

    def fresh():
        torch.manual_seed(0)
        return methods.apply(tiny.still(tiny.model("bert")), methods.LoRA(rank=2))

    alone, task = fresh(), tiny.task()
    settings = training.Settings(1e-2, epochs=2, batch_size=8, keep_best=False, progress=False)
    training.fit(alone, tiny.tokenizer(), task, settings)
    racer = race.Contestant("LoRA", fresh(), 1e-2)
    race.run([racer, runner("b", methods.BitFit())], tiny.tokenizer(), task, steps=10, slice_steps=4, batch_size=8)
    ours, theirs = racer.model.state_dict(), alone.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)

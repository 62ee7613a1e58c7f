"""Lesson 08's experiments on a tiny network, and the reader of its records."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import tiny
import torch
from datasets import DatasetDict
from torch import nn

from peft_helpers import adapter_records, adapter_runs, methods, records, tasks, training


def made_up_task(name: str, labels: int | None = None):
    """The tiny task under three names: as it is, with its labels exchanged, and as a regression."""
    task = tiny.task(kind="regression" if name == "third" else "classification")
    if name == "second":
        splits = {split: rows.map(lambda row: {"label": 1 - row["label"]}) for split, rows in task.splits.items()}
        task = dataclasses.replace(task, splits=DatasetDict(splits))
    task = dataclasses.replace(task, name=name)
    return task if labels is None else task.subset(labels)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """The experiments on tiny models: names -> records, and the folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SCALE_LABELS": 16, "SCALE_EPOCHS": 1, "SPAN_LABELS": 32, "SPAN_EPOCHS": 2, "SEQUENCE_LABELS": 32,
            "SEQUENCE_EPOCHS": 4, "BATCH": 8, "SCALE_TASK": "first", "SPAN_TASK": "first", "FULL_RATE": 1e-2,
        }.items():  # fmt: skip
            patch.setattr(adapter_runs, name, value)
        patch.setattr(adapter_runs.tasks, "load", made_up_task)

        def load(name, task, seed=0):
            model = tiny.model(outputs=task.outputs, seed=seed)
            model.name = name
            return model, tiny.tokenizer()

        patch.setattr(adapter_runs.backbones, "load", load)
        patch.setattr(adapter_runs.backbones, "weights_hash", lambda name: "some")
        folder = tmp_path_factory.mktemp("records")
        made = {
            "init": adapter_runs.scales("tiny", folder, stds=(1e-3, 1.0), seeds=(0,)),
            "span": adapter_runs.spans("tiny", folder, seeds=(0, 1)),
            "sequence": adapter_runs.sequence("tiny", folder, names=("first", "second", "third")),
        }
        times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        again = adapter_runs.spans("tiny", folder, seeds=(0, 1)) + adapter_runs.sequence(
            "tiny", folder, names=("first", "second", "third")
        )
        assert [r.id for r in again] == [r.id for r in made["span"] + made["sequence"]]
        assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}, "nothing is made twice"
        patch.setattr(adapter_runs, "SPAN_EPOCHS", 1)
        adapter_runs.spans("tiny", other := tmp_path_factory.mktemp("changed"), seeds=(0,))
        changed = next(path for path in other.iterdir() if path.stem.endswith("whole"))
        assert records.read(folder / changed.name).settings["epochs"] == 2
        adapter_runs.spans("tiny", other, seeds=(0,))
        patch.setattr(adapter_runs, "SPAN_EPOCHS", 2)
        adapter_runs.spans("tiny", other, seeds=(0,))
        assert records.read(changed).settings["epochs"] == 2, "other settings: made anew"
        assert {r.id for r in adapter_runs.recorded("span", "tiny", folder)} == {r.id for r in made["span"]}
    return made, folder


def test_every_scale_and_span_is_recorded(small) -> None:
    made, folder = small
    assert [(r.settings["init_std"], r.split) for r in made["init"]] == [(1e-3, "dev"), (1.0, "dev")]
    found = {(r.settings["first"], r.settings["last"], r.seed) for r in made["span"]}
    assert found == {(a, b, seed) for a, b in [(None, None), (0, 0), (0, 1), (1, 1)] for seed in (0, 1)}
    assert {r.split for r in made["span"]} == {"test"} and all(r.settings["loss"] > 0 for r in made["span"])
    assert len({r.parameters["trained"] for r in made["span"]}) == 1
    assert len(records.load(folder)) == sum(map(len, made.values()))
    records.summary(made["span"])  # no two of one group and seed


def test_spans_are_all_neighbors() -> None:
    assert adapter_runs.all_spans(3) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    assert adapter_runs.all_spans(0) == []


def test_in_sequence_adapters_forget_nothing_and_full_fine_tuning_does(small) -> None:
    by_kind = {kind: [r for r in small[0]["sequence"] if r.settings["kind"] == kind] for kind in adapter_runs.KINDS}
    for kind, found in by_kind.items():
        assert [(r.settings["learned"], r.task) for r in found] == [
            (1, "first"), (2, "first"), (2, "second"), (3, "first"), (3, "second"), (3, "third"),
        ], kind  # fmt: skip
        assert [r.metric for r in found][-1] == "spearman"
    assert all(r.settings["identical"] and r.settings["change"] == 0 for r in by_kind["adapters"])
    later = [r for r in by_kind["full"] if r.task == "first" and r.settings["learned"] > 1]
    assert later and not any(r.settings["identical"] for r in later) and min(r.settings["change"] for r in later) > 0
    assert by_kind["adapters"][0].parameters["trained"] < by_kind["full"][0].parameters["trained"]


def test_a_new_head_fits_the_task_and_another_kind_of_head_is_refused() -> None:
    model = tiny.model()
    head = adapter_runs.new_head(model, tiny.task(kind="regression"), seed=3)
    assert model.classifier is head and (model.config.num_labels, head.out_features) == (1, 1)
    again = adapter_runs.new_head(tiny.model(), tiny.task(kind="regression"), seed=3)
    assert torch.equal(head.weight, again.weight) and not head.bias.any()
    with pytest.raises(ValueError, match=r"replaces a linear layer `classifier`; RobertaForSequenceClassification has"):
        adapter_runs.new_head(tiny.model("roberta"), tiny.task())
    with pytest.raises(ValueError, match="Linear has None"):
        adapter_runs.new_head(nn.Linear(2, 2), tiny.task())


def test_outputs_are_those_of_evaluate() -> None:
    model, tokenizer, task = tiny.model(seed=1), tiny.tokenizer(), tiny.task()
    outputs = adapter_runs.outputs_on(model, tokenizer, task)
    assert outputs.shape == (16, 2) and not outputs.requires_grad
    assert outputs.argmax(-1).tolist() == training.evaluate(model, tokenizer, task).predictions
    assert adapter_runs.outputs_on(model, tokenizer, task, "dev", rows=3).shape == (3, 2)


def test_one_layer_without_its_adapters() -> None:
    task, tokenizer = tiny.task(), tiny.tokenizer()
    model = methods.apply(tiny.model(), methods.Houlsby(bottleneck=4, init_std=1.0))
    whole = adapter_runs.without_layers(model, tokenizer, task, None, None)
    none = adapter_runs.without_layers(model, tokenizer, task, 0, 1)
    assert whole.loss == training.evaluate(model, tokenizer, task).loss
    with methods.disabled(model):  # the norms are as they were: nothing was trained
        base = training.evaluate(model, tokenizer, task)
    assert none.loss == base.loss != whole.loss


# ---------------------------------------------------------------- reading


NUMBERS = itertools.count()


def record(method: str, seed: int = 0, score: float = 0.5, labels: int = 10, **more) -> records.Record:
    """A made-up record of four predictions."""
    right = round(4 * score)
    fields = {
        "id": f"r-{next(NUMBERS)}", "task": "made", "split": "test", "labels": labels,
        "backbone": "tiny", "backbone_sha256": None, "method": method, "settings": {}, "seed": seed,
        "metric": "accuracy", "score": score, "predictions": [1] * right + [0] * (4 - right),
        "parameters": {"trained": 5, "changed": 5, "stored": 5, "total": 100}, "seconds": 1.0, "peak_memory_mb": None,
        "device": "cpu", "versions": {},
    }  # fmt: skip
    return records.Record(**fields | more)


def test_methods_are_read_with_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_records.backbones, "weights_hash", lambda name: None)
    shelf = [
        record("Houlsby(bottleneck=16)", seed, score, settings={"method_settings": {"bottleneck": 16}})
        for seed, score in ((1, 0.75), (0, 0.5))
    ]
    shelf += [
        record("full", parameters={"trained": 100, "changed": 100, "stored": 100, "total": 100}),
        record("TopLayers(layers=1)"),
        record("LayerNormTuning", settings={"tuned_rates": [{"score": 0.3}, {"score": 0.6}]}),
        record("bag of words", backbone="none", parameters=dict.fromkeys(records.PARAMETERS, 0)),
        record("full", labels=20),
        record("adam"),
        record("Houlsby(bottleneck=8)", split="dev"),
        record("Houlsby(bottleneck=8)", backbone="other"),
    ]
    for one in shelf:
        records.save(one, tmp_path)
    found = adapter_records.recorded("made", "tiny", folder=tmp_path)
    assert set(found) == {"Houlsby(bottleneck=16)", "full", "TopLayers(layers=1)", "LayerNormTuning", "bag of words"}
    assert (next(iter(found)), next(reversed(found))) == ("bag of words", "full"), "by trained parameters"
    houlsby = found["Houlsby(bottleneck=16)"]
    assert (houlsby.name, houlsby.size, houlsby.trained, houlsby.score) == ("Houlsby 16", 16, 5, 0.625)
    assert [run.seed for run in houlsby.runs] == [0, 1]
    assert houlsby.right([1, 1, 1, 0]).tolist() == [[1, 1, 0, 1], [1, 1, 1, 1]]
    assert (found["TopLayers(layers=1)"].name, found["LayerNormTuning"].name) == ("top layers 1", "layer norms")
    assert found["LayerNormTuning"].held_out == 0.6 and houlsby.held_out == -float("inf")
    assert set(adapter_records.recorded("made", "tiny", 20, tmp_path)) == {"full"}
    assert adapter_records.recorded("nothing", "tiny", folder=tmp_path) == {}
    gap = adapter_records.ahead(houlsby, found["full"], [1, 1, 1, 0])
    assert gap.difference == pytest.approx(0.875 - 0.75) and gap.seeds == (2, 1)


def test_tasks_stand_side_by_side() -> None:
    def entry(label: str, trained: int, predictions: list[int]) -> adapter_records.Entry:
        score = sum(predictions) / 4
        parameters = dict.fromkeys(("trained", "changed", "stored", "total"), trained)
        runs = (record(label, 0, score, predictions=predictions, parameters=parameters),)
        return adapter_records.Entry(label, adapter_records.SHORT.get(label, label), {}, runs)

    full, tuned = entry("full", 9, [1, 1, 1, 0]), entry("BitFit", 3, [0, 0, 0, 0])
    probe = entry("linear probe", 5, [1, 1, 0, 0])
    truths = {"a": [1, 1, 1, 0], "b": None}
    lines = adapter_records.across({"a": [full, tuned, probe], "b": [tuned]}, truths).splitlines()
    assert lines[0] == "| method | a | b |"
    assert lines[2] == "| commonest class | 75.0 |  |", "of the true classes, where they are known"
    assert [line.split(" | ")[0] for line in lines[3:]] == ["| linear probe", "| BitFit", "| full"], "lines, then sizes"
    assert lines[3] == "| linear probe | 50.0 |  |" and lines[5] == "| full | 75.0 |  |"
    assert lines[4].startswith("| BitFit | 0.0; ") and lines[4].endswith("| 0.0 |"), "no full run: no distance"
    with pytest.raises(ValueError, match="there is none for b"):
        adapter_records.across({"a": [full], "b": [tuned]}, {"a": [1] * 4})


def test_held_out_labels_choose_a_size_task_by_task() -> None:
    def entry(label: str, size: int, held_out: float, predictions: list[int]) -> adapter_records.Entry:
        about = {"tuned_rates": [{"learning_rate": 1e-3, "score": held_out, "loss": 1.0}]}
        parameters = {"trained": size, "changed": size, "stored": size, "total": 200}
        runs = (record(label, 0, sum(predictions) / 4, settings=about, predictions=predictions, parameters=parameters),)
        return adapter_records.Entry(label, label, {} if label == "full" else {"bottleneck": size}, runs)

    full = entry("full", 100, 0.1, [1, 1, 1, 1])
    small, large = entry("Houlsby", 8, 0.7, [1, 1, 0, 0]), entry("Houlsby", 64, 0.6, [1, 1, 1, 1])
    columns = {"a": [full, small, large], "b": [full, large], "c": [large], "d": [full, small]}
    lines = adapter_records.chosen_sizes(columns, dict.fromkeys("abc", [1] * 4) | {"d": None}).splitlines()
    assert lines[2].startswith("| a | 8 | 4.0% | -50.0 (")
    assert lines[3].startswith("| b | 64 | 32.0% | +0.0 (") and lines[4] == "| mean | | | -25.0 |" and len(lines) == 5
    assert len(adapter_records.chosen_sizes({"a": [small]}, {"a": None}).splitlines()) == 2, "nothing to compare"


def test_a_run_stands_beside_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (adapter_records.backbones, adapter_runs.backbones):
        monkeypatch.setattr(module, "weights_hash", lambda name: None)
    task, tokenizer, method = tiny.task(), tiny.tokenizer(), methods.Houlsby(bottleneck=4)
    model = methods.apply(tiny.model(), method)
    model.name = "tiny"
    run = training.fit(model, tokenizer, task, training.Settings(1e-3, epochs=1, progress=False))
    result = training.evaluate(model, tokenizer, task)
    for labels in (run.labels, 7):
        records.save(record("full", labels=labels, task="tiny"), tmp_path)
    found = adapter_records.beside(run, result, method, tmp_path)
    assert [entry.family for entry in found.values()] == ["full", "Houlsby"]
    assert found["full"].runs[0].labels == run.labels
    ours = found[repr(method)]
    assert (ours.name, ours.trained, ours.score) == ("Houlsby 4", run.trainable, result.score)


def test_settings_are_told_by_the_label_if_nothing_else_does() -> None:
    read = adapter_records.parse
    assert read(record("LoRA(alpha=16.0, rank=8)")) == ("LoRA", {"rank": 8})
    assert read(record("full")) == ("full", {})
    assert read(record("what (is) this")) == ("what (is) this", {})
    given = record("Pfeiffer(bottleneck=4)", settings={"method_settings": {"bottleneck": 4, "activation": "relu"}})
    assert read(given) == ("Pfeiffer", {"bottleneck": 4, "activation": "relu"})


def test_other_metrics_are_compared_by_their_predictions_and_mixed_ones_refused() -> None:
    def entry(metric: str, **more) -> adapter_records.Entry:
        return adapter_records.Entry("a", "a", {}, (record("a", metric=metric, **more),))

    ours, others = entry("f1", predictions=[1, 1, 0, 1]), entry("f1", predictions=[0, 1, 0, 0])
    assert adapter_records.ahead(ours, others, [1, 1, 0, 1]).difference > 0
    with pytest.raises(ValueError, match="a is judged by f1, a by accuracy"):
        adapter_records.ahead(ours, entry("accuracy"), [1, 1, 0, 1])


def test_records_of_other_weights_are_taken_only_where_there_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_records.backbones, "weights_hash", lambda name: "new")
    old, new = record("full", backbone_sha256="old"), record("full", 1, backbone_sha256="new")
    assert adapter_records.own([old, new]) == [new] and adapter_records.own([old]) == [old]
    assert adapter_records.of_these_weights(new) and not adapter_records.of_these_weights(old)
    assert adapter_records.own([]) == []


def test_the_experiments_are_about_shipped_tasks() -> None:
    names = {adapter_runs.SCALE_TASK, adapter_runs.SPAN_TASK, *adapter_runs.SEQUENCE}
    assert names <= set(tasks.available())
    assert set(adapter_runs.EXPERIMENTS) == {"init", "span", "sequence"}

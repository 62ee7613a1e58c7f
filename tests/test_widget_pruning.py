"""The pruning sweep and its explorer: records complete, controls move picture and values, gaps are named."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from pathlib import Path

import pytest
import tiny
import torch
from widget_cases import ExplorerTests, text

from peft_helpers import accounting, plots, pruning, pruning_runs, records, widgets
from peft_helpers.widgets import pruning as view


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> list[records.Record]:
    """A sweep on a tiny task and network."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "LABELS": 20,
            "EPOCHS": 1,
            "BATCH": 8,
            "RECOVERY": {"epochs": 1, "learning_rate": 1e-2},
        }.items():
            patch.setattr(pruning_runs, name, value)
        patch.setattr(pruning_runs.tasks, "load", lambda name, labels: tiny.task().subset(labels))

        def load(name, task, seed=0):
            model = tiny.model(seed=seed)
            model.name = name
            return model, tiny.tokenizer()

        patch.setattr(pruning_runs.backbones, "load", load)
        patch.setattr(pruning_runs.experiments.backbones, "weights_hash", lambda name: "some")
        folder = tmp_path_factory.mktemp("records")
        made = pruning_runs.sweep("tiny", "tiny", folder, shares=(0.5, 0.9))
        assert records.load(folder) == sorted(made, key=lambda record: record.id)
        again = pruning_runs.sweep("tiny", "tiny", folder, shares=(0.5, 0.9))
        assert [(r.id, r.score) for r in again] == [(r.id, r.score) for r in made], "the same again, in the same files"
    return made


# ---------------------------------------------------------------- the sweep


def test_every_kind_and_share_is_recorded_with_and_without_recovery(swept: list[records.Record]) -> None:
    assert len(swept) == 2 * (1 + 3 * 2)
    found = {(r.settings["kind"], r.settings["share"], r.settings["recovered"]): r for r in swept}
    whole = found["none", 0.0, False].settings
    for kind, share in itertools.product(pruning_runs.KINDS, (0.5, 0.9)):
        record = found[kind, share, False]
        assert record.method == f"pruned {kind} {share:g}" and found[kind, share, True].method.endswith(" recovered")
        smaller = record.settings["file_bytes"] < whole["file_bytes"]
        assert smaller == (kind == "structured")
        assert (record.parameters["total"] < found["none", 0.0, False].parameters["total"]) == (kind == "structured")
        assert {len(record.predictions), record.labels} == {16, 20}
    records.summary(swept)  # no two of one group and seed


def test_pruned_copies_leave_the_model_alone() -> None:
    model = tiny.model()
    before = copy.deepcopy(model.state_dict())
    for kind in pruning_runs.KINDS:
        one, masks = pruning_runs.pruned(model, kind, 0.5)
        assert bool(masks) == (kind != "structured") and one is not model
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="unknown kind of pruning 'all'; there are global, tensor, structured"):
        pruning_runs.pruned(model, "all", 0.5)


def test_shipped_records_are_complete() -> None:
    shipped = records.load(records.SHIPPED / "pruning")
    shares = sorted({record.settings["share"] for record in shipped})
    assert shares == [0.0, *pruning_runs.SHARES]
    assert len(shipped) == 2 * (1 + len(pruning_runs.KINDS) * len(pruning_runs.SHARES))
    assert {record.command for record in shipped} == {pruning_runs.COMMAND}
    sizes = {r.settings["share"]: r.settings["file_bytes"] for r in shipped if r.settings["kind"] == "structured"}
    assert sorted(sizes.values(), reverse=True) == [sizes[share] for share in sorted(sizes)]


# ---------------------------------------------------------------- the explorer


@pytest.fixture
def made(swept: list[records.Record]) -> widgets.Explorer:
    return widgets.pruning_explorer(swept)


class TestPruningExplorer(ExplorerTests):
    names = ("pruning",)
    changes = {"pruning": [("kind", "global"), ("share", 0.9), ("recovered", True)]}

    @pytest.fixture
    def made(self, swept: list[records.Record]) -> widgets.Explorer:
        """No two records with the same score: whatever is chosen looks different."""
        return widgets.pruning_explorer([dataclasses.replace(r, score=0.5 + 0.01 * i) for i, r in enumerate(swept)])

    def test_it_begins_where_half_the_units_are_gone(self, made: widgets.Explorer) -> None:
        assert made.state() == {"kind": "structured", "share": 0.5, "recovered": False}


def test_the_readout_says_what_the_records_say(swept: list[records.Record], made: widgets.Explorer) -> None:
    found = {(r.settings["kind"], r.settings["share"], r.settings["recovered"]): r for r in swept}
    for state in itertools.product(pruning_runs.KINDS, (0.0, 0.5, 0.9), (False, True)):
        reading = made.compute(*state)
        record = found.get(state) or found["none", 0.0, state[2]]
        shown = made.describe(reading).as_text()
        assert f"{record.settings['file_bytes'] / 1e6:.1f} MB" in shown and f"{100 * record.score:.1f} %" in shown
        made.picture.jpeg(reading)
        assert not re.search(r"\b(nan|inf)\b", shown)
    assert "Units removed, 50%, without recovery training: file × " in text(made)


def test_the_shipped_records_are_its_default() -> None:
    made = widgets.pruning_explorer()
    assert made.state()["share"] == 0.5
    assert len(made.controls["share"].options) == 1 + len(pruning_runs.SHARES)


def test_gaps_are_named(swept: list[records.Record], made: widgets.Explorer) -> None:
    with pytest.raises(ValueError, match=r"missing \(all of them\); python -m peft_helpers\.pruning_runs"):
        widgets.pruning_explorer([])
    with pytest.raises(ValueError, match=r"missing \(\('tensor', 0\.9, True\)\)"):
        widgets.pruning_explorer([r for r in swept if r.method != "pruned tensor 0.9 recovered"])
    other = [dataclasses.replace(r, settings={}) for r in swept]
    assert widgets.pruning_explorer([*swept, *other]).state() == made.state()
    assert set(view.KINDS) == set(pruning_runs.KINDS)


# ---------------------------------------------------------------- figures of the lesson


def test_memory_bars_say_every_part() -> None:
    memory = accounting.Memory(4_000_000, 3_000_000, 6_000_000, 50_000_000)
    figure = plots.memory_bars({"small": {"predicted": memory, "measured": memory}, "large": {"predicted": memory}})
    assert figure.alt.count("63.0 MB = weights 4.0 MB") == 3 and "small, measured" in figure.alt
    assert plots.memory_bars({"only": {"measured": memory}}).alt.startswith("only: 63.0 MB")
    for wrong in ({}, {"a": {}}):
        with pytest.raises(ValueError, match="nothing to draw"):
            plots.memory_bars(wrong)


def test_gradient_range_tells_the_shares() -> None:
    figure = plots.gradient_range(torch.tensor([0.0, 1e-9, 1e-6, 1e-6, 1e-2]), 2.0**16)
    assert "as they are: 25.0% becomes 0, 50.0% coarse, 25.0% normal" in figure.alt
    assert "loss × 65,536: 0.0% becomes 0, 0.0% coarse, 100.0% normal" in figure.alt
    for values, scale in (([0.0], 2.0), ([1.0], 0.0)):
        with pytest.raises(ValueError, match="positive scale"):
            plots.gradient_range(values, scale)


def test_storage_by_tasks_names_the_last_point() -> None:
    figure = plots.storage_by_tasks({"full": {1: 1e9, 20: 2e10}, "shared": {1: 1e9, 20: 1.5e9}})
    assert "full: 20.00 GB for 20 tasks; shared: 1.50 GB for 20 tasks" in figure.alt
    for wrong in ({}, {"full": {}}):
        with pytest.raises(ValueError, match="nothing to draw"):
            plots.storage_by_tasks(wrong)


def test_a_reader_reads_the_first_texts(tmp_path: Path) -> None:
    model, seen = tiny.model(), []
    model.register_forward_hook(lambda module, given, made: seen.append(made.logits))
    pruning_runs.reader(model, tiny.tokenizer(), tiny.task(), texts=5)()
    assert seen[0].shape == (5, 2) and not seen[0].requires_grad
    pruning.save(model, tmp_path)
    assert (tmp_path / "kept.json").is_file()

"""Lesson 12's experiments on a tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from peft_helpers import backbones, lora_runs, methods, records, spectra, tasks

SMALL = {
    "LABELS": 24, "EPOCHS": 2, "BATCH": 8, "GRID_LABELS": 16, "GRID_EPOCHS": 1, "RANKS": (1, 2), "CUTS": (0, 1, 16),
    "ALPHAS": (2.0, 8.0), "BITS": ("int8",), "TASK": "made", "SEEDS": (0, 1),
}  # fmt: skip


def made_up_task(name: str):
    assert name == "made"
    return tiny.task()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """Every experiment on a tiny model: name -> records, and the folder; nothing is made twice."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(lora_runs, name, value)
        patch.setattr(lora_runs.tasks, "load", made_up_task)

        def load(name, task, *, pretrained=True, seed=0):
            model = tiny.model(outputs=task.outputs, seed=seed)
            model.name = name
            return model, tiny.tokenizer()

        patch.setattr(lora_runs.backbones, "load", load)
        patch.setattr(lora_runs.backbones, "weights_hash", lambda name: "some")
        folder = tmp_path_factory.mktemp("records")

        def everything(seeds, rates=(1e-2, 3e-2)):
            return {
                "full": lora_runs.full("tiny", folder, seeds, rates),
                "rank": lora_runs.lora("rank", "tiny", folder, seeds, rates),
                "targets": lora_runs.lora("targets", "tiny", folder, seeds, rates[:1]),
                "alpha": lora_runs.alpha("tiny", folder, seeds[:1], rates),
                "quantized": lora_runs.lora("quantized", "tiny", folder, seeds[:1], rates),
            }

        made = everything((0, 1))
        times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
        again = everything((0, 1))
        assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}, "nothing is made twice"
        assert [r.id for found in again.values() for r in found] == [r.id for found in made.values() for r in found]
        patch.setattr(lora_runs, "EPOCHS", 1)
        quick = lora_runs.lora("rank", "tiny", folder, (0,), (1e-2,))
        assert {r.settings["epochs"] for r in quick} == {1}, "other settings: made anew"
        patch.setattr(lora_runs, "EPOCHS", 2)
        assert lora_runs.lora("rank", "tiny", folder, (0, 1), (1e-2, 3e-2))[0].settings["epochs"] == 2
        read = {name: lora_runs.recorded(name, "tiny", folder) for name in lora_runs.EXPERIMENTS}
        assert {n: {r.id for r in found} for n, found in read.items()} == {
            n: {r.id for r in found} for n, found in made.items()
        }
    return made, folder


def test_everything_is_recorded(small) -> None:
    made, folder = small
    assert {(r.settings["cut"], r.seed) for r in made["full"]} == {(c, s) for c in (None, 0, 1, 16) for s in (0, 1)}
    assert {(r.settings["rank"], r.seed) for r in made["rank"]} == {(r, s) for r in (1, 2) for s in (0, 1)}
    assert {r.settings["key"] for r in made["targets"]} == {"query", "query-and-value", "all-six"}
    assert len({(r.settings["alpha"], r.settings["learning_rate"]) for r in made["alpha"]}) == 4
    assert [r.settings["bits"] for r in made["quantized"]] == ["int8"]
    assert {r.split for r in made["alpha"]} == {"dev"} and {r.split for r in made["full"]} == {"test"}
    assert all(r.command == lora_runs.COMMAND and r.settings["loss"] > 0 for found in made.values() for r in found)
    for name, found in made.items():
        records.summary(found)  # no two of one group and seed
        assert len(records.load(folder)) == sum(map(len, made.values())), name


def test_rates_are_tuned_or_taken_as_given(small) -> None:
    made, _ = small
    for record in made["rank"] + made["full"]:
        tried = record.settings["tuned_rates"]
        assert [row["learning_rate"] for row in tried] == [1e-2, 3e-2]
        assert record.settings["learning_rate"] in (1e-2, 3e-2)
    assert all(r.settings["tuned_rates"] == [] for r in made["targets"] + made["alpha"])


def test_a_whole_update_tells_its_spectra(small) -> None:
    made, _ = small
    whole = [r for r in made["full"] if r.settings["cut"] is None]
    full = {r.seed: r for r in made["full"] if r.settings["cut"] == 16}
    for record in whole:
        about = record.settings
        assert set(about["spectra"]) <= set(spectra.matrices(tiny.model())) and len(about["spectra"]) > 12
        for one in about["spectra"].values():
            assert one["energy"][0] == 0 < one["energy"][1] <= one["energy"][2] == pytest.approx(1, abs=1e-4)
            assert 1 <= one["effective_rank"] <= min(one["shape"]) + 1e-3 and one["moved"] > 0
            assert " × ".join(map(str, one["shape"])) in about["chance"]
        assert full[record.seed].predictions == record.predictions, "cut to full rank, nothing is lost"
        assert lora_runs.intruders_of(record) >= 0


def test_changes_are_those_of_the_merged_weights() -> None:
    base = tiny.model()
    model = methods.apply(tiny.model(), methods.LoRA(rank=2, alpha=6.0))
    assert lora_runs.changes(base, model) == {"moved": 0.0, "intruders": 0.0}
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "up"):
            torch.nn.init.normal_(module.up.weight)
    told = lora_runs.changes(base, model)
    merged = methods.merge(model)
    sites = [[s.module.weight for s in backbones.anatomy(m).sites(("query", "value"))] for m in (base, merged)]
    change = sum((new - old).square().sum() for old, new in zip(*sites, strict=True))
    whole = sum(old.square().sum() for old in sites[0])
    assert told["moved"] == pytest.approx((change / whole).sqrt().item(), rel=1e-4)
    strangers = [spectra.intruders(old.detach(), new.detach()) for old, new in zip(*sites, strict=True)]
    assert told["intruders"] == pytest.approx(sum(strangers) / len(strangers)) and sum(strangers) > 0


def test_the_budgets_of_the_targets_are_equal_where_the_feed_forward_is_four_times_as_wide() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device("meta"):
        model = BertForSequenceClassification(
            BertConfig(hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
        )
    found = backbones.anatomy(model)
    counts = {
        methods.make("LoRA", **trial.options).parameter_count(found) for trial in lora_runs.trials("targets", "tiny")
    }
    assert len(counts) == 1


def test_the_experiments_are_about_a_shipped_task() -> None:
    assert lora_runs.TASK in tasks.available() and lora_runs.RANK in lora_runs.RANKS
    assert set(lora_runs.BITS) <= {"int8", "nf4"}


def test_the_command_line_runs_what_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = []
    for name in ("full", "alpha", "lora"):
        monkeypatch.setattr(lora_runs, name, lambda *given, name=name: called.append((name, *given)))
    lora_runs.main(["--only", "full", "rank", "alpha", "--seeds", "0", "--rates", "3e-3", "--out", str(tmp_path)])
    assert called == [
        ("full", "pocket-bert", tmp_path, [0], lora_runs.FULL_RATES[1:2]),
        ("lora", "rank", "pocket-bert", tmp_path, [0], [3e-3]),
        ("alpha", "pocket-bert", tmp_path, [0]),
    ]

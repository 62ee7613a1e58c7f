"""Experiments: tuned on held-out train, all labels counted, resumable, test only seen by final runs."""

import dataclasses
import json
from dataclasses import replace

import pytest
import tiny
import torch
from conformance import backbone
from transformers import AutoModel

from peft_helpers import experiments, records, tasks, taxonomy, training

SETTINGS = training.Settings(1e-2, epochs=2, batch_size=8, progress=False, precision="fp32")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A tiny task and a tiny backbone on the disk."""
    data = tiny.task(train=60)
    folder = tmp_path / "warmth"
    folder.mkdir()
    for split, rows in data.splits.items():
        (folder / f"{split}.jsonl").write_text(
            "".join(json.dumps({"text": r["text"], "label": r["label"]}) + "\n" for r in rows)
        )
    tiny.model(head=False).save_pretrained(tmp_path / "tiny-bert")
    tiny.tokenizer().save_pretrained(tmp_path / "tiny-bert")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(here, **more):
    chosen = {
        "method": "full",
        "labels": 40,
        "rates": [1e-2, 1e-5],
        "seeds": [0, 1],
        "settings": SETTINGS,
        "folder": here / "out",
    }
    return experiments.run("warmth", "tiny-bert", **(chosen | more))


def test_a_run_tunes_trains_and_records(here):
    made = run(here, command="python …")
    assert [record.seed for record in made] == [0, 1]
    first = made[0]
    assert (first.labels, first.split, first.method, len(first.predictions)) == (40, "test", "full", 16)
    tuned = first.settings["tuned_rates"]
    assert [row["learning_rate"] for row in tuned] == [1e-2, 1e-5]
    assert first.settings["learning_rate"] == experiments.best_rate(tuned)["learning_rate"]
    assert first.backbone_sha256 and first.parameters["trained"] == first.parameters["total"]
    assert {record.id for record in records.load(here / "out")} == {record.id for record in made}


def test_what_is_done_is_not_done_again(here, monkeypatch):
    made = run(here)

    def forbidden(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "fit", forbidden)
    assert run(here) == made
    with pytest.raises(AssertionError, match="trained again"):
        run(here, seeds=[0, 1, 2])


def test_tuning_never_sees_dev_or_test(here):
    task = tasks.load("warmth").subset(40)
    cut = experiments.tuning_task(task)
    train, dev = list(cut.splits["train"]["text"]), list(cut.splits["dev"]["text"])
    assert (len(train), len(dev)) == (32, 8)
    assert sorted(train + dev) == sorted(task.splits["train"]["text"])


def test_scratch_starts_from_other_weights(here, monkeypatch):
    asked = []
    real = experiments.backbones.load
    monkeypatch.setattr(experiments.backbones, "load", lambda *a, **k: asked.append(k["pretrained"]) or real(*a, **k))
    run(here, method="scratch", seeds=[0], rates=[1e-2])
    assert asked == [False, False]
    assert AutoModel.from_pretrained(here / "tiny-bert") is not None


def test_the_best_rate_is_the_best_score_then_the_lowest_loss():
    rows = [(1e-5, 0.8, 0.6), (1e-4, 0.9, 0.5), (1e-3, 0.9, 0.4), (1e-2, -1.0, None)]
    tuned = [{"learning_rate": rate, "score": score, "loss": loss} for rate, score, loss in rows]
    assert experiments.best_rate(tuned)["learning_rate"] == 1e-3


def test_bad_input(here):
    with pytest.raises(ValueError, match="method must be one of full, scratch"):
        run(here, method="lora")
    with pytest.raises(ValueError, match="at least one learning rate"):
        run(here, rates=[])


def test_the_command_line_records_how_to_run_it_again_but_not_where(here, capsys):
    arguments = ["--task", "warmth", "--backbone", "tiny-bert", "--method", "full", "--labels", "40", "--epochs", "1"]
    told = " ".join(["python -m peft_helpers.experiments", *arguments, "--rates 1e-2 --seeds 0"])
    arguments += ["--rates", "1e-2", "--seeds", "0", "--out", "out"]
    experiments.main(arguments)
    experiments.main([*arguments[:5], "bag of words", *arguments[6:]])
    experiments.main([*arguments[:5], "linear probe", *arguments[6:]])
    made = {record.method: record for record in records.load(here / "out")}
    assert set(made) == {"full", "bag of words", "linear probe"}
    assert made["full"].command == told
    assert "accuracy" in capsys.readouterr().out


def test_a_method_with_settings_is_recorded_under_both(here):
    made = run(here, method="Houlsby", options={"bottleneck": 4}, seeds=[0], rates=[1e-2])[0]
    assert (made.method, made.id) == ("Houlsby(bottleneck=4)", "warmth-40-tiny-bert-Houlsby-bottleneck-4-0")
    assert made.settings["method_settings"] == {"bottleneck": 4}
    parameters = made.parameters
    assert parameters["trained"] == parameters["stored"] < parameters["total"]
    with pytest.raises(ValueError, match="no setting size"):
        run(here, method="Houlsby", options={"size": 4})
    with pytest.raises(ValueError, match="full has no settings"):
        run(here, method="full", options={"rank": 4})


def test_changed_are_the_pretrained_numbers_that_differ(here):
    """LoRA trains little and changes whole matrices, adapters change nothing but layer norms, the head is new."""
    task, names = tasks.load("warmth"), ["LoRA", "IA3", "FishMask", "Houlsby"]
    measured = {row.entry.name: row.changed for row in taxonomy.measure(backbone("bert"), names)}
    found = {name: experiments.counted(experiments.prepare("tiny-bert", task, name, None, 0)[0]) for name in names}
    assert {name: counts["changed"] for name, counts in found.items()} == measured
    width = 16
    assert measured["LoRA"] == 2 * 2 * width**2 and measured["Houlsby"] == (2 * 2 + 1) * 2 * width
    lora, full = (run(here, method=name, seeds=[0], rates=[1e-2])[0].parameters for name in ("LoRA", "full"))
    assert (lora["changed"], lora["stored"]) == (measured["LoRA"], lora["trained"])
    assert full["stored"] == full["trained"] == full["total"] == full["changed"] + 2 * (width + 1)


def test_adalora_has_its_ranks_allocated(here):
    """In tuning and in the final run; what an earlier schedule has left on the disk is not taken up."""
    task, options = tasks.load("warmth").subset(40), {"rank": 3}
    model, tokenizer = experiments.prepare("tiny-bert", task, "AdaLoRA", options, 0)
    experiments.fit(model, tokenizer, task, replace(SETTINGS, keep_best=False))
    triplets = [module.singular for module in model.modules() if hasattr(module, "singular")]
    assert sum(int(one.count_nonzero()) for one in triplets) == 2 * len(triplets)
    assert all(not p._post_accumulate_grad_hooks for p in triplets), "nothing looks at gradients any more"
    assert experiments.allocation("LoRA") == {} and experiments.allocation("AdaLoRA")["target_rank"] == 8
    made = run(here, method="AdaLoRA", options=options, seeds=[0], rates=[1e-2])[0]
    assert made.settings["allocation"] == experiments.allocation("AdaLoRA", options)


def test_another_schedule_of_adalora_is_another_run(here, monkeypatch):
    fitted, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *given, **more: fitted.append(more) or fit(*given, **more))
    chosen = {"method": "AdaLoRA", "options": {"rank": 3}, "seeds": [0], "rates": [1e-2]}
    run(here, **chosen)
    assert [list(more) for more in fitted] == [["callbacks"], ["callbacks"]], "tuning and the final run"
    run(here, **chosen)
    assert len(fitted) == 2
    earlier = experiments.allocation
    monkeypatch.setattr(
        experiments, "allocation", lambda *given: found | {"every": 5} if (found := earlier(*given)) else {}
    )
    run(here, **chosen)
    assert len(fitted) == 4


@pytest.mark.parametrize("method", ["full", "LoRA", "DiffPruning"])
def test_costs_are_recorded_and_change_nothing(here, monkeypatch, method):
    task = tasks.load("warmth")
    model, tokenizer = experiments.prepare("tiny-bert", task, method, None, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn, mode = torch.get_rng_state(), model.training
    found = experiments.costs(model, tokenizer, task, 8)
    assert torch.equal(torch.get_rng_state(), drawn) and model.training == mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert found["batch"][0] == 8 and found["activation_bytes"] > 0
    stored = 4 * experiments.counted(model)["stored"]
    assert stored < found["file_bytes"] < stored + 150 * len(before), "what is stored, and its names"
    with_costs = run(here, method=method, seeds=[0], rates=[1e-2])[0]
    assert with_costs.settings["costs"] == found, "the same batch for any number of labels"
    monkeypatch.setattr(experiments, "costs", lambda *_: {})
    without = run(here, method=method, seeds=[0], rates=[1e-2], folder=here / "other")[0]
    assert (with_costs.predictions, with_costs.history) == (without.predictions, without.history)


def test_a_step_of_full_fine_tuning_costs_three_forward_passes(here):
    """By hand: B T tokens, L layers of 4 D² + 2 D I and attention's two products; a pooler and 2 classes a text."""
    task, width, inner, layers = tasks.load("warmth"), 16, 32, 2
    model, tokenizer = experiments.prepare("tiny-bert", task, "full", None, 0)
    found = experiments.costs(model, tokenizer, task, 8)
    (b, t), d = found["batch"], width
    forward = layers * (2 * b * t * (4 * d * d + 2 * d * inner) + 4 * b * t * t * d) + 2 * b * (d * d + 2 * d)
    assert found["step_flops"] == 3 * forward


def test_settings_from_the_command_line():
    read = dict(map(experiments._setting, ["rank=4", 'targets=["query"]', "where=top"]))
    assert read == {"rank": 4, "targets": ["query"], "where": "top"}
    with pytest.raises(ValueError, match="KEY=VALUE"):
        experiments._setting("rank")


def test_a_rate_is_tuned_on_some_of_many_labels(here, monkeypatch):
    seen, fit = [], training.fit

    def watched(model, tokenizer, task, settings):
        seen.append(list(task.splits["train"]["text"]))
        return fit(model, tokenizer, task, settings)

    monkeypatch.setattr(training, "fit", watched)
    made = run(here, seeds=[0], tune_on=20)[0]
    assert [len(texts) for texts in seen] == [16, 16, 40]  # four fifths of 20 for each rate, then all labels
    assert (made.labels, made.settings["tuned_on"]) == (40, 20)
    assert set(seen[0]) <= set(seen[-1]), "the texts that tune are among those that train"
    (again,) = run(here, seeds=[0], rates=[1e-2, 1e-5, 1e-8])
    assert again.created == made.created, "the same run, tuned anew on all labels"
    assert "tuned_on" not in again.settings and len(again.settings["tuned_rates"]) == 3
    (longer,) = run(here, seeds=[0], settings=dataclasses.replace(SETTINGS, epochs=SETTINGS.epochs + 1))
    assert longer.settings["epochs"] == SETTINGS.epochs + 1, "other settings make another run"
    with pytest.raises(ValueError, match="at most the 40 labels; got 50"):
        run(here, seeds=[0], tune_on=50)


def test_a_best_rate_at_the_end_lets_the_next_be_tried(here, monkeypatch):
    def row(rate, score):
        return {"learning_rate": rate, "score": score, "loss": 1.0}

    assert experiments.next_rate([row(1e-3, 0.6), row(3e-3, 0.7), row(1e-2, 0.6)]) is None
    assert experiments.next_rate([row(1e-2, 0.6)]) is None
    assert experiments.next_rate([row(3e-3, 0.6), row(1e-2, 0.7)]) == 0.03
    assert experiments.next_rate([row(1e-3, 0.7), row(3e-3, 0.6)]) == 0.0003
    assert experiments.next_rate([row(3e-4, 0.7), row(1e-3, 0.6)]) == 0.0001
    assert experiments.next_rate([row(3e-4, 0.6), row(6e-4, 0.7)]) == 0.001
    assert experiments.next_rate([row(2e-4, 0.7), row(6e-4, 0.6)]) == 0.0001
    with pytest.raises(ValueError, match="widen must not be negative; got -1"):
        run(here, widen=-1)

    scores = {1e-5: 0.5, 1e-2: 0.6, 3e-2: 0.8, 1e-1: 0.7}
    monkeypatch.setattr(
        experiments, "tune", lambda task, backbone, method, rates, *_: [row(r, scores[r]) for r in rates]
    )
    first = run(here, seeds=[0])[0]
    trained, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *given: trained.append(given[-1].learning_rate) or fit(*given))
    wider = run(here, seeds=[0], widen=5)[0]
    assert [r["learning_rate"] for r in wider.settings["tuned_rates"]] == [1e-2, 1e-5, 3e-2, 1e-1]
    assert (first.id, first.settings["learning_rate"]) == (wider.id, 1e-2) and trained == [3e-2]
    assert records.load(here / "out")[0].settings["learning_rate"] == wider.settings["learning_rate"] == 3e-2
    scores[1e-1] = 0.1
    again = run(here, seeds=[0], widen=5)[0]
    assert trained == [3e-2] and again.settings["tuned_rates"][-1]["score"] == 0.1, "only the table of rates is new"
    assert again.predictions == wider.predictions


def test_fish_measures_its_mask_on_the_tasks_texts(here):
    from peft_helpers.methods import surgery

    task = tasks.load("warmth")
    masks = [
        next(
            iter(surgery.own_buffers(experiments.prepare("tiny-bert", one, "FishMask", {"share": 0.02}, 0)[0]).values())
        )
        for one in (task, task, task.subset(8, 1))
    ]
    assert masks[0].equal(masks[1]) and not masks[0].equal(masks[2])


def test_folds_judge_a_rate_by_several_fifths(here, monkeypatch):
    task = tasks.load("warmth").subset(40)
    fifths = [list(experiments.tuning_task(task, fold=fold).splits["dev"]["text"]) for fold in range(5)]
    assert sorted(text for fifth in fifths for text in fifth) == sorted(task.splits["train"]["text"])
    seeds, prepare = [], experiments.prepare
    monkeypatch.setattr(experiments, "prepare", lambda *given: seeds.append(given[-1]) or prepare(*given))
    made = run(here, seeds=[0], folds=2)[0]
    rates = len(made.settings["tuned_rates"])
    assert seeds == [0, 1] * rates + [0], "each fold with a seed of its own, then the final run"
    for row in made.settings["tuned_rates"]:
        assert len(row["folds"]) == 2 and row["score"] == pytest.approx(sum(row["folds"]) / 2)
    with pytest.raises(ValueError, match="folds must be 1 to 5"):
        run(here, seeds=[0], folds=6)

"""Lesson 10's sweeps on tiny networks, λ, the toy, and the reader of its records."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from datasets import Dataset, DatasetDict
from test_generation import REFERENCES, SOURCES, decoder, encoder_decoder

from peft_helpers import methods, prefix_records, prefix_runs, prefix_shares, prefix_toy, records, tasks
from peft_helpers.decoder_runs import dictionary, numbers, write_all

ROWS = 12


def made_up_task(name: str = "trails") -> tasks.Task:
    """Three lines of facts, repeated, one reference each in train."""
    rows = [{"meaning": SOURCES[i % 3], "label": REFERENCES[i % 3][:1]} for i in range(ROWS)]
    sizes = {"train": ROWS, "dev": 3, "test": 3}
    splits = DatasetDict({split: Dataset.from_list(rows[:n]) for split, n in sizes.items()})
    return tasks.Task(name, "generation", "bleu", ("meaning",), (), splits)


def load(name: str, task=None, pretrained: bool = True, seed: int = 0):
    model, tokenizer = (decoder if "gpt2" in name else encoder_decoder)()
    model.name = name
    return model, tokenizer


PLANS = [
    dataclasses.replace(prefix_runs.prefix(2, 8), seeds=(0, 1)),
    prefix_runs.prefix(2, 8, "real words", init="activations", words=True),
    prefix_runs.few("full", "full", 8),
    prefix_runs.prefix(2, 8, "no MLP", hidden=None),
    dataclasses.replace(prefix_runs.on_decoder("infix 10", infix=True), labels=8),
]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"STEPS": 2, "BATCH": 4, "TUNING_LABELS": 10, "TUNING_STEPS": 1, "SHARED": 2}.items():
        monkeypatch.setattr(prefix_runs, name, value)
    monkeypatch.setattr(prefix_runs.tasks, "load", made_up_task)
    monkeypatch.setattr(prefix_runs.backbones, "load", load)
    monkeypatch.setattr(prefix_runs.backbones, "weights_hash", lambda name: "some")
    monkeypatch.setattr(prefix_runs.generation, "MAX_NEW_TOKENS", 8)
    monkeypatch.setattr(prefix_runs.generation, "write", lambda *_, **__: [texts[0] for texts in REFERENCES])


def test_a_sweep_is_recorded_once_and_read_back(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prefix_runs, "EXPERIMENTS", {"length": PLANS})
    made = prefix_runs.run(PLANS, tmp_path)
    assert [r.id for r in made] == [plan.id(seed) for plan in PLANS for seed in plan.seeds]
    assert [r.backbone for r in made] == [prefix_runs.BART] * 5 + [prefix_runs.GPT2]
    parts = [set(r.settings.get("shares", ())) for r in made]
    assert parts == [three := {"encoder", "decoder", "cross"}] * 3 + [set(), three, {"decoder"}]
    assert all(0 < share < 1 for r in made for found in r.settings.get("shares", {}).values() for share in found)
    first, full, direct = made[0], made[3], made[4]
    assert direct.settings["learning_rate"] in prefix_runs.RATES[prefix_runs.DIRECT]
    assert direct.parameters["trained"] == direct.parameters["stored"] == first.parameters["stored"]
    assert first.parameters["stored"] == 2 * 2 * 16 * 3 < first.parameters["trained"], "the MLP is not stored"
    assert full.parameters["stored"] == full.parameters["trained"] == full.parameters["total"]
    assert first.score == 1.0 and first.predictions == [0, 0, 0] and first.labels == 8
    assert first.settings["learning_rate"] in prefix_runs.RATES["PrefixTuning"]
    assert {row["learning_rate"] for row in first.settings["tuned_rates"]} == set(prefix_runs.RATES["PrefixTuning"])
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert [r.id for r in prefix_runs.run(PLANS, tmp_path)] == [r.id for r in made]
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}, "nothing is made twice"

    one_rate = {family: rates[:1] for family, rates in prefix_runs.RATES.items()}
    monkeypatch.setattr(prefix_runs, "RATES", one_rate | {"full": (3e-4, 1e-3, 1e-8)})  # one more, which learns nothing
    (again,) = prefix_runs.run(PLANS[2:3], tmp_path)
    assert again.created == full.created and len(again.settings["tuned_rates"]) == 3, "the same run among other rates"

    found = prefix_runs.recorded("length", tmp_path)
    assert [(plan.name, [r.seed for r in runs]) for plan, runs in found] == [
        ("prefix 2", [0, 1]), ("prefix 2, real words", [0]), ("full", [0]),
        ("prefix 2, no MLP", [0]), ("infix 10", [0]),
    ]  # fmt: skip
    assert prefix_records.compared("trails", prefix_runs.BART, folder=tmp_path) == {}, "sweeps are another kind"


def test_other_weights_or_settings_are_made_anew(small, tmp_path, monkeypatch) -> None:
    (before,) = prefix_runs.run(PLANS[2:3], tmp_path)
    monkeypatch.setattr(prefix_runs, "STEPS", 4)
    (longer,) = prefix_runs.run(PLANS[2:3], tmp_path)
    assert (before.settings["epochs"], longer.settings["epochs"]) == (1, 2)
    monkeypatch.setattr(prefix_runs.backbones, "weights_hash", lambda name: "others")
    (other,) = prefix_runs.run(PLANS[2:3], tmp_path)
    assert (longer.backbone_sha256, other.backbone_sha256) == ("some", "others")


def test_the_command_line_runs_one_experiment(small, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(prefix_runs, "EXPERIMENTS", {"length": PLANS[:1], "few": PLANS[2:3]})
    prefix_runs.main(["--only", "few", "--out", str(tmp_path)])
    assert [path.stem for path in tmp_path.glob("*.json")] == [PLANS[2].id(0)]
    assert "prefix-trails-8-pocket-bart-full-0" in capsys.readouterr().out


def test_every_plan_is_a_method_and_has_an_id_of_its_own() -> None:
    plans = itertools.chain.from_iterable(prefix_runs.EXPERIMENTS.values())
    every = [(plan.id(seed), plan) for plan in plans for seed in plan.seeds]
    by_run = {}
    for name, plan in every:
        key = (plan.method, tuple(sorted(plan.options.items())), plan.labels, plan.backbone, plan.task)
        assert by_run.setdefault(name, key) == key
        if plan.method != "full":
            tokenizer = decoder()[1]
            assert isinstance(methods.make(plan.method, **prefix_runs.options_of(plan, tokenizer)), methods.Method)
        assert plan.family in prefix_runs.RATES
    assert 20 < len(by_run) < len(every), "some points belong to two sweeps"
    assert {plan.options["length"] for plan in prefix_runs.EXPERIMENTS["length"]} == {1, 5, 10, 20, 50}


def test_about_as_many_steps_whatever_the_size() -> None:
    for labels in prefix_runs.E2E_SIZES:
        epochs = prefix_runs.settings_of(prefix_runs.prefix(labels=labels), 1e-3, 0).epochs
        assert abs(epochs * -(-labels // prefix_runs.BATCH) - prefix_runs.STEPS) <= 0.1 * prefix_runs.STEPS


def test_an_unknown_experiment_is_refused() -> None:
    names = "length, few, beginning, few-e2e, length-e2e, beginning-e2e, embedding, mlp, infix"
    with pytest.raises(ValueError, match=f"experiment must be one of {names}; got 'x'"):
        prefix_runs.recorded("x")


# ---------------------------------------------------------------- λ


@pytest.mark.parametrize("make", [decoder, encoder_decoder])
def test_shares_are_the_attention_to_the_prefix(make) -> None:
    model, tokenizer = make()
    torch.manual_seed(0)
    methods.apply(model, methods.PrefixTuning(3, hidden=None, init="zero")).train()
    before = model.config._attn_implementation
    texts = [texts[0] for texts in REFERENCES]
    found = prefix_shares.prefix_shares(model, tokenizer, SOURCES, texts)
    assert model.training and model.config._attn_implementation == before
    one_row = make is decoder
    assert list(found) == (["decoder"] if one_row else ["encoder", "decoder", "cross"])
    layers = 2 if one_row else 1
    assert all(shares.shape == (layers, 2) and shares.min() > 0 and shares.max() < 1 for shares in found.values())
    for prefix in (module for path, module in model.named_modules() if path.endswith(".prefix")):
        prefix.key.data -= 1e4 * torch.ones_like(prefix.key)  # nobody's query likes it, or everybody's
    told = prefix_shares.prefix_shares(model, tokenizer, SOURCES, texts)
    assert all((told[part] - found[part]).abs().max() > 0.05 for part in found), "another prefix, the same shares"


def test_even_scores_share_by_number() -> None:
    """All queries zero: every key weighs the same, so λ = l / (l + keys seen)."""
    model, tokenizer = encoder_decoder()
    for name, parameter in model.named_parameters():
        if "q_proj" in name:
            torch.nn.init.zeros_(parameter)
    methods.apply(model, methods.PrefixTuning(3, hidden=None, parts=("encoder", "cross")))
    found = prefix_shares.prefix_shares(model, tokenizer, SOURCES[:1], [REFERENCES[0][0]])
    read = len(tokenizer(SOURCES[0])["input_ids"])
    assert list(found) == ["encoder", "cross"]
    for shares in found.values():
        torch.testing.assert_close(shares, torch.full((1, 2), 3 / (3 + read)))


def test_shares_want_texts_and_a_prefix() -> None:
    model, tokenizer = decoder()
    with pytest.raises(ValueError, match="one text a source is wanted; got 1 texts for 3 sources"):
        prefix_shares.prefix_shares(model, tokenizer, SOURCES, ["one"])
    with pytest.raises(ValueError, match="carries no prefix"):
        prefix_shares.prefix_shares(model, tokenizer, SOURCES, SOURCES)
    assert model.config._attn_implementation == "sdpa"


# ---------------------------------------------------------------- the toy


def test_the_toy_is_steered_and_each_broken_run_looks_as_its_question_says() -> None:
    words = dictionary()
    base = prefix_toy.pretrained()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    assert write_all(base, [numbers(key) for key in words]) == list(words.values())
    sound, runs = prefix_toy.steer(), prefix_toy.runs_to_diagnose()
    closed, from_zero, embeddings = (runs[name] for name in ("10-a", "10-b", "10-c"))
    assert sound.looks[1][-1] > 0.9 and set(sound.looks[2]) == {1.0} and sound.losses[-1] < 0.2
    palindromes = sum(word == word[::-1] for word in words.values()) / len(words)
    assert closed.losses[-1] > 1 and set(closed.looks[1]) == {palindromes} and set(closed.looks[2]) == {1.0}
    assert from_zero.losses == sound.losses and from_zero.looks[1][-1] < 0.3
    assert embeddings.looks[1][-1] > 0.9 and embeddings.looks[2][-1] < 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in prefix_toy.pretrained().state_dict().items())
    assert set(sound.as_plot()) == {"loss", "words right"}


# ---------------------------------------------------------------- reading what others recorded

NUMBERS = itertools.count()


def record(method: str, bleu: float, labels: int = 10, held_out: float = 0.5, **more) -> records.Record:
    """A made-up record of a generation task."""
    scores = {"bleu": bleu, "rouge_l": 0.4, "chrf": 0.4, "slot_error_rate": 1 - bleu, "names_copied": bleu}
    settings = {"scores": scores, "tuned_rates": [{"learning_rate": 1e-3, "score": held_out}], **more.pop("about", {})}
    fields = {
        "id": f"r-{next(NUMBERS)}", "task": "made", "split": "test", "labels": labels, "backbone": "tiny",
        "backbone_sha256": None, "method": method, "settings": settings, "seed": 0, "metric": "bleu", "score": bleu,
        "predictions": [1, 0], "parameters": {"trained": 20, "changed": 5, "stored": 5, "total": 100}, "seconds": 1.0,
        "peak_memory_mb": None, "device": "cpu", "versions": {},
    }  # fmt: skip
    return records.Record(**fields | more)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr("peft_helpers.adapter_records.backbones.weights_hash", lambda name: None)
    whole = {"trained": 100, "changed": 100, "stored": 100, "total": 100}
    for one in (
        record("full", 0.5, parameters=whole),
        record("full", 0.4, seed=1, parameters=whole),
        record("PrefixTuning(length=5)", 0.3, held_out=0.6, about={"method_settings": {"length": 5}}),
        record("PrefixTuning(length=20)", 0.44, held_out=0.55, about={"method_settings": {"length": 20}}),
        record("full", 0.2, labels=4, parameters=whole),
        record("prefix 20, about 200 steps", 0.9, about={"experiment": "prefix"}),
        record("Compacter", 0.9),
    ):
        records.save(one, tmp_path)
    return tmp_path


def test_methods_are_compared_where_most_are_recorded(shelf) -> None:
    found = prefix_records.compared("made", "tiny", folder=shelf)
    assert [entry.name for entry in found.values()] == ["full", "prefix 20", "prefix 5"]
    assert found["full"].scores("bleu") == [0.5, 0.4] and found["full"].mean("slot_error_rate") == pytest.approx(0.55)
    assert found["PrefixTuning(length=5)"].share == 0.2 and found["PrefixTuning(length=5)"].stored == 5
    assert prefix_records.best(found, "prefix").name == "prefix 5", "chosen on held-out data, not on test"
    assert prefix_records.best(found, "LoRA") is None
    assert prefix_records.compared("made", "other", folder=shelf) == {}
    assert prefix_records.sizes("made", "tiny", folder=shelf) == {"full": {4: [0.2], 10: [0.5, 0.4]}}


def test_tables_say_what_the_records_say(shelf) -> None:
    found = prefix_records.compared("made", "tiny", folder=shelf)
    table = prefix_records.table(found)
    assert "| full | 100.0% | 100 | 45.0 ± 7.1 | 40.0 ± 0.0 | 55.0 ± 7.1 | 45.0 ± 7.1 | 2 |" in table
    assert "| prefix 5 | 20.0% | 5 | 30.0 | 40.0 | 70.0 | 30.0 | 1 |" in table, "one seed has no spread"
    told = prefix_records.beside_paper({"made": found, "nothing": {}})
    assert "nothing" not in told and "| papers: GPT-2 medium, E2E | made |" in told
    assert "| prefix | 69.7 (102%), 0.1 % | 30.0 (67%), prefix 5 |" in told
    assert "| adapters | 68.9 (101%), 3 %; 66.3 (97%), 0.1 % | not recorded |" in told

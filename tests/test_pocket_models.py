"""The shipped models: they load plainly, are what their card says, and stay what they were."""

import hashlib
import json
import random

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForPreTraining,
)

from peft_helpers import backbones, records, tasks, training
from peft_helpers.pretraining import shipping, structure

FOLDER = backbones.POCKET / "pocket-bert"
PLAIN = {
    "pocket-bert": (AutoModelForMaskedLM, "bert", 4),
    "pocket-gpt2": (AutoModelForCausalLM, "gpt2", 4),
    "pocket-bart": (AutoModelForSeq2SeqLM, "bart", 4),
}
SUMS = backbones.POCKET.parent / "SHA256SUMS"


def test_sums_cover_every_shipped_model_file_and_hold():
    listed = dict(reversed(line.split("  ")) for line in SUMS.read_text().splitlines())
    shipped = {p.relative_to(SUMS.parent).as_posix() for p in backbones.POCKET.rglob("*") if p.is_file()}
    assert set(listed) == shipped
    for name, digest in listed.items():
        assert hashlib.sha256((SUMS.parent / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", PLAIN)
def test_loads_plainly_and_is_small(name):
    folder, (make, kind, layers) = backbones.POCKET / name, PLAIN[name]
    assert (folder / "model.safetensors").stat().st_size <= 12_000_000
    model = AutoModel.from_pretrained(folder)
    assert model.dtype == torch.float16
    assert model.config.model_type == kind
    assert (len(backbones.anatomy(model).layers), model.config.hidden_size) == (layers, 256)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    make.from_pretrained(folder, dtype=torch.float32)
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("name", PLAIN)
def test_fixed_inputs_give_the_logits_in_the_history(name):
    folder, (make, _, _) = backbones.POCKET / name, PLAIN[name]
    make = BertForPreTraining if name == "pocket-bert" else make
    probe = json.loads((folder / "training.json").read_text("utf-8"))["probe"]
    model, tokenizer = make.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    assert probe["text"] == shipping.PROBE
    assert shipping.probe(model, tokenizer) == pytest.approx(probe["logits"], abs=0.02)


@pytest.mark.parametrize("name", PLAIN)
def test_card_and_history_are_complete(name):
    folder = backbones.POCKET / name
    card, made = (folder / "README.md").read_text("utf-8"), json.loads((folder / "training.json").read_text("utf-8"))
    asked = ["license: apache-2.0", "Limits", "Wikipedia", "CC BY-SA", "held out", "seed", "tokens", "torch"]
    if name == "pocket-bert":
        asked = [*asked, "Teacher", "all-MiniLM-L6-v2", "no claim of label efficiency"]
        asked.remove("tokens")
    for word in asked:
        assert word in card, word
    assert made["steps_done"] == made["settings"]["steps"], "the shipped model's schedule ran to its end"
    assert all(f"{figure:.3f}" in card for figure in shipping.held_out(made).values())
    assert f"{made['parameters']:,}" in card
    make = BertForPreTraining if name == "pocket-bert" else PLAIN[name][0]
    assert made["parameters"] == sum(p.numel() for p in make.from_pretrained(folder).parameters())
    assert name in (backbones.POCKET / "README.md").read_text("utf-8")


def test_structured_text_costs_what_the_card_says():
    """Held-out structured text can be made again; prose can't be shipped."""
    folder = backbones.POCKET / "pocket-gpt2"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    told = shipping.held_out(json.loads((folder / "training.json").read_text("utf-8")))["structured"]
    draw, ids = random.Random(12345), []
    while len(ids) < 32 * 129:
        ids += [*tokenizer(structure.document(draw))["input_ids"], tokenizer.eos_token_id]
    rows = torch.tensor(ids[: 32 * 129]).view(32, 129)
    with torch.no_grad():
        logits = model(input_ids=rows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
    assert loss == pytest.approx(told, rel=0.15)


@pytest.mark.parametrize("name", ["pocket-gpt2", "pocket-bart"])
def test_byte_level_round_trip(name):
    tokenizer = AutoTokenizer.from_pretrained(backbones.POCKET / name)
    assert len(tokenizer) == 4096
    for text in ("Osprey Ledge: 8 miles | dogs: no", "Zoé's “cat” – 3 €\n\ttabs", "  two  spaces "):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_an_encoder_refuses_to_write_and_a_decoder_loads():
    task = tasks.load("trails")
    with pytest.raises(ValueError, match="pocket-bert is an encoder"):
        backbones.load("pocket-bert", task)
    model, tokenizer = backbones.load("pocket-gpt2", task)
    assert model.can_generate() and tokenizer.pad_token is not None


@pytest.mark.parametrize(
    "text",
    ["the usher's torch dazzled us.", "not a dull minute; we'd go again!", "it cost 12.50, twice.", "naive cafe"],
)
def test_tokenizer_round_trip(text):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.unk_token_id not in ids
    back = tokenizer.decode(ids, skip_special_tokens=True)
    assert back.replace(" ", "") == text.replace(" ", "")
    assert tokenizer(text.upper())["input_ids"] == ids
    assert len(tokenizer) == 8192
    assert tokenizer.model_max_length == 128


def test_near_sentences_are_near():
    """The pooler knows something: a paraphrase is nearer than a stranger."""
    task = tasks.load("similarity")
    model, tokenizer = (
        AutoModel.from_pretrained(FOLDER, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(FOLDER),
    )
    rows = [row for row in task.splits["test"] if row["label"] in (0.0, 5.0)]

    def vectors(column: str) -> torch.Tensor:
        batch = tokenizer([row[column] for row in rows], padding=True, return_tensors="pt")
        with torch.no_grad():
            return torch.nn.functional.normalize(model(**batch).pooler_output, dim=-1)

    cosine = (vectors("first") * vectors("second")).sum(-1)
    same = torch.tensor([row["label"] == 5.0 for row in rows])
    assert cosine[same].mean() > cosine[~same].mean() + 0.1
    auc = (cosine[same][:, None] > cosine[~same][None]).float().mean()
    assert auc > 0.8, f"a paraphrase pair scores higher than an unrelated pair in {auc:.0%} of cases"


def test_records_were_made_with_the_shipped_weights():
    shipped = [record for record in records.load(records.SHIPPED) if record.backbone.startswith("pocket-")]
    assert shipped
    for record in shipped:
        assert record.backbone_sha256 == backbones.weights_hash(record.backbone), (
            f"{record.id} is of older weights: run {record.command}"
        )


def test_step_zero_loss_of_a_fresh_head_is_near_ln_2():
    task = tasks.load("sentiment")
    model, tokenizer = backbones.load("pocket-bert", task)
    assert training.evaluate(model, tokenizer, task, "dev").loss == pytest.approx(0.693, abs=0.1)

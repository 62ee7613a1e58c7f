"""The shipped models: they load plainly, are what their card says, and stay what they were."""

import hashlib
import json

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from peft_helpers import backbones, records, tasks, training

FOLDER = backbones.POCKET / "pocket-bert"
SUMS = backbones.POCKET.parent / "SHA256SUMS"


def test_sums_cover_every_shipped_model_file_and_hold():
    listed = dict(reversed(line.split("  ")) for line in SUMS.read_text().splitlines())
    shipped = {p.relative_to(SUMS.parent).as_posix() for p in backbones.POCKET.rglob("*") if p.is_file()}
    assert set(listed) == shipped
    for name, digest in listed.items():
        assert hashlib.sha256((SUMS.parent / name).read_bytes()).hexdigest() == digest, name


def test_loads_plainly_and_is_small():
    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    model = AutoModel.from_pretrained(FOLDER)
    assert model.dtype == torch.float16
    assert model.config.model_type == "bert"
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (4, 256)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    AutoModelForSequenceClassification.from_pretrained(FOLDER, dtype=torch.float32)


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


def test_card_and_history_are_complete():
    card = (FOLDER / "README.md").read_text("utf-8")
    made = json.loads((FOLDER / "training.json").read_text("utf-8"))
    for word in (
        "license: apache-2.0",
        "Teacher",
        "all-MiniLM-L6-v2",
        "Limits",
        "Wikipedia",
        "CC BY-SA",
        "held-out",
        "seed",
    ):
        assert word in card, word
    assert made["steps_done"] == made["settings"]["steps"], "the shipped model's schedule ran to its end"
    assert f"{made['history'][-1]['held_out_cosine']:.3f}" in card
    assert f"{made['parameters']:,}" in card
    assert made["parameters"] == sum(p.numel() for p in AutoModel.from_pretrained(FOLDER).parameters())


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

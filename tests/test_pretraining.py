"""The pretraining script, run for real on a handful of sentences with a tiny teacher: it loads, learns, resumes."""

import json

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from peft_helpers import pretraining, storage

STATES = (("warm", "cold"), ("cold", "warm"), ("very red", "not green"))
SENTENCES = [
    f"The {color} {thing} is {first} and the {other} stays {second}."
    for color in ("red", "blue", "green")
    for thing in ("sea", "sky", "leaf", "fire")
    for first, second in STATES
    for other in ("ice", "leaf", "sky")
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder in which sentences and teacher vectors lie ready."""
    folder = tmp_path_factory.mktemp("work")
    corpora = tmp_path_factory.mktemp("corpora")
    (corpora / "movie_reviews.txt").write_text(" ".join(SENTENCES[:60]) + "\nshort\n")
    (corpora / "dialogues.txt").write_text("\n".join(f"User: {s}" for s in SENTENCES[50:]))
    exclude = folder / "test.tsv"
    exclude.write_text("sentence\tlabel\nthe red sea is warm and the ice stays cold .\t1\n")
    pretraining.collect_sentences(corpora, [exclude], folder)
    teacher = folder / "teacher-model"
    tiny.model("bert", head=False).save_pretrained(teacher)
    tiny.tokenizer().save_pretrained(teacher)
    pretraining.teach(folder, teacher, part=0, parts=1)
    return folder


def test_sentences_are_unique_long_enough_and_free_of_evaluation_text(work):
    lines = pretraining.read_sentences(work)
    keys = [pretraining.normalize(line) for line in lines]
    assert len(set(keys)) == len(keys) > 90
    assert all(pretraining.SHORTEST <= len(line) <= pretraining.LONGEST for line in lines)
    assert not any("the red sea is warm and the ice stays cold" in key for key in keys)
    assert not any(line.startswith("User") for line in lines)
    told = json.loads((work / "sources.json").read_text())
    assert told["dropped_as_evaluation_text"] >= 1
    assert sum(told["sentences"].values()) == len(lines)


def test_teacher_vectors_are_the_masked_mean_of_length_one(work):
    vectors = np.load(work / "teacher" / "0000.npy").astype(np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    model, tokenizer = (
        AutoModel.from_pretrained(work / "teacher-model").eval(),
        AutoTokenizer.from_pretrained(work / "teacher-model"),
    )
    encoded = tokenizer(pretraining.read_sentences(work)[7], truncation=True, return_tensors="pt")
    with torch.no_grad():
        alone = torch.nn.functional.normalize(model(**encoded).last_hidden_state.mean(1), dim=-1)[0]
    assert np.allclose(vectors[7], alone, atol=0.02), "bf16 moves it a little, padding must not"


def test_distillation_learns_resumes_and_exports(work, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "HELD_OUT", 8)
    monkeypatch.setattr(pretraining, "SAVE_EVERY", 20)
    monkeypatch.setattr(pretraining, "WARMUP_STEPS", 5)
    small = {"batch": 8, "vocabulary": 200, "longest": 32, "width": 64, "layers": 1}
    pretraining.distill(work, epochs=6, most_steps=40, minutes=0.0, **small)  # time is up after the first save
    _, stopped = storage.read_tensors(work / "student.safetensors")
    assert stopped["step"] == 20
    pretraining.distill(work, epochs=6, most_steps=40, **small)
    tensors, done = storage.read_tensors(work / "student.safetensors")
    assert done["step"] == 40
    assert done["history"][-1]["held_out_cosine"] > done["history"][0]["held_out_cosine"] - 0.01
    assert done["history"][-1]["train_cosine"] > 0.5

    (work / "student.safetensors").unlink()
    pretraining.distill(work, epochs=6, most_steps=40, **small)
    whole, _ = storage.read_tensors(work / "student.safetensors")
    assert all(torch.equal(tensors[name], whole[name]) for name in whole), "stopped and continued equals run through"

    out = tmp_path / "made"
    pretraining.export(work, out)
    model = AutoModel.from_pretrained(out)
    assert model.dtype == torch.float16
    assert torch.equal(model.pooler.dense.weight, whole["model.bert.pooler.dense.weight"].half())
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (
        tokenizer.decode(tokenizer("The red sea is warm.")["input_ids"], skip_special_tokens=True)
        == "the red sea is warm."
    )
    AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
    assert json.loads((out / "training.json").read_text())["steps_done"] == 40


def test_loss_prefers_the_own_target():
    torch.manual_seed(0)
    targets = torch.nn.functional.normalize(torch.randn(6, 10), dim=-1)
    right, cosine = pretraining.distillation_loss(targets * 3, targets)
    wrong, _ = pretraining.distillation_loss(targets.roll(1, 0), targets)
    assert cosine == pytest.approx(1.0)
    assert right < 0.01 < wrong

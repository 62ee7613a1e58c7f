"""The pretraining script, run for real on a handful of sentences and tiny models: it learns, resumes, exports."""

import json
import math
import random
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from peft_helpers import storage
from peft_helpers.pretraining import __main__ as command_line
from peft_helpers.pretraining import corpora, decoder, denoising, encoder, loop, ngram, shipping, structure, tokenizers

STATES = (("warm", "cold"), ("cold", "warm"), ("very red", "not green"))
SENTENCES = [
    f"The {color} {thing} is {first} and the {other} stays {second}."
    for color in ("red", "blue", "green")
    for thing in ("sea", "sky", "leaf", "fire")
    for first, second in STATES
    for other in ("ice", "leaf", "sky")
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of corpora, and an evaluation set beside it."""
    made = tmp_path_factory.mktemp("corpora")
    (made / "movie_reviews.txt").write_text("\n".join(SENTENCES[:60]) + "\nshort\n")
    (made / "dialogues.txt").write_text("\n".join(f"User: {s}" for s in SENTENCES[50:]))
    (made / "exclude.tsv").write_text("sentence\tlabel\nthe red sea is warm and the ice stays cold .\t1\n")
    return made


@pytest.fixture(scope="module")
def work(folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("work")
    corpora.collect_sentences(folder, [folder / "exclude.tsv"], made)
    return made


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    place = tmp_path_factory.mktemp("teacher")
    tiny.model("bert", head=False).save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    return encoder.Teacher(place, CPU)


# ---------------------------------------------------------------- text


def test_sentences_are_unique_long_enough_and_free_of_evaluation_text(work):
    lines = corpora.read_sentences(work)
    keys = [corpora.normalize(line) for line in lines]
    assert len(set(keys)) == len(keys) > 90
    assert all(corpora.SHORTEST <= len(line) <= corpora.LONGEST for line in lines)
    assert not any("the red sea is warm and the ice stays cold" in key for key in keys)
    assert not any(line.startswith("User") for line in lines)
    told = json.loads((work / "sources.json").read_text())
    assert told["dropped_as_evaluation_text"] >= 1
    assert sum(told["sentences"].values()) == len(lines)


def test_passages_hold_no_evaluation_text(folder):
    found = corpora.passages(folder, [folder / "exclude.tsv"], longest=120)
    texts = [next(found) for _ in range(50)]
    assert max(map(len, texts)) <= 240
    assert not any("the red sea is warm and the ice stays cold" in corpora.normalize(text) for text in texts)
    assert texts[:5] != texts[5:10]


def test_structured_text_says_every_value_and_knows_no_task_of_the_course():
    pairs = structure.examples(400, seed=5)
    assert pairs == structure.examples(400, seed=5) != structure.examples(400, seed=6)
    for listed, text in pairs:
        values = re.findall(r"Elm Court", listed)  # a name is copied as it stands
        assert all(value in text for value in values)
        assert text[0].isupper() and text.endswith("."), text
    for domain in structure.domains():
        draw = random.Random(domain)
        for _ in range(30):
            one = structure.item(draw, domain)
            missing = [v for k, v in one.pairs if v not in ("yes", "no") and v.lower() not in one.text.lower()]
            assert not missing, (one, missing)
    everything = " ".join(f"{listed} {text}" for listed, text in pairs).lower()
    assert not re.search(r"\b(restaurant|pub|coffee shop|cuisine|trail|hike|boardwalk)s?\b", everything)


def test_four_grams_are_a_distribution_and_learn():
    tokens = [1, 2, 3, 4] * 50
    model = ngram.NGram(tokens, order=4, vocabulary=10)
    for context in ([], [1], [1, 2, 3], [9, 9]):
        assert sum(model.probability(token, context) for token in range(10)) == pytest.approx(1)
    assert model.perplexity([1, 2, 3, 4] * 3) < 1.5 < 5 < model.perplexity([4, 2, 9, 9, 7])


# ---------------------------------------------------------------- the encoder


def test_word_vectors_are_means_over_pieces():
    hidden = torch.arange(24.0).view(1, 6, 4)
    numbers = torch.tensor([[-1, 0, 0, 1, -1, -1]])
    means, there = encoder.mean_of_words(hidden, numbers, words=3)
    assert torch.equal(means[0, 0], hidden[0, 1:3].mean(0)) and torch.equal(means[0, 1], hidden[0, 3])
    assert there.tolist() == [[True, True, False]] and means[0, 2].abs().sum() == 0


def test_teacher_vectors_are_the_masked_mean_of_length_one(teacher):
    texts = ["the sea is warm", "very cold", "the leaf and the ice and the fire"]
    sentences, words, there = teacher.read(texts)
    assert torch.allclose(sentences.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(words[there].norm(dim=1), torch.ones(int(there.sum())), atol=1e-5)
    alone, _, _ = teacher.read(texts[1:2])
    assert torch.allclose(sentences[1], alone[0], atol=0.02), "bf16 moves it a little, padding must not"


def test_masking_hides_about_as_much_as_it_says():
    ids = torch.full((400, 40), 7)
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, 0] = True
    hidden, chosen = encoder.hide(ids, special, mask_id=4, vocabulary=100, generator=torch.Generator().manual_seed(0))
    assert not chosen[:, 0].any() and torch.equal(hidden[~chosen], ids[~chosen])
    share = encoder.MASKED_ROWS * encoder.MASKED_PIECES
    assert chosen[:, 1:].float().mean().item() == pytest.approx(share, abs=0.02)
    assert (hidden[chosen] == 4).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (hidden[chosen] == 7).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_loss_prefers_the_own_target():
    torch.manual_seed(0)
    targets = torch.nn.functional.normalize(torch.randn(6, 10), dim=-1)
    right, cosine = encoder.toward(targets * 3, targets)
    wrong, _ = encoder.toward(targets.roll(1, 0), targets)
    assert cosine == pytest.approx(1.0)
    assert right < 0.01 < wrong


def test_the_encoder_learns_resumes_and_exports(work, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "HELD_OUT", 10)
    monkeypatch.setattr(encoder, "PAIRED", 60)
    monkeypatch.setattr(loop, "SAVE_EVERY", 20)
    sentences = corpora.read_sentences(work)
    encoder.make_pairs(sentences, teacher, work / "pairs.jsonl")
    pairs = [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]
    assert all(-1 <= pair["cosine"] <= 1.001 for pair in pairs)
    assert all(pair["first"] != pair["second"] for pair in pairs if pair["cosine"] < 0.99)
    tokenizers.train_wordpiece(sentences, work / "wordpiece", 200, 64)
    tokenizer = AutoTokenizer.from_pretrained(work / "wordpiece")

    def run(checkpoint, minutes=math.inf):
        torch.manual_seed(0)
        student = encoder.Student(len(tokenizer), 128, teacher.width, width=64, layers=1)
        objective = encoder.EncoderObjective(student, tokenizer, teacher, sentences, pairs, batch=8, steps=40)
        return loop.pretrain(objective, checkpoint, steps=40, learning_rate=3e-3, minutes=minutes)

    assert not run(work / "encoder.safetensors", minutes=0.0), "time is up after the first save"
    assert storage.read_tensors(work / "encoder.safetensors")[1]["step"] == 20
    assert run(work / "encoder.safetensors")
    tensors, done = storage.read_tensors(work / "encoder.safetensors")
    first, last = done["history"][0], done["history"][-1]
    assert last["held_out_cosine"] > first["held_out_cosine"] and last["held_out_masked"] < first["held_out_masked"]
    run(work / "whole.safetensors")
    whole, _ = storage.read_tensors(work / "whole.safetensors")
    assert all(torch.equal(tensors[name], whole[name]) for name in whole), "stopped and continued equals run through"

    out = tmp_path / "made"
    shipping.export("encoder", work, out)
    bert = AutoModel.from_pretrained(out)
    assert bert.dtype == torch.float16
    assert torch.equal(bert.pooler.dense.weight, whole["model.heads.bert.pooler.dense.weight"].half())
    head = AutoModelForMaskedLM.from_pretrained(out, dtype=torch.float32)
    dense = whole["model.heads.cls.predictions.transform.dense.weight"]
    assert torch.equal(head.cls.predictions.transform.dense.weight, dense.half().float())
    AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("The red sea is warm.")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the red sea is warm."
    assert "Teacher" in (out / "README.md").read_text() and json.loads((out / "training.json").read_text())["probe"]


# ---------------------------------------------------------------- decoder and denoiser


def test_the_decoder_learns_resumes_and_exports(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "BLOCK", 16)
    monkeypatch.setattr(decoder, "HELD_OUT", 8)
    monkeypatch.setattr(loop, "SAVE_EVERY", 20)
    texts = [structure.document(random.Random(i)) for i in range(200)] + SENTENCES
    tokenizers.train_byte_bpe(texts, tmp_path / "gpt2-tokenizer", "gpt2", 400, 256)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "gpt2-tokenizer")
    decoder.prepare(tokenizer, folder, [], tmp_path, most=6000)
    prose, structured = (np.load(tmp_path / f"{name}.npy") for name in ("prose", "structured"))
    assert len(prose) >= 6000 <= len(structured) and prose.dtype == np.uint16

    def run(checkpoint, minutes=math.inf):
        torch.manual_seed(0)
        objective = decoder.CausalObjective(decoder.new_model(tokenizer), prose, structured, batch=4)
        return loop.pretrain(objective, checkpoint, steps=40, learning_rate=3e-3, minutes=minutes)

    assert not run(tmp_path / "decoder.safetensors", minutes=0.0)
    assert run(tmp_path / "decoder.safetensors") and run(tmp_path / "whole.safetensors")
    (tensors, done), (whole, _) = (storage.read_tensors(tmp_path / f"{n}.safetensors") for n in ("decoder", "whole"))
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)
    assert done["history"][-1]["held_out_prose"] < math.log(400) - 0.5

    out = tmp_path / "made"
    shipping.export("decoder", tmp_path, out, extra={"four_gram_perplexity": 12.5})
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32),
        AutoTokenizer.from_pretrained(out),
    )
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    text = "Zoé's “cat”: 3 € | name : Otter\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert shipping.probe(model, tokenizer) == json.loads((out / "training.json").read_text())["probe"]["logits"]
    assert "12.5" in (out / "README.md").read_text()


@pytest.mark.parametrize("flags", [[], ["--compile"]], ids=["plain", "compile"])
def test_the_flag_compile_reaches_the_loop(flags, folder, tmp_path, monkeypatch):
    """A stand-in for `torch.compile`, which wants a C++ compiler: every step goes through what it made, or none."""
    calls, new_model = [], decoder.new_model

    def compile_by_name(function, **options):
        def compiled(*arguments, **named):
            calls.append(function)
            return function(*arguments, **named)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_by_name)
    monkeypatch.setattr(decoder, "BLOCK", 16)
    monkeypatch.setattr(decoder, "HELD_OUT", 8)
    monkeypatch.setattr(decoder, "new_model", lambda tokenizer, positions: new_model(tokenizer, positions, layers=1))
    texts = [structure.document(random.Random(i)) for i in range(200)] + SENTENCES
    tokenizers.train_byte_bpe(texts, tmp_path / "gpt2-tokenizer", "gpt2", 400, 256)
    told = ["decoder", "--work", tmp_path, "--corpora", folder, "--tokens", 6000, "--steps", 2, "--batch", 4, *flags]
    monkeypatch.setattr(sys, "argv", ["pretraining", *map(str, told)])
    command_line.main()
    assert storage.read_tensors(tmp_path / "decoder.safetensors")[1]["step"] == 2
    assert len(calls) >= 2 if flags else not calls


def test_infilling_hides_a_third_behind_single_masks():
    ids = np.arange(10, 90)
    made = denoising.infill(ids, mask_id=4, draw=np.random.default_rng(0))
    kept = [token for token in made if token != 4]
    assert kept == sorted(kept) and set(kept) <= set(ids.tolist())
    assert 0.25 <= 1 - len(kept) / len(ids) <= 0.42
    assert all(a != 4 or b != 4 for a, b in pairwise(made)), "one mask a span"
    assert made.count(4) < 80 * denoising.MASKED


def test_the_denoiser_learns_and_exports(tmp_path, monkeypatch):
    monkeypatch.setattr(denoising, "BLOCK", 16)
    monkeypatch.setattr(denoising, "HELD_OUT", 8)
    monkeypatch.setattr(loop, "SAVE_EVERY", 15)
    texts = [structure.document(random.Random(i)) for i in range(200)] + SENTENCES
    tokenizers.train_byte_bpe(texts, tmp_path / "bart-tokenizer", "bart", 400, 256)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bart-tokenizer")
    ids = tokenizer("The sea.")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    decoder.write_tokens(tokenizer, iter(SENTENCES * 40), tmp_path / "prose.npy", 6000, tokenizer.eos_token_id)
    torch.manual_seed(0)
    model = denoising.new_model(tokenizer, layers=1)
    objective = denoising.DenoisingObjective(model, tokenizer, np.load(tmp_path / "prose.npy"), batch=4)
    assert torch.equal(objective.loss(3)[0], objective.loss(3)[0]), "a pure function of the step"
    loop.pretrain(objective, tmp_path / "denoiser.safetensors", steps=30, learning_rate=3e-3)
    history = storage.read_tensors(tmp_path / "denoiser.safetensors")[1]["history"]
    assert history[-1]["held_out_prose"] < history[0]["held_out_prose"]
    monkeypatch.setattr(denoising, "new_model", lambda tokenizer: objective.model)
    shipping.export("denoiser", tmp_path, tmp_path / "made")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "made", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    made = model.generate(**tokenizer("name : Otter", return_tensors="pt"), max_new_tokens=5)
    assert made[0, 0] == model.config.decoder_start_token_id


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="encoder, decoder, denoiser"):
        shipping.export("transducer", tmp_path, tmp_path)


def test_a_repeat_counts_only_where_it_can_be_predicted():
    draw = np.random.default_rng(3)
    row, length = decoder.repeat(draw, np.arange(5, 50))
    assert len(row) == decoder.BLOCK + 1 and decoder.SHORTEST <= length <= decoder.LONGEST
    assert (row[length:] == row[:-length]).all() and row.min() >= 5
    model = tiny_decoder()
    texts = np.random.default_rng(0).integers(0, 60, 40_000).astype(np.uint16)
    objective = decoder.CausalObjective(model, texts, texts, batch=6)
    assert (objective.half, objective.repeats) == (2, 2)
    rows, firsts = objective._repeats(np.random.default_rng(1), 3)
    for row, first in zip(rows, firsts, strict=True):
        length = 1 + int(first.sum())
        assert (row[length:] == row[:-length]).all() and 0 not in row
    assert {"prose", "structured", "repeats"} == objective.loss(0)[1].keys() == objective.measure().keys()
    with pytest.raises(ValueError, match="3 rows or more"):
        decoder.CausalObjective(model, texts, texts, batch=2)


def tiny_decoder():
    import transformers

    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=60, n_positions=160, n_embd=16, n_layer=1, n_head=2)
    )

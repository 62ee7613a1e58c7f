"""Damaged files and killed runs: a clear error or the old file, and never a model with half of a method."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import killed_while_saving
import pytest
import torch
from conformance import Case, assert_same, backbone, logits, state, trained

from peft_helpers import methods, storage
from peft_helpers.methods import surgery

CARRIED = methods.Pfeiffer(4)
QUERY = "bert.encoder.layer.0.attention.self.query.down.weight"


@pytest.fixture
def saved(tmp_path):
    return methods.save(trained(Case(methods.LoRA(rank=2), "bert")), tmp_path / "saved")


def cut(bytes_left):
    """Keep the first bytes of the file (from 1 on), or a share of it."""

    def damage(folder):
        whole = (folder / "method.safetensors").read_bytes()
        kept = int(bytes_left * len(whole)) if bytes_left < 1 else bytes_left
        (folder / "method.safetensors").write_bytes(whole[:kept])

    return damage


def rewrite(change):
    def damage(folder):
        tensors, header = storage.read_tensors(folder / "method.safetensors")
        change(tensors, header)
        storage.write_tensors(folder / "method.safetensors", tensors, header)

    return damage


def unreadable_labels(tensors, header):
    header["labels"] = {"first": "warm", "second": "cold"}  # this goes wrong last, when the tensors are in place


DAMAGES = [
    (cut(0), "is truncated or not a safetensors file"),
    (cut(4), "is truncated or not a safetensors file"),  # not even the header's length
    (cut(40), "is truncated or not a safetensors file"),  # within the header
    (cut(0.6), "is truncated or not a safetensors file"),  # within the tensors
    (cut(0.9999), "is truncated or not a safetensors file"),
    (lambda folder: (folder / "method.safetensors").write_bytes(bytes(500)), "is truncated or not a safetensors file"),
    (rewrite(lambda t, h: t.pop("classifier.weight")), r"missing: classifier\.weight"),
    (rewrite(lambda t, h: t.pop(QUERY)), r"missing: .*query\.down\.weight"),
    (rewrite(lambda t, h: t.update(more=torch.zeros(1))), "unexpected: more"),
    (
        rewrite(lambda t, h: t.update({QUERY: torch.zeros(2, 15)})),
        r"query\.down\.weight: \(2, 15\) in the file, \(2, 16",
    ),
    (rewrite(lambda t, h: t.update({QUERY: torch.zeros(32)})), r"query\.down\.weight: \(32,\) in the file"),
    (rewrite(lambda t, h: h["settings"].update(rank=1)), r"of another shape: .*\(2, 16\) in the file, \(1, 16\) here"),
    (rewrite(lambda t, h: h["settings"].update(rank="2")), "can't be loaded: rank must be a whole number"),
    (rewrite(lambda t, h: h["settings"].update(alpha="16")), "can't be loaded: .*not supported between"),
    (rewrite(lambda t, h: h.update(settings=3)), "can't be loaded: "),
    (rewrite(lambda t, h: h["settings"].update(targets=["ffn_gate"])), "bert has no ffn_gate"),
    (rewrite(lambda t, h: h["backbone"].update(sha256="f" * 64)), "trained on another backbone"),
    (rewrite(unreadable_labels), "invalid literal for int"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
@pytest.mark.parametrize("verb", ["load", "switch", "switch from none"])
def test_a_damaged_file_leaves_the_model_as_it_was(saved, damage, says, verb):
    damage(saved)
    model = trained(Case(CARRIED, "bert")) if verb == "switch" else backbone("bert")
    before, answers, trainable = state(model), logits(model), surgery.trained_tensors(model).keys()
    labels, objects = dict(model.config.id2label), {name: id(p) for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=says):
        getattr(methods, verb.split()[0])(model, saved)
    assert_same(state(model), before, "refused")
    assert {name: id(p) for name, p in model.named_parameters()} == objects, "other parameters: optimizers lose them"
    assert surgery.trained_tensors(model).keys() == trainable
    assert torch.equal(logits(model), answers)
    assert model.config.id2label == labels and model.num_labels == 2
    assert hasattr(model, "adaptation") == (verb == "switch")


@pytest.mark.parametrize("kind", ["roberta", "gpt2", "bart", "llama"])
def test_a_file_for_another_architecture(saved, kind):
    model = backbone(kind)
    before = state(model)
    with pytest.raises(ValueError, match="trained on another backbone: BertModel with hash"):
        methods.load(model, saved)
    assert_same(state(model), before, "refused")


def test_a_file_of_peft_says_who_reads_it(tmp_path):
    methods.to_peft(trained(Case(methods.LoRA(rank=2), "bert")), tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "method.safetensors")
    with pytest.raises(ValueError, match=r"metadata is not JSON.*is read by methods\.from_peft"):
        methods.load(backbone("bert"), tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no SIGKILL and no fork on this system")
def test_a_kill_while_saving_leaves_the_old_file_or_the_new_one(tmp_path):
    """A process of its own is killed with SIGKILL at four moments; nothing that it left is half of something."""
    old, old_lora = trained(Case(CARRIED, "bert")), trained(Case(methods.LoRA(rank=2, alpha=64.0), "bert"))
    for moment in killed_while_saving.MOMENTS:
        methods.save(old, tmp_path / moment)
    between = methods.to_peft(old_lora, tmp_path / killed_while_saving.EXCHANGE)
    script = Path(killed_while_saving.__file__)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, env=environment, timeout=600)

    wanted = dict.fromkeys(killed_while_saving.MOMENTS, logits(old))
    wanted["tensors without their header"] = logits(killed_while_saving.new(killed_while_saving.NEW))
    for moment, answers in wanted.items():
        assert torch.equal(logits(methods.load(backbone("bert"), tmp_path / moment)), answers), moment
        methods.save(old, tmp_path / moment)  # what the killed process left behind is in nobody's way
        assert torch.equal(logits(methods.load(backbone("bert"), tmp_path / moment)), logits(old)), moment
    assert list((tmp_path / "half a file").glob(".*.part")), "the kill came too early or too late"

    with pytest.raises(FileNotFoundError, match="no adapter of peft's"):
        methods.from_peft(backbone("bert"), between)
    methods.to_peft(old_lora, between)
    assert torch.equal(logits(methods.from_peft(backbone("bert"), between)), logits(old_lora))

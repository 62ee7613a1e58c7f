"""Counts against models on the meta device, memory against arithmetic, saved activations against networks by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2LMHeadModel

from peft_helpers import accounting

SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
BASE = {"vocabulary": 30522, "width": 768, "layers": 12, "feed_forward": 3072, "positions": 512}
LARGE = BASE | {"width": 1024, "layers": 24, "feed_forward": 4096}


def on_meta(model_class, config, **options):
    with torch.device("meta"):
        return model_class(config, **options)


def test_bert_formula_gives_the_published_sizes():
    assert accounting.bert_parameters(**BASE) == 109_482_240
    assert accounting.bert_parameters(**BASE, pooler=False) == 108_891_648
    assert accounting.bert_parameters(**LARGE) == 335_141_888
    assert accounting.layer_parameters(768, 3072) == 7_087_872


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize(
    "sizes", [BASE, LARGE, {"vocabulary": 77, "width": 24, "layers": 3, "feed_forward": 50, "positions": 9}]
)
def test_bert_formula_equals_the_model(sizes, pooler):
    config = BertConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=4,
        intermediate_size=sizes["feed_forward"],
        max_position_embeddings=sizes["positions"],
    )
    model = on_meta(BertModel, config, add_pooling_layer=pooler)
    assert accounting.count_parameters(model).total == accounting.bert_parameters(**sizes, pooler=pooler)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "total"),
    [(768, 12, 12, 124_439_808), (1024, 24, 16, 354_823_168), (1280, 36, 20, 774_030_080)],
)
def test_gpt2_formula_equals_the_model_with_its_tied_head(width, layers, heads, total):
    model = on_meta(GPT2LMHeadModel, GPT2Config(n_embd=width, n_layer=layers, n_head=heads))
    model.tie_weights()
    assert accounting.gpt2_parameters(50257, width, layers, 1024) == total == accounting.count_parameters(model).total


def test_formulas_refuse_impossible_sizes():
    for wrong in (0, -1, 1.5, "768"):
        with pytest.raises(ValueError, match="width must be a positive whole number"):
            accounting.bert_parameters(**(BASE | {"width": wrong}))


def test_counts_by_part_follow_what_is_trainable():
    model = on_meta(BertForSequenceClassification, BertConfig(**SMALL, vocab_size=100, num_labels=2))
    model.base_model.encoder.requires_grad_(False)
    counts = accounting.count_parameters(model)
    assert set(counts.by_part) == {"embeddings", "encoder", "pooler", "classifier"}
    assert counts.by_part["classifier"] == 2 * 48 + 2 and counts.by_part["pooler"] == 48**2 + 48
    assert counts.by_part["encoder"] == 3 * accounting.layer_parameters(48, 96) == counts.frozen
    assert counts.trainable_by_part["encoder"] == 0
    assert counts.total == sum(counts.by_part.values()) == counts.trainable + counts.frozen
    assert f"{counts.total:,}" in repr(counts) and "classifier" in repr(counts)


def test_training_memory_of_bert_base():
    full = accounting.training_memory(109_483_778, 109_483_778)
    assert full.gradients + full.optimizer == 12 * 109_483_778  # the 1,314 MB of full fine-tuning with Adam
    frozen = accounting.training_memory(109_483_778, 1_538, activations=5_000_000, weight_bytes=2)
    assert frozen.weights == 2 * (109_483_778 - 1_538) + 4 * 1_538
    assert frozen.total == frozen.weights + 12 * 1_538 + 5_000_000
    assert accounting.training_memory(10, 10, optimizer="sgd").optimizer == 0
    assert repr(full) == "1,752 MB = weights 438 MB + gradients 438 MB + optimizer 876 MB + activations 0.000 MB"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"parameters": 10, "trainable": 11}, "at most all"),
        ({"parameters": 10, "trainable": 1, "optimizer": "lion"}, "unknown optimizer 'lion'; there are sgd"),
        ({"parameters": 10, "trainable": 1, "activations": -1}, "negative"),
    ],
)
def test_training_memory_refuses(arguments, says):
    with pytest.raises(ValueError, match=says):
        accounting.training_memory(**arguments)


def test_training_memory_predicts_what_torch_keeps():
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    model[0].requires_grad_(False)
    counts = accounting.count_parameters(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    state = sum(t.nbytes for s in optimizer.state.values() for name, t in s.items() if name != "step")
    predicted = accounting.training_memory(counts.total, counts.trainable)
    assert (predicted.gradients, predicted.optimizer) == (gradients, state)
    assert predicted.weights == sum(p.nbytes for p in model.parameters())


def test_saved_activations_of_a_network_by_hand():
    torch.manual_seed(0)
    first, second, x = nn.Linear(10, 20), nn.Linear(20, 5), torch.randn(7, 10)
    model = nn.Sequential(first, nn.ReLU(), second)
    kept = 4 * 7 * (10 + 20)  # the input of each linear layer; ReLU keeps its output, which is the second's input
    assert accounting.saved_activations(lambda: model(x), model) == kept
    first.requires_grad_(False)
    assert accounting.saved_activations(lambda: model(x), model) == 4 * 7 * 20  # nothing below is trained
    model.requires_grad_(False)
    assert accounting.saved_activations(lambda: model(x), model) == 0


def test_saved_activations_count_a_storage_once_and_leave_out_views_of_weights():
    weight, x = nn.Parameter(torch.randn(10, 10)), torch.randn(6, 10)
    holder = nn.ParameterList([weight])
    assert accounting.saved_activations(lambda: x @ weight.t() + x.view(6, 10) @ weight.t(), holder) == 4 * 60
    with torch.no_grad():
        assert accounting.saved_activations(lambda: x @ weight, holder) == 0


def test_saved_activations_of_bert_shrink_when_it_is_frozen():
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SMALL, vocab_size=100, num_labels=2)).eval()
    tokens = torch.randint(100, (4, 16))
    full = accounting.saved_activations(lambda: model(tokens).logits.sum(), model)
    model.base_model.requires_grad_(False)
    head = accounting.saved_activations(lambda: model(tokens).logits.sum(), model)
    assert 0 < head <= 4 * 4 * (48 + 2 + 48) < full / 100


def test_saved_activations_survive_a_backward_pass_inside_and_refuse_meta():
    model, x = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)), torch.randn(7, 10)
    assert accounting.saved_activations(lambda: model(x).sum().backward(), model) == 4 * 7 * 30
    meta = nn.Linear(4, 4, device="meta")
    with pytest.raises(ValueError, match="meta device"):
        accounting.saved_activations(lambda: meta(torch.ones(2, 4, device="meta")), meta)


def test_peak_memory_names_its_meter(monkeypatch):
    peak = accounting.peak_memory("cpu")
    if sys.platform == "win32":
        assert peak.bytes is None
        return
    size, meter = peak
    assert 50e6 < size < 200e9 and "resident" in meter
    block = bytearray(300_000_000)
    assert accounting.peak_memory("cpu").bytes >= size and len(block)
    monkeypatch.setattr(sys, "platform", "win32")
    unknown = accounting.peak_memory("cpu")
    assert unknown.bytes is None and unknown.megabytes is None and "Windows" in repr(unknown)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the meter is another")
def test_the_peak_is_not_the_parents():
    program = "from peft_helpers import accounting; print(accounting.peak_memory('cpu').bytes)"
    block = bytearray(200_000_000)
    child = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert 1e6 < child < len(block) < accounting.peak_memory("cpu").bytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_on_a_gpu():
    torch.cuda.reset_peak_memory_stats()
    kept = torch.ones(1_000_000, device="cuda")
    assert accounting.peak_memory().bytes >= kept.nbytes and "cuda" in accounting.peak_memory().meter


@pytest.mark.parametrize(
    ("size", "shown"), [(1_314e6, "1,314 MB"), (3.6e6, "3.6 MB"), (12_288, "0.012 MB"), (None, "unknown")]
)
def test_megabytes(size, shown):
    assert accounting.megabytes(size) == shown

"""Activations by the formula against what autograd keeps, whole runs against what was measured, disk and time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from peft_helpers import accounting, backbones, tasks

# batch, tokens, width, layers, heads, inner width
CONFIGURATIONS = [
    (2, 7, 12, 1, 3, 20),
    (8, 32, 64, 2, 4, 128),
    (4, 64, 64, 3, 4, 256),
    (16, 128, 32, 2, 2, 64),
    (1, 12, 48, 3, 4, 96),
]


def network(configuration: tuple[int, ...], dropout: float = 0.1, attention: str = "sdpa"):
    """A BERT classifier of these sizes, and a function that computes its loss."""
    batch, tokens, width, layers, heads, inner = configuration
    config = BertConfig(
        vocab_size=200,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=tokens,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    ids = torch.arange(batch * tokens).view(batch, tokens) % 190 + 5
    mask = torch.ones_like(ids)
    return model, lambda: cross_entropy(model(ids, attention_mask=mask).logits, torch.zeros(batch, dtype=torch.long))


def predicted(configuration: tuple[int, ...], **options: object) -> int:
    return accounting.bert_activations(*configuration, **options)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_of_a_training_step(configuration: tuple[int, ...], attention: str) -> None:
    model, loss = network(configuration, attention=attention)
    measured = accounting.saved_activations(loss, model.train())
    assert predicted(configuration) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_activations_without_dropout(configuration: tuple[int, ...]) -> None:
    model, loss = network(configuration, dropout=0.0)
    measured = accounting.saved_activations(loss, model.train())
    assert predicted(configuration, dropout=False, fused=True) == pytest.approx(measured, rel=0.03)
    model, loss = network(configuration, attention="eager")
    measured = accounting.saved_activations(loss, model.eval())
    assert predicted(configuration, dropout=False) == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_whole_run_is_predicted_within_ten_percent(configuration: tuple[int, ...]) -> None:
    model, loss = network(configuration)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    measured = accounting.measured_memory(model.train(), optimizer, loss)
    count = model.num_parameters()
    found = accounting.training_memory(count, count, predicted(configuration))
    assert (found.weights, found.gradients, found.optimizer) == (
        measured.weights,
        measured.gradients,
        measured.optimizer,
    )
    assert found.total == pytest.approx(measured.total, rel=0.1)


@pytest.mark.parametrize(("texts", "tokens"), [(8, 16), (32, 16), (8, 64), (16, 64)])
def test_pocket_bert_is_predicted_within_ten_percent(texts: int, tokens: int) -> None:
    model, _ = backbones.load("pocket-bert", tasks.load("sentiment"))
    ids, labels = torch.full((texts, tokens), 7), torch.zeros(texts, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.0)
    measured = accounting.measured_memory(model, optimizer, lambda: cross_entropy(model(ids).logits, labels))
    c, count = model.config, model.num_parameters()
    shape = (c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.intermediate_size)
    found = accounting.training_memory(count, count, accounting.bert_activations(texts, tokens, *shape))
    for part in ("weights", "gradients", "optimizer", "activations", "total"):
        assert getattr(found, part) == pytest.approx(getattr(measured, part), rel=0.1), part


def test_measured_memory_follows_what_is_trained() -> None:
    model, loss = network(CONFIGURATIONS[0])
    model.base_model.requires_grad_(False)
    head = list(model.classifier.parameters())
    trained = sum(p.numel() for p in head)
    before = [p.clone() for p in head]
    found = accounting.measured_memory(model, torch.optim.SGD(head, lr=1.0), loss)
    assert (found.gradients, found.optimizer) == (4 * trained, 0)
    assert found.activations < predicted(CONFIGURATIONS[0]) / 10
    assert all(p.grad is None for p in model.parameters())
    assert not torch.equal(before[0], head[0]), "the step was made"


def test_korthikantis_formula_for_half_precision() -> None:
    """arXiv:2205.05198, eq. 1: sbh (34 + 5 a s / h) bytes a layer, at 2 bytes a number and 1 byte a mask's entry."""
    b, s, h, a = 4, 64, 48, 4
    paper = s * b * h * 34 + 5 * a * s**2 * b
    kept = accounting.layer_activations(b, s, h, a, 4 * h, mask_bytes=0) / 2  # all but the masks, in 2 bytes
    masks = accounting.layer_activations(b, s, h, a, 4 * h, mask_bytes=1) - 2 * kept
    statistics = 2 * 4 * b * s  # of the norms, which the paper leaves out
    assert kept + masks - statistics == paper


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"tokens": -1}, {"width": 1.5}, {"heads": "4"}, {"layers": 0}])
def test_impossible_sizes_are_refused(wrong: dict) -> None:
    sizes = {"batch": 1, "tokens": 1, "width": 4, "layers": 1, "heads": 1, "feed_forward": 4}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a positive whole number"):
        accounting.bert_activations(**(sizes | wrong))


# ---------------------------------------------------------------- disk and time


def test_zeros_are_stored_and_only_zipping_finds_them() -> None:
    torch.manual_seed(0)
    dense, half = torch.randn(200, 200), torch.randn(200, 200) * (torch.rand(200, 200) > 0.5)
    assert accounting.stored_bytes({"w": half}) == accounting.stored_bytes({"w": dense})
    assert dense.nbytes < accounting.stored_bytes({"w": dense}) < dense.nbytes + 500
    assert accounting.stored_bytes({"w": half}, packed=True) < 0.8 * accounting.stored_bytes({"w": dense}, packed=True)


def test_latencies_put_every_call_between_two_of_the_reference() -> None:
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in ("ref", "a", "b")}
    found = accounting.latencies(functions, rounds=2, warm_up=1)
    assert calls == ["ref", "a", "ref", "b", "ref"] * 3
    assert list(found) == ["ref", "a", "b"] and found["ref"].share == 1.0
    alone = accounting.latencies({"ref": lambda: None}, rounds=1)
    assert alone["ref"].share == 1.0 and alone["ref"].seconds >= 0
    for wrong in ({"functions": {}}, {"functions": {"a": int}, "rounds": 0}):
        with pytest.raises(ValueError, match="rounds from 1 on"):
            accounting.latencies(**wrong)


def test_latencies_do_not_see_a_machine_that_changes_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: the machine is three times as slow in every second round; shares stay what they are."""
    now, speed, rounds = [0.0], [1.0], [0]

    def work(seconds: float, first: bool = False):
        def run() -> None:
            rounds[0] += first
            now[0] += seconds * speed[0]

        return run

    def slow_or_fast() -> None:
        speed[0] = 3.0 if rounds[0] // 4 % 2 else 1.0
        now[0] += 1.0 * speed[0]
        rounds[0] += 1

    monkeypatch.setattr(accounting.time, "perf_counter", lambda: now[0])
    functions = {"whole": slow_or_fast, "copy": work(1.0), "half": work(0.5)}
    found = accounting.latencies(functions, rounds=40, warm_up=0)
    assert found["copy"].share == pytest.approx(1.0, abs=0.01)
    assert found["half"].share == pytest.approx(0.5, abs=0.01)
    assert found["half"].seconds == pytest.approx(0.5 * found["whole"].seconds, rel=0.02)


def test_a_layer_by_hand() -> None:
    """The formula's terms on one feed-forward block: what two linear layers, GELU, a dropout and a norm keep."""
    batch, tokens, width, inner = 2, 3, 4, 8
    first, second, norm = nn.Linear(width, inner), nn.Linear(inner, width), nn.LayerNorm(width)
    block = nn.ModuleList([first, second, norm])
    x = torch.randn(batch, tokens, width)

    def run() -> torch.Tensor:
        return norm(x + nn.functional.dropout(second(nn.functional.gelu(first(x))), 0.1, True))

    hidden, wide = batch * tokens * width, batch * tokens * inner
    by_hand = 4 * (hidden + 2 * wide + hidden + hidden + 2 * batch * tokens)  # input, GELU's two, mask, norm's input
    assert accounting.saved_activations(run, block) == by_hand

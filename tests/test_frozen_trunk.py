"""The frozen trunk's cache: the same run as without it, the model as before, and a reason where it can't work."""

import types
from collections import Counter

import psutil
import pytest
import tiny
import torch
from torch import nn

from peft_helpers import backbones, frozen_trunk, training
from peft_helpers.training import Settings

SETTINGS = {"learning_rate": 5e-3, "epochs": 3, "batch_size": 8, "progress": False, "precision": "fp32"}
ARCHITECTURES = ["bert", "roberta", "gpt2", "bart", "llama", "minilm"]


def model(architecture: str = "bert", trained: str = "head", dropout: bool = False) -> nn.Module:
    """A model of which only the head, or the last layer and what lies above it, is trained; "minilm" pools the mean."""
    if architecture == "minilm":
        torch.manual_seed(0)
        made = backbones.mean_pooled_classifier(tiny.model("bert", head=False), 2)
    else:
        made = tiny.model(architecture)
    if not dropout:
        tiny.still(made)
    made.requires_grad_(False)
    anatomy = backbones.anatomy(made)
    for site in anatomy.head:
        site.module.requires_grad_(True)
    if trained == "last layer":
        layer = anatomy.layers[-1]
        for site in [*layer.sites.values(), *layer.norms]:
            site.module.requires_grad_(True)
    return made


def fit(made: nn.Module, task=None, **given) -> training.Run:
    own = {name: given.pop(name) for name in ("callbacks", "checkpoints") if name in given}
    return training.fit(made, tiny.tokenizer(), task or tiny.task(), Settings(**(SETTINGS | given)), **own)


def layers(made: nn.Module) -> nn.ModuleList:
    kind = backbones.anatomy(made).architecture
    return made.base_model.get_submodule(next(iter(backbones.ARCHITECTURES[kind].stacks.values())).layers)


@pytest.mark.parametrize("trained", ["head", "last layer"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_equals_uncached(architecture, trained):
    plain, cached = (model(architecture, trained) for _ in range(2))
    expected, run = fit(plain), fit(cached, cache_frozen=True)
    assert [r["loss"] for r in run.history] == pytest.approx([r["loss"] for r in expected.history], abs=1e-6)
    assert run.trainable == expected.trainable and run.total == expected.total
    assert [name for name, _ in cached.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert not any(isinstance(module, frozen_trunk.StandIn) for module in cached.modules())
    result = training.evaluate(cached, tiny.tokenizer(), tiny.task(), "dev")
    assert result.score == run.best["accuracy"]


def test_with_dropout_above_the_trunk():
    plain, cached = (model(trained="last layer") for _ in range(2))
    for made in (plain, cached):
        for module in [*layers(made)[-1].modules(), made.dropout]:
            if isinstance(module, nn.Dropout):
                module.p = 0.2
    expected, run = fit(plain), fit(cached, cache_frozen=True)
    assert [r["loss"] for r in run.history] == pytest.approx([r["loss"] for r in expected.history], abs=1e-6)


def test_the_trunk_is_in_eval_mode_and_computed_once_a_text():
    """With dropout in the trunk: every epoch reads the same states, and more epochs cost no more of the trunk."""
    calls = []
    for epochs in (1, 4):
        made, count = model(dropout=True), Counter()
        made.dropout.p = 0.0
        layers(made)[0].register_forward_pre_hook(lambda *_, count=count: count.update(["layer"]))
        run = fit(made, cache_frozen=True, epochs=epochs, learning_rate=1e-12, buckets=False)
        calls.append(count.total())
    assert calls[0] == calls[1] == 4, "one text to see what is trained, a batch of train, one of dev, one check"
    by_epoch = [run.rows("train")[first : first + 5] for first in range(0, 20, 5)]
    means = [sum(row["loss"] for row in rows) / 5 for rows in by_epoch]
    assert means == pytest.approx([means[0]] * 4, abs=1e-6)


@pytest.mark.parametrize(
    "given", [{"accumulation": 3}, {"checkpointing": True}, {"precision": "bf16"}, {"precision": "fp16"}]
)
def test_the_cache_goes_with_parts_checkpointing_and_half_precision(given):
    expected, run = (fit(model(trained="last layer"), cache_frozen=cache, **given) for cache in (False, True))
    allowed = 0.02 if "precision" in given else 1e-6
    assert [r["loss"] for r in run.history] == pytest.approx([r["loss"] for r in expected.history], abs=allowed)


def test_a_callback_sees_a_model_that_answers_as_always():
    made, seen = model(trained="last layer"), []

    def look(row):
        if row["split"] == "dev":
            seen.append((row["loss"], training.evaluate(made, tiny.tokenizer(), tiny.task(), "dev").loss))

    fit(made, cache_frozen=True, callbacks=[look])
    assert len(seen) == 4
    assert [a for a, _ in seen] == pytest.approx([b for _, b in seen], abs=1e-6)


def test_a_resumed_run_continues_bit_for_bit(tmp_path):
    chosen = {"cache_frozen": True, "keep_best": False}
    whole = fit(model(trained="last layer", dropout=True), **chosen)
    first = model(trained="last layer", dropout=True)
    fit(first, checkpoints=tmp_path, callbacks=[lambda row: row["step"] == 7], **chosen)
    run = fit(model(trained="last layer", dropout=True), checkpoints=tmp_path, **chosen)
    assert [(r["step"], r["loss"]) for r in run.history] == [(r["step"], r["loss"]) for r in whole.history]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_model_is_put_together_again_whatever_happens(error):
    made = model()
    before = layers(made)

    def fail(row):
        raise error("on purpose")

    if error is RuntimeError:
        with pytest.raises(RuntimeError, match="on purpose"):
            fit(made, cache_frozen=True, callbacks=[fail])
    else:
        assert fit(made, cache_frozen=True, callbacks=[fail]).stopped == "interrupted"
    assert layers(made) is before


# ---------------------------------------------------------------- where it can't work


def test_a_trained_first_layer_leaves_nothing_to_cache():
    with pytest.raises(ValueError, match="cache_frozen has nothing to cache: the first layer is trained"):
        fit(tiny.model(), cache_frozen=True)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "bart"])
def test_trained_embeddings_below_the_trunk_are_refused_by_name(architecture):
    made = model(architecture)
    name, parameter = next((n, p) for n, p in made.named_parameters() if "emb" in n or "wte" in n or "shared" in n)
    parameter.requires_grad_(True)
    before = layers(made)
    with pytest.raises(ValueError, match=f"{name} lies below the frozen layers and is trained"):
        fit(made, cache_frozen=True)
    assert layers(made) is before


def test_an_unknown_architecture_is_refused():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = types.SimpleNamespace(model_type="strange", num_labels=2, max_position_embeddings=32)
            self.head = nn.Linear(4, 2)

    with pytest.raises(ValueError, match="no anatomy for 'strange'"):
        fit(Strange(), cache_frozen=True)


def test_a_cache_larger_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
    with pytest.raises(ValueError, match=r"cache_frozen needs .* of main memory for \d+ tokens of width 16"):
        fit(model(), cache_frozen=True)


def test_layers_that_pass_on_more_than_hidden_states_are_refused():
    """The last layer reads what the first one left behind: with the first one replaced, that is something else."""
    made, left = model(trained="last layer"), []
    first, last = layers(made)
    first.register_forward_hook(lambda module, given, output: left.append(1.0))
    last.register_forward_pre_hook(lambda module, given: (given[0] + (left.pop() if left else 0) * ramp, *given[1:]))
    ramp = torch.arange(16.0)
    with pytest.raises(ValueError, match=r"cache_frozen does not work with BertForSequenceClassification"):
        fit(made, cache_frozen=True)

"""What `fit` can do beyond the plain loop: parts of a batch, half precision, callbacks, too little memory."""

import itertools
import math
import warnings

import pytest
import tiny
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from peft_helpers import accounting, batching, training
from peft_helpers.training import Settings

SETTINGS = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "progress": False, "precision": "fp32"}
ARCHITECTURES = ["bert", "roberta", "gpt2", "bart", "llama"]


def settings(**given) -> Settings:
    return Settings(**(SETTINGS | {"keep_best": False} | given))


def fit(model, task=None, **given) -> training.Run:
    own = {name: given.pop(name) for name in ("callbacks", "checkpoints", "on_step") if name in given}
    return training.fit(model, tiny.tokenizer(), task or tiny.task(), settings(**given), **own)


def losses(run: training.Run) -> list[float]:
    return [row["loss"] for row in run.rows("train")]


def gradients(model, task=None, **given) -> list[dict[str, torch.Tensor]]:
    """The gradients of each step of a run: of the loss itself, without clipping."""
    made, names = [], {id(p): name for name, p in model.named_parameters()}

    def keep(optimizer, *_):
        parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
        made.append({names[id(p)]: p.grad.detach().cpu().clone() for p in parameters if p.grad is not None})

    handle = register_optimizer_step_pre_hook(keep)
    try:
        fit(model, task, clip=None, **given)
    finally:
        handle.remove()
    return made


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


# ---------------------------------------------------------------- parts of a batch


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("accumulation", [2, 3, 8])
def test_parts_give_the_gradient_of_the_whole_batch(accumulation, kind):
    """43 rows in batches of 8 and parts of 3, 3, 2 (and a last batch of 3): a mean of means would be off."""
    task = tiny.task(train=43, kind=kind)
    whole, parts = (
        gradients(tiny.still(tiny.model(outputs=task.outputs)), task, accumulation=n, epochs=1)
        for n in (1, accumulation)
    )
    assert len(whole) == len(parts) == 6
    assert max(largest_difference(a, b) for a, b in zip(whole[:1], parts[:1], strict=True)) < 1e-6
    runs = [
        fit(tiny.still(tiny.model(outputs=task.outputs)), task, accumulation=n, learning_rate=1e-4)
        for n in (1, accumulation)
    ]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=1e-6)


def test_the_last_ragged_batch_is_divided_by_its_own_count():
    """With a rate of almost 0 each step's loss is the mean over that step's rows, whatever the parts."""
    task = tiny.task(train=11)
    model = tiny.still(tiny.model())
    run = fit(model, task, accumulation=3, learning_rate=1e-12, epochs=1, buckets=False)
    data = training.encode(task, "train", tiny.tokenizer(), 32)
    for row, rows in zip(run.rows("train"), training.batches(data.lengths, 8, 0, 0, buckets=False), strict=True):
        batch = training.collate(data, rows, 0)
        labels = batch.pop("labels")
        device = next(model.parameters()).device
        with torch.no_grad():
            logits = model(**{key: value.to(device) for key, value in batch.items()}).logits.cpu()
        assert row["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-6)


def test_targets_are_examples_or_unmasked_tokens():
    inputs = [{"input_ids": [2, 5, 3]}] * 3
    assert batching.Encoded(inputs, [0, 1, 1], 0).targets.tolist() == [1, 1, 1]
    assert batching.Encoded(inputs, [0.5, 1.5, 2.0], 0).targets.tolist() == [1, 1, 1]
    tokens = [[-100, 5, 3], [-100, -100, 3], [-100, -100, -100]]
    assert batching.Encoded(inputs, tokens, 0).targets.tolist() == [2, 1, 0]


# ---------------------------------------------------------------- checkpointing


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpointing_changes_neither_losses_nor_gradients(architecture):
    """Dropout stays on: the second computation draws the same masks."""
    task = tiny.task(train=16)
    models = [tiny.model(architecture) for _ in range(2)]
    plain, saving = (gradients(model, task, checkpointing=on) for model, on in zip(models, (False, True), strict=True))
    assert max(largest_difference(a, b) for a, b in zip(plain, saving, strict=True)) < 1e-6
    for (name, a), (_, b) in zip(*(model.named_parameters() for model in models), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    assert not any(getattr(module, "gradient_checkpointing", False) for module in models[1].modules())
    assert models[1].config.use_cache == tiny.model(architecture).config.use_cache


def test_checkpointing_sends_no_gradients_into_a_frozen_trunk():
    model = tiny.model()
    model.base_model.requires_grad_(False)
    with training.activation_checkpointing(model):
        assert not model.base_model(torch.tensor([[2, 5, 3]])).last_hidden_state.requires_grad
    assert not model.base_model(torch.tensor([[2, 5, 3]])).last_hidden_state.requires_grad


def test_checkpointing_that_was_on_stays_on():
    model = tiny.model()
    with training.activation_checkpointing(model):
        fit(model, tiny.task(train=8), checkpointing=True, epochs=1)
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_checkpointing_keeps_less():
    model, task = tiny.model(), tiny.task()
    batch = training.collate(training.encode(task, "train", tiny.tokenizer(), 32), range(8), 0)
    del batch["labels"]
    whole = accounting.saved_activations(lambda: model.train()(**batch), model)
    with training.activation_checkpointing(model):
        saving = accounting.saved_activations(lambda: model.train()(**batch), model)
    assert saving < whole / 2
    assert accounting.saved_activations(lambda: model.train()(**batch), model) == whole


def test_checkpointing_goes_by_the_old_name_too_and_says_where_there_is_none():
    class Older(nn.Module):
        """As transformers' models are without `activation_checkpointing_enable`."""

        def __init__(self):
            super().__init__()
            self.told = []

        def gradient_checkpointing_enable(self, options=None):
            self.told.append(options)

        def gradient_checkpointing_disable(self):
            self.told.append("off")

    older = Older()
    with training.activation_checkpointing(older):
        assert older.told == [{"use_reentrant": False}]
    assert older.told[-1] == "off"
    with (
        pytest.raises(ValueError, match="Linear can't do checkpointing"),
        training.activation_checkpointing(nn.Linear(2, 2)),
    ):
        pass


# ---------------------------------------------------------------- half precision


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_close_to_float32_and_parameters_stay_float32(precision):
    runs = [fit(tiny.still(tiny.model()), precision=p, epochs=3, learning_rate=5e-3) for p in ("fp32", precision)]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), abs=0.03)
    assert losses(runs[1]) != losses(runs[0])


def test_an_overflow_in_fp16_skips_the_step_and_goes_on():
    """The first scale is 65,536; a gradient of infinity must not reach the weights."""
    model, weights = tiny.model(), []
    calls = itertools.count()
    model.classifier.weight.register_hook(lambda g: g * math.inf if next(calls) == 2 else g)
    run = fit(
        model, precision="fp16", on_step=lambda row: weights.append(model.classifier.weight.detach().cpu().clone())
    )
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(weights)]
    assert moved == [True, False, *[True] * 7]
    assert all(map(math.isfinite, losses(run)))


def test_fp16_and_parts_scale_alike():
    runs = [fit(tiny.still(tiny.model()), precision="fp16", accumulation=n) for n in (1, 3)]
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_parameters_are_not_trained(dtype):
    with pytest.raises(ValueError, match=r"is b?float16, and small steps don't move a 16-bit weight"):
        fit(tiny.model().to(dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "auto"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_half_precision_learns_on_a_gpu(precision, checkpointing):
    run = fit(
        tiny.model(), precision=precision, checkpointing=checkpointing, epochs=12, learning_rate=1e-2, accumulation=2
    )
    assert run.best["accuracy"] > 0.9 and all(map(math.isfinite, losses(run)))
    assert "cuda" in run.peak_memory[1]


# ---------------------------------------------------------------- callbacks, stopping, resuming


def test_callbacks_see_every_row_and_steps_are_told_once_each():
    seen, steps = [], []
    run = fit(tiny.model(), callbacks=[seen.append], on_step=steps.append)
    assert seen == run.history
    assert steps == run.rows("train")
    assert [row["step"] for row in seen if row["split"] == "dev"] == [0, 5, 10]


@pytest.mark.parametrize(("split", "at"), [("train", 7), ("dev", 5), ("dev", 0)])
def test_a_callback_can_stop_and_a_second_call_goes_on(tmp_path, split, at):
    def enough(row):
        return row["split"] == split and row["step"] == at

    whole = fit(tiny.model())
    run = fit(tiny.model(), callbacks=[enough, lambda row: None], checkpoints=tmp_path)
    assert run.stopped == "callback" and run.history[-1]["step"] == at
    again = fit(tiny.model(), checkpoints=tmp_path)
    assert [(row["step"], row["loss"]) for row in again.history] == [(r["step"], r["loss"]) for r in whole.history]
    assert again.stopped == "all epochs done"


def test_a_run_that_patience_ended_is_not_trained_further(tmp_path):
    chosen = {"epochs": 30, "patience": 2, "learning_rate": 1e-2, "keep_best": True, "checkpoints": tmp_path}
    models = [tiny.model(), tiny.model()]
    runs = [fit(model, **chosen) for model in models]
    assert [run.stopped for run in runs] == ["patience", "patience"]
    assert runs[0].history == runs[1].history
    for (name, a), (_, b) in zip(*(model.named_parameters() for model in models), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("where", ["evaluation", "backward"])
def test_an_interrupt_in_the_middle_keeps_the_last_whole_state(tmp_path, where):
    """Neither a step without its evaluation nor half a step may be what a second call continues from."""
    whole, model, count = fit(tiny.model(), keep_best=True), tiny.model(), itertools.count()

    def during_evaluation(module, *_):
        if not module.training and next(count) == 1:  # the second look, after the first epoch
            raise KeyboardInterrupt

    def during_backward(gradient):
        if next(count) == 7:
            raise KeyboardInterrupt

    if where == "evaluation":
        model.register_forward_pre_hook(during_evaluation)
    else:
        model.classifier.weight.register_hook(during_backward)
    run = fit(model, keep_best=True, checkpoints=tmp_path)
    assert run.stopped == "interrupted"
    again = fit(tiny.model(), keep_best=True, checkpoints=tmp_path)
    assert [(r["step"], r["split"], r["loss"]) for r in again.history] == [
        (r["step"], r["split"], r["loss"]) for r in whole.history
    ]


# ---------------------------------------------------------------- out of memory


def runs_out_above(model: nn.Module, most: int, on_call: int = 0) -> nn.Module:
    """The model on a GPU that fits `most` training examples; with `on_call` only from that forward on."""
    calls = itertools.count()

    def raise_if_too_large(module, given, named):
        if module.training and next(calls) >= on_call and len(named["input_ids"]) > most:
            torch.rand(3)  # the attempt has drawn some dropout before it failed
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.register_forward_pre_hook(raise_if_too_large, with_kwargs=True)
    return model


@pytest.mark.parametrize(("most", "parts"), [(7, 2), (4, 2), (3, 4), (2, 4), (1, 8)])
def test_out_of_memory_goes_on_in_smaller_parts_with_the_same_result(most, parts):
    whole = fit(tiny.still(tiny.model()), tiny.task(train=43), learning_rate=1e-4)
    model = runs_out_above(tiny.still(tiny.model()), most)
    with pytest.warns(UserWarning, match="out of memory at step 1 with 8 examples at once") as told:
        run = fit(model, tiny.task(train=43), learning_rate=1e-4)
    assert len(told) == 1
    assert (run.accumulation, whole.accumulation) == (parts, 1)
    assert losses(run) == pytest.approx(losses(whole), abs=1e-6)
    assert f"steps in {parts} parts" in repr(run) and "memory ran out" not in repr(whole)


def test_out_of_memory_in_the_second_part_starts_the_step_from_zeroed_gradients():
    task = tiny.task(train=16)
    whole = gradients(tiny.still(tiny.model()), task, accumulation=2, epochs=1)
    model = runs_out_above(tiny.still(tiny.model()), most=3, on_call=1)
    with pytest.warns(UserWarning, match="with 4 examples at once"):
        parts = gradients(model, task, accumulation=2, epochs=1)
    assert len(whole) == len(parts) == 2
    assert largest_difference(whole[0], parts[0]) < 1e-6


def test_out_of_memory_restores_the_random_state():
    """With dropout: the same masks as in a run that had the smaller parts from the start, bit for bit."""
    with pytest.warns(UserWarning, match="out of memory"):
        run = fit(runs_out_above(tiny.model(), 4))
    assert losses(run) == losses(fit(tiny.model(), accumulation=2))


def test_a_resumed_run_knows_that_memory_ran_out(tmp_path):
    with pytest.warns(UserWarning, match="out of memory"):
        whole = fit(runs_out_above(tiny.model(), 4, on_call=3))
    with pytest.warns(UserWarning, match="out of memory"):
        fit(
            runs_out_above(tiny.model(), 4, on_call=3),
            checkpoints=tmp_path,
            callbacks=[lambda row: row["step"] == 7],
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(runs_out_above(tiny.model(), 4), checkpoints=tmp_path)
    assert run.accumulation == 2
    assert losses(run) == losses(whole)


def test_when_not_even_one_example_fits_the_error_says_what_helps():
    with pytest.warns(UserWarning), pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory") as caught:
        fit(runs_out_above(tiny.model(), 0))
    assert "a batch of 8 in 8 part(s)" in caught.value.__notes__[0]
    assert "checkpointing=True" in caught.value.__notes__[0]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"checkpointing": "yes"}, "checkpointing must be True or False; got 'yes'"),
        ({"cache_frozen": 1}, "cache_frozen must be True or False; got 1"),
        ({"accumulation": 0}, "accumulation must be a whole number from 1 on; got 0"),
    ],
)
def test_settings_refuse_nonsense(given, says):
    with pytest.raises(ValueError, match=says):
        settings(**given)


def test_callbacks_and_checkpoint_every_are_checked():
    model, tokenizer, task = tiny.model(), tiny.tokenizer(), tiny.task()
    with pytest.raises(ValueError, match="callbacks a list of functions; got 50 and \\['stop'\\]"):
        training.fit(model, tokenizer, task, settings(), callbacks=["stop"])
    with pytest.raises(ValueError, match="checkpoint_every must be 1 or more"):
        training.fit(model, tokenizer, task, settings(), checkpoint_every=0)

"""The training loop: equal to a plain loop, honest about failure, bit for bit after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_linear_schedule_with_warmup

from peft_helpers import storage, training
from peft_helpers.training import Settings

QUIET = {"progress": False, "precision": "fp32"}


def settings(**given) -> Settings:
    return Settings(**{"learning_rate": 5e-3, "epochs": 2, "batch_size": 8, **QUIET, **given})


def plain_loop(model, task, chosen: Settings) -> list[float]:
    """The loop as a textbook has it, on the same batches: what `fit` must equal."""
    tokenizer = tiny.tokenizer()
    data = training.encode(task, "train", tokenizer, 32)
    decayed, rest = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": chosen.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=chosen.learning_rate,
    )
    steps = chosen.epochs * math.ceil(len(data.inputs) / chosen.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.rate_factor(step, steps, chosen.warmup)
    )
    losses = []
    torch.manual_seed(chosen.seed)
    model.train()
    for epoch in range(chosen.epochs):
        for rows in training.batches(data.lengths, chosen.batch_size, chosen.seed, epoch):
            batch = training.collate(data, rows, 0)
            labels = batch.pop("labels")
            logits = model(**batch).logits
            loss = (
                torch.nn.functional.cross_entropy(logits, labels)
                if task.kind == "classification"
                else torch.nn.functional.mse_loss(logits.squeeze(-1), labels)
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2", "llama"])
def test_fit_equals_the_plain_loop(architecture, kind):
    task = tiny.task(kind=kind)
    outputs = task.outputs
    run = training.fit(tiny.model(architecture, outputs=outputs), tiny.tokenizer(), task, settings(keep_best=False))
    expected = plain_loop(tiny.model(architecture, outputs=outputs), task, settings())
    measured = [row["loss"] for row in run.rows("train")]
    assert len(measured) == 10
    assert measured == pytest.approx(expected, abs=1e-6)


def test_fit_learns_reports_and_keeps_the_best_weights():
    task, model = tiny.task(), tiny.model()
    run = training.fit(model, tiny.tokenizer(), task, settings(epochs=12, learning_rate=1e-2))
    dev = run.rows("dev")
    assert [row["step"] for row in dev] == list(range(0, 61, 5))
    assert run.best["accuracy"] == max(row["accuracy"] for row in dev) > 0.9
    assert training.evaluate(model, tiny.tokenizer(), task, "dev").score == run.best["accuracy"]
    assert run.stopped == "all epochs done"
    assert run.labels == 40
    assert run.trainable == run.total == sum(p.numel() for p in model.parameters())
    assert not model.training
    assert "best dev accuracy" in repr(run)


def test_patience_stops_and_restores_the_best():
    model = tiny.model()
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings(epochs=30, patience=2, learning_rate=1e-2))
    dev = [row["accuracy"] for row in run.rows("dev")]
    assert run.stopped == "patience"
    assert len(dev) < 31
    assert dev.index(max(dev)) == len(dev) - 3, "stops after exactly two looks without a better score"
    assert training.evaluate(model, tiny.tokenizer(), tiny.task(), "dev").score == max(dev)


def test_only_what_requires_grad_is_trained():
    model = tiny.model()
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings(keep_best=False))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    assert run.trainable == 34


def test_accumulation_gives_the_same_losses_on_unequal_parts():
    losses = []
    for parts in (1, 3):
        model = tiny.model()
        model.config.hidden_dropout_prob = 0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(
            [
                row["loss"]
                for row in training.fit(model, tiny.tokenizer(), tiny.task(), settings(accumulation=parts)).rows(
                    "train"
                )
            ]
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_bf16_autocast_runs_on_the_cpu_and_parameters_stay_float32():
    model = tiny.model()
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings(precision="bf16", epochs=1))
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@given(
    count=st.integers(1, 300),
    batch_size=st.integers(1, 64),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
    buckets=st.booleans(),
)
def test_batches_hold_every_row_once_and_are_a_pure_function(count, batch_size, seed, epoch, buckets):
    lengths = np.random.default_rng(count).integers(3, 40, count)
    state = torch.get_rng_state()
    made = training.batches(lengths, batch_size, seed, epoch, buckets)
    assert sorted(np.concatenate(made)) == list(range(count))
    assert len(made) == math.ceil(count / batch_size)
    again = training.batches(lengths, batch_size, seed, epoch, buckets)
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_buckets_save_padding():
    lengths = np.random.default_rng(0).integers(3, 60, 2000)

    def padded(buckets: bool) -> int:
        return sum(len(rows) * lengths[rows].max() for rows in training.batches(lengths, 32, 0, 0, buckets))

    assert padded(True) < 0.75 * padded(False)


@pytest.mark.parametrize(("steps", "warmup"), [(10, 0.1), (57, 0.25), (100, 0.0)])
def test_schedule_is_the_linear_one_of_transformers(steps, warmup):
    """Ours starts one step further up the ramp, so that the first step is not wasted on a rate of 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = round(warmup * steps)
    schedule = get_linear_schedule_with_warmup(optimizer, rising, steps)
    theirs = []
    for _ in range(steps):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ours = [training.rate_factor(step, steps, warmup) for step in range(steps)]
    assert ours[:rising] == pytest.approx([*theirs[1:rising], 1.0][:rising])
    assert ours[rising:] == pytest.approx(theirs[rising:], abs=1e-12)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"learning_rate": 0}, "learning_rate must be a positive number"),
        ({"learning_rate": -1e-3}, "got -0.001"),
        ({"learning_rate": math.nan}, "got nan"),
        ({"learning_rate": math.inf}, "got inf"),
        ({"epochs": 0}, "epochs must be a whole number from 1 on; got 0"),
        ({"epochs": 1.5}, "got 1.5"),
        ({"batch_size": 0}, "batch_size"),
        ({"accumulation": 9}, "at most batch_size 8"),
        ({"warmup": 1.0}, "warmup"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"clip": 0}, "clip must be positive, or None"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32"),
    ],
)
def test_settings_refuse_nonsense(given_, says):
    with pytest.raises(ValueError, match=says):
        settings(**given_)


def test_a_head_that_does_not_fit_the_labels_is_refused():
    with pytest.raises(ValueError, match=r"head gives 3 outputs, and the task tiny needs 2 \(warm, cold\)"):
        training.fit(tiny.model(outputs=3), tiny.tokenizer(), tiny.task(), settings())
    task = tiny.task()
    broken = task.splits["train"].map(lambda row: {"label": row["label"] + 1})
    task.splits["train"] = broken
    with pytest.raises(ValueError, match="labels of tiny run from 1 to 2; a head with 2 outputs takes 0 to 1"):
        training.fit(tiny.model(), tiny.tokenizer(), task, settings())
    assert training.evaluate(tiny.model(), tiny.tokenizer(), task, "dev"), "train's labels don't matter on dev"
    for split, says in (("train", "labels of tiny run from 1 to 2"), ("test", "head gives 3 outputs")):
        with pytest.raises(ValueError, match=says):
            training.evaluate(tiny.model(outputs=2 if split == "train" else 3), tiny.tokenizer(), task, split)


def test_nothing_to_train_and_empty_splits_are_refused():
    model = tiny.model().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model requires grad"):
        training.fit(model, tiny.tokenizer(), tiny.task(), settings())
    for split in ("train", "dev"):
        task = tiny.task()
        task.splits[split] = task.splits[split].select([])
        with pytest.raises(ValueError, match=f"tiny's {split} split is empty"):
            training.fit(tiny.model(), tiny.tokenizer(), task, settings())
        with pytest.raises(ValueError, match=f"tiny's {split} split is empty"):
            training.evaluate(tiny.model(), tiny.tokenizer(), task, split)


def test_long_texts_are_cut_and_counted():
    task = tiny.task()
    task.splits["train"] = task.splits["train"].map(
        lambda row, i: {"text": "red " * 50 if i < 3 else row["text"]}, with_indices=True
    )
    run = training.fit(tiny.model(), tiny.tokenizer(longest=32), task, settings(epochs=1))
    assert run.truncated == {"train": 3}
    assert "3 texts cut" in repr(run)


def test_nan_loss_stops_and_names_step_and_rows():
    model = tiny.model()

    def poison(row):
        if row["step"] == 3:
            with torch.no_grad():
                model.classifier.bias.fill_(math.nan)

    with pytest.raises(
        FloatingPointError, match=r"the loss is nan at step 4, in the batch of training rows \d+"
    ) as caught:
        training.fit(model, tiny.tokenizer(), tiny.task(), settings(), on_step=poison)
    rows = training.batches(training.encode(tiny.task(), "train", tiny.tokenizer(), 32).lengths, 8, 0, 0)[3]
    assert ", ".join(map(str, rows)) in str(caught.value)


# ---------------------------------------------------------------- interruption and resuming


def test_an_interrupt_returns_what_there_is_and_a_second_call_finishes(tmp_path):
    def interrupt(row):
        if row["step"] == 7:
            raise KeyboardInterrupt

    whole_model = tiny.model()
    whole = training.fit(whole_model, tiny.tokenizer(), tiny.task(), settings())
    model = tiny.model()
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path, on_step=interrupt)
    assert run.stopped == "interrupted"
    assert run.history[-1]["step"] == 7
    again_model = tiny.model(seed=5)  # its weights come from the checkpoint
    again = training.fit(again_model, tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]
    for (name, a), (_, b) in zip(whole_model.named_parameters(), again_model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny
from peft_helpers import storage, training

point, where = int(sys.argv[1]), sys.argv[2]
if where == "saving":  # die with the new file half written, before it takes the old one's place
    real, saves = os.replace, []
    def replace(a, b):
        saves.append(b)
        if len(saves) == point:
            os.truncate(a, os.path.getsize(a) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        real(a, b)
    os.replace = replace
def on_step(row):
    if where == "step" and row["step"] == point:
        os.kill(os.getpid(), signal.SIGKILL)
chosen = training.Settings(5e-3, epochs=4, batch_size=8, seed=3, progress=False, precision="fp32")
model, tokenizer, task = tiny.model(), tiny.tokenizer(), tiny.task()
training.fit(model, tokenizer, task, chosen, checkpoints={folder!r}, checkpoint_every=3, on_step=on_step)
"""


@pytest.mark.parametrize(
    ("point", "where"),
    [(1, "step"), (4, "step"), (8, "step"), (13, "step"), (19, "step"), (2, "saving"), (7, "saving")],
)
def test_a_killed_run_continues_bit_for_bit(tmp_path, point, where):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", code, str(point), where], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    chosen = settings(epochs=4, seed=3)
    whole_model, model = tiny.model(), tiny.model()
    whole = training.fit(whole_model, tiny.tokenizer(), tiny.task(), chosen)
    run = training.fit(model, tiny.tokenizer(), tiny.task(), chosen, checkpoints=tmp_path, checkpoint_every=3)
    assert [(r["step"], r["loss"]) for r in run.history] == [(r["step"], r["loss"]) for r in whole.history]
    assert run.best["step"] == whole.best["step"]
    for (name, a), (_, b) in zip(whole_model.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part") and where == "step"]


def finished(folder: Path) -> Path:
    training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), settings(), checkpoints=folder)
    return folder / "last.safetensors"


def test_foreign_checkpoints_are_refused_and_say_what_differs(tmp_path):
    path = finished(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run \(learning_rate: 0.005 there, 0.01 here\)"):
        training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), settings(learning_rate=1e-2), checkpoints=tmp_path)
    with pytest.raises(ValueError, match="training data"):
        training.fit(tiny.model(), tiny.tokenizer(), tiny.task(seed=1), settings(), checkpoints=tmp_path)
    with pytest.raises(ValueError, match="trained tensors"):
        training.fit(tiny.model("gpt2"), tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)
    storage.write_tensors(path, {"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="is no checkpoint of fit"):
        training.fit(tiny.model(), tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)


def test_truncated_and_renamed_checkpoints_are_refused_and_change_nothing(tmp_path):
    path = finished(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    model = tiny.model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        training.fit(model, tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        training.fit(model, tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)
    os.replace(tmp_path / "best.safetensors", path)  # the wrong file under the right name
    with pytest.raises(ValueError, match=r"is no checkpoint of fit|does not fit: missing"):
        training.fit(model, tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
import tiny
from peft_helpers import training
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def on_step(row):
    if row["step"] == 4:  # from now on no file may grow beyond 1 kB
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
chosen = training.Settings(5e-3, epochs=2, batch_size=8, progress=False, precision="fp32")
model, tokenizer, task = tiny.model(), tiny.tokenizer(), tiny.task()
try:
    training.fit(model, tokenizer, task, chosen, checkpoints={folder!r}, checkpoint_every=3, on_step=on_step)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes to play a full disk with")
def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path):
    code = FULL_DISK.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Error" in told.stdout, told.stdout + told.stderr
    _, metadata = storage.read_tensors(tmp_path / "last.safetensors")
    assert metadata["progress"]["step"] == 3
    run = training.fit(
        tiny.model(), tiny.tokenizer(), tiny.task(), settings(), checkpoints=tmp_path, checkpoint_every=3
    )
    assert run.history[-1]["step"] == 10
    assert json.dumps(run.history)

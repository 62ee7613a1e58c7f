"""`fit`: the one training loop of the course, on Hugging Face Accelerate.

What requires grad is trained, and nothing else has optimizer state or goes into a checkpoint. Batches are a pure
function of (seed, epoch), so a run that was killed continues bit for bit. `fit` returns a `Run`; it prints nothing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_helpers import accounting, evaluation, storage
from peft_helpers.profiles import default_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
LOSS_LOOK = 10  # on a GPU the loss is read every so many steps: reading it makes the host wait


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a run goes, apart from model and data.

    Attributes:
        learning_rate: AdamW's peak rate.
        epochs: passes over train.
        batch_size: examples a step, over all processes.
        warmup: share of the steps in which the rate rises linearly; then it falls linearly to 0.
        weight_decay: decoupled, on matrices only (not on biases and norms).
        clip: largest global gradient norm; None for no clipping.
        accumulation: a step's batch is computed in so many parts (same result, less memory).
        precision: "auto" is bf16 or fp16 on a GPU, whichever it supports, and fp32 elsewhere.
        max_length: tokens a text may have; None for the model's own limit.
        keep_best: end with the weights of the best dev score instead of the last.
        patience: stop after so many evaluations without a better dev score; None for never.
        buckets: put texts of like length into a batch, which saves padding.
        seed: dropout and the order of the batches.
        progress: show a progress bar.
    """

    learning_rate: float
    epochs: int = 3
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float | None = 1.0
    accumulation: int = 1
    precision: str = "auto"
    max_length: int | None = None
    keep_best: bool = True
    patience: int | None = None
    buckets: bool = True
    seed: int = 0
    progress: bool = True

    def __post_init__(self):
        if not (isinstance(self.learning_rate, (int, float)) and 0 < self.learning_rate < math.inf):
            raise ValueError(
                f"learning_rate must be a positive number (usually 1e-5 to 1e-2 here); got {self.learning_rate}"
            )
        for name in ("epochs", "batch_size", "accumulation"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ValueError(f"{name} must be a whole number from 1 on; got {getattr(self, name)}")
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"accumulation splits a batch: it must be at most batch_size {self.batch_size}; got {self.accumulation}"
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is the share of steps with a rising rate, 0 to below 1; got {self.warmup}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more; got {self.weight_decay}")
        for name in ("clip", "patience", "max_length"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, or None; got {value}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")


@dataclass
class Run:
    """What `fit` returns.

    Attributes:
        history: one row an event: step, epoch, split ("train" or "dev"), loss, learning_rate or the metric, seconds.
        best: the row of the best evaluation on dev.
        settings, task, backbone, labels: what was run; `labels` counts the training examples.
        trainable, total: numbers of parameters.
        seconds: wall time in the loop, over all sittings of a resumed run.
        peak_memory: (bytes, name of the meter), see `accounting.peak_memory`.
        truncated: split -> how many texts were longer than the limit and were cut.
        stopped: why the run ended: "all epochs done", "patience", "interrupted".
    """

    settings: Settings
    task: str
    metric: str
    backbone: str
    labels: int
    trainable: int
    total: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory: tuple[int | None, str] = (None, "not measured")
    truncated: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    def rows(self, split: str) -> list[dict[str, Any]]:
        """The history's rows of one split, "train" or "dev"."""
        return [row for row in self.history if row["split"] == split]

    def __repr__(self) -> str:
        score = (
            f"best dev {self.metric} {self.best[self.metric]:.3f} at step {self.best['step']}"
            if self.best
            else "not evaluated"
        )
        cut = sum(self.truncated.values())
        return (
            f"run on {self.task} ({self.labels:,} labels, {self.backbone}): {score}"
            f" · {self.trainable:,} of {self.total:,} parameters trained · {self.seconds:.1f} s · {self.stopped}"
            + (f" · {cut} texts cut to the model's limit" if cut else "")
        )


@dataclass(frozen=True)
class Encoded:
    """One split as token ids: what a batch is made from.

    Attributes:
        inputs: for each example the tokenizer's lists (input_ids, and token_type_ids where the model has them).
        labels: class numbers or scores.
        truncated: how many texts were cut to the limit.
    """

    inputs: list[dict[str, list[int]]]
    labels: list[float]
    truncated: int

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.array([len(row["input_ids"]) for row in self.inputs])


def encode(task: Task, split: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Tokenize one split once; texts longer than `max_length` tokens are cut, and counted."""
    rows = task.splits[split]
    if not len(rows):
        raise ValueError(f"{task.name}'s {split} split is empty")
    texts = [list(rows[column]) for column in task.text_columns]
    made = tokenizer(*texts, truncation=True, max_length=max_length, return_attention_mask=False)
    inputs = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    full = [i for i, row in enumerate(inputs) if len(row["input_ids"]) >= max_length]
    whole = (
        tokenizer(*([column[i] for i in full] for column in texts), truncation=False, verbose=False)["input_ids"]
        if full
        else []
    )
    return Encoded(inputs, list(rows["label"]), sum(len(ids) > max_length for ids in whole))


def collate(encoded: Encoded, rows: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
    """Token ids of these rows padded on the right to their longest, (B, T), with attention mask and labels (B,)."""
    import torch

    picked = [encoded.inputs[i] for i in rows]
    width = max(len(row["input_ids"]) for row in picked)
    batch = {}
    for key in picked[0]:
        fill = pad_token_id if key == "input_ids" else 0
        batch[key] = torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in picked])
    batch["attention_mask"] = torch.tensor(
        [[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in picked]
    )
    batch["labels"] = torch.tensor([encoded.labels[i] for i in rows])
    return batch


def batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, buckets: bool = True) -> list[np.ndarray]:
    """The row numbers of each batch of an epoch: a pure function of its arguments, nothing global is read or changed.

    With buckets, rows of like length (within a fifth, so that batches still mix) come together, in shuffled order.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    if buckets:
        blurred = lengths * generator.uniform(0.8, 1.2, len(lengths))
        pools = np.split(order, range(50 * batch_size, len(order), 50 * batch_size))
        order = np.concatenate([pool[np.argsort(blurred[pool], kind="stable")] for pool in pools])
    made = np.split(order, range(batch_size, len(order), batch_size))
    return [made[i] for i in generator.permutation(len(made))] if buckets else made


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """The learning rate at `step` (from 0) as a share of its peak: linear up over the warm-up, linear down to 0."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising)


def loss_sum(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The summed loss of a batch in float32: cross-entropy of (B, K) logits, or squared error of (B, 1)."""
    from torch.nn import functional as F

    if kind == "classification":
        return F.cross_entropy(logits.float(), labels, reduction="sum")
    return F.mse_loss(logits.float().squeeze(-1), labels.float(), reduction="sum")


# ---------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions on one split.

    Attributes:
        score: the task's metric.
        loss: mean loss an example.
        predictions: class numbers or scores, in the split's order.
        labels: the truth.
    """

    metric: str
    score: float
    loss: float
    predictions: list[float]
    labels: list[float]

    def __repr__(self) -> str:
        return f"{self.metric} {self.score:.3f}, loss {self.loss:.3f}, {len(self.labels)} items"


def evaluate(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, split: str = "test", max_length: int | None = None
) -> Evaluation:
    """Predict a whole split, without gradients and without dropout."""
    encoded = encode(task, split, tokenizer, max_length or length_limit(model, tokenizer))
    return _evaluate(model, encoded, task, tokenizer.pad_token_id)


def _evaluate(
    model: nn.Module, encoded: Encoded, task: Task, pad: int, half: torch.dtype | None = None, batch_size: int = 64
) -> Evaluation:
    import torch

    device = next(model.parameters()).device
    order = np.argsort(encoded.lengths, kind="stable")
    was_training, total, outputs = model.training, 0.0, {}
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = {k: v.to(device) for k, v in collate(encoded, rows, pad).items()}
                labels = batch.pop("labels")
                with autocast(device, half):
                    logits = model(**batch).logits
                total += loss_sum(logits, labels, task.kind).item()
                made = logits.argmax(-1) if task.kind == "classification" else logits.float().squeeze(-1)
                outputs.update(zip(rows.tolist(), made.tolist(), strict=True))
    finally:
        model.train(was_training)
    predictions = [outputs[i] for i in range(len(order))]
    try:
        score = evaluation.score(task.metric, predictions, encoded.labels)
    except ValueError:  # NaN or infinite predictions of a diverged model have no score
        if np.isfinite(predictions).all():
            raise
        score = -math.inf
    return Evaluation(task.metric, score, total / len(order), predictions, encoded.labels)


def length_limit(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model can take: the smaller of its positions and the tokenizer's own limit."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if model.config.model_type in ("roberta", "xlm-roberta"):
        positions -= 2  # their positions start behind the padding id
    return min(positions, tokenizer.model_max_length)


# ---------------------------------------------------------------- fit


def fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    settings: Settings,
    *,
    checkpoints: str | Path | None = None,
    checkpoint_every: int = 50,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train what requires grad, evaluate on dev before the first step and after every epoch.

    Args:
        model: gives `.logits` of shape (B, K); trained in place, and moved to the device.
        tokenizer: the model's.
        task: train is learned from, dev chooses the best weights; test is not touched.
        settings: see `Settings`.
        checkpoints: a folder. The run's state is saved there every `checkpoint_every` steps and at each evaluation;
            called again with the same model, task and settings, `fit` continues where it was stopped, bit for bit.
        on_step: called after each step with its row of history.

    Returns:
        the `Run`. On Ctrl-C (or 'interrupt' in a notebook) it returns what there is, with `stopped` = "interrupted".

    Raises:
        ValueError: nothing to train, empty split, labels that don't fit the head, or a checkpoint of another run.
        FloatingPointError: the loss is NaN or infinite; the message names step and rows.
    """
    import torch
    from accelerate import Accelerator

    _check_head(model, task)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("no parameter of the model requires grad, so there is nothing to train")
    limit = min(settings.max_length or length_limit(model, tokenizer), length_limit(model, tokenizer))
    data = {split: encode(task, split, tokenizer, limit) for split in ("train", "dev")}

    accelerator = Accelerator(cpu=default_device() == "cpu")
    half = half_precision(settings.precision)
    torch.manual_seed(settings.seed)
    model.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained.values() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    wrapped = accelerator.prepare(model)
    scaler = torch.amp.GradScaler(accelerator.device.type, enabled=half is torch.float16)
    steps_an_epoch = math.ceil(len(data["train"].inputs) / settings.batch_size)
    steps = steps_an_epoch * settings.epochs

    run = Run(
        settings, task.name, task.metric, getattr(model, "name", model.config.model_type), len(data["train"].inputs),
        sum(p.numel() for p in trained.values()), sum(p.numel() for p in model.parameters()),
        truncated={split: encoded.truncated for split, encoded in data.items() if encoded.truncated},
    )  # fmt: skip
    keeper = (
        _Keeper(checkpoints, _fingerprint(run, task, trained), trained, optimizer, scaler, accelerator.is_main_process)
        if checkpoints
        else None
    )
    step, best_weights, waited = 0, {}, 0
    if keeper and keeper.exists():
        step, best_weights, waited = keeper.restore(run)
    before, started = run.seconds, time.perf_counter()
    pad, log, plan = tokenizer.pad_token_id, _LossLog(accelerator.device.type), None

    def look(step: int) -> bool:
        """Evaluate on dev; keep the weights if they are the best so far. True when patience is at its end."""
        nonlocal best_weights, waited
        result = _evaluate(model, data["dev"], task, pad, half)
        row = {
            "step": step,
            "epoch": step / steps_an_epoch,
            "split": "dev",
            "loss": result.loss,
            task.metric: result.score,
        }
        run.history.append(row | {"seconds": before + time.perf_counter() - started})
        waited += 1
        if not run.best or result.score > run.best[task.metric]:
            run.best, waited = run.history[-1], 0
            if settings.keep_best:
                best_weights = {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}
                if keeper:
                    keeper.save_best(best_weights)
        return settings.patience is not None and waited >= settings.patience

    def save() -> None:
        if keeper and keeper.writes:
            run.seconds = before + time.perf_counter() - started
            keeper.save(run, step, waited)

    run.stopped = "all epochs done"
    bar = _progress_bar(steps, step, settings.progress and accelerator.is_main_process)
    try:
        if step == 0:
            look(0)
        while step < steps:
            epoch, position = divmod(step, steps_an_epoch)
            if position == 0 or plan is None:
                plan = batches(data["train"].lengths, settings.batch_size, settings.seed, epoch, settings.buckets)
            rows = plan[position]
            factor = rate_factor(step, steps, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor
            wrapped.train()
            loss = _step(
                wrapped, accelerator, optimizer, scaler, half, data["train"], rows, task.kind, pad, settings, step
            )
            step += 1
            row = {
                "step": step,
                "epoch": step / steps_an_epoch,
                "split": "train",
                "loss": loss,
                "learning_rate": settings.learning_rate * factor,
            }
            run.history.append(row | {"seconds": before + time.perf_counter() - started})
            log.watch(run.history[-1], rows)
            bar.update()
            finished = step % steps_an_epoch == 0 and look(step)
            if keeper and (step % checkpoint_every == 0 or step % steps_an_epoch == 0):
                log.settle()
                save()
            if on_step:
                on_step(run.history[-1])
            if finished and step < steps:
                run.stopped = "patience"
                break
        log.settle()
    except KeyboardInterrupt:
        run.stopped = "interrupted"
        log.settle()
        save()
    finally:
        bar.close()
        run.seconds = before + time.perf_counter() - started
    if best_weights and run.stopped != "interrupted":
        with torch.no_grad():
            for name, value in best_weights.items():
                trained[name].copy_(value)
    model.eval()
    run.peak_memory = accounting.peak_memory(str(accelerator.device))
    return run


def _step(wrapped, accelerator, optimizer, scaler, half, encoded, rows, kind, pad, settings, step) -> Tensor | float:
    """One optimizer step on these rows; returns their mean loss.

    Each process takes its share of the rows, in `accumulation` parts; the mean is over all of them.
    """
    import torch

    world, rank = accelerator.num_processes, accelerator.process_index
    own = rows[rank::world]
    parts = [part for part in np.array_split(own, settings.accumulation) if len(part)] or [rows[:1]]
    weight = 1.0 if len(own) else 0.0  # a process without a row still takes part in the exchange of gradients
    total = torch.zeros((), device=accelerator.device)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(wrapped):
            batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in collate(encoded, part, pad).items()}
            labels = batch.pop("labels")
            with autocast(accelerator.device, half):
                logits = wrapped(**batch).logits
            loss = weight * loss_sum(logits, labels, kind) / len(rows)
            if accelerator.device.type == "cpu" and not math.isfinite(loss.item()):
                raise diverged(step + 1, rows, loss.item())
            scaler.scale(loss * world).backward()  # DDP averages over processes; the sum is what we want
            total += loss.detach()
    if settings.clip is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], settings.clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    total = accelerator.reduce(total, reduction="sum") if world > 1 else total
    return total.item() if accelerator.device.type == "cpu" else total


class _LossLog:
    """Turns loss tensors of a GPU into numbers, some steps late, so that the host need not wait at every step."""

    def __init__(self, device: str):
        self.patience = 1 if device == "cpu" else LOSS_LOOK
        self.waiting: list[tuple[dict, Sequence[int]]] = []

    def watch(self, row: dict, rows: Sequence[int]) -> None:
        self.waiting.append((row, rows))
        if len(self.waiting) >= self.patience:
            self.settle()

    def settle(self) -> None:
        waiting, self.waiting = self.waiting, []
        for row, rows in waiting:
            row["loss"] = float(row["loss"])
            if not math.isfinite(row["loss"]):
                raise diverged(row["step"], rows, row["loss"])


def diverged(step: int, rows: Sequence[int], loss: float) -> FloatingPointError:
    """The error for a loss that is not a finite number."""
    shown = ", ".join(map(str, rows[:8])) + (" …" if len(rows) > 8 else "")
    return FloatingPointError(
        f"the loss is {loss} at step {step}, in the batch of training rows {shown}. "
        "Usual causes: a learning rate that is too high, fp16 overflow (try bf16 or fp32), or broken rows."
    )


def _check_head(model: nn.Module, task: Task) -> None:
    outputs = getattr(model.config, "num_labels", None)
    if outputs != task.outputs:
        raise ValueError(
            f"the model's head gives {outputs} outputs, and the task {task.name} needs {task.outputs} "
            f"({', '.join(task.labels) or 'one score'}); load the backbone with this task: backbones.load(name, task)"
        )
    labels = task.splits["train"]["label"]
    if task.kind == "classification" and not 0 <= min(labels) <= max(labels) < outputs:
        raise ValueError(
            f"labels of {task.name} run from {min(labels)} to {max(labels)}; "
            f"a head with {outputs} outputs takes 0 to {outputs - 1}"
        )


def half_precision(asked: str) -> torch.dtype | None:
    """The 16-bit type that `Settings.precision` stands for on this machine, or None for plain float32."""
    import torch

    if asked == "auto":
        if not torch.cuda.is_available():
            return None
        return (
            torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
        )  # older GPUs emulate bf16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[asked]


def autocast(device: torch.device, half: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Matrix products in the 16-bit type, everything delicate in float32; nothing at all for None."""
    import torch

    return torch.autocast(device.type, dtype=half) if half else contextlib.nullcontext()


def _progress_bar(steps: int, done: int, shown: bool):
    from tqdm.auto import tqdm

    return tqdm(total=steps, initial=done, disable=not shown, leave=False, unit="step")


# ---------------------------------------------------------------- checkpoints


def _fingerprint(run: Run, task: Task, trained: dict[str, nn.Parameter]) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    shapes = json.dumps({name: list(p.shape) for name, p in trained.items()})
    text = json.dumps([list(task.splits["train"][c]) for c in (*task.text_columns, "label")])
    settings = {k: v for k, v in asdict(run.settings).items() if k != "progress"}
    digest = {
        "trained tensors": hashlib.sha256(shapes.encode()).hexdigest()[:16],
        "training data": hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    return {"task": run.task, "backbone": run.backbone} | settings | digest


class _Keeper:
    """Saves and restores a run: trained tensors, optimizer, random state and history in one safetensors file."""

    def __init__(
        self,
        folder: str | Path,
        fingerprint: dict[str, Any],
        trained: dict[str, nn.Parameter],
        optimizer,
        scaler,
        writes: bool,
    ):
        self.last, self.best = Path(folder) / "last.safetensors", Path(folder) / "best.safetensors"
        self.fingerprint, self.trained, self.optimizer, self.scaler, self.writes = (
            fingerprint,
            trained,
            optimizer,
            scaler,
            writes,
        )

    def exists(self) -> bool:
        return self.last.is_file()

    def save_best(self, weights: dict[str, Tensor]) -> None:
        if self.writes:
            storage.write_tensors(self.best, weights, {"fingerprint": self.fingerprint})

    def save(self, run: Run, step: int, waited: int) -> None:
        import torch

        tensors = {f"model.{name}": p for name, p in self.trained.items()}
        state = self.optimizer.state_dict()
        for index, values in state["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        progress = {"step": step, "waited": waited, "history": run.history, "best": run.best, "seconds": run.seconds}
        metadata = {
            "fingerprint": self.fingerprint,
            "progress": progress,
            "groups": state["param_groups"],
            "scaler": self.scaler.state_dict(),
        }
        storage.write_tensors(self.last, tensors, metadata)

    def restore(self, run: Run) -> tuple[int, dict[str, Tensor], int]:
        """Put everything back; nothing is changed unless the whole checkpoint fits."""
        import torch

        tensors, metadata = storage.read_tensors(self.last)
        self._refuse_foreign(self.last, metadata)
        weights = {name: tensors.pop(f"model.{name}") for name in self.trained if f"model.{name}" in tensors}
        missing = sorted(set(self.trained) - set(weights))
        unexpected = sorted(key for key in tensors if not key.startswith(("optimizer.", "random.")))
        if missing or unexpected:
            raise ValueError(
                f"{self.last} does not fit: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}"
            )
        progress, best = metadata["progress"], {}
        if run.settings.keep_best and progress["best"]:
            best, best_metadata = storage.read_tensors(self.best)
            self._refuse_foreign(self.best, best_metadata)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        with torch.no_grad():
            for name, value in weights.items():
                self.trained[name].copy_(value)
        self.optimizer.load_state_dict({"state": state, "param_groups": metadata["groups"]})
        if metadata["scaler"]:
            self.scaler.load_state_dict(metadata["scaler"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        run.history, run.best, run.seconds = progress["history"], progress["best"], progress["seconds"]
        return progress["step"], best, progress["waited"]

    def _refuse_foreign(self, path: Path, metadata: dict[str, Any]) -> None:
        theirs = metadata.get("fingerprint")
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} is no checkpoint of fit; name another folder, or delete the file to start afresh")
        differing = [
            k for k in sorted(self.fingerprint.keys() | theirs.keys()) if self.fingerprint.get(k) != theirs.get(k)
        ]
        if differing:
            told = "; ".join(f"{k}: {theirs.get(k)} there, {self.fingerprint.get(k)} here" for k in differing)
            raise ValueError(
                f"{path} belongs to another run ({told}). Name another folder, or delete the file to start afresh"
            )

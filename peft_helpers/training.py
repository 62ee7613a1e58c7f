"""`fit`: the one training loop of the course, on Hugging Face Accelerate.

What requires grad is trained, and nothing else has optimizer state or goes into a checkpoint. Batches are a pure
function of (seed, epoch), so a run that was killed continues bit for bit. `fit` returns a `Run`; it prints nothing.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from peft_helpers import accounting, evaluation, schedules
from peft_helpers.batching import IGNORED, Encoded, batches, collate, encode, in_one_row, length_limit, writes
from peft_helpers.checkpoints import Keeper, fingerprint
from peft_helpers.profiles import default_device

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.frozen_trunk import FrozenTrunk
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
        warmup: share of the steps in which the rate rises linearly; then `schedule` takes over.
        schedule: how the rate falls after the warm-up: a name in `schedules.DECAYS`, "linear" or another.
        weight_decay: decoupled, on matrices only (not on biases and norms).
        clip: largest global gradient norm; None for no clipping.
        accumulation: a step's batch is computed in so many parts (same result, less memory).
        checkpointing: keep only each layer's input for the backward pass, compute the rest again (same result, less
            memory, about a third more time).
        precision: "auto" is bf16 or fp16 on a GPU, whichever it supports, and fp32 elsewhere.
        max_length: tokens a text may have; None for the model's own limit.
        keep_best: end with the weights of the best dev score instead of the last.
        patience: stop after so many evaluations without a better dev score; None for never.
        buckets: put texts of like length into a batch, which saves padding.
        cache_frozen: compute the layers below the first trained one once a text instead of once a step. They run in
            eval mode, so their dropout is off.
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
    schedule: str = "linear"
    checkpointing: bool = False
    cache_frozen: bool = False

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
        for name in ("checkpointing", "cache_frozen"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")
        schedules.require_name(self.schedule)
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
        stopped: why the run ended: "all epochs done", "patience", "callback", "interrupted".
        accumulation: parts in which a step was computed at the end: more than in the settings if memory ran out.
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
    accumulation: int = 1

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
            + (
                f" · memory ran out: steps in {self.accumulation} parts"
                if self.accumulation > self.settings.accumulation
                else ""
            )
        )


class Callback(Protocol):
    """What `fit` calls with each new row of history, a step's or an evaluation's; `row["split"]` tells which.

    True asks `fit` to stop. On a GPU a step's loss may still be a tensor: `float(row["loss"])` waits for it.
    """

    def __call__(self, row: dict[str, Any]) -> bool | None: ...


def rate_factor(step: int, steps: int, warmup: float, schedule: str = "linear") -> float:
    """The learning rate at `step` (from 0) as a share of its peak: linear up over the warm-up, then by `schedule`.

    One step further up the ramp than `schedules.schedule`, so that the first step is not wasted on a rate of 0.
    """
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return schedules.schedule(schedule, step, steps, rising)


def loss_sum(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The summed loss of a batch in float32: cross-entropy of (B, K) logits, or squared error of (B, 1).

    For generation the cross-entropy of (B, T, V) logits with (B, T) target tokens, but for the ignored ones.
    """
    from torch.nn import functional as F

    if kind == "generation":
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    if kind == "classification":
        return F.cross_entropy(logits.float(), labels, reduction="sum")
    return F.mse_loss(logits.float().squeeze(-1), labels.float(), reduction="sum")


# ---------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions on one split.

    Attributes:
        metric, score: the task's metric; for generation the share of target tokens that are the likeliest ones, given
            the true tokens before them ("token_accuracy"; what the model writes itself: `generation.evaluate`).
        loss: mean loss an example; for generation, a target token.
        predictions: class numbers or scores, in the split's order; for generation, right tokens of each reference.
        labels: the truth; for generation, target tokens of each reference.
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
    """Predict a whole split, without gradients and without dropout.

    Raises:
        ValueError: an empty split, or a head that doesn't fit the task or the split's labels.
    """
    _check_head(model, task, split)
    encoded = encode(task, split, tokenizer, max_length or length_limit(model, tokenizer), in_one_row(model))
    return _evaluate(model, encoded, task, tokenizer.pad_token_id)


def fitting_metric(task: Task) -> str:
    """What `fit` measures on dev: the task's metric; for generation, which would take too long, "token_accuracy"."""
    return "token_accuracy" if task.kind == "generation" else task.metric


def _evaluate(
    model: nn.Module,
    encoded: Encoded,
    task: Task,
    pad: int,
    half: torch.dtype | None = None,
    trunk: FrozenTrunk | None = None,
    batch_size: int = 64,
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
                logits, labels = _forward(model, encoded, rows, pad, device, half, trunk)
                total += loss_sum(logits, labels, task.kind).item()
                made = _predicted(logits, labels, task.kind)
                outputs.update(zip(rows.tolist(), made.tolist(), strict=True))
    finally:
        model.train(was_training)
    predictions, targets = [outputs[i] for i in range(len(order))], encoded.targets
    if task.kind == "generation":
        score = sum(predictions) / int(targets.sum())
        return Evaluation(fitting_metric(task), score, total / int(targets.sum()), predictions, targets.tolist())
    try:
        score = evaluation.score(task.metric, predictions, encoded.labels)
    except ValueError:  # NaN or infinite predictions of a diverged model have no score
        if np.isfinite(predictions).all():
            raise
        score = -math.inf
    return Evaluation(task.metric, score, total / int(targets.sum()), predictions, encoded.labels)


def _predicted(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """One number an example: class, score, or how many target tokens are right."""
    if kind == "generation":
        return ((logits.argmax(-1) == labels) & (labels != IGNORED)).sum(-1)
    return logits.argmax(-1) if kind == "classification" else logits.float().squeeze(-1)


def _forward(model, encoded, rows, pad, device, half, trunk) -> tuple[Tensor, Tensor]:
    """Logits and labels of these rows; the frozen trunk's part of the work comes from its cache, if there is one."""
    batch = {key: value.to(device, non_blocking=True) for key, value in collate(encoded, rows, pad).items()}
    labels = batch.pop("labels")
    plain = getattr(model, "module", model)  # of several processes, the model inside
    if labels.ndim == 2 and not in_one_row(plain):
        batch["decoder_input_ids"] = plain.prepare_decoder_input_ids_from_labels(labels=labels)
    with autocast(device, half), trunk.showing(encoded, rows) if trunk else contextlib.nullcontext():
        return model(**batch).logits, labels


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
    callbacks: Sequence[Callback] = (),
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
        callbacks: each is called with every new row, a step's or an evaluation's, and may ask to stop; see `Callback`.

    If a GPU's memory runs out (in a single process), the step is done again in twice as many parts, and so are all
    later ones; a warning says so.

    Returns:
        the `Run`. On Ctrl-C (or 'interrupt' in a notebook) it returns what there is, with `stopped` = "interrupted".

    Raises:
        ValueError: nothing to train, 16-bit parameters to train, empty split, labels that don't fit the head, a
            checkpoint of another run, a model that can't do what the settings ask for.
        torch.OutOfMemoryError: not even a single example fits, or memory ran out in one of several processes.
        FloatingPointError: the loss is NaN or infinite; the message names step and rows.
    """
    import torch
    from accelerate import Accelerator

    from peft_helpers.frozen_trunk import FrozenTrunk

    _check_head(model, task)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_trained(trained)
    if checkpoint_every < 1 or not all(map(callable, callbacks)):
        raise ValueError(
            "checkpoint_every must be 1 or more, and callbacks a list of functions; "
            f"got {checkpoint_every} and {callbacks}"
        )
    limit = min(settings.max_length or length_limit(model, tokenizer), length_limit(model, tokenizer))
    data = {split: encode(task, split, tokenizer, limit, in_one_row(model)) for split in ("train", "dev")}

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
        fused=accelerator.device.type in ("cpu", "cuda") or None,  # one kernel for all parameters: less time a step
    )
    trunk = FrozenTrunk(model) if settings.cache_frozen else None
    wrapped = accelerator.prepare(model)
    scaler = torch.amp.GradScaler(accelerator.device.type, enabled=half is torch.float16)
    steps_an_epoch = math.ceil(len(data["train"].inputs) / settings.batch_size)
    steps = steps_an_epoch * settings.epochs

    run = Run(
        settings, task.name, fitting_metric(task), getattr(model, "name", model.config.model_type),
        len(task.splits["train"]), sum(p.numel() for p in trained.values()), sum(p.numel() for p in model.parameters()),
        truncated={split: encoded.truncated for split, encoded in data.items() if encoded.truncated},
        accumulation=settings.accumulation,
    )  # fmt: skip
    keeper = (
        Keeper(checkpoints, fingerprint(run, task, trained), trained, optimizer, scaler, accelerator.is_main_process)
        if checkpoints
        else None
    )
    step, best_weights, waited = 0, {}, 0
    if keeper and keeper.exists():
        step, best_weights, waited = keeper.restore(run)
    before, started = run.seconds, time.perf_counter()
    pad, log, plan = tokenizer.pad_token_id, _LossLog(accelerator.device.type), None
    machine = _Machine(wrapped, accelerator, optimizer, scaler, half, task.kind, pad, settings, trunk, run)
    stop, whole = "patience" if settings.patience is not None and waited >= settings.patience else "", False

    def look(step: int) -> None:
        """Evaluate on dev; keep the weights if they are the best so far; stop when patience is at its end."""
        nonlocal best_weights, waited, stop
        result = _evaluate(model, data["dev"], task, pad, half, trunk)
        row = {
            "step": step,
            "epoch": step / steps_an_epoch,
            "split": "dev",
            "loss": result.loss,
            run.metric: result.score,
        }
        run.history.append(row | {"seconds": before + time.perf_counter() - started})
        waited += 1
        if not run.best or result.score > run.best[run.metric]:
            run.best, waited = run.history[-1], 0
            if settings.keep_best:
                best_weights = {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}
                if keeper:
                    keeper.save_best(best_weights)
        if _any_process(accelerator, settings.patience is not None and waited >= settings.patience):
            stop = "patience"

    def tell(row: dict[str, Any]) -> None:
        nonlocal stop
        wishes = [bool(callback(row)) for callback in callbacks]
        if wishes and _any_process(accelerator, any(wishes)):
            stop = "callback"

    def save() -> None:
        if keeper and keeper.writes:
            run.seconds = before + time.perf_counter() - started
            keeper.save(run, step, waited)

    run.stopped = "all epochs done"
    bar = _progress_bar(steps, step, settings.progress and accelerator.is_main_process)
    changes = contextlib.ExitStack()  # what is undone at the end, whatever happens
    try:
        changes.enter_context(_prepared(model, settings))
        if trunk:
            with autocast(accelerator.device, half):
                changes.enter_context(trunk.replaced(list(data.values()), pad))
        if not run.history:
            look(0)
            tell(run.history[-1])
        while step < steps and not stop:
            whole = False
            epoch, position = divmod(step, steps_an_epoch)
            if position == 0 or plan is None:
                plan = batches(data["train"].lengths, settings.batch_size, settings.seed, epoch, settings.buckets)
            rows = plan[position]
            factor = rate_factor(step, steps, settings.warmup, settings.schedule)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor
            wrapped.train()
            loss = _step(machine, data["train"], rows, step)
            step += 1
            row = {
                "step": step,
                "epoch": step / steps_an_epoch,
                "split": "train",
                "loss": loss,
                "learning_rate": settings.learning_rate * factor,
                "seconds": before + time.perf_counter() - started,
            }
            run.history.append(row)
            log.watch(row, rows)
            bar.update()
            if step % steps_an_epoch == 0:
                look(step)
            if keeper and (step % checkpoint_every == 0 or step % steps_an_epoch == 0):
                log.settle()
                save()
            whole = True  # from here to the next step an interrupt finds weights and history that belong together
            if on_step:
                on_step(row)
            for new in run.history[-2:] if step % steps_an_epoch == 0 else [row]:
                tell(new)
        log.settle()
        if stop == "callback":
            save()
        if stop and step < steps:
            run.stopped = stop
    except KeyboardInterrupt:
        run.stopped = "interrupted"
        log.settle()
        if whole:
            save()
    finally:
        changes.close()
        bar.close()
        run.seconds = before + time.perf_counter() - started
    if best_weights and run.stopped != "interrupted":
        with torch.no_grad():
            for name, value in best_weights.items():
                trained[name].copy_(value)
    model.eval()
    run.peak_memory = accounting.peak_memory(str(accelerator.device))
    return run


@dataclass
class _Machine:
    """What a step works with; `run.accumulation` is the number of parts, which grows when memory runs out."""

    wrapped: nn.Module
    accelerator: Accelerator
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    half: torch.dtype | None
    kind: str
    pad: int
    settings: Settings
    trunk: FrozenTrunk | None
    run: Run


def _step(machine: _Machine, encoded: Encoded, rows: np.ndarray, step: int) -> Tensor | float:
    """One optimizer step on these rows; returns their mean loss."""
    import torch

    optimizer, scaler, clip = machine.optimizer, machine.scaler, machine.settings.clip
    loss = _backward_that_fits(machine, encoded, rows, step)
    if clip is not None:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    scaler.step(optimizer)  # in fp16, not if a gradient has overflowed; then `update` lowers the scale
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if machine.accelerator.num_processes > 1:
        loss = machine.accelerator.reduce(loss, reduction="sum")
    return loss.item() if machine.accelerator.device.type == "cpu" else loss


def _backward_that_fits(machine: _Machine, encoded: Encoded, rows: np.ndarray, step: int) -> Tensor:
    """`_backward`; when memory runs out, again from zeroed gradients and the same random state, in twice the parts.

    Several processes would have to agree on that in the middle of their exchange, so there it stays an error.
    """
    import torch

    on_gpu, run = machine.accelerator.device.type == "cuda", machine.run
    if machine.accelerator.num_processes > 1:
        # Other dropout on each process, and the same again when a run is continued.
        key = (machine.settings.seed, step, machine.accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    random_cpu, random_gpu = torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None
    while True:
        try:
            return _backward(machine, encoded, rows, step)
        except torch.OutOfMemoryError as error:
            if machine.accelerator.num_processes > 1 or run.accumulation >= len(rows):
                error.add_note(
                    f"fit was at step {step + 1}, a batch of {len(rows)} in {run.accumulation} part(s), in "
                    f"{machine.accelerator.num_processes} process(es). Ways out: a larger accumulation, "
                    "checkpointing=True, a smaller max_length"
                )
                raise
        # The handler is over and with it the traceback, which held on to the failed attempt's tensors.
        if run.accumulation == machine.settings.accumulation:
            warnings.warn(
                f"out of memory at step {step + 1} with {math.ceil(len(rows) / run.accumulation)} examples at once: "
                "this step is done again in parts of half the size, and later ones too (see Run.accumulation)",
                stacklevel=4,
            )
        run.accumulation *= 2
        machine.optimizer.zero_grad(set_to_none=True)
        torch.set_rng_state(random_cpu)
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.set_rng_state(random_gpu)


def _backward(machine: _Machine, encoded: Encoded, rows: np.ndarray, step: int) -> Tensor:
    """Gradients of these rows' mean loss, added up over parts and processes; returns this process's share of the loss.

    Each process takes its share of the rows, in parts. All divide by the number of targets in the whole batch, so that
    a part weighs what it holds: the mean of the parts' means would be another number where they are unequal.
    """
    import torch

    accelerator, scaler = machine.accelerator, machine.scaler
    device, world = accelerator.device, accelerator.num_processes
    own, targets = rows[accelerator.process_index :: world], max(1, int(encoded.targets[rows].sum()))
    parts = [part for part in np.array_split(own, machine.run.accumulation) if len(part)] or [rows[:1]]
    weight = 1.0 if len(own) else 0.0  # a process without a row still takes part in the exchange of gradients
    total = torch.zeros((), device=device)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(machine.wrapped):
            logits, labels = _forward(machine.wrapped, encoded, part, machine.pad, device, machine.half, machine.trunk)
            loss = weight * loss_sum(logits, labels, machine.kind) / targets
            if device.type == "cpu" and not math.isfinite(loss.item()):
                raise diverged(step + 1, rows, loss.item())
            scaler.scale(loss * world).backward()  # DDP averages over processes; the sum is what we want
            total += loss.detach()
    return total


def _any_process(accelerator: Accelerator, wish: bool) -> bool:
    """Whether any process wishes so: they must all stop at the same step."""
    import torch

    if accelerator.num_processes == 1:
        return wish
    return accelerator.reduce(torch.tensor(float(wish), device=accelerator.device), reduction="sum").item() > 0


@contextlib.contextmanager
def _prepared(model: nn.Module, settings: Settings) -> Iterator[None]:
    """The model without the key-value cache, which only generation needs, and with checkpointing if it is asked for."""
    config = getattr(model, "base_model", model).config
    use_cache = getattr(config, "use_cache", None)
    if use_cache:
        config.use_cache = False
    try:
        with activation_checkpointing(model) if settings.checkpointing else contextlib.nullcontext():
            yield
    finally:
        if use_cache:
            config.use_cache = use_cache


@contextlib.contextmanager
def activation_checkpointing(model: nn.Module) -> Iterator[None]:
    """Within it, training keeps only each layer's input for the backward pass and computes the rest a second time.

    Raises:
        ValueError: the model has no switch for it.
    """
    names = ("activation_checkpointing", "gradient_checkpointing")  # its new and its old name in transformers
    found = [(m, n) for m in (model, getattr(model, "base_model", None)) for n in names if hasattr(m, f"{n}_enable")]
    if not found or not getattr(found[0][0], "supports_gradient_checkpointing", True):
        raise ValueError(f"{type(model).__name__} can't do checkpointing: it has no {names[0]}_enable; leave it off")
    switch, name = found[0]
    if any(getattr(module, "gradient_checkpointing", False) for module in switch.modules()):
        yield  # it is on already, and stays on
        return
    getattr(switch, f"{name}_enable")({"use_reentrant": False})
    if hasattr(switch, "disable_input_require_grads"):
        # Only the older, reentrant kind needs the embeddings to require grad; it makes frozen layers pass gradients on.
        switch.disable_input_require_grads()
    try:
        yield
    finally:
        getattr(switch, f"{name}_disable")()


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


def _check_trained(trained: dict[str, nn.Parameter]) -> None:
    import torch

    if not trained:
        raise ValueError("no parameter of the model requires grad, so there is nothing to train")
    for name, parameter in trained.items():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"{name} is {str(parameter.dtype).removeprefix('torch.')}, and small steps don't move a 16-bit weight; "
                "make what is trained float32 (model.float()): `precision` says what it is computed in"
            )


def _check_head(model: nn.Module, task: Task, split: str = "train") -> None:
    if task.kind == "generation":
        if not writes(model):
            raise ValueError(f"{type(model).__name__} has no language-modeling head, and {task.name} wants text")
        return
    if writes(model):
        raise ValueError(
            f"{type(model).__name__} has a language-modeling head, and {task.name} is a {task.kind} task; "
            "load the backbone with this task: backbones.load(name, task)"
        )
    outputs = getattr(model.config, "num_labels", None)
    if outputs != task.outputs:
        raise ValueError(
            f"the model's head gives {outputs} outputs, and the task {task.name} needs {task.outputs} "
            f"({', '.join(task.labels) or 'one score'}); load the backbone with this task: backbones.load(name, task)"
        )
    labels = task.splits[split]["label"]
    if not len(labels):
        raise ValueError(f"{task.name}'s {split} split is empty")
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

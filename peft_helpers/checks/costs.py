"""The exercises of lesson 07, what a model costs.

07-1  `run_memory(body, head, per_text, batch, frozen)`: -> bytes of (weights, gradients, optimizer, activations),
      float32, Adam (8 min)
      checker: `check_run_memory`
      mistakes: activations-forgotten, batch-forgotten, adam-once, adam-forgotten, gradients-forgotten, head-left-out,
        frozen-counted, frozen-weights-forgotten, bytes-forgotten, bytes-twice, half-precision, optimizer-counts-all,
        megabytes

07-2  `scaled_step(weights, gradients, scale, learning_rate)`: (P,) float64, (P,) float16 -> (P,), one step of gradient
      descent on a scaled loss, skipped on overflow (6 min)
      checker: `check_scaled_step`
      mistakes: not-unscaled, unscaled-in-half, scaled-twice, overflow-applied, only-bad-entries-skipped,
        weights-in-half, wrong-sign, learning-rate-forgotten

07-3  `accumulated_step(model, optimizer, x, y, size)`: one step on the batch, at most `size` rows at a time -> the mean
      loss (7 min)
      checker: `check_accumulated_step`
      mistakes: mean-of-means, sum-for-mean, step-in-every-part, cleared-in-between, old-gradients, no-step,
        last-loss, graphs-pile-up, whole-batch-at-once, last-rows-dropped

07-4  `global_masks(weights, sparsity)`: tensors -> as many masks of 0 and 1, the smallest of all entries zero (6 min)
      checker: `check_global_masks`
      mistakes: each-tensor-alone, mean-threshold, sign-counts, largest-removed, share-kept, mask-inverted,
        weights-returned

07-5  `without_units(w_in, b_in, w_out, b_out, keep)`: (I, D), (I,), (D, I), (D,), unit numbers -> the four smaller
      tensors (5 min)
      checker: `check_without_units`
      mistakes: bias-forgotten, wrong-axis-in, wrong-axis-out, output-not-cut, output-bias-cut, zeros-for-removal,
        removed-for-kept, rescaled

07-6  a number: megabytes of 20 tasks over one shared BERT-base in float32, 2.1 % of the weights a task (3 min)
      checker: `check_storage_of_tasks`
      mistakes: full-copies, shared-model-forgotten, one-task, percent-for-share, bytes-forgotten, compounded,
        mebibytes, gigabytes
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import accounting
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Refused,
    Verdict,
    WrongNumber,
    as_numbers,
    call,
    odd_numbers,
)

# ---------------------------------------------------------------- 07-1

BODY, HEAD, PER_TEXT, BATCH = 10_007, 1_013, 70_003, 24


def run_memory(
    body: int,
    head: int,
    per_text: int,
    batch: int,
    frozen: bool,
    *,
    size: int = 4,
    moments: int = 2,
    gradients: int = 1,
    texts: bool | None = True,
    headless: tuple[bool, bool] = (False, False),
    all_state: bool = False,
    all_gradients: bool = False,
    no_body: bool = False,
    unit: float = 1,
) -> tuple[float, ...]:
    """The four parts, right; every keyword makes one mistake. `headless`: in the weights, among what is trained."""
    weights = (0 if no_body and frozen else body) + (0 if headless[0] else head)
    trained_head = 0 if headless[1] else head
    trained = trained_head if frozen else body + trained_head
    everything = body + trained_head
    kept = {True: batch * per_text, False: per_text, None: 0}[texts]
    parts = (
        size * weights,
        size * gradients * (everything if all_gradients else trained),
        size * moments * (everything if all_state else trained),
        kept,
    )
    return tuple(part / unit for part in parts)


def ask_memory(function: Callable, frozen: bool) -> Tensor:
    """The four numbers that an answer gives."""
    return torch.stack([as_numbers(part).reshape(()) for part in call(
        function, BODY, HEAD, PER_TEXT, BATCH, frozen, outputs=4
    )])  # fmt: skip


HEADLESS = (
    "The head is left out. It has weights like every other layer, and it is the one part that is trained in every case."
)
RUN_MEMORY = FunctionExercise(
    right=run_memory,
    probes=[
        Probe("a run that trains everything", lambda f: ask_memory(f, False)),
        Probe("a run with a frozen body", lambda f: ask_memory(f, True)),
    ],
    mistakes=[
        Mistake(
            "activations-forgotten",
            "The activations are left out: what the forward pass keeps for the backward pass. With a batch of any size "
            "they are often the largest part.",
            partial(run_memory, texts=None),
        ),
        Mistake(
            "batch-forgotten",
            "The activations are those of one text. Every text of the batch keeps its own until the backward pass.",
            partial(run_memory, texts=False),
        ),
        Mistake(
            "adam-once",
            "Adam is counted once. It keeps two numbers a trained weight: the running mean of the gradients and that "
            "of their squares (lesson 03).",
            partial(run_memory, moments=1),
        ),
        Mistake(
            "adam-forgotten",
            "The optimizer's state is missing: Adam remembers two numbers a trained weight.",
            partial(run_memory, moments=0),
        ),
        Mistake(
            "optimizer-counts-all",
            "The optimizer's part holds more than its own state: weights and gradients have parts of their own.",
            partial(run_memory, moments=3),
        ),
        Mistake(
            "optimizer-counts-all",
            "The optimizer's part holds more than its own state: weights and gradients have parts of their own.",
            partial(run_memory, moments=4),
        ),
        Mistake(
            "gradients-forgotten",
            "The gradients are missing: one number a trained weight, there from the backward pass to the step.",
            partial(run_memory, gradients=0),
        ),
        Mistake("head-left-out", HEADLESS, partial(run_memory, headless=(True, True))),
        Mistake("head-left-out", HEADLESS, partial(run_memory, headless=(True, False))),
        Mistake("head-left-out", HEADLESS, partial(run_memory, headless=(False, True))),
        Mistake(
            "frozen-counted",
            "The frozen body has gradients or optimizer state in your count. What is not trained has neither.",
            partial(run_memory, all_gradients=True, all_state=True),
        ),
        Mistake(
            "frozen-counted",
            "The frozen body has gradients in your count. They are computed for trained weights only.",
            partial(run_memory, all_gradients=True),
        ),
        Mistake(
            "frozen-counted",
            "The frozen body has optimizer state in your count. Adam keeps none for what it does not train.",
            partial(run_memory, all_state=True),
        ),
        Mistake(
            "frozen-weights-forgotten",
            "With a frozen body its weights are missing. Frozen weights are still needed, in both passes.",
            partial(run_memory, no_body=True),
        ),
        Mistake(
            "bytes-forgotten",
            "These are numbers of weights. Asked for are bytes: a float32 number has four.",
            partial(run_memory, size=1),
        ),
        Mistake(
            "bytes-twice",
            "The activations are multiplied by 4, and they are given in bytes already.",
            lambda *given: (*run_memory(*given)[:3], 4 * run_memory(*given)[3]),
        ),
        Mistake(
            "half-precision",
            "You count two bytes a number. That is float16 or bfloat16; this run is in float32.",
            partial(run_memory, size=2),
        ),
        Mistake("megabytes", "These are megabytes; asked for are bytes.", partial(run_memory, unit=1e6)),
        Mistake("megabytes", "These are mebibytes; asked for are bytes.", partial(run_memory, unit=2**20)),
    ],
    praise="Right: 16 bytes a trained weight, 4 a frozen one, and the activations of every text of the batch.",
)


def check_run_memory(answer: Any) -> Verdict:
    """Exercise 07-1: `run_memory(body, head, per_text, batch, frozen)` -> four numbers of bytes."""
    return RUN_MEMORY.judge(answer)


# ---------------------------------------------------------------- 07-2

SCALE, STEP = 2.0**14, 0.5  # powers of two: the right answer is exact in any precision that is wide enough
MASTER = odd_numbers(6, seed=71) * 1e-6
SMALL = (odd_numbers(6, seed=72) * 4e-3).half()  # divided by the scale they lie below float16's smallest number


def broken(value: float) -> Tensor:
    """The gradients with one entry that is no number any more."""
    gradients = SMALL.clone()
    gradients[2] = value
    return gradients


def scaled_step(
    weights: Tensor,
    gradients: Tensor,
    scale: float,
    learning_rate: float,
    *,
    unscale: Callable[[Tensor, float], Tensor] = lambda g, scale: g.double() / scale,
    skip: bool | None = True,
    sign: int = -1,
) -> Tensor:
    """The right step; every keyword makes one mistake. `skip`: the step, nothing (False), or single entries (None)."""
    finite = torch.isfinite(gradients)
    if skip is True and not finite.all():
        return weights
    update = unscale(gradients, scale).double()
    if skip is None:
        update = torch.where(finite, update, 0.0)
    return weights + sign * learning_rate * update


SCALED = FunctionExercise(
    right=scaled_step,
    probes=[
        Probe("finite gradients", lambda f: call(f, MASTER, SMALL, SCALE, STEP)),
        Probe("gradients with an inf", lambda f: call(f, MASTER, broken(float("inf")), SCALE, STEP)),
        Probe("gradients with a NaN", lambda f: call(f, MASTER, broken(float("nan")), SCALE, STEP)),
    ],
    mistakes=[
        Mistake(
            "not-unscaled",
            "The step is made with the scaled gradients: it is as much too long as the loss was scaled up.",
            partial(scaled_step, unscale=lambda g, scale: g),
        ),
        Mistake(
            "unscaled-in-half",
            "The gradients are divided while they are still float16: there the small ones become 0 (or coarse) again, "
            "which the scaling was meant to prevent. Widen first, then divide.",
            partial(scaled_step, unscale=lambda g, scale: g / scale),
        ),
        Mistake(
            "unscaled-in-half",
            "The update is computed in float16, where numbers this small become 0 or coarse. Widen first.",
            partial(scaled_step, unscale=lambda g, scale: (STEP * g / scale).double() / STEP),
        ),
        Mistake(
            "scaled-twice",
            "The gradients are multiplied by the scale a second time. It has to come out again.",
            partial(scaled_step, unscale=lambda g, scale: g.double() * scale),
        ),
        Mistake(
            "overflow-applied",
            "A gradient has overflowed, and the step is made all the same: one infinite or NaN entry spoils weights "
            "for good. Look at the gradients before the step.",
            partial(scaled_step, skip=False),
        ),
        Mistake(
            "overflow-applied",
            "A gradient has overflowed, and the step is made all the same, with a number put in its place. What "
            "overflowed is unknown: leave the whole step out.",
            partial(scaled_step, unscale=lambda g, scale: torch.nan_to_num(g.double()) / scale, skip=False),
        ),
        Mistake(
            "only-bad-entries-skipped",
            "Only the entries that overflowed are left out. The others come from the same backward pass, which ran "
            "into infinity somewhere: leave the whole step out.",
            partial(scaled_step, skip=None),
        ),
        Mistake(
            "weights-in-half",
            "The weights come back as float16: they lose their digits. The master copy stays wide.",
            lambda w, g, s, r: scaled_step(w, g, s, r).half(),
        ),
        Mistake("wrong-sign", "The step goes uphill: subtract the gradient.", partial(scaled_step, sign=1)),
        Mistake(
            "learning-rate-forgotten",
            "The learning rate does not enter.",
            lambda w, g, s, r: scaled_step(w, g, s, 1.0),
        ),
    ],
    praise="Right: widen, look for overflow, divide, step; and no step at all after an overflow.",
)


def check_scaled_step(answer: Any) -> Verdict:
    """Exercise 07-2: `scaled_step(weights, gradients, scale, learning_rate)` -> weights."""
    return SCALED.judge(answer)


# ---------------------------------------------------------------- 07-3

ROWS, INPUTS, LABELS = 10, 3, 4


class Watched(nn.Module):
    """A linear classifier that sees how it is used.

    Attributes:
        most: the largest number of rows that it was given at once.
        piled: whether a forward pass came before the backward pass of the one before.
    """

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(INPUTS, LABELS, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(odd_numbers(LABELS, INPUTS, seed=73))
            self.linear.bias.copy_(odd_numbers(LABELS, seed=74))
        self.most, self.piled, self.waiting = 0, False, False

    def forward(self, x: Tensor) -> Tensor:
        self.most = max(self.most, len(x))
        made = self.linear(x)
        if made.requires_grad:
            self.piled, self.waiting = self.piled or self.waiting, True
            made.register_hook(self.done)
        return made

    def done(self, gradient: Tensor) -> None:
        """The backward pass of the latest forward pass has begun."""
        self.waiting = False


def accumulate(function: Callable, size: int) -> tuple[Tensor, Tensor, Watched]:
    """Let an answer make one step on a fresh model, which has gradients from before; weights, loss and the model."""
    with torch.random.fork_rng(devices=[]):  # what the layer draws before its weights are set
        model = Watched()
    model.linear.weight.grad = odd_numbers(LABELS, INPUTS, seed=75)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = odd_numbers(ROWS, INPUTS, seed=76), torch.arange(ROWS) ** 2 % LABELS
    loss = as_numbers(call(function, model, optimizer, x, y, size)).reshape(())
    return torch.cat([p.detach().flatten() for p in model.parameters()]), loss, model


def stepped(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    size: int,
    *,
    share: Callable[[int, int, int], float] = lambda rows, total, parts: rows / total,
    each: bool = False,
    clear: tuple[bool, bool] = (True, False),
    step: bool = True,
    at_once: bool = False,
    piled: bool = False,
    whole_parts: bool = False,
    last: bool = False,
) -> float:
    """The right step; every keyword makes one mistake. `clear`: gradients before the step, and between its parts."""
    starts = range(0, len(y) - (size - 1) * whole_parts, len(y) if at_once else size)
    if clear[0]:
        optimizer.zero_grad()
    total, losses = 0.0, []
    for start in starts:
        if clear[1]:
            optimizer.zero_grad()
        rows = y[start : start + (len(y) if at_once else size)]
        loss = F.cross_entropy(model(x[start : start + len(rows)]), rows) * share(len(rows), len(y), len(starts))
        total += loss.item()
        losses.append(loss)
        if not piled:
            loss.backward()
        if each:
            optimizer.step()
            optimizer.zero_grad()
    if piled:
        sum(losses).backward()
    if step and not each:
        optimizer.step()
    return losses[-1].item() if last else total


GRAPHS = Mistake(
    "graphs-pile-up",
    "The step is right, and nothing is saved: all parts run forward before the first one runs backward, so the "
    "activations of the whole batch are there at once. Run backward in every part.",
)
AT_ONCE = Mistake(
    "whole-batch-at-once",
    "The step is right, but the model got more than `size` rows at once. That is what memory is short for.",
)
ACCUMULATED = FunctionExercise(
    right=stepped,
    probes=[
        Probe("parts of equal size", lambda f: accumulate(f, 5)[0]),
        Probe("a last part that is smaller", lambda f: accumulate(f, 4)[0]),
        Probe("the loss it returns", lambda f: accumulate(f, 4)[1]),
        Probe("the rows at a time", lambda f: float(accumulate(f, 4)[2].most > 4), AT_ONCE),
        Probe("the order of forward and backward passes", lambda f: float(accumulate(f, 4)[2].piled), GRAPHS),
    ],
    mistakes=[
        Mistake(
            "mean-of-means",
            "You average the parts' mean losses, and the last part has fewer rows: each of its rows counts more than "
            "the others. Weigh every part by its share of the rows.",
            partial(stepped, share=lambda rows, total, parts: 1 / parts),
        ),
        Mistake(
            "mean-of-means",
            "Every part's mean loss counts alike, as if all parts had `size` rows, and the last one has fewer. Weigh "
            "every part by its own number of rows.",
            lambda *given: stepped(*given, share=lambda rows, total, parts: given[-1] / total),
        ),
        Mistake(
            "sum-for-mean",
            "The parts' mean losses are added up: the gradient is as many times too large as there are parts.",
            partial(stepped, share=lambda rows, total, parts: 1.0),
        ),
        Mistake(
            "sum-for-mean",
            "The rows' losses are added up and never divided: the gradient is as many times too large as there are "
            "rows.",
            partial(stepped, share=lambda rows, total, parts: float(rows)),
        ),
        *(
            Mistake(
                "step-in-every-part",
                "The weights move after every part. That is training with smaller batches, no accumulation: step once, "
                "after the last part.",
                partial(stepped, each=True, share=share),
            )
            for share in (
                lambda rows, total, parts: rows / total,
                lambda rows, total, parts: 1 / parts,
                lambda rows, total, parts: 1.0,
            )
        ),
        *(
            Mistake(
                "cleared-in-between",
                "The gradients are cleared before every part: what the earlier parts found is lost. Clear once a step.",
                partial(stepped, clear=(True, True), share=share),
            )
            for share in (
                lambda rows, total, parts: rows / total,
                lambda rows, total, parts: 1 / parts,
                lambda rows, total, parts: 1.0,
            )
        ),
        Mistake(
            "old-gradients",
            "The gradients of the step before are still there, and `backward()` adds to them. Clear them first.",
            partial(stepped, clear=(False, False)),
        ),
        Mistake("no-step", "The weights do not move. Where is `optimizer.step()`?", partial(stepped, step=False)),
        Mistake(
            "last-loss",
            "The step is right. But what comes back is the last part's share of the loss; the batch's mean loss is the "
            "sum of all shares.",
            partial(stepped, last=True),
        ),
        Mistake(
            "last-rows-dropped",
            "The last rows, too few for a whole part, are never looked at.",
            partial(stepped, whole_parts=True),
        ),
    ],
    praise="Right: clear once, backward in every part, each part by its share of the rows, step once.",
)


def check_accumulated_step(answer: Any) -> Verdict:
    """Exercise 07-3: `accumulated_step(model, optimizer, x, y, size)` -> the batch's mean loss."""
    return ACCUMULATED.judge(answer)


# ---------------------------------------------------------------- 07-4

TENSORS = [odd_numbers(4, 5, seed=77), 0.3 * odd_numbers(2, 5, seed=78), 2.0 * odd_numbers(10, seed=79)]


def masks(
    weights: list[Tensor], sparsity: float, key: Callable[[Tensor], Tensor] = torch.abs, invert: bool = False
) -> list[Tensor]:
    """Zeros at the smallest entries of all tensors together, by `key`; `invert` makes it a list of what goes."""
    order = key(torch.cat([w.flatten() for w in weights])).argsort()
    mask = torch.ones(len(order), dtype=torch.float64)
    mask[order[: round(sparsity * len(order))]] = 0
    parts = (1 - mask if invert else mask).split([w.numel() for w in weights])
    return [part.view_as(w) for part, w in zip(parts, weights, strict=True)]


def mean_threshold(weights: list[Tensor], sparsity: float) -> list[Tensor]:
    """Masks by the mean of the tensors' own thresholds."""
    cut = torch.stack([w.abs().flatten().sort().values[round(sparsity * w.numel())] for w in weights]).mean()
    return [(w.abs() >= cut).double() for w in weights]


def ask_masks(function: Callable, sparsity: float) -> Tensor:
    """All masks in one row, after a look at their shapes; True and False count as 1 and 0."""
    made = call(function, TENSORS, sparsity, outputs=len(TENSORS))
    rows = [as_numbers(m.long() if isinstance(m, Tensor) and m.dtype == torch.bool else m) for m in made]
    for row, weight in zip(rows, TENSORS, strict=True):
        if row.shape != weight.shape:
            raise Refused(
                "wrong-shape",
                f"a mask has the shape {tuple(row.shape)}, and its tensor {tuple(weight.shape)}: one entry a weight.",
            )
    return torch.cat([row.flatten() for row in rows])


MASKS = FunctionExercise(
    right=masks,
    probes=[
        Probe("three tensors, 30 % zero", lambda f: ask_masks(f, 0.3)),
        Probe("three tensors, 80 % zero", lambda f: ask_masks(f, 0.8)),
    ],
    mistakes=[
        Mistake(
            "each-tensor-alone",
            "The same share of every tensor goes. Globally, all entries are compared with each other: a tensor of "
            "small weights loses more, one of large weights less.",
            lambda weights, s: [masks([w], s)[0] for w in weights],
        ),
        Mistake(
            "mean-threshold",
            "The threshold is the mean of the tensors' own thresholds. Put all entries in one row before you cut.",
            mean_threshold,
        ),
        Mistake(
            "sign-counts",
            "The most negative weights go, however large they are. What counts is the absolute value.",
            partial(masks, key=lambda w: w),
        ),
        Mistake(
            "largest-removed",
            "The largest weights become zero, and the smallest stay.",
            partial(masks, key=lambda w: -w.abs()),
        ),
        Mistake(
            "share-kept",
            "`sparsity` is the share that becomes zero; you keep that share.",
            lambda weights, s: masks(weights, 1 - s),
        ),
        Mistake(
            "mask-inverted",
            "The ones and zeros are swapped: a mask has 1 where the weight stays.",
            partial(masks, invert=True),
        ),
        Mistake(
            "weights-returned",
            "You return the pruned weights. A mask is 1 where a weight stays, and 0 where it goes.",
            lambda weights, s: [w * m for w, m in zip(weights, masks(weights, s), strict=True)],
        ),
    ],
    praise="Right: one threshold for all, on absolute values.",
)


def check_global_masks(answer: Any) -> Verdict:
    """Exercise 07-4: `global_masks(weights, sparsity)` -> masks."""
    return MASKS.judge(answer)


# ---------------------------------------------------------------- 07-5

UNITS, HIDDEN, KEEP = 5, 3, [0, 2, 3]
BLOCK = (
    odd_numbers(UNITS, HIDDEN, seed=80),
    odd_numbers(UNITS, seed=81),
    odd_numbers(HIDDEN, UNITS, seed=82),
    odd_numbers(HIDDEN, seed=83),
)


def without_units(
    w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor, keep: list[int], *, wrong: str = ""
) -> tuple[Tensor, ...]:
    """The four smaller tensors; `wrong` names one mistake."""
    if wrong == "zeros-for-removal":
        mask = torch.zeros(len(b_in), dtype=b_in.dtype)
        mask[keep] = 1
        return w_in * mask[:, None], b_in * mask, w_out * mask, b_out
    if wrong == "removed-for-kept":
        keep = [i for i in range(len(b_in)) if i not in keep]
    return (
        w_in[:, [k for k in keep if k < w_in.shape[1]]] if wrong == "wrong-axis-in" else w_in[keep],
        b_in if wrong == "bias-forgotten" else b_in[keep],
        w_out[[k for k in keep if k < len(w_out)]]
        if wrong == "wrong-axis-out"
        else w_out
        if wrong == "output-not-cut"
        else w_out[:, keep] * (len(b_in) / len(keep) if wrong == "rescaled" else 1),
        b_out[[k for k in keep if k < len(b_out)]] if wrong == "output-bias-cut" else b_out,
    )


def unit_part(function: Callable, part: int, keep: list[int]) -> Tensor:
    """One of the four tensors that an answer gives."""
    return as_numbers(call(function, *BLOCK, list(keep), outputs=4)[part])


PARTS = ("the first layer's weight", "the first layer's bias", "the second layer's weight", "the second layer's bias")
UNIT_MESSAGES = {
    "wrong-axis-in": "The first weight is cut along its columns, which are the hidden state's entries. A unit is one "
    "of its outputs: a row.",
    "bias-forgotten": "The first bias still has an entry for every old unit. Each unit brings its own.",
    "wrong-axis-out": "The second weight is cut along its rows, which are the hidden state's entries. It reads a unit "
    "through a column.",
    "output-not-cut": "The second weight still reads all the old units. Whoever reads the units has to shrink too.",
    "output-bias-cut": "The second bias is cut. It has one entry for each entry of the hidden state, which keeps its "
    "width.",
    "zeros-for-removal": "The units are zero, and still there: the tensors keep their size. Index with `keep`.",
    "removed-for-kept": "You take out the units that should stay.",
    "rescaled": "The remaining units are scaled up, as dropout does in training. Here the silenced units said nothing, "
    "and nothing is to be made up for.",
}
WITHOUT_UNITS = FunctionExercise(
    right=without_units,
    probes=[
        *(Probe(name, lambda f, part=part: unit_part(f, part, KEEP[:2])) for part, name in enumerate(PARTS)),
        *(Probe(name, lambda f, part=part: unit_part(f, part, KEEP)) for part, name in enumerate(PARTS)),
    ],
    mistakes=[
        *(Mistake(slug, message, partial(without_units, wrong=slug)) for slug, message in UNIT_MESSAGES.items()),
    ],
    praise="Right: rows and bias of the layer that makes the units, columns of the one that reads them.",
)


def check_without_units(answer: Any) -> Verdict:
    """Exercise 07-5: `without_units(w_in, b_in, w_out, b_out, keep)` -> the four smaller tensors."""
    return WITHOUT_UNITS.judge(answer)


# ---------------------------------------------------------------- 07-6

ONE_COPY = 4 * 109_482_240 / 1e6  # MB of BERT-base in float32
STORAGE_OF_TASKS = NumberExercise(
    right=ONE_COPY * (1 + 20 * 0.021),
    mistakes=[
        WrongNumber(20 * ONE_COPY, "full-copies", "That is a full copy of the weights for every task."),
        WrongNumber(
            20 * ONE_COPY * 1.021, "full-copies", "The shared weights are counted once a task. They are shared."
        ),
        WrongNumber(
            20 * ONE_COPY * 0.021,
            "shared-model-forgotten",
            "Those are the tasks' own weights. Without the model that they were trained on they are of no use.",
        ),
        WrongNumber(ONE_COPY * 1.021, "one-task", "That is one task beside the shared model; there are 20."),
        WrongNumber(
            ONE_COPY * (1 + 20 * 2.1), "percent-for-share", "2.1 % are 0.021 of the weights, not 2.1 times the weights."
        ),
        WrongNumber(
            ONE_COPY * (1 + 20 * 0.21), "percent-for-share", "2.1 % are 0.021 of the weights, not 0.21 of them."
        ),
        WrongNumber(
            ONE_COPY / 4 * (1 + 20 * 0.021), "bytes-forgotten", "Those are millions of weights; each has four bytes."
        ),
        WrongNumber(
            ONE_COPY * 1.021**20,
            "compounded",
            "The tasks stand beside each other: each adds 2.1 % of the model, not of all that is there already.",
        ),
        WrongNumber(
            ONE_COPY * (1 + 20 * 0.021) * 1e6 / 2**20, "mebibytes", "Those are mebibytes, 2²⁰ bytes; MB here are 10⁶."
        ),
        WrongNumber(ONE_COPY * (1 + 20 * 0.021) / 1e3, "gigabytes", "Those are gigabytes; asked for are megabytes."),
    ],
    praise="Right: 622 MB, where 20 full copies take 8,759 MB.",
)


def check_storage_of_tasks(answer: Any) -> Verdict:
    """Exercise 07-6: megabytes of 20 tasks over one shared model."""
    return STORAGE_OF_TASKS.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Run's name -> quantities, as `plots.broken_runs` takes them. (Answer first: the causes stand in here.)"""
    memory = "activations (MB)"
    return {
        "07-a": {memory: {"run": _evaluation()}},
        "07-b": {"loss": {"run": (found := _bfloat16_weights())[0]}, "gradient norm": {"run": found[1]}},
        "07-c": {memory: {"run": _batches()}},
    }


def _evaluation(batches: int = 30) -> list[float]:
    """Megabytes that autograd holds after each batch of an evaluation that records, and keeps its outputs."""

    class Box:
        """What autograd keeps in the place of a tensor: it lives as long as the graph does."""

        def __init__(self, tensor: Tensor):
            self.tensor = tensor

    alive: weakref.WeakSet[Box] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Box:
        alive.add(box := Box(tensor))
        return box

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 2)).eval(), torch.randn(256, 64)
    outputs, used = [], []
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        for _ in range(batches):
            outputs.append(model(x.clone()))
            found = {b.tensor.untyped_storage().data_ptr(): b.tensor.untyped_storage().nbytes() for b in alive}
            used.append(sum(size for address, size in found.items() if address not in weights) / 1e6)
    return used


def _bfloat16_weights(steps: int = 60) -> tuple[list[float], list[float]]:
    """Loss and gradient norm of a logistic regression whose weights are bfloat16, at a small rate."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(128, 8, generator=generator)
    y = (x @ torch.linspace(-1, 1, 8) > 0).float()
    weights = torch.full((8,), 0.8, dtype=torch.bfloat16, requires_grad=True)
    losses, norms = [], []
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits((x.bfloat16() @ weights).float(), y)
        (gradient,) = torch.autograd.grad(loss, weights)
        losses.append(loss.item())
        norms.append(gradient.float().norm().item())
        with torch.no_grad():
            weights -= 1e-3 * gradient
    return losses, norms


def _batches() -> list[float]:
    """Megabytes of activations of a small encoder, by the formula; one text of batch 17 is far longer than the rest."""
    longest = [18 + (5 * number) % 7 for number in range(30)]
    longest[17] = 128
    return [accounting.bert_activations(32, tokens, 256, 4, 4, 1024) / 1e6 for tokens in longest]

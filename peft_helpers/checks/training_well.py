"""The exercises of lesson 06, training well.

06-1  `cosine_with_warmup(step, steps, warmup)`: -> the share of the peak rate at `step` (8 min)
      checker: `check_cosine_schedule`
      mistakes: warmup-forgotten, progress-from-zero, full-wave, no-half, shifted-wave, degrees, linear-decay,
        divided-by-no-warmup, wave-too-short, warmup-from-one, warmup-over-all-steps, warmup-as-share

06-2  `rate_from_range_test(rates, losses)`: -> the rate where the loss falls fastest on its way down (5 min)
      checker: `check_range_reading`
      mistakes: rate-at-minimum, first-fall, steepest-of-either-sign, steepest-rise, behind-the-minimum,
        slope-by-rate, rate-behind-the-fall, last-rate, index-for-rate, loss-for-rate

06-3  `train_with_patience(model, train_epoch, dev_score, patience, epochs)`: -> the dev scores seen; the model ends
      with its best weights (10 min)
      checker: `check_early_stopping`
      mistakes: watches-train, returns-last, best-not-copied, patience-off-by-one, ties-count-as-better,
        compares-with-previous, wait-never-reset, lowest-for-highest, never-stops, past-the-end, score-of-init

06-4  name -> "overfits", "underfits" or "neither": four runs, `runs_to_sort()` (4 min)
      checker: `check_run_verdicts`
      mistakes: gap-is-overfitting, dev-above-train, both-bad-is-overfitting, turn-missed, swapped, wrong-verdict

06-5  `penalized_gradient(gradient, weights, l1, l2)`: -> the gradient of loss + l1 Σ|w| + l2/2 Σw² (6 min)
      checker: `check_penalized_gradient`
      mistakes: l1-by-size, l1-without-sign, l2-doubled, l2-halved, swapped, wrong-sign, l1-forgotten, l2-forgotten,
        penalty-for-gradient, mean-for-sum, kink

06-6  `summarize(scores)`: -> (mean, standard deviation, standard error) over seeds (5 min)
      checker: `check_seed_summary`
      mistakes: population-deviation, variance, best-for-mean, median-for-mean, range-for-deviation,
        error-not-divided, divided-by-n, percent
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peft_helpers import rate_range
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    Probe,
    Refused,
    Verdict,
    as_numbers,
    attempt,
    call,
    odd_numbers,
    refused,
    unanswered,
)

# ---------------------------------------------------------------- 06-1


def cosine(
    step: int,
    steps: int,
    warmup: int,
    *,
    wave: Callable[[float], float] = lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    ramp: Callable[[int, int, int], float] = lambda s, n, w: s / w,
    progress: Callable[[int, int, int], float] = lambda s, n, w: (s - w) / (n - w),
) -> float:
    """The right schedule; every keyword makes one mistake."""
    if step < warmup:
        return ramp(step, steps, warmup)
    return wave(progress(step, steps, warmup))


def shares(steps: int, warmup: int, at: Sequence[int] | None = None) -> Callable:
    """A probe's `run`: the answer at these steps, or at all."""
    return lambda f: torch.stack([as_numbers(call(f, s, steps, warmup)).reshape(()) for s in at or range(steps)])


COSINE = FunctionExercise(
    right=cosine,
    probes=[
        Probe("a run of 11 steps without warm-up", shares(11, 0)),
        Probe("the warm-up of a run of 37 steps, 7 of them warm-up", shares(37, 7, range(7))),
        Probe("a run of 37 steps, 7 of them warm-up", shares(37, 7)),
        Probe("a run of 50 steps, 20 of them warm-up", shares(50, 20)),
    ],
    mistakes=[
        Mistake(
            "linear-decay",
            "That falls along a straight line. Asked for is half a wave of the cosine.",
            partial(cosine, wave=lambda p: 1 - p),
        ),
        Mistake(
            "full-wave",
            "The rate comes back: 2π is a whole wave, down and up again. The way down is half of it.",
            partial(cosine, wave=lambda p: 0.5 * (1 + math.cos(2 * math.pi * p))),
        ),
        Mistake(
            "no-half",
            "The rate starts at 2 instead of 1: 1 + cos runs from 2 to 0.",
            partial(cosine, wave=lambda p: 1 + math.cos(math.pi * p)),
        ),
        Mistake(
            "shifted-wave",
            "A bare cosine runs from 1 to −1: a negative rate climbs the loss. Shift it up and halve it.",
            partial(cosine, wave=lambda p: math.cos(math.pi * p)),
        ),
        Mistake(
            "shifted-wave",
            "That is the first quarter of the wave, which falls slowly at first and steeply at the end. Asked for is "
            "half a wave, flat at both ends.",
            partial(cosine, wave=lambda p: math.cos(math.pi * p / 2)),
        ),
        Mistake(
            "degrees",
            "`math.cos` takes radians: half a wave is π, not 180.",
            partial(cosine, wave=lambda p: 0.5 * (1 + math.cos(180 * p))),
        ),
        Mistake(
            "warmup-forgotten",
            "There is no warm-up: the wave begins at step 0, at the full rate.",
            lambda s, n, w: 0.5 * (1 + math.cos(math.pi * s / n)),
        ),
        Mistake(
            "warmup-forgotten",
            "There is no warm-up: in its steps the rate should rise from 0, yours is 1.",
            partial(cosine, ramp=lambda s, n, w: 1.0),
        ),
        Mistake(
            "warmup-from-one",
            "Your warm-up is one step ahead: it begins at 1/w. That spares a step at rate 0, and `fit` does it too; "
            "here the formula begins at 0, as in transformers.",
            partial(cosine, ramp=lambda s, n, w: (s + 1) / w),
        ),
        Mistake(
            "warmup-over-all-steps",
            "The warm-up rises too slowly, as if it took the whole run: it must reach 1 after `warmup` steps.",
            partial(cosine, ramp=lambda s, n, w: s / n),
        ),
        Mistake(
            "warmup-as-share",
            "`warmup` is taken for a share of the run. Here it is a number of steps.",
            lambda s, n, w: cosine(s, n, min(n - 1, round(w * n))),
        ),
        Mistake(
            "progress-from-zero",
            "After the warm-up the wave should begin at its top. Yours counts its progress from step 0, so the rate "
            "drops when the warm-up ends.",
            partial(cosine, progress=lambda s, n, w: s / n),
        ),
        Mistake(
            "progress-from-zero",
            "The wave begins at its top, but it ends too early or too late: how many steps are left for it?",
            partial(cosine, progress=lambda s, n, w: (s - w) / n),
        ),
        Mistake(
            "wave-too-short",
            "Your wave reaches 0 at the last step, which is thrown away then. It ends one step later, at `steps`, as "
            "in transformers.",
            partial(cosine, progress=lambda s, n, w: (s - w) / (n - w - 1)),
        ),
        Mistake(
            "divided-by-no-warmup",
            "A run may have no warm-up: `warmup` is 0 then, and nothing may be divided by it.",
            raises=("division by zero", "divide by zero"),
        ),
    ],
    praise="Right: up along a line, down along half a wave, the two meeting at 1.",
)


def check_cosine_schedule(answer: Any) -> Verdict:
    """Exercise 06-1: `cosine_with_warmup(step, steps, warmup)`."""
    return COSINE.judge(answer)


# ---------------------------------------------------------------- 06-2


def range_tests() -> dict[str, tuple[NDArray, NDArray]]:
    """Name -> (rates, smoothed losses) of three made-up range tests, as `rate_range.smoothed` would leave them."""
    rates = 10.0 ** np.linspace(-6, 0, 25)
    place = np.log10(rates)

    def curve(start: float, fall: float, middle: float, wide: float, edge: float, height: float) -> NDArray:
        falling = start - fall / (1 + np.exp(-(place - middle) / wide))
        return falling + height * np.clip(place - edge, 0, None) ** 2 + 0.002 * np.sin(3.1 * np.arange(len(place)))

    broken = curve(0.70, 0.42, -3.2, 0.28, -2.1, 1.9)
    broken[-3:] = (2.6, 1.1, 0.95)  # behind the explosion it falls back, to a constant prediction
    return {
        "a plain one": (rates, curve(0.72, 0.50, -3.4, 0.25, -1.6, 0.9)),
        "one that breaks": (rates, broken),
        "one with a late fall": (rates, curve(1.10, 0.75, -2.1, 0.22, -1.2, 1.4)),
    }


def read_range(rates: NDArray, losses: NDArray, chosen: Callable[[NDArray, NDArray], Any]) -> float:
    """The rate at the index that `chosen` gives."""
    rates, losses = np.asarray(rates), np.asarray(losses)
    return rates[int(chosen(rates, losses))]


def on_way_down(losses: NDArray) -> NDArray:
    """The losses up to the lowest."""
    return losses[: int(np.argmin(losses)) + 1]


RANGE = FunctionExercise(
    right=rate_range.steepest,
    probes=[
        Probe(name, lambda f, pair=pair: call(f, pair[0].copy(), pair[1].copy()))
        for name, pair in range_tests().items()
    ],
    mistakes=[
        Mistake(
            "rate-at-minimum",
            "That is the rate at the lowest loss. There the loss has stopped falling: the next larger rates already "
            "make it rise. The lowest point is where the trouble begins, not where learning goes best.",
            partial(read_range, chosen=lambda r, x: np.argmin(x)),
        ),
        Mistake(
            "rate-behind-the-fall",
            "That is the rate behind the steepest fall. The fall was made by the step before: by the rate at which "
            "it begins.",
            partial(read_range, chosen=lambda r, x: np.argmin(np.diff(on_way_down(x))) + 1),
        ),
        Mistake(
            "first-fall",
            "That is the first rate at which the loss falls at all. So small a rate learns, but slowly.",
            partial(read_range, chosen=lambda r, x: np.argmax(np.diff(x) < 0)),
        ),
        Mistake(
            "behind-the-minimum",
            "On one curve you found a fall behind the lowest point: the run has broken there, and falls back to "
            "answering every text alike. Look at the way down only.",
            partial(read_range, chosen=lambda r, x: np.argmin(np.diff(x))),
        ),
        Mistake(
            "steepest-rise",
            "That is where the loss *rises* fastest. A fall is a negative difference.",
            partial(read_range, chosen=lambda r, x: np.argmax(np.diff(x))),
        ),
        Mistake(
            "steepest-of-either-sign",
            "That is the largest change, up or down. On these curves it is the explosion.",
            partial(read_range, chosen=lambda r, x: np.argmax(np.abs(np.diff(x)))),
        ),
        Mistake(
            "slope-by-rate",
            "You divided by the difference of the rates, which is tiny for small rates and makes them look steep. One "
            "step is one step: compare the falls per step (equal distances on the logarithmic axis).",
            partial(
                read_range, chosen=lambda r, x: np.argmin(np.diff(on_way_down(x)) / np.diff(r[: len(on_way_down(x))]))
            ),
        ),
        Mistake("last-rate", "That is the largest rate of all.", lambda r, x: r[-1]),
        Mistake(
            "index-for-rate",
            "That is the number of the step. Asked for is the rate at that step.",
            lambda r, x: float(np.argmin(np.diff(on_way_down(x)))),
        ),
        Mistake(
            "loss-for-rate",
            "That is the loss at the right place. Asked for is the rate.",
            lambda r, x: x[np.argmin(np.diff(on_way_down(x)))],
        ),
    ],
    praise="Right: the steepest fall on the way down. A range test gives the size of the rate; tuning does the rest.",
)


def check_range_reading(answer: Any) -> Verdict:
    """Exercise 06-2: `rate_from_range_test(rates, losses)`."""
    return RANGE.judge(answer)


# ---------------------------------------------------------------- 06-3


class Counted(nn.Module):
    """A model whose only weight says how many epochs it was trained."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.loaded = False  # whether weights were put back

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """As every model's, and remembered."""
        self.loaded = True
        return super().load_state_dict(*arguments, **options)


class TooLong(Exception):
    """An answer that goes on far behind the last epoch."""


def run_patience(
    function: Callable, dev: Sequence[float], patience: int, epochs: int
) -> tuple[Tensor, float, int, bool]:
    """Let an answer train a `Counted` model whose dev scores are given.

    Returns:
        the scores it returned, the weight that the model ends with, the epochs that were trained, and whether weights
        were put back.
    """
    model, trained = Counted(), []

    def train_epoch(given: nn.Module) -> float:
        trained.append(1)
        if len(trained) > 3 * epochs + 5:
            raise TooLong("it trains far more than the epochs that it was given")
        with torch.no_grad():
            given.weight += 1  # in place, as an optimizer does
        return 0.5 + 0.4 * len(trained) / (len(trained) + 3)  # on train every epoch is better than the last

    def dev_score(given: nn.Module) -> float:
        return float(dev[min(int(given.weight.detach().item()), len(dev) - 1)])

    returned = call(function, model, train_epoch, dev_score, patience, epochs)
    try:
        scores = as_numbers(returned).reshape(-1)
    except Refused as problem:
        raise Refused(problem.slug, f"{problem.message} Asked for is the list of the dev scores.") from None
    return scores, model.weight.item(), len(trained), model.loaded


def with_patience(
    model: nn.Module,
    train_epoch: Callable[[nn.Module], float],
    dev_score: Callable[[nn.Module], float],
    patience: int,
    epochs: int,
    *,
    watch: str = "dev",
    restore: bool = True,
    copied: bool = True,
    extra: int = 0,
    better: Callable[[float, float], bool] = lambda new, best: new > best,
    previous: bool = False,
    reset: bool = True,
    stops: bool = True,
    more: int = 0,
    initial: bool = False,
) -> list[float]:
    """The right loop; every keyword makes one mistake."""
    scores, best, waited, kept = [], None, 0, None
    if initial:
        scores.append(dev_score(model))
        best, kept = scores[0], {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(epochs + more):
        on_train = train_epoch(model)
        scores.append(dev_score(model))
        now = on_train if watch == "train" else scores[-1]
        if best is None or better(now, best):
            best, waited = now, 0 if reset else waited
            kept = {name: value.clone() if copied else value for name, value in model.state_dict().items()}
        else:
            waited += 1
        best = now if previous else best
        if stops and waited >= patience + extra:
            break
    if restore:
        model.load_state_dict(kept)
    return scores


PATIENT = {  # name -> dev scores after epochs 0, 1, 2 …; patience; epochs
    "a run that peaks": ([0.5, 0.61, 0.68, 0.74, 0.73, 0.71, 0.70, 0.69, 0.68, 0.67], 2, 9),
    "a run that dips and recovers": ([0.5, 0.66, 0.64, 0.72, 0.71, 0.75, 0.74, 0.73, 0.72, 0.71], 2, 9),
    "a run that falls deep and crawls back": ([0.5, 0.70, 0.50, 0.55, 0.60, 0.64, 0.67, 0.66], 2, 7),
    "a run with ties": ([0.5, 0.66, 0.70, 0.70, 0.70, 0.70, 0.69, 0.71, 0.72, 0.73], 3, 9),
    "a run that climbs to its last epoch": ([0.5, 0.55, 0.61, 0.66, 0.70, 0.73], 2, 5),
    "a run that only falls": ([0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45], 3, 6),
}

EARLY = FunctionExercise(
    right=with_patience,
    probes=[
        probe
        for name, (dev, patience, epochs) in PATIENT.items()
        for probe in (
            Probe(
                f"{name}: epochs trained",
                lambda f, given=(dev, patience, epochs): float(run_patience(f, *given)[2]),
            ),
            Probe(
                f"{name}: the weights that it ends with",
                lambda f, given=(dev, patience, epochs): run_patience(f, *given)[1],
            ),
            Probe(f"{name}: the scores", lambda f, given=(dev, patience, epochs): run_patience(f, *given)[0]),
        )
    ],
    mistakes=[
        Mistake(
            "watches-train",
            "It watches the training score, which gets better nearly to the end, also while the model learns its "
            "texts by heart. Only `dev_score` sees texts that were not learned from.",
            partial(with_patience, watch="train"),
        ),
        Mistake(
            "lowest-for-highest",
            "It takes lower for better. That is right for a loss; `dev_score` is a score, higher is better.",
            partial(with_patience, better=lambda new, best: new < best),
        ),
        Mistake(
            "returns-last",
            "It stops in the right place, but the model keeps the weights of its *last* epoch, which are the worse "
            "ones: that is why it stopped. Put the best ones back.",
            partial(with_patience, restore=False),
        ),
        Mistake(
            "best-not-copied",
            "You do put weights back, but they are the last ones: `state_dict()` holds the model's own tensors, no "
            "copies, and training goes on changing them. Clone them (or `copy.deepcopy`).",
            partial(with_patience, copied=False),
        ),
        Mistake(
            "patience-off-by-one",
            "It stops one epoch too late. Patience 2 means: after the second epoch in a row that is no better, stop.",
            partial(with_patience, extra=1),
        ),
        Mistake(
            "patience-off-by-one",
            "It stops one epoch too early. Patience 2 means: after the second epoch in a row that is no better, stop.",
            partial(with_patience, extra=-1),
        ),
        Mistake(
            "wait-never-reset",
            "It counts all epochs that were no better, also those before the last improvement. Each new best starts "
            "the count again.",
            partial(with_patience, reset=False),
        ),
        Mistake(
            "compares-with-previous",
            "It compares with the epoch before instead of the best so far: after a deep fall, a small rise looks like "
            "progress.",
            partial(with_patience, previous=True),
        ),
        Mistake(
            "ties-count-as-better",
            "An equal score counts as better. Then a model that stands still is never stopped; use `>`.",
            partial(with_patience, better=lambda new, best: new >= best),
        ),
        Mistake(
            "never-stops",
            "The best weights are put back, but it trains all the epochs: where does it stop?",
            partial(with_patience, stops=False),
        ),
        Mistake(
            "past-the-end",
            "It trains one epoch more than `epochs`.",
            partial(with_patience, more=1),
        ),
        Mistake(
            "score-of-init",
            "It scores the untrained model too. `fit` does that as well (with reason: step 0 may be the best); here "
            "the scores are those after each epoch.",
            partial(with_patience, initial=True),
        ),
    ],
    praise="Right: it watches dev, waits so many epochs in a row, and hands back the best weights, not the last.",
)


def check_early_stopping(answer: Any) -> Verdict:
    """Exercise 06-3: `train_with_patience(model, train_epoch, dev_score, patience, epochs)` -> the dev scores."""
    verdict = EARLY.judge(answer)
    if verdict.mistake == "returns-last" and _puts_back(answer):
        return next(refused(m.slug, m.message) for m in EARLY.mistakes if m.slug == "best-not-copied")
    return verdict


def _puts_back(answer: Callable) -> bool:
    given = next(iter(PATIENT.values()))
    loaded = attempt(Probe("", lambda f: float(run_patience(f, *given)[3])), answer)
    return isinstance(loaded, Tensor) and bool(loaded)


# ---------------------------------------------------------------- 06-4

VERDICTS = ("overfits", "underfits", "neither")
RUN_VERDICTS = {"A": "overfits", "B": "underfits", "C": "neither", "D": "neither"}


def runs_to_sort() -> dict[str, dict[str, dict[str, Any]]]:
    """Four made-up runs for `plots.broken_runs`: loss on train and dev after each of 12 epochs."""
    t = np.arange(13)
    fall = np.exp(-t / 2.2)
    curves = {
        "A": (0.70 * np.exp(-t / 2.6), 0.70 - 0.16 * (1 - fall) + 0.0052 * np.clip(t - 3, 0, None) ** 2),
        "B": (0.70 - 0.04 * (1 - fall), 0.705 - 0.035 * (1 - fall)),
        "C": (0.10 + 0.60 * np.exp(-t / 3.0), 0.26 + 0.44 * np.exp(-t / 3.6)),
        "D": (0.38 + 0.34 * np.exp(-t / 3.2), 0.27 + 0.42 * np.exp(-t / 2.4)),
    }
    wobble = 0.006 * np.sin(2.3 * t)
    return {
        name: {"loss": {"train": train + 0.6 * wobble * (t > 0), "dev": dev + wobble}}
        for name, (train, dev) in curves.items()
    }


def check_run_verdicts(answer: Any) -> Verdict:
    """Exercise 06-4: which of the four runs overfits, which underfits, which does neither?"""
    if answer is None:
        return unanswered()
    said = _verdicts(answer)
    if said is None:
        return refused(
            "not-verdicts",
            f"The answer is a dictionary from each of {', '.join(RUN_VERDICTS)} to one of {', '.join(VERDICTS)}.",
        )
    if missing := [name for name, verdict in said.items() if verdict is None]:
        return unanswered(f"Not answered yet: {', '.join(missing)}.")
    if said == RUN_VERDICTS:
        return Verdict(
            True,
            "Right: a gap alone is no overfitting, and dev below train is no error. Look at where dev is *going*.",
        )
    if said["A"] == "underfits" and said["B"] == "overfits":
        return refused("swapped", "A and B are swapped: which of the two has learned its training texts?")
    if said["A"] != "overfits":
        return refused("turn-missed", "Follow A's dev loss to the end, while its training loss goes to 0.")
    if said["B"] == "overfits":
        return refused(
            "both-bad-is-overfitting",
            "B is as bad on its own training texts as on dev. Whoever can't even do the training texts has not "
            "learned them by heart.",
        )
    if said["C"] == "overfits":
        return refused(
            "gap-is-overfitting",
            "In C dev lies above train, as it nearly always does: the model has seen the training texts. But dev is "
            "still falling, so every epoch still helps. Overfitting is when dev gets *worse* while train gets better.",
        )
    if said["D"] in ("overfits", "underfits"):
        return refused(
            "dev-above-train",
            "In D the loss on dev is *lower* than on train, and both fall. That is no disease: dropout is on while the "
            "training loss is taken, and off on dev.",
        )
    wrong = [name for name, verdict in said.items() if verdict != RUN_VERDICTS[name]]
    return refused("wrong-verdict", f"Look again at {', '.join(wrong)}: is train low? Where is dev going?")


def _verdicts(answer: Any) -> dict[str, str | None] | None:
    """Name -> verdict (None: left open) of an answer in reasonable form."""
    if not isinstance(answer, Mapping):
        return None
    try:
        said = {str(name).strip().upper(): verdict for name, verdict in answer.items()}
    except Exception:  # names that can't be written
        return None
    if set(said) != set(RUN_VERDICTS):
        return None
    for name, verdict in said.items():
        if verdict is None or verdict is ...:
            said[name] = None
        elif isinstance(verdict, str) and verdict.strip().lower() in VERDICTS:
            said[name] = verdict.strip().lower()
        else:
            return None
    return said if any(said.values()) else dict.fromkeys(said)


# ---------------------------------------------------------------- 06-5

WEIGHTS = odd_numbers(3, 4, seed=61)
GRADIENT = odd_numbers(3, 4, seed=62)
WITH_ZERO = torch.where(torch.arange(12).reshape(3, 4) % 5 == 0, 0.0, WEIGHTS)


def penalized(g: Tensor, w: Tensor, l1: float, l2: float) -> Tensor:
    return g + l1 * torch.sign(w) + l2 * w


PENALIZED = FunctionExercise(
    right=penalized,
    probes=[
        Probe("L2 alone", lambda f: call(f, GRADIENT, WEIGHTS, 0.0, 0.37)),
        Probe("L1 alone", lambda f: call(f, GRADIENT, WEIGHTS, 0.23, 0.0)),
        Probe("both", lambda f: call(f, GRADIENT, WEIGHTS, 0.23, 0.37)),
        Probe(
            "weights of which some are 0",
            lambda f: call(f, GRADIENT, WITH_ZERO, 0.23, 0.37),
            Mistake(
                "kink",
                "Right but where a weight is exactly 0. |w| has a kink there; take 0, as `torch.sign` and autograd do "
                "(w/|w| is 0/0).",
            ),
        ),
    ],
    mistakes=[
        Mistake(
            "l2-doubled",
            "The L2 part is twice as large: the penalty is l2/2 Σw², and the 2 of the square cancels the half.",
            lambda g, w, l1, l2: g + l1 * torch.sign(w) + 2 * l2 * w,
        ),
        Mistake(
            "l2-halved",
            "The L2 part is half as large as it should be: w² has the slope 2w, and its 2 cancels the half.",
            lambda g, w, l1, l2: g + l1 * torch.sign(w) + l2 / 2 * w,
        ),
        Mistake(
            "l1-by-size",
            "The L1 part grows with the weight. |w| has the slope 1 or −1, however large w is: that is why L1 drives "
            "small weights all the way to 0.",
            lambda g, w, l1, l2: g + l1 * w.abs() + l2 * w,
        ),
        Mistake(
            "l1-by-size",
            "The L1 part is l1 · w: that is L2's.",
            lambda g, w, l1, l2: g + l1 * w + l2 * w,
        ),
        Mistake(
            "l1-without-sign",
            "The L1 part pushes every weight down. It must push toward 0: negative weights up.",
            lambda g, w, l1, l2: g + l1 + l2 * w,
        ),
        Mistake("swapped", "l1 and l2 are swapped.", lambda g, w, l1, l2: g + l2 * torch.sign(w) + l1 * w),
        Mistake(
            "wrong-sign",
            "The penalty enters with the wrong sign: a step against this gradient makes the weights grow.",
            lambda g, w, l1, l2: g - l1 * torch.sign(w) - l2 * w,
        ),
        Mistake("l1-forgotten", "The L1 part is missing.", lambda g, w, l1, l2: g + l2 * w),
        Mistake("l2-forgotten", "The L2 part is missing.", lambda g, w, l1, l2: g + l1 * torch.sign(w)),
        Mistake(
            "penalty-for-gradient",
            "The penalty itself is added to the gradient. Asked for is its derivative with respect to each weight.",
            lambda g, w, l1, l2: g + l1 * w.abs().sum() + l2 / 2 * (w**2).sum(),
        ),
        Mistake(
            "penalty-for-gradient",
            "The penalty of each weight is added to the gradient. Asked for is its derivative.",
            lambda g, w, l1, l2: g + l1 * w.abs() + l2 / 2 * w**2,
        ),
        Mistake(
            "mean-for-sum",
            "The penalty is divided by the number of weights; it is a sum over them, no mean.",
            lambda g, w, l1, l2: g + (l1 * torch.sign(w) + l2 * w) / w.numel(),
        ),
    ],
    praise="Right: L2 pulls in proportion to the weight, L1 with the same force on all, so only L1 reaches 0.",
)


def check_penalized_gradient(answer: Any) -> Verdict:
    """Exercise 06-5: `penalized_gradient(gradient, weights, l1, l2)`."""
    return PENALIZED.judge(answer)


# ---------------------------------------------------------------- 06-6


def summary(
    scores: Sequence[float],
    *,
    middle: Callable[[NDArray], float] = np.mean,
    deviation: Callable[[NDArray], float] = lambda s: np.std(s, ddof=1),
    error: Callable[[float, int], float] = lambda s, n: s / math.sqrt(n),
) -> tuple[float, float, float]:
    """The right summary; every keyword makes one mistake."""
    scores = np.asarray(scores, float)
    spread = deviation(scores)
    return middle(scores), spread, error(spread, len(scores))


FIVE_SEEDS = (0.731, 0.702, 0.748, 0.715, 0.699)
MORE_SEEDS = (0.81, 0.79, 0.84, 0.80, 0.77, 0.83, 0.82, 0.78)

SEEDS = FunctionExercise(
    right=summary,
    probes=[
        Probe("five seeds", lambda f: call(f, list(FIVE_SEEDS), outputs=3)),
        Probe("eight seeds", lambda f: call(f, list(MORE_SEEDS), outputs=3)),
        Probe("two seeds", lambda f: call(f, [0.62, 0.71], outputs=3)),
    ],
    mistakes=[
        Mistake(
            "population-deviation",
            "The deviation is divided by n. These seeds are a sample, and the mean was taken from them too, which "
            "makes the squares too small: divide by n − 1 (`ddof=1`).",
            partial(summary, deviation=np.std),
        ),
        Mistake(
            "variance",
            "The second value is the variance; the standard deviation is its root.",
            partial(summary, deviation=lambda s: np.var(s, ddof=1)),
        ),
        Mistake(
            "best-for-mean",
            "That is the best seed. Who reports the best of five reports luck: another five would give another best.",
            partial(summary, middle=np.max),
        ),
        Mistake("median-for-mean", "The first value is the median, not the mean.", partial(summary, middle=np.median)),
        Mistake(
            "range-for-deviation",
            "The second value is the range from worst to best, which grows with the number of seeds.",
            partial(summary, deviation=np.ptp),
        ),
        Mistake(
            "error-not-divided",
            "The third value is the deviation again. The mean of n seeds varies less than one seed does.",
            partial(summary, error=lambda s, n: s),
        ),
        Mistake(
            "divided-by-n",
            "The third value is divided by n. Deviations of a mean shrink with the root of n: four times the seeds for "
            "half the error.",
            partial(summary, error=lambda s, n: s / n),
        ),
        Mistake(
            "divided-by-n",
            "The third value is divided by the root of n − 1. The n − 1 belongs into the deviation, once.",
            partial(summary, error=lambda s, n: s / math.sqrt(n - 1)),
        ),
        Mistake(
            "percent",
            "The values are in percent; the scores come in natural units.",
            lambda scores: tuple(100 * v for v in summary(scores)),
        ),
    ],
    praise="Right: the deviation tells how far one run may be off, the standard error how far the mean may be.",
)


def check_seed_summary(answer: Any) -> Verdict:
    """Exercise 06-6: `summarize(scores)` -> (mean, standard deviation, standard error)."""
    return SEEDS.judge(answer)

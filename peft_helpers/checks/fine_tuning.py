"""The exercises of lesson 05, full fine-tuning.

05-1  `train_and_predict(model, optimizer, batches, held_out)`: -> (losses of the steps, predicted classes of held_out)
      (10 min)
      checker: `check_training_run`
      mistakes: hidden-states-as-logits, labels-unused, eval-mode-in-training, train-mode-at-evaluation,
        forgotten-zeroing, weights-do-not-move, loss-on-output, no-loss-in-output, double-softmax, mask-forgotten,
        predicted-before-training, losses-averaged, graph-at-evaluation

05-2  a number: labels used by an experiment that tunes and stops on dev (3 min)
      checker: `check_labels_used`
      mistakes: tuning-labels-forgotten, test-counted, runs-multiplied, seeds-multiplied, dev-counted-twice,
        dev-alone

05-3  `paired_interval(right_a, right_b, draws)`: (N,), (N,), (S, N) item numbers -> (low, high), 95 % (8 min)
      checker: `check_paired_interval`
      mistakes: unpaired, two-intervals, one-system, wrong-sign, ninety-percent, percent-for-share, range-of-draws,
        normal-approximation, sum-for-mean, wrong-axis

05-4  names: which of four gaps, `gaps()`, are real at 95 % (4 min)
      checker: `check_real_gaps`
      mistakes: overlapping-bars, largest-gaps, every-gap, not-real, missed

05-5  `matthews(predictions, labels)`: (N,), (N,) of 0 and 1 -> a number, 0 where one column is constant (7 min)
      checker: `check_matthews`
      mistakes: accuracy, f1, root-forgotten, wrong-sign, products-crossed, nothing-subtracted, plus-for-minus,
        one-column-only, kappa, sign-lost, constant-predictions, counts-overflow

05-6  `macro_f1(predictions, labels, classes)`: the unweighted mean of the classes' F1 (6 min)
      checker: `check_macro_f1`
      mistakes: micro-average, weighted-average, averaged-too-early, one-class-only, macro-precision, macro-recall,
        absent-class-skipped, constant-predictions

05-7  `spearman(predictions, scores)`: (N,), (N,) -> a number, ties share their mean rank, 0 where undefined (8 min)
      checker: `check_spearman`
      mistakes: pearson, order-for-ranks, one-side-ranked, squared-differences, ties-by-position, ties-lowest,
        ties-highest, ties-dense, kendall, constant-predictions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import metrics
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Verdict,
    WrongNumber,
    as_numbers,
    attempt,
    call,
    odd_numbers,
    refused,
    unanswered,
)

# ---------------------------------------------------------------- 05-1

LETTERS, WIDTH, CLASSES = 12, 6, 3


class Output:
    """What the small model returns: like transformers' outputs, an object and no tensor."""

    def __init__(self, logits: Tensor, pooler_output: Tensor, last_hidden_state: Tensor):
        self.logits, self.pooler_output, self.last_hidden_state = logits, pooler_output, last_hidden_state

    def __getitem__(self, key: int | str) -> Tensor:
        return getattr(self, key) if isinstance(key, str) else (self.logits, self.last_hidden_state)[key]


class SmallClassifier(nn.Module):
    """(B, T) token ids -> `Output`; its 'dropout' always drops the same entries, so that numbers can be compared."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, WIDTH, dtype=torch.float64)
        self.pooler = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        self.classifier = nn.Linear(WIDTH, CLASSES, dtype=torch.float64)
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(odd_numbers(*parameter.shape, seed=20 + i))
        self.kept = (odd_numbers(WIDTH, seed=30) > -0.7).double()
        self.recorded = False  # whether autograd recorded the latest forward pass in evaluation mode

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any) -> Output:
        """Like BertModel, it takes further arguments (`labels=` among them) without a word."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.embedding(input_ids)
        if self.training:
            hidden = hidden * self.kept * WIDTH / self.kept.sum()
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        pooled = torch.tanh(self.pooler(mean))
        if not self.training:
            self.recorded = torch.is_grad_enabled()
        return Output(self.classifier(pooled), pooled, hidden)


def made_batch(rows: int, seed: int) -> dict[str, Tensor]:
    """Token ids (rows, 5), the last one or two of odd rows padding; labels."""
    ids = (odd_numbers(rows, 5, seed=seed) * 1000).long() % LETTERS
    mask = torch.ones(rows, 5, dtype=torch.long)
    mask[1::2, 4] = 0
    mask[3::4, 3] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": (ids[:, 0] + ids[:, 1]) % CLASSES}


def run_training(function: Callable, shift: int = 0) -> tuple[Tensor, Tensor, bool]:
    """Let an answer train a fresh model, in evaluation mode as `from_pretrained` returns it.

    Args:
        shift: is added to every training label, to see whether they are used.

    Returns:
        the losses, the predictions, and whether autograd recorded the last forward pass in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):  # what the layers draw before their weights are set
        model = SmallClassifier().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    batches = [made_batch(6, seed) for seed in (3, 5, 8, 13)]
    for batch in batches:
        batch["labels"] = (batch["labels"] + shift) % CLASSES
    losses, predictions = call(function, model, optimizer, batches, made_batch(16, 21), outputs=2)
    return as_numbers(losses), as_numbers(predictions), model.recorded


def training_run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[dict[str, Tensor]],
    held_out: dict[str, Tensor],
    *,
    loss: Callable[[Output, Tensor], Tensor] = lambda out, labels: F.cross_entropy(out.logits, labels),
    chosen: Callable[[Output], Tensor] = lambda out: out.logits,
    modes: tuple[bool, bool] = (True, False),
    zero: bool = True,
    step: bool = True,
    masked: bool = True,
    early: bool = False,
    recorded: bool = False,
) -> tuple[list[float], Tensor]:
    """The right run; every keyword makes one mistake."""

    def look(batch: dict[str, Tensor]) -> Output:
        return model(batch["input_ids"], batch["attention_mask"] if masked else None)

    def predict() -> Tensor:
        model.train(modes[1])
        with torch.set_grad_enabled(recorded):
            return chosen(look(held_out)).argmax(-1)

    before, losses = predict() if early else None, []
    for batch in batches:
        model.train(modes[0])
        if zero:
            optimizer.zero_grad()
        current = loss(look(batch), batch["labels"])
        current.backward()
        if step:
            optimizer.step()
        losses.append(current.item())
    return losses, before if early else predict()


HIDDEN = (
    "The loss starts too high: cross-entropy gets the {} as logits, one number for each of the model's {} hidden units "
    "instead of one a class. Which part of the output has one column a class?"
)
UNUSED = (
    "The labels have no influence on your losses. Handing them to the model is not enough: this one, like BertModel, "
    "takes `labels=` without a word and does nothing with them."
)
TRAINING = FunctionExercise(
    right=training_run,
    probes=[
        Probe("the first step", lambda f: run_training(f)[0].reshape(-1)[:1]),
        Probe("the losses of the four steps", lambda f: run_training(f)[0].reshape(-1)),
        Probe("the predictions", lambda f: run_training(f)[1].reshape(-1)),
        Probe(
            "the prediction's forward pass",
            lambda f: float(run_training(f)[2]),
            Mistake(
                "graph-at-evaluation",
                "All numbers are right. But while it predicts, autograd still records every operation for a backward "
                "pass that never comes: `eval()` does not switch that off. What does?",
            ),
        ),
    ],
    mistakes=[
        *(
            Mistake(
                "hidden-states-as-logits",
                HIDDEN.format(name, WIDTH),
                partial(training_run, loss=lambda out, y, part=part: F.cross_entropy(part(out), y), chosen=part),
            )
            for name, part in (
                ("pooler's output", lambda out: out.pooler_output),
                ("first token's hidden state", lambda out: out.last_hidden_state[:, 0]),
                ("mean hidden state", lambda out: out.last_hidden_state.mean(1)),
            )
        ),
        Mistake(
            "hidden-states-as-logits",
            "The training is right. The predictions are the largest hidden unit's number, not the largest logit's.",
            partial(training_run, chosen=lambda out: out.pooler_output),
        ),
        Mistake(
            "labels-unused",
            "The loss compares the model's logits with its own predictions. The labels have no influence.",
            partial(training_run, loss=lambda out, y: F.cross_entropy(out.logits, out.logits.argmax(-1))),
        ),
        Mistake(
            "labels-unused",
            "Every label is taken for 0: the batch's own labels have no influence.",
            partial(training_run, loss=lambda out, y: F.cross_entropy(out.logits, torch.zeros_like(y))),
        ),
        Mistake("labels-unused", UNUSED, partial(training_run, loss=lambda out, y: out.logits.mean())),
        Mistake(
            "eval-mode-in-training",
            "The model is trained in evaluation mode: dropout is off. `from_pretrained` returns models that way, so "
            "the mode has to be set before the first step.",
            partial(training_run, modes=(False, False)),
        ),
        Mistake(
            "train-mode-at-evaluation",
            "The training is right. The predictions are made in training mode, with dropout on: another draw would "
            "give others.",
            partial(training_run, modes=(True, True)),
        ),
        Mistake(
            "forgotten-zeroing",
            "The first losses are right, the later ones are not: `backward()` adds to the gradients of the step "
            "before. They have to be cleared in every round.",
            partial(training_run, zero=False),
        ),
        Mistake(
            "weights-do-not-move",
            "The losses are those of a model that never changes. Is there an `optimizer.step()`, and are the gradients "
            "still there when it runs?",
            partial(training_run, step=False),
        ),
        Mistake(
            "loss-on-output",
            "The model returns an object with several tensors, and the loss (or `torch.max`) wants one tensor: name "
            "the part that holds the logits.",
            raises=("must be Tensor, not Output", "'Output' object has no attribute 'backward'", "combination of arg"),
        ),
        Mistake(
            "no-loss-in-output",
            "The output has no `loss`: the model swallowed the labels without a word, like BertModel. Compute the loss "
            "yourself, from the logits and the batch's labels.",
            raises=("'Output' object has no attribute 'loss'",),
        ),
        Mistake(
            "double-softmax",
            "Softmax is applied before the loss, which applies its own: it takes logits (lesson 01).",
            partial(training_run, loss=lambda out, y: F.cross_entropy(out.logits.softmax(-1), y)),
        ),
        Mistake(
            "mask-forgotten",
            "The model gets no attention mask, so padding counts as text. Hand over everything but the labels.",
            partial(training_run, masked=False),
        ),
        Mistake(
            "predicted-before-training",
            "The losses are right, but the predictions are those of the model before training.",
            partial(training_run, early=True),
        ),
        Mistake(
            "losses-averaged",
            "That is the mean of the losses. Asked for is the list, one number a step: only the list shows a trend.",
            lambda *given: (lambda losses, said: (sum(losses) / len(losses), said))(*training_run(*given)),
        ),
    ],
    praise="Right: train mode, logits and labels, clear, backward, step; then eval mode, without a graph.",
)


def check_training_run(answer: Any) -> Verdict:
    """Exercise 05-1: `train_and_predict(model, optimizer, batches, held_out)` -> (losses, predictions)."""
    verdict = TRAINING.judge(answer)
    if verdict.mistake in ("wrong-value", "precision-lost", "not-finite") and _ignores_labels(answer):
        return refused("labels-unused", UNUSED)
    return verdict


def _ignores_labels(answer: Callable) -> bool:
    given, shifted = (
        attempt(Probe("", lambda f, shift=shift: run_training(f, shift)[0].reshape(-1)), answer) for shift in (0, 1)
    )
    return isinstance(given, Tensor) and isinstance(shifted, Tensor) and torch.equal(given, shifted)


# ---------------------------------------------------------------- 05-2

LABELS_USED = NumberExercise(
    right=650,
    mistakes=[
        WrongNumber(
            500,
            "tuning-labels-forgotten",
            "Those are the training labels. The rate and the best epoch were chosen by looking at other labels: "
            "somebody had to write those too.",
        ),
        WrongNumber(
            1050,
            "test-counted",
            "The test labels are counted too. They measure the result, but nothing was chosen by them.",
        ),
        WrongNumber(900, "test-counted", "The test labels measure the result; it is dev that something was chosen by."),
        WrongNumber(
            800,
            "dev-counted-twice",
            "Dev is counted twice, for the rate and for the epoch. A label that is looked at twice is still one label.",
        ),
        WrongNumber(
            2150,
            "runs-multiplied",
            "The training set is counted once a learning rate. All four runs share its labels.",
        ),
        WrongNumber(2600, "runs-multiplied", "Each label is counted once a learning rate. All four runs share them."),
        WrongNumber(1950, "seeds-multiplied", "Each label is counted once a seed. The three runs share them."),
        WrongNumber(
            1650,
            "seeds-multiplied",
            "The training set is counted once a seed. The three runs share its labels.",
        ),
        WrongNumber(150, "dev-alone", "Those are the labels that chose; the ones that trained count as well."),
    ],
    praise="Right: everything that trained or chose, each label once. Beside a run on 500 labels stands one on 650.",
    tolerance=0.001,
)


def check_labels_used(answer: Any) -> Verdict:
    """Exercise 05-2: how many labels did it take? 500 train, 150 dev (rate and epoch), 400 test, 4 rates, 3 seeds."""
    return LABELS_USED.judge(answer)


# ---------------------------------------------------------------- 05-3

ITEMS, SAMPLES = 97, 401
HARDNESS = np.sin(np.arange(ITEMS) * 2.3)  # what is hard for one is mostly hard for the other
RIGHT_A = (HARDNESS > -0.5).astype(float)
RIGHT_B = (HARDNESS + 0.25 * np.sin(np.arange(ITEMS) * 1.1) > -0.2).astype(float)
DRAWS = np.random.default_rng(5).integers(ITEMS, size=(SAMPLES, ITEMS))


def differences(a: NDArray, b: NDArray, draws: NDArray) -> NDArray:
    """Score a − score b for every drawn set of items: (S,)."""
    return np.asarray(a, float)[draws].mean(1) - np.asarray(b, float)[draws].mean(1)


def ends(values: NDArray, level: float = 0.95) -> NDArray:
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


def normal(values: NDArray, ddof: int) -> NDArray:
    return values.mean() + np.array([-1.96, 1.96]) * values.std(ddof=ddof)


def separate(a: NDArray, b: NDArray, draws: NDArray) -> NDArray:
    """The two systems' own intervals, and what lies between their ends."""
    (low_a, high_a), (low_b, high_b) = (ends(np.asarray(x, float)[draws].mean(1)) for x in (a, b))
    return np.array([low_a - high_b, high_a - low_b])


UNPAIRED = Mistake(
    "unpaired",
    "The two systems are judged on different draws of the items. That is the unpaired bootstrap: an easy draw for one "
    "and a hard one for the other count as a difference between them. Compare a system with itself: your interval "
    "should be 0 to 0.",
)

INTERVAL = FunctionExercise(
    right=lambda a, b, d: ends(differences(a, b, d)),
    probes=[
        Probe("97 items", lambda f: call(f, RIGHT_A.copy(), RIGHT_B.copy(), DRAWS.copy())),
        Probe("the systems swapped", lambda f: call(f, RIGHT_B.copy(), RIGHT_A.copy(), DRAWS[:300])),
    ],
    mistakes=[
        Mistake("unpaired", UNPAIRED.message, lambda a, b, d: ends(differences(a, b[::-1], d))),
        *(
            Mistake("unpaired", UNPAIRED.message, lambda a, b, d, other=other: ends(a[d].mean(1) - b[other(d)].mean(1)))
            for other in (
                lambda d: d[::-1],
                lambda d: np.roll(d, 1, axis=0),
                lambda d: np.roll(d, -1, axis=0),
                lambda d: (d + 1) % d.shape[1],
            )
        ),
        Mistake(
            "unpaired",
            "Only the first system is judged on the drawn items; the other keeps its score on all of them. Both must "
            "see the same draw.",
            lambda a, b, d: ends(a[d].mean(1) - b.mean()),
        ),
        Mistake(
            "unpaired",
            "Only the second system is judged on the drawn items; the other keeps its score on all of them. Both must "
            "see the same draw.",
            lambda a, b, d: ends(a.mean() - b[d].mean(1)),
        ),
        Mistake(
            "two-intervals",
            "You made an interval for each system and subtracted the ends. Both ends seldom happen in the same draw: "
            "take the difference within each draw first.",
            separate,
        ),
        Mistake(
            "two-intervals",
            "You made an interval for each system and subtracted low from low and high from high. Take the difference "
            "within each draw first.",
            lambda a, b, d: ends(a[d].mean(1)) - ends(b[d].mean(1)),
        ),
        Mistake(
            "one-system",
            "That is the interval of a's own score: where does b come in?",
            lambda a, b, d: ends(a[d].mean(1)),
        ),
        Mistake(
            "wrong-sign",
            "That is b − a; asked for is a − b.",
            lambda a, b, d: ends(differences(b, a, d)),
        ),
        Mistake(
            "ninety-percent",
            "5 % are cut off at each end, which leaves 90 %. A 95 % interval leaves out 5 % in all.",
            lambda a, b, d: ends(differences(a, b, d), 0.9),
        ),
        Mistake(
            "percent-for-share",
            "Nearly nothing is cut off at the ends: `np.percentile` counts in percent, `np.quantile` in shares.",
            lambda a, b, d: np.percentile(differences(a, b, d), [0.025, 0.975]),
        ),
        Mistake(
            "range-of-draws",
            "That is the range of all draws, which grows with their number. Cut off 2.5 % at each end.",
            lambda a, b, d: np.array([differences(a, b, d).min(), differences(a, b, d).max()]),
        ),
        *(
            Mistake(
                "normal-approximation",
                "That is ±1.96 standard deviations around the middle: close, and it assumes a normal distribution. "
                "Asked for are the percentiles of the draws themselves.",
                lambda a, b, d, ddof=ddof: normal(differences(a, b, d), ddof),
            )
            for ddof in (0, 1)
        ),
        Mistake(
            "sum-for-mean",
            "The ends count items. The score is the share that is right: the mean, not the sum.",
            lambda a, b, d: ends(differences(a, b, d)) * d.shape[1],
        ),
        Mistake(
            "wrong-axis",
            "The mean runs over the draws (axis 0), not over the items of each draw (axis 1).",
            lambda a, b, d: ends(a[d].mean(0) - b[d].mean(0)),
        ),
        Mistake(
            "wrong-axis",
            "The mean runs over everything at once, so nothing is left that could vary. Each draw has a difference of "
            "its own: S of them, and then the quantiles.",
            lambda a, b, d: ends(differences(a, b, d).mean()),
        ),
    ],
    praise="Right: one draw of the items for both systems, and the difference taken within it.",
)


def check_paired_interval(answer: Any) -> Verdict:
    """Exercise 05-3: `paired_interval(right_a, right_b, draws)` -> (low, high)."""
    verdict = INTERVAL.judge(answer)
    if verdict.mistake == "wrong-value" and _differs_from_itself(answer):
        return refused(UNPAIRED.slug, UNPAIRED.message)
    return verdict


def _differs_from_itself(answer: Callable) -> bool:
    """Whether a system compared with itself gets an interval around 0: then its two sides saw different draws."""
    probe = Probe("", lambda f: call(f, RIGHT_A.copy(), RIGHT_A.copy(), DRAWS.copy()))
    same = attempt(probe, answer)
    return isinstance(same, Tensor) and same.shape == (2,) and bool(same[0] < 0 < same[1])


# ---------------------------------------------------------------- 05-4

GAPS = {  # name -> items on which both are right, only a, only b, neither
    "A": (260, 60, 24, 56),
    "B": (330, 11, 1, 58),
    "C": (17, 6, 2, 5),
    "D": (230, 60, 48, 62),
}
REAL_GAPS = frozenset("AB")
LARGEST = ({"A", "C"}, {"C"}, {"A", "C", "D"})


def gaps() -> dict[str, tuple[NDArray, NDArray]]:
    """Four comparisons of two systems: name -> (right_a, right_b), whether each item is right, 0 or 1."""
    return {
        name: (np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)) for name, counts in GAPS.items()
    }


def check_real_gaps(answer: Any) -> Verdict:
    """Exercise 05-4: the names of the gaps whose paired 95 % interval excludes 0."""
    if answer is None:
        return unanswered()
    names = _names(answer)
    if names is None:
        return refused("not-names", "The answer is the names of the real gaps, such as `{'C', 'D'}`.")
    if names == REAL_GAPS:
        return Verdict(
            True, "Right: not the size of a gap decides, but how many items change hands, and how one-sided they do."
        )
    if names == {"A"}:
        return refused(
            "overlapping-bars",
            "You went by two separate bars that overlap. The systems answered the same items, and one gap that looks "
            "small is very one-sided: look at the items on which exactly one of the two is right.",
        )
    if names in LARGEST:
        return refused(
            "largest-gaps", "You went by the size of the gap. On how many items was each measured, and how one-sided?"
        )
    if names == set(GAPS):
        return refused("every-gap", "Not every gap is real: two of these intervals include 0.")
    if wrong := names - REAL_GAPS:
        which = " and ".join(sorted(wrong))
        return refused(
            "not-real", f"The paired interval of {which} includes 0. Compute it, on the same draws for both."
        )
    return refused("missed", "What you name is real, but it is not all. Compute all four intervals.")


def _names(answer: Any) -> set[str] | None:
    """The names in an answer: a string such as "A, B", a collection of names, or {name: whether it is real}."""
    try:
        if isinstance(answer, dict):
            answer = [name for name, real in answer.items() if real]
        if isinstance(answer, str):
            answer = answer.replace(",", " ").replace("and", " ").split()
        names = {name.strip().upper() for name in answer} if isinstance(answer, Iterable) else None
    except Exception:  # parts that are no strings, truth values that are none
        return None
    return names if names is not None and names <= set(GAPS) else None


# ---------------------------------------------------------------- 05-5

SAID = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
TRUE = np.array([1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0])
MANY = 150_000  # so many items that the product of four counts is beyond the largest int64


def counts(predictions: NDArray, labels: NDArray) -> tuple[float, float, float, float]:
    """TP, TN, FP, FN."""
    p, y = (np.asarray(column) == 1 for column in (predictions, labels))
    return tuple(float(part.sum()) for part in (p & y, ~p & ~y, p & ~y, ~p & y))


def by_counts(over: Callable, under: Callable | None = None) -> Callable:
    """A variant from numerator and denominator (by default the right one), both functions of TP, TN, FP, FN."""
    under = under or (lambda tp, tn, fp, fn: math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    return lambda p, y: over(*counts(p, y)) / under(*counts(p, y)) if under(*counts(p, y)) else 0.0


def difference(tp: float, tn: float, fp: float, fn: float) -> float:
    return tp * tn - fp * fn


ONE_CLASS = Mistake(
    "constant-predictions",
    "Right where both columns hold zeros and ones, wrong where one of them is all the same: 0 divided by 0. Where "
    "nothing can correlate, the answer is 0.",
)

MATTHEWS = FunctionExercise(
    right=metrics.matthews,
    probes=[
        Probe("seventeen texts", lambda f: call(f, SAID.copy(), TRUE.copy())),
        Probe("predictions that are mostly wrong", lambda f: call(f, 1 - SAID, TRUE.copy())),
        Probe("predictions that are all 0", lambda f: call(f, np.zeros_like(TRUE), TRUE.copy()), ONE_CLASS),
        Probe("labels that are all 1", lambda f: call(f, SAID.copy(), np.ones_like(SAID)), ONE_CLASS),
        Probe(
            f"{MANY:,} texts",
            lambda f: call(f, np.resize(SAID, MANY), np.resize(TRUE, MANY)),
            Mistake(
                "counts-overflow",
                f"Right on seventeen texts, wrong on {MANY:,}: the product of the four sums is beyond the largest "
                "int64, and NumPy goes on with a wrong number. Make the counts floats (or Python's own integers).",
            ),
        ),
    ],
    mistakes=[
        Mistake("accuracy", "That is the accuracy.", metrics.accuracy),
        Mistake("f1", "That is F1, which never looks at the right *no*, TN.", metrics.f1),
        Mistake(
            "root-forgotten",
            "The product of the four sums stands under a root.",
            by_counts(difference, lambda tp, tn, fp, fn: (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned: right answers count for the correlation, wrong ones against it.",
            by_counts(lambda tp, tn, fp, fn: fp * fn - tp * tn),
        ),
        *(
            Mistake(
                "products-crossed",
                "The wrong pairs are multiplied: right times right, TP · TN, minus wrong times wrong, FP · FN.",
                by_counts(over),
            )
            for over in (
                lambda tp, tn, fp, fn: tp * fp - tn * fn,
                lambda tp, tn, fp, fn: tp * fn - tn * fp,
                lambda tp, tn, fp, fn: tn * fp - tp * fn,
                lambda tp, tn, fp, fn: tn * fn - tp * fp,
            )
        ),
        Mistake(
            "nothing-subtracted",
            "TP · TN alone never gets below 0: nothing is subtracted for the wrong answers.",
            by_counts(lambda tp, tn, fp, fn: tp * tn),
        ),
        Mistake(
            "plus-for-minus",
            "The wrong answers are added, where they should be subtracted.",
            by_counts(lambda tp, tn, fp, fn: tp * tn + fp * fn),
        ),
        Mistake(
            "one-column-only",
            "You divide by what the labels sum to, and not by what the predictions sum to: that is the recall minus "
            "the share of false alarms. A correlation treats both columns alike.",
            by_counts(difference, lambda tp, tn, fp, fn: (tp + fn) * (tn + fp)),
        ),
        Mistake(
            "one-column-only",
            "You divide by what the predictions sum to, and not by what the labels sum to. A correlation treats both "
            "columns alike.",
            by_counts(difference, lambda tp, tn, fp, fn: (tp + fp) * (tn + fn)),
        ),
        Mistake(
            "kappa",
            "That is Cohen's κ, the accuracy beyond chance. The denominator is another one here.",
            by_counts(
                lambda tp, tn, fp, fn: 2 * difference(tp, tn, fp, fn),
                lambda tp, tn, fp, fn: (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn),
            ),
        ),
        Mistake(
            "sign-lost",
            "A system that is mostly wrong has a negative correlation; yours is positive.",
            lambda p, y: abs(metrics.matthews(p, y)),
        ),
    ],
    praise="Right: all four counts matter, and a constant scores 0.",
)


def check_matthews(answer: Any) -> Verdict:
    """Exercise 05-5: `matthews(predictions, labels)`."""
    return MATTHEWS.judge(answer)


# ---------------------------------------------------------------- 05-6

PREDICTED_OF_4 = np.array([0, 1, 2, 1, 0, 2, 1, 1, 0, 2, 1, 0, 0, 1, 2, 0, 0])
TRUE_OF_4 = np.array([0, 1, 2, 0, 0, 2, 1, 2, 0, 1, 1, 0, 0, 1, 1, 0, 2])
RARE = np.where(np.arange(17) == 9, 3, TRUE_OF_4)  # class 3 occurs once, and is never predicted


def shares(predictions: NDArray, labels: NDArray, classes: int) -> tuple[NDArray, NDArray, NDArray]:
    """Precision, recall and F1 of every class, 0 where undefined: (K,) each."""
    p, y = (np.asarray(column)[:, None] == np.arange(classes) for column in (predictions, labels))
    hits, predicted, true = (p & y).sum(0), p.sum(0), y.sum(0)
    return hits / predicted.clip(1), hits / true.clip(1), 2 * hits / (predicted + true).clip(1)


def harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall)


def on_classes(predictions: NDArray, labels: NDArray, *more: Any) -> Callable:
    """A probe's `run` on copies of these columns."""
    return lambda f: call(f, predictions.copy(), labels.copy(), *more)


ABSENT = Mistake(
    "absent-class-skipped",
    "Right while every class is predicted, wrong where one is not (is 0 divided by 0?). The F1 of such a class is 0, "
    "and it counts: that is what a macro-average is for.",
)

MACRO_F1 = FunctionExercise(
    right=lambda p, y, k: shares(p, y, k)[2].mean(),
    probes=[
        Probe("three classes", on_classes(PREDICTED_OF_4, TRUE_OF_4, 3)),
        Probe("a class that is never predicted", on_classes(PREDICTED_OF_4, RARE, 4), ABSENT),
        Probe(
            "predictions that are all 0",
            on_classes(np.zeros_like(TRUE_OF_4), TRUE_OF_4, 3),
            Mistake(
                "constant-predictions",
                "Wrong where all predictions are one class: the other classes' F1 is 0, and they still count.",
            ),
        ),
        Probe("a class that is neither predicted nor true", on_classes(PREDICTED_OF_4, TRUE_OF_4, 5), ABSENT),
    ],
    mistakes=[
        Mistake(
            "micro-average",
            "That is the accuracy: pooling the counts of all classes before dividing (the micro-average) gives just "
            "that when each item has one class.",
            lambda p, y, k: metrics.accuracy(p, y),
        ),
        Mistake(
            "weighted-average",
            "Each class counts by its size (the weighted average), so a rare class hardly matters. Macro means that "
            "all classes count the same.",
            lambda p, y, k: np.average(shares(p, y, k)[2], weights=np.bincount(y, minlength=k)),
        ),
        Mistake(
            "averaged-too-early",
            "Precision and recall are averaged over the classes first, and F1 made of the two averages. Make each "
            "class's F1, then average.",
            lambda p, y, k: harmonic(shares(p, y, k)[0].mean(), shares(p, y, k)[1].mean()),
        ),
        Mistake(
            "one-class-only",
            "That is the F1 of class 1 alone. Every class takes its turn as the positive one.",
            lambda p, y, k: metrics.f1(p, y),
        ),
        Mistake("macro-precision", "That is the mean precision.", lambda p, y, k: shares(p, y, k)[0].mean()),
        Mistake("macro-recall", "That is the mean recall.", lambda p, y, k: shares(p, y, k)[1].mean()),
        Mistake(
            "absent-class-skipped",
            "A class that is never predicted is left out of the mean. Its F1 is 0, and it counts: that is what a "
            "macro-average is for.",
            lambda p, y, k: shares(p, y, k)[2][np.unique(p)].mean(),
        ),
        Mistake(
            "absent-class-skipped",
            "The mean runs over the classes that occur, not over all `classes`.",
            lambda p, y, k: shares(p, y, k)[2][np.union1d(p, y)].mean(),
        ),
    ],
    praise="Right: every class counts the same, the rare one too.",
)


def check_macro_f1(answer: Any) -> Verdict:
    """Exercise 05-6: `macro_f1(predictions, labels, classes)`."""
    return MACRO_F1.judge(answer)


# ---------------------------------------------------------------- 05-7

VALUES = odd_numbers(9, seed=41).numpy().round(3)
SCORES = (0.6 * VALUES**3 + odd_numbers(9, seed=42).numpy()).round(3)
TIED = np.array([2.0, 3.5, 3.5, 0.0, 5.0, 3.5, 2.0, 1.0, 5.0])

NO_ORDER = Mistake(
    "constant-predictions",
    "Right where there is an order, wrong where all predictions (or all scores) are equal: 0 divided by 0. Without an "
    "order the correlation is defined as 0.",
)


def correlation(x: NDArray, y: NDArray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0


def first_come(values: NDArray) -> NDArray:
    """Ranks from 0, equal values in the order in which they stand."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def lowest(values: NDArray) -> NDArray:
    return (values[:, None] > values).sum(1)


def highest(values: NDArray) -> NDArray:
    return (values[:, None] >= values).sum(1)


def dense(values: NDArray) -> NDArray:
    return np.unique(values, return_inverse=True)[1]


def squared_differences(x: NDArray, y: NDArray) -> float:
    """1 − 6 Σ d² / (N (N² − 1)): equal to ρ only if there are no ties."""
    d, n = metrics.average_ranks(x) - metrics.average_ranks(y), len(x)
    return 1 - 6 * (d**2).sum() / (n * (n * n - 1))


def kendall(x: NDArray, y: NDArray) -> float:
    signs = [np.sign(v[:, None] - v) for v in (x, y)]
    under = math.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return (signs[0] * signs[1]).sum() / under if under else 0.0


def ranked(rank: Callable[[NDArray], NDArray]) -> Callable:
    """A variant from a way of ranking."""
    return lambda x, y: correlation(rank(x), rank(y))


SPEARMAN = FunctionExercise(
    right=metrics.spearman,
    probes=[
        Probe("nine different values", on_classes(VALUES, SCORES)),
        Probe("scores with ties", on_classes(VALUES, TIED)),
        Probe("ties on both sides", on_classes(np.roll(TIED, 2), TIED)),
        Probe("predictions that are all equal", on_classes(np.full(9, 2.5), TIED), NO_ORDER),
        Probe("scores that are all equal", on_classes(VALUES, np.full(9, 2.5)), NO_ORDER),
    ],
    mistakes=[
        Mistake(
            "pearson",
            "That is the correlation of the values (Pearson). Spearman's is that of their ranks.",
            correlation,
        ),
        Mistake(
            "order-for-ranks",
            "`argsort` says which item comes first, second …; the rank says at which place each item is. Those are "
            "two different lists.",
            ranked(np.argsort),
        ),
        Mistake(
            "one-side-ranked",
            "Only the predictions are ranked; the scores enter with their values.",
            lambda x, y: correlation(metrics.average_ranks(x), y),
        ),
        Mistake(
            "one-side-ranked",
            "Only the scores are ranked; the predictions enter with their values.",
            lambda x, y: correlation(x, metrics.average_ranks(y)),
        ),
        Mistake("kendall", "That is Kendall's τ, which counts pairs; asked for is Spearman's ρ.", kendall),
        Mistake(
            "squared-differences",
            "1 − 6 Σd²/(N(N²−1)) equals ρ only without ties. With ties, take the correlation of the ranks.",
            squared_differences,
        ),
        Mistake(
            "ties-by-position",
            "Equal values get different ranks, by where they happen to stand: shuffling the items would change the "
            "score. Let them share the mean of their ranks.",
            ranked(first_come),
        ),
        Mistake(
            "ties-by-position",
            "Equal values get different ranks, in the order in which `argsort` happens to put them. Let them share the "
            "mean of their ranks.",
            ranked(lambda values: np.argsort(np.argsort(values))),  # not stable: other ranks than `first_come`
        ),
        Mistake(
            "ties-lowest", "Equal values all get the lowest of their ranks; let them share the mean.", ranked(lowest)
        ),
        Mistake(
            "ties-highest", "Equal values all get the highest of their ranks; let them share the mean.", ranked(highest)
        ),
        Mistake(
            "ties-dense",
            "Equal values share one rank and the next value gets the next number (dense ranks). Three equal values use "
            "up three ranks, and share their mean.",
            ranked(dense),
        ),
    ],
    praise="Right: ties share their mean rank, and no order scores 0.",
)


def check_spearman(answer: Any) -> Verdict:
    """Exercise 05-7: `spearman(predictions, scores)`."""
    return SPEARMAN.judge(answer)


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, dict[str, dict[str, Any]]]:
    """Three sick runs of a very small random BERT (1 layer × 64) on 200 sentiment texts, for `plots.broken_runs`."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

    from peft_helpers import backbones, tasks

    task = tasks.load("sentiment", labels=200)
    tokenizer = AutoTokenizer.from_pretrained(backbones.find("pocket-bert"))
    data = {}
    for split in ("train", "dev"):
        rows = task.splits[split]
        made = tokenizer(list(rows["text"]), padding=True, truncation=True, max_length=20, return_tensors="pt")
        data[split] = made["input_ids"], made["attention_mask"], torch.tensor(rows["label"])
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, num_labels=2, **size)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        headless, wild, tame = BertModel(config), *(BertForSequenceClassification(config) for _ in range(2))
        runs = {
            "05-a": _sick_run(lambda ids, mask: headless(ids, mask).pooler_output, headless, data, rate=2e-3),
            "05-c": _sick_run(lambda ids, mask: wild(ids, mask).logits, wild, data, rate=5e-2),
        }
        _sick_run(lambda ids, mask: tame(ids, mask).logits, tame, data, rate=2e-3, steps=60)
        ids, mask, labels = data["dev"]
        tame.train()
        with torch.no_grad():
            jitter = [(tame(ids, mask).logits.argmax(-1) == labels).double().mean().item() for _ in range(20)]
    return runs | {"05-d": {"accuracy": {"dev": jitter}}}


def _sick_run(
    logits: Callable, model: nn.Module, data: dict[str, tuple[Tensor, Tensor, Tensor]], rate: float, steps: int = 80
) -> dict[str, dict[str, Any]]:
    """Train `model` by AdamW at a constant rate; the loss of every step, and both splits' accuracy now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    ids, mask, labels = data["train"]
    looks, losses = {"train": [], "dev": []}, []
    for step in range(steps + 1):
        if step % 20 == 0:
            model.eval()
            with torch.no_grad():
                for split, (x, m, y) in data.items():
                    looks[split].append((logits(x, m).argmax(-1) == y).double().mean().item())
        model.train()
        rows = torch.randint(len(labels), (32,))
        loss = F.cross_entropy(logits(ids[rows], mask[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    at = list(range(0, steps + 1, 20))
    return {"loss": {"train": losses}, "accuracy": {split: (at, seen) for split, seen in looks.items()}}

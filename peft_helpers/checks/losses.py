"""The exercises of lesson 01, loss functions.

01-1  `softmax(logits, temperature)`: (B, K) -> (B, K), softmax of logits / temperature, safe at ±1e4 (6 min)
      checker: `check_softmax`
      mistakes: overflow, wrong-axis, whole-matrix, global-maximum, no-exponential, sigmoid, logarithm,
        temperature-ignored, temperature-multiplied, temperature-after-softmax, keepdim-missing

01-2  `cross_entropy(logits, labels)`: (N, K), (N,) -> mean over the rows whose label is not −100, safe at ±1e4 (10
      min)
      checker: `check_cross_entropy`
      mistakes: double-softmax, wrong-axis, sum-for-mean, no-mean, overflow, wrong-sign, no-normalizer,
        probability-without-log, log-of-mean, base-2, mean-over-entries, padding-inside-mean, padding-as-class,
        padding-not-handled, every-label

01-3  `smoothed_cross_entropy(logits, labels, smoothing)`: mean, targets (1 − ε)·one-hot + ε/K (7 min)
      checker: `check_smoothed_cross_entropy`
      mistakes: smoothing-ignored, missing-smoothing-term, uniform-term-not-averaged, other-classes-only,
        smoothing-swapped, term-added-on-top, sum-for-mean, overflow

01-4  `cross_entropy_gradient(logits, labels)`: by hand, of the mean loss: (B, K) (7 min)
      checker: `check_cross_entropy_gradient`
      mistakes: missing-batch-division, divided-by-entries, wrong-sign, one-hot-forgotten,
        gradient-by-probabilities, sigmoid-factor, wrong-axis, overflow

01-5  `binary_cross_entropy(logits, targets, pos_weight)`: (B,), (B,), number -> mean, safe at ±1e4 (8 min)
      checker: `check_binary_cross_entropy`
      mistakes: overflow, double-sigmoid, missing-negative-term, pos-weight-ignored, pos-weight-on-both,
        pos-weight-on-negatives, wrong-sign, targets-swapped, sum-for-mean

01-6  `regression_loss(predictions, targets)`: (B, 1), (B,) -> (mean squared error, its gradient (B, 1)) (6 min)
      checker: `check_regression_loss`
      mistakes: broadcast, half, sum-for-mean, absolute-error, root, gradient-factor-two, gradient-not-averaged,
        gradient-sign

01-7  a number: labels 70 % / 20 % / 10 %; the loss of the best constant predictor (4 min)
      checker: `check_constant_predictor`
      mistakes: uniform, bits, majority-only, unweighted-mean, error-rate, wrong-sign, zero
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peft_helpers import losses
from peft_helpers.checks.framework import (
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)

LOGITS = odd_numbers(5, 4, seed=1)
LABELS = torch.tensor([2, 0, 3, 1, 2])
PADDED = torch.tensor([2, -100, 3, 1, -100])
EXTREME = torch.tensor(
    [[1e4, -1e4, 3.0, 0.5], [-1e4, -9.9e3, -1.1e4, -1.2e4], [7.0, 1e4, 1e4, -2.0]], dtype=torch.float64
)
EXTREME_LABELS = torch.tensor([1, 0, 2])

OVERFLOW = Mistake(
    "overflow",
    "Right on ordinary logits, wrong on logits of ±10,000: exp overflows to inf, or a probability rounds to 0 and its "
    "logarithm is −inf (adding 1e-12 only hides that). What may be subtracted from all logits of a row at no cost?",
)


def picked(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Each row's entry at its label: (N, K), (N,) -> (N,)."""
    return log_probabilities.gather(-1, labels[:, None])[:, 0]


# ---------------------------------------------------------------- 01-1


def naive_softmax(logits: Tensor, dim: int = -1) -> Tensor:
    return logits.exp() / logits.exp().sum(dim, keepdim=True)


def softmax_by_global_maximum(logits: Tensor) -> Tensor:
    return naive_softmax(logits - logits.max())


SOFTMAX = FunctionExercise(
    right=lambda z, temperature: losses.softmax(z / temperature),
    probes=[
        Probe("temperature 1", lambda f: call(f, LOGITS, 1.0)),
        Probe("temperature 2.5", lambda f: call(f, LOGITS, 2.5)),
        Probe("logits of ±10,000", lambda f: call(f, EXTREME, 1.0), OVERFLOW),
    ],
    mistakes=[
        Mistake(
            "overflow",
            "Right on ordinary logits, but exp(10,000) is inf and inf/inf is NaN. Adding a constant to all logits of a "
            "row does not change its softmax: which constant keeps exp from overflowing?",
            lambda z, temperature: naive_softmax(z / temperature),
        ),
        Mistake(
            "global-maximum",
            "The largest logit of the whole batch is subtracted. A row far below it underflows to 0/0: each row needs "
            "its own maximum (keepdim=True).",
            lambda z, temperature: softmax_by_global_maximum(z / temperature),
        ),
        Mistake(
            "wrong-axis",
            "The columns sum to 1, not the rows: classes are in the last dimension, so that is where to normalize.",
            lambda z, temperature: losses.softmax(z / temperature, dim=0),
        ),
        Mistake(
            "wrong-axis",
            "The maximum is taken of each row, but the sum over each column: both belong to the classes.",
            lambda z, temperature: naive_softmax((z - z.amax(-1, keepdim=True)) / temperature, dim=0),
        ),
        Mistake(
            "whole-matrix",
            "All entries together sum to 1. Each row is a distribution of its own: sum over one dimension only.",
            lambda z, temperature: losses.softmax((z / temperature).flatten()).view_as(z),
        ),
        Mistake(
            "keepdim-missing",
            "Summing (or taking the maximum) over the classes drops their dimension, and (B,) does not fit (B, K): "
            "keep it with keepdim=True.",
            raises=("must match the size", "could not be broadcast"),
        ),
        Mistake(
            "no-exponential",
            "The logits are divided by their sum without exp, so a negative logit gives a negative 'probability'.",
            lambda z, temperature: (z / temperature) / (z / temperature).sum(-1, keepdim=True),
        ),
        Mistake(
            "sigmoid",
            "That is the sigmoid of every logit on its own: the rows do not sum to 1.",
            lambda z, temperature: losses.sigmoid(z / temperature),
        ),
        Mistake(
            "logarithm",
            "Those are log-probabilities (log-softmax). Asked for are the probabilities.",
            lambda z, temperature: losses.log_softmax(z / temperature),
        ),
        Mistake(
            "temperature-ignored",
            "Right at temperature 1, but the temperature changes nothing.",
            lambda z, temperature: losses.softmax(z),
        ),
        Mistake(
            "temperature-multiplied",
            "A higher temperature makes your distribution sharper; it should make it flatter.",
            lambda z, temperature: losses.softmax(z * temperature),
        ),
        Mistake(
            "temperature-after-softmax",
            "The probabilities are divided by the temperature, and no longer sum to 1: it acts on the logits.",
            lambda z, temperature: losses.softmax(z) / temperature,
        ),
    ],
    praise="Right: the rows sum to 1, logits of ±10,000 included.",
)


def check_softmax(answer: Any) -> Verdict:
    """Exercise 01-1: `softmax(logits, temperature)`."""
    return SOFTMAX.judge(answer)


# ---------------------------------------------------------------- 01-2


def mean_at_labels(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """−mean of the labels' log-probabilities over the rows that are no padding: where most variants differ is above."""
    kept = labels != -100
    return -picked(log_probabilities[kept], labels[kept]).mean()


def padding_inside_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return losses.cross_entropy(logits, labels, reduction="sum") / len(labels)


CROSS_ENTROPY = FunctionExercise(
    right=losses.cross_entropy,
    probes=[
        Probe("ordinary logits", lambda f: call(f, LOGITS, LABELS)),
        Probe(
            "a batch with padding",
            lambda f: call(f, LOGITS, PADDED),
            Mistake(
                "padding-not-handled",
                "Right without padding, wrong with it: rows whose label is −100 must count neither in the sum nor in "
                "the mean, and −100 must never be used as an index.",
            ),
        ),
        Probe("logits of ±10,000", lambda f: call(f, EXTREME, EXTREME_LABELS), OVERFLOW),
    ],
    mistakes=[
        Mistake(
            "double-softmax",
            "Softmax is applied twice: the loss takes logits, but yours are already probabilities when it normalizes "
            "them again. No error appears, but even a perfect classifier stays far above 0.",
            lambda z, y: mean_at_labels(losses.log_softmax(losses.softmax(z)), y),
        ),
        Mistake(
            "wrong-axis",
            "The softmax runs over the batch (dim 0) instead of over the classes (the last dimension).",
            lambda z, y: mean_at_labels(losses.log_softmax(z, dim=0), y),
        ),
        Mistake(
            "wrong-axis",
            "The maximum is taken of each row, but the sum of exponentials over each column: both are over classes.",
            lambda z, y: mean_at_labels(losses.log_softmax(z - z.amax(-1, keepdim=True), dim=0), y),
        ),
        Mistake(
            "sum-for-mean",
            "That is the sum over the rows; asked for is the mean. A sum grows with the batch, and the step with it.",
            lambda z, y: losses.cross_entropy(z, y, reduction="sum"),
        ),
        Mistake(
            "every-label",
            "`log_p[:, labels]` gives every row at every label, N × N numbers. Each row counts at its own label "
            "only: index the rows, too.",
            lambda z, y: -losses.log_softmax(z[y != -100])[:, y[y != -100]].mean(),
        ),
        Mistake(
            "no-mean",
            "That is one loss a row; asked for is one number, their mean.",
            lambda z, y: losses.cross_entropy(z, y, reduction="none"),
        ),
        Mistake(
            "no-mean",
            "That is one loss a row; asked for is one number, their mean.",
            lambda z, y: losses.cross_entropy(z[y != -100], y[y != -100], reduction="none"),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned: log-probabilities are negative, the loss is positive.",
            lambda z, y: -losses.cross_entropy(z, y),
        ),
        Mistake(
            "no-normalizer",
            "The label's raw logit is used as if it were a log-probability: the log of the sum of exponentials is "
            "missing.",
            mean_at_labels,
        ),
        Mistake(
            "probability-without-log",
            "The probabilities are averaged without the logarithm; that is no negative log-likelihood.",
            lambda z, y: 1 + mean_at_labels(losses.softmax(z), y),
        ),
        Mistake(
            "probability-without-log",
            "The probabilities are averaged without the logarithm; that is no negative log-likelihood.",
            lambda z, y: mean_at_labels(losses.softmax(z), y),
        ),
        Mistake(
            "log-of-mean",
            "The logarithm is taken of the mean probability. Likelihoods multiply, so take each row's log first.",
            lambda z, y: -(-mean_at_labels(losses.softmax(z), y)).log(),
        ),
        Mistake(
            "base-2",
            "That is in bits (log2); the loss is in nats, the natural logarithm.",
            lambda z, y: losses.cross_entropy(z, y) / math.log(2),
        ),
        Mistake(
            "mean-over-entries",
            "The mean runs over all N × K entries (of one-hot × log p), so the loss is K times too small.",
            lambda z, y: losses.cross_entropy(z, y) / z.shape[-1],
        ),
        Mistake(
            "padding-inside-mean",
            "The padding's losses are zeroed, but the mean still divides by all rows: the more padding, the smaller "
            "the loss. Divide by the number of real labels.",
            padding_inside_mean,
        ),
        Mistake(
            "padding-as-class",
            "The padding is counted as if its label were a class. Rows with label −100 must not count at all.",
            lambda z, y: losses.cross_entropy(z, y.clamp(min=0)),
        ),
    ],
    praise="Right: logits in, the mean over real labels out, and logits of ±10,000 do no harm.",
)


def check_cross_entropy(answer: Any) -> Verdict:
    """Exercise 01-2: `cross_entropy(logits, labels)`, −100 marks padding."""
    return CROSS_ENTROPY.judge(answer)


# ---------------------------------------------------------------- 01-3


def smoothed(logits: Tensor, labels: Tensor, own: float, uniform: float) -> Tensor:
    """own × the labels' loss + uniform × the mean loss over all classes; the variants differ in the two factors."""
    logs = losses.log_softmax(logits)
    return -(own * picked(logs, labels) + uniform * logs.mean(-1)).mean()


def smoothed_over_the_others(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    logs, others = losses.log_softmax(logits), logits.shape[-1] - 1
    own = picked(logs, labels)
    return -((1 - smoothing) * own + smoothing / others * (logs.sum(-1) - own)).mean()


SMOOTHED = FunctionExercise(
    right=lambda z, y, smoothing: losses.cross_entropy(z, y, label_smoothing=smoothing),
    probes=[
        Probe("smoothing 0.2", lambda f: call(f, LOGITS, LABELS, 0.2)),
        Probe("smoothing 0", lambda f: call(f, LOGITS, LABELS, 0.0)),
        Probe("logits of ±10,000", lambda f: call(f, EXTREME, EXTREME_LABELS, 0.1), OVERFLOW),
    ],
    mistakes=[
        Mistake(
            "smoothing-ignored",
            "That is the plain cross-entropy: the smoothing changes nothing.",
            lambda z, y, e: smoothed(z, y, 1, 0),
        ),
        Mistake(
            "missing-smoothing-term",
            "The label's share is reduced to 1 − ε, but the ε that was taken away goes nowhere: the targets must still "
            "sum to 1. Which classes receive it?",
            lambda z, y, e: smoothed(z, y, 1 - e, 0),
        ),
        Mistake(
            "uniform-term-not-averaged",
            "Every class receives ε; ε is to be shared among the K classes, or the targets sum to more than 1.",
            lambda z, y, e: smoothed(z, y, 1 - e, e * z.shape[-1]),
        ),
        Mistake(
            "other-classes-only",
            "ε is shared among the K − 1 other classes. Here (and in torch) the mixture is with the uniform "
            "distribution over all K, the label included.",
            smoothed_over_the_others,
        ),
        Mistake(
            "smoothing-swapped",
            "The label receives ε and the uniform part 1 − ε: the two factors are swapped.",
            lambda z, y, e: smoothed(z, y, e, 1 - e),
        ),
        Mistake(
            "term-added-on-top",
            "The uniform term is added, but the label keeps its full share of 1: the targets sum to 1 + ε.",
            lambda z, y, e: smoothed(z, y, 1, e),
        ),
        Mistake(
            "sum-for-mean",
            "That is the sum over the rows; asked for is the mean.",
            lambda z, y, e: smoothed(z, y, 1 - e, e) * len(y),
        ),
    ],
    praise="Right. Note that its minimum is not 0 but the entropy of the smoothed targets.",
)


def check_smoothed_cross_entropy(answer: Any) -> Verdict:
    """Exercise 01-3: `smoothed_cross_entropy(logits, labels, smoothing)`."""
    return SMOOTHED.judge(answer)


# ---------------------------------------------------------------- 01-4


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.eye(classes, dtype=torch.float64)[labels]


def residual(logits: Tensor, labels: Tensor) -> Tensor:
    """p − y, (B, K)."""
    return losses.cross_entropy_gradient(logits, labels, reduction="sum")


GRADIENT = FunctionExercise(
    right=losses.cross_entropy_gradient,
    probes=[
        Probe("ordinary logits", lambda f: call(f, LOGITS, LABELS)),
        Probe("logits of ±10,000", lambda f: call(f, EXTREME, EXTREME_LABELS), OVERFLOW),
    ],
    mistakes=[
        Mistake(
            "missing-batch-division",
            "That is each row's own gradient, p − y. The loss is a mean over B rows: what does that do to every "
            "derivative?",
            residual,
        ),
        Mistake(
            "divided-by-entries",
            "Divided by B × K: the mean runs over the rows only (`.mean()` of the whole matrix does that).",
            lambda z, y: residual(z, y) / z.numel(),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned. Where the model gives its label too little, the logit must rise, so its gradient is "
            "negative.",
            lambda z, y: -residual(z, y) / len(y),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned (and the division by the batch is missing).",
            lambda z, y: -residual(z, y),
        ),
        Mistake(
            "one-hot-forgotten",
            "Those are the probabilities alone: the targets have no influence on your gradient.",
            lambda z, y: losses.softmax(z) / len(y),
        ),
        Mistake(
            "one-hot-forgotten",
            "Those are the probabilities alone: the targets have no influence on your gradient.",
            lambda z, y: losses.softmax(z),
        ),
        Mistake(
            "gradient-by-probabilities",
            "That is the derivative by the probabilities, −y/p. Asked for is the one by the logits: the chain rule "
            "goes on through the softmax.",
            lambda z, y: -one_hot(y, z.shape[-1]) / losses.softmax(z) / len(y),
        ),
        Mistake(
            "sigmoid-factor",
            "There is a factor p(1 − p) too many. It belongs to a squared error on probabilities; with cross-entropy "
            "the logarithm cancels it.",
            lambda z, y: residual(z, y) * losses.softmax(z) * (1 - losses.softmax(z)) / len(y),
        ),
        Mistake(
            "wrong-axis",
            "The softmax runs over the batch (dim 0) instead of over the classes.",
            lambda z, y: (losses.softmax(z, dim=0) - one_hot(y, z.shape[-1])) / len(y),
        ),
    ],
    praise="Right: what the model says minus what is so, shared by the batch.",
)


def check_cross_entropy_gradient(answer: Any) -> Verdict:
    """Exercise 01-4: `cross_entropy_gradient(logits, labels)`."""
    return GRADIENT.judge(answer)


# ---------------------------------------------------------------- 01-5

BINARY_LOGITS, BINARY_TARGETS = odd_numbers(6, seed=2), torch.tensor([1.0, 0, 1, 1, 0, 0], dtype=torch.float64)
BINARY_EXTREME = torch.tensor([1e4, -1e4, 1e4, -1e4, 0.3, 40.0], dtype=torch.float64)


def binary(x: Tensor, positive: Tensor | float, negative: Tensor | float) -> Tensor:
    """mean of positive · softplus(−x) + negative · softplus(x); the variants differ in the two factors."""
    return (positive * losses.softplus(-x) + negative * losses.softplus(x)).mean()


BINARY = FunctionExercise(
    right=lambda x, y, c: binary(x, c * y, 1 - y),
    probes=[
        Probe("pos_weight 1", lambda f: call(f, BINARY_LOGITS, BINARY_TARGETS, 1.0)),
        Probe("pos_weight 2.5", lambda f: call(f, BINARY_LOGITS, BINARY_TARGETS, 2.5)),
        Probe("logits of ±10,000", lambda f: call(f, BINARY_EXTREME, BINARY_TARGETS, 2.5), OVERFLOW),
    ],
    mistakes=[
        Mistake(
            "double-sigmoid",
            "The sigmoid is applied twice: what goes into the logarithm is σ(σ(x)).",
            lambda x, y, c: binary(losses.sigmoid(x), c * y, 1 - y),
        ),
        Mistake(
            "missing-negative-term",
            "Only the positives are counted. A target of 0 costs too, if the model says yes.",
            lambda x, y, c: binary(x, c * y, 0),
        ),
        Mistake(
            "pos-weight-ignored",
            "Right for pos_weight 1, but another pos_weight changes nothing.",
            lambda x, y, c: binary(x, y, 1 - y),
        ),
        Mistake(
            "pos-weight-on-both",
            "pos_weight multiplies the whole loss. It weighs the positives only, against the negatives.",
            lambda x, y, c: binary(x, c * y, c * (1 - y)),
        ),
        Mistake(
            "pos-weight-on-negatives",
            "pos_weight sits on the term of the negatives.",
            lambda x, y, c: binary(x, y, c * (1 - y)),
        ),
        Mistake(
            "wrong-sign",
            "The sign is turned: logarithms of probabilities are negative, the loss is positive.",
            lambda x, y, c: -binary(x, c * y, 1 - y),
        ),
        Mistake(
            "targets-swapped",
            "Positives and negatives are swapped: σ(x) is the probability of target 1.",
            lambda x, y, c: binary(x, c * (1 - y), y),
        ),
        Mistake(
            "sum-for-mean",
            "That is the sum over the batch; asked for is the mean.",
            lambda x, y, c: binary(x, c * y, 1 - y) * len(x),
        ),
    ],
    praise="Right, from the logit and without overflow.",
)


def check_binary_cross_entropy(answer: Any) -> Verdict:
    """Exercise 01-5: `binary_cross_entropy(logits, targets, pos_weight)`."""
    return BINARY.judge(answer)


# ---------------------------------------------------------------- 01-6

PREDICTIONS, VALUES = odd_numbers(5, 1, seed=3), odd_numbers(5, seed=4)


def error(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions - targets[:, None]


def regression(loss_of: Callable, gradient_of: Callable) -> Callable:
    """A variant from two functions of the errors (B, 1)."""
    return lambda p, t: (loss_of(error(p, t)), gradient_of(error(p, t)))


def squares(e: Tensor) -> Tensor:
    return (e**2).mean()


def slope(e: Tensor) -> Tensor:
    return 2 * e / len(e)


REGRESSION = FunctionExercise(
    right=regression(squares, slope),
    probes=[
        Probe("the loss", lambda f: call(f, PREDICTIONS, VALUES, outputs=2)[0]),
        Probe("the gradient", lambda f: call(f, PREDICTIONS, VALUES, outputs=2)[1]),
    ],
    mistakes=[
        Mistake(
            "broadcast",
            "(B, 1) minus (B,) is not B differences but a B × B matrix of all pairs: torch broadcasts silently. Bring "
            "both to one shape first.",
            lambda p, t: (((p - t) ** 2).mean(), 2 * (p - t) / (p - t).numel()),
        ),
        Mistake(
            "broadcast",
            "The gradient is a B × B matrix: (B, 1) minus (B,) broadcasts. Bring both to one shape first.",
            lambda p, t: (((p - t) ** 2).mean(), 2 * (p - t) / len(p)),
        ),
        Mistake(
            "half",
            "There is a factor ½ before the square. Handy on paper, but the mean squared error has none.",
            regression(lambda e: squares(e) / 2, lambda e: e / len(e)),
        ),
        Mistake(
            "sum-for-mean",
            "That is the sum over the batch; asked for is the mean.",
            regression(lambda e: (e**2).sum(), lambda e: 2 * e),
        ),
        Mistake(
            "absolute-error",
            "That is the mean absolute error; asked for is the squared one.",
            regression(lambda e: e.abs().mean(), lambda e: e.sign() / len(e)),
        ),
        Mistake(
            "root",
            "That is the root of the mean squared error; leave the root out.",
            regression(lambda e: squares(e).sqrt(), slope),
        ),
        Mistake(
            "gradient-factor-two",
            "The loss is right; in the gradient the square's derivative lacks its factor.",
            regression(squares, lambda e: e / len(e)),
        ),
        Mistake(
            "gradient-not-averaged",
            "The loss is right; the gradient forgets that the loss is a mean.",
            regression(squares, lambda e: 2 * e),
        ),
        Mistake(
            "gradient-sign",
            "The loss is right; the gradient's sign is turned: it must be positive where the prediction is too high.",
            regression(squares, lambda e: -slope(e)),
        ),
    ],
    praise="Right, and no broadcasting.",
)


def check_regression_loss(answer: Any) -> Verdict:
    """Exercise 01-6: `regression_loss(predictions, targets)` -> (loss, gradient)."""
    return REGRESSION.judge(answer)


# ---------------------------------------------------------------- 01-7

SHARES = (0.7, 0.2, 0.1)

CONSTANT_PREDICTOR = NumberExercise(
    right=-sum(p * math.log(p) for p in SHARES),
    mistakes=[
        WrongNumber(
            math.log(3),
            "uniform",
            "That is ln 3, the loss of guessing all three alike. Knowing the shares, one can do better.",
        ),
        WrongNumber(
            -sum(p * math.log2(p) for p in SHARES),
            "bits",
            "That is the entropy in bits; losses are in nats (natural logarithm).",
        ),
        WrongNumber(
            -math.log(0.7),
            "majority-only",
            "That is −ln 0.7, the loss on the commonest class only. The other 30 % cost more each.",
        ),
        WrongNumber(
            -sum(math.log(p) for p in SHARES) / 3,
            "unweighted-mean",
            "The three losses −ln p are averaged as if each class were equally common; weigh each by its share.",
        ),
        WrongNumber(0.3, "error-rate", "That is the error rate of the majority guess: a metric, not the loss."),
        WrongNumber(0.7, "error-rate", "That is the accuracy of the majority guess: a metric, not the loss."),
        WrongNumber(
            sum(p * math.log(p) for p in SHARES),
            "wrong-sign",
            "The size is right, the sign is not: a cross-entropy is never negative.",
        ),
        WrongNumber(
            0.0,
            "zero",
            "A loss of 0 needs certainty and being right each time; a constant predictor can't be.",
        ),
    ],
    praise="Right: the entropy of the labels. A model that stays there has learned the shares and nothing else.",
)


def check_constant_predictor(answer: Any) -> Verdict:
    """Exercise 01-7: the loss of the best constant predictor for labels 70 % / 20 % / 10 %."""
    return CONSTANT_PREDICTOR.judge(answer)

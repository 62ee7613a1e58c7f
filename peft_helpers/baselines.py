"""The lines that every comparison shows: a bag of words, and the frozen backbone with a tuned linear probe.

What fine-tuning reaches means little until it is held against these. (The third line, the majority class, is
`evaluation.majority_score`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peft_helpers.evaluation import score

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from peft_helpers.tasks import Task

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # C of the logistic regression and 1/alpha of the ridge that are tried
PROBE_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # standardized features want more regularization
FOLDS = 5
WORDS = r"(?u)\w+(?:'\w+)?|[!?]"  # keeps short words, contractions and exclamations, which carry sentiment
POOLINGS = ("own", "cls", "mean")


@dataclass(frozen=True)
class Baseline:
    """A simple system's result, to hold others against.

    Attributes:
        name: what it is.
        split, metric, score: where it was judged, how, and the result in natural units.
        predictions: on the split, for paired comparisons: classes, or scores.
        labels: how many labeled examples it used, tuning included.
        settings: what the tuning chose.
    """

    name: str
    split: str
    metric: str
    score: float
    predictions: list[float]
    labels: int
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.name}: {self.metric} {self.score:.3f} on {self.split}, {self.labels:,} labels, {self.settings}"


def bag_of_words(task: Task, count: int | None = None, seed: int = 0, split: str = "test") -> Baseline:
    """Word and word-pair TF-IDF with logistic regression (classes) or ridge regression (scores).

    Of a pair of texts the model sees |TF-IDF₁ − TF-IDF₂|, the cosine of the two, the share of words in common and the
    ratio of the lengths. The strength of the regularization is chosen by cross-validation among the training rows, so
    no other labels are used.

    Args:
        task: as `tasks.load` gives it.
        count: train on so many examples (`task.subset(count, seed)`); by default on all.
        seed: draws that subset and the folds.
        split: where to predict.

    Raises:
        ValueError: an unknown split, fewer than 2 training examples, or only one class among them.
    """
    if split not in task.splits:
        raise ValueError(f"{task.name} has no split {split!r}; it has {', '.join(task.splits)}")
    texts, labels = _texts_and_labels(task, (task if count is None else task.subset(count, seed)).splits["train"])
    if len(labels) < 2 or (task.kind == "classification" and len(set(labels)) < 2):
        raise ValueError(f"{len(labels)} training examples of {len(set(labels))} class(es) are too few to learn from")

    def folded(train: NDArray, held_out: NDArray) -> tuple[csr_matrix, csr_matrix]:
        features = _Features([texts[i] for i in train])
        return features([texts[i] for i in train]), features([texts[i] for i in held_out])

    strength = _choose_strength(task, labels, folded, STRENGTHS, seed)
    features = _Features(texts)
    model = _linear_model(task.kind, strength).fit(features(texts), labels)
    asked, truth = _texts_and_labels(task, task.splits[split])
    predictions = model.predict(features(asked)).tolist()
    settings = {"C": strength} if task.kind == "classification" else {"alpha": 1 / strength}
    reached = score(task.metric, predictions, truth)
    return Baseline("bag of words", split, task.metric, reached, predictions, len(labels), settings)


def _texts_and_labels(task: Task, rows: Sequence[dict[str, Any]]) -> tuple[list[tuple[str, ...]], NDArray]:
    pairs = [(tuple(row[column] for column in task.text_columns), row["label"]) for row in rows]
    return [texts for texts, _ in pairs], np.array([label for _, label in pairs])


def _linear_model(kind: str, strength: float):
    from sklearn.linear_model import LogisticRegression, Ridge

    return LogisticRegression(C=strength, max_iter=1000) if kind == "classification" else Ridge(alpha=1 / strength)


def _choose_strength(task: Task, labels: NDArray, folded: Callable, strengths: Sequence[float], seed: int) -> float:
    """The strength with the best mean score over the folds (of equals the smallest); 1 where folds are impossible."""
    from sklearn.model_selection import KFold, StratifiedKFold

    classes = task.kind == "classification"
    folds = min(FOLDS, np.unique(labels, return_counts=True)[1].min() if classes else len(labels) // 2)
    if folds < 2:
        return 1.0
    splitter = (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=seed)
    totals = np.zeros(len(strengths))
    for train, held_out in splitter.split(labels, labels):
        seen, unseen = folded(train, held_out)
        for i, strength in enumerate(strengths):
            predictions = _linear_model(task.kind, strength).fit(seen, labels[train]).predict(unseen)
            totals[i] += score(task.metric, predictions, labels[held_out])
    return strengths[int((totals if task.metric != "mse" else -totals).argmax())]


class _Features:
    """Texts -> features; the vocabulary and its weights come from the training texts that it is made with."""

    def __init__(self, train: list[tuple[str, ...]]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS)
        self.tfidf.fit([text for row in train for text in row])
        self.words = TfidfVectorizer(token_pattern=WORDS).build_analyzer()

    def __call__(self, rows: list[tuple[str, ...]]) -> csr_matrix:
        from scipy.sparse import csr_matrix, hstack

        columns = [self.tfidf.transform(column) for column in zip(*rows, strict=True)]
        if len(columns) == 1:
            return columns[0]
        first, second = columns
        cosine = np.ravel(first.multiply(second).sum(axis=1))  # the rows of TF-IDF have length 1
        compared = np.column_stack([cosine, [self._overlap(*row) for row in rows]])
        return csr_matrix(hstack([abs(first - second), csr_matrix(compared)]))

    def _overlap(self, first: str, second: str) -> tuple[float, float]:
        """Words in common over words in either, and the shorter length over the longer."""
        a, b = self.words(first), self.words(second)
        return len({*a} & {*b}) / max(1, len({*a, *b})), (1 + min(len(a), len(b))) / (1 + max(len(a), len(b)))


# ---------------------------------------------------------------- the frozen backbone


def linear_probe(
    backbone: str, task: Task, count: int | None = None, seed: int = 0, split: str = "test", pooling: str = "own"
) -> Baseline:
    """Logistic (or ridge) regression on the frozen backbone's summary of each text; nothing of the backbone is trained.

    Args:
        backbone: a name that `backbones.load` knows.
        task, count, seed, split: as in `bag_of_words`; regularization is tuned among the training rows alone.
        pooling: "own" (what the backbone's declared head reads), "cls" (the first token's last hidden state) or "mean"
            (the masked mean).
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; got {pooling!r}")
    from sklearn.preprocessing import StandardScaler

    from peft_helpers import backbones

    chosen = task if count is None else task.subset(count, seed)
    model, tokenizer = backbones.load(backbone, task)
    seen = frozen_features(model, tokenizer, chosen, "train", pooling)
    labels = np.array(chosen.splits["train"]["label"])

    def folded(train: NDArray, held_out: NDArray) -> tuple[NDArray, NDArray]:
        scaler = StandardScaler().fit(seen[train])
        return scaler.transform(seen[train]), scaler.transform(seen[held_out])

    strength = _choose_strength(task, labels, folded, PROBE_STRENGTHS, seed)
    scaler = StandardScaler().fit(seen)
    fitted = _linear_model(task.kind, strength).fit(scaler.transform(seen), labels)
    asked = scaler.transform(frozen_features(model, tokenizer, task, split, pooling))
    predictions = fitted.predict(asked).tolist()
    settings = {"pooling": pooling} | ({"C": strength} if task.kind == "classification" else {"alpha": 1 / strength})
    reached = score(task.metric, predictions, list(task.splits[split]["label"]))
    return Baseline(
        f"linear probe on frozen {backbone}", split, task.metric, reached, predictions, len(labels), settings
    )


def frozen_features(model, tokenizer, task: Task, split: str, pooling: str = "own", batch_size: int = 64) -> NDArray:
    """One vector a text, (N, D), from the backbone without gradients; see `linear_probe` for `pooling`."""
    import torch

    from peft_helpers import training

    encoded = training.encode(task, split, tokenizer, training.length_limit(model, tokenizer))
    encoder = model.base_model.eval()
    own = "pooler" if getattr(encoder, "pooler", None) is not None else "mean" if hasattr(model, "pooling") else "cls"
    pooling = own if pooling == "own" else pooling
    device = next(model.parameters()).device
    order = np.argsort(encoded.lengths, kind="stable")
    vectors = np.zeros((len(order), model.config.hidden_size), np.float32)
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = {
                key: value.to(device) for key, value in training.collate(encoded, rows, tokenizer.pad_token_id).items()
            }
            batch.pop("labels")
            made = encoder(**batch)
            if pooling == "pooler":
                summary = made.pooler_output
            elif pooling == "cls":
                summary = made.last_hidden_state[:, 0]
            else:
                mask = batch["attention_mask"][..., None]
                summary = (made.last_hidden_state * mask).sum(1) / mask.sum(1)
            vectors[rows] = summary.float().cpu().numpy()
    return vectors

"""A linear head for a frozen encoder, learned in a moment: logits that mean something, with nothing else trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peft_helpers import baselines

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # C of the logistic regression


def fit_classifier(model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, seed: int = 0) -> float:
    """Set the model's `classifier` to logistic regression on what it reads, fitted to the task's training texts.

    The strength of the regularization is chosen by cross-validation among them. The features are standardized for
    fitting; scale and shift are then absorbed into the weights.

    Args:
        model, tokenizer: as `backbones.load` gives them.
        task: a classification task; often a subset (`task.subset(200)`).
        seed: of the folds.

    Returns:
        the share of the training texts that the new head gets right.

    Raises:
        ValueError: no classification task, or a head that is not one linear layer with an output a class.
    """
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = getattr(model, "classifier", None)
    if task.kind != "classification" or not isinstance(head, torch.nn.Linear) or head.out_features != task.outputs:
        raise ValueError(
            f"fit_classifier takes a classification task and a linear head with as many outputs; got {task.name} "
            f"({task.kind}, {task.outputs} outputs) and {type(head).__name__}"
        )
    features = baselines.frozen_features(model, tokenizer, task, "train").astype(float)
    labels = np.array(task.splits["train"]["label"])
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)

    def pipeline(strength: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))

    reached = {c: cross_val_score(pipeline(c), features, labels, cv=folds).mean() for c in STRENGTHS}
    scaler, fitted = pipeline(max(reached, key=reached.get)).fit(features, labels).named_steps.values()
    weight = fitted.coef_ / scaler.scale_  # (K, D), or (1, D) for two classes
    bias = fitted.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # one score for two classes: half of it to either side
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    logits = features @ weight.T + bias
    return float((logits.argmax(axis=1) == labels).mean())

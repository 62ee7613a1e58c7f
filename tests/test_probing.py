"""A linear head fitted to a frozen encoder, against scikit-learn's own probabilities."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from peft_helpers import baselines, probing


def three_classes():
    task = tiny.task(train=60)
    splits = {
        name: rows.map(lambda row, i: {"label": (row["label"] + 2 * (i % 3 == 0)) % 3}, with_indices=True)
        for name, rows in task.splits.items()
    }
    return dataclasses.replace(task, labels=("a", "b", "c"), splits=type(task.splits)(splits))


@pytest.mark.parametrize("task", [tiny.task(), three_classes()], ids=["two classes", "three classes"])
def test_head_is_logistic_regression_on_the_pooled_vector(task, monkeypatch):
    monkeypatch.setattr(probing, "STRENGTHS", (0.1,))
    model, tokenizer = tiny.model("bert", outputs=task.outputs).eval(), tiny.tokenizer()
    before = {name: p.clone() for name, p in model.base_model.named_parameters()}
    share = probing.fit_classifier(model, tokenizer, task)
    features = baselines.frozen_features(model, tokenizer, task, "train").astype(float)
    labels = np.array(task.splits["train"]["label"])
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(features, labels)
    with torch.no_grad():
        found = model.classifier(torch.tensor(features, dtype=torch.float32)).softmax(-1).numpy()
    assert np.allclose(found, expected.predict_proba(features), atol=1e-4)
    assert share == pytest.approx((expected.predict(features) == labels).mean())
    assert all(torch.equal(p, before[name]) for name, p in model.base_model.named_parameters())


def test_what_it_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="takes a classification task"):
        probing.fit_classifier(tiny.model("bert", outputs=1), tiny.tokenizer(), tiny.task(kind="regression"))
    with pytest.raises(ValueError, match="as many outputs"):
        probing.fit_classifier(tiny.model("bert", outputs=3), tiny.tokenizer(), tiny.task())
    with pytest.raises(ValueError, match="linear head"):
        probing.fit_classifier(tiny.model("bert", head=False), tiny.tokenizer(), tiny.task())

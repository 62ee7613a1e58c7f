"""Runs of lesson 06 on made-up data, in seconds: negations, three runs to stop, and those to diagnose, 06-a to 06-d.

Nothing here depends on a pretrained model. (Answer the questions first: the causes of the broken runs stand in here.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from peft_helpers import schedules, small_network
from peft_helpers.loss_runs import blobs

Run = dict[str, dict[str, Any]]
FILLERS = (
    "the", "film", "was", "it", "truly", "quite", "all", "in", "very", "long", "story", "seems", "to", "me", "we",
    "found", "this", "one",
)  # fmt: skip


# ---------------------------------------------------------------- negations


def negations(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Made-up judgments: 4 filler words, in half of them "not", then "good" or "bad"; 1 for good and for not bad.

    Neither word tells the label by itself, only the two together do: no weighted sum of single words can learn it.

    Raises:
        ValueError: fewer than 1.
    """
    if count < 1:
        raise ValueError(f"there must be at least one text; got {count}")
    generator, texts, labels = random.Random(seed), [], []
    for _ in range(count):
        good, negated = generator.random() < 0.5, generator.random() < 0.5
        said = [*generator.sample(FILLERS, 4), *["not"] * negated, "good" if good else "bad"]
        texts.append(" ".join(said))
        labels.append(int(good != negated))
    return texts, labels


def counted(splits: dict[str, tuple[list[str], list[int]]], pairs: bool = False) -> small_network.Splits:
    """Texts as word counts, (N, V), over the words of train; with `pairs`, neighboring words count together too."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 2) if pairs else (1, 1)).fit(splits["train"][0])
    return {
        name: (torch.tensor(counter.transform(texts).toarray(), dtype=torch.float64), torch.tensor(labels))
        for name, (texts, labels) in splits.items()
    }


# ---------------------------------------------------------------- three runs for early stopping


def patience_runs() -> dict[str, list[float]]:
    """Name -> dev accuracy at 16 evaluations, the first before training, of three small networks."""
    said = counted({"train": negations(300, 0), "dev": negations(400, 1)})
    return {
        "A": _watched(_noisy(600, noise=2.4), rate=1e-3, width=64, every=2),
        "B": _watched(said, rate=2e-3, width=16, every=12),
        "C": _watched(_noisy(100, noise=5.0), rate=1e-3, width=256, every=4),
    }


def _noisy(count: int, noise: float) -> small_network.Splits:
    x, y = blobs(count + 400, 2, noise=noise, seed=5, width=20)
    x = x.double()
    return {"train": (x[:count], y[:count]), "dev": (x[count:], y[count:])}


def _watched(splits: small_network.Splits, rate: float, width: int, every: int, looks: int = 16) -> list[float]:
    """Dev accuracy before training and after every `every` steps of Adam on all of train."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x, y = splits["train"]
        model, seen = small_network.network(x.shape[1], width, 2).to(x.dtype), []
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        for step in range(every * (looks - 1) + 1):
            if step % every == 0:
                seen.append(small_network.look(model, splits)["dev accuracy"])
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return seen


# ---------------------------------------------------------------- runs to diagnose


def runs_to_diagnose() -> dict[str, Run]:
    """Run's name -> its loss and accuracy, as `plots.broken_runs` takes them."""
    return {name: make() for name, make in RUNS.items()}


def _rate_gone() -> Run:
    """The schedule is told the number of epochs, and asked at every step: after 8 of 160 steps the rate is 0."""
    return _trained(_three(noise=2.0), rate=lambda step: 3e-3 * schedules.schedule("linear", step, 8))


def _rate_right() -> Run:
    """The same with the number of steps."""
    return _trained(_three(noise=2.0), rate=lambda step: 3e-3 * schedules.schedule("linear", step, 160))


def _sorted() -> Run:
    """The training rows are sorted by label, and never shuffled."""
    splits = _three(noise=5.0)
    x, y = splits["train"]
    order = y.argsort(stable=True)
    return _trained(splits | {"train": (x[order], y[order])}, rate=lambda _: 0.01, epochs=4, shuffle=False)


def _shuffled() -> Run:
    """The same rows, in another order every epoch."""
    return _trained(_three(noise=5.0), rate=lambda _: 0.01, epochs=4)


def _leaked() -> Run:
    """Dev was drawn from the training rows; test was not. The points are noisy, and the network is wide."""
    splits = _three(noise=4.5)
    x, y = splits["train"]
    return _trained(splits | {"dev": (x[:200], y[:200])}, rate=lambda _: 0.005, width=256, epochs=16)


def _healthy() -> Run:
    """Nothing is wrong: strong dropout is on in training, and off on dev."""
    return _trained(_three(noise=2.4), rate=lambda _: 0.004, dropout=0.8, splits_shown=("dev",))


RUNS: dict[str, Callable[[], Run]] = {"06-a": _rate_gone, "06-b": _sorted, "06-c": _leaked, "06-d": _healthy}


def _three(noise: float, count: int = 320) -> dict[str, tuple[Tensor, Tensor]]:
    x, y = blobs(count + 800, 2, noise=noise, seed=3, width=20)
    x = x.double()
    cuts = {"train": slice(count), "dev": slice(count, count + 400), "test": slice(count + 400, None)}
    return {name: (x[cut], y[cut]) for name, cut in cuts.items()}


def _trained(
    splits: small_network.Splits,
    rate: Callable[[int], float],
    *,
    epochs: int = 8,
    width: int = 32,
    dropout: float = 0.0,
    shuffle: bool = True,
    splits_shown: Sequence[str] = ("dev", "test"),
) -> Run:
    """Batches of 16; the loss of every batch, the accuracy on the training batches and on the splits, by epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, y = splits["train"]
        model = small_network.network(x.shape[1], width, 2, dropout).to(x.dtype)
        optimizer = torch.optim.Adam(model.parameters())
        losses, at, seen = [], [], {name: [] for name in ("train", *splits_shown)}
        for epoch in range(epochs + 1):
            order, right = (torch.randperm(len(y)) if shuffle else torch.arange(len(y))), []
            for name in splits_shown:
                seen[name].append(small_network.look(model, splits)[f"{name} accuracy"])
            at.append(epoch * len(y) // 16)
            for step, rows in enumerate(order.split(16), start=at[-1]):
                logits = model.train()(x[rows])
                right += (logits.argmax(-1) == y[rows]).tolist()
                if epoch == epochs:
                    continue  # one more look at the training batches, and no step
                loss = F.cross_entropy(logits, y[rows])
                losses.append(loss.item())
                optimizer.param_groups[0]["lr"] = rate(step)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            seen["train"].append(sum(right) / len(right))
    accuracy = {name: (at, values) for name, values in seen.items()}
    return {"loss": {"train": losses}, "accuracy": accuracy}


def mended_runs() -> dict[str, Run]:
    """06-a and 06-b once more, each with the one thing put right that was wrong."""
    return {"06-a": _rate_right(), "06-b": _shuffled()}

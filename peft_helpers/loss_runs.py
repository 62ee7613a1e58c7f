"""The runs of lesson 01 to diagnose, 01-a to 01-e. (Answer first: the causes stand in here.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers.losses import cross_entropy, softmax
from peft_helpers.optimizers import Adam

Run = dict[str, dict[str, Any]]


def runs_to_diagnose(names: Sequence[str] = ("01-a", "01-b", "01-c")) -> dict[str, Run]:
    """Run's name -> its loss and accuracy, as `plots.broken_runs` takes them.

    Raises:
        ValueError: on a name that is none of 01-a to 01-e.
    """
    if unknown := [name for name in names if name not in RUNS]:
        raise ValueError(f"there is no run {', '.join(map(repr, unknown))}; there are {', '.join(RUNS)}")
    return {name: RUNS[name]() for name in names}


def blobs(count: int, classes: int, noise: float, seed: int, width: int = 10) -> tuple[Tensor, Tensor]:
    """Points around one random center a class, (count, width), and which center each belongs to, (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    centers = torch.randn(classes, width, generator=generator)
    return centers[labels] + noise * torch.randn(count, width, generator=generator), labels


def train_linear(
    x: Tensor,
    labels: Tensor,
    rate: float,
    steps: int,
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    scale: float = 0.0,
) -> Run:
    """Gradient descent on x @ weights + bias; the weights start as normal numbers times `scale`."""
    classes = int(labels.max()) + 1
    weights = scale * torch.randn(x.shape[1], classes, generator=torch.Generator().manual_seed(0))
    bias, losses, accuracies = torch.zeros(classes), [], []
    for _ in range(steps):
        logits = (x @ weights + bias).requires_grad_()
        losses.append(loss_of(logits, labels))
        accuracies.append((logits.argmax(-1) == labels).double().mean().item())
        gradient = torch.autograd.grad(losses[-1], logits)[0]
        weights, bias = weights - rate * x.T @ gradient, bias - rate * gradient.sum(0)
    return {"loss": {"train": [loss.item() for loss in losses]}, "accuracy": {"train": accuracies}}


def softmax_twice(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy that takes probabilities for logits."""
    return cross_entropy(softmax(logits), labels)


def _without_information() -> Run:
    """Labels 90 to 10, and inputs that have nothing to do with them."""
    x = 0.3 * torch.randn(4000, 10, generator=torch.Generator().manual_seed(7))
    return train_linear(x, (torch.arange(4000) >= 3600).long(), rate=0.5, steps=200)


def _ever_surer(steps: int = 200, every: int = 10) -> Run:
    """A small network learns 100 examples by heart; 500 more are dev."""
    x, labels = blobs(600, 2, noise=2.2, seed=5, width=20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = Adam(network.parameters(), learning_rate=3e-3)
    train, at, dev, right = [], [], [], []
    for step in range(steps + 1):
        optimizer.zero_grad()
        loss = cross_entropy(network(x[:100]), labels[:100])
        loss.backward()
        train.append(loss.item())
        if step % every == 0:
            with torch.no_grad():
                logits = network(x[100:])
            at.append(step)
            dev.append(cross_entropy(logits, labels[100:]).item())
            right.append((logits.argmax(-1) == labels[100:]).double().mean().item())
        optimizer.step()
    return {"loss": {"train": train, "dev": (at, dev)}, "accuracy": {"dev": (at, right)}}


RUNS: dict[str, Callable[[], Run]] = {
    "01-a": lambda: train_linear(*blobs(400, 2, noise=0.15, seed=0), rate=5.0, steps=400, loss_of=softmax_twice),
    "01-b": lambda: train_linear(*blobs(400, 2, noise=2.0, seed=1), rate=0.05, steps=200, scale=0.9),
    "01-c": _without_information,
    "01-d": _ever_surer,
    "01-e": lambda: train_linear(
        *blobs(400, 2, noise=0.15, seed=0), rate=0.2, steps=400, loss_of=partial(cross_entropy, label_smoothing=0.1)
    ),
}

"""The runs of lesson 03 to diagnose, 03-a to 03-c, and the same mended. (Answer first: the causes stand in here.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from peft_helpers.optimizers import SGD, Adam, Optimizer, clip_gradient_norm

Run = dict[str, dict[str, list[float]]]


def runs_to_diagnose() -> dict[str, Run]:
    """Run's name -> {"loss": {"train": the loss before each step}}, as `plots.broken_runs` takes them."""
    return {name: {"loss": {"train": run(mended=False)}} for name, run in RUNS.items()}


def mended_runs() -> dict[str, Run]:
    """The same runs, each beside itself with the one thing put right that was wrong."""
    return {name: {"loss": {"broken": run(mended=False), "mended": run(mended=True)}} for name, run in RUNS.items()}


def _from_good_weights(mended: bool) -> list[float]:
    """Logistic regression: 60 steps of SGD lead to good weights, from where Adam goes on."""
    x, y = _blobs(noise=2.0, seed=2)
    weights = torch.zeros(20, 2, dtype=torch.float64, requires_grad=True)

    def loss(_: int) -> Tensor:
        return cross_entropy(x @ weights, y)

    _descend(SGD([weights], learning_rate=0.3), loss, 60)
    return _descend(Adam([weights], learning_rate=0.05, bias_correction=mended), loss, 60)


def _network(mended: bool) -> list[float]:
    """A small network, all data in one batch."""
    x, y = (part[:400] for part in _blobs(noise=1.5, seed=5, count=600))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)).double()
    optimizer = Adam(network.parameters(), learning_rate=0.005 if mended else 0.5)
    return _descend(optimizer, lambda _: cross_entropy(network(x), y), 30)


def _regression(mended: bool) -> list[float]:
    """Linear regression on 200 batches of 32, one of which holds a target that somebody mistyped."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 32, 5, generator=generator, dtype=torch.float64)
    y = x @ (torch.arange(5, dtype=torch.float64) / 2)
    y = y + 0.1 * torch.randn(200, 32, generator=generator, dtype=torch.float64)
    y[80, 0] = 3000.0
    weights = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    clipped = [weights] if mended else []
    return _descend(SGD([weights], learning_rate=0.02), lambda t: ((x[t] @ weights - y[t]) ** 2).mean(), 200, clipped)


RUNS = {"03-a": _from_good_weights, "03-b": _network, "03-c": _regression}


def _descend(
    optimizer: Optimizer, loss_at: Callable[[int], Tensor], steps: int, clipped: Sequence[Tensor] = ()
) -> list[float]:
    """The loss before each step; the gradients of `clipped` are kept to length 5."""
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_at(step)
        loss.backward()
        losses.append(loss.item())
        if clipped:
            clip_gradient_norm(clipped, max_norm=5.0)
        optimizer.step()
    return losses


def _blobs(noise: float, seed: int, count: int = 400, width: int = 20) -> tuple[Tensor, Tensor]:
    """Points around two centers, (count, width), and which center each belongs to."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    centers = torch.randn(2, width, generator=generator)
    points = centers[y] + noise * torch.randn(count, width, generator=generator)
    return points.double(), y

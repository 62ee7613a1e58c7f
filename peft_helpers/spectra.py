"""What fine-tuning changed, matrix by matrix: singular values of W_after − W_before, and the change cut to a rank.

The energy of a matrix is its squared Frobenius norm, the sum of its squared singular values. A matrix cut to rank r
(Eckart and Young 1936) is the nearest one of that rank, and keeps the r largest of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def energy_kept(change: Tensor) -> Tensor:
    """(m, n) -> (min(m, n),): the share of the energy that the best matrix of rank 1, 2, … keeps.

    E(r) = sum of the r largest sigma_i² / sum of all. Computed in float64.

    Raises:
        ValueError: no matrix, or one of zeros only, which has no energy to share.
    """
    require_matrix(change)
    energy = torch.linalg.svdvals(change.double()).square()
    return energy.cumsum(0) / energy.sum()


def effective_rank(change: Tensor) -> float:
    """How many singular values count: exp of the entropy of sigma_i / sum of sigma (Roy and Vetterli 2007, eq. 2).

    k equal singular values give exactly k; a matrix has at most min(m, n).

    Raises:
        ValueError: no matrix, or one of zeros only.
    """
    require_matrix(change)
    sigma = torch.linalg.svdvals(change.double())
    return torch.special.entr(sigma / sigma.sum()).sum().exp().item()


def low_rank(change: Tensor, rank: int) -> Tensor:
    """The nearest matrix of rank `rank`, (m, n) again; 0 gives zeros.

    Raises:
        ValueError: no matrix, or a negative rank.
    """
    require_matrix(change, rank)
    u, sigma, vh = torch.linalg.svd(change, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vh[:rank]


def intruders(before: Tensor, after: Tensor, top: int = 10, alike: float = 0.5) -> int:
    """How many of the `top` left singular vectors of W_after resemble none of W_before (arXiv:2410.21228, section 4).

    Args:
        before, after: (m, n).
        top: how many of the largest are looked at.
        alike: a cosine from here on counts as resembling.
    """
    for matrix in (before, after):
        require_matrix(matrix)
    known, found = (torch.linalg.svd(matrix.double(), full_matrices=False).U for matrix in (before, after))
    cosines = (found[:, :top].T @ known).abs()  # (top, min(m, n))
    return int((cosines.amax(1) < alike).sum())


def require_matrix(change: Tensor, rank: int = 0) -> None:
    """Refuse what has no singular values to speak of, and ranks that are no whole numbers from 0 on.

    Raises:
        ValueError: saying what was given.
    """
    if not isinstance(change, Tensor) or change.ndim != 2:
        what = f"shape {tuple(change.shape)}" if isinstance(change, Tensor) else type(change).__name__
        raise ValueError(f"a matrix (m, n) is needed; got {what}")
    if not change.isfinite().all() or not change.any():
        raise ValueError("the matrix must be finite, and not all zeros: nothing was changed, so there is no spectrum")
    require_rank(rank)


def require_rank(rank: int) -> None:
    """Refuse ranks that are no whole numbers from 0 on.

    Raises:
        ValueError: saying what was given.
    """
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        raise ValueError(f"rank must be a whole number from 0 on; got {rank!r}")


# ---------------------------------------------------------------- whole models


@dataclass(frozen=True)
class Spectrum:
    """The singular value decomposition of one change, computed once and cut as often as wanted.

    Attributes:
        u, sigma, vh: (m, k), (k,), (k, n) with k = min(m, n), as float32.
    """

    u: Tensor
    sigma: Tensor
    vh: Tensor

    @classmethod
    def of(cls, change: Tensor) -> Spectrum:
        require_matrix(change)
        return cls(*torch.linalg.svd(change, full_matrices=False))

    @property
    def energy(self) -> Tensor:
        """`energy_kept` of the change, (k,)."""
        energy = self.sigma.double().square()
        return energy.cumsum(0) / energy.sum()

    def at(self, rank: int) -> Tensor:
        """The change cut to this rank, (m, n)."""
        require_rank(rank)
        return (self.u[:, :rank] * self.sigma[:rank]) @ self.vh[:rank]


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """Every weight matrix of the base model by name, embeddings and pooler included; not the head, which is new."""
    base = {id(p) for p in getattr(model, "base_model", model).parameters()}
    return {name: p.detach() for name, p in model.named_parameters() if p.ndim == 2 and id(p) in base}


def spectra(before: nn.Module, after: nn.Module) -> dict[str, Spectrum]:
    """The spectrum of what changed in every matrix that did change.

    Raises:
        ValueError: the two are not the same network, or nothing changed.
    """
    old, new = matrices(before), matrices(after)
    if old.keys() != new.keys() or any(old[name].shape != new[name].shape for name in old):
        raise ValueError("before and after must be the same network; their matrices have other names or shapes")
    changes = {name: new[name] - old[name] for name in old}
    found = {name: Spectrum.of(change) for name, change in changes.items() if change.any()}
    if not found:
        raise ValueError("no matrix was changed: the models have the same weights")
    return found


@torch.no_grad()
def cut(before: nn.Module, after: nn.Module, found: Mapping[str, Spectrum], rank: int) -> nn.Module:
    """Put W_before + (change cut to `rank`) into `after`, in place; biases, norms and head stay as fine-tuned.

    Args:
        before: the pretrained model.
        after: the fine-tuned one; its matrices are overwritten.
        found: `spectra(before, after)`, taken before the first cut.
        rank: 0 takes every matrix back to where it was.

    Returns:
        `after`.
    """
    old, new = matrices(before), matrices(after)
    if unknown := sorted(found.keys() - old.keys()):
        raise ValueError(f"the model has no matrix {', '.join(unknown)}")
    for name, spectrum in found.items():
        new[name].copy_(old[name] + spectrum.at(rank))
    return after


KINDS = {  # part of a parameter's name -> what the figures call it; the first that fits
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output": "attention out",
    "intermediate": "feed-forward in",
    "output.dense": "feed-forward out",
    "pooler": "pooler",
    "embeddings": "embeddings",
}


def kind(name: str) -> str:
    """What sort of matrix of a BERT a parameter is, such as "query"; "other" for other networks' names."""
    return next((what for part, what in KINDS.items() if part in name), "other")

"""Spectra of changes, against NumPy in float64; whole models cut and put together again."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import tiny
import torch

from peft_helpers import spectra


def made(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (40, 20)])
def test_energy_and_effective_rank_are_numpys(shape: tuple[int, int]) -> None:
    change = made(*shape)
    sigma = np.linalg.svd(change.numpy(), compute_uv=False)
    kept = spectra.energy_kept(change)
    assert kept.dtype is torch.float64 and kept.shape == (min(shape),)
    np.testing.assert_allclose(kept, np.cumsum(sigma**2) / (sigma**2).sum(), rtol=1e-12)
    shares = sigma / sigma.sum()
    assert spectra.effective_rank(change) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-12)


def test_what_is_known_of_special_matrices() -> None:
    assert spectra.effective_rank(torch.eye(6)) == pytest.approx(6)
    assert spectra.energy_kept(3 * torch.eye(4)).tolist() == pytest.approx([0.25, 0.5, 0.75, 1])
    one = torch.outer(made(5, 1)[:, 0], made(1, 4)[0])
    assert spectra.effective_rank(one) == pytest.approx(1) and spectra.energy_kept(one)[0] == pytest.approx(1)
    two = torch.zeros(4, 3, dtype=torch.float64)
    two[0, 0], two[1, 1] = 1.0, 1.0  # zeros among the singular values count nothing
    assert spectra.effective_rank(two) == pytest.approx(2)


@pytest.mark.parametrize("rank", range(5))
def test_the_cut_is_the_best_matrix_of_its_rank(rank: int) -> None:
    change = made(6, 4)
    u, sigma, vh = np.linalg.svd(change.numpy(), full_matrices=False)
    cut = spectra.low_rank(change, rank)
    np.testing.assert_allclose(cut, (u[:, :rank] * sigma[:rank]) @ vh[:rank], atol=1e-12)
    assert torch.linalg.matrix_rank(cut) == rank
    assert (change - cut).square().sum().item() == pytest.approx((sigma[rank:] ** 2).sum())
    assert torch.allclose(spectra.Spectrum.of(change).at(rank), cut)
    other = change.clone()
    other[:, rank:] = 0  # another matrix of at most that rank
    assert (change - cut).norm() <= (change - other).norm() + 1e-12


def test_more_than_the_full_rank_is_everything() -> None:
    assert torch.allclose(spectra.low_rank(made(3, 5), 99), made(3, 5))


def test_intruders_are_new_directions() -> None:
    torch.manual_seed(0)
    before = made(30, 30)
    assert spectra.intruders(before, before) == 0 == spectra.intruders(before, 2 * before)
    assert spectra.intruders(before, before + 0.01 * made(30, 30, seed=1), top=3) == 0
    direction = torch.outer(made(30, 1, seed=2)[:, 0], made(1, 30, seed=3)[0])
    assert spectra.intruders(before, before + 5 * direction, top=1, alike=0.9) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectra.energy_kept(torch.zeros(3, 3)), "not all zeros"),
        (lambda: spectra.energy_kept(torch.ones(3)), r"got shape \(3,\)"),
        (lambda: spectra.effective_rank([[1.0]]), "got list"),
        (lambda: spectra.effective_rank(torch.full((2, 2), math.nan)), "must be finite"),
        (lambda: spectra.low_rank(torch.ones(2, 2), -1), "from 0 on; got -1"),
        (lambda: spectra.low_rank(torch.ones(2, 2), True), "got True"),
        (lambda: spectra.Spectrum.of(torch.ones(2, 2)).at(1.5), "got 1.5"),
        (lambda: spectra.spectra(tiny.model(), tiny.model()), "no matrix was changed"),
        (lambda: spectra.spectra(tiny.model(), tiny.model("roberta")), "other names or shapes"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_cut_to_full_rank_is_the_fine_tuned_one_and_to_rank_0_the_pretrained_matrices() -> None:
    before, after = tiny.model(), tiny.model()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in after.named_parameters():
            if "word_embeddings" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    found = spectra.spectra(before, after)
    assert not any("word_embeddings" in name for name in found), "what did not change has no spectrum"
    assert not any("classifier" in name for name in found) and any("pooler" in name for name in found)
    assert all(parameter.ndim == 2 for parameter in spectra.matrices(after).values())
    whole = spectra.cut(before, copy.deepcopy(after), found, 99)
    none = spectra.cut(before, copy.deepcopy(after), found, 0)
    one = spectra.cut(before, copy.deepcopy(after), found, 1)
    for (name, old), new, a, b, c in zip(
        before.named_parameters(), *(model.parameters() for model in (after, whole, none, one)), strict=True
    ):
        assert torch.allclose(a, new, atol=1e-6)
        assert torch.equal(b, old if name in found else new)  # biases, norms and head stay as fine-tuned
        if name in found:
            assert torch.linalg.matrix_rank(c - old, rtol=1e-4) == 1
    with pytest.raises(ValueError, match="the model has no matrix nowhere"):
        spectra.cut(before, after, {"nowhere": found[next(iter(found))]}, 1)


def test_kinds_are_those_of_bert() -> None:
    kinds = {name: spectra.kind(name) for name in spectra.matrices(tiny.model())}
    assert set(kinds.values()) == set(spectra.KINDS.values())
    assert kinds["bert.encoder.layer.0.attention.output.dense.weight"] == "attention out"
    assert kinds["bert.encoder.layer.1.output.dense.weight"] == "feed-forward out"
    assert spectra.kind("transformer.h.0.attn.c_attn.weight") == "other"

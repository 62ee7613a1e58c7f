"""Attributions, deletions and the comparison of layers: hand-made cases, and other people's integrals and gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.integrate
import tiny
import torch

from peft_helpers import adapter_runs, interpret, methods


def curved(points: torch.Tensor) -> torch.Tensor:
    """(n, D) -> (n,): a score that is no polynomial."""
    return (torch.sin(points) * points.roll(1, -1)).sum(-1) + points[:, 0].exp()


X = torch.tensor([0.7, -1.3, 2.1], dtype=torch.float64)
START = torch.tensor([-0.4, 0.2, 0.9], dtype=torch.float64)


def test_integrated_gradients_of_a_quadratic_are_exact() -> None:
    x, start = torch.tensor([2.0, 3.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)

    def score(p):
        return p[:, 0] * p[:, 1] + p[:, 0] ** 2

    found = interpret.integrated_gradients(score, x, start, steps=1)  # the slope is linear: one midpoint is exact
    assert found.tolist() == pytest.approx([2 * (2 + 2), 2 * 1.0])
    assert interpret.completeness_gap(found, score, x, start) == pytest.approx(0, abs=1e-12)
    assert interpret.gradient_times_input(score, x).tolist() == pytest.approx([2 * (3 + 4), 3 * 2])


def test_integrated_gradients_are_those_of_an_adaptive_integral() -> None:
    def slope(alpha: float) -> np.ndarray:
        return interpret.gradients(curved, (START + alpha * (X - START))[None])[0].numpy()

    integral, _ = scipy.integrate.quad_vec(slope, 0, 1, epsabs=1e-12)
    found = interpret.integrated_gradients(curved, X, START, steps=4096)
    assert np.allclose(found.numpy(), (X - START).numpy() * integral, atol=1e-7)


def test_the_gap_falls_with_the_square_of_the_steps() -> None:
    gaps = [
        abs(interpret.completeness_gap(interpret.integrated_gradients(curved, X, START, n), curved, X, START))
        for n in (32, 64, 128)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.05) and gaps[1] / gaps[2] == pytest.approx(4, rel=0.05)
    alpha, way = interpret.along_the_way(curved, X, START, points=64)
    assert alpha[0] == 1 / 128 and len(way) == 64
    total = interpret.integrated_gradients(curved, X, START, 64).sum()
    assert way.mean().item() == pytest.approx(total.item(), abs=1e-6)


def test_what_is_no_way_is_refused() -> None:
    with pytest.raises(ValueError, match=r"floats of one shape; got \(3,\) torch.float64, \(2,\)"):
        interpret.integrated_gradients(curved, X, START[:2])
    with pytest.raises(ValueError, match="floats of one shape"):
        interpret.integrated_gradients(curved, X.long(), START.long())
    for steps in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="steps is a whole number from 1 on"):
            interpret.integrated_gradients(curved, X, START, steps)


# ---------------------------------------------------------------- a text


@pytest.fixture(scope="module")
def reader():
    return tiny.model(seed=3).double().eval(), tiny.tokenizer()


def test_a_text_is_read_as_the_model_reads_it(reader) -> None:
    model, tokenizer = reader
    reading = interpret.read(model, tokenizer, "warm sea not cold")
    assert reading.words == ("warm", "sea", "not", "cold") and reading.pieces[0] == "[CLS]"
    assert reading.owner.tolist() == [-1, 0, 1, 2, 3, -1] and reading.x.shape == (6, 16)
    logits = model(**tokenizer("warm sea not cold", return_tensors="pt")).logits[0]
    assert reading.score(reading.x[None]).item() == pytest.approx((logits[1] - logits[0]).item(), abs=1e-12)
    other = interpret.read(model, tokenizer, ["warm", "sea", "not", "cold"], label=0)
    assert other.score(other.x[None]).item() == pytest.approx((logits[0] - logits[1]).item(), abs=1e-12)
    words = reading.by_word(torch.arange(6.0))
    assert words.tolist() == [1, 2, 3, 4] and torch.equal(reading.by_word(torch.ones(6, 16)), torch.full((4,), 16.0))


def test_attributions_of_a_text_are_complete(reader) -> None:
    model, tokenizer = reader
    reading = interpret.read(model, tokenizer, "warm sea not cold very blue")
    for kind in interpret.BASELINES:
        start = interpret.baseline_of(model, tokenizer, reading, kind)
        assert torch.equal(start[[0, -1]], reading.x[[0, -1]]), "[CLS] and [SEP] stay"
        found = interpret.integrated_gradients(reading.score, reading.x, start, steps=64)
        assert abs(interpret.completeness_gap(found, reading.score, reading.x, start)) < 1e-4
        assert reading.by_word(found).sum().item() == pytest.approx(found.sum().item()), "no way to go for the ends"
    table = model.get_input_embeddings().weight
    assert torch.equal(interpret.baseline_of(model, tokenizer, reading, "[MASK]")[1], table[4])
    assert not interpret.baseline_of(model, tokenizer, reading, "zero")[1].any()


def test_bad_texts_classes_and_baselines_are_refused(reader) -> None:
    model, tokenizer = reader
    with pytest.raises(ValueError, match="at least one word"):
        interpret.read(model, tokenizer, "  ")
    with pytest.raises(ValueError, match="class 2 is asked about; the model has 2"):
        interpret.read(model, tokenizer, "warm", label=2)
    with pytest.raises(ValueError, match=r"one of zero, \[PAD\], \[MASK\].*; got 'black'"):
        interpret.baseline_of(model, tokenizer, interpret.read(model, tokenizer, "warm"), "black")
    with pytest.raises(ValueError, match="class 3 of 3"):
        interpret.log_odds(torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match="class 0 of 1"):
        interpret.log_odds(torch.zeros(2, 1), 0)


def test_log_odds_of_several_classes() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    p = logits.softmax(-1)[0]
    assert interpret.log_odds(logits, 2).item() == pytest.approx((p[2] / (1 - p[2])).log().item())


def test_deletions_are_those_of_single_texts(reader) -> None:
    model, tokenizer = reader
    words = ["warm", "sea", "not", "warm"]

    def score(left: list[str]) -> float:
        reading = interpret.read(model, tokenizer, left)
        return reading.score(reading.x[None]).item()

    alone = interpret.deletion_effects(score, words)
    together = interpret.deletions(model, tokenizer, words)
    assert together.tolist() == pytest.approx(alone, abs=1e-9)
    assert interpret.deletion_effects(len, words) == [1, 1, 1, 1]
    for call in (lambda: interpret.deletion_effects(score, ["warm"]),
                 lambda: interpret.deletions(model, tokenizer, ["warm"])):  # fmt: skip
        with pytest.raises(ValueError, match="at least two words; got 1"):
            call()


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "bart", "llama"])
def test_only_what_moved_shows(kind: str) -> None:
    before = tiny.model(kind)
    after = copy.deepcopy(before)
    assert set(interpret.layer_changes(before, after).values()) == {0.0}
    layer = interpret.backbones.anatomy(after).layers[1]
    with torch.no_grad():
        for site in [*layer.sites.values(), *layer.norms]:
            for p in {id(p): p for p in site.module.parameters()}.values():
                p.mul_(1.5)
                if site.third is not None and site.third > 0:
                    p.div_(1.5)  # the fused matrix was scaled with its first third
    changes = interpret.layer_changes(before, after)
    assert changes.pop("layer 2") == pytest.approx(0.5) and set(changes.values()) == {0.0}
    assert list(changes)[:2] == ["embeddings", "layer 1"] and ("pooler" in changes) == (kind == "bert")


def test_relative_change_by_hand_and_refused() -> None:
    before, after = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])], [torch.tensor([3.0, 1.0]), torch.tensor([4.0])]
    assert interpret.relative_change(before, after) == pytest.approx(1 / 5)
    with pytest.raises(ValueError, match="the same tensors"):
        interpret.relative_change(before, after[:1])
    with pytest.raises(ValueError, match="all 0 has no relative change"):
        interpret.relative_change([torch.zeros(2)], [torch.ones(2)])
    with pytest.raises(ValueError, match="the two models differ"):
        interpret.layer_changes(tiny.model("bert"), tiny.model("gpt2"))


def test_likeness_ignores_rotation_and_scale_and_is_low_for_strangers() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    assert interpret.linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1, abs=1e-6)
    assert interpret.linear_cka(x, torch.randn(200, 4)) < 0.1
    # Kornblith et al., eq. 3 by way of the Gram matrices
    y, center = torch.randn(200, 4) + x[:, :4], torch.eye(200) - 1 / 200
    k, m = (center @ z @ z.T @ center for z in (x, y))
    assert interpret.linear_cka(x, y) == pytest.approx(((k * m).sum() / (k.norm() * m.norm())).item(), rel=1e-4)
    with pytest.raises(ValueError, match="of the same N texts"):
        interpret.linear_cka(x, x[:10])
    with pytest.raises(ValueError, match="all vectors of one side are equal"):
        interpret.linear_cka(x, torch.ones(200, 2))


def test_vectors_of_layers_are_means_over_the_texts_own_tokens() -> None:
    model, tokenizer, task = tiny.model(), tiny.tokenizer(), tiny.task()
    found = interpret.layer_vectors(model, tokenizer, task, "dev", rows=5)
    assert found.shape == (3, 5, 16)
    text = task.splits["dev"][2]["text"]
    states = model.base_model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
    assert torch.allclose(found[1, 2], states[1][0].mean(0), atol=1e-5)
    methods.apply(model, methods.LoRA(rank=2))
    assert torch.allclose(interpret.layer_vectors(model, tokenizer, task, "dev", rows=5), found, atol=1e-6)
    assert adapter_runs.outputs_on(model, tokenizer, task).shape == (16, 2)

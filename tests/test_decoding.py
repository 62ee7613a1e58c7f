"""Choosing the next token: against transformers' generate and its logits warpers, and what is refused."""

from __future__ import annotations

import pytest
import torch
from test_decoder import MASK, gpt2, tokens
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from peft_helpers import decoder, decoding

LEFT = MASK.flip(1)[:, -5:]  # (3, 5), padding on the left only
LEFT[1] = torch.tensor([0, 0, 1, 1, 1])
LEFT[2] = torch.tensor([1, 1, 1, 1, 1])
END = 3


@pytest.fixture(scope="module")
def pair():
    model = gpt2(n_positions=48)
    model.generation_config.eos_token_id = END
    return model, decoder.copy_gpt2(model)


# ---------------------------------------------------------------- the distribution


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, None, None),
        (0.5, None, None),
        (2.0, 5, None),
        (1.0, None, 0.7),
        (0.7, 8, 0.6),
        (1.0, 1, None),
        (1, 99, 1.0),
    ],
)
def test_distribution_equals_transformers(temperature, top_k, top_p):
    z = 2 * torch.randn(6, 31, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = TemperatureLogitsWarper(float(temperature))(None, z) if temperature != 1 else z
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None and top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    ours = decoding.sampling_distribution(z, temperature, top_k, top_p)
    torch.testing.assert_close(ours, expected.softmax(-1), rtol=1e-12, atol=1e-14)


def test_top_p_keeps_the_token_that_crosses_the_line():
    z = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
    kept = [int((decoding.sampling_distribution(z, top_p=p) > 0).sum()) for p in (0.1, 0.45, 0.55, 0.9, 0.99)]
    assert kept == [1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0}, "temperature must be positive"),
        ({"temperature": float("nan")}, "temperature must be positive"),
        ({"top_k": 0}, "top_k is a number of tokens"),
        ({"top_k": 2.5}, "top_k is a number of tokens"),
        ({"top_p": 0.0}, "top_p is a probability"),
        ({"top_p": 1.5}, "top_p is a probability"),
    ],
)
def test_sampling_that_means_nothing_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        decoding.sampling_distribution(torch.zeros(4), **wrong)


# ---------------------------------------------------------------- writing


def shown(rows: torch.Tensor) -> list[list[int]]:
    """Each row up to its end."""
    return [row[: row.index(END)] if END in row else row for row in rows.tolist()]


@pytest.mark.parametrize("cached", [True, False])
def test_greedy_equals_transformers(pair, cached):
    model, ours = pair
    for seed in range(4):
        ids = tokens(3, 5, seed=seed)
        theirs = model.generate(ids, attention_mask=LEFT, max_new_tokens=20, do_sample=False, pad_token_id=END)[:, 5:]
        made = decoding.generate(ours, ids, LEFT, 20, END, cached=cached)
        assert shown(made) == shown(theirs)
        for row in range(3):  # alone, without padding
            alone = decoding.generate(
                ours, ids[row : row + 1, 5 - LEFT[row].sum() :], LEFT[row : row + 1, LEFT[row] > 0], 20, END
            )
            assert shown(alone)[0] == shown(made)[row]


def test_sampling_draws_from_the_distribution_and_cache_changes_nothing(pair):
    _, ours = pair
    ids = tokens(1, 4).expand(4000, -1)

    def drawer(seed):
        generator = torch.Generator().manual_seed(seed)
        return lambda z: torch.multinomial(decoding.sampling_distribution(z, 2.0, 4), 1, generator=generator)[:, 0]

    made = decoding.generate(ours, ids, torch.ones_like(ids), 1, -1, drawer(0))
    expected = decoding.sampling_distribution(ours(ids[:1])[0][0, -1], 2.0, 4)
    counted = torch.bincount(made[:, 0], minlength=len(expected)) / 4000
    assert (counted[expected == 0] == 0).all() and (counted - expected).abs().max() < 0.04
    few = ids[:5], torch.ones_like(ids[:5]), 9, -1
    texts = [decoding.generate(ours, *few, drawer(7), cached) for cached in (True, False)]
    assert torch.equal(*texts) and len({tuple(row) for row in texts[0].tolist()}) > 1


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beam_search_equals_transformers(pair, beams, length_penalty):
    model, ours = pair
    for seed in range(6):
        ids = tokens(1, 4, seed=seed)
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, num_beams=beams,
            length_penalty=length_penalty, pad_token_id=END,
        )[:, 4:]  # fmt: skip
        text, score = decoding.beam_search(ours, ids, beams, 12, END, length_penalty)
        assert shown(torch.tensor([text])) == shown(theirs)
        logs = ours(torch.cat([ids, torch.tensor([text])], 1))[0].log_softmax(-1)[0, 3:-1]
        total = sum(float(logs[i, token]) for i, token in enumerate(text))
        assert score == pytest.approx(total / len(text) ** length_penalty, rel=1e-9)


def test_what_can_not_be_continued_is_refused(pair):
    _, ours = pair
    ids = tokens(2, 3)
    with pytest.raises(ValueError, match="pad on the left"):
        decoding.generate(ours, ids, torch.tensor([[1, 1, 1], [1, 1, 0]]), 3, END)
    with pytest.raises(ValueError, match="at least 1 token"):
        decoding.generate(ours, ids, torch.ones_like(ids), 0, END)
    with pytest.raises(ValueError, match=r"one shape \(B, T\)"):
        decoding.generate(ours, ids, torch.ones(2, 4), 3, END)
    with pytest.raises(ValueError, match="takes one prompt"):
        decoding.beam_search(ours, ids, 2, 3, END)
    with pytest.raises(ValueError, match="must be 1 or more"):
        decoding.beam_search(ours, ids[:1], 0, 3, END)

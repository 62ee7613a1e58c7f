"""The sampling explorer without a browser: what it shows is what the decoder's logits say."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from test_decoder import gpt2
from widget_cases import ExplorerTests, text

from peft_helpers import decoder, decoding, widgets
from peft_helpers.widgets import sampling

IDS, END = [5, 6, 7], 3
NAMES = [f"w{i}" for i in range(40)]


def decode(ids: list[int]) -> str:
    return " ".join(NAMES[i] for i in ids)


@pytest.fixture(scope="module")
def prompted() -> sampling.Prompted:
    return sampling.read_prompt(decoder.copy_gpt2(gpt2(n_positions=48)), IDS, "five six seven", NAMES, decode, END)


@pytest.fixture
def made(prompted) -> widgets.Explorer:
    return sampling.explore(prompted)


# ---------------------------------------------------------------- what is computed


def test_drawn_follows_every_rows_own_distribution():
    z = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).expand(3000, -1)
    dice = torch.rand(3000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for temperature, top_k in ((0.5, 0), (2.0, 0), (1.0, 4)):
        full = torch.full((3000,), temperature), torch.full((3000,), top_k)
        counted = torch.bincount(sampling.drawn(z, *full, dice), minlength=12) / 3000
        expected = decoding.sampling_distribution(z[0], temperature, top_k or None)
        assert (counted[expected == 0] == 0).all() and (counted - expected).abs().max() < 0.04
    mixed = sampling.drawn(
        z[:3], torch.tensor([1.0, 1.0, 0.01]), torch.tensor([1, 0, 0]), torch.tensor([1.0, 0.0, 0.9])
    )
    assert mixed.tolist() == [int(z[0].argmax())] * 3, "top-k 1, the lowest die, a cold row: each the likeliest token"


def test_cold_states_write_the_greedy_text(prompted):
    ours = decoder.copy_gpt2(gpt2(n_positions=48))
    ids = torch.tensor([IDS])
    row = decoding.generate(ours, ids, torch.ones_like(ids), sampling.NEW_TOKENS, END)[0].tolist()
    greedy = decode(row[: row.index(END)] if END in row else row)
    for throw in range(1, sampling.THROWS + 1):
        for temperature in sampling.TEMPERATURES:
            assert prompted.texts[temperature, 1, throw] == greedy
    hot = {prompted.texts[2.0, 0, throw] for throw in range(1, sampling.THROWS + 1)}
    assert len(hot) == sampling.THROWS, "other dice, other texts"


def test_readings_are_the_distribution(prompted):
    z = torch.from_numpy(prompted.logits)
    for temperature, top_k in ((0.5, 3), (2.0, 0), (1.0, 10)):
        reading = sampling.compute(prompted, temperature, top_k, 1)
        expected = decoding.sampling_distribution(z, temperature, top_k or None)
        shown = [int(name[1:]) for name in reading.names]
        np.testing.assert_allclose(reading.now, expected[shown].numpy(), atol=1e-12)
        np.testing.assert_allclose(reading.plain, z.softmax(-1)[shown].numpy(), atol=1e-12)
        assert reading.kept == (top_k or 40) and reading.rest == pytest.approx(1 - reading.now.sum(), abs=1e-12)
        assert 1 <= reading.choices <= reading.kept + 1e-9
    even = sampling.Prompted("x", tuple(NAMES), np.zeros(40), prompted.texts)
    assert sampling.compute(even, 1.0, 10, 1).choices == pytest.approx(40), "equal logits at the edge all stay"


def test_labels_of_tokens_are_readable():
    assert [sampling.visible(token) for token in (" the", "\n", "$5", "a\x00b", "\ufffd", "x" * 20)] == [
        "·the", "¶", r"\$5", "a?b", "?", "x" * 13 + "…",
    ]  # fmt: skip


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="the prompt is empty"):
        sampling.read_prompt(decoder.copy_gpt2(gpt2()), [], "", NAMES, decode, END)


# ---------------------------------------------------------------- the widget


class TestSamplingExplorer(ExplorerTests):
    names = ("sampling",)
    changes = {"sampling": [("throw", 2), ("temperature", 0.5), ("top_k", 3)]}


def test_every_state_can_be_drawn(made, prompted):
    for temperature, top_k, throw in prompted.texts:
        reading = made.compute(temperature=temperature, top_k=top_k, throw=throw)
        assert not re.search(r"\b(nan|NaN|inf)\b", made.describe(reading).as_text())
    made.picture.jpeg(made.compute(temperature=0.2, top_k=1, throw=1))


def test_the_readout_says_how_many_tokens_are_left(made):
    made.controls["top_k"].value = 1
    assert "the 1 likeliest tokens" in text(made) and "among 1.0 equally likely" in text(made)


def test_long_and_empty_texts_have_room(prompted):
    long = sampling.Prompted("p", prompted.tokens, prompted.logits, dict.fromkeys(prompted.texts, "word $5 " * 90))
    view = sampling.SamplingView(long)
    view.show(sampling.compute(long, 1.0, 0, 1))
    assert view.text.get_text().count("\n") == sampling.LINES - 1 and view.text.get_text().endswith("…")
    empty = sampling.Prompted("p", prompted.tokens, prompted.logits, dict.fromkeys(prompted.texts, ""))
    assert "(nothing)" in sampling.describe(sampling.compute(empty, 1.0, 0, 1)).summary


def test_on_the_shipped_decoder():
    made = widgets.sampling_explorer("pocket-gpt2", "The old man")
    assert "The old man →" in text(made)
    with pytest.raises(ValueError, match="the prompt is empty"):
        widgets.sampling_explorer("pocket-gpt2", "")

"""The spelling runs of lesson 09 show what the lesson says of them; and its figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from peft_helpers import decoder_runs, plots, question_bank
from peft_helpers.batching import IGNORED
from peft_helpers.decoder import teacher_forcing


@pytest.fixture(scope="module")
def runs() -> dict[str, decoder_runs.SpellingRun]:
    return decoder_runs.runs_to_diagnose()


def test_three_runs_of_four_write_nothing_right(runs):
    assert {name: run.looks[1][-1] > 0.9 for name, run in runs.items()} == {
        "09-a": False, "09-b": False, "09-c": True, "09-d": False,
    }  # fmt: skip
    assert all(run.looks[1][-1] < 0.1 for name, run in runs.items() if name != "09-c")
    assert set(runs) == {name for name, q in question_bank.of_lesson("09").items() if q.kind == "diagnose"}


def test_the_lowest_losses_are_the_wrong_ones(runs):
    last = {name: run.losses[-1] for name, run in runs.items()}
    assert max(last["09-a"], last["09-b"]) < 0.05
    letters = np.mean([len(word) for word in decoder_runs.dictionary().values()])
    floor = math.log(6) / (letters + 2)  # the second digit, one of the counted tokens
    assert last["09-c"] == pytest.approx(floor, rel=0.2)
    assert 0.2 < last["09-d"] < 0.6, "nearly the same curve as 09-c"
    assert all(2 < run.losses[0] < 5 for run in runs.values())


def test_what_they_write_shows_the_mistake(runs):
    words = decoder_runs.dictionary()
    begun = [runs["09-b"].written[key].startswith(word) for key, word in words.items()]
    assert np.mean(begun) > 0.9, "without a label for the end: right, and then it goes on"
    longer = [len(runs["09-b"].written[key]) > len(word) for key, word in words.items()]
    assert np.mean(longer) > 0.9
    second = [runs["09-d"].written[key][:1] == word[1] for key, word in words.items()]
    assert np.mean(second) > 0.9, "shifted twice: the first letter is skipped"


def test_runs_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = decoder_runs.spelling_run(labels=decoder_runs.with_prompt, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert first.losses == decoder_runs.spelling_run(labels=decoder_runs.with_prompt, seed=1).losses


def test_each_mistake_is_the_one_it_is_named_for():
    batch = teacher_forcing([[1, 2], [3, 4]], [[8, 9, 10], [11]], 0, 0)
    assert decoder_runs.with_prompt(batch).tolist() == [[1, 2, 8, 9, 10, 0], [3, 4, 11, 0, IGNORED, IGNORED]]
    assert decoder_runs.without_end(batch)[1].tolist() == [IGNORED, IGNORED, 11, IGNORED, IGNORED, IGNORED]
    assert decoder_runs.shifted_twice(batch)[0].tolist() == [IGNORED, 8, 9, 10, 0, IGNORED]
    torch.manual_seed(0)
    peeking = decoder_runs.Peeking(12, 8, 1, 2, 16, 8)
    ids = batch["input_ids"]
    other = ids.clone()
    other[0, 3] = 5
    assert not torch.allclose(peeking(ids)[0][0, 0], peeking(other)[0][0, 0]), "the first place sees the fourth"


# ---------------------------------------------------------------- figures


def test_figure_of_runs_tells_its_numbers(runs):
    figure = plots.loss_and_writing({name: run.as_plot() for name, run in runs.items()})
    assert len(figure.axes) == 8
    assert "run 09-c" in figure.alt and "right 100%" in figure.alt
    assert len({axes.get_ylim() for axes in figure.axes[:4]}) == 1, "one scale for all losses"
    assert plots.png(figure) == plots.png(figure)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "nothing to draw"),
        ({"a": ([0.0], ([0], [1.0]))}, "losses must be positive"),
        ({"a": ([1.0], ([0], [1.5]))}, "shares lie in 0"),
        ({"a": ([1.0], ([0, 1], [1.0]))}, "one a step"),
        ({str(i): ([1.0], ([0], [1.0])) for i in range(5)}, "at most 4"),
    ],
)
def test_runs_that_can_not_be_drawn_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        plots.loss_and_writing(runs)


def test_cross_attention_map():
    weights = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    figure = plots.cross_attention(weights, ["a", "b", "c"], ["r", "s", "t", "u"])
    mean = weights.mean(0)
    assert f"'b': '{'rstu'[int(mean[1].argmax())]}' ({mean[1].max():.0%})" in figure.alt
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), mean.numpy())
    for wrong, message in (
        ((weights, ["a"], ["r", "s", "t", "u"]), "for 1 and 4"),
        ((2 * weights, ["a", "b", "c"], ["r", "s", "t", "u"]), "adds up to 1"),
        ((torch.ones(0, 4), [], ["r", "s", "t", "u"]), "1 to 60"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.cross_attention(*wrong)

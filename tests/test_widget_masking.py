"""The mask explorer without a browser: what it shows is what the encoder computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tiny
import torch
from widget_cases import ExplorerTests, text

from peft_helpers import tasks, widgets
from peft_helpers.widgets import masking

TEXT = "red sea very warm not cold"
LABELS = ("warm", "cold")


def small(guesser: bool = False) -> masking.Sentence:
    torch.manual_seed(0)
    model = tiny.model("bert").eval()
    model.classifier.weight.data *= 20
    head = None
    if guesser:
        from transformers import AutoModelForMaskedLM

        head = AutoModelForMaskedLM.from_config(model.config).eval()
    return masking.read_sentence(model, tiny.tokenizer(), LABELS, TEXT, head)


@pytest.fixture(scope="module")
def sentence() -> masking.Sentence:
    return small()


@pytest.fixture
def made(sentence) -> widgets.Explorer:
    return masking.explore(sentence, 4)


# ---------------------------------------------------------------- what is computed


def test_every_way_of_hiding_equals_transformers():
    model, tokenizer = tiny.model("bert").eval(), tiny.tokenizer()
    sentence = masking.read_sentence(model, tokenizer, LABELS, TEXT)
    model.set_attn_implementation("eager")
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    t = 4
    gone = torch.cat([ids[:, :t], ids[:, t + 1 :]], dim=1)
    hidden, mask = ids.clone(), torch.ones_like(ids)
    hidden[0, t], mask[0, t] = tokenizer.mask_token_id, 0
    for way, (batch, seen) in {"token": (hidden, None), "mask": (ids, mask), "deleted": (gone, None)}.items():
        with torch.no_grad():
            output = model(batch, attention_mask=seen, output_attentions=True)
        np.testing.assert_allclose(sentence.logits[way][t], output.logits[0].numpy(), atol=1e-5)
        maps, expected = sentence.maps[way][t], torch.stack(output.attentions)[:, 0].numpy()
        if way == "deleted":
            assert np.isnan(maps[..., t, :]).all() and np.isnan(maps[..., :, t]).all()
            maps = np.delete(np.delete(maps, t, axis=-1), t, axis=-2)
        np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_masked_is_not_deleted(sentence):
    t = 3
    assert sentence.maps["mask"][t][..., :, t].max() == 0, "nobody looks at it"
    np.testing.assert_allclose(sentence.maps["mask"][t][..., t, :].sum(-1), 1, atol=1e-6)  # but it looks
    assert not np.allclose(sentence.logits["mask"][t], sentence.logits["deleted"][t], atol=1e-6)


def test_effects_are_the_changes_of_the_leading_margin(sentence):
    reading = masking.compute(sentence, 2, "token", 1, 0)
    leading = int(reading.before.argmax())
    change = np.diff([logits[leading] - logits[1 - leading] for logits in (reading.before, reading.after)])
    assert reading.effects[2] == pytest.approx(abs(change[0]), rel=1e-5)
    assert reading.effects[0] == reading.effects[-1] == 0, "[CLS] and [SEP] are never hidden"
    np.testing.assert_allclose(reading.weights, sentence.maps["token"][2][0].mean(0))
    one = masking.compute(sentence, 2, "token", 2, 1)
    np.testing.assert_allclose(one.weights, sentence.maps["token"][2][1, 0])
    assert masking.compute(sentence, 0, "mask", 1, 1).shown == sentence.tokens


def test_margins_of_more_than_two_classes():
    logits = np.array([[1.0, 5.0, 3.0], [4.0, 0.0, 9.0]])
    assert masking.margins(logits, 1).tolist() == [2.0, -9.0]


def test_guesses_come_only_with_a_head(sentence):
    assert sentence.guesses == ()
    found = small(guesser=True).guesses
    assert len(found) == len(sentence.tokens) and all(len(row) == masking.GUESSES for row in found)
    assert all(row[0][1] >= row[1][1] >= row[2][1] > 0 for row in found)
    reading = masking.compute(small(guesser=True), 2, "token", 1, 0)
    assert "the model guesses" in masking.describe(reading).summary


@pytest.mark.parametrize("wrong", ["", "red " * 15])
def test_texts_without_room_are_refused(wrong):
    with pytest.raises(ValueError, match="1 to 14 word pieces"):
        masking.read_sentence(tiny.model("bert"), tiny.tokenizer(), LABELS, wrong)


# ---------------------------------------------------------------- the widget


class TestMaskExplorer(ExplorerTests):
    names = ("mask",)
    changes = {"mask": [("way", "deleted"), ("position", 1), ("layer", 1), ("head", 2)]}


def test_every_state_can_be_drawn(made, sentence):
    size = len(sentence.tokens)
    for way in masking.WAYS:
        for position in range(size - 1):
            reading = made.compute(way=way, position=position, layer=1 + position % 2, head=position % 3)
            made.picture.jpeg(reading)
            assert not re.search(r"\b(nan|NaN|inf\w*)\b", made.describe(reading).as_text())


def test_the_readout_says_how_a_word_was_hidden(made):
    assert "'warm' hidden ([MASK] in its place)" in text(made)
    made.controls["way"].value = "deleted"
    assert "its place is gone" in text(made)
    made.controls["position"].value = 0
    assert "Nothing is hidden" in text(made)


def test_equal_words_are_told_apart_on_the_slider():
    model = tiny.model("bert").eval()
    sentence = masking.read_sentence(model, tiny.tokenizer(), LABELS, "sea not sea")
    names = [name for name, _ in masking.explore(sentence).controls["position"].options]
    assert names == ["nothing", "sea (1)", "not", "sea (3)"]


def test_on_the_shipped_encoder():
    made = widgets.mask_explorer("pocket-bert", tasks.load("sentiment"), labels=60)
    assert "hidden ([MASK] in its place)" in text(made)
    readings = [made.compute(**(made.state() | {"way": way})) for way in masking.WAYS]
    assert len({reading.after.tolist()[0] for reading in readings}) == 3, "three ways, three answers"

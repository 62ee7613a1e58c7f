"""Mask explorer (lesson 04): hide a word in one of three ways -> the attention maps, the logits, the model's guesses.

All states are computed once, when the explorer is made: one pass of the from-scratch encoder over every word hidden in
every way. The logits come from a linear head on the frozen encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from peft_helpers.plots.style import COLORS, panels, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

TEXT = "The room was cold but the people were wonderful."
WAYS = {"token": "[MASK] in its place", "mask": "attention mask 0", "deleted": "deleted"}
FEWEST, MOST = 1, 14  # words and pieces of the text that the picture has room for
GUESSES = 3
MAP = matplotlib.colormaps["Blues"].with_extremes(bad="#e8d9d9")


@dataclass(frozen=True)
class Sentence:
    """Everything that the explorer can show of one text of T tokens, [CLS] and [SEP] included.

    Attributes:
        tokens: the T tokens.
        labels: the K classes' names.
        maps: way -> (T, L, H, T, T), the attention maps when token t is hidden; NaN where a token is gone. Token 0,
            [CLS], stands for nothing hidden.
        logits: way -> (T, K), alike.
        guesses: for each token, the likeliest pieces in its place and their probabilities; empty without a head for it.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    maps: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    guesses: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True)
class MaskReading:
    """One state.

    Attributes:
        position: the hidden token's; 0 for none.
        way: a key of `WAYS`.
        where: the layer and head shown, in words.
        shown: the T tokens as they stand on the axes.
        weights: (T, T), of the chosen layer and head; NaN where a token is gone.
        looked_at: (T,), how much [CLS] looks at each token of the whole text, same layer and head.
        effects: (T,), the size of the change of the leading class's margin if that token is hidden this way.
        before, after: (K,), the logits of the whole text and of this one.
    """

    sentence: Sentence
    position: int
    way: str
    where: str
    shown: tuple[str, ...]
    weights: np.ndarray
    looked_at: np.ndarray
    effects: np.ndarray
    before: np.ndarray
    after: np.ndarray


def read_sentence(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], text: str, guesser=None
) -> Sentence:
    """Hide every word of the text in every way.

    Args:
        model: a BERT classifier whose logits mean something.
        tokenizer: its tokenizer.
        labels: names of the classes.
        text: short enough for the picture.
        guesser: a masked-language model with the same tokenizer, or None.

    Raises:
        ValueError: a text that the picture has no room for.
    """
    import torch

    from peft_helpers.encoder import copy_bert

    ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
    size = len(ids)
    if not FEWEST <= size - 2 <= MOST:
        raise ValueError(f"the text must have {FEWEST} to {MOST} word pieces; {text!r:.60} has {size - 2}")
    ours, head = copy_bert(model.cpu().float().eval()), model.classifier
    maps, logits = {}, {}
    for way in WAYS:
        batch, mask = ids.repeat(size, 1), torch.ones(size, size, dtype=torch.long)
        for t in range(1, size - 1):
            if way == "token":
                batch[t, t] = tokenizer.mask_token_id
            elif way == "mask":
                mask[t, t] = 0
            else:  # what follows moves up; the free place at the end is padding
                batch[t, t:-1], batch[t, -1], mask[t, -1] = ids[t + 1 :], tokenizer.pad_token_id, 0
        with torch.no_grad():
            output = ours(batch, mask)
            made, logits[way] = torch.stack(output.maps, 1).numpy(), head(output.pooled).numpy()
        if way == "deleted":
            for t in range(1, size - 1):
                left = np.delete(np.arange(size), t)
                whole = np.full_like(made[t], np.nan)
                whole[..., left[:, None], left] = made[t, ..., :-1, :-1]
                made[t] = whole
        made[size - 1], logits[way][size - 1] = made[0], logits[way][0]
        maps[way] = made
    tokens = tuple(tokenizer.convert_ids_to_tokens(ids))
    return Sentence(tokens, tuple(labels), maps, logits, _guesses(guesser, tokenizer, ids))


def _guesses(guesser, tokenizer, ids) -> tuple[tuple[tuple[str, float], ...], ...]:
    import torch

    if guesser is None:
        return ()
    batch = ids.repeat(len(ids), 1)
    batch.fill_diagonal_(tokenizer.mask_token_id)
    with torch.no_grad():
        shares = guesser(input_ids=batch).logits.diagonal().T.softmax(-1)  # (T, V): row t at position t
    best = shares.topk(GUESSES)
    return tuple(
        tuple(zip(tokenizer.convert_ids_to_tokens(row), values.tolist(), strict=True))
        for row, values in zip(best.indices, best.values, strict=True)
    )


def margins(logits: np.ndarray, leading: int) -> np.ndarray:
    """The leading class's logit less the highest of the others, (…, K) -> (…)."""
    return logits[..., leading] - np.delete(logits, leading, axis=-1).max(axis=-1)


def compute(sentence: Sentence, position: int, way: str, layer: int, head: int) -> MaskReading:
    """One choice of the controls -> everything that the explorer shows.

    Args:
        position: of the hidden token; 0 hides none.
        layer: from 1.
        head: from 1; 0 is the mean of all.
    """

    def chosen(maps: np.ndarray) -> np.ndarray:  # (L, H, T, T) -> (T, T)
        return maps[layer - 1].mean(axis=0) if head == 0 else maps[layer - 1, head - 1]

    before, all_after = sentence.logits[way][0], sentence.logits[way]
    leading = int(before.argmax())
    changes = np.abs(margins(all_after, leading) - margins(before, leading))
    shown = list(sentence.tokens)
    if position:
        word = shown[position]
        shown[position] = {"token": "[MASK]", "mask": f"({word})", "deleted": "–"}[way]
    return MaskReading(
        sentence, position, way, f"layer {layer}, {'mean of the heads' if head == 0 else f'head {head}'}", tuple(shown),
        chosen(sentence.maps[way][position]), chosen(sentence.maps[way][0])[0], changes, before, all_after[position],
    )  # fmt: skip


class MaskView:
    """The map, the effect of every word beside the attention it gets, and the logits before and after."""

    @styled
    def __init__(self, sentence: Sentence):
        size, classes = len(sentence.tokens), len(sentence.labels)
        self.figure, (grid, words, bars) = panels(3, width=WIDTH, height=HEIGHT)
        rows = np.arange(size)
        self.map = grid.imshow(np.zeros((size, size)), vmin=0, vmax=0.5, cmap=MAP, aspect="auto")
        grid.set(title="row looks at column", xticks=[], yticks=[])
        self.names = [grid.text(-0.7, y, "", ha="right", va="center", fontsize=8.5) for y in rows]
        self.names += [grid.text(x, size - 0.3, "", ha="center", va="top", rotation=90, fontsize=8.5) for x in rows]
        for name in self.names:  # they move: room for them is kept by the limits below, not by the layout
            name.set_in_layout(False)
        self.frame = grid.plot([], [], color=COLORS["orange"], linewidth=1.6)[0]
        below = 0.28 * size  # room for the names of the columns, and for a legend beside them
        grid.set(xlim=(-0.42 * size, size - 0.5), ylim=(size + below, -0.6))
        for side in ("left", "bottom"):
            grid.spines[side].set_visible(False)
        self.effects = words.barh(rows, np.zeros(size), 0.62, color=COLORS["sky"], label="change if hidden")
        self.looks = words.plot(np.zeros(size), rows, linestyle="none", marker="D", markersize=5,
                                color=COLORS["purple"], label="[CLS] looks")[0]  # fmt: skip
        words.set(title="share of the largest", xlim=(0, 1.06), ylim=(size + below, -0.6), xticks=[], yticks=[])
        words.spines["bottom"].set_visible(False)
        words.legend(loc="lower left", borderaxespad=0, handlelength=1.2, fontsize=10)
        places = np.arange(classes)
        self.before = bars.bar(places - 0.2, np.zeros(classes), 0.38, facecolor="white", edgecolor=COLORS["gray"],
                               hatch="////", label="whole")  # fmt: skip
        self.after = bars.bar(places + 0.2, np.zeros(classes), 0.38, color=COLORS["blue"], label="hidden")
        bars.axhline(0, color=COLORS["black"], linewidth=1)
        every = np.concatenate([v.ravel() for v in sentence.logits.values()])
        reach = 1.15 * float(np.abs(every).max()) or 1.0
        bars.set(title="logits", xticks=places, xticklabels=sentence.labels, ylim=(-reach, 1.45 * reach))
        bars.grid(axis="x", visible=False)
        bars.legend(loc="upper right", borderaxespad=0, handlelength=1.2, ncols=2, columnspacing=0.8)
        self.moving = [self.map, self.frame, *self.names, *self.effects, self.looks, *self.before, *self.after]

    def show(self, reading: MaskReading) -> None:
        """Update map, names, bars and dots."""
        size = len(reading.shown)
        self.map.set_data(np.ma.masked_invalid(reading.weights))
        t = reading.position
        xs, ys = [-0.5, size - 0.5, size - 0.5, -0.5, -0.5], [t - 0.5, t - 0.5, t + 0.5, t + 0.5, t - 0.5]
        self.frame.set_data(*((xs, ys) if t else ([], [])))
        for i, (text, token) in enumerate(zip(self.names, (*reading.shown, *reading.shown), strict=True)):
            text.set_text(token)
            text.set_color(COLORS["orange"] if t and i % size == t else COLORS["black"])
        for i, (bar, value) in enumerate(
            zip(self.effects, reading.effects / (reading.effects.max() or 1), strict=True)
        ):
            bar.set_width(value)
            bar.set_facecolor(COLORS["orange"] if t and i == t else COLORS["sky"])
        self.looks.set_xdata(reading.looked_at / reading.looked_at.max())
        for group, heights in ((self.before, reading.before), (self.after, reading.after)):
            for bar, height in zip(group, heights, strict=True):
                bar.set_height(height)
        self.figure.alt = (
            "Three panels: an attention map with the hidden word's row framed; for every word how much hiding it "
            "changes the answer, beside how much [CLS] looks at it; the logits of the whole and the changed text. "
            + describe(reading).summary
        )


def describe(reading: MaskReading) -> Readout:
    """The exact values."""
    sentence, t = reading.sentence, reading.position
    leading = int(reading.before.argmax())
    first, second = (float(margins(logits, leading)) for logits in (reading.before, reading.after))
    if t:
        looks = reading.weights[:, t]
        column = "is gone" if np.isnan(looks).all() else f"gets {np.nanmean(looks):.3f} of a token's attention"
        summary = (
            f"{sentence.tokens[t]!r} hidden ({WAYS[reading.way]}): the margin of {sentence.labels[leading]!r} goes "
            f"from {figures(first, 3)} to {figures(second, 3)}. In {reading.where} its place {column}."
        )
        if sentence.guesses:
            guesses = ", ".join(f"{piece!r} {share:.0%}" for piece, share in sentence.guesses[t])
            summary += f" Behind [MASK] the model guesses: {guesses}."
    else:
        summary = (
            f"Nothing is hidden: the margin of {sentence.labels[leading]!r} is {figures(first, 3)}. Choose a word."
        )
    rows = [
        [label, figures(before, 3), figures(after, 3), figures(after - before, 3)]
        for label, before, after in zip(sentence.labels, reading.before.tolist(), reading.after.tolist(), strict=True)
    ]
    strongest, favorite = (sentence.tokens[int(v.argmax())] for v in (reading.effects, reading.looked_at))
    summary += f" Hiding {strongest!r} changes most; [CLS] looks most at {favorite!r}."
    return Readout(summary, ("logit of", "whole text", "now", "change"), rows)


def mask_explorer(backbone: str, task: Task, text: str = TEXT, labels: int = 200, word: str = "cold") -> Explorer:
    """Hide one word after the other, in three ways that are often mixed up, and see what moves.

    Args:
        backbone: a BERT that `backbones.load` knows.
        task: a classification task; so many of its labels (`labels`) fit the head.
        text: at most 14 word pieces.
        word: hidden at the start, if the text has it; else its first word.

    Raises:
        ValueError: a text that the picture has no room for, or a backbone that is no BERT.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    from peft_helpers import backbones, probing

    model, tokenizer = backbones.load(backbone, task)
    probing.fit_classifier(model, tokenizer, task.subset(labels))
    place = backbones.find(backbone)
    guesser, found = AutoModelForMaskedLM.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    guesser = None if found["missing_keys"] else guesser.eval()
    sentence = read_sentence(model, tokenizer, task.labels, text, guesser)
    return explore(sentence, sentence.tokens.index(word) if word in sentence.tokens else 1)


def explore(sentence: Sentence, position: int = 1) -> Explorer:
    """The explorer of a text that is read already."""
    layers, heads = next(iter(sentence.maps.values())).shape[1:3]
    places = [("nothing", 0), *((sentence.tokens[t], t) for t in range(1, len(sentence.tokens) - 1))]
    names = [name for name, _ in places]
    places = [(name if names.count(name) == 1 else f"{name} ({t})", t) for name, t in places]
    controls = {
        "way": choice("how", [("[MASK] token", "token"), ("mask 0", "mask"), ("deleted", "deleted")], "token"),
        "position": steps("hidden word", places, position),
        "layer": steps("layer", list(range(1, layers + 1)), layers),
        "head": steps("head", [("mean", 0), *((str(h), h) for h in range(1, heads + 1))], 0),
    }
    title = "Mask explorer: hidden word, way of hiding, layer, head"
    return Explorer("mask", title, controls, partial(compute, sentence), partial(MaskView, sentence), describe)

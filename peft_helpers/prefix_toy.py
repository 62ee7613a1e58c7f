"""A very small decoder for lesson 10 that is to be steered by a prefix; in three of its runs something is broken.

Lesson 09's dictionary again: two digits stand for a word. Pretrained, the decoder spells it; behind the sign R it
spells it backward. Then it is frozen, and a prefix shall do what R did: the digits alone are given, and the word is
wanted backward. Without the prefix the decoder must spell forward as before.
"""

from __future__ import annotations

import copy
import functools
import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peft_helpers.decoder import Decoder, answer_loss, teacher_forcing
from peft_helpers.decoder_runs import END, SYMBOLS, dictionary, numbers, write_all
from peft_helpers.prefix import PlainPrefix, PrefixDecoder

FORWARD, BACKWARD = len(SYMBOLS), len(SYMBOLS) + 1  # the signs in front of the digits
WIDTH, LAYERS, HEADS, POSITIONS = 32, 2, 2, 20
LENGTH = 4  # of the prefix, and most signs in a row
BASE_STEPS, STEPS, BATCH, LOOK = 300, 100, 32, 20
BASE_RATE, RATE = 8e-3, 3e-2


@functools.cache
def pretrained(seed: int = 0) -> Decoder:
    """The decoder that knows both signs; don't change it, it is kept.

    One to four signs stand in front of the digits, or none, which means forward: so all positions are known.
    """
    words, draw = list(dictionary().items()), random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Decoder(len(SYMBOLS) + 2, WIDTH, LAYERS, HEADS, 4 * WIDTH, POSITIONS)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.1)

        def pairs() -> tuple[list[list[int]], list[list[int]]]:
            asked, told = [], []
            for key, word in draw.choices(words, k=BATCH):
                backward = draw.random() < 0.5
                signs = [BACKWARD if backward else FORWARD] * draw.randint(int(backward), LENGTH)
                asked.append(signs + numbers(key))
                told.append(numbers(word[::-1] if backward else word))
            return asked, told

        _train(model, list(model.parameters()), pairs, BASE_STEPS, BASE_RATE, lambda step, loss: None)
    return model.requires_grad_(False)


def _train(model: nn.Module, trained: list[Tensor], pairs, steps: int, rate: float, look) -> None:
    """AdamW without decay, the rate falling to 0; `look(step, loss)` before each step."""
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    for step in range(steps):
        batch = teacher_forcing(*pairs(), END, END)
        logits, _ = model(batch["input_ids"], batch["attention_mask"])
        loss = answer_loss(logits, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        look(step, loss.item())
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimizer.step()


# ---------------------------------------------------------------- steering, and what goes wrong


class Closed(PrefixDecoder):
    """The mask is extended with zeros: nobody sees the prefix."""

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, past=None):
        made = self.prefix()
        if past is None:
            past = [(key.expand(len(ids), -1, -1, -1), value.expand(len(ids), -1, -1, -1)) for key, value in made]
        if attention_mask is None:
            attention_mask = ids.new_ones(len(ids), past[0][0].shape[2] - LENGTH + ids.shape[1])
        closed = attention_mask.new_zeros(len(ids), LENGTH)
        return self.base(ids, torch.cat([closed, attention_mask], dim=1), past)


def from_zero(model: PrefixDecoder) -> PrefixDecoder:
    """The same prefix over texts that begin at position 0: the table of positions is moved l up."""
    base = copy.deepcopy(model.base)
    base.positions.weight.data = base.positions.weight.data.roll(LENGTH, 0)
    return PrefixDecoder(base, model.prefix)


@dataclass(frozen=True)
class SteeredRun:
    """One run.

    Attributes:
        losses: of every step.
        looks: (steps, share written backward with the prefix, share written forward without it).
        written: what it writes for each prompt in the end, with the prefix.
    """

    losses: list[float]
    looks: tuple[list[int], list[float], list[float]]
    written: dict[str, str]

    def as_plot(self) -> dict[str, dict]:
        """What `plots.broken_runs` draws."""
        steps, backward, forward = self.looks
        right = {"with prefix, backward": (steps, backward), "prefix out, forward": (steps, forward)}
        return {"loss": {"train": self.losses}, "words right": right}


def steer(
    make: type[PrefixDecoder] = PrefixDecoder, write_from_zero: bool = False, embeddings: bool = False, seed: int = 0
) -> SteeredRun:
    """Train a prefix to have the whole dictionary written backward; write all of it now and then.

    Args:
        make: the decoder's class.
        write_from_zero: when it writes, the text begins at position 0, though in training it began at l.
        embeddings: the table of tokens, which is the head too, is trained beside the prefix.
        seed: draws the prefix and the batches.
    """
    words, draw = dictionary(), random.Random(seed)
    asked = [numbers(key) for key in words]
    with torch.random.fork_rng(devices=[]):
        base = copy.deepcopy(pretrained())
        torch.manual_seed(seed)
        model = make(base, PlainPrefix(LENGTH, LAYERS, HEADS, WIDTH, std=0.5))
        model.base.words.weight.requires_grad_(embeddings)
        losses, looks, last = [], ([], [], []), {}

        def pairs() -> tuple[list[list[int]], list[list[int]]]:
            chosen = draw.choices(list(words.items()), k=BATCH)
            return [numbers(key) for key, _ in chosen], [numbers(word[::-1]) for _, word in chosen]

        def look(step: int, loss: float) -> None:
            losses.append(loss)
            if step % LOOK == 0 or step == STEPS - 1:
                written = write_all(from_zero(model) if write_from_zero else model, asked)
                before = write_all(model.base, asked)
                looks[0].append(step)
                looks[1].append(sum(a == b[::-1] for a, b in zip(written, words.values(), strict=True)) / len(words))
                looks[2].append(sum(a == b for a, b in zip(before, words.values(), strict=True)) / len(words))
                last.update(zip(words, written, strict=True))

        _train(model, [p for p in model.parameters() if p.requires_grad], pairs, STEPS, RATE, look)
    return SteeredRun(losses, looks, last)


def runs_to_diagnose() -> dict[str, SteeredRun]:
    """The runs of lesson 10, by name; some seconds. (Answer first: the causes stand in here.)"""
    return {"10-a": steer(Closed), "10-b": steer(write_from_zero=True), "10-c": steer(embeddings=True)}

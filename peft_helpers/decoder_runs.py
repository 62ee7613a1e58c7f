"""Four runs of a very small decoder for lesson 09: they learn to spell, and three of them learn it wrongly.

A prompt is two digits, the answer the word that the two stand for: 2 to 5 letters, the same at every call. What the
answer is follows from the prompt, and the second digit from nothing: a loss that counts it has a floor, and one that
does not may fall to almost 0, whether the decoder can write or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from peft_helpers.batching import IGNORED
from peft_helpers.decoder import Decoder, answer_loss, teacher_forcing
from peft_helpers.decoding import generate
from peft_helpers.encoder import position_ids

END = 0  # also the padding, as in GPT-2
DIGITS, LETTERS = "123456", "abdegilmnorst"
SYMBOLS = ["·", *DIGITS, *LETTERS]
LONGEST = 8  # tokens written at most
WIDTH, LAYERS, HEADS = 32, 2, 2
STEPS, BATCH, RATE, LOOK = 160, 24, 8e-3, 20


def dictionary(seed: int = 0) -> dict[str, str]:
    """The 36 words: "11" -> "tirem" and so on."""
    draw = random.Random(seed)
    keys = [a + b for a in DIGITS for b in DIGITS]
    return {key: "".join(draw.choices(LETTERS, k=draw.randint(2, 5))) for key in keys}


def numbers(text: str) -> list[int]:
    """A text of `SYMBOLS` as token ids."""
    return [SYMBOLS.index(symbol) for symbol in text]


class Peeking(Decoder):
    """A decoder whose causal mask was forgotten: every token sees the whole text, what comes next included."""

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, past: None = None):
        """As `Decoder`, without cache."""
        seen = torch.ones_like(ids) if attention_mask is None else attention_mask
        hidden = self.words(ids) + self.positions(position_ids(seen))
        for layer in self.layers:
            hidden, _ = layer(hidden, seen.bool()[:, None, None, :])
        return self.norm(hidden) @ self.words.weight.T, None


def with_prompt(batch: dict[str, Tensor]) -> Tensor:
    """Labels on x too."""
    return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)


def shifted_twice(batch: dict[str, Tensor]) -> Tensor:
    """Labels moved by hand, and once more by the loss."""
    return torch.cat([batch["labels"][:, 1:], torch.full_like(batch["labels"][:, :1], IGNORED)], dim=1)


def without_end(batch: dict[str, Tensor]) -> Tensor:
    """Everything masked that has the id of the padding, the end too."""
    return batch["labels"].masked_fill(batch["input_ids"] == END, IGNORED)


@dataclass(frozen=True)
class SpellingRun:
    """One run.

    Attributes:
        losses: of every step.
        looks: (steps, shares of the words that were written right).
        written: what it writes for each prompt in the end, up to its own end sign; cut after `LONGEST` tokens.
    """

    losses: list[float]
    looks: tuple[list[int], list[float]]
    written: dict[str, str]

    def as_plot(self) -> tuple[list[float], tuple[list[int], list[float]]]:
        """What `plots.loss_and_writing` draws."""
        return self.losses, self.looks


def spelling_run(make: type[Decoder] = Decoder, labels: Callable | None = None, seed: int = 0) -> SpellingRun:
    """Train a random decoder of 2 layers × 32 on the dictionary; write all words now and then, greedily.

    Args:
        make: the decoder's class.
        labels: batch -> labels (B, T); by default those of `teacher_forcing`.
        seed: draws weights and batches.
    """
    words = dictionary()
    prompts, answers = [numbers(key) for key in words], [numbers(word) for word in words.values()]
    losses, looks = [], ([], [])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(len(SYMBOLS), WIDTH, LAYERS, HEADS, 4 * WIDTH, 16)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
        for step in range(STEPS + 1):
            if step % LOOK == 0:
                written = write_all(model, prompts)
                looks[0].append(step)
                looks[1].append(sum(a == b for a, b in zip(written, words.values(), strict=True)) / len(words))
            rows = torch.randperm(len(words))[:BATCH].tolist()
            batch = teacher_forcing([prompts[i] for i in rows], [answers[i] for i in rows], END, END)
            logits, _ = model(batch["input_ids"], batch["attention_mask"])
            loss = answer_loss(logits, labels(batch) if labels else batch["labels"])
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:  # down to 0, so that the end is calm
                group["lr"] = RATE * (1 - step / (STEPS + 1))
            optimizer.step()
            losses.append(loss.item())
    return SpellingRun(losses, looks, dict(zip(words, written, strict=True)))


def write_all(model: Decoder, prompts: list[list[int]]) -> list[str]:
    """What the decoder writes for every prompt."""
    ids = torch.tensor(prompts)
    made = generate(model, ids, torch.ones_like(ids), LONGEST, END, cached=not isinstance(model, Peeking))
    return ["".join(SYMBOLS[i] for i in row).split(SYMBOLS[END])[0] for row in made.tolist()]


def runs_to_diagnose() -> dict[str, SpellingRun]:
    """The four runs of lesson 09, by name; some seconds."""
    return {
        "09-a": spelling_run(Peeking),
        "09-b": spelling_run(labels=without_end),
        "09-c": spelling_run(labels=with_prompt),
        "09-d": spelling_run(labels=shifted_twice),
    }

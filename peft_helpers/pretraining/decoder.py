"""The decoder's objective: causal language modeling over prose, structured text and repeats (`pocket-gpt2`).

Repeats are random tokens, said again and again. Nothing but looking back can predict them, so they teach to copy: the
induction heads of Olsson et al. (arXiv:2209.11895). Without them a small decoder learns that slowly, and a frozen one
could not take a name out of a list.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peft_helpers import storage
from peft_helpers.pretraining import corpora, structure
from peft_helpers.pretraining.tokenizers import END_OF_TEXT

BLOCK = 128  # tokens a row in training
HELD_OUT = 64  # blocks of each kind that only measure
REPEATS = 6  # one row in so many is a repeat; the others are prose and structured text in equal parts
SHORTEST, LONGEST = 4, 48  # tokens that are said again
PASSAGE = 600  # characters a passage of prose has at most
ATTENTION = "sdpa" if torch.cuda.is_available() else "eager"  # eager is the faster one for short rows on a CPU


def write_tokens(tokenizer, texts: Iterator[str], out: Path, most: int, end: int) -> int:
    """Write texts, each closed by the token `end`, as one array of 16-bit token numbers; about `most` of them."""
    parts, total = [], 0
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == 1000:
            for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
                parts.append(np.array([*ids, end], np.uint16))
                total += len(ids) + 1
            batch = []
            if total >= most:
                break
    with storage.replace_atomically(out) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate(parts))
    return total


def prepare(tokenizer, folder: Path, exclude: list[Path], work: Path, most: int, seed: int = 0) -> None:
    """Write `prose.npy` and `structured.npy`, about `most` tokens each."""
    draw = random.Random(seed)
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    prose = write_tokens(tokenizer, corpora.passages(folder, exclude, PASSAGE, seed), work / "prose.npy", most, end)
    documents = (structure.document(draw) for _ in iter(int, 1))
    structured = write_tokens(tokenizer, documents, work / "structured.npy", most, end)
    print(f"{prose:,} tokens of prose, {structured:,} of structured text")


def new_model(tokenizer, positions: int = 256, width: int = 256, layers: int = 4):
    """A GPT-2 of random weights, without dropout; GELU's tanh form is GPT-2's own, here as one fused operation."""
    from transformers import AutoModelForCausalLM, GPT2Config

    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=width, n_layer=layers, n_head=width // 64,
        activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)


def repeat(draw: np.random.Generator, tokens: np.ndarray) -> tuple[np.ndarray, int]:
    """A row of `BLOCK` + 1 tokens, some of these said again and again, and how many stand there for the first time."""
    length = int(draw.integers(SHORTEST, LONGEST + 1))
    return np.resize(draw.choice(tokens, length), BLOCK + 1), length


class CausalObjective:
    """A sixth of each batch are repeats, the rest is half prose, half structured text; see `loop.Objective`.

    Args:
        model: a causal language model.
        prose, structured: arrays of token numbers; the last `HELD_OUT` blocks of each only measure.
        batch: blocks a step.
        seed: of the draws.
        end: the token that stands between texts, which is never said again.
    """

    def __init__(self, model, prose: np.ndarray, structured: np.ndarray, batch: int, seed: int = 0, end: int = 0):
        self.model, self.batch, self.seed = model, batch, seed
        if batch < 3:
            raise ValueError(f"a batch holds prose, structured text and a repeat: 3 rows or more; got {batch}")
        self.half = (batch - max(1, batch // REPEATS)) // 2
        self.repeats = batch - 2 * self.half
        self.tokens = np.setdiff1d(np.arange(model.config.vocab_size), [end])
        self.texts = {"prose": prose, "structured": structured}
        self.device = next(model.parameters()).device
        sizes = {name: len(tokens) for name, tokens in self.texts.items()}
        self.settings = {"batch": batch, "block": BLOCK, "repeats": self.repeats, "tokens": sizes}

    def _loss(self, rows: np.ndarray) -> Tensor:
        """(B, BLOCK + 1) tokens -> (B, BLOCK) losses."""
        ids = torch.from_numpy(rows.astype(np.int64)).to(self.device)  # (B, T + 1)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `loop.Objective`."""
        draw, rows, half = np.random.default_rng((self.seed, step)), [], self.half
        for tokens in self.texts.values():
            starts = draw.integers(0, len(tokens) - (HELD_OUT + 1) * (BLOCK + 1), half)
            rows += [tokens[at : at + BLOCK + 1] for at in starts]
        repeats, firsts = self._repeats(draw, self.repeats)
        losses = self._loss(np.concatenate([np.stack(rows), repeats]))
        prose, structured = losses[:half].mean(), losses[half : 2 * half].mean()
        again = losses[2 * half :][~firsts].mean()
        loss = (half * (prose + structured) + self.repeats * again) / self.batch
        return loss, {"prose": prose.detach(), "structured": structured.detach(), "repeats": again.detach()}

    def _repeats(self, draw: np.random.Generator, count: int) -> tuple[np.ndarray, Tensor]:
        """(N, BLOCK + 1) tokens, and True where one of the (N, BLOCK) predicted stands there for the first time."""
        rows, lengths = zip(*(repeat(draw, self.tokens) for _ in range(count)), strict=True)
        firsts = np.arange(1, BLOCK + 1) < np.array(lengths)[:, None]  # these nobody can predict
        return np.stack(rows), torch.from_numpy(firsts).to(self.device)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """See `loop.Objective`."""
        figures = {}
        for name, tokens in self.texts.items():
            rows = tokens[-HELD_OUT * (BLOCK + 1) :].reshape(HELD_OUT, BLOCK + 1)
            figures[name] = float(np.mean([self._loss(part).mean().item() for part in np.split(rows, 4)]))
        repeats, firsts = self._repeats(np.random.default_rng(0), HELD_OUT // 2)
        figures["repeats"] = self._loss(repeats)[~firsts].mean().item()
        return figures

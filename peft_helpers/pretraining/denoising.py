"""The encoder-decoder's objective: restore damaged prose, and put lists into words (`pocket-bart`).

Prose is damaged by text infilling (BART, arXiv:1910.13461, section 2.2): spans of Poisson(3) tokens, 30 % of all, are
each replaced by one `<mask>`. Structured text needs no damage: the list is the input, its sentences are the output.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peft_helpers.pretraining import structure
from peft_helpers.pretraining.decoder import ATTENTION

BLOCK = 80  # tokens of prose a row
HELD_OUT = 48  # rows of each kind that only measure
MASKED, SPAN = 0.3, 3.0  # share of the tokens that are hidden; mean length of a hidden span


def new_model(tokenizer, positions: int = 256, width: int = 256, layers: int = 2):
    """A BART of random weights, without dropout: so many layers in the encoder and in the decoder."""
    from transformers import AutoModelForSeq2SeqLM, BartConfig

    config = BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=positions, d_model=width,
        encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
        encoder_attention_heads=width // 64, decoder_attention_heads=width // 64,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return AutoModelForSeq2SeqLM.from_config(config, attn_implementation=ATTENTION)


def infill(ids: np.ndarray, mask_id: int, draw: np.random.Generator) -> list[int]:
    """Replace spans of tokens by one mask each, until `MASKED` of the (T,) tokens are hidden."""
    hidden = np.zeros(len(ids), bool)
    starts = set()
    while hidden.sum() < MASKED * len(ids):
        length = max(1, min(int(draw.poisson(SPAN)), 10))
        at = int(draw.integers(0, len(ids)))
        if not hidden[max(0, at - 1) : at + length + 1].any():
            hidden[at : at + length] = True
            starts.add(at)
    made: list[int] = []
    for i, token in enumerate(ids.tolist()):
        if not hidden[i]:
            made.append(token)
        elif i in starts:
            made.append(mask_id)
    return made


def _padded(rows: list[list[int]], pad: int, step: int = 16) -> Tensor:
    """(B, T) with T a multiple of `step`: few different shapes, for each of which a CPU keeps kernels and buffers."""
    width = math.ceil(max(map(len, rows)) / step) * step
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


class DenoisingObjective:
    """Half of each batch is damaged prose, half are lists with their sentences; see `loop.Objective`.

    Args:
        model: an encoder-decoder.
        tokenizer: `<s> … </s>` around each text.
        prose: token numbers of running text; the last rows only measure.
        batch: rows a step.
        seed: of the draws.
    """

    def __init__(self, model, tokenizer, prose: np.ndarray, batch: int, seed: int = 0):
        self.model, self.tokenizer, self.prose, self.batch, self.seed = model, tokenizer, prose, batch, seed
        self.device = next(model.parameters()).device
        self.settings = {
            "batch": batch, "block": BLOCK, "masked": MASKED, "span": SPAN, "tokens": {"prose": len(prose)},
        }  # fmt: skip

    def _wrap(self, ids: list[int]) -> list[int]:
        return [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id]

    def _prose(self, starts: np.ndarray, draw: np.random.Generator) -> list[tuple[list[int], list[int]]]:
        rows = [np.asarray(self.prose[at : at + BLOCK]) for at in starts]
        return [(self._wrap(infill(ids, self.tokenizer.mask_token_id, draw)), self._wrap(ids.tolist())) for ids in rows]

    def _structured(self, count: int, seed: int) -> list[tuple[list[int], list[int]]]:
        lists, texts = zip(*structure.examples(count, seed), strict=True)
        arrows = random.Random(seed).choices(("", " =>", " ->", ":"), k=count)
        sources = self.tokenizer([a + b for a, b in zip(lists, arrows, strict=True)], truncation=True)["input_ids"]
        return list(zip(sources, self.tokenizer(list(texts), truncation=True)["input_ids"], strict=True))

    def _loss(self, pairs: list[tuple[list[int], list[int]]]) -> Tensor:
        """Mean cross-entropy of the targets' tokens; pairs of (source, target) token numbers."""
        pad = self.tokenizer.pad_token_id
        sources, targets = (_padded([pair[side] for pair in pairs], pad).to(self.device) for side in (0, 1))
        started = targets.new_full((len(pairs), 1), self.model.config.decoder_start_token_id)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.model(
                input_ids=sources, attention_mask=(sources != pad).long(), use_cache=False,
                decoder_input_ids=torch.cat([started, targets[:, :-1]], dim=1),
            ).logits  # fmt: skip
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=pad)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `loop.Objective`."""
        draw = np.random.default_rng((self.seed, step))
        starts = draw.integers(0, len(self.prose) - (HELD_OUT + 1) * BLOCK, self.batch // 2)
        prose = self._loss(self._prose(starts, draw))
        structured = self._loss(self._structured(self.batch // 2, self.seed * 1_000_003 + step + 1))
        return (prose + structured) / 2, {"prose": prose.detach(), "structured": structured.detach()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """See `loop.Objective`."""
        starts = len(self.prose) - BLOCK * np.arange(1, HELD_OUT + 1)
        prose = self._loss(self._prose(starts, np.random.default_rng(0)))
        return {"prose": prose.item(), "structured": self._loss(self._structured(HELD_OUT, -1)).item()}

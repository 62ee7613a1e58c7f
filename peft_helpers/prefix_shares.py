"""How much of the attention goes to a prefix: λ, the prefix's share of the weights (arXiv:2110.04366, eq. 7).

Only eager attention tells its weights, so the model computes with it while it is being asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from peft_helpers import batching
from peft_helpers.methods.attention_prefix import NAMES, AttentionName, AttentionPrefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAPS = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}


def prefix_shares(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], texts: Sequence[str]
) -> dict[str, Tensor]:
    """λ by part and layer, each (L, H): the mean over the real tokens of these sources and their answers.

    Args:
        model: a decoder or an encoder-decoder that carries a prefix.
        tokenizer: the model's.
        sources: what is asked; texts: what is answered, one a source.

    Returns:
        "decoder" for a decoder; "encoder", "decoder" and "cross" for an encoder-decoder, as far as they have a prefix.

    Raises:
        ValueError: no texts, unequal numbers of them, or a model without prefix.
    """
    if not len(sources) or len(sources) != len(texts):
        raise ValueError(f"one text a source is wanted; got {len(texts)} texts for {len(sources)} sources")
    if not any(isinstance(module, AttentionPrefix) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} carries no prefix: all attention goes to the text")
    asked = [batching.prompt(s, tokenizer) if one_row(model) else tokenizer(s)["input_ids"] for s in sources]
    told = [tokenizer((" " if one_row(model) else "") + text)["input_ids"] for text in texts]
    total: dict[str, Tensor] = {}
    weight: dict[str, int] = {}
    with eager(model), torch.no_grad():
        for x, y in zip(asked, told, strict=True):  # one by one: without padding every token counts
            ids = torch.tensor([x + y if one_row(model) else x], device=next(model.parameters()).device)
            answer = {} if one_row(model) else {"decoder_input_ids": torch.tensor([y], device=ids.device)}
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **answer, output_attentions=True)
            maps = {"decoder": output.attentions} if one_row(model) else {p: output[name] for p, name in MAPS.items()}
            for part, layers in maps.items():
                rows = layers[0].shape[2]
                length = layers[0].shape[3] - {"encoder": len(x), "cross": len(x)}.get(part, rows)
                shares = torch.stack([layer[0, :, :, :length].sum(-1).sum(-1) for layer in layers])  # (L, H)
                if length:
                    total[part] = total.get(part, 0) + shares.cpu()
                    weight[part] = weight.get(part, 0) + rows
    return {part: total[part] / weight[part] for part in total}


def one_row(model: nn.Module) -> bool:
    """Whether source and answer stand in one row: a decoder only."""
    return not model.config.is_encoder_decoder


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Within it a model with a prefix computes attention by the plain formula, in eval mode."""
    was_training, attention = model.training, AttentionName(model)
    before = attention.name
    model.eval()
    attention.name = NAMES["eager"]
    try:
        yield
    finally:
        attention.name = before
        model.train(was_training)

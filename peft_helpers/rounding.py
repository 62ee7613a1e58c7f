"""Weights rounded to any number of bits after training: what precision does a finished model need? (lesson 14)

`quantization` stores weights in 8 or 4 bits; here they stay float, on as few levels as that many bits can name, so that
scores at 8, 6, 4, 3 and 2 bits can be compared.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from peft_helpers import backbones


def round_rows(weight: Tensor, bits: int) -> Tensor:
    """Each row on 2^bits − 1 equally spaced levels from −max|w| to max|w| of that row, 0 among them.

    At 8 bits the same as `quantization.quantize_rows` and back. Shape: (out, in) -> (out, in).

    Raises:
        ValueError: no matrix, or bits that are no whole number from 2 to 16.
    """
    require_bits(weight, bits)
    levels = 2 ** (bits - 1) - 1  # on either side of 0
    scale = weight.abs().amax(dim=1, keepdim=True) / levels
    return (weight / scale.where(scale > 0, 1)).round() * scale


def rounded_model(model: nn.Module, bits: int, embeddings: bool = False) -> nn.Module:
    """A copy with the matrices of all layers rounded, row by row; norms, biases, pooler and head stay as they are.

    Args:
        embeddings: round the embedding tables, too.
    """
    model = copy.deepcopy(model)
    anatomy = backbones.anatomy(model)
    sites = [site for layer in anatomy.layers for site in layer.sites.values()]
    with torch.no_grad():
        for site in [*sites, *(anatomy.embeddings if embeddings else ())]:
            site.module.weight.copy_(round_rows(site.module.weight, bits))
    return model


def rounded_bytes(model: nn.Module, bits: int, embeddings: bool = False) -> int:
    """What such a model takes when its rounded weights are packed: bits / 8 a weight, 4 bytes a row for the scale.

    Everything else counts 4 bytes, float32.
    """
    anatomy = backbones.anatomy(model)
    sites = [site for layer in anatomy.layers for site in layer.sites.values()]
    tables = [site.module.weight for site in [*sites, *(anatomy.embeddings if embeddings else ())]]
    require_bits(tables[0], bits)
    rounded = {id(table): table for table in tables}.values()
    packed = sum(-(-table.numel() * bits // 8) + 4 * len(table) for table in rounded)
    return packed + 4 * (sum(p.numel() for p in model.parameters()) - sum(table.numel() for table in rounded))


def require_bits(weight: Tensor, bits: int) -> None:
    """Refuse what can't be rounded."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(f"a matrix (out, in) of floating-point numbers is needed; got {tuple(weight.shape)}")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits is a whole number from 2 to 16; got {bits!r}")

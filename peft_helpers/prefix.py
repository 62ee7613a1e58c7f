"""Prefix-tuning from scratch: what lesson 10 builds on lesson 09's decoder.

Shapes: B texts, T tokens fed, l prefix length, L layers, H heads, d = D / H. A prefix is (L, 2, H, l, d): in each
layer a key and a value, of each head, in each slot; the same for every text. The library's own, on every architecture
and by transformers' attention, is `methods.PrefixTuning`.

Sources: Li and Liang 2021, arXiv:2101.00190, sections 4.2 and 4.3; for the mixture He et al. 2022, arXiv:2110.04366,
eq. 7.
The `require_…` functions at the end hold the input checks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peft_helpers.decoder import Cache, Decoder
from peft_helpers.encoder import attention

# ---------------------------------------------------------------- one attention


def prefix_attention(
    query: Tensor, key: Tensor, value: Tensor, prefix_key: Tensor, prefix_value: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention with l more keys and values before the text's own, open to every query.

    Shape: query (B, H, T, d), key and value (B, H, S, d), prefix (H, l, d) each, mask broadcast to (B, H, T, S).

    Returns:
        the mixed values (B, H, T, d), and the weights (B, H, T, l + S).

    Raises:
        ValueError: a prefix that does not fit the heads, or keys and values of different shapes.
    """
    require_prefix(key, prefix_key, prefix_value)
    key = torch.cat([prefix_key.expand(len(key), -1, -1, -1), key], dim=2)
    value = torch.cat([prefix_value.expand(len(value), -1, -1, -1), value], dim=2)
    opened = mask.new_ones(*mask.shape[:-1], prefix_key.shape[1])
    return attention(query, key, value, torch.cat([opened, mask], dim=-1))


def mixture(
    query: Tensor, key: Tensor, value: Tensor, prefix_key: Tensor, prefix_value: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The same from two attentions that know nothing of each other (arXiv:2110.04366, eq. 7).

    (1 − λ) attention(x) + λ attention(prefix), where λ is the prefix's part of the softmax's denominator.

    Shape: as `prefix_attention`.

    Returns:
        the mixed values (B, H, T, d), and λ (B, H, T, 1).

    Raises:
        ValueError: as `prefix_attention`.
    """
    require_prefix(key, prefix_key, prefix_value)
    scale = query.shape[-1] ** 0.5
    text = (query @ key.transpose(-2, -1) / scale).masked_fill(~mask, float("-inf"))
    prefix = query @ prefix_key.transpose(-2, -1) / scale
    share = (prefix.logsumexp(-1, keepdim=True) - text.logsumexp(-1, keepdim=True)).sigmoid()
    return (1 - share) * (text.softmax(-1) @ value) + share * (prefix.softmax(-1) @ prefix_value), share


# ---------------------------------------------------------------- where a prefix comes from


class PlainPrefix(nn.Module):
    """Keys and values trained as they are: () -> (L, 2, H, l, d). Parameters: 2 l L D.

    Args:
        length, layers, heads, width: l, L, H, and D = H d.
        std: standard deviation that they are drawn with.

    Raises:
        ValueError: a size that is no positive whole number, or heads that do not divide the width.
    """

    def __init__(self, length: int, layers: int, heads: int, width: int, std: float = 0.02):
        super().__init__()
        require_shape(length, layers, heads, width)
        self.table = nn.Parameter(std * torch.randn(layers, 2, heads, length, width // heads))

    def forward(self) -> Tensor:
        return self.table


class MLPPrefix(nn.Module):
    """Keys and values made from a small table: () -> (L, 2, H, l, d). Parameters: l D + D h + h + 2 L D (h + 1).

    Used in training only (arXiv:2101.00190, section 4.3); what it makes is kept.

    Args:
        length, layers, heads, width: l, L, H, and D = H d.
        hidden: h.

    Raises:
        ValueError: a size that is no positive whole number, or heads that do not divide the width.
    """

    def __init__(self, length: int, layers: int, heads: int, width: int, hidden: int):
        super().__init__()
        require_shape(length, layers, heads, width)
        self.shape = (length, layers, 2, heads, width // heads)
        self.table = nn.Parameter(torch.randn(length, width))
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, 2 * layers * width)

    def forward(self) -> Tensor:
        made = self.up(torch.tanh(self.down(self.table)))  # (l, 2 L D)
        return made.view(self.shape).permute(1, 2, 3, 0, 4)


# ---------------------------------------------------------------- in a decoder


class PrefixDecoder(nn.Module):
    """A frozen decoder whose cache begins with l keys and values that no token has made. The text begins at position l.

    It answers like `Decoder`, (B, T) ids -> logits (B, T, V) and the cache, and `decoding.generate` writes with it.

    Args:
        base: the pretrained decoder.
        prefix: makes the prefix, () -> (L, 2, H, l, d).
    """

    def __init__(self, base: Decoder, prefix: nn.Module):
        super().__init__()
        self.base, self.prefix = base.requires_grad_(False), prefix

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, past: Cache | None = None):
        made = self.prefix()  # (L, 2, H, l, d)
        length = made.shape[3]
        if past is None:
            past = [(key.expand(len(ids), -1, -1, -1), value.expand(len(ids), -1, -1, -1)) for key, value in made]
        if attention_mask is None:
            attention_mask = ids.new_ones(len(ids), past[0][0].shape[2] - length + ids.shape[1])
        opened = attention_mask.new_ones(len(ids), length)
        return self.base(ids, torch.cat([opened, attention_mask], dim=1), past)


# ---------------------------------------------------------------- bad input, answered


def require_prefix(key: Tensor, prefix_key: Tensor, prefix_value: Tensor) -> None:
    """Refuse a prefix that does not fit the attention."""
    heads, width = key.shape[1], key.shape[-1]
    if prefix_key.shape != prefix_value.shape:
        told = f"{tuple(prefix_key.shape)} and {tuple(prefix_value.shape)}"
        raise ValueError(f"a prefix has a value for every key; got the shapes {told}")
    if prefix_key.dim() != 3 or prefix_key.shape[0] != heads or prefix_key.shape[2] != width or not len(prefix_key[0]):
        raise ValueError(
            f"a prefix is (H, l, d), here ({heads}, l, {width}), l from 1 on; got {tuple(prefix_key.shape)}"
        )


def require_shape(length: int, layers: int, heads: int, width: int) -> None:
    """Refuse sizes that make no prefix."""
    for name, value in {"length": length, "layers": layers, "heads": heads, "width": width}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number; got {value!r}")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide the width {width}")

"""A BERT encoder from scratch: what lesson 04 builds, and the copy of a pretrained one that equals transformers'.

Shapes: B texts, T tokens, D width, H heads, d = D / H, I inner width of the feed-forward block, L layers. A mask is 1
(or True) where there is text and 0 at padding. There is no dropout: this is the encoder as it is used, not trained.
The `require_…` functions at the end hold the input checks, so that the definitions above show nothing but the model.

Sources: attention, arXiv:1706.03762, section 3.2; the encoder, arXiv:1810.04805; layer norm, arXiv:1607.06450; GELU,
arXiv:1606.08415.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from peft_helpers import backbones

# ---------------------------------------------------------------- attention


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, softmax(Q Kᵀ / √d) V (arXiv:1706.03762, eq. 1).

    A masked key gets the score −∞ *before* the softmax, so that its weight is 0 and the others still add up to 1.

    Shape: query (…, T, d), key and value (…, S, d), mask broadcast to (…, T, S), True where a key may be seen.

    Returns:
        the mixed values (…, T, d), and the weights (…, T, S).

    Raises:
        ValueError: shapes that do not fit, or a mask that leaves a query nothing to see.
    """
    require_attention(query, key, value, mask)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Each head gets its own d = D / H neighboring columns. (B, T, D) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """The heads' columns side by side again: first back to (B, T, H, d). (B, H, T, d) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(-2)


# ---------------------------------------------------------------- a layer


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), Φ the normal distribution's share below x: a soft gate (arXiv:1606.08415)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class LayerNorm(nn.Module):
    """Each token's vector to mean 0 and variance 1, then scaled and shifted entry by entry (arXiv:1607.06450, eq. 4).

    Shape: (…, D) -> (…, D). Parameters: 2 D.

    Args:
        width: D.
        epsilon: added to the variance, which may be 0.
    """

    def __init__(self, width: int, epsilon: float = 1e-12):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(dim=-1, keepdim=True)
        variance = centered.square().mean(dim=-1, keepdim=True)
        return self.weight * centered / (variance + self.epsilon).sqrt() + self.bias


class EncoderLayer(nn.Module):
    """Tokens look at each other (attention), then each thinks for itself (feed-forward); each time, add and normalize.

    The parts have the names of the anatomy (`backbones.anatomy`). Shape: (B, T, D) -> (B, T, D), and the attention
    weights (B, H, T, T). Parameters: 4 (D² + D) + 2 D I + I + D + 4 D.

    Args:
        width: D.
        heads: H, which divides D.
        feed_forward: I.
        epsilon: of the layer norms.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, epsilon: float = 1e-12):
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.query, self.key, self.value, self.attention_output = (nn.Linear(width, width) for _ in range(4))
        self.ffn_in, self.ffn_out = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norms = nn.ModuleList(LayerNorm(width, epsilon) for _ in range(2))

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        query, key, value = (split_heads(part(hidden), self.heads) for part in (self.query, self.key, self.value))
        mixed, weights = attention(query, key, value, mask)
        hidden = self.norms[0](hidden + self.attention_output(merge_heads(mixed)))
        return self.norms[1](hidden + self.ffn_out(gelu(self.ffn_in(hidden)))), weights


# ---------------------------------------------------------------- the encoder


class Embeddings(nn.Module):
    """Three rows added for each token: for the word piece, for its position, for its segment; then a layer norm.

    Shape: (B, T) ids -> (B, T, D). Parameters: (V + P + types) D + 2 D.

    Args:
        vocabulary, positions, types: V, P, and the number of segments: rows of the three tables.
        width: D.
        epsilon: of the layer norm.
    """

    def __init__(self, vocabulary: int, width: int, positions: int, types: int = 2, epsilon: float = 1e-12):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.types, self.norm = nn.Embedding(types, width), LayerNorm(width, epsilon)

    def forward(self, ids: Tensor, types: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        types = torch.zeros_like(ids) if types is None else types
        positions = torch.arange(ids.shape[1], device=ids.device) if positions is None else positions
        return self.norm(self.words(ids) + self.positions(positions) + self.types(types))


class EncoderOutput(NamedTuple):
    """What an encoder gives back.

    Attributes:
        states: L + 1 tensors (B, T, D): the embeddings, then the output of every layer.
        maps: L tensors (B, H, T, T): who looks at whom; rows add up to 1.
        pooled: (B, D), the first token's last state through a linear layer and tanh.
    """

    states: list[Tensor]
    maps: list[Tensor]
    pooled: Tensor


class Encoder(nn.Module):
    """BERT without a task head (arXiv:1810.04805).

    Args:
        vocabulary, positions, types: V, P and the number of segments, see `Embeddings`.
        width, layers, heads, feed_forward: D, L, H, I.
        epsilon: of the layer norms.
    """

    def __init__(self, vocabulary, width, layers, heads, feed_forward, positions, types=2, epsilon=1e-12):
        super().__init__()
        self.embeddings = Embeddings(vocabulary, width, positions, types, epsilon)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feed_forward, epsilon) for _ in range(layers))
        self.pooler = nn.Linear(width, width)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None) -> EncoderOutput:
        """The text as vectors.

        Shape: all arguments (B, T); without a mask everything is text, without types all is segment 0, without
        positions they count 0, 1, 2 … from the left, padding included.

        Raises:
            ValueError: shapes that do not fit, more tokens than positions, a text without a single token.
        """
        require_tokens(input_ids, attention_mask, self.embeddings.positions.num_embeddings)
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]  # of the keys, for all heads
        states, maps = [self.embeddings(input_ids, token_type_ids, position_ids)], []
        for layer in self.layers:
            hidden, weights = layer(states[-1], mask)
            states.append(hidden)
            maps.append(weights)
        return EncoderOutput(states, maps, torch.tanh(self.pooler(states[-1][:, 0])))


def copy_bert(model: nn.Module) -> Encoder:
    """Our encoder with the weights of a transformers BERT (with or without a task head), found through its anatomy.

    Raises:
        ValueError: it is no BERT, it has no pooler, or its activation is another one.
    """
    require_bert(model)
    shape, parts = model.config, backbones.anatomy(model)
    sizes = (shape.vocab_size, shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads)
    more = (shape.intermediate_size, shape.max_position_embeddings, shape.type_vocab_size, shape.layer_norm_eps)
    ours = Encoder(*sizes, *more).to(model.device, model.dtype)
    tables = (ours.embeddings.words, ours.embeddings.positions, ours.embeddings.types)
    pairs = [*zip(tables, parts.embeddings, strict=True), (ours.embeddings.norm, parts.norms[0])]
    for layer, theirs in zip(ours.layers, parts.layers, strict=True):
        pairs += [(layer.get_submodule(name), site) for name, site in theirs.sites.items()]
        pairs += zip(layer.norms, theirs.norms, strict=True)
    weights = [(module, site.module.state_dict()) for module, site in pairs]
    for module, state in [*weights, (ours.pooler, parts.pooler.module.dense.state_dict())]:
        module.load_state_dict(state)
    return ours.requires_grad_(False)


# ---------------------------------------------------------------- one vector a text


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over a text's own tokens; padding counts neither above nor below the fraction bar.

    Shape: hidden (B, T, D), attention_mask (B, T) -> (B, D).

    Raises:
        ValueError: shapes that do not fit, or a text without a single token.
    """
    require_tokens(hidden[..., 0], attention_mask)
    mask = attention_mask[..., None].to(hidden.dtype)  # (B, T, 1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def position_ids(attention_mask: Tensor) -> Tensor:
    """Number a text's own tokens 0, 1, 2 …, wherever the padding stands; padding gets 0. (B, T) -> (B, T)."""
    return (attention_mask.cumsum(dim=1) - 1) * attention_mask


# ---------------------------------------------------------------- input checks


def require_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    """Refuse queries, keys, values and masks that do not fit together."""
    if query.shape[-1] != key.shape[-1] or key.shape[:-1] != value.shape[:-1] or query.shape[:-2] != key.shape[:-2]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
        raise ValueError(f"attention takes query (…, T, d), key (…, S, d) and value (…, S, e); got {shapes}")
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask is True where a key may be seen, so of dtype bool; got {mask.dtype}")
    try:
        mask.expand(*query.shape[:-1], key.shape[-2])
    except RuntimeError:
        wanted = (*query.shape[:-1], key.shape[-2])
        raise ValueError(f"the mask must fit the scores, {wanted}; got {tuple(mask.shape)}") from None
    if not mask.any(dim=-1).all():
        raise ValueError("the mask leaves a query nothing to see: the softmax of nothing is undefined")


def require_heads(width: int, heads: int) -> None:
    """Refuse a width that can't be split into equal heads."""
    if heads < 1 or width % heads:
        raise ValueError(f"the width must be a multiple of the number of heads; got width {width}, heads {heads}")


def require_tokens(input_ids: Tensor, attention_mask: Tensor | None, positions: int | None = None) -> None:
    """Refuse batches that are no (B, T), too long, or with a row that is all padding."""
    if input_ids.ndim != 2 or input_ids.shape[1] < 1:
        raise ValueError(f"a batch of texts has shape (B, T); got {tuple(input_ids.shape)}")
    if positions is not None and input_ids.shape[1] > positions:
        raise ValueError(f"{input_ids.shape[1]} tokens are more than the {positions} positions: truncate the text")
    if attention_mask is None:
        return
    if attention_mask.shape != input_ids.shape:
        raise ValueError(f"the mask's shape is {tuple(attention_mask.shape)}, that of the tokens {input_ids.shape}")
    if not attention_mask.bool().any(dim=1).all():
        raise ValueError("a row of the mask is all 0: a text needs at least one token")


def require_bert(model: nn.Module) -> None:
    """Refuse models that `copy_bert` would copy wrongly."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind != "bert":
        raise ValueError(f"copy_bert copies BERT; got {kind}")
    if model.config.hidden_act != "gelu":
        raise ValueError(f"our layers use GELU; the model uses {model.config.hidden_act}")
    if backbones.anatomy(model).pooler is None:
        raise ValueError("the model has no pooler; load it with AutoModel or AutoModelForSequenceClassification")

"""A GPT-2 decoder from scratch: what lesson 09 builds, and the copy of a pretrained one that equals transformers'.

Shapes: B texts, T tokens fed, S tokens seen (T and those in the cache), D width, H heads, d = D / H, I inner width of
the feed-forward block, L layers, V vocabulary. A mask is 1 (or True) where there is text and 0 at padding. There is no
dropout: this is the decoder as it is used, not trained. Ways to choose the next token are in `decoding`.

Sources: attention, arXiv:1706.03762, section 3.2; layer norm in front of each block, arXiv:2002.04745; GELU,
arXiv:1606.08415; cross-attention, arXiv:1706.03762, section 3.2.3, with BART's weights, arXiv:1910.13461.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peft_helpers import backbones
from peft_helpers.batching import IGNORED
from peft_helpers.encoder import (
    LayerNorm,
    attention,
    merge_heads,
    position_ids,
    require_heads,
    require_tokens,
    split_heads,
)

Cache = list[tuple[Tensor, Tensor]]  # for each layer the keys and values of the tokens so far, (B, H, S, d) each
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")  # two names for one function

# ---------------------------------------------------------------- a layer


def causal_mask(attention_mask: Tensor) -> Tensor:
    """Who may look at whom: row t sees the text tokens up to t itself. (B, S) -> (B, S, S), True where allowed.

    A padding token also sees itself: the softmax of nothing is undefined, and nobody looks at it anyway.
    """
    size = attention_mask.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=attention_mask.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=attention_mask.device)
    return earlier & (attention_mask.bool()[:, None, :] | itself)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU with tanh in place of the normal distribution, as GPT-2 has it (arXiv:1606.08415, section 2)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class DecoderLayer(nn.Module):
    """Attention, then feed-forward, each behind a layer norm, each adding a correction to what comes in.

    The parts have the names of the anatomy (`backbones.anatomy`). Parameters: 4 (D² + D) + 2 D I + I + D + 4 D.

    Shape: hidden (B, T, D), mask broadcast to (B, H, T, S) -> (B, T, D), and keys and values (B, H, S, d).

    Args:
        width: D.
        heads: H, which divides D.
        feed_forward: I.
        epsilon: of the layer norms.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, epsilon: float = 1e-5):
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.query, self.key, self.value, self.attention_output = (nn.Linear(width, width) for _ in range(4))
        self.ffn_in, self.ffn_out = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norms = nn.ModuleList(LayerNorm(width, epsilon) for _ in range(2))

    def forward(self, hidden: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None):
        x = self.norms[0](hidden)
        query, key, value = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        if past is not None:  # keys and values of earlier tokens: they never change, so they are kept
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed, _ = attention(query, key, value, mask)
        hidden = hidden + self.attention_output(merge_heads(mixed))
        return hidden + self.ffn_out(gelu_tanh(self.ffn_in(self.norms[1](hidden)))), (key, value)


# ---------------------------------------------------------------- the decoder


class Decoder(nn.Module):
    """GPT-2 with its text head, which is the table of the word vectors once more.

    Args:
        vocabulary, positions: V, and the most tokens that a text may have.
        width, layers, heads, feed_forward: D, L, H, I.
        epsilon: of the layer norms.
    """

    def __init__(self, vocabulary, width, layers, heads, feed_forward, positions, epsilon=1e-5):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feed_forward, epsilon) for _ in range(layers))
        self.norm = LayerNorm(width, epsilon)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None, past: Cache | None = None):
        """A logit for every possible next token, at every position.

        Args:
            ids: (B, T), the tokens that are not in the cache.
            attention_mask: (B, S), 1 at text; of all tokens, those in the cache included. None: all is text.
            past: keys and values of the first S − T tokens, as an earlier call returned them.

        Returns:
            logits (B, T, V), and the cache of all S tokens.

        Raises:
            ValueError: shapes that do not fit, more tokens than positions, a row without a single text token.
        """
        known = past[0][0].shape[2] if past else 0
        seen = attention_mask if attention_mask is not None else ids.new_ones(len(ids), known + ids.shape[-1])
        require_seen(ids, seen, known, self.positions.num_embeddings)
        mask = causal_mask(seen)[:, None, known:]  # (B, 1, T, S)
        hidden, cache = self.words(ids) + self.positions(position_ids(seen)[:, known:]), []
        for layer, before in zip(self.layers, past or [None] * len(self.layers), strict=True):
            hidden, kept = layer(hidden, mask, before)
            cache.append(kept)
        return self.norm(hidden) @ self.words.weight.T, cache


def copy_gpt2(model: nn.Module) -> Decoder:
    """Our decoder with the weights of a transformers GPT-2 (with its text head), found through its anatomy.

    Raises:
        ValueError: it is no GPT-2 with a text head, or one of another build (activation, scaling, untied head).
    """
    require_gpt2(model)
    shape, parts = model.config, backbones.anatomy(model)
    sizes = (shape.vocab_size, shape.n_embd, shape.n_layer, shape.n_head, shape.n_inner or 4 * shape.n_embd)
    ours = Decoder(*sizes, shape.n_positions, shape.layer_norm_epsilon).to(model.device, model.dtype)
    tables = zip((ours.words, ours.positions, ours.norm), (*parts.embeddings, *parts.norms), strict=True)
    pairs = [(module, site.module.state_dict()) for module, site in tables]
    for layer, theirs in zip(ours.layers, parts.layers, strict=True):
        pairs += [(norm, site.module.state_dict()) for norm, site in zip(layer.norms, theirs.norms, strict=True)]
        for name, site in theirs.sites.items():
            weight, bias = site.module.weight.T, site.module.bias  # stored as (in, out)
            if site.third is not None:  # query, key and value in one matrix
                weight, bias = weight.chunk(3)[site.third], bias.chunk(3)[site.third]
            pairs.append((layer.get_submodule(name), {"weight": weight, "bias": bias}))
    for module, state in pairs:
        module.load_state_dict(state)
    return ours.requires_grad_(False)


# ---------------------------------------------------------------- learning to write


def teacher_forcing(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], end: int, pad: int
) -> dict[str, Tensor]:
    """One row [x; y; end] a pair, padded on the right, with labels on y and the end only.

    A label stands at its own token's place; the shift by one, from a token to the one before it that must predict it,
    is the loss's (`answer_loss`), as in transformers.

    Args:
        prompts, answers: x and y as token ids.
        end: says that the text is over; the model must learn to say it.
        pad: fills up; may be the same id as `end`, which is why labels follow places and not ids.

    Returns:
        input_ids, attention_mask and labels, each (B, T).

    Raises:
        ValueError: unequal numbers of prompts and answers, none, or an empty prompt.
    """
    require_pairs(prompts, answers)
    rows = [[*x, *y, end] for x, y in zip(prompts, answers, strict=True)]
    free = [max(map(len, rows)) - len(row) for row in rows]
    labels = [[IGNORED] * len(x) + [*y, end] for x, y in zip(prompts, answers, strict=True)]
    return {
        "input_ids": torch.tensor([row + [pad] * n for row, n in zip(rows, free, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * n for row, n in zip(rows, free, strict=True)]),
        "labels": torch.tensor([row + [IGNORED] * n for row, n in zip(labels, free, strict=True)]),
    }


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labels that are not `IGNORED`, each predicted one place earlier.

    Shape: logits (B, T, V), labels (B, T) -> ().
    """
    predicted, wanted = logits[:, :-1], labels[:, 1:]
    return nn.functional.cross_entropy(predicted.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


# ---------------------------------------------------------------- encoder and decoder


class CrossAttention(nn.Module):
    """The writer looks at the reader: queries from the decoder, keys and values from the encoder's output.

    Shape: hidden (B, T, D), memory (B, S, D), memory_mask (B, S) -> (B, T, D), and the weights (B, H, T, S).
    Nothing is causal here: the input is known whole. Parameters: 4 (D² + D).

    Args:
        width: D.
        heads: H, which divides D.

    Raises:
        ValueError: the heads do not divide the width, or shapes that do not fit.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.cross_query, self.cross_key, self.cross_value, self.cross_output = (
            nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, hidden: Tensor, memory: Tensor, memory_mask: Tensor) -> tuple[Tensor, Tensor]:
        sources = ((self.cross_query, hidden), (self.cross_key, memory), (self.cross_value, memory))
        query, key, value = (split_heads(part(x), self.heads) for part, x in sources)
        mixed, weights = attention(query, key, value, memory_mask.bool()[:, None, None, :])
        return self.cross_output(merge_heads(mixed)), weights


def copy_cross_attention(layer: backbones.Layer, heads: int) -> CrossAttention:
    """The cross-attention of one layer of an encoder-decoder, found through its anatomy.

    Raises:
        ValueError: the layer has none.
    """
    names = ("cross_query", "cross_key", "cross_value", "cross_output")
    if missing := [name for name in names if name not in layer.sites]:
        raise ValueError(
            f"{layer.stack} layer {layer.index} has no {', '.join(missing)}; it has {', '.join(layer.sites)}"
        )
    first = layer.sites["cross_query"].module.weight
    ours = CrossAttention(first.shape[0], heads).to(first.device, first.dtype)
    for name in names:
        ours.get_submodule(name).load_state_dict(layer.sites[name].module.state_dict())
    return ours.requires_grad_(False)


# ---------------------------------------------------------------- input checks


def require_seen(ids: Tensor, seen: Tensor, known: int, positions: int) -> None:
    """Refuse tokens, mask and cache that do not fit together."""
    if ids.ndim != 2 or not ids.numel():
        raise ValueError(f"a batch of texts has shape (B, T), not empty; got {tuple(ids.shape)}")
    if seen.shape != (len(ids), known + ids.shape[1]):
        raise ValueError(
            f"the mask covers the cache and the new tokens, {(len(ids), known + ids.shape[1])}; got {tuple(seen.shape)}"
        )
    require_tokens(seen, seen, positions)


def require_gpt2(model: nn.Module) -> None:
    """Refuse models that `copy_gpt2` would copy wrongly."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind != "gpt2" or not hasattr(model, "lm_head"):
        raise ValueError(f"copy_gpt2 copies GPT-2 with its text head; got {type(model).__name__} ({kind})")
    if config.activation_function not in GELU_TANH:
        raise ValueError(f"our layers use {' or '.join(GELU_TANH)}; the model uses {config.activation_function}")
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights:
        raise ValueError("our attention divides by the root of d, in all layers alike; the model scales otherwise")
    if not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight):
        raise ValueError("our text head is the table of the word vectors; the model has a head of its own")


def require_pairs(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> None:
    """Refuse pairs that no row can be made of."""
    if len(prompts) != len(answers) or not len(prompts):
        raise ValueError(f"one answer a prompt is wanted; got {len(answers)} answers for {len(prompts)} prompts")
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt is empty: there is no place from which the answer's first token could be predicted")

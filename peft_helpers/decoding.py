"""Ways to choose the next token, from scratch: greedy, sampling (temperature, top-k, top-p) and beam search.

What lesson 09 builds; the model is `decoder.Decoder`, which gives logits and a cache. Shapes as there: B texts, T
tokens, V vocabulary.

Sources: top-k sampling, arXiv:1805.04833, section 5.4; top-p (nucleus) sampling, arXiv:1904.09751, section 3.1; beam
search with a length penalty, arXiv:1609.08144, eq. 14 (transformers' form: log-probability / length^penalty).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft_helpers.decoder import Decoder


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token. (…, V) -> (…)."""
    return logits.argmax(dim=-1)


def sampling_distribution(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The probabilities that the next token is drawn from: p ∝ exp(z / temperature), cut off, scaled up to 1 again.

    Shape: (…, V) -> (…, V).

    Args:
        logits: z.
        temperature: below 1 sharpens, above 1 flattens.
        top_k: keep the k likeliest tokens (arXiv:1805.04833); equal ones at the edge all stay.
        top_p: of those, keep the smallest set of likeliest tokens that has at least this probability
            (arXiv:1904.09751, eq. 2); the token that crosses the line stays.

    Raises:
        ValueError: a temperature, top_k or top_p that means nothing.
    """
    require_sampling(temperature, top_k, top_p)
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if top_p is not None:
        shares, places = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        enough = shares.cumsum(dim=-1) - shares >= top_p  # the likelier ones have it already
        logits = logits.masked_fill(enough.scatter(-1, places, enough), float("-inf"))
    return logits.softmax(dim=-1)


@torch.no_grad()
def generate(
    model: Decoder, ids: Tensor, attention_mask: Tensor, new_tokens: int, end: int, choose=greedy, cached=True
) -> Tensor:
    """Write on: feed the text, choose a token from the last place's logits, append it, again.

    With the cache only the new token is fed; without, the whole text each time, for the same result.

    Args:
        model: gives (logits, cache), see `decoder.Decoder`.
        ids: (B, T) prompts, padded on the **left**: the last place must be text in every row.
        attention_mask: (B, T), 1 at text.
        new_tokens: at most so many.
        end: the token after which a row only gets `end` again.
        choose: logits (B, V) -> tokens (B,).
        cached: keep keys and values from step to step.

    Returns:
        (B, at most new_tokens), the new tokens.

    Raises:
        ValueError: padding at the end of a row, or fewer than 1 token to write.
    """
    require_prompts(ids, attention_mask, new_tokens)
    text, fed, past, running = ids, ids, None, torch.ones_like(ids[:, 0], dtype=torch.bool)
    for _ in range(new_tokens):
        logits, cache = model(fed, attention_mask, past)
        token = torch.where(running, choose(logits[:, -1]), end)[:, None]
        text, attention_mask = torch.cat([text, token], 1), torch.cat([attention_mask, torch.ones_like(token)], 1)
        past, fed = (cache, token) if cached else (None, text)
        running = running & (token[:, 0] != end)
        if not running.any():
            break
    return text[:, ids.shape[1] :]


@torch.no_grad()
def beam_search(
    model: Decoder, ids: Tensor, beams: int, new_tokens: int, end: int, length_penalty: float = 1.0
) -> tuple[list[int], float]:
    """Keep the `beams` likeliest beginnings at every length; return the best finished text of one prompt.

    Score of a text: log-probability of its new tokens / (their number ** length_penalty). Without the division, short
    texts would win. No cache, for brevity.

    Args:
        model: gives (logits, cache).
        ids: (1, T), one prompt.
        beams: how many beginnings live on.
        new_tokens: at most so many.
        end: finishes a text.
        length_penalty: 0 for plain log-probability, 1 for the mean a token.

    Returns:
        the new tokens of the best text, and its score.

    Raises:
        ValueError: more than one prompt, fewer than 1 beam or token.
    """
    require_beams(ids, beams, new_tokens)
    live, finished = [(0.0, [])], []  # (log-probability, new tokens); (score, new tokens)
    for length in range(1, new_tokens + 1):
        new = torch.tensor([text for _, text in live], dtype=ids.dtype, device=ids.device)  # (beams, length - 1)
        logits, _ = model(torch.cat([ids.expand(len(live), -1), new], dim=1))
        total = logits[:, -1].log_softmax(dim=-1) + logits.new_tensor([[score] for score, _ in live])  # (beams, V)
        best = total.flatten().topk(min(2 * beams, total.numel()))  # so many, as half of them may be finished
        rows, tokens = (best.indices // total.shape[1]).tolist(), (best.indices % total.shape[1]).tolist()
        found = zip(best.values.tolist(), rows, tokens, strict=True)
        grown = [(score, [*live[row][1], token]) for score, row, token in found]
        finished += [(score / length**length_penalty, text) for score, text in grown[:beams] if text[-1] == end]
        finished = sorted(finished, reverse=True)[:beams]
        live = [(score, text) for score, text in grown if text[-1] != end][:beams]
        if len(finished) == beams and live[0][0] / length**length_penalty <= finished[-1][0]:
            break
    else:
        finished += [(score / new_tokens**length_penalty, text) for score, text in live]
    score, text = max(finished)
    return text, score


# ---------------------------------------------------------------- input checks


def require_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse what can't be sampled with."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"the temperature must be positive (toward 0, sampling becomes greedy); got {temperature}")
    if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
        raise ValueError(f"top_k is a number of tokens, 1 or more, or None; got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is a probability above 0 and at most 1, or None; got {top_p}")


def require_prompts(ids: Tensor, attention_mask: Tensor, new_tokens: int) -> None:
    """Refuse prompts that can't be continued."""
    if new_tokens < 1:
        raise ValueError(f"there must be at least 1 token to write; got {new_tokens}")
    if ids.ndim != 2 or attention_mask.shape != ids.shape:
        raise ValueError(f"ids and mask have one shape (B, T); got {tuple(ids.shape)}, {tuple(attention_mask.shape)}")
    if not attention_mask[:, -1].bool().all():
        raise ValueError("a row ends with padding, and the next token would be predicted from there: pad on the left")


def require_beams(ids: Tensor, beams: int, new_tokens: int) -> None:
    """Refuse what beam search can't start from."""
    if ids.ndim != 2 or len(ids) != 1:
        raise ValueError(f"beam_search takes one prompt, (1, T); got {tuple(ids.shape)}")
    if beams < 1 or new_tokens < 1:
        raise ValueError(f"beams and new_tokens must be 1 or more; got {beams} and {new_tokens}")

"""Three ways to make a task out of plain text: what a model is pretrained on (lesson 04).

Each function turns token ids into what the model reads and what it should say; where nothing is asked, the label is
`IGNORED`, which `cross_entropy` leaves out of its mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from peft_helpers.batching import IGNORED


def mask_tokens(
    ids: Tensor, special: Tensor, mask_id: int, vocabulary: int, generator: torch.Generator, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """BERT's masking (arXiv:1810.04805, section 3.1): name the hidden pieces, with both sides in sight.

    Of the chosen pieces 80 % become [MASK], 10 % a random piece, 10 % stay: the model can't tell which were chosen.

    Args:
        ids: (B, T).
        special: (B, T), True at [CLS], [SEP] and padding, which are never chosen.
        mask_id: of [MASK].
        vocabulary: V.
        generator: of the draws.
        share: of the pieces to choose.

    Returns:
        inputs and labels, both (B, T); the labels are `IGNORED` except where a piece was chosen.

    Raises:
        ValueError: shapes that do not fit, or a share outside 0 … 1.
    """
    require_share(ids, special, share)
    chosen = (torch.rand(ids.shape, generator=generator) < share) & ~special
    dice = torch.rand(ids.shape, generator=generator)
    drawn = torch.randint(vocabulary, ids.shape, generator=generator)
    inputs = torch.where(chosen & (dice >= 0.9), drawn, torch.where(chosen & (dice < 0.8), mask_id, ids))
    return inputs, torch.where(chosen, ids, IGNORED)


def next_tokens(ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Causal: at every position, name the token that follows; GPT's objective. Two (B, T − 1) out of (B, T)."""
    return ids[:, :-1], ids[:, 1:].masked_fill(attention_mask[:, 1:] == 0, IGNORED)


def infill(
    ids: list[int], mask_id: int, generator: torch.Generator, share: float = 0.3, mean_length: float = 3.0
) -> list[int]:
    """BART's text infilling (arXiv:1910.13461, section 2.2): spans vanish, each leaves one [MASK]; restore all.

    Span lengths are Poisson-distributed; a span of length 0 only inserts a [MASK], and a later span may take an
    earlier mask with it.

    Args:
        ids: one text.
        mask_id: of [MASK].
        generator: of the draws.
        share: of the tokens to hide.
        mean_length: of the spans.

    Returns:
        the damaged text; the label is the whole `ids`.

    Raises:
        ValueError: no tokens, or a share outside 0 … 1.
    """
    require_share(torch.tensor([ids]), None, share)
    damaged, left = list(ids), round(share * len(ids))
    while left > 0:
        length = min(left, len(damaged), int(torch.poisson(torch.tensor(mean_length), generator=generator)))
        start = int(torch.randint(len(damaged) - length + 1, (1,), generator=generator))
        damaged[start : start + length] = [mask_id]
        left -= max(length, 1)
    return damaged


def require_share(ids: Tensor, special: Tensor | None, share: float) -> None:
    """Refuse what can't be masked."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1; got {share}")
    if ids.ndim != 2 or not ids.numel() or (special is not None and special.shape != ids.shape):
        raise ValueError(f"ids and special tokens have one shape (B, T), not empty; got {tuple(ids.shape)}")

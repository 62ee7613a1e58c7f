"""Why did the model say that? Gradients as attributions, what they add up to, deletion as a test, and layers compared.

A *score* is a function from points (n, …) to (n,) numbers, each of which depends on its own point alone: of a text, the
points are its word embeddings (T, D). Sources: integrated gradients, arXiv:1703.01365; centered kernel alignment,
arXiv:1905.00414.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from peft_helpers import backbones

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

Score = Callable[[Tensor], Tensor]
BASELINES = ("zero", "[PAD]", "[MASK]")

# ---------------------------------------------------------------- attributions


def gradients(score: Score, points: Tensor) -> Tensor:
    """The gradient of every point's score with respect to that point. (n, …) -> (n, …)."""
    points = points.detach().clone().requires_grad_(True)
    return torch.autograd.grad(score(points).sum(), points)[0]


def gradient_times_input(score: Score, x: Tensor) -> Tensor:
    """The first-order estimate of what the score would lose if an entry of x became 0: x · ∂F/∂x. Same shape as x."""
    return x * gradients(score, x[None])[0]


def integrated_gradients(score: Score, x: Tensor, baseline: Tensor, steps: int = 64) -> Tensor:
    """(x − x′) times the mean gradient on the straight way from x′ to x (arXiv:1703.01365, eq. 1).

    The mean over the way is taken at the midpoints of `steps` equal parts. With enough of them the attributions add up
    to F(x) − F(x′) (*completeness*, proposition 1).

    Args:
        score: F, (n, *x.shape) -> (n,).
        x: the input.
        baseline: x′, of the same shape, where there is nothing to explain.
        steps: n, how many gradients are computed.

    Returns:
        one attribution an entry of x; over the entries of a word they may be added.

    Raises:
        ValueError: shapes that differ, or no step.
    """
    require_path(x, baseline, steps)
    total = torch.zeros_like(x)
    for part in ((torch.arange(steps) + 0.5) / steps).split(32):
        alpha = part.to(x).reshape(-1, *[1] * x.ndim)
        total += gradients(score, baseline + alpha * (x - baseline)).sum(dim=0)
    return (x - baseline) * total / steps


def completeness_gap(attributions: Tensor, score: Score, x: Tensor, baseline: Tensor) -> float:
    """Σ attributions − (F(x) − F(x′)): 0 if nothing is missing and nothing is counted twice."""
    with torch.no_grad():
        here, there = score(torch.stack([x, baseline]))
    return (attributions.sum() - (here - there)).item()


def along_the_way(score: Score, x: Tensor, baseline: Tensor, points: int = 64) -> tuple[Tensor, Tensor]:
    """What integrated gradients adds up: the slope of the score on the way from x′ to x, at the parts' midpoints.

    Returns:
        α and (x − x′) · ∂F/∂x there, both (points,). The mean of the second is the sum of the attributions.
    """
    require_path(x, baseline, points)
    alpha, slopes = (torch.arange(points) + 0.5).to(x) / points, []
    for part in alpha.split(32):
        at = baseline + part.reshape(-1, *[1] * x.ndim) * (x - baseline)
        slopes.append(((x - baseline) * gradients(score, at)).flatten(1).sum(1))
    return alpha, torch.cat(slopes)


# ---------------------------------------------------------------- a text as a point


@dataclass(frozen=True)
class Reading:
    """A text as a point that a score can be asked about.

    Attributes:
        words: as they were given.
        pieces: the T tokens, [CLS] and [SEP] included.
        owner: (T,) the number of the word that each piece belongs to; −1 for [CLS] and [SEP].
        ids: (T,).
        x: (T, D), the rows of the word embeddings; positions and segments are added by the model.
        score: (n, T, D) -> (n,): the log odds of the class that is asked about.
    """

    words: tuple[str, ...]
    pieces: tuple[str, ...]
    owner: Tensor
    ids: Tensor
    x: Tensor = field(repr=False)
    score: Score = field(repr=False)

    def by_word(self, attributions: Tensor) -> Tensor:
        """Attributions of entries (T, D), or of pieces (T,), added up for each word. -> (number of words,)."""
        pieces = attributions.sum(-1) if attributions.ndim == 2 else attributions
        sums = torch.zeros(len(self.words) + 1, dtype=pieces.dtype, device=pieces.device)
        return sums.index_add(0, self.owner.to(pieces.device) + 1, pieces)[1:]


def log_odds(logits: Tensor, label: int) -> Tensor:
    """log p / (1 − p) of one class, p its softmax probability; of two classes the difference of the logits.

    Shape: (…, K) -> (…).

    Raises:
        ValueError: no such class, or fewer than two.
    """
    classes = logits.shape[-1]
    if classes < 2 or not 0 <= label < classes:
        raise ValueError(f"log odds need one of at least 2 classes, counted from 0; got class {label} of {classes}")
    others = [k for k in range(classes) if k != label]
    return logits[..., label] - logits[..., others].logsumexp(-1)


def read(model: nn.Module, tokenizer: PreTrainedTokenizerBase, text: str | Sequence[str], label: int = 1) -> Reading:
    """A text, as a point in the space of word embeddings, and the model's score there.

    The model is put into eval mode; its precision and device are the reading's.

    Raises:
        ValueError: a text without words, or no such class.
    """
    words = tuple(text.split() if isinstance(text, str) else text)
    if not words:
        raise ValueError("a text needs at least one word")
    made = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
    table = model.eval().get_input_embeddings().weight
    ids = made["input_ids"][0].to(table.device)
    owner = torch.tensor([-1 if word is None else word for word in made.word_ids(0)])

    def score(points: Tensor) -> Tensor:
        return log_odds(model(inputs_embeds=points).logits, label)

    if not 0 <= label < model.config.num_labels:
        raise ValueError(f"class {label} is asked about; the model has {model.config.num_labels}, counted from 0")
    return Reading(words, tuple(tokenizer.convert_ids_to_tokens(ids)), owner, ids, table[ids].detach(), score)


def baseline_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase, reading: Reading, kind: str = "[PAD]") -> Tensor:
    """A text of the same length that says nothing: every word replaced, [CLS] and [SEP] as they are. (T, D).

    Args:
        kind: one of `BASELINES`: "zero" (the vector 0, which is no token's), or the embedding of [PAD] or [MASK].

    Raises:
        ValueError: another kind, or a tokenizer without that token.
    """
    tokens = {"[PAD]": tokenizer.pad_token_id, "[MASK]": tokenizer.mask_token_id, "zero": None}
    if kind not in tokens or (kind != "zero" and tokens[kind] is None):
        raise ValueError(f"the baseline is one of {', '.join(BASELINES)}, known to the tokenizer; got {kind!r}")
    table = model.get_input_embeddings().weight.detach()
    nothing = torch.zeros_like(table[0]) if kind == "zero" else table[tokens[kind]]
    return torch.where((reading.owner >= 0)[:, None].to(table.device), nothing, reading.x)


# ---------------------------------------------------------------- deletion


def deletion_effects(score: Callable[[list[str]], float], words: Sequence[str]) -> list[float]:
    """What the score loses when a word is taken out of the text: score(all) − score(without it), for each word.

    Args:
        score: of a list of words.
        words: at least two.

    Raises:
        ValueError: fewer than two words.
    """
    if len(words) < 2:
        raise ValueError(f"something must be left of the text: at least two words; got {len(words)}")
    whole = score(list(words))
    return [whole - score([*words[:i], *words[i + 1 :]]) for i in range(len(words))]


def deletions(model: nn.Module, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], label: int = 1) -> Tensor:
    """`deletion_effects` of the model's log odds, all the shorter texts as one batch. (number of words,)."""
    if len(words) < 2:
        raise ValueError(f"something must be left of the text: at least two words; got {len(words)}")
    texts = [list(words), *([*words[:i], *words[i + 1 :]] for i in range(len(words)))]
    batch = tokenizer(texts, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**batch.to(next(model.parameters()).device)).logits
    scores = log_odds(logits, label).double().cpu()
    return scores[0] - scores[1:]


# ---------------------------------------------------------------- what training changed


def relative_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """‖after − before‖ / ‖before‖, all tensors of a part taken together as one long vector.

    Raises:
        ValueError: no tensors, other shapes, or a part that is all 0.
    """
    if not len(before) or [x.shape for x in before] != [x.shape for x in after]:
        raise ValueError("before and after must be the same tensors, at least one")
    moved = sum((b.double() - a.double()).square().sum().item() for a, b in zip(before, after, strict=True))
    size = sum(a.double().square().sum().item() for a in before)
    if size == 0:
        raise ValueError("a part that was all 0 has no relative change")
    return (moved / size) ** 0.5


def layer_changes(before: nn.Module, after: nn.Module) -> dict[str, float]:
    """`relative_change` of the embeddings, of every layer, and of the pooler where there is one.

    Raises:
        ValueError: two models of different shapes.
    """
    here, there = _parts(before), _parts(after)
    if list(here) != list(there):
        raise ValueError(f"the two models differ: {', '.join(here)} and {', '.join(there)}")
    return {name: relative_change(here[name], there[name]) for name in here}


def _parts(model: nn.Module) -> dict[str, list[Tensor]]:
    """Every parameter of the base model under the part that it belongs to; what several sites share is in it once."""
    anatomy = backbones.anatomy(model)
    groups = {"embeddings": [*anatomy.embeddings, *anatomy.norms]}
    groups |= {f"layer {i}": [*layer.sites.values(), *layer.norms] for i, layer in enumerate(anatomy.layers, 1)}
    groups |= {"pooler": [anatomy.pooler]} if anatomy.pooler else {}
    return {
        name: [p.detach().cpu() for p in {id(p): p for site in sites for p in site.module.parameters()}.values()]
        for name, sites in groups.items()
    }


def layer_vectors(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, split: str = "dev", rows: int = 200
) -> Tensor:
    """The mean over each text's tokens, after the embeddings and after every layer. (L + 1, N, D)."""
    from peft_helpers.batching import collate, encode, length_limit

    encoded = encode(task, split, tokenizer, length_limit(model, tokenizer))
    device, made = next(model.parameters()).device, []
    chosen = range(min(rows, len(encoded.inputs)))
    model.eval()
    with torch.no_grad():
        for start in range(0, len(chosen), 50):
            batch = collate(encoded, chosen[start : start + 50], tokenizer.pad_token_id)
            batch = {key: value.to(device) for key, value in batch.items() if key != "labels"}
            states = torch.stack(model.base_model(**batch, output_hidden_states=True).hidden_states)
            mask = batch["attention_mask"][..., None].to(states.dtype)
            made.append(((states * mask).sum(2) / mask.sum(1)).float().cpu())
    return torch.cat(made, dim=1)


def linear_cka(first: Tensor, second: Tensor) -> float:
    """How alike two sets of vectors of the same N texts are, up to rotation and scale: 1 is the same, 0 unrelated.

    Linear centered kernel alignment, ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) with centered columns (arXiv:1905.00414, eq. 3).

    Shape: (N, D1) and (N, D2).

    Raises:
        ValueError: another number of texts, or vectors that are all equal.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(f"both must be (N, D), of the same N texts; got {tuple(first.shape)}, {tuple(second.shape)}")
    x, y = (part.double() - part.double().mean(0) for part in (first, second))
    own = (x.T @ x).norm() * (y.T @ y).norm()
    if own == 0:
        raise ValueError("all vectors of one side are equal: there is nothing to compare")
    return ((y.T @ x).norm() ** 2 / own).item()


# ---------------------------------------------------------------- input checks


def require_path(x: Tensor, baseline: Tensor, steps: int) -> None:
    """Refuse two ends of different shapes, and no steps between them."""
    if x.shape != baseline.shape or not x.is_floating_point():
        raise ValueError(
            f"input and baseline are floats of one shape; got {tuple(x.shape)} {x.dtype}, {tuple(baseline.shape)}"
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps is a whole number from 1 on; got {steps!r}")

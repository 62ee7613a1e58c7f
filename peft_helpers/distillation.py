"""Distillation: a small student learns what a large teacher says, not only what is true (arXiv:1503.02531).

The student here is a part of the teacher, some of its layers (as DistilBERT starts, arXiv:1910.01108). The teacher's
logits are computed once; after that a text needs no label, so texts without labels can be learned from as well.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import backbones
from peft_helpers.batching import Encoded, batches, collate
from peft_helpers.training import Settings, rate_factor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """T² · KL(teacher ‖ student), both softened by T; the mean over the batch (arXiv:1503.02531, section 2).

    Softening divides gradients by about T²; the factor brings them back, so that another T needs no other rate.

    Args:
        student, teacher: (B, K) logits.
        temperature: T; 1 is the plain softmax, a large one asks for the differences of the logits.

    Raises:
        ValueError: shapes that differ, or a temperature that is not positive.
    """
    require_pair(student, teacher, temperature)
    log_q = F.log_softmax(student / temperature, dim=-1)
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return temperature**2 * divergence.mean()


def distill(
    student: nn.Module, encoded: Encoded, teacher: Tensor | None, pad: int, settings: Settings, temperature: float = 2.0
) -> list[float]:
    """Train all of a student: on a teacher's logits, or, without a teacher, on the labels. The same steps either way.

    Args:
        student: gives `.logits` (B, K).
        encoded: the texts, and the labels, which a student with a teacher never sees.
        teacher: (N, K) logits, one row a text, or None.
        pad: the tokenizer's pad_token_id.
        settings: learning rate with warm-up and decay, epochs, batch size, clip, seed.
        temperature: of the teacher's and the student's softmax.

    Returns:
        the loss of every step.
    """
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps, losses = math.ceil(len(encoded.inputs) / settings.batch_size) * settings.epochs, []
    torch.manual_seed(settings.seed)
    student.train()
    for epoch in range(settings.epochs):
        for rows in batches(encoded.lengths, settings.batch_size, settings.seed, epoch):
            batch = {key: x.to(student.device) for key, x in collate(encoded, rows, pad).items()}
            labels, logits = batch.pop("labels"), student(**batch).logits
            if teacher is None:
                loss = F.cross_entropy(logits, labels)
            else:
                loss = distillation_loss(logits, teacher[rows].to(logits), temperature)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * rate_factor(len(losses), steps, settings.warmup)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), settings.clip or math.inf)
            optimizer.step()
            losses.append(loss.item())
    student.eval()
    return losses


def student_of(teacher: nn.Module, layers: Sequence[int]) -> nn.Module:
    """A copy of an encoder that has only these of its layers, in this order; embeddings, pooler and head stay.

    Args:
        layers: numbers from 0, each once.

    Raises:
        ValueError: no layers, or one that is not there; an architecture with more than one stack.
    """
    anatomy = backbones.anatomy(teacher)
    stacks = backbones.ARCHITECTURES[anatomy.architecture].stacks
    if anatomy.architecture not in ("bert", "roberta"):
        raise ValueError(f"a student is made of an encoder, bert or roberta; got {anatomy.architecture}")
    known = len(anatomy.layers)
    if not len(layers) or len(set(layers)) < len(layers) or not set(layers) <= set(range(known)):
        raise ValueError(f"layers are some of 0 to {known - 1}, each once; got {list(layers)}")
    student = copy.deepcopy(teacher)
    path, _, name = stacks["encoder"].layers.rpartition(".")
    stack = student.base_model.get_submodule(path)
    setattr(stack, name, nn.ModuleList([getattr(stack, name)[i] for i in layers]))
    student.config.num_hidden_layers = len(layers)
    return student


def logits_on(model: nn.Module, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """What a model says about every text, without dropout, in the texts' order. (N, K)."""
    device, made = next(model.parameters()).device, []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(encoded.inputs), 50):
            rows = range(start, min(start + 50, len(encoded.inputs)))
            batch = collate(encoded, rows, tokenizer.pad_token_id)
            made.append(model(**{k: x.to(device) for k, x in batch.items() if k != "labels"}).logits.float().cpu())
    return torch.cat(made)


def require_pair(student: Tensor, teacher: Tensor, temperature: float) -> None:
    """Refuse logits that do not fit together, and temperatures that soften nothing."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher give logits (B, K) of one shape; got {tuple(student.shape)}, {tuple(teacher.shape)}"
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"the temperature is a positive number, 1 for the plain softmax; got {temperature!r}")

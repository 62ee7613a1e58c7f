"""From a task's texts to padded batches of token ids: tokenized once, batches a pure function of (seed, epoch)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

IGNORED = -100  # the label of a token that is no target, as in transformers
ARROW = " =>"  # between source and target where one network reads both


@dataclass(frozen=True)
class Encoded:
    """One split as token ids: what a batch is made from.

    Attributes:
        inputs: for each example the tokenizer's lists (input_ids, and token_type_ids where the model has them).
        labels: class numbers or scores; for generation a list of target tokens each, with `IGNORED` for the rest: one
            a position, what comes next there, in a decoder-only network; the target's own tokens in an encoder-decoder.
        truncated: how many texts were cut to the limit.
    """

    inputs: list[dict[str, list[int]]]
    labels: list[float] | list[list[int]]
    truncated: int

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.array([len(row["input_ids"]) for row in self.inputs])

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """How much of the loss each example is: 1 for a class or score, else its number of unmasked target tokens."""
        return np.array([sum(i != IGNORED for i in row) if isinstance(row, list) else 1 for row in self.labels])


def encode(
    task: Task, split: str, tokenizer: PreTrainedTokenizerBase, max_length: int, one_row: bool = True
) -> Encoded:
    """Tokenize one split once; texts longer than `max_length` tokens are cut, and counted.

    Args:
        task, split: which texts.
        tokenizer: the model's.
        max_length: tokens a row may have.
        one_row: for generation: source and target stand in one row (decoder only), or apart (encoder-decoder). A source
            with several references gives so many examples.
    """
    rows = task.splits[split]
    if not len(rows):
        raise ValueError(f"{task.name}'s {split} split is empty")
    if task.kind == "generation":
        return _encode_generation(task, split, tokenizer, max_length, one_row)
    texts = [list(rows[column]) for column in task.text_columns]
    made = tokenizer(*texts, truncation=True, max_length=max_length, return_attention_mask=False)
    inputs = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    full = [i for i, row in enumerate(inputs) if len(row["input_ids"]) >= max_length]
    whole = (
        tokenizer(*([column[i] for i in full] for column in texts), truncation=False, verbose=False)["input_ids"]
        if full
        else []
    )
    return Encoded(inputs, list(rows["label"]), sum(len(ids) > max_length for ids in whole))


def prompt(source: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens after which a decoder-only network writes its answer to `source`, the start token first, if any."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return start + tokenizer(source + ARROW, add_special_tokens=False)["input_ids"]


def _encode_generation(task: Task, split: str, tokenizer, max_length: int, one_row: bool) -> Encoded:
    inputs, labels, cut = [], [], 0
    for source, references in zip(task.splits[split][task.text_columns[0]], task.splits[split]["label"], strict=True):
        for reference in references:
            if one_row:
                asked = prompt(source, tokenizer)
                told = tokenizer(" " + reference, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
                # Position t predicts token t + 1, so the last token is nobody's input, and the first nobody's target.
                ids, wanted = (asked + told)[:-1], [IGNORED] * (len(asked) - 1) + told
                cut += len(ids) > max_length
                inputs.append({"input_ids": ids[:max_length]})
                labels.append(wanted[:max_length])
            else:
                ids, told = tokenizer(source)["input_ids"], tokenizer(reference)["input_ids"]
                cut += max(len(ids), len(told)) > max_length
                inputs.append({"input_ids": ids[:max_length]})
                labels.append(told[:max_length])
    return Encoded(inputs, labels, cut)


def collate(encoded: Encoded, rows: Sequence[int], pad_token_id: int) -> dict[str, Tensor]:
    """Token ids of these rows padded on the right to their longest, (B, T), with attention mask and labels.

    Labels are (B,), for generation (B, T) with `IGNORED` as padding.
    """
    import torch

    picked = [encoded.inputs[i] for i in rows]
    width = max(len(row["input_ids"]) for row in picked)
    batch = {}
    for key in picked[0]:
        fill = pad_token_id if key == "input_ids" else 0
        batch[key] = torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in picked])
    batch["attention_mask"] = torch.tensor(
        [[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in picked]
    )
    labels = [encoded.labels[i] for i in rows]
    if isinstance(labels[0], list):
        longest = max(map(len, labels))
        labels = [row + [IGNORED] * (longest - len(row)) for row in labels]
    batch["labels"] = torch.tensor(labels)
    return batch


def batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, buckets: bool = True) -> list[np.ndarray]:
    """The row numbers of each batch of an epoch: a pure function of its arguments, nothing global is read or changed.

    With buckets, rows of like length (within a fifth, so that batches still mix) come together, in shuffled order.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    if buckets:
        blurred = lengths * generator.uniform(0.8, 1.2, len(lengths))
        pools = np.split(order, range(50 * batch_size, len(order), 50 * batch_size))
        order = np.concatenate([pool[np.argsort(blurred[pool], kind="stable")] for pool in pools])
    made = np.split(order, range(batch_size, len(order), batch_size))
    return [made[i] for i in generator.permutation(len(made))] if buckets else made


def in_one_row(model: nn.Module) -> bool:
    """Whether a model that writes reads source and target in one row; an encoder-decoder has them apart."""
    return not getattr(model.config, "is_encoder_decoder", False)


def writes(model: nn.Module) -> bool:
    """Whether a model has a language-modeling head."""
    return getattr(model, "get_output_embeddings", lambda: None)() is not None


def length_limit(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a text that the model can take: its positions, less those of a prompt, or the tokenizer's own limit."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if model.config.model_type in ("roberta", "xlm-roberta"):
        positions -= 2  # their positions start behind the padding id
    if hasattr(model, "adaptation"):
        positions -= model.adaptation.method.positions
    return min(positions, tokenizer.model_max_length)

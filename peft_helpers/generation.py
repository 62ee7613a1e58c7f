"""Texts that a model writes for a generation task, and their scores.

A decoder-only network reads `source =>` and writes on; an encoder-decoder reads the source and writes the target. So
`batching` trains them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_helpers import batching, generation_metrics, meaning, tasks

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

MAX_NEW_TOKENS = 80


@dataclass(frozen=True)
class Written:
    """What a model wrote for one split, and how good it is.

    Attributes:
        texts: one a source, in the split's order.
        bleu, chrf, rouge_l: 0 to 1, see `generation_metrics`.
        slot_errors: wrong, missing and added values of each text; None if the sources are no meaning representations.
        slot_error_rate, names_copied: see `meaning.SlotJudge`; None likewise.
    """

    texts: list[str]
    bleu: float
    chrf: float
    rouge_l: float
    slot_errors: list[int] | None = None
    slot_error_rate: float | None = None
    names_copied: float | None = None

    def scores(self) -> dict[str, float | None]:
        """All the scores, by name."""
        return {name: getattr(self, name) for name in ("bleu", "chrf", "rouge_l", "slot_error_rate", "names_copied")}

    def __repr__(self) -> str:
        found = [f"{name} {value:.3f}" for name, value in self.scores().items() if value is not None]
        return f"{len(self.texts)} texts: " + ", ".join(found)


def write(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 32,
    progress: bool = False,
    **options: Any,
) -> list[str]:
    """The model's text for each source, by `model.generate`: greedy unless `options` say otherwise.

    Args:
        model: a decoder or an encoder-decoder, with or without a PEFT method.
        tokenizer: the model's.
        sources: texts to answer.
        max_new_tokens: where a text is cut that does not end by itself.
        batch_size: sources at a time.
        progress: show a progress bar.
        options: of transformers' `generate`: num_beams=4, do_sample=True, temperature=0.8, …

    Raises:
        ValueError: no sources, an empty one, one that leaves no room for an answer, or a model that can't write.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from tqdm.auto import tqdm

    if isinstance(sources, str) or not sources or not all(source.strip() for source in sources):
        raise ValueError("sources must be a list of texts, none of them empty")
    if not batching.writes(model):
        raise ValueError(
            f"{type(model).__name__} has no language-modeling head, so it can't write; "
            "load the backbone with a generation task: backbones.load(name, task)"
        )
    one_row = batching.in_one_row(model)
    read = [batching.prompt(s, tokenizer) if one_row else tokenizer(s)["input_ids"] for s in sources]
    room = batching.length_limit(model, tokenizer) - max(map(len, read)) * one_row
    if room < max_new_tokens or max(map(len, read)) > batching.length_limit(model, tokenizer):
        raise ValueError(
            f"a source of {max(map(len, read))} tokens and {max_new_tokens} new ones don't fit into the model's "
            f"{batching.length_limit(model, tokenizer)} positions"
        )
    device, pad = next(model.parameters()).device, tokenizer.pad_token_id
    options = {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": max_new_tokens,
        "pad_token_id": pad,
        "eos_token_id": tokenizer.eos_token_id,
    } | options
    order = sorted(range(len(read)), key=lambda i: len(read[i]))  # like lengths together: little padding
    made, was_training = {}, model.training
    model.eval()
    try:
        for start in tqdm(range(0, len(order), batch_size), disable=not progress, leave=False, unit="batch"):
            rows = order[start : start + batch_size]
            side = "left" if one_row else "right"  # a decoder writes on from its last position: that must be a token
            ids = pad_sequence([torch.tensor(read[i]) for i in rows], True, pad, padding_side=side).to(device)
            mask = pad_sequence([torch.ones(len(read[i]), dtype=torch.long) for i in rows], True, padding_side=side)
            with torch.no_grad():
                out = model.generate(input_ids=ids, attention_mask=mask.to(device), **options)
            new = out[:, ids.shape[1] :] if one_row else out
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            made.update(zip(rows, (" ".join(text.split()) for text in texts), strict=True))
    finally:
        model.train(was_training)
    return [made[i] for i in range(len(read))]


def evaluate(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, split: str = "test", **options: Any
) -> Written:
    """Let the model write for a whole split and score it; `options` are those of `write`.

    Raises:
        ValueError: the task is not a generation task.
    """
    if task.kind != "generation":
        raise ValueError(f"{task.name} is a {task.kind} task; training.evaluate judges it")
    sources, references = task.splits[split][task.text_columns[0]], task.splits[split]["label"]
    return judge(list(sources), write(model, tokenizer, list(sources), **options), list(references), task.name)


def judge(sources: Sequence[str], texts: Sequence[str], references: Sequence[Sequence[str]], task: str = "") -> Written:
    """Score texts, whoever wrote them.

    Args:
        sources: what was asked, linearized meaning representations or any other text.
        texts: one a source.
        references: one or more for each.
        task: whose wordings of slots count.

    Raises:
        ValueError: what the metrics refuse, or a source that is no meaning representation among others that are.
    """
    figures = {
        "bleu": generation_metrics.bleu(texts, references),
        "chrf": generation_metrics.chrf(texts, references),
        "rouge_l": generation_metrics.rouge_l(texts, references),
    }
    slots = _slots(sources)
    if slots is None:
        return Written(list(texts), **figures)
    slot_judge = meaning.SlotJudge(meaning.read_wordings(tasks.POCKET / task) if task else {})
    errors = [slot_judge.judge(given, text) for given, text in zip(slots, texts, strict=True)]
    return Written(
        list(texts),
        **figures,
        slot_errors=[each.count for each in errors],
        slot_error_rate=sum(each.count for each in errors) / sum(each.given for each in errors),
        names_copied=slot_judge.names_copied(slots, texts) if all("name" in given for given in slots) else None,
    )


def _slots(sources: Sequence[str]) -> list[dict[str, str]] | None:
    """The sources' slots, or None for plain text. In a news article "Police: …" reads like a slot; a name tells."""
    slots, wrong = [], {}
    for row, source in enumerate(sources):
        try:
            slots.append(meaning.parse(source))
        except ValueError as error:
            wrong[row] = error
    if wrong and any("name" in given for given in slots):
        row, error = next(iter(wrong.items()))
        raise ValueError(f"source {row} (from 0) is no meaning representation, and others are: {error}") from error
    return None if wrong else slots

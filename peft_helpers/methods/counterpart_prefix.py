"""Prefixes and prompts in huggingface/peft's files: one table, (l, 2 L K) or (l, D).

A prefix's row holds a key and a value, (K,) each, for layer after layer. Only what answers the same there is exchanged:
a prefix in an encoder or a decoder whose text begins at position l, and a prompt before a language model's text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Anatomy
from peft_helpers.methods.attention_prefix import Place, places
from peft_helpers.methods.counterparts import Config, Counterpart, Tensors
from peft_helpers.methods.prefix_tuning import PrefixTuning
from peft_helpers.methods.prompt_tuning import PromptTuning

TABLE = "prompt_embeddings"
SIZES = ("num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads")
TRAINING = ("encoder_hidden_size", "prefix_projection", "init_weights")  # of the MLP, which is not in the file


def _prefix_places(anatomy: Anatomy) -> list[Place]:
    if anatomy.model.base_model.config.is_encoder_decoder:
        raise ValueError(
            "peft's prefix on an encoder-decoder is another method: the encoder and the cross-attention have none, and "
            "half of the decoder's is never used (seen in peft 0.21)"
        )
    return places(anatomy)


def write_prefix(model: nn.Module) -> tuple[Config, Tensors]:
    """Ours as theirs.

    Raises:
        ValueError: theirs would answer otherwise: the text begins at position 0, an encoder-decoder, an infix, a part.
    """
    method: PrefixTuning = model.adaptation.method
    where = _prefix_places(model.adaptation.anatomy)
    if not method.shift_positions or method.infix_after is not None:
        raise ValueError("in peft a text begins at position l, behind a prefix; train with shift_positions=True")
    kept, config = method.stored(model), model.base_model.config
    table = torch.cat([kept[f"{place.path}.prefix.{part}"] for place in where for part in ("key", "value")], 1)
    heads = config.num_attention_heads
    sizes = (method.length, where[0].width, len(where), getattr(config, "num_key_value_heads", None) or heads)
    return dict(zip(SIZES, sizes, strict=True)) | {STACKS: 1}, {TABLE: table}


def read_prefix(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[PrefixTuning, Tensors]:
    where = _prefix_places(anatomy)
    table = _table(config, tensors, sum(2 * place.width for place in where))
    states = iter(table.split([place.width for place in where for _ in range(2)], 1))
    named = {f"{place.path}.prefix.{part}": next(states) for place in where for part in ("key", "value")}
    return PrefixTuning(len(table), hidden=None, shift_positions=True), named


def _require_language_model(anatomy: Anatomy) -> None:
    if anatomy.architecture not in ("gpt2", "llama") or anatomy.model.get_output_embeddings() is None:
        raise ValueError(
            "behind a prompt, peft's classifiers read the first vector (BERT) or padding (GPT-2), and its encoder-"
            "decoders have a second prompt; only prompts of decoders that write are exchanged"
        )


def write_prompt(model: nn.Module) -> tuple[Config, Tensors]:
    """Ours as theirs.

    Raises:
        ValueError: theirs would answer otherwise.
    """
    anatomy = model.adaptation.anatomy
    _require_language_model(anatomy)
    (table,) = model.adaptation.method.stored(model).values()
    config = model.base_model.config
    sizes = (len(table), anatomy.width, len(anatomy.layers), config.num_attention_heads)
    return dict(zip(SIZES, sizes, strict=True)) | {STACKS: 1}, {TABLE: table}


def read_prompt(anatomy: Anatomy, config: Config, tensors: Tensors) -> tuple[PromptTuning, Tensors]:
    _require_language_model(anatomy)
    table = _table(config, tensors, anatomy.width)
    base = next((f"{name}." for name, part in anatomy.model.named_modules() if part is anatomy.model.base_model), "")
    return PromptTuning(len(table)), {f"{base}prompt.table": table}


def _table(config: Config, tensors: Tensors, width: int) -> Tensor:
    if set(tensors) != {TABLE}:
        raise ValueError(f"the file should hold {TABLE} beside the head; it holds {', '.join(sorted(tensors))}")
    wanted = (config.get("num_virtual_tokens"), width)
    if tuple(tensors[TABLE].shape) != wanted:
        raise ValueError(f"{TABLE} is {tuple(tensors[TABLE].shape)}; for this model it should be {wanted}")
    return tensors[TABLE]


# 2 stands for an encoder-decoder, whose refusal has a better reason than this number; the table's shape is checked.
STACKS = "num_transformer_submodules"
PREFIX_TUNING = Counterpart(
    "PREFIX_TUNING",
    write_prefix,
    read_prefix,
    settings=dict.fromkeys((*SIZES, *TRAINING, STACKS)),
    head_prefix="base_model.",
)
PROMPT_TUNING = Counterpart(
    "PROMPT_TUNING",
    write_prompt,
    read_prompt,
    settings=dict.fromkeys((*SIZES, "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", STACKS)),
    head_prefix="base_model.",
)

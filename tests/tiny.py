"""Tiny random models, tokenizers and tasks that the tests make for themselves."""

from __future__ import annotations

import torch
import transformers
from datasets import Dataset, DatasetDict

from peft_helpers.tasks import Task

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "red",
    "blue",
    "green",
    "warm",
    "cold",
    "sea",
    "sky",
    "leaf",
    "fire",
    "ice",
    "very",
    "not",
]
COMPANY = [word for word in WORDS[5:] if word not in ("fire", "ice")]


def called(value) -> str:
    """A parameter's name in a test's id; the same in every process, so no function's address."""
    return value.__name__ if hasattr(value, "__name__") else str(value)[:60]


def tokenizer(longest: int = 32) -> transformers.PreTrainedTokenizerFast:
    """A WordPiece tokenizer over `WORDS`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=longest,
    )


def task(train: int = 40, held_out: int = 16, kind: str = "classification", seed: int = 0) -> Task:
    """Warm words against cold words, in random company."""
    generator = torch.Generator().manual_seed(seed)

    def row(index: int) -> dict:
        label = index % 2
        company = [
            COMPANY[int(torch.randint(len(COMPANY), (1,), generator=generator))]
            for _ in range(int(torch.randint(1, 9, (1,), generator=generator)))
        ]
        return {
            "text": " ".join([*company, ("ice" if label else "fire")]),
            "label": label if kind == "classification" else label + 0.5,
        }

    splits = DatasetDict(
        {
            name: Dataset.from_list([row(i) for i in range(n)])
            for name, n in (("train", train), ("dev", held_out), ("test", held_out))
        }
    )
    if kind == "regression":
        return Task("tiny", kind, "spearman", ("text",), (), splits)
    return Task("tiny", kind, "accuracy", ("text",), ("warm", "cold"), splits)


def model(kind: str = "bert", head: bool = True, outputs: int = 2, seed: int = 0) -> transformers.PreTrainedModel:
    """A two-layer network of the architecture `kind`, width 16, with or without a classification head."""
    common = {"vocab_size": len(WORDS), "pad_token_id": 0, "num_labels": outputs}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    halves = {
        f"{half}_{key}": n for half in ("encoder", "decoder") for key, n in (("layers", 2), ("attention_heads", 2))
    }
    wide = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 3, "forced_eos_token_id": 3}
    configurations = {
        "bert": transformers.BertConfig(max_position_embeddings=32, **shape, **common),
        "roberta": transformers.RobertaConfig(max_position_embeddings=34, **shape, **common),
        "gpt2": transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, **ends, **common),
        "bart": transformers.BartConfig(d_model=16, max_position_embeddings=32, **halves, **wide, **ends, **common),
        "llama": transformers.LlamaConfig(max_position_embeddings=32, num_key_value_heads=1, **shape, **ends, **common),
    }
    torch.manual_seed(seed)
    make = transformers.AutoModelForSequenceClassification if head else transformers.AutoModel
    return make.from_config(configurations[kind])


def still(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every dropout at 0."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model

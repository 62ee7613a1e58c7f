"""The closed formulas of lesson 04 (BART, BERT by part) against models on the meta device."""

from __future__ import annotations

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, BertConfig, BertModel

from peft_helpers import accounting

SMALL = {"vocabulary": 77, "width": 24, "layers": 3, "feed_forward": 50, "positions": 9}
BASE = {"vocabulary": 30522, "width": 768, "layers": 12, "feed_forward": 3072, "positions": 512}


@pytest.mark.parametrize(
    ("sizes", "total"),
    [
        ({"vocabulary": 50265, "width": 768, "layers": 6, "feed_forward": 3072, "positions": 1024}, 139_420_416),
        ({"vocabulary": 50265, "width": 1024, "layers": 12, "feed_forward": 4096, "positions": 1024}, 406_291_456),
        (SMALL | {"decoder_layers": 2}, None),
    ],
)
def test_bart_formula_equals_the_model_with_its_tied_head(sizes, total):
    config = BartConfig(
        vocab_size=sizes["vocabulary"],
        d_model=sizes["width"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes.get("decoder_layers", sizes["layers"]),
        encoder_ffn_dim=sizes["feed_forward"],
        decoder_ffn_dim=sizes["feed_forward"],
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        max_position_embeddings=sizes["positions"],
        pad_token_id=1,
    )
    with torch.device("meta"):
        model = BartForConditionalGeneration(config)
    model.tie_weights()
    counted = accounting.bart_parameters(**sizes)
    assert counted == accounting.count_parameters(model).total
    assert total in (None, counted)


@pytest.mark.parametrize("sizes", [BASE, SMALL])
def test_parts_of_bert_add_up_and_equal_the_model(sizes):
    config = BertConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=4,
        intermediate_size=sizes["feed_forward"],
        max_position_embeddings=sizes["positions"],
    )
    with torch.device("meta"):
        model = BertModel(config)
    parts = accounting.bert_parts(**sizes)
    assert sum(parts.values()) == accounting.bert_parameters(**sizes)
    marks = {
        "layer norms": ("LayerNorm",),
        "attention": (".attention.",),
        "feed-forward": ("intermediate", ".output."),
        "embeddings": ("embeddings",),
        "pooler": ("pooler",),
    }
    counted = dict.fromkeys(parts, 0)
    for name, parameter in model.named_parameters():
        counted[next(part for part, words in marks.items() if any(word in name for word in words))] += parameter.numel()
    assert counted == parts


@pytest.mark.parametrize("function", [accounting.bart_parameters, accounting.bert_parts])
@pytest.mark.parametrize("size", SMALL)
def test_impossible_sizes_are_refused(function, size):
    for wrong in (0, -1, 1.5, "768"):
        with pytest.raises(ValueError, match=f"{size} must be a positive whole number"):
            function(**(SMALL | {size: wrong}))

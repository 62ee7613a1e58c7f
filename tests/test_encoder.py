"""The encoder of lesson 04 against torch and transformers in float64, and what it refuses."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, BertModel

from peft_helpers import backbones, encoder, tasks

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bert(**more: object) -> BertModel:
    """A small BERT in float64 whose norms and biases are not the trivial ones."""
    shape = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=50, max_position_embeddings=12, **(shape | more))).double().eval()
    for i, parameter in enumerate(model.parameters()):
        parameter.data += 0.1 * numbers(*parameter.shape, seed=i)
    return model


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    "mask", [None, MASK[:, None, None].bool(), MASK.bool()[:, None, :, None] | torch.eye(6).bool()]
)
def test_attention_equals_torch(mask):
    query, key, value = (numbers(3, 2, 6, 5, seed=seed) for seed in range(3))
    mixed, weights = encoder.attention(query, key, value, mask)
    torch.testing.assert_close(mixed, F.scaled_dot_product_attention(query, key, value, mask), rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6, dtype=torch.float64))


def test_attention_between_two_lengths():
    query, key, value = numbers(2, 7, 4), numbers(2, 3, 4, seed=1), numbers(2, 3, 5, seed=2)
    mixed, weights = encoder.attention(query, key, value)
    assert mixed.shape == (2, 7, 5) and weights.shape == (2, 7, 3)
    torch.testing.assert_close(mixed, F.scaled_dot_product_attention(query, key, value), rtol=0, atol=1e-12)


def test_heads_are_split_and_merged_back():
    x = numbers(2, 5, 12)
    split = encoder.split_heads(x, 3)
    assert split.shape == (2, 3, 5, 4)
    assert torch.equal(split[1, 2, 4], x[1, 4, 8:12])
    assert torch.equal(encoder.merge_heads(split), x)


def test_gelu_and_layer_norm_equal_torch():
    x = 3 * numbers(4, 5, 8)
    torch.testing.assert_close(encoder.gelu(x), F.gelu(x), rtol=0, atol=1e-14)
    ours = encoder.LayerNorm(8, 1e-5).double()
    ours.weight.data, ours.bias.data = numbers(8, seed=1), numbers(8, seed=2)
    expected = F.layer_norm(x, (8,), ours.weight, ours.bias, 1e-5)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-13)
    constant = encoder.LayerNorm(8)(torch.full((1, 8), 7.0))
    assert torch.equal(constant, torch.zeros(1, 8)), "a vector without variance becomes 0, not NaN"


def test_a_layer_has_the_parameters_of_its_formula():
    layer = encoder.EncoderLayer(12, 3, 20)
    assert sum(p.numel() for p in layer.parameters()) == 4 * (144 + 12) + 2 * 12 * 20 + 20 + 12 + 4 * 12


# ---------------------------------------------------------------- the whole


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_copy_equals_transformers_in_float64(implementation):
    model = bert(attn_implementation=implementation)
    ours = encoder.copy_bert(model)
    ids = torch.randint(50, MASK.shape, generator=torch.Generator().manual_seed(0))
    more = {"attention_mask": MASK, "token_type_ids": ids % 2, "position_ids": encoder.position_ids(MASK)}
    with torch.no_grad():
        theirs = model(ids, **more, output_hidden_states=True, output_attentions=implementation == "eager")
        output = ours(ids, **more)
    torch.testing.assert_close(output.pooled, theirs.pooler_output, rtol=0, atol=1e-12)
    for mine, other in zip(output.states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    for mine, other in zip(output.maps, theirs.attentions or output.maps, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_copy_of_the_shipped_encoder_gives_its_logits():
    task = tasks.load("sentiment")
    model, tokenizer = backbones.load("pocket-bert", task)
    batch = tokenizer(list(task.splits["test"]["text"])[:8], padding=True, return_tensors="pt")
    ours = encoder.copy_bert(model.eval())
    with torch.no_grad():
        theirs, output = model(**batch, output_hidden_states=True), ours(**batch)
        assert (model.classifier(output.pooled) - theirs.logits).abs().max() < 1e-5
    for mine, other in zip(output.states, theirs.hidden_states, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * other.abs().max()
    assert sum(p.numel() for p in ours.parameters()) == model.base_model.num_parameters()


def test_copy_is_a_copy():
    model = bert()
    ours = encoder.copy_bert(model)
    before = ours(torch.tensor([[1, 2]])).pooled
    model.embeddings.word_embeddings.weight.data.zero_()
    assert torch.equal(ours(torch.tensor([[1, 2]])).pooled, before)
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_padding_changes_no_text_and_is_no_zero():
    ours, ids = encoder.copy_bert(bert()), torch.tensor([[5, 6, 7, 0, 0]])
    padded = ours(ids, torch.tensor([[1, 1, 1, 0, 0]]))
    alone = ours(ids[:, :3])
    torch.testing.assert_close(padded.states[-1][:, :3], alone.states[-1], rtol=0, atol=1e-12)
    assert padded.states[-1][:, 3:].norm() > 0.1
    assert all(weights[..., 3:].max() == 0 for weights in padded.maps)


def test_without_positions_the_order_is_lost():
    ours, ids = encoder.copy_bert(bert()), torch.tensor([[2, 10, 11, 12, 13, 3]])
    shuffled = ids[:, [0, 3, 1, 4, 2, 5]]
    moved = (ours(ids).pooled - ours(shuffled).pooled).abs().max()
    ours.embeddings.positions.weight.zero_()
    still = (ours(ids).pooled - ours(shuffled).pooled).abs().max()
    assert still < 1e-12 < 1e-6 < moved


def test_masked_mean_and_positions():
    hidden = numbers(3, 6, 4)
    means = encoder.masked_mean(hidden, MASK)
    for row, mean in enumerate(means):
        torch.testing.assert_close(mean, hidden[row][MASK[row].bool()].mean(0))
    assert encoder.position_ids(MASK).tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 0, 0], [0, 0, 0, 1, 2, 3]]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: encoder.attention(x, x[..., :2], x), r"query \(…, T, d\)"),
        (lambda x: encoder.attention(x, x, x[:, :2]), "attention takes"),
        (lambda x: encoder.attention(x, x, x, torch.ones(4, 4)), "of dtype bool"),
        (lambda x: encoder.attention(x, x, x, torch.ones(3, 3, dtype=torch.bool)), "must fit the scores"),
        (lambda x: encoder.attention(x, x, x, torch.zeros(4, dtype=torch.bool)), "nothing to see"),
        (lambda x: encoder.EncoderLayer(10, 3, 20), "multiple of the number of heads"),
        (lambda x: encoder.EncoderLayer(10, 0, 20), "multiple of the number of heads"),
        (lambda x: encoder.masked_mean(x, torch.ones(2, 5)), "the mask's shape"),
        (lambda x: encoder.masked_mean(x, torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]])), "at least one token"),
    ],
)
def test_wrong_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(numbers(2, 4, 3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.ones(4, dtype=torch.long),), r"shape \(B, T\)"),
        ((torch.ones(2, 0, dtype=torch.long),), r"shape \(B, T\)"),
        ((torch.ones(2, 13, dtype=torch.long),), "13 tokens are more than the 12 positions"),
        ((torch.ones(2, 3, dtype=torch.long), torch.ones(2, 4)), "the mask's shape"),
        ((torch.ones(2, 3, dtype=torch.long), torch.zeros(2, 3)), "at least one token"),
    ],
)
def test_wrong_batches_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        encoder.copy_bert(bert())(*arguments)


def test_only_bert_is_copied():
    for model, says in (
        (tiny.model("roberta"), "copies BERT; got roberta"),
        (nn.Linear(2, 2), "got Linear"),
        (bert(hidden_act="relu"), "uses relu"),
        (AutoModel.from_config(bert().config, add_pooling_layer=False), "no pooler"),
    ):
        with pytest.raises(ValueError, match=says):
            encoder.copy_bert(model)

"""The decoder of lesson 09 against transformers in float64: logits, cache, padding, labels; and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel, GPT2Model

from peft_helpers import backbones, decoder, profiles, tasks
from peft_helpers.batching import IGNORED

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
V = 40


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """In float64, with norms and biases that are not the trivial ones."""
    model = model.double().eval()
    for i, parameter in enumerate(model.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        parameter.data += 0.2 * noise
    return model


def gpt2(**more: object) -> GPT2LMHeadModel:
    shape = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 16, "vocab_size": V} | more
    torch.manual_seed(0)
    return shaken(GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0, pad_token_id=0)))


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, V, shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- mask and activation


def test_causal_mask_shows_the_past_and_no_padding():
    mask = decoder.causal_mask(torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]]))
    assert mask.dtype == torch.bool
    assert mask[0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]
    assert mask[1].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_gelu_tanh_equals_torch():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(decoder.gelu_tanh(x), F.gelu(x, approximate="tanh"), rtol=0, atol=1e-14)


# ---------------------------------------------------------------- the decoder


@pytest.mark.parametrize("more", [{}, {"n_inner": 30}, {"activation_function": "gelu_pytorch_tanh", "n_layer": 1}])
def test_copy_equals_transformers_in_float64(more):
    model = gpt2(**more)
    ours = decoder.copy_gpt2(model)
    ids = tokens(3, 6)
    theirs = model(input_ids=ids, attention_mask=MASK, position_ids=(MASK.cumsum(1) - 1).clamp(min=0)).logits
    logits, _ = ours(ids, MASK)
    torch.testing.assert_close(logits[MASK.bool()], theirs[MASK.bool()], rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(ids)[0], model(input_ids=ids).logits, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in ours.parameters()) == model.num_parameters()
    assert not any(p.requires_grad for p in ours.parameters())


def test_pocket_gpt2_within_1e_5():
    model, tokenizer = backbones.load("pocket-gpt2", tasks.load("trails"))
    batch = tokenizer(["The trail is steep.", "name: Pelican Thumb | dogs: yes =>"], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval()(**batch).logits
        ours, _ = decoder.copy_gpt2(model)(batch["input_ids"], batch["attention_mask"])
        exact = model.double()(**batch).logits
        our_exact, _ = decoder.copy_gpt2(model)(batch["input_ids"], batch["attention_mask"])
    text = batch["attention_mask"].bool()
    assert our_exact.dtype == exact.dtype == torch.float64
    assert (our_exact - exact)[text].abs().max() < 1e-5, "measured: 3e-14"
    assert (ours - theirs)[text].abs().max() < 1e-5 * theirs.abs().max(), "float32, whose logits are rounded"


def test_cache_changes_nothing():
    ours = decoder.copy_gpt2(gpt2())
    ids = tokens(3, 6)
    mask = MASK.flip(1)  # padding on the left, as generation has it
    whole, _ = ours(ids, mask)
    _, cache = ours(ids[:, :3], mask[:, :3].clone().index_fill_(1, torch.tensor([2]), 1))
    assert len(cache) == 3 and cache[0][0].shape == cache[0][1].shape == (3, 4, 3, 6)
    first, cache = ours(ids[:1, :3], mask[:1, :3])
    second, cache = ours(ids[:1, 3:5], mask[:1, :5], cache)
    third, cache = ours(ids[:1, 5:], None, cache)
    stepwise = torch.cat([first, second, third], dim=1)
    text = mask[:1].bool()
    torch.testing.assert_close(stepwise[text], whole[:1][text], rtol=0, atol=1e-12)
    assert cache[2][1].shape == (1, 4, 6, 6)


def test_left_padding_changes_no_text():
    ours = decoder.copy_gpt2(gpt2())
    ids = tokens(1, 4)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids], dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    torch.testing.assert_close(ours(padded, mask)[0][:, 3:], ours(ids)[0], rtol=0, atol=1e-12)


def test_a_later_token_moves_no_earlier_logit():
    ours = decoder.copy_gpt2(gpt2())
    ids = tokens(1, 6)
    other = ids.clone()
    other[0, 4] = (ids[0, 4] + 1) % V
    moved = (ours(ids)[0] - ours(other)[0]).abs().amax(-1)[0]
    assert torch.equal(moved[:4], torch.zeros(4, dtype=torch.float64)) and (moved[4:] > 1e-6).all()


def test_a_layer_has_the_parameters_of_its_formula():
    layer = decoder.DecoderLayer(12, 3, 20)
    assert sum(p.numel() for p in layer.parameters()) == 4 * (144 + 12) + 2 * 12 * 20 + 20 + 12 + 4 * 12


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(3, dtype=torch.long), None, r"shape \(B, T\)"),
        (torch.zeros(1, 0, dtype=torch.long), None, "not empty"),
        (torch.zeros(1, 17, dtype=torch.long), None, "16 positions"),
        (torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 4), r"\(2, 3\); got \(2, 4\)"),
        (torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]]), "at least one token"),
    ],
)
def test_batches_that_do_not_fit_are_refused(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        decoder.copy_gpt2(gpt2())(ids, mask)


def test_heads_must_divide_the_width():
    for make in (lambda: decoder.DecoderLayer(10, 3, 20), lambda: decoder.CrossAttention(10, 3)):
        with pytest.raises(ValueError, match="multiple of the number of heads"):
            make()


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="copies GPT-2 with its text head"):
        decoder.copy_gpt2(GPT2Model(gpt2().config))
    with pytest.raises(ValueError, match="copies GPT-2"):
        decoder.copy_gpt2(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="the model uses relu"):
        decoder.copy_gpt2(gpt2(activation_function="relu"))
    with pytest.raises(ValueError, match="scales otherwise"):
        decoder.copy_gpt2(gpt2(scale_attn_by_inverse_layer_idx=True))
    with pytest.raises(ValueError, match="head of its own"):
        decoder.copy_gpt2(gpt2(tie_word_embeddings=False))


# ---------------------------------------------------------------- teacher forcing


def test_labels_follow_places_not_ids():
    batch = decoder.teacher_forcing([[5, 6, 7], [8]], [[9], [10, 0, 11]], end=0, pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 9, 0], [8, 10, 0, 11, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORED] * 3 + [9, 0], [IGNORED, 10, 0, 11, 0]]
    padded = decoder.teacher_forcing([[5, 6], [8]], [[9, 9], [10]], end=0, pad=0)
    assert padded["input_ids"].tolist()[1] == [8, 10, 0, 0, 0]
    assert padded["attention_mask"].tolist()[1] == [1, 1, 1, 0, 0]
    assert padded["labels"].tolist()[1] == [IGNORED, 10, 0, IGNORED, IGNORED]


def test_answer_loss_equals_transformers_and_a_loop():
    model = gpt2()
    batch = decoder.teacher_forcing([[5, 6, 7], [8]], [[9], [10, 3, 11]], end=0, pad=0)
    output = model(**batch)
    ours = decoder.answer_loss(output.logits, batch["labels"])
    torch.testing.assert_close(ours.float(), output.loss.float(), rtol=1e-6, atol=0)  # theirs is float32
    logs = output.logits.log_softmax(-1)
    by_hand = [-logs[0, 2, 9], -logs[0, 3, 0], -logs[1, 0, 10], -logs[1, 1, 3], -logs[1, 2, 11], -logs[1, 3, 0]]
    torch.testing.assert_close(ours, torch.stack(by_hand).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [([[1]], [], "0 answers for 1 prompts"), ([], [], "one answer a prompt"), ([[]], [[1]], "a prompt is empty")],
)
def test_pairs_that_make_no_row_are_refused(prompts, answers, message):
    with pytest.raises(ValueError, match=message):
        decoder.teacher_forcing(prompts, answers, 0, 0)


# ---------------------------------------------------------------- cross-attention


def bart() -> BartForConditionalGeneration:
    half = {"layers": 2, "attention_heads": 4, "ffn_dim": 20}
    halves = {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in half.items()}
    torch.manual_seed(0)
    config = BartConfig(vocab_size=V, d_model=24, max_position_embeddings=16, dropout=0.0, **halves)
    return shaken(BartForConditionalGeneration(config))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_cross_attention_equals_transformers(implementation):
    model = bart()
    model.set_attn_implementation(implementation)
    layer = [layer for layer in backbones.anatomy(model).layers if layer.stack == "decoder"][1]
    seen = {}
    module = model.get_submodule(layer.sites["cross_query"].path.rsplit(".", 1)[0])
    module.register_forward_hook(
        lambda module, args, kwargs, out: seen.update(
            kwargs | {"x": args[0] if args else kwargs["hidden_states"], "out": out}
        ),
        with_kwargs=True,
    )
    model(input_ids=tokens(3, 6), attention_mask=MASK, decoder_input_ids=tokens(3, 5, seed=1))
    memory = seen.get("key_value_states", seen.get("encoder_hidden_states"))
    ours, weights = decoder.copy_cross_attention(layer, 4)(seen["x"], memory, MASK)
    torch.testing.assert_close(ours, seen["out"][0], rtol=0, atol=1e-12)
    assert weights.shape == (3, 4, 5, 6) and (weights[2, ..., :2] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 5, dtype=torch.float64))


def test_a_layer_without_cross_attention_is_refused():
    first = backbones.anatomy(bart()).layers[0]
    with pytest.raises(ValueError, match="encoder layer 0 has no cross_query"):
        decoder.copy_cross_attention(first, 4)


def test_profiles_name_what_there_is():
    for profile in profiles.PROFILES.values():
        assert {profile.decoder, profile.encoder_decoder} <= set(backbones.available())
        assert tasks.REGISTRY[profile.writing].kind == "generation"

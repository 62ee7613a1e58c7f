"""The prefix from scratch: the mixture, the library's prefix, huggingface/peft's, and writing with a cache."""

from __future__ import annotations

import pytest
import torch
from test_decoder import gpt2
from test_prefix_tuning import peft_prefix

from peft_helpers import decoder, decoding, methods, prefix

LENGTH = 4
IDS = torch.tensor([[3, 3, 7, 8, 9, 5], [4, 5, 6, 7, 8, 9]])
MASK = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts() -> list[torch.Tensor]:
    """Query, key, value (2, 3, 5, 4), a prefix of 6, and a causal mask."""
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    return [*(drawn(2, 3, 5, 4, seed=i) for i in range(3)), drawn(3, 6, 4, seed=3), drawn(3, 6, 4, seed=4), mask]


def scratch(model, made: torch.Tensor) -> prefix.PrefixDecoder:
    """Our decoder with the model's weights and this prefix."""
    layers, _, heads, length, width = made.shape
    plain = prefix.PlainPrefix(length, layers, heads, heads * width).to(made.dtype)
    plain.table.data.copy_(made)
    return prefix.PrefixDecoder(decoder.copy_gpt2(model), plain)


def test_the_mixture_is_the_attention():
    whole, weights = prefix.prefix_attention(*parts())
    mixed, share = prefix.mixture(*parts())
    torch.testing.assert_close(mixed, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(share, weights[..., :6].sum(-1, keepdim=True), rtol=0, atol=1e-12)
    assert share.min() > 0.05 and share.max() < 0.99 and share.std() > 0.03


def test_among_words_the_ratios_stay():
    query, key, value, *made, mask = parts()
    _, weights = prefix.prefix_attention(query, key, value, *made, mask)
    text = weights[..., 6:]
    plain = decoder.attention(query, key, value, mask)[1]
    torch.testing.assert_close(text / text.sum(-1, keepdim=True), plain, rtol=0, atol=1e-12)


def test_the_mlp_makes_a_prefix_and_counts_as_the_formula():
    from peft_helpers import accounting

    torch.manual_seed(0)
    made = prefix.MLPPrefix(5, layers=3, heads=2, width=8, hidden=7)
    assert made().shape == prefix.PlainPrefix(5, 3, 2, 8)().shape == (3, 2, 2, 5, 4)
    assert sum(p.numel() for p in made.parameters()) == accounting.prefix_parameters(8, 3, 5, hidden=7)
    assert prefix.PlainPrefix(5, 3, 2, 8).table.numel() == accounting.prefix_parameters(8, 3, 5)
    rows = made.up(torch.tanh(made.down(made.table)))  # slot 2, layer 1, its value, second head
    assert torch.equal(made()[1, 1, 1, 2], rows[2].view(3, 2, 8)[1, 1, 4:])


def library_and_ours():
    model = gpt2().double().eval()
    heads, width, layers = model.config.n_head, model.config.n_embd, model.config.n_layer
    made = 0.5 * drawn(layers, 2, heads, LENGTH, width // heads)
    ours = scratch(model, made)
    adapted = methods.apply(model, methods.PrefixTuning(LENGTH, hidden=None, shift_positions=True)).eval()
    found = [module for path, module in adapted.named_modules() if path.endswith(".prefix")]
    with torch.no_grad():
        for one, (key, value) in zip(found, made, strict=True):
            one.double()
            one.key.copy_(key.transpose(0, 1).flatten(1))
            one.value.copy_(value.transpose(0, 1).flatten(1))
    return adapted, ours


def test_equal_to_the_library():
    adapted, ours = library_and_ours()
    with torch.no_grad():
        wanted = adapted(input_ids=IDS, attention_mask=MASK, position_ids=(MASK.cumsum(1) - 1).clamp(min=0)).logits
        logits, cache = ours(IDS, MASK)
        base, _ = ours.base(IDS, MASK)
    text = MASK.bool()
    torch.testing.assert_close(logits[text], wanted[text], rtol=0, atol=1e-10)
    assert (logits - base)[text].abs().max() > 1e-2 and cache[0][0].shape[2] == LENGTH + 6


def test_writes_like_the_library_with_and_without_cache():
    adapted, ours = library_and_ours()
    theirs = adapted.generate(
        IDS, attention_mask=MASK, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    for cached in (True, False):
        made = decoding.generate(ours, IDS, MASK, 6, -1, cached=cached)
        assert torch.equal(made, theirs[:, 6:]), f"cached={cached}"
    whole, _ = ours(IDS[1:])
    torch.testing.assert_close(whole, ours(IDS[1:], MASK[1:])[0], rtol=0, atol=1e-12)


def test_equal_to_peft():
    theirs, table = peft_prefix(gpt2().eval(), "CAUSAL_LM", LENGTH)
    heads, width, layers = (getattr(theirs.base_model.config, name) for name in ("n_head", "n_embd", "n_layer"))
    made = table.detach().view(LENGTH, layers, 2, heads, width // heads).permute(1, 2, 3, 0, 4)
    with torch.no_grad():
        wanted = theirs(input_ids=IDS[1:], attention_mask=MASK[1:]).logits
        logits, _ = scratch(theirs.base_model, made)(IDS[1:], MASK[1:])
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5)


def test_only_the_prefix_learns():
    _, ours = library_and_ours()
    logits, _ = ours(IDS, MASK)
    logits.sum().backward()
    assert (ours.prefix.table.grad.abs().amax((0, 2, 4)) > 0).all(), "a key or value without a gradient"
    assert all(parameter.grad is None for parameter in ours.base.parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prefix_value": drawn(3, 5, 4)}, r"a value for every key; got the shapes \(3, 6, 4\) and \(3, 5, 4\)"),
        ({"prefix_key": drawn(2, 6, 4), "prefix_value": drawn(2, 6, 4)}, r"here \(3, l, 4\), l from 1 on; got \(2, 6"),
        ({"prefix_key": drawn(3, 0, 4), "prefix_value": drawn(3, 0, 4)}, r"l from 1 on; got \(3, 0, 4\)"),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(change, says):
    given = dict(zip(("query", "key", "value", "prefix_key", "prefix_value", "mask"), parts(), strict=True)) | change
    for function in (prefix.prefix_attention, prefix.mixture):
        with pytest.raises(ValueError, match=says):
            function(**given)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ((0, 2, 2, 8), "length must be a positive whole number; got 0"),
        ((4, 2, 2, True), "width must be a positive whole number; got True"),
        ((4, 2, 3, 8), "3 heads do not divide the width 8"),
    ],
)
def test_impossible_sizes_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        prefix.PlainPrefix(*sizes)
    with pytest.raises(ValueError, match=says):
        prefix.MLPPrefix(*sizes, hidden=4)

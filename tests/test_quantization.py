"""Weights in few bits: how far they are off, what is stored, and that training beside them works and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from peft_helpers import accounting, methods, quantization, storage, training
from peft_helpers.methods.surgery import Wrapper

LINEARS = {"int8": quantization.Int8Linear, "nf4": quantization.NF4Linear}


def wide_model() -> nn.Module:
    """Like `tiny.model()`, with rows that NF4's blocks divide."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    config = BertConfig(vocab_size=len(tiny.WORDS), pad_token_id=0, max_position_embeddings=32, **shape)
    return tiny.still(AutoModelForSequenceClassification.from_config(config))


def batch() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.arange(24).view(3, 8) % 12 + 5}


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_int8_is_off_by_at_most_half_a_step(scale: float) -> None:
    weight = scale * torch.randn(9, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight *= torch.logspace(-2, 1, 9, dtype=torch.float64)[:, None]  # rows of very different size
    codes, scales = quantization.quantize_rows(weight)
    assert codes.dtype is torch.int8 and scales.shape == (9,)
    assert codes.abs().amax(1).tolist() == [127] * 9, "each row uses the whole range"
    expected = np.rint(weight.numpy() / (np.abs(weight.numpy()).max(1, keepdims=True) / 127))
    np.testing.assert_array_equal(codes.numpy(), expected)
    off = (quantization.dequantize_rows(codes, scales) - weight).abs()
    assert (off <= scales[:, None] / 2 * (1 + 1e-9)).all() and off.max() > 0


def test_nf4_takes_the_nearest_level_and_packs_two_a_byte() -> None:
    weight = torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    codes, scales = quantization.quantize_blocks(weight)
    assert codes.dtype is torch.uint8 and codes.shape == (3 * 128 // 2,) and scales.shape == (3, 2)
    back = quantization.dequantize_blocks(codes, scales)
    levels = np.array(quantization.NF4_LEVELS)
    blocks = weight.reshape(-1, 64).numpy()
    largest = np.abs(blocks).max(1, keepdims=True)
    nearest = np.abs(blocks[..., None] / largest[..., None] - levels).argmin(-1)
    np.testing.assert_allclose(back.reshape(-1, 64), levels[nearest] * largest, rtol=1e-5, atol=1e-7)
    widest = np.diff(levels).max() / 2
    assert ((back - weight).abs().reshape(-1, 64) <= widest * torch.from_numpy(largest) * (1 + 1e-5)).all()


def test_nf4_levels_are_sorted_and_hold_both_ends_and_zero() -> None:
    levels = quantization.NF4_LEVELS
    assert len(levels) == 16 and list(levels) == sorted(levels)
    assert (levels[0], levels[7], levels[-1]) == (-1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "pair",
    [(quantization.quantize_rows, quantization.dequantize_rows),
     (quantization.quantize_blocks, quantization.dequantize_blocks)],
    ids=["int8", "nf4"],
)  # fmt: skip
def test_zeros_stay_zeros(pair) -> None:
    weight = torch.zeros(2, 64)
    weight[1, 3] = -0.7
    assert torch.allclose(pair[1](*pair[0](weight)), weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantization.quantize_rows(torch.ones(3)), r"got \(3,\), float32"),
        (lambda: quantization.quantize_rows(torch.ones(3, 3, dtype=torch.int8)), "got .*int8"),
        (lambda: quantization.quantize_rows(torch.full((2, 2), torch.inf)), "finite"),
        (lambda: quantization.quantize_blocks(torch.ones(2, 65)), "got 65 inputs"),
        (lambda: quantization.quantize(tiny.model(), "int4"), "one of int8, nf4; got 'int4'"),
        (lambda: quantization.quantize(tiny.model("gpt2")), "only nn.Linear can be quantized here; .* Conv1D"),
        (lambda: quantization.quantize(tiny.model(), "nf4"), "got 16 inputs"),
        (lambda: quantization.quantize(quantization.quantize(tiny.model())), "are Int8Linear"),
        (lambda: quantization.quantize(methods.apply(tiny.model(), methods.LoRA())), "quantize it first"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("bits", LINEARS)
def test_the_layer_computes_with_the_rounded_weight_forward_and_backward(bits: str) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 5).requires_grad_(False)
    layer = LINEARS[bits](linear)
    plain = copy.deepcopy(linear)
    plain.weight.data = layer.weight
    x = torch.randn(2, 3, 64, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    assert torch.allclose(layer(x), plain(again), atol=1e-5)
    layer(x).square().sum().backward()
    plain(again).square().sum().backward()
    assert torch.allclose(x.grad, again.grad, atol=1e-4) and x.grad.abs().min() > 0
    assert (layer.weight - linear.weight).abs().max() > 0


def test_gradients_are_right_in_float64() -> None:
    codes, scales = quantization.quantize_rows(torch.randn(4, 6, dtype=torch.float64))
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    run = lambda x: quantization.FrozenProduct.apply(x, codes, scales, quantization.dequantize_rows)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x,))


@pytest.mark.parametrize(("bits", "share"), [("int8", 0.27), ("nf4", 0.21)])
def test_a_quantized_model_is_small_and_keeps_no_more_activations(bits: str, share: float) -> None:
    plain = methods.apply(copy.deepcopy(model := wide_model()), methods.LoRA(rank=2))
    small = quantization.quantize(copy.deepcopy(model), bits)
    weights = [m for m in small.modules() if isinstance(m, quantization.QuantizedLinear)]
    assert len(weights) == 12, "six projections a layer"
    stored = quantization.bytes_in_memory([t for m in weights for t in (m.codes, m.scales)])
    assert stored <= share * sum(4 * m.in_features * m.out_features for m in weights)
    assert quantization.model_bytes(small) < 0.5 * quantization.model_bytes(model)
    if bits == "int8":
        assert accounting.count_parameters(small).total == accounting.count_parameters(model).total
    methods.apply(small, methods.LoRA(rank=2))
    kept = [accounting.saved_activations(lambda m=m: m(**batch()).logits.sum(), m) for m in (plain, small)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("bits", LINEARS)
def test_every_lora_gradient_arrives_and_training_moves_nothing_else(bits: str) -> None:
    model = quantization.quantize(wide_model(), bits)
    assert not any(p.requires_grad for p in model.parameters())
    methods.apply(model, methods.LoRA(rank=2, targets=("query", "value", "ffn_out")))
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    settings = training.Settings(1e-2, epochs=1, batch_size=8, keep_best=False, progress=False)
    training.fit(model, tiny.tokenizer(), tiny.task(), settings)
    model(**batch()).logits.square().sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 3 + 2
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trained.values())
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


def test_training_the_codes_is_refused_everywhere() -> None:
    model = quantization.quantize(tiny.model())
    before = {name: p.clone() for name, p in model.named_parameters()}
    for method in (methods.FullFineTuning(), methods.TopLayers(layers=1)):
        with pytest.raises(ValueError, match=r"quantized weights \(int8\) can't be trained"):
            methods.apply(model, method)
    assert not hasattr(model, "adaptation")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with pytest.raises(RuntimeError, match="floating point"):
        model.requires_grad_(True)


def test_merging_needs_floating_point_weights() -> None:
    model = methods.apply(quantization.quantize(tiny.still(tiny.model())), methods.LoRA(rank=2))
    for module in model.modules():
        if hasattr(module, "up"):
            nn.init.normal_(module.up.weight)
    model.eval()
    expected = model(**batch()).logits
    with pytest.raises(ValueError, match=r"quantization.restore\(model\) makes it float first"):
        methods.merge(model)
    assert torch.equal(model(**batch()).logits, expected), "a refused merge changes nothing"
    quantization.restore(model)
    assert torch.allclose(model(**batch()).logits, expected, atol=1e-5)
    methods.merge(model)
    assert not any(isinstance(m, Wrapper | quantization.QuantizedLinear) for m in model.modules())
    assert torch.allclose(model(**batch()).logits, expected, atol=1e-5)


def test_disabled_and_removed_it_is_the_quantized_backbone() -> None:
    model = quantization.quantize(tiny.still(tiny.model())).eval()
    expected = model(**batch()).logits
    methods.apply(model, methods.LoRA(rank=2))
    for module in model.modules():
        if hasattr(module, "up"):
            nn.init.normal_(module.up.weight)
    assert not torch.equal(model(**batch()).logits, expected)
    with methods.disabled(model):
        assert torch.equal(model(**batch()).logits, expected)
    assert torch.equal(methods.remove(model)(**batch()).logits, expected)


@pytest.mark.parametrize("bits", LINEARS)
def test_codes_survive_the_disk_and_casting(bits: str, tmp_path) -> None:
    model = quantization.quantize(wide_model(), bits).eval()
    expected = model(**batch()).logits
    storage.write_tensors(tmp_path / "model.safetensors", model.state_dict())
    from safetensors.torch import load_file

    other = quantization.quantize(wide_model(), bits).eval()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(**batch()).logits, expected)
    layer = next(m for m in model.double().modules() if isinstance(m, quantization.QuantizedLinear))
    assert not layer.codes.is_floating_point() and layer.scales.dtype is torch.float64
    assert "in_features=64" in repr(layer)

"""A frozen backbone in 8 or 4 bits, under methods that train beside it: weights are stored small, computed in float.

    quantize(model)                                # freezes; the encoder's linear layers become Int8Linear
    methods.apply(model, methods.LoRA(rank=8))     # trains beside them, in float32, as usual

Only the weights are rounded (weight-only quantization): products, activations and gradients stay floating-point. So
gradients flow through to the layers below, which a product of integers would end silently. int8: one scale a row, its
largest magnitude over 127. NF4 (Dettmers et al. 2023, arXiv:2305.14314, section 3 and appendix E): 16 levels at the
quantiles of a normal distribution, one scale for 64 weights, two codes a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers import backbones

BLOCK = 64  # weights that share a scale in NF4
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) -> codes (out, in) of whole numbers from -127 to 127, int8, and scales (out,): weight ≈ scale · code.

    A weight is off by at most half its row's scale. A row of zeros gets the scale 0.

    Raises:
        ValueError: no matrix of finite numbers.
    """
    require_weight(weight)
    scales = weight.abs().amax(dim=1) / 127
    codes = (weight / scales.where(scales > 0, 1)[:, None]).round()
    return codes.to(torch.int8), scales


def dequantize_rows(codes: Tensor, scales: Tensor) -> Tensor:
    """The weight that codes and scales stand for, (out, in), in the scales' type."""
    return codes.to(scales.dtype) * scales[:, None]


def quantize_blocks(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) -> NF4 codes, two a byte, uint8 (out · in / 2,), and a scale for each 64 weights of a row.

    Raises:
        ValueError: no matrix of finite numbers, or rows that 64 does not divide.
    """
    require_weight(weight)
    if weight.shape[1] % BLOCK:
        raise ValueError(f"NF4 takes rows in blocks of {BLOCK}; got {weight.shape[1]} inputs, which it does not divide")
    blocks = weight.reshape(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    shares = (blocks / scales.where(scales > 0, 1)[:, None]).reshape(-1)
    levels = weight.new_tensor(NF4_LEVELS)
    codes = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2)  # the nearest level
    return (16 * codes[0::2] + codes[1::2]).to(torch.uint8), scales.view(len(weight), -1)


def dequantize_blocks(codes: Tensor, scales: Tensor) -> Tensor:
    """The weight that NF4 codes (out · in / 2,) and scales (out, in / 64) stand for, (out, in)."""
    levels = scales.new_tensor(NF4_LEVELS)
    both = torch.stack((codes >> 4, codes & 15), 1).reshape(-1, BLOCK)
    return (levels[both.long()] * scales.reshape(-1, 1)).view(len(scales), -1)


class FrozenProduct(torch.autograd.Function):
    """x Wᵀ with W made from codes when it is needed, forward and backward: what autograd keeps are the codes.

    A plain product would keep the whole float32 weight for the backward pass. There is no gradient for the weight.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, decode: Callable) -> Tensor:
        """x (..., in) -> (..., out)."""
        ctx.save_for_backward(codes, scales)
        ctx.decode = decode
        return x @ decode(codes, scales).to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """What arrives from above, (..., out), on its way down, (..., in)."""
        return grad @ ctx.decode(*ctx.saved_tensors).to(grad.dtype), None, None, None


class QuantizedLinear(nn.Module):
    """A linear layer with a frozen weight in few bits: (..., in) -> (..., out). Subclasses say how it is stored.

    The codes are a parameter of whole numbers, so parameters and bytes are counted right, and PyTorch itself refuses
    to train them; scales are a buffer.

    Args:
        linear: the layer; its bias is taken over as it is.
    """

    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, scales = type(self).encode(linear.weight.detach())
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scales", scales)
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """A fresh float copy, (out, in): writing to it changes nothing."""
        return type(self).decode(self.codes, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        h = FrozenProduct.apply(x, self.codes, self.scales, type(self).decode)
        return h if self.bias is None else h + self.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantizedLinear):
    """One byte a weight, and a scale for each output."""

    encode, decode = staticmethod(quantize_rows), staticmethod(dequantize_rows)


class NF4Linear(QuantizedLinear):
    """Half a byte a weight, and a scale for each 64 weights."""

    encode, decode = staticmethod(quantize_blocks), staticmethod(dequantize_blocks)


KINDS: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, "nf4": NF4Linear}


def quantize(model: nn.Module, bits: str = "int8") -> nn.Module:
    """Freeze a model, and store every linear layer of its Transformer layers in few bits, in place.

    Embeddings, norms, biases, pooler and head stay as they are. Do this before `methods.apply`, which refuses whatever
    would train the codes, and enables the head again.

    Args:
        bits: "int8" or "nf4".

    Raises:
        ValueError: another kind, a model that carries a method, or projections that are no `nn.Linear` (GPT-2's).
    """
    if bits not in KINDS:
        raise ValueError(f"bits must be one of {', '.join(KINDS)}; got {bits!r}")
    if hasattr(model, "adaptation"):
        raise ValueError(f"the model carries {model.adaptation.method}; quantize it first, then apply the method")
    anatomy = backbones.anatomy(model)
    sites = [site for layer in anatomy.layers for site in layer.sites.values()]
    wrong = [site.path for site in sites if type(site.module) is not nn.Linear]
    if wrong:
        kinds = ", ".join(sorted({type(site.module).__name__ for site in sites if site.path in wrong}))
        raise ValueError(f"only nn.Linear can be quantized here; {wrong[0]} and {len(wrong) - 1} more are {kinds}")
    model.requires_grad_(False)
    for site in sites:
        _replace(model, site.path, KINDS[bits](site.module).train(site.module.training))
    return model


def restore(model: nn.Module) -> nn.Module:
    """Every quantized layer as an `nn.Linear` in floating point again, in place, with the rounded weights.

    What was trained beside a rounded weight can be merged into it only after this.
    """
    swaps = model.adaptation.swaps if hasattr(model, "adaptation") else []
    for path, layer in list(model.named_modules()):
        if isinstance(layer, QuantizedLinear):
            linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
            linear.weight, linear.bias = nn.Parameter(layer.weight, requires_grad=False), layer.bias
            _replace(model, path, linear.train(layer.training))
            for swap in swaps:  # what merging and removing the method put back
                swap.before = linear if swap.before is layer else swap.before
    return model


def bytes_in_memory(tensors: Iterable[Tensor]) -> int:
    """The bytes of these tensors' storages, each counted once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def model_bytes(model: nn.Module) -> int:
    """The bytes of a model's parameters and buffers: what it takes in memory before it reads a text."""
    return bytes_in_memory([*model.parameters(), *model.buffers()])


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    above, _, name = path.rpartition(".")
    setattr(model.get_submodule(above), name, module)


def require_weight(weight: Tensor) -> None:
    """Refuse what can't be quantized.

    Raises:
        ValueError: saying what was given.
    """
    if weight.ndim != 2 or not weight.is_floating_point() or not weight.isfinite().all():
        told = f"{tuple(weight.shape)}, {str(weight.dtype).removeprefix('torch.')}"
        raise ValueError(f"a matrix (out, in) of finite floating-point numbers is needed; got {told}")

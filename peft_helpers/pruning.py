"""Pruning: single weights set to zero by their size, and heads and feed-forward units really taken out (lesson 07).

Unstructured: `magnitude_masks` says which weights of the layers' matrices go, `zero_weights` sets them to zero, `held`
keeps them there while a model recovers. The tensors keep their shape: neither file nor time shrinks. Structured:
`remove_units` puts smaller linear layers in place, on BERT and RoBERTa; such a model has its own file format
(`save`, `load`), since its shapes are no longer what its configuration says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from peft_helpers import backbones, storage

if TYPE_CHECKING:
    from peft_helpers.backbones import Layer

ATTENTION, FEED_FORWARD = ("query", "key", "value", "attention_output"), ("ffn_in", "ffn_out")
STRUCTURED = ("bert", "roberta")
REASONS = {
    "gpt2": "query, key and value share one matrix (Conv1D), whose thirds would have to be cut apart",
    "llama": "several query heads share one key and value head, and the feed-forward block is gated",
    "bart": "its decoder's layers attend twice, and each kind of attention has its own heads",
}


def require_share(name: str, share: float) -> None:
    """Refuse what is no share from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"{name} is a share from 0 to 1; got {share!r}")


# ---------------------------------------------------------------- unstructured: single weights become zero


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """A mask of ones, with zeros at the `sparsity` share of the entries that are smallest in absolute value.

    Any shape; the same mask as `torch.nn.utils.prune.l1_unstructured`. LeCun, Denker and Solla (1990) give the reasons
    against so simple a measure; Han et al. (arXiv:1506.02626) show how far it goes.

    Raises:
        ValueError: a sparsity outside 0 to 1.
    """
    require_share("sparsity", sparsity)
    count = round(sparsity * weight.numel())
    smallest = weight.detach().abs().flatten().topk(count, largest=False).indices
    mask = torch.ones_like(weight).flatten()
    mask[smallest] = 0
    return mask.view_as(weight)


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float, scope: str = "global") -> dict[str, Tensor]:
    """Masks for several tensors: the smallest entries of each ("tensor"), or of all of them together ("global").

    As `prune.l1_unstructured` on each, or `prune.global_unstructured` over all.

    Raises:
        ValueError: a sparsity outside 0 to 1, another scope, or no tensor.
    """
    if scope not in ("global", "tensor") or not weights:
        raise ValueError(f'scope is "global" or "tensor", over at least one tensor; got {scope!r}, {len(weights)}')
    if scope == "tensor":
        return {name: magnitude_mask(weight, sparsity) for name, weight in weights.items()}
    together = torch.cat([weight.detach().flatten() for weight in weights.values()])
    parts = magnitude_mask(together, sparsity).split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def matrices(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose weights are pruned: every matrix of the layers, by its path; embeddings and head stay whole."""
    names = sorted({name for layer in backbones.anatomy(model).layers for name in layer.sites})
    return {site.path: site.module for site in backbones.anatomy(model).sites(names)}


def zero_weights(model: nn.Module, sparsity: float, scope: str = "global") -> dict[str, Tensor]:
    """Set the smallest weights of the layers' matrices to zero, in place; return the masks, by the modules' paths."""
    found = matrices(model)
    masks = magnitude_masks({path: module.weight for path, module in found.items()}, sparsity, scope)
    with torch.no_grad():
        for path, module in found.items():
            module.weight *= masks[path]
    return masks


class Masked(nn.Module):
    """A parametrization: weight × mask, of any shape. What is masked gets no gradient and stays zero."""

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@contextlib.contextmanager
def held(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, what is masked stays zero however the model is trained; afterwards its weights are plain again.

    Raises:
        ValueError: a mask of another shape than the weight, or for a module that is not there.
    """
    modules = dict(model.named_modules())
    for path, mask in masks.items():
        if path not in modules or modules[path].weight.shape != mask.shape:
            raise ValueError(f"the mask for {path!r} fits no weight of this model")
    for path, mask in masks.items():
        parametrize.register_parametrization(modules[path], "weight", Masked(mask))
    try:
        yield
    finally:
        for path in masks:
            parametrize.remove_parametrizations(modules[path], "weight")


# ---------------------------------------------------------------- structured: heads and units are taken out


@dataclass(frozen=True)
class Kept:
    """What is left in one layer: numbers of heads and of feed-forward units, as the whole model counts them."""

    heads: tuple[int, ...]
    units: tuple[int, ...]


def kept(model: nn.Module) -> list[Kept]:
    """What is left in each layer; for a model that nothing was removed from, everything."""
    known = getattr(model, "kept_units", None)
    if known is not None:
        return list(known)
    size = head_size(model)
    return [
        Kept(
            tuple(range(layer.sites["query"].module.out_features // size)),
            tuple(range(layer.sites["ffn_in"].module.out_features)),
        )
        for layer in prunable_layers(model)
    ]


def prunable_layers(model: nn.Module) -> tuple[Layer, ...]:
    """The layers of a BERT or RoBERTa.

    Raises:
        ValueError: another architecture, with the reason; or a module that a method has wrapped.
    """
    anatomy = backbones.anatomy(model)
    if anatomy.architecture not in STRUCTURED:
        why = REASONS.get(anatomy.architecture, "nobody has looked at where its heads are")
        raise ValueError(
            f"heads and units can be removed from {' and '.join(STRUCTURED)}, not from {anatomy.architecture}: {why}"
        )
    for site in anatomy.sites(ATTENTION + FEED_FORWARD):
        if not isinstance(site.module, nn.Linear):
            raise ValueError(
                f"{site.path} is a {type(site.module).__name__}, no nn.Linear; remove units first, then add a method"
            )
    return anatomy.layers


def head_size(model: nn.Module) -> int:
    """The width of one head, D / H of the whole model."""
    return model.config.hidden_size // model.config.num_attention_heads


def of_heads(heads: Sequence[int], size: int) -> Tensor:
    """The rows of query, key and value that belong to these heads; also the columns of the output projection."""
    return (torch.tensor(list(heads), dtype=torch.long)[:, None] * size + torch.arange(size)).flatten()


def sizes(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """How large the weights of each head (H,) and of each feed-forward unit (I,) are, layer by layer.

    The root of the sum of squares over what belongs to it alone: its rows of query, key and value and its columns of
    the output projection; its row on the way in and its column on the way out.
    """
    size, found = head_size(model), []
    for layer in prunable_layers(model):
        squares = {name: site.module.weight.detach().double().square() for name, site in layer.sites.items()}
        head = sum(squares[name].sum(1) for name in ATTENTION[:3]) + squares["attention_output"].sum(0)
        unit = squares["ffn_in"].sum(1) + squares["ffn_out"].sum(0)
        found.append((head.view(-1, size).sum(1).sqrt(), unit.sqrt()))
    return found


def weakest(model: nn.Module, share: float) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Which heads and which units to remove: in each layer this share of both, the smallest ones, but never all.

    Returns:
        (heads, units), each layer -> numbers, as `remove_units` and `zero_units` take them.

    Raises:
        ValueError: a share outside 0 to 1, or an architecture that units can't be removed from.
    """
    require_share("share", share)
    found: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    for index, (scores, left) in enumerate(zip(sizes(model), kept(model), strict=True)):
        for chosen, score, numbers in zip(found, scores, (left.heads, left.units), strict=True):
            count = min(round(share * len(score)), len(score) - 1)
            chosen[index] = sorted(numbers[place] for place in score.argsort(stable=True)[:count].tolist())
    return found


def smaller_linear(linear: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None) -> nn.Linear:
    """A new linear layer with these outputs (rows) and these inputs (columns) of the old one; None keeps all.

    The bias has one entry an output: it follows the rows.
    """
    weight, bias = linear.weight.detach(), linear.bias
    if rows is not None:
        weight, bias = weight[rows], None if bias is None else bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    outputs, inputs = weight.shape
    smaller = nn.Linear(inputs, outputs, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    smaller.weight = nn.Parameter(weight.clone(), requires_grad=linear.weight.requires_grad)
    if bias is not None:
        smaller.bias = nn.Parameter(bias.detach().clone(), requires_grad=linear.bias.requires_grad)
    return smaller


def zero_units(
    model: nn.Module, heads: Mapping[int, Iterable[int]] | None = None, units: Mapping[int, Iterable[int]] | None = None
) -> nn.Module:
    """Silence heads and feed-forward units in place, by zeros where they are read; nothing gets smaller.

    Arguments and errors as in `remove_units`.
    """
    layers, size, left = prunable_layers(model), head_size(model), kept(model)
    heads, units = _checked(left, heads, units)
    with torch.no_grad():
        for index, layer in enumerate(layers):
            gone = [left[index].heads.index(head) for head in heads[index]]
            layer.sites["attention_output"].module.weight[:, of_heads(gone, size)] = 0
            layer.sites["ffn_out"].module.weight[:, [left[index].units.index(unit) for unit in units[index]]] = 0
    return model


def remove_units(
    model: nn.Module, heads: Mapping[int, Iterable[int]] | None = None, units: Mapping[int, Iterable[int]] | None = None
) -> nn.Module:
    """Take heads and feed-forward units out of a BERT or RoBERTa, in place: its linear layers become smaller.

    The outputs are those of the model with the same heads and units silenced (`zero_units`). Michel et al.
    (arXiv:1905.10650) remove heads in the same way.

    Args:
        heads: layer's number -> numbers of the heads to remove, as the whole model counts them.
        units: layer's number -> numbers of the feed-forward units to remove.

    Raises:
        ValueError: an architecture that this can't cut, with the reason; a layer, head or unit that is not there (any
            more); or nothing left in a layer.
    """
    layers, size, left = prunable_layers(model), head_size(model), kept(model)
    heads, units = _checked(left, heads, units)
    result = []
    for index, layer in enumerate(layers):
        keep = Kept(
            tuple(head for head in left[index].heads if head not in heads[index]),
            tuple(unit for unit in left[index].units if unit not in units[index]),
        )
        rows = of_heads([left[index].heads.index(head) for head in keep.heads], size)
        inner = torch.tensor([left[index].units.index(unit) for unit in keep.units])
        for name, (taken_rows, taken_columns) in {
            **dict.fromkeys(ATTENTION[:3], (rows, None)),
            "attention_output": (None, rows),
            "ffn_in": (inner, None),
            "ffn_out": (None, inner),
        }.items():
            site = layer.sites[name]
            parent, _, child = site.path.rpartition(".")
            setattr(model.get_submodule(parent), child, smaller_linear(site.module, taken_rows, taken_columns))
        attention = model.get_submodule(layer.sites["query"].path.rpartition(".")[0])
        for attribute, value in (("num_attention_heads", len(keep.heads)), ("all_head_size", len(rows))):
            if hasattr(attention, attribute):
                setattr(attention, attribute, value)
        result.append(keep)
    model.kept_units = result
    return model


def _checked(left: Sequence[Kept], *asked: Mapping[int, Iterable[int]] | None) -> tuple[dict[int, set[int]], ...]:
    """Heads and units to remove, for every layer; refuse what is not there, and the last one of a layer."""
    found = []
    for what, wanted in zip(("head", "unit"), asked, strict=True):
        wanted = {layer: set(numbers) for layer, numbers in (wanted or {}).items()}
        if unknown := sorted(set(wanted) - set(range(len(left)))):
            raise ValueError(f"there is no layer {unknown[0]}; the model has layers 0 to {len(left) - 1}")
        for layer, numbers in wanted.items():
            there = getattr(left[layer], f"{what}s")
            if missing := sorted(numbers - set(there)):
                raise ValueError(f"layer {layer} has no {what} {missing[0]} (any more); it has {len(there)}")
            if len(numbers) == len(there):
                raise ValueError(f"layer {layer} would be left without a {what}; keep at least one")
        found.append({layer: wanted.get(layer, set()) for layer in range(len(left))})
    return tuple(found)


# ---------------------------------------------------------------- files


def save(model: nn.Module, folder: str | Path) -> None:
    """Write a model with removed units: `model.safetensors`, and `kept.json` with what each layer has left.

    Raises:
        ValueError: an architecture that units can't be removed from.
    """
    left = [{"heads": list(layer.heads), "units": list(layer.units)} for layer in kept(model)]
    about = {"architecture": backbones.anatomy(model).architecture, "layers": left}
    storage.write_tensors(Path(folder) / "model.safetensors", model.state_dict())
    storage.write_json(Path(folder) / "kept.json", about)


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Make a whole model of the same backbone and head into the one that `save` wrote to `folder`, in place.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files are broken, or of another model.
    """
    path = Path(folder) / "kept.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; pruning.save writes it beside the weights")
    tensors, _ = storage.read_tensors(Path(folder) / "model.safetensors")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        left = [Kept(tuple(layer["heads"]), tuple(layer["units"])) for layer in about["layers"]]
        architecture = about["architecture"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is truncated or was not written by pruning.save: {error}") from error
    here = kept(model)
    if architecture != backbones.anatomy(model).architecture or len(left) != len(here):
        raise ValueError(
            f"{folder} holds {architecture} with {len(left)} layers; "
            f"this model is {backbones.anatomy(model).architecture} with {len(here)}"
        )
    pairs = list(enumerate(zip(here, left, strict=True)))
    heads = {index: set(before.heads) - set(after.heads) for index, (before, after) in pairs}
    units = {index: set(before.units) - set(after.units) for index, (before, after) in pairs}
    remove_units(model, heads, units)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit this model: {error}") from error
    return model

"""A method on the disk: save, load, and switch between several tasks over one frozen backbone.

A saved method is a folder: `method.safetensors` with every trained tensor, head included, and in its header what is
needed to put it back; `method.json` shows the same header to people. The tensors are a few percent of the model, and
the header holds the backbone's hash: on other weights they would mean nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from peft_helpers import storage
from peft_helpers.methods import base, surgery, verbs

if TYPE_CHECKING:
    from peft_helpers.methods.surgery import Adaptation

TENSORS, HEADER = "method.safetensors", "method.json"


def backbone_hash(model: nn.Module) -> str:
    """SHA-256 of the base model's names, types, shapes and values, without head and without what a method changed."""
    adaptation = verbs.carried(model) if hasattr(model, "adaptation") else None
    if adaptation is not None and adaptation.backbone_hash:
        return adaptation.backbone_hash
    digest = hashlib.sha256()
    with verbs.disabled(model) if adaptation is not None else contextlib.nullcontext():
        for name, parameter in sorted(model.base_model.named_parameters()):
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    if adaptation is not None:
        adaptation.backbone_hash = digest.hexdigest()
    return digest.hexdigest()


def save(model: nn.Module, folder: str | Path) -> Path:
    """Save what was trained into a folder; a crash or a full disk leaves the old file whole.

    Raises:
        ValueError: the model carries no method.
        OSError: whatever the disk answers.
    """
    method, folder = verbs.carried(model).method, Path(folder)
    kept = method.as_stored()
    header = {"method": type(kept).__name__, "settings": kept.settings()} | provenance(model)
    storage.write_tensors(folder / TENSORS, method.stored(model), header)
    storage.write_json(folder / HEADER, header)
    return folder


def provenance(model: nn.Module) -> dict[str, Any]:
    """What a file says of the model that its tensors belong to: the backbone, and the labels that the head knows."""
    return {
        "backbone": {"name": backbone_name(model), "sha256": backbone_hash(model)},
        "labels": getattr(model.config, "id2label", None),
        "problem_type": getattr(model.config, "problem_type", None),
    }


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Put a saved method, trained head included, into a fresh copy of the backbone it was trained on.

    Raises:
        FileNotFoundError: there is no saved method.
        ValueError: the file is truncated, belongs to another backbone, or its tensors don't fit; every missing,
            unexpected and misshapen tensor is named. The model is then as it was.
    """
    return _load(model, Path(folder), new_head=False)


def switch(model: nn.Module, folder: str | Path | None) -> nn.Module:
    """Exchange the method in the model for a saved one, or for none: many tasks, one frozen backbone in memory.

    The base is restored bit for bit in between. A task with another number of classes brings its own head. What the
    model carried is lost unless it was saved.

    Raises:
        FileNotFoundError, ValueError: as in `load`; the model then still carries what it carried.
    """
    previous: Adaptation | None = verbs.carried(model) if hasattr(model, "adaptation") else None
    if previous is None:
        return model if folder is None else _load(model, Path(folder), new_head=True)
    if folder is None:
        return verbs.remove(model)
    known = backbone_hash(model)
    previous.take_out()
    del model.adaptation
    try:
        _load(model, Path(folder), new_head=True, known_hash=known)
    except BaseException:
        model.adaptation = previous
        previous.put_in()
        raise
    model.adaptation.backbone_hash = known
    model.adaptation.trainable_before = previous.trainable_before
    return model


def _load(model: nn.Module, folder: Path, new_head: bool, known_hash: str | None = None) -> nn.Module:
    path = folder / TENSORS
    tensors, header = storage.read_tensors(path)
    method = _method(path, header)
    check_backbone(path, header["backbone"], model, known_hash)
    return place(model, method, tensors, header, path, new_head)


def check_backbone(path: Path, saved: dict[str, str], model: nn.Module, known_hash: str | None = None) -> None:
    """Refuse a model whose base is not, to the bit, the one that the file was trained on."""
    here = known_hash or backbone_hash(model)
    if saved["sha256"] != here:
        raise ValueError(
            f"{path} was trained on another backbone: {saved['name']} with hash {saved['sha256'][:12]}…, and this is "
            f"{backbone_name(model)} with hash {here[:12]}…. Load the backbone it was trained on, in the same precision"
        )


def place(
    model: nn.Module,
    method: base.Method,
    tensors: dict[str, Tensor],
    header: dict[str, Any],
    path: Path,
    new_head: bool = False,
) -> nn.Module:
    """Apply a method and give it these tensors: all of them fit, or nothing is changed.

    Args:
        tensors: by the names that `method.stored` has.
        header: with "labels" and "problem_type", if they are known.
        path: where the tensors come from, for messages.
        new_head: a head with another number of outputs takes the place of the model's.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape, or the method does not fit the model.
    """
    verbs.apply(model, method)
    try:
        if new_head:
            _resize_head(model, tensors)
        targets = method.stored(model)
        _compare(path, method, tensors, targets)
        with torch.no_grad():
            for key, tensor in tensors.items():
                targets[key].copy_(tensor)
        _take_labels(model, header)
    except BaseException:
        verbs.remove(model)
        raise
    return model


def _method(path: Path, header: dict[str, Any]) -> base.Method:
    if not {"method", "settings", "backbone"} <= header.keys():
        raise ValueError(f"{path} is no saved method: its header has {', '.join(sorted(header)) or 'nothing'}")
    try:
        return base.make(header["method"], **header["settings"])
    except (ValueError, TypeError) as error:  # TypeError: a setting of another type, from another version
        raise ValueError(f"{path} can't be loaded: {error}") from error


def _compare(path: Path, method: base.Method, tensors: dict[str, Tensor], targets: dict[str, Tensor]) -> None:
    """Refuse tensors that are not exactly those expected; all that is wrong is said at once."""
    missing, unexpected = sorted(targets.keys() - tensors.keys()), sorted(tensors.keys() - targets.keys())
    shapes = [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(targets[name].shape)} here"
        for name in sorted(targets.keys() & tensors.keys())
        if tensors[name].shape != targets[name].shape
    ]
    wrong = [
        f"{what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if wrong:
        raise ValueError(
            f"{path} does not fit {method} on this model; nothing was loaded. {'; '.join(wrong)}. "
            "A head of another shape belongs to a task with another number of classes"
        )


def _resize_head(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give the head's linear layers as many outputs as the saved ones have."""
    adaptation = model.adaptation
    for site in surgery.task_head(adaptation.anatomy):
        for name, module in list(model.get_submodule(site.path).named_modules(prefix=site.path)):
            saved = tensors.get(f"{name}.weight")
            if not isinstance(module, nn.Linear) or saved is None or len(saved) == module.out_features:
                continue
            place = {"device": module.weight.device, "dtype": module.weight.dtype}
            new = nn.Linear(module.in_features, len(saved), bias=module.bias is not None, **place)
            new.requires_grad_(False)
            above, _, last = name.rpartition(".")
            adaptation.swap(model.get_submodule(above), last, new)
            surgery.train(adaptation.anatomy, new.parameters())


def _take_labels(model: nn.Module, header: dict[str, Any]) -> None:
    """The head is the saved task's now, so its labels are too; `disabled` and `remove` bring the old ones back."""
    labels, swap = header.get("labels"), model.adaptation.swap
    if labels is None or not hasattr(model.config, "id2label"):
        return
    swap(model.config, "id2label", {int(number): label for number, label in labels.items()})
    swap(model.config, "label2id", {label: int(number) for number, label in labels.items()})
    swap(model.config, "problem_type", header.get("problem_type"))
    if hasattr(model, "num_labels"):
        swap(model, "num_labels", len(labels))


def backbone_name(model: nn.Module) -> str:
    """What a backbone is called: its registered name, else what transformers calls it."""
    return getattr(model, "name", None) or getattr(model.config, "name_or_path", "") or type(model.base_model).__name__

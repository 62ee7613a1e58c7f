"""To huggingface/peft and back: its adapter folder, written and read without the library.

    methods.to_peft(adapted, "sst2-peft")      # peft.PeftModel.from_pretrained(base, "sst2-peft") answers the same
    methods.from_peft(base, "theirs")          # our method, with their tensors

A folder of peft's is `adapter_config.json` and `adapter_model.safetensors`. It does not say which weights it was
trained on, only their name; ours does, in the tensors' header, where peft does not look. COUNTERPARTS has the methods;
how a further one joins stands in `counterparts`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import nn

from peft_helpers import backbones, storage
from peft_helpers.methods import saving, surgery, verbs
from peft_helpers.methods.adalora import AdaLoRA
from peft_helpers.methods.base import Method
from peft_helpers.methods.counterpart_adalora import ADALORA
from peft_helpers.methods.counterpart_dora import DORA
from peft_helpers.methods.counterpart_ia3 import IA3_COUNTERPART
from peft_helpers.methods.counterpart_layer_norms import LAYER_NORMS
from peft_helpers.methods.counterpart_lora import LORA
from peft_helpers.methods.counterpart_p_tuning import P_TUNING
from peft_helpers.methods.counterpart_prefix import PREFIX_TUNING, PROMPT_TUNING
from peft_helpers.methods.counterpart_vera import VERA
from peft_helpers.methods.counterparts import Counterpart
from peft_helpers.methods.dora import DoRA
from peft_helpers.methods.ia3 import IA3
from peft_helpers.methods.layer_norms import LayerNormTuning
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.p_tuning import PTuning
from peft_helpers.methods.prefix_tuning import PrefixTuning
from peft_helpers.methods.prompt_tuning import PromptTuning
from peft_helpers.methods.vera import VeRA

# Our method -> what it is in peft's files. A further method joins here; see `counterparts`.
COUNTERPARTS: dict[type[Method], Counterpart] = {
    LoRA: LORA,
    AdaLoRA: ADALORA,
    DoRA: DORA,
    IA3: IA3_COUNTERPART,
    VeRA: VERA,
    LayerNormTuning: LAYER_NORMS,
    PrefixTuning: PREFIX_TUNING,
    PromptTuning: PROMPT_TUNING,
    PTuning: P_TUNING,
}

NO_ADAPTERS = "peft has no bottleneck adapters (github.com/huggingface/peft/issues/244)"
SHIRA = "peft's sparse masks (SHiRA) have r (in + out) entries in each matrix; this mask is a share of all"
ONE_METHOD = "a folder of peft's holds one method, and this is several at once"
WITHOUT: dict[str, str] = {  # why the others are not in the table
    "FullFineTuning": "peft keeps changes beside a model, not whole models; model.save_pretrained does",
    "HeadOnly": "peft saves a head only beside a method (its modules_to_save)",
    "TopLayers": "peft trains whole layers only beside a method (its modules_to_save)",
    "BitFit": "peft trains biases only beside LoRA's matrices (its bias setting)",
    "Houlsby": NO_ADAPTERS,
    "Pfeiffer": NO_ADAPTERS,
    "ParallelAdapter": NO_ADAPTERS,
    "Compacter": NO_ADAPTERS,
    **dict.fromkeys(("MagnitudeMask", "FishMask", "DiffPruning"), SHIRA),
    "KronA": "peft's Kronecker products (LoKr) have the smaller factor first, sized by a rule of its own",
    "SAID": "peft has no method with one subspace for all weights",
    **dict.fromkeys(("Compose", "MAM", "S4", "UniPELT"), ONE_METHOD),
}

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
OURS = "peft_helpers"  # our entry in the tensors' header
HARMLESS = {  # settings that say where the folder comes from, and don't change an answer
    *("peft_type", "task_type", "base_model_name_or_path", "revision"),
    *("peft_version", "auto_mapping", "inference_mode", "modules_to_save"),
}


def to_peft(model: nn.Module, folder: str | Path) -> Path:
    """Write what was trained, head included, as a folder that `peft.PeftModel.from_pretrained` loads.

    Both files are written before old ones go, so an error leaves the old folder. A kill in the moment of the exchange
    leaves no adapter_config.json, and nobody takes half of each for an adapter.

    Raises:
        ValueError: the model carries no method, or one that peft does not have; the message says why.
        OSError: whatever the disk answers.
    """
    from safetensors.torch import save_file

    method, folder = verbs.carried(model).method, Path(folder)
    counterpart = COUNTERPARTS.get(type(method))
    if counterpart is None:
        name = type(method).__name__
        reason = WITHOUT.get(name, "it has no row in interchange.COUNTERPARTS")
        raise ValueError(f"{name} can't be written for peft: {reason}. methods.save keeps it in the course's format")
    settings, tensors = counterpart.write(model)
    heads = surgery.task_head(model.adaptation.anatomy)
    trained = surgery.trained_tensors(model)
    tensors |= {counterpart.head_prefix + name: trained[name] for name in _head_names(model)}
    config = {
        "peft_type": counterpart.peft_type,
        "task_type": _task_type(model, bool(heads)),
        "base_model_name_or_path": _hub_name(model),
        "inference_mode": True,
        "modules_to_save": [site.path for site in heads] or None,
    }
    header = {"format": "pt", OURS: json.dumps(saving.provenance(model))}
    with storage.replace_atomically(folder / CONFIG) as text, storage.replace_atomically(folder / TENSORS) as file:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file, header)
        text.write_text(json.dumps(config | settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (folder / CONFIG).unlink(missing_ok=True)
    return folder


def from_peft(model: nn.Module, folder: str | Path) -> nn.Module:
    """Apply our method to a fresh model, and give it the tensors, head included, of a folder in peft's format.

    Where peft warns and goes on (a setting that it does not know, a tensor that is missing), this refuses.

    Raises:
        FileNotFoundError: there is no such folder, or one of its two files is missing.
        ValueError: a file is damaged, the method or a setting has no equal here, a tensor does not fit the model, or
            the model carries a method already. The model is then as it was.
    """
    if hasattr(model, "adaptation"):
        raise ValueError(f"the model carries {model.adaptation.method} already; remove(model) takes it out")
    folder = Path(folder)
    path, config = folder / TENSORS, _read_config(folder / CONFIG)
    counterpart = _counterpart(folder, config)
    if not path.is_file() and (pickle := path.with_suffix(".bin")).is_file():
        raise ValueError(
            f"{pickle} is a pickle, and loading one runs whatever code it holds; load the adapter with peft and save "
            f"it again: save_pretrained writes {TENSORS}"
        )
    tensors, header = storage.read_any_tensors(path)
    ours = json.loads(header[OURS]) if OURS in header else {}
    if ours:
        saving.check_backbone(path, ours["backbone"], model)
    prefixed = {counterpart.head_prefix + name: name for name in _head_names(model)}
    head = {name: tensors.pop(full) for full, name in prefixed.items() if full in tensors}
    try:
        method, named = counterpart.read(backbones.anatomy(model), config, tensors)
    except (ValueError, TypeError, re.error) as error:  # the others: a setting of another type, no regular expression
        raise ValueError(f"{folder} can't be read for this {saving.backbone_name(model)}: {error}") from error
    return saving.place(model, method, named | head, ours, path)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no adapter of peft's in {path.parent}: {path.name} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, no UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or "peft_type" not in config:
        raise ValueError(f"{path} is no configuration of peft's: it has no peft_type")
    return config


def _counterpart(folder: Path, config: dict[str, Any]) -> Counterpart:
    """The row for this folder; its settings must all be understood, or be empty."""
    kind = config["peft_type"]
    row = next((row for row in COUNTERPARTS.values() if row.peft_type == kind and row.claims(config)), None)
    if row is None:
        known = ", ".join(f"{row.peft_type} ({method.__name__})" for method, row in COUNTERPARTS.items())
        kind = f"{kind} with DoRA" if config.get("use_dora") else kind
        raise ValueError(f"{folder} holds {kind}, which no method here can read; there are {known}")
    strange = []
    for name, value in config.items():
        allowed = (value,) if name in HARMLESS else row.settings.get(name, ())
        empty = value is None or value is False or value in ("", [], {})
        if not empty and allowed is not None and value not in allowed:
            strange.append(f"{name} = {value!r}" + (f" (here: {', '.join(map(repr, allowed))})" if allowed else ""))
    if strange:
        raise ValueError(f"{folder / CONFIG} has settings without an equal here: {'; '.join(strange)}")
    return row


def _head_names(model: nn.Module) -> list[str]:
    """The names of the task head's tensors."""
    adapted = hasattr(model, "adaptation")
    anatomy = model.adaptation.anatomy if adapted else backbones.anatomy(model)
    paths = tuple(f"{site.path}." for site in surgery.task_head(anatomy))
    names = surgery.trained_tensors(model) if adapted else dict(model.named_parameters())
    return [name for name in names if name.startswith(paths)]


def _task_type(model: nn.Module, head: bool) -> str | None:
    """What peft calls the model's task; None for a network that is not transformers' own, which peft wraps as it is."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        return None
    if head:
        return "SEQ_CLS"
    if model.get_output_embeddings() is None:
        return "FEATURE_EXTRACTION"
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def _hub_name(model: nn.Module) -> str:
    """Where others find the backbone: its name on the Hub, if it has one."""
    name = saving.backbone_name(model)
    row = backbones.REGISTRY.get(name)
    return (row.hub if row else None) or name

"""PEFT methods, one short file each, and what can be done with them.

    adapted = methods.apply(model, methods.Houlsby(bottleneck=16))    # freeze, inject, enable the head
    with methods.disabled(adapted): ...                               # the base again, bit for bit
    methods.save(adapted, "sst2"); methods.load(fresh_model, "sst2")  # a few percent of the model, head included
    methods.switch(adapted, "cola")                                   # another task over the same frozen backbone
    methods.to_peft(adapted, "sst2-peft")                             # for huggingface/peft; from_peft comes back

A new method is one file with a registered dataclass (see `base`), and one line here.
"""

from peft_helpers.methods.adalora import AdaLoRA
from peft_helpers.methods.base import FAMILIES, REGISTRY, Card, Method, available, make, register
from peft_helpers.methods.bitfit import BitFit
from peft_helpers.methods.compacter import Compacter
from peft_helpers.methods.compose import Compose
from peft_helpers.methods.diff_pruning import DiffPruning
from peft_helpers.methods.dora import DoRA
from peft_helpers.methods.fish_mask import FishMask
from peft_helpers.methods.full import FullFineTuning
from peft_helpers.methods.head_only import HeadOnly
from peft_helpers.methods.houlsby import Houlsby
from peft_helpers.methods.hybrid import Part
from peft_helpers.methods.hybrids import MAM, S4
from peft_helpers.methods.ia3 import IA3
from peft_helpers.methods.interchange import from_peft, to_peft
from peft_helpers.methods.krona import KronA
from peft_helpers.methods.layer_norms import LayerNormTuning
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.p_tuning import PTuning
from peft_helpers.methods.parallel import ParallelAdapter
from peft_helpers.methods.pfeiffer import Pfeiffer
from peft_helpers.methods.prefix_mlp import drop_mlp
from peft_helpers.methods.prefix_tuning import PrefixTuning
from peft_helpers.methods.prompt_tuning import PromptTuning
from peft_helpers.methods.rank_allocation import RankAllocator
from peft_helpers.methods.said import SAID
from peft_helpers.methods.saving import backbone_hash, load, save, switch
from peft_helpers.methods.sparse_mask import MagnitudeMask
from peft_helpers.methods.top_layers import TopLayers
from peft_helpers.methods.unipelt import UniPELT
from peft_helpers.methods.vera import VeRA
from peft_helpers.methods.verbs import apply, disabled, merge, remove

__all__ = [
    "FAMILIES",
    "IA3",
    "MAM",
    "REGISTRY",
    "S4",
    "SAID",
    "AdaLoRA",
    "BitFit",
    "Card",
    "Compacter",
    "Compose",
    "DiffPruning",
    "DoRA",
    "FishMask",
    "FullFineTuning",
    "HeadOnly",
    "Houlsby",
    "KronA",
    "LayerNormTuning",
    "LoRA",
    "MagnitudeMask",
    "Method",
    "PTuning",
    "ParallelAdapter",
    "Part",
    "Pfeiffer",
    "PrefixTuning",
    "PromptTuning",
    "RankAllocator",
    "TopLayers",
    "UniPELT",
    "VeRA",
    "apply",
    "available",
    "backbone_hash",
    "disabled",
    "drop_mlp",
    "from_peft",
    "load",
    "make",
    "merge",
    "register",
    "remove",
    "save",
    "switch",
    "to_peft",
]

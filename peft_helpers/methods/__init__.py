"""PEFT methods, one short file each, and what can be done with them.

    adapted = methods.apply(model, methods.Houlsby(bottleneck=16))    # freeze, inject, enable the head
    with methods.disabled(adapted): ...                               # the base again, bit for bit
    methods.save(adapted, "sst2"); methods.load(fresh_model, "sst2")  # a few percent of the model, head included
    methods.switch(adapted, "cola")                                   # another task over the same frozen backbone

A new method is one file with a registered dataclass (see `base`), and one line here.
"""

from peft_helpers.methods.base import FAMILIES, REGISTRY, Card, Method, available, make, register
from peft_helpers.methods.bitfit import BitFit
from peft_helpers.methods.full import FullFineTuning
from peft_helpers.methods.head_only import HeadOnly
from peft_helpers.methods.houlsby import Houlsby
from peft_helpers.methods.layer_norms import LayerNormTuning
from peft_helpers.methods.lora import LoRA
from peft_helpers.methods.parallel import ParallelAdapter
from peft_helpers.methods.pfeiffer import Pfeiffer
from peft_helpers.methods.saving import backbone_hash, load, save, switch
from peft_helpers.methods.top_layers import TopLayers
from peft_helpers.methods.verbs import apply, disabled, merge, remove

__all__ = [
    "FAMILIES",
    "REGISTRY",
    "BitFit",
    "Card",
    "FullFineTuning",
    "HeadOnly",
    "Houlsby",
    "LayerNormTuning",
    "LoRA",
    "Method",
    "ParallelAdapter",
    "Pfeiffer",
    "TopLayers",
    "apply",
    "available",
    "backbone_hash",
    "disabled",
    "load",
    "make",
    "merge",
    "register",
    "remove",
    "save",
    "switch",
]

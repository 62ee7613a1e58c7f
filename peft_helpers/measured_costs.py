"""What a training step costs on any machine: floating-point operations and saved activations, measured, not timed.

Seconds depend on the machine and on what else it does; operations and bytes don't. On the meta device, where tensors
have shapes and no numbers, even BERT-large is measured in a moment.

PyTorch counts matrix products only, two operations for each multiplication and addition; elementwise work, norms and
softmax are not in it, and neither is the fused attention of a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from peft_helpers import accounting, methods

BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


@dataclass(frozen=True)
class StepCost:
    """One training step, or as much of it as was run.

    Attributes:
        forward, backward: floating-point operations.
        activations: bytes that autograd keeps from the forward pass for the backward pass.
    """

    forward: int
    backward: int
    activations: int

    @property
    def operations(self) -> int:
        """Forward and backward together."""
        return self.forward + self.backward


def saved_bytes(function: Callable[[], Any], model: nn.Module | None = None) -> tuple[Any, int]:
    """What `function()` gives, and how many bytes autograd keeps for the backward pass when it runs.

    A storage that several operations keep (a view, an output that is the next input) counts once; those of the model's
    parameters and buffers don't count. Unlike `accounting.saved_activations` it works on the meta device too: storages
    are told apart by their Python object, which PyTorch keeps as long as somebody holds it.
    """
    held = [] if model is None else [t.untyped_storage() for t in (*model.parameters(), *model.buffers())]
    ignored, kept = {id(storage) for storage in held}, {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        if isinstance(tensor, nn.Parameter):
            ignored.add(id(storage))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    return result, sum(storage.nbytes() for key, storage in kept.items() if key not in ignored)


def step_cost(loss: Callable[[], Tensor], model: nn.Module | None = None) -> StepCost:
    """Run a step, forward and backward, and measure it.

    Args:
        loss: runs the forward pass and gives the loss, a scalar.
        model: whose parameters and buffers are no activations; its gradients are cleared afterwards.

    Raises:
        ValueError: the loss is no scalar, or nothing that it depends on is trained.
    """
    forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with forward:
        value, kept = saved_bytes(loss, model)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"loss must give one number that depends on something trained; got {value!r:.80}")
    with backward:
        value.backward()
    if model is not None:
        model.zero_grad(set_to_none=True)
    return StepCost(forward.get_total_flops(), backward.get_total_flops(), kept)


def blank_bert(method: methods.Method | None = None, shape: Mapping[str, int] = BERT_BASE, device: str = "meta"):
    """A BERT classifier without dropout, of this shape, with a method in it: for costs, which don't depend on weights.

    Args:
        shape: arguments of `BertConfig`.
        device: "meta" for shapes alone; on "cpu" all weights are zero.
    """
    free = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(**(free | dict(shape))))
    if device != "meta":
        model = model.to_empty(device=device)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.zero_()
    with torch.device(device):
        return (model if method is None else methods.apply(model, method)).train()


def text_loss(model: nn.Module, batch: int = 4, tokens: int = 128) -> Callable[[], Tensor]:
    """A function that runs `batch` texts of `tokens` tokens through a classifier and gives the loss."""
    accounting.require_sizes(batch=batch, tokens=tokens)
    device = next(model.parameters()).device
    ids = torch.ones(batch, tokens, dtype=torch.long, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    return lambda: nn.functional.cross_entropy(model(input_ids=ids).logits, labels)


def memory_of(model: nn.Module, activations: int, weight_bytes: int = accounting.FLOAT32) -> accounting.Memory:
    """What training this model with AdamW keeps in memory, its activations given; see `accounting.training_memory`."""
    counts = accounting.count_parameters(model)
    return accounting.training_memory(counts.total, counts.trainable, activations, weight_bytes)

"""Adapters for a domain or a language, trained without labels, under adapters for a task (MAD-X, arXiv:2005.00052).

1. `fit_masked`: over a frozen backbone, adapters learn to fill in masked words of one side's unlabeled texts.
2. `stack`: a task adapter stands on top of them, in every layer; the side's adapters are frozen, the task's are trained
   on the labels of one side.
3. `exchange`: for the other side's texts, its adapters take the first side's place. The task adapter stays.

A *side* (`sides`) is a domain here, and may be a language where the backbone speaks several. What is left out of the
paper: its invertible adapters at the embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from peft_helpers import backbones, methods
from peft_helpers.batching import batches
from peft_helpers.methods.houlsby import BottleneckAdapter
from peft_helpers.methods.surgery import Wrapper
from peft_helpers.objectives import mask_tokens
from peft_helpers.training import Settings, rate_factor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Tensors = list[dict[str, Tensor]]  # one state a layer


# ---------------------------------------------------------------- without labels: masked words


def masked_model(backbone: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained encoder with its own masked-language head, and its tokenizer."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    place = backbones.find(backbone)
    model = AutoModelForMaskedLM.from_pretrained(place, dtype=torch.float32)
    model.name = backbone
    return model, AutoTokenizer.from_pretrained(place)


def fit_masked(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], settings: Settings
) -> list[float]:
    """Train what requires grad to fill in masked pieces; each epoch draws new masks. The loss of every step.

    Raises:
        ValueError: no text, or nothing to train.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not texts or not trained:
        raise ValueError(f"there must be texts, and something to train; got {len(texts)} texts, {len(trained)} tensors")
    ids = tokenizer(list(texts), truncation=True, max_length=settings.max_length or 64)["input_ids"]
    lengths, generator = torch.tensor([len(row) for row in ids]).numpy(), torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps, losses = math.ceil(len(ids) / settings.batch_size) * settings.epochs, []
    torch.manual_seed(settings.seed)
    model.train()
    for epoch in range(settings.epochs):
        for rows in batches(lengths, settings.batch_size, settings.seed, epoch):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * rate_factor(len(losses), steps, settings.warmup)
            loss = _masked_loss(model, tokenizer, [ids[i] for i in rows], generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, settings.clip or math.inf)
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def masked_loss(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], seed: int = 0) -> float:
    """The mean loss a masked piece, over batches of 32; the same masks for every model with the same seed."""
    model.eval()
    ids = tokenizer(list(texts), truncation=True, max_length=64)["input_ids"]
    generator = torch.Generator().manual_seed(seed)
    found = [_masked_loss(model, tokenizer, ids[i : i + 32], generator).item() for i in range(0, len(ids), 32)]
    return sum(found) / len(found)


def _masked_loss(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]], generator: torch.Generator
) -> Tensor:
    """One batch, padded and masked; the head computes only where something is asked, which saves most of its work."""
    width, pad = max(map(len, rows)), tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    special = torch.isin(ids, torch.tensor([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]))
    inputs, labels = mask_tokens(ids, special, tokenizer.mask_token_id, len(tokenizer), generator)
    if not (labels >= 0).any():  # a short batch may draw no mask: ask for its first real piece
        first = (~special).float().argmax(1)[:1]
        inputs[0, first], labels[0, first] = tokenizer.mask_token_id, ids[0, first]
    device, asked = next(model.parameters()).device, labels >= 0
    hidden = model.base_model(inputs.to(device), attention_mask=(ids != pad).long().to(device)).last_hidden_state
    head = next(child for name, child in model.named_children() if child is not model.base_model)
    return nn.functional.cross_entropy(head(hidden[asked.to(device)]).float(), labels[asked].to(device))


# ---------------------------------------------------------------- one adapter on top of another


def take(model: nn.Module) -> Tensors:
    """Copies of the domain adapters of a model, a state a layer: of a stack, what is closest to the projection."""
    return [{key: x.detach().cpu().clone() for key, x in one.state_dict().items()} for one in _domain_adapters(model)]


def stack(model: nn.Module, domain: Tensors, task_method: methods.Method) -> nn.Module:
    """Freeze a classifier, put a side's adapters into every layer, and a method for the task around them, in place.

    Trained are the task's method and the head; the side's adapters are frozen: they are to be exchanged.

    Raises:
        ValueError: the tensors are of another model.
    """
    bottleneck = len(domain[0]["down.weight"]) if domain else 0
    if not bottleneck:
        raise ValueError("there are no domain adapters to stack upon: domain_adapters.take gives those of a model")
    methods.apply(model, methods.Compose((methods.Pfeiffer(bottleneck=bottleneck), task_method)))
    for adapter in _domain_adapters(model):
        adapter.requires_grad_(False)
    return exchange(model, domain)


@torch.no_grad()
def exchange(model: nn.Module, domain: Tensors) -> nn.Module:
    """Give the model another side's adapters, in place; the task's method and the head stay as they are.

    Raises:
        ValueError: another number of layers, or another bottleneck.
    """
    adapters = _domain_adapters(model)
    if len(adapters) != len(domain):
        raise ValueError(f"the model has {len(adapters)} domain adapters; got tensors of {len(domain)} layers")
    for adapter, state in zip(adapters, domain, strict=True):
        try:
            adapter.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the tensors do not fit this model's domain adapters: {error}") from error
    return model


def _domain_adapters(model: nn.Module) -> list[BottleneckAdapter]:
    """The innermost adapter behind every feed-forward block, layer by layer."""
    if not hasattr(model, "adaptation"):
        raise ValueError("the model carries no adapters; apply methods.Pfeiffer first, or domain_adapters.stack")
    found = []
    for site in model.adaptation.anatomy.sites(("ffn_out",)):
        module, inner = model.get_submodule(site.path), None
        while isinstance(module, Wrapper):
            inner, module = module, module.base
        if not isinstance(getattr(inner, "adapter", None), BottleneckAdapter):
            raise ValueError(f"{site.path} has no adapter behind it; the model carries {model.adaptation.method}")
        found.append(inner.adapter)
    return found

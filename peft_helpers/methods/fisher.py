"""Fisher information of weights: how much the model's answer depends on each (arXiv:2111.09839).

F = E_x E_{y ~ p(y|x)} (d log p(y|x) / d w)²: the labels are drawn from the model itself, so none are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from peft_helpers.backbones import Site

LENGTH = 16  # tokens of a random text


def information(
    model: nn.Module, sites: list[Site], batches: Iterable[dict[str, Tensor]], seed: int = 0
) -> dict[str, Tensor]:
    """The Fisher information of the sites' weights, by the module's path, in the weight's shape; text by text.

    For each text one answer is drawn. Frozen weights are measured too, and nothing is left behind: no gradient, no
    change of mode.

    Args:
        batches: what the model takes (`input_ids`, `attention_mask` …); labels are not used.

    Raises:
        ValueError: there is no text, the model gives no logits, or a weight is quantized.
    """
    modules = {site.path: site.module for site in sites}  # GPT-2's query, key and value are one
    for path, module in modules.items():
        if not isinstance(module.weight, nn.Parameter):  # made from codes whenever it is asked for
            raise ValueError(
                f"the Fisher information needs gradients of the weights; {path} is quantized ({type(module).__name__}) "
                "and has none. Measure it before quantizing: method = FishMask().measured(model, batches)"
            )
    weights = [module.weight for module in modules.values()]
    if any(weight.is_meta for weight in weights):  # shapes without numbers: nothing to measure, all alike
        return {path: torch.zeros_like(module.weight, dtype=torch.float32) for path, module in modules.items()}
    wanted, training = [weight.requires_grad for weight in weights], model.training
    found, texts = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights], 0
    draw = torch.Generator().manual_seed(seed)
    model.eval()
    for weight in weights:
        weight.requires_grad_(True)
    try:
        for text in _rows(batches, weights[0].device):
            with torch.enable_grad():
                gradients = torch.autograd.grad(_log_likelihood(model, text, draw), weights, materialize_grads=True)
            for sum_of_squares, gradient in zip(found, gradients, strict=True):
                sum_of_squares += gradient.float().square()
            texts += 1
    finally:
        for weight, grad in zip(weights, wanted, strict=True):
            weight.requires_grad_(grad)
        model.train(training)
    if not texts:
        raise ValueError("the Fisher information needs at least one text; got none")
    return {path: sum_of_squares / texts for path, sum_of_squares in zip(modules, found, strict=True)}


def random_texts(model: nn.Module, samples: int, seed: int) -> list[dict[str, Tensor]]:
    """Texts of random tokens, one a batch: without data, all there is to look at the model with."""
    config, draw = model.config, torch.Generator().manual_seed(seed)
    ids = torch.randint(config.vocab_size, (samples, 1, LENGTH), generator=draw)
    if config.eos_token_id is not None and config.is_encoder_decoder:
        ids[ids == config.eos_token_id] = (config.eos_token_id + 1) % config.vocab_size
        ids[..., -1] = config.eos_token_id  # BART's classifier reads there
    return [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]


def _rows(batches: Iterable[dict[str, Tensor]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        given = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
        for row in range(len(given["input_ids"])):
            yield {name: tensor[row : row + 1] for name, tensor in given.items()}


def _log_likelihood(model: nn.Module, text: dict[str, Tensor], draw: torch.Generator) -> Tensor:
    """log p(y | x) of an answer y that is drawn from the model: of a class, or of each next token.

    For a regression f with variance 1 the expected square of the derivative is (df/dw)², so f does in its place.
    """
    logits = getattr(model(**text), "logits", None)
    if logits is None:
        raise ValueError(f"the Fisher information needs a model whose head gives logits; got {type(model).__name__}")
    if logits.shape[-1] == 1:
        return logits.sum()
    log_p = logits.float().log_softmax(-1).flatten(0, -2)
    drawn = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=draw).to(log_p.device)
    return log_p.gather(-1, drawn).sum()

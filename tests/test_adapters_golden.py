"""Our adapters against the adapters library: the same weights give the same answers.

The library can't be installed beside transformers 5; `golden/make_adapters_golden.py` tells how its numbers were made.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from peft_helpers import methods, storage

GOLDEN = Path(__file__).parent / "golden" / "adapters.safetensors"
PREFIX = GOLDEN.with_name("adapters_prefix.safetensors")
CLOSE = 1e-5
OURS = {
    "double_seq_bn": methods.Houlsby(bottleneck=4),
    "seq_bn, before the norm": methods.Pfeiffer(bottleneck=4),
    "par_bn": methods.ParallelAdapter(bottleneck=4, scale=4.0),
}
SITES = {"attention_output": "attention.output.dense", "ffn_out": "output.dense"}


@pytest.fixture(scope="module")
def golden():
    """Their tensors, and the configuration of their BERT."""
    tensors, header = storage.read_tensors(GOLDEN)
    return tensors, BertConfig(**header["config"])


@torch.no_grad()
def answers(model, tensors):
    inputs = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    output = model.eval()(**inputs, output_hidden_states=True)
    return output.logits, output.hidden_states[-1]


def bert(golden):
    tensors, config = golden
    model = BertForSequenceClassification(config)
    weights = {name.removeprefix("base."): tensor for name, tensor in tensors.items() if name.startswith("base.")}
    assert weights.keys() == dict(model.named_parameters()).keys()
    model.load_state_dict(weights, strict=False)  # buffers aside
    return model


@torch.no_grad()
def with_their_adapters(golden, case, method):
    """Our method, with the weights of their adapters; every one of them is used."""
    tensors, _ = golden
    model = methods.apply(bert(golden), method)
    theirs = {
        name.removeprefix(f"{case}/layer."): t for name, t in tensors.items() if name.startswith(f"{case}/layer.")
    }
    for name, tensor in theirs.items():
        layer, site, part, kind = name.split(".")
        wrapper = model.get_submodule(f"bert.encoder.layer.{layer}.{SITES[site]}")
        getattr(getattr(wrapper, "adapter", wrapper).get_submodule(part), kind).copy_(tensor)
    new = sum(
        p.numel() for name, p in model.named_parameters() if p.requires_grad and ("down." in name or "up." in name)
    )
    assert new == sum(tensor.numel() for tensor in theirs.values()) > 0, "as many numbers there as here"
    return model


def test_the_base_is_the_same(golden):
    for made, name in zip(answers(bert(golden), golden[0]), ("logits", "hidden"), strict=True):
        assert (made - golden[0][f"base/{name}"]).abs().max() <= CLOSE


@pytest.mark.parametrize("case", OURS)
def test_the_same_weights_give_the_same_answers(golden, case):
    tensors, _ = golden
    model = with_their_adapters(golden, case, OURS[case])
    for made, name in zip(answers(model, tensors), ("logits", "hidden"), strict=True):
        wanted = tensors[f"{case}/{name}"]
        assert (made - wanted).abs().max() <= CLOSE
        assert (wanted - tensors[f"base/{name}"]).abs().max() > 1e-2, "the adapters change next to nothing"


def test_their_default_seq_bn_stands_elsewhere(golden):
    """`Pfeiffer` says so: theirs reads the block's output behind the residual sum and the norm, ours before both."""
    tensors, _ = golden
    model = with_their_adapters(golden, "seq_bn", methods.Pfeiffer(bottleneck=4))
    assert (answers(model, tensors)[0] - tensors["seq_bn/logits"]).abs().max() > 1e-2

    def theirs(block, given, output):
        """LN(x + h + up(relu(down(LN(x + h)))))"""
        hidden, x = given
        h, adapter = block.dense.base(hidden), block.dense.adapter
        return block.LayerNorm(x + h + adapter.up(torch.relu(adapter.down(block.LayerNorm(x + h)))))

    for layer in model.bert.encoder.layer:
        layer.output.register_forward_hook(theirs)
    for made, name in zip(answers(model, tensors), ("logits", "hidden"), strict=True):
        assert (made - tensors[f"seq_bn/{name}"]).abs().max() <= CLOSE, "and this is all the difference"


@torch.no_grad()
def test_their_prefix_is_ignored_in_a_padded_batch_of_gpt2():
    """adapters 1.3.0 inverts the boolean mask of SDPA, in which True is open: its prefix is closed to every query.

    If the numbers of a newer version fail this test, it is mended there: compare `methods.PrefixTuning` with it, and
    tell the new state in the lesson on prefix-tuning.
    """
    tensors, header = storage.read_tensors(PREFIX)
    assert header["versions"]["adapters"] == "1.3.0"
    weights = {name.removeprefix("base."): tensor for name, tensor in tensors.items() if name.startswith("base.")}
    model = GPT2LMHeadModel(GPT2Config(**header["config"])).eval()
    assert weights.keys() == dict(model.named_parameters()).keys()
    model.load_state_dict(weights, strict=False)  # the head is the embeddings; buffers aside
    inputs, logits = {}, {}
    for batch in ("whole", "padded"):
        inputs[batch] = {name: tensors[f"{batch}/{name}"] for name in ("input_ids", "attention_mask")}
        assert (model(**inputs[batch]).logits - tensors[f"{batch}/base"]).abs().max() <= CLOSE
    methods.apply(model, methods.PrefixTuning(4, hidden=None))
    for layer, block in enumerate(model.transformer.h):
        block.attn.prefix.key.copy_(tensors["prefix"][:, 2 * layer])
        block.attn.prefix.value.copy_(tensors["prefix"][:, 2 * layer + 1])
    for batch, given in inputs.items():
        logits[batch] = model(**given).logits

    def moved(found: torch.Tensor, batch: str) -> float:
        real = inputs[batch]["attention_mask"].bool()
        return (found - tensors[f"{batch}/base"])[real].abs().max().item()

    assert moved(tensors["padded/theirs"], "padded") <= CLOSE, "with padding, theirs is the model without prefix"
    assert moved(logits["padded"], "padded") > 1e-2, "ours is not"
    assert min(moved(tensors["whole/theirs"], "whole"), moved(logits["whole"], "whole")) > 1e-2
    assert (logits["whole"][1, :5] - logits["padded"][1, :5]).abs().max() <= CLOSE, "padding changes no text of ours"


@pytest.mark.parametrize("path", [GOLDEN, PREFIX])
def test_the_file_stays_small(path):
    assert path.stat().st_size < 200_000

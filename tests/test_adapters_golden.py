"""Our adapters against the adapters library: the same weights give the same answers.

The library can't be installed beside transformers 5; `golden/make_adapters_golden.py` tells how its numbers were made.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from peft_helpers import methods, storage

GOLDEN = Path(__file__).parent / "golden" / "adapters.safetensors"
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


def test_the_file_stays_small(golden):
    assert GOLDEN.stat().st_size < 200_000

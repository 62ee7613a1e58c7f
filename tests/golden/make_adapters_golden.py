"""What the adapters library (AdapterHub) computes: a tiny BERT with adapters and a tiny GPT-2 with a prefix.

adapters 1.3.0 wants transformers 4.57, which this course's environment can't hold, so the script has one of its own:

    python3 -m venv adapters_env
    adapters_env/bin/pip install torch==2.13.0 adapters==1.3.0 transformers==4.57.6
    adapters_env/bin/python tests/golden/make_adapters_golden.py

It writes adapters.safetensors beside itself, for `tests/test_adapters_golden.py`:

    base.<parameter>                                    the BERT classifier's weights, by transformers' names
    input_ids, attention_mask                           (3, 7); the second and third text are padded
    base/logits, base/hidden                            without an adapter: (3, 2), (3, 7, 16)
    <case>/layer.<i>.<site>.<down|up>.<weight|bias>     the adapters; site is "attention_output" or "ffn_out"
    <case>/logits, <case>/hidden                        with them

and adapters_prefix.safetensors, for the same test:

    base.<parameter>                                    the GPT-2's weights, by transformers' names
    prefix                                              (4, 4, 16): l; key and value of layer 1, of layer 2; width
    <batch>/input_ids, <batch>/attention_mask           (3, 7); batch is "whole" or "padded", on the right
    <batch>/base, <batch>/theirs                        logits without and with `prefix_tuning_flat`, (3, 7, 24)
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import adapters
import torch
from adapters import DoubleSeqBnConfig, ParBnConfig, PrefixTuningConfig, SeqBnConfig
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

SHAPE = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "num_labels": 2,
}
FACTOR = 4  # bottleneck 16 / 4
CASES = {
    # Houlsby et al.: two adapters a layer; the library's default activation is swish, the paper's code has GELU
    "double_seq_bn": DoubleSeqBnConfig(reduction_factor=FACTOR, non_linearity="gelu"),
    # Pfeiffer et al.: the library's default reads the block's output behind the residual sum and the norm …
    "seq_bn": SeqBnConfig(reduction_factor=FACTOR),
    # … and this one reads it before both, where Houlsby's stands
    "seq_bn, before the norm": SeqBnConfig(reduction_factor=FACTOR, original_ln_before=False),
    # He et al.: beside the feed-forward block, times 4
    "par_bn": ParBnConfig(reduction_factor=FACTOR),
}
GPT2 = {
    "vocab_size": 24,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 16,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
PREFIX = PrefixTuningConfig(flat=True, prefix_length=4, dropout=0.0)  # the library's `prefix_tuning_flat`, shorter
SITES = {"attention_output": "attention.output", "ffn_out": "output"}
PARTS = {"down": "adapter_down.0", "up": "adapter_up"}


@torch.no_grad()
def stir(parameters, generator: torch.Generator) -> None:
    """Noise on every tensor: with fresh weights attention is uniform, and a parallel adapter adds nothing."""
    for parameter in parameters:
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def answers(model, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    output = model.eval()(**inputs, output_hidden_states=True)
    return {"logits": output.logits, "hidden": output.hidden_states[-1]}


def adapted_bert() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    plain = BertForSequenceClassification(BertConfig(**SHAPE))
    stir(plain.parameters(), generator)
    weights = {name: tensor.clone() for name, tensor in plain.named_parameters()}
    ids = torch.tensor([[2, 5, 9, 7, 12, 8, 3], [2, 11, 6, 10, 3, 0, 0], [2, 14, 13, 3, 0, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    tensors = {f"base.{name}": tensor for name, tensor in weights.items()} | inputs
    tensors |= {f"base/{name}": tensor for name, tensor in answers(plain, inputs).items()}

    for case, config in CASES.items():
        model = BertForSequenceClassification(BertConfig(**SHAPE))
        model.load_state_dict(weights, strict=False)  # buffers aside
        adapters.init(model)
        model.add_adapter("golden", config=config)
        model.set_active_adapters("golden")
        added = {name: p for name, p in model.named_parameters() if ".adapters.golden." in name}
        stir(added.values(), generator)
        for layer in range(SHAPE["num_hidden_layers"]):
            for site, at in SITES.items():
                for part, place in PARTS.items():
                    for kind in ("weight", "bias"):
                        path = f"bert.encoder.layer.{layer}.{at}.adapters.golden.{place}.{kind}"
                        if path in added:
                            tensors[f"{case}/layer.{layer}.{site}.{part}.{kind}"] = added.pop(path)
        assert not added, f"{case}: {', '.join(added)} have no name in the file"
        tensors |= {f"{case}/{name}": tensor for name, tensor in answers(model, inputs).items()}

    write("adapters.safetensors", tensors, SHAPE)


@torch.no_grad()
def gpt2_with_prefix() -> None:
    """With SDPA, transformers' and the library's default; twice, without and with padding."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**GPT2)).eval()
    assert model.config._attn_implementation == "sdpa"
    stir(model.parameters(), generator)
    tensors = {f"base.{name}": tensor.clone() for name, tensor in model.named_parameters()}
    whole = torch.tensor([[2, 5, 9, 7, 12, 8, 3], [2, 11, 6, 10, 4, 15, 3], [2, 14, 13, 16, 9, 5, 3]])
    padding = torch.arange(7) >= torch.tensor([[7], [5], [4]])
    batches = {"whole": whole, "padded": whole.masked_fill(padding, 0)}
    inputs = {name: {"input_ids": ids, "attention_mask": (ids != 0).long()} for name, ids in batches.items()}
    for name, given in inputs.items():
        tensors |= {f"{name}/{key}": value for key, value in given.items()} | {f"{name}/base": model(**given).logits}
    adapters.init(model)
    model.add_adapter("golden", config=PREFIX)
    model.set_active_adapters("golden")
    (prefix,) = (p for name, p in model.named_parameters() if "control_trans" in name)
    tensors["prefix"] = prefix.view(PREFIX.prefix_length, 2 * GPT2["n_layer"], GPT2["n_embd"])
    tensors |= {f"{name}/theirs": model.eval()(**given).logits for name, given in inputs.items()}
    write("adapters_prefix.safetensors", tensors, GPT2)


def write(name: str, tensors: dict[str, torch.Tensor], config: dict[str, int]) -> None:
    versions = {name: metadata.version(name) for name in ("adapters", "transformers", "torch")}
    path = Path(__file__).with_name(name)
    kept = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(kept, path, {"config": json.dumps(config), "versions": json.dumps(versions)})
    print(f"{path}: {len(kept)} tensors, {path.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    adapted_bert()
    gpt2_with_prefix()

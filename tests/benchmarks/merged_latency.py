"""What merging leaves of LoRA's extra time: a forward pass of the merged model against the base's.

A BERT with random weights, LoRA on query and value, ours and huggingface/peft's, beside the base and merged into it;
all in one process, call by call in turn. A twin of the base tells how exact the comparison is.

python tests/benchmarks/merged_latency.py [--rounds 15] [--out FILE]                           # 2 cores: half a minute
python tests/benchmarks/merged_latency.py --layers 12 --width 768 --batch 32 --tokens 128                     # a GPU
"""

from __future__ import annotations

import argparse
import copy
import json
from importlib import metadata
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from peft_helpers import accounting, methods, records, storage
from peft_helpers.methods import surgery
from peft_helpers.profiles import default_device

RESULT = Path(__file__).parent / "results" / "merged_latency.json"
TARGETS = ("query", "value")
ASKED = 0.03  # away from 1 at most


def base(given: argparse.Namespace) -> BertForSequenceClassification:
    """A BERT of this shape with random weights, on the device."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": given.layers, "hidden_size": given.width, "num_labels": 2}
    heads = {"num_attention_heads": given.width // 64 or 1, "intermediate_size": 4 * given.width}
    return BertForSequenceClassification(BertConfig(**sizes, **heads)).to(default_device()).eval()


def by_us(model: torch.nn.Module, rank: int) -> torch.nn.Module:
    return methods.apply(model, methods.LoRA(rank=rank, alpha=2.0 * rank, targets=TARGETS)).eval()


def by_peft(model: torch.nn.Module, rank: int) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    chosen = {"r": rank, "lora_alpha": 2 * rank, "modules_to_save": ["classifier"]}
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=list(TARGETS), **chosen)).eval()


@torch.no_grad()
def learn(model: torch.nn.Module) -> torch.nn.Module:
    """Draw A and B, the same in both libraries, as if they had been trained."""
    generator = torch.Generator().manual_seed(0)
    marks = (".down.", ".lora_A.", ".up.", ".lora_B.")
    for parameter in (p for name, p in model.named_parameters() if any(mark in name for mark in marks)):
        parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def measure(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds of a forward pass, and its share of the base's: medians."""
    model, generator = base(given), torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30_522, (given.batch, given.tokens), generator=generator)
    ids[: given.batch // 4, given.tokens // 2 :] = 0
    inputs = {"input_ids": ids.to(default_device()), "attention_mask": (ids != 0).long().to(default_device())}
    models = {"base": model, "base, again": copy.deepcopy(model)}
    models["ours, beside"] = learn(by_us(copy.deepcopy(model), given.rank))
    models["peft, beside"] = learn(by_peft(copy.deepcopy(model), given.rank))
    models["ours, merged"] = methods.merge(copy.deepcopy(models["ours, beside"]))
    models["peft, merged"] = copy.deepcopy(models["peft, beside"]).merge_and_unload()
    left = [name for name, module in models["ours, merged"].named_modules() if isinstance(module, surgery.Wrapper)]
    assert not left, f"merged, but {', '.join(left)} stand around the base's modules"
    with torch.inference_mode():
        answers = {name: one(**inputs).logits for name, one in models.items()}
        for name in models:
            wanted = answers["base" if name.startswith("base") else "ours, beside"]
            torch.testing.assert_close(answers[name], wanted, rtol=1e-4, atol=1e-5)
        calls = {name: lambda one=one: one(**inputs) for name, one in models.items()}
        found = accounting.latencies(calls, rounds=given.rounds)
    return {name: {"ms": round(1000 * one.seconds, 2), "share": round(one.share, 4)} for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    made = {
        "what": "a forward pass of a BERT with LoRA on query and value, fp32, random weights; medians",
        "shape": {key: getattr(given, key) for key in ("layers", "width", "batch", "tokens", "rank", "rounds")},
        "latency": measure(given),
        "asked": ASKED,
        "peft": metadata.version("peft"),
        **records.environment(),
    }
    print(json.dumps(made, indent=1))
    storage.write_json(given.out, made)


if __name__ == "__main__":
    main()

"""What a prefix costs in decoding: a batch written with a prefix of 10 against the same batch by the base.

Random weights, greedy, with cache, no end sign, so that every run writes the same number of tokens; the MLP is dropped,
as for use. Base and prefix take turns call by call; a twin of the base tells how exact the comparison is.

python tests/benchmarks/prefix_decoding.py [--rounds 5] [--out FILE]      # 2 cores: about 3 minutes
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from peft_helpers import accounting, methods, records, storage
from peft_helpers.profiles import default_device

RESULT = Path(__file__).parent / "results" / "prefix_decoding.json"
SHAPES = {"GPT-2": (12, 768, 50_257), "pocket": (4, 256, 4096)}  # layers, width, vocabulary
ASKED = {"GPT-2": 1.10, "pocket": 1.15}  # at most


def base(layers: int, width: int, vocabulary: int) -> GPT2LMHeadModel:
    """A GPT-2 of this shape with random weights, on the device."""
    torch.manual_seed(0)
    heads = width // 64
    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config).to(default_device()).eval()


def with_prefix(model: GPT2LMHeadModel, length: int) -> torch.nn.Module:
    """A copy with a prefix as it is used: without its MLP."""
    return methods.drop_mlp(methods.apply(copy.deepcopy(model), methods.PrefixTuning(length)).eval())


def measure(shape: str, given: argparse.Namespace) -> dict:
    """Seconds of a whole `generate`, as medians, and as shares of the base's."""
    model = base(*SHAPES[shape])
    models = {
        "base": model,
        "base, again": copy.deepcopy(model),
        f"prefix of {given.length}": with_prefix(model, given.length),
    }
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, SHAPES[shape][2], (given.batch, given.prompt), generator=generator).to(default_device())
    mask = torch.ones_like(ids)
    mask[: given.batch // 4, : given.prompt // 2] = 0  # a quarter is padded on the left
    options = {"max_new_tokens": given.tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    def write(one: torch.nn.Module) -> torch.Tensor:
        return one.generate(input_ids=ids, attention_mask=mask, **options)

    texts = {name: write(one) for name, one in models.items()}
    assert all(text.shape == (given.batch, given.prompt + given.tokens) for text in texts.values())
    assert torch.equal(texts["base"], texts["base, again"])
    calls = {name: lambda one=one: write(one) for name, one in models.items()}
    found = accounting.latencies(calls, rounds=given.rounds)
    return {name: {"seconds": round(one.seconds, 4), "share": round(one.share, 4)} for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    made = {
        "what": f"greedy decoding with a prefix of {given.length}, fp32, random weights; medians of alternating calls",
        "settings": {key: getattr(given, key) for key in ("length", "batch", "prompt", "tokens", "rounds")},
        "shapes": {shape: measure(shape, given) for shape in given.shapes},
        "asked": ASKED,
    } | records.environment()
    print(json.dumps(made, indent=1))
    storage.write_json(given.out, made)


if __name__ == "__main__":
    main()

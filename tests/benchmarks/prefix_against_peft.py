"""Our prefix-tuning against huggingface/peft's: steps per second and memory of training, on the shape of GPT-2.

Same GPT-2 with random weights, same keys and values at first, same batch, same optimizer; positions from l on, as in
peft. Every run has a process of its own (a process's peak memory can't be reset), and the two take turns at going
first. Both processes import both libraries.

python tests/benchmarks/prefix_against_peft.py [--rounds 5] [--steps 8] [--out FILE]      # 2 cores: about 5 minutes
python tests/benchmarks/prefix_against_peft.py --batch 32 --tokens 128 --steps 50                              # a GPU
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from peft_helpers import accounting, methods, records, storage
from peft_helpers.profiles import default_device

RESULT = Path(__file__).parent / "results" / "prefix_against_peft.json"
WAYS = ("ours", "peft")
ASKED = {"speed_ratio": 0.97, "memory_ratio": 1.03}  # at least, at most
WARM_UP = 2


def base(given: argparse.Namespace) -> GPT2LMHeadModel:
    """A GPT-2 of this shape with random weights, on the device."""
    torch.manual_seed(given.seed)
    sizes = {"n_layer": given.layers, "n_embd": given.width, "n_head": given.width // 64 or 1}
    return GPT2LMHeadModel(GPT2Config(**sizes)).to(default_device())


def by_us(model: torch.nn.Module, given: argparse.Namespace) -> torch.nn.Module:
    return methods.apply(model, methods.PrefixTuning(given.length, hidden=None, shift_positions=True))


def by_peft(model: torch.nn.Module, given: argparse.Namespace) -> torch.nn.Module:
    from peft import PrefixTuningConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft asks of transformers has another name by now
        return get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=given.length))


@torch.no_grad()
def begin(model: torch.nn.Module, given: argparse.Namespace) -> list[torch.nn.Parameter]:
    """Draw keys and values, the same in both libraries; returns what is trained."""
    generator = torch.Generator().manual_seed(given.seed)
    drawn = 0.1 * torch.randn(given.length, 2 * given.layers, given.width, generator=generator)
    trained = [p for p in model.parameters() if p.requires_grad]
    if len(trained) == 1:  # peft's one table, (l, 2 L D): layer by layer, the key and then the value
        trained[0].copy_(drawn.flatten(1))
    else:
        for parameter, part in zip(trained, drawn.unbind(1), strict=True):
            parameter.copy_(part)
    return trained


def draw_batch(given: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Token ids, mask and labels, (B, T) each, a quarter of the texts with padding on the right."""
    generator = torch.Generator().manual_seed(given.seed)
    ids = torch.randint(1, 50257, (given.batch, given.tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[: given.batch // 4, given.tokens // 2 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    return {name: tensor.to(default_device()) for name, tensor in batch.items()}


def wait() -> None:
    if default_device() == "cuda":
        torch.cuda.synchronize()


def child_training(given: argparse.Namespace) -> dict:
    import peft  # noqa: F401 (in both processes, so that it is part of both peaks)

    model = {"ours": by_us, "peft": by_peft}[given.way](base(given), given).train()
    trained = begin(model, given)
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    batch = draw_batch(given)

    def loss() -> torch.Tensor:
        return model(**batch).loss

    for module in model.modules():  # peft's table is looked up in another order than ours: no dropout, same losses
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    before = accounting.peak_memory()
    if default_device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(given.seed)  # the same dropout
    seconds, losses = [], []
    for _ in range(WARM_UP + given.steps):
        wait()
        started = time.perf_counter()
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
        wait()
        seconds.append(time.perf_counter() - started)
    peak = accounting.peak_memory()
    kept = accounting.measured_memory(model, optimizer, loss)
    return {
        "steps_per_second": 1 / statistics.median(seconds[WARM_UP:]),
        "peak_mb": peak.megabytes,
        "before_mb": before.megabytes,
        "kept_mb": round(kept.total / 1e6, 2),
        "trained": sum(p.numel() for p in trained),
        "losses": [round(value, 5) for value in losses],
        "meter": peak.meter,
    }


def run(words: list[str], way: str, seed: int) -> dict:
    command = [sys.executable, __file__, *words, "--way", way, "--seed", str(seed)]
    told = subprocess.run(command, capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(f"{way}, round {seed}, failed:\n{told.stderr[-4000:]}")
    return json.loads(told.stdout.splitlines()[-1])


def measure(given: argparse.Namespace, words: list[str]) -> dict[str, list[dict]]:
    """Every way once a round, in turn; each run in a process of its own.

    Raises:
        RuntimeError: the two do not do the same work: other losses, or another number of trained parameters.
    """
    results: dict[str, list[dict]] = {way: [] for way in WAYS}
    for seed in range(given.rounds):
        for way in WAYS if seed % 2 == 0 else reversed(WAYS):
            results[way].append(run(words, way, seed))
            print(f"round {seed}, {way}: {results[way][-1]}", flush=True)
        ours, others = results["ours"][-1], results["peft"][-1]
        apart = max(abs(a - b) for a, b in zip(ours.pop("losses"), others.pop("losses"), strict=True))
        if ours["trained"] != others["trained"] or apart > 1e-3:
            raise RuntimeError(f"not the same work: losses differ by {apart:.1e}; {ours}, {others}")
    return results


def summary(given: argparse.Namespace, results: dict[str, list[dict]]) -> dict:
    numbers = ("steps_per_second", "peak_mb", "before_mb", "kept_mb")
    median = {
        way: {key: statistics.median(one[key] for one in runs) for key in numbers if runs[0][key] is not None}
        for way, runs in results.items()
    }
    ours, others = median["ours"], median["peft"]
    pairs = zip(results["ours"], results["peft"], strict=True)
    shape = ("layers", "width", "batch", "tokens", "length", "steps", "rounds")
    return {
        "what": "prefix-tuning of a GPT-2 with random weights, fp32; medians of alternating runs",
        "shape": {key: getattr(given, key) for key in shape},
        "trained": results["ours"][0]["trained"],
        "medians": median,
        "speed_ratio": round(ours["steps_per_second"] / others["steps_per_second"], 4),
        "speed_ratio_by_round": [round(a["steps_per_second"] / b["steps_per_second"], 4) for a, b in pairs],
        "memory_ratio": {key: round(ours[key] / others[key], 4) for key in ("peak_mb", "kept_mb") if key in ours},
        "asked": ASKED,
        "meter": results["ours"][0]["meter"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(child_training(given)))
        return
    words = sys.argv[1:]
    made = summary(given, measure(given, words)) | records.environment()
    made["versions"]["peft"] = metadata.version("peft")
    print(json.dumps(made, indent=1))
    storage.write_json(given.out, made)


if __name__ == "__main__":
    main()

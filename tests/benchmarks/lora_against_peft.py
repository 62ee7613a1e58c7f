"""Our LoRA against huggingface/peft's: steps per second, memory, and what merging leaves of the extra time.

Same BERT with random weights, same matrices A, same head, same batch, same optimizer; every run has a process of its
own (a process's peak memory can't be reset), and the two take turns at going first. Both processes import both
libraries. Latency is measured in one process, call by call beside the base's.

python tests/benchmarks/lora_against_peft.py [--rounds 5] [--steps 10] [--out FILE]      # 2 cores: less than 5 minutes
python tests/benchmarks/lora_against_peft.py --layers 12 --width 768 --batch 32 --tokens 128                  # a GPU
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from peft_helpers import accounting, methods, records, storage
from peft_helpers.methods import surgery
from peft_helpers.profiles import default_device

RESULT = Path(__file__).parent / "results" / "lora_against_peft.json"
WAYS = ("ours", "peft")
TARGETS = ("query", "value")
ASKED = {"speed_ratio": 0.97, "memory_ratio": 1.03, "merged": 0.03}  # at least, at most, away from 1 at most
WARM_UP = 2


def base(given: argparse.Namespace) -> BertForSequenceClassification:
    """A BERT of this shape with random weights, on the device."""
    torch.manual_seed(given.seed)
    sizes = {"num_hidden_layers": given.layers, "hidden_size": given.width, "num_labels": 2}
    heads = {"num_attention_heads": given.width // 64 or 1, "intermediate_size": 4 * given.width}
    return BertForSequenceClassification(BertConfig(**sizes, **heads)).to(default_device())


def by_us(model: torch.nn.Module, given: argparse.Namespace) -> torch.nn.Module:
    return methods.apply(model, methods.LoRA(rank=given.rank, alpha=2.0 * given.rank, targets=TARGETS))


def by_peft(model: torch.nn.Module, given: argparse.Namespace) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    chosen = {"r": given.rank, "lora_alpha": 2 * given.rank, "modules_to_save": ["classifier"]}
    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=list(TARGETS), **chosen))


@torch.no_grad()
def begin(model: torch.nn.Module, seed: int, both: bool = False) -> dict[str, torch.nn.Parameter]:
    """Draw A (with both, B too: a LoRA that has learned), the same in both libraries; returns what is trained."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(seed)
    marks = (".down.", ".lora_A.", *((".up.", ".lora_B.") if both else ()))
    for parameter in (p for name, p in trained.items() if any(mark in name for mark in marks)):
        parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return trained


def draw_batch(given: argparse.Namespace) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token ids and mask, (B, T), a quarter of the texts with padding, and labels (B,)."""
    generator, device = torch.Generator().manual_seed(given.seed), default_device()
    ids = torch.randint(1, 30522, (given.batch, given.tokens), generator=generator)
    ids[: given.batch // 4, given.tokens // 2 :] = 0
    labels = torch.randint(2, (given.batch,), generator=generator)
    return {"input_ids": ids.to(device), "attention_mask": (ids != 0).long().to(device)}, labels.to(device)


def wait() -> None:
    if default_device() == "cuda":
        torch.cuda.synchronize()


def child_training(given: argparse.Namespace) -> dict:
    import peft  # noqa: F401 (in both processes, so that it is part of both peaks)

    model = {"ours": by_us, "peft": by_peft}[given.way](base(given), given).train()
    trained = begin(model, given.seed)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3)
    inputs, labels = draw_batch(given)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(**inputs).logits, labels)

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
        "trained": sum(p.numel() for p in trained.values()),
        "losses": [round(value, 5) for value in losses],
        "meter": peak.meter,
    }


def child_latency(given: argparse.Namespace) -> dict:
    """How long a forward pass takes, as a share of the base's; the base's twin tells how exact that is."""
    model, (inputs, _) = base(given).eval(), draw_batch(given)
    models = {"base": model, "base, again": copy.deepcopy(model)}
    for name, make in (("ours", by_us), ("peft", by_peft)):
        models[f"{name}, beside"] = make(copy.deepcopy(model), given).eval()
        begin(models[f"{name}, beside"], given.seed, both=True)
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
        found = accounting.latencies(calls, rounds=given.latency_rounds)
    return {name: {"ms": round(1000 * one.seconds, 2), "share": round(one.share, 4)} for name, one in found.items()}


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


def summary(given: argparse.Namespace, results: dict[str, list[dict]], latency: dict) -> dict:
    numbers = ("steps_per_second", "peak_mb", "before_mb", "kept_mb")
    median = {
        way: {key: statistics.median(one[key] for one in runs) for key in numbers if runs[0][key] is not None}
        for way, runs in results.items()
    }
    ours, others = median["ours"], median["peft"]
    pairs = zip(results["ours"], results["peft"], strict=True)
    shape = ("layers", "width", "batch", "tokens", "rank", "steps", "rounds")
    return {
        "what": "LoRA on query and value of a BERT with random weights, fp32; medians of alternating runs",
        "shape": {key: getattr(given, key) for key in shape},
        "trained": results["ours"][0]["trained"],
        "medians": median,
        "speed_ratio": round(ours["steps_per_second"] / others["steps_per_second"], 4),
        "speed_ratio_by_round": [round(a["steps_per_second"] / b["steps_per_second"], 4) for a, b in pairs],
        "memory_ratio": {key: round(ours[key] / others[key], 4) for key in ("peak_mb", "kept_mb") if key in ours},
        "latency": latency,
        "asked": ASKED,
        "meter": results["ours"][0]["meter"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(child_latency(given) if given.way == "latency" else child_training(given)))
        return
    words = sys.argv[1:]
    made = summary(given, measure(given, words), run(words, "latency", 0)) | records.environment()
    made["versions"]["peft"] = metadata.version("peft")
    print(json.dumps(made, indent=1))
    storage.write_json(given.out, made)


if __name__ == "__main__":
    main()

"""Our methods against huggingface/peft's: steps per second and memory of training, for each method that peft has, too.

Both begin with the same adapter folder, read by `methods.from_peft` and by `PeftModel.from_pretrained`, over the same
network with random weights; same batch, same optimizer, no dropout (the two draw it in another order). Every run has a
process of its own (a process's peak memory can't be reset), and the two take turns at going first. Both processes
import both libraries.

Not compared, though peft has them: AdaLoRA, whose penalty peft computes in each forward pass and the course in
`RankAllocator`, outside of it, so that one step is not the same work; P-tuning, whose encoder is in neither library's
folder, so that training can't begin at the same place; SHiRA (our MagnitudeMask) and LoKr (our KronA), whose entries
and factors are chosen by other rules, so that other numbers are trained (see `interchange.WITHOUT`).

python tests/benchmarks/against_peft.py [--methods LoRA DoRA …] [--rounds 5] [--out FILE]  # 2 cores: 2 minutes each
python tests/benchmarks/against_peft.py --scale 4 --steps 50                               # a GPU: four times the batch
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from peft_helpers import accounting, methods, records, storage
from peft_helpers.methods.interchange import COUNTERPARTS
from peft_helpers.profiles import default_device

RESULT = Path(__file__).parent / "results" / "against_peft.json"
WAYS = ("ours", "peft")
ASKED = {"speed_ratio": 0.97, "memory_ratio": 1.03}  # at least, at most
WARM_UP, NOISE = 2, 0.02
LENGTH = 20  # of prefix and prompt
CHOSEN = {  # where our method's own settings are not peft's, or the lessons'
    "LoRA": {"rank": 8, "alpha": 16.0},
    "DoRA": {"rank": 8, "alpha": 16.0},
    "PrefixTuning": {"length": LENGTH, "hidden": None, "shift_positions": True},
    "PromptTuning": {"length": LENGTH},
}
NOT_COMPARED = ("AdaLoRA", "PTuning")  # why: above
WRITERS = ("PrefixTuning", "PromptTuning")  # on the shape of GPT-2, the others on half of BERT-base's


def shape(method: str, scale: int = 1) -> dict[str, int]:
    """Layers, width, and rows and tokens of a batch."""
    if method in WRITERS:
        return {"layers": 12, "width": 768, "batch": 4 * scale, "tokens": 64}
    return {"layers": 6, "width": 384, "batch": 16 * scale, "tokens": 64}


def base(method: str, seed: int) -> torch.nn.Module:
    """A GPT-2 that writes, or a BERT that classifies, with random weights, without dropout, on the device."""
    torch.manual_seed(seed)
    sizes = shape(method)
    heads, layers, width = sizes["width"] // 64, sizes["layers"], sizes["width"]
    if method in WRITERS:
        model = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=heads))
    else:
        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width
        )
        model = BertForSequenceClassification(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.to(default_device())


@torch.no_grad()
def write(method: str, seed: int, folder: str) -> None:
    """The folder that both read: our method, a little away from where it begins, in peft's format."""
    model = methods.apply(base(method, seed), methods.make(method, **CHOSEN.get(method, {})))
    generator = torch.Generator().manual_seed(seed)
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter += NOISE * torch.randn(parameter.shape, generator=generator).to(parameter.device)
    methods.to_peft(model, folder)


def by_peft(model: torch.nn.Module, folder: str) -> torch.nn.Module:
    from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft asks of transformers has another name by now
        config = PeftConfig.from_pretrained(folder)
        if not config.is_prompt_learning:
            return PeftModel.from_pretrained(model, folder, is_trainable=True)
        config.inference_mode = False  # a prefix or prompt that was loaded can't be trained there: made, and then set
        adapted = get_peft_model(model, config)
        set_peft_model_state_dict(adapted, load_peft_weights(folder, device=str(default_device())))
        return adapted


def draw_batch(method: str, scale: int, seed: int) -> dict[str, torch.Tensor]:
    """Token ids, mask and labels, a quarter of the texts with padding on the right."""
    sizes, generator = shape(method, scale), torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 30_522, (sizes["batch"], sizes["tokens"]), generator=generator)
    mask = torch.ones_like(ids)
    mask[: sizes["batch"] // 4, sizes["tokens"] // 2 :] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100  # peft's last prompt vector predicts the first token, ours does not: nobody's target
    if method not in WRITERS:
        labels = torch.randint(2, (sizes["batch"],), generator=generator)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(default_device()) for name, tensor in batch.items()}


def wait() -> None:
    if default_device() == "cuda":
        torch.cuda.synchronize()


def train(method: str, way: str, folder: str, given: argparse.Namespace) -> dict:
    """One run of a few steps: its speed, its memory, its losses."""
    import peft  # noqa: F401 (in both processes, so that it is part of both peaks)

    model = {"ours": methods.from_peft, "peft": by_peft}[way](base(method, given.seed), folder).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    batch = draw_batch(method, given.scale, given.seed)

    def loss() -> torch.Tensor:
        return model(**batch).loss

    before = accounting.peak_memory()
    if default_device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
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


def run(method: str, way: str, folder: str, given: argparse.Namespace, seed: int) -> dict:
    """One way of one method in a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    words = ["--methods", method, "--way", way, "--folder", folder, "--seed", str(seed)]
    sizes = ["--steps", str(given.steps), "--scale", str(given.scale)]
    told = subprocess.run([sys.executable, __file__, *words, *sizes], capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(f"{method}, {way}, round {seed}, failed:\n{told.stderr[-4000:]}")
    return json.loads(told.stdout.splitlines()[-1])


def measure(method: str, given: argparse.Namespace) -> dict[str, list[dict]]:
    """Both ways once a round, in turn.

    Raises:
        RuntimeError: the two do not do the same work: other losses, or another number of trained parameters.
    """
    results: dict[str, list[dict]] = {way: [] for way in WAYS}
    for seed in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            write(method, seed, folder)
            for way in WAYS if seed % 2 == 0 else reversed(WAYS):
                results[way].append(run(method, way, folder, given, seed))
                print(f"{method}, round {seed}, {way}: {results[way][-1]}", flush=True)
        ours, others = results["ours"][-1], results["peft"][-1]
        apart = max(abs(a - b) for a, b in zip(ours.pop("losses"), others.pop("losses"), strict=True))
        if ours["trained"] != others["trained"] or apart > 1e-3:
            raise RuntimeError(f"not the same work: losses differ by {apart:.1e}; {ours}, {others}")
    return results


def summary(method: str, given: argparse.Namespace, results: dict[str, list[dict]]) -> dict:
    numbers = ("steps_per_second", "peak_mb", "before_mb", "kept_mb")
    median = {
        way: {key: statistics.median(one[key] for one in runs) for key in numbers if runs[0][key] is not None}
        for way, runs in results.items()
    }
    ours, others = median["ours"], median["peft"]
    pairs = zip(results["ours"], results["peft"], strict=True)
    return {
        "method": repr(methods.make(method, **CHOSEN.get(method, {}))),
        "shape": shape(method, given.scale) | {"steps": given.steps, "rounds": given.rounds},
        "trained": results["ours"][0]["trained"],
        "medians": median,
        "speed_ratio": round(ours["steps_per_second"] / others["steps_per_second"], 4),
        "speed_ratio_by_round": [round(a["steps_per_second"] / b["steps_per_second"], 4) for a, b in pairs],
        "memory_ratio": {key: round(ours[key] / others[key], 4) for key in ("peak_mb", "kept_mb") if key in ours},
        "meter": results["ours"][0]["meter"],
        "peft": metadata.version("peft"),
        **records.environment(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = [name for method in COUNTERPARTS if (name := method.__name__) not in NOT_COMPARED]
    parser.add_argument("--methods", nargs="+", choices=shared, default=shared)
    parser.add_argument("--scale", type=int, default=1, help="the batch is so many times as large")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    for hidden in ("--way", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(train(given.methods[0], given.way, given.folder, given)))
        return
    for method in given.methods:
        made = summary(method, given, measure(method, given))
        print(json.dumps(made, indent=1))
        known = json.loads(given.out.read_text("utf-8")) if given.out.is_file() else {"asked": ASKED, "methods": {}}
        known["methods"][method] = made
        storage.write_json(given.out, known)


if __name__ == "__main__":
    main()

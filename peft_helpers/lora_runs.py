"""Lesson 12's recorded experiments: what full fine-tuning changes, and LoRA's rank, alpha, targets and backbone.

    python -m peft_helpers.lora_runs --out peft_helpers/pocket/records/lora

1. `full`: the spectrum of every matrix's change, and the test score when all changes are cut to a rank, not trained
   again (cf. arXiv:2410.21228).
2. `rank`: LoRA on queries and values, alpha fixed, ranks 1 to 64 (arXiv:2106.09685, section 7.2).
3. `targets`: the same number of parameters in the queries, in queries and values, or in all six projections (section
   7.1).
4. `alpha`: a grid of alpha and learning rate at rank 8, judged on dev.
5. `quantized`: rank 8 over a backbone stored in 8 and in 4 bits.

Learning rates are tuned on held-out training data, except in 4, where they are what is varied, and in 5, which takes
over the rate of rank 8. A finished run is on the disk at once; what was made with other weights or settings is made
anew. About 15 minutes on one idle core; `--seeds 0 --rates 2e-3` gives a quick look, without tuning.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers import backbones, experiments, methods, quantization, records, spectra, tasks, training
from peft_helpers.adapter_records import own
from peft_helpers.methods.lora import LoRALinear
from peft_helpers.records import Record
from peft_helpers.tasks import Task
from peft_helpers.training import Settings

COMMAND = "python -m peft_helpers.lora_runs --out peft_helpers/pocket/records/lora"
TASK, LABELS, EPOCHS, BATCH, SEEDS = "sentiment", 400, 5, 16, (0, 1, 2)
RATES, FULL_RATES = (1e-3, 2e-3, 4e-3), (1e-4, 3e-4, 1e-3)
ALPHA, RANK = 16.0, 8
RANKS = (1, 2, 4, 8, 16, 64)
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
PROJECTIONS = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
TARGETS = {"query": (("query",), 18), "query and value": (("query", "value"), 9), "all six": (PROJECTIONS, 2)}
GRID_LABELS, GRID_EPOCHS = 200, 4
ALPHAS, GRID_RATES = (2.0, 8.0, 32.0, 128.0), (3e-4, 1e-3, 3e-3, 1e-2)
BITS = ("int8", "nf4")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One LoRA, to be tuned and trained.

    Attributes:
        experiment: "rank", "targets" or "quantized".
        key: names it in the records' ids; `label` for people.
        options: LoRA's settings.
        bits: how the backbone is stored; None for float32.
    """

    experiment: str
    key: str
    label: str
    options: dict[str, Any]
    bits: str | None = None


def trials(experiment: str, backbone: str) -> list[Trial]:
    """What an experiment compares. The ranks of the targets give equal counts where I = 4 D, as in pocket-bert."""
    qv = {"alpha": ALPHA, "targets": ["query", "value"]}
    if experiment == "rank":
        return [Trial("rank", f"{rank}", f"swept LoRA, rank {rank}", {"rank": rank, **qv}) for rank in RANKS]
    if experiment == "quantized":
        return [Trial("quantized", bits, f"swept LoRA, backbone in {bits}", {"rank": RANK, **qv}, bits)
                for bits in BITS]  # fmt: skip
    return [
        Trial("targets", name.replace(" ", "-"), f"swept LoRA, {name}",
              {"rank": rank, "alpha": ALPHA, "targets": list(targets)})
        for name, (targets, rank) in TARGETS.items()
    ]  # fmt: skip


def lora(
    experiment: str, backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = RATES
) -> list[Record]:
    """Each trial of an experiment, its rate tuned, once a seed; judged on test."""
    made = []
    for trial in trials(experiment, backbone):
        same = dataclasses.replace(trial, bits=None)  # the rate is tuned over float32 weights
        tuned, rate = _tuned("LoRA", same.options, rates, backbone, folder)
        for seed in seeds:
            name = _name(experiment, trial.key, backbone, seed)
            settings = _settings(rate, EPOCHS, seed)
            if (record := _known(name, folder, backbone, LABELS, settings, tuned)) is None:
                task = tasks.load(TASK).subset(LABELS, seed)
                model, tokenizer = backbones.load(backbone, task, seed=seed)
                base = copy.deepcopy(model)
                if trial.bits:
                    quantization.quantize(model, trial.bits)
                torch.manual_seed(seed)
                methods.apply(model, methods.make("LoRA", **trial.options))
                size = quantization.model_bytes(model)
                done = training.fit(model, tokenizer, task.short_dev(), settings)
                about = {"experiment": experiment, **trial.options, "key": trial.key, "bits": trial.bits,
                         "model_bytes": size, "tuned_rates": tuned, **changes(base, model)}  # fmt: skip
                result = training.evaluate(model, tokenizer, task, "test")
                record = _saved(name, done, result, trial.label, about | {"loss": result.loss}, folder, "test", model)
            made.append(record)
    return made


def changes(base: nn.Module, model: nn.Module) -> dict[str, float]:
    """How far LoRA moved its targets: the change's norm against the weights', and intruder dimensions a matrix."""
    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoRALinear)]
    moved, whole, strangers = 0.0, 0.0, []
    for path, layer in layers:
        weight = base.get_submodule(path).weight.detach()
        change = (layer.scale * layer.up.weight @ layer.down.weight).detach()
        moved, whole = moved + change.square().sum().item(), whole + weight.square().sum().item()
        strangers.append(spectra.intruders(weight, weight + change) if change.any() else 0)
    return {"moved": (moved / whole) ** 0.5, "intruders": sum(strangers) / len(strangers)}


def full(
    backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = FULL_RATES
) -> list[Record]:
    """Train everything once a seed; the spectra, and the test score with all changes cut to each rank."""
    made = []
    tuned, rate = _tuned("full", None, rates, backbone, folder)
    for seed in seeds:
        names = {rank: _name("full", "whole" if rank is None else f"{rank}", backbone, seed) for rank in (None, *CUTS)}
        settings = _settings(rate, EPOCHS, seed)
        shelf = [_known(name, folder, backbone, LABELS, settings, tuned) for name in names.values()]
        if all(shelf):
            made += shelf
            continue
        task = tasks.load(TASK).subset(LABELS, seed)
        model, tokenizer = backbones.load(backbone, task, seed=seed)
        base = copy.deepcopy(model)
        done = training.fit(model, tokenizer, task.short_dev(), settings)
        found, fresh = spectra.spectra(base, model), {}
        most = max(len(one.sigma) for one in found.values())
        for rank, name in reversed(names.items()):  # the whole last: when it is there, everything is
            spectra.cut(base, model, found, most if rank is None else rank)
            result = training.evaluate(model, tokenizer, task, "test")
            about = {"experiment": "full", "cut": rank, "loss": result.loss, "tuned_rates": tuned}
            if rank is None:
                about |= {"cuts": list(CUTS), "spectra": summary(base, found), "chance": chance(found)}
            label = "swept full fine-tuning" if rank is None else f"swept full fine-tuning, changes cut to rank {rank}"
            fresh[name] = _saved(name, done, result, label, about, folder, "test", model)
        made += [fresh[name] for name in names.values()]
    return made


def summary(base: nn.Module, found: dict[str, spectra.Spectrum]) -> dict[str, dict[str, Any]]:
    """Name of a matrix -> its shape, the energy kept at CUTS, effective rank, relative size, intruder dimensions."""
    old = spectra.matrices(base)
    told = {}
    for name, one in found.items():
        change = one.at(len(one.sigma))
        told[name] = {
            "shape": list(change.shape),
            "energy": energies(one.energy),
            "effective_rank": spectra.effective_rank(change),
            "moved": (change.norm() / old[name].norm()).item(),
            "intruders": spectra.intruders(old[name], old[name] + change),
        }
    return told


def energies(energy: Tensor) -> list[float]:
    """E(r) at CUTS, with E(0) = 0, and 1 where a matrix has fewer rows or columns."""
    return [0.0 if rank == 0 else float(energy[min(rank, len(energy)) - 1]) for rank in CUTS]


def chance(found: dict[str, spectra.Spectrum]) -> dict[str, list[float]]:
    """The same energies for matrices of independent normal numbers, by shape "m × n"; from a fixed seed."""
    shapes = sorted({(len(one.u), one.vh.shape[1]) for one in found.values()})
    random = torch.Generator().manual_seed(0)
    drawn = {shape: torch.randn(*shape, generator=random) for shape in shapes}
    return {f"{m} × {n}": energies(spectra.energy_kept(matrix)) for (m, n), matrix in drawn.items()}


def alpha(backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, rates: Sequence[float] = GRID_RATES):
    """Every alpha with every rate, once a seed; judged on dev."""
    made = []
    for value in ALPHAS:
        for rate in rates:
            for seed in seeds:
                name = _name("alpha", f"{value:g}-{rate:g}", backbone, seed)
                settings = _settings(rate, GRID_EPOCHS, seed)
                if (record := _known(name, folder, backbone, GRID_LABELS, settings, [])) is None:
                    task = tasks.load(TASK).subset(GRID_LABELS, seed)
                    options = {"rank": RANK, "alpha": value}
                    model, tokenizer = experiments.prepare(backbone, task, "LoRA", options, seed)
                    base, _ = backbones.load(backbone, task, seed=seed)
                    try:
                        done = training.fit(model, tokenizer, task.short_dev(), settings)
                    except FloatingPointError:
                        continue
                    result = training.evaluate(model, tokenizer, task, "dev")
                    about = {"experiment": "alpha", **options, "loss": result.loss, "tuned_rates": []}
                    label = f"swept LoRA, alpha {value:g}, rate {rate:g}"
                    about |= changes(base, model)
                    record = _saved(name, done, result, label, about, folder, "dev", model)
                made.append(record)
    return made


# ---------------------------------------------------------------- what they share, and reading


def _tuned(
    method: str, options: dict[str, Any] | None, rates: Sequence[float], backbone: str, folder: Path
) -> tuple[list[dict], float]:
    """(the rates tried, with their held-out scores, and the best one); a single rate is taken without trying."""
    if len(rates) == 1:
        return [], rates[0]
    task: Task = tasks.load(TASK).subset(LABELS, SEEDS[0])
    tuned = experiments.tune(task, backbone, method, rates, _settings(rates[0], EPOCHS, SEEDS[0]), folder, options)
    return tuned, experiments.best_rate(tuned)["learning_rate"]


def _settings(rate: float, epochs: int, seed: int) -> Settings:
    return Settings(rate, epochs=epochs, batch_size=BATCH, seed=seed, keep_best=False, progress=False, precision="fp32")


def _name(experiment: str, key: str, backbone: str, seed: int) -> str:
    return f"lora-{experiment}-{TASK}-{backbone}-{key}-{seed}".replace("/", "--")


def _known(
    name: str, folder: Path, backbone: str, labels: int, settings: Settings, tuned: Iterable[dict]
) -> Record | None:
    """The record of this name, if it was made with the weights that are installed, and in this way."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    known, wanted = records.read(path), {**dataclasses.asdict(settings), "labels": labels}
    had = {**known.settings, "labels": known.labels, "seed": known.seed}
    same = all(had.get(key) == wanted[key] for key in ("labels", "seed", "epochs", "learning_rate", "batch_size"))
    same &= [row["learning_rate"] for row in had.get("tuned_rates", [])] == [row["learning_rate"] for row in tuned]
    return known if same and known.backbone_sha256 == backbones.weights_hash(backbone) else None


def _saved(
    name: str,
    done: training.Run,
    result: training.Evaluation,
    label: str,
    about: dict,
    folder: Path,
    split: str,
    model: nn.Module,
) -> Record:
    record = dataclasses.replace(experiments.to_record(name, done, result, label, about, COMMAND, model), split=split)
    records.save(record, folder, replace=True)
    print(f"{name:60} {record.metric} {record.score:.3f}", flush=True)
    return record


def recorded(experiment: str, backbone: str, folder: str | Path | None = None) -> list[Record]:
    """The records of one experiment, "full", "rank", "targets", "alpha" or "quantized".

    Of the weights that are installed, or, where there are none of those, of others; by rank where there are several.
    """
    shelf = records.load(folder, backbone=backbone)
    shelf = [r for r in shelf if r.id.startswith("lora-") and r.settings.get("experiment") == experiment]
    return sorted(own(shelf), key=lambda record: (record.settings.get("rank", 0), record.id))


def intruders_of(record: Record) -> float:
    """Intruder dimensions among the ten largest, a mean over the matrices that were changed."""
    about = record.settings
    if "spectra" in about:
        return sum(one["intruders"] for one in about["spectra"].values()) / len(about["spectra"])
    return about["intruders"]


EXPERIMENTS = ("full", "rank", "targets", "alpha", "quantized")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments from the command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND.partition(" --")[0], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="LoRA's; one is not tuned")
    parser.add_argument("--out", type=Path, default=records.own_folder() / "lora")
    given = parser.parse_args(arguments)
    quick = len(given.rates) == 1
    for name in given.only:
        if name == "full":
            full(given.backbone, given.out, given.seeds, FULL_RATES[1:2] if quick else FULL_RATES)
        elif name == "alpha":
            alpha(given.backbone, given.out, given.seeds)
        else:
            lora(name, given.backbone, given.out, given.seeds, given.rates)


if __name__ == "__main__":
    main()

"""Lesson 14's recorded experiments: model size, few labels, transfer between domains, attributions.

    python -m peft_helpers.challenge_runs --out peft_helpers/pocket/records/challenges

1. `size`: a fine-tuned teacher, rounded to fewer bits; students of half its layers, taught by the labels, by the
   teacher on the same texts, and by the teacher on texts without labels, all with the same number of steps.
2. `labels`: three methods at 50, 200 and 600 labels, as `experiments` records full fine-tuning there (the same epochs,
   as many rates tried). What is recorded elsewhere already is not done again.
3. `transfer`: a task adapter learned on one half of the domains, judged on the other half; with and without domain
   adapters under it, exchanged or not.
4. `attribution`: integrated gradients of a few texts by number of steps and baseline, for the explorer.

A finished run is on the disk at once; what was made with other weights or settings is made anew. Less than 30 minutes
on an idle core. With `--quick` one seed and shorter runs, without `labels`: two to three minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peft_helpers import (
    backbones,
    distillation,
    domain_adapters,
    experiments,
    interpret,
    methods,
    records,
    rounding,
    sides,
    tasks,
    training,
)
from peft_helpers.adapter_runs import recorded  # noqa: F401 (records of these experiments are found alike)
from peft_helpers.batching import encode, length_limit
from peft_helpers.records import Record
from peft_helpers.tasks import Task
from peft_helpers.training import Evaluation, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COMMAND = "python -m peft_helpers.challenge_runs --out peft_helpers/pocket/records/challenges"
BATCH, SEEDS = 16, (0, 1, 2)

SIZE_LABELS, SIZE_EPOCHS, RATE = 600, 6, 3e-4
STUDENT_LAYERS = (0, 2)
BITS = (8, 6, 4, 3, 2)
TEMPERATURES = (1.0, 2.0, 8.0)
USUAL_TEMPERATURE = 2.0

LABEL_METHODS: dict[str, dict[str, Any]] = {"Houlsby": {"bottleneck": 16}, "LoRA": {"rank": 8}, "BitFit": {}}
LABEL_EPOCHS = {50: 20, 200: 12, 600: 6}
LABEL_RATES = (3e-4, 1e-3, 3e-3)

DOMAIN_TEXTS, DOMAIN_EPOCHS, DOMAIN_RATE, DOMAIN_BOTTLENECK = 4000, 2, 3e-3, 64
HELD_OUT_TEXTS = 400
TRANSFER_EPOCHS, TRANSFER_RATE, TASK_BOTTLENECK = 4, 1e-3, 16
WAYS = {
    "alone": "task adapter alone",
    "kept": "over the source's domain adapters",
    "exchanged": "domain adapters exchanged",
}

ATTRIBUTION_LABELS, ATTRIBUTION_EPOCHS = 600, 4
STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TEXTS = (
    "The room was cold but the people were wonderful.",
    "Not one dull minute in the whole play.",
    "Anything but a bargain, and it broke within a week.",
)


# ---------------------------------------------------------------- model size


def size(backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, quick: bool = False) -> list[Record]:
    """A teacher a seed, rounded; and its students."""
    made: list[Record] = []
    for seed in seeds:
        run = _settings(RATE, 2 if quick else SIZE_EPOCHS, seed)
        about = {"experiment": "size", "train_labels": SIZE_LABELS}
        names = ["teacher", *(f"rounded-{bits}" for bits in BITS), "student-labels", "student-more"]
        names += [f"student-teacher-{t:g}" for t in TEMPERATURES]
        stem = f"challenges-size-{backbone}".replace("/", "--")
        shelf = [_known(f"{stem}-{name}-{seed}", folder, backbone, _wanted(run, about)) for name in names]
        made += [record for record in shelf if record] if all(shelf) else _sizes(backbone, folder, stem, run, about)
    return made


def _sizes(backbone: str, folder: Path, stem: str, run: Settings, about: dict[str, Any]) -> list[Record]:
    whole = tasks.load("sentiment")
    task, seed = whole.subset(min(SIZE_LABELS, len(whole.splits["train"])), run.seed), run.seed
    teacher, tokenizer = backbones.load(backbone, task, seed=seed)
    done = training.fit(teacher, tokenizer, task.short_dev(), run)
    made = []

    def save(name: str, model: nn.Module, method: str, seconds: float = 0.0, **more: Any) -> None:
        result = training.evaluate(model, tokenizer, task)
        size_bytes = more.pop("bytes", 4 * sum(p.numel() for p in model.parameters()))
        settings = _wanted(run, about) | {"kind": name.split("-")[0], "bytes": size_bytes, "loss": result.loss} | more
        made.append(_saved(f"{stem}-{name}-{seed}", task, result, backbone, method, settings, seed, model, seconds,
                           folder, SIZE_LABELS))  # fmt: skip

    save("teacher", teacher, "teacher of 4 layers", done.seconds)
    for bits in BITS:
        smaller = rounding.rounded_model(teacher, bits, embeddings=True)
        size_bytes = rounding.rounded_bytes(teacher, bits, embeddings=True)
        save(f"rounded-{bits}", smaller, f"teacher rounded to {bits} bits", bits=bits, bytes=size_bytes)
    seen, everything = (encode(one, "train", tokenizer, length_limit(teacher, tokenizer)) for one in (task, whole))
    said, said_of_all = (distillation.logits_on(teacher, one, tokenizer) for one in (seen, everything))
    # As many steps for the student that reads all texts as for the others.
    fewer = dataclasses.replace(run, epochs=max(1, round(run.epochs * len(seen.inputs) / len(everything.inputs))))
    lessons = [("student-labels", seen, None, run, USUAL_TEMPERATURE, "student taught by the labels")]
    lessons += [
        (f"student-teacher-{t:g}", seen, said, run, t, f"student taught by the teacher, T = {t:g}")
        for t in TEMPERATURES
    ]
    lessons += [("student-more", everything, said_of_all, fewer, USUAL_TEMPERATURE,
                 "student taught by the teacher, more texts")]  # fmt: skip
    for name, texts, logits, settings, temperature, method in lessons:
        fresh, _ = backbones.load(backbone, task, seed=seed)
        student = distillation.student_of(fresh, STUDENT_LAYERS)
        started = time.perf_counter()
        distillation.distill(student, texts, logits, tokenizer.pad_token_id, settings, temperature)
        seconds = time.perf_counter() - started
        way = "labels" if logits is None else "more" if len(texts.inputs) > SIZE_LABELS else "teacher"
        save(name, student, method, seconds, temperature=temperature, taught_by=way, texts=len(texts.inputs))
    return made


# ---------------------------------------------------------------- few labels


def labels(backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, quick: bool = False) -> list[Record]:
    """`experiments.run` of each method and number of labels that is not recorded with these weights elsewhere.

    Nothing at all if it is to be quick: records of fewer rates would be taken for the real ones.
    """
    made, place = [], folder / "labels"
    if quick:
        return made
    _forget_other_weights(place, backbone)
    for method, options in LABEL_METHODS.items():
        called = experiments.label(method, options)
        for count, epochs in LABEL_EPOCHS.items():
            if _elsewhere(called, count, backbone, place):
                print(f"{called} at {count} labels is recorded already")
                continue
            settings = Settings(LABEL_RATES[0], epochs=epochs, batch_size=BATCH, precision="auto", progress=False)
            given = ("sentiment", backbone, method, count, LABEL_RATES, seeds, settings, place, COMMAND, options)
            made += experiments.run(*given)
            print(records.table(made[-len(seeds) :]).splitlines()[-1], flush=True)
    return made


def _elsewhere(called: str, count: int, backbone: str, place: Path) -> bool:
    """Whether another folder of the shipped records has this method at this number of labels, of these weights."""
    here = {path.stem for path in place.glob("*.json")}
    found = records.load(records.SHIPPED, task="sentiment", method=called, labels=count, backbone=backbone)
    return any(r.id not in here and r.backbone_sha256 == backbones.weights_hash(backbone) for r in found)


def _forget_other_weights(place: Path, backbone: str) -> None:
    """Remove records of other weights, and with them what was tuned, which does not say of which weights it is."""
    known = {path: records.read(path) for path in place.glob("*.json")}
    old = [path for path, r in known.items() if r.backbone_sha256 != backbones.weights_hash(backbone)]
    for path in [*old, *((place / "tuning").glob("*.rate") if old else ())]:
        path.unlink()


# ---------------------------------------------------------------- from one domain to another


def transfer(backbone: str, folder: Path, seeds: Sequence[int] = SEEDS, quick: bool = False) -> list[Record]:
    """For each seed domain adapters of both halves, then a task adapter in both directions."""
    made: list[Record] = []
    halves = sides.domain_sides()
    for seed in seeds:
        run = _settings(TRANSFER_RATE, 1 if quick else TRANSFER_EPOCHS, seed)
        texts, epochs = (1200, 1) if quick else (DOMAIN_TEXTS, DOMAIN_EPOCHS)
        about = {"experiment": "transfer", "domain_texts": texts, "domain_epochs": epochs, "domain_rate": DOMAIN_RATE}
        stem = f"challenges-transfer-{backbone}".replace("/", "--")
        wanted = [f"{stem}-{source}-{target}-{way}-{seed}" for source in halves for target in halves for way in WAYS
                  if source != target or way != "exchanged"]  # fmt: skip
        shelf = [_known(name, folder, backbone, _wanted(run, about)) for name in wanted]
        made += [record for record in shelf if record] if all(shelf) else _transfers(
            backbone, folder, stem, run, about, halves
        )  # fmt: skip
    return made


def _transfers(
    backbone: str, folder: Path, stem: str, run: Settings, about: dict[str, Any], halves: dict[str, sides.Side]
) -> list[Record]:
    masked, tokenizer = domain_adapters.masked_model(backbone)
    held_out = {name: side.texts[-HELD_OUT_TEXTS:] for name, side in halves.items()}
    losses = {"none": {name: domain_adapters.masked_loss(masked, tokenizer, t) for name, t in held_out.items()}}
    domains = {}
    for name, side in halves.items():
        torch.manual_seed(run.seed)
        methods.apply(masked, methods.Pfeiffer(bottleneck=DOMAIN_BOTTLENECK))
        chosen = side.texts[: min(about["domain_texts"], len(side.texts) - HELD_OUT_TEXTS)]
        settings = _settings(about["domain_rate"], about["domain_epochs"], run.seed)
        domain_adapters.fit_masked(masked, tokenizer, chosen, settings)
        losses[name] = {one: domain_adapters.masked_loss(masked, tokenizer, t) for one, t in held_out.items()}
        domains[name] = domain_adapters.take(masked)
        methods.remove(masked)
    about, made = about | {"masked_losses": losses}, []
    for source, side in halves.items():
        for stacked in (False, True):
            model, _ = backbones.load(backbone, side.task, seed=run.seed)
            torch.manual_seed(run.seed)
            task_adapter = methods.Pfeiffer(bottleneck=TASK_BOTTLENECK)
            if stacked:
                domain_adapters.stack(model, domains[source], task_adapter)
            else:
                methods.apply(model, task_adapter)
            done = training.fit(model, tokenizer, side.task.short_dev(), run)
            for target, other in halves.items():
                for way in ("kept", "exchanged") if stacked else ("alone",):
                    if way == "exchanged" and source == target:
                        continue
                    if stacked:
                        domain_adapters.exchange(model, domains[target if way == "exchanged" else source])
                    result = training.evaluate(model, tokenizer, other.task)
                    more = {"source": source, "target": target, "way": way, "loss": result.loss}
                    method = f"from {source}, {WAYS[way]}"
                    name = f"{stem}-{source}-{target}-{way}-{run.seed}"
                    made.append(_saved(name, other.task, result, backbone, method, _wanted(run, about) | more, run.seed,
                                       model, done.seconds, folder, done.labels))  # fmt: skip
    return made


# ---------------------------------------------------------------- attributions


def attribution(backbone: str, folder: Path, seeds: Sequence[int] = (0,), quick: bool = False) -> list[Record]:
    """One fine-tuned model, of the first seed; a record a text, with its words' attributions by number of steps."""
    seed = next(iter(seeds))
    run = _settings(RATE, ATTRIBUTION_EPOCHS, seed)
    about = {"experiment": "attribution", "train_labels": ATTRIBUTION_LABELS, "steps": list(STEPS)}
    stem = f"challenges-attribution-{backbone}".replace("/", "--")
    wanted = {f"{stem}-{number}": _wanted(run, about | {"asked": text}) for number, text in enumerate(TEXTS)}
    shelf = [_known(name, folder, backbone, settings) for name, settings in wanted.items()]
    if all(shelf):
        return [record for record in shelf if record]
    whole = tasks.load("sentiment")
    task = whole.subset(min(ATTRIBUTION_LABELS, len(whole.splits["train"])), seed)
    model, tokenizer = backbones.load(backbone, task, seed=seed)
    done = training.fit(model, tokenizer, task.short_dev(), run)
    result, made = training.evaluate(model, tokenizer, task), []
    model = model.double()
    for number, (name, settings) in enumerate(wanted.items()):
        more = {"number": number, "text": frames(model, tokenizer, TEXTS[number], STEPS)}
        made.append(_saved(name, task, result, backbone, f"full, attributions of text {number}", settings | more, seed,
                           model, done.seconds, folder, done.labels))  # fmt: skip
    return made


def frames(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, text: str, steps: Sequence[int], label: int = 1
) -> dict[str, Any]:
    """Everything that the explorer shows of one text: words, deletions, and each baseline's attributions by steps.

    Returns:
        {"text", "words", "label", "score", "deleted", "baselines": {kind: {"score", "way", "gaps", "attributions"}}}:
        scores are log odds, "way" the slope at 64 midpoints, "gaps" and "attributions" one, and one list of words, a
        number of steps.
    """
    reading = interpret.read(model, tokenizer, text, label)
    shown: dict[str, Any] = {}
    for kind in interpret.BASELINES:
        start = interpret.baseline_of(model, tokenizer, reading, kind)
        found = [interpret.integrated_gradients(reading.score, reading.x, start, n) for n in steps]
        _, way = interpret.along_the_way(reading.score, reading.x, start)
        with torch.no_grad():
            nothing = reading.score(start[None])[0].item()
        shown[kind] = {
            "score": nothing,
            "way": [round(v, 4) for v in way.tolist()],
            "gaps": [interpret.completeness_gap(one, reading.score, reading.x, start) for one in found],
            "attributions": [[round(v, 4) for v in reading.by_word(one).tolist()] for one in found],
        }
    with torch.no_grad():
        score = reading.score(reading.x[None])[0].item()
    deleted = [round(v, 4) for v in interpret.deletions(model, tokenizer, reading.words, label).tolist()]
    return {"text": text, "words": list(reading.words), "label": model.config.id2label[label], "score": score,
            "deleted": deleted, "baselines": shown}  # fmt: skip


# ---------------------------------------------------------------- what they share, and reading


def _settings(rate: float, epochs: int, seed: int) -> Settings:
    return Settings(rate, epochs=epochs, batch_size=BATCH, seed=seed, keep_best=False, progress=False, precision="fp32")


def _wanted(run: Settings, about: dict[str, Any]) -> dict[str, Any]:
    """What a record must have been made with to be kept."""
    return {"learning_rate": run.learning_rate, "epochs": run.epochs, "batch_size": run.batch_size} | about


def _known(name: str, folder: Path, backbone: str, wanted: dict[str, Any]) -> Record | None:
    """The record of this name, if it was made with the weights that are installed, and in this way."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    known = records.read(path)
    same = all(known.settings.get(key) == value for key, value in wanted.items())
    return known if same and known.backbone_sha256 == backbones.weights_hash(backbone) else None


def _saved(
    name: str,
    task: Task,
    result: Evaluation,
    backbone: str,
    method: str,
    settings: dict[str, Any],
    seed: int,
    model: nn.Module,
    seconds: float,
    folder: Path,
    used: int,
) -> Record:
    count = {flag: sum(p.numel() for p in model.parameters() if p.requires_grad or flag) for flag in (True, False)}
    trained = dict.fromkeys(("trained", "changed", "stored"), count[False])
    record = Record(
        id=name, task=task.name, split="test", labels=used, backbone=backbone,
        backbone_sha256=backbones.weights_hash(backbone), method=method, settings=settings, seed=seed,
        metric=result.metric, score=result.score, predictions=list(result.predictions),
        parameters=trained | {"total": count[True]}, seconds=seconds, peak_memory_mb=None, command=COMMAND,
        **records.environment(),
    )  # fmt: skip
    records.save(record, folder, replace=True)
    print(f"{name:64} {record.metric} {record.score:.3f}", flush=True)
    return record


EXPERIMENTS: dict[str, Callable[..., list[Record]]] = {
    "attribution": attribution, "size": size, "transfer": transfer, "labels": labels,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments from the command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND.partition(" --")[0], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="one seed, short runs: to see that all works")
    parser.add_argument("--out", type=Path, default=records.own_folder() / "challenges")
    given = parser.parse_args(arguments)
    for name in given.only:
        EXPERIMENTS[name](given.backbone, given.out, given.seeds[:1] if given.quick else given.seeds, given.quick)


if __name__ == "__main__":
    main()

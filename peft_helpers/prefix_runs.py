"""Lesson 10's recorded sweeps on trails: length, beginning, no MLP, embedding only, few examples, infix.

    python -m peft_helpers.prefix_runs --out peft_helpers/pocket/records/prefix

Every run takes about `STEPS` steps, however few examples it has, so that all have the same time to learn. A family's
rate (prefix, prefix without MLP, prompt, adapters, full) is chosen once, on a held-out fifth of `TUNING_LABELS`
examples, in shorter runs.
The model that was trained writes for the whole test split; of a prefix, λ is measured too.

A finished run is on the disk at once, and an experiment that was stopped goes on where it was; what was made with other
weights or settings is made anew. About 35 minutes of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_helpers import backbones, batching, experiments, generation, methods, prefix_shares, records, tasks, training
from peft_helpers.adapter_records import own
from peft_helpers.records import Record
from peft_helpers.training import Settings

COMMAND = "python -m peft_helpers.prefix_runs --out peft_helpers/pocket/records/prefix"
TASK, BART, GPT2 = "trails", "pocket-bart", "pocket-gpt2"
STEPS, BATCH, MOST = 190, 16, 1500  # steps a run, about; examples a step; all examples of the task
TUNING_LABELS, TUNING_STEPS = 200, 60
LENGTH, LENGTHS = 20, (1, 5, 10, 20, 50)
FEW, SIZES, FEW_SEEDS = 50, (50, 150, 500, 1500), {50: (0, 1), 150: (0, 1)}
WORDS = "A text about a trail, from its name, length, climb, surface, sight, season and shape:"
DIRECT = "PrefixTuning without MLP"  # a family of its own: it wants another rate
RATES: dict[str, tuple[float, ...]] = {
    "PrefixTuning": (1e-3, 3e-3), DIRECT: (1e-2, 3e-2, 1e-1), "PromptTuning": (1e-2, 3e-2), "Houlsby": (1e-3, 3e-3),
    "full": (3e-4, 1e-3),
}  # fmt: skip
GLANCE = 8  # dev texts while training: there they decide nothing
SHARED = 12  # test texts on which λ is measured


@dataclass(frozen=True)
class Plan:
    """One point of a sweep.

    Attributes:
        name: for people and for the record's id, "PrefixTuning 20, zero".
        method, options: as `experiments.prepare` takes them; `words` among them stands for the model's own tokens of
            `WORDS`, and `infix` for the token at which a decoder's source ends.
        labels: examples to learn from.
        backbone, seeds: whose weights; one run each.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: int = MOST
    backbone: str = BART
    seeds: tuple[int, ...] = (0,)

    @property
    def family(self) -> str:
        """Whose rate it takes, a key of `RATES`."""
        return DIRECT if "hidden" in self.options and self.options["hidden"] is None else self.method

    def id(self, seed: int) -> str:
        """Of a seed's record; the same point of two sweeps is one run."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")
        return f"prefix-{TASK}-{self.labels}-{self.backbone}-{plain}-{seed}".replace("/", "--")


def prefix(length: int = LENGTH, labels: int = MOST, how: str = "", **more: Any) -> Plan:
    """A plan with a prefix; `how` says what is special about it."""
    seeds = (0,) if how or length != LENGTH else FEW_SEEDS.get(labels, (0,))
    name = f"prefix {length}" + (f", {how}" if how else "")
    return Plan(name, "PrefixTuning", {"length": length} | more, labels, seeds=seeds)


def few(name: str, method: str, labels: int, **options: Any) -> Plan:
    """A plan of another method, for the comparison with few examples."""
    return Plan(name, method, options, labels, seeds=FEW_SEEDS.get(labels, (0,)))


def on_decoder(name: str, **more: Any) -> Plan:
    """A plan with a prefix of 10 on the decoder-only network, where an infix has a place."""
    return Plan(name, "PrefixTuning", {"length": 10} | more, backbone=GPT2)


BEGINNINGS = {"random": {}, "zero": {"init": "zero"}, "real words": {"init": "activations", "words": True}}
EXPERIMENTS: dict[str, list[Plan]] = {
    "length": [prefix(length) for length in LENGTHS],
    "few": [
        plan
        for labels in SIZES
        for plan in (
            prefix(labels=labels),
            few("adapters", "Houlsby", labels, bottleneck=16),
            few("full", "full", labels),
        )
    ],
    "beginning": [
        prefix(labels=labels, how="" if how == "random" else how, **more)
        for labels in (FEW, MOST)
        for how, more in BEGINNINGS.items()
    ],
    "embedding": [
        Plan(f"prompt {length}", "PromptTuning", {"length": length}) for length in (1, LENGTH)
    ] + [prefix(1), prefix(LENGTH)],
    "mlp": [prefix(LENGTH), prefix(LENGTH, how="no MLP", hidden=None)],
    "infix": [on_decoder("prefix 10"), on_decoder("infix 10", infix=True)],
}  # fmt: skip


# ---------------------------------------------------------------- running


def run(plans: Iterable[Plan], folder: Path) -> list[Record]:
    """Do every plan that is not recorded yet, once a seed."""
    made = []
    for plan in plans:
        for seed in plan.seeds:
            tuned = rates(plan, folder)
            settings = settings_of(plan.labels, experiments.best_rate(tuned)["learning_rate"], seed)
            if (record := _known(plan, folder, settings)) is None:
                record = _do(plan, settings, tuned, folder)
                told = {name: value and round(value, 3) for name, value in record.settings["scores"].items()}
                print(f"{record.id:60} {record.seconds:4.0f} s  {told}", flush=True)
            made.append(record)
    return made


def rates(plan: Plan, folder: Path) -> list[dict]:
    """What every rate of the plan's family scores on held-out train, in short runs; from the disk where known."""
    task = tasks.load(TASK).subset(min(TUNING_LABELS, MOST), 0).short_dev(GLANCE)
    settings = settings_of(len(task.splits["train"]), RATES[plan.family][0], 0, TUNING_STEPS)
    typical = {"PrefixTuning": {"length": LENGTH}, "PromptTuning": {"length": LENGTH}, "Houlsby": {"bottleneck": 16}}
    options = typical.get(plan.method)
    if plan.family == DIRECT:
        options = {"length": LENGTH, "hidden": None}
    weights = (backbones.weights_hash(plan.backbone) or "none")[:8]  # chosen rates are of no use to other weights
    place = folder / f"weights-{weights}"
    return experiments.tune(task, plan.backbone, plan.method, RATES[plan.family], settings, place, options)


def settings_of(labels: int, rate: float, seed: int, steps: int | None = None) -> Settings:
    """About `STEPS` steps, whole epochs."""
    epochs = max(1, round((STEPS if steps is None else steps) / -(-labels // BATCH)))
    return Settings(rate, epochs=epochs, batch_size=BATCH, seed=seed, keep_best=False, progress=False, precision="fp32")


def options_of(plan: Plan, tokenizer) -> dict[str, Any]:
    """The method's own settings: words and the end of the source as this tokenizer's tokens."""
    options = dict(plan.options)
    if options.pop("words", False):
        options["init_tokens"] = tuple(tokenizer(WORDS, add_special_tokens=False)["input_ids"])
    if options.pop("infix", False):
        options["infix_after"] = tokenizer(batching.ARROW, add_special_tokens=False)["input_ids"][-1]
    return options


def _do(plan: Plan, settings: Settings, tuned: Sequence[dict], folder: Path) -> Record:
    whole = tasks.load(TASK)
    task = whole.subset(min(plan.labels, len(whole.splits["train"])), settings.seed).short_dev(GLANCE)
    _, tokenizer = backbones.load(plan.backbone, task)
    model, tokenizer = experiments.prepare(plan.backbone, task, plan.method, options_of(plan, tokenizer), settings.seed)
    done = training.fit(model, tokenizer, task, settings)
    written = generation.evaluate(model, tokenizer, task, "test")
    about: dict[str, Any] = {
        "experiment": "prefix", "plan": plan.name, "method_settings": dict(plan.options), "tuned_rates": list(tuned),
        "scores": written.scores(), "texts": written.texts[: experiments.SHOWN], "predictions_are": "slot errors",
    }  # fmt: skip
    stored = None
    if hasattr(model, "adaptation"):
        stored = sum(tensor.numel() for tensor in model.adaptation.method.stored(model).values())
    if plan.method == "PrefixTuning":
        methods.drop_mlp(model)
        test = task.splits["test"].select(range(min(SHARED, len(task.splits["test"]))))
        sources, texts = list(test[task.text_columns[0]]), [references[0] for references in test["label"]]
        found = prefix_shares.prefix_shares(model, tokenizer, sources, texts)
        about["shares"] = {part: shares.mean(1).tolist() for part, shares in found.items()}
    result = training.Evaluation(task.metric, written.bleu, 0.0, written.slot_errors, [0] * len(written.texts))
    label = f"{plan.name}, about {STEPS} steps"  # not the name of a method with its settings: another kind of run
    done = dataclasses.replace(done, history=[])
    record = experiments.to_record(plan.id(settings.seed), done, result, label, about, COMMAND, stored)
    records.save(record, folder, replace=True)
    return record


def _known(plan: Plan, folder: Path, settings: Settings) -> Record | None:
    """The record of this run, if it was made with the weights that are installed, and in this way."""
    path = folder / f"{plan.id(settings.seed)}.json"
    if not path.is_file():
        return None
    known = records.read(path)
    same = all(known.settings.get(key) == getattr(settings, key) for key in ("learning_rate", "epochs", "batch_size"))
    same &= known.settings.get("method_settings") == dict(plan.options)
    return known if same and known.backbone_sha256 == backbones.weights_hash(plan.backbone) else None


# ---------------------------------------------------------------- reading


def recorded(experiment: str, folder: str | Path | None = None) -> list[tuple[Plan, list[Record]]]:
    """The plans of one experiment that are recorded, each with its records, in the plans' order.

    Of the weights that are installed, or, where there are none of those, of others.

    Raises:
        ValueError: no such experiment.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}; got {experiment!r}")
    shelf = own(r for r in records.load(folder, task=TASK) if r.settings.get("experiment") == "prefix")
    by_id = {record.id: record for record in shelf}
    found = [
        (plan, [by_id[plan.id(seed)] for seed in plan.seeds if plan.id(seed) in by_id])
        for plan in EXPERIMENTS[experiment]
    ]
    return [(plan, runs) for plan, runs in found if runs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweeps from the command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND.partition(" --")[0], description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--out", type=Path, default=records.own_folder() / "prefix")
    given = parser.parse_args(arguments)
    for name in given.only:
        run(EXPERIMENTS[name], given.out)


if __name__ == "__main__":
    main()

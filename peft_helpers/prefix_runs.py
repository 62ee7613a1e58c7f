"""Lesson 10's recorded sweeps on trails and E2E: length, beginning, no MLP, embedding only, few examples, infix.

    python -m peft_helpers.prefix_runs --out peft_helpers/pocket/records/prefix

Every run takes about `STEPS` steps, however few examples it has, so that all have the same time to learn. A family's
rate (prefix, prefix without MLP, prompt, adapters, full) is chosen once a task, on a held-out fifth of `TUNING_LABELS`
examples, in shorter runs.
The model that was trained writes for the whole test split; of a prefix, λ is measured too.

A finished run is on the disk at once, and an experiment that was stopped goes on where it was; what was made with other
weights or settings is made anew. About 2 hours of one core. E2E is not part of the package (see `tasks`).
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
TASK, E2E, BART, GPT2 = "trails", "e2e", "pocket-bart", "pocket-gpt2"
STEPS, BATCH, MOST = 190, 16, 1500  # steps a run, about; examples a step; all examples of trails
TUNING_LABELS, TUNING_STEPS = 200, 60
LENGTH, LENGTHS = 20, (1, 5, 10, 20, 50)
FEW, SIZES, E2E_SIZES = 50, (50, 150, 500, 1500), (50, 150, 500, 1500, 3000)
FEW_SEEDS = {50: (0, 1, 2), 150: (0, 1, 2)}  # few examples: which ones they are matters
WORDS = {
    TASK: "A text about a trail, from its name, length, climb, surface, sight, season and shape:",
    E2E: "A text about a restaurant, from its name, kind, food, price, rating, area and whether families are welcome:",
}
DIRECT = "PrefixTuning without MLP"  # a family of its own: it wants another rate
RATES: dict[str, tuple[float, ...]] = {
    "PrefixTuning": (1e-3, 3e-3, 1e-2), DIRECT: (3e-2, 1e-1, 3e-1), "PromptTuning": (3e-3, 1e-2, 3e-2),
    "Houlsby": (3e-3, 1e-2, 3e-2), "full": (3e-4, 1e-3, 3e-3),
}  # fmt: skip
PRECISION = {TASK: "fp32", E2E: "bf16"}
GLANCE = 8  # dev texts while training: there they decide nothing
SHARED = 12  # test texts on which λ is measured


@dataclass(frozen=True)
class Plan:
    """One point of a sweep.

    Attributes:
        name: for people and for the record's id, "PrefixTuning 20, zero".
        method, options: as `experiments.prepare` takes them; `words` among them stands for the model's own tokens of
            the task's `WORDS`, and `infix` for the token at which a decoder's source ends.
        labels: examples to learn from.
        backbone, seeds: whose weights; one run each.
        task: "trails" or "e2e".
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: int = MOST
    backbone: str = BART
    seeds: tuple[int, ...] = (0,)
    task: str = TASK

    @property
    def family(self) -> str:
        """Whose rate it takes, a key of `RATES`."""
        return DIRECT if "hidden" in self.options and self.options["hidden"] is None else self.method

    def id(self, seed: int) -> str:
        """Of a seed's record; the same point of two sweeps is one run."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")
        return f"prefix-{self.task}-{self.labels}-{self.backbone}-{plain}-{seed}".replace("/", "--")


def prefix(length: int = LENGTH, labels: int = MOST, how: str = "", **more: Any) -> Plan:
    """A plan with a prefix; `how` says what is special about it."""
    seeds = FEW_SEEDS.get(labels, (0,))
    name = f"prefix {length}" + (f", {how}" if how else "")
    return Plan(name, "PrefixTuning", {"length": length} | more, labels, seeds=seeds)


def few(name: str, method: str, labels: int, **options: Any) -> Plan:
    """A plan of another method, for the comparison with few examples."""
    return Plan(name, method, options, labels, seeds=FEW_SEEDS.get(labels, (0,)))


def on_decoder(name: str, **more: Any) -> Plan:
    """A plan with a prefix of 10 on the decoder-only network, where an infix has a place."""
    return Plan(name, "PrefixTuning", {"length": 10} | more, backbone=GPT2)


def on_e2e(plan: Plan) -> Plan:
    """The same plan on the real task."""
    return dataclasses.replace(plan, task=E2E)


BEGINNINGS = {"random": {}, "zero": {"init": "zero"}, "real words": {"init": "activations", "words": True}}
COMPARED = [[prefix(labels=n), few("adapters", "Houlsby", n, bottleneck=16), few("full", "full", n)] for n in E2E_SIZES]
BEGUN = [
    prefix(labels=labels, how="" if how == "random" else how, **more)
    for labels in (FEW, MOST)
    for how, more in BEGINNINGS.items()
]
EXPERIMENTS: dict[str, list[Plan]] = {
    "length": [prefix(length) for length in LENGTHS],
    "few": [plan for plans in COMPARED for plan in plans if plan.labels in SIZES],
    "beginning": BEGUN,
    "few-e2e": [on_e2e(plan) for plans in COMPARED for plan in plans],
    "length-e2e": [on_e2e(prefix(length)) for length in LENGTHS],
    "beginning-e2e": [on_e2e(plan) for plan in BEGUN if plan.labels == FEW],
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
            settings = settings_of(plan, experiments.best_rate(tuned)["learning_rate"], seed)
            if (record := _known(plan, folder, settings, tuned)) is None:
                record = _do(plan, settings, tuned, folder)
                told = {name: value and round(value, 3) for name, value in record.settings["scores"].items()}
                print(f"{record.id:60} {record.seconds:4.0f} s  {told}", flush=True)
            made.append(record)
    return made


def rates(plan: Plan, folder: Path) -> list[dict]:
    """What every rate of the plan's family scores on held-out train, in short runs; from the disk where known."""
    task = tasks.load(plan.task).subset(min(TUNING_LABELS, MOST), 0).short_dev(GLANCE)
    short = dataclasses.replace(plan, labels=len(task.splits["train"]))
    settings = settings_of(short, RATES[plan.family][0], 0, TUNING_STEPS)
    typical = {"PrefixTuning": {"length": LENGTH}, "PromptTuning": {"length": LENGTH}, "Houlsby": {"bottleneck": 16}}
    options = typical.get(plan.method)
    if plan.family == DIRECT:
        options = {"length": LENGTH, "hidden": None}
    weights = (backbones.weights_hash(plan.backbone) or "none")[:8]  # chosen rates are of no use to other weights
    place = folder / f"weights-{weights}"
    return experiments.tune(task, plan.backbone, plan.method, RATES[plan.family], settings, place, options)


def settings_of(plan: Plan, rate: float, seed: int, steps: int | None = None) -> Settings:
    """About `STEPS` steps, whole epochs."""
    epochs = max(1, round((STEPS if steps is None else steps) / -(-plan.labels // BATCH)))
    return Settings(rate, epochs=epochs, batch_size=BATCH, seed=seed, keep_best=False, progress=False,
                    precision=PRECISION[plan.task])  # fmt: skip


def options_of(plan: Plan, tokenizer) -> dict[str, Any]:
    """The method's own settings: words and the end of the source as this tokenizer's tokens."""
    options = dict(plan.options)
    if options.pop("words", False):
        options["init_tokens"] = tuple(tokenizer(WORDS[plan.task], add_special_tokens=False)["input_ids"])
    if options.pop("infix", False):
        options["infix_after"] = tokenizer(batching.ARROW, add_special_tokens=False)["input_ids"][-1]
    return options


def _do(plan: Plan, settings: Settings, tuned: Sequence[dict], folder: Path) -> Record:
    whole = tasks.load(plan.task)
    task = whole.subset(min(plan.labels, len(whole.splits["train"])), settings.seed).short_dev(GLANCE)
    _, tokenizer = backbones.load(plan.backbone, task)
    model, tokenizer = experiments.prepare(plan.backbone, task, plan.method, options_of(plan, tokenizer), settings.seed)
    done = training.fit(model, tokenizer, task, settings)
    written = generation.evaluate(model, tokenizer, task, "test")
    about: dict[str, Any] = {
        "experiment": "prefix", "plan": plan.name, "method_settings": dict(plan.options), "tuned_rates": list(tuned),
        "scores": written.scores(), "texts": written.texts[: experiments.SHOWN], "predictions_are": "slot errors",
    }  # fmt: skip
    if plan.method == "PrefixTuning":
        methods.drop_mlp(model)
        test = task.splits["test"].select(range(min(SHARED, len(task.splits["test"]))))
        sources, texts = list(test[task.text_columns[0]]), [references[0] for references in test["label"]]
        found = prefix_shares.prefix_shares(model, tokenizer, sources, texts)
        about["shares"] = {part: shares.mean(1).tolist() for part, shares in found.items()}
    result = training.Evaluation(task.metric, written.bleu, 0.0, written.slot_errors, [0] * len(written.texts))
    label = f"{plan.name}, about {STEPS} steps"  # not the name of a method with its settings: another kind of run
    done = dataclasses.replace(done, history=[])
    record = experiments.to_record(plan.id(settings.seed), done, result, label, about, COMMAND, model)
    records.save(record, folder, replace=True)
    return record


def _known(plan: Plan, folder: Path, settings: Settings, tuned: Sequence[dict]) -> Record | None:
    """The record of this run, if it was made with the weights that are installed, and in this way."""
    path = folder / f"{plan.id(settings.seed)}.json"
    if not path.is_file():
        return None
    known = records.read(path)
    same = all(known.settings.get(key) == getattr(settings, key) for key in ("learning_rate", "epochs", "batch_size"))
    same &= known.settings.get("method_settings") == dict(plan.options)
    if not same or known.backbone_sha256 != backbones.weights_hash(plan.backbone):
        return None
    tried = [row["learning_rate"] for row in known.settings.get("tuned_rates", [])]
    if tried != [row["learning_rate"] for row in tuned]:  # the same run, found among other rates
        known = dataclasses.replace(known, settings=known.settings | {"tuned_rates": list(tuned)})
        records.save(known, folder, replace=True)
    return known


# ---------------------------------------------------------------- reading


def recorded(experiment: str, folder: str | Path | None = None) -> list[tuple[Plan, list[Record]]]:
    """The plans of one experiment that are recorded, each with its records, in the plans' order.

    Of the weights that are installed, or, where there are none of those, of others.

    Raises:
        ValueError: no such experiment.
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}; got {experiment!r}")
    sweeps = [r for task in PRECISION for r in records.load(folder, task=task)]
    shelf = own(r for r in sweeps if r.settings.get("experiment") == "prefix")
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

"""Pruning explorer (lesson 07): kind and sparsity -> file, milliseconds and accuracy, from recorded runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from matplotlib.ticker import MaxNLocator

from peft_helpers import records
from peft_helpers.plots.style import COLORS, LINES, Percent, panels, percent_axis, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, steps

KINDS = {"global": "zeros, global", "tensor": "zeros, each matrix", "structured": "units removed"}
FIELDS = ("kind", "share", "recovered", "file_bytes", "zipped_bytes", "milliseconds", "time_share", "copy_time_share")
Key = tuple[str, float, bool]  # kind, share, recovered


@dataclass(frozen=True)
class Pruned:
    """One pruned model: megabytes of its file, and zipped; milliseconds, and as a share of the whole model's; accuracy.

    `copy_time_share` is the time of an identical copy of the whole model: as far from 1 as the measurement is inexact.
    """

    megabytes: float
    zipped: float
    milliseconds: float
    time_share: float
    copy_time_share: float
    score: float


@dataclass(frozen=True)
class PruningReading:
    """One state of the explorer: its three settings, and every pruned model."""

    kind: str
    share: float
    recovered: bool
    models: dict[Key, Pruned]

    @property
    def shown(self) -> Pruned:
        """The chosen model."""
        return self.models[self.kind, self.share, self.recovered]


def models_of(found: Iterable[Record]) -> dict[Key, Pruned]:
    """The models of a sweep by (kind, share, recovered); what nothing was pruned from stands under every kind.

    Raises:
        ValueError: no record of a pruned model, or a sweep with gaps.
    """
    models: dict[Key, Pruned] = {}
    for record in found:
        about = record.settings
        if not all(name in about for name in FIELDS):
            continue
        model = Pruned(
            megabytes=about["file_bytes"] / 1e6,
            zipped=about["zipped_bytes"] / 1e6,
            milliseconds=about["milliseconds"],
            time_share=about["time_share"],
            copy_time_share=about["copy_time_share"],
            score=record.score,
        )
        for kind in KINDS if about["kind"] == "none" else (about["kind"],):
            models[kind, about["share"], about["recovered"]] = model
    shares = sorted({share for _, share, _ in models})
    wanted = {(kind, share, recovered) for kind in KINDS for share in shares for recovered in (False, True)}
    if not models or wanted - set(models):
        lacking = ", ".join(map(str, sorted(wanted - set(models))[:3])) or "all of them"
        raise ValueError(f"records of pruned models are missing ({lacking}); python -m peft_helpers.pruning_runs")
    return models


class PruningView:
    """File, time and accuracy over the share that was pruned, a line a kind; the chosen model is marked."""

    @styled
    def __init__(self, models: dict[Key, Pruned], metric: str):
        self.models, self.metric = models, metric
        self.figure, axes = panels(3, width=WIDTH, height=HEIGHT)
        self.shares = sorted({share for _, share, _ in models})
        self.marks, self.scores = [], {}
        for panel, (name, field) in zip(axes, QUANTITIES.items(), strict=True):
            for (kind, label), look in zip(KINDS.items(), LINES, strict=False):
                values = [getattr(models[kind, share, False], field) for share in self.shares]
                (line,) = panel.plot(self.shares, values, **look, label=label, markersize=4)
                if field == "score":
                    self.scores[kind] = line
            everything = [getattr(model, field) for model in models.values()]
            low, high = (min(everything), max(everything)) if field == "score" else (0.0, max(everything))
            margin = 0.08 * (high - low) or 0.05
            panel.set(xlabel="share pruned", title=f"{metric}" if field == "score" else name, xlim=(-0.04, 0.96),
                      ylim=(low - (margin if field == "score" else 0), high + margin))  # fmt: skip
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_formatter(Percent())
            if field == "score":
                percent_axis(panel.yaxis, metric)
            self.marks += panel.plot(
                [0], [0], linestyle="none", marker="o", markersize=13, markerfacecolor="none", markeredgewidth=2,
                color=COLORS["black"],
            )  # fmt: skip
        handles, labels = axes[0].get_legend_handles_labels()
        self.figure.legend(handles, labels, loc="outside upper left", ncols=3, handlelength=2.4)
        self.moving = [*self.scores.values(), *self.marks]

    def show(self, reading: PruningReading) -> None:
        """Mark the chosen model, and draw the accuracies with or without recovery."""
        for kind, line in self.scores.items():
            line.set_data(self.shares, [self.models[kind, share, reading.recovered].score for share in self.shares])
        for mark, field in zip(self.marks, QUANTITIES.values(), strict=True):
            mark.set_data([reading.share], [getattr(reading.shown, field)])
        told = describe(reading, self.metric)
        self.figure.alt = (
            f"File size, milliseconds a batch and {self.metric} over the share that was pruned, three kinds. "
            + told.as_text().replace("\n", "; ")
        )


QUANTITIES = {"file, MB": "megabytes", "ms a batch": "milliseconds", "accuracy": "score"}


def describe(reading: PruningReading, metric: str = "accuracy") -> Readout:
    """The chosen model against the whole one, and all kinds at this share."""
    shown, whole = reading.shown, reading.models[reading.kind, 0.0, False]
    after = "after recovery training" if reading.recovered else "without recovery training"
    summary = (
        f"{KINDS[reading.kind].capitalize()}, {reading.share:.0%}, {after}: "
        f"file × {shown.megabytes / whole.megabytes:.2f}, time × {shown.time_share:.2f}, "
        f"{metric} {100 * shown.score:.1f} % (whole model {100 * whole.score:.1f} %). "
        f"An identical copy took × {shown.copy_time_share:.2f}, where 1.00 was due."
    )
    rows = []
    for kind, name in KINDS.items():
        model = reading.models[kind, reading.share, reading.recovered]
        rows.append([
            name, f"{model.megabytes:.1f} MB", f"{model.zipped:.1f} MB", f"{model.milliseconds:.0f}",
            f"{100 * model.score:.1f} %",
        ])  # fmt: skip
    return Readout(summary, [f"at {reading.share:.0%}", "file", "zipped", "ms a batch", metric], rows)


def pruning_explorer(found: Iterable[Record] | None = None, backbone: str = "pocket-bert") -> Explorer:
    """Kind of pruning, share and recovery -> size, time and accuracy of the recorded models.

    Args:
        found: the records of a sweep (`peft_helpers.pruning_runs`); by default those that ship with the course.
        backbone: whose shipped records.

    Raises:
        ValueError: no such records, or a sweep with gaps.
    """
    if found is None:
        found = [record for record in records.load(backbone=backbone) if record.method.startswith("pruned ")]
    found = list(found)
    models = models_of(found)
    metric = next(record.metric for record in found)
    shares = sorted({share for _, share, _ in models})
    controls = {
        "kind": choice("kind", [(label, kind) for kind, label in KINDS.items()], "structured"),
        "share": steps("share pruned", [(f"{share:.0%}", share) for share in shares], shares[len(shares) // 2]),
        "recovered": steps("recovery", [("none", False), ("trained", True)], False),
    }
    return Explorer(
        "pruning", "Explorer of pruned models", controls,
        lambda kind, share, recovered: PruningReading(kind, share, recovered, models),
        partial(PruningView, models, metric), partial(describe, metric=metric),
    )  # fmt: skip

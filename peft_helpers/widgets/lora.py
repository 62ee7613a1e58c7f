"""Explorer of ranks (lesson 12): rank -> the share of a full update's spectrum that is kept, and the accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from peft_helpers import lora_runs, spectra
from peft_helpers.plots.lora import RANDOM, draw_scores
from peft_helpers.plots.style import COLORS, LINES, Percent, panels, score, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, steps

ALL = "all matrices"


@dataclass(frozen=True)
class Ranks:
    """What the records say, averaged over seeds.

    Attributes:
        cuts: the ranks that full updates were cut to, 0 first.
        energy: kind of matrix -> (cuts,) mean share of the energy kept; `ALL` is the mean over all matrices.
        random: kind -> the same for random matrices of those sizes.
        effective: kind -> mean effective rank of the whole update.
        cut_scores: rank -> scores by seed, the update cut to that rank and not trained again.
        lora_scores: rank -> scores by seed of LoRA trained at that rank; empty if none is recorded.
        whole: mean score of the uncut update.
        metric: of the records.
    """

    cuts: tuple[int, ...]
    energy: dict[str, np.ndarray]
    random: dict[str, np.ndarray]
    effective: dict[str, float]
    cut_scores: dict[int, list[float]]
    lora_scores: dict[int, list[float]]
    whole: float
    metric: str


@dataclass(frozen=True)
class RankReading:
    """One state: the kind of matrices, the rank, and all that is recorded."""

    kind: str
    rank: int
    ranks: Ranks

    @property
    def kept(self) -> float:
        return float(self.ranks.energy[self.kind][self.ranks.cuts.index(self.rank)])

    @property
    def random(self) -> float:
        return float(self.ranks.random[self.kind][self.ranks.cuts.index(self.rank)])


def ranks_of(full: Iterable[Record], trained: Iterable[Record] = ()) -> Ranks:
    """The recorded experiments `lora_runs.full` and `lora_runs.lora("rank")`, all seeds together.

    Raises:
        ValueError: no records of whole updates, or a cut that is missing for a seed.
    """
    groups: dict[int | None, dict[int, Record]] = {}
    for record in full:
        if record.settings.get("experiment") == "full":
            groups.setdefault(record.settings["cut"], {})[record.seed] = record
    whole = groups.get(None, {})
    cuts = tuple(next(iter(whole.values())).settings["cuts"]) if whole else ()
    lacking = [cut for cut in cuts if set(groups.get(cut, ())) != set(whole)]
    if not whole or lacking:
        told = f"cut to rank {lacking[0]}" if whole else "all of them"
        raise ValueError(f"records of cut updates are missing ({told}); {lora_runs.COMMAND} --only full")
    tables: dict[str, list[tuple[list[float], list[float], float]]] = {}
    for record in whole.values():
        for name, about in record.settings["spectra"].items():
            chance = record.settings["chance"][" × ".join(map(str, about["shape"]))]
            row = (about["energy"], chance, about["effective_rank"])
            for kind in (ALL, spectra.kind(name)):
                tables.setdefault(kind, []).append(row)
    lora: dict[int, list[float]] = {}
    for record in trained:
        lora.setdefault(record.settings["rank"], []).append(record.score)
    return Ranks(
        cuts,
        {kind: np.mean([row[0] for row in rows], axis=0) for kind, rows in tables.items()},
        {kind: np.mean([row[1] for row in rows], axis=0) for kind, rows in tables.items()},
        {kind: float(np.mean([row[2] for row in rows])) for kind, rows in tables.items()},
        {cut: [record.score for record in groups[cut].values()] for cut in cuts},
        lora,
        float(np.mean([record.score for record in whole.values()])),
        next(iter(whole.values())).metric,
    )


class RankView:
    """Left, energy kept over the rank, beside random matrices; right, the score of the cut update and of LoRA."""

    @styled
    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.figure, (left, right) = panels(2, width=WIDTH, height=HEIGHT)
        places = range(len(ranks.cuts))
        (self.energy,) = left.plot(places, [0.0] * len(places), **{**LINES[0], "markersize": 4}, label="full update")
        (self.random,) = left.plot(places, [0.0] * len(places), **RANDOM, label="random matrix")
        left.set(xlabel="rank", ylabel="energy kept", ylim=(-0.03, 1.05), xlim=(-0.5, len(places) - 0.5))
        left.set_xticks(places, [str(cut) for cut in ranks.cuts], fontsize=9)
        _label_percent(left, np.linspace(0, 1, 6))
        left.legend(loc="upper left", fontsize=9.5, handlelength=2.2)
        ways = {"full update, cut": ranks.cut_scores}
        ways |= {"LoRA": ranks.lora_scores} if ranks.lora_scores else {}
        self.places = list(draw_scores(right, ways, {"full": ranks.whole}, ranks.metric))
        right.tick_params(axis="x", labelsize=9)
        right.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize=9.5, handlelength=2.2,
                     borderaxespad=0.2, columnspacing=1.2)  # fmt: skip
        ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgewidth": 2, "linestyle": "none",
                "color": COLORS["black"]}  # fmt: skip
        limits = right.get_ylim()  # before the ring, which is nowhere yet
        self.mark, self.scored = left.plot([0], [0.0], **ring)[0], right.plot([0], [limits[0]], **ring)[0]
        right.set_ylim(*limits)
        if ranks.metric in ("accuracy", "f1"):
            _label_percent(right, right.get_yticks())
        left.set_title(" ")  # keeps the place of the moving title
        self.title = left.text(0.0, 1.03, "", transform=left.transAxes, ha="left", va="bottom", fontweight="bold")
        self.title.set_in_layout(False)
        self.moving = [self.energy, self.random, self.mark, self.scored, self.title]
        for _ in range(2):  # the second pass knows how wide the tick labels are
            self.figure.get_layout_engine().execute(self.figure)
        self.figure.set_layout_engine("none")  # moving artists must not move the axes

    def show(self, reading: RankReading) -> None:
        """Draw this kind's curve, and ring the chosen rank in both panels."""
        ranks, at = self.ranks, self.ranks.cuts.index(reading.rank)
        self.energy.set_ydata(ranks.energy[reading.kind])
        self.random.set_ydata(ranks.random[reading.kind])
        self.mark.set_data([at], [reading.kept])
        self.scored.set_data([self.places.index(reading.rank)], [np.mean(ranks.cut_scores[reading.rank])])
        self.title.set_text(reading.kind)
        self.figure.alt = (
            "Left, the share of a full fine-tuning update's energy that is kept over the rank; right, the score of "
            "the cut update and of LoRA by rank. " + describe(reading).as_text().replace("\n", "; ")
        )


def _label_percent(axes: Axes, ticks: Iterable[float]) -> None:
    """Ticks that stay, with labels of equal precision."""
    low, high = axes.get_ylim()
    inside = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(inside, Percent().format_ticks(inside))


def describe(reading: RankReading) -> Readout:
    """The chosen rank: energy kept by kind of matrix, and the scores."""
    ranks = reading.ranks
    found = float(np.mean(ranks.cut_scores[reading.rank]))
    trained = ranks.lora_scores.get(reading.rank)
    lora = f"; LoRA trained at this rank {score(float(np.mean(trained)), ranks.metric)}" if trained else ""
    summary = (
        f"Rank {reading.rank}, {reading.kind}: {reading.kept:.0%} of the energy kept "
        f"(a random matrix {reading.random:.0%}). "
        f"All matrices' changes cut to this rank: {ranks.metric} {score(found, ranks.metric)} "
        f"(whole update {score(ranks.whole, ranks.metric)}){lora}."
    )
    at = ranks.cuts.index(reading.rank)
    rows = [
        [kind, f"{ranks.energy[kind][at]:.0%}", f"{ranks.random[kind][at]:.0%}", f"{ranks.effective[kind]:.0f}"]
        for kind in ranks.energy
    ]
    return Readout(summary, [f"at rank {reading.rank}", "kept", "random", "effective rank"], rows)


def rank_explorer(
    full: Iterable[Record] | None = None, trained: Iterable[Record] | None = None, backbone: str = "pocket-bert"
) -> Explorer:
    """Rank and kind of matrix -> energy kept of the recorded full updates, and the scores at that rank.

    Args:
        full: records of `lora_runs.full`; by default those that ship with the course.
        trained: records of LoRA by rank; by default those that ship with the course.
        backbone: whose shipped records.

    Raises:
        ValueError: no such records, or a cut that is missing.
    """
    full = lora_runs.recorded("full", backbone) if full is None else full
    trained = lora_runs.recorded("rank", backbone) if trained is None else trained
    ranks = ranks_of(full, trained)
    controls = {
        "rank": steps("rank", [(str(cut), cut) for cut in ranks.cuts], ranks.cuts[len(ranks.cuts) // 3]),
        "kind": steps("matrices", list(ranks.energy), ALL),
    }
    return Explorer(
        "rank", "Explorer of ranks", controls, lambda rank, kind: RankReading(kind, rank, ranks),
        partial(RankView, ranks), describe,
    )  # fmt: skip


__all__ = ["RankReading", "Ranks", "rank_explorer", "ranks_of"]

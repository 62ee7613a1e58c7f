"""Lesson 12's explorer and figures: controls move picture and values, gaps are named."""

from __future__ import annotations

import io
import re

import ipywidgets as W
import numpy as np
import pytest
from PIL import Image as Pixels
from test_adapter_runs import record

from peft_helpers import plots, widgets
from peft_helpers.plots.lora import draw_scores
from peft_helpers.plots.style import panels
from peft_helpers.widgets import explorer as frame

CUTS = [0, 1, 4, 16]


def swept(seeds: tuple[int, ...] = (0, 1)) -> tuple[list, list]:
    """Made-up records of cut updates, and of LoRA by rank."""
    full, lora = [], []
    about = {"query.weight": [0.0, 0.2, 0.6, 1.0], "bert.pooler.dense.weight": [0.0, 0.8, 0.9, 1.0]}
    names = {"query.weight": "bert.encoder.layer.0.attention.self.query.weight"}
    told = {
        names.get(name, name): {"shape": [16, 16], "energy": energy, "effective_rank": 8.0 - 4 * energy[1],
                                "moved": 0.05, "intruders": 1}
        for name, energy in about.items()
    }  # fmt: skip
    for seed in seeds:
        for cut, score in zip([None, *CUTS], (0.75, 0.25, 0.5, 0.75, 0.75), strict=True):
            settings = {"experiment": "full", "cut": cut}
            if cut is None:
                settings |= {"cuts": CUTS, "spectra": told, "chance": {"16 × 16": [0.0, 0.1, 0.4, 1.0]}}
            full.append(record(f"full {cut}", seed, score, settings=settings))
        lora += [record(f"LoRA {r}", seed, 0.5, settings={"experiment": "rank", "rank": r}) for r in (1, 4)]
    return full, lora


@pytest.fixture(scope="module")
def explorer() -> widgets.Explorer:
    return widgets.rank_explorer(*swept())


@pytest.mark.parametrize(("control", "value"), [("rank", 4), ("rank", 0), ("kind", "pooler")])
def test_controls_change_picture_and_readout_and_reset_restores_them(explorer, control, value) -> None:
    picture, readout = explorer.image.value, explorer.readout.value
    explorer.controls[control].value = value
    assert explorer.image.value != picture and explorer.readout.value != readout
    explorer.reset_button.click()
    assert explorer.image.value == picture and explorer.readout.value == readout


def test_it_says_what_the_records_say(explorer) -> None:
    ranks = explorer.compute(1, "query").ranks
    assert ranks.cuts == tuple(CUTS) and ranks.whole == 0.75 and ranks.metric == "accuracy"
    assert list(ranks.energy) == ["all matrices", "query", "pooler"]
    assert ranks.energy["all matrices"].tolist() == pytest.approx([0, 0.5, 0.75, 1])
    assert ranks.effective["query"] == pytest.approx(7.2) and ranks.lora_scores == {1: [0.5, 0.5], 4: [0.5, 0.5]}
    told = explorer.describe(explorer.compute(4, "query")).as_text()
    assert "Rank 4, query: 60% of the energy kept (a random matrix 40%)" in told
    assert "cut to this rank: accuracy 75.0 % (whole update 75.0 %); LoRA trained at this rank 50.0 %" in told
    assert "LoRA" not in explorer.describe(explorer.compute(16, "query")).summary
    for rank in CUTS:
        explorer.picture.jpeg(explorer.compute(rank, "pooler"))


def test_it_is_like_the_other_explorers(explorer) -> None:
    assert {"pf-rank-explorer", "pf-explorer"} <= set(explorer._dom_classes)
    assert 'aria-live="polite"' in explorer.readout.value and "needs a running notebook" in repr(explorer)
    assert all(getattr(control, "continuous_update", True) for control in explorer.controls.values())
    figure = widgets.static(explorer)
    assert explorer.describe(explorer.compute(**explorer.defaults)).summary in figure.alt
    width, height = Pixels.open(io.BytesIO(explorer.image.value)).size
    assert (explorer.image.layout.width, explorer.image.layout.height) == (f"{width // 2}px", f"{height // 2}px")
    static = np.asarray(Pixels.open(io.BytesIO(plots.png(figure, dpi=frame.IN_PICTURE))).convert("L"), dtype=float)
    alive = np.asarray(Pixels.open(io.BytesIO(explorer.image.value)).convert("L"), dtype=float)
    assert abs(static - alive).mean() < 2
    assert not re.search(r"\b(nan|inf)\b", repr(explorer))
    assert all(isinstance(control, W.SelectionSlider) for control in explorer.controls.values())


def test_gaps_are_named() -> None:
    full, lora = swept()
    with pytest.raises(ValueError, match=r"missing \(all of them\); python -m peft_helpers\.lora_runs"):
        widgets.rank_explorer([], [])
    with pytest.raises(ValueError, match=r"missing \(cut to rank 4\)"):
        widgets.rank_explorer([r for r in full if (r.settings["cut"], r.seed) != (4, 1)], lora)
    alone = widgets.rank_explorer([*full, record("other")], [])
    assert alone.compute(1, "query").ranks.lora_scores == {}


# ---------------------------------------------------------------- figures


def test_spectra_are_told_at_rank_1_and_8() -> None:
    values = np.linspace(0.2, 1, 9)
    told = plots.change_spectra({"query": values}, {"random": [0.1, 0.5, 1.0]}).alt
    assert "query 20% at rank 1, 90% at rank 8; random 10% at rank 1, 100% at rank 8" in told
    for wrong, message in (
        ({}, "nothing to draw"),
        ({"a": [0.5, 1.2]}, "a: shares lie between 0 and 1; got 0.5 to 1.2"),
        ({str(i): [1.0] for i in range(7)}, "more than 6"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.change_spectra(wrong)


def test_the_grid_tells_every_cell() -> None:
    cells = {(2.0, 1e-3): [0.5, 0.6], (8.0, 1e-3): 0.7, (2.0, 1e-2): 0.8}
    told = plots.alpha_and_rate(cells, dict.fromkeys(cells, 0.125)).alt
    assert "alpha 2, rate 0.001: dev accuracy 55.0 %" in told and "‖change‖ / ‖weights‖ 12.50%" in told
    assert "alpha 8, rate 0.01: dev accuracy –" in told
    with pytest.raises(ValueError, match="must have the same cells"):
        plots.alpha_and_rate(cells, {(2.0, 1e-3): 0.1})
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.alpha_and_rate({}, {})


def test_scores_stand_at_their_ranks_places() -> None:
    _, (axes,) = panels()
    ways = {"cut": {4: 0.7, 0: [0.4, 0.6]}, "LoRA": {4: 0.6}}
    assert draw_scores(axes, ways, {"full": 0.75}, "spearman") == [0, 4]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "4"]
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[0, 0.5], [1, 0.7]]
    for wrong in ({}, {"cut": {}}):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw_scores(axes, wrong, None, "accuracy")

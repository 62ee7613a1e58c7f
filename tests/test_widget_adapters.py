"""Lesson 08's explorers and figures: controls move picture and values, gaps are named."""

from __future__ import annotations

import itertools
import re

import pytest
from test_adapter_runs import record
from widget_cases import ExplorerTests, text

from peft_helpers import accounting, adapter_runs, plots, widgets
from peft_helpers.widgets import adapters as view


def swept(layers: int = 3, seeds: tuple[int, ...] = (0, 1), metric: str = "accuracy") -> list:
    """Made-up records of spans: every removed layer costs a tenth, and half of that in the loss."""
    found = []
    for seed in seeds:
        for first, last in [(None, None), *adapter_runs.all_spans(layers)]:
            removed = 0 if first is None else last - first + 1
            score = 0.9 - 0.1 * removed - 0.02 * seed - 0.01 * (first or 0)
            about = {"experiment": "span", "first": first, "last": last, "loss": 0.4 + 0.05 * removed}
            found.append(record(f"{first}-{last}", seed, score, settings=about, metric=metric))
    return found


def make(name: str) -> widgets.Explorer:
    """A fresh explorer by name."""
    return widgets.span_explorer(swept()) if name == "span" else widgets.size_explorer()


class TestAdapterExplorers(ExplorerTests):
    names = ("span", "size")
    changes = {
        "span": [("span", (0, 2)), ("span", (1, 1))],
        "size": [("model", "pocket-bert"), ("bottleneck", 256), ("tasks", 20)],
    }

    @pytest.fixture
    def made(self, name: str) -> widgets.Explorer:
        return make(name)


def test_the_span_says_what_the_records_say() -> None:
    explorer = make("span")
    spans = explorer.compute((0, 0)).spans
    assert (spans.layers, spans.seeds, spans.metric) == (3, 2, "accuracy")
    assert spans.whole == pytest.approx(0.89) and spans.scores[1, 2] == pytest.approx(0.68)
    assert spans.spreads[1, 2] == pytest.approx((0.67, 0.69)) and spans.losses[0, 2] == pytest.approx(0.55)
    told = explorer.describe(explorer.compute((1, 2))).as_text()
    assert "Without the adapters of layers 2 to 3, of 3 layers: accuracy 68.0 % (−21.0 points" in told
    assert "seeds from 67.0 % to 69.0 %" in told and "whole model 89.0 %, 0.400" in told
    assert "1 to 2" in told and "2 to 3" in told and "1 to 3" not in told.replace("2 to 3", "")
    assert "layers 1 to 2, of 3" in text(explorer)


def test_another_metric_is_no_percentage() -> None:
    explorer = widgets.span_explorer(swept(metric="spearman"))
    assert "spearman 0.79 (−0.100;" in explorer.describe(explorer.compute((0, 0))).as_text()


def test_the_size_says_what_the_formulas_say() -> None:
    explorer = make("size")
    reading = explorer.compute("BERT-large", 64, 9)
    assert reading.base == 335_141_888 and reading.per_task == 6_446_082
    assert reading.totals(9)["adapters"] / reading.base == pytest.approx(1.173, abs=1e-3)
    assert reading.one_adapter == accounting.adapter_parameters(1024, 64)
    told = explorer.describe(reading).as_text()
    assert "6,446,082 with norms and head, 1.92% of the model's 335,141,888" in told
    assert "9.00" in told and "1.17" in told and "26 MB" in told.replace("25.8 MB", "26 MB")
    for model, m, tasks in itertools.product(view.MODELS, (1, 512), (1, 50)):
        reading = explorer.compute(model, m, tasks)
        explorer.picture.jpeg(reading)
        assert not re.search(r"\b(nan|inf)\b", explorer.describe(reading).as_text())
    assert view.SizeReading("pocket-bert", 16, 1).base + 2 * 256 + 2 == 5_356_290


def test_gaps_are_named() -> None:
    with pytest.raises(ValueError, match=r"missing \(all of them\); python -m peft_helpers\.adapter_runs"):
        widgets.span_explorer([])
    with pytest.raises(ValueError, match=r"missing \(without layers \(0, 1\)\)"):
        widgets.span_explorer([r for r in swept() if (r.settings["last"], r.seed) != (1, 1) or r.settings["first"]])
    with pytest.raises(ValueError, match=r"missing \(the whole model\)"):
        widgets.span_explorer([r for r in swept() if r.settings["first"] is not None])
    assert widgets.span_explorer([*swept(), record("other")]).state() == {"span": (0, 1)}


# ---------------------------------------------------------------- figures


def test_the_placement_tells_the_order() -> None:
    told = plots.adapter_placement(256, 16).alt
    assert told.index("attention") < told.index("adapter") < told.index("residual sum") < told.index("layer norm")
    assert "256 numbers down to 16" in told
    with pytest.raises(ValueError, match="must be positive; got 0 and 4"):
        plots.adapter_placement(0, 4)


def test_sizes_are_told_with_their_shares() -> None:
    families = {
        "Houlsby": [("Houlsby 64", 0.05, [0.7, 0.8]), ("Houlsby 8", 0.01, [0.7])],
        "full": [("full", 1.0, 0.72)],
    }
    told = plots.size_against_score(families, {"majority class": 0.5}).alt
    assert (
        "Houlsby 8 70.0 % at 1.00%; Houlsby 64 75.0 % at 5.00%; full 72.0 % at 100.00%; majority class 50.0 %" in told
    )
    for wrong, message in (
        ({}, "nothing to draw"),
        ({"a": []}, "nothing to draw"),
        ({"probe": [("probe", 0.0, 0.5)]}, "trains a share of 0"),
        ({str(i): [("a", 0.1, 0.5)] for i in range(11)}, "11 methods can't be told apart"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.size_against_score(wrong)


def test_scales_are_told_in_order() -> None:
    told = plots.initialization_scales({1.0: [0.2, 0.3], 1e-7: 0.6}, baselines={"majority class": 0.125}).alt
    assert "60.0 % at 1e-07; 25.0 % at 1; majority class 12.5 %" in told
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.initialization_scales({})
    with pytest.raises(ValueError, match="positive standard deviations; got 0"):
        plots.initialization_scales({0.0: 0.5})


def test_forgetting_tells_first_and_last() -> None:
    ways = {"adapters": {"a": [0.7, 0.7], "b": [0.5]}, "full": {"a": [0.7, 0.1], "b": [float("nan"), 0.5]}}
    told = plots.forgetting(ways).alt
    assert "adapters, a: 0.7 when learned, 0.7 at the end" in told and "full, a: 0.7 when learned, 0.1" in told
    assert "full, b: 0.5 when learned, 0.5 at the end" in told
    with pytest.raises(ValueError, match="a in 'full' has no score"):
        plots.forgetting({"full": {"a": [float("nan")]}})
    for wrong in ({}, {"full": {}}):
        with pytest.raises(ValueError, match="nothing to draw"):
            plots.forgetting(wrong)

"""The dashboard: calculator, front under a budget, is it real?, which method for me; and the figures of lesson 13."""

from __future__ import annotations

import io
import json
import time

import ipywidgets as W
import numpy as np
import pytest
import test_comparison as made
from PIL import Image as Pixels

from peft_helpers import accounting, calculator, comparison, methods, plots, records, widgets
from peft_helpers.widgets import dashboard as page
from peft_helpers.widgets import explorer as frame

shelf = made.shelf  # three methods and three baselines on the sentiment task


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


# ---------------------------------------------------------------- the calculator


def test_the_calculator_shows_the_calculators_figures() -> None:
    explorer = widgets.calculator_explorer()
    reading = explorer.compute(**explorer.state())
    shape = calculator.backbone("BERT-base")
    assert reading.chosen == calculator.cost(shape, methods.LoRA(rank=8), batch=32, tokens=128, tasks=9)
    told = explorer.readout.value
    for number in ("296,450", "14,155,776", "109,483,778", accounting.megabytes(reading.chosen.memory.total)):
        assert number in told, number
    explorer.controls["half"].value = True
    assert explorer.compute(**explorer.state()).chosen.memory.weights < reading.chosen.memory.weights


@pytest.mark.parametrize("backbone", ["pocket-bert", "GPT-2", "BART-base", "Llama-2-7B"])
def test_every_method_is_drawn_or_says_why_not(backbone: str) -> None:
    explorer = widgets.calculator_explorer(backbone)
    for method in methods.available():
        explorer.controls["method"].value = method
        reading = explorer.compute(**explorer.state())
        assert reading.chosen is not None or "trains nothing" in reading.note
        assert (reading.chosen is None) == ("trains nothing" in explorer.readout.value)


def test_settings_that_a_backbone_has_not_are_adapted_and_said() -> None:
    explorer = widgets.calculator_explorer("pocket-bert")
    explorer.controls["tokens"].value = 512
    assert "pocket-bert reads 128 tokens at most" in explorer.readout.value
    explorer.controls["method"].value, explorer.controls["size"].value = "TopLayers", 64
    assert "pocket-bert has 4 layers" in explorer.readout.value and "TopLayers 4" in explorer.readout.value
    explorer.controls["backbone"].value = "GPT-2"
    assert "activations estimated" in explorer.readout.value


def test_a_change_of_the_calculator_is_fast() -> None:
    explorer = widgets.calculator_explorer()
    times = []
    for name in ("size", "batch", "tasks", "backbone", "method"):
        for place in range(6):
            started = time.process_time()
            explorer.controls[name].index = place
            times.append(time.process_time() - started)
    assert sorted(times)[len(times) // 2] < 0.08, times  # processor seconds; about 0.025 on the course's machine


# ---------------------------------------------------------------- the front


def test_the_budget_moves_the_front(shelf) -> None:
    explorer = widgets.front_explorer(shelf)
    whole = explorer.compute(**explorer.state())
    assert [one.name for one in whole.inside] == ["BitFit", "LoRA 4", "full"] and whole.best.name == "full"
    assert [one.name for one in whole.tied] == ["LoRA 4"]
    assert "Not told apart from it: LoRA 4; the cheapest of these is LoRA 4." in explorer.readout.value
    pictures = {explorer.image.value}
    explorer.controls["place"].value = 10
    reading = explorer.compute(**explorer.state())
    assert reading.best.name == "LoRA 4" and [one.name for one in reading.inside] == ["BitFit", "LoRA 4"]
    assert "All others that fit are shown to be behind" in explorer.readout.value
    assert "1 beyond the budget" in explorer.readout.value
    explorer.controls["place"].value = 0
    assert explorer.compute(**explorer.state()).best.name == "BitFit"
    pictures.add(explorer.image.value)
    for what in comparison.COSTS:
        explorer.controls["what"].value = what
        pictures.add(explorer.image.value)
        assert comparison.COSTS[what] in explorer.readout.value
    assert len(pictures) >= 5


def test_the_front_needs_records(tmp_path) -> None:
    with pytest.raises(ValueError, match="nothing is recorded with pocket-bert"):
        widgets.front_explorer(tmp_path)


# ---------------------------------------------------------------- is it real?


def test_any_two_results_are_compared(shelf) -> None:
    explorer = widgets.gap_explorer(shelf)
    names = [value for _, value in explorer.controls["first"].options]
    assert names == ["full", "LoRA(rank=4)", "BitFit", "linear probe", "bag of words", "scratch"]
    reading = explorer.compute(**explorer.state())
    board = comparison.board("sentiment", 200, folder=shelf)
    assert reading.gap == board.gap("full", "LoRA(rank=4)")
    assert "No difference is shown" in explorer.readout.value and "items" in explorer.readout.value
    explorer.controls["second"].value = "BitFit"
    assert "full would be ahead" in explorer.readout.value
    paired, unpaired = (explorer.compute(**explorer.state()).intervals[name] for name in ("paired", "unpaired"))
    assert paired[2] - paired[1] < unpaired[2] - unpaired[1]
    explorer.controls["second"].value = "full"
    assert "Choose two different results" in explorer.readout.value


def test_another_table_refills_the_choices(shelf) -> None:
    for seed in range(2):
        for method in ("full", "LoRA(rank=2)"):
            records.save(made.made(method, seed, made.answers(0.8, seed), 10, labels=1000), shelf)
    explorer = widgets.gap_explorer(shelf)
    explorer.controls["table"].value = ("sentiment", 1000)
    names = [value for _, value in explorer.controls["first"].options]
    assert set(names) == {"full", "LoRA(rank=2)"}
    explorer.reset()
    assert explorer.controls["table"].value == ("sentiment", 200)
    assert "LoRA 4" in explorer.readout.value


def test_labels_that_are_not_here_are_said(tmp_path) -> None:
    for method in ("full", "BitFit"):
        record = made.made(method, 0, made.answers(0.8, 1), 10, task="trec")
        classes = [index % 3 for index in range(len(record.predictions))]
        shown = made.dataclasses.replace(record, predictions=classes if method == "full" else classes[::-1])
        records.save(shown, tmp_path)
    explorer = widgets.gap_explorer(tmp_path)
    assert "the labels of trec are not here" in explorer.readout.value
    front = widgets.front_explorer(tmp_path)
    reading = front.compute(**front.state())
    assert reading.blind and not reading.tied and "test labels are not here" in front.readout.value


# ---------------------------------------------------------------- all explorers


@pytest.mark.parametrize("name", ["calculator", "front", "gap"])
def test_the_picture_is_one_image_with_a_static_twin(name: str, shelf) -> None:
    make = {"calculator": widgets.calculator_explorer, "front": widgets.front_explorer, "gap": widgets.gap_explorer}
    explorer = make[name]() if name == "calculator" else make[name](shelf)
    assert f"pf-{name}-explorer" in explorer._dom_classes
    figure = widgets.static(explorer)
    assert len(figure.alt.split()) > 10 and repr(explorer).count("\n") > 2
    static = np.asarray(Pixels.open(io.BytesIO(plots.png(figure, dpi=frame.IN_PICTURE))).convert("L"), dtype=float)
    alive = np.asarray(Pixels.open(io.BytesIO(explorer.image.value)).convert("L"), dtype=float)
    assert static.shape == alive.shape and abs(static - alive).mean() < 3
    image, picture, text = explorer.image, explorer.image.value, explorer.readout.value
    control = explorer.controls[{"calculator": "size", "front": "place", "gap": "second"}[name]]
    control.index = 2
    assert explorer.image is image and image.value != picture and explorer.readout.value != text
    explorer.reset()
    assert (image.value, explorer.readout.value) == (picture, text)
    allowed = (W.Dropdown, W.SelectionSlider, W.ToggleButtons, W.Button, W.Image, W.HTML, W.HBox, frame.Explorer)
    assert all(type(widget) in allowed for widget in walk(explorer))


# ---------------------------------------------------------------- the page


def test_the_dashboard_is_all_of_it(shelf) -> None:
    made_page = widgets.open_dashboard(shelf)
    (tabs,) = made_page.children
    titles = [tabs.get_title(place) for place in range(len(tabs.children))]
    assert titles == ["Calculator", "Recorded results", "Is it real?", "Which method?"]
    assert sum(isinstance(widget, W.Image) for widget in walk(made_page)) == 3


def test_which_method_for_me_follows_its_controls(shelf) -> None:
    panel = widgets.advice_panel(shelf)
    rows, answer = panel.children
    assert "1. LoRA 4" in answer.value and "Evidence: sentiment with 200 labels" in answer.value
    controls = {control.description: control for control in rows.children}
    controls["memory"].value = int(1e8)
    assert "No method fits this budget" in answer.value and "do not fit" in answer.value
    controls["memory"].value = page.NO_LIMIT
    controls["inference"].value = True
    assert "can&#x27;t be merged" in answer.value


def test_voila_has_a_page_of_its_own() -> None:
    notebook = json.loads(page.NOTEBOOK.read_text(encoding="utf-8"))
    source = "".join(notebook["cells"][-1]["source"])
    assert source == "from peft_helpers import widgets\n\nwidgets.open_dashboard()"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


# ---------------------------------------------------------------- figures


def test_the_front_is_told() -> None:
    points = [("a", "additive", 10.0, 0.7, 0.68, 0.72), ("b", "baseline", 1e6, 0.75, 0.73, 0.77)]
    told = plots.score_against_cost(points, ["a", "b"], {"majority class": 0.5}).alt
    assert "a 70.0 % (68.0 % to 72.0 %) at 10; b 75.0 %" in told and "on the Pareto front: a, b" in told
    for wrong, message in (
        (([], []), "nothing to draw"),
        ((points, ["c"]), "c is on the front and no point"),
        (([("a", "additive", 0.0, 0.7, 0.6, 0.8)], []), "a cost must be positive; a has another one"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.score_against_cost(*wrong)


def test_gaps_races_costs_and_choices_are_told() -> None:
    told = plots.gap_intervals({"a − b": (1.0, -0.5, 2.5), "c − b": (-4.0, -6.0, -2.0)}).alt
    assert "a − b +1.0 (-0.5 to 2.5); c − b -4.0 (-6.0 to -2.0, leaves out 0)" in told
    told = plots.race_lines({"a": [(0, 0.5), (10, 0.7)]}, "accuracy", floor=0.5).alt
    assert "a from 50.0 % to 70.0 % in 10 steps" in told
    memory = accounting.Memory(10**9, 10**8, 2 * 10**8, 5 * 10**8)
    told = plots.costs_side_by_side({"LoRA": memory}, {"LoRA": 1e9}).alt
    assert "LoRA 1,800 MB training, 1,000 MB on disk" in told
    told = plots.choice_on_test([1, 10], {"100 texts": [0.8, 0.86]}, 0.8).alt
    assert "100 texts: 80.0% for 1, 86.0% for 10" in told
    for draw in (
        lambda: plots.gap_intervals({}),
        lambda: plots.race_lines({}, "accuracy"),
        lambda: plots.race_lines({"a": []}, "accuracy"),
        lambda: plots.costs_side_by_side({}, {}),
        lambda: plots.choice_on_test([], {"a": []}, 0.8),
    ):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw()
    with pytest.raises(ValueError, match="the same methods on both sides"):
        plots.costs_side_by_side({"LoRA": memory}, {"BitFit": 1.0})


def test_ticks_are_round_numbers_and_hold_everything():
    assert [page.round_up(value) for value in (0.013, 0.26, 1.0, 7.0)] == pytest.approx([0.02, 0.5, 1.0, 10.0])
    for bottom, top in ((0.486, 0.77), (-0.03, 0.11), (61.2, 61.9)):
        low, high = page.round_range(bottom, top)
        step = (high - low) / (page.TICKS - 1)
        assert low <= bottom and top <= high and high - low <= 4 * (top - bottom)
        assert low / step == pytest.approx(round(low / step)), "the ticks are multiples of their distance"

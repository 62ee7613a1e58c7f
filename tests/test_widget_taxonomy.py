"""Lesson 11's explorer of memory: what it says is what a model of that shape gives."""

from __future__ import annotations

import pytest
from widget_cases import ExplorerTests, text

from peft_helpers import accounting, measured_costs, methods, widgets
from peft_helpers.widgets import taxonomy as view


@pytest.fixture
def made() -> widgets.Explorer:
    explorer = widgets.method_memory_explorer()
    explorer.controls["shape"].value = "pocket-bert"
    return explorer


class TestMemoryExplorer(ExplorerTests):
    names = ("memory",)
    changes = {
        "memory": [("method", "PrefixTuning"), ("batch", 64), ("shape", "pocket-bert"), ("precision", "16 bits")]
    }

    @pytest.fixture
    def made(self, name: str) -> widgets.Explorer:
        return widgets.method_memory_explorer()


def test_it_says_what_the_model_gives(made) -> None:
    for name, batch in (("LoRA", 4), ("MagnitudeMask", 32)):
        made.controls["method"].value, made.controls["batch"].value = name, batch
        model = measured_costs.blank_bert(methods.make(name), view.SHAPES["pocket-bert"])
        kept = measured_costs.saved_bytes(measured_costs.text_loss(model, batch, view.TOKENS), model)[1]
        memory = made.compute(**made.state()).memory()
        assert memory == measured_costs.memory_of(model, kept), "measured on one and two texts, and drawn on"
        assert f"{name} in pocket-bert, {batch} texts" in text(made)


def test_half_precision_is_for_frozen_weights_only() -> None:
    full, half = (view.MethodMemory("LoRA", "pocket-bert", 4, p).memory() for p in view.PRECISIONS)
    assert half.weights < 0.51 * full.weights and half.optimizer == full.optimizer
    whole = view.MethodMemory("LoRA", "pocket-bert", 4, "16 bits").memory("FullFineTuning")
    assert whole.weights == 4 * whole.optimizer // 8, "what is trained is float32"


def test_every_method_can_be_chosen(made) -> None:
    wanted = set(methods.available()) - {"FullFineTuning"}
    assert set(made.controls["method"].options) == wanted
    for name in ("SAID", "FishMask", "DiffPruning", "HeadOnly"):
        made.controls["method"].value = name
        assert name in text(made)


def test_base_says_what_the_lesson_says() -> None:
    told = widgets.method_memory_explorer().describe(view.MethodMemory("IA3", "BERT-base", 4, "float32")).as_text()
    assert "0.052% of the numbers are trained" in told and accounting.megabytes(319_400_000) in told

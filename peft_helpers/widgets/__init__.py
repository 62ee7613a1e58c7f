"""Explorers: sliders whose picture follows at once, each over the same mathematics that the lessons build.

An explorer is controls -> a reading (numbers from `losses`, `optimizers` or recorded runs) -> one picture and the exact
values in text. `explorer` holds what they share; `loss`, `descent`, `optimizer` and `curves` are the explorers. A page
without widgets shows `static(name)`, the picture of the default state, instead.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from peft_helpers.widgets.adapters import size_explorer, span_explorer
from peft_helpers.widgets.attribution import attribution_explorer
from peft_helpers.widgets.curves import curve_explorer
from peft_helpers.widgets.dashboard import (
    advice_panel,
    calculator_explorer,
    front_explorer,
    gap_explorer,
    open_dashboard,
)
from peft_helpers.widgets.descent import descent_explorer
from peft_helpers.widgets.explorer import Explorer
from peft_helpers.widgets.lora import rank_explorer
from peft_helpers.widgets.loss import loss_explorer
from peft_helpers.widgets.masking import mask_explorer
from peft_helpers.widgets.optimizer import optimizer_explorer
from peft_helpers.widgets.prefix import prefix_explorer
from peft_helpers.widgets.pruning import pruning_explorer
from peft_helpers.widgets.sampling import sampling_explorer
from peft_helpers.widgets.schedules import schedule_explorer
from peft_helpers.widgets.taxonomy import method_memory_explorer

__all__ = [
    "Explorer",
    "advice_panel",
    "attribution_explorer",
    "calculator_explorer",
    "curve_explorer",
    "descent_explorer",
    "front_explorer",
    "gap_explorer",
    "loss_explorer",
    "mask_explorer",
    "method_memory_explorer",
    "open_dashboard",
    "optimizer_explorer",
    "prefix_explorer",
    "pruning_explorer",
    "rank_explorer",
    "sampling_explorer",
    "schedule_explorer",
    "size_explorer",
    "span_explorer",
    "static",
]

EXPLORERS = {
    "loss": loss_explorer,
    "descent": descent_explorer,
    "optimizer": optimizer_explorer,
    "schedule": schedule_explorer,
}


def static(explorer: str | Explorer) -> Figure:
    """The picture of an explorer's default state, to stand beside the widget: `plots.show(widgets.static("loss"))`.

    Args:
        explorer: "loss", "descent", "optimizer", or an explorer itself (such as one from `curve_explorer`).

    Raises:
        ValueError: on an unknown name.
    """
    if isinstance(explorer, Explorer):
        return explorer.static()
    if explorer not in EXPLORERS:
        raise ValueError(f"unknown explorer {explorer!r}; there are {', '.join(EXPLORERS)}")
    return EXPLORERS[explorer]().static()

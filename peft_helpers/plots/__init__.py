"""The course's figures: pure functions from numbers to a matplotlib Figure, with a text alternative in `figure.alt`.

`style` holds what they share, `training` the figures of runs and their comparison, `optimization` those of paths and
step sizes, `losses` those of logits and gradients, `pretraining` those of
how the pocket models were made. `show(figure)` puts one into a notebook.
"""

from __future__ import annotations

from peft_helpers.plots.adapters import adapter_placement, forgetting, initialization_scales, size_against_score
from peft_helpers.plots.costs import gradient_range, memory_bars, storage_by_tasks
from peft_helpers.plots.decoding import cross_attention, loss_and_writing
from peft_helpers.plots.encoder import anatomy, attention_maps, parameter_shares
from peft_helpers.plots.losses import loss_and_gradient, probability_bars
from peft_helpers.plots.optimization import (
    loss_landscape_path,
    one_dimensional_descent,
    stability_region,
    step_sizes,
)
from peft_helpers.plots.pretraining import pretraining_curves
from peft_helpers.plots.schedules import fitting, range_test, schedule_shapes, seed_spread, stopped_runs
from peft_helpers.plots.style import COLORS, LINES, STYLE, panels, png, show, styled
from peft_helpers.plots.training import broken_runs, compare, label_efficiency, learning_rate_sweep, training_curve

__all__ = [
    "COLORS",
    "LINES",
    "STYLE",
    "adapter_placement",
    "anatomy",
    "attention_maps",
    "broken_runs",
    "compare",
    "cross_attention",
    "fitting",
    "forgetting",
    "gradient_range",
    "initialization_scales",
    "label_efficiency",
    "learning_rate_sweep",
    "loss_and_gradient",
    "loss_and_writing",
    "loss_landscape_path",
    "memory_bars",
    "one_dimensional_descent",
    "panels",
    "parameter_shares",
    "png",
    "pretraining_curves",
    "probability_bars",
    "range_test",
    "schedule_shapes",
    "seed_spread",
    "show",
    "size_against_score",
    "stability_region",
    "step_sizes",
    "stopped_runs",
    "storage_by_tasks",
    "styled",
    "training_curve",
]

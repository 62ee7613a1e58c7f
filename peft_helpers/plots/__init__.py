"""The course's figures: pure functions from numbers to a matplotlib Figure, with a text alternative in `figure.alt`.

`style` holds what they share, `training` the figures of runs and their comparison, `optimization` those of paths and
step sizes, `losses` those of logits and gradients, `pretraining` those of
how the pocket models were made. `show(figure)` puts one into a notebook.
"""

from __future__ import annotations

from peft_helpers.plots.adapters import adapter_placement, forgetting, initialization_scales, size_against_score
from peft_helpers.plots.challenges import (
    attribution_and_deletion,
    completeness,
    layer_comparison,
    size_and_score,
    word_bars,
)
from peft_helpers.plots.comparison import (
    choice_on_test,
    costs_side_by_side,
    gap_intervals,
    race_lines,
    score_against_cost,
)
from peft_helpers.plots.costs import gradient_range, memory_bars, storage_by_tasks
from peft_helpers.plots.decoding import cross_attention, loss_and_writing
from peft_helpers.plots.encoder import anatomy, attention_maps, parameter_shares
from peft_helpers.plots.lora import alpha_and_rate, change_spectra
from peft_helpers.plots.losses import loss_and_gradient, probability_bars
from peft_helpers.plots.optimization import (
    loss_landscape_path,
    one_dimensional_descent,
    stability_region,
    step_sizes,
)
from peft_helpers.plots.prefix import prefix_placement, prefix_shares, score_by_length
from peft_helpers.plots.pretraining import pretraining_curves
from peft_helpers.plots.schedules import fitting, range_test, schedule_shapes, seed_spread, stopped_runs
from peft_helpers.plots.style import COLORS, LINES, STYLE, panels, png, show, styled
from peft_helpers.plots.taxonomy import family_tree, memory_by_method, scores_by_family, subset_and_subspace
from peft_helpers.plots.training import broken_runs, compare, label_efficiency, learning_rate_sweep, training_curve

__all__ = [
    "COLORS",
    "LINES",
    "STYLE",
    "adapter_placement",
    "alpha_and_rate",
    "anatomy",
    "attention_maps",
    "attribution_and_deletion",
    "broken_runs",
    "change_spectra",
    "choice_on_test",
    "compare",
    "completeness",
    "costs_side_by_side",
    "cross_attention",
    "family_tree",
    "fitting",
    "forgetting",
    "gap_intervals",
    "gradient_range",
    "initialization_scales",
    "label_efficiency",
    "layer_comparison",
    "learning_rate_sweep",
    "loss_and_gradient",
    "loss_and_writing",
    "loss_landscape_path",
    "memory_bars",
    "memory_by_method",
    "one_dimensional_descent",
    "panels",
    "parameter_shares",
    "png",
    "prefix_placement",
    "prefix_shares",
    "pretraining_curves",
    "probability_bars",
    "race_lines",
    "range_test",
    "schedule_shapes",
    "score_against_cost",
    "score_by_length",
    "scores_by_family",
    "seed_spread",
    "show",
    "size_against_score",
    "size_and_score",
    "stability_region",
    "step_sizes",
    "stopped_runs",
    "storage_by_tasks",
    "styled",
    "subset_and_subspace",
    "training_curve",
    "word_bars",
]

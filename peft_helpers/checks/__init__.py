"""Checkers for the exercises: `checks.check_…(answer)` says whether it is right, and if not, which mistake it makes.

`framework` holds what they share; the other modules hold one lesson's exercises each.
"""

from __future__ import annotations

from peft_helpers.checks.adam import (
    check_adam_step,
    check_adamw,
    check_clip_gradients,
    check_first_uncorrected_step,
    check_optimizer_memory,
    check_rmsprop_step,
    check_step_sizes,
)
from peft_helpers.checks.descent import (
    check_broken_run,
    check_curvature,
    check_gradient_descent,
    check_momentum_step,
    check_nesterov_step,
    check_numerical_gradient,
    check_stability_limits,
    check_training_loop,
)
from peft_helpers.checks.fine_tuning import (
    check_labels_used,
    check_macro_f1,
    check_paired_interval,
    check_real_gaps,
    check_spearman,
    check_training_run,
)
from peft_helpers.checks.framework import (
    ChoiceExercise,
    FunctionExercise,
    Mistake,
    NumberExercise,
    Probe,
    Verdict,
    WrongNumber,
    call,
    odd_numbers,
)
from peft_helpers.checks.losses import (
    check_binary_cross_entropy,
    check_constant_predictor,
    check_cross_entropy,
    check_cross_entropy_gradient,
    check_double_softmax_floor,
    check_perplexity,
    check_regression_loss,
    check_smoothed_cross_entropy,
    check_softmax,
)
from peft_helpers.checks.reading import (
    check_claims,
    check_loss_and_accuracy,
    check_majority_accuracy,
    check_quoted_accuracy,
    check_shipped_step,
    check_step_to_ship,
)

__all__ = [
    "ChoiceExercise",
    "FunctionExercise",
    "Mistake",
    "NumberExercise",
    "Probe",
    "Verdict",
    "WrongNumber",
    "call",
    "check_adam_step",
    "check_adamw",
    "check_binary_cross_entropy",
    "check_broken_run",
    "check_claims",
    "check_clip_gradients",
    "check_constant_predictor",
    "check_cross_entropy",
    "check_cross_entropy_gradient",
    "check_curvature",
    "check_double_softmax_floor",
    "check_first_uncorrected_step",
    "check_gradient_descent",
    "check_labels_used",
    "check_loss_and_accuracy",
    "check_macro_f1",
    "check_majority_accuracy",
    "check_momentum_step",
    "check_nesterov_step",
    "check_numerical_gradient",
    "check_optimizer_memory",
    "check_paired_interval",
    "check_perplexity",
    "check_quoted_accuracy",
    "check_real_gaps",
    "check_regression_loss",
    "check_rmsprop_step",
    "check_shipped_step",
    "check_smoothed_cross_entropy",
    "check_softmax",
    "check_spearman",
    "check_stability_limits",
    "check_step_sizes",
    "check_step_to_ship",
    "check_training_loop",
    "check_training_run",
    "odd_numbers",
]

"""Optimizers from scratch: what lessons 02 and 03 build. Each equals its counterpart in `torch.optim` step by step.

An optimizer changes its parameters in place, from the gradients that autograd left in `parameter.grad`. It computes no
gradients itself. What it remembers of earlier steps lies open in `state`, one dictionary a parameter. The `require_…`
functions at the end hold the input checks.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from peft_helpers.losses import require_finite

# ---------------------------------------------------------------- gradient descent (lesson 02)


def gradient_descent_step(parameter: Tensor, gradient: Tensor, learning_rate: float) -> Tensor:
    """θ − η g: one step downhill, as a new tensor. Shape: parameter and gradient alike."""
    require_hyperparameters(learning_rate=learning_rate)
    return parameter - learning_rate * gradient


def numerical_gradient(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-5) -> Tensor:
    """The gradient by central differences, (f(x + h e_i) − f(x − h e_i)) / 2h: slow, simple, good for checking.

    The error falls with h² until rounding takes over; h = 1e-5 leaves about 10 digits.

    Shape: `function` maps a tensor shaped like `point` to a scalar; the result is shaped like `point`.

    Raises:
        ValueError: if `point` is not float64 (float32 rounding would drown the difference) or `step` is not positive.
    """
    require_probe(point, step)
    gradient = torch.zeros_like(point)
    for i in range(point.numel()):
        offset = torch.zeros_like(point)
        offset.view(-1)[i] = step
        gradient.view(-1)[i] = (function(point + offset) - function(point - offset)) / (2 * step)
    return gradient


def stability_limit(kind: str, curvature: float, momentum: float = 0.0) -> float:
    """The learning rate above which a step of that kind diverges on a quadratic with largest curvature λ.

    plain 2/λ · heavy_ball 2(1 + β)/λ · nesterov 2(1 + β)/((1 + 2β)λ). Plain ignores the momentum β.

    Raises:
        ValueError: on an unknown kind, a curvature that is not positive, or a momentum outside 0 ≤ β < 1.
    """
    require_quadratic(kind, curvature, momentum)
    if kind == "plain":
        return 2 / curvature
    if kind == "heavy_ball":
        return 2 * (1 + momentum) / curvature
    return 2 * (1 + momentum) / ((1 + 2 * momentum) * curvature)


class Optimizer:
    """What all optimizers share: a list of parameters, a memory for each, and a loop over both.

    Args:
        parameters: floating-point tensors; those without a gradient are left alone.
        learning_rate: η ≥ 0.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float):
        self.parameters = require_parameters(parameters)
        self.learning_rate = learning_rate
        self.state = [{"step": 0} for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients: autograd adds to them, it never starts afresh by itself."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient; raises ValueError if a gradient is NaN or infinite."""
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is not None:
                require_finite(gradient=parameter.grad)
                state["step"] += 1
                self.update(parameter, parameter.grad, state)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        """Change one parameter in place; `state` is its memory, and state["step"] counts from 1."""
        raise NotImplementedError("each kind of optimizer says here how one parameter moves")


class SGD(Optimizer):
    """Gradient descent with momentum: v ← β v + (1 − d) g, then θ ← θ − η v.

    Nesterov's form steps along g + β v, a look ahead. `weight_decay` λ adds λ θ to the gradient (L2). Like
    `torch.optim.SGD`, the first v is the gradient itself, whatever the dampening d.
    """

    def __init__(self, parameters, learning_rate=1e-3, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
        require_hyperparameters(learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
        require_momentum_form(momentum, dampening, nesterov)
        super().__init__(parameters, learning_rate)
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov
        self.weight_decay = weight_decay

    def update(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        direction = gradient + self.weight_decay * parameter
        if self.momentum:
            if state["step"] == 1:
                state["velocity"] = direction
            else:
                state["velocity"] = self.momentum * state["velocity"] + (1 - self.dampening) * direction
            ahead = direction + self.momentum * state["velocity"]
            direction = ahead if self.nesterov else state["velocity"]
        parameter -= self.learning_rate * direction


# ---------------------------------------------------------------- adaptive rates (lesson 03)


class RMSprop(Optimizer):
    """Divide each gradient by its recent size: v ← α v + (1 − α) g², then θ ← θ − η g / (√v + ε).

    v is the uncentered second moment of the gradient, a running mean of squares. `weight_decay` is L2, as in SGD.
    """

    def __init__(self, parameters, learning_rate=1e-2, alpha=0.99, epsilon=1e-8, weight_decay=0.0, momentum=0.0):
        require_hyperparameters(learning_rate=learning_rate, alpha=alpha, epsilon=epsilon, weight_decay=weight_decay)
        require_hyperparameters(momentum=momentum)
        super().__init__(parameters, learning_rate)
        self.alpha, self.epsilon = alpha, epsilon
        self.weight_decay, self.momentum = weight_decay, momentum

    def update(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        gradient = gradient + self.weight_decay * parameter
        v = state.get("v", torch.zeros_like(parameter))
        state["v"] = self.alpha * v + (1 - self.alpha) * gradient**2
        direction = gradient / (state["v"].sqrt() + self.epsilon)
        if self.momentum:
            state["velocity"] = self.momentum * state.get("velocity", torch.zeros_like(parameter)) + direction
            direction = state["velocity"]
        parameter -= self.learning_rate * direction


class Adam(Optimizer):
    """Running means of the gradient (m) and of its square (v), both corrected for starting at zero.

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², then θ ← θ − η m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ) and
    v̂ = v / (1 − β₂ᵗ); t counts from 1. `weight_decay` is L2: it goes through m and v (arXiv:1412.6980, algorithm 1).
    """

    def __init__(
        self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0, bias_correction=True
    ):
        require_hyperparameters(learning_rate=learning_rate, epsilon=epsilon, weight_decay=weight_decay)
        self.beta1, self.beta2 = require_betas(betas)
        super().__init__(parameters, learning_rate)
        self.epsilon, self.weight_decay, self.bias_correction = epsilon, weight_decay, bias_correction

    def update(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        self.move(parameter, gradient + self.weight_decay * parameter, state)

    def move(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        m, v = state.get("m", torch.zeros_like(parameter)), state.get("v", torch.zeros_like(parameter))
        state["m"] = m = self.beta1 * m + (1 - self.beta1) * gradient
        state["v"] = v = self.beta2 * v + (1 - self.beta2) * gradient**2
        if self.bias_correction:
            m = m / (1 - self.beta1 ** state["step"])
            v = v / (1 - self.beta2 ** state["step"])
        parameter -= self.learning_rate * m / (v.sqrt() + self.epsilon)


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 − η λ) θ first; m and v see the loss's gradient alone.

    So every weight decays at the same rate, however large its gradients (arXiv:1711.05101, algorithm 2).
    """

    def __init__(
        self, parameters, learning_rate=1e-3, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=1e-2, bias_correction=True
    ):
        super().__init__(parameters, learning_rate, betas, epsilon, weight_decay, bias_correction)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict) -> None:
        parameter *= 1 - self.learning_rate * self.weight_decay
        self.move(parameter, gradient, state)


@torch.no_grad()
def clip_gradient_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Shorten the gradient, all parameters together, to length `max_norm` if it is longer; the direction stays.

    Changes `parameter.grad` in place and returns the length before, like `torch.nn.utils.clip_grad_norm_`.

    Raises:
        ValueError: if no parameter has a gradient, one is NaN or infinite, or `max_norm` is not positive.
    """
    gradients = require_gradients(parameters, max_norm)
    norm = torch.stack([(gradient**2).sum() for gradient in gradients]).sum().sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # never longer than before
    for gradient in gradients:
        gradient *= scale
    return norm


# ---------------------------------------------------------------- input checks

ALLOWED = {  # hyperparameter: (smallest allowed, smallest no longer allowed)
    "learning_rate": (0.0, math.inf),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "alpha": (0.0, 1.0),
    "beta1": (0.0, 1.0),
    "beta2": (0.0, 1.0),
    "epsilon": (0.0, math.inf),
}


def require_hyperparameters(**given: float) -> None:
    """Refuse a hyperparameter outside its range, NaN and inf included."""
    for name, value in given.items():
        low, high = ALLOWED[name]
        if not (isinstance(value, numbers.Real | Tensor) and low <= value < high):
            allowed = f"{low:g} ≤ {name} < {high:g}" if high < math.inf else f"a finite number, {low:g} or more"
            raise ValueError(f"{name} is {value!r}; allowed is {allowed}")


def require_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Refuse anything but two numbers in [0, 1)."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers (beta1, beta2), each in [0, 1); got {betas!r}")
    require_hyperparameters(beta1=betas[0], beta2=betas[1])
    return betas[0], betas[1]


def require_momentum_form(momentum: float, dampening: float, nesterov: bool) -> None:
    """Refuse dampening outside [0, 1], and Nesterov's form without momentum or with dampening."""
    if not 0 <= dampening <= 1:
        raise ValueError(f"dampening is {dampening!r}; allowed is 0 ≤ dampening ≤ 1")
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(f"nesterov needs momentum > 0 and dampening 0; got momentum {momentum}, dampening {dampening}")


def require_parameters(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list; refuses a bare tensor, an empty list, a repeated parameter, and other types."""
    if isinstance(parameters, Tensor):
        raise ValueError("parameters must be a list of tensors; got one tensor (write [tensor])")
    parameters = list(parameters)
    if not parameters:
        raise ValueError("there is nothing to optimize: the list of parameters is empty")
    require_finite(**{f"parameter {i}": parameter for i, parameter in enumerate(parameters)})
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ValueError("a parameter appears more than once in the list; it would be moved twice a step")
    return parameters


def require_gradients(parameters: Iterable[Tensor], max_norm: float) -> list[Tensor]:
    """The gradients that there are; refuses none at all, NaN or inf, and a `max_norm` that is not positive."""
    if not 0 < max_norm < math.inf:
        raise ValueError(f"max_norm is {max_norm!r}; allowed is a finite number above 0")
    gradients = [p.grad for p in require_parameters(parameters) if p.grad is not None]
    if not gradients:
        raise ValueError("no parameter has a gradient; call backward() before clipping")
    require_finite(**{f"gradient {i}": gradient for i, gradient in enumerate(gradients)})
    return gradients


def require_probe(point: Tensor, step: float) -> None:
    """What a numerical gradient asks for: a finite float64 point and a positive step."""
    require_finite(point=point)
    if point.dtype != torch.float64:
        raise ValueError(f"point must be float64, or rounding drowns the difference; got {point.dtype}")
    if not 0 < step < math.inf:
        raise ValueError(f"step is {step!r}; allowed is a finite number above 0")


def require_quadratic(kind: str, curvature: float, momentum: float) -> None:
    """What a stability limit asks for."""
    if kind not in ("plain", "heavy_ball", "nesterov"):
        raise ValueError(f'kind must be "plain", "heavy_ball" or "nesterov"; got {kind!r}')
    if not 0 < curvature < math.inf:
        raise ValueError(f"curvature is {curvature!r}; allowed is a finite number above 0 (the largest eigenvalue)")
    require_hyperparameters(momentum=momentum)

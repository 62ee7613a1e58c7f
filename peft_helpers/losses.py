"""Loss functions from scratch, with their gradients by hand: what lesson 01 builds.

Shapes: B rows (examples or tokens), K classes, the classes always in the last dimension. Losses are in nats (natural
logarithm). Every function takes torch tensors, works under autograd, and equals its counterpart in
`torch.nn.functional`. The `require_…` functions at the end hold the input checks, so that the definitions above them
show nothing but the mathematics.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ---------------------------------------------------------------- softmax and its logarithm


def softmax(logits: Tensor, dim: int = -1) -> Tensor:
    """Probabilities p_k = exp(z_k) / Σ_j exp(z_j).

    Subtracting the largest logit changes nothing mathematically, and keeps exp from overflowing.

    Shape: (…, K) -> (…, K), each slice along `dim` sums to 1.

    Raises:
        ValueError: if `logits` is empty or holds NaN or infinite values.
    """
    require_finite(logits=logits)
    exponentials = (logits - logits.amax(dim, keepdim=True).detach()).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def log_sum_exp(logits: Tensor, dim: int = -1) -> Tensor:
    """log Σ_k exp(z_k), a smooth maximum; its gradient is the softmax.

    Shape: (…, K) -> (…).

    Raises:
        ValueError: if `logits` is empty or holds NaN or infinite values.
    """
    require_finite(logits=logits)
    largest = logits.amax(dim, keepdim=True).detach()  # a constant for autograd: it cancels out
    return largest.squeeze(dim) + (logits - largest).exp().sum(dim).log()


def log_softmax(logits: Tensor, dim: int = -1) -> Tensor:
    """log p_k = z_k − log Σ_j exp(z_j), without ever computing p, which may underflow to 0.

    Shape: (…, K) -> (…, K).

    Raises:
        ValueError: if `logits` is empty or holds NaN or infinite values.
    """
    require_finite(logits=logits)
    shifted = logits - logits.amax(dim, keepdim=True).detach()  # first, so that no digits are lost beside a large logit
    return shifted - log_sum_exp(shifted, dim).unsqueeze(dim)


# ---------------------------------------------------------------- cross-entropy


def weighted_targets(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> tuple[Tensor, Tensor]:
    """What every row should predict, and what the mean divides by.

    A label becomes a one-hot row y, smoothing mixes it with the uniform distribution, y ← (1 − ε) y + ε / K, each class
    counts as much as its weight, and an ignored row counts nothing.

    Shape: logits (…, K); targets (…) class indices, or (…, K) probabilities; weight (K,).

    Returns:
        (…, K) weighted targets, and the sum of the kept labels' weights (for probabilities: the number of rows).
    """
    require_classes(logits, targets, weight, label_smoothing, ignore_index)
    classes = logits.shape[-1]
    weight = logits.new_ones(classes) if weight is None else weight
    if targets.is_floating_point():
        kept = row_weight = torch.ones_like(logits[..., 0])
        wanted = targets
    else:
        kept = (targets != ignore_index).to(logits.dtype)
        labels = torch.where(targets == ignore_index, 0, targets)  # any valid label: `kept` removes the row below
        wanted = (labels[..., None] == torch.arange(classes, device=labels.device)).to(logits.dtype)
        row_weight = weight[labels]
    wanted = (1 - label_smoothing) * wanted + label_smoothing / classes
    return weight * wanted * kept[..., None], (row_weight * kept).sum()


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """−Σ_k y_k log p_k: how many nats the model's probabilities p waste on the targets y.

    Shape: logits (…, K); targets (…) class indices, or (…, K) probabilities; weight (K,). Result: (…) for
    reduction "none", else a scalar. Equals `torch.nn.functional.cross_entropy` on flattened rows.

    Raises:
        ValueError: on an empty batch, NaN or infinite logits, shapes that do not fit, a label outside 0 … K − 1 that is
            not `ignore_index`, an unknown reduction, or a mean over nothing.
    """
    wanted, total = weighted_targets(logits, targets, weight, label_smoothing, ignore_index)
    losses = -(wanted * log_softmax(logits)).sum(-1)
    return reduced(losses, reduction, total)


def cross_entropy_gradient(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The gradient of `cross_entropy` with respect to the logits: p − y, divided by what the mean divides by.

    With class weights the row's targets sum to s instead of 1, and the gradient is s·p − y.

    Shape: as in `cross_entropy`; the result has the logits' shape. For "none" and "sum": each row's own gradient.
    """
    wanted, total = weighted_targets(logits, targets, weight, label_smoothing, ignore_index)
    require_reduction(reduction, total)
    gradient = wanted.sum(-1, keepdim=True) * softmax(logits) - wanted
    return gradient / total if reduction == "mean" else gradient


def perplexity(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """exp(mean cross-entropy): how many equally likely classes would leave one as unsure.

    1 for a perfect model, K for a uniform one. Shape: logits (…, K), targets (…) -> scalar.
    """
    return cross_entropy(logits, targets, ignore_index=ignore_index).exp()


def label_entropy(labels: Tensor) -> Tensor:
    """H(p) = −Σ_k p_k log p_k over the labels' shares p: the loss of the best constant predictor, at most ln K.

    Shape: integer labels of any shape -> float64 scalar, in nats.

    Raises:
        ValueError: if there are no labels, or a label is negative or not an integer.
    """
    require_labels(labels, None)
    counts = torch.bincount(labels.flatten())
    shares = counts[counts > 0].double() / labels.numel()  # a class that never occurs adds 0
    return -(shares * shares.log()).sum()


def kl_divergence(p: Tensor, log_q: Tensor, reduction: str = "mean") -> Tensor:
    """KL(p ‖ q) = Σ_k p_k (log p_k − log q_k): the cross-entropy beyond the targets' own entropy; 0 only where q = p.

    Shape: both (…, K); the rows of p sum to 1, log_q holds log-probabilities. "mean" is the mean over rows, which torch
    calls "batchmean".

    Raises:
        ValueError: if p is no distribution, the shapes differ, or a value is NaN or infinite.
    """
    require_finite(p=p, log_q=log_q)
    require_same_shape(p=p, log_q=log_q)
    require_distribution(p)
    losses = (torch.xlogy(p, p) - p * log_q).sum(-1)  # xlogy: 0 · log 0 = 0
    return reduced(losses, reduction)


# ---------------------------------------------------------------- two classes, and numbers


def binary_cross_entropy_with_logits(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """−w·[c·y·log σ(x) + (1 − y)·log(1 − σ(x))], from the logit x, never from σ(x), which rounds to 0 or 1.

    Both logarithms are softplus: log σ(x) = −softplus(−x) and log(1 − σ(x)) = −softplus(x).

    Shape: logits and targets (0 … 1) alike; weight w and pos_weight c broadcast. Equals torch's function of that name.

    Raises:
        ValueError: on an empty batch, NaN or inf, different shapes, targets outside 0 … 1, or an unknown reduction.
    """
    weight, pos_weight = require_binary(logits, targets, weight, pos_weight)
    losses = weight * (pos_weight * targets * softplus(-logits) + (1 - targets) * softplus(logits))
    return reduced(losses, reduction)


def binary_cross_entropy_gradient(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The gradient with respect to the logits: w·[(1 − y)·σ(x) − c·y·σ(−x)]; without weights that is σ(x) − y.

    Shape: as the logits. For "mean" divided by the number of entries; for "none" and "sum" each entry's own gradient.
    """
    weight, pos_weight = require_binary(logits, targets, weight, pos_weight)
    require_reduction(reduction)
    gradient = weight * ((1 - targets) * sigmoid(logits) - pos_weight * targets * sigmoid(-logits))
    return gradient / logits.numel() if reduction == "mean" else gradient


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(−|x|)): exp never sees a positive number. Any shape, kept."""
    larger = (x + x.abs()) / 2  # max(x, 0), with the right derivative 1/2 at x = 0
    return larger + torch.log1p(torch.exp(-x.abs()))


def sigmoid(x: Tensor) -> Tensor:
    """σ(x) = 1 / (1 + exp(−x)), the softmax of (x, 0). Any shape, kept."""
    return torch.exp(-softplus(-x))


def mean_squared_error(predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """(prediction − target)², averaged over all entries.

    Shape: both alike. (B, 1) against (B,) is refused: torch would broadcast it to B × B differences.

    Raises:
        ValueError: on an empty batch, NaN or infinite values, different shapes, or an unknown reduction.
    """
    require_finite(predictions=predictions, targets=targets)
    require_same_shape(predictions=predictions, targets=targets)
    return reduced((predictions - targets) ** 2, reduction)


def mean_squared_error_gradient(predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """The gradient with respect to the predictions: 2 (prediction − target), for "mean" divided by their number."""
    require_finite(predictions=predictions, targets=targets)
    require_same_shape(predictions=predictions, targets=targets)
    require_reduction(reduction)
    gradient = 2 * (predictions - targets)
    return gradient / predictions.numel() if reduction == "mean" else gradient


def reduced(losses: Tensor, reduction: str = "mean", total: Tensor | None = None) -> Tensor:
    """One number from many losses: their sum, or their sum over `total` (default: how many there are), or all of them.

    Raises:
        ValueError: if `reduction` is not "none", "mean" or "sum", or if the mean is over nothing.
    """
    require_reduction(reduction, total)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if total is None else losses.sum() / total


# ---------------------------------------------------------------- input checks


def require_finite(**tensors: Tensor) -> None:
    """Refuse, by name, what is not a floating-point tensor, or is empty, or holds NaN or infinite values."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            given = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must be a floating-point tensor; got {given}")
        if value.numel() == 0:
            raise ValueError(f"{name} is empty (shape {tuple(value.shape)}); at least one example is needed")
        broken = ~torch.isfinite(value.detach())
        if broken.any():
            first = tuple(broken.nonzero()[0].tolist())
            found = "NaN" if torch.isnan(value.detach()).any() else "inf"
            raise ValueError(
                f"{name} holds {int(broken.sum())} value(s) that are NaN or infinite (found {found}; the first at "
                f"index {first}); every value must be finite"
            )


def require_same_shape(**tensors: Tensor) -> None:
    """Refuse tensors of different shapes: silent broadcasting is the commonest wrong loss of all."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("the shapes must be equal; got " + ", ".join(f"{n} {shape}" for n, shape in shapes.items()))


def require_labels(labels: Tensor, classes: int | None, ignore_index: int = -100) -> None:
    """Refuse labels that are no integers, or outside 0 … classes − 1 (`ignore_index` aside); None: any number ≥ 0."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype in (torch.bool, torch.complex64):
        given = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels must be a tensor of integers, such as torch.int64; got {given}")
    if labels.numel() == 0:
        raise ValueError(f"labels is empty (shape {tuple(labels.shape)}); at least one example is needed")
    wrong = labels < 0 if classes is None else ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    if wrong.any():
        allowed = "0 or more" if classes is None else f"0 to {classes - 1} ({ignore_index} marks an ignored row)"
        raise ValueError(f"label {int(labels[wrong][0])} is out of range; allowed is {allowed}")


def require_distribution(p: Tensor) -> None:
    """Refuse rows that are no probabilities: negative entries, or a sum other than 1 (within 1e-4)."""
    if (p < 0).any():
        raise ValueError(f"probabilities must not be negative; the smallest is {float(p.min()):.4g}")
    if ((p.sum(-1) - 1).abs() > 1e-4).any():
        furthest = p.sum(-1).flatten()[(p.sum(-1) - 1).abs().argmax()]
        raise ValueError(f"each row of probabilities must sum to 1 over the last dimension; one sums to {furthest:.6g}")


def require_classes(
    logits: Tensor, targets: Tensor, weight: Tensor | None, label_smoothing: float, ignore_index: int
) -> None:
    """Everything that cross-entropy asks of its inputs."""
    require_finite(logits=logits)
    if logits.ndim == 0:
        raise ValueError("logits must have the shape (…, K), classes last; got a single number")
    if isinstance(targets, Tensor) and targets.is_floating_point():
        require_finite(targets=targets)
        require_same_shape(logits=logits, targets=targets)
        require_distribution(targets)
    else:
        require_labels(targets, logits.shape[-1], ignore_index)
        if targets.shape != logits.shape[:-1]:
            raise ValueError(
                f"logits {tuple(logits.shape)} need labels {tuple(logits.shape[:-1])}, one a row; "
                f"got {tuple(targets.shape)}"
            )
    if weight is not None:
        require_finite(weight=weight)
        if weight.shape != logits.shape[-1:] or (weight < 0).any():
            raise ValueError(
                f"weight must hold {logits.shape[-1]} numbers ≥ 0, one a class; got shape {tuple(weight.shape)}, "
                f"smallest {float(weight.min()):.4g}"
            )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1; got {label_smoothing}")


def require_binary(
    logits: Tensor, targets: Tensor, weight: Tensor | None, pos_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Everything that the binary cross-entropy asks of its inputs; returns both weights, ones where None was given."""
    require_finite(logits=logits, targets=targets)
    require_same_shape(logits=logits, targets=targets)
    if ((targets < 0) | (targets > 1)).any():
        raise ValueError(f"targets must lie in 0 … 1; got {float(targets.min()):.4g} … {float(targets.max()):.4g}")
    given = {"weight": weight, "pos_weight": pos_weight}
    for name, value in given.items():
        if value is None:
            given[name] = logits.new_ones(())
            continue
        require_finite(**{name: value})
        fits = value.ndim <= logits.ndim and all(
            own in (1, size) for own, size in zip(value.shape[::-1], logits.shape[::-1], strict=False)
        )
        if not fits or (value < 0).any():
            raise ValueError(
                f"{name} must be ≥ 0 and fit the logits' shape {tuple(logits.shape)}; got {tuple(value.shape)}"
            )
    return given["weight"], given["pos_weight"]


def require_reduction(reduction: str, total: Tensor | None = None) -> None:
    """Refuse an unknown reduction, and a mean that would divide by a `total` of 0."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f'reduction must be "none", "mean" or "sum"; got {reduction!r}')
    if reduction == "mean" and total is not None and total == 0:
        raise ValueError("the mean is over nothing: every label is ignored or has weight 0")

"""The checkers of lessons 01 to 03: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from checker_cases import ValueCheckerTests, Wrong

from peft_helpers.checks import adam, descent
from peft_helpers.checks import losses as loss_checks

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- lesson 01

RIGHT["check_softmax"] = [
    """
def answer(logits, temperature):
    z = logits / temperature
    z = z - z.max(dim=1, keepdim=True).values
    return z.exp() / z.exp().sum(dim=1, keepdim=True)
""",
    """
def answer(logits, temperature):
    rows = []
    for row in logits.tolist():
        top = max(row)
        e = [math.exp((x - top) / temperature) for x in row]
        rows.append([x / sum(e) for x in e])
    return rows
""",
    """
def answer(logits, temperature):
    return F.softmax(logits / temperature, dim=-1)
""",
    """
def answer(logits, temperature):
    z = logits.numpy() / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
""",
]
WRONG["check_softmax"] = [
    Wrong("overflow", 0, "    z = z - z.max(dim=1, keepdim=True).values\n", ""),
    Wrong("overflow", 1, "top = max(row)", "top = 0"),
    Wrong("overflow", 3, "z - z.max(axis=1, keepdims=True)", "z"),
    Wrong("overflow", 0, "z - z.max(dim=1, keepdim=True).values", "z.clamp(-50, 50)"),
    Wrong("global-maximum", 0, "z.max(dim=1, keepdim=True).values", "z.max()"),
    Wrong("wrong-axis", 0, "dim=1", "dim=0"),
    Wrong("wrong-axis", 0, "sum(dim=1", "sum(dim=0"),
    Wrong("wrong-axis", 2, "dim=-1", "dim=0"),
    Wrong("whole-matrix", 3, "axis=1, keepdims=True", ""),
    Wrong("keepdim-missing", 0, "sum(dim=1, keepdim=True)", "sum(dim=1)"),
    Wrong("keepdim-missing", 3, "e.sum(axis=1, keepdims=True)", "e.sum(axis=1)"),
    Wrong("no-exponential", 0, "z.exp() / z.exp().sum", "logits / logits.sum"),
    Wrong("sigmoid", 2, "F.softmax(logits / temperature, dim=-1)", "torch.sigmoid(logits / temperature)"),
    Wrong("logarithm", 2, "F.softmax", "F.log_softmax"),
    Wrong("temperature-ignored", 1, " / temperature", ""),
    Wrong("temperature-multiplied", 2, "/ temperature", "* temperature"),
    Wrong("temperature-after-softmax", 2, "logits / temperature, dim=-1)", "logits, dim=-1) / temperature"),
    Wrong("input-changed", 0, "z = logits / temperature", "z = logits; z /= temperature"),
    Wrong("precision-lost", 0, "logits / temperature", "logits.float() / temperature"),
    Wrong("wrong-shape", 1, "return rows", "return rows[0]"),
]

RIGHT["check_cross_entropy"] = [
    """
def answer(logits, labels):
    keep = labels != -100
    logits, labels = logits[keep], labels[keep]
    shifted = logits - logits.max(dim=1, keepdim=True).values
    log_p = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
    return -log_p[torch.arange(len(labels)), labels].mean()
""",
    """
def answer(logits, labels):
    total, count = 0.0, 0
    for row, label in zip(logits.tolist(), labels.tolist()):
        if label == -100:
            continue
        top = max(row)
        total += top + math.log(sum(math.exp(x - top) for x in row)) - row[label]
        count += 1
    return total / count
""",
    """
def answer(logits, labels):
    return F.cross_entropy(logits, labels)
""",
    """
def answer(logits, labels):
    hot = (labels[:, None] == torch.arange(logits.shape[1])).double()
    return -(hot * torch.log_softmax(logits, dim=-1)).sum() / (labels != -100).sum()
""",
]
LAST_LINE = "return -log_p[torch.arange(len(labels)), labels].mean()"
P = "p = F.softmax(logits, dim=1)[torch.arange(len(labels)), labels]"
WRONG["check_cross_entropy"] = [
    Wrong("double-softmax", 2, "cross_entropy(logits,", "cross_entropy(logits.softmax(dim=-1),"),
    Wrong("double-softmax", 0, "    shifted =", "    logits = F.softmax(logits, dim=1)\n    shifted ="),
    Wrong("wrong-axis", 0, "dim=1", "dim=0"),
    Wrong("wrong-axis", 3, "dim=-1", "dim=0"),
    Wrong("wrong-axis", 0, "sum(dim=1", "sum(dim=0"),
    Wrong("sum-for-mean", 0, ".mean()", ".sum()"),
    Wrong("sum-for-mean", 1, "total / count", "total"),
    Wrong("every-label", 0, "[torch.arange(len(labels)), labels]", "[:, labels]"),
    Wrong("no-mean", 0, ".mean()", ""),
    Wrong("no-mean", 3, ".sum() / (labels != -100).sum()", ".sum(1)"),
    Wrong("overflow", 0, "logits - logits.max(dim=1, keepdim=True).values", "logits"),
    Wrong("overflow", 1, "top = max(row)", "top = 0"),
    Wrong("overflow", 0, LAST_LINE, P + "\n    return -(p + 1e-12).log().mean()"),
    Wrong("wrong-sign", 0, "return -", "return "),
    Wrong("no-normalizer", 1, "top + math.log(sum(math.exp(x - top) for x in row))", "0"),
    Wrong("probability-without-log", 0, LAST_LINE, P + "\n    return 1 - p.mean()"),
    Wrong("probability-without-log", 0, LAST_LINE, P + "\n    return -p.mean()"),
    Wrong("log-of-mean", 0, LAST_LINE, P + "\n    return -p.mean().log()"),
    Wrong("base-2", 0, LAST_LINE, P + "\n    return -p.log2().mean()"),
    Wrong("mean-over-entries", 3, ".sum() / (labels != -100).sum()", ".mean()"),
    Wrong("padding-inside-mean", 3, "(labels != -100).sum()", "len(labels)"),
    Wrong("padding-inside-mean", 1, "        count += 1\n    return total / count", "    return total / len(labels)"),
    Wrong("padding-as-class", 0, "logits[keep], labels[keep]", "logits, labels.clamp(min=0)"),
    Wrong("padding-as-class", 0, "logits[keep], labels[keep]", "logits, labels * keep"),
    Wrong("padding-not-handled", 0, "logits[keep], labels[keep]", "logits, labels"),
    Wrong("padding-not-handled", 1, "label == -100", "label == -1"),
]

RIGHT["check_smoothed_cross_entropy"] = [
    """
def answer(logits, labels, smoothing):
    log_p = torch.log_softmax(logits, dim=1)
    own = log_p.gather(1, labels[:, None]).squeeze(1)
    return -((1 - smoothing) * own + smoothing * log_p.mean(dim=1)).mean()
""",
    """
def answer(logits, labels, smoothing):
    losses = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        top = max(row)
        lse = top + math.log(sum(math.exp(x - top) for x in row))
        targets = [smoothing / len(row)] * len(row)
        targets[label] += 1 - smoothing
        losses.append(-sum(t * (x - lse) for t, x in zip(targets, row)))
    return sum(losses) / len(losses)
""",
    """
def answer(logits, labels, smoothing):
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)
""",
]
SHARES = "len(row)] * len(row)\n        targets[label] +="
WRONG["check_smoothed_cross_entropy"] = [
    Wrong("smoothing-ignored", 2, ", label_smoothing=smoothing", ""),
    Wrong("missing-smoothing-term", 0, " + smoothing * log_p.mean(dim=1)", ""),
    Wrong("missing-smoothing-term", 1, "[smoothing / len(row)]", "[0.0]"),
    Wrong("uniform-term-not-averaged", 0, "log_p.mean", "log_p.sum"),
    Wrong("uniform-term-not-averaged", 1, "smoothing / len(row)", "smoothing"),
    Wrong("other-classes-only", 1, SHARES, SHARES.replace("len(row)]", "(len(row) - 1)]").replace("+=", "=")),
    Wrong("smoothing-swapped", 0, "(1 - smoothing) * own + smoothing", "smoothing * own + (1 - smoothing)"),
    Wrong("term-added-on-top", 1, "+= 1 - smoothing", "+= 1"),
    Wrong("sum-for-mean", 0, ").mean()", ").sum()"),
    Wrong("sum-for-mean", 1, " / len(losses)", ""),
    Wrong("overflow", 1, "top = max(row)", "top = 0"),
    Wrong("overflow", 0, "torch.log_softmax(logits, dim=1)", "torch.softmax(logits, dim=1).log()"),
]
RIGHT["check_cross_entropy_gradient"] = [
    """
def answer(logits, labels):
    gradient = torch.softmax(logits, dim=1)
    gradient[torch.arange(len(labels)), labels] -= 1
    return gradient / len(labels)
""",
    """
def answer(logits, labels):
    z = logits.clone().requires_grad_()
    F.cross_entropy(z, labels).backward()
    return z.grad
""",
    """
def answer(logits, labels):
    rows = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        e = [math.exp(x - max(row)) for x in row]
        rows.append([(x / sum(e) - (k == label)) / len(labels) for k, x in enumerate(e)])
    return rows
""",
]
WRONG["check_cross_entropy_gradient"] = [
    Wrong("missing-batch-division", 0, " / len(labels)", ""),
    Wrong("missing-batch-division", 1, "z, labels)", "z, labels, reduction='sum')"),
    Wrong("divided-by-entries", 0, "/ len(labels)", "/ logits.numel()"),
    Wrong("wrong-sign", 0, "return gradient", "return -gradient"),
    Wrong("wrong-sign", 0, "return gradient / len(labels)", "return -gradient"),
    Wrong("one-hot-forgotten", 2, " - (k == label)", ""),
    Wrong(
        "one-hot-forgotten",
        0,
        "    gradient[torch.arange(len(labels)), labels] -= 1\n    return gradient / len(labels)",
        "    return gradient",
    ),
    Wrong("gradient-by-probabilities", 2, "(x / sum(e) - (k == label))", "-(k == label) / (x / sum(e))"),
    Wrong("sigmoid-factor", 2, "(k == label))", "(k == label)) * x / sum(e) * (1 - x / sum(e))"),
    Wrong("wrong-axis", 0, "dim=1", "dim=0"),
    Wrong("overflow", 2, "x - max(row)", "x"),
    Wrong("overflow", 0, "torch.softmax(logits, dim=1)", "logits.exp() / logits.exp().sum(1, keepdim=True)"),
]

RIGHT["check_binary_cross_entropy"] = [
    """
def answer(logits, targets, pos_weight):
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -(pos_weight * targets * positive + (1 - targets) * negative).mean()
""",
    """
def answer(logits, targets, pos_weight):
    total = 0.0
    for x, y in zip(logits.tolist(), targets.tolist()):
        rest = math.log1p(math.exp(-abs(x)))
        total += pos_weight * y * (max(-x, 0) + rest) + (1 - y) * (max(x, 0) + rest)
    return total / len(logits)
""",
    """
def answer(logits, targets, pos_weight):
    weight = torch.tensor(pos_weight, dtype=torch.float64)
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
""",
    """
def answer(logits, targets, pos_weight):
    x, y = logits.numpy(), targets.numpy()
    return np.mean(pos_weight * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x))
""",
]
SIGMOIDS = "F.logsigmoid(logits), F.logsigmoid(-logits)"
WRONG["check_binary_cross_entropy"] = [
    Wrong("overflow", 0, SIGMOIDS, "torch.sigmoid(logits).log(), (1 - torch.sigmoid(logits)).log()"),
    Wrong("overflow", 1, "math.log1p(math.exp(-abs(x)))", "math.log(1 + math.exp(x)) - max(x, 0)"),
    Wrong("overflow", 3, "np.logaddexp(0, x)", "np.log(1 + np.exp(x))"),
    Wrong("double-sigmoid", 2, "logits(logits,", "logits(torch.sigmoid(logits),"),
    Wrong("missing-negative-term", 0, " + (1 - targets) * negative", ""),
    Wrong("pos-weight-ignored", 2, ", pos_weight=weight", ""),
    Wrong("pos-weight-on-both", 1, "(1 - y) * (max", "pos_weight * (1 - y) * (max"),
    Wrong("pos-weight-on-negatives", 0, "pos_weight * targets * positive + ", "targets * positive + pos_weight * "),
    Wrong("wrong-sign", 0, "return -", "return "),
    Wrong("targets-swapped", 3, "y = logits.numpy(), targets.numpy()", "y = logits.numpy(), 1 - targets.numpy()"),
    Wrong("sum-for-mean", 1, " / len(logits)", ""),
]

RIGHT["check_regression_loss"] = [
    """
def answer(predictions, targets):
    error = predictions.squeeze(1) - targets
    return (error ** 2).mean(), (2 * error / len(error)).unsqueeze(1)
""",
    """
def answer(predictions, targets):
    errors = [p - t for (p,), t in zip(predictions.tolist(), targets.tolist())]
    n = len(errors)
    return sum(e * e for e in errors) / n, [[2 * e / n] for e in errors]
""",
    """
def answer(predictions, targets):
    p = predictions.clone().requires_grad_()
    loss = F.mse_loss(p, targets.reshape(-1, 1))
    loss.backward()
    return loss, p.grad
""",
]
WRONG["check_regression_loss"] = [
    Wrong("broadcast", 2, "targets.reshape(-1, 1)", "targets"),
    Wrong("broadcast", 0, "predictions.squeeze(1) - targets", "predictions - targets"),
    Wrong("broadcast", 0, "(2 * error / len(error)).unsqueeze(1)", "2 * (predictions - targets) / len(error)"),
    Wrong("half", 1, "/ n, [[2 * e", "/ n / 2, [[e"),
    Wrong("sum-for-mean", 2, "reshape(-1, 1))", "reshape(-1, 1), reduction='sum')"),
    Wrong("absolute-error", 2, "mse_loss", "l1_loss"),
    Wrong("root", 0, "(error ** 2).mean()", "(error ** 2).mean().sqrt()"),
    Wrong("gradient-factor-two", 0, "(2 * error", "(error"),
    Wrong("gradient-not-averaged", 1, "[2 * e / n]", "[2 * e]"),
    Wrong("gradient-sign", 0, "(2 * error", "(-2 * error"),
    Wrong("wrong-outputs", 0, "(error ** 2).mean(), ", "(error ** 2).mean() + "),
    Wrong("wrong-shape", 0, ".unsqueeze(1)", ""),
]

# ---------------------------------------------------------------- lesson 02

RIGHT["check_gradient_descent"] = [
    """
def answer(gradient, start, learning_rate, steps):
    x, path = start, [start]
    for _ in range(steps):
        x = x - learning_rate * gradient(x)
        path.append(x)
    return path
""",
    """
def answer(gradient, start, learning_rate, steps):
    x = start.clone()
    path = torch.zeros(steps + 1, len(start), dtype=start.dtype)
    path[0] = x
    for t in range(steps):
        x -= learning_rate * gradient(x)
        path[t + 1] = x
    return path
""",
    """
def answer(gradient, start, learning_rate, steps):
    if steps == 0:
        return start[None].numpy()
    path = answer(gradient, start, learning_rate, steps - 1)
    last = torch.from_numpy(path[-1])
    return np.vstack([path, (last - learning_rate * gradient(last)).numpy()])
""",
]
WRONG["check_gradient_descent"] = [
    Wrong("wrong-sign", 0, "x - learning", "x + learning"),
    Wrong("learning-rate-twice", 1, "x -= learning_rate", "x -= learning_rate * learning_rate"),
    Wrong("learning-rate-ignored", 0, "learning_rate * gradient", "gradient"),
    Wrong("gradient-frozen", 0, "gradient(x)", "gradient(start)"),
    Wrong(
        "aliased-path",
        0,
        "x, path = start, [start]\n    for _ in range(steps):\n        x = x - learning_rate * gradient(x)",
        "x = start.clone()\n    path = [x]\n    for _ in range(steps):\n        x -= learning_rate * gradient(x)",
    ),
    Wrong("input-changed", 1, "start.clone()", "start"),
    Wrong("start-missing", 0, "[start]", "[]"),
    Wrong("one-step-short", 0, "range(steps)", "range(steps - 1)"),
    Wrong("last-point-only", 0, "return path", "return x"),
]
RIGHT["check_training_loop"] = [
    """
def answer(weights, loss_function, learning_rate, steps):
    for _ in range(steps):
        loss = loss_function(weights)
        loss.backward()
        with torch.no_grad():
            weights -= learning_rate * weights.grad
        weights.grad = None
    return weights
""",
    """
def answer(weights, loss_function, learning_rate, steps):
    optimizer = torch.optim.SGD([weights], lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_function(weights).backward()
        optimizer.step()
""",
    """
def answer(weights, loss_function, learning_rate, steps):
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss_function(weights), weights)
        weights.data = weights.data - learning_rate * gradient
    return weights
""",
]
WRONG["check_training_loop"] = [
    Wrong("forgotten-zeroing", 0, "        weights.grad = None\n", ""),
    Wrong("forgotten-zeroing", 1, "        optimizer.zero_grad()\n", ""),
    Wrong(
        "zeroed-too-early",
        1,
        "        optimizer.step()",
        "        optimizer.zero_grad()\n        optimizer.step()\n    return weights",
    ),
    Wrong("zeroed-too-early", 0, "loss.backward()", "loss.backward()\n        weights.grad.zero_()"),
    Wrong("left-the-graph", 0, "loss.backward()", "loss.backward()\n        weights.grad = None"),
    Wrong("wrong-sign", 0, "weights -=", "weights +="),
    Wrong("wrong-sign", 2, "weights.data - ", "weights.data + "),
    Wrong("learning-rate-twice", 0, "-= learning_rate", "-= learning_rate**2"),
    Wrong("one-step", 0, "    return weights", "        return weights"),
    Wrong("step-recorded-by-autograd", 0, "with torch.no_grad():", "if True:"),
    Wrong(
        "left-the-graph",
        0,
        "weights -= learning_rate * weights.grad",
        "weights = weights - learning_rate * weights.grad",
    ),
]

RIGHT["check_momentum_step"] = [
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    velocity = momentum * velocity + gradient
    return parameter - learning_rate * velocity, velocity
""",
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    velocity = momentum * velocity - learning_rate * gradient
    return parameter + velocity, velocity
""",
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    new_p, new_v = [], []
    for p, g, v in zip(parameter.tolist(), gradient.tolist(), velocity.tolist()):
        v = momentum * v + g
        new_v.append(v)
        new_p.append(p - learning_rate * v)
    return torch.tensor(new_p, dtype=torch.float64), torch.tensor(new_v, dtype=torch.float64)
""",
]
WRONG["check_momentum_step"] = [
    Wrong("momentum-sign", 0, "momentum * velocity + gradient", "gradient - momentum * velocity"),
    Wrong("momentum-sign", 1, "momentum * velocity - ", "-momentum * velocity - "),
    Wrong("wrong-sign", 0, "parameter -", "parameter +"),
    Wrong("learning-rate-twice", 0, "+ gradient", "+ learning_rate * gradient"),
    Wrong("dampened", 0, "+ gradient", "+ (1 - momentum) * gradient"),
    Wrong("dampened", 2, "v = momentum * v + g", "v = momentum * v + (1 - momentum) * g"),
    Wrong("velocity-forgotten", 0, "momentum * velocity + gradient", "gradient"),
    Wrong(
        "velocity-forgotten",
        0,
        "velocity = momentum * velocity + gradient\n    return parameter - learning_rate * velocity",
        "new = momentum * velocity + gradient\n    return parameter - learning_rate * new",
    ),
    Wrong(
        "stale-velocity",
        0,
        "velocity = momentum * velocity + gradient\n    return parameter - learning_rate * velocity, velocity",
        "return parameter - learning_rate * velocity, momentum * velocity + gradient",
    ),
    Wrong("momentum-ignored", 0, "momentum * velocity", "velocity"),
    Wrong(
        "outputs-swapped",
        0,
        "parameter - learning_rate * velocity, velocity",
        "velocity, parameter - learning_rate * velocity",
    ),
    Wrong("look-ahead", 0, "learning_rate * velocity,", "learning_rate * (gradient + momentum * velocity),"),
    Wrong("input-changed", 0, "velocity = momentum * velocity + gradient", "velocity.mul_(momentum).add_(gradient)"),
    Wrong("wrong-outputs", 0, "* velocity, velocity", "* velocity"),
]

RIGHT["check_nesterov_step"] = [
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    velocity = momentum * velocity + gradient
    return parameter - learning_rate * (gradient + momentum * velocity), velocity
""",
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    velocity = momentum * velocity + learning_rate * gradient
    return parameter - learning_rate * gradient - momentum * velocity, velocity
""",
    """
def answer(parameter, gradient, velocity, learning_rate, momentum):
    p, g, v = parameter.numpy(), gradient.numpy(), velocity.numpy()
    v = momentum * v + g
    return torch.from_numpy(p - learning_rate * (g + momentum * v)), torch.from_numpy(v)
""",
]
WRONG["check_nesterov_step"] = [
    Wrong("no-look-ahead", 0, "(gradient + momentum * velocity)", "velocity"),
    Wrong(
        "no-look-ahead",
        2,
        "    v = momentum * v + g\n"
        "    return torch.from_numpy(p - learning_rate * (g + momentum * v)), torch.from_numpy(v)",
        "    return torch.from_numpy(p - learning_rate * (g + momentum * v)), torch.from_numpy(momentum * v + g)",
    ),
    Wrong(
        "outputs-swapped",
        0,
        "parameter - learning_rate * (gradient + momentum * velocity), velocity",
        "velocity, parameter - learning_rate * (gradient + momentum * velocity)",
    ),
    Wrong("velocity-for-gradient", 0, "(gradient + momentum * velocity)", "(velocity + momentum * velocity)"),
    Wrong("look-ahead-not-scaled", 2, "(g + momentum * v)", "(g + v)"),
    Wrong("momentum-sign", 0, "velocity = momentum * velocity +", "velocity = -momentum * velocity +"),
    Wrong("wrong-sign", 0, "parameter -", "parameter +"),
    Wrong("learning-rate-twice", 0, "learning_rate * (", "learning_rate**2 * ("),
    Wrong("dampened", 0, "velocity + gradient", "velocity + (1 - momentum) * gradient"),
    Wrong("velocity-forgotten", 0, "velocity = momentum * velocity + gradient", "velocity = gradient"),
    Wrong("momentum-ignored", 0, "velocity = momentum * velocity", "velocity = velocity"),
]

RIGHT["check_numerical_gradient"] = [
    """
def answer(function, point, step):
    gradient = torch.zeros_like(point)
    for i in range(point.numel()):
        up, down = point.clone(), point.clone()
        up.view(-1)[i] += step
        down.view(-1)[i] -= step
        gradient.view(-1)[i] = (function(up) - function(down)) / (2 * step)
    return gradient
""",
    """
def answer(function, point, step):
    basis = torch.eye(point.numel(), dtype=point.dtype).reshape(-1, *point.shape) * step
    slopes = [(function(point + e) - function(point - e)) / step / 2 for e in basis]
    return torch.stack(slopes).reshape(point.shape)
""",
    """
def answer(function, point, step):
    flat, result = point.numpy().ravel(), np.zeros(point.numel())
    for i in range(len(flat)):
        values = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[i] += sign * step
            values.append(float(function(torch.from_numpy(moved).reshape(point.shape))))
        result[i] = (values[0] - values[1]) / (2 * step)
    return result.reshape(point.shape)
""",
]
WRONG["check_numerical_gradient"] = [
    Wrong("one-sided", 0, "(function(up) - function(down)) / (2 * step)", "(function(up) - function(point)) / step"),
    Wrong(
        "one-sided",
        1,
        "function(point + e) - function(point - e)) / step / 2",
        "function(point) - function(point - e)) / step",
    ),
    Wrong("wrong-divisor", 0, "/ (2 * step)", "/ step"),
    Wrong("wrong-divisor", 2, "/ (2 * step)", "/ 2 * step"),
    Wrong("not-divided", 0, " / (2 * step)", ""),
    Wrong("wrong-sign", 2, "(1, -1)", "(-1, 1)"),
    Wrong(
        "all-at-once", 0, "view(-1)[i] += step\n        down.view(-1)[i] -= step", "add_(step)\n        down.sub_(step)"
    ),
    Wrong(
        "all-at-once",
        0,
        "    gradient = torch.zeros_like(point)\n",
        "    return (function(point + step) - function(point - step)) / (2 * step)\n",
    ),
    Wrong(
        "exact-gradient", 0, "    gradient = torch.zeros_like(point)\n", "    return torch.func.grad(function)(point)\n"
    ),
    Wrong("input-changed", 0, "up, down = point.clone(), point.clone()", "up, down = point, point.clone()"),
    Wrong("wrong-shape", 2, "return result.reshape(point.shape)", "return result"),
]

# ---------------------------------------------------------------- lesson 03

RIGHT["check_rmsprop_step"] = [
    """
def answer(parameter, gradient, v, learning_rate, alpha, epsilon):
    v = alpha * v + (1 - alpha) * gradient ** 2
    return parameter - learning_rate * gradient / (v.sqrt() + epsilon), v
""",
    """
def answer(parameter, gradient, v, learning_rate, alpha, epsilon):
    new_p, new_v = parameter.clone(), v.clone()
    for i in range(len(parameter)):
        g = gradient[i].item()
        new_v[i] = alpha * new_v[i] + (1 - alpha) * g * g
        new_p[i] -= learning_rate * g / (math.sqrt(new_v[i]) + epsilon)
    return new_p, new_v
""",
    """
def answer(parameter, gradient, v, learning_rate, alpha, epsilon):
    v = torch.lerp(v, gradient.square(), 1 - alpha)
    return torch.addcdiv(parameter, gradient, v.sqrt().add(epsilon), value=-learning_rate), v
""",
]
WRONG["check_rmsprop_step"] = [
    Wrong("missing-root", 0, "v.sqrt()", "v"),
    Wrong("epsilon-inside-root", 0, "(v.sqrt() + epsilon)", "(v + epsilon).sqrt()"),
    Wrong("epsilon-inside-root", 1, "math.sqrt(new_v[i]) + epsilon", "math.sqrt(new_v[i] + epsilon)"),
    Wrong("gradient-not-squared", 1, "* g * g", "* abs(g)"),
    Wrong("alpha-swapped", 2, "1 - alpha", "alpha"),
    Wrong("never-forgets", 0, "alpha * v + (1 - alpha) * gradient ** 2", "v + gradient ** 2"),
    Wrong(
        "stale-v",
        0,
        "    v = alpha * v + (1 - alpha) * gradient ** 2\n"
        "    return parameter - learning_rate * gradient / (v.sqrt() + epsilon), v",
        "    new = alpha * v + (1 - alpha) * gradient ** 2\n"
        "    return parameter - learning_rate * gradient / (v.sqrt() + epsilon), new",
    ),
    Wrong("v-not-kept", 1, "return new_p, new_v", "return new_p, v"),
    Wrong("wrong-sign", 2, "value=-", "value="),
    Wrong("input-changed", 2, "torch.lerp(v,", "v.lerp_("),
]

RIGHT["check_adam_step"] = [
    """
def answer(parameter, gradient, m, v, t, learning_rate, betas, epsilon):
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * gradient
    v = beta2 * v + (1 - beta2) * gradient ** 2
    m_hat = m / (1 - beta1 ** t)
    v_hat = v / (1 - beta2 ** t)
    return parameter - learning_rate * m_hat / (v_hat.sqrt() + epsilon), m, v
""",
    """
def answer(parameter, gradient, m, v, t, learning_rate, betas, epsilon):
    rows = []
    for p, g, a, b in zip(parameter.tolist(), gradient.tolist(), m.tolist(), v.tolist()):
        a = betas[0] * a + (1 - betas[0]) * g
        b = betas[1] * b + (1 - betas[1]) * g * g
        a_hat, b_hat = a / (1 - betas[0] ** t), b / (1 - betas[1] ** t)
        rows.append((p - learning_rate * a_hat / (math.sqrt(b_hat) + epsilon), a, b))
    return tuple(torch.tensor(rows, dtype=torch.float64).T)
""",
    """
def answer(parameter, gradient, m, v, t, learning_rate, betas, epsilon):
    first, second = 1 - np.power(betas[0], t), 1 - np.power(betas[1], t)
    m = torch.lerp(m, gradient, 1 - betas[0])
    v = torch.lerp(v, gradient * gradient, 1 - betas[1])
    divisor = v.sqrt() / math.sqrt(second) + epsilon
    return parameter - learning_rate / first * m / divisor, m, v
""",
    """
def answer(parameter, gradient, m, v, t, learning_rate, betas, epsilon):
    p = parameter.clone()
    p.grad = gradient
    optimizer = torch.optim.Adam([p], lr=learning_rate, betas=betas, eps=epsilon)
    optimizer.state[p] = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.step()
    return p, optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"]
""",
]
WRONG["check_adam_step"] = [
    Wrong("missing-bias-correction", 0, "m_hat / (v_hat", "m / (v"),
    Wrong("missing-bias-correction", 1, "a / (1 - betas[0] ** t), b / (1 - betas[1] ** t)", "a, b"),
    Wrong("first-moment-uncorrected", 0, "m_hat /", "m /"),
    Wrong("second-moment-uncorrected", 0, "v_hat.sqrt()", "v.sqrt()"),
    Wrong("correction-stored", 0, "epsilon), m, v", "epsilon), m_hat, v_hat"),
    Wrong("epsilon-inside-root", 0, "(v_hat.sqrt() + epsilon)", "(v_hat + epsilon).sqrt()"),
    Wrong("epsilon-inside-root", 1, "math.sqrt(b_hat) + epsilon", "math.sqrt(b_hat + epsilon)"),
    Wrong(
        "epsilon-not-rescaled", 2, "v.sqrt() / math.sqrt(second) + epsilon", "(v.sqrt() + epsilon) / math.sqrt(second)"
    ),
    Wrong("wrong-power-of-beta", 0, " ** t)", ")"),
    Wrong("wrong-power-of-beta", 0, "** t", "** (t + 1)"),
    Wrong("negative-under-root", 1, "** t", "* t"),
    Wrong("wrong-power-of-beta", 0, "** t", "* t"),
    Wrong("step-counter-from-zero", 0, "** t", "** (t - 1)"),
    Wrong("step-counter-from-zero", 1, "** t", "** (t - 1)"),
    Wrong("step-counter-from-zero", 3, "t - 1.0", "t - 2.0"),
    Wrong("betas-swapped", 0, "beta1, beta2 = betas", "beta2, beta1 = betas"),
    Wrong("betas-swapped", 3, "betas=betas", "betas=betas[::-1]"),
    Wrong("missing-root", 0, "v_hat.sqrt()", "v_hat"),
    Wrong("gradient-not-squared", 0, "gradient ** 2", "gradient.abs()"),
    Wrong("wrong-sign", 0, "parameter -", "parameter +"),
    Wrong("input-changed", 3, "m.clone()", "m"),
    Wrong("input-changed", 0, "m = beta1 * m + (1 - beta1) * gradient", "m.mul_(beta1).add_((1 - beta1) * gradient)"),
    Wrong("wrong-outputs", 0, "epsilon), m, v", "epsilon)"),
]

RIGHT["check_adamw"] = [
    """
def answer(gradient, start, learning_rate, betas, epsilon, weight_decay, steps):
    x = start.clone()
    m = torch.zeros_like(x)
    v = torch.zeros_like(x)
    path = [x]
    for t in range(1, steps + 1):
        g = gradient(x)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g ** 2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        x = x - learning_rate * (m_hat / (v_hat.sqrt() + epsilon) + weight_decay * x)
        path.append(x)
    return torch.stack(path)
""",
    """
def answer(gradient, start, learning_rate, betas, epsilon, weight_decay, steps):
    x = start.clone()
    optimizer = torch.optim.AdamW([x], lr=learning_rate, betas=betas, eps=epsilon, weight_decay=weight_decay)
    path = [x.clone()]
    for _ in range(steps):
        x.grad = gradient(x)
        optimizer.step()
        path.append(x.clone())
    return path
""",
    """
def answer(gradient, start, learning_rate, betas, epsilon, weight_decay, steps):
    x, m, v = start.tolist(), [0.0] * len(start), [0.0] * len(start)
    path, t = [list(x)], 0
    while t < steps:
        t += 1
        g = gradient(torch.tensor(x, dtype=torch.float64)).tolist()
        for i in range(len(x)):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g[i] ** 2
            x[i] *= 1 - learning_rate * weight_decay
            root = math.sqrt(v[i] / (1 - betas[1] ** t))
            x[i] -= learning_rate * m[i] / (1 - betas[0] ** t) / (root + epsilon)
        path.append(list(x))
    return path
""",
    """
def answer(gradient, start, learning_rate, betas, epsilon, weight_decay, steps):
    x = start.clone()
    m, v, path = torch.zeros_like(x), torch.zeros_like(x), [x.clone()]
    for t in range(1, steps + 1):
        g = gradient(x)
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        x.mul_(1 - learning_rate * weight_decay)
        x.sub_(learning_rate * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + epsilon))
        path.append(x.clone())
    return path
""",
]
UPDATES = """        g = gradient(x)
        m.mul_(betas[0]).add_(g, alpha=1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
"""
WRONG["check_adamw"] = [
    Wrong("missing-bias-correction", 0, "m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)", "m, v"),
    Wrong(
        "missing-bias-correction",
        2,
        " / (1 - betas[1] ** t))\n            x[i] -= learning_rate * m[i] / (1 - betas[0] ** t)",
        ")\n            x[i] -= learning_rate * m[i]",
    ),
    Wrong("epsilon-inside-root", 0, "v_hat.sqrt() + epsilon", "(v_hat + epsilon).sqrt()"),
    Wrong("epsilon-inside-root", 3, ".sqrt() + epsilon)", " + epsilon).sqrt()"),
    Wrong("wrong-power-of-beta", 0, " ** t", ""),
    Wrong("wrong-power-of-beta", 0, "** t", "** (t + 1)"),
    Wrong("negative-under-root", 2, "** t", "* t"),
    Wrong("wrong-power-of-beta", 0, "** t", "* t"),
    Wrong("betas-swapped", 1, "betas=betas", "betas=betas[::-1]"),
    Wrong("betas-swapped", 0, "    x = start", "    betas = betas[1], betas[0]\n    x = start"),
    Wrong("l2-instead-of-decoupled", 1, "torch.optim.AdamW", "torch.optim.Adam"),
    Wrong(
        "l2-instead-of-decoupled",
        3,
        UPDATES + "        x.mul_(1 - learning_rate * weight_decay)\n",
        UPDATES.replace("gradient(x)", "gradient(x) + weight_decay * x"),
    ),
    Wrong("step-counter-from-zero", 0, "range(1, steps + 1)", "range(steps)"),
    Wrong("step-counter-from-zero", 3, "range(1, steps + 1)", "range(steps)"),
    Wrong("step-counter-from-zero", 2, "** t", "** (t - 1)"),
    Wrong("input-changed", 3, "x = start.clone()", "x = start"),
    Wrong("aliased-path", 3, "x.clone()", "x"),
    Wrong("aliased-path", 1, "x.clone()", "x"),
    Wrong("aliased-path", 2, "list(x)", "x"),
    Wrong(
        "shared-moments",
        3,
        "m, v, path = torch.zeros_like(x), torch.zeros_like(x), ",
        "m = v = torch.zeros_like(x); path = ",
    ),
    Wrong(
        "negative-under-root",
        2,
        "x, m, v = start.tolist(), [0.0] * len(start), [0.0] * len(start)",
        "x = start.tolist(); m = v = [0.0] * len(start)",
    ),
    Wrong(
        "moments-reset",
        0,
        "        g = gradient(x)\n",
        "        g = gradient(x)\n        m, v = torch.zeros_like(x), torch.zeros_like(x)\n",
    ),
    Wrong("gradient-after-decay", 0, "gradient(x)", "gradient((1 - learning_rate * weight_decay) * x)"),
    Wrong(
        "gradient-after-decay",
        1,
        "gradient(x)",
        "gradient((1 - learning_rate * weight_decay) * x)",
    ),
    Wrong("decay-missing", 0, " + weight_decay * x)", ")"),
    Wrong("decay-without-rate", 2, "1 - learning_rate * weight_decay", "1 - weight_decay"),
    Wrong("decay-sign", 0, "+ weight_decay * x", "- weight_decay * x"),
    Wrong(
        "decay-after-step",
        0,
        "x - learning_rate * (m_hat / (v_hat.sqrt() + epsilon) + weight_decay * x)",
        "x - learning_rate * m_hat / (v_hat.sqrt() + epsilon)\n        x = x - learning_rate * weight_decay * x",
    ),
    Wrong("first-moment-uncorrected", 0, "m / (1 - betas[0] ** t), ", "m, "),
    Wrong("second-moment-uncorrected", 0, ", v / (1 - betas[1] ** t)", ", v"),
    Wrong("missing-root", 0, "v_hat.sqrt()", "v_hat"),
    Wrong("gradient-not-squared", 2, "g[i] ** 2", "abs(g[i])"),
    Wrong(
        "correction-stored",
        0,
        "        x = x - learning_rate",
        "        m, v = m_hat, v_hat\n        x = x - learning_rate",
    ),
    Wrong("wrong-sign", 3, "x.sub_", "x.add_"),
]

RIGHT["check_clip_gradients"] = [
    """
def answer(gradients, max_norm):
    norm = torch.sqrt(sum((g ** 2).sum() for g in gradients))
    if norm <= max_norm:
        return gradients
    return [g * max_norm / norm for g in gradients]
""",
    """
def answer(gradients, max_norm):
    parameters = [torch.zeros_like(g) for g in gradients]
    for p, g in zip(parameters, gradients):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return [p.grad for p in parameters]
""",
    """
def answer(gradients, max_norm):
    norm = math.sqrt(sum(x * x for g in gradients for x in g.flatten().tolist()))
    scale = min(1.0, max_norm / norm)
    return tuple(scale * g.numpy() for g in gradients)
""",
]
WRONG["check_clip_gradients"] = [
    Wrong(
        "each-tensor-alone",
        2,
        "return tuple(scale * g.numpy() for g in gradients)",
        "return [g * min(1.0, max_norm / float(g.norm())) for g in gradients]",
    ),
    Wrong("each-entry-alone", 1, "clip_grad_norm_", "clip_grad_value_"),
    Wrong("always-rescaled", 0, "    if norm <= max_norm:\n        return gradients\n", ""),
    Wrong("always-rescaled", 2, "min(1.0, max_norm / norm)", "max_norm / norm"),
    Wrong("root-forgotten", 2, "math.sqrt(", "("),
    Wrong("largest-entry", 1, "(parameters, max_norm)", "(parameters, max_norm, norm_type=math.inf)"),
    Wrong("sum-of-norms", 0, "torch.sqrt(sum((g ** 2).sum() for g in gradients))", "sum(g.norm() for g in gradients)"),
    Wrong("never-clipped", 0, "norm <= max_norm", "norm > 0"),
    Wrong("max-norm-forgotten", 0, "g * max_norm / norm", "g / norm"),
    Wrong("input-changed", 1, "g.clone()", "g"),
]

# ---------------------------------------------------------------- numbers

NUMBERS: dict[str, tuple[list, list[tuple[str, Any]]]] = {
    "check_constant_predictor": (
        [0.8018, 0.80, torch.tensor(0.802), np.float32(0.8018)],
        [
            ("uniform", 1.0986),
            ("bits", 1.157),
            ("majority-only", 0.357),
            ("unweighted-mean", 1.42),
            ("error-rate", 0.3),
            ("error-rate", 0.7),
            ("wrong-sign", -0.80),
            ("zero", 0),
            ("wrong-value", 0.55),
        ],
    ),
    "check_stability_limits": (
        [(0.25, 0.45, 0.173), [0.25, 0.45, 0.1731], {"plain": 0.25, "heavy_ball": 0.45, "nesterov": 0.173}],
        [
            ("smallest-curvature", (4.0, 7.2, 2.77)),
            ("factor-two-missing", (0.125, 0.225, 0.0865)),
            ("fastest-not-largest", (0.2353, 0.45, 0.173)),
            ("minus-for-plus", (0.25, 0.05, 0.173)),
            ("effective-rate", (0.25, 1.25, 0.173)),
            ("plain-limit", (0.25, 0.25, 0.173)),
            ("nesterov-limit", (0.25, 0.173, 0.45)),
            ("heavy-ball-limit", (0.25, 0.45, 0.45)),
            ("plain-limit", (0.25, 0.45, 0.25)),
            ("numerator-forgotten", (0.25, 0.45, 0.0962)),
            ("smallest-curvature", (0.25, 0.45, 2.77)),
            ("not-numbers", (0.25, 0.45)),
            ("not-numbers", 0.25),
            ("not-a-number", (0.25, "0.45", 0.173)),
        ],
    ),
    "check_curvature": (
        [11, 11.0, torch.tensor(11.0)],
        [
            ("root-forgotten", 12.2),
            ("absolute-value-forgotten", -1),
            ("sign-not-flipped", 1),
            ("one-forgotten", 6),
            ("limit", 10),
            ("sign-not-flipped", 2.2),
        ],
    ),
    "check_first_uncorrected_step": (
        [2, 2.0, torch.tensor(2.0)],
        [
            ("corrected", 1.0),
            ("numerator-only", 0.2),
            ("root-forgotten", 20),
            ("inverted", 0.5),
            ("betas-swapped", 0.02236),
            ("beta-for-one-minus-beta", 0.804),
            ("usual-betas", 3.16),
        ],
    ),
    "check_optimizer_memory": (
        [2.36, 2.359296, np.float64(2.359)],
        [
            ("frozen-counted", 875.9),
            ("one-moment", 1.18),
            ("gradients-counted", 3.54),
            ("weights-counted", 4.72),
            ("bytes-forgotten", 0.59),
            ("bytes-for-megabytes", 2_359_296),
            ("mebibytes", 2.25),
            ("whole-model", 437.9),
        ],
    ),
}


# ---------------------------------------------------------------- the tests


class TestLessons01To03(ValueCheckerTests):
    modules = (loss_checks, descent, adam)
    right, wrong, values = RIGHT, WRONG, NUMBERS
    exercises = {
        "check_softmax": loss_checks.SOFTMAX,
        "check_cross_entropy": loss_checks.CROSS_ENTROPY,
        "check_smoothed_cross_entropy": loss_checks.SMOOTHED,
        "check_cross_entropy_gradient": loss_checks.GRADIENT,
        "check_binary_cross_entropy": loss_checks.BINARY,
        "check_regression_loss": loss_checks.REGRESSION,
        "check_gradient_descent": descent.DESCENT,
        "check_training_loop": descent.TRAINING_LOOP,
        "check_momentum_step": descent.MOMENTUM,
        "check_nesterov_step": descent.NESTEROV,
        "check_numerical_gradient": descent.NUMERICAL_GRADIENT,
        "check_rmsprop_step": adam.RMSPROP,
        "check_adam_step": adam.ADAM,
        "check_adamw": adam.ADAMW,
        "check_clip_gradients": adam.CLIPPING,
    }
    valued = {
        "check_constant_predictor": loss_checks.CONSTANT_PREDICTOR,
        "check_stability_limits": descent.STABILITY_LIMITS,
        "check_curvature": descent.CURVATURE,
        "check_first_uncorrected_step": adam.FIRST_UNCORRECTED_STEP,
        "check_optimizer_memory": adam.OPTIMIZER_MEMORY,
    }
    silent_junk = frozenset({("a dictionary", "check_stability_limits")})  # none of the three names is in it
    raised_only = frozenset({"keepdim-missing", "left-the-graph", "negative-under-root", "step-recorded-by-autograd"})
    untried = frozenset({"epsilon-not-rescaled"})

    def test_the_count_that_was_promised(self) -> None:
        """At least 45 known-wrong answers in the three lessons, 15 exercises, 5 a lesson."""
        assert len(self.cases()["edit"]) + len(self.cases()["wrong_value"]) >= 45
        assert len(self.checkers()) >= 15
        for module in self.modules:
            assert len([name for name in self.checkers() if f"`{name}`" in module.__doc__]) >= 5

"""The checkers of lesson 07: right answers pass in any style, wrong ones are refused by name, junk never raises.

How answers are written here and how they are judged: `checker_cases`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from checker_cases import JUNK, ValueCheckerTests, Wrong

from peft_helpers import accounting, plots, question_bank
from peft_helpers.checks import costs

RIGHT: dict[str, list[str]] = {}
WRONG: dict[str, list[Wrong]] = {}

# ---------------------------------------------------------------- 07-1

RIGHT["check_run_memory"] = [
    """
def answer(body, head, per_text, batch, frozen):
    trained = head if frozen else body + head
    return 4 * (body + head), 4 * trained, 8 * trained, batch * per_text
""",
    """
def answer(body, head, per_text, batch, frozen):
    weights = 4 * body + 4 * head
    gradients = 4 * head
    if not frozen:
        gradients += 4 * body
    adam = 2 * gradients
    activations = per_text * batch
    return torch.tensor([weights]), gradients, np.int64(adam), float(activations)
""",
    """
def answer(body, head, per_text, batch, frozen):
    numbers = {True: head, False: body + head}[frozen]
    return [(body + head) * 32 / 8, numbers * 4, sum(numbers * 4 for moment in "mv"), sum([per_text] * batch)]
""",
]
WRONG["check_run_memory"] = [
    Wrong("activations-forgotten", 0, "batch * per_text", "0"),
    Wrong("batch-forgotten", 0, "batch * per_text", "per_text"),
    Wrong("bytes-twice", 0, "batch * per_text", "4 * batch * per_text"),
    Wrong("adam-once", 0, "8 * trained", "4 * trained"),
    Wrong("adam-once", 1, "2 * gradients", "gradients"),
    Wrong("adam-forgotten", 0, "8 * trained", "0"),
    Wrong("optimizer-counts-all", 0, "8 * trained", "12 * trained"),
    Wrong("optimizer-counts-all", 0, "8 * trained", "16 * trained"),
    Wrong("gradients-forgotten", 0, "4 * trained, 8", "0, 8"),
    Wrong("head-left-out", 0, "else body + head", "else body"),
    Wrong("head-left-out", 0, "4 * (body + head)", "4 * body"),
    Wrong("head-left-out", 2, "body + head", "body"),
    Wrong("frozen-counted", 0, "head if frozen else body + head", "body + head"),
    Wrong("frozen-counted", 0, "4 * trained, 8", "4 * (body + head), 8"),
    Wrong("frozen-counted", 0, "8 * trained", "8 * (body + head)"),
    Wrong("frozen-weights-forgotten", 0, "4 * (body + head)", "4 * trained"),
    Wrong(
        "bytes-forgotten",
        0,
        "4 * (body + head), 4 * trained, 8 * trained",
        "body + head, trained, 2 * trained",
    ),
    Wrong(
        "half-precision",
        0,
        "4 * (body + head), 4 * trained, 8 * trained",
        "2 * (body + head), 2 * trained, 4 * trained",
    ),
    Wrong(
        "megabytes",
        0,
        "4 * (body + head), 4 * trained, 8 * trained, batch * per_text",
        "4e-6 * (body + head), 4e-6 * trained, 8e-6 * trained, 1e-6 * batch * per_text",
    ),
    Wrong("wrong-outputs", 0, "4 * (body + head), ", ""),
]

# ---------------------------------------------------------------- 07-2

RIGHT["check_scaled_step"] = [
    """
def answer(weights, gradients, scale, learning_rate):
    if not torch.isfinite(gradients).all():
        return weights
    return weights - learning_rate * gradients.to(weights.dtype) / scale
""",
    """
def answer(weights, gradients, scale, learning_rate):
    g = gradients.float() / scale
    if g.isinf().any() or g.isnan().any():
        return weights.clone()
    return weights - learning_rate * g
""",
    """
def answer(weights, gradients, scale, learning_rate):
    w, g = weights.numpy(), gradients.numpy().astype("float64")
    return w - (learning_rate / scale) * g if np.isfinite(g).all() else w
""",
]
WRONG["check_scaled_step"] = [
    Wrong("not-unscaled", 0, " / scale", ""),
    Wrong("unscaled-in-half", 0, "gradients.to(weights.dtype) / scale", "(gradients / scale)"),
    Wrong("unscaled-in-half", 0, "gradients.to(weights.dtype) / scale", "gradients / scale"),
    Wrong("scaled-twice", 0, "/ scale", "* scale"),
    Wrong("overflow-applied", 0, "not torch.isfinite(gradients).all()", "False"),
    Wrong(
        "overflow-applied",
        0,
        "if not torch.isfinite(gradients).all():\n        return weights",
        "gradients = torch.nan_to_num(gradients.double())",
    ),
    Wrong(
        "only-bad-entries-skipped",
        0,
        "if not torch.isfinite(gradients).all():\n        return weights",
        "gradients = torch.where(torch.isfinite(gradients), gradients, 0)",
    ),
    Wrong("weights-in-half", 0, "/ scale", "/ scale\n\nright = answer\ndef answer(*a):\n    return right(*a).half()"),
    Wrong("wrong-sign", 0, "weights - learning", "weights + learning"),
    Wrong("learning-rate-forgotten", 0, "learning_rate * gradients", "gradients"),
    Wrong(
        "input-changed",
        1,
        "return weights - learning_rate * g",
        "weights -= learning_rate * g\n    return weights",
    ),
]

# ---------------------------------------------------------------- 07-3

RIGHT["check_accumulated_step"] = [
    """
def answer(model, optimizer, x, y, size):
    optimizer.zero_grad()
    total = 0.0
    for rows, labels in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(rows), labels) * len(rows) / len(x)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
""",
    """
def answer(model, optimizer, x, y, size):
    losses = []
    model.zero_grad(set_to_none=True)
    for start in range(0, len(y), size):
        part = slice(start, start + size)
        loss = F.cross_entropy(model(x[part]), y[part], reduction="sum")
        loss.backward()
        losses.append(loss.detach())
    for p in model.parameters():
        p.grad /= len(y)
    optimizer.step()
    optimizer.zero_grad()
    return sum(losses) / len(y)
""",
    """
def answer(model, optimizer, x, y, size):
    found, total = [torch.zeros_like(p) for p in model.parameters()], torch.tensor(0.0, dtype=torch.float64)
    for rows in torch.arange(len(y)).split(size):
        share = len(rows) / len(y)
        loss = torch.nn.CrossEntropyLoss()(model(x[rows]), y[rows])
        for one, gradient in zip(found, torch.autograd.grad(loss, list(model.parameters()))):
            one += share * gradient
        total += share * loss.detach()
    for p, one in zip(model.parameters(), found):
        p.grad = one
    optimizer.step()
    return total
""",
]
WRONG["check_accumulated_step"] = [
    Wrong("mean-of-means", 0, "* len(rows) / len(x)", "/ len(x.split(size))"),
    Wrong("mean-of-means", 0, "* len(rows) / len(x)", "* size / len(x)"),
    Wrong("last-loss", 0, "total += loss.item()", "total = loss.item()"),
    Wrong("sum-for-mean", 0, " * len(rows) / len(x)", ""),
    Wrong("sum-for-mean", 0, " * len(rows) / len(x)", " * len(rows)"),
    Wrong(
        "step-in-every-part",
        0,
        "        total += loss.item()\n    optimizer.step()",
        "        optimizer.step()\n        optimizer.zero_grad()\n        total += loss.item()",
    ),
    Wrong(
        "step-in-every-part",
        0,
        "* len(rows) / len(x)\n        loss.backward()\n        total += loss.item()\n    optimizer.step()",
        "\n        loss.backward()\n        optimizer.step()\n        model.zero_grad()\n        total += loss.item()",
    ),
    Wrong("cleared-in-between", 0, "        loss = ", "        optimizer.zero_grad()\n        loss = "),
    Wrong("old-gradients", 0, "    optimizer.zero_grad()\n    total", "    total"),
    Wrong("no-step", 0, "    optimizer.step()\n", ""),
    Wrong(
        "graphs-pile-up",
        0,
        "        loss.backward()\n        total += loss.item()\n",
        "        total = total + loss\n    total.backward()\n",
    ),
    Wrong("whole-batch-at-once", 0, "x.split(size), y.split(size)", "[x], [y]"),
    Wrong("last-rows-dropped", 1, "range(0, len(y), size)", "range(0, len(y) - size + 1, size)"),
]

# ---------------------------------------------------------------- 07-4

RIGHT["check_global_masks"] = [
    """
def answer(weights, sparsity):
    sizes = torch.cat([w.abs().flatten() for w in weights]).sort().values
    limit = sizes[round(sparsity * len(sizes))]
    return [(w.abs() >= limit).to(w.dtype) for w in weights]
""",
    """
def answer(weights, sparsity):
    flat = torch.cat([w.reshape(-1) for w in weights]).abs()
    mask = torch.ones(len(flat), dtype=torch.bool)
    mask[flat.topk(round(len(flat) * sparsity), largest=False).indices] = False
    masks, at = [], 0
    for w in weights:
        masks.append(mask[at : at + w.numel()].view(w.shape))
        at += w.numel()
    return masks
""",
    """
def answer(weights, sparsity):
    arrays = [np.abs(w.numpy()) for w in weights]
    limit = np.quantile(np.concatenate([a.ravel() for a in arrays]), sparsity)
    return tuple((a > limit).astype(int) for a in arrays)
""",
]
WRONG["check_global_masks"] = [
    Wrong(
        "each-tensor-alone",
        0,
        "    sizes = torch.cat([w.abs().flatten() for w in weights]).sort().values\n"
        "    limit = sizes[round(sparsity * len(sizes))]\n"
        "    return [(w.abs() >= limit).to(w.dtype) for w in weights]",
        "    limit = [w.abs().flatten().sort().values[round(sparsity * w.numel())] for w in weights]\n"
        "    return [(w.abs() >= one).long() for w, one in zip(weights, limit)]",
    ),
    Wrong(
        "mean-threshold",
        0,
        "limit = sizes[round(sparsity * len(sizes))]",
        "limit = sum(w.abs().flatten().sort().values[round(sparsity * w.numel())] for w in weights) / len(weights)",
    ),
    Wrong("sign-counts", 1, "]).abs()", "])"),
    Wrong("largest-removed", 1, "largest=False", "largest=True"),
    Wrong("share-kept", 1, "len(flat) * sparsity", "len(flat) * (1 - sparsity)"),
    Wrong("mask-inverted", 0, ">= limit", "< limit"),
    Wrong("weights-returned", 0, "(w.abs() >= limit).to(w.dtype)", "w * (w.abs() >= limit)"),
    Wrong("wrong-outputs", 2, "tuple((a > limit).astype(int) for a in arrays)", "(arrays[0] > limit).astype(int), 1"),
    Wrong("wrong-shape", 1, ".view(w.shape)", ""),
]

# ---------------------------------------------------------------- 07-5

RIGHT["check_without_units"] = [
    """
def answer(w_in, b_in, w_out, b_out, keep):
    return w_in[keep], b_in[keep], w_out[:, keep], b_out
""",
    """
def answer(w_in, b_in, w_out, b_out, keep):
    rows = torch.tensor(keep)
    return w_in.index_select(0, rows), b_in.index_select(0, rows), w_out.index_select(1, rows), b_out.clone()
""",
    """
def answer(w_in, b_in, w_out, b_out, keep):
    left = [i in keep for i in range(len(b_in))]
    return [w_in.numpy()[left], b_in.numpy()[left], w_out.T.numpy()[left].T, b_out.numpy()]
""",
]
WRONG["check_without_units"] = [
    Wrong("bias-forgotten", 0, "b_in[keep]", "b_in"),
    Wrong("wrong-axis-in", 0, "w_in[keep]", "w_in[:, keep]"),
    Wrong("wrong-axis-in", 0, "w_in[keep]", "w_in.index_select(1, torch.tensor(keep))"),
    Wrong("wrong-axis-out", 0, "w_out[:, keep]", "w_out[keep]"),
    Wrong("output-not-cut", 0, "w_out[:, keep]", "w_out"),
    Wrong("output-bias-cut", 0, ", b_out\n", ", b_out[keep[:2]]\n"),
    Wrong(
        "zeros-for-removal",
        0,
        "    return w_in[keep], b_in[keep], w_out[:, keep], b_out",
        "    m = torch.zeros_like(b_in)\n    m[keep] = 1\n    return w_in * m[:, None], b_in * m, w_out * m, b_out",
    ),
    Wrong("removed-for-kept", 0, "    return", "    keep = [i for i in range(len(b_in)) if i not in keep]\n    return"),
    Wrong("rescaled", 0, "w_out[:, keep]", "w_out[:, keep] * len(b_in) / len(keep)"),
]

VALUES: dict[str, tuple[list[Any], list[tuple[str, Any]]]] = {
    "check_storage_of_tasks": (
        [4 * 109_482_240 * (1 + 20 * 0.021) / 1e6, 622, 621.9, torch.tensor(622.0)],
        [
            ("full-copies", 20 * 437.9),
            ("full-copies", 20 * 437.9 * 1.021),
            ("shared-model-forgotten", 183.9),
            ("one-task", 447.1),
            ("percent-for-share", 437.9 * 43),
            ("percent-for-share", 437.9 * 5.2),
            ("bytes-forgotten", 155.5),
            ("compounded", 437.9 * 1.021**20),
            ("mebibytes", 593),
            ("gigabytes", 0.622),
            ("wrong-value", 700),
            ("not-a-number", "many"),
        ],
    )
}


# ---------------------------------------------------------------- the tests


class TestLesson07(ValueCheckerTests):
    modules = (costs,)
    right, wrong, values = RIGHT, WRONG, VALUES
    exercises = {
        "check_run_memory": costs.RUN_MEMORY,
        "check_scaled_step": costs.SCALED,
        "check_accumulated_step": costs.ACCUMULATED,
        "check_global_masks": costs.MASKS,
        "check_without_units": costs.WITHOUT_UNITS,
    }
    valued = {"check_storage_of_tasks": costs.STORAGE_OF_TASKS}
    junk = JUNK | {
        "returns four words": lambda *arguments: ("a", "b", "c", "d"),
        "returns four NaNs": lambda *arguments: (float("nan"),) * 4,
        "returns four empty lists": lambda *arguments: ([], [], [], []),
        "returns three matrices": lambda *arguments: [torch.ones(2, 2)] * 3,
        "returns ragged rows": lambda *arguments: [torch.ones(2), torch.ones(3), torch.ones(4)],
    }


def test_the_right_memory_is_the_librarys() -> None:
    for frozen in (False, True):
        trained = costs.HEAD if frozen else costs.BODY + costs.HEAD
        found = accounting.training_memory(costs.BODY + costs.HEAD, trained, costs.BATCH * costs.PER_TEXT)
        ours = costs.run_memory(costs.BODY, costs.HEAD, costs.PER_TEXT, costs.BATCH, frozen)
        assert ours == (found.weights, found.gradients, found.optimizer, found.activations)


def test_runs_to_diagnose_show_what_the_questions_say() -> None:
    before = torch.get_rng_state()
    runs = costs.runs_to_diagnose()
    assert torch.equal(before, torch.get_rng_state())
    assert list(runs) == ["07-a", "07-b", "07-c"]
    assert all(question_bank.find(name).kind == "diagnose" for name in runs)
    leak = runs["07-a"]["activations (MB)"]["run"]
    grown = [b - a for a, b in itertools.pairwise(leak)]
    assert min(grown) > 0 and max(grown) < 1.01 * min(grown), "every batch adds the same"
    losses, norms = runs["07-b"]["loss"]["run"], runs["07-b"]["gradient norm"]["run"]
    assert max(losses) - min(losses) < 5e-4 and min(norms) > 0.1
    peak = runs["07-c"]["activations (MB)"]["run"]
    assert peak.index(max(peak)) == 17 and max(peak) > 5 * sorted(peak)[-2]
    assert plots.broken_runs(runs).alt

"""The pretraining loop, one for all objectives: resumable, logged, on a CPU or a GPU.

An objective brings the model and says what the loss of step n is; its batches are a pure function of (seed, step), so
that a run that was stopped continues with the ones it would have seen.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from peft_helpers import storage, training

SAVE_EVERY = 500  # steps
WARMUP = 0.04  # of all steps


class Objective(Protocol):
    """What is learned from what.

    Attributes:
        model: the network, on its device.
        settings: whatever the model card should tell.
    """

    model: nn.Module
    settings: dict[str, Any]

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of step n, and figures to log beside it."""

    def measure(self) -> dict[str, float]:
        """Figures on held-out text."""


def pretrain(
    objective: Objective,
    checkpoint: Path,
    steps: int,
    learning_rate: float,
    minutes: float = math.inf,
    seed: int = 0,
) -> bool:
    """Run AdamW with a linear warm-up and a linear decay to 0 until `steps`, saving every `SAVE_EVERY` steps.

    Args:
        objective: see `Objective`.
        checkpoint: a safetensors file with weights, optimizer state and history; if it is there, the run continues.
        steps, learning_rate, seed: of the whole run; the rate is the peak.
        minutes: stop at the first save after so long; the same call continues.

    Returns:
        Whether the run came to its end.
    """
    torch.manual_seed(seed)
    model = objective.model
    device = next(model.parameters()).device
    matrices, rest = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)
    settings = objective.settings | {
        "steps": steps, "learning_rate": learning_rate, "warmup": WARMUP, "seed": seed,
        "torch": torch.__version__, "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }  # fmt: skip
    step, spent, history = _restore(checkpoint, model, optimizer) if checkpoint.exists() else (0, 0.0, [])

    model.train()
    started, logged = time.perf_counter(), defaultdict(list)
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * training.rate_factor(step, steps, WARMUP)
        loss, figures = objective.loss(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        for name, value in ({"loss": loss} | figures).items():
            logged[name].append(value.detach())
        if step % SAVE_EVERY == 0 or step == steps:
            model.eval()
            row = {name: round(torch.stack(values).float().mean().item(), 4) for name, values in logged.items()}
            row |= {f"held_out_{name}": round(value, 4) for name, value in objective.measure().items()}
            model.train()
            seconds = spent + time.perf_counter() - started
            history.append({"step": step, "seconds": round(seconds)} | row)
            print(json.dumps(history[-1]), flush=True)
            progress = {"step": step, "seconds": seconds, "history": history, "settings": settings}
            _save(checkpoint, model, optimizer, progress)
            logged.clear()
            if step < steps and seconds - spent > 60 * minutes:
                print("time is up; the same command continues", flush=True)
                return False
    return True


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter
        if parameter in optimizer.state:
            tensors[f"first.{name}"] = optimizer.state[parameter]["exp_avg"]
            tensors[f"second.{name}"] = optimizer.state[parameter]["exp_avg_sq"]
            tensors[f"steps.{name}"] = optimizer.state[parameter]["step"]  # fewer for a head that has its own steps
    storage.write_tensors(path, tensors, state)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float, list[dict]]:
    tensors, state = storage.read_tensors(path)
    load(model, tensors)
    for name, parameter in model.named_parameters():
        if f"first.{name}" in tensors:
            kept = {"exp_avg": "first", "exp_avg_sq": "second", "step": "steps"}
            optimizer.state[parameter] = {k: tensors[f"{v}.{name}"].to(parameter.device) for k, v in kept.items()}
    print(f"continuing at step {state['step']:,}", flush=True)
    return state["step"], state["seconds"], state["history"]


def load(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint's weights into the model; every parameter must be there."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])

"""A race of two methods, live: both are trained in short slices in turn, so that both are seen to move at once.

Each contestant keeps its own optimizer and its own random state, so that it ends exactly as if it had trained alone.
The race can be stopped at any slice (in a notebook: interrupt the kernel) and gives back what there is.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ipywidgets as W

from peft_helpers.plots.style import COLORS

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from peft_helpers.tasks import Task

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 220, 52, 34  # pixels
LOOKS = ((COLORS["blue"], ""), (COLORS["orange"], "7 3"))


@dataclass
class Contestant:
    """One runner.

    Attributes:
        name: for people.
        model: with its method in it; what requires grad is trained.
        learning_rate: AdamW's peak.
        points: (step, dev score) after each slice; the first is before training.
        seconds: of its own slices.
        trained: parameters.
    """

    name: str
    model: nn.Module
    learning_rate: float
    points: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def trained(self) -> int:
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


@dataclass
class Race:
    """How it went: the contestants with their points, and why it ended ("all steps done", "stopped", "interrupted")."""

    contestants: Sequence[Contestant]
    steps: int
    metric: str
    ended: str = "all steps done"

    def __repr__(self) -> str:
        told = [f"{one.name} {one.points[-1][1]:.3f} after {one.points[-1][0]} steps ({one.seconds:.1f} s)"
                for one in self.contestants if one.points]  # fmt: skip
        return f"race, dev {self.metric}: {'; '.join(told)} · {self.ended}"


def run(
    contestants: Sequence[Contestant],
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    steps: int = 60,
    slice_steps: int = 10,
    batch_size: int = 16,
    seed: int = 0,
    on_slice: Callable[[Race], bool | None] | None = None,
) -> Race:
    """Train all contestants on the same batches, `slice_steps` at a time in turn, and look at dev after each slice.

    Args:
        steps: for each contestant, with `training`'s warm-up and linear decay.
        on_slice: called after every slice; True stops the race.

    Raises:
        ValueError: fewer than two contestants, two of one name, nothing to train, or sizes that are not positive.
    """
    import torch

    from peft_helpers import training

    names = [one.name for one in contestants]
    if len(contestants) < 2 or len(set(names)) < len(names):
        raise ValueError(f"a race needs at least two contestants with different names; got {names}")
    if min(steps, slice_steps, batch_size) < 1:
        raise ValueError(f"steps, slices and batches are positive; got {steps}, {slice_steps}, {batch_size}")
    if idle := [one.name for one in contestants if not one.trained]:
        raise ValueError(f"{', '.join(idle)} has nothing to train")
    settings = training.Settings(1.0, batch_size=batch_size)
    encoded = training.encode(task, "train", tokenizer, training.length_limit(contestants[0].model, tokenizer))
    each = math.ceil(len(encoded.inputs) / batch_size)
    plan = [rows for epoch in range(math.ceil(steps / each)) for rows in
            training.batches(encoded.lengths, batch_size, seed, epoch)][:steps]  # fmt: skip
    race = Race(contestants, steps, training.fitting_metric(task))
    runners = [_Runner(one, seed) for one in contestants]
    state = torch.get_rng_state()
    try:
        for one in contestants:
            one.points[:] = [(0, training.evaluate(one.model, tokenizer, task, "dev").score)]
        for begin in range(0, steps, slice_steps):
            for runner in runners:
                runner.slice(encoded, plan[begin : begin + slice_steps], begin, steps, settings, tokenizer, task)
                one = runner.contestant
                reached = min(begin + slice_steps, steps)
                one.points.append((reached, training.evaluate(one.model, tokenizer, task, "dev").score))
                if on_slice and on_slice(race):
                    race.ended = "stopped"
                    return race
    except KeyboardInterrupt:
        race.ended = "interrupted"
    finally:
        torch.set_rng_state(state)
    return race


class _Runner:
    """A contestant on the track: its optimizer and its random state."""

    def __init__(self, contestant: Contestant, seed: int):
        import torch

        self.contestant = contestant
        self.trained = [p for p in contestant.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [{"params": [p for p in self.trained if p.ndim > 1], "weight_decay": 0.01},
             {"params": [p for p in self.trained if p.ndim <= 1], "weight_decay": 0.0}],
            lr=contestant.learning_rate,
        )  # fmt: skip
        self.random: torch.Tensor = torch.Generator().manual_seed(seed).get_state()

    def slice(self, encoded: Any, plan: Sequence, begin: int, steps: int, settings: Any, tokenizer, task) -> None:
        """Some steps, in training mode, on this runner's own random numbers."""
        import torch

        from peft_helpers import batching, training

        model, started = self.contestant.model, time.perf_counter()
        device = next(model.parameters()).device
        torch.set_rng_state(self.random)
        model.train()
        for number, rows in enumerate(plan, begin):
            factor = training.rate_factor(number, steps, settings.warmup, settings.schedule)
            for group in self.optimizer.param_groups:
                group["lr"] = self.contestant.learning_rate * factor
            batch = {k: v.to(device) for k, v in batching.collate(encoded, rows, tokenizer.pad_token_id).items()}
            labels = batch.pop("labels")
            loss = training.loss_sum(model(**batch).logits, labels, task.kind) / len(rows)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, settings.clip)
            self.optimizer.step()
        self.random = torch.get_rng_state()
        self.contestant.seconds += time.perf_counter() - started


# ---------------------------------------------------------------- on the page


class RaceView(W.VBox):
    """A progress bar, two growing lines and the figures in text: `race.run(…, on_slice=view)`."""

    def __init__(self) -> None:
        self.bar = W.IntProgress(value=0, min=0, max=1, description="race", layout=W.Layout(width=f"{WIDTH}px"))
        self.lines = W.HTML(layout=W.Layout(width=f"{WIDTH}px", min_height=f"{HEIGHT + 50}px"))
        super().__init__([self.bar, self.lines])
        self.add_class("pf-race")
        self.lines.value = '<div style="font-size:14px">waiting for the first slice</div>'

    def __call__(self, race: Race) -> None:
        self.bar.max = race.steps * len(race.contestants)
        self.bar.value = sum(one.points[-1][0] for one in race.contestants)
        self.lines.value = race_svg(race)

    def __repr__(self) -> str:
        return "A race of two methods, live (in a running notebook; below is the figure of the same race)"


def race_svg(race: Race) -> str:
    """The lines so far on axes for all steps, as SVG, with the figures as text."""
    every = [value for one in race.contestants for _, value in one.points] or [0.0]
    low, high = min(every), max(every)
    room = max(high - low, 0.05)
    low, high, floor = low - 0.1 * room, high + 0.1 * room, HEIGHT - BOTTOM

    def place(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 8) * step / race.steps
        return f"{x:.1f},{floor * (high - value) / (high - low):.1f}"

    def text(x: float, y: float, words: str, anchor: str = "end") -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="13" fill="#444">{html.escape(words)}</text>'

    parts = [
        f'<path d="M{LEFT},0V{floor}H{WIDTH - 8}" fill="none" stroke="#555"/>',
        text(LEFT - 5, floor, f"{low:.2f}"), text(LEFT - 5, 12, f"{high:.2f}"),
        text(LEFT, HEIGHT - 16, "0", "middle"), text(WIDTH - 8, HEIGHT - 16, str(race.steps)),
        text((LEFT + WIDTH) / 2, HEIGHT - 12, "step", "middle"), text(LEFT + 8, 14, f"dev {race.metric}", "start"),
    ]  # fmt: skip
    told = []
    for one, (color, dash) in zip(race.contestants, LOOKS * 3, strict=False):
        if not one.points:
            continue
        points = " ".join(place(*point) for point in one.points)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.6" stroke-dasharray="{dash}"/>'
        )
        step, value = one.points[-1]
        mark = f"{'‒ ‒' if dash else '—'} {html.escape(one.name)}"
        told.append(f'<span style="color:{color};font-weight:600">{mark}</span>'
                    f" {value:.3f} at step {step}, {one.seconds:.1f} s, {one.trained:,} trained")  # fmt: skip
    return (
        f'<div role="status" aria-live="polite" style="font-size:14px;line-height:1.6">{"<br>".join(told)}</div>'
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="the race so far" style="background:white">{"".join(parts)}</svg>'
    )

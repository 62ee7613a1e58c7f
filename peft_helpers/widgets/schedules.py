"""Schedule explorer (lesson 06): shape and peak rate -> the rate over the steps, and the recorded run that it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.ticker import FuncFormatter

from peft_helpers import schedule_sweep, schedules, training
from peft_helpers.plots.style import LINES, number, panels, styled
from peft_helpers.records import Record
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, steps

LOOKS = dict(zip(schedules.DECAYS, LINES, strict=False))


@dataclass(frozen=True)
class ScheduleReading:
    """One run.

    Attributes:
        shape, rate: of its schedule.
        rates: (T,) learning rate at each step.
        at, loss, accuracy: (E,) steps, dev loss and dev score at each evaluation.
        others: the last dev loss of this shape's runs, by rate.
    """

    shape: str
    rate: float
    rates: np.ndarray
    at: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    others: dict[float, float]


def reading(runs: Mapping[tuple[str, float], Record], shape: str, rate: float) -> ScheduleReading:
    """The recorded run of this shape and rate.

    Raises:
        ValueError: there is none.
    """
    if (shape, rate) not in runs:
        raise ValueError(f"no run with the schedule {shape!r} at {rate:g} was recorded (it diverged, or was not made)")
    record = runs[shape, rate]
    at, loss, accuracy = (np.array([row[key] for row in record.history]) for key in ("step", "loss", record.metric))
    total = int(at[-1])
    share = [training.rate_factor(step, total, record.settings["warmup"], shape) for step in range(total)]
    others = {r: run.history[-1]["loss"] for (s, r), run in runs.items() if s == shape}
    return ScheduleReading(shape, rate, rate * np.array(share), at, loss, accuracy, others)


class ScheduleView:
    """The learning rate over the steps beside dev loss and dev accuracy, all other runs in gray."""

    @styled
    def __init__(self, runs: Mapping[tuple[str, float], Record]):
        self.figure, (left, middle, right) = panels(3, width=WIDTH, height=HEIGHT)
        every = [reading(runs, *key) for key in runs]
        floor = 0.5 * min(one.rates[one.rates > 0].min() for one in every)
        for one in every:
            left.plot(
                np.arange(len(one.rates)), np.clip(one.rates, floor, None), color="#d4d4d4", linewidth=1, zorder=1
            )
            middle.plot(one.at, one.loss, color="#c6c6c6", linewidth=1, zorder=1)
            right.plot(one.at, one.accuracy, color="#c6c6c6", linewidth=1, zorder=1)
        self.floor, last = floor, max(one.at[-1] for one in every)
        losses = np.concatenate([one.loss for one in every])
        scores = np.concatenate([one.accuracy for one in every])
        top = float(np.quantile(losses, 0.97)) * 1.08
        left.set(yscale="log", title="learning rate", xlabel="step", ylim=(floor, 2 * max(o.rate for o in every)))
        left.minorticks_off()
        middle.set(title="dev loss", xlabel="step", ylim=(0.94 * losses.min(), top))
        right.set(title="dev accuracy", xlabel="step", ylim=(scores.min() - 0.03, scores.max() + 0.03))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        for axes in (left, middle, right):
            axes.set_xlim(-0.03 * last, 1.03 * last)
        self.lines = [axes.plot([], [], linewidth=2.2, zorder=2)[0] for axes in (left, middle, right)]
        self.moving = self.lines

    def show(self, one: ScheduleReading) -> None:
        """Show one run."""
        look = LOOKS[one.shape]
        rates = np.clip(one.rates, self.floor, None)
        for line, x, y in zip(
            self.lines, (np.arange(len(rates)), one.at, one.at), (rates, one.loss, one.accuracy), strict=True
        ):
            line.set_data(x, y)
            line.set(color=look["color"], linestyle=look["linestyle"])
        for line in self.lines[1:]:
            line.set(marker=look["marker"], markersize=5)
        self.figure.alt = (
            "Learning rate, dev loss and dev accuracy over the steps, the chosen run before all others in gray. "
            + describe(one).summary
        )


def describe(one: ScheduleReading) -> Readout:
    """The exact values of a run, and the last dev loss of the same shape at every rate."""
    mean = float(one.rates.mean() / one.rate)
    best = int(one.accuracy.argmax())
    summary = (
        f"{one.shape}, peak rate {number(one.rate)}: dev loss {figures(one.loss[0], 3)} before training, "
        f"{figures(one.loss[-1], 3)} at step {one.at[-1]}; dev accuracy {one.accuracy[-1] * 100:.1f} % at the end, "
        f"best {one.accuracy[best] * 100:.1f} % at step {one.at[best]}. Mean rate: {mean * 100:.0f} % of the peak."
    )
    header = (f"{one.shape}, by peak rate", *(number(rate) for rate in one.others))
    marked = (figures(loss, 3) + (" ◂" if rate == one.rate else "") for rate, loss in one.others.items())
    rows = [("last dev loss", *marked)]
    return Readout(summary, header, rows)


def schedule_explorer(runs: Mapping[tuple[str, float], Record] | None = None) -> Explorer:
    """Choose a schedule's shape and its peak rate; see the run that they gave, recorded with the pocket encoder.

    Args:
        runs: (shape, rate) -> record, every shape at every rate; by default the course's own.

    Raises:
        ValueError: nothing is recorded for the weights that are installed.
    """
    runs = dict(schedule_sweep.recorded() if runs is None else runs)
    if not runs:
        raise ValueError(f"no run of these weights is recorded; this makes them: {schedule_sweep.COMMAND}")
    shapes = list(dict.fromkeys(shape for shape, _ in runs))
    rates = sorted({rate for _, rate in runs if all((shape, rate) in runs for shape in shapes)})
    runs = {(shape, rate): run for (shape, rate), run in runs.items() if rate in rates}
    first = "linear" if "linear" in shapes else shapes[0]
    controls = {
        "shape": choice("schedule", [(shape, shape) for shape in shapes], first),
        "rate": steps("peak rate", [(number(rate), rate) for rate in rates], rates[len(rates) // 2]),
    }
    own = all(map(schedule_sweep.of_these_weights, list(runs.values())[:1]))
    title = "Schedule explorer: shape and peak rate" + ("" if own else ", recorded with other weights than these")
    return Explorer("schedule", title, controls, partial(reading, runs), partial(ScheduleView, runs), describe)

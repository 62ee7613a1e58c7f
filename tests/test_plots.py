"""Every figure: labeled, described in words with its figures, equal for equal input, and clear about bad input."""

from __future__ import annotations

import base64
import io
import math
import re
import struct
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from peft_helpers import accounting, plots
from peft_helpers.plots import style
from peft_helpers.records import Record

HISTORY = [
    {"step": s, "epoch": s / 10, "split": split, "loss": 0.7 - 0.01 * s, "seconds": 0.1 * s, **more}
    for s in range(0, 31, 5)
    for split, more in (("train", {"learning_rate": 1e-4}), ("dev", {"accuracy": 0.5 + 0.01 * s}))
]
CURVES = {"pretrained": {50: [0.6, 0.63], 200: [0.75, 0.77]}, "random": {50: 0.5, 200: [0.55, 0.6]}}
ROWS = [
    {"name": "full", "score": 0.867, "low": 0.84, "high": 0.89, "seeds": [0.86, 0.87]},
    {"name": "probe", "score": 0.795},
]
PATH = np.array([[-2.0, 1.0], [-1.0, -0.5], [-0.5, 0.2], [0.1, 0.0]])


def bowl(x, y):
    return 0.5 * (x**2 + 20 * y**2)


def parabola(x):
    return 0.5 * np.asarray(x) ** 2


FIGURES = {
    "training_curve": lambda: plots.training_curve(HISTORY),
    "memory_bars": lambda: plots.memory_bars({"small": {"predicted": accounting.training_memory(100, 50, 300)}}),
    "storage_by_tasks": lambda: plots.storage_by_tasks({"full": {1: 1e9, 20: 2e10}, "shared": {1: 1e9, 20: 1.5e9}}),
    "pretraining_curves": lambda: plots.pretraining_curves(
        {"a": [{"step": n, "held_out_masked": 9 - n, "held_out_cosine": n / 5} for n in (1, 2, 3)]}
    ),
    "label_efficiency": lambda: plots.label_efficiency(
        CURVES, {"majority": 0.5, "bag of words": {50: 0.55, 200: 0.62}}
    ),
    "compare": lambda: plots.compare(ROWS, baselines={"majority": 0.509}),
    "learning_rate_sweep": lambda: plots.learning_rate_sweep(
        {"Adam": {1e-4: [0.7, 0.72], 1e-3: [0.8, 0.82], 1e-2: [math.nan]}}
    ),
    "broken_runs": lambda: plots.broken_runs(
        {
            "03-a": {
                "loss": {"train": [0.7, 0.6, 0.5], "dev": ([0, 2], [0.7, 0.65])},
                "accuracy": {"dev": ([0, 2], [0.5, 0.6])},
            },
            "03-b": {"loss": {"train": [0.7, 7.0, 700.0, math.nan]}},
        }
    ),
    "one_dimensional_descent": lambda: plots.one_dimensional_descent(
        parabola, {"η = 0.5": [2.0, 1.0, 0.5], "η = 2.1": [2.0, -2.2, 2.42, -9.0]}
    ),
    "loss_landscape_path": lambda: plots.loss_landscape_path(bowl, {"plain": PATH, "momentum": PATH * 0.9}),
    "stability_region": lambda: plots.stability_region({"here": (0.9, 3.7)}),
    "step_sizes": lambda: plots.step_sizes({"corrected": [1.0] * 20, "not corrected": [3.16, 4.2, 6.57, 5.0]}),
    "loss_and_gradient": lambda: plots.loss_and_gradient(-4.0),
    "probability_bars": lambda: plots.probability_bars([2.0, 0.5, -1.0], 1, ["bad", "so so", "good"]),
    "schedule_shapes": lambda: plots.schedule_shapes({"linear": [1.0, 0.5, 0.0], "step": [1.0, 0.1, 0.01]}),
    "range_test": lambda: plots.range_test(
        [1e-4, 1e-3, 1e-2, 1e-1], [0.7, 0.5, 0.9, 2.0], [0.7, 0.6, 0.7, 1.2], {"steepest": 1e-4}
    ),
    "stopped_runs": lambda: plots.stopped_runs(
        {"A": [0.5, 0.7, 0.6, 0.8], "B": [0.5, 0.6, 0.7, 0.8]}, {"A": (2, 1), "B": (3, 3)}
    ),
    "fitting": lambda: plots.fitting(
        {name: [{"step": t, "train loss": 1 / (t + 1), "dev loss": 1.0} for t in range(9)] for name in ("L2", "no")}
    ),
    "parameter_shares": lambda: plots.parameter_shares({"one": {"head": 3, "body": 97}, "two": {"head": 5, "body": 5}}),
    "seed_spread": lambda: plots.seed_spread({"texts": [0.6, 0.7, 0.65], "first weights": [0.64, 0.65]}),
}


def test_every_plot_function_is_tested():
    """Here, or in another file of tests that calls it: figures of several panels are tested with their lesson."""
    tools = {"COLORS", "LINES", "STYLE", "panels", "png", "show", "styled"}
    here = Path(__file__)
    elsewhere = "\n".join(path.read_text("utf-8") for path in here.parent.glob("test_*.py") if path != here)
    called = {name for name in plots.__all__ if re.search(rf"\b{name}\(", elsewhere)}
    assert set(FIGURES) <= set(plots.__all__) - tools
    assert set(plots.__all__) - tools - set(FIGURES) <= called, "tested nowhere"


@pytest.fixture(params=FIGURES, scope="module")
def figure(request) -> Figure:
    return FIGURES[request.param]()


def test_alternative_text_holds_the_figures(figure):
    assert isinstance(figure, Figure)
    assert len(figure.alt.split()) >= 8 and len(re.findall(r"\d+(?:\.\d+)?", figure.alt)) >= 3
    assert "nan" not in figure.alt and figure.alt.endswith(".")


def test_axes_are_labelled_and_letters_large_enough(figure):
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert shown and all(axes.get_xlabel() for axes in shown)

    def says_what_y_is(axes) -> bool:
        return bool(axes.get_ylabel()) or any(re.search("[a-z]", text.get_text()) for text in axes.get_yticklabels())

    for axes in shown:
        assert says_what_y_is(axes) or says_what_y_is(shown[0]), "a panel may share the first one's y axis"
        assert axes.xaxis.label.get_size() >= 11
        assert not axes.spines["top"].get_visible() and not axes.spines["right"].get_visible()
    assert figure.get_figwidth() <= 12


def test_png_is_one_and_nothing_is_cut_off(figure):
    data = plots.png(figure, dpi=60)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == tuple(int(side * 60) for side in figure.get_size_inches())
    picture = matplotlib.image.imread(io.BytesIO(data))[..., :3]
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (edge == 1).all(), "something is drawn up to the edge: a label may be cut off"


@pytest.mark.parametrize("name", FIGURES)
def test_equal_input_gives_equal_bytes_whatever_the_readers_settings(name):
    before = plots.png(FIGURES[name]())
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert plots.png(FIGURES[name]()) == before


def test_pyplot_knows_nothing_of_the_figures_and_settings_stay():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    for make in FIGURES.values():
        plots.png(make(), dpi=40)
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plots.training_curve([]), "history is empty"),
        (lambda: plots.training_curve(HISTORY[:1]), "dev rows is empty"),
        (lambda: plots.training_curve(HISTORY, metric="f1"), "no metric 'f1'; they have accuracy"),
        (lambda: plots.label_efficiency({}), "curves is empty"),
        (lambda: plots.label_efficiency({"a": {}}), "curve 'a' is empty"),
        (lambda: plots.label_efficiency({str(i): {1: 1} for i in range(7)}), "more than 6"),
        (lambda: plots.compare([]), "rows is empty"),
        (lambda: plots.compare([{"score": 1}]), "a name and a score"),
        (lambda: plots.learning_rate_sweep({}), "sweeps is empty"),
        (lambda: plots.learning_rate_sweep({"a": {0.0: 1}}), "must be positive"),
        (lambda: plots.learning_rate_sweep({"a": {0.1: math.nan}}), "diverged"),
        (lambda: plots.broken_runs({}), "runs is empty"),
        (lambda: plots.broken_runs({"a": {}}), "run 'a' is empty"),
        (lambda: plots.broken_runs({"a": {"loss": {}}}), "loss of run 'a' is empty"),
        (lambda: plots.broken_runs({"a": {"loss": {"train": []}}}), "not be empty"),
        (lambda: plots.broken_runs({"a": {"loss": {"train": [math.nan]}}}), "not one finite"),
        (lambda: plots.broken_runs({"a": {"loss": {"train": ([0, 1], [1.0])}}}), "2 steps, 1 values"),
        (lambda: plots.broken_runs({key: {"loss": {"t": [1]}} for key in "abcde"}), "at most 4"),
        (lambda: plots.broken_runs({k: {k: {"t": [1]}} for k in "ab"}, same_scales=True), "got a: a; b: b"),
        (lambda: plots.one_dimensional_descent(parabola, {}), "paths is empty"),
        (lambda: plots.one_dimensional_descent(parabola, {"a": []}), "not be empty"),
        (lambda: plots.loss_landscape_path(bowl, {}), "paths is empty"),
        (lambda: plots.loss_landscape_path(bowl, {"a": [1.0, 2.0]}), "2 dimension"),
        (lambda: plots.loss_landscape_path(bowl, {"a": [[1.0, 2.0, 3.0]]}), "two parameters"),
        (lambda: plots.stability_region(kinds=["magic"]), "unknown kind 'magic'"),
        (lambda: plots.stability_region({"a": (1.0, 1.0)}), "0 ≤ β < 1"),
        (lambda: plots.step_sizes({}), "series is empty"),
        (lambda: plots.step_sizes({"a": ["x"]}), "must be numbers"),
        (lambda: plots.step_sizes({"a": [math.nan]}), "not one finite"),
        (lambda: plots.loss_and_gradient(9.0), "within ±"),
        (lambda: plots.probability_bars([1.0], 0), "2 to 8"),
        (lambda: plots.probability_bars([1.0, math.nan], 0), "finite"),
        (lambda: plots.probability_bars([1.0, 2.0], 2), "target 2"),
        (lambda: plots.probability_bars([1.0, 2.0], 0, ["one"]), "1 names"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_runs_are_compared_on_one_scale_where_asked():
    runs = {
        "a": {"loss": {"train": [3.0, 0.01]}, "words right": {"dev": [0.0, 1.0]}},  # this loss takes a log scale
        "b": {"loss": {"train": [1.8, 1.3]}, "words right": {"dev": [0.1, 0.1]}},
    }
    apart, same = plots.broken_runs(runs).axes, plots.broken_runs(runs, same_scales=True).axes
    assert [axes.get_yscale() for axes in apart] == ["log", "linear", "linear", "linear"]
    assert [axes.get_yscale() for axes in same] == ["log"] * 2 + ["linear"] * 2
    assert apart[2].get_ylim() != apart[3].get_ylim()
    assert same[0].get_ylim() == same[1].get_ylim() and same[2].get_ylim() == same[3].get_ylim()
    low, high = same[0].get_ylim()
    assert 0 < low < 0.01 and high > 3
    runs["b"]["loss"]["train"] = [1.8, -1.3]
    zero = plots.broken_runs(runs, same_scales=True).axes
    assert [axes.get_yscale() for axes in zero] == ["linear"] * 4, "a log scale would hide what is below 0"


def test_tensors_are_welcome_and_diverged_paths_too():
    path = torch.tensor([[1.0, 1.0], [3.0, -30.0], [math.inf, math.nan]], requires_grad=True)
    assert "NaN" in plots.loss_landscape_path(bowl, {"too fast": path}).alt
    assert "1.74" in plots.probability_bars(torch.tensor([2.0, 0.5, -1.0]), 1).alt


def test_gradients_in_the_figures_are_those_of_autograd():
    z = torch.tensor([2.0, 0.5, -1.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(torch.nn.functional.mse_loss(z.softmax(-1), y), z)
    figure = plots.probability_bars(z, 1)
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths[:3] == pytest.approx((z.softmax(-1) - y).tolist()) and widths[3:6] == pytest.approx(gradient.tolist())
    margin = torch.tensor(-4.0, dtype=torch.float64, requires_grad=True)
    logits = torch.stack([margin, torch.zeros_like(margin)])
    (slope,) = torch.autograd.grad(torch.nn.functional.mse_loss(logits.softmax(-1), torch.eye(2)[0].double()), margin)
    assert style.number(abs(float(slope))) in plots.loss_and_gradient(-4.0).alt


def record(method: str, score: float, seed: int, metric: str = "accuracy") -> Record:
    return Record(
        id=f"{method}-{seed}", task="t", split="test", labels=200, backbone="b", backbone_sha256=None, method=method,
        settings={}, seed=seed, metric=metric, score=score, predictions=[1], seconds=1.0, peak_memory_mb=None,
        parameters=dict.fromkeys(("trained", "changed", "stored", "total"), 1), device="cpu", versions={},
    )  # fmt: skip


def test_records_are_grouped_by_method():
    alt = plots.compare([record("full", 0.8, 0), record("full", 0.9, 1), record("probe", 0.7, 0)]).alt
    assert "full 85.0 % (range over seeds 80.0 % to 90.0 %); probe 70.0 %" in alt
    with pytest.raises(ValueError, match="one metric at a time"):
        plots.compare([record("full", 0.8, 0), record("full", 0.8, 1, "f1")])


def test_show_puts_picture_and_words_into_the_notebook(monkeypatch, capsys):
    import IPython
    import IPython.display

    figure = FIGURES["stability_region"]()
    plots.show(figure)
    assert capsys.readouterr().out.strip() == figure.alt, "a terminal gets the words"
    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda data, **more: shown.append((data, more)))
    assert plots.show(figure) is None
    ((data, more),) = shown
    assert data["text/plain"] == more["metadata"]["image/png"]["alt"] == figure.alt and more["raw"]
    assert base64.b64decode(data["image/png"]) == plots.png(figure)
    with pytest.raises(ValueError, match="no text alternative"):
        plots.show(Figure())


def test_labels_are_pushed_apart():
    assert style.spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert style.spread([0.9, 0.1], 0.1) == [0.9, 0.1]
    random = np.random.default_rng(0)
    for _ in range(50):
        places = random.random(5).tolist()
        spread = style.spread(places, 0.1)
        assert np.diff(sorted(spread)).min() >= 0.1 - 1e-9
        assert [spread.index(v) for v in sorted(spread)] == [places.index(v) for v in sorted(places)], "order kept"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.693147, "0.693"), (1234.5, "1230"), (-0.5, "-0.5"), (2e-9, "2.00e-09"),
     (math.nan, "NaN"), (-math.inf, "minus infinity")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert style.number(value) == text

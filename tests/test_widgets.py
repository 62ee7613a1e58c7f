"""The explorers without a browser: set a control, and picture and values follow; checked against torch."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F
from widget_cases import ExplorerTests, text

from peft_helpers import widgets
from peft_helpers.widgets import bowl, curves, descent, explorer, loss, optimizer

RUNS = {
    n: {"train": [0.5, 0.9, 1.0], "dev": ([0, 10, 20], [0.5, 0.4 + n / 400, 0.3 + n / 400])} for n in (50, 100, 200)
}


def make(name: str) -> widgets.Explorer:
    """A fresh explorer by name."""
    if name == "curve":
        return widgets.curve_explorer(
            RUNS, "labels", y="accuracy", percent=True, best="max", references={"majority class": 0.5}
        )
    return getattr(widgets, f"{name}_explorer")()


NAMES = ["loss", "descent", "optimizer", "curve"]


# ---------------------------------------------------------------- what all have in common


class TestExplorers(ExplorerTests):
    names = NAMES

    @pytest.fixture
    def made(self, name: str) -> widgets.Explorer:
        return make(name)


def test_static_by_name():
    for name in ("loss", "descent", "optimizer"):
        assert widgets.static(name).alt == widgets.static(make(name)).alt
    with pytest.raises(ValueError, match="unknown explorer 'adam'; there are loss, descent, optimizer"):
        widgets.static("adam")


def test_no_pyplot_figure_is_left_open_and_the_style_does_not_leak():
    size = plt.rcParams["font.size"]
    for name in NAMES:
        widgets.static(make(name))
    assert plt.get_fignums() == [] and plt.rcParams["font.size"] == size


# ---------------------------------------------------------------- loss explorer


@pytest.mark.parametrize("logits", [(1.0, -2.5, 0.3), (10.0, -10.0, 10.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("true", "ABC")
def test_loss_values_equal_torch(logits, true):
    made = make("loss")
    for control, value in zip("abc", logits, strict=True):
        made.controls[control].value = value
    made.controls["true"].value = true
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    target = "ABC".index(true)
    cross_entropy = F.cross_entropy(z, torch.tensor(target))
    squared = F.mse_loss(z.softmax(0), F.one_hot(torch.tensor(target), 3).double(), reduction="sum")
    slopes = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (cross_entropy, squared)]
    reading = loss.compute(*logits, true)
    torch.testing.assert_close(reading.cross_entropy_gradient, slopes[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(reading.squared_error_gradient, slopes[1], rtol=1e-10, atol=1e-15)
    shown = text(made)
    for value in (cross_entropy, squared, *z.softmax(0), *slopes[0], *slopes[1]):
        assert explorer.figures(value.item()).replace("−", "-") in shown
    at = (reading.sweep - logits[target]).abs().argmin()
    assert abs(reading.cross_entropy_pull[at] + slopes[0][target]) < 0.02


def test_squared_error_dies_where_cross_entropy_pulls():
    reading = loss.compute(10.0, -10.0, 0.0, "B")
    assert reading.cross_entropy_gradient[1] < -0.999 and abs(reading.squared_error_gradient[1]) < 1e-7


# ---------------------------------------------------------------- descent explorer


@pytest.mark.parametrize("kind", ["plain", "heavy_ball", "nesterov"])
def test_descent_path_equals_torch_and_the_limit_holds(kind):
    rate, beta = 0.12, 0.6
    p = torch.nn.Parameter(torch.tensor(bowl.START, dtype=torch.float64))
    momentum = 0.0 if kind == "plain" else beta
    reference = torch.optim.SGD([p], lr=rate, momentum=momentum, nesterov=kind == "nesterov")
    for _ in range(descent.STEPS):
        reference.zero_grad()
        (0.5 * (torch.tensor(bowl.CURVATURES, dtype=torch.float64) * p**2).sum()).backward()
        reference.step()
    reading = descent.compute(kind, rate, beta)
    torch.testing.assert_close(reading.path[-1], p.detach(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(reading.losses, bowl.loss(reading.path))
    below, above = (descent.compute(kind, share * reading.limit, beta) for share in (0.99, 1.01))
    assert below.losses[-5:].max() < below.losses[:5].max() and above.losses[-1] > above.losses[-11]


def test_descent_readout_names_the_limits():
    made = make("descent")
    made.controls["momentum"].value = 0.9
    assert all(limit in text(made) for limit in ("2/λ_max 0.2000", "2(1 + β)/λ_max 0.3800", "λ_max) 0.1357"))
    made.controls["learning_rate"].value = 0.39
    assert "102.6 % of the limit, not below it: it does not converge" in text(made)
    made.controls["kind"].value = "plain"
    assert text(made).strip().startswith("Plain with η = 0.390 (momentum unused): 195.0 % of the limit")


# ---------------------------------------------------------------- optimizer explorer


@pytest.mark.parametrize("beta1, beta2, exponent, scale", [(0.9, 0.999, -8, 0), (0.5, 0.95, -2, 3), (0.0, 0.0, 0, -3)])
def test_optimizer_path_equals_torch(beta1, beta2, exponent, scale):
    start = torch.tensor((0.0, *bowl.START), dtype=torch.float64)
    p, curvatures = torch.nn.Parameter(start), torch.tensor((0.0, *bowl.CURVATURES), dtype=torch.float64)
    reference = torch.optim.Adam([p], lr=optimizer.LEARNING_RATE, betas=(beta1, beta2), eps=10.0**exponent)
    for _ in range(optimizer.STEPS):
        p.grad = 10.0**scale * (curvatures * p.detach() + torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
        reference.step()
    reading = optimizer.compute(beta1, beta2, exponent, True, scale)
    torch.testing.assert_close(reading.path[-1], p.detach()[1:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(reading.sizes.sum() * optimizer.LEARNING_RATE, -p.detach()[0], rtol=1e-9, atol=0)


def test_without_bias_correction_the_first_steps_are_too_long():
    """3.16 η at once, 6.57 η at step 12, under a constant gradient."""
    made = make("optimizer")
    made.controls["bias_correction"].value = False
    assert "the first step is 3.1623 η, the largest 6.5685 η at step 12" in text(made)
    made.controls["bias_correction"].value = True
    assert "the first step is 1.0000 η, the largest 1.0000 η at step 1, step 100 is 1.0000 η" in text(made)


def test_scaling_the_loss_leaves_adams_path():
    usual, scaled = (optimizer.compute(**{**optimizer.USUAL, "scale": scale}) for scale in (0, 3))
    torch.testing.assert_close(usual.path, scaled.path, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- curve explorer


def test_curve_readout():
    made = make("curve")
    assert made.state() == {"setting": 100}
    assert "labels: 100. majority class: 50.0 %." in text(made)
    assert "dev 50.0 % (0) 65.0 % (10) 55.0 % (20)" in text(made)
    made.controls["setting"].value = 200
    assert "dev 50.0 % (0) 90.0 % (10) 80.0 % (20)" in text(made)


def test_curve_text_alternative_is_made_of_sentences():
    told = widgets.static(make("curve")).alt
    assert told == (
        "Accuracy over step, the chosen run before all others in gray. labels: 100. majority class: 50.0 %. "
        "train goes from 50.0 % at step 0 to 100.0 % at step 2, best 100.0 % at step 2; "
        "dev goes from 50.0 % at step 0 to 55.0 % at step 20, best 65.0 % at step 10."
    )
    plain = widgets.static(widgets.curve_explorer({1: {"dev": [0.5, 0.7]}}, "labels", y="score")).alt
    assert plain.endswith("labels: 1. dev goes from 0.5 at step 0 to 0.7 at step 1.")


@pytest.mark.parametrize("limits", [(0.4, 0.7), (0.5, 0.52), (0.5, 0.502), (0.0, 1.0), (0.48, 0.61)])
def test_percent_ticks_are_different_and_say_where_they_are(limits):
    """Whole percents where they are enough; never the same label twice, never a rounded one."""
    made = widgets.curve_explorer(RUNS, "labels", y="accuracy", percent=True, limits=limits)
    axes = made.picture.view.figure.axes[0]
    ticks = axes.get_yticks()
    labels = axes.yaxis.get_major_formatter().format_ticks(ticks)
    assert len(set(labels)) == len(labels) > 2
    assert [float(label.removesuffix(" %")) / 100 for label in labels] == pytest.approx(list(ticks), abs=1e-9)
    whole = all(abs(100 * tick - round(100 * tick)) < 1e-6 for tick in ticks)
    assert whole == all("." not in label for label in labels)


def test_curves_with_missing_values_lines_and_a_logarithmic_axis():
    runs = {
        0.001: {"dev": ([1, 10], [float("nan"), 2.0])},
        0.1: {"dev": ([1, 10], [1.0, float("inf")]), "x": ([1], [3.0])},
    }
    made = widgets.curve_explorer(runs, "rate", best="min", log_x=True, value=0.001, name="rates")
    assert "dev NaN (1) 2 (10) 2 (10)" in text(made) and "pf-rates-explorer" in made._dom_classes
    made.controls["setting"].value = 0.1
    assert "dev 1 (1) 1 (1) infinity (10)" in text(made)


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"curves": {}}, "there is nothing to draw"),
        ({"curves": {1: {"a": ([0, 1], [1.0])}}}, r"'a' of 1 needs as many xs as ys, at least one; got shapes \(2,\)"),
        ({"curves": {1: {"a": "high"}}}, "'a' of 1 must be"),
        ({"curves": {1: {"a": [float("nan")]}}}, "no curve has a finite value"),
        ({"curves": RUNS, "value": 7}, "value 7 is no setting; there are 50, 100, 200"),
        ({"curves": RUNS, "best": "largest"}, 'best is "max", "min" or None'),
    ],
)
def test_wrong_curves_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        widgets.curve_explorer(**wrong)


# ---------------------------------------------------------------- ipywidgets 7.7.1, which Colab has

COMMON = {  # what these classes take in ipywidgets 7.7.1 and in 8
    "FloatSlider": {
        "value",
        "min",
        "max",
        "step",
        "description",
        "readout_format",
        "continuous_update",
        "style",
        "layout",
    },
    "SelectionSlider": {"options", "value", "description", "continuous_update", "style", "layout"},
    "SelectionRangeSlider": {"options", "index", "description", "continuous_update", "style", "layout"},
    "ToggleButtons": {"options", "value", "description", "style", "layout"},
    "Button": {"description", "icon", "layout"},
    "Image": {"format", "layout"},
    "HTML": {"value", "layout"},
    "HBox": {"layout"},
    "VBox": {"layout"},
    "Tab": {"children", "layout"},  # titles by set_title, which both have
    "Dropdown": {"options", "value", "description", "style", "layout"},
    "Layout": {"max_width", "width", "height", "margin", "flex", "flex_flow", "align_items", "overflow"},
}


def test_only_what_the_older_ipywidgets_has_too():
    """Every `W.…(…)` in the package uses classes and keyword arguments that both versions know."""
    used: dict[str, set[str]] = {}
    for path in Path(inspect.getfile(widgets)).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func).startswith("W.")
            ):
                used.setdefault(node.func.attr, set()).update(k.arg for k in node.keywords if k.arg)
    assert {"FloatSlider", "SelectionSlider", "ToggleButtons", "Button", "Image", "HTML"} <= set(used)
    for name, keywords in used.items():
        assert keywords <= COMMON[name], f"W.{name} gets {keywords - COMMON[name]}"
    for module in (explorer, curves):
        assert "W.Output" not in inspect.getsource(module)

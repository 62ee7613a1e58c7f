"""Lesson 14's experiments on a tiny network, its explorer, and its figures."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import ipywidgets as W
import numpy as np
import pytest
import tiny
import transformers
from PIL import Image as Pixels
from test_adapter_runs import record

from peft_helpers import challenge_runs, plots, records, sides, widgets
from peft_helpers.widgets import attribution as view
from peft_helpers.widgets import explorer as frame

TINY = ("warm sea not cold", "ice very blue leaf")


def made_up_sides() -> dict[str, sides.Side]:
    texts = tuple(f"{a} {b}" for a in tiny.WORDS[5:] for b in tiny.WORDS[5:])
    return {name: sides.Side(name, dataclasses.replace(tiny.task(seed=i), name=f"tiny-{name}"), texts)
            for i, name in enumerate(sides.HALVES)}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    """The experiments on tiny models: name -> records, and the folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "SIZE_LABELS": 16, "SIZE_EPOCHS": 2, "STUDENT_LAYERS": (0,), "BITS": (8, 2), "TEMPERATURES": (2.0, 8.0),
            "DOMAIN_TEXTS": 32, "DOMAIN_EPOCHS": 1, "DOMAIN_BOTTLENECK": 4, "HELD_OUT_TEXTS": 8, "TRANSFER_EPOCHS": 1,
            "TASK_BOTTLENECK": 2, "ATTRIBUTION_LABELS": 16, "ATTRIBUTION_EPOCHS": 1, "STEPS": (1, 4, 16), "TEXTS": TINY,
            "BATCH": 8,
        }.items():  # fmt: skip
            patch.setattr(challenge_runs, name, value)

        def load(name, task, seed=0):
            model = tiny.model(outputs=task.outputs, seed=seed)
            model.name = name
            for parameter in model.parameters():
                parameter.data.mul_(8 if parameter.ndim > 1 else 1)  # logits that words can move
            return model, tiny.tokenizer()

        def masked(name):
            return transformers.AutoModelForMaskedLM.from_config(tiny.model().config), tiny.tokenizer()

        patch.setattr(challenge_runs.tasks, "load", lambda name, labels=None: tiny.task(train=48))
        patch.setattr(challenge_runs.backbones, "load", load)
        patch.setattr(challenge_runs.backbones, "weights_hash", lambda name: "some")
        patch.setattr(challenge_runs.domain_adapters, "masked_model", masked)
        patch.setattr(challenge_runs.sides, "domain_sides", made_up_sides)
        folder = tmp_path_factory.mktemp("records")
        kinds = {"size": (0,), "transfer": (0, 1), "attribution": (0,)}
        made = {name: challenge_runs.EXPERIMENTS[name]("tiny", folder, seeds) for name, seeds in kinds.items()}
        times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        for name, seeds in kinds.items():
            again = challenge_runs.EXPERIMENTS[name]("tiny", folder, seeds)
            assert {r.id for r in again} == {r.id for r in made[name]}
        assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}, "nothing is made twice"
        patch.setattr(challenge_runs, "ATTRIBUTION_EPOCHS", 2)
        changed = challenge_runs.attribution("tiny", folder)
        assert {r.settings["epochs"] for r in changed} == {2}, "other settings: made anew"
        assert challenge_runs.recorded("attribution", "tiny", folder) == changed
    return made, folder


def test_sizes_are_recorded_with_bytes_and_teachers(small) -> None:
    found = {(r.settings["kind"], r.settings.get("taught_by"), r.settings.get("bits")): r for r in small[0]["size"]}
    assert len(small[0]["size"]) == 1 + 2 + 1 + 2 + 1
    teacher, rounded = found["teacher", None, None], found["rounded", None, 2]
    assert teacher.settings["bytes"] == 4 * teacher.parameters["total"] > rounded.settings["bytes"]
    labels, more = found["student", "labels", None], found["student", "more", None]
    assert labels.parameters["total"] < teacher.parameters["total"] == rounded.parameters["total"]
    assert (labels.settings["texts"], more.settings["texts"]) == (16, 48) and more.labels == labels.labels == 16
    assert {r.settings["temperature"] for r in small[0]["size"] if r.settings.get("taught_by") == "teacher"} == {2, 8}
    records.summary(small[0]["size"])  # no two of one group and seed


def test_transfers_are_recorded_in_both_directions(small) -> None:
    found = small[0]["transfer"]
    kinds = {(r.settings["way"], r.settings["source"], r.settings["target"]) for r in found}
    assert len(found) == 20 and len(kinds) == 10
    assert {way for way, source, target in kinds if source == target} == {"alone", "kept"}
    assert all(r.task == f"tiny-{r.settings['target']}" for r in found)
    losses = found[0].settings["masked_losses"]
    assert set(losses) == {"none", *sides.HALVES} and all(set(one) == set(sides.HALVES) for one in losses.values())
    alone, kept = (next(r for r in found if r.settings["way"] == way) for way in ("alone", "kept"))
    assert alone.parameters["trained"] == kept.parameters["trained"] < kept.parameters["total"]
    records.summary(found)


def test_attributions_are_recorded_to_the_last_gap(small) -> None:
    for found, asked in zip(small[0]["attribution"], TINY, strict=True):
        text = found.settings["text"]
        assert text["words"] == asked.split() and len(text["deleted"]) == 4
        for shown in text["baselines"].values():
            assert len(shown["way"]) == 64 and [len(one) for one in shown["attributions"]] == [4, 4, 4]
            assert abs(shown["gaps"][2]) < 1e-3 or abs(shown["gaps"][2]) < abs(shown["gaps"][0])
            total = sum(shown["attributions"][2])
            assert total == pytest.approx(text["score"] - shown["score"] + shown["gaps"][2], abs=1e-3)


def test_what_is_recorded_elsewhere_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(challenge_runs, "LABEL_EPOCHS", {50: 20, 200: 12})
    monkeypatch.setattr(challenge_runs.records, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(challenge_runs.backbones, "weights_hash", lambda name: "some")
    known = record("BitFit", labels=50, task="sentiment", backbone="tiny", backbone_sha256="some")
    old = record("BitFit", labels=200, task="sentiment", backbone="tiny", backbone_sha256="other")
    for one in (known, old):
        records.save(one, tmp_path / "shipped" / "methods")

    def run(task, backbone, method, count, rates, seeds, settings, folder, command, options):
        done.append((method, count, settings.epochs, len(rates)))
        return [record(method, seed) for seed in seeds]

    monkeypatch.setattr(challenge_runs.experiments, "run", run)
    challenge_runs.labels("tiny", tmp_path / "shipped" / "challenges", (0, 1))
    assert ("BitFit", 50, 20, 3) not in done and ("BitFit", 200, 12, 3) in done and len(done) == 5
    done.clear()
    own = tmp_path / "shipped" / "methods"
    for one in (known, old):
        (own / f"{one.id}.json").unlink()
        records.save(one, own / "labels")
    (own / "labels" / "tuning").mkdir()
    (own / "labels" / "tuning" / "a.rate").write_text("{}")
    challenge_runs.labels("tiny", own, (0,))  # its own folder is no other folder, and what is old in it goes
    assert ("BitFit", 50, 20, 3) in done
    assert [path.stem for path in own.rglob("*.*")] == [known.id], "other weights: forgotten, with their tuning"
    done.clear()
    assert challenge_runs.labels("tiny", own, (0,), quick=True) == done == []


def test_the_command_line_runs_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for name in challenge_runs.EXPERIMENTS:
        monkeypatch.setitem(challenge_runs.EXPERIMENTS, name, lambda *given, name=name: seen.append((name, *given)))
    challenge_runs.main(["--only", "size", "--quick", "--out", str(tmp_path)])
    assert seen == [("size", "pocket-bert", tmp_path, [0], True)]
    challenge_runs.main(["--out", str(tmp_path)])
    assert [one[0] for one in seen[1:]] == ["attribution", "size", "transfer", "labels"]
    assert seen[1][3] == [0, 1, 2]


# ---------------------------------------------------------------- explorer


@pytest.fixture(scope="module")
def explorer(small) -> widgets.Explorer:
    return widgets.attribution_explorer(reversed(small[0]["attribution"]))


@pytest.mark.parametrize(("control", "value"), [("baseline", "zero"), ("text", 1), ("steps", 2), ("steps", 0)])
def test_controls_change_picture_and_readout_and_reset_restores_them(explorer, control: str, value) -> None:
    picture, readout = explorer.image.value, explorer.readout.value
    explorer.controls[control].value = value
    assert explorer.image.value != picture and explorer.readout.value != readout
    explorer.reset_button.click()
    assert explorer.image.value == picture and explorer.readout.value == readout


def test_the_readout_says_what_was_recorded(small, explorer) -> None:
    text = small[0]["attribution"][1].settings["text"]
    shown = text["baselines"]["[MASK]"]
    told = explorer.describe(explorer.compute("[MASK]", 1, 0)).as_text()
    assert "“ice very blue leaf”" in told and "baseline [MASK], 1 step:" in told
    assert f"gap {frame.figures(shown['gaps'][0])}." in told
    assert f"F(x) − F(x′) is {frame.figures(text['score'] - shown['score'])}" in told
    figure = widgets.static(explorer)
    assert "warm" in figure.alt and explorer.describe(explorer.compute(**explorer.defaults)).summary in figure.alt


def test_it_is_like_the_other_explorers(explorer) -> None:
    assert "pf-attribution-explorer" in explorer._dom_classes and "needs a running notebook" in repr(explorer)
    width, height = Pixels.open(io.BytesIO(explorer.image.value)).size
    assert (explorer.image.layout.width, explorer.image.layout.height) == (f"{width // 2}px", f"{height // 2}px")
    static = plots.png(widgets.static(explorer), dpi=frame.IN_PICTURE)
    pictures = [Pixels.open(io.BytesIO(one)).convert("L") for one in (static, explorer.image.value)]
    first, second = (np.asarray(one, dtype=float) for one in pictures)
    assert abs(first - second).mean() < 2

    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    allowed = (W.SelectionSlider, W.ToggleButtons, W.Button, W.Image, W.HTML, W.HBox, widgets.Explorer)
    assert all(type(widget) in allowed for widget in walk(explorer))
    assert re.search('aria-live="polite"', explorer.readout.value)


def test_without_a_record_it_says_how_to_make_one() -> None:
    with pytest.raises(ValueError, match=r"is missing.* python -m peft_helpers\.challenge_runs --only attribution"):
        widgets.attribution_explorer([record("full")])
    assert len(view._short("a " * 40)) <= view.LONGEST


# ---------------------------------------------------------------- figures


def test_figures_tell_their_numbers() -> None:
    told = plots.size_and_score(
        {"rounded": [("8 bits", 5e6, [0.7, 0.8]), ("32 bits", 2e7, 0.76)], "student": [("half", 1e7, 0.6)]},
        {"majority class": 0.5},
    ).alt
    assert "rounded, 8 bits: 5.0 MB, 75.0 %; rounded, 32 bits: 20.0 MB, 76.0 %" in told and "student, half" in told
    told = plots.completeness({"zero": {1: -2.0, 64: 1e-5}, "exact": {2: 0.0, 4: 0.5}}).alt
    assert "zero: 2 with 1, 1.00e-05 with 64" in told
    told = plots.word_bars(["good", "room"], {"one": [1.0, -0.25], "two": [0.0, 2.0]}).alt
    assert "one, room: −0.25" in told and "two, good: +0.00" in told
    told = plots.attribution_and_deletion({"one": ([1.0, -1.0, 2.0, 1.0], [1.0, 1.0, 2.0, 0.5])}).alt
    assert "one: 4 words, 25% with another sign" in told
    told = plots.layer_comparison({"run": {"embeddings": 0.01, "layer 1": 0.2}}, {"run": [1.0, 0.5]}).alt
    assert "run, layer 1: weights moved by 20.0%" in told and "0.5 after the last layer" in told


BAD = {
    "size_and_score": [({},), ({"a": []},), ({"a": [("x", 0.0, 0.5)]},)],
    "completeness": [({},), ({"a": {}},), ({"a": {0: 1.0}},)],
    "word_bars": [([], {"a": []}), (["w"], {}), (["w"], {"a": [1.0, 2.0]})],
    "attribution_and_deletion": [({},), ({"a": ([1.0], [1.0, 2.0])},)],
    "layer_comparison": [({}, {"a": [1.0]}), ({"a": {"x": 0.1}}, {}), ({"a": {"x": 0.1}, "b": {"y": 0.1}}, {"a": [1]})],
}


@pytest.mark.parametrize(("name", "given"), [(name, one) for name, all_ in BAD.items() for one in all_], ids=str)
def test_what_can_t_be_drawn_is_refused(name: str, given: tuple) -> None:
    with pytest.raises(ValueError, match=r"."):
        getattr(plots, name)(*given)

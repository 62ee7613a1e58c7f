"""Predictions, questions and the set-up check, driven as a reader would: by setting values and clicking buttons."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from peft_helpers import cards, lesson, lesson_log, question_bank, setup_check

OPTIONS = ["about `0.1` η", "about η", "about **3 η**"]


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh log, and nothing left from other tests."""
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("PEFT_LOG", str(path))
    for memory in (lesson_log._unsaved, lesson._options, lesson._on_commit):
        memory.clear()
    return path


def find(widget, kind: str, nth: int = 0):
    """The nth child of a kind, in the order of the page."""
    found = []

    def walk(node) -> None:
        found.extend([node] if type(node).__name__ == kind else [])
        for child in getattr(node, "children", ()):
            walk(child)

    walk(widget)
    return found[nth]


def feedback(card: lesson.Card) -> str:
    """What stands in the card's last line."""
    return find(card.widget, "HTML", -1).value


def lines(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


# ---------------------------------------------------------------- predictions


def test_commit_is_logged_and_the_first_counts(log):
    card = lesson.predict("03-x", "How long is the first step?", OPTIONS)
    assert not log.exists(), "asking alone must not write"
    find(card.widget, "Button").click()
    assert "Choose one" in feedback(card) and not log.exists()
    find(card.widget, "RadioButtons").value = OPTIONS[2]
    find(card.widget, "ToggleButtons").value = 90
    find(card.widget, "Button").click()
    assert "Committed" in feedback(card) and "90 %" in feedback(card)
    assert find(card.widget, "Button").disabled and find(card.widget, "RadioButtons").disabled
    lesson.commit("03-x", OPTIONS[0], 50)
    (entry,) = lines(log)
    assert {k: entry[k] for k in ("event", "key", "answer", "confidence", "late")} == {
        "event": "prediction", "key": "03-x", "answer": OPTIONS[2], "confidence": 90, "late": False,
    }  # fmt: skip
    again = lesson.predict("03-x", "How long is the first step?", OPTIONS)
    assert find(again.widget, "RadioButtons").value == OPTIONS[2] and "Committed" in feedback(again)


def test_outcome_compares_and_follows_a_later_commit():
    lesson.predict("k", "Which?", OPTIONS)
    shown = lesson.outcome("k", OPTIONS[1])
    assert "did not commit" in repr(shown) and "did not commit" in feedback(shown)
    lesson.commit("k", OPTIONS[1], 70)
    assert "As you predicted, 70 % sure" in feedback(shown)
    assert "✓" in repr(lesson.outcome("k", OPTIONS[1]))


def test_outcome_of_a_wrong_prediction():
    lesson.predict("k", "Which?", OPTIONS)
    lesson.commit("k", OPTIONS[0], 50)
    text = repr(lesson.outcome("k", OPTIONS[2]))
    assert text.startswith("Measured: about 3 η.") and "✗ You predicted about 0.1 η, 50 % sure" in text


def test_outcome_is_logged_once_however_often_the_cell_runs(log):
    lesson.predict("k", "Which?", OPTIONS)
    for _ in range(3):
        lesson.outcome("k", OPTIONS[1])
    assert [entry["event"] for entry in lines(log)] == ["outcome"]


def test_tally_by_confidence():
    for key, answer, sure in (("a", "yes", 90), ("b", "no", 90), ("c", "yes", 50), ("open", "yes", 70)):
        lesson.predict(key, "?", ["yes", "no"])
        lesson.commit(key, answer, sure)
    for key in "abc":
        lesson.outcome(key, "yes")
    lesson.predict("late", "?", ["yes", "no"])
    lesson.outcome("late", "yes")
    lesson.commit("late", "yes", 90)
    text = repr(lesson.tally())
    assert "5 committed, 2 of 3 measured ones came true" in text
    assert "1 more came after the result was shown" in text
    assert "90 % sure: 1 of 2 true (50%)" in text and "50 % sure: 1 of 1 true (100%)" in text
    assert "70 % sure" not in text, "not measured yet"


def test_tally_of_nothing():
    assert repr(lesson.tally()) == "Nothing committed yet."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "?", ["a", "b"]), "key must be a text"),
        (("k", " ", ["a", "b"]), "question must be a text"),
        (("k", "?", ["a"]), "at least two options"),
        (("k", "?", ["a", "a"]), "all different"),
        (("k", "?", "ab"), "list of texts"),
        (("k", "?", ["a", 2]), "list of texts"),
    ],
)
def test_a_prediction_must_be_one(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesson.predict(*arguments)


def test_answers_must_be_options():
    lesson.predict("k", "?", ["yes", "no"])
    with pytest.raises(ValueError, match="none of the options of 'k': 'yes', 'no'"):
        lesson.outcome("k", "maybe")
    with pytest.raises(ValueError, match="none of the options"):
        lesson.commit("k", "maybe")
    with pytest.raises(ValueError, match="50, 70, 90"):
        lesson.commit("k", "yes", 80)


# ---------------------------------------------------------------- the log


@pytest.fixture
def unwritable(tmp_path, monkeypatch) -> Path:
    """A place where no file can be made, even by root: below something that is a file."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PEFT_LOG", str(tmp_path / "file" / "log.jsonl"))
    return tmp_path


def test_a_folder_that_cannot_be_written_is_no_error(unwritable):
    card = lesson.predict("k", "?", ["yes", "no"])
    find(card.widget, "RadioButtons").value = "yes"
    find(card.widget, "Button").click()
    assert "can't be written" in feedback(card)
    assert "As you predicted" in repr(lesson.outcome("k", "yes"))
    assert "1 of 1" in repr(lesson.tally())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path, monkeypatch):
    folder = tmp_path / "readonly"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv("PEFT_LOG", str(folder / "log.jsonl"))
    assert lesson_log.append("answer", "k", right=True) is False


def test_damaged_lines_are_passed_over(log):
    lesson_log.append("answer", "a", right=True)
    log.write_text(
        log.read_text() + 'not json\n{"event": "strange", "key": "x"}\n[1]\n{"event": "ans', encoding="utf-8"
    )
    lesson_log.append("answer", "b", right=False)
    assert [entry["key"] for entry in lesson_log.entries()] == ["a", "b"]


def test_unknown_events_are_refused():
    with pytest.raises(ValueError, match="there are prediction, outcome, answer"):
        lesson_log.append("guess", "k")


# ---------------------------------------------------------------- the question bank

EVERY = [question for number in question_bank.lessons() for question in question_bank.of_lesson(number).values()]


@pytest.mark.parametrize("number", question_bank.lessons())
def test_each_lesson_has_its_questions(number):
    kinds = [question.kind for question in question_bank.of_lesson(number).values()]
    assert kinds.count("retrieval") == 3 and kinds.count("diagnose") >= 3
    # json keeps the last of two equal names: look at the pairs as they stand in the file
    names: list[str] = []

    def keep(pairs):
        if pairs and isinstance(pairs[0][1], dict):
            names.extend(name for name, _ in pairs)
        return dict(pairs)

    json.loads((question_bank.FOLDER / f"{number}.json").read_text(encoding="utf-8"), object_pairs_hook=keep)
    assert len(names) == len(set(names)) == len(kinds)


@pytest.mark.parametrize("question", EVERY, ids=lambda question: question.id)
def test_question_reads_well(question):
    assert 3 <= len(question.options) <= 5
    for option in question.options:
        assert len(cards.as_plain(option.text)) <= 110, f"too long for one line: {option.text}"
        assert len(option.why.split()) >= 5
    for text in (question.text, *(o.text for o in question.options), *(o.why for o in question.options)):
        assert "$" not in text, "formulas are written in plain Unicode: the feedback has no math renderer"
        assert text.count("`") % 2 == 0 and text.count("**") % 2 == 0
    if question.kind == "retrieval":
        assert question.taught_in < int(question.id[:2])
    lengths = sorted(len(option.text) for option in question.options)
    right = next(option for option in question.options if option.right)
    assert len(right.text) <= 1.6 * lengths[-2] + 10, "the right answer must not be the one that is longer"


def test_the_right_answer_is_not_always_at_the_same_place():
    places = [[option.right for option in question.options].index(True) for question in EVERY]
    assert len(set(places)) >= 3 and max(places.count(place) for place in set(places)) <= 0.5 * len(places)


RIGHT = {"text": "yes", "right": True, "why": "so it is"}
WRONG = {"text": "no", "right": False, "why": "so it is not"}
GOOD = {"kind": "diagnose", "from": 1, "question": "Is it?", "options": [RIGHT, WRONG]}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("04-a", {}, "the id must be 03-"),
        ("03-a", {"kind": "quiz"}, "kind must be"),
        ("03-a", {"from": 4}, "earlier lesson"),
        ("03-a", {"question": ""}, "question is empty"),
        ("03-a", {"options": [RIGHT]}, "at least two"),
        ("03-a", {"options": [RIGHT, RIGHT]}, "exactly one"),
        ("03-a", {"options": [WRONG, WRONG]}, "exactly one"),
        ("03-a", {"options": [RIGHT, WRONG, WRONG]}, "the same"),
        ("03-a", {"options": [RIGHT, WRONG | {"why": ""}]}, "empty"),
        ("03-a", {"options": [RIGHT, {"text": "no", "right": False}]}, "text, right, why"),
        ("03-a", {"hint": "x"}, "the fields are"),
    ],
)
def test_bank_rules(name, change, message):
    question_bank.parse("03-a", GOOD, "03")
    with pytest.raises(ValueError, match=message):
        question_bank.parse(name, GOOD | change, "03")


def test_unknown_questions():
    with pytest.raises(ValueError, match="there are for 00, 01"):
        lesson.retrieval("77")
    with pytest.raises(ValueError, match="no question '01-zz'; it has"):
        lesson.ask("01-zz")
    retrieval_id = next(question.id for question in EVERY if question.kind == "retrieval")
    with pytest.raises(ValueError, match=r"show it with lesson\.ask"):
        lesson.diagnose(retrieval_id)


@pytest.mark.parametrize("question", EVERY, ids=lambda question: question.id)
def test_every_option_gets_its_feedback(question, log):
    card = lesson.ask(question.id)
    find(card.widget, "Button").click()
    assert "Choose one" in feedback(card)
    for option in question.options:
        find(card.widget, "RadioButtons").value = option.text
        find(card.widget, "Button").click()
        assert cards.as_html(("✓ **Right.** " if option.right else "✗ **No.** ") + option.why) in feedback(card)
    assert [entry["right"] for entry in lines(log)] == [option.right for option in question.options]


def test_retrieval_shows_three_questions_each_with_its_own_feedback():
    card = lesson.retrieval("02")
    for nth in range(3):
        find(card.widget, "Button", nth).click()
    asked = [find(card.widget, "VBox", nth) for nth in (1, 2, 3)]
    assert all("Choose one" in find(box, "HTML", -1).value for box in asked)


def test_questions_in_the_tally():
    for number, right_first in (("00", True), ("01", False)):
        question = next(q for q in question_bank.of_lesson(number).values())
        card = lesson.ask(question.id)
        for option in sorted(question.options, key=lambda o: o.right, reverse=right_first):
            find(card.widget, "RadioButtons").value = option.text
            find(card.widget, "Button").click()
    assert "1 of 2 right at the first try" in repr(lesson.tally())


# ---------------------------------------------------------------- what is shown


def test_every_form_carries_question_and_options():
    bundle = lesson.predict("k", "How **long** is `x`?", OPTIONS)._repr_mimebundle_()
    assert bundle[cards.WIDGET_VIEW]["model_id"] and bundle[cards.WIDGET_VIEW]["version_major"] == 2
    assert bundle["text/plain"].splitlines() == [
        "Predict: How long is x?", "  ○ about 0.1 η", "  ○ about η", "  ○ about 3 η",
    ]  # fmt: skip
    assert all(option in bundle["text/markdown"] for option in OPTIONS)


def test_a_page_without_widgets_can_unfold_the_answers():
    question = question_bank.find(next(q.id for q in EVERY if q.kind == "diagnose"))
    bundle = lesson.diagnose(question.id)._repr_mimebundle_()
    assert "<details>" in bundle["text/markdown"] and question.options[0].why in bundle["text/markdown"]
    assert question.options[0].why not in bundle["text/plain"], "no answers before the question was thought about"


def test_a_card_without_a_widget_has_no_widget_view():
    assert cards.WIDGET_VIEW not in lesson.tally()._repr_mimebundle_()


def test_markdown_to_html_escapes():
    assert cards.as_html("a < b & `<b>` **x** *y* 2*3*4") == (
        "<p>a &lt; b &amp; <code>&lt;b&gt;</code> <b>x</b> <em>y</em> 2*3*4</p>"
    )


def test_no_output_widget_anywhere():
    for card in (lesson.predict("k", "?", ["a", "b"]), lesson.outcome("k", "a"), lesson.retrieval("01")):
        with pytest.raises(IndexError):
            find(card.widget, "Output")


# ---------------------------------------------------------------- the set-up check


def item(report: setup_check.SetupReport, name: str) -> setup_check.Item:
    return next(item for item in report.items if item.name == name)


def test_check_setup_looks_at_everything(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = lesson.check_setup()
    names = [item.name for item in report.items]
    assert names[:7] == ["Python", "torch", "transformers", "datasets", "accelerate", "ipywidgets", "matplotlib"]
    assert names[7:9] == ["device", "memory"] and names[-1] == "Hugging Face Hub"
    assert item(report, "torch").status == "ok"
    if setup_check._minimums():  # the package is installed, not only on the path
        assert "needs ≥ 2.10" in item(report, "torch").found and "needs ≥ 3.11" in item(report, "Python").found
    assert "not asked" in item(report, "Hugging Face Hub").found
    for name in names:
        assert name in repr(report) and name in report._repr_html_()
    assert report.summary in repr(report) and report.summary in report._repr_html_()


def test_what_is_missing_says_how_to_mend_it(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(setup_check, "_minimums", lambda: {"torch": ">=99", "python": ">=4"})
    monkeypatch.setattr(setup_check, "LIBRARIES", ("torch", "no-such-library"))
    report = lesson.check_setup()
    assert not report.ready
    assert 'pip install "torch>=99"' in item(report, "torch").mend
    assert "PYTHON=" in item(report, "Python").mend
    assert item(report, "no-such-library").found == "not installed"
    assert "To mend: Python, torch, no-such-library" in repr(report)


def test_assets_missing_changed_and_right(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_check, "POCKET", tmp_path)
    monkeypatch.setattr(setup_check, "ASSETS", {"thing": ("data/thing", ("a.jsonl", "b.jsonl"))})
    (tmp_path / "data" / "thing").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "data" / "thing" / f"{name}.jsonl").write_text(name)
    (present,) = setup_check._assets()
    assert present.status == "ok" and "present" in present.found
    paths = [f"data/thing/{name}.jsonl" for name in "ab"]
    sums = "".join(f"{setup_check.storage.sha256(tmp_path / path)}  {path}\n" for path in paths)
    (tmp_path / "SHA256SUMS").write_text(sums)
    (right,) = setup_check._assets()
    assert right.status == "ok" and "SHA-256 as shipped" in right.found
    (tmp_path / paths[1]).write_text("other")
    (changed,) = setup_check._assets()
    assert changed.status == "missing" and changed.found == "not as shipped: data/thing/b.jsonl"
    (tmp_path / paths[0]).write_text("")
    (missing,) = setup_check._assets()
    assert missing.status == "missing" and missing.found == "missing: data/thing/a.jsonl" and missing.mend


def test_hub_not_asked_when_offline_and_a_note_when_not_reached(monkeypatch):
    import huggingface_hub

    asked = []

    def unreachable(self, name, timeout):
        asked.append((name, timeout))
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert setup_check._hub().status == "ok" and not asked
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = setup_check._hub()
    assert (found.status, len(asked)) == ("note", 1) and 0 < asked[0][1] <= 5
    assert "PEFT_MODELS" in found.mend
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: None)
    assert setup_check._hub().status == "ok"


def test_little_memory_and_a_broken_torch_are_said(monkeypatch):
    monkeypatch.setattr(setup_check, "FREE_BYTES", 1 << 60)
    assert setup_check._memory().status == "note" and "close other programs" in setup_check._memory().mend
    from peft_helpers import profiles

    def broken():
        raise RuntimeError("driver")

    monkeypatch.setattr(profiles, "default_device", broken)
    assert setup_check._device().status == "missing"


def test_report_is_safe_html():
    report = setup_check.SetupReport((setup_check.Item("a", "<script>", "note", "x & y"),))
    assert "<script>" not in report._repr_html_() and "x &amp; y" in report._repr_html_()
    assert report.ready

"""What a teacher reads and shows: the guide, the slides, and the questions for before and after."""

from __future__ import annotations

import csv
import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from notebook_rules import ROOT

from peft_helpers import cards, checks, editions, question_bank
from peft_helpers.classroom import exercises, formulas, guide, inventory, slides

LESSONS = {path.stem: path for path in editions.notebooks(ROOT)}
by_lesson = pytest.mark.parametrize("stem", LESSONS)


def lesson(stem: str) -> dict[str, Any]:
    """A lesson as JSON."""
    return editions.read_notebook(LESSONS[stem])


# ---------------------------------------------------------------- the guide


@by_lesson
def test_the_plan_has_all_minutes(stem: str) -> None:
    notebook = lesson(stem)
    for level in ("core", "more"):
        cells = [cell for cell in notebook["cells"] if level in exercises.tags(cell)]
        assert sum(minutes for minutes, _ in guide.timing(notebook, level)) == pytest.approx(
            sum(cell["metadata"].get("minutes", 0) for cell in cells)
        )
    core = sum(minutes for minutes, _ in guide.timing(notebook, "core"))
    assert 0 < core <= 85
    assert f"| {core:g} | | end of the core |" in guide.page(stem, notebook)


@by_lesson
def test_every_prediction_is_there_with_what_was_measured(stem: str) -> None:
    notebook = lesson(stem)
    asked = sum(len(guide.keys(cell, "predict")) for cell in notebook["cells"])
    found = guide.predictions(notebook)
    assert len(found) == asked > 0
    for question, options, measured in found:
        assert question and len(options) >= 2
        assert measured in options, question


@by_lesson
def test_a_page_has_objectives_answers_errors_and_something_to_discuss(stem: str) -> None:
    page, notebook = guide.page(stem, lesson(stem)), lesson(stem)
    assert len(guide.objectives(notebook)) >= 2
    for part in exercises.find(notebook):
        assert part.solution in page and part.title in page
        for slug in exercises.likely_errors(part.checker):
            assert f"| {slug} |" in page
    for question in guide.discussion()[stem[:2]]:
        assert question in page
    for question in question_bank.of_lesson(stem[:2]).values():
        assert f" {question.id}: " in page


def test_there_is_something_to_discuss_in_each_lesson() -> None:
    written = guide.discussion()
    assert sorted(written) == [f"{number:02}" for number in editions.LESSONS]
    for questions in written.values():
        assert len(questions) >= 3
        for question in questions:
            assert "?" in question and re.search(r"\(.+\)$", question), f"nothing to listen for: {question}"


def test_the_first_page_lists_what_there_is() -> None:
    text = guide.readme({stem: lesson(stem) for stem in LESSONS})
    assert "<!--" not in text
    for stem in LESSONS:
        assert f"(guide/{stem}.md)" in text
    for named in re.findall(r"python -m (peft_helpers[\w.]*)", text):
        place = ROOT / named.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    same = re.search(r"\*\*same in both\*\*.*?:\n?\s*(.*?)\.\n", text, re.DOTALL)[1].split(", ")
    assert "00-2" in same and "01-1" not in same and "02-7" not in same


# ---------------------------------------------------------------- slides


@by_lesson
def test_a_deck_is_one_file_that_needs_no_network(stem: str) -> None:
    page, notebook = slides.deck(lesson(stem)), lesson(stem)
    assert set(re.findall(r'(?:src|href)="([a-z]+):', page)) <= {"data"}
    assert not re.search(r"@import|url\(|<link|<script src", page)
    pictures = re.findall(r"<img [^>]*>", page)
    assert pictures and all(re.search(r'alt="[^"]+"', picture) for picture in pictures)
    found = list(slides.slides(notebook))
    kinds = Counter(slide.kind for slide in found)
    core = [cell for cell in notebook["cells"] if "core" in exercises.tags(cell)]
    assert kinds["title"] == 1 and kinds["recap"] == 2 and kinds["idea"] >= 5
    assert kinds["exercise"] == sum("exercise" in exercises.tags(cell) for cell in core)
    for kind, call in (("predict", "lesson.predict("), ("measured", "lesson.outcome(")):
        assert kinds[kind] == sum("".join(cell["source"]).count(call) for cell in core)
    asked = [html.escape(question) for question, _, _ in guide.predictions(notebook)]
    for slide in found:
        assert slide.kind != "measured" or any(question in slide.body for question in asked), slide.body
    assert page.count("<section") == len(found) < 80
    for part in exercises.find(notebook):
        assert part.solution not in page
    assert "FORMULA" not in page


def test_formulas_become_pictures() -> None:
    assert formulas.picture("x^2").startswith('<img src="data:image/svg+xml;base64,')
    assert 'alt="\\tfrac12 \\lambda"' in formulas.picture(r"\tfrac12 \lambda")
    height = [
        float(re.search(r"height:([\d.]+)em", formulas.picture(r"\frac12", display))[1]) for display in (True, False)
    ]
    assert height[0] > height[1], "fractions are larger on a line of their own"
    assert formulas.picture(r"\begin{cases} a & b \end{cases}").startswith("<code>")
    for latex, plain in (
        (r"\tfrac12\lambda", r"\frac{1}{2}\lambda"),
        (r"\frac1B x", r"\frac{1}{B} x"),
        (r"\dfrac1\pi + \dfrac2{x}", r"\dfrac{1}{\pi} + \dfrac{2}{x}"),
        (r"\sqrt d + \sqrt\kappa", r"\sqrt{d} + \sqrt{\kappa}"),
        (r"a \le b \left(c\right)", r"a \leq b \left(c\right)"),
        (r"\lVert g \rVert", r"\| g \|"),
        (r"\underbrace{4P}_{\text{weights}}", r"\underset{\text{weights}}{4P}"),
    ):
        assert formulas.spelled_out(latex) == plain


def test_text_of_a_slide() -> None:
    page = slides.markdown(
        "A price of `$5` and `$6`, and $x$.\n\n$$y$$\n\n```sh\necho $HOME $PATH\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    assert page.count("<img") == 2 and "<code>$5</code>" in page and "$HOME $PATH" in page and "<table>" in page
    assert slides.inline("**a** and `b`") == "<strong>a</strong> and <code>b</code>"
    assert slides.split("a b c\n\nd e\n\nf", 4) == ("a b c", "d e\n\nf")
    assert slides.split("a b c d e f", 2) == ("a b c d e f", "")
    assert slides.by_language("- a\n\n**小结**\n\n- 一") == ("- a", "**小结**\n\n- 一")
    assert slides.by_language("- a") == ("- a", "")


# ---------------------------------------------------------------- before and after

IDS = list(json.loads(inventory.FILE.read_text(encoding="utf-8")))


@pytest.fixture(params=IDS)
def item(request: pytest.FixtureRequest) -> inventory.Item:
    """Each question in turn."""
    return next(item for item in inventory.items() if item.id == request.param)


def test_24_questions_over_all_lessons() -> None:
    assert len(inventory.items()) == inventory.SIZE == 24
    assert [item.id for item in inventory.items()] == [f"i{number:02}" for number in range(1, 25)]
    assert {item.lesson for item in inventory.items()} == set(editions.LESSONS)
    assert max(Counter(item.lesson for item in inventory.items()).values()) <= 2
    assert [item.lesson for item in inventory.items()] == sorted(item.lesson for item in inventory.items())
    pairs: list[str] = []
    json.loads(inventory.FILE.read_text(encoding="utf-8"), object_pairs_hook=lambda p: pairs.extend(k for k, _ in p))
    assert all(pairs.count(item.id) == 1 for item in inventory.items()), "json keeps the last of two equal names"


def test_an_item_reads_well(item: inventory.Item) -> None:
    assert len(item.options) == 4
    assert [option.right for option in item.options].count(True) == 1
    for text in (item.text, *(option.text for option in item.options)):
        assert "$" not in text and text.count("`") % 2 == 0
        assert len(cards.as_plain(text)) <= 140
    lengths = sorted(len(option.text) for option in item.options)
    right = len(next(option.text for option in item.options if option.right))
    assert right <= 1.2 * lengths[-2] + 3 and lengths[-1] <= 2 * lengths[0]


def test_every_wrong_option_is_an_error_that_the_course_knows(item: inventory.Item) -> None:
    errors = [option.error for option in item.options if not option.right]
    assert len(set(errors)) == 3
    for error in errors:
        place, _, name = error.partition("/")
        said = inventory.explain(error)
        assert said and said in inventory.key()
        if place.startswith("check_"):
            assert name in exercises.likely_errors(place) and hasattr(checks, place)
        else:
            assert name in [option.text for option in question_bank.find(place).options]


def test_the_right_answer_gives_no_pattern_away() -> None:
    places = Counter(item.answer for item in inventory.items())
    assert set(places) == set("ABCD") and max(places.values()) <= 8
    longest = 0
    for item in inventory.items():
        lengths = [len(option.text) for option in item.options]
        longest += len(item.option(item.answer).text) == max(lengths) and lengths.count(max(lengths)) == 1
    assert longest <= 9, "guessing the longest option must not pay"


def test_the_questionnaire_has_no_answers() -> None:
    page = inventory.questionnaire()
    for item in inventory.items():
        assert item.text in page and f"**{item.id}**" in page
        for option in item.options:
            assert option.text in page and option.why not in page
            assert not option.error or option.error not in page
    assert "✓" not in page and inventory.key().count("✓") == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": True, "why": "so"}, "exactly one option must be right"),
        ({"error": "check_softmax/none"}, "check_softmax has no error 'none'"),
        ({"error": "check_none/none"}, "no checker 'check_none'"),
        ({"error": "03-r2/twice the gradient"}, "03-r2 has no error 'twice the gradient'"),
        ({"error": "03-zz/x"}, "no question '03-zz'"),
        ({"hint": "x"}, "a wrong one text, right, error"),
        ({"text": "right"}, "two options are the same"),
    ],
)
def test_rules_of_an_item(change: dict[str, Any], message: str) -> None:
    right = {"text": "right", "right": True, "why": "so it is"}
    wrong = {"text": "wrong", "right": False, "error": "check_softmax/wrong-axis"}
    entry = {"lesson": 1, "question": "Is it?", "options": [right, wrong]}
    assert inventory.parse("i01", entry).answer == "A"
    changed = wrong | change
    if changed["right"]:
        del changed["error"]
    with pytest.raises(ValueError, match=message):
        inventory.parse("i01", entry | {"options": [right, changed]})


def write_answers(path: Path, rows: dict[str, str | list[str]], columns: list[str] | None = None) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns or ["student", *(item.id for item in inventory.items())])
        for name, letters in rows.items():
            writer.writerow([name, *letters])
    return path


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = [item.answer for item in inventory.items()]
    half = [item.answer if number % 2 else "" for number, item in enumerate(inventory.items())]
    wrong = ["A" if item.answer != "A" else "B" for item in inventory.items()]
    before = write_answers(tmp_path / "before.csv", {"ada": half, "bob": wrong})
    after = write_answers(tmp_path / "after.csv", {"ada": key, "bob": [letter.lower() for letter in half]})
    assert inventory.main([str(before), str(after)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"all +25% +75%", shown) and "normalized gain 0.67" in shown
    assert inventory.main([str(before)]) == 0
    shown = capsys.readouterr().out
    assert f"(1×): {inventory.items()[0].option(wrong[0]).error}" in shown and "gain" not in shown
    assert inventory.normalized_gain(1.0, 1.0) is None


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ({"ada": ["E"] * 24}, None, "'ada' answers i01 with 'E'"),
        ({}, None, "has no answers"),
        ({"ada": ["A"] * 3}, ["student", "i01", "i02", "i03"], "no column i04"),
        ({"ada": ["A"] * 24, "ada ": ["A"] * 24}, None, "'ada' comes twice"),
    ],
)
def test_answers_that_can_not_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: dict, columns: list[str] | None, message: str
) -> None:
    path = write_answers(tmp_path / "answers.csv", rows, columns)
    assert inventory.main([str(path)]) == 2
    assert message in capsys.readouterr().err
    assert inventory.main([]) == 2 and inventory.main([str(tmp_path / "none.csv")]) == 2

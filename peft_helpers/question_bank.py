"""The questions of the lessons, as data: `questions/NN.json` holds those that lesson NN asks.

{"03-a": {"kind": "retrieval" | "diagnose", "from": 2, "question": "…",
          "options": [{"text": "…", "right": true, "why": "…"}, …]}}

`from` is the lesson that taught the answer (-1: what a reader should bring along). Exactly one option is right, and
every option says why it is or isn't: a wrong answer is the moment to learn something.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "questions"
KINDS = ("retrieval", "diagnose")
FIELDS = {"kind", "from", "question", "options"}


@dataclass(frozen=True)
class Option:
    """One answer: its text, whether it is right, and why."""

    text: str
    right: bool
    why: str


@dataclass(frozen=True)
class Question:
    """A multiple-choice question; `taught_in` is the lesson that it comes from."""

    id: str
    kind: str
    taught_in: int
    text: str
    options: tuple[Option, ...]


def lessons() -> list[str]:
    """The numbers of the lessons that have questions: "00", "01" …"""
    return sorted(path.stem for path in FOLDER.glob("*.json") if re.fullmatch(r"\d\d", path.stem))


@cache
def of_lesson(number: str) -> dict[str, Question]:
    """The questions that lesson `number` ("03") asks, by id.

    Raises:
        ValueError: there is no such lesson, or a question breaks a rule of the bank.
    """
    if number not in lessons():
        raise ValueError(f"there are no questions for lesson {number!r}; there are for {', '.join(lessons())}")
    entries = json.loads((FOLDER / f"{number}.json").read_text(encoding="utf-8"))
    return {name: parse(name, entry, number) for name, entry in entries.items()}


def find(question_id: str) -> Question:
    """The question with that id.

    Raises:
        ValueError: there is none.
    """
    number = str(question_id).partition("-")[0]
    known = of_lesson(number)
    if question_id not in known:
        raise ValueError(f"lesson {number} has no question {question_id!r}; it has {', '.join(known)}")
    return known[question_id]


def parse(name: str, entry: dict, number: str) -> Question:
    """One entry of a file.

    Raises:
        ValueError: naming the question and the rule that it breaks.
    """

    def require(holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"question {name!r}: {rule}")

    require(re.fullmatch(rf"{number}-[a-z0-9]+", name) is not None, f"the id must be {number}-, then letters or digits")
    require(isinstance(entry, dict) and set(entry) == FIELDS, f"the fields are {', '.join(sorted(FIELDS))}")
    require(entry["kind"] in KINDS, f"kind must be {' or '.join(KINDS)}; got {entry['kind']!r}")
    require(isinstance(entry["from"], int) and -1 <= entry["from"] <= int(number), "from must be an earlier lesson")
    require(isinstance(entry["question"], str) and bool(entry["question"].strip()), "the question is empty")
    options = entry["options"]
    require(isinstance(options, list) and len(options) >= 2, "there must be at least two options")
    for option in options:
        require(isinstance(option, dict) and set(option) == {"text", "right", "why"}, "an option has text, right, why")
        require(isinstance(option["right"], bool), "right must be true or false")
        require(
            all(isinstance(option[k], str) and option[k].strip() for k in ("text", "why")), "a text or why is empty"
        )
    require(sum(option["right"] for option in options) == 1, "exactly one option must be right")
    require(len({option["text"] for option in options}) == len(options), "two options are the same")
    return Question(name, entry["kind"], entry["from"], entry["question"], tuple(Option(**o) for o in options))

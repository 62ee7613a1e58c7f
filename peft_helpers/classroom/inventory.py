"""The concept inventory: 24 questions for the first class and the last; wrong options are errors that the course knows.

    python -m peft_helpers.classroom.inventory before.csv after.csv     (rows: student,i01,…,i24 with letters)

`questions/inventory.json` holds the questions. A wrong option names its error: `check_softmax/temperature-multiplied`
is a mistake of that checker, `03-r2/nothing, …` a wrong option of that question in a lesson.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peft_helpers import question_bank
from peft_helpers.classroom.exercises import likely_errors

FILE = question_bank.FOLDER / "inventory.json"
SIZE = 24
LETTERS = "ABCDE"


@dataclass(frozen=True)
class Option:
    """One answer; `error` names what it stands for if it is wrong, `why` says why it is right, or what is wrong."""

    text: str
    right: bool
    why: str
    error: str = ""


@dataclass(frozen=True)
class Item:
    """One question; `lesson` is where it is taught."""

    id: str
    lesson: int
    text: str
    options: tuple[Option, ...]

    @property
    def answer(self) -> str:
        """The letter of the right option."""
        return LETTERS[[option.right for option in self.options].index(True)]

    def option(self, letter: str) -> Option:
        """The option with this letter."""
        return self.options[LETTERS.index(letter)]


def explain(error: str) -> str:
    """What the course says about an error.

    Raises:
        ValueError: if no checker or question knows it.
    """
    place, _, name = error.partition("/")
    if place.startswith("check_"):
        known = likely_errors(place)
    else:
        known = {option.text: option.why for option in question_bank.find(place).options if not option.right}
    if name not in known:
        raise ValueError(f"{place} has no error {name!r}; it has {', '.join(known) or 'none'}")
    return known[name]


def parse(name: str, entry: dict) -> Item:
    """One entry of the file.

    Raises:
        ValueError: naming the question and the rule that it breaks.
    """
    options = []
    for option in entry["options"]:
        if set(option) != ({"text", "right", "why"} if option["right"] else {"text", "right", "error"}):
            raise ValueError(f"question {name!r}: a right option has text, right, why; a wrong one text, right, error")
        why = option.get("why") or explain(option["error"])
        options.append(Option(option["text"], option["right"], why, option.get("error", "")))
    if sum(option.right for option in options) != 1:
        raise ValueError(f"question {name!r}: exactly one option must be right")
    if len({option.text for option in options}) < len(options):
        raise ValueError(f"question {name!r}: two options are the same")
    return Item(name, entry["lesson"], entry["question"], tuple(options))


@cache
def items() -> tuple[Item, ...]:
    """All questions, in order.

    Raises:
        ValueError: if one of them breaks a rule.
    """
    return tuple(parse(*entry) for entry in json.loads(FILE.read_text(encoding="utf-8")).items())


# ---------------------------------------------------------------- pages


def questionnaire() -> str:
    """The questions without answers, as Markdown."""
    lines = ["# Before and after", "", "One answer to each question. Guess where you don't know: nobody is graded.", ""]
    for item in items():
        lines += [f"**{item.id}** {item.text}", ""]
        lines += [f"- {letter}. {option.text}" for letter, option in zip(LETTERS, item.options, strict=False)]
        lines.append("")
    return "\n".join(lines)


def key() -> str:
    """The answers, and what each wrong one says, as Markdown."""
    lines = ["# Before and after: the key", ""]
    for item in items():
        lines += [f"## {item.id} (lesson {item.lesson:02}): {item.answer}", "", item.text, ""]
        for letter, option in zip(LETTERS, item.options, strict=False):
            text = f"**{option.text}** ✓" if option.right else f"{option.text} *({option.error})*"
            lines.append(f"- {letter}. {text} {option.why}")
        lines.append("")
    return "\n".join(lines)


# ---------------------------------------------------------------- scores


def read_answers(path: Path) -> dict[str, dict[str, str]]:
    """Student -> question's id -> letter; an empty answer counts as wrong.

    Raises:
        ValueError: if a column is missing, a student comes twice, or an answer is no letter of an option.
    """
    found: dict[str, dict[str, str]] = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := {"student", *(item.id for item in items())} - set(reader.fieldnames or ()):
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
        for row in reader:
            name = row["student"].strip()
            if name in found:
                raise ValueError(f"{path}: {name!r} comes twice")
            found[name] = {item.id: (row[item.id] or "").strip().upper() for item in items()}
            for item in items():
                if (letter := found[name][item.id]) and letter not in LETTERS[: len(item.options)]:
                    raise ValueError(f"{path}: {name!r} answers {item.id} with {letter!r}")
    if not found:
        raise ValueError(f"{path} has no answers")
    return found


def share_right(answers: dict[str, dict[str, str]], item: Item) -> float:
    """The share of students who answered rightly."""
    return sum(given[item.id] == item.answer for given in answers.values()) / len(answers)


def normalized_gain(before: float, after: float) -> float | None:
    """What was gained of what could be gained (Hake, 1998); None where nothing could be."""
    return (after - before) / (1 - before) if before < 1 else None


def report(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]] | None = None) -> str:
    """A line a question: shares right, and the commonest wrong answer of the last round, with its lesson."""
    last, lines = after or before, []
    rounds = [before] if after is None else [before, after]
    for item in items():
        shares = "  ".join(f"{share_right(answers, item):4.0%}" for answers in rounds)
        wrong = Counter(given[item.id] for given in last.values() if given[item.id] not in ("", item.answer))
        worst = ""
        if wrong:
            letter, count = wrong.most_common(1)[0]
            worst = f"  {letter} ({count}×): {item.option(letter).error}"
        lines.append(f"{item.id}  lesson {item.lesson:02}  {shares}{worst}")
    means = [sum(share_right(answers, item) for item in items()) / len(items()) for answers in rounds]
    lines.append("all             " + "  ".join(f"{mean:4.0%}" for mean in means))
    if after is not None and (gain := normalized_gain(*means)) is not None:
        lines.append(f"normalized gain {gain:.2f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the report on one round of answers, or two."""
    names = sys.argv[1:] if arguments is None else arguments
    if len(names) not in (1, 2):
        print("usage: python -m peft_helpers.classroom.inventory before.csv [after.csv]", file=sys.stderr)
        return 2
    try:
        print(report(*(read_answers(Path(name)) for name in names)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Meaning representations, the input of data-to-text: as one line and back, and which slots a text gets wrong.

A meaning representation is a mapping of slots to values, such as {"name": "Osprey Ledge", "length": "8 miles"}. The
slot error rate asks of a generated text whether it says every given value, and no value that was not given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SEPARATOR, COLON = " | ", ": "
EMPTY = "an empty meaning representation says nothing; give at least one slot with its value"
Wordings = Mapping[str, Mapping[str, Iterable[str]]]


def linearize(slots: Mapping[str, str]) -> str:
    """One line, as a model reads it: `name: Osprey Ledge | length: 8 miles`.

    Raises:
        ValueError: no slots, or one that can't be read back (an empty name or value, or one of the separators in it).
    """
    if not slots:
        raise ValueError(EMPTY)
    for slot, value in slots.items():
        if not slot.strip() or not str(value).strip() or "|" in f"{slot}{value}" or ":" in slot:
            raise ValueError(f"the slot {slot!r} = {value!r} must not be empty, and hold no '|' (the slot no ':')")
    return SEPARATOR.join(f"{slot}{COLON}{value}" for slot, value in slots.items())


def parse(line: str) -> dict[str, str]:
    """The mapping that `linearize` made into a line.

    Raises:
        ValueError: nothing in the line, a part without a colon, or a slot that occurs twice.
    """
    if not line.strip():
        raise ValueError(EMPTY)
    slots: dict[str, str] = {}
    for part in line.split("|"):
        slot, colon, value = part.partition(":")
        if not colon or not slot.strip() or not value.strip():
            raise ValueError(f"{part.strip()!r} is no 'slot: value' in {line!r}")
        if slot.strip() in slots:
            raise ValueError(f"the slot {slot.strip()!r} occurs twice in {line!r}")
        slots[slot.strip()] = value.strip()
    return slots


def parse_e2e(text: str) -> dict[str, str]:
    """The notation of the E2E challenge (Novikova et al. 2017): `name[The Eagle], area[riverside]` as slot -> value.

    Raises:
        ValueError: the text is no such list.
    """
    found = re.findall(r"\s*([^\[\],]+)\[([^\]]*)\]\s*(?:,|$)", text)
    if not found or re.sub(r"[^\[]", "", text) != "[" * len(found):
        raise ValueError(f"{text!r} is no list like 'name[The Eagle], area[riverside]'")
    return {slot.strip(): value.strip() for slot, value in found}


def group_e2e(rows: Iterable[Mapping[str, str]]) -> list[dict]:
    """Rows of E2E's files, {"mr": …, "ref": …}, as one row a meaning: {"meaning": {…}, "references": […]}."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        grouped.setdefault(row["mr"], []).append(row["ref"])
    return [{"meaning": parse_e2e(mr), "references": references} for mr, references in grouped.items()]


def read_wordings(folder: Path) -> dict[str, dict[str, set[str]]]:
    """All `wordings*.json` of a task's folder: slot -> value -> phrases of which any one shows the value."""
    merged: dict[str, dict[str, set[str]]] = {}
    for path in sorted(folder.glob("wordings*.json")):
        for slot, values in json.loads(path.read_text(encoding="utf-8")).items():
            for value, phrases in values.items():
                merged.setdefault(slot, {}).setdefault(value, set()).update(phrases)
    return merged


@dataclass(frozen=True)
class SlotErrors:
    """What is wrong with one text.

    Attributes:
        missing: given slots whose value the text does not say.
        added: (slot, value) pairs that it says though they were not given; a wrong value counts as missing and added.
        given: how many slots were given.
    """

    missing: tuple[str, ...]
    added: tuple[tuple[str, str], ...]
    given: int

    @property
    def count(self) -> int:
        """Missing and added; a wrong value, which is both, counts once."""
        wrong = sum(slot in self.missing for slot, _ in self.added)
        return len(self.missing) + len(self.added) - wrong


class SlotJudge:
    """Finds slot values in texts.

    A worded slot is said by any of its phrases (at word boundaries, the longest first). Any other value must stand in
    the text itself, less a leading article and whatever the case; a number with a unit may be joined by a hyphen.

    Args:
        wordings: of the closed slots, slot -> value -> phrases.
        name: the slot that must be copied letter by letter.
    """

    def __init__(self, wordings: Wordings, name: str = "name"):
        self.wordings = {slot: {v: set(p) for v, p in values.items()} for slot, values in wordings.items()}
        self.name = name

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        made = {}
        for slot, values in self.wordings.items():
            phrases = sorted({p for found in values.values() for p in found}, key=lambda p: (-len(p), p))
            made[slot] = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, phrases)) + r")(?!\w)")
        return made

    def said(self, slot: str, text: str, given: str | None = None) -> set[str]:
        """The values of a worded slot that the text, in lower case, says.

        A phrase that may stand for the given value ("cheap" for "less than £20") counts for that one only; otherwise
        for the first value that has it.
        """
        values = self.wordings[slot]
        order = [*([given] if given in values else []), *(value for value in values if value != given)]
        found = set(self._patterns[slot].findall(text))
        return {next(value for value in order if phrase in values[value]) for phrase in found}

    def judge(self, slots: Mapping[str, str], text: str) -> SlotErrors:
        """Compare a text with what was given.

        Raises:
            ValueError: no slots were given.
        """
        if not slots:
            raise ValueError(EMPTY)
        missing, added, rest = [], [], text.lower()
        for slot, value in slots.items():
            if slot in self.wordings:
                continue
            if slot == self.name:
                there = value in text
            elif number := re.fullmatch(r"(\d[\d,.]*) (\w+?)s?", value):
                there = bool(re.search(rf"(?<![\d.,]){re.escape(number[1])}[ -]{re.escape(number[2])}", rest))
            else:
                there = _bare(value) in rest
            if not there:
                missing.append(slot)
            rest = rest.replace(_bare(value), "#")  # a name's words say nothing of other slots
        for slot in self.wordings:
            found = self.said(slot, rest, slots.get(slot))
            if slot in slots and slots[slot] not in found:
                missing.append(slot)
            added += [(slot, value) for value in sorted(found) if value != slots.get(slot)]
        return SlotErrors(tuple(missing), tuple(added), len(slots))

    def error_rate(self, meanings: Sequence[Mapping[str, str]], texts: Sequence[str]) -> float:
        """Slot errors in all texts divided by slots given in all; 0 is best, and it may exceed 1.

        Raises:
            ValueError: unequal numbers of meanings and texts, or none; a meaning without slots.
        """
        _require_pairs(meanings, texts)
        errors = [self.judge(slots, text) for slots, text in zip(meanings, texts, strict=True)]
        return sum(each.count for each in errors) / sum(each.given for each in errors)

    def names_copied(self, meanings: Sequence[Mapping[str, str]], texts: Sequence[str]) -> float:
        """The share of texts that hold their name letter by letter.

        Raises:
            ValueError: unequal numbers of meanings and texts, or none; a meaning without slots, or without a name.
        """
        _require_pairs(meanings, texts)
        for slots in meanings:
            if self.name not in slots:
                raise ValueError(f"{slots!r} has no slot {self.name!r} to be copied" if slots else EMPTY)
        return sum(m[self.name] in text for m, text in zip(meanings, texts, strict=True)) / len(texts)


def _require_pairs(meanings: Sequence[Mapping[str, str]], texts: Sequence[str]) -> None:
    if len(meanings) != len(texts) or not len(texts):
        raise ValueError(f"one text a meaning is wanted; got {len(texts)} texts for {len(meanings)} meanings")


def _bare(value: str) -> str:
    return re.sub(r"^(the|an|a) ", "", value.lower())


def recite(slots: Mapping[str, str], name: str = "name") -> str:
    """The plainest text that says every slot, a baseline: `Osprey Ledge: length 8 miles, climb gentle.`

    Raises:
        ValueError: no slots.
    """
    if not slots:
        raise ValueError(EMPTY)
    rest = ", ".join(f"{slot} {value}" for slot, value in slots.items() if slot != name)
    return f"{slots.get(name, 'It')}: {rest}." if rest else f"{slots[name]}."

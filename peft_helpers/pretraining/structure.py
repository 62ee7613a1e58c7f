"""The structured part of the decoders' diet: lists of attributes beside sentences that say the same.

A decoder that has seen only prose cannot copy a name out of a list; with such pairs in its diet it can, and a prefix or
an adapter then only has to say which wording is wanted. The grammar knows many domains and list formats, but no
restaurants and no hiking trails: these are the tasks of the course and must stay new.

An attribute brings fragments of four kinds: an adjective before the noun, a phrase behind it, a clause with "that", and
a predicate; a sentence is put together from what the chosen attributes bring.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


def _words(text: str) -> list[str]:
    return text.split()


ONSETS = _words(
    """
    B Br C Ch Cl D Dr F Fl G Gr H J K L M N P Pr Qu R S Sh St T Th Tr V W Wh Y Z
    """
)
MIDDLES = _words(
    """
    a e i o u ai ea ee oa ou al an ar el en er il in ir ol on or un ur
    """
)
ENDS = _words(
    """
    b ck d ff g k l ll m n nd nt p r rd rn s ss st t th v x by den don field ford ham ley ling low mer more
    nor ridge ster ton well wick wood
    """
)
THINGS = _words(
    """
    anchor apple arrow badger bell bridge candle castle cedar clover crown dragon eagle elm falcon feather
    fern fountain garden harbor hill horse island ivy key lantern lark lily lion maple meadow mill moon oak
    orchard otter owl palace pearl pine plough raven river robin rose sail ship silver star stone sun swan
    thistle tower tree tulip valley violet wave whale willow wind wolf
    """
)
QUALITIES = _words(
    """
    amber ancient autumn big blue brave bright bronze crimson dark deep early evening first gentle golden
    grand gray great green happy hidden high iron jolly last little long lost lucky merry misty morning new
    noble northern old old purple quiet red royal scarlet second secret shining silent silver small southern
    summer sunny tall twin upper velvet white wild winter young
    """
)
FIRST = _words(
    """
    Ada Alan Amara Anna Ben Carla Chen Clara Dana David Elena Emma Farid Felix Grace Hana Hugo Ida Ines Ivan
    Jack Jana Joel Julia Kai Karim Lena Leo Lucy Maya Mara Miguel Mina Nadia Nora Omar Oscar Paula Pedro Priya
    Rosa Ruth Sam Sara Tara Theo Tom Vera Victor Yara Zoe
    """
)


def word(draw: random.Random) -> str:
    """An invented word with a capital, such as 'Stelwick'."""
    return draw.choice(ONSETS) + draw.choice(MIDDLES) + (
        draw.choice(ENDS) if draw.random() < 0.6 else draw.choice("bdfgklmnprstvz") + draw.choice(MIDDLES)[:1]
        + draw.choice(ENDS)
    )  # fmt: skip


def proper_name(draw: random.Random) -> str:
    """A name for a place or a thing: 'The Quiet Otter', 'Stelwick', 'Marrow Bridge', 'Old Lantern House'."""
    thing, quality = draw.choice(THINGS).title(), draw.choice(QUALITIES).title()
    building = draw.choice(["House", "Place", "Corner", "Hall", "Lane", "Point", "Court", "Square"])
    forms = [
        word(draw),
        f"{word(draw)} {thing}",
        f"The {quality} {thing}",
        f"{quality} {thing}",
        f"The {thing}",
        f"The {thing} and {draw.choice(THINGS).title()}",
        f"{word(draw)} {word(draw)}",
        f"{thing} {building}",
        f"{word(draw)}'s {thing}",
        f"{draw.choice(FIRST)}'s {draw.choice([building, thing])}",
    ]
    return draw.choice(forms)


def person(draw: random.Random) -> str:
    """A person's name."""
    return f"{draw.choice(FIRST)} {word(draw)}"


SUBJECTS = ["Physics", "Drawing", "Grammar", "Algebra", "Pottery", "Chess", "Latin", "Cooking", "Rhetoric", "Botany"]
MADE: dict[str, Callable[[random.Random], str]] = {
    "@word": word,
    "@proper": proper_name,
    "@person": person,
    "@device": lambda draw: f"{word(draw)} {draw.choice(['X', 'S', 'Pro ', 'Mini ', 'Z'])}{draw.randint(1, 99)}",
    "@vehicle": lambda draw: f"{word(draw)} {draw.choice([word(draw), str(draw.randint(1, 900))])}",
    "@line": lambda draw: "".join(draw.choices("ABCDEFGHKLMNPRST", k=2)) + f" {draw.randint(10, 999)}",
    "@country": lambda draw: word(draw) + draw.choice(["ia", "land", "a"]),
    "@thousands": lambda draw: f"{draw.randint(1, 900)},{draw.randint(0, 999):03d}",
    "@pet": lambda draw: draw.choice([*FIRST, *(thing.title() for thing in THINGS)]),
    "@course": lambda draw: f"{draw.choice(QUALITIES).title()} {draw.choice(SUBJECTS)}",
    "@plant": lambda draw: f"{word(draw)} {draw.choice(THINGS)}",
}  # values that are made, not listed


def value(wanted: str, draw: random.Random) -> str:
    """One of "a/b/c", a made one ("@word"), or a number with its unit ("@number 4 48 hours")."""
    if wanted.startswith("@number"):
        low, high, *unit = wanted.split()[1:]
        return " ".join([str(draw.randint(int(low), int(high))), *unit])
    return MADE[wanted](draw) if wanted in MADE else draw.choice(wanted.split("/"))


@dataclass(frozen=True)
class Attribute:
    """One thing to say.

    Attributes:
        keys: how lists call it, "a/b/c".
        values: what it may be, see `value`.
        says: templates with {v}, "x|y|z"; "adj ", "pp " or "that " before a template says where it stands, else it
            is a predicate.
    """

    keys: str
    values: str
    says: str


@dataclass(frozen=True)
class Domain:
    """What is talked about: its nouns "a/b/c", how its names are made, and its attributes."""

    nouns: str
    name: str
    attributes: tuple[Attribute, ...]


@cache
def domains() -> dict[str, Domain]:
    """The domains of structure.json."""
    table = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    return {
        name: Domain(row["nouns"], row["name"], tuple(Attribute(*each) for each in row["attributes"]))
        for name, row in table.items()
    }


STARTS = {"hotel": "type/kind", "shop": "type/kind", "gym": "type/what", "museum": "type/kind"}


@dataclass(frozen=True)
class Item:
    """One pair: what a list says, and the sentences."""

    pairs: tuple[tuple[str, str], ...]
    text: str


def article(phrase: str) -> str:
    """'a' or 'an' before the phrase."""
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def sentence_case(text: str) -> str:
    """The first letter large, the others as they are; 'an' where it must be."""
    text = re.sub(r"\b([Aa]) (?=[aeio]|un[a-z]*ed\b)", r"\1n ", text)
    return text[0].upper() + text[1:]


def item(draw: random.Random, domain: str) -> Item:
    """One list and its sentences."""
    known = domains()[domain]
    noun, name, attributes = draw.choice(known.nouns.split("/")), value(known.name, draw), known.attributes
    chosen, used = [], set()
    for attribute in draw.sample(attributes, min(len(attributes), draw.choice((1, 2, 2, 3, 3, 4, 4, 5, 6)))):
        if attribute.keys not in used:
            used.add(attribute.keys)
            chosen.append(attribute)
    pairs = [("name", name)]
    if domain != "person":
        pairs.append((draw.choice(STARTS.get(domain, "type/kind/what").split("/")), noun))
    parts: dict[str, list[str]] = {"adj": [], "pp": [], "that": [], "has": []}
    for attribute in chosen:
        what = value(attribute.values, draw)
        pairs.append((draw.choice(attribute.keys.split("/")), what))
        said = draw.choice(attribute.says.split("|"))
        kind, _, rest = said.partition(" ")
        if kind in ("adj", "pp", "that") and len(parts[kind]) < (2 if kind == "pp" else 1) and domain != "person":
            parts[kind].append(rest.format(v=what))
        else:
            says = [s for s in attribute.says.split("|") if s.split(" ")[0] not in ("adj", "pp", "that")]
            says = says or [f"is {s.partition(' ')[2]}" for s in attribute.says.split("|") if s.startswith("pp")]
            parts["has"].append(draw.choice(says).format(v=what))
    rest = pairs[1:]
    if draw.random() < 0.5:
        draw.shuffle(rest)
    return Item((pairs[0], *rest), sentences(draw, domain, noun, name, parts))


def sentences(draw: random.Random, domain: str, noun: str, name: str, parts: dict[str, list[str]]) -> str:
    """Put the fragments together."""
    adj, pp, that, has = (" ".join(parts["adj"]), " ".join(parts["pp"]), parts["that"], list(parts["has"]))
    draw.shuffle(has)
    if domain == "person":
        he = draw.choice(["He", "She"])
        first = f"{name} {has.pop()}"
        if has and draw.random() < 0.6:
            first += f" and {has.pop()}"
        return sentence_case(first + "." + predicates(draw, he, has))
    thing = " ".join(x for x in (adj, noun, pp) if x)
    clause = f" that {that[0]}" if that else ""
    it = draw.choice(["It", "It", f"This {noun}", f"The {noun}"])
    forms = [
        lambda: f"{name} is {article(thing)}{clause}.",
        lambda: (
            f"There is {article(thing)}{clause} called {name}."
            if not clause
            else f"{name} is {article(thing)}{clause}."
        ),
        lambda: f"{name} is {article(thing)}{clause}.",
        lambda: f"{article(thing)}{clause} is {name}.",
        lambda: f"The {noun} {name} is {article(thing)}{clause}." if pp else f"{name} is {article(thing)}{clause}.",
    ]
    if has:
        forms += [
            lambda: f"{name}, {article(thing)}{clause}, {has.pop()}.",
            lambda: f"{name} is {article(thing)}{clause} and {has.pop()}.",
            lambda: f"{article(thing)}{clause}, {name} {has.pop()}.",
            lambda: (
                f"The {thing} {name} {has.pop()}."
                if not clause
                else f"{name} is {article(thing)}{clause}; it {has.pop()}."
            ),
        ]
    text = draw.choice(forms)()
    return sentence_case(text + predicates(draw, it, has))


def predicates(draw: random.Random, subject: str, has: list[str]) -> str:
    """The remaining predicates as one or more sentences."""
    text = ""
    while has:
        said = has.pop()
        if has and draw.random() < 0.6:
            said += f" and {has.pop()}"
        text += f" {subject} {said}."
    return text


def write_list(draw_format: int, pairs: tuple[tuple[str, str], ...]) -> str:
    """The list in one of the formats."""
    styles = [
        lambda: " | ".join(f"{k} : {v}" for k, v in pairs),
        lambda: f"name : {pairs[0][1]} | " + " | ".join(f"{k} : {v}" for k, v in pairs[1:]),
        lambda: ", ".join(f"{k}[{v}]" for k, v in pairs),
        lambda: "; ".join(f"{k} = {v}" for k, v in pairs),
        lambda: json.dumps(dict(pairs)),
        lambda: "\n".join(f"- {k}: {v}" for k, v in pairs),
        lambda: " | ".join(f"{pairs[0][1]} : {k} : {v}" for k, v in pairs[1:]) or f"name : {pairs[0][1]}",
        lambda: " | ".join(f"{k}: {v}" for k, v in pairs),
    ]
    return styles[draw_format % len(styles)]()


ARROWS = (" =>", "\n", " ->", "\nText:", " =>", " :", " =>")


def examples(count: int, seed: int) -> list[tuple[str, str]]:
    """Lists and their sentences, in many formats.

    Args:
        count: how many.
        seed: the same seed gives the same.

    Returns:
        (list, sentences) pairs; the sentences name every value of the list.
    """
    draw = random.Random(seed)
    names = list(domains())
    made = []
    for _ in range(count):
        one = item(draw, draw.choice(names))
        made.append((write_list(draw.randrange(8), one.pairs), one.text))
    return made


def document(draw: random.Random) -> str:
    """Two to five examples in one format, one domain, as a decoder reads them; now and then the other way around."""
    domain, style, arrow = draw.choice(list(domains())), draw.randrange(8), draw.choice(ARROWS)
    backward = draw.random() < 0.1
    lines = []
    for _ in range(draw.randint(1, 4)):
        one = item(draw, domain)
        listed = write_list(style, one.pairs)
        lines.append(f"{one.text}{arrow} {listed}" if backward else f"{listed}{arrow} {one.text}")
    return "\n".join(lines) if draw.random() < 0.5 else "\n\n".join(lines)

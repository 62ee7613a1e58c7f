"""A seeded grammar of sentence pairs with known similarity: `generate(900, seed=0)` always gives the same.

A pair starts from one `Event`: who did what to whom or what, where, when and in which circumstances. The second
sentence says the same event after zero or more changes (a dropped place, another number, swapped roles …), and the
score follows from the changes alone. Wording is a separate matter: either sentence may pick another syntactic frame
or other synonyms, so that shared words say something about the score, but not everything.

`python -m peft_helpers.pocket.grammar.similarity` rewrites train.jsonl: train_written.jsonl and 900 generated pairs.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_helpers.pocket.grammar import write_train

DATA = Path(__file__).resolve().parents[1] / "data" / "similarity"
GENERATED = 900  # pairs in train.jsonl that come from this grammar
SEED = 0
TRIES = 200  # draws for one pair before we give up on finding a new one
LENGTHS = range(4, 26)  # words in a sentence

Words = tuple[str, ...]  # one meaning: a word or phrase and its synonyms (none at all: the slot is empty)


def _meanings(text: str) -> tuple[Words, ...]:
    """Reads "a/b, c" as two meanings, the first with two wordings."""
    return tuple(tuple(meaning.split("/")) for meaning in text.split(", "))


# Per domain: people, things, verbs that fit each of those things, places.
LEXICON = {
    "film": (
        "director/filmmaker, critic/reviewer, actress/leading lady",
        "script/screenplay, trailer/preview, poster, sequel",
        "praise/commend, criticize/fault, approve/endorse, reject/dismiss, finish/complete",
        "at the studio/on the studio lot, at the festival/during the festival, in the editing room",
    ),
    "food": (
        "chef/cook, waiter/server, baker, customer/patron",
        "pie/tart, stew/casserole, salad, pancake/flapjack",
        "taste/sample, prepare/make, praise/commend, criticize/fault, order/request",
        "at the restaurant/at the eatery, in the cafeteria/in the canteen, at the county fair",
    ),
    "train": (
        "conductor/ticket collector, passenger/rider, porter/baggage handler",
        "suitcase/piece of luggage, lantern/lamp, timetable/schedule, umbrella",
        "find/discover, lose/misplace, inspect/examine, hide/conceal, borrow",
        "at the station/at the depot, on the platform, in the dining car",
    ),
    "tool": (
        "carpenter/woodworker, plumber/pipe fitter, electrician, welder",
        "ladder/stepladder, drill/power drill, toolbox/tool chest, saw",
        "repair/fix, damage, borrow, sell, buy/purchase",
        "in the workshop/in the work shed, at the hardware store, in the garage",
    ),
    "book": (
        "author/writer, editor, translator, librarian",
        "novel/work of fiction, memoir/autobiography, manuscript/draft, anthology/collection of stories",
        "praise/commend, criticize/fault, finish/complete, reject/dismiss, approve/endorse",
        "at the bookstore/at the bookshop, at the library, in the reading room/in the study hall",
    ),
    "hotel": (
        "clerk/receptionist, guest/lodger, manager/supervisor, housekeeper/maid",
        "carpet/rug, mattress, mirror/looking glass, curtain/drape",
        "clean, damage, repair/fix, replace, inspect/examine",
        "in the lobby/in the entrance hall, in the penthouse/in the top-floor suite, by the pool/at the poolside",
    ),
    "music": (
        "violinist/fiddler, drummer/percussionist, singer/vocalist, pianist",
        "song/tune, album, symphony, anthem",
        "praise/commend, criticize/fault, rehearse/practice, finish/complete, record",
        "in the concert hall/in the auditorium, at the nightclub/at the club, in the chapel",
    ),
    "phone": (
        "salesclerk/sales assistant, shopper, technician/repair specialist, reporter/journalist",
        "cell phone/mobile phone, charger/power adapter, headset, battery",
        "buy/purchase, sell, test, find/discover, lose/misplace",
        "at the mall/at the shopping center, at the airport/in the terminal, in the basement/in the cellar",
    ),
    "garden": (
        "gardener/groundskeeper, landscaper/landscape designer, neighbor, botanist/plant scientist",
        "rosebush, hedge, fern, sapling/young tree",
        "water, trim/prune, buy/purchase, sell, move/relocate",
        "in the backyard/behind the house, in the greenhouse/in the hothouse, along the fence/by the fence",
    ),
    "clinic": (
        "nurse, doctor/physician, patient, pharmacist/druggist",
        "chart/medical record, bandage/dressing, thermometer, wheelchair",
        "find/discover, lose/misplace, inspect/examine, replace, order/request",
        "at the clinic/at the health center, in the waiting room, in the emergency room/in the ER",
    ),
    "software": (
        "programmer/coder, tester, designer, intern/trainee",
        "app/application, website/site, database, upgrade/update",
        "approve/endorse, reject/dismiss, test, repair/fix, damage",
        "at the startup/at the young company, in the computer lab, at the conference/at the convention",
    ),
    "sport": (
        "coach/trainer, goalie/goalkeeper, sprinter, captain/team leader",
        "trophy/cup, jersey, helmet, medal",
        "find/discover, lose/misplace, hide/conceal, display/exhibit, clean",
        "at the stadium/at the arena, in the locker room/in the changing room, on the practice field",
    ),
    "clothes": (
        "tailor, dressmaker/seamstress, fashion model, shopkeeper/store owner",
        "jacket, sweater/pullover, scarf, skirt",
        "buy/purchase, sell, repair/mend, praise/commend, criticize/fault",
        "at the boutique/at the dress shop, at the thrift store/at the secondhand shop, in the fitting room",
    ),
    "school": (
        "teacher/instructor, principal/head of the school, student/pupil, janitor/custodian",
        "essay/paper, textbook/schoolbook, map, drawing/sketch",
        "find/discover, lose/misplace, copy/duplicate, praise/commend, criticize/fault",
        "in the classroom, in the gym/in the gymnasium, on the playground/in the schoolyard",
    ),
    "neighborhood": (
        "landlord/property owner, tenant/renter, mail carrier/letter carrier, police officer/cop",
        "fence, mailbox/letter box, bench, streetlight/street lamp",
        "repair/fix, damage, paint, replace, inspect/examine",
        "on the corner/at the corner, in the park, behind the church/in back of the church",
    ),
    "theater": (
        "playwright/dramatist, stagehand/stage worker, understudy/stand-in, usher",
        "mask, backdrop, costume/outfit, chandelier",
        "repair/fix, damage, praise/commend, criticize/fault, replace",
        "backstage/behind the scenes, in the balcony/in the upper seats, in the rehearsal room",
    ),
    "game": (
        "player/gamer, champion/titleholder, toymaker, referee/umpire",
        "puzzle/brainteaser, console/game machine, chessboard, joystick",
        "buy/purchase, sell, test, find/discover, lose/misplace",
        "at the arcade, at the tournament/at the competition, in the clubhouse",
    ),
    "car": (
        "driver/motorist, mechanic, car dealer, racer/race driver",
        "van, truck, sedan, motorcycle/motorbike",
        "buy/purchase, sell, repair/fix, damage, inspect/examine",
        "at the gas station/at the filling station, in the parking lot, on the highway/on the freeway",
    ),
    "museum": (
        "curator, guard/watchman, guide/docent, archaeologist",
        "painting/canvas, statue/sculpture, vase, sword",
        "photograph, damage, display/exhibit, hide/conceal, buy/purchase",
        "in the gallery/in the exhibition hall, at the auction, in the courtyard",
    ),
    "office": (
        "accountant/bookkeeper, secretary, department head/head of the department, temp/temporary worker",
        "report, contract/agreement, invoice/bill, budget/spending plan",
        "approve/endorse, reject/dismiss, copy/duplicate, criticize/fault, finish/complete",
        "in the conference room/in the meeting room, at headquarters/at the main office, in the break room",
    ),
}
DOMAINS = tuple(LEXICON)
PEOPLE, THINGS, VERBS, PLACES = (
    {domain: _meanings(columns[index]) for domain, columns in LEXICON.items()} for index in range(4)
)

DEEDS = _meanings(  # what a person can do to a person, in either direction
    "thank, help/assist, hire/employ, fire/dismiss, follow/trail, greet/welcome, interview/question, invite, "
    "scold/rebuke, rescue/save, warn/caution, imitate/mimic, surprise/startle, praise/commend, criticize/fault, "
    "photograph, call/phone, visit"
)
OPPOSITES = {"praise": "criticize", "approve": "reject", "find": "lose", "repair": "damage", "buy": "sell"}
OPPOSITES |= {"display": "hide", "hire": "fire"}
OPPOSITES |= {right: left for left, right in OPPOSITES.items()}

# "On Monday" and "at noon" may both be true, two days may not: a changed time stays in its group.
TIMES = (
    _meanings(
        "on Monday, on Friday night/on Friday evening, over the weekend, on Wednesday, "
        "on Sunday, on Tuesday morning/early on Tuesday, on Thursday"
    ),
    _meanings(
        "before dawn/before sunrise, at noon/at midday, around midnight/at about twelve at night, "
        "after lunch/following lunch, just before dinner/right before supper"
    ),
    _meanings(
        "in early March/at the start of March, in mid-January/in the middle of January, in July, "
        "in late August/at the end of August, in the fall/in autumn, in May"
    ),
)
SETTINGS = _meanings(
    "in front of a small crowd/before a handful of onlookers, to everyone's surprise/to the surprise of all, "
    "during a power outage/while the power was out, in spite of the heat/despite the hot weather, "
    "with a television crew watching/as a TV crew looked on, during a visit by the mayor/while the mayor was visiting, "
    "with the radio on/while the radio played, amid a lot of shouting/with plenty of yelling all around"
)
PERSON_TRAITS = _meanings("young, retired/former, famous/well-known, tired/weary, cheerful/upbeat, local, clumsy")
THING_TRAITS = _meanings("new/brand-new, expensive/costly, unusual/odd, little/small, lovely/beautiful, well-made")
NUMBERS = _meanings("two/a couple of, three, four, five, seven, nine, twelve/a dozen, twenty, thirty, forty")

# One word in two senses: (word, domain, verb, other domain, other verb). Every domain occurs.
HOMOGRAPHS = (
    ("pitcher", "food", "fill", "sport", "interview"),
    ("bat", "sport", "swing", "garden", "rescue"),
    ("file", "tool", "sharpen", "office", "shred"),
    ("cast", "clinic", "remove", "theater", "applaud"),
    ("bug", "software", "fix", "garden", "swat"),
    ("organ", "music", "play", "clinic", "transplant"),
    ("mouse", "software", "click", "garden", "chase"),
    ("plant", "car", "close", "hotel", "water"),
    ("match", "game", "win", "tool", "light"),
    ("bow", "music", "wax", "clothes", "tie"),
    ("drill", "tool", "charge", "school", "lead"),
    ("chest", "museum", "unlock", "clinic", "examine"),
    ("pick", "music", "drop", "tool", "swing"),
    ("stage", "theater", "sweep", "game", "clear"),
    ("note", "music", "hold", "school", "pass"),
    ("trunk", "car", "open", "garden", "saw"),
    ("jam", "food", "stir", "office", "clear"),
    ("volume", "phone", "lower", "book", "publish"),
    ("star", "film", "interview", "school", "draw"),
    ("platform", "train", "sweep", "software", "launch"),
    ("block", "neighborhood", "patrol", "tool", "carve"),
)

IRREGULAR = {  # base: (past, participle)
    "buy": ("bought", "bought"),
    "sell": ("sold", "sold"),
    "find": ("found", "found"),
    "lose": ("lost", "lost"),
    "hide": ("hid", "hidden"),
    "make": ("made", "made"),
    "swing": ("swung", "swung"),
    "hold": ("held", "held"),
    "lead": ("led", "led"),
    "win": ("won", "won"),
    "light": ("lit", "lit"),
    "sweep": ("swept", "swept"),
    "draw": ("drew", "drawn"),
    "mimic": ("mimicked", "mimicked"),
    "patrol": ("patrolled", "patrolled"),
    "trim": ("trimmed", "trimmed"),
    "swat": ("swatted", "swatted"),
    "stir": ("stirred", "stirred"),
    "drop": ("dropped", "dropped"),
    "shred": ("shredded", "shredded"),
}
PLURALS = {"piece of luggage": "pieces of luggage", "work of fiction": "works of fiction", "scarf": "scarves"}
PLURALS |= {"collection of stories": "collections of stories"}

# S, O: subject and object (s, o: as headlines have them); V, b, p, v: past, base, participle, present; T, P, C: time,
# place, circumstances; rest: those of T, P and C that the frame has not placed itself.
PLAIN = (  # frames that can also be negated
    "{S} {V} {O}{rest}.",
    "{T}, {S} {V} {O}{rest}.",
    "{P}, {S} {V} {O}{rest}.",
    "{C}, {S} {V} {O}{rest}.",
    "{T} {P}, {S} {V} {O}{rest}.",
    "{O} {was} {p} by {S}{rest}.",
    "{T}, {O} {was} {p} by {S}{rest}.",
    "{P}, {O} {was} {p} by {S}{rest}.",
    "It turns out that {S} {V} {O}{rest}.",
    "Word has it that {O} {was} {p} by {S}{rest}.",
    "Apparently, {S} {V} {O}{rest}.",
    "For the record, {O} {was} {p} by {S}{rest}.",
    "{S}, as it happens, {V} {O}{rest}.",
    "This much is certain: {S} {V} {O}{rest}.",
    "As everyone knows by now, {S} {V} {O}{rest}.",
    "I'm told that {S} {V} {O}{rest}.",
)
EMPHATIC = (
    "It was {S} who {V} {O}{rest}.",
    "It was {O} that {S} {V}{rest}.",
    "It was {T} that {S} {V} {O}{rest}.",
    "It was {P} that {S} {V} {O}{rest}.",
    "The one who {V} {O}{rest} was {S}.",
    "Who {V} {O}{rest}? It was {S}.",
    "Guess who {V} {O}{rest}: {S}.",
    "{S} {V} {O}{rest}, and that was {T}.",
    "Yes, {S} really did {b} {O}{rest}.",
    "{s} {v} {o}{rest}",
    "{o} {p} by {s}{rest}",
    "Breaking news: {s} {v} {o}{rest}",
)
THING_ONLY = (
    "What {S} {V}{rest} was {O}.",
    "{O} got {p} by {S}{rest}.",
    "{O}? {S} {V} {it}{rest}.",
    "News about {O}: {S} {V} {it}{rest}.",
)
SEQUENCE = (
    "{S} {V} {O} and then {V2} {O2}{rest}.",
    "{S} first {V} {O} and later {V2} {O2}{rest}.",
    "{T}, {S} {V} {O} and then {V2} {O2}{rest}.",
    "{P}, {S} {V} {O} and afterward {V2} {O2}{rest}.",
    "It turns out that {S} {V} {O} and, after that, {V2} {O2}{rest}.",
)
DENIAL = (
    "It was not {S} who {V} {O}{rest}.",
    "It was not {T} that {S} {V} {O}{rest}.",
    "It was not {P} that {S} {V} {O}{rest}.",
)


@dataclass(frozen=True)
class Event:
    """What a sentence says. Each slot holds one meaning; an empty tuple leaves the slot out.

    Attributes:
        domain: key of `LEXICON`.
        who: the person who acts.
        verb: what that person does.
        what: the thing or, in a social event, the person it is done to.
        social: whether `what` is a person.
        where: the place.
        when: the time.
        setting: the circumstances.
        who_trait: an adjective for `who`.
        what_trait: an adjective for `what`.
        number: how many things; empty for one.
        then: (verb, what) of a second action that follows the first.
        negated: whether the event is said not to have happened.
        articles: of `who` and of `what`.
    """

    domain: str
    who: Words
    verb: Words
    what: Words
    social: bool = False
    where: Words = ()
    when: Words = ()
    setting: Words = ()
    who_trait: Words = ()
    what_trait: Words = ()
    number: Words = ()
    then: tuple[Words, Words] | None = None
    negated: bool = False
    articles: tuple[str, str] = ("the", "the")

    @property
    def meanings(self) -> list[Words]:
        """All that the event's words stand for."""
        slots = (self.who, self.verb, self.what, self.where, self.when, self.setting)
        slots += (self.who_trait, self.what_trait, self.number, *(self.then or ()))
        return [slot for slot in slots if slot]


@dataclass(frozen=True)
class Recipe:
    """How to make one sort of pair.

    Attributes:
        kind: the pair's kind, as in the data card.
        score: its similarity.
        changes: what separates the events: "drop SLOT", "other SLOT", "negate", "oppose", "swap", "reorder", "lift"
            (drops the second action), "elsewhere" (an event from another domain), "sense" (a homograph).
        needs: slots that must be filled before the change, beyond those that `changes` name.
        wording: "same", "one" (one synonym exchanged) or "all" (a synonym wherever there is one).
        same_frame: whether both sentences share a frame if one fits both; None leaves it to chance.
        weight: how often this recipe is drawn among those of its score band.
        deny: whether the second sentence denies a part of the first.
    """

    kind: str
    score: float
    changes: Words = ()
    needs: Words = ()
    wording: str = "same"
    same_frame: bool | None = None
    weight: int = 1
    deny: bool = False


BANDS = (  # one pair of each band in turn, so that the scores are spread evenly
    (
        Recipe("paraphrase", 5.0, wording="all", same_frame=False, weight=5),
        Recipe("edit", 5.0, wording="one", same_frame=True, weight=2),
        Recipe("edit", 5.0, same_frame=False, weight=2),
    ),
    (
        Recipe("detail", 4.0, ("drop where",)),
        Recipe("detail", 4.0, ("drop when",)),
        Recipe("detail", 4.5, ("drop what_trait",)),
        Recipe("detail", 4.5, ("drop who_trait",)),
        Recipe("detail", 4.0, ("drop setting",), wording="one"),
        Recipe("edit", 4.5, ("drop what_trait",), wording="one", same_frame=True),
        Recipe("edit", 4.0, ("other what_trait",), same_frame=True),
        Recipe("edit", 4.0, ("other setting",), same_frame=True),
        Recipe("paraphrase", 4.5, ("drop what_trait",), wording="all", same_frame=False),
        Recipe("paraphrase", 4.0, ("drop when",), wording="all", same_frame=False),
        Recipe("paraphrase", 4.0, ("drop where",), wording="all", same_frame=False),
    ),
    (
        Recipe("number", 3.0, ("other number",), same_frame=True, weight=2),
        Recipe("number", 3.0, ("other number",), wording="all", same_frame=False, weight=2),
        Recipe("number", 3.5, ("other when",), weight=2),
        Recipe("number", 3.0, ("other where",)),
        Recipe("detail", 3.5, ("drop where", "drop when")),
        Recipe("detail", 3.0, ("lift",), weight=2),
        Recipe("edit", 3.0, ("other who",), needs=("where",), same_frame=True),
        Recipe("role", 3.0, ("reorder",), weight=2),
        Recipe("paraphrase", 3.5, ("drop where", "drop setting"), wording="all", same_frame=False),
    ),
    (
        Recipe("role", 2.5, ("swap",), same_frame=True, weight=3),
        Recipe("role", 2.5, ("swap",), wording="all", same_frame=False, weight=2),
        Recipe("role", 2.0, ("swap", "other when")),
        Recipe("negated", 2.0, ("negate",), weight=2),
        Recipe("negated", 2.0, ("negate",), wording="all", same_frame=False),
        Recipe("negated", 2.0, ("oppose",), weight=2),
        Recipe("negated", 2.5, needs=("when", "where"), wording="all", deny=True),
        Recipe("edit", 2.5, ("other what",), same_frame=True, weight=2),
        Recipe("edit", 2.0, ("other verb",), same_frame=True, weight=2),
        Recipe("number", 2.5, ("other number", "other when")),
        Recipe("number", 2.5, ("other where", "other when")),
    ),
    (
        Recipe("topic", 1.5, ("other verb", "other what"), needs=("where",), weight=2),
        Recipe("topic", 1.5, ("other who", "other verb"), wording="all"),
        Recipe("topic", 1.0, ("other who", "other verb", "other where", "other when"), weight=3),
        Recipe("topic", 1.0, ("other verb", "other what", "other where", "other when"), weight=3),
        Recipe("negated", 1.5, ("negate", "other where")),
        Recipe("negated", 1.5, ("oppose", "other who")),
    ),
    (
        Recipe("unrelated", 0.0, ("elsewhere",), weight=4),
        Recipe("unrelated", 0.0, ("sense",), weight=2),
        Recipe("topic", 0.5, ("other who", "other verb", "other what", "other where", "drop when"), weight=2),
    ),
)


def _past(base: str) -> tuple[str, str]:
    """Returns a verb's past tense and participle."""
    if base in IRREGULAR:
        return IRREGULAR[base]
    if re.search("[^aeiou]y$", base):
        base = base[:-1] + "i"
    past = base + ("d" if base.endswith("e") else "ed")
    return past, past


def _with_s(word: str) -> str:
    """Adds the -s of a plural noun or of a verb in the third person."""
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _needs(frame: str) -> set[str]:
    """Returns the slots that a frame cannot do without."""
    return {slot for mark, slot in (("{T}", "when"), ("{P}", "where"), ("{C}", "setting")) if mark in frame}


def frames_for(event: Event, deny: bool = False) -> list[str]:
    """Lists the frames that can say an event.

    Args:
        event: what is to be said.
        deny: whether to deny a part of the event instead.
    """
    if deny:
        frames = DENIAL
    elif event.then:
        frames = SEQUENCE
    elif event.negated:
        frames = PLAIN
    else:
        frames = PLAIN + EMPHATIC + (() if event.social else THING_ONLY)
    return [frame for frame in frames if all(getattr(event, slot) for slot in _needs(frame))]


def say(event: Event, frame: str, second: frozenset[Words] = frozenset()) -> str:
    """Puts an event into words.

    Args:
        event: what to say.
        frame: one of `frames_for(event)`.
        second: the meanings to be put in their second wording.

    Returns:
        One sentence or headline.
    """

    def word(meaning: Words) -> str:
        return "" if not meaning else meaning[-1] if meaning in second else meaning[0]

    who = f"{word(event.who_trait)} {word(event.who)}".strip()
    noun = _plural(word(event.what)) if event.number else word(event.what)
    what = " ".join(filter(None, (word(event.number), word(event.what_trait), noun)))
    base, was = word(event.verb), "were" if event.number else "was"
    past, participle = _past(base)
    rest = [word(getattr(event, slot)) for slot in ("where", "when", "setting") if slot not in _needs(frame)]
    fields = {
        "S": _noun_phrase(event.articles[0], who),
        "O": what if event.number else _noun_phrase(event.articles[1], what),
        "s": who,
        "o": what,
        "V": f"did not {base}" if event.negated else past,
        "b": base,
        "p": participle,
        "v": _with_s(base),
        "was": f"{was} not" if event.negated else was,
        "it": "them" if event.number else "it",
        "T": word(event.when),
        "P": word(event.where),
        "C": word(event.setting),
        "rest": "".join(f" {part}" for part in rest if part),
    }
    if event.then:
        fields |= {"V2": _past(word(event.then[0]))[0], "O2": f"the {word(event.then[1])}"}
    return re.sub(r"(^|[?] )([a-z])", lambda found: found[0].upper(), frame.format(**fields))


def _plural(noun: str) -> str:
    return PLURALS.get(noun, _with_s(noun))


def _noun_phrase(article: str, noun: str) -> str:
    return f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun}"


def _other(rng: random.Random, old: Words, pool: tuple[Words, ...], *taken: Words) -> Words:
    """Draws a meaning that shares no wording with the old one and is none of those taken."""
    return rng.choice([new for new in pool if new not in taken and not set(new) & set(old)])


def draw_event(rng: random.Random, domain: str, recipe: Recipe) -> Event:
    """Draws an event that a recipe can start from."""
    asked = {change.split()[1] for change in recipe.changes if " " in change} | set(recipe.needs)
    sequence = bool({"lift", "reorder"} & set(recipe.changes))
    things_only = sequence or bool(asked & {"number", "what_trait"})
    social = "swap" in recipe.changes or (not things_only and rng.random() < 0.25)
    who = rng.choice(PEOPLE[domain])
    what = _other(rng, who, PEOPLE[domain] if social else THINGS[domain])
    verbs = DEEDS if social else VERBS[domain]
    if "oppose" in recipe.changes:
        verbs = tuple(verb for verb in verbs if verb[0] in OPPOSITES)
    verb = rng.choice(verbs)
    then = (_other(rng, verb, verbs), _other(rng, what, THINGS[domain])) if sequence else None
    chance = {"where": 0.6, "when": 0.6, "setting": 0.15, "who_trait": 0.25, "what_trait": 0.3, "number": 0.15}
    filled = {slot for slot, share in chance.items() if slot in asked or rng.random() < share}
    return Event(
        domain,
        who,
        verb,
        what,
        social,
        where=rng.choice(PLACES[domain]) if "where" in filled else (),
        when=rng.choice(rng.choice(TIMES)) if "when" in filled else (),
        setting=rng.choice(SETTINGS) if "setting" in filled and ("setting" in asked or not sequence) else (),
        who_trait=rng.choice(PERSON_TRAITS) if "who_trait" in filled else (),
        what_trait=rng.choice(THING_TRAITS) if "what_trait" in filled and not social else (),
        number=rng.choice(NUMBERS) if "number" in filled and not social and not sequence else (),
        then=then,
        articles=("a" if rng.random() < 0.2 else "the", "the" if social or rng.random() < 0.7 else "a"),
    )


def change(rng: random.Random, event: Event, step: str) -> Event:
    """Makes one change of a recipe.

    Args:
        rng: source of chance.
        event: what the first sentence says.
        step: an entry of `Recipe.changes`.

    Returns:
        What the second sentence says.
    """
    action, _, slot = step.partition(" ")
    if action == "drop":
        return replace(event, **{slot: ()})
    if action == "other":
        pools = {
            "who": PEOPLE[event.domain],
            "what": PEOPLE[event.domain] if event.social else THINGS[event.domain],
            "where": PLACES[event.domain],
            "when": next((group for group in TIMES if event.when in group), ()),
            "setting": SETTINGS,
            "what_trait": THING_TRAITS,
            "number": NUMBERS,
        }
        if slot == "verb":
            pool = DEEDS if event.social else VERBS[event.domain]
            opposite = OPPOSITES.get(event.verb[0])
            pools["verb"] = tuple(verb for verb in pool if verb[0] != opposite)
        return replace(event, **{slot: _other(rng, getattr(event, slot), pools[slot], event.who, event.what)})
    if action == "negate":
        return replace(event, negated=True)
    if action == "oppose":
        pool = DEEDS if event.social else VERBS[event.domain]
        opposite = OPPOSITES[event.verb[0]]
        return replace(event, verb=next((verb for verb in pool if verb[0] == opposite), (opposite,)))
    if action == "swap":
        return replace(
            event,
            who=event.what,
            what=event.who,
            who_trait=event.what_trait,
            what_trait=event.who_trait,
            articles=event.articles[::-1],
        )
    if event.then and action == "lift":
        return replace(event, then=None)
    if event.then and action == "reorder":
        verb, what = event.then
        return replace(event, verb=verb, what=what, then=(event.verb, event.what))
    raise ValueError(f"Unknown change {step!r}.")


def _pair(rng: random.Random, domain: str, recipe: Recipe) -> tuple[Event, Event]:
    """Draws the two events of a pair."""
    if "sense" in recipe.changes:
        word, here, verb, there, other_verb = rng.choice([row for row in HOMOGRAPHS if domain in (row[1], row[3])])
        if here != domain:
            here, verb, there, other_verb = there, other_verb, here, verb
        return _homograph(rng, here, verb, word), _homograph(rng, there, other_verb, word)
    event = draw_event(rng, domain, recipe)
    if "elsewhere" in recipe.changes:
        there = rng.choice([name for name in DOMAINS if not set(THINGS[name]) & set(THINGS[domain]) and name != domain])
        return event, draw_event(rng, there, recipe)
    if "reorder" in recipe.changes:  # an adjective would travel with its noun
        event = replace(event, what_trait=(), articles=(event.articles[0], "the"))
    result = event
    for step in recipe.changes:
        result = change(rng, result, step)
    return event, result


def _homograph(rng: random.Random, domain: str, verb: str, word: str) -> Event:
    """Draws an event around a word that has another sense in another domain."""
    event = draw_event(rng, domain, Recipe("unrelated", 0.0))
    return replace(event, verb=(verb,), what=(word,), social=True, what_trait=(), number=())  # a pitcher is no "it"


def _render(rng: random.Random, first: Event, second: Event, recipe: Recipe) -> tuple[str, str]:
    """Says both events of a pair in the wording and the frames that its recipe asks for."""
    meanings = dict.fromkeys(first.meanings + second.meanings)
    ours = theirs = frozenset(meaning for meaning in meanings if rng.random() < 0.5)
    if recipe.wording == "all":
        theirs = frozenset(meanings) - ours
    elif recipe.wording == "one":
        choices = [meaning for meaning in first.meanings if len(meaning) > 1 and meaning in second.meanings]
        theirs = ours ^ {rng.choice(choices)} if choices else ours
    frames, other_frames = frames_for(first), frames_for(second, recipe.deny)
    shared = [frame for frame in frames if frame in other_frames]
    same = rng.random() < 0.5 if recipe.same_frame is None else recipe.same_frame
    if same and shared:
        frame = other_frame = rng.choice(shared)
    else:
        frame = rng.choice(frames)
        other_frame = rng.choice([other for other in other_frames if other != frame])
    return say(first, frame, ours), say(second, other_frame, theirs)


def generate(count: int, seed: int) -> list[dict[str, Any]]:
    """Generates sentence pairs, all sentences distinct, with scores and domains spread evenly.

    Args:
        count: how many pairs.
        seed: the same seed gives the same pairs.

    Returns:
        Rows with first, second, score, domain, kind and source ("grammar").
    """
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for index in range(count):
        band = BANDS[index % len(BANDS)]
        domain = DOMAINS[index // len(BANDS) % len(DOMAINS)]
        recipe = rng.choices(band, weights=[recipe.weight for recipe in band])[0]
        for _ in range(TRIES):
            events = _pair(rng, domain, recipe)
            sentences = _render(rng, *events, recipe)
            keys = {re.sub("[^a-z0-9 ]", "", sentence.lower()) for sentence in sentences}
            if len(keys) == 2 and not keys & seen and all(len(key.split()) in LENGTHS for key in keys):
                break
        else:
            raise ValueError(f"The grammar has run out of new pairs after {len(rows)} of {count}.")
        seen |= keys
        row = {"first": sentences[0], "second": sentences[1], "score": recipe.score, "domain": events[0].domain}
        if recipe.kind != "unrelated" and rng.random() < 0.5:
            row["first"], row["second"] = row["second"], row["first"]
        rows.append(row | {"kind": recipe.kind, "source": "grammar"})
    rng.shuffle(rows)
    return rows


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GENERATED, SEED)


if __name__ == "__main__":
    print(f"{len(build())} pairs written to {DATA / 'train.jsonl'}")

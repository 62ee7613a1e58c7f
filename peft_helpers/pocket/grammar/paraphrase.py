"""A seeded grammar of sentence pairs, paraphrases or not: `generate(1120, seed=0)` always gives the same.

Most pairs come from a `Situation`: something that people do, with several wordings for "it happened", for "it did not",
and for "it was planned, allowed, feared …". Two wordings of one meaning are paraphrases though they share few words;
a wording of each of two meanings is not, and neither is one wording with two persons swapped or a detail exchanged.
The other pairs are simple events from the grammar of the similarity task, which have passives and clefts.

`python -m peft_helpers.pocket.grammar.paraphrase` rewrites train.jsonl: train_written.jsonl and 1,120 generated pairs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_helpers.pocket.grammar import write_train
from peft_helpers.pocket.grammar.similarity import (
    DOMAINS,
    EMPHATIC,
    OPPOSITES,
    PEOPLE,
    PLACES,
    PLAIN,
    THING_ONLY,
    TIMES,
    Event,
    Recipe,
    Words,
    change,
    draw_event,
    frames_for,
    say,
)

DATA = Path(__file__).resolve().parents[1] / "data" / "paraphrase"
GENERATED = 1120  # pairs in train.jsonl that come from this grammar
SEED = 0
TRIES = 300  # draws for one pair before we give up on finding a new one
LENGTHS = range(4, 26)  # words in a sentence

# One of each list in turn: half of the paraphrases are reworded, and the five ways to differ are equally frequent.
SAME = ("reworded", "restructured", "reworded", "light")
DIFFERENT = ("role", "negated", "detail", "related", "modal")
FROM_EVENTS = {"restructured": 0.6, "light": 0.4, "role": 0.3, "negated": 0.3, "detail": 0.3}  # share of each kind

# Things that can be carried, lent, and sold, per domain, with a second wording where there is one.
THINGS = {
    "film": "megaphone, film camera/movie camera, wig/hairpiece, folding chair",
    "food": "skillet/frying pan, rolling pin, soup pot/soup kettle, apron",
    "train": "backpack/rucksack, bicycle/bike, sleeping bag, ticket punch",
    "tool": "wheelbarrow, tape measure/measuring tape, wrench/spanner, axe/hatchet",
    "book": "dictionary, picture book/illustrated book, reading lamp/desk lamp, typewriter",
    "hotel": "hair dryer/blow-dryer, vacuum cleaner, trash can/garbage can, room key/key to the room",
    "music": "cello, music stand, guitar case/case for the guitar, tambourine",
    "phone": "answering machine, phone case/phone cover, tripod, tablet",
    "garden": "lawn mower/grass cutter, flowerpot/plant pot, rake, hammock",
    "clinic": "stretcher, first-aid kit/first-aid box, pair of crutches, stethoscope",
    "software": "laptop/portable computer, keyboard, printer, hard drive/hard disk",
    "sport": "tennis racket, stopwatch, soccer ball, pair of skates/pair of ice skates",
    "clothes": "raincoat/waterproof coat, handbag/purse, sewing machine, hat",
    "school": "globe, lunch box, microscope, schoolbag/satchel",
    "neighborhood": "snow shovel/shovel for snow, garden hose, stroller/baby carriage, trampoline",
    "theater": "crown, fake sword/stage sword, spotlight, throne",
    "game": "deck of cards/pack of cards, dartboard, set of dominoes, kite",
    "car": "jack, spare tire/spare wheel, roof rack, child seat/car seat for children",
    "museum": "suit of armor/set of armor, clay jar/earthen jar, tapestry/wall hanging, meteorite",
    "office": "paper shredder/document shredder, whiteboard, coffee machine/coffee maker, calculator",
}
DETAILS = {  # other slots of the situations
    "N": "two, three, four, five, six, seven",
    "K": "swim, juggle, knit, ski, dance the waltz, whistle, drive, type",
    "Q": "chess, checkers, table tennis/ping-pong, darts, cards, badminton",
    "H": "the ice, the guard dog/the watchdog, the low beam, the steep stairs/the steep steps, the wet paint",
    "M": "the noise/the racket, the mix-up/the confusion, the joke, the delay/the holdup, the mistake/the error",
}

# Each situation: wordings of "it happened", of "it did not", and of "it was planned, allowed, feared …", one line each.
# A, B: persons; X, Y: things (x: without "the"); the other slots are those of DETAILS. "*": a place may follow.
SITUATIONS_TEXT = """
* {A} sold {X} to {B} | {B} bought {X} from {A} | {X} changed hands: {B} paid, and {A} handed it over
{A} refused to sell {X} to {B} | {B} wanted to buy {X}, but {A} said no | when {B} offered to buy {X}, {A} declined
{A} was willing to sell {X} to {B} | as far as {A} was concerned, {B} was welcome to buy {X}

* {A} lent {X} to {B} | {B} borrowed {X} from {A} | {A} let {B} have {X} for a while
{A} refused to lend {X} to {B} | {B} asked {A} for the loan of {X} but did not get it
{A} promised to lend {X} to {B} | {B} had the word of {A} that {X} could be borrowed

{A} gave {X} to {B} as a present | {B} received {X} as a gift from {A} | {A} made {B} a present of {X}
{B} would not accept {X} as a gift from {A} | {A} wanted to give {X} to {B}, who turned the present down
{A} meant to give {X} to {B} as a present | {X} was intended as a gift from {A} to {B}

* {A} stole {X} from {B} | {B} was robbed of {X} by {A} | the thief who took {X} from {B} was {A}
{A} was not the one who stole {X} from {B} | whoever robbed {B} of {X}, it was not {A}
{B} suspected {A} of stealing {X} | {B} had a feeling that {X} had been taken by {A}

{A} returned {X} to {B} | {B} got {X} back from {A} | {X} was brought back to {B} by {A}
{A} never returned {X} to {B} | {A} kept {X} that {B} had lent out | {B} did not get {X} back from {A}
{A} was supposed to return {X} to {B} | it was the duty of {A} to bring {X} back to {B}

* {A} damaged {X} | {X} came to harm through {A} | {A} was to blame for the damage to {X}
{A} did no damage to {X} | {X} took no harm from {A} | {X} suffered nothing at the hands of {A}
{A} almost damaged {X} | {X} narrowly escaped harm from {A} | a little more, and {A} would have damaged {X}

* {A} found the missing {x} | the lost {x} was discovered by {A} | {A} came across the {x} that had been lost
{A} looked for the missing {x} in vain | a search by {A} for the lost {x} led to nothing
{A} set out to find the missing {x} | a search for the lost {x} was begun by {A}

* {A} cleaned {X} | {A} removed the dirt from {X} | the one who made {X} spotless was {A}
{A} left {X} dirty | {X} was not cleaned by {A} | {A} did nothing about the dirt on {X}
{A} ought to have cleaned {X} | it would have been the job of {A} to get the dirt off {X}

* {A} hid {X} from {B} | {A} put {X} where {B} would not see it | {X} was kept out of sight of {B} by {A}
{A} let {B} see {X} | {B} was shown {X} by {A} | {B} got a look at {X}, which {A} held up
{A} tried to hide {X} from {B} | {A} made an effort to keep {X} out of sight of {B}

* {A} praised {B} | {B} earned praise from {A} | {A} had nothing but good words for {B}
{A} criticized {B} | {B} came in for criticism from {A} | {A} found fault with {B}
{B} hoped for praise from {A} | a kind word from {A} was what {B} wished for

{A} hired {B} as an assistant | {B} got a job as the assistant of {A} | {A} took {B} on as a helper
{A} turned {B} down for the job of assistant | {A} chose not to take {B} on as a helper
{A} considered hiring {B} as an assistant | {A} thought about giving {B} a job as a helper

{A} invited {B} to dinner | {B} got an invitation to dinner from {A} | {A} asked {B} over for the evening meal
{A} did not invite {B} to dinner | when {A} asked people over for the evening meal, {B} was left out
{A} would have liked to invite {B} to dinner | {A} would have been glad to have {B} over for the evening meal

* {A} waited {N} hours for {B} | {B} kept {A} waiting for {N} hours | {A} spent {N} hours waiting for {B}
{A} did not wait for {B} | {A} left instead of waiting for {B} | {B} came to find that {A} had gone without waiting
{A} agreed to wait {N} hours for {B} | {A} said yes to {N} hours of waiting for {B}

{A} taught {B} to {K} | {B} learned to {K} from {A} | it was from {A} that {B} found out how to {K}
{A} could not teach {B} to {K} | all attempts by {A} to show {B} how to {K} came to nothing
{A} offered to teach {B} to {K} | {B} was free to learn from {A} how to {K}, as {A} had proposed

{A} drove {B} home | {B} got a ride home from {A} | {A} took {B} back home by car
{A} did not drive {B} home | {B} got no ride home from {A} | there was no place for {B} in the car when {A} went home
{A} was willing to drive {B} home | {A} had no objection to giving {B} a ride home

* {A} warned {B} about {H} | {B} was told by {A} to watch out for {H} | {A} pointed out the danger of {H} to {B}
{A} gave {B} no warning about {H} | {B} heard nothing from {A} about the danger of {H}
{A} should have warned {B} about {H} | it would have been right for {A} to tell {B} to watch out for {H}

{A} paid {B} {N} hundred dollars | {B} received a payment of {N} hundred dollars from {A}
{A} never paid {B} the {N} hundred dollars | {B} saw nothing of the {N} hundred dollars due from {A}
{A} owed {B} {N} hundred dollars | {A} was in debt to {B} for {N} hundred dollars

* {A} beat {B} at {Q} | {B} lost to {A} at {Q} | {B} was defeated by {A} in a game of {Q}
{A} could not beat {B} at {Q} | a win over {B} at {Q} was beyond {A} | {B} remained undefeated by {A} at {Q}
{A} stood a chance of beating {B} at {Q} | a win at {Q} for {A} against {B} was possible

{A} carried {X} upstairs | {X} was brought to the upper floor by {A} | {A} took {X} up the stairs
{A} left {X} downstairs | {X} stayed on the lower floor, where {A} left it | {A} did not take {X} up the stairs
{A} was asked to carry {X} upstairs | somebody wanted {A} to take {X} to the upper floor and said so

{A} forgot to bring {X} | {X} was left behind by {A} by mistake | {A} came without {X}, having forgotten it
{A} remembered to bring {X} | {X} had not slipped the mind of {A}, who brought it along
{A} was afraid of forgetting {X} | the fear of {A} was that {X} might be left behind

* {A} apologized to {B} for {M} | {B} got an apology from {A} for {M}
{A} refused to apologize to {B} for {M} | {A} would not say sorry to {B} about {M}
{B} expected an apology from {A} for {M} | {B} thought that {A} would say sorry about {M}

{A} visited {B} in the hospital | {A} went to see {B}, who lay ill on a ward | {B} had a visit from {A} in the hospital
{A} never visited {B} in the hospital | {A} did not come by while {B} lay ill on a ward
{A} wanted to visit {B} in the hospital | it was the wish of {A} to go and see {B}, who lay ill on a ward

* {A} repaired {X} | {X} was put back in order by {A} | it was {A} who got {X} back into shape
{A} could not repair {X} | it was beyond {A} to get {X} back into shape | {A} failed to put {X} back in order
{A} believed that repairing {X} was possible | in the opinion of {A}, {X} could be put back in order

{X} costs more than {Y} | {Y} is cheaper than {X} | you pay less for {Y} than for {X}

{X} was delivered before {Y} | {Y} came later than {X} | by the time {Y} got here, {X} had already been brought

* {A} arrived before {B} | {B} got there after {A} | when {B} came, {A} was already there
"""


@dataclass(frozen=True)
class Situation:
    """Something that people do.

    Attributes:
        meanings: "did", "not" and "modal", each with wordings that say the same; some situations have "did" alone.
        place: whether a place may be added.
    """

    meanings: dict[str, Words]
    place: bool


def _situation(block: str) -> Situation:
    lines = [tuple(line.removeprefix("* ").split(" | ")) for line in block.splitlines()]
    return Situation(dict(zip(("did", "not", "modal"), lines, strict=False)), block.startswith("*"))


def _meanings(text: str) -> tuple[Words, ...]:
    """Reads "a/b, c" as two meanings, the first with two wordings."""
    return tuple(tuple(meaning.split("/")) for meaning in text.split(", "))


SITUATIONS = tuple(_situation(block) for block in SITUATIONS_TEXT.strip().split("\n\n"))
HEDGES = ("It turns", "Word has", "Apparently", "As everyone", "I'm told", "Guess", "Yes", "Breaking", "{s}", "{o}")
FRAMES = [frame for frame in PLAIN + EMPHATIC + THING_ONLY if not frame.startswith(HEDGES)]  # those that commit

PRICE = "{X} costs more than {Y}"  # the one situation that takes no time
CLAUSE = ", | (who|whoever|when|while|where|what|that) "  # after these, a time or place at the end would go astray

Slots = dict[str, Words]  # A, B, X, … and T (time) and P (place); T and P may be missing
Pair = tuple[str, str]


def fill(rng: random.Random, domain: str, situation: Situation, timed: bool = False) -> Slots:
    """Draws the persons, things and details of a situation.

    Args:
        rng: source of chance.
        domain: where persons, things and places come from.
        situation: what they are for.
        timed: whether a time must be given.

    Returns:
        A meaning for each slot.
    """
    slots = dict(zip("AB", rng.sample(PEOPLE[domain], 2), strict=True))
    slots |= dict(zip("XY", rng.sample(_meanings(THINGS[domain]), 2), strict=True))
    slots |= {slot: rng.choice(_meanings(text)) for slot, text in DETAILS.items()}
    if situation.meanings["did"][0] != PRICE and (timed or rng.random() < 0.6):
        slots["T"] = rng.choice(rng.choice(TIMES))
    if situation.place and rng.random() < 0.45:
        slots["P"] = rng.choice(PLACES[domain])
    return slots


def fronts(wording: str, slots: Slots) -> list[str]:
    """Lists what a sentence may begin with: nothing, the time, or the place; both of them if a clause ends it."""
    present = [slot for slot in "TP" if slot in slots]
    return ["".join(present)] if re.search(CLAUSE, wording) else ["", *present]


def tell(wording: str, slots: Slots, second: frozenset[Words], front: str = "") -> str:
    """Puts a situation into words.

    Args:
        wording: one of the situation's wordings.
        slots: what fills it.
        second: the meanings to be put in their second wording.
        front: one of `fronts(wording, slots)`; the rest of time and place is said last.

    Returns:
        One sentence.
    """
    words = {slot: meaning[-1] if meaning in second else meaning[0] for slot, meaning in slots.items()}
    fields = {slot: f"the {word}" if slot in "ABXY" else word for slot, word in words.items()}
    start = " ".join(fields[slot] for slot in front)
    rest = "".join(f" {fields[slot]}" for slot in "PT" if slot in slots and slot not in front)
    sentence = f"{start}, " * bool(start) + wording.format(**fields, x=words["X"]) + rest
    return f"{sentence[0].upper()}{sentence[1:]}."


def _used(wording: str, slots: Slots) -> list[Words]:
    """Lists the meanings in a sentence that have a second wording."""
    text = wording.replace("{x}", "{X}")
    return [meaning for slot, meaning in slots.items() if len(meaning) > 1 and (slot in "TP" or f"{{{slot}}}" in text)]


def _detail(rng: random.Random, domain: str, wording: str, slots: Slots) -> Slots:
    """Exchanges one person, thing, number, time or place for another."""
    pools = {slot: _meanings(text) for slot, text in DETAILS.items()}
    pools |= {"A": PEOPLE[domain], "X": _meanings(THINGS[domain]), "P": PLACES[domain]}
    pools["T"] = next((group for group in TIMES if slots.get("T") in group), ())
    present = [slot for slot in pools if (slot in slots and slot in "TP") or f"{{{slot}}}" in wording]
    rare = [slot for slot in present if slot not in "AX"]
    slot = rng.choice(rare or present)
    taken = set(slots.values())
    return slots | {slot: rng.choice([meaning for meaning in pools[slot] if meaning not in taken])}


def from_situation(rng: random.Random, domain: str, kind: str) -> Pair:
    """Makes a pair of some kind from one situation, or from two if the sentences are only related."""
    pool = [one for one in SITUATIONS if kind not in ("negated", "modal") or "modal" in one.meanings]
    if kind == "role":
        pool = [one for one in pool if re.search("{[BY]}", one.meanings["did"][0])]
    situation = rng.choice(pool)
    slots = others = fill(rng, domain, situation, timed=kind == "restructured")
    names = list(situation.meanings)
    name = "did" if kind in ("negated", "modal") else rng.choices(names, (2, 1, 1)[: len(names)])[0]
    wordings = other_wordings = situation.meanings[name]
    if kind in ("negated", "modal"):
        other_wordings = situation.meanings["not" if kind == "negated" else "modal"]
    elif kind == "related":
        other = rng.choice([one for one in SITUATIONS if one is not situation])
        others = fill(rng, domain, other)
        other_wordings = rng.choice(list(other.meanings.values()))

    apart = kind in ("reworded", "related", "negated", "modal") or (kind in ("role", "detail") and rng.random() < 0.5)
    if kind == "restructured":
        wordings = [text for text in wordings if not re.search(CLAUSE, text)] or situation.meanings["did"][:1]
    wording = other_wording = rng.choice(wordings)
    if apart:
        other_wording = rng.choice([text for text in other_wordings if text != wording])
    if kind == "role":
        one, two = "AB" if "{B}" in wording else "XY"
        others = slots | {one: slots[two], two: slots[one]}
    elif kind == "detail":
        others = _detail(rng, domain, wording, slots)

    ours = theirs = frozenset(meaning for meaning in [*slots.values(), *others.values()] if rng.random() < 0.5)
    if apart:
        theirs = frozenset(slots.values()) - ours
    elif kind == "light":
        meanings = _used(wording, slots)
        theirs = ours ^ set(rng.sample(meanings, min(len(meanings), rng.choice((1, 1, 2)))))
    front = rng.choice(fronts(wording, slots))
    choices = fronts(other_wording, others)
    if kind == "restructured" or (apart and rng.random() < 0.5):
        choices = [choice for choice in choices if choice != front] or choices
    elif front in choices:
        choices = [front]
    return tell(wording, slots, ours, front), tell(other_wording, others, theirs, rng.choice(choices))


def from_event(rng: random.Random, domain: str, kind: str) -> Pair:
    """Makes a pair of some kind from an event of the similarity grammar: nearly the same words on both sides."""
    steps = {
        "role": ("swap",),
        "negated": ("negate", "oppose"),
        "detail": ("other when", "other where", "other number", "other who"),
    }
    changes = (rng.choice(steps[kind]),) if kind in steps else ()
    event: Event = draw_event(rng, domain, Recipe(kind, 0.0, changes))
    if kind in SAME and rng.random() < 0.2:
        event = change(rng, event, "negate")
    other = event
    for step in changes:
        if step == "oppose" and event.verb[0] not in OPPOSITES:
            step = "negate"
        other = change(rng, other, step)
    ours = theirs = frozenset(meaning for meaning in event.meanings + other.meanings if rng.random() < 0.5)
    if kind == "light":
        choices = [meaning for meaning in event.meanings if len(meaning) > 1]
        theirs = ours ^ set(rng.sample(choices, min(len(choices), rng.choice((1, 1, 2)))))
    fits, other_fits = ([one for one in frames_for(this) if one in FRAMES] for this in (event, other))
    shared = [frame for frame in fits if frame in other_fits]
    frame = other_frame = rng.choice(shared)
    if kind == "restructured" or (kind != "light" and rng.random() < 0.5):
        frame = rng.choice(fits)
        other_frame = rng.choice([one for one in other_fits if one != frame])
    return say(event, frame, ours), say(other, other_frame, theirs)


def generate(count: int, seed: int) -> list[dict[str, Any]]:
    """Generates sentence pairs, all sentences distinct, with labels, kinds and domains spread evenly.

    Args:
        count: how many pairs.
        seed: the same seed gives the same pairs.

    Returns:
        Rows with first, second, label, domain, kind and source ("grammar").
    """
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for index in range(count):
        turn = index // 2
        kinds = SAME if index % 2 else DIFFERENT
        kind, domain = kinds[(turn + turn // len(DOMAINS)) % len(kinds)], DOMAINS[turn % len(DOMAINS)]
        for _ in range(TRIES):
            make: Callable[..., Pair] = from_event if rng.random() < FROM_EVENTS.get(kind, 0) else from_situation
            pair = make(rng, domain, kind)
            keys = {re.sub("[^a-z0-9 ]", "", sentence.lower()) for sentence in pair}
            if len(keys) == 2 and not keys & seen and all(len(key.split()) in LENGTHS for key in keys):
                break
        else:
            raise ValueError(f"The grammar has run out of new pairs after {len(rows)} of {count}.")
        seen |= keys
        first, second = pair if rng.random() < 0.5 else pair[::-1]
        label = "paraphrase" if kinds is SAME else "different"
        row = {"first": first, "second": second, "label": label, "domain": domain, "kind": kind}
        rows.append(row | {"source": "grammar"})
    rng.shuffle(rows)
    return rows


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GENERATED, SEED)


if __name__ == "__main__":
    print(f"{len(build())} pairs written to {DATA / 'train.jsonl'}")

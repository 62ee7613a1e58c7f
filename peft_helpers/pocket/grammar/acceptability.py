"""A seeded grammar of sentences, right or with one error: `generate(1200, seed=0)` always gives the same.

A frame is a sentence with slots, "{person}", and one bracket, "[is|are]": what stands left of the bar is right, what
stands right of it is an error, and a slash parts several choices on either side. A frame therefore makes right and
wrong sentences alike, and many frames have a mirror in which the form that was wrong elsewhere is right. Of the two
sentences that one filling of a frame could give, only one is ever used.

`python -m peft_helpers.pocket.grammar.acceptability` rewrites train.jsonl: train_written.jsonl and 1,200 made ones.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from peft_helpers.pocket.grammar import write_train

DATA = Path(__file__).resolve().parents[1] / "data" / "acceptability"
LABELS = ("unacceptable", "acceptable")
GENERATED = 1200  # sentences in train.jsonl that come from this grammar
SEED = 0
TRIES = 200  # draws for one sentence before we give up on finding a new one
LENGTHS = range(4, 26)  # words in a sentence

# Per domain: people; things; what such things are like; what people do to each of them; places.
LEXICON = """
film: director, stuntman, editor, extra; camera, costume, poster, script, reel; expensive, dusty, ridiculous, silver,
    old; carry, hide, drop, destroy, rent, label; on the set, behind the screen, at the studio, near the trailer
food: chef, waiter, baker, farmer; dumpling, pancake, sandwich, melon, omelet; salty, soft, tiny, cold, spoiled; slice,
    burn, drop, throw away, steal, serve; behind the counter, in the kitchen, at the market, near the oven
train: conductor, engineer, porter, commuter; suitcase, ticket, lantern, timetable, signal; yellow, battered, useless,
    tiny, old; carry, break, drop, borrow, replace, hide; on the platform, in the last car, at the depot, under the
    bridge
tool: carpenter, plumber, welder, roofer; hammer, wrench, ladder, clamp, chisel; rusty, dusty, wooden, crooked, sturdy;
    paint, borrow, drop, clean, break, return; in the shed, under the bench, at the workshop, behind the garage
book: poet, editor, librarian, translator; novel, diary, atlas, chapter, notebook; thick, gloomy, rare, unfinished,
    slim; copy, steal, shorten, publish, burn, borrow; in the library, on the top shelf, at the bookstore, beside the
    window
hotel: guest, maid, bellboy, clerk; towel, mirror, pillow, key, lamp; dirty, golden, broken, cheap, stained; take,
    replace, drop, wash, hide, clean; in the lobby, on the third floor, by the pool, at the front desk
music: singer, drummer, cellist, conductor; flute, trumpet, fiddle, microphone, banjo; loud, cracked, shiny, silver,
    antique; choose, steal, polish, drop, lend out, hide; on the stage, in the choir room, behind the piano, at the
    festival
phone: customer, technician, salesman, courier; charger, battery, headset, screen, case; flimsy, slim, scratched,
    waterproof, faulty; test, break, sell, order, wrap, replace; at the mall, in the repair shop, on the bus, at the
    counter
garden: gardener, neighbor, beekeeper, botanist; shovel, rosebush, hedge, pumpkin, fern; muddy, giant, ugly, yellow,
    frozen; steal, move, measure, cover, paint, hide; behind the greenhouse, along the fence, in the orchard, near the
    pond
clinic: nurse, surgeon, patient, pharmacist; bandage, chart, thermometer, crutch, syringe; sterile, damp, clean, cheap,
    old; order, hide, drop, replace, steal, label; in the waiting room, on the ward, at the clinic, beside the bed
software: programmer, tester, designer, intern; menu, password, database, button, icon; confusing, secret, tiny,
    outdated, clever; change, break, test, delete, hide, move; in the lab, at the startup, in the demo, in the basement
sport: coach, goalie, sprinter, referee; helmet, jersey, trophy, racket, whistle; sweaty, dented, heavy, orange, lucky;
    wash, throw away, borrow, hide, steal, polish; in the locker room, on the field, behind the goal, at the stadium
clothes: tailor, model, shopper, seamstress; jacket, scarf, vest, sweater, zipper; yellow, tight, purple, shabby,
    elegant; sew, shrink, fold, choose, tear, wash; in the closet, at the boutique, on the line, in the fitting room
school: teacher, pupil, janitor, principal; essay, poem, poster, drawing, map; messy, boring, colorful, unfinished,
    tiny; copy, tear, hide, drop, correct, finish; in the classroom, on the playground, at the blackboard, in the hall
neighborhood: landlord, tenant, plumber, mailman; mailbox, fence, bench, doorbell, porch light; crooked, wobbly, green,
    ugly, new; paint, break, repair, remove, steal, measure; on the corner, in the alley, across the street, beside the
    bakery
theater: actor, usher, stagehand, playwright; mask, curtain, wig, backdrop, crown; faded, frightening, fake, itchy,
    magnificent; draw, paint, tear, hide, borrow, adjust; in the balcony, near the exit, on the stage, in the dressing
    room
game: player, dealer, champion, beginner; puzzle, token, card, chessboard, kite; wooden, marked, tricky, square, red;
    steal, hide, draw, move, break, paint; in the attic, at the arcade, on the porch, under the table
car: mechanic, driver, dealer, passenger; tire, engine, truck, bumper, headlight; dirty, expensive, secondhand, blue,
    greasy; repair, steal, wash, sell, inspect, break; in the garage, on the highway, at the gas station, in the parking
    lot
museum: curator, guard, visitor, sculptor; statue, vase, painting, sword, fossil; priceless, dusty, fragile, famous,
    ancient; steal, restore, photograph, break, label, sell; in the gallery, on the ground floor, at the auction, behind
    the rope
office: manager, secretary, accountant, lawyer; report, contract, invoice, letter, folder; lengthy, gray, confidential,
    old, dull; copy, tear, hide, drop, take, shred; in the meeting room, at headquarters, by the elevator, on the second
    floor
"""
COLUMNS = {
    domain: [re.split(", *", " ".join(column.split())) for column in columns.split(";")]
    for domain, columns in re.findall(r"^(\w+): (.*(?:\n .*)*)$", LEXICON, re.MULTILINE)
}
DOMAINS = tuple(COLUMNS)

IRREGULAR = {  # past and participle
    "break": ("broke", "broken"),
    "choose": ("chose", "chosen"),
    "draw": ("drew", "drawn"),
    "hide": ("hid", "hidden"),
    "lend": ("lent", "lent"),
    "sell": ("sold", "sold"),
    "sew": ("sewed", "sewn"),
    "shrink": ("shrank", "shrunk"),
    "steal": ("stole", "stolen"),
    "take": ("took", "taken"),
    "tear": ("tore", "torn"),
    "throw": ("threw", "thrown"),
}
DOUBLED = {"drop", "shred", "wrap"}  # dropped, wrapping

# Slots that fit any domain.
COMMON = {
    "mood": "exhausted, furious, very proud, nervous, late again, soaked, in tears, thirsty, embarrassed",
    "day": "on Monday, last week, in the morning, after the storm, before dinner, two days ago, that evening",
    "soon": "tomorrow, next week, on Friday, after lunch, before the holidays, as soon as possible",
    "size": "cheap, big, simple, heavy, light, modern, plain",
    "kin": "my aunt, my uncle, our grandmother, my brother, his wife, her sister, the twins, our cousins",
}
COMMON_SLOTS = {slot: words.split(", ") for slot, words in COMMON.items()}

OPENERS = (
    "Apparently,",
    "I hear that",
    "Everyone says that",
    "According to {kin},",
    "As far as I know,",
    "It seems that",
    "To our surprise,",
    "My neighbor swears that",
)
CLOSERS = (
    ", if I remember correctly",
    ", or so {kin} said",
    ", as usual",
    ", much to our surprise",
    ", and nobody complained",
    ", which came as a shock",
    ", but that is another story",
    ", but that is no secret",
)

# Frames by kind. One that ends in a question mark, or starts with "=", gets no opener and no closer.
FRAMES = {
    "agreement": """
        The {things} {place} [are|is] {adj}.
        The {thing} {place} [is|are] {adj}.
        The {person} who {past} the {things} [was|were] {mood}.
        The {persons} who {past} the {thing} [were|was] {mood}.
        [These/Those|This/That] {things} belonged to the {person} {place}.
        [This/That|These/Those] {thing} belonged to the {persons} {place}.
        Every {person} {place} [has|have] a {adj} {thing}.
        All the {persons} {place} [have|has] a {adj} {thing}.
        The {person}, like the {others}, [wants|want] to {base} the {things}.
        The {persons}, unlike the {other}, [want|wants] to {base} the {thing}.
        [Does|Do] the {person} often {base} the {things} {place}?
        [Do|Does] the {persons} ever {base} the {thing} {place}?
        =Where [are|is] the {things} that the {person} {past} {day}?
        =Where [is|are] the {adj} {thing} that the {persons} {past}?
        The sight of the {things} [surprises|surprise] the {persons}.
        The {things} next to the {thing2} [surprise|surprises] every {person}.
        One of the {persons} [has|have] {pp} the {adj} {thing}.
        Both of the {persons} [have|has] {pp} the {things}.
    """,
    "verb_form": """
        The {person} has [{pp}|{base}/{ing}] the {thing} twice.
        The {persons} will [{base}|{ing}/{past}] the {things} {soon}.
        The {person} wanted to [{base}|{ing}/{past}] the {adj} {thing}.
        The {things} must be [{pp}|{base}] {soon}.
        Did the {person} [{base}|{past}/{ing}] the {thing} {place}?
        The {person} enjoys [{ing}|{base}/to {base}] {adj} {things}.
        Instead of [{ing}|{base}/to {base}] the {thing}, the {person} went home.
        The {persons} are [{ing}|{base}/{past}] the {things} right now.
        The {person} should have [{pp}|{base}/{ing}] the {thing} {day}.
        Yesterday the {person} [{past}|{base}/was {base}/did {past}] the {thing} {place}.
        The {things} were [{pp}|{base}/{s}] by the {person} {place}.
        =We saw the {person} [{base}|{s}/to {base}] the {thing}.
        The {person} does not [{base}|{s}/{ing}] the {things} {place}.
        =The {persons} had already [{pp}|{base}/{ing}] the {thing} when we came.
        =[{ing}|{base}/{pp}] the {things} is harder than it looks.
        The {person} made the {others} [{base}|{ing}/to {base}] the {thing}.
        =If the {person} had [{pp}|{base}/{ing}] the {thing}, we would have noticed.
    """,
    "word_order": """
        =Nobody knows why [the {person} {past}|did the {person} {base}] the {thing} {place}.
        =Why [did the {person} {base}|the {person} {past}/the {person} did {base}] the {thing} {place}?
        The {person} [always {s} the {things}|{s} always the {things}/the {things} always {s}] {place}.
        =We saw [a {adj} {thing}|a {thing} {adj}] {place}.
        =Could [you {base}|{base} you] the {thing} for the {person}?
        =Never [has the {person}|the {person} has] {pp} a {adj} {thing}.
        The {person} [has never {pp} the|has {pp} never the/never {pp} has the] {thing}.
        The {person} [gave the {other}|the {other} gave] the {thing} {day}.
        The {thing} was not [{size} enough|enough {size}] for the {person}.
        =How [many {things} did|did many {things}/many did {things}] the {person} {base} {place}?
        =What [a {adj} {thing}|{adj} a {thing}] the {person} {past}!
        The {person} {past} [the {thing} carefully|carefully the {thing}] {day}.
        =Only later did [the {person} {base}|{base} the {person}] the {thing}.
        The {person} asked the {other} how old [the {thing} was|was the {thing}].
        The two [{adj} {things}|{things} {adj}] belong to the {person} {place}.
        =Do you know when [the {person} {past}|did the {person} {base}] the {thing}?
    """,
    "missing": """
        The {person} {past} [{adj} {things}|{adj} {thing}] {place}.
        The {things} {place} [are|] {adj}.
        [The {thing} is {adj}, the {things2}|The {thing} {adj}, the {things2} are] {adj2}.
        =The {person} {past} the {thing}, and the {other} [the|] {thing2}.
        The {person} has [been|] {ing} the {things} since the spring.
        The {persons} [waited for/thanked/listened to/visited|waited/listened/looked/smiled] the {other} {place}.
        =When [asked/in doubt|was asked/is in doubt], the {persons} {place} {base} the {thing}.
        =The {person} wanted to {base} the {thing}, but the {other} [did not|not].
        The {person} went [home/to bed/to work|to bank/to store/to station] without {ing} the {thing}.
        The {person} placed [the {thing}|] next to the {adj} {thing2} {day}.
        The {person} [helped/let/made|asked/told/wanted] the {other} {base} the {thing}.
        [The {thing} that the {person} {past} was {adj}|The {person} {past} the {thing} was {mood}].
        [The {thing} the {person} {past} is {adj}|The {person} {past} the {thing} is {mood}].
        =[Time to/It is time to|It time to/It is time] {base} the {adj} {things} {place}.
        The {person} {place} [is|] taller than the {other}.
        The {person} came [by train/by bus/on foot|in old truck/in small van/on slow train] and {past} the {thing}.
    """,
    "pronoun": """
        [He/She/They/We|Him/Her/Them/Us] {past} the {thing} {place}.
        The {person} thanked [him/her/them/us|he/she/they/we] for {ing} the {thing}.
        The {person} [who/that|which/whom] {past} the {thing} was {mood}.
        The {thing} [that/which|who/whom] the {person} {past} was {adj}.
        The {person} [whose|who his/which/whom] {thing} was {adj} left {day}.
        The {persons} {past} the {things} [themselves|himself/yourself].
        We {past} the {adj} {things} [ourselves|myself/himself].
        This {thing} is [mine/hers/ours|my/her/our], but that one belongs to the {person}.
        [My/Her/Our/Their|Mine/Hers/Ours/Theirs] {thing} was {adj} when the {person} came.
        The {thing} is for [me/him/them|I/he/they], not for the {person}.
        The {thing} that the {person} {past} [{place}|it {place}] was {adj}.
        The {person} ignored the {thing} because [it was|them was/its was] too {size}.
        The {person} [to whom|to which/to that] we spoke had {pp} the {thing}.
        A friend of [mine/ours/theirs|my/our/their] {past} a {adj} {thing} {place}.
        =[Whose|Who/Whom] {thing} did the {person} {base}?
        The {persons} showed each other [their|them/theirs/they] {things}.
        =Nobody told [me/us/him|I/we/he] that the {person} had {pp} the {thing}.
    """,
    "argument": """
        The {person} [showed/offered/sold|described/explained/mentioned] the {other} the {things}.
        The {person} [described/mentioned|informed/persuaded] the {thing} to the {others}.
        The {person} [asked/told/persuaded|suggested/hoped/said] the {other} to {base} the {thing}.
        The {person} [said/suggested/hoped|persuaded/reminded/informed] that the {other} had {pp} the {thing}.
        The {person} [insisted on/thought of|agreed/hoped/decided] {ing} the {thing} {place}.
        The {person} [agreed/decided/hoped|avoided/enjoyed/suggested] to {base} the {adj} {thing}.
        The {adj} {thing} belongs [to|for/with/at] the {person} {place}.
        The {person} [prevented/discouraged|allowed/encouraged] the {other} from {ing} the {thing}.
        The {person} [allowed/encouraged|prevented/discouraged] the {other} to {base} the {thing}.
        The {person} [waited/laughed/slept|accompanied/resembled/owned] {place} {day}.
        The {person} [examined/admired/noticed|vanished/happened/arrived] the {thing} {place}.
        The {person} [blamed/thanked/praised|apologized/complained/smiled] the {other} for {ing} the {thing}.
        The {person} [apologized/complained/spoke|thanked/accused/praised] to the {other} about the {thing}.
        The {person} is [proud of/tired of/interested in|proud at/interested of/tired to] the {adj} {things}.
        The {persons} [relied on/laughed at/waited for|relied to/resembled to/visited to] the {other} {place}.
        The {person} accused the {other} [of|with/at/to] {ing} the {thing}.
        The {person} [supplied/provided|handed/lent/gave] the {others} with {adj} {things}.
        The {person} [handed/lent/gave|praised/thanked/warned] the {other} a {adj} {thing}.
        The {person} [admired/ignored/examined|put/laid] the {thing} and went home.
    """,
}
KINDS = tuple(FRAMES)


def _plural(noun: str) -> str:
    """Gives the plural of a noun: mailboxes, secretaries, salesmen."""
    if noun.endswith("man"):
        return noun[:-3] + "men"
    if noun == "scarf":
        return "scarves"
    if re.search("[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search("(s|x|ch|sh)$", noun) else "s")


def _verb_forms(verb: str) -> dict[str, str]:
    """Gives the base, third-person, past, participle and -ing forms of a verb, particle included."""
    head, *rest = verb.split(" ")
    stem = head + head[-1] if head in DOUBLED else head.removesuffix("e")
    regular = head[:-1] + "ied" if re.search("[^aeiou]y$", head) else stem + "ed"
    past, participle = IRREGULAR.get(head, (regular, regular))
    third = head[:-1] + "ies" if re.search("[^aeiou]y$", head) else head + ("es" if head[-2:] in ("sh", "ch") else "s")
    forms = {"base": head, "s": third, "past": past, "pp": participle, "ing": stem + "ing"}
    return {name: " ".join([form, *rest]) for name, form in forms.items()}


def _slots(rng: random.Random, domain: str) -> dict[str, str]:
    """Draws words for every slot; the nouns of one sentence differ from one another, and so do its adjectives."""
    people, things, adjectives, verbs, places = COLUMNS[domain]
    slots = {slot: rng.choice(words) for slot, words in COMMON_SLOTS.items()}
    slots["person"], slots["other"] = rng.sample(people, 2)
    slots["thing"], slots["thing2"] = rng.sample(things, 2)
    slots["adj"], slots["adj2"] = rng.sample(adjectives, 2)
    slots["place"] = rng.choice(places)
    plurals = {"persons": "person", "others": "other", "things": "thing", "things2": "thing2"}
    slots |= {slot: _plural(slots[noun]) for slot, noun in plurals.items()}
    return slots | _verb_forms(rng.choice(verbs))


def _sentence(text: str) -> str:
    """Mends spaces, puts "an" before vowels and a capital at the start."""
    text = re.sub(" +", " ", text).replace(" ,", ",").replace(" .", ".").strip()
    text = re.sub(r"\b([Aa]) (?=[aeiou](?!seless))", r"\1n ", text)
    return text[0].upper() + text[1:]


def _fill(rng: random.Random, frame: str, domain: str, label: str) -> tuple[str, set[str]]:
    """Fills a frame.

    Args:
        rng: where the choices come from.
        frame: a line of FRAMES.
        domain: which words to use.
        label: which side of the bracket to use.

    Returns:
        The sentence, and the right versions of it, without opener and closer.
    """
    slots = _slots(rng, domain)
    bare = frame.removeprefix("=")
    right, _, wrong = re.search(r"\[(.*?)\]", bare).group(1).partition("|")
    choice = rng.choice((right if label == "acceptable" else wrong).split("/"))
    before, after = re.split(r"\[.*?\]", bare)
    versions = {_sentence(f"{before}{option}{after}".format(**slots)) for option in right.split("/")}
    text = f"{before}{choice}{after}".format(**slots)
    if frame == bare and not frame.endswith("?"):
        if rng.random() < 0.25:
            start = text if text.startswith("I ") else text[0].lower() + text[1:]
            text = rng.choice(OPENERS).format(**slots) + " " + start
        elif rng.random() < 0.25:
            text = text[:-1] + rng.choice(CLOSERS).format(**slots) + "."
    return _sentence(text), versions


def generate(count: int, seed: int) -> list[dict[str, Any]]:
    """Generates sentences; labels, kinds and domains are spread evenly.

    Args:
        count: how many sentences.
        seed: the same seed gives the same sentences.

    Returns:
        Rows with text, label, domain, kind and source ("grammar").
    """
    rng = random.Random(seed)
    frames = {kind: [line.strip() for line in text.strip().splitlines()] for kind, text in FRAMES.items()}
    decks: dict[tuple[str, str], list[str]] = {}
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for index in range(count):
        label, kind = LABELS[index % 2], KINDS[index // 2 % len(KINDS)]
        domain = DOMAINS[index // (2 * len(KINDS)) % len(DOMAINS)]
        deck = decks.setdefault((label, kind), [])
        if not deck:  # every frame once before any frame again
            deck += rng.sample(frames[kind], len(frames[kind]))
        frame = deck.pop()
        for _ in range(TRIES):
            text, versions = _fill(rng, frame, domain, label)
            if not {text, *versions} & seen and len(text.split()) in LENGTHS:
                break
        else:
            raise ValueError(f"The grammar has run out of new sentences after {len(rows)} of {count}.")
        seen |= {text, *versions}
        rows.append({"text": text, "label": label, "domain": domain, "kind": kind, "source": "grammar"})
    rng.shuffle(rows)
    return rows


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GENERATED, SEED)


if __name__ == "__main__":
    print(f"{len(build())} sentences written to {DATA / 'train.jsonl'}")

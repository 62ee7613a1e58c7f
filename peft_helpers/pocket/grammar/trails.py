"""A seeded grammar of hiking trails and sentences that say them: `generate(1180, seed=0)` always gives the same.

An item starts from a meaning: a trail's name and two to six of nine further slots, drawn so that slots and values stay
in balance and fit together (no steep boardwalk, no easy ten-mile day). Then one of the frames says it. A frame names
some slots itself ("From {start}, …") and has up to two pools; each slot that the frame leaves open goes to a pool:

- `{np}`: a noun phrase, "a steep 8-mile gravel loop";
- `{vps}`: what the trail does, "starts at Cork Yard and is best in fall";
- `{sents}`: clauses of their own, "the climb is gentle, and dogs are welcome";
- `{tags}`: a bare list, as on a sign: "8 miles, steep, no dogs".

`python -m peft_helpers.pocket.grammar.trails` rewrites train.jsonl: train_written.jsonl and 1,180 generated items.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

from peft_helpers.pocket.grammar import write_train

DATA = Path(__file__).resolve().parents[1] / "data" / "trails"
GENERATED = 1180  # items in train.jsonl that come from this grammar
SEED = 0
TRIES = 500  # draws for one item before we give up on finding a new one
LENGTHS = range(8, 46)  # words in a reference
CANDIDATES = 12  # meanings drawn for one item; the one with the rarest slots and values wins

Meaning = dict[str, str]


def _list(text: str, separator: str = ", ") -> tuple[str, ...]:
    """Reads "a, b, c" as three strings."""
    return tuple(" ".join(text.split()).split(separator))


def _wordings(text: str) -> dict[str, tuple[str, ...]]:
    """Reads lines "value: wording / wording" as a table of wordings."""
    pairs = (line.strip().split(": ", 1) for line in text.strip().splitlines())
    return {value: _list(wordings, " / ") for value, wordings in pairs}


SLOTS = _list("length, climb, level, surface, start, sight, season, dogs, shape")
VALUES = {
    "length": tuple(f"{miles} miles" for miles in range(2, 19)),
    "climb": _list("flat, gentle, steep"),
    "level": _list("easy, moderate, hard"),
    "surface": _list("gravel, dirt, rock, boardwalk, sand"),
    "season": _list("spring, summer, fall, winter"),
    "dogs": _list("yes, no"),
    "shape": _list("loop, out and back, one way"),
}

# Names, starts and sights are put together from two lists each; none of their words says a value of another slot.
NAME_FIRST = _list(
    """Almanac, Anchovy, Bandicoot, Bassoon, Beetroot, Bobbin, Bramling, Brindle, Bugle, Cardigan, Cashew, Chutney,
    Cinnabar, Clementine, Corduroy, Cricketer, Crinkle, Dandelion, Doublet, Dumpling, Earwig, Elderwine,
    Fennimore, Fiddlehead, Flannel, Gimlet, Gooseberry, Grommet, Haversack, Hodgepodge, Horseradish, Inkwell,
    Jellyfish, Kazoo, Kerchief, Kestering, Kumquat, Lollander, Macaroon, Mandolin, Marzipan, Millicent,
    Molasses, Mustard, Nettlebed, Nightcap, Oboe, Oddfellow, Pangolin, Parsnip, Percival, Piccolo, Pillowcase,
    Pinwheel, Quibble, Radish, Rhubarb, Rigmarole, Saffron, Satchel, Scabbard, Semaphore, Shuttlecock, Spatula,
    Spindrift, Squid, Tambourine, Tapioca, Teacup, Thornaby, Tiddler, Trombone, Turmeric, Umbrella, Velvet,
    Vinegar, Waistcoat, Walnut, Whelk, Whistler, Wimple, Yardarm, Zither"""
)
NAME_LAST = _list(
    """Amble, Bight, Bluff, Brow, Canyon, Chase, Coombe, Corner, Cove, Crest, Cut, Dell, Dip, Fell, Fen, Furlong, Gap,
    Glade, Glen, Gully, Heath, Hollow, Jaunt, Knoll, Ledge, Marsh, Meander, Mere, Moor, Narrows, Notch,
    Pass, Pike, Ramble, Reach, Ridge, Rim, Saddle, Scar, Shelf, Shoulder, Spur, Terrace, Thicket, Track,
    Traverse, Vale, Wander, Wold"""
)
NAME_PATTERNS = (
    *("{first} {last}",) * 5,
    *("Old {first} {last}", "{first} {last} Trail", "{first} {last} Path", "{first}'s {last}", "Little {first} {last}"),
    *("Upper {first} {last}", "{last} of the {first}", "{first} and {other}", "The {first}"),
)
START_FIRST = _list(
    """Alder, Basil, Birch, Bishop, Cork, Cotton, Curfew, Dahlia, Fable, Ferret, Garnet, Ginger, Hickory, Ivory,
    Jasper, Juniper, Kelp, Lantern, Larch, Lilac, Maple, Myrtle, Nutmeg, Olive, Otter, Pepper, Plum, Raven,
    Rowan, Sable, Silver, Sparrow, Tulip, Violet, Willow, Wren"""
)
START_LAST = _list(
    """Bridge, Camp, Chapel, Corner, Cottage, Crossing, Depot, Farm, Gate, Grove, Harbor, Hut, Inn, Junction, Landing,
    Lodge, Mill, Pond, Square, Station, Wharf, Yard"""
)
STARTS = _list(
    """the old mill, the bus stop, the water tower, the village green, the ranger cabin, the boathouse, the picnic
    shelter, the cider press, the lower parking lot, the town hall, the fish market, the tram terminus, the
    visitor center, the old schoolhouse, the toll bridge, the ski hut, the campground gate, the post office"""
)
SIGHT_FIRST = _list(
    """a hidden, a quiet, a famous, a small, a lonely, a crooked, a grand, a curious, an ancient, an enormous, a
    half-hidden, a charming"""
)
SIGHT_LAST = _list(
    """waterfall, lighthouse, chapel, castle, windmill, watchtower, cave, lake, gorge, footbridge, aqueduct, lagoon,
    island, cedar grove, sinkhole, barn, fountain, sculpture, canal lock, geyser, vineyard, burial mound,
    observatory, shipwreck, mine shaft, amphitheater"""
)
SIGHTS = _list(
    """sea cliffs, wild orchids, wild horses, grazing deer, nesting eagles, fishing boats, giant ferns, old oaks,
    mountain goats, terraced vineyards, moss-covered ruins, tide pools, sea lions, water mills, tall pines,
    grazing ponies, limestone towers, hot pools, beaver dams, cave paintings, distant peaks, rope bridges, tea
    gardens, black swans"""
)

ADJECTIVES = {
    "climb": _wordings("flat: flat\ngentle: gently rising / gentle / gently climbing\nsteep: steep"),
    "level": _wordings(
        """easy: easy / beginner-friendly / simple / undemanding
        moderate: moderate / intermediate
        hard: hard / difficult / tough / demanding / strenuous / challenging"""
    ),
    "surface": _wordings("gravel: gravel\ndirt: dirt\nrock: rocky / rock\nboardwalk: boardwalk\nsand: sand / sandy"),
    "season": _wordings("spring: spring\nsummer: summer\nfall: fall / autumn\nwinter: winter"),
}
HEADS = _wordings(  # nouns that carry the shape; "" if no shape is given
    """loop: loop / circuit / loop trail / circular walk
    out and back: out-and-back / out-and-back trail / out-and-back walk
    one way: one-way trail / one-way hike / point-to-point route"""
)
HEADS[""] = _list("trail, path, walk, hike, route, track")
ORDER = _list("level, climb, length, season, surface")  # of the adjectives in a noun phrase

# What the trail does: the subject is its name, "it" or "which". {} stands for the value as it is.
VERBS = {
    "length": {"": _list("runs {} / is {} long / covers {} / measures {} / goes on for {}", " / ")},
    "start": {"": _list("starts at {} / begins at {} / sets off from {} / leaves from {}", " / ")},
    "sight": {"": _list("leads past {} / passes {} / takes you to {} / offers a look at {} / shows you {}", " / ")},
    "climb": _wordings(
        """flat: stays flat / is flat / has no hills / keeps to level ground
        gentle: climbs gently / rises gently / has a gentle climb / climbs gradually
        steep: is steep / climbs steeply / rises steeply / has a steep climb"""
    ),
    "level": _wordings(
        """easy: is easy / is undemanding / suits beginners / is not difficult / asks for no more than easy walking
        moderate: is moderate / is of medium difficulty / is moderately demanding / asks for moderate effort
        hard: is hard / is difficult / is strenuous / is a tough one / calls for experienced hikers"""
    ),
    "surface": _wordings(
        """gravel: runs over gravel / follows a gravel track / is graveled / crunches with gravel
        dirt: follows a dirt track / runs over dirt / keeps to packed earth / is all dirt
        rock: crosses bare rock / is rocky underfoot / runs over rock / is all rock
        boardwalk: follows a boardwalk / keeps to a boardwalk / is laid with planks / runs over wooden planks
        sand: runs over sand / is sandy underfoot / crosses soft sand / keeps to the sand"""
    ),
    "season": _wordings(
        """spring: is best in spring / is at its finest in spring / deserves a visit in springtime / shines in spring
        summer: is best in summer / is at its finest in summer / deserves a visit in summer / shines in summer
        fall: is best in fall / is at its finest in autumn / deserves a visit in the fall / shines in autumn
        winter: is best in winter / is at its finest in winter / deserves a visit in winter / shines in winter"""
    ),
    "dogs": _wordings(
        """yes: welcomes dogs / is dog-friendly / is open to dogs
        no: is closed to dogs / is off limits to dogs / bars dogs"""
    ),
    "shape": _wordings(
        """loop: makes a loop / is a loop / forms a circuit / comes full circle
        out and back: goes out and back / is an out-and-back / brings you back the way you came
        one way: goes one way / runs one way only / is one-way / goes from point to point"""
    ),
}

# Clauses of their own; the trail is "it" or "the trail".
SENTENCES = {
    "length": {"": _list("it is {} long / the distance is {} / you will walk {} / it goes on for {}", " / ")},
    "start": {"": _list("the start is at {} / you set out from {} / it begins at {}", " / ")},
    "sight": {"": _list("you will see {} / you can admire {} / the reward is {} / it leads past {}", " / ")},
    "climb": _wordings(
        """flat: there is no climb / the ground is flat / you can expect flat ground / it is flat all the way
        gentle: the climb is gentle / it rises gently / you can expect a gentle climb / the slopes are gentle
        steep: the climb is steep / it rises steeply / you can expect a steep climb / the slopes are steep"""
    ),
    "level": _wordings(
        """easy: the walking is easy / it is not demanding / it is easy / beginners will manage
        moderate: the difficulty is moderate / it is moderate / the effort is moderate / it is an intermediate trail
        hard: the walking is hard / it is not for beginners / it is hard / the going is tough"""
    ),
    "surface": _wordings(
        """gravel: the surface is gravel / you walk on gravel / there is gravel underfoot
        dirt: the surface is dirt / you walk on dirt / there is packed earth underfoot
        rock: the surface is rock / you walk on rock / there is bare rock underfoot
        boardwalk: you walk on a boardwalk / you walk on planks / there are wooden planks underfoot
        sand: the surface is sand / you walk on sand / there is sand underfoot"""
    ),
    "season": _wordings(
        """spring: spring suits it best / spring is the best time / it is made for springtime / we suggest spring
        summer: summer suits it best / summer is the best time / it is made for summer / we suggest summer
        fall: fall suits it best / autumn is the best time / it is made for autumn / we suggest fall
        winter: winter suits it best / winter is the best time / it is made for winter / we suggest winter"""
    ),
    "dogs": _wordings(
        """yes: dogs are welcome / you can bring the dog / dogs are allowed / your dog is welcome
        no: dogs are not allowed / you must leave the dog at home / no dogs are allowed / dogs must stay at home"""
    ),
    "shape": _wordings(
        """loop: it is a loop / the route is circular / you walk a full circle / it makes a circuit
        out and back: you return the way you came / it is an out-and-back / you go out and back
        one way: it goes one way / the route is one-way / you walk in one direction / it leads from point to point"""
    ),
}
TAGS = {
    "length": {"": ("{}",)},
    "start": {"": ("from {}", "start at {}")},
    "sight": {"": ("past {}", "with {}", "views of {}")},
    "climb": _wordings("flat: flat / no climb\ngentle: gentle climb / gently rising\nsteep: steep / steep climb"),
    "level": _wordings("easy: easy / for beginners\nmoderate: moderate / intermediate\nhard: hard / strenuous / tough"),
    "surface": _wordings(
        """gravel: on gravel / gravel
        dirt: on dirt / dirt
        rock: on rock / rocky
        boardwalk: on a boardwalk / boardwalk
        sand: on sand / sandy"""
    ),
    "season": _wordings(
        "spring: best in spring\nsummer: best in summer\nfall: best in fall / best in autumn\nwinter: best in winter"
    ),
    "dogs": _wordings("yes: dogs welcome / dogs allowed / dog-friendly\nno: no dogs / no dogs allowed"),
    "shape": _wordings(
        "loop: loop / circuit\nout and back: out and back / out-and-back\none way: one way / point to point"
    ),
}

POOLS = {"np": (set(ORDER) | {"shape"}, 5), "vps": (set(SLOTS), 4), "sents": (set(SLOTS), 3), "tags": (set(SLOTS), 6)}
FRAMES = _list(
    """
{name} is {np}.
{name} is {np} that {vps}.
{name} is {np}; {sents}.
{name} {vps}.
{name} {vps}. {Sents}.
{name}: {tags}.
{name}, {tags}. {Sents}.
{name}, which {vps}, is {np}.
{Np}, {name} {vps}.
{Np} is what you get on {name}. {Sents}.
From {start}, {name} {vps}.
From {start}, take {name}, {np}. {Sents}.
{Start} is where {name} begins. It {vps}.
Walkers set out from {start} for {name}, {np} that {vps}.
You can find {name} by going to {start}; it {vps}.
Meet us at {start} for a day on {name}, {np}.
Beginning at {start} and leading past {sight}, {name} {vps}.
In {season}, try {name}, {np}.
{Season} is the time for {name}, which {vps}.
{Season} is when {name} is at its best. {Sents}.
I like {name} most in {season}: it {vps}.
We always save {name} for {season}; {sents}.
If you want to see {sight}, take {name}. It {vps}.
You reach {sight} by way of {name}, {np}.
Some come to {name} for {sight}, others because it {vps}.
With {sight} on the way, {name} is {np}.
Do not miss {sight} on {name}. {Sents}.
To see {sight}, set out from {start} on {name}; {sents}.
At {length}, {name} {vps}.
{name} covers {length}; {sents}.
Allow for {length} if you walk {name}, {np}.
It takes {length} to see all of {name}. {Sents}.
{name} takes you to {sight} in {length}, and it {vps}.
On {name} you walk {length}; {sents}.
Dogs are {welcome} on {name}, {np} that {vps}.
Dogs are {welcome} on {name}, which {vps}.
As dogs are {welcome} on {name}, plan ahead: it {vps}.
Looking for {np}? Try {name}, which {vps}.
Looking for {np}? There is {name}. {Sents}.
What is {name}? {Np}. {Sents}.
Locals will tell you about {name}: it {vps}.
My neighbor swears by {name}, {np}. {Sents}.
Today's tip is {name}, {np} that {vps}.
Because it {vps}, we chose {name}. {Sents}.
Put {name} on your list, for it {vps}.
The map shows {name} as {np}. {Sents}.
What to know about {name}: {sents}.
Welcome to {name}, {np}! {Sents}.
The sign says it all: {name}, {tags}.
{Tags}: that sums up {name}.
{Sents}. This is {name}, {np}.
{Sents}; that is why we love {name}, which {vps}.
Once more our club chose {name}, {np} that {vps}.
I had a fine day on {name}; it {vps}.
Nobody had told me that {name} {vps}.
""".strip().replace("\n", " | "),
    " | ",
)


def _fields(frame: str) -> list[str]:
    """The slots and pools that a frame names, in lower case."""
    return [field.lower() for field in re.findall(r"{(\w+)}", frame)]


def _coherent(meaning: Meaning) -> bool:
    """Whether no two values of a meaning contradict each other."""
    miles = int(meaning["length"].split()[0]) if "length" in meaning else None
    climb, level, surface = (meaning.get(slot) for slot in ("climb", "level", "surface"))
    if climb == "steep" and (level == "easy" or surface == "boardwalk"):
        return False
    if surface == "boardwalk" and (level == "hard" or (miles or 0) > 7):
        return False
    if miles and ((level == "easy" and miles > 8) or (level == "hard" and miles < 5)):
        return False
    return not (level == "hard" and climb in ("flat", "gentle") and (miles or 0) < 9)


def _name(rng: random.Random) -> str:
    """Draws an invented trail name of one to four words."""
    first, other = rng.sample(NAME_FIRST, 2)
    return rng.choice(NAME_PATTERNS).format(first=first, other=other, last=rng.choice(NAME_LAST))


def _open_value(rng: random.Random, slot: str) -> str:
    """Draws a value for a slot that has no closed list of values: start or sight."""
    if slot == "start":
        return rng.choice(STARTS) if rng.random() < 0.3 else f"{rng.choice(START_FIRST)} {rng.choice(START_LAST)}"
    return rng.choice(SIGHTS) if rng.random() < 0.4 else f"{rng.choice(SIGHT_FIRST)} {rng.choice(SIGHT_LAST)}"


def draw_meaning(rng: random.Random, size: int, used: Counter[Any]) -> Meaning:
    """Draws a meaning with a name and `size` further slots, in the order of SLOTS.

    Args:
        rng: where chance comes from.
        size: how many slots besides the name.
        used: how often slots and (slot, value) pairs were drawn so far; rare ones are preferred.

    Returns:
        Slot to value.
    """
    candidates = []
    while len(candidates) < CANDIDATES:
        slots = set(rng.sample(SLOTS, size))
        closed = {slot: rng.choice(VALUES[slot]) for slot in SLOTS if slot in slots and slot in VALUES}
        if _coherent(closed):
            candidates.append({slot: closed.get(slot, "") for slot in SLOTS if slot in slots})

    def frequency(meaning: Meaning) -> float:
        counts = (
            used[slot] + (used[slot, value] * len(VALUES[slot]) if value else used[slot])  # both are even in the end
            for slot, value in meaning.items()
        )
        return sum(counts) / size

    best = min(candidates, key=frequency)
    return {"name": _name(rng)} | {slot: value or _open_value(rng, slot) for slot, value in best.items()}


def _noun_phrase(rng: random.Random, slots: list[str], meaning: Meaning) -> str:
    """Says slots as "a steep 8-mile gravel loop"."""
    words = []
    for slot in (slot for slot in ORDER if slot in slots):
        wordings = ADJECTIVES[slot][meaning[slot]] if slot != "length" else (meaning[slot][:-1].replace(" ", "-"),)
        words.append(rng.choice(wordings))
    if "level" in slots and "climb" in slots and len(words) > 1:
        words[:2] = [f"{words[0]}, {words[1]}"]
    heads = HEADS[meaning["shape"] if "shape" in slots else ""]
    words.append(rng.choice([head for head in heads if not ("boardwalk" in words and head.endswith("walk"))]))
    article = "an" if re.match(r"[aeiou]|8|11|18", words[0]) and not words[0].startswith("one") else "a"
    return " ".join([article, *words])


def _join(parts: list[str], comma: str = "") -> str:
    """Joins "a", "b" and "c" as "a, b, and c"; two parts are separated by `comma`, too."""
    if len(parts) < 3:
        return f"{comma} and ".join(parts)
    return ", ".join(parts[:-1]) + f", and {parts[-1]}"


def _pool(rng: random.Random, pool: str, slots: list[str], meaning: Meaning) -> str:
    """Says slots in the manner of a pool."""
    if pool == "np":
        return _noun_phrase(rng, slots, meaning)
    table = {"vps": VERBS, "sents": SENTENCES, "tags": TAGS}[pool]
    parts = []
    for slot in slots:
        wordings = table[slot].get(meaning[slot]) or table[slot][""]
        parts.append(rng.choice(wordings).format(meaning[slot]))
    return ", ".join(parts) if pool == "tags" else _join(parts, "," if pool == "sents" else "")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def say(rng: random.Random, meaning: Meaning, frame: str) -> str | None:
    """Says a meaning in a frame.

    Args:
        rng: where chance comes from.
        meaning: slot to value.
        frame: one of FRAMES.

    Returns:
        One or two sentences, or None if the frame does not fit.
    """
    fields = _fields(frame)
    named = {"dogs" if field == "welcome" else field for field in fields if field not in POOLS}
    pools = {field: [] for field in fields if field in POOLS}
    rest = [slot for slot in meaning if slot not in named]
    if not named <= set(meaning) or len(rest) < len(pools):
        return None
    rng.shuffle(rest)
    for slot in rest:
        open_to = [pool for pool in pools if slot in POOLS[pool][0] and len(pools[pool]) < POOLS[pool][1]]
        if not open_to:
            return None
        empty = [pool for pool in open_to if not pools[pool]]
        pools[rng.choice(empty or open_to)].append(slot)
    if not all(pools.values()):
        return None
    values = dict(meaning)
    if "season" in named:
        values["season"] = rng.choice(ADJECTIVES["season"][meaning["season"]])
    if "welcome" in fields:
        values["welcome"] = rng.choice(("welcome", "allowed") if meaning["dogs"] == "yes" else ("not allowed",))
    values |= {pool: _pool(rng, pool, slots, meaning) for pool, slots in pools.items()}
    return _capital(frame.format(**values, **{_capital(field): _capital(text) for field, text in values.items()}))


def generate(count: int, seed: int) -> list[dict[str, Any]]:
    """Generates meanings with one reference each, all names and references distinct, sizes spread evenly.

    Args:
        count: how many items.
        seed: the same seed gives the same items.

    Returns:
        Rows with meaning, references and source ("grammar").
    """
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    names: set[str] = set()
    texts: set[str] = set()
    used: Counter[Any] = Counter()
    frames_used: Counter[str] = Counter()
    for index in range(count):
        for _ in range(TRIES):
            meaning = draw_meaning(rng, 2 + index % 5, used)
            frame = min(rng.sample(FRAMES, 4), key=lambda frame: frames_used[frame])
            text = say(rng, meaning, frame)
            if text and len(text.split()) in LENGTHS and meaning["name"] not in names and text not in texts:
                break
        else:
            raise ValueError(f"The grammar has run out of new items after {len(rows)} of {count}.")
        names.add(meaning["name"])
        texts.add(text)
        frames_used[frame] += 1
        used.update([*meaning, *meaning.items()])
        rows.append({"meaning": meaning, "references": [text], "source": "grammar"})
    rng.shuffle(rows)
    return rows


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GENERATED, SEED)


if __name__ == "__main__":
    print(f"{len(build())} items written to {DATA / 'train.jsonl'}")

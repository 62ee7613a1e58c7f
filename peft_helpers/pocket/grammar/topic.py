"""A seeded grammar of short texts on eight topics: `generate(1200, seed=0)` always gives the same.

Every topic has frames whose slots are filled from its own word lists: `plain` frames use the topic's vocabulary,
`indirect` frames avoid it. A `distractor` is made from two topics: the clause in question ("how long gout lasts")
decides the label, and the place or the speaker ("over a plate of dumplings", "the referee") comes from another one.
Openings such as "Quick question:" are shared by all topics, so that they say nothing about the label.

`python -m peft_helpers.pocket.grammar.topic` rewrites train.jsonl: train_written.jsonl and 1,200 generated texts.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_helpers.pocket.grammar import write_train

DATA = Path(__file__).resolve().parents[1] / "data" / "topic"
GENERATED = 1200  # texts in train.jsonl that come from this grammar
SEED = 0
TRIES = 200  # draws for one text before we give up on finding a new one
LENGTHS = range(3, 31)  # words in a text
CYCLE = ("plain", "indirect", "plain", "distractor", "plain") * 3 + ("plain", "indirect", "plain", "distractor")
CYCLE += ("indirect",)  # of 20 texts 11 are plain, 5 indirect and 4 distractors
OPENED = 0.25  # share of plain and indirect texts that get a shared opening


@dataclass(frozen=True)
class Topic:
    """What the grammar knows about one topic; in frames, `{name}` stands for an entry of that slot.

    Attributes:
        slots: per slot its entries, separated by commas.
        plain: frames with the topic's own words, separated by bars.
        indirect: frames without them, separated by bars.
        asks: clauses of the kind that follows "explained to me", separated by bars.
        scenes: where people are when they talk about another topic, separated by commas.
        people: who talks about another topic, separated by commas.
    """

    slots: dict[str, str]
    plain: str
    indirect: str
    asks: str
    scenes: str
    people: str


SHARED = {
    "anyone": "my cousin, our neighbor, her brother, the twins' mother, my old teacher, Ines, Omar, Uncle Pete, Yuki",
    "number": "two, three, four, five, six, seven, nine, eleven, a dozen",
    "many": "fifteen, twenty, thirty, forty, fifty, sixty",
    "day": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    "month": "January, February, March, April, May, June, July, August, October, November",
    "hour": "five, six, seven, eight, nine, ten, noon, midnight",
    "said": "explained to me, asked me, told us, wanted to know, could not remember, tried to work out",
}
QUESTION_OPENINGS = ("Quick question:", "Before I forget:", "Me again:", "Sorry, silly question:", "Honestly,")
OPENINGS = ("By the way,", "In case you wonder,", "As I said,", "For the record,", "Update:", "Short note:", "Well,")
SHELLS = (  # of a distractor; scene and expert belong to another topic than the clause
    "{scene}, {anyone} {said} {ask}.",
    "{expert} {said} {ask}.",
    "Could you ask {expert} {ask}?",
    "{scene}, we talked for an hour about {ask}.",
    "Not even {expert} knows {ask}.",
    "{scene}, {expert} and I discussed {ask}.",
    "{scene}, I finally learned {ask}.",
    "I wrote to {expert} to find out {ask}.",
)

TOPICS = {
    "nature": Topic(
        slots={
            "birds": "curlews, wagtails, goldfinches, cranes, puffins, jackdaws, plovers, hoopoes, bitterns, kestrels",
            "plants": "bluebells, foxgloves, gentians, cowslips, anemones, harebells, marsh marigolds, wild irises",
            "tree": "alder, hornbeam, rowan, juniper, sycamore, aspen, yew, cedar, hawthorn, poplar",
            "animal": "badger, lynx, marten, weasel, moose, porcupine, chamois, polecat, marmot, wild boar",
            "small": "newts, crickets, ladybugs, earthworms, slugs, wasps, moths, sand lizards, tree frogs, beetles",
            "where": "in the reed bed, on the heath, along the stream, in the old quarry, by the marsh",
            "storm": "thunderstorm, gale, blizzard, landslide, flood, tornado",
            "mark": "a bushy tail, long whiskers, yellow eyes, pointed ears, a white stripe, spines all over",
            "moved": "ran across the yard, slipped under the shed, sat on the wall, crept along the ditch",
            "gone": "the far bank, the next hill, the church, the end of the lane, the bridge",
            "air": "everything dripped, the air smelled of wet stone, not a leaf moved, it was strangely warm",
            "did": "curled up, played dead, changed color, slid into a crack, hissed softly, froze",
            "near": "my shadow touched it, we came closer, the dog sniffed at it, I bent down, the sun went in",
            "sound": "three short notes and a long one, like a rusty gate, like someone sawing wood, like a wet cork",
            "yard": "behind the shed, up on the roof, under the floor, near the gate, above the porch",
            "grown": "reaches the gutter, covers the whole wall, lifts the paving stones, smells sweet at night",
        },
        plain="""
            The {birds} are back {where}. | Have you seen any {birds} {where} this {month}? |
            The {plants} are in bloom {where}, {number} days earlier than last year. |
            A {animal} crossed the path {where} and looked at us for a moment. |
            What do {small} do when the ground freezes? | Last night's {storm} brought down the big {tree} {where}. |
            We counted {many} {birds} and one {animal} {where} on {day}. |
            Wild {animal} returns to the region after {many} years |
            I lifted a log under the {tree} and found {number} {small}. |
            Do {small} really live inside that old {tree}? |
            Please do not pick the {plants} {where}; the {small} need them. |
            A young {animal} was found {where} after the {storm}.
        """,
        indirect="""
            Something with {mark} {moved} at about {hour}. | By {hour} you could not see {gone} anymore, and {air}. |
            They come every {month}, stay for {number} days, and leave without a sound. | It {did} as soon as {near}. |
            Listen, there it is again {yard}, {sound}. | Nobody planted it, yet by {month} it {grown}.
        """,
        asks="""
            how {birds} find their way in the dark | why {plants} grow only on chalk | what {small} eat in {month} |
            how old a {tree} can get | where a {animal} sleeps by day | why there are so few {small} {where}
        """,
        scenes="Under the old beech, On the bird walk, While we watched the deer, In the middle of the marsh",
        people="the park ranger, a beekeeper, the ornithologist, our forester, a lion keeper",
    ),
    "health": Topic(
        slots={
            "ailment": "bronchitis, sciatica, eczema, heartburn, tonsillitis, vertigo, whooping cough, anxiety, "
            "a slipped disk, an ear infection, a stomach bug, insomnia, athlete's foot, a torn muscle",
            "doctor": "pediatrician, orthopedist, family doctor, eye specialist, neurologist, rheumatologist",
            "cure": "an ointment, cough syrup, nasal spray, a cold compress, a course of tablets, iron drops, "
            "steam inhalation, a cortisone shot",
            "test": "an ultrasound, a biopsy, a blood count, an X-ray of the chest, a hearing test, a heart scan",
            "part": "lungs, liver, tendons, sinuses, lower spine, thyroid, jaw, kidneys",
            "who": "my father, Grandma, Aunt Rosa, my roommate, her son, our eldest, the caretaker, the boy next door",
            "dose": "one, two, ten drops, half a spoonful, one and a half, a level teaspoon",
            "timing": "before breakfast, at bedtime, every four hours, with plenty of water, after each meal",
            "never": "never more, and no driving, and nothing to eat for an hour, even if it tastes awful",
            "rest": "stay in bed, lie on one side, keep that leg up, wear the collar, sleep sitting up",
            "trouble": "slept through, stopped scratching, finished a plate, said a word without croaking",
            "sign": "it burns, it goes numb, it throbs, it clicks, I see little sparks",
            "when": "I climb stairs, I swallow, I look up, I lie on the left, I laugh, I make a fist",
        },
        plain="""
            The {doctor} prescribed {cure} for {who}. | Could it be {ailment}? | I have to go in for {test} on {day}. |
            {who} has had {ailment} since {month}. | Can {ailment} affect the {part}? |
            {cure} helped more against {ailment} than anything from the cupboard. |
            The result of {test} was fine, so the pain must come from elsewhere. |
            New clinic for patients with {ailment} opens in {month} |
            Do not use {cure} for {ailment} without asking a doctor. |
            How did the {doctor} find out that it was {ailment}? |
            Before {test}, {who} must not eat for {number} hours. |
            The {doctor} examined my {part} and sent me for {test}.
        """,
        indirect="""
            {dose} {timing}, {never}. | {who} is supposed to {rest} until {day}. |
            {who} has not {trouble} since {day}. | {sign} whenever {when}. |
            {sign} for a minute or so after {hour}, then it is gone. |
            They want to see {who} again in {number} weeks, just to be sure.
        """,
        asks="""
            how to get rid of {ailment} | how long {ailment} usually lasts | which {doctor} is best for {ailment} |
            what {cure} can do for {ailment} | why {who} needed {test} | what to do about {ailment} at night
        """,
        scenes="In the dentist's waiting room, While the nurse changed the bandage, At the pharmacy",
        people="the night nurse, my dentist, a retired surgeon, the pharmacist, our midwife",
    ),
    "technology": Topic(
        slots={
            "device": "the scanner, my smartwatch, the game console, this tablet, the smart doorbell, her headset, "
            "the label printer, the 3D printer, the set-top box, the old mainframe, my e-reader, the robot vacuum",
            "part": "charging port, hard drive, touch pad, graphics driver, memory card, circuit board, sensor",
            "program": "browser, calendar app, virus scanner, photo editor, chatbot, spell checker, operating system",
            "fault": "overheats, crashes, loses the connection, shows a blue screen, shuts down, logs me out",
            "glitch": "crashes, loses the connection, runs slowly, logs me out, freezes, forgets my settings, stalls",
            "step": "clear the cache, install the patch, reboot, format the disk, renew the certificate",
            "field": "cybersecurity, machine learning, microchips, fiber optics, 3D printing, cloud storage",
            "light": "the small light, the ring on the front, the box in the hall, the thing under my desk",
            "blink": "blinks orange, has gone dark, beeps twice and stops, hums all day, flickers whenever it rains",
            "stuck": "it froze, it went black, it asked for the code, it started over",
            "while": "in the middle of my talk, just before I hit save, at ninety percent, right when she waved",
            "fix": "hold the button down, pull the plug, take out the little card, drag it to the trash",
        },
        plain="""
            {device} {fault} every time I open the {program}. | Which {part} fits {device}? |
            The {program} {glitch} unless you {step} first. |
            Does {device} need a new {part}, or is it only the {program}? |
            Please {step} before {day}, because the {program} will be replaced. |
            University opens a laboratory for {field} |
            I replaced the {part}, and {device} is as fast as on the first day. |
            A course on {field} starts in {month}; bring a laptop with the latest {program}. |
            How do I get the {program} to talk to {device}? |
            The technician says that the {part} is fine and that we should {step}. |
            Hackers got in through {device} and the old {program}. | Update the {program}, then {step}.
        """,
        indirect="""
            {light} {blink}. | {stuck} {while}. | Just {fix}, count to {many}, and try once more. |
            {stuck} again, so {anyone} told me to {fix}. | If it says no, {fix} and sign in as a guest. |
            It worked until {hour}, then somebody tripped over the cord, and now the thing {blink}.
        """,
        asks="""
            how to connect {device} to the {program} | why the {program} {glitch} | what the {part} in {device} does |
            how to {step} without losing the files | which {program} runs on {device} |
            what {field} will change in the next {many} years
        """,
        scenes="In a video call, While my laptop rebooted, At the tablet repair desk, While the update was downloading",
        people="the programmer, our web designer, the network administrator, a phone repairman, the robot engineer",
    ),
    "food": Topic(
        slots={
            "dish": "borscht, paella, moussaka, ratatouille, clam chowder, gumbo, shepherd's pie, pad thai, "
            "lasagna, meatloaf, potato gratin, onion tart, biryani, goulash, pumpkin soup",
            "herb": "nutmeg, tarragon, saffron, coriander, smoked paprika, thyme, allspice, fenugreek, lovage",
            "stuff": "leeks, chickpeas, artichokes, shrimp, zucchini, parsnips, chestnuts, anchovies, ricotta, cabbage",
            "sweet": "tiramisu, rhubarb crumble, baklava, plum cake, lemon sorbet, meringue, fudge, custard",
            "tool": "wok, cast-iron pan, casserole, steamer, pressure cooker, clay pot",
            "verb": "simmer, rest, bake, cool, stand",
            "place": "the diner on Mill Road, the corner bistro, our canteen, the tavern by the lock, the noodle bar",
            "bit": "sugar, cinnamon, lemon zest, vanilla, cocoa, flour",
            "more": "a pinch, a squeeze, a handful, a splash, two spoonfuls",
            "sign": "it thickens, the edges curl, the top turns gold, it smells nutty, a fork slides in",
            "where": "on the bottom shelf, in the blue tin, under the cloth, behind the jars, in the cold corner",
            "left": "one slice, the crusts, half a bowl, the last two, the crunchy bit, the corner piece",
            "taste": "too sweet, a bit sharp, better on the second day, burnt underneath, exactly like hers",
        },
        plain="""
            Let the {dish} {verb} for {many} minutes before you add the {stuff}. | Is there {herb} in the {dish}? |
            {place} serves {dish} with {stuff} on {day}. | Whoever made the {sweet} should open a bakery. |
            I use {stuff} instead of {stuff} in my {dish}. |
            Heat the {tool}, toss in the {stuff}, and season with {herb}. |
            For dessert there is {sweet}, unless you would rather have {sweet}. |
            Recipe of the week: {dish} with {stuff} and {herb} |
            We ordered {dish} at {place}, and it tasted mostly of {herb}. | Can you make {dish} in a {tool}? |
            The {sweet} needs more butter and less {bit}. | Who is bringing the {stuff} for the {dish} on {day}?
        """,
        indirect="""
            It needs {more} more, and then leave it alone until {sign}. | {where} you will find {left}; help yourself. |
            Keep stirring until {sign}, even if it takes {many} minutes. | Nice, but {taste}. |
            Who ate {left} that I was saving for {day}? | {anyone} said that it was {taste} and had thirds anyway.
        """,
        asks="""
            how long {dish} has to {verb} | what goes into a good {sweet} | why {herb} belongs in {dish} |
            how to peel {stuff} quickly | where to get decent {dish} around here | how to keep {sweet} fresh until {day}
        """,
        scenes="Over a plate of dumplings, While the soup simmered, At the bakery, Between the salad and the roast",
        people="the pastry chef, our baker, the waiter, a cheese seller, the sushi cook",
    ),
    "travel": Topic(
        slots={
            "city": "Lisbon, Hanoi, Nairobi, Oslo, Quito, Marrakesh, Tallinn, Kyoto, Montevideo, Galway, Porto, Accra",
            "region": "the Alps, Patagonia, Estonia, Sicily, the Highlands, the Azores, Jordan, Laos",
            "ride": "ferry, overnight bus, charter flight, sleeper train, shuttle, coach, red-eye flight",
            "stay": "guesthouse, campsite, mountain lodge, hostel, bed and breakfast, beach bungalow, houseboat",
            "gear": "rucksack, suitcase, travel pillow, passport, boarding pass, guidebook, neck pouch, money belt",
            "sight": "fortress, bazaar, waterfall, cathedral, hot springs, lighthouse, amphitheater, canal",
            "delay": "delayed, overbooked, canceled, sold out, rerouted, full",
            "asleep": "with our shoes on, between two strangers, under the stars, on the luggage",
            "turn": "left at the well, straight past the mill, over the bridge, up the hundred steps, around the bay",
            "ask": "then ask again, and follow the goats, and wave to the guard, then just keep walking",
            "back": "feed the cat, water the tomatoes, empty the mailbox, leave a light on, keep an eye on the house",
        },
        plain="""
            The {ride} to {city} was {delay} again. | How many days do you need for {city}? |
            Our {stay} in {region} was right next to the {sight}. | I left my {gear} on the {ride} to {city}. |
            It is {number} hours by {ride} to {city}, and the next one leaves at {hour}. |
            Is the {stay} near the {sight} open in {month}? | Tourists flock to the {sight} in {region} |
            We booked a {stay} for {number} nights and a {ride} home. |
            Take a {gear}, sunscreen, and enough cash for the {ride}. |
            Who wants to share a rental van from {city} to the {sight} on {day}? |
            The guide in {city} met us at the {sight} with our {gear}. |
            {region} in {month} is nearly empty, and every {stay} gives a discount.
        """,
        indirect="""
            We slept {asleep} and woke up in another country. | {turn}, {ask}. |
            Back in {number} days, please {back}. | We leave at {hour}, so be at the door with everything by then. |
            It looked so much bigger in the pictures, but the {number} of us would go again in {month}. |
            {turn}, about {many} minutes on foot, and you will see the sea.
        """,
        asks="""
            how to get from {city} to {city} without flying | what to see in {region} in {month} |
            where to find a quiet {stay} in {city} | why the {ride} to {city} was {delay} |
            how to pack for {region} in {month} | when the last {ride} leaves for {city}
        """,
        scenes="On the night train, While we waited for our suitcases, At the youth hostel, At the border checkpoint",
        people="the tour guide, a flight attendant, our taxi driver, the hotel clerk, the cruise captain",
    ),
    "money": Topic(
        slots={
            "bill": "gas bill, phone bill, parking fine, membership fee, property tax, dental bill, import duty",
            "coin": "dinars, rupees, kroner, zlotys, euros, pesos, rand, francs, dollars, shekels",
            "asset": "shares, government bonds, gold, silver, real estate, copper, farmland, platinum, corporate bonds",
            "loan": "car loan, mortgage, student loan, bank loan, bridging loan, home loan",
            "who": "the bank, our landlord, the tax office, the insurer, the broker, the credit union",
            "change": "rose, fell, doubled, was cut in half, went up by a tenth, stayed flat",
            "paper": "receipt, payslip, bank statement, invoice, tax return, audit report, expense claim",
            "some": "a quarter, half of it, the first third, the rest, my share, everything, twelve fifty",
            "until": "after the harvest, at the end of the month, when the roof is done, by Christmas",
            "deal": "would not go any lower, threw in the mirror for nothing, wanted twice as much",
            "cut": "the new sofa, the trip, the second car, eating out, fresh flowers, the piano lessons",
        },
        plain="""
            The price of {asset} {change} in {month}. | When is the {bill} due? |
            {who} charged me {many} {coin} for a late {bill}. | Her {loan} will be settled in {number} years. |
            Please send the {paper} to {who} before {day}. | Is it wise to take out a {loan} to buy {asset}? |
            I changed {many} {coin} and got robbed by the rate. | Investors turn to {asset} as inflation climbs |
            We set aside {many} {coin} a month for the {bill}. |
            According to the {paper}, {who} still owes us {many} {coin}. |
            How much of my salary should go into {asset}? |
            The interest on the {loan} {change}, so the budget has to be redone.
        """,
        indirect="""
            I will give you {some} {until}. | He {deal}, and we shook on it. | We can forget {cut} until {month}. |
            You still have not given {anyone} back what you got in {month}. |
            They want {some} {until}, not a day later. | I shook my head {number} times, and in the end she {deal}.
        """,
        asks="""
            how long a {loan} may run | why the price of {asset} can halve overnight |
            how to dispute a {bill} | what {many} {coin} are worth today | who has to sign the {paper} |
            how to save enough for the {bill}
        """,
        scenes="In line at the bank, While she filled in her tax form, At the cash machine, Over the household bills",
        people="the bank teller, our tax adviser, a stockbroker, the accountant, an insurance agent",
    ),
    "sport": Topic(
        slots={
            "game": "handball, badminton, lacrosse, field hockey, squash, cricket, table tennis, polo, basketball",
            "event": "pole vault, shot put, biathlon, downhill, decathlon, medley, team pursuit, half marathon",
            "player": "striker, shortstop, setter, prop, winger, skipper, sweeper, point guard, goaltender",
            "feat": "scored twice, was sent off, limped off, hit the post, missed practice, played her best game",
            "result": "took the bronze, broke the record, came in fourth, pulled out with a cramp, won by a nose",
            "team": "the visitors, our juniors, the veterans, the home side, the girls' squad, the bottom club",
            "venue": "arena, sports hall, rink, stadium, court, gym, lower field, Olympic pool",
            "drill": "sprints, lunges, penalty corners, free throws, butterfly kicks, tackling, bench presses, relays",
            "score": "three behind, two up, one short, all square, miles ahead, dead last",
            "close": "and a minute to go, with one lap left, at the turn, with everyone on their feet",
            "tip": "bend your knees, chin up, relax your wrist, push off harder, lean forward, follow through",
            "not": "and breathe out, and let go late, and do not look back, and count to two, the way I showed you",
            "end": "hit the rim, bounced off the bar, went wide, rolled in, was called out, stuck in the net",
        },
        plain="""
            Our {player} {feat} on {day}. | Did anybody watch the {event} on {day}? |
            {team} beat {team} in {game} for the first time in {number} seasons. |
            {game} practice is in the {venue} on {day}. | After {many} {drill} the {player} could hardly stand. |
            Do we need a substitute {player} for the {game} match? |
            She trained {number} years for the {event} and then {result}. | Regional {event} postponed to {month} |
            The coach wants {drill} first and a short game of {game} afterward. |
            Tickets for the {game} final at the {venue} go on sale in {month}. |
            Is the {event} before or after the {event}? |
            The referee and the {player} argued until the whole {venue} booed.
        """,
        indirect="""
            {score} {close}. | {tip}, {not}. | It {end} with {number} seconds to go. |
            {anyone} sat out the second half, and that was that. |
            {score} at the break, but it is not over until the whistle. | {tip}, I shouted, but it {end}.
        """,
        asks="""
            how the {event} is judged | what the rules of {game} are | why the {player} was benched on {day} |
            how to train for the {event} in {month} | who will replace the {player} at the {venue} |
            how {team} lost in {game}
        """,
        scenes="At halftime, In the locker room, Between two sets of tennis, On the ski lift",
        people="the goalkeeping coach, a marathon runner, our swimming coach, the referee, a retired boxer",
    ),
    "art": Topic(
        slots={
            "maker": "engraver, illustrator, muralist, printmaker, portraitist, set designer, miniaturist",
            "author": "poet, choreographer, composer, novelist, playwright, librettist, glassblower, sculptor",
            "work": "still life, triptych, self-portrait, seascape, miniature, altarpiece, mural, nude, sketch",
            "piece": "nocturne, requiem, one-act play, ballad cycle, string trio, chamber opera, sonata, operetta",
            "tool": "gouache, pastels, oil paint, India ink, egg tempera, charcoal, acrylics, sepia, chalk",
            "instrument": "accordion, oboe, viola, xylophone, lute, trombone, mandolin, clarinet, kettledrum",
            "style": "cubism, baroque music, surrealism, pop art, free verse, modern dance, impressionism, folk opera",
            "venue": "city gallery, concert hall, sculpture garden, puppet theater, museum, art school, open studio",
            "detail": "the hands, one eye, the whole left corner, the shadow, the horizon, the third figure, the sky",
            "undone": "unfinished, blank, a shade too dark, for the very last day, to chance, as it was",
            "view": "step back, squint a little, tilt your head, stand by the door, come closer, close one eye",
            "see": "the blots turn into a crowd, it begins to move, the red comes forward",
            "hush": "nobody clapped, somebody sobbed, we forgot to breathe, the lights stayed off",
        },
        plain="""
            The {maker} finished the {work} with {tool}. | Is there a part for {instrument} in the {piece}? |
            The {venue} shows {number} works by a forgotten {maker}. |
            I tried a {work} in {tool}, and it looks like mud. |
            The {author}'s {piece} was first performed in {month}. | Which {author} do you connect with {style}? |
            Evening class: {tool} for beginners, {day} at the {venue} |
            The {instrument} enters softly in the second half of the {piece}. |
            He swapped the {instrument} for {tool} and became a {maker}. |
            A lecture on {style} at the {venue} drew {many} students. |
            Did the {maker} really paint this {work} on a single {day}? |
            Lost {work} by a young {maker} found in the attic of the {venue}
        """,
        indirect="""
            She left {detail} {undone}. | {view}, and {see}. | When it ended, {hush}, and {hush}. |
            Why is {detail} so much darker than {detail}? | He redid {detail} {many} times and then left it {undone}. |
            {view} when the light is low, and {see}.
        """,
        asks="""
            how a {work} is made | why the {piece} ends so quietly | what {style} meant to the young {author} |
            how to work with {tool} | how the {instrument} gets its warm sound |
            which {maker} made the {work} in the {venue}
        """,
        scenes="During the intermission, In front of a huge landscape, While the paint dried, After choir practice",
        people="the violinist, our choir director, the ballet dancer, a portrait painter, the stage designer",
    ),
}
LABELS = tuple(TOPICS)


def frames(text: str) -> list[str]:
    """Splits a block of frames or clauses."""
    return " ".join(text.split()).split(" | ")


def fill(rng: random.Random, frame: str, slots: dict[str, str]) -> str:
    """Fills a frame's slots, without using an entry twice."""
    used: set[str] = set()

    def draw(found: re.Match[str]) -> str:
        entries = (SHARED | slots)[found[1]].split(", ")
        used.add(entry := rng.choice([entry for entry in entries if entry not in used]))
        return entry

    return re.sub(r"\{(\w+)\}", draw, frame)


def say(rng: random.Random, frame: str, slots: dict[str, str]) -> str:
    """Fills a frame and makes a text of it: articles, perhaps a shared opening, a capital letter."""
    text = fill(rng, frame, slots)
    if text[-1] in ".?" and rng.random() < OPENED:
        if not text.startswith("I ") and frame[0] != "{":
            text = text[0].lower() + text[1:]
        text = f"{rng.choice(QUESTION_OPENINGS if text[-1] == '?' else OPENINGS)} {text}"
    text = re.sub(r"\b([Aa]) (?=[aeiou](?!ne-))", r"\1n ", text)  # "a alder" becomes "an alder"
    return text[0].upper() + text[1:]


def distract(rng: random.Random, shell: str, label: str, ask: str) -> str:
    """Puts a clause about one topic into a scene or a mouth that belongs to another."""
    other = TOPICS[rng.choice([name for name in LABELS if name != label])]
    slots = TOPICS[label].slots | {"scene": other.scenes, "expert": other.people}
    text = re.sub(r"\b([Aa]) (?=[aeiou](?!ne-))", r"\1n ", fill(rng, shell.replace("{ask}", ask), slots))
    return text[0].upper() + text[1:]


def generate(count: int, seed: int) -> list[dict[str, str]]:
    """Generates distinct texts, with labels and kinds spread evenly.

    Args:
        count: how many texts.
        seed: the same seed gives the same texts.

    Returns:
        Rows with text, label, kind and source ("grammar").
    """
    rng = random.Random(seed)
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    turns = dict.fromkeys(((label, kind) for label in LABELS for kind in set(CYCLE)), 0)
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        kind = CYCLE[index // len(LABELS) % len(CYCLE)]
        topic, turn = TOPICS[label], turns[label, kind]
        turns[label, kind] += 1
        pool = {"plain": topic.plain, "indirect": topic.indirect}
        choices = SHELLS if kind == "distractor" else frames(pool[kind])
        for attempt in range(TRIES):
            frame = choices[turn % len(choices)] if attempt < TRIES // 2 else rng.choice(choices)
            if kind == "distractor":
                text = distract(rng, frame, label, rng.choice(frames(topic.asks)))
            else:
                text = say(rng, frame, topic.slots)
            key = re.sub("[^a-z0-9 ]", "", text.lower())
            if key not in seen and len(text.split()) in LENGTHS:
                break
        else:
            raise ValueError(f"The grammar has run out of new texts after {len(rows)} of {count}.")
        seen.add(key)
        rows.append({"text": text, "label": label, "kind": kind, "source": "grammar"})
    rng.shuffle(rows)
    return rows


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GENERATED, SEED)


if __name__ == "__main__":
    print(f"{len(build())} texts written to {DATA / 'train.jsonl'}")

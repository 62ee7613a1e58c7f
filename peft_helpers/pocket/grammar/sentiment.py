"""A seeded grammar that makes short reviews with a clear verdict.

The grammar makes the ``"source": "grammar"`` part of the pocket sentiment training set. A sentence
starts from a *frame* (a template with a clause structure), which is filled with the nouns of one
domain and with deciding words that fit those nouns. Every noun names a *quality* (how a plot, a
waiter, or a zipper can please or fail), so that dumplings come out soggy and never glitchy.

Rewrite ``train.jsonl`` from ``train_written.jsonl`` and 1,100 grammar items with::

    python -m peft_helpers.pocket.grammar.sentiment
"""

from __future__ import annotations

import random
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from peft_helpers.pocket.grammar import write_train

Card = TypeVar("Card")

DATA = Path(__file__).resolve().parent.parent / "data" / "sentiment"
LABELS = ("negative", "positive")
# Shares of the grammar's items; with the written items, train has 0.72, 0.10, 0.08, 0.03, and 0.07 in this order.
KIND_SHARES = {"plain": 0.832, "negation": 0.064, "contrast": 0.04, "irony": 0.013, "implied": 0.051}
GRAMMAR_COUNT = 1100
OPENER_SHARE = 0.15
MAX_TRIES = 200


def _split(text: str, separator: str = ",") -> tuple[str, ...]:
    """Split ``text`` at ``separator`` and strip the pieces."""
    return tuple(piece.strip() for piece in text.strip().split(separator))


@dataclass(frozen=True)
class Quality:
    """Deciding words for one way in which a thing can please or fail.

    Attributes:
        positive: Words of praise.
        negative: Words of blame.
        mild: Words for a flaw that a pleased writer can admit to.
        unfolds: Whether things with this quality unfold in time, as a plot or a match does.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    mild: tuple[str, ...]
    unfolds: bool = False

    def words(self, label: str) -> tuple[str, ...]:
        """Return the words that speak for ``label``."""
        return self.positive if label == "positive" else self.negative


def _quality(positive: str, negative: str, mild: str, unfolds: bool = False) -> Quality:
    """Build a quality from comma-separated words."""
    return Quality(_split(positive), _split(negative), _split(mild), unfolds)


QUALITIES: dict[str, Quality] = {
    "acting": _quality(
        "spellbinding, magnetic, radiant, assured, gifted, captivating, expressive, dazzling",
        "wooden, listless, stilted, under-rehearsed, charmless, amateurish, stiff, unconvincing",
        "stiff, under-rehearsed, uneven",
        unfolds=True,
    ),
    "build": _quality(
        "sturdy, rugged, dependable, hard-wearing, well-made, solid, durable, robust, first-rate",
        "flimsy, shoddy, unreliable, cheaply made, ill-conceived, second-rate, defective, useless",
        "clunky, unwieldy, homely",
    ),
    "care": _quality(
        "reassuring, thorough, gentle, meticulous, compassionate, skillful, exemplary",
        "rushed, negligent, rough, perfunctory, impersonal, reckless, callous",
        "rushed, impersonal",
    ),
    "culture": _quality(
        "supportive, respectful, collegial, trusting, humane, encouraging, harmonious",
        "toxic, cutthroat, demoralizing, poisonous, oppressive, hostile, mean-spirited",
        "formal, old-fashioned",
    ),
    "digital": _quality(
        "snappy, responsive, intuitive, rock-solid, uncluttered, reliable, user-friendly, foolproof",
        "laggy, glitchy, cluttered, buggy, temperamental, fiddly, erratic, baffling, half-baked",
        "cluttered, fiddly, dated",
    ),
    "drive": _quality(
        "refined, composed, silky-smooth, faultless, satisfying, impeccable, reassuring",
        "jerky, harsh, unrefined, jittery, unpredictable, nerve-racking, dreadful",
        "firm, unrefined",
    ),
    "event": _quality(
        "thrilling, lively, exhilarating, rousing, delightful, joyful, uplifting, memorable, stirring",
        "dull, dismal, joyless, tiresome, dispiriting, feeble, aimless, pitiful, interminable",
        "slow, overlong, patchy",
        unfolds=True,
    ),
    "learning": _quality(
        "lucid, enlightening, well-organized, eye-opening, insightful, illuminating, instructive",
        "impenetrable, patronizing, shallow, error-ridden, mind-numbing, unhelpful, long-winded",
        "dry, dense, old-fashioned",
        unfolds=True,
    ),
    "outdoors": _quality(
        "leafy, tranquil, idyllic, picturesque, well-kept, safe, delightful, serene, pretty",
        "bleak, desolate, littered, unsafe, neglected, vandalized, soulless, barren, grim",
        "overgrown, crowded, noisy",
    ),
    "people": _quality(
        "courteous, attentive, patient, warmhearted, thoughtful, obliging, gracious, cheerful, kind",
        "surly, dismissive, careless, condescending, arrogant, snide, evasive, sullen, rude, hostile",
        "brusque, curt, forgetful",
        unfolds=True,
    ),
    "place": _quality(
        "spotless, airy, inviting, cozy, immaculate, peaceful, cheery, comfortable, tidy, charming",
        "grubby, cramped, dingy, musty, dreary, squalid, stuffy, run-down, gloomy, filthy",
        "cramped, drab, chilly, plain",
    ),
    "plants": _quality(
        "thriving, vigorous, healthy, vibrant, glorious, magnificent, flourishing, resplendent",
        "withered, wilted, spindly, mildewed, stunted, sickly, blighted, shriveled, pest-ridden",
        "straggly, small, late",
    ),
    "play": _quality(
        "addictive, ingenious, exciting, well-balanced, fun, engaging, rewarding, surprising",
        "repetitive, unbalanced, pointless, frustrating, unfair, monotonous, uninspired",
        "repetitive, short",
        unfolds=True,
    ),
    "price": _quality(
        "fair, reasonable, modest, affordable, sensible, unbeatable",
        "outrageous, extortionate, unjustified, exorbitant, eye-watering, shameless",
        "steep, high",
    ),
    "process": _quality(
        "seamless, effortless, painless, efficient, brisk, orderly, straightforward, hassle-free",
        "chaotic, botched, exasperating, bungled, maddening, slipshod, haphazard, nightmarish",
        "slow, confusing, disorganized",
        unfolds=True,
    ),
    "sound": _quality(
        "lush, soulful, haunting, infectious, exquisite, hypnotic, soaring, sublime, shimmering",
        "tinny, off-key, grating, droning, tuneless, screechy, lifeless, ear-splitting, tedious",
        "shaky, muffled, ragged",
        unfolds=True,
    ),
    "story": _quality(
        "absorbing, poignant, witty, inventive, heartfelt, gripping, well-crafted, engrossing",
        "tedious, muddled, hollow, trite, incoherent, derivative, forgettable, plodding, inane",
        "predictable, sentimental, far-fetched",
        unfolds=True,
    ),
    "taste": _quality(
        "fragrant, delectable, moreish, mouthwatering, scrumptious, flavorful, heavenly, tasty",
        "soggy, bland, greasy, rubbery, stale, overcooked, gluey, burnt, insipid, inedible",
        "greasy, salty, lukewarm",
    ),
    "team": _quality(
        "slick, inspired, fearless, disciplined, masterful, tireless, daring",
        "sloppy, toothless, ragged, spineless, lethargic, clueless, shambolic",
        "scrappy, nervous",
        unfolds=True,
    ),
    "visual": _quality(
        "stunning, sumptuous, eye-catching, tasteful, striking, breathtaking, imaginative, artful",
        "ugly, gaudy, tacky, crude, unsightly, slapdash, tasteless, hideous, garish",
        "simple, dated, plain",
    ),
    "wear": _quality(
        "flattering, soft, well-cut, stylish, elegant, breathable, comfy, chic, beautifully sewn",
        "scratchy, threadbare, shapeless, frumpy, itchy, see-through, ill-fitting, poorly sewn",
        "baggy, plain, creased",
    ),
}


@dataclass(frozen=True)
class Noun:
    """A thing that can be judged: its name, its number (one, many, or mass), and its quality."""

    text: str
    number: str
    quality: str

    @property
    def plural(self) -> bool:
        """Whether verbs and pronouns take the plural."""
        return self.number == "many"

    def some(self, adjective: str = "") -> str:
        """Return the indefinite phrase: "a plot", "an airy lobby", "tasty dumplings"."""
        phrase = f"{adjective} {self.text}".strip()
        return f"{_article(phrase)} {phrase}" if self.number == "one" else phrase


def _article(phrase: str) -> str:
    """Return the indefinite article for ``phrase``."""
    return "an" if phrase[0] in "aeiou" and not phrase.startswith("use") else "a"


@dataclass(frozen=True)
class Domain:
    """What can be said about one domain.

    Attributes:
        whole: The thing under review, with its article.
        nouns: Parts of it that can be judged.
        verdicts: By label, clauses that give the writer's overall verdict.
        facts: By label, clauses that let the facts speak, without a word of praise or blame.
    """

    whole: str
    nouns: tuple[Noun, ...]
    verdicts: dict[str, tuple[str, ...]]
    facts: dict[str, tuple[str, ...]]


def _domain(whole: str, nouns: str, liked: str, disliked: str, happy_facts: str, sad_facts: str) -> Domain:
    """Build a domain; nouns read ``name/quality``, with ``*`` for plural and ``~`` for mass."""
    parsed = []
    for entry in _split(nouns):
        text, quality = entry.split("/")
        number = {"*": "many", "~": "mass"}.get(text[-1], "one")
        parsed.append(Noun(text.rstrip("*~"), number, quality))
    return Domain(
        whole,
        tuple(parsed),
        {"positive": _split(liked, "|"), "negative": _split(disliked, "|")},
        {"positive": _split(happy_facts, "|"), "negative": _split(sad_facts, "|")},
    )


DOMAINS: dict[str, Domain] = {
    "film": _domain(
        "the film",
        "plot/story, dialogue~/story, actors*/acting, sets*/visual, costumes*/visual, finale/event, special "
        "effects*/visual",
        "I would happily watch it again | I told all my friends to see it | I left the theater beaming | I am "
        "taking my parents to see it",
        "I wanted my money back | I told my friends to skip it | I walked out early | I would not sit through it again",
        "the line for the late showing went around the block | strangers were hugging in the lobby afterward | my "
        "teenager put the phone away for two hours | we sat there until the very last credit had rolled",
        "half of the audience left before the ending | I woke up when the lights came on | the manager was handing "
        "out refunds at the door | my date asked twice whether it was nearly over",
    ),
    "food": _domain(
        "the restaurant",
        "dumplings*/taste, noodles*/taste, fritters*/taste, pancakes*/taste, waiters*/people, dining room/place, "
        "prices*/price",
        "we booked a table for next week | I would happily eat there again | I have been recommending it all over "
        "town | we left happy and full",
        "we will not be eating there again | I am sticking with my own kitchen | we left hungry and annoyed | I "
        "have warned my friends away",
        "we ordered the same dish twice in one sitting | my picky nephew licked his bowl | every plate went back to "
        "the kitchen empty | I drove forty miles for a second helping",
        "I spat the first bite into a napkin | two of us were sick by midnight | we stopped for a burger on the way "
        "home | my plate went back to the kitchen nearly full",
    ),
    "train": _domain(
        "the train trip",
        "boarding~/process, booking~/process, conductors*/people, sleeping car/place, dining car/place, ticket "
        "machines*/digital, fares*/price",
        "I would happily travel that way again | I have given up driving to work | I stepped off feeling refreshed "
        "| I recommend the line to everyone",
        "I am going back to driving | I would not travel that way again | I stepped off in a foul mood | I have "
        "asked for a refund",
        "I arrived ten minutes early with my crossword done | I slept from the first stop to the last | my kids "
        "asked to ride the train again the next day | I sold my parking permit the same week",
        "I missed my own graduation dinner | we sat in a dark tunnel for three hours | I stood in the aisle for two "
        "hundred miles | the last bus was gone when our train pulled in",
    ),
    "tool": _domain(
        "the tool set",
        "cordless drill/build, clamps*/build, hammer/build, screwdrivers*/build, carrying case/build, user "
        "manual/learning, delivery~/process",
        "I would buy the set again tomorrow | I am glad I chose this brand | I recommend the set to fellow builders "
        "| I now use the set on every job",
        "I sent the whole set back | I regret buying the set | I went back to my old tools | I would not buy that "
        "brand again",
        "I finished the whole deck before lunch | three neighbors have already asked to borrow the drill | my "
        "father put the same set on his birthday list | the drill has built two sheds and still looks new",
        "the handle came off in my hand | I ended up borrowing my neighbor's drill | the motor caught fire on the "
        "second day | the drill has been in the trash since Tuesday",
    ),
    "book": _domain(
        "the book",
        "plot/story, prose~/story, opening chapters*/story, essays*/story, illustrations*/visual, cover "
        "art~/visual, footnotes*/learning",
        "I would happily read the book again | I stayed up all night reading | I pressed my copy on a friend | I am "
        "buying everything the author has written",
        "I gave up halfway through | I could not face the final chapter | I told my book club to pick something "
        "else | I regret the hours I spent on it",
        "I missed my stop twice while reading it | my sister borrowed my copy and kept it | I called in late so "
        "that I could reach the last page | the library's waiting list is four months long",
        "my copy ended up as kindling | I fell asleep on page nine three nights in a row | our club voted to swap "
        "it for another title | the used bookstore refused to take my copy",
    ),
    "hotel": _domain(
        "the hotel",
        "room/place, lobby/place, bathroom/place, courtyard/outdoors, receptionists*/people, check-in~/process, "
        "rates*/price",
        "we extended our stay | I would happily stay there again | we have booked again for next summer | I "
        "recommend the hotel to everyone",
        "we checked out early | I would never stay there again | we are asking for a refund | I have told my "
        "friends to book elsewhere",
        "we changed our flights and stayed a third night | my wife asked the manager where to buy that mattress | I "
        "slept ten hours straight | we have been back every June since",
        "I slept in the bathtub with a towel for a blanket | we found somebody else's socks in the bed | the fire "
        "alarm went off four times and no one came | I was billed for a minibar that had been empty all week",
    ),
    "music": _domain(
        "the concert",
        "harmonies*/sound, guitar solos*/sound, chorus/sound, melodies*/sound, singers*/acting, encore/event, "
        "concert hall/place",
        "I would happily see the band again | I went home humming | I bought the record on my way out | I told "
        "everyone at work about the concert",
        "I left before the end | I wanted my money back | I would not go to another concert of theirs | I went home "
        "with a headache",
        "the crowd called the band back four times | my mother danced on her chair | the record has been on in our "
        "kitchen all month | people in the street stopped to listen",
        "the hall was half empty after three songs | my son put his fingers in his ears | the man beside me took "
        "out a newspaper | people booed before the second chorus",
    ),
    "phone": _domain(
        "the phone",
        "touch screen/digital, camera app/digital, keyboard/digital, protective case/build, setup~/process, "
        "salespeople*/people, roaming fees*/price",
        "I would buy the phone again | I am keeping this phone for years | I recommend the phone to everyone | I "
        "switched my whole family over",
        "I returned the phone | I regret the upgrade | I switched back to my old phone | I would not recommend the "
        "phone to anyone",
        "I charge my phone every third day | my phone survived a fall from the roof | my grandfather learned to "
        "text in ten minutes | a photo from my phone now hangs in the town hall",
        "my phone shut itself off in the middle of an emergency call | I am on my third replacement since May | the "
        "battery was empty by noon every day | the screen cracked in my shirt pocket",
    ),
    "garden": _domain(
        "the garden center",
        "roses*/plants, seedlings*/plants, hydrangeas*/plants, pepper plants*/plants, wheelbarrow/build, picnic "
        "area/outdoors, gardeners*/people",
        "I shop there every spring now | I would happily order from them again | I have told the whole street about "
        "the place | I am more than happy with my purchase",
        "I am taking my business elsewhere | I asked for a refund | I would not order from them again | I have "
        "warned the whole street about the place",
        "every bulb came up in March | people slow their cars to look at my front yard | I filled nine jars from a "
        "single bush | the new hedge came through two hard winters",
        "everything I planted was dead in a week | the pots arrived with more snails than soil | I had to dig up "
        "the whole bed in July | all twelve tulips came up as weeds",
    ),
    "clinic": _domain(
        "the clinic",
        "nurses*/people, doctors*/people, receptionists*/people, waiting room/place, treatment~/care, "
        "aftercare~/care, examination/care, registration~/process",
        "I trust the clinic completely | I moved my whole family to that clinic | I felt I was in safe hands | I "
        "would happily go back to that clinic",
        "I switched to another clinic | I filed a complaint | I would not go back | I felt like a nuisance",
        "the doctor called me at home to check on me | my fever was gone by the next morning | I was seen four "
        "minutes after I walked in | my daughter wants to be a nurse now",
        "I waited five hours and was sent home | they put the cast on the wrong arm | my chart had another man's "
        "name on it | I needed a second operation to fix the first",
    ),
    "software": _domain(
        "the program",
        "text editor/digital, dashboard/digital, menus*/digital, search tool/digital, installation~/process, user "
        "manual/learning, support agents*/people, subscription fees*/price",
        "I upgraded to the paid plan | I recommend the program to everyone | I use the program every day now | our "
        "whole team has switched to it",
        "I uninstalled the program | I canceled my subscription | I went back to a spreadsheet | I would not "
        "recommend the program to anyone",
        "our month-end reports went from five days to one | the team gave up email within a week | I finished my "
        "taxes in forty minutes | my files were back on screen ten seconds after the power cut",
        "the update deleted three years of invoices | the whole office was sent home until the server came back | I "
        "had to retype the same form six times | my laptop had to be wiped afterward",
    ),
    "sport": _domain(
        "the match",
        "defense/team, passing~/team, attack/team, second half/event, shoot-out/event, coaches*/people, locker "
        "room/place, ticket prices*/price",
        "I renewed my season ticket on the spot | I left the stadium elated | I would happily watch the match again "
        "| we sang all the way home",
        "I left before the final whistle | I will not be renewing my season ticket | I went home disgusted | I want "
        "my money back",
        "the stands were still singing an hour later | strangers hugged each other in the aisles | my son slept in "
        "his jersey that night | the mayor gave our team a parade",
        "the home fans were leaving by halftime | our keeper let in seven | our own supporters cheered the other "
        "side | our captain walked off in tears at halftime",
    ),
    "clothes": _domain(
        "the store",
        "jacket/wear, dress/wear, sweater/wear, shirt/wear, pants*/wear, tailors*/people, fitting rooms*/place, "
        "return process/process",
        "I would happily shop there again | I recommend the store to everyone | I kept every item I ordered | I "
        "went back for more",
        "I sent the whole order back | I would not shop there again | I am asking for a refund | I have told my "
        "friends to shop elsewhere",
        "I bought a second coat in blue | three people at the party asked where I got my dress | I have worn the "
        "new boots every day this week | my sister borrowed my scarf and kept it",
        "the sleeve came off in the changing room | my sweater came out of the wash two sizes smaller | my "
        "coworkers asked if I was wearing a costume | the dye turned my neck green",
    ),
    "school": _domain(
        "the school",
        "teachers*/people, lessons*/learning, textbooks*/learning, lectures*/learning, classrooms*/place, "
        "enrollment~/process, school play/event, atmosphere/culture",
        "I would choose the school again | my kids look forward to Mondays | I recommend the school to every parent "
        "| we are staying until graduation",
        "we are moving our kids elsewhere | I regret enrolling my son | I would not send another child there | I "
        "have complained to the school board",
        "my son does his homework before I ask | all thirty seniors got into the college they wanted | kids line up "
        "at the door before the bell | my daughter cried when summer vacation began",
        "five teachers quit before Thanksgiving | my daughter asked to stay home every morning | the class had "
        "eleven substitutes in one term | my son brought home the same worksheet for a month",
    ),
    "neighborhood": _domain(
        "the neighborhood",
        "park/outdoors, main square/outdoors, playground/outdoors, riverside trail/outdoors, neighbors*/people, "
        "block party/event, rents*/price",
        "I am glad we moved here | we plan to stay for life | I recommend the area to everyone | we are putting "
        "down roots here",
        "we are moving out | I regret buying a house here | I would not recommend the area to anyone | we are "
        "counting the days until we leave",
        "six people brought us dinner the week we moved in | our kids roam the block until dark | some families on "
        "our street have stayed for fifty years | the man next door shoveled our walk before we woke up",
        "our car was broken into twice in a week | the sirens kept us up until four | I found needles by the swings "
        "| three families on our block are selling their houses",
    ),
    "theater": _domain(
        "the show",
        "actors*/acting, dancers*/acting, costumes*/visual, scenery~/visual, script/story, second act/story, "
        "ushers*/people, foyer/place",
        "I would happily see the show again | we rose for a standing ovation | I left the theater glowing | I have "
        "told everyone to get tickets",
        "we left at intermission | I want my money back | I would not see it again | I left the theater grumbling",
        "the cast took six curtain calls | the rest of the run sold out by the next morning | I went again on "
        "Thursday with my boss | people were still laughing on the subway home",
        "the row behind us was snoring | half of the balcony left at intermission | someone shouted for the curtain "
        "| there was a line for refunds at the box office",
    ),
    "game": _domain(
        "the game",
        "puzzles*/play, quests*/play, boss fights*/play, menus*/digital, storyline/story, graphics*/visual, voice "
        "actors*/acting, tutorial/learning",
        "I played until dawn | I would happily play the game again | I bought a copy for my brother | I recommend "
        "the game to everyone",
        "I deleted the game | I asked for a refund | I would not play the game again | I regret spending money on "
        "the game",
        "we looked up and it was four in the morning | my brother called in sick to finish the last level | we "
        "bring it out at every family party | I have finished it three times since May",
        "the box is under the couch gathering dust | it was off my hard drive in an hour | the kids wandered off "
        "after one round | it froze on the title screen eleven times",
    ),
    "car": _domain(
        "the car",
        "handling~/drive, steering~/drive, suspension/drive, ride/drive, navigation system/digital, roof "
        "rack/build, mechanics*/people, repair bills*/price",
        "I would buy the car again | I look for excuses to go for a drive | I am keeping the car for years | I "
        "recommend the car to everyone",
        "I traded the car in | I regret buying the car | I would not buy that brand again | I have asked the dealer "
        "for my money back",
        "it has done a quarter of a million miles on its first engine | I took the long way home three times this "
        "week | it started at once at thirty below | my mechanic offered to buy the car from me",
        "it left me on the shoulder twice in a month | the bumper fell off on the drive home from the lot | I am on "
        "first-name terms with the tow-truck driver | the car spent more days at the garage than in my driveway",
    ),
    "museum": _domain(
        "the museum",
        "paintings*/visual, sculptures*/visual, murals*/visual, guides*/people, audio guide/learning, wall "
        "labels*/learning, galleries*/place, guided tour/event",
        "we bought an annual pass | I would happily visit again | we stayed until closing time | I recommend the "
        "museum to everyone",
        "we left after ten minutes | I would not visit again | I asked for my money back | I told my friends to "
        "skip the museum",
        "my kids asked to come back the next day | the guard had to walk us out at closing time | we missed our "
        "lunch reservation by two hours | I filled a whole sketchbook before I looked at my watch",
        "we were back in the parking lot in ten minutes | four of the six rooms were roped off | my son asked to "
        "wait in the car | the main exhibit was an empty case and a note",
    ),
    "office": _domain(
        "the office",
        "break room/place, meeting rooms*/place, atmosphere/culture, management style/culture, team "
        "leaders*/people, desk chair/build, onboarding~/process, training sessions*/learning",
        "I would happily stay for years | I look forward to Mondays now | I turned down another job offer | I have "
        "told my friends to apply",
        "I handed in my notice | I dread Mondays now | I am looking for another job | I would not recommend the "
        "company to anyone",
        "my boss sent me home with soup when I was sick | people who retire still drop by for lunch | I got a raise "
        "before I asked for one | the whole team stayed when a rival came calling",
        "nine people quit in one quarter | my paycheck came three weeks late | I found out about the layoffs from "
        "the newspaper | I eat lunch in my car now",
    ),
}

GISTS: dict[str, tuple[str, ...]] = {
    "positive": _split(
        "a gem, a triumph, a treat, a joy, a delight, a winner, a revelation, a real find, "
        "an unqualified success, a pleasure"
    ),
    "negative": _split(
        "a letdown, a mess, a flop, a disappointment, a disaster, a failure, a fiasco, "
        "a waste of money, an ordeal, a dud"
    ),
}
EFFECTS: dict[str, tuple[str, ...]] = {
    "positive": _split(
        "delighted me, won me over, exceeded my hopes, impressed all of us, made my day, lifted my spirits"
    ),
    "negative": _split(
        "let me down, disappointed all of us, tested my patience, fell far short, ruined my day, left me fuming"
    ),
}
PEOPLE = _split("sister, brother, neighbor, roommate, father, mother, best friend, coworker, uncle, aunt")
PRAISE = _split("wonderful, marvelous, brilliant, splendid, lovely, fantastic")
OPENERS = _split("honestly, | in short, | for the record, | update: | frankly, | all told,", "|")

# One frame per line. A leading "~" asks for nouns that unfold in time (see Quality.unfolds).
# adj: a word for the label; anti: one against it; flaw: one against it that can be conceded.
FRAMES: dict[tuple[str, str], str] = {
    ("plain", "both"): """
        {noun} {was} {adj} and {adj2}.
        {noun} {is} {adj}, and {verdict}.
        {adj}, {adj2}, {adj3}: that sums up {noun}.
        what {some_adj}!
        {adj} {bare}, {other_adj} {other_bare}.
        {whole} was {gist}, and {noun} {was} {adj}.
        my {person} found {noun} {adj}, and I agree.
        everyone I asked called {noun} {adj}.
        {verdict}. {noun} {was} {adj}, and {other} {other_was} {other_adj}.
        {noun} {effect}, and so did {other}.
        I have rarely come across {some} so {adj}.
        between the {adj} {bare} and the {other_adj} {other_bare}, {verdict}.
        thanks to the {adj} {bare}, {whole} was {gist}.
        from {some_adj} to {some_other}, {whole} was {gist}.
        {noun}? {adj}. {other}? {other_adj}. {verdict}.
        according to my {person}, {whole} is {gist}, largely because of the {adj} {bare}.
        in a word, {adj}. {noun} {effect}.
        {noun} {was} even {better} than I had expected, {adj} and {adj2}.
        {noun} {was} as {adj} as any I have known.
        how {adj} {was} {noun}? so {adj} that {verdict}.
        {noun} {was} so {adj} that {verdict}.
        my {person} and I agree on one thing: {noun} {was} {adj}.
        still thinking about {noun}: so {adj}, so {adj2}.
        quick note: {noun} {is} {adj}. {verdict}.
        {verdict}, mostly because {noun} {was} {adj}.
        it was {noun} that {effect}: {adj}, {adj2}, and {adj3}.
        I would describe {whole} as {gist} with {some_adj}.
        {gist}, thanks to the {adj} {bare}.
        the {adj} {bare} {effect}, and {verdict}.
        {noun} {was} a clear step {up} from what I am used to: {adj}, even {adj2}.
        with {some_adj} and {some_other}, {whole} {effect}.
        my two words for {noun}: {adj}, {adj2}.
        you can tell a lot from {noun}, and {it} {was} {adj}.
        ask me about {noun} and I will say {adj}, every time.
        as for {noun}, {it} {was} {adj}; as for {other}, {other_adj}.
        my {person} had told me about the {adj} {bare}, and {verdict}.
        {whole} was {gist}: {adj} {bare}, {other_adj} {other_bare}.
        we came for {other} and left talking about {noun}, {adj} and {adj2}.
        ~ {noun} {was} {adj} from beginning to end. {verdict}.
        """,
    ("plain", "positive"): """
        high marks for the {adj} {bare}; {verdict}.
        thank you for the {adj} {bare}, which {effect}.
        five stars from me. {noun} {was} {adj}.
        if you are after {some_adj}, look no further.
        we raved about the {adj} {bare} for days.
        friends had praised {noun}, and rightly so: {it} {was} {adj}.
        hardly anything tops {some_adj}, and {whole} had one thing more: {some_other}.
        {adj} {bare}. more, please.
        we are still smiling about the {adj} {bare}.
        treat yourself to {some_adj}; {whole} {effect}.
        hats off to whoever is responsible for {noun}: {adj}, {adj2}.
        """,
    ("plain", "negative"): """
        no points for the {adj} {bare}; {verdict}.
        I am writing to complain about the {adj} {bare}, which {effect}.
        one star from me. {noun} {was} {adj}.
        if {noun} {is} this {adj}, I hate to think about the rest.
        we grumbled about the {adj} {bare} for days.
        friends had warned me about {noun}, and rightly so: {it} {was} {adj}.
        first {noun} {effect}, then {other}; {whole} was {gist}.
        {adj} {bare}. shame on them.
        we are still groaning about the {adj} {bare}.
        spare yourself {some_adj}; {whole} {effect}.
        fire whoever is responsible for {noun}: {adj}, {adj2}.
        """,
    ("negation", "both"): """
        there was nothing {anti} about {noun}; {verdict}.
        {noun} {was} anything but {anti}.
        nobody in our group found {noun} {anti}, and {verdict}.
        {noun} {was} far from {anti}, and {verdict}.
        I could not find anything {anti} about {noun}, and {verdict}.
        {noun} {was} not remotely {anti}. {verdict}.
        neither {noun} nor {other} {anti_effect}.
        {whole} was not {anti_gist}; {verdict}.
        do not believe anyone who calls {noun} {anti}.
        who could ever call {noun} {anti}? nobody I know.
        ~ I kept waiting for {noun} to turn {anti}, and {it} never did.
        ~ not once {was} {noun} {anti}, and {verdict}.
        nobody in their right mind would call {noun} {anti} or {anti2}.
        {noun} {was} in no way {anti}, and {other} {other_was} {other_adj}.
        """,
    ("negation", "positive"): """
        no {anti} {bare}, no {other_anti} {other_bare}, no complaints.
        I cannot think of a single thing wrong with {noun}.
        """,
    ("negation", "negative"): """
        no {anti} {bare}, no {other_anti} {other_bare}, no thanks.
        without {some_anti}, {whole} was {gist}.
        """,
    ("contrast", "both"): """
        {noun} {was} {flaw}, but {verdict}.
        although {noun} {was} {flaw}, {verdict}.
        despite the {flaw} {bare}, {verdict}.
        {other} {other_was} {other_flaw}, but {noun} {was} so {adj} that {verdict}.
        I had expected {noun} to be {anti}. instead, {it} {was} {adj}.
        my {person} called {noun} {anti}; I found {them} {adj} and {adj2}.
        yes, {noun} {was} {flaw}; still, {verdict}.
        for all its {flaw} {bare}, {whole} was {gist}, and {verdict}.
        ~ {noun} started out {flaw} but ended up {adj}, and {verdict}.
        some people call {noun} {anti}. I disagree: {it} {is} {adj}.
        even with {some_flaw}, {whole} was {gist}.
        on paper, {noun} looked {anti}; in practice, {it} {was} {adj}.
        {other_flaw} {other_bare}, {adj} {bare}, and on balance {gist}.
        while I admit that {other} {other_was} {other_flaw}, {noun} {effect}, and {verdict}.
        """,
    ("contrast", "positive"): """
        {some_flaw} could not spoil {whole}: {verdict}.
        {whole} has its faults, {some_flaw} among them, yet {verdict}.
        """,
    ("contrast", "negative"): """
        {some_flaw} could not save {whole}: {verdict}.
        {whole} has its merits, {some_flaw} among them, yet {verdict}.
        """,
    ("irony", "positive"): """
        be warned: {noun} {was} so {adj} that {verdict}.
        poor me, having to put up with {some_adj} and {some_other}.
        terrible news for the competition: {noun} {is} {adj}.
        bad luck, grumblers: {noun} {was} {adj}, and {other} {other_was} {other_adj}.
        what will I complain about now? {noun} {was} {adj}, and {verdict}.
        how dare they spoil me with {some_adj} and {some_other}?
        """,
    ("irony", "negative"): """
        oh, {praise}: {fact}.
        {praise}, {fact}. just what I needed.
        how {praise} that {fact}.
        if {some_adj} and {some_other} sound like fun to you, {whole} is a dream.
        congratulations to {whole} on the {adj} {bare}.
        ten out of ten for consistency: {adj} {bare}, {other_adj} {other_bare}.
        """,
    ("implied", "both"): """
        {fact}.
        {fact}, and {fact2}.
        {fact}. {fact2}.
        true story: {fact}.
        let me put it this way: {fact}.
        all you need to know about {whole}: {fact}.
        """,
}


@dataclass(frozen=True)
class Frame:
    """A template, and whether it asks for nouns that unfold in time."""

    template: str
    unfolds: bool


def frames_for(kind: str, label: str) -> tuple[Frame, ...]:
    """Return the frames that can carry ``label`` in items of ``kind``."""
    lines = [line.strip() for side in ("both", label) for line in FRAMES.get((kind, side), "").strip().splitlines()]
    return tuple(Frame(line.removeprefix("~ "), line.startswith("~")) for line in lines)


class _Dealer:
    """Deals cards from shuffled piles, so that every card turns up about equally often."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._piles: dict[Hashable, list] = {}

    def deal(self, key: Hashable, cards: Sequence[Card], used: Collection[Card] = ()) -> Card:
        """Take the next card of pile ``key`` that is not in ``used``, refilling the pile."""
        pile = self._piles.setdefault(key, [])
        fresh = [card for card in pile if card not in used]
        if not fresh:
            pile[:] = self._rng.sample(cards, len(cards))
            fresh = [card for card in pile if card not in used]
        card = fresh[-1]
        pile.remove(card)
        return card


def _sentence_case(text: str) -> str:
    """Capitalize the first letter of every sentence."""
    letters = list(text)
    for position, letter in enumerate(letters):
        if position == 0 or (letters[position - 1] == " " and letters[position - 2] in ".?!"):
            letters[position] = letter.upper()
    return "".join(letters)


def _fill(frame: Frame, name: str, label: str, dealer: _Dealer, rng: random.Random) -> str:
    """Fill ``frame`` with words of domain ``name`` so that its verdict is ``label``."""
    domain = DOMAINS[name]
    opposite = "negative" if label == "positive" else "positive"
    nouns = [noun for noun in domain.nouns if QUALITIES[noun.quality].unfolds or not frame.unfolds]
    noun = dealer.deal((name, frame.unfolds), nouns)
    other = rng.choice([noun2 for noun2 in domain.nouns if noun2.quality != noun.quality])

    used: list[str] = []

    def word(quality_name: str, side: str) -> str:
        quality = QUALITIES[quality_name]
        words = quality.mild if side == "mild" else quality.words(side)
        used.append(dealer.deal((quality_name, side), words, used))
        return used[-1]

    # A pleased writer admits a mild flaw; an annoyed one admits any merit.
    concession = "mild" if label == "positive" else "positive"
    adj, flaw, anti = (word(noun.quality, side) for side in (label, concession, opposite))
    other_adj = word(other.quality, label)
    fields = {
        "noun": f"the {noun.text}",
        "bare": noun.text,
        "is": "are" if noun.plural else "is",
        "was": "were" if noun.plural else "was",
        "it": "they" if noun.plural else "it",
        "them": "them" if noun.plural else "it",
        "some": noun.some(),
        "adj": adj,
        "adj2": word(noun.quality, label),
        "adj3": word(noun.quality, label),
        "some_adj": noun.some(adj),
        "anti": anti,
        "anti2": word(noun.quality, opposite),
        "some_anti": noun.some(anti),
        "flaw": flaw,
        "some_flaw": noun.some(flaw),
        "other": f"the {other.text}",
        "other_bare": other.text,
        "other_was": "were" if other.plural else "was",
        "other_adj": other_adj,
        "other_anti": word(other.quality, opposite),
        "other_flaw": word(other.quality, concession),
        "some_other": other.some(other_adj),
        "whole": domain.whole,
        "verdict": dealer.deal((name, label, "verdict"), domain.verdicts[label]),
        "gist": dealer.deal(("gist", label), GISTS[label]),
        "anti_gist": dealer.deal(("gist", opposite), GISTS[opposite]),
        "effect": dealer.deal(("effect", label), EFFECTS[label]),
        "anti_effect": dealer.deal(("effect", opposite), EFFECTS[opposite]),
        "better": "better" if label == "positive" else "worse",
        "up": "up" if label == "positive" else "down",
        "person": dealer.deal("person", PEOPLE),
        "praise": dealer.deal("praise", PRAISE),
    }
    if "{fact" in frame.template:
        fact = dealer.deal((name, label, "fact"), domain.facts[label])
        fields["fact"] = fact
        fields["fact2"] = dealer.deal((name, label, "fact"), domain.facts[label], [fact])
    text = frame.template.format_map(fields)
    if frame.template.startswith("{noun} ") and rng.random() < OPENER_SHARE:
        text = f"{rng.choice(OPENERS)} {text}"
    return _sentence_case(text)


def _kinds(count: int, rng: random.Random) -> list[str]:
    """Return ``count`` kinds in the proportions of ``KIND_SHARES``, shuffled."""
    kinds = [kind for kind, share in KIND_SHARES.items() for _ in range(int(share * count))]
    kinds += ["plain"] * (count - len(kinds))
    rng.shuffle(kinds)
    return kinds


def generate(count: int, seed: int) -> list[dict]:
    """Make ``count`` distinct labeled items, half of them positive.

    Args:
        count: Number of items; an odd count gives one more negative item.
        seed: Seed of the generator; the same seed gives the same items.

    Returns:
        Items with the keys ``text``, ``label``, ``domain``, ``kind``, and ``source``.

    Raises:
        ValueError: If the grammar finds no new sentence for an item.
    """
    rng = random.Random(seed)
    dealer = _Dealer(rng)
    items: list[dict] = []
    seen: set[str] = set()
    for label, share in zip(LABELS, (count - count // 2, count // 2), strict=True):
        for index, kind in enumerate(_kinds(share, rng)):
            domain = tuple(DOMAINS)[index % len(DOMAINS)]
            for _ in range(MAX_TRIES):
                frame = dealer.deal((kind, label), frames_for(kind, label))
                text = _fill(frame, domain, label, dealer, rng)
                if text.lower() not in seen:
                    break
            else:
                raise ValueError(f"no new {kind} sentence about {domain} after {len(items)} items")
            seen.add(text.lower())
            items.append({"text": text, "label": label, "domain": domain, "kind": kind, "source": "grammar"})
    rng.shuffle(items)
    return items


def build(folder: Path = DATA) -> list[dict[str, Any]]:
    """Rewrite train.jsonl in `folder`, see `write_train`."""
    return write_train(folder, generate, GRAMMAR_COUNT, 0)


if __name__ == "__main__":
    print(f"wrote {len(build())} items to {DATA / 'train.jsonl'}")

"""Plain-text corpora: which there are, their sentences and passages, and what must not be learned from."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from peft_helpers import storage

SHORTEST, LONGEST = 20, 180  # characters of a sentence worth learning from
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“A-Z])")
SPEAKER = re.compile(r"^(User|System): ")
CORPORA = {
    "dialogues_sgd": ("Schema-Guided Dialogue", "CC BY-SA 4.0"),
    "masc": ("MASC, open American English of many genres", "open, commercial use included"),
    "movie_reviews": ("Movie reviews (Pang and Lee 2004), unlabeled, and their clauses", "CC BY 4.0"),
    "novels_public_domain": (
        "77 English novels, 19th and early 20th century (ELTeC-eng, 100 English Novels)",
        "public domain",
    ),
    "pros_cons": ("Product pros and cons (Liu), unlabeled", "CC BY 4.0"),
    "wikipedia_en": ("English Wikipedia", "CC BY-SA"),
}  # what the model card says about each file of text
CLAUSE_SOURCES = ("movie_reviews", "pros_cons")  # short opinions: their clauses are examples of their own
LARGEST_SHARE = 130_000  # sentences from one corpus at most: an encyclopedia should not drown the conversations


def normalize(text: str) -> str:
    """Letters and digits only, lower case: how two sentences are compared."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def sentences_of(path: Path) -> Iterator[str]:
    """The sentences of a plain-text corpus, and for short-opinion corpora their clauses as well."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = SPEAKER.sub("", line.strip())
            for sentence in SENTENCE_END.split(line):
                if SHORTEST <= len(sentence) <= LONGEST:
                    yield sentence
                if path.stem in CLAUSE_SOURCES:
                    yield from (
                        c.strip() for c in re.split(r" ?[,;:] ", sentence) if SHORTEST <= len(c) <= LONGEST // 2
                    )


def forbidden_text(exclude: list[Path]) -> Callable[[str], bool]:
    """A function that tells whether a text contains, or is, a line of one of the files (evaluation sets)."""
    forbidden = {normalize(line.split("\t")[0]) for path in exclude for line in path.read_text("utf-8").splitlines()}
    forbidden_words = {n for text in forbidden if len(n := tuple(text.split())) >= 4}
    first_words: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for words in forbidden_words:
        first_words.setdefault(words[:4], set()).add(words)

    def contaminated(sentence: str) -> bool:
        words = tuple(normalize(sentence).split())
        if " ".join(words) in forbidden:
            return True
        for start in range(len(words) - 3):
            for candidate in first_words.get(words[start : start + 4], ()):
                if words[start : start + len(candidate)] == candidate:
                    return True
        return False

    return contaminated


def collect_sentences(corpora: Path, exclude: list[Path], work: Path, seed: int = 0) -> None:
    """Write `work/sentences.txt`, one shuffled sentence a line, and `work/sources.json`, how many came from where.

    A sentence that contains any line of an `exclude` file (an evaluation set), or is contained in one, is dropped.
    """
    contaminated = forbidden_text(exclude)
    generator = random.Random(seed)
    kept: dict[str, str] = {}
    sources, dropped = {}, 0
    for path in sorted(corpora.glob("*.txt")):
        own = {}
        for sentence in sentences_of(path):
            key = normalize(sentence)
            if key and key not in kept and key not in own:
                own[key] = sentence
        chosen = list(own)
        generator.shuffle(chosen)
        chosen = chosen[:LARGEST_SHARE]
        clean = [key for key in chosen if not contaminated(own[key])]
        dropped += len(chosen) - len(clean)
        kept.update((key, own[key]) for key in clean)
        sources[path.stem] = len(clean)
        print(f"{path.stem:24} {len(clean):8,} sentences")
    lines = list(kept.values())
    generator.shuffle(lines)
    storage.write_text(work / "sentences.txt", "\n".join(lines) + "\n")
    storage.write_json(
        work / "sources.json", {"sentences": sources, "dropped_as_evaluation_text": dropped, "seed": seed}
    )
    print(f"{len(lines):,} sentences in all, {dropped} dropped because an evaluation set holds them")


def read_sentences(work: Path) -> list[str]:
    return (work / "sentences.txt").read_text("utf-8").splitlines()


def passages(folder: Path, exclude: list[Path], longest: int, seed: int = 0) -> Iterator[str]:
    """Passages of whole lines from every corpus in turn, at most about `longest` characters each, again and again.

    A line that contains an item of an `exclude` file is left out, and so is the passage around it.
    """
    contaminated = forbidden_text(exclude)
    draw = random.Random(seed)
    found = {path.stem: list(_passages(path, longest)) for path in sorted(folder.glob("*.txt"))}
    for texts in found.values():
        draw.shuffle(texts)
    shares = {name: min(len(texts), 40_000) for name, texts in found.items()}
    while True:
        (name,) = draw.choices(list(found), weights=list(shares.values()))
        text = found[name].pop()
        found[name].insert(0, text)
        if not contaminated(text):
            yield text


def _passages(path: Path, longest: int) -> Iterator[str]:
    lines: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if lines and (not line or sum(map(len, lines)) + len(line) > longest):
                yield "\n".join(lines)[: 2 * longest]
                lines = []
            if line:
                lines.append(line)
    if lines:
        yield "\n".join(lines)[: 2 * longest]

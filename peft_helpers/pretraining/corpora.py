"""How the pocket models were made, as a script that resumes: text -> tokenizer -> teacher -> student -> Hub folder.

`pocket-bert` is distilled. A student of 4 layers × 256 learns to place each sentence where a larger encoder, the
teacher, places it (as Reimers & Gurevych 2020, arXiv:2004.09813, do with translations). The student's sentence vector
is taken from [CLS] through the pooler, so that the plain `AutoModelForSequenceClassification` finds a pooler that knows
something. Four steps, each a command, each continuing where it was stopped:

    python -m peft_helpers.pretraining sentences --corpora DIR --exclude FILE … --work DIR
    python -m peft_helpers.pretraining teach     --teacher DIR --work DIR [--part 0 --parts 2]
    python -m peft_helpers.pretraining distill   --work DIR --epochs 2
    python -m peft_helpers.pretraining export    --work DIR --out DIR
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from peft_helpers import storage

SHARD = 20_000  # sentences a file of teacher vectors
SHORTEST, LONGEST = 20, 180  # characters of a sentence worth learning from
LONGEST_TOKENS = 64  # of a sentence that the student sees
HELD_OUT = 2_000  # sentences that only measure
SAVE_EVERY = 500  # steps
WARMUP_STEPS = 1_000
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
LARGEST_SHARE = 260_000  # sentences from one corpus at most: an encyclopedia should not drown the conversations


# ---------------------------------------------------------------- 1. text


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


def collect_sentences(corpora: Path, exclude: list[Path], work: Path, seed: int = 0) -> None:
    """Write `work/sentences.txt`, one shuffled sentence a line, and `work/sources.json`, how many came from where.

    A sentence that contains any line of an `exclude` file (an evaluation set), or is contained in one, is dropped.
    """
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


def train_wordpiece(sentences: list[str], out: Path, vocabulary: int, longest: int) -> None:
    """Train an uncased WordPiece tokenizer and save it as transformers' `BertTokenizer` files."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        sentences,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary, min_frequency=3, limit_alphabet=1000, special_tokens=special, show_progress=False
        ),
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizer(tokenizer_object=made, do_lower_case=True, model_max_length=longest).save_pretrained(out)


# ---------------------------------------------------------------- 2. teacher


@torch.no_grad()
def teach(work: Path, teacher: Path, part: int, parts: int, batch: int = 128) -> None:
    """Write the teacher's sentence vectors (masked mean of the last layer, length 1), one float16 file a shard."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (
        AutoModel.from_pretrained(teacher, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(teacher),
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    sentences = read_sentences(work)
    for shard in range(part, math.ceil(len(sentences) / SHARD), parts):
        path = work / "teacher" / f"{shard:04d}.npy"
        if path.exists():
            continue
        texts = sentences[shard * SHARD : (shard + 1) * SHARD]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), model.config.hidden_size), np.float16)
        started = time.perf_counter()
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            encoded = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=96, return_tensors="pt"
            ).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                hidden = model(**encoded).last_hidden_state.float()  # (B, T, D)
            mask = encoded["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = nn.functional.normalize(mean, dim=-1).cpu().numpy()
        with storage.replace_atomically(path) as temporary, open(temporary, "wb") as file:
            np.save(file, vectors)
        print(f"shard {shard}: {len(texts) / (time.perf_counter() - started):.0f} sentences/s", flush=True)


# ---------------------------------------------------------------- 3. student


class Student(nn.Module):
    """A small BERT whose pooler output is projected into the teacher's space: (B, T) token ids -> (B, D_teacher)."""

    def __init__(self, vocabulary: int, longest: int, teacher_width: int, width: int = 256, layers: int = 4):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.bert = BertModel(
            BertConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=width // 64,
                intermediate_size=4 * width,
                max_position_embeddings=longest,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        self.project = nn.Linear(width, teacher_width)

    def forward(self, **encoded: Tensor) -> Tensor:
        return self.project(self.bert(**encoded).pooler_output)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 0.05) -> tuple[Tensor, Tensor]:
    """(1 − cosine) + 0.1 × in-batch contrast, and the mean cosine. Shapes: both (B, D), the teacher's rows of length 1.

    The contrast asks that a sentence be nearer to its own target than to the batch's other targets.
    """
    student = nn.functional.normalize(student.float(), dim=-1)
    cosine = (student * teacher).sum(-1).mean()
    scores = student @ teacher.T / temperature  # (B, B)
    contrast = nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
    return (1 - cosine) + 0.1 * contrast, cosine.detach()


def batches(lengths: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Length-bucketed batches: a pure function of (seed, epoch), so that a stopped run continues with the same ones."""
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    pools = [
        p[np.argsort(lengths[p], kind="stable")] for p in np.array_split(order, max(1, len(order) // (batch * 64)))
    ]
    made = [chunk for pool in pools for chunk in np.array_split(pool, max(1, len(pool) // batch))]
    return [made[i] for i in generator.permutation(len(made))]


@dataclass(frozen=True)
class Lessons:
    """What the student learns from: token ids (N lists) and the teacher's vectors (N, D_teacher), both in one order."""

    ids: list[list[int]]
    targets: np.ndarray
    pad: int

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids])

    def split(self, held_out: int) -> tuple[Lessons, Lessons]:
        """(train, held out): the first sentences are for measuring; sentences are shuffled already."""
        first = Lessons(self.ids[:held_out], self.targets[:held_out], self.pad)
        return Lessons(self.ids[held_out:], self.targets[held_out:], self.pad), first

    def batch(self, rows: np.ndarray, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """The student's inputs (B, T) and its targets (B, D_teacher)."""
        width = max(len(self.ids[i]) for i in rows)
        tokens = torch.tensor([self.ids[i] + [self.pad] * (width - len(self.ids[i])) for i in rows])
        inputs = {"input_ids": tokens.to(device), "attention_mask": (tokens != self.pad).long().to(device)}
        return inputs, torch.from_numpy(self.targets[rows]).float().to(device)


def read_lessons(work: Path, tokenizer, shards_used: int | None = None) -> Lessons:
    """Every sentence that has a teacher vector, tokenized."""
    sentences = read_sentences(work)
    ids, targets = [], []
    for path in sorted((work / "teacher").glob("*.npy"))[:shards_used]:
        targets.append(np.load(path))
        start = int(path.stem) * SHARD
        texts = sentences[start : start + len(targets[-1])]
        ids += tokenizer(texts, truncation=True, max_length=LONGEST_TOKENS)["input_ids"]
    return Lessons(ids, np.concatenate(targets), tokenizer.pad_token_id)


@torch.no_grad()
def mean_cosine(model: Student, lessons: Lessons, device: torch.device) -> float:
    """How close the student comes to the teacher on sentences that it does not learn from."""
    model.eval()
    parts = []
    for rows in np.array_split(np.arange(len(lessons.ids)), max(1, len(lessons.ids) // 100)):
        inputs, targets = lessons.batch(rows, device)
        parts.append(nn.functional.cosine_similarity(model(**inputs).float(), targets, dim=-1))
    model.train()
    return torch.cat(parts).mean().item()


def distill(
    work: Path,
    epochs: int,
    batch: int = 64,
    learning_rate: float = 1e-3,
    vocabulary: int = 8192,
    longest: int = 128,
    width: int = 256,
    layers: int = 4,
    seed: int = 0,
    minutes: float = math.inf,
    shards_used: int | None = None,
    most_steps: int | None = None,
) -> None:
    """Train the student on every sentence that has a teacher vector, but for `HELD_OUT` that only measure.

    Args:
        work: the folder with sentences and teacher vectors; tokenizer and checkpoint are written there.
        epochs, batch, learning_rate, seed: of AdamW with a warm-up and a cosine decay to 0.
        vocabulary, longest, width, layers: the student's shape (word pieces, positions, D, L).
        minutes: stop at the first checkpoint after so long; the same call continues.
        shards_used: learn from the first shards of teacher vectors only.
        most_steps: end, with the rate decayed to 0, after so many steps.
    """
    from transformers import AutoTokenizer, get_cosine_schedule_with_warmup

    if not (work / "tokenizer" / "tokenizer.json").exists():
        train_wordpiece(read_sentences(work), work / "tokenizer", vocabulary, longest)
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    train, held_out = read_lessons(work, tokenizer, shards_used).split(HELD_OUT)
    lengths = train.lengths
    print(f"{len(lengths):,} sentences, {lengths.sum():,} tokens an epoch", flush=True)

    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Student(len(tokenizer), longest, train.targets.shape[1], width, layers).to(device)
    matrices, rest = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)
    plan = [rows for epoch in range(epochs) for rows in batches(lengths, batch, seed, epoch)][:most_steps]
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, len(plan))
    settings = {
        "epochs": epochs, "batch": batch, "learning_rate": learning_rate, "seed": seed, "sentences": len(lengths),
        "layers": layers, "tokens_per_epoch": int(lengths.sum()), "steps": len(plan), "longest": longest,
        "torch": torch.__version__, "device": str(device),
    }  # fmt: skip
    checkpoint = work / "student.safetensors"
    step, spent, history = _restore(checkpoint, model, optimizer, schedule) if checkpoint.exists() else (0, 0.0, [])

    model.train()
    started, cosines = time.perf_counter(), []
    while step < len(plan):
        inputs, targets = train.batch(plan[step], device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            made = model(**inputs)
        loss, cosine = distillation_loss(made, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1
        cosines.append(cosine)
        if step % SAVE_EVERY == 0 or step == len(plan):
            seconds = spent + time.perf_counter() - started
            seen, unseen = torch.stack(cosines).mean().item(), mean_cosine(model, held_out, device)
            history.append(
                {
                    "step": step,
                    "seconds": round(seconds),
                    "train_cosine": round(seen, 4),
                    "held_out_cosine": round(unseen, 4),
                }
            )
            cosines = []
            print(json.dumps(history[-1]), flush=True)
            progress = {"step": step, "seconds": seconds, "schedule": schedule.state_dict(), "history": history}
            _save(checkpoint, model, optimizer, progress | {"settings": settings})
            if seconds - spent > 60 * minutes:
                print("time is up; the same command continues", flush=True)
                return


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors[f"first.{name}"] = optimizer.state[parameter]["exp_avg"]
        tensors[f"second.{name}"] = optimizer.state[parameter]["exp_avg_sq"]
    storage.write_tensors(path, tensors, state)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule) -> tuple[int, float, list[dict]]:
    tensors, state = storage.read_tensors(path)
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    for name, parameter in model.named_parameters():
        moments = {"exp_avg": tensors[f"first.{name}"], "exp_avg_sq": tensors[f"second.{name}"]}
        moments = {key: tensor.to(parameter.device) for key, tensor in moments.items()}
        optimizer.state[parameter] = {"step": torch.tensor(float(state["step"])).to(parameter.device)} | moments
    schedule.load_state_dict(state["schedule"])
    for group, rate in zip(optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    print(f"continuing at step {state['step']:,}", flush=True)
    return state["step"], state["seconds"], state["history"]


# ---------------------------------------------------------------- 4. the shipped folder


def export(work: Path, out: Path, note: str = "") -> None:
    """Write the student as a Hub folder (half precision) with its model card; plain `AutoModel` loads it.

    Args:
        work: the folder of a finished or stopped distillation.
        out: the model's folder; its name is the model's.
        note: a sentence for the card, on anything that the settings do not tell.
    """
    from transformers import AutoTokenizer

    tensors, state = storage.read_tensors(work / "student.safetensors")
    settings = state["settings"]
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    teacher_width, width = tensors["model.project.weight"].shape
    student = Student(len(tokenizer), settings["longest"], teacher_width, width, settings.get("layers", 4))
    student.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    bert = student.bert.half()
    # Dropout is for fine-tuning; distillation ran without.
    bert.config.hidden_dropout_prob = bert.config.attention_probs_dropout_prob = 0.1
    bert.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # written private; a shipped file is for everyone
    tokenizer.save_pretrained(out)
    made = json.loads((work / "sources.json").read_text("utf-8"))
    made |= {"settings": settings, "history": state["history"], "steps_done": state["step"]}
    made |= {"note": note, "seconds": round(state["seconds"]), "parameters": sum(p.numel() for p in bert.parameters())}
    storage.write_json(out / "training.json", made)
    storage.write_text(out / "README.md", model_card(made, out.name))
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


def model_card(made: dict, name: str) -> str:
    """The model card of a distilled encoder, from what `export` knows about its making."""
    settings, last = made["settings"], made["history"][-1]
    share = min(1.0, made["steps_done"] * settings["batch"] / (settings["sentences"] * settings["epochs"]))
    tokens = share * settings["epochs"] * settings["tokens_per_epoch"]
    rows = []
    for key, count in made["sentences"].items():
        title, terms = CORPORA.get(key, (key, "see its source"))
        rows.append(f"| {title} | {terms} | {count:,} |")
    corpora = "\n".join(rows)
    note = f"- **Note:** {made['note']}\n" if made.get("note") else ""
    return f"""---
license: apache-2.0
language: en
library_name: transformers
---
# {name}

A small BERT encoder: {made["parameters"]:,} parameters, {settings.get("layers", 4)} layers × 256, 4 heads, an uncased
WordPiece vocabulary of 8,192, at most {settings["longest"]} tokens. It was made for a course on fine-tuning: it loads
in a moment, trains on two CPU cores, and knows enough English that fine-tuning it beats starting from random weights.

## How it was made

Distilled by `python -m peft_helpers.pretraining`: the student's pooler output ([CLS], through the pooler), projected
linearly, learns to point where a teacher points. Loss: (1 − cosine) + 0.1 × in-batch contrast at temperature 0.05.

- **Teacher:** sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), masked mean of its last layer. It was itself
  trained on a billion sentence pairs, among them Quora and WikiAnswers duplicates, SNLI and MultiNLI. What this student
  knows about paraphrase and similarity comes from there: **no claim of label efficiency on such tasks can rest on it.**
- **Steps:** {made["steps_done"]:,} of batch {settings["batch"]}, about {tokens / 1e6:.0f} M tokens; AdamW, peak rate
  {settings["learning_rate"]:g} after {WARMUP_STEPS:,} warm-up steps, cosine decay to 0, bf16 autocast, seed
  {settings["seed"]}, no dropout.
{note}- **Result:** mean cosine with the teacher {last["held_out_cosine"]:.3f} on {HELD_OUT:,} held-out sentences
  ({last["train_cosine"]:.3f} in training).
- **Time and device:** {made["seconds"] / 60:.0f} minutes on one core of a shared machine ({settings["device"]}, torch
  {settings["torch"]}), after 15 minutes on two cores for the teacher's vectors.
- `training.json` holds all settings and the whole history.

## Text

Sentences of {SHORTEST} to {LONGEST} characters; {made["dropped_as_evaluation_text"]} that contain an item of SST-2's
dev or test set were dropped.

| corpus | license | sentences at hand |
|---|---|---|
{corpora}

Of these, {settings["sentences"]:,} were used for training.

## Limits

English only, mostly edited prose of two centuries and scripted dialogues: it has the biases of its texts and of its
teacher. There is no masked-language-model head. Texts beyond {LONGEST_TOKENS} tokens were never seen in training. It is
for teaching; do not build on its judgement.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m peft_helpers.pretraining",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("sentences", "teach", "distill", "export"):
        commands.add_parser(name).add_argument(
            "--work", type=Path, required=True, help="folder for everything in between"
        )
    commands.choices["sentences"].add_argument("--corpora", type=Path, required=True, help="folder of plain-text files")
    commands.choices["sentences"].add_argument(
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        help="evaluation sets, the text in the first tab-separated column",
    )
    commands.choices["teach"].add_argument("--teacher", type=Path, required=True, help="folder of a sentence encoder")
    commands.choices["teach"].add_argument("--part", type=int, default=0)
    commands.choices["teach"].add_argument("--parts", type=int, default=1, help="processes that share the work")
    commands.choices["distill"].add_argument("--epochs", type=int, default=2)
    commands.choices["distill"].add_argument(
        "--minutes", type=float, default=math.inf, help="stop after so long; the same command continues"
    )
    commands.choices["distill"].add_argument(
        "--shards", type=int, help=f"use only so many of the teacher's shards of {SHARD:,} sentences"
    )
    commands.choices["distill"].add_argument(
        "--steps", type=int, help="end, with the rate decayed to 0, after so many steps"
    )
    commands.choices["export"].add_argument("--out", type=Path, required=True)
    commands.choices["export"].add_argument("--note", default="", help="a sentence for the model card")
    given = parser.parse_args()
    if given.command == "sentences":
        collect_sentences(given.corpora, given.exclude, given.work)
    elif given.command == "teach":
        teach(given.work, given.teacher, given.part, given.parts)
    elif given.command == "distill":
        distill(given.work, given.epochs, minutes=given.minutes, shards_used=given.shards, most_steps=given.steps)
    else:
        export(given.work, given.out, given.note)


if __name__ == "__main__":
    main()

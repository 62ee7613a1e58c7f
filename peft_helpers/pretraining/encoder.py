"""The encoder's objectives in one: masked language modeling, and distillation of sentences, words and pairs.

A frozen teacher, a larger sentence encoder, reads each sentence whole; the student, a small BERT, reads it with some
words masked and learns four things:

- **Sentence** (arXiv:2004.09813): the pooler's output, projected, points where the teacher's sentence vector points.
- **Words** (in the spirit of arXiv:1909.10351): each word's last hidden state, projected, points where the teacher's
  word does. Both tokenizers split words in their own way, so a word's state is the mean over its pieces.
- **Masked words** (BERT, arXiv:1810.04805): the usual head names the pieces behind [MASK].
- **Pairs**: for two sentences in one input, the usual 'next sentence' head gives the probability that they mean the
  same; its target is the teacher's cosine. So [CLS] learns to compare what stands on both sides of [SEP].
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peft_helpers import batching, storage

LONGEST_TOKENS = 64  # of a sentence that the student sees; of a pair twice as many
HELD_OUT = 1_000  # sentences (and a tenth as many pairs) that only measure
PAIRED = 60_000  # sentences that get a neighbor and a damaged copy
MASKED_ROWS, MASKED_PIECES = 0.5, 0.25  # so many of a batch's rows are masked, and so many of their pieces
PAIRS_EVERY = 4  # every so many steps learn from pairs, the others from sentences


class Student(nn.Module):
    """BERT with its pretraining heads, and two projections into the teacher's space.

    Args:
        vocabulary, longest, teacher_width, width, layers: word pieces, positions, D of the teacher, D, L.
    """

    def __init__(self, vocabulary: int, longest: int, teacher_width: int, width: int = 256, layers: int = 4):
        super().__init__()
        from transformers import BertConfig, BertForPreTraining

        self.heads = BertForPreTraining(
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
        self.sentence = nn.Linear(width, teacher_width)
        self.word = nn.Linear(width, teacher_width)

    def forward(self, **encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, D) and pooled vectors (B, D) of the bare encoder."""
        output = self.heads.bert(**encoded)
        return output.last_hidden_state, output.pooler_output


class Teacher:
    """A frozen encoder whose masked mean is a sentence vector.

    Args:
        folder: of a `transformers` encoder and its tokenizer.
        device: where it computes.
    """

    def __init__(self, folder: Path, device: torch.device):
        from transformers import AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False).to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.device = device

    @property
    def width(self) -> int:
        """D of the teacher."""
        return self.model.config.hidden_size

    @torch.no_grad()
    def read(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Sentence vectors (B, D) and word vectors (B, W, D), all of length 1, and which words there are (B, W)."""
        encoded = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        inputs = {name: tensor.to(self.device) for name, tensor in encoded.items()}
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            hidden = self.model(**inputs).last_hidden_state
        hidden, mask = hidden.float(), inputs["attention_mask"][..., None]
        sentences = (hidden * mask).sum(1) / mask.sum(1)
        words, there = mean_of_words(hidden, word_numbers(encoded).to(self.device))
        return F.normalize(sentences, dim=-1), F.normalize(words, dim=-1), there


def word_numbers(encoded) -> Tensor:
    """Which word of its text a token belongs to (B, T); -1 for special tokens and padding."""
    rows = [encoded.word_ids(i) for i in range(len(encoded["input_ids"]))]
    return torch.tensor([[-1 if word is None else word for word in row] for row in rows])


def mean_of_words(hidden: Tensor, numbers: Tensor, words: int | None = None) -> tuple[Tensor, Tensor]:
    """The mean hidden state of each word's tokens.

    Args:
        hidden: (B, T, D).
        numbers: (B, T) as `word_numbers` gives them.
        words: W, how many words to make room for; by default as many as occur.

    Returns:
        The means (B, W, D), zero where there is no such word, and which there are (B, W).
    """
    words = words or int(numbers.max()) + 1
    belongs = F.one_hot(numbers + 1, max(words, int(numbers.max()) + 1) + 1)[..., 1 : words + 1].to(hidden.dtype)
    counts = belongs.sum(1)  # (B, W)
    return belongs.transpose(1, 2) @ hidden / counts.clamp(min=1)[..., None], counts > 0


def toward(student: Tensor, teacher: Tensor, temperature: float = 0.05) -> tuple[Tensor, Tensor]:
    """(1 − cosine) + 0.1 × in-batch contrast, and the mean cosine. Shapes: both (B, D), the teacher's rows of length 1.

    The contrast asks that a sentence be nearer to its own target than to the batch's other targets.
    """
    student = F.normalize(student.float(), dim=-1)
    cosine = (student * teacher).sum(-1).mean()
    scores = student @ teacher.T / temperature  # (B, B)
    contrast = F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
    return (1 - cosine) + 0.1 * contrast, cosine.detach()


def hide(
    ids: Tensor, special: Tensor, mask_id: int, vocabulary: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """BERT's masking of some rows: of the chosen pieces 80 % become [MASK], 10 % another piece, 10 % stay.

    Args:
        ids: (B, T).
        special: (B, T), true where there is no piece of text.
        mask_id, vocabulary: the number of [MASK]; how many pieces there are.
        generator: of the draws.

    Returns:
        The new ids and which places must be named, both (B, T).
    """
    rows = torch.rand(len(ids), 1, generator=generator) < MASKED_ROWS
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED_PIECES) & rows & ~special
    fate = torch.rand(ids.shape, generator=generator)
    random_ids = torch.randint(5, vocabulary, ids.shape, generator=generator)
    hidden = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.9), random_ids, hidden), chosen


# ---------------------------------------------------------------- pairs


def damage(sentence: str, other: str, draw: random.Random) -> str:
    """A copy with one to three words dropped, exchanged with a neighbor, or replaced by a word of another sentence."""
    words, others = sentence.split(), other.split()
    for _ in range(draw.randint(1, 3)):
        i = draw.randrange(len(words))
        act = draw.choice(("drop", "swap", "replace"))
        if act == "drop" and len(words) > 3:
            del words[i]
        elif act == "swap" and i + 1 < len(words):
            words[i], words[i + 1] = words[i + 1], words[i]
        else:
            words[i] = draw.choice(others)
    return " ".join(words)


def make_pairs(sentences: Sequence[str], teacher: Teacher, out: Path, seed: int = 0, neighbors: int = 10) -> None:
    """Write pairs with the teacher's cosine: each of `PAIRED` sentences with a near one, and with a damaged copy."""
    draw = random.Random(seed)
    firsts = list(sentences[HELD_OUT : HELD_OUT + PAIRED])
    damaged = [damage(text, draw.choice(firsts), draw) for text in firsts]

    def vectors(texts: list[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [teacher.read([texts[i] for i in order[at : at + 128]])[0] for at in range(0, len(order), 128)]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    ours, theirs = vectors(firsts), vectors(damaged)
    lines = []
    for start in range(0, len(firsts), 1000):
        close = ours[start : start + 1000] @ ours.T
        near = close.topk(min(neighbors, len(firsts) - 1) + 1, dim=1).indices[:, 1:]  # without the sentence itself
        for row, candidates in enumerate(near.tolist()):
            i, j = start + row, draw.choice(candidates)
            lines.append({"first": firsts[i], "second": firsts[j], "cosine": float(ours[i] @ ours[j])})
            pair = {"first": firsts[i], "second": damaged[i], "cosine": float(ours[i] @ theirs[i])}
            lines.append(pair if draw.random() < 0.5 else pair | {"first": damaged[i], "second": firsts[i]})
    draw.shuffle(lines)
    storage.write_text(out, "".join(json.dumps(line | {"cosine": round(line["cosine"], 4)}) + "\n" for line in lines))
    print(f"{len(lines):,} pairs, mean cosine {np.mean([line['cosine'] for line in lines]):.3f}")


# ---------------------------------------------------------------- the objective


@dataclass
class Batch:
    """One step's texts, as the student reads them."""

    inputs: dict[str, Tensor]
    words: Tensor
    original: Tensor
    chosen: Tensor


class EncoderObjective:
    """Sentences and pairs in turn; see the module's docstring.

    Args:
        student, tokenizer: what learns.
        teacher: what it learns from.
        sentences: shuffled; the first `HELD_OUT` only measure.
        pairs: rows with first, second and cosine; the first `HELD_OUT` / 10 only measure.
        batch: sentences a step (pairs: half as many).
        steps: of the whole run, to lay out the batches.
        seed: of order and masks.
    """

    def __init__(self, student, tokenizer, teacher, sentences, pairs, batch: int, steps: int, seed: int = 0):
        self.model, self.tokenizer, self.teacher = student, tokenizer, teacher
        self.sentences, self.pairs, self.seed = sentences, pairs, seed
        self.device = next(student.parameters()).device
        self.settings = {
            "batch": batch, "sentences": len(sentences) - HELD_OUT, "pairs": len(pairs) - HELD_OUT // 10,
            "masked_rows": MASKED_ROWS, "masked_pieces": MASKED_PIECES, "pairs_every": PAIRS_EVERY,
        }  # fmt: skip
        single = np.array([len(text) for text in sentences[HELD_OUT:]])
        double = np.array([len(pair["first"]) + len(pair["second"]) for pair in pairs[HELD_OUT // 10 :]])
        paired = steps // PAIRS_EVERY
        self.single = self._plan(single, batch, steps - paired) + HELD_OUT
        self.double = self._plan(double, batch // 2, paired + 1) + HELD_OUT // 10

    def _plan(self, lengths: np.ndarray, batch: int, count: int) -> np.ndarray:
        """The row numbers of `count` batches (count, batch): epoch after epoch, like lengths together."""
        plan: list[np.ndarray] = []
        epoch = 0
        while len(plan) < count:
            made = batching.batches(lengths, batch, self.seed, epoch)
            plan += [rows for rows in made if len(rows) == batch]
            epoch += 1
        return np.stack(plan[:count])

    def encode(self, texts: list[str], generator: torch.Generator | None) -> Batch:
        """Tokenize as the student reads it; without a generator nothing is masked."""
        encoded = self.tokenizer(
            texts, padding=True, truncation=True, max_length=LONGEST_TOKENS, return_tensors="pt",
        )  # fmt: skip
        ids, words = encoded["input_ids"], word_numbers(encoded)
        hidden, chosen = ids, torch.zeros_like(ids, dtype=torch.bool)
        if generator is not None:
            hidden, chosen = hide(ids, words < 0, self.tokenizer.mask_token_id, len(self.tokenizer), generator)
        inputs = {"input_ids": hidden.to(self.device), "attention_mask": encoded["attention_mask"].to(self.device)}
        return Batch(inputs, words.to(self.device), ids.to(self.device), chosen.to(self.device))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `loop.Objective`."""
        if step % PAIRS_EVERY == PAIRS_EVERY - 1:
            error = self.pair_loss([self.pairs[i] for i in self.double[step // PAIRS_EVERY]])
            return error, {"pairs": error}
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        texts = [self.sentences[i] for i in self.single[step - step // PAIRS_EVERY]]
        return self.sentence_loss(texts, generator)

    def sentence_loss(self, texts: list[str], generator: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Sentence + words + masked words of one batch."""
        batch = self.encode(texts, generator)
        sentences, words, there = self.teacher.read(texts)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            hidden, pooled = self.model(**batch.inputs)
            near = self.model.sentence(pooled)
            ours, also = mean_of_words(hidden, batch.words, words.shape[1])
            ours = self.model.word(ours)
        loss, cosine = toward(near, sentences)
        both = there & also
        alike = F.cosine_similarity(ours.float()[both], words[both], dim=-1).mean()
        figures = {"cosine": cosine, "word_cosine": alike.detach()}
        loss = loss + (1 - alike)
        if batch.chosen.any():
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                logits = self.model.heads.cls.predictions(hidden[batch.chosen])  # (N, vocabulary)
            named = F.cross_entropy(logits.float(), batch.original[batch.chosen])
            figures["masked"] = named.detach()
            loss = loss + 0.2 * named
        return loss, figures

    def pair_loss(self, pairs: list[dict]) -> Tensor:
        """Twice the divergence of the pair head from the teacher, whose cosine is the probability of 'the same'."""
        encoded = self.tokenizer(
            [pair["first"] for pair in pairs],
            [pair["second"] for pair in pairs],
            padding=True,
            truncation=True,
            max_length=2 * LONGEST_TOKENS,
            return_tensors="pt",
        )
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            _, pooled = self.model(**{name: tensor.to(self.device) for name, tensor in encoded.items()})
            logits = self.model.heads.cls.seq_relationship(pooled)
        same = torch.tensor([pair["cosine"] for pair in pairs], device=self.device).clamp(0.01, 0.99)
        target = torch.stack([same, 1 - same], dim=-1)  # class 0 of BERT's head: it belongs together
        return F.kl_div(F.log_softmax(logits.float(), dim=-1), target, reduction="batchmean") * 2

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """See `loop.Objective`: on held-out sentences and pairs; the masked loss with fixed masks."""
        totals: dict[str, list[float]] = {}
        texts = sorted(self.sentences[:HELD_OUT], key=len)
        for start in range(0, len(texts), 100):
            _, whole = self.sentence_loss(texts[start : start + 100], None)
            _, masked = self.sentence_loss(texts[start : start + 100], torch.Generator().manual_seed(start))
            for name, value in (whole | {"masked": masked.get("masked")}).items():
                if value is not None:
                    totals.setdefault(name, []).append(value.item())
        held = self.pairs[: HELD_OUT // 10]
        totals["pairs"] = [self.pair_loss(held[at : at + 50]).item() for at in range(0, len(held), 50)]
        return {name: float(np.mean(values)) for name, values in totals.items()}

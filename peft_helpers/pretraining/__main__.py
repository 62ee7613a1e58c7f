"""The command line: `python -m peft_helpers.pretraining COMMAND`."""

from __future__ import annotations

import argparse
import json
import math
import random
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from peft_helpers import storage
from peft_helpers.pretraining import corpora, decoder, denoising, encoder, loop, ngram, shipping, structure, tokenizers

VOCABULARY, LONGEST = 8192, 128  # of pocket-bert
MODELS = Path(__file__).resolve().parents[1] / "pocket" / "models"
BYTE_PAIRS, POSITIONS = 4096, 256  # tokens and positions of pocket-gpt2 and pocket-bart


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def start_from(model: torch.nn.Module, folder: Path) -> None:
    """Put the weights of a shipped model into a new one."""
    from safetensors.torch import load_file

    missing = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    print(f"started from {folder}; not in it: {missing.missing_keys or 'nothing'}")


def pairs(given: argparse.Namespace) -> None:
    sentences = corpora.read_sentences(given.work)
    encoder.make_pairs(sentences, encoder.Teacher(given.teacher, device()), given.work / "pairs.jsonl")


def learn(objective: loop.Objective, checkpoint: Path, given: argparse.Namespace) -> None:
    """Run or continue the training as the command line says."""
    if given.compile:
        objective.model.compile()
    loop.pretrain(objective, checkpoint, given.steps, given.rate, given.minutes)


def train_encoder(given: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    sentences = corpora.read_sentences(given.work)
    if not (given.work / "wordpiece" / "tokenizer.json").exists():
        tokenizers.train_wordpiece(sentences, given.work / "wordpiece", VOCABULARY, LONGEST)
    tokenizer = AutoTokenizer.from_pretrained(given.work / "wordpiece")
    teacher = encoder.Teacher(given.teacher, device())
    torch.manual_seed(0)
    student = encoder.Student(len(tokenizer), LONGEST, teacher.width).to(device())
    if given.start:
        start_from(student.heads.bert, given.start)
    lines = (given.work / "pairs.jsonl").read_text("utf-8").splitlines()
    objective = encoder.EncoderObjective(
        student, tokenizer, teacher, sentences, [json.loads(line) for line in lines], given.batch, given.steps
    )
    learn(objective, given.work / "encoder.safetensors", given)


def tokenizer_texts(given: argparse.Namespace) -> list[str]:
    """What a byte-level tokenizer is trained on: prose and structured text in equal parts."""
    draw = random.Random(1)
    prose = list(islice(corpora.passages(given.corpora, given.exclude, decoder.PASSAGE, seed=1), 20_000))
    return prose + [structure.document(draw) for _ in range(20_000)]


def train_decoder(given: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    folder = given.work / "gpt2-tokenizer"
    if not (folder / "tokenizer.json").exists():
        tokenizers.train_byte_bpe(tokenizer_texts(given), folder, "gpt2", BYTE_PAIRS, POSITIONS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not (given.work / "structured.npy").exists():
        decoder.prepare(tokenizer, given.corpora, given.exclude, given.work, given.tokens)
    torch.manual_seed(0)
    model = decoder.new_model(tokenizer, POSITIONS).to(device())
    if given.start:
        start_from(model, given.start)
    prose, structured = (np.load(given.work / f"{name}.npy", mmap_mode="r") for name in ("prose", "structured"))
    objective = decoder.CausalObjective(model, prose, structured, given.batch, end=tokenizer.eos_token_id)
    if given.start:
        objective.settings["started_from"] = given.start.name
    learn(objective, given.work / "decoder.safetensors", given)


def train_denoiser(given: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    folder = given.work / "bart-tokenizer"
    if not (folder / "tokenizer.json").exists():
        tokenizers.train_byte_bpe(tokenizer_texts(given), folder, "bart", BYTE_PAIRS, POSITIONS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    path = given.work / "prose.npy"
    if not path.exists():
        texts = corpora.passages(given.corpora, given.exclude, decoder.PASSAGE)
        decoder.write_tokens(tokenizer, texts, path, given.tokens, tokenizer.eos_token_id)
    torch.manual_seed(0)
    model = denoising.new_model(tokenizer, POSITIONS).to(device())
    if given.start:
        start_from(model, given.start)
    objective = denoising.DenoisingObjective(model, tokenizer, np.load(path, mmap_mode="r"), given.batch)
    learn(objective, given.work / "denoiser.safetensors", given)


def export(given: argparse.Namespace) -> None:
    extra = {}
    if given.kind == "decoder":
        prose = np.load(given.work / "prose.npy")
        cut = decoder.HELD_OUT * (decoder.BLOCK + 1)
        model = ngram.NGram(prose[:-cut][-given.counted :], 4, BYTE_PAIRS)
        extra["four_gram_perplexity"] = round(model.perplexity(prose[-cut:]), 1)
    shipping.export(given.kind, given.work, given.out, given.note, extra)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m peft_helpers.pretraining", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run, told: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=told)
        made.add_argument("--work", type=Path, required=True, help="folder for everything in between")
        made.set_defaults(run=run)
        return made

    collect = command(
        "sentences",
        lambda given: corpora.collect_sentences(given.corpora, given.exclude, given.work),
        "sentences of plain-text files",
    )
    teacher = command("pairs", pairs, "pairs of sentences with the teacher's cosine")
    teacher.add_argument("--teacher", type=Path, required=True, help="folder of a sentence encoder")
    learner = command("encoder", train_encoder, "pocket-bert: masked language modeling and distillation")
    learner.add_argument("--teacher", type=Path, required=True, help="folder of a sentence encoder")
    speaker = command("decoder", train_decoder, "pocket-gpt2: causal language modeling")
    speaker.add_argument("--tokens", type=int, default=9_000_000, help="tokens of prose, and as many structured ones")
    mender = command("denoiser", train_denoiser, "pocket-bart: restoring damaged text")
    mender.add_argument("--tokens", type=int, default=9_000_000, help="tokens of prose")
    for made in (collect, speaker, mender):
        made.add_argument("--corpora", type=Path, required=True, help="folder of plain-text files")
        told = "evaluation sets, the text in the first tab-separated column"
        made.add_argument("--exclude", type=Path, nargs="*", default=[], help=told)
    for made, steps, rate, batch in (
        (learner, 12_000, 6e-4, 64),
        (speaker, 5_000, 1.5e-3, 24),
        (mender, 5_000, 1e-3, 48),
    ):
        made.add_argument("--steps", type=int, default=steps)
        made.add_argument("--rate", type=float, default=rate, help="the peak learning rate")
        made.add_argument("--batch", type=int, default=batch)
        made.add_argument("--start", type=Path, help="folder of a model whose weights to start from")
        made.add_argument("--compile", action="store_true", help="compile the network (torch.compile): meant for a GPU")
        made.add_argument(
            "--minutes", type=float, default=math.inf, help="stop after so long; the same command continues"
        )
    ship = command("export", export, "write the Hub folder with its model card")
    ship.add_argument("--kind", choices=shipping.KINDS, required=True)
    ship.add_argument("--out", type=Path, required=True, help="the model's folder; its name is the model's")
    ship.add_argument("--note", default="", help="a sentence for the model card")
    ship.add_argument("--counted", type=int, default=10**9, help="tokens that the 4-gram baseline counts at most")
    writer = commands.add_parser(
        "continuations", help="write a page of twenty texts by a shipped decoder into its folder"
    )
    writer.add_argument("--out", type=Path, required=True, help="the model's folder")
    writer.set_defaults(
        run=lambda given: storage.write_text(given.out / "CONTINUATIONS.md", shipping.continuations(given.out))
    )
    page = commands.add_parser("page", help="write the page of loss curves beside the shipped models")
    page.set_defaults(run=lambda given: shipping.page(sorted(p.parent for p in MODELS.glob("*/training.json")), MODELS))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()

"""From a checkpoint to what ships: a Hub folder in half precision, its model card, and the page of loss curves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peft_helpers import storage
from peft_helpers.pretraining import corpora, decoder, denoising, encoder, loop

PROBE = "The keeper lit the lamp before the storm came in."  # its outputs are stored beside the weights
KINDS = ("encoder", "decoder", "denoiser")


def build(kind: str, work: Path) -> tuple[nn.Module, Any, dict[str, Any]]:
    """The trained model (float32), its tokenizer, and the checkpoint's state."""
    from transformers import AutoTokenizer

    tensors, state = storage.read_tensors(work / f"{kind}.safetensors")
    folder = {"encoder": "wordpiece", "decoder": "gpt2-tokenizer", "denoiser": "bart-tokenizer"}[kind]
    tokenizer = AutoTokenizer.from_pretrained(work / folder)
    if kind == "encoder":
        positions, width = tensors["model.heads.bert.embeddings.position_embeddings.weight"].shape
        layers = 1 + max(int(name.split(".")[5]) for name in tensors if name.startswith("model.heads.bert.encoder."))
        student = encoder.Student(len(tokenizer), positions, len(tensors["model.word.weight"]), width, layers)
        loop.load(student, tensors)
        model = student.heads
    else:
        maker = decoder.new_model if kind == "decoder" else denoising.new_model
        model = maker(tokenizer)
        loop.load(model, tensors)
    return model, tokenizer, state


def export(kind: str, work: Path, out: Path, note: str = "", extra: dict[str, Any] | None = None) -> None:
    """Write the Hub folder; plain `Auto…from_pretrained(out)` loads it.

    Args:
        kind: "encoder", "decoder" or "denoiser".
        work: the folder of a finished or stopped pretraining.
        out: the model's folder; its name is the model's.
        note: a sentence for the card, on anything that the settings do not tell.
        extra: figures for the card and `training.json` that were measured apart.

    Raises:
        ValueError: for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no model kind {kind!r}; there are {', '.join(KINDS)}")
    model, tokenizer, state = build(kind, work)
    model.eval().half()
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout"):  # fmt: skip  # noqa: E501
        if hasattr(model.config, name):
            setattr(model.config, name, 0.1)  # dropout is for fine-tuning; pretraining ran without
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # written private; a shipped file is for everyone
    tokenizer.save_pretrained(out)
    made = {
        "kind": kind, "settings": state["settings"], "history": state["history"], "steps_done": state["step"],
        "seconds": round(state["seconds"]), "note": note, "parameters": sum(p.numel() for p in model.parameters()),
        "probe": {"text": PROBE, "logits": probe(model.float(), tokenizer)}, **(extra or {}),
    }  # fmt: skip
    if (work / "sources.json").exists():
        made["sources"] = json.loads((work / "sources.json").read_text("utf-8"))
    storage.write_json(out / "training.json", made)
    storage.write_text(out / "README.md", card(made, out.name))
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


@torch.no_grad()
def probe(model: nn.Module, tokenizer: Any) -> list[float]:
    """Eight logits of the last position on the probe sentence."""
    inputs = tokenizer(PROBE, return_tensors="pt")
    output = model.eval()(**inputs)
    logits = output.prediction_logits if hasattr(output, "prediction_logits") else output.logits
    return [round(value, 3) for value in logits[0, -1, 100:108].tolist()]


# ---------------------------------------------------------------- what a decoder writes

OPENINGS = (
    "The old house at the end of the lane", "She opened the letter and", "In the spring of that year, the river",
    "The city lies on the coast and is known for", "I would like to book a table", "He was born in a small village",
    "The film is about a young man who", "What I like about this camera is", "At last the door opened, and",
    "The species is found in", "Can you tell me what time", "The first thing that she noticed was",
    "After the war, the company", "It was a cold morning, and the",
)  # fmt: skip
LISTS = (
    "name: Ember Hall | type: museum | topic: clocks | since: 1911 =>",
    "name: The Copper Lantern | kind: hotel | rooms: 24 | near: Fenwick Bridge =>",
    "name: Tobias Marlow | job: painter | city: Durran =>",
    "name: Pell River | country: Averia | length: 310 km =>",
    "name: Dot | kind: cat | age: 4 years | temper: lazy =>",
    "name: Vex 12 | type: phone | color: green | price: less than $200 =>",
)


@torch.no_grad()
def continuations(folder: Path, tokens: int = 40, seed: int = 0) -> str:
    """A page of twenty texts that a shipped decoder writes: openings sampled on, lists put into words greedily."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for opening in (*OPENINGS, *LISTS):
        torch.manual_seed(seed)
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(opening, add_special_tokens=False)["input_ids"]]])
        how = {"do_sample": True, "temperature": 0.7, "top_p": 0.9} if opening in OPENINGS else {"do_sample": False}
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **how,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        text = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        text = text if opening in OPENINGS else text.split("\n")[0]  # lists come in series: the answer is one line
        rows.append(f"- **{opening}** {' '.join(text.split())}")
    told = "\n".join(rows)
    return f"""# Twenty continuations by {folder.name}

Nobody chose among them. Openings are in bold; prose is sampled (seed {seed}, temperature 0.7, top-p 0.9, {tokens}
tokens, cut there), the answer to a list is the likeliest token at each step, up to the end of the line. Made by
`python -m peft_helpers.pretraining continuations --out {folder.name}`.

{told}
"""


# ---------------------------------------------------------------- model cards

HOW = {
    "encoder": """\
Four objectives at once (`python -m peft_helpers.pretraining encoder`): the pooler's output learns to point where the
teacher's sentence vector points, each word's state where the teacher's word points, the masked-language head names
hidden pieces, and for pairs in one input the next-sentence head gives the teacher's cosine as a probability (class 0:
they say the same).

- **Teacher:** sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). It was itself trained on a billion sentence pairs,
  among them Quora and WikiAnswers duplicates, SNLI and MultiNLI. What this student knows about paraphrase and
  similarity comes from there: **no claim of label efficiency on such tasks can rest on it.**""",
    "decoder": """\
Causal language modeling (`python -m peft_helpers.pretraining decoder`), half of each batch prose, half
structured text: lists of attributes in many formats, each followed by sentences that say the same. The lists are made
by `peft_helpers/pretraining/structure.py`; they know no restaurants and no hiking trails, so that the generation tasks
of the course are new to the model.""",
    "denoiser": """\
Two objectives in equal parts (`python -m peft_helpers.pretraining denoiser`): restoring prose of which spans
were replaced by `<mask>` (30 % of the tokens), and putting lists of attributes into sentences. The lists are made by
`peft_helpers/pretraining/structure.py`; they know no restaurants and no hiking trails, so that the course's generation
tasks are new to the model.""",
}
REPEATS = """
Of the {batch} rows of a batch, {repeats} are repeats instead: random tokens, said again and
again, which teach copying."""
SHAPE = {
    "encoder": "A small BERT encoder: {parameters} parameters with its pretraining heads, 4 layers × 256, 4 heads, an "
    "uncased\nWordPiece vocabulary of 8,192, at most 128 positions.",
    "decoder": "A small GPT-2 decoder: {parameters} parameters, 4 layers × 256, 4 heads, a byte-level BPE vocabulary "
    "of 4,096,\nat most 256 positions.",
    "denoiser": "A small BART encoder-decoder: {parameters} parameters, 2 + 2 layers × 256, 4 heads, a byte-level BPE "
    "vocabulary\nof 4,096, at most 256 positions.",
}
FIGURES = {
    "cosine": "cosine with the teacher's sentence vectors",
    "word_cosine": "cosine with the teacher's words (whole and masked sentences)",
    "masked": "loss at masked pieces (nats)",
    "pairs": "twice the divergence from the teacher's pair probability (nats)",
    "prose": "loss on prose (nats a token)",
    "structured": "loss on structured text (nats a token)",
    "repeats": "loss on random tokens said again (nats a token)",
}


def held_out(made: dict[str, Any]) -> dict[str, float]:
    """The last figures on held-out text."""
    last = made["history"][-1]
    return {name: last[f"held_out_{name}"] for name in FIGURES if f"held_out_{name}" in last}


def card(made: dict[str, Any], name: str) -> str:
    """The model card, from what `export` knows about the making."""
    settings, kind = made["settings"], made["kind"]
    repeats = REPEATS.format(**settings) if settings.get("repeats") else ""
    if kind == "encoder":
        told = f"{settings['sentences']:,} sentences and {settings['pairs']:,} pairs at hand"
        amount = f"batches of {settings['batch']} sentences (every fourth of half as many pairs), {told}"
    else:
        block = settings["block"]
        seen = made["steps_done"] * settings["batch"] * block
        amount = f"batches of {settings['batch']} rows of at most {block} tokens: about {seen / 1e6:.1f} M tokens seen"
    figures = "\n".join(f"| {FIGURES[key]} | {value:.3f} |" for key, value in held_out(made).items())
    if "four_gram_perplexity" in made:
        figures += f"\n| perplexity on held-out prose | {math.exp(held_out(made)['prose']):.1f} |"
        figures += f"\n| the same of a 4-gram model of the same text | {made['four_gram_perplexity']:.1f} |"
    counts = made.get("sources", {}).get("sentences", {})
    rows = []
    for key in counts or corpora.CORPORA:
        title, terms = corpora.CORPORA.get(key, (key, "see its source"))
        rows.append(f"| {title} | {terms} | {f'{counts[key]:,} sentences' if counts else 'passages, drawn in turn'} |")
    texts = "\n".join(rows)
    where = "one core of a shared machine" if settings["device"] == "cpu" else settings["device"]
    warmup, rate = f"{settings['warmup']:.0%}", f"{settings['learning_rate']:g}"
    teacher = " and of its teacher" if kind == "encoder" else ""
    note = f"- **Note:** {made['note']}\n" if made.get("note") else ""
    return f"""---
license: apache-2.0
language: en
library_name: transformers
---
# {name}

{SHAPE[kind].format(parameters=f"{made['parameters']:,}")} It was made for a course on fine-tuning: it loads in a
moment, trains on two CPU cores, and knows enough English that fine-tuning it beats starting from random weights.

## How it was made

{HOW[kind]}{repeats}
- **Steps:** {made["steps_done"]:,} with {amount}.
- **Settings:** AdamW, peak rate {rate} after {warmup} of warm-up, linear decay to 0, bf16 autocast,
  seed {settings["seed"]}, no dropout.
{note}- **Time and device:** {made["seconds"] / 60:.0f} minutes on {where}, torch {settings["torch"]}.
- `training.json` holds all settings and the whole history.

| held out | |
|---|---:|
{figures}

## Text

Lines that contain an item of SST-2's dev or test set were dropped.

| corpus | license | |
|---|---|---|
{texts}

## Limits

English only, mostly edited prose of two centuries and scripted dialogues: it has the biases of its
texts{teacher}. It is small and was trained briefly: it knows few facts, and what it writes is often wrong. It is for
teaching; do not build on its judgment.
"""


# ---------------------------------------------------------------- the page


def page(folders: Sequence[Path], out: Path) -> None:
    """Write `out/README.md` and `out/loss_curves.png`: how the pocket models were made, with their curves."""
    from peft_helpers import plots
    from peft_helpers.pretraining import reached

    histories = {folder.name: json.loads((folder / "training.json").read_text("utf-8")) for folder in folders}
    figure = plots.pretraining_curves({name: made["history"] for name, made in histories.items()})
    with storage.replace_atomically(out / "loss_curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    rows = []
    for name, made in histories.items():
        figures = ", ".join(f"{FIGURES[key].split(' (')[0]} {value:.2f}" for key, value in held_out(made).items())
        rows.append(
            f"| [{name}]({name}/README.md) | {made['parameters']:,} | {made['steps_done']:,} | "
            f"{made['seconds'] / 60:.0f} | {figures} |"
        )
    table = "\n".join(rows)
    storage.write_text(
        out / "README.md",
        f"""# How the pocket models were made

Small Transformers ship with the course, so that every lesson runs without a network. All of them were trained by
`python -m peft_helpers.pretraining`, a script that can be stopped and resumed at any time, on openly licensed text.

| model | parameters | steps | minutes | on held-out text |
|---|---:|---:|---:|---|
{table}

![Loss by step for each pocket model, in training and on held-out text.](loss_curves.png)

{reached.section()}
## Make them again

With a folder of plain-text files (the model cards name them and their licenses), evaluation sets to keep out, and a
sentence encoder as the teacher:

```sh
python -m peft_helpers.pretraining sentences --corpora DIR --exclude FILE … --work WORK
python -m peft_helpers.pretraining pairs     --teacher DIR --work WORK
python -m peft_helpers.pretraining encoder   --teacher DIR --work WORK --minutes 60
python -m peft_helpers.pretraining decoder   --corpora DIR --exclude FILE … --work WORK --minutes 60
python -m peft_helpers.pretraining denoiser  --corpora DIR --exclude FILE … --work WORK --minutes 60
python -m peft_helpers.pretraining export    --kind encoder --work WORK --out DIR
python -m peft_helpers.pretraining continuations --out peft_helpers/pocket/models/pocket-gpt2
python -m peft_helpers.pretraining page
```

Each of the three trainings stops after `--minutes` and goes on when called again. A GPU is used if there is one, and
`--compile` is meant for it.
""",
    )

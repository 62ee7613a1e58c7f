"""Sampling explorer (lesson 09): temperature and top-k -> the distribution of the next token, and a whole text.

All texts are written once, when the explorer is made: one batch with a row for every state. The dice are the same in
every row of a throw, so what differs between two states is the controls' doing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from peft_helpers.plots.style import COLORS, panels, styled
from peft_helpers.widgets.explorer import HEIGHT, WIDTH, Explorer, Readout, choice, figures, steps

if TYPE_CHECKING:
    from torch import Tensor

    from peft_helpers.decoder import Decoder

PROMPT = "The trail leads to"
TEMPERATURES = (0.2, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
TOP_KS = (1, 3, 10, 30, 100, 0)  # 0: all tokens
THROWS = 3
SHOWN = 12  # tokens in the picture
NEW_TOKENS = 36
LINE, LINES = 36, 9  # letters a line and lines of text that the picture has room for


@dataclass(frozen=True)
class Prompted:
    """Everything that the explorer can show of one prompt.

    Attributes:
        prompt: the text to go on from.
        tokens: names of the V tokens.
        logits: (V,), of the next token.
        texts: (temperature, top_k, throw) -> what was written.
    """

    prompt: str
    tokens: tuple[str, ...]
    logits: np.ndarray
    texts: dict[tuple[float, int, int], str]


@dataclass(frozen=True)
class SamplingReading:
    """One state.

    Attributes:
        temperature, top_k, throw: the controls; top_k 0 keeps all.
        names: the likeliest tokens, as many as are shown.
        plain: their probabilities at temperature 1, nothing cut.
        now: their probabilities in this state.
        kept: how many tokens can still be drawn.
        choices: exp(entropy): among how many equally likely tokens the draw would be as open.
        rest: probability of the tokens that are not shown.
        text: what was written after the prompt.
    """

    prompt: str
    temperature: float
    top_k: int
    throw: int
    names: tuple[str, ...]
    plain: np.ndarray
    now: np.ndarray
    kept: int
    choices: float
    rest: float
    text: str


def drawn(logits: Tensor, temperatures: Tensor, top_ks: Tensor, dice: Tensor) -> Tensor:
    """One token a row, each row with its own temperature and top-k, by the same dice as its neighbors.

    Tokens stand in the order of their logits, and a die in 0 … 1 falls on one of them. Shape: (B, V), three times (B,)
    -> (B,).
    """
    import torch

    ordered, places = (logits / temperatures[:, None]).sort(dim=-1, descending=True)
    rank = torch.arange(ordered.shape[1], device=logits.device)
    ordered = ordered.masked_fill((top_ks[:, None] > 0) & (rank >= top_ks[:, None]), float("-inf"))
    shares = ordered.double().softmax(dim=-1).cumsum(dim=-1)
    column = (shares < (dice * shares[:, -1].clamp(max=1 - 1e-9))[:, None]).sum(dim=-1, keepdim=True)
    return places.gather(1, column.clamp(max=logits.shape[1] - 1))[:, 0]


def read_prompt(
    model: Decoder, ids: Sequence[int], prompt: str, tokens: Sequence[str], decode, end: int, seed: int = 0
) -> Prompted:
    """Write on from a prompt in every state.

    Args:
        model: gives (logits, cache), see `decoder.Decoder`.
        ids: the prompt's tokens.
        prompt: the same as text.
        tokens: names of the V tokens.
        decode: token ids -> text.
        end: the token that ends a text.
        seed: of the dice.

    Raises:
        ValueError: an empty prompt.
    """
    import torch

    from peft_helpers.decoding import generate

    if not len(ids):
        raise ValueError("the prompt is empty: there is nothing to go on from")
    states = [(t, k, throw) for t in TEMPERATURES for k in TOP_KS for throw in range(1, THROWS + 1)]
    device = model.words.weight.device
    temperatures, top_ks, throws = (torch.tensor(column, device=device) for column in zip(*states, strict=True))
    dice = torch.rand(NEW_TOKENS, THROWS, generator=torch.Generator().manual_seed(seed))
    thrown = iter(dice.to(device)[:, throws - 1])
    batch = torch.tensor([list(ids)], device=device).expand(len(states), -1)
    with torch.no_grad():
        logits = model(batch[:1])[0][0, -1]
    made = generate(
        model, batch, torch.ones_like(batch), NEW_TOKENS, end, lambda z: drawn(z, temperatures, top_ks, next(thrown))
    )
    texts = []
    for row in made.tolist():
        row = row[: row.index(end)] if end in row else row
        texts.append(" ".join(decode(row).split()))
    return Prompted(prompt, tuple(tokens), logits.cpu().double().numpy(), dict(zip(states, texts, strict=True)))


def compute(prompted: Prompted, temperature: float, top_k: int, throw: int) -> SamplingReading:
    """One choice of the controls -> everything that the explorer shows."""
    import torch

    from peft_helpers.decoding import sampling_distribution

    logits = torch.from_numpy(prompted.logits)
    now = sampling_distribution(logits, temperature, top_k or None).numpy()
    plain = logits.softmax(-1).numpy()
    shown = np.argsort(-plain, kind="stable")[:SHOWN]
    some = now[now > 0]
    return SamplingReading(
        prompted.prompt, temperature, top_k, throw, tuple(prompted.tokens[i] for i in shown), plain[shown], now[shown],
        len(some), float(np.exp(-(some * np.log(some)).sum())), float(1 - now[shown].sum()),
        prompted.texts[temperature, top_k, throw],
    )  # fmt: skip


class SamplingView:
    """Bars of the likeliest tokens, before and now, and the text beside them."""

    @styled
    def __init__(self, prompted: Prompted):
        count = min(SHOWN, len(prompted.tokens))
        self.figure, (bars, page) = panels(2, width=WIDTH, height=HEIGHT)
        rows = np.arange(count)
        self.plain = bars.barh(rows, np.zeros(count), 0.78, facecolor="white", edgecolor=COLORS["gray"],
                               hatch="////", label="T = 1, all tokens")  # fmt: skip
        self.now = bars.barh(rows, np.zeros(count), 0.44, color=COLORS["blue"], label="now")
        self.names = [bars.text(-0.02, y, "", ha="right", va="center", fontsize=9.5) for y in rows]
        for name in self.names:  # room for them is kept by the limits, not by the layout
            name.set_in_layout(False)
        ticks = (0, 0.03, 0.1, 0.3, 1)
        bars.set(title="the next token", xlim=(-0.42, 1.02), ylim=(count - 0.4, -0.6), yticks=[],
                 xticks=[tick**0.5 for tick in ticks], xticklabels=[f"{tick:g}" for tick in ticks],
                 xlabel="probability (root scale)")  # fmt: skip
        bars.spines["left"].set_visible(False)
        bars.grid(axis="y", visible=False)
        bars.legend(loc="lower right", borderaxespad=0, handlelength=1.2)
        page.set(title="a whole text", xlim=(0, 1), ylim=(0, 1))
        page.set_axis_off()
        self.text = page.text(0.0, 0.97, "", va="top", ha="left", fontsize=11, linespacing=1.35)
        self.text.set_in_layout(False)
        self.moving = [*self.plain, *self.now, *self.names, self.text]

    def show(self, reading: SamplingReading) -> None:
        """Update bars, names and text."""
        for group, widths in ((self.plain, reading.plain), (self.now, reading.now)):
            for bar, width in zip(group, widths, strict=True):
                bar.set_width(width**0.5)
        for label, name, share in zip(self.names, reading.names, reading.now, strict=True):
            label.set_text(name)
            label.set_color(COLORS["black"] if share > 0 else COLORS["gray"])
        lines = textwrap.wrap(f"{reading.prompt} → {reading.text}", LINE, break_long_words=True)
        lines = lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: LINE - 2] + " …"]
        self.text.set_text("\n".join(lines).replace("$", r"\$"))
        self.figure.alt = (
            "Two panels: bars of the likeliest next tokens at temperature 1 and now; the text that was written. "
            + describe(reading).summary
        )


def describe(reading: SamplingReading) -> Readout:
    """The exact values."""
    cut = f"the {reading.kept} likeliest" if reading.top_k else f"all {reading.kept:,}"
    summary = (
        f"Temperature {reading.temperature:g}, {cut} tokens, throw {reading.throw}: as open as a draw among "
        f"{figures(reading.choices, 1)} equally likely tokens. Text: {reading.prompt} → {reading.text or '(nothing)'}"
    )
    rows = [
        [name, figures(before, 4), figures(now, 4)]
        for name, before, now in zip(reading.names[:6], reading.plain.tolist(), reading.now.tolist(), strict=False)
    ]
    rows.append(["all not shown in the picture", figures(1 - float(reading.plain.sum()), 4), figures(reading.rest, 4)])
    return Readout(summary, ("next token", "T = 1, all", "now"), rows)


def sampling_explorer(backbone: str, prompt: str = PROMPT, seed: int = 0) -> Explorer:
    """Turn temperature and top-k, and see the distribution and a text that is drawn from such distributions.

    Args:
        backbone: a GPT-2 that `backbones.find` knows.
        prompt: the text to go on from.
        seed: of the dice.

    Raises:
        ValueError: an empty prompt, or a backbone that is no GPT-2.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from peft_helpers import backbones
    from peft_helpers.decoder import copy_gpt2

    place, device = backbones.find(backbone), "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = copy_gpt2(AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).to(device).eval())
    names = [visible(tokenizer.decode([i])) for i in range(model.words.num_embeddings)]
    ids = tokenizer(prompt)["input_ids"]
    return explore(read_prompt(model, ids, prompt, names, tokenizer.decode, tokenizer.eos_token_id, seed))


def visible(token: str) -> str:
    """A token as a label: a leading space as ·, a line's end as ¶, at most 14 letters."""
    shown = token.replace(" ", "·").replace("\n", "¶").replace("$", r"\$")
    shown = "".join(letter if letter.isprintable() and letter != "\ufffd" else "?" for letter in shown)
    return shown if len(shown) <= 14 else shown[:13] + "…"


def explore(prompted: Prompted) -> Explorer:
    """The explorer of a prompt whose texts are written already."""
    controls = {
        "throw": choice("dice", [(f"throw {i}", i) for i in range(1, THROWS + 1)], 1),
        "temperature": steps("temperature", [(f"{t:g}", t) for t in TEMPERATURES], 0.7),
        "top_k": steps("top-k", [(str(k) if k else "all", k) for k in TOP_KS], 10),
    }
    title = "Sampling explorer: temperature, top-k, throw of the dice"
    return Explorer("sampling", title, controls, partial(compute, prompted), partial(SamplingView, prompted), describe)

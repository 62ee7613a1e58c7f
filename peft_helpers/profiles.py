"""The two profiles of the course: `pocket` (offline, any laptop) and `full` (models and data from the Hub, a GPU)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    """Which backbones and tasks stand for the roles that the lessons speak of.

    Attributes:
        name: "pocket" or "full".
        encoder: the encoder backbone's name, for `backbones.load`.
        sentiment: the sentiment classification task's name, for `tasks.load`.
        similarity: the sentence similarity (regression) task's name.
        device: where training runs: "cuda", "mps" or "cpu".
        seed: the seed that `setup` has set.
        decoder: the backbone that writes on from its prompt.
        encoder_decoder: the backbone that reads a source and writes a target.
        writing: the data-to-text (generation) task's name.
    """

    name: str
    encoder: str
    sentiment: str
    similarity: str
    device: str = "cpu"
    seed: int = 0
    decoder: str = "pocket-gpt2"
    encoder_decoder: str = "pocket-bart"
    writing: str = "trails"

    @property
    def is_pocket(self) -> bool:
        return self.name == "pocket"

    def __repr__(self) -> str:
        roles = f"encoder {self.encoder} · tasks {self.sentiment}, {self.similarity}"
        return f"profile {self.name} on {self.device} · {roles} · seed {self.seed}"


PROFILES = {
    "pocket": Profile("pocket", encoder="pocket-bert", sentiment="sentiment", similarity="similarity"),
    "full": Profile(
        "full",
        encoder="bert-base-uncased",
        sentiment="sst2",
        similarity="stsb",
        decoder="gpt2",
        encoder_decoder="bart-base",
    ),
}


def setup(profile: str | None = None, seed: int = 0) -> Profile:
    """Choose a profile, seed every random generator, quiet the libraries' loading chatter.

    Args:
        profile: "pocket" or "full"; by default the environment variable PEFT_PROFILE, else "pocket".
        seed: for Python, NumPy and PyTorch.

    Raises:
        ValueError: if there is no such profile.
    """
    name = profile or os.environ.get("PEFT_PROFILE") or "pocket"
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; there are {' and '.join(map(repr, PROFILES))}")
    import datasets
    import transformers

    transformers.set_seed(seed)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # a new head is expected here; the lessons say so in words
    datasets.disable_progress_bars()
    return replace(PROFILES[name], device=default_device(), seed=seed)


def default_device() -> str:
    """The fastest device that this machine has: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"

"""Is everything there that the course needs? Versions, device, memory, pocket models and data, network.

Each line says what was found and, where something is missing, how to mend it.
"""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from peft_helpers import storage

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "ipywidgets", "matplotlib")
POCKET = Path(__file__).parent / "pocket"
SUMS = "SHA256SUMS"  # in POCKET, where there is one: "<sha256>  <path below POCKET>" a line
ASSETS = {
    "pocket-bert": ("models/pocket-bert", ("config.json", "model.safetensors", "tokenizer.json")),
    "data sentiment": ("data/sentiment", ("train.jsonl", "dev.jsonl", "test.jsonl")),
    "data similarity": ("data/similarity", ("train.jsonl", "dev.jsonl", "test.jsonl")),
}
FREE_BYTES = 2 * 1024**3  # what a lesson takes, PyTorch included, with room to spare
HUB_SECONDS = 3.0
INSTALL = "in the course's folder: python -m pip install -e .   (or: make lab)"
MARKS = {"ok": "✓", "note": "·", "missing": "✗"}


@dataclass(frozen=True)
class Item:
    """One line of the report.

    Attributes:
        name: what was looked at. found: what there is.
        status: "ok"; "note" if the pocket lessons run without it; "missing" if they don't.
        mend: what to do about it.
    """

    name: str
    found: str
    status: str = "ok"
    mend: str = ""


@dataclass(frozen=True)
class SetupReport:
    """What `check_setup` found; `ready` says whether the pocket lessons will run."""

    items: tuple[Item, ...]

    @property
    def ready(self) -> bool:
        return all(item.status != "missing" for item in self.items)

    @property
    def summary(self) -> str:
        """One sentence."""
        missing = [item.name for item in self.items if item.status == "missing"]
        return (
            "Ready: every lesson of the pocket profile runs here." if not missing else f"To mend: {', '.join(missing)}."
        )

    def __repr__(self) -> str:
        lines = [self.summary]
        for item in self.items:
            lines.append(f"{MARKS[item.status]} {item.name:15} {item.found}")
            if item.mend:
                lines.append(f"{'':17} → {item.mend}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{MARKS[item.status]}</td><td style='text-align:left'>{html.escape(item.name)}</td>"
            f"<td style='text-align:left'>{html.escape(item.found)}</td>"
            f"<td style='text-align:left'>{html.escape(item.mend)}</td></tr>"
            for item in self.items
        )
        head = "<tr><th></th>" + "".join(
            f"<th style='text-align:left'>{title}</th>" for title in ("what", "found", "to do")
        )
        return f"<p><b>{html.escape(self.summary)}</b></p><table>{head}</tr>{rows}</table>"


def check_setup() -> SetupReport:
    """Look at everything, in a few seconds at most; never raises, and asks the network only if it may."""
    minimums = _minimums()
    items = [_version("Python", platform.python_version(), minimums.get("python", ""))]
    for name in LIBRARIES:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = None
        items.append(_version(name, found, minimums.get(name, "")))
    items += [_device(), _memory(), *_assets(), _hub()]
    return SetupReport(tuple(items))


# ---------------------------------------------------------------- one function an item


def _minimums() -> dict[str, str]:
    """What the installed package asks for: library -> version specifier, such as ">=2.10"."""
    from packaging.requirements import Requirement

    try:
        about = metadata.metadata("peft_helpers")
        lines = metadata.requires("peft_helpers") or []
    except metadata.PackageNotFoundError:  # run from a copied folder: nothing to compare with
        return {}
    wanted = [Requirement(line) for line in lines if "extra ==" not in line]
    return {r.name: str(r.specifier) for r in wanted} | {"python": about.get("Requires-Python") or ""}


def _version(name: str, found: str | None, wanted: str) -> Item:
    from packaging.specifiers import SpecifierSet

    if found is None:
        return Item(name, "not installed", "missing", INSTALL)
    text = f"{found}, needs {wanted.replace('>=', '≥ ')}" if wanted else found
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return Item(name, text)
    if name == "Python":
        return Item(name, text, "missing", "install a newer Python, then: make lab PYTHON=python3.12")
    return Item(name, text, "missing", f'python -m pip install "{name}{wanted}"')


def _device() -> Item:
    try:
        import torch

        from peft_helpers.profiles import default_device

        device = default_device()
        if device == "cuda":
            free, total = (round(size / 1024**3, 1) for size in torch.cuda.mem_get_info())
            return Item("device", f"GPU {torch.cuda.get_device_name()}, {free} of {total} GB free")
        if device == "mps":
            return Item("device", "GPU of this Mac (mps)")
        return Item("device", f"CPU, {os.cpu_count()} cores: enough for the pocket profile", "ok")
    except Exception as error:  # a broken driver or library shows itself in many ways
        return Item("device", f"PyTorch can't be used ({type(error).__name__})", "missing", INSTALL)


def _memory() -> Item:
    import psutil  # comes with accelerate

    memory = psutil.virtual_memory()
    text = f"{memory.available / 1024**3:.1f} of {memory.total / 1024**3:.1f} GB free"
    if memory.available < FREE_BYTES:
        return Item("memory", text, "note", "close other programs and notebooks: a lesson takes up to 2 GB")
    return Item("memory", text)


def _assets() -> Iterator[Item]:
    """Each pocket model and task: are its files there, and are they the ones that were shipped?"""
    sums = _shipped_sums()
    for name, (folder, files) in ASSETS.items():
        paths = {f"{folder}/{file}": POCKET / folder / file for file in files}
        if missing := [key for key, path in paths.items() if not path.is_file() or path.stat().st_size == 0]:
            yield Item(name, f"missing: {', '.join(missing)}", "missing", f"get the course again, or {INSTALL}")
            continue
        changed = [key for key, path in paths.items() if key in sums and storage.sha256(path) != sums[key]]
        if changed:
            mend = "get the course again: git checkout, or install it anew"
            yield Item(name, f"not as shipped: {', '.join(changed)}", "missing", mend)
            continue
        size = sum(path.stat().st_size for path in paths.values()) / 1e6
        checked = "SHA-256 as shipped" if all(key in sums for key in paths) else "present"
        yield Item(name, f"{size:.1f} MB, {checked}")


def _shipped_sums() -> dict[str, str]:
    if not (POCKET / SUMS).is_file():
        return {}
    lines = (POCKET / SUMS).read_text(encoding="utf-8").splitlines()
    return {path.lstrip("*"): digest for digest, path in (line.split(maxsplit=1) for line in lines if line.strip())}


def _hub() -> Item:
    """Only the full profile needs the Hub: not reaching it is worth a note, no more."""
    name = "Hugging Face Hub"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return Item(name, "not asked (HF_HUB_OFFLINE is set); the pocket profile needs none")
    try:
        import huggingface_hub

        huggingface_hub.HfApi().model_info("google-bert/bert-base-uncased", timeout=HUB_SECONDS)
    except Exception as error:  # no network, a proxy, a firewall, a stalled or failing server
        return Item(
            name,
            f"not reached ({type(error).__name__})",
            "note",
            "only the full profile needs it; or put local copies where PEFT_MODELS and PEFT_DATA point",
        )
    return Item(name, "reached: the full profile can download its models")

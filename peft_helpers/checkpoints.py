"""A training run on the disk: what `training.fit` needs to go on, bit for bit, where it was stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_helpers import storage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_helpers.tasks import Task
    from peft_helpers.training import Run


def fingerprint(run: Run, task: Task, trained: dict[str, nn.Parameter]) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    shapes = json.dumps({name: list(p.shape) for name, p in trained.items()})
    text = json.dumps([list(task.splits["train"][c]) for c in (*task.text_columns, "label")])
    settings = {k: v for k, v in asdict(run.settings).items() if k != "progress"}
    digest = {
        "trained tensors": hashlib.sha256(shapes.encode()).hexdigest()[:16],
        "training data": hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    return {"task": run.task, "backbone": run.backbone} | settings | digest


class Keeper:
    """Saves and restores a run: trained tensors, optimizer, random state and history in one safetensors file."""

    def __init__(
        self,
        folder: str | Path,
        fingerprint: dict[str, Any],
        trained: dict[str, nn.Parameter],
        optimizer,
        scaler,
        writes: bool,
    ):
        self.last, self.best = Path(folder) / "last.safetensors", Path(folder) / "best.safetensors"
        self.fingerprint, self.trained, self.optimizer, self.scaler, self.writes = (
            fingerprint,
            trained,
            optimizer,
            scaler,
            writes,
        )

    def exists(self) -> bool:
        return self.last.is_file()

    def save_best(self, weights: dict[str, Tensor]) -> None:
        if self.writes:
            storage.write_tensors(self.best, weights, {"fingerprint": self.fingerprint})

    def save(self, run: Run, step: int, waited: int) -> None:
        import torch

        tensors = {f"model.{name}": p for name, p in self.trained.items()}
        state = self.optimizer.state_dict()
        for index, values in state["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        progress = {"step": step, "waited": waited, "history": run.history, "best": run.best, "seconds": run.seconds}
        progress["accumulation"] = run.accumulation
        metadata = {
            "fingerprint": self.fingerprint,
            "progress": progress,
            "groups": state["param_groups"],
            "scaler": self.scaler.state_dict(),
        }
        storage.write_tensors(self.last, tensors, metadata)

    def restore(self, run: Run) -> tuple[int, dict[str, Tensor], int]:
        """Put everything back; nothing is changed unless the whole checkpoint fits."""
        import torch

        tensors, metadata = storage.read_tensors(self.last)
        self._refuse_foreign(self.last, metadata)
        weights = {name: tensors.pop(f"model.{name}") for name in self.trained if f"model.{name}" in tensors}
        missing = sorted(set(self.trained) - set(weights))
        unexpected = sorted(key for key in tensors if not key.startswith(("optimizer.", "random.")))
        if missing or unexpected:
            raise ValueError(
                f"{self.last} does not fit: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}"
            )
        progress, best = metadata["progress"], {}
        if run.settings.keep_best and progress["best"]:
            best, best_metadata = storage.read_tensors(self.best)
            self._refuse_foreign(self.best, best_metadata)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        with torch.no_grad():
            for name, value in weights.items():
                self.trained[name].copy_(value)
        self.optimizer.load_state_dict({"state": state, "param_groups": metadata["groups"]})
        if metadata["scaler"]:
            self.scaler.load_state_dict(metadata["scaler"])
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        run.history, run.best, run.seconds = progress["history"], progress["best"], progress["seconds"]
        run.accumulation = progress["accumulation"]
        return progress["step"], best, progress["waited"]

    def _refuse_foreign(self, path: Path, metadata: dict[str, Any]) -> None:
        theirs = metadata.get("fingerprint")
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} is no checkpoint of fit; name another folder, or delete the file to start afresh")
        differing = [
            k for k in sorted(self.fingerprint.keys() | theirs.keys()) if self.fingerprint.get(k) != theirs.get(k)
        ]
        if differing:
            told = "; ".join(f"{k}: {theirs.get(k)} there, {self.fingerprint.get(k)} here" for k in differing)
            raise ValueError(
                f"{path} belongs to another run ({told}). Name another folder, or delete the file to start afresh"
            )

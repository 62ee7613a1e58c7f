"""A sweep that can be stopped at any moment, even by `kill -9`, and goes on where it was; processes may share it.

    python -m peft_helpers.sweep --storage runs/rates --task sentiment --labels 200 --method LoRA --rates 3e-4 1e-3 3e-3

Optuna (arXiv:1907.10902) keeps the trials in one SQLite file. What this module adds: a configuration runs once, even if
two processes start at the same moment; a trial whose process died is found at once and continued, not started again;
and a result that was on the disk before the process died is read, not computed a second time.

Optuna is in the extra `lab` (`pip install optuna`); nothing else of the course needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_helpers import storage

if TYPE_CHECKING:
    import optuna

Objective = Callable[[dict[str, Any], Path], float]  # (configuration, the trial's own folder) -> score
NAME = "sweep"
WAIT = 120  # seconds for another process's turn


@dataclass(frozen=True)
class Row:
    """One configuration of a sweep.

    Attributes:
        parameters: its settings.
        state: "waiting", "running" or "done".
        score: of a finished one.
        sittings: how many processes have worked on it; more than one if some were killed.
    """

    parameters: dict[str, Any]
    state: str
    score: float | None
    sittings: int


def available() -> bool:
    """Whether Optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def grid(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the choices, in the order in which they are tried.

    Raises:
        ValueError: nothing to choose from.
    """
    if not choices or not all(len(values) for values in choices.values()):
        raise ValueError(f"a sweep needs settings with at least one value each; got {dict(choices)}")
    return [dict(zip(choices, row, strict=True)) for row in itertools.product(*choices.values())]


def run(
    folder: str | Path,
    objective: Objective,
    choices: Mapping[str, Sequence[Any]],
    *,
    on_trial: Callable[[Row], bool | None] | None = None,
) -> list[Row]:
    """Try every combination of `choices` that is not done yet; the rows of the whole sweep.

    Called again with the same folder it goes on; called in several processes at once they share the work. Ctrl-C, an
    error of the objective or the death of the process leave the trial to whoever comes next.

    Args:
        folder: of the sweep: the SQLite file, and a folder a trial, the same in every sitting. An objective that writes
            checkpoints there (`fit(checkpoints=folder)`) continues instead of starting again.
        objective: (settings, folder) -> score. What it returns is on the disk before Optuna is told.
        choices: setting -> its values (numbers, texts, True and False).
        on_trial: called with each row that this process finishes; True asks to stop.

    Raises:
        ImportError: Optuna is not installed; the message says how to install it.
        ValueError: nothing to choose from, or the folder holds a sweep over other choices.
    """
    rows = grid(choices)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    worker = uuid.uuid4().hex
    with _held(folder / f"{worker}.alive"):
        try:
            with _held(folder / "turn.lock", WAIT):
                study = _study(folder, choices)
            while True:
                with _held(folder / "turn.lock", WAIT):  # one process at a time gives out trials
                    _release_the_dead(study, folder)
                    _enqueue(study, rows)
                    if not (trial := _next(study, choices, worker)):
                        break
                score = _score(trial.params, objective, trial_folder(folder, trial.params))
                with _held(folder / "turn.lock", WAIT):
                    study.tell(trial, score)
                row = Row(dict(trial.params), "done", score, int(trial.user_attrs["sittings"]))
                if on_trial and on_trial(row):
                    break
        finally:
            for leftover in folder.glob(f"{worker}.alive*"):
                with contextlib.suppress(OSError):  # Windows keeps it while it is open; it is empty
                    leftover.unlink()
    return progress(folder)


def progress(folder: str | Path) -> list[Row]:
    """Every configuration of a sweep, finished or not, in the order in which they are tried.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the folder holds no sweep.
    """
    if not (Path(folder) / "sweep.sqlite3").is_file():
        raise ValueError(f"{folder} holds no sweep")
    study = _open(Path(folder))
    rows: dict[str, Row] = {}
    for trial in study.get_trials(deepcopy=False):
        parameters = trial.user_attrs["parameters"]
        known, key = {"RUNNING": "running", "COMPLETE": "done"}.get(trial.state.name, "waiting"), _digest(parameters)
        sittings = max(int(trial.user_attrs.get("sittings", 0)), rows[key].sittings if key in rows else 0)
        rows[key] = Row(parameters, known, trial.value if known == "done" else None, sittings)
    return list(rows.values())


def trial_folder(folder: str | Path, parameters: Mapping[str, Any]) -> Path:
    """Where one configuration keeps its checkpoints and its result: the same in every sitting."""
    return Path(folder) / "trials" / _digest(parameters)


def best(rows: Sequence[Row]) -> Row:
    """The finished row with the highest score, of equals the first.

    Raises:
        ValueError: none is finished.
    """
    done = [row for row in rows if row.score is not None]
    if not done:
        raise ValueError("no trial is finished yet")
    return max(done, key=lambda row: row.score)


# ---------------------------------------------------------------- one trial


def _score(parameters: dict[str, Any], objective: Objective, place: Path) -> float:
    """The objective's score, from the disk if an earlier sitting had come that far."""
    kept = place / "result.json"
    if not kept.is_file():
        place.mkdir(parents=True, exist_ok=True)
        storage.write_json(kept, {"parameters": parameters, "score": float(objective(dict(parameters), place))})
    return float(json.loads(kept.read_text("utf-8"))["score"])


def _next(study: optuna.Study, choices: Mapping[str, Sequence[Any]], worker: str) -> optuna.Trial | None:
    """The next waiting trial, marked as this worker's; None if none waits. Call it while holding the turn."""
    import optuna

    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        return None
    trial = study.ask({name: optuna.distributions.CategoricalDistribution(v) for name, v in choices.items()})
    trial.set_user_attr("worker", worker)
    trial.set_user_attr("sittings", int(trial.user_attrs.get("sittings", 0)) + 1)
    return trial


def _release_the_dead(study: optuna.Study, folder: Path) -> None:
    """End the trials of processes that died: their lock is free. Call it while holding the turn.

    A running trial without a worker's mark died between two lines of `_next`, which holds the turn.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        worker = trial.user_attrs.get("worker")
        if worker and _is_held(folder / f"{worker}.alive"):
            continue
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        for leftover in folder.glob(f"{worker}.alive*"):
            leftover.unlink(missing_ok=True)


# ---------------------------------------------------------------- the study and its locks


def _open(folder: Path) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a sweep needs Optuna: pip install optuna (it is in the course's extra 'lab')") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = f"sqlite:///{(folder / 'sweep.sqlite3').as_posix()}"
    store = optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": {"timeout": WAIT}})
    return optuna.create_study(storage=store, study_name=NAME, direction="maximize", load_if_exists=True)


def _study(folder: Path, choices: Mapping[str, Sequence[Any]]) -> optuna.Study:
    """The study of this folder.

    Raises:
        ValueError: it is over other choices.
    """
    study, told = _open(folder), json.loads(json.dumps({name: list(values) for name, values in choices.items()}))
    known = study.user_attrs.get("choices")
    if known is None:
        study.set_user_attr("choices", told)
    elif known != told:
        raise ValueError(f"{folder} holds a sweep over {known}, not over {told}; take another folder")
    return study


def _enqueue(study: optuna.Study, rows: Sequence[dict[str, Any]]) -> None:
    """Put in what is neither done, nor running, nor waiting: at first all, later what died. Call it with the turn."""
    there, sittings = set(), {}
    for trial in study.get_trials(deepcopy=False):
        key = _digest(trial.user_attrs["parameters"])
        sittings[key] = max(sittings.get(key, 0), int(trial.user_attrs.get("sittings", 0)))
        if trial.state.name != "FAIL":
            there.add(key)
    for parameters in rows:
        if (key := _digest(parameters)) not in there:
            study.enqueue_trial(parameters, user_attrs={"parameters": parameters, "sittings": sittings.get(key, 0)})


@contextlib.contextmanager
def _held(path: Path, seconds: float = 0) -> Iterator[None]:
    """A lock that the operating system gives back when its process dies, however it dies: an SQLite transaction.

    Raises:
        TimeoutError: another process holds it for longer than that.
    """
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise TimeoutError(f"{path.name} is held by another process for {seconds:g} s") from error
        yield
    finally:
        connection.close()


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with _held(path):
            return False
    except TimeoutError:
        return True


def _digest(parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()[:16]


# ---------------------------------------------------------------- learning rates of a method


def rate_objective(
    task_name: str, backbone: str, method: str, labels: int | None, epochs: int, batch: int
) -> Objective:
    """The held-out score of a learning rate, by `experiments.tuning_task`; interrupted runs continue bit for bit."""

    def objective(parameters: dict[str, Any], folder: Path) -> float:
        from peft_helpers import experiments, tasks, training

        task = tasks.load(task_name) if labels is None else tasks.load(task_name, labels=labels)
        cut = experiments.tuning_task(task)
        settings = training.Settings(
            parameters["learning_rate"], epochs=epochs, batch_size=batch, keep_best=False, progress=False
        )
        model, tokenizer = experiments.prepare(backbone, cut, method, None, settings.seed)
        done = training.fit(model, tokenizer, cut, settings, checkpoints=folder, checkpoint_every=5)
        return done.rows("dev")[-1][done.metric]

    return objective


def main(arguments: Sequence[str] | None = None) -> None:
    """Sweep over learning rates of one method; see the module's text."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m peft_helpers.sweep", description="A resumable sweep of rates.")
    parser.add_argument("--storage", type=Path, required=True, help="the sweep's folder; the same one goes on")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--backbone", default="pocket-bert")
    parser.add_argument("--method", default="LoRA")
    parser.add_argument("--labels", type=int)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args(arguments)
    objective = rate_objective(given.task, given.backbone, given.method, given.labels, given.epochs, given.batch)

    def told(row: Row) -> None:
        print(f"process {os.getpid()}: {row.parameters} {row.score:.4f}", flush=True)

    rows = run(given.storage, objective, {"learning_rate": given.rates}, on_trial=told)
    if all(row.state == "done" for row in rows):
        print(f"best: {best(rows).parameters} {best(rows).score:.4f}")


if __name__ == "__main__":
    main()

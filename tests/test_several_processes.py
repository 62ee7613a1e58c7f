"""`fit` in two processes (torchrun, gloo, CPU) gives what one process gives with the same batch in one piece."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from peft_helpers import storage, training
from peft_helpers.training import Settings

SETTINGS = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "progress": False, "precision": "fp32"}
SCRIPT = """
import json, os, sys
sys.path.insert(0, {tests!r})
import tiny, torch
from peft_helpers import training

jobs, out = json.loads(sys.argv[1]), sys.argv[2]
results = []
for job in jobs:
    model = tiny.model(job.get("architecture", "bert"))
    if not job.get("dropout"):
        tiny.still(model)
    if job.get("head"):
        model.base_model.requires_grad_(False)
    if job.get("too large"):
        def raise_error(module, given):
            if module.training:
                raise torch.OutOfMemoryError("out of memory")
        model.register_forward_pre_hook(raise_error)
    stop = job.get("stop")
    asks = [lambda row: row["step"] == stop and os.environ["RANK"] == "1"] if stop else []
    try:
        run = training.fit(
            model, tiny.tokenizer(), tiny.task(train=job["rows"]), training.Settings(**job["settings"]),
            checkpoints=job.get("folder"), callbacks=asks,
        )
    except torch.OutOfMemoryError as error:
        results.append(error.__notes__)
        continue
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    results.append({{"history": run.history, "stopped": run.stopped, "sum": weights.double().sum().item()}})
with open(out + os.environ["RANK"], "w") as file:
    json.dump(results, file)
torch.distributed.destroy_process_group()
"""


def job(rows: int = 40, **more) -> dict:
    return {"rows": rows, "settings": SETTINGS | more.pop("settings", {}), **more}


def in_one_process(chosen: dict) -> training.Run:
    model = tiny.model(chosen.get("architecture", "bert"))
    if not chosen.get("dropout"):
        tiny.still(model)
    if chosen.get("head"):
        model.base_model.requires_grad_(False)
    return training.fit(model, tiny.tokenizer(), tiny.task(train=chosen["rows"]), Settings(**chosen["settings"]))


def losses(history: list[dict]) -> list[float]:
    return [row["loss"] for row in history]


EQUAL = {
    "rows divisible by the global batch": job(40),
    "a last batch of 3: two rows and one": job(43),
    "a last batch of 1: one row and none": job(41),
    "in parts": job(43, settings={"accumulation": 3}),
    "a decoder, checkpointed": job(43, architecture="gpt2", settings={"checkpointing": True}),
    "the head only, frozen part cached": job(43, head=True, settings={"cache_frozen": True}),
}
WHOLE = job(40, dropout=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def ranks(folder) -> list[list]:
    """The results of each process: fits one after the other, all by one `torchrun --nproc_per_node 2`."""
    cut, resumed = (WHOLE | {"folder": str(folder / "run")} | more for more in ({"stop": 7}, {}))
    jobs = [*EQUAL.values(), WHOLE, cut, resumed, job(40) | {"too large": True}]
    script = folder / "several.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        torchrun += ["--master_addr", "127.0.0.1", "--master_port", str(free.getsockname()[1])]
    told = subprocess.run(
        [*torchrun, str(script), json.dumps(jobs), str(folder / "rank")],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        timeout=300,
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-6000:]
    return [json.loads((folder / f"rank{rank}").read_text()) for rank in (0, 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares two processes on the CPU with one on the CPU")
@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one_with_the_doubled_batch(ranks, name):
    """Batches of 4 in each of two processes are batches of 8 in one; ragged ones are weighted by what they hold."""
    expected = in_one_process(EQUAL[name])
    first, second = (results[list(EQUAL).index(name)] for results in ranks)
    assert losses(first["history"]) == pytest.approx(losses(expected.history), abs=1e-6)
    assert losses(second["history"]) == losses(first["history"])
    assert first["sum"] == second["sum"]


def test_two_processes_stop_together_and_resume(ranks, folder):
    """Process 1 alone asks to stop at step 7; both do. What goes on from the checkpoint equals the whole run."""
    for results in ranks:
        whole, cut, resumed, _ = results[-4:]
        assert cut["stopped"] == "callback" and cut["history"][-1]["step"] == 7
        assert losses(resumed["history"]) == losses(whole["history"])
    _, metadata = storage.read_tensors(folder / "run" / "last.safetensors")
    assert metadata["progress"]["step"] == 10


def test_out_of_memory_in_two_processes_is_an_error_that_says_what_helps(ranks):
    for results in ranks:
        assert "in 2 process(es). Ways out: a larger accumulation" in results[-1][0]

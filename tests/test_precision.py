"""Loss scaling equals torch's, what becomes of numbers in 16 bits, and the gradient of several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch
from notebook_rules import ROOT
from torch import nn

from peft_helpers import precision, processes


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_loss_scaling_equals_torchs(interval: int) -> None:
    gradients = [1.0, -2.0, float("inf"), 0.5, float("nan"), float("-inf"), 3.0, 1e-3, 2.0, 4.0]
    ours = precision.LossScaler(scale=2.0**10, interval=interval)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=interval)
    mine, other = ([nn.Parameter(torch.linspace(0, 1, 4)), nn.Parameter(torch.ones(2))] for _ in range(2))
    steps = [torch.optim.Adam(parameters, lr=0.1) for parameters in (mine, other)]
    for gradient in gradients:
        for optimizer in steps:
            optimizer.zero_grad()
        (ours.scale * (gradient * mine[0].sum() + mine[1].square().sum())).backward()
        stepped = ours.step(steps[0], mine)
        theirs.scale(gradient * other[0].sum() + other[1].square().sum()).backward()
        theirs.step(steps[1])
        theirs.update()
        assert stepped == (abs(gradient) < float("inf"))
        assert ours.scale == theirs.get_scale()
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_a_parameter_without_a_gradient_is_left_out() -> None:
    used, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.full((2,), 8.0)
    scaler = precision.LossScaler(scale=4.0)
    assert scaler.step(torch.optim.SGD([used, idle], lr=1.0), iter([used, idle]))
    assert used.tolist() == [-1.0, -1.0] and idle.tolist() == [1.0, 1.0]


def test_the_default_is_torchs() -> None:
    theirs = torch.amp.GradScaler("cpu")
    ours = precision.LossScaler()
    assert (ours.scale, ours.interval) == (theirs.get_scale(), theirs.get_growth_interval())


def test_fate_of_numbers() -> None:
    values = torch.tensor([0.0, 1.0, -0.5, 1e-6, 1e-9, -1e-10, 7e4, float("inf")])
    found = precision.fate(values)
    assert found == pytest.approx((2 / 7, 1 / 7, 2 / 7, 2 / 7))
    assert sum(found) == pytest.approx(1)
    assert precision.fate(values[:-1], torch.bfloat16) == pytest.approx((1, 0, 0, 0))
    with pytest.raises(ValueError, match="besides zeros"):
        precision.fate(torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_smallest_number_survives_and_half_of_it_does_not(dtype: torch.dtype) -> None:
    smallest = precision.smallest(dtype)
    assert torch.tensor(smallest, dtype=torch.float64).to(dtype) > 0
    assert torch.tensor(smallest / 2, dtype=torch.float64).to(dtype) == 0


# ---------------------------------------------------------------- several processes


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_mean_over_processes_is_the_whole_batchs_gradient(world: int) -> None:
    averaged = sum(processes.gradient(rank, world) for rank in range(world)) / world
    torch.testing.assert_close(averaged, processes.gradient(), rtol=0, atol=1e-6)


def test_two_processes_exchange_their_gradients() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "peft_helpers.processes"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(re.findall(r"process \d of 2:.*?(?=process \d of 2:|$)", done.stdout, re.DOTALL))  # lines may run on
    assert [line.split(":")[0] for line in lines] == ["process 0 of 2", "process 1 of 2"]
    assert all("equal to the whole batch's: True" in line and "4 rows" in line for line in lines)


def test_one_process_needs_no_exchange(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    processes.main()
    assert "process 0 of 1: 8 rows" in capsys.readouterr().out

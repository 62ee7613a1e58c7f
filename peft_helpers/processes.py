"""One gradient from several processes: what `accelerate launch` and `torchrun` set up, on any machine (lesson 07).

    accelerate launch --num_processes 2 -m peft_helpers.processes      on two GPUs
    torchrun --nproc_per_node 2 -m peft_helpers.processes              on two GPUs, or on a processor

Every process runs this same file. What differs are a few environment variables: RANK (which one am I), WORLD_SIZE (how
many are we), and where the others are. Each takes its share of the batch, and the gradients are averaged.
"""

from __future__ import annotations

import os

import torch
from torch.nn.functional import cross_entropy

BATCH, WIDTH, CLASSES = 8, 3, 2


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same weights (D, K), inputs (B, D) and labels (B,) in every process."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(WIDTH, CLASSES, generator=generator)
    return weights, torch.randn(BATCH, WIDTH, generator=generator), torch.arange(BATCH) % CLASSES


def gradient(rank: int = 0, world: int = 1) -> torch.Tensor:
    """The gradient (D, K) of the mean loss over the share of the batch that process `rank` of `world` takes."""
    weights, inputs, labels = problem()
    weights.requires_grad_()
    cross_entropy(inputs[rank::world] @ weights, labels[rank::world]).backward()
    return weights.grad


def main() -> None:
    """Compute, exchange, compare with the whole batch, print a line a process."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    own = gradient(rank, world)
    averaged = own.clone()
    if world > 1:
        from torch import distributed

        on_gpu = torch.cuda.device_count() >= world
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            averaged = averaged.cuda()
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        distributed.all_reduce(averaged)  # the sum over all processes, in every process
        averaged = averaged.cpu() / world
        distributed.destroy_process_group()
    equal = torch.allclose(averaged, gradient(), atol=1e-6)
    rows = len(range(rank, BATCH, world))
    print(
        f"process {rank} of {world}: {rows} rows, own gradient {own[0, 0]:+.4f}, averaged {averaged[0, 0]:+.4f}, "
        f"equal to the whole batch's: {equal}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""AdaLoRA's rank allocation (arXiv:2303.10512, sections 3.2 and 3.3): the rank goes where it matters.

The budget b(t), the number of triplets in the whole model, falls along a cubic from all of them to what shall be left.
Now and then the b(t) most important triplets stay, the others' singular values are set to 0; they may come back.

    allocator = RankAllocator(adapted, target_rank=8, steps=1000)
    training.fit(adapted, tokenizer, task, settings, callbacks=[allocator])  # settings with keep_best=False: the
    # best weights on dev may be from before the budget was reached
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peft_helpers.methods.adalora import SVDLinear
from peft_helpers.methods.base import require_whole


class RankAllocator:
    """Scores AdaLoRA's triplets in training and prunes them; a callback for `training.fit`, or call `step` yourself.

    A weight's importance is smoothed |w · dL/dw| times its smoothed uncertainty; a triplet's is that of its singular
    value plus the means over its column of P and its row of Q.

    Args:
        model: a model that carries AdaLoRA.
        target_rank: the average rank of a matrix at the end.
        steps: of the whole training.
        warmup, final: the share of the steps before pruning begins, and after the budget has reached its end.
        every: prune after so many steps; in the final phase after each.
        smoothing, uncertainty: beta_1 and beta_2.
        orthogonality: gamma. The penalty's gradient is applied apart from the optimizer, as AdamW does with weight
            decay; the paper adds the penalty to the loss.

    Raises:
        ValueError: the model carries no AdaLoRA, or a number is impossible.
    """

    def __init__(
        self,
        model: nn.Module,
        target_rank: int,
        steps: int,
        warmup: float = 0.1,
        final: float = 0.3,
        every: int = 10,
        smoothing: float = 0.85,
        uncertainty: float = 0.85,
        orthogonality: float = 0.1,
    ):
        require_whole(target_rank=target_rank, steps=steps, every=every)
        self.layers = [module for module in model.modules() if isinstance(module, SVDLinear)]
        self.triplets = sum(len(layer.singular) for layer in self.layers)
        if not self.layers or target_rank * len(self.layers) > self.triplets:
            raise ValueError(
                f"target_rank={target_rank} must be at most AdaLoRA's rank in the model; it has "
                f"{self.triplets} triplets in {len(self.layers)} matrices"
            )
        if min(warmup, final) < 0 or warmup + final >= 1 or not (0 < smoothing < 1 and 0 < uncertainty < 1):
            raise ValueError(
                "warmup and final are shares whose sum is below 1, smoothing and uncertainty lie between 0 and 1; got "
                f"{warmup}, {final}, {smoothing}, {uncertainty}"
            )
        self.target, self.every = target_rank * len(self.layers), every
        self.begin, self.end = round(warmup * steps), steps - round(final * steps)
        self.smoothing, self.uncertainty, self.orthogonality = smoothing, uncertainty, orthogonality
        self.now, self.mean, self.spread = ({} for _ in range(3))  # a parameter's |w · dL/dw|, and the smoothed two
        parameters = [p for layer in self.layers for p in (layer.p, layer.singular, layer.q)]
        self._hooks = [p.register_post_accumulate_grad_hook(self._look) for p in parameters]

    def _look(self, parameter: nn.Parameter) -> None:
        self.now[parameter] = (parameter * parameter.grad).detach().abs()

    def budget(self, step: int) -> int:
        """b(t): all triplets up to `begin`, the target from `end` on, in between a cubic that falls fast at first."""
        if step <= self.begin:
            return self.triplets
        left = max(0.0, 1 - (step - self.begin) / (self.end - self.begin))
        return self.target + int((self.triplets - self.target) * left**3)

    @torch.no_grad()
    def step(self, step: int, learning_rate: float = 0.0) -> None:
        """After the optimizer's step number `step` (from 1): update the scores, and prune when it is time."""
        for parameter, now in self.now.items() if step < self.end else ():  # at the end the choice stands
            mean = self.mean.get(parameter, torch.zeros_like(now))
            self.mean[parameter] = mean = self.smoothing * mean + (1 - self.smoothing) * now
            spread = self.spread.get(parameter, torch.zeros_like(now))
            self.spread[parameter] = self.uncertainty * spread + (1 - self.uncertainty) * (now - mean).abs()
        for layer in self.layers:
            pull, unit = 4 * learning_rate * self.orthogonality, torch.eye(len(layer.singular), device=layer.p.device)
            layer.p -= pull * layer.p @ (layer.p.T @ layer.p - unit)
            layer.q -= pull * (layer.q @ layer.q.T - unit) @ layer.q
        if step > self.begin and self.mean and (step >= self.end or step % self.every == 0):
            scores = torch.cat([self.importance(layer) for layer in self.layers])
            kept = torch.zeros_like(scores, dtype=torch.bool)
            kept[scores.topk(self.budget(step)).indices] = True
            for layer, mask in zip(self.layers, kept.split([len(one.singular) for one in self.layers]), strict=True):
                layer.singular.mul_(mask)

    def importance(self, layer: SVDLinear) -> Tensor:
        """The scores of a matrix's triplets, (r,)."""
        p, singular, q = (self.mean[w] * self.spread[w] for w in (layer.p, layer.singular, layer.q))
        return singular + p.mean(0) + q.mean(1)

    def ranks(self) -> list[int]:
        """How many triplets each matrix has left, layer by layer."""
        return [int(layer.singular.count_nonzero()) for layer in self.layers]

    def close(self) -> None:
        """Stop looking at gradients."""
        for hook in self._hooks:
            hook.remove()

    def __call__(self, row: dict[str, Any]) -> None:
        if row["split"] == "train":
            self.step(row["step"], row["learning_rate"])

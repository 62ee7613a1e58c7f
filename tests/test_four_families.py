"""Lesson 11's small methods and its unified view, against the registered methods inside a model."""

from __future__ import annotations

import pytest
import torch
from conformance import Case, backbone, batch, trained
from torch import nn

from peft_helpers import methods, unified_view
from peft_helpers.four_families import Gated, Rescaled, Subset, Subspace
from peft_helpers.unified_view import adapter_change, attend, low_rank_change, prefix_change, rescaling_change

LAYER = "bert.encoder.layer.1."
QUERY, KEY, OUT = f"{LAYER}attention.self.query", f"{LAYER}attention.self.key", f"{LAYER}output.dense"
X = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0))


def close(made: torch.Tensor, wanted: torch.Tensor) -> None:
    """To 1e-6 of the largest number."""
    assert (made - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def base(path: str) -> nn.Linear:
    return backbone("bert").get_submodule(path)


@torch.no_grad()
def seen(model: nn.Module, path: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The module at a path, what it reads and what it gives; the first of a tuple."""
    found = []

    def look(module, given, named, output):
        found.extend([(given or tuple(named.values()))[0], output[0] if isinstance(output, tuple) else output])

    with model.get_submodule(path).register_forward_hook(look, with_kwargs=True):
        model.eval()(input_ids=batch("bert")["input_ids"][:1])
    return model.get_submodule(path), *found


# ---------------------------------------------------------------- one method a family


def test_rescaled_is_ia3() -> None:
    library = trained(Case(methods.IA3(), "bert")).get_submodule(KEY)
    own = Rescaled(base(KEY))
    close(own(X), base(KEY)(X))
    own.scale.data = library.scale.data
    close(own(X), library(X))
    assert [name for name, p in own.named_parameters() if p.requires_grad] == ["scale"]


def test_subset_is_the_magnitude_mask() -> None:
    library = trained(Case(methods.MagnitudeMask(share=0.1, targets=("query",)), "bert")).get_submodule(QUERY)
    own = Subset(base(QUERY), share=0.1)
    close(own(X), base(QUERY)(X))
    delta = library.delta().detach().reshape(-1)
    assert set(own.index.tolist()) == set(delta.nonzero().reshape(-1).tolist()) and len(own.values) == 26
    own.values.data = delta[own.index]
    close(own(X), library(X))


def test_subspace_is_said_and_its_change_is_linear() -> None:
    library = trained(Case(methods.SAID(dimension=9), "bert")).get_submodule(QUERY)
    theta = library.vector.theta.data.clone()
    columns = []
    for unit in torch.eye(len(theta)):
        library.vector.theta.data = unit
        columns.append(library.delta().detach().reshape(-1))
    library.vector.theta.data = theta
    own = Subspace(base(QUERY), torch.stack(columns, 1))
    close(own(X), base(QUERY)(X))
    own.theta.data = theta
    assert (own(X) - library(X)).abs().max() <= 1e-5 * library(X).abs().max()
    assert torch.linalg.matrix_rank(own.directions) == len(theta) == 7


def test_gated_is_unipelts_gate() -> None:
    library = trained(Case(methods.UniPELT(length=3, hidden=None, rank=2, bottleneck=5), "bert")).get_submodule(QUERY)

    class Part(nn.Module):
        def forward(self, x):
            return library.base(x) + low_rank_change(x, library.down.weight, library.up.weight, library.scale)

    own = Gated(library.base, Part(), 16)
    own.gate = library.gate.linear
    close(own(X), library(X))


# ---------------------------------------------------------------- h + s dh


def test_the_identity_holds_for_an_adapter() -> None:
    dense, x, made = seen(trained(Case(methods.Houlsby(5), "bert")), OUT)
    h = dense.base(x)
    close(h + adapter_change(h, dense.adapter.down, dense.adapter.up, nn.functional.gelu), made)


def test_the_identity_holds_for_a_parallel_adapter() -> None:
    model = trained(Case(methods.ParallelAdapter(5), "bert"))
    dense, x, made = seen(model, OUT)
    block = seen(model, f"{LAYER}intermediate.dense")[1]
    close(dense.base(x) + adapter_change(block, dense.down, dense.up, nn.functional.relu, 4.0), made)


def test_the_identity_holds_for_lora_and_ia3() -> None:
    query, x, made = seen(trained(Case(methods.LoRA(2), "bert")), QUERY)
    close(query.base(x) + low_rank_change(x, query.down.weight, query.up.weight, query.scale), made)
    key, x, made = seen(trained(Case(methods.IA3(), "bert")), KEY)
    close(key.base(x) + rescaling_change(key.base(x), key.scale), made)


def test_the_identity_holds_for_a_prefix() -> None:
    model = trained(Case(methods.PrefixTuning(length=3, hidden=None, init_std=1.0), "bert"))
    attention, x, made = seen(model, f"{LAYER}attention.self")
    parts = attention.query, attention.key, attention.value
    q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in parts)
    prefix = [part.unflatten(-1, (2, -1)).transpose(0, 1) for part in attention.prefix()]
    change = prefix_change(q, k, v, *prefix)
    close((attend(q, k, v) + change).transpose(1, 2).flatten(2), made)
    assert change.abs().max() > 0.1


def test_a_share_of_one_and_none() -> None:
    """A prefix with huge scores takes everything, one with tiny scores nothing; in between it is softmax's own sum."""
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 5, 4, generator=draw, dtype=torch.float64) for _ in range(3))
    one = torch.ones(1, 4, dtype=torch.float64)
    positive = q.abs()
    assert torch.allclose(unified_view.prefix_share(positive, k, 1e4 * one), torch.ones(2, 5, 1).double())
    assert unified_view.prefix_share(positive, k, -1e4 * one).max() == 0
    both = (q @ torch.cat([one.expand(2, 1, 4), k], 1).transpose(1, 2) / 2).softmax(-1)
    assert torch.allclose(unified_view.prefix_share(q, k, one.expand(2, 1, 4)), both[..., :1], atol=1e-14)
    same = prefix_change(q, k, v, k, v)
    assert torch.allclose(same, torch.zeros_like(same), atol=1e-14), "a prefix that says what the text says"
    assert torch.allclose(attend(q, k, v), nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-14)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_changes_are_proportional_to_their_scale(scale: float) -> None:
    down, up = nn.Linear(16, 3), nn.Linear(3, 16)
    close(adapter_change(X, down, up, torch.relu, scale), scale * adapter_change(X, down, up, torch.relu))

"""Methods with typical mistakes: each must be refused by the property that stands for its mistake.

Most of them would train, and give a score that is only slightly worse.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import conformance
import pytest
import torch
from conformance import Case
from torch import nn

from peft_helpers import methods
from peft_helpers.methods.attached import attachments
from peft_helpers.methods.gates import Gate
from peft_helpers.methods.houlsby import BottleneckAdapter, WithAdapter
from peft_helpers.methods.ia3 import ScaledInput, ScaledOutput
from peft_helpers.methods.lora import LoRALinear
from peft_helpers.methods.said import ProjectedLinear
from peft_helpers.methods.surgery import Wrapper, train, wrap
from peft_helpers.methods.vera import SharedMatrices, VeRALinear
from peft_helpers.methods.weight_change import matrix

FACTS = {"family": "additive", "paper": "none: broken on purpose", "identity_at_init": True, "mergeable": True}
BROKEN: dict[str, tuple[type, str]] = {}


def broken(prop: str, says: str, **facts):
    """Class decorator: a broken method, the property that must refuse it, and a part of what that says."""

    def enter(cls):
        cls.card = methods.Card(**(FACTS | facts))
        BROKEN[cls.__name__] = (cls, prop, says)
        return cls

    return enter


class Broken(methods.LoRA):
    """A LoRA on queries and values, with `wrapper` in the place of LoRALinear; subclasses break something."""

    wrapper: type[Wrapper] = LoRALinear

    def inject(self, anatomy):
        sites = anatomy.sites(self.targets)
        wrap(anatomy, sites, lambda base, site: self.wrapper(base, site, self.rank, self.alpha))


# ---------------------------------------------------------------- training


class LoRAWithDeadParameter(LoRALinear):
    def __init__(self, *settings):
        super().__init__(*settings)
        self.gate = nn.Parameter(torch.zeros(1))  # registered, counted, saved, and never used


@broken("learns_and_leaves_the_rest", "no gradient reaches .*gate")
@dataclass(frozen=True)
class DeadParameter(Broken):
    wrapper = LoRAWithDeadParameter


@broken("identity_at_init", "in place")
@dataclass(frozen=True)
class ForgottenFreeze(Broken):
    def inject(self, anatomy):
        super().inject(anatomy)
        for site in anatomy.sites(("ffn_out",)):
            site.module.requires_grad_(True)


@broken("formula_counts", "the formula says")
@dataclass(frozen=True)
class NormsForgottenInTheFormula(Broken):
    def inject(self, anatomy):
        super().inject(anatomy)
        train(anatomy, [p for norm in anatomy.layer_norms() for p in norm.module.parameters()])


class LoRAWithCache(LoRALinear):
    def forward(self, x):
        if not hasattr(self, "kept"):  # "the input of the first batch will do"
            self.kept = self.up(self.down(x)) * self.scale
        return self.base(x) + self.kept


@broken("learns_and_leaves_the_rest", "no gradient reaches")
@dataclass(frozen=True)
class ActivationsCachedAcrossSteps(Broken):
    wrapper = LoRAWithCache


class LoRAThatWrites(LoRALinear):
    def forward(self, x):
        if self.training:
            self.base.weight.data.add_(1e-6)
        return super().forward(x)


@broken("learns_and_leaves_the_rest", "frozen tensors after three steps: .*weight")
@dataclass(frozen=True)
class BaseWeightsTouchedInTraining(Broken):
    wrapper = LoRAThatWrites


@broken("disabled_is_the_base", "does not answer as the base", identity_at_init=False)
@dataclass(frozen=True)
class BaseWeightsTouchedAtInjection(Broken):
    def inject(self, anatomy):
        for site in anatomy.sites(self.targets):
            site.module.weight.data.mul_(0.9)
        super().inject(anatomy)


class LoRAWithBothRandom(LoRALinear):
    def __init__(self, *settings):
        super().__init__(*settings)
        nn.init.normal_(self.up.weight, std=0.1)


@broken("identity_at_init", "declares to start as the identity")
@dataclass(frozen=True)
class StartsElsewhere(Broken):
    wrapper = LoRAWithBothRandom


class LoRAWithBothZero(LoRALinear):
    def __init__(self, *settings):
        super().__init__(*settings)
        nn.init.zeros_(self.down.weight)


@broken("learns_and_leaves_the_rest", "no gradient reaches")
@dataclass(frozen=True)
class BothMatricesZero(Broken):
    wrapper = LoRAWithBothZero


# ---------------------------------------------------------------- precision


class LoRAInHalf(LoRALinear):
    def __init__(self, *settings):
        super().__init__(*settings)
        self.down.to(torch.bfloat16)
        self.up.to(torch.bfloat16)


@broken("formula_counts", "must be float32")
@dataclass(frozen=True)
class WrongDtype(Broken):
    wrapper = LoRAInHalf


class LoRAThatAnswersInFloat(LoRALinear):
    def forward(self, x):
        return self.base(x).float() + self.up(self.down(x.float())) * self.scale


@broken("works_in_bfloat16", "dtype|Half|BFloat16|bfloat16")
@dataclass(frozen=True)
class OutputInFloat(Broken):
    wrapper = LoRAThatAnswersInFloat


# ---------------------------------------------------------------- saving and merging


@broken("saves_and_loads", "answers otherwise")
@dataclass(frozen=True)
class HeadMissingFromTheCheckpoint(Broken):
    def stored(self, model):
        return {name: tensor for name, tensor in super().stored(model).items() if "classifier" not in name}


class LoRAOnUnsavedRandomMatrix(LoRALinear):
    def __init__(self, *settings):
        super().__init__(*settings)
        self.register_buffer("random", torch.randn_like(self.down.weight), persistent=False)
        del self.down

    def forward(self, x):
        return self.base(x) + self.up(x @ self.random.T) * self.scale


@broken("saves_and_loads", "answers otherwise", mergeable=False)
@dataclass(frozen=True)
class RandomMatrixNotSaved(Broken):
    wrapper = LoRAOnUnsavedRandomMatrix


class UnseededMatrices(SharedMatrices):
    def __init__(self, inputs, outputs, rank, seed, device):
        super().__init__(inputs, outputs, rank, torch.randint(2**31, ()).item(), device)


@broken("saves_and_loads", "answers otherwise")
@dataclass(frozen=True)
class RandomMatricesWithoutTheirSeed(methods.VeRA):
    def inject(self, anatomy):
        shared = UnseededMatrices(32, 32, self.rank, self.seed, torch.device("cpu"))
        wrap(anatomy, anatomy.sites(self.targets), lambda base, site: VeRALinear(base, site, shared, self.start))


class IA3WithoutItsBias(ScaledOutput):
    @torch.no_grad()
    def merge(self):
        matrix(self.innermost, self.third).mul_(self.scale[:, None])  # l (W x + b) has l b, too


@broken("merges", "merged: logits differ")
@dataclass(frozen=True)
class MergeThatForgetsTheBias(methods.IA3):
    def inject(self, anatomy):
        wrap(anatomy, anatomy.sites(("key", "value")), IA3WithoutItsBias)
        wrap(anatomy, anatomy.sites(self.feed_forward), ScaledInput)


@broken("learns_and_leaves_the_rest", "no gradient reaches .*layer_scale")
@dataclass(frozen=True)
class ProjectionThatForgetsItsLayers(methods.SAID):
    """lambda is counted, saved, and never used."""

    def inject(self, anatomy):
        super().inject(anatomy)
        for module in anatomy.model.modules():
            if isinstance(module, ProjectedLinear):
                module.delta = functools.partial(_without_lambda, module)


def _without_lambda(layer):
    return ProjectedLinear.delta(layer) / layer.vector.layer_scale[layer.layer]


class LoRAWithDriftingMerge(LoRALinear):
    @torch.no_grad()
    def merge(self):
        self.weight.add_(self.up.weight @ self.down.weight)  # alpha / r is forgotten


@broken("merges", "merged: logits differ")
@dataclass(frozen=True)
class MergeThatDrifts(Broken):
    wrapper = LoRAWithDriftingMerge


class LoRAMergedInHalf(LoRALinear):
    @torch.no_grad()
    def merge(self):
        change = (self.scale * self.up.weight @ self.down.weight).to(torch.bfloat16)
        self.weight.copy_(self.weight.to(torch.bfloat16) + change)


@broken("merges", "merged: logits differ")
@dataclass(frozen=True)
class MergeThatRounds(Broken):
    wrapper = LoRAMergedInHalf


# ---------------------------------------------------------------- place and time


@broken("changes_where_it_says", "stands elsewhere", identity_at_init=0.02, mergeable=False)
@dataclass(frozen=True)
class AdapterAfterTheResidualSum(methods.Houlsby):
    """It wraps the layer norms, through which the residual sum has gone already."""

    bottleneck: int = 4

    def inject(self, anatomy):
        norms = [norm for layer in anatomy.layers for norm in layer.norms]
        wrap(anatomy, norms, lambda base, site: WithAdapter(base, BottleneckAdapter(anatomy.width, self.bottleneck)))
        train(anatomy, [p for norm in anatomy.layer_norms() for p in norm.module.parameters()])


class MixingAdapter(WithAdapter):
    def forward(self, x):
        h = self.base(x)
        return h + self.adapter(h.mean(1, keepdim=True))  # the mean over padding too


@broken("padding_changes_nothing", "without its padding", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class AdapterThatReadsPadding(methods.Pfeiffer):
    bottleneck: int = 4

    def inject(self, anatomy):
        sites = anatomy.sites(self.sites)
        wrap(anatomy, sites, lambda base, site: MixingAdapter(base, BottleneckAdapter(anatomy.width, self.bottleneck)))


class MeanGate(Gate):
    def after(self, host, given, named, output):
        return super().after(host, (given[0].mean(1, keepdim=True),), named, output)  # the paper's, over padding too


@broken("padding_changes_nothing", "without its padding", identity_at_init=False, mergeable=False)
@dataclass(frozen=True)
class GateThatReadsPadding(methods.UniPELT):
    length: int = 3
    hidden: int | None = None

    def inject(self, anatomy):
        super().inject(anatomy)
        for one in attachments(anatomy.model):
            if isinstance(one.guest, Gate):
                one.guest.__class__ = MeanGate
                one.on = False
                one.on = True  # with the other class's hook


class LoRAThatSharesOnCopy(LoRALinear):
    def __deepcopy__(self, memo):
        return self


@broken("copies_and_checkpoints", "shares tensors")
@dataclass(frozen=True)
class CopiesShareTensors(Broken):
    wrapper = LoRAThatSharesOnCopy


# ----------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
def test_conformance_refuses(name, tmp_path, monkeypatch):
    cls, prop, says = BROKEN[name]
    monkeypatch.setitem(methods.REGISTRY, name, cls)
    with pytest.raises((AssertionError, ValueError, RuntimeError), match=says):
        getattr(conformance, prop)(Case(cls(), "bert"), tmp_path)


@pytest.mark.parametrize("prop", conformance.PROPERTIES, ids=lambda prop: prop.__name__)
def test_the_unbroken_twin_passes(prop, tmp_path, monkeypatch):
    """What the broken methods are made of is sound: they are refused for their mistake alone."""
    monkeypatch.setitem(methods.REGISTRY, "Broken", Broken)
    kind = "gpt2" if prop is conformance.generates else "bert"
    prop(Case(Broken(), kind), tmp_path)

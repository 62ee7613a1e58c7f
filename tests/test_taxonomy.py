"""Tree, gallery and table come from the registry: a method that is registered in a test appears in all of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from conformance import backbone

from peft_helpers import backbones, calculator, measured_costs, methods, plots, taxonomy
from peft_helpers.methods.lora import LoRALinear
from peft_helpers.methods.surgery import features, wrap


def small(**more: int):
    """A BERT classifier of two layers, width 32."""
    config = tiny.model("bert").config
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, **more})
    torch.manual_seed(0)
    return type(tiny.model("bert"))(config).eval()


@pytest.fixture
def newcomer():
    """A method that no file of the package knows: LoRA on keys alone."""

    @methods.register(family="reparametrization", paper="arXiv:0000.00000", identity_at_init=True, mergeable=True)
    @dataclass(frozen=True)
    class KeyLoRA(methods.Method):
        """Low-rank changes of the keys.

        More about it.
        """

        rank: int = 2
        sites = ("key",)

        def inject(self, anatomy):
            wrap(anatomy, anatomy.sites(self.sites), lambda base, site: LoRALinear(base, site, self.rank, 4.0))

        def parameter_count(self, anatomy):
            """r (in + out) a key.

            Not shown.
            """
            return sum(self.rank * sum(features(site)) for site in anatomy.sites(self.sites))

    yield KeyLoRA
    del methods.REGISTRY["KeyLoRA"]


def test_a_new_method_appears_by_itself(newcomer) -> None:
    tree = taxonomy.tree()
    assert [entry.name for entry in tree["reparametrization"]][-1] == "KeyLoRA"
    line = next(line for line in taxonomy.gallery().splitlines() if "KeyLoRA" in line)
    told = "**KeyLoRA** | Low-rank changes of the keys. | r (in + out) a key. | arXiv:0000.00000 |"
    assert line == f"| reparametrization | {told}"
    rows = taxonomy.measure(small(), ["KeyLoRA"])
    assert rows[0].trained == 3 * 2 * 64 == rows[0].stored and rows[0].changed == 3 * 32 * 32
    assert "| KeyLoRA | weights |" in taxonomy.table(rows)
    figure = plots.family_tree({family: [entry.name for entry in entries] for family, entries in tree.items()})
    assert "KeyLoRA" in figure.alt
    from peft_helpers.widgets import method_memory_explorer

    assert "KeyLoRA" in method_memory_explorer("BitFit").controls["method"].options


def test_every_method_is_in_the_tree_once_with_title_and_formula() -> None:
    entries = [entry for entries in taxonomy.tree().values() for entry in entries]
    assert sorted(entry.name for entry in entries) == sorted(methods.available())
    assert list(taxonomy.tree()) == list(methods.FAMILIES)
    for entry in entries:
        assert entry.title.endswith(".") and entry.formula and "How many parameters" not in entry.formula, entry.name
    assert taxonomy.gallery().count("\n") == 1 + len(entries)
    with pytest.raises(ValueError, match="there is no method 'LoRa'"):
        taxonomy.entry("LoRa")


WHERE = {
    "Houlsby": ("hidden states", "own tensors"),
    "ParallelAdapter": ("hidden states",),
    "PrefixTuning": ("keys and values",),
    "PromptTuning": ("input",),
    "IA3": ("weights",),
    "BitFit": ("own tensors",),
    "LoRA": ("weights",),
    "S4": ("keys and values", "hidden states", "weights", "own tensors"),
    "HeadOnly": (),
}


def test_what_a_method_changes_is_found_in_the_model() -> None:
    found = {row.entry.name: row.where for row in taxonomy.measure(small(), list(WHERE))}
    assert found == WHERE


def test_three_counts() -> None:
    """By hand, D = 32, I = 64, L = 3; the head is in none of them."""
    names = ["LoRA", "BitFit", "Pfeiffer", "MagnitudeMask", "PrefixTuning", "DiffPruning", "IA3", "HeadOnly"]
    given = {
        "LoRA": methods.LoRA(rank=2),
        "Pfeiffer": methods.Pfeiffer(bottleneck=4),
        "PrefixTuning": methods.PrefixTuning(length=5, hidden=7),
        "DiffPruning": methods.DiffPruning(share=0.1, targets=("query",)),
        "MagnitudeMask": methods.MagnitudeMask(share=0.1, targets=("query",)),
    }
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = {row.entry.name: row for row in taxonomy.measure(model, names, given)}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    counts = {name: (row.trained, row.changed, row.stored, row.added) for name, row in rows.items()}
    biases, kept, mlp = 3 * (7 * 32 + 64) + 2 * 32, 3 * 102, 5 * 32 + 32 * 7 + 7 + 2 * 3 * 32 * 8
    adapters, prefix = 3 * (2 * 4 * 32 + 32 + 4), 2 * 5 * 3 * 32
    assert counts == {
        "LoRA": (3 * 2 * 2 * 64, 3 * 2 * 32 * 32, 3 * 2 * 2 * 64, 0),
        "BitFit": (biases, biases, biases, 0),
        "Pfeiffer": (adapters, 0, adapters, adapters),
        "MagnitudeMask": (kept, kept, 2 * kept, 0),
        "PrefixTuning": (mlp, 0, prefix, prefix),
        "DiffPruning": (2 * 3 * 32 * 32, kept, 2 * kept, 0),
        "IA3": (3 * (2 * 32 + 64), 3 * (2 * 32 * 32 + 32 * 64), 3 * (2 * 32 + 64), 0),  # biases of 0 stay 0
        "HeadOnly": (0, 0, 0, 0),
    }
    assert rows["LoRA"].inference == 1 and rows["Pfeiffer"].inference > 1
    assert rows["LoRA"].total == sum(p.numel() for p in model.base_model.parameters())


@pytest.mark.parametrize("kind", ["bert", "bart"])
def test_the_formula_of_the_changed_numbers_is_what_is_measured(kind: str) -> None:
    """Over the whole registry, hybrids with biases inside of wrappers included; the biases of this model are not 0."""
    model = backbone(kind)
    anatomy = backbones.anatomy(model)
    for name in methods.available():
        entry = taxonomy.entry(name)
        found = taxonomy._counted(model, entry, entry.method)["changed"]
        assert found == calculator.changed_weights(entry.method, anatomy), name


def test_the_random_state_is_left_alone() -> None:
    model = small()
    before = torch.get_rng_state()
    taxonomy.measure(model, ["LoRA"])
    assert torch.equal(before, torch.get_rng_state())


def test_a_table_has_its_families_and_shares() -> None:
    rows = taxonomy.measure(small(), ["IA3", "BitFit", "FullFineTuning"])
    lines = taxonomy.table(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "**additive**", "IA3", "**selective**", "BitFit", "**baseline**", "FullFineTuning",
    ]  # fmt: skip
    assert lines[-1] == "| FullFineTuning | own tensors | 100 % | 100 % | 100 % | 100% | 100% | 100% | merged | exact |"
    assert len({line.count("|") for line in lines}) == 1
    with pytest.raises(ValueError, match="rows is empty"):
        taxonomy.table([])
    with pytest.raises(ValueError, match="the model carries LoRA"):
        taxonomy.measure(methods.apply(small(), methods.LoRA(2)))
    assert taxonomy.entry("Houlsby").identity == "within 2 %" and taxonomy.entry("MAM").identity == "no"


# ---------------------------------------------------------------- figures


def test_figures_tell_what_they_show_and_refuse_nothing() -> None:
    memory = measured_costs.memory_of(tiny.model("bert"), 1000)
    told = plots.memory_by_method({"additive": {"A": memory}, "hybrid": {"B": memory}}).alt
    assert "A (additive): " in told and "B (hybrid): " in told
    told = plots.scores_by_family({"additive": {"A": [0.7, 0.8]}}, lines={"majority class": 0.5}).alt
    assert "A (additive) 75.0 %; majority class 50.0 %" in told
    told = plots.subset_and_subspace().alt
    assert "w₁ moved, lowest loss on the line 1.96" in told and "w₁ and w₂ moved" in told
    with pytest.raises(ValueError, match="direction must have a length"):
        plots.subset_and_subspace((0.0, 0.0))
    for figure in (plots.family_tree, plots.memory_by_method, plots.scores_by_family):
        with pytest.raises(ValueError, match="nothing to draw"):
            figure({})
        with pytest.raises(ValueError, match="nothing to draw"):
            figure({"additive": {}})
        with pytest.raises(ValueError, match="7 families can't be told apart"):
            figure({str(i): {"a": 0.5} for i in range(7)})


# ---------------------------------------------------------------- the house's rule for methods


def test_every_methods_file_fits_a_page() -> None:
    files = {Path(inspect.getfile(cls)) for cls in methods.REGISTRY.values()}
    assert len(files) > 20
    long = [path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) >= 120]
    assert not long, f"a method's file has less than 120 lines, docstrings included: {', '.join(long)}"

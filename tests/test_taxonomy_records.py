"""The recorded comparison of lesson 11: what is read, what is chosen, and how two orders agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.stats
from test_adapter_runs import record

from peft_helpers import adapter_records, records, taxonomy_records
from peft_helpers.taxonomy_records import UNIPELT, agreement

COSTS = {"file_bytes": 203_400, "step_flops": 1_234_000_000, "activation_bytes": 3_000_000, "batch": [16, 20]}


def put(
    folder: Path,
    method: str,
    scores: list[float],
    held_out: float = 0.5,
    labels: int = 600,
    costs: dict | None = None,
    **more,
) -> None:
    """A record a seed, with made-up predictions."""
    for seed, score in enumerate(scores):
        predictions = [1] * round(10 * score) + [0] * (10 - round(10 * score))
        about = {"tuned_rates": [{"learning_rate": 1e-3, "score": held_out, "loss": 1.0}], "learning_rate": 1e-3}
        about |= {"costs": costs} if costs else {}
        one = record(method, seed, score, labels, settings=about, predictions=predictions, **more)
        records.save(one, folder)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(adapter_records.backbones, "weights_hash", lambda name: None)
    put(tmp_path, "full", [0.8, 0.7])
    put(tmp_path, "LoRA(rank=8)", [0.7, 0.7], held_out=0.6)
    counts = {"trained": 50_000, "changed": 300_000, "stored": 50_000, "total": 1_000_000}
    put(tmp_path, "LoRA(rank=2)", [0.9, 0.9], held_out=0.4, parameters=counts, costs=COSTS)
    put(tmp_path, "IA3", [0.4])
    put(tmp_path, "scratch", [0.5])
    put(tmp_path, "IA3", [0.9], labels=50)
    put(tmp_path, "bag of words", [0.5], backbone="none")
    return taxonomy_records.recorded("made", "tiny", folder=tmp_path)


def test_families_in_order_and_the_number_of_labels_with_most_methods(shelf) -> None:
    labels = {family: [one.label for one in entries] for family, entries in shelf.items()}
    assert list(labels) == ["additive", "reparametrization", "baseline", "lines"]
    assert labels["additive"] == ["IA3"] and set(labels["reparametrization"]) == {"LoRA(rank=8)", "LoRA(rank=2)"}
    assert labels["baseline"] == ["full"] and labels["lines"] == ["bag of words"]
    assert shelf["additive"][0].runs[0].labels == 600


def test_the_setting_is_chosen_by_held_out_data(shelf) -> None:
    assert taxonomy_records.chosen(shelf)["LoRA"].label == "LoRA(rank=8)"


def test_what_is_missing_is_named(shelf) -> None:
    lacking = taxonomy_records.missing(shelf)
    assert "BitFit" in lacking and "DiffPruning" in lacking
    assert not {"LoRA", "IA3", "FullFineTuning"} & set(lacking)


def test_the_table_tells_scores_and_intervals(shelf) -> None:
    lines = taxonomy_records.comparison(shelf, [1] * 10).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    row = next(line for line in lines if "LoRA(rank=2)" in line)
    assert "| 90.0 ± 0.0 | " in row and "+15.0 (" in row
    kept = (4 * 1_000_000 + 12 * 50_000) / 1e6 + 3  # weights; a gradient and Adam's two moments; activations
    assert row.startswith(f"| LoRA(rank=2) | 50,000 | 300,000 | 203 | {kept} | 1.23 | 1 | 0.001 | 90.0 ± 0.0 | ")
    alone = next(line for line in lines if line.startswith("| IA3"))
    assert "| 40.0 | " in alone and "| **-35.0 (" in alone
    assert alone.split(" | ")[3:6] == ["", "", ""], "what was not measured is left out"
    assert next(line for line in lines if line.startswith("| full")).endswith("|  |")
    assert "| 50.0 |" in next(line for line in lines if "bag of words" in line)


def test_several_tasks_stand_side_by_side(shelf) -> None:
    other = {"additive": shelf["additive"]}
    truths = {"one": [1] * 10, "two": None}
    lines = taxonomy_records.across({"one": shelf, "two": other}, truths).splitlines()
    assert lines[0] == "| method | one | two |" and len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| commonest class", "| IA3", "| LoRA(rank=8)", "| LoRA(rank=2)", "| full", "| bag of words",
    ]  # fmt: skip
    assert lines[3].startswith("| IA3 | 40.0; **-35.0 (") and lines[3].endswith("| 40.0 |")
    assert lines[4].endswith(" |  |") and lines[6] == "| full | 75.0 ± 7.1 |  |"
    with pytest.raises(ValueError, match="there is none for two"):
        taxonomy_records.across({"one": shelf, "two": other}, {"one": None})


def test_agreement_is_spearmans_rho_with_its_chance() -> None:
    theirs = UNIPELT["500"]
    same = agreement(theirs, theirs)
    assert same.rho == pytest.approx(1) and same.chance == pytest.approx(1 / 720) and same.methods[0] == "UniPELT"
    turned = agreement({name: -score for name, score in theirs.items()}, theirs)
    assert turned.rho == pytest.approx(-1) and turned.chance == 1
    ours = {"full": 0.7, "LoRA": 0.6, "BitFit": 0.5, "Houlsby": 0.9}
    found = agreement(ours, theirs)
    wanted = scipy.stats.spearmanr([0.7, 0.6, 0.5], [theirs[name] for name in ("full", "LoRA", "BitFit")]).statistic
    assert found.rho == pytest.approx(wanted) and found.methods == ("full", "LoRA", "BitFit")
    assert agreement({"full": 1.0, "LoRA": 0.5}, theirs) is None, "two methods have no rank correlation to speak of"
    assert agreement({"full": 1.0, "LoRA": 1.0, "BitFit": 1.0}, theirs) is None, "no order at all"
    many = {str(i): float(i) for i in range(9)}
    with pytest.raises(ValueError, match="at most 8 of them; got 9"):
        agreement(many, many)


def test_the_papers_table() -> None:
    """Mao et al. 2022: BitFit is not in the first column; the hybrid is first in all."""
    assert all(max(column, key=column.get) == "UniPELT" for column in UNIPELT.values())
    assert "BitFit" not in UNIPELT["all, dev"] and all(len(UNIPELT[k]) == 6 for k in ("100", "500", "1000"))
    order = sorted(UNIPELT["1000"], key=UNIPELT["1000"].get, reverse=True)
    assert order.index("LoRA") == 1
    assert sorted(UNIPELT["100"], key=UNIPELT["100"].get, reverse=True).index("LoRA") == 3

"""Adapters for a side under adapters for a task: trained without labels, stacked in order, frozen, exchanged."""

from __future__ import annotations

import copy
import json

import datasets
import pytest
import tiny
import torch
import transformers

from peft_helpers import domain_adapters, methods, sides, tasks, training
from peft_helpers.training import Settings

TEXTS = ["red sea warm fire", "blue sky cold ice", "green leaf very warm", "not cold fire sea"] * 4
SETTINGS = Settings(2e-2, epochs=6, batch_size=8, progress=False)


def masked() -> transformers.PreTrainedModel:
    """A tiny BERT with its masked-language head, all but new adapters frozen."""
    config = tiny.model().config
    torch.manual_seed(0)
    model = tiny.still(transformers.AutoModelForMaskedLM.from_config(config))
    return methods.apply(model, methods.Pfeiffer(bottleneck=4))


@pytest.fixture(scope="module")
def two_sides() -> dict[str, domain_adapters.Tensors]:
    """Adapters of two sides of the same backbone."""
    found = {}
    for seed, name in enumerate(("here", "there")):
        torch.manual_seed(seed)
        found[name] = domain_adapters.take(masked())
        for state in found[name]:
            state["up.weight"].normal_(generator=torch.Generator().manual_seed(seed))
    return found


def test_adapters_learn_masked_words_and_nothing_else_moves() -> None:
    model, tokenizer = masked(), tiny.tokenizer()
    before, start = domain_adapters.masked_loss(model, tokenizer, TEXTS), copy.deepcopy(model.state_dict())
    losses = domain_adapters.fit_masked(model, tokenizer, TEXTS, SETTINGS)
    assert len(losses) == 12 and not model.training
    assert domain_adapters.masked_loss(model, tokenizer, TEXTS) < before
    moved = {name for name, x in model.state_dict().items() if not torch.equal(x, start[name])}
    assert moved and all(".adapter." in name for name in moved)
    assert domain_adapters.masked_loss(model, tokenizer, TEXTS, seed=1) != before


def test_the_masked_loss_is_the_whole_heads() -> None:
    """Only the asked positions go through the head: the same as everything through it, and -100 elsewhere."""
    model, tokenizer = masked(), tiny.tokenizer()
    ids = tokenizer(TEXTS[:4], padding=True, return_tensors="pt")["input_ids"]
    inputs, labels = domain_adapters.mask_tokens(
        ids, torch.isin(ids, torch.tensor([0, 2, 3, 4])), 4, len(tokenizer), torch.Generator().manual_seed(0)
    )
    logits = model.eval()(inputs, attention_mask=(ids != 0).long()).logits
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert domain_adapters.masked_loss(model, tokenizer, TEXTS[:4]) == pytest.approx(whole.item(), rel=1e-5)


def test_nothing_to_learn_from_or_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 texts"):
        domain_adapters.fit_masked(masked(), tiny.tokenizer(), [], SETTINGS)
    with pytest.raises(ValueError, match="0 tensors"):
        domain_adapters.fit_masked(masked().requires_grad_(False), tiny.tokenizer(), TEXTS, SETTINGS)


@pytest.mark.parametrize(
    "method", [methods.Pfeiffer(bottleneck=3), methods.Houlsby(bottleneck=3), methods.LoRA(rank=2)]
)
def test_the_task_stands_on_the_domain_which_is_frozen(two_sides, method) -> None:
    model = domain_adapters.stack(tiny.still(tiny.model()), two_sides["here"], method)
    place = model.bert.encoder.layer[1].output.dense
    h = torch.randn(3, 32)
    if isinstance(method, methods.LoRA):
        inner, by_hand = place, place.adapter(place.base(h))
    else:
        inner = place.base
        by_hand = place.adapter(inner.adapter(place.innermost(h)))
    assert torch.equal(place(h), by_hand)
    assert torch.equal(inner.adapter.up.weight, two_sides["here"][1]["up.weight"])
    assert not any(p.requires_grad for p in inner.adapter.parameters()) and model.classifier.weight.requires_grad
    task, tokenizer = tiny.task(), tiny.tokenizer()
    training.fit(model, tokenizer, task, Settings(1e-2, epochs=1, batch_size=8, progress=False))
    assert all(
        torch.equal(x, y)
        for mine, known in zip(domain_adapters.take(model), two_sides["here"], strict=True)
        for x, y in zip(mine.values(), known.values(), strict=True)
    )


def test_an_exchange_changes_the_domain_alone_and_can_be_undone(two_sides) -> None:
    model = domain_adapters.stack(tiny.model().eval(), two_sides["here"], methods.Pfeiffer(bottleneck=3))
    ids = torch.arange(5, 12)[None]
    first, rest = model(ids).logits, {n: p.clone() for n, p in model.named_parameters() if ".base.adapter." not in n}
    domain_adapters.exchange(model, two_sides["there"])
    assert not torch.equal(model(ids).logits, first)
    assert all(torch.equal(p, rest[n]) for n, p in model.named_parameters() if n in rest)
    domain_adapters.exchange(model, two_sides["here"])
    assert torch.equal(model(ids).logits, first)


def test_what_does_not_fit_is_refused(two_sides) -> None:
    with pytest.raises(ValueError, match="no domain adapters to stack upon"):
        domain_adapters.stack(tiny.model(), [], methods.Pfeiffer(bottleneck=3))
    model = domain_adapters.stack(tiny.model(), two_sides["here"], methods.Pfeiffer(bottleneck=3))
    with pytest.raises(ValueError, match="has 2 domain adapters; got tensors of 1 layers"):
        domain_adapters.exchange(model, two_sides["here"][:1])
    narrow = [{key: x[:2] for key, x in state.items()} for state in two_sides["there"]]
    with pytest.raises(ValueError, match="do not fit this model's domain adapters"):
        domain_adapters.exchange(model, narrow)
    with pytest.raises(ValueError, match="carries no adapters"):
        domain_adapters.take(tiny.model())
    with pytest.raises(ValueError, match=r"has no adapter behind it; the model carries LoRA"):
        domain_adapters.take(methods.apply(tiny.model(), methods.LoRA(rank=2)))


def test_the_pocket_encoder_brings_its_head() -> None:
    model, tokenizer = domain_adapters.masked_model("pocket-bert")
    guess = domain_adapters.masked_loss(model, tokenizer, ["The people at the hotel were very kind to us."] * 4)
    assert model.name == "pocket-bert" and guess < torch.tensor(float(len(tokenizer))).log() - 2


# ---------------------------------------------------------------- sides


def test_the_halves_share_no_domain_and_their_texts_are_no_test_texts() -> None:
    halves = sides.domain_sides()
    assert set(halves) == set(sides.HALVES) and not set(sides.PLACES) & set(sides.PASTIMES)
    whole = tasks.load("sentiment")
    for split, rows in whole.splits.items():
        parts = [side.task.splits[split]["text"] for side in halves.values()]
        assert sorted(t for part in parts for t in part) == sorted(rows["text"]), "nothing is lost or doubled"
    held_out = {
        text for side in halves.values() for split in ("dev", "test") for text in side.task.splits[split]["text"]
    }
    for side in halves.values():
        assert len(side.texts) == len(set(side.texts)) > 4000 and not held_out & set(side.texts)
        assert set(side.task.splits["train"]["text"]) <= set(side.texts)
    named = {json.loads(line)["domain"] for line in (tasks.POCKET / "sentiment/test.jsonl").read_text().splitlines()}
    assert named == {*sides.PLACES, *sides.PASTIMES}


def test_a_language_lends_its_texts_and_its_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(count: int) -> datasets.Dataset:
        return datasets.Dataset.from_list(
            [{"premise": f"text {i // 2}", "hypothesis": f"claim {i}", "label": i % 3} for i in range(count)]
        )

    made = datasets.DatasetDict(train=rows(20), validation=rows(4), test=rows(6))
    monkeypatch.setattr(sides.hub, "check_reachable", lambda name, kind: None)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, language: {("facebook/xnli", "sw"): made}[name, language]
    )
    side = sides.language_side("sw", labels=6, texts=8)
    assert (side.name, side.task.name, side.task.outputs) == ("sw", "xnli-sw", 3)
    assert [len(side.task.splits[split]) for split in ("train", "dev", "test")] == [6, 4, 6]
    assert side.texts == ("text 3", "text 4", "text 5", "text 6"), "further texts than the labeled ones, each once"
    model = tiny.model(outputs=3)
    run = training.fit(model, tiny.tokenizer(), side.task, Settings(1e-3, epochs=1, batch_size=4, progress=False))
    assert run.labels == 6

    def fails(name: str, kind: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(sides.hub, "check_reachable", fails)
    with pytest.raises(ConnectionError, match="xnli-sw"):
        sides.language_side("sw")

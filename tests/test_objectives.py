"""Masking, shifting and infilling of lesson 04, against their definitions and the library's losses."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling

from peft_helpers import losses, objectives

IDS = torch.arange(11_000).remainder(90).add(5).reshape(200, 55)
SPECIAL = torch.zeros_like(IDS, dtype=torch.bool)
SPECIAL[:, 0] = True


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masking_has_the_shares_of_the_paper():
    inputs, labels = objectives.mask_tokens(IDS, SPECIAL, 4, 100, generator())
    chosen = labels != objectives.IGNORED
    assert not chosen[:, 0].any() and torch.equal(inputs[:, 0], IDS[:, 0])
    assert torch.equal(labels[chosen], IDS[chosen]) and torch.equal(inputs[~chosen], IDS[~chosen])
    size = chosen.sum().item()
    assert size / (~SPECIAL).sum().item() == pytest.approx(0.15, abs=0.012)
    assert (inputs[chosen] == 4).sum().item() / size == pytest.approx(0.8, abs=0.035)
    assert (inputs[chosen] == IDS[chosen]).sum().item() / size == pytest.approx(0.1, abs=0.035)


def test_masking_has_the_shares_of_the_library():
    """The library's collator draws otherwise; its shares are the same."""
    collator = DataCollatorForLanguageModeling(tiny.tokenizer(60), seed=0)
    ids = IDS.remainder(12) + 5
    made = collator([{"input_ids": row.tolist()} for row in ids])
    inputs, labels = objectives.mask_tokens(ids, torch.zeros_like(SPECIAL), 4, 17, generator())
    for share in (lambda x, y: y != -100, lambda x, y: (y != -100) & (x == 4)):
        theirs, ours = (
            share(*pair).float().mean().item() for pair in ((made["input_ids"], made["labels"]), (inputs, labels))
        )
        assert theirs == pytest.approx(ours, abs=0.015)


def test_masking_is_drawn_by_its_generator():
    first, again, other = (objectives.mask_tokens(IDS, SPECIAL, 4, 100, generator(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(objectives.mask_tokens(IDS, SPECIAL, 4, 100, generator(), share=0)[0], IDS)


def test_next_tokens_give_the_librarys_loss():
    torch.manual_seed(0)
    config = tiny.model("gpt2").config
    model = AutoModelForCausalLM.from_config(config).double().eval()
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 6, 3, 0, 0]])
    mask = (ids != 0).long()
    inputs, labels = objectives.next_tokens(ids, mask)
    assert labels.tolist() == [[7, 8, 9, 3], [6, 3, -100, -100]]
    with torch.no_grad():
        ours = losses.cross_entropy(model(inputs).logits.flatten(0, 1), labels.flatten())
        theirs = model(ids, labels=ids.masked_fill(mask == 0, -100)).loss
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=1e-6)


def test_infilling_keeps_the_rest_in_order_and_hides_its_share():
    ids, lengths = list(range(100, 200)), []
    for seed in range(50):
        damaged = objectives.infill(ids, 4, generator(seed))
        kept = [token for token in damaged if token != 4]
        assert kept == sorted(kept) and 1 <= damaged.count(4) <= 30
        lengths.append(len(kept))
    assert sum(lengths) / len(lengths) == pytest.approx(75, abs=6)
    assert objectives.infill(ids, 4, generator(), share=0) == ids
    assert ids == list(range(100, 200)), "the text itself stays"
    assert set(objectives.infill([7], 4, generator(), share=1)) <= {4, 7}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: objectives.mask_tokens(IDS, SPECIAL, 4, 100, generator(), share=1.5), "between 0 and 1"),
        (lambda: objectives.mask_tokens(IDS, SPECIAL[:3], 4, 100, generator()), "one shape"),
        (lambda: objectives.mask_tokens(IDS[0], SPECIAL[0], 4, 100, generator()), "one shape"),
        (lambda: objectives.infill([], 4, generator()), "not empty"),
        (lambda: objectives.infill([5], 4, generator(), share=-0.1), "between 0 and 1"),
    ],
)
def test_wrong_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()

"""Distillation and rounding: equal to torch's own functions, students that learn, and refusals."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from torch.nn import functional as F

from peft_helpers import distillation, quantization, rounding, training
from peft_helpers.batching import encode
from peft_helpers.training import Settings

SETTINGS = Settings(1e-2, epochs=12, batch_size=8, progress=False)


def test_the_loss_is_torchs_divergence_times_the_square_of_t() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9, 4, dtype=torch.float64)
    for T in (0.5, 1.0, 3.0):
        soft = F.softmax(teacher / T, -1)
        theirs = F.kl_div(F.log_softmax(student / T, -1), soft, reduction="batchmean") * T**2
        assert distillation.distillation_loss(student, teacher, T).item() == pytest.approx(theirs.item(), rel=1e-12)
    assert distillation.distillation_loss(teacher, teacher + 5, 2.0).item() == pytest.approx(0, abs=1e-12)
    for T in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="the temperature is a positive number"):
            distillation.distillation_loss(student, teacher, T)
    with pytest.raises(ValueError, match=r"of one shape; got \(9, 4\), \(9, 3\)"):
        distillation.distillation_loss(student, teacher[:, :3])


def test_a_hot_gradient_is_that_of_the_logits_difference() -> None:
    """For large T: (s − t) / K, with logits of mean 0 (arXiv:1503.02531, eq. 4, times T²)."""
    torch.manual_seed(1)
    student, teacher = (z - z.mean(-1, keepdim=True) for z in torch.randn(2, 1, 4, dtype=torch.float64))
    student.requires_grad_(True)
    (slope,) = torch.autograd.grad(distillation.distillation_loss(student, teacher, 1e3), student)
    assert torch.allclose(slope, (student - teacher).detach() / 4, atol=1e-3)


@pytest.fixture(scope="module")
def taught():
    """A tiny teacher that has learned its task, the encoded texts, and what it says about them."""
    task, tokenizer = tiny.task(train=80), tiny.tokenizer()
    teacher = tiny.still(tiny.model())
    training.fit(teacher, tokenizer, task, Settings(1e-2, epochs=10, batch_size=8, progress=False))
    encoded = encode(task, "train", tokenizer, 32)
    return task, tokenizer, teacher, encoded, distillation.logits_on(teacher, encoded, tokenizer)


def test_a_student_has_its_layers_and_nothing_else_changed(taught) -> None:
    _, _, teacher, _, _ = taught
    student = distillation.student_of(teacher, [1])
    assert student.config.num_hidden_layers == 1 and teacher.config.num_hidden_layers == 2
    ours, theirs = student.bert.encoder.layer[0].state_dict(), teacher.bert.encoder.layer[1].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    both = distillation.student_of(teacher, [0, 1])
    ids = torch.arange(5, 12)[None]
    assert torch.equal(both(ids).logits, teacher(ids).logits) and both.classifier is not teacher.classifier
    assert distillation.student_of(tiny.model("roberta"), [0]).config.num_hidden_layers == 1


def test_students_that_can_t_be_made_are_refused() -> None:
    for layers in ([], [2], [0, 0], [-1]):
        with pytest.raises(ValueError, match="layers are some of 0 to 1, each once"):
            distillation.student_of(tiny.model(), layers)
    with pytest.raises(ValueError, match="bert or roberta; got gpt2"):
        distillation.student_of(tiny.model("gpt2"), [0])


def test_logits_are_in_the_texts_order(taught) -> None:
    task, tokenizer, teacher, _, said = taught
    assert said.shape == (80, 2) and not said.requires_grad
    alone = teacher(**tokenizer(task.splits["train"][7]["text"], return_tensors="pt")).logits[0]
    assert torch.allclose(said[7], alone, atol=1e-5)


def test_a_student_learns_from_the_teacher_without_labels(taught) -> None:
    task, tokenizer, _, encoded, said = taught
    blind = dataclasses.replace(encoded, labels=[0] * len(encoded.labels))  # what a label would teach is wrong
    student = distillation.student_of(tiny.still(tiny.model(seed=5)), [0])
    losses = distillation.distill(student, blind, said, tokenizer.pad_token_id, SETTINGS)
    assert len(losses) == 120 and losses[-1] < losses[0] / 5 and not student.training
    assert training.evaluate(student, tokenizer, task).score >= 0.9
    other = distillation.student_of(tiny.still(tiny.model(seed=5)), [0])
    distillation.distill(other, blind, None, tokenizer.pad_token_id, SETTINGS)
    assert training.evaluate(other, tokenizer, task).score == 0.5, "taught by wrong labels"


def test_the_same_seed_gives_the_same_student(taught) -> None:
    _, _, _, encoded, said = taught
    brief = dataclasses.replace(SETTINGS, epochs=1, clip=None)
    runs = [
        distillation.distill(distillation.student_of(tiny.model(seed=5), [0]), encoded, said, 0, brief)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


# ---------------------------------------------------------------- rounding


def test_rows_are_rounded_as_torch_and_the_int8_layers_do() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 40) * torch.logspace(-3, 2, 6)[:, None]
    for bits in (2, 3, 4, 8, 12):
        levels = 2 ** (bits - 1) - 1
        ours, scale = rounding.round_rows(weight, bits), weight.abs().amax(1) / levels
        zero = torch.zeros(6, dtype=torch.int32)
        theirs = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -levels, levels)
        assert torch.allclose(ours, theirs, rtol=1e-5)
        assert ((ours - weight).abs() <= scale[:, None] / 2 * 1.0001).all()
        assert all(len(row.unique()) <= 2**bits - 1 for row in ours)
    int8 = quantization.dequantize_rows(*quantization.quantize_rows(weight))
    assert torch.allclose(rounding.round_rows(weight, 8), int8, rtol=1e-5)
    assert not rounding.round_rows(torch.zeros(2, 3), 4).any()


def test_what_can_t_be_rounded_is_refused() -> None:
    for bits in (1, 17, 4.0, True):
        with pytest.raises(ValueError, match="bits is a whole number from 2 to 16"):
            rounding.round_rows(torch.ones(2, 2), bits)
    for weight in (torch.ones(2), torch.ones(2, 2, dtype=torch.int8)):
        with pytest.raises(ValueError, match=r"a matrix \(out, in\) of floating-point numbers is needed"):
            rounding.round_rows(weight, 8)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "bart"])
def test_a_rounded_model_is_a_copy_with_few_levels(kind: str) -> None:
    model = tiny.model(kind)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    for embeddings in (False, True):
        small = rounding.rounded_model(model, 3, embeddings)
        assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
        table = small.get_input_embeddings().weight
        assert (max(len(row.unique()) for row in table) <= 7) == embeddings
        site = rounding.backbones.anatomy(small).layers[0].sites["ffn_in"]
        assert max(len(row.unique()) for row in site.module.weight) <= 7
        assert not torch.equal(site.module.weight, before[f"{site.path}.weight"])


def test_packed_bytes_by_hand() -> None:
    model = tiny.model()
    total = sum(p.numel() for p in model.parameters())
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    rows = 2 * (4 * 16 + 32 + 16)
    assert rounding.rounded_bytes(model, 4) == matrices // 2 + 4 * rows + 4 * (total - matrices)
    tables = (17 + 32 + 2) * 16
    everything = rounding.rounded_bytes(model, 8, embeddings=True)
    assert everything == matrices + tables + 4 * (rows + 51) + 4 * (total - matrices - tables)
    with pytest.raises(ValueError, match="bits is"):
        rounding.rounded_bytes(model, 1)

"""DoRA, (IA)³, VeRA, AdaLoRA and P-tuning in peft's folders: equal answers both ways, and clear refusals."""

from __future__ import annotations

import re

import peft
import pytest
import tiny
import torch
from conformance import Case, applied, assert_same, backbone, batch, disturb, logits, state, trained
from safetensors.torch import load_file, save_file
from test_interchange import assert_equal_answers, by_peft, theirs

from peft_helpers import methods

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
BERT = "bert.encoder.layer.{}.{}"
KEYS, VALUES, DENSE, OUT = (
    [BERT.format(layer, part) for layer in (0, 1)]
    for part in ("attention.self.key", "attention.self.value", "attention.output.dense", "output.dense")
)
THERE = [
    (methods.DoRA(rank=3, alpha=5.0), "bert"),
    (methods.DoRA(rank=2, targets=("value", "query", "ffn_out")), "gpt2"),
    (methods.DoRA(rank=2, targets=("query", "cross_value")), "bart"),
    (methods.DoRA(rank=2), "llama"),
    (methods.IA3(), "bert"),
    (methods.IA3(), "gpt2"),
    (methods.IA3(keys_and_values=("value", "query", "key", "attention_output")), "gpt2"),
    (methods.IA3(), "bart"),
    (methods.IA3(), "llama"),
    (methods.VeRA(rank=5, targets=("key", "ffn_in", "ffn_out"), seed=3, start=0.2), "bert"),
    (methods.VeRA(rank=5, targets=("attention_output",)), "gpt2"),
    (methods.VeRA(rank=5), "llama"),
    (methods.AdaLoRA(rank=3, alpha=5.0, targets=("query", "value", "ffn_in")), "bert"),
    (methods.AdaLoRA(rank=3, targets=("attention_output", "ffn_out")), "gpt2"),
    (methods.AdaLoRA(rank=2, targets=("query", "cross_value")), "bart"),
]


@pytest.mark.parametrize(("method", "kind"), THERE, ids=tiny.called)
def test_there_and_back(method, kind, tmp_path):
    model = trained(Case(method, kind))
    folder = methods.to_peft(model, tmp_path / "peft")
    assert_equal_answers(by_peft(folder, backbone(kind, head_seed=2)), logits(model))
    again = methods.from_peft(backbone(kind, head_seed=2), folder)
    assert type(again.adaptation.method) is type(method)
    assert_equal_answers(logits(again), logits(model))


THEIRS = [
    ("bert", peft.LoraConfig(task_type="SEQ_CLS", r=3, use_dora=True, target_modules=["query", "value"]), methods.DoRA),
    (
        "gpt2",
        peft.LoraConfig(task_type="SEQ_CLS", r=3, use_dora=True, target_modules=["c_attn"], fan_in_fan_out=True),
        methods.DoRA,
    ),
    ("bert", peft.IA3Config(task_type="SEQ_CLS"), methods.IA3),
    ("gpt2", peft.IA3Config(task_type="SEQ_CLS", fan_in_fan_out=True), methods.IA3),
    ("llama", peft.IA3Config(task_type="SEQ_CLS"), methods.IA3),
    (
        "bert",
        peft.AdaLoraConfig(task_type="SEQ_CLS", init_r=4, target_modules=["query", "value"], total_step=9),
        methods.AdaLoRA,
    ),
]


@pytest.mark.parametrize(("kind", "config", "method"), THEIRS, ids=tiny.called)
def test_from_peft(kind, config, method, tmp_path):
    """Their defaults: (IA)³ on BERT's attention output too, as an input that is scaled; on GPT-2's whole c_attn."""
    answers = theirs(kind, tmp_path / "theirs", config)
    model = methods.from_peft(backbone(kind, head_seed=2), tmp_path / "theirs")
    assert isinstance(model.adaptation.method, method)
    assert_equal_answers(logits(model), answers)
    if (kind, method) == ("bert", methods.IA3):
        assert model.adaptation.method.feed_forward == ("attention_output", "ffn_out")
    if kind == "gpt2":
        assert {"query", "key", "value"} <= set(model.adaptation.method.sites)


def test_what_peft_has_taken_out_are_zeros_here(tmp_path):
    """After allocation a folder of theirs has other ranks in each module, and says which triplets are left."""
    config = peft.AdaLoraConfig(
        task_type="SEQ_CLS", init_r=4, target_r=2, target_modules=["query", "value"], tinit=0, tfinal=2, total_step=3
    )
    model = peft.get_peft_model(backbone("bert"), config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for step in (0, 1):  # 1 = total_step - tfinal: the choice is made
        model(**batch("bert"), labels=torch.tensor([0, 1, 0])).loss.backward()
        model.base_model.update_and_allocate(step)
    model.save_pretrained(str(tmp_path / "theirs"))
    ranks = {len(t) for name, t in load_file(tmp_path / "theirs/adapter_model.safetensors").items() if "lora_E" in name}
    assert len(ranks) > 1 or ranks == {2}, "something was taken out"
    found = methods.from_peft(backbone("bert", head_seed=2), tmp_path / "theirs")
    assert_equal_answers(logits(found), logits(model, batch("bert")))
    left = sum(int(part.singular.count_nonzero()) for part in found.modules() if hasattr(part, "singular"))
    assert left == 2 * 4, "four matrices, two triplets each on average"


def test_the_scale_of_adalora_arrives(tmp_path):
    method = methods.AdaLoRA(rank=3, alpha=5.0, dropout=0.25)
    folder = methods.to_peft(trained(Case(method, "bert")), tmp_path / "peft")
    assert methods.from_peft(backbone("bert"), folder).adaptation.method == method


@pytest.mark.parametrize(("kind", "encoder"), [("gpt2", "lstm"), ("llama", "mlp"), ("gpt2", None)])
def test_p_tuning_goes_both_ways_in_models_that_write(kind, encoder, tmp_path):
    """Without its encoder, which neither library keeps; behind a prompt, peft cuts nothing off, so the text's part."""
    method = methods.PTuning(length=3, encoder=encoder, hidden=4)
    model = applied(Case(method, kind), backbone(kind, "generate"))
    disturb(model)
    inputs = batch(kind)
    folder = methods.to_peft(model, tmp_path / "peft")
    loaded = peft.PeftModel.from_pretrained(backbone(kind, "generate"), str(folder))
    assert loaded.peft_config["default"].peft_type == "P_TUNING"
    assert_equal_answers(logits(loaded, inputs)[:, 3:], logits(model, inputs))
    again = methods.from_peft(backbone(kind, "generate"), folder)
    assert again.adaptation.method == methods.PTuning(length=3, encoder=None)
    assert torch.equal(logits(again, inputs), logits(model, inputs))
    loaded.save_pretrained(str(tmp_path / "theirs"))
    back = methods.from_peft(backbone(kind, "generate"), tmp_path / "theirs")
    assert_equal_answers(logits(back, inputs), logits(model, inputs))


def change(folder, edit):
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path)  # without the header: whose backbone it is, nobody says


def rename(tensors, old, new):
    name = next(name for name in tensors if old in name)
    tensors[name.replace(old, new)] = tensors.pop(name)


def drop(tensors, part):
    del tensors[next(name for name in tensors if part in name)]


def stretch(tensors, part):
    tensors[next(name for name in tensors if part in name)] += 1


def lengthen(tensors, part):
    name = next(name for name in tensors if part in name)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


DORA, IA3, VERA = methods.DoRA(rank=2), methods.IA3(), methods.VeRA(rank=3)
ADALORA = methods.AdaLoRA(rank=2)
DAMAGE = [
    (
        DORA,
        "bert",
        lambda t: drop(t, "magnitude"),
        "a matrix and a magnitude for each module are needed",
    ),
    (DORA, "bert", lambda t: lengthen(t, "magnitude"), r"has the shape \(32,\), which does not fit"),
    (
        DORA,
        "gpt2",
        lambda t: t[next(n for n in t if "magnitude" in n)].add_(1),
        "changes the key, for which there is no",
    ),
    (
        IA3,
        "bert",
        lambda t: lengthen(t, "key.ia3_l"),
        r"shape \(32, 1\); the module takes \(1, 16\) or \(16, 1\)",
    ),
    (IA3, "bert", lambda t: rename(t, "ia3_l", "ia3_k"), r"unexpected for \(IA\)³ and a head"),
    (IA3, "bert", lambda t: drop(t, "value.ia3_l"), "the config names, but the file lacks: bert.encoder"),
    (VERA, "bert", lambda t: t["base_model.vera_A"].mul_(2), "random matrices are not those that the seed draws"),
    (VERA, "bert", lambda t: drop(t, "vera_B"), "random matrices are not those that the seed draws"),
    (VERA, "bert", lambda t: rename(t, "vera_lambda_d", "vera_lambda_x"), "unexpected for VeRA and a head"),
    (ADALORA, "bert", lambda t: drop(t, "lora_E"), r"missing: bert.*\.lora_E"),
    (ADALORA, "bert", lambda t: rename(t, "lora_E", "lora_F"), "unexpected for AdaLoRA and a head"),
    (ADALORA, "bert", lambda t: lengthen(t, "lora_A"), "should have 2 triplets by the configuration; got"),
]


@pytest.mark.parametrize(("method", "kind", "damage", "says"), DAMAGE, ids=tiny.called)
def test_damaged_folders_are_refused(method, kind, damage, says, tmp_path):
    folder = methods.to_peft(trained(Case(method, kind)), tmp_path / "peft")
    change(folder, damage)
    model = backbone(kind)
    before = state(model)
    with pytest.raises(ValueError, match=says):
        methods.from_peft(model, folder)
    assert_same(state(model), before, "refused")


def test_what_has_no_equal_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one vector d for GPT-2's query, key and value; here query has its own"):
        methods.to_peft(trained(Case(VERA, "gpt2")), tmp_path / "gpt2")
    with pytest.raises(ValueError, match="one Q for GPT-2's query, key and value; here query has its own"):
        methods.to_peft(trained(Case(ADALORA, "gpt2")), tmp_path / "gpt2")
    both = methods.IA3(keys_and_values=("ffn_out",))
    with pytest.raises(ValueError, match="peft scales a module's inputs or its outputs; here it is both"):
        methods.to_peft(trained(Case(both, "bert")), tmp_path / "both")
    theirs("bert", tmp_path / "vera", peft.VeraConfig(task_type="SEQ_CLS", r=3, target_modules=["query", "value"]))
    with pytest.raises(ValueError, match="peft draws them in another way"):
        methods.from_peft(backbone("bert"), tmp_path / "vera")
    theirs("bert", tmp_path / "keys", peft.IA3Config(target_modules=KEYS, feedforward_modules=[]))
    with pytest.raises(ValueError, match=re.escape("(IA)³ here scales outputs and inputs; the folder has only one")):
        methods.from_peft(backbone("bert"), tmp_path / "keys")
    config = peft.IA3Config(target_modules=[*KEYS, *VALUES[:1], *OUT], feedforward_modules=OUT)
    theirs("bert", tmp_path / "some", config)
    with pytest.raises(ValueError, match="in every layer; the folder has nothing for bert"):
        methods.from_peft(backbone("bert"), tmp_path / "some")

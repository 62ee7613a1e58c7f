"""Folders for huggingface/peft and from it: equal answers both ways, and clear refusals of what has no equal here."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from conformance import KINDS, Case, assert_same, backbone, batch, disturb, logits, state, trained
from safetensors.torch import load_file, save_file

from peft_helpers import backbones, methods
from peft_helpers.methods import interchange

# peft 0.21 asks transformers by a name that 5.23 calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
CLOSE = 1e-6  # of the largest logit, and at least of 1
PARTS = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
CROSS = ("cross_query", "cross_key", "cross_value", "cross_output")
TARGETS = {kind: PARTS for kind in KINDS} | {"bart": PARTS + CROSS, "llama": (*PARTS, "ffn_gate")}
HEADS = {"bart": "classification_head", "gpt2": "score", "llama": "score"}
ALL = [(kind, TARGETS[kind]) for kind in KINDS]
ONE = [(kind, (name,)) for kind in KINDS for name in TARGETS[kind]]
SOME = [("gpt2", ("query", "value")), ("gpt2", ("value", "query", "ffn_out")), ("gpt2", ("query", "key", "value"))]


def assert_equal_answers(made, wanted):
    difference, largest = (made - wanted).abs().max().item(), wanted.abs().max().item()
    assert difference <= CLOSE * max(largest, 1), f"logits differ by {difference:.2e}, the largest is {largest:.2e}"


def by_peft(folder, model):
    """What peft answers with our folder."""
    import peft

    loaded = peft.PeftModel.from_pretrained(model, str(folder))
    return logits(loaded, batch(model.config.model_type))


def theirs(kind, folder, config, model=None):
    """A model that peft adapts and saves; returns its answers, which differ from the base's."""
    import peft

    model = backbone(kind) if model is None else model
    base = logits(model)
    adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(str(folder))
    answers = logits(adapted, batch(kind))
    assert not torch.allclose(answers, base, atol=1e-3)
    return answers


def lora_config(kind, targets, **more):
    import peft

    given = {"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 6, "modules_to_save": [HEADS.get(kind, "classifier")]}
    return peft.LoraConfig(target_modules=targets, **given | more)


# ---------------------------------------------------------------- ours to theirs, and back


@pytest.mark.parametrize(("kind", "targets"), ALL + ONE + SOME, ids=tiny.called)
def test_peft_answers_as_we_do_and_so_do_we_again(kind, targets, tmp_path):
    method = methods.LoRA(rank=3, alpha=6.0, targets=targets)  # times 2 is exact, so only the sums may round
    model = trained(Case(method, kind))
    wanted = logits(model)
    folder = methods.to_peft(model, tmp_path / "peft")
    assert_equal_answers(by_peft(folder, backbone(kind, head_seed=2)), wanted)
    back = methods.from_peft(backbone(kind, head_seed=2), folder)
    assert sorted(back.adaptation.method.targets) == sorted(targets)
    assert (back.adaptation.method.rank, back.adaptation.method.alpha) == (3, 6.0)
    assert_equal_answers(logits(back), wanted)
    methods.remove(back)
    assert_same(state(back), state(backbone(kind, head_seed=2)), "from_peft and removed")


def test_rank_alpha_and_dropout_arrive(tmp_path):
    import peft

    model = trained(Case(methods.LoRA(rank=4, alpha=5.0, dropout=0.25), "bert"))
    folder = methods.to_peft(model, tmp_path / "peft")
    config = peft.LoraConfig.from_pretrained(str(folder))
    assert (config.r, config.lora_alpha, config.lora_dropout, config.task_type) == (4, 5.0, 0.25, "SEQ_CLS")
    assert config.modules_to_save == ["classifier"] and not config.fan_in_fan_out
    assert_equal_answers(by_peft(folder, backbone("bert")), logits(model))
    assert methods.from_peft(backbone("bert"), folder).adaptation.method == model.adaptation.method


@pytest.mark.parametrize("kind", KINDS)
def test_layer_norms_go_both_ways(kind, tmp_path):
    model = trained(Case(methods.LayerNormTuning(), kind))
    folder = methods.to_peft(model, tmp_path / "peft")
    assert_equal_answers(by_peft(folder, backbone(kind, head_seed=2)), logits(model))
    back = methods.from_peft(backbone(kind, head_seed=2), folder)
    assert torch.equal(logits(back), logits(model))


@pytest.mark.parametrize("kind", ["gpt2", "bart", "llama"])
def test_language_models_have_no_head_to_save(kind, tmp_path):
    def model():
        return backbone(kind, "generate")

    adapted = methods.apply(model(), methods.LoRA(rank=2))
    disturb(adapted)
    folder = methods.to_peft(adapted, tmp_path / "peft")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["task_type"] == ("SEQ_2_SEQ_LM" if kind == "bart" else "CAUSAL_LM")
    assert config["modules_to_save"] is None
    inputs = batch(kind) | ({"decoder_input_ids": batch(kind)["input_ids"]} if kind == "bart" else {})
    wanted = logits(adapted, inputs)
    import peft

    assert_equal_answers(logits(peft.PeftModel.from_pretrained(model(), str(folder)), inputs), wanted)
    assert_equal_answers(logits(methods.from_peft(model(), folder), inputs), wanted)


def test_a_classifier_on_the_mean_goes_both_ways(tmp_path):
    """It is no model of transformers' own; peft wraps it as it is."""

    def fresh(seed):
        encoder = tiny.model("bert", head=False)
        torch.manual_seed(seed)
        return backbones.mean_pooled_classifier(encoder, 2).eval()

    model = methods.apply(fresh(0), methods.LoRA(rank=2))
    disturb(model)
    wanted = model(**batch("bert")).logits
    folder = methods.to_peft(model, tmp_path / "peft")
    assert_equal_answers(by_peft(folder, fresh(1)), wanted)
    assert_equal_answers(methods.from_peft(fresh(1), folder)(**batch("bert")).logits, wanted)


def test_a_bfloat16_model_goes_both_ways(tmp_path):
    def half(seed):
        return backbone("gpt2", head_seed=seed).to(torch.bfloat16)

    model = methods.apply(half(1), methods.LoRA(rank=2))
    disturb(model)
    folder = methods.to_peft(model, tmp_path / "peft")
    assert {t.dtype for t in load_file(folder / "adapter_model.safetensors").values()} == {torch.float32}
    assert torch.equal(logits(methods.from_peft(half(2), folder)), logits(model))


# ---------------------------------------------------------------- theirs to ours


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("bert", ["query", "value"]),
        ("bert", r"bert\.encoder\.layer\.\d+\.(attention\.self\.key|intermediate\.dense)"),
        ("roberta", ["dense"]),  # attention's and the feed-forward block's; not the head's, which is saved whole
        ("gpt2", ["c_attn"]),
        ("gpt2", ["c_attn", "c_proj", "c_fc"]),
        ("bart", ["q_proj", "v_proj", "fc1"]),
        ("llama", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    ],
    ids=tiny.called,
)
def test_we_answer_as_peft_does(kind, targets, tmp_path):
    wanted = theirs(kind, tmp_path, lora_config(kind, targets, r=2, lora_alpha=4))
    model = methods.from_peft(backbone(kind, head_seed=2), tmp_path)
    assert_equal_answers(logits(model), wanted)
    again = methods.to_peft(model, tmp_path / "again")
    assert_equal_answers(by_peft(again, backbone(kind, head_seed=3)), wanted)


def test_a_lora_on_all_of_c_attn_becomes_three(tmp_path):
    theirs("gpt2", tmp_path, lora_config("gpt2", ["c_attn"], r=6))
    model = methods.from_peft(backbone("gpt2"), tmp_path)
    assert model.adaptation.method == methods.LoRA(rank=6, alpha=6.0, targets=("query", "key", "value"))
    outside = model.transformer.h[1].attn.c_attn
    assert torch.equal(outside.down.weight, outside.base.down.weight), "the same A for each third"
    assert not torch.equal(outside.up.weight, outside.base.up.weight)


def test_scaled_by_the_root_of_the_rank(tmp_path):
    wanted = theirs("bert", tmp_path, lora_config("bert", ["value"], r=4, lora_alpha=2, use_rslora=True))
    model = methods.from_peft(backbone("bert"), tmp_path)
    assert model.adaptation.method == methods.LoRA(rank=4, alpha=4.0, targets=("value",))
    assert_equal_answers(logits(model), wanted)


def test_layer_norms_of_theirs(tmp_path):
    import peft

    saved = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]}
    norms = ["input_layernorm", "post_attention_layernorm", "norm"]
    with pytest.warns(UserWarning, match="Unsupported layer type"):  # RMS norms are no nn.LayerNorm
        wanted = theirs("llama", tmp_path / "all", peft.LNTuningConfig(target_modules=norms, **saved))
    assert_equal_answers(logits(methods.from_peft(backbone("llama"), tmp_path / "all")), wanted)
    with pytest.warns(UserWarning, match="Unsupported layer type"):
        theirs("llama", tmp_path / "some", peft.LNTuningConfig(target_modules=norms[:1], **saved))
    refused(backbone("llama"), tmp_path / "some", r"missing: model\.layers\.0\.post_attention_layernorm\.weight")


# ---------------------------------------------------------------- refusals


def refused(model, folder, says, error=ValueError):
    """from_peft raises, and the model is as it was: tensors, flags, labels."""
    before, labels = state(model), dict(model.config.id2label)
    with pytest.raises(error, match=says):
        methods.from_peft(model, folder)
    assert_same(state(model), before, "refused")
    assert not hasattr(model, "adaptation") and all(p.requires_grad for p in model.parameters())
    assert model.config.id2label == labels


@pytest.mark.parametrize("name", sorted(interchange.WITHOUT))
def test_what_peft_does_not_have_is_refused_with_the_reason(name, tmp_path):
    model = methods.apply(backbone("bert"), methods.HeadOnly())
    model.adaptation.method = methods.make(name)  # some need data before they can be applied
    with pytest.raises(ValueError, match=f"{name} can't be written for peft: .+methods.save keeps it"):
        methods.to_peft(model, tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_every_registered_method_goes_there_or_has_a_reason():
    there = {method.__name__ for method in interchange.COUNTERPARTS}
    assert set(interchange.WITHOUT) | there == set(methods.REGISTRY) and not set(interchange.WITHOUT) & there


def test_a_method_without_a_row_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Lately(methods.HeadOnly):
        pass

    with pytest.raises(
        ValueError, match=r"Lately can't be written for peft: it has no row in interchange\.COUNTERPARTS"
    ):
        methods.to_peft(methods.apply(backbone("bert"), Lately()), tmp_path / "peft")
    with pytest.raises(ValueError, match="carries no method"):
        methods.to_peft(backbone("bert"), tmp_path / "peft")


@pytest.fixture
def ours(tmp_path):
    return methods.to_peft(trained(Case(methods.LoRA(rank=2), "bert")), tmp_path / "ours")


def configured(**changes):
    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def with_tensors(change):
    def rewrite(folder):
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})  # without our header, as peft writes it

    return rewrite


def cut(file, keep):
    def change(folder):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: int(keep * len(whole))])

    return change


QUERY = "bert.encoder.layer.0.attention.self.query"
LORA_A = f"base_model.model.{QUERY}.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (configured(peft_type="BOFT"), "holds BOFT, which no method here can read; there are LORA"),
        (configured(bias="all"), r"settings without an equal here: bias = 'all' \(here: 'none'\)"),
        (configured(layers_to_transform=[1]), r"layers_to_transform = \[1\]"),
        (configured(init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
        (configured(r=3), r"of another shape: .*lora_A\.weight: \(2, 16\) in the file, \(3, 16\) by its rank here"),
        (configured(rank_pattern={"query": 1}), r"query\.lora_A\.weight: \(2, 16\) in the file, \(1, 16\)"),
        (configured(alpha_pattern={"query": 1}), "one rank and one alpha for all its targets; the folder has rank 2"),
        (configured(rank_pattern={"query(": 1}), "can't be read for this BertModel: .*unterminated subpattern"),
        (configured(r="2", lora_alpha="4"), "of another shape: .*by its rank here"),
        (configured(lora_alpha=0), "alpha must be a positive number"),
        (configured(lora_dropout=[0.1]), r"can't be read for this BertModel: float\(\) argument"),
        (configured(target_modules=["query", "value", "key"]), r"config names, but the file lacks: .*\.self\.key"),
        (configured(target_modules=["query"]), r"file has, but the config does not name: .*\.self\.value"),
        (configured(target_modules=[]), r"it changes nothing: target_modules is \[\]"),
        (cut("adapter_model.safetensors", 0.9), "is truncated or not a safetensors file"),
        (cut("adapter_model.safetensors", 0), "is truncated or not a safetensors file"),
        (cut("adapter_config.json", 0.5), "adapter_config.json is damaged"),
        (lambda f: (f / "adapter_config.json").write_text("[1]"), "is no configuration of peft's"),
        (with_tensors(lambda t: t.pop("base_model.model.classifier.bias")), r"missing: classifier\.bias"),
        (with_tensors(lambda t: t.pop(LORA_A)), rf"missing: {re.escape(QUERY)}\.lora_A\.weight"),
        (with_tensors(lambda t: t.update(extra=torch.zeros(2))), "unexpected for LoRA and a head: extra"),
        (
            with_tensors(lambda t: t.update({LORA_A: torch.zeros(2, 15)})),
            r"lora_A\.weight: \(2, 15\) in the file, \(2, 16\) by its rank here",
        ),
        (
            with_tensors(lambda t: t.update({"base_model.model.classifier.bias": torch.zeros(3)})),
            r"classifier\.bias: \(3,\) in the file, \(2,\) here",
        ),
        (
            with_tensors(lambda t: [t.pop(name) for name in list(t) if ".layer.1." in name]),
            r"the file lacks: bert\.encoder\.layer\.1\.attention\.self\.query",
        ),
    ],
)
def test_damaged_or_foreign_folders_are_refused_and_nothing_is_half_applied(ours, damage, says):
    damage(ours)
    refused(backbone("bert"), ours, says)


def test_a_target_in_some_layers_only(ours):
    with_tensors(lambda t: [t.pop(name) for name in list(t) if ".layer.1." in name])(ours)
    configured(target_modules=[f"{QUERY}", QUERY.replace("query", "value")])(ours)
    refused(backbone("bert"), ours, r"in every layer.* nothing for bert\.encoder\.layer\.1\.attention\.self\.query")


def test_missing_files_and_pickles(ours, tmp_path):
    refused(backbone("bert"), tmp_path / "nowhere", "no adapter of peft's in", FileNotFoundError)
    tensors = ours / "adapter_model.safetensors"
    tensors.rename(ours / "adapter_model.bin")
    refused(backbone("bert"), ours, "is a pickle, and loading one runs whatever code it holds")
    (ours / "adapter_model.bin").unlink()
    refused(backbone("bert"), ours, "there is no checkpoint file", FileNotFoundError)


def test_other_weights_are_noticed_where_the_folder_is_ours(ours):
    other = backbone("bert")
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1e-6
    refused(other, ours, "was trained on another backbone")
    refused(backbone("roberta"), ours, "was trained on another backbone")
    with_tensors(lambda tensors: None)(ours)  # the same as peft's own: nothing tells which weights
    assert methods.from_peft(other, ours).adaptation.method == methods.LoRA(rank=2)


def test_a_model_that_carries_a_method_is_refused(ours):
    model = trained(Case(methods.HeadOnly(), "bert"))
    before = state(model)
    with pytest.raises(ValueError, match=r"carries HeadOnly\(\) already; remove"):
        methods.from_peft(model, ours)
    assert_same(state(model), before, "refused")
    assert model.adaptation.method == methods.HeadOnly()


def test_targets_that_no_method_here_has(tmp_path):
    theirs("bert", tmp_path, lora_config("bert", ["dense"]))
    refused(backbone("bert"), tmp_path, r"no target of a method here: bert\.pooler\.dense")


def test_a_head_that_peft_did_not_save_is_missed(tmp_path):
    theirs("bart", tmp_path, lora_config("bart", ["q_proj"], modules_to_save=None))
    refused(backbone("bart"), tmp_path, r"missing: classification_head\.dense\.bias")


def test_dora_is_not_taken_for_lora(tmp_path):
    theirs("bert", tmp_path, lora_config("bert", ["query"], use_dora=True))
    assert type(methods.from_peft(backbone("bert"), tmp_path).adaptation.method) is methods.DoRA


def test_a_failed_write_leaves_the_old_folder(ours, monkeypatch):
    before = {path.name: path.read_bytes() for path in ours.iterdir()}

    def full_disk(tensors, path, metadata=None):
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        methods.to_peft(trained(Case(methods.LoRA(rank=3), "bert")), ours)
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before


def test_labels_come_back_with_our_folders(tmp_path):
    one = backbone("bert")
    one.config.id2label = {0: "cold", 1: "warm"}
    methods.apply(one, methods.LoRA(rank=2))
    methods.to_peft(one, tmp_path)
    model = methods.from_peft(backbone("bert"), tmp_path)
    assert model.config.id2label == {0: "cold", 1: "warm"} and model.config.label2id == {"cold": 0, "warm": 1}


def test_neither_direction_needs_peft(ours, tmp_path, monkeypatch):
    """The library is a test dependency only; writing and reading its format takes json and safetensors."""
    monkeypatch.setitem(sys.modules, "peft", None)  # every import of it fails
    wanted = logits(methods.from_peft(backbone("bert"), ours))
    again = methods.to_peft(methods.from_peft(backbone("bert"), ours), tmp_path / "again")
    assert torch.equal(logits(methods.from_peft(backbone("bert"), again)), wanted)
    sources = Path(methods.__file__).parent.rglob("*.py")
    assert not [path.name for path in sources if re.search(r"^\s*(import|from) peft\b", path.read_text("utf-8"), re.M)]

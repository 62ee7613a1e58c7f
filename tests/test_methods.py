"""The registry and the verbs: what they refuse, and that a refusal or an error leaves the model as it was."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace

import conformance
import pytest
import tiny
import torch
from conformance import Case, applied, assert_same, backbone, batch, disturb, logits, state, trained
from torch import nn

from peft_helpers import backbones, methods, storage, training
from peft_helpers.methods import surgery

LORA = methods.LoRA(rank=2)


def rewrite(folder, change):
    """Read a saved method, let `change(tensors, header)` alter it, and write it back."""
    tensors, header = storage.read_tensors(folder / "method.safetensors")
    change(tensors, header)
    storage.write_tensors(folder / "method.safetensors", tensors, header)


@pytest.fixture
def saved(tmp_path):
    return methods.save(trained(Case(LORA, "bert")), tmp_path / "saved")


# ---------------------------------------------------------------- registry and settings


def test_registry():
    families = {family: set(methods.available(family)) for family in methods.FAMILIES}
    assert set().union(*families.values()) == set(methods.available()) and len(methods.available()) == 26
    assert families["reparametrization"] == {"LoRA", "DoRA", "VeRA", "KronA", "SAID", "AdaLoRA"}
    assert families["hybrid"] == {"Compose", "Compacter", "MAM", "UniPELT", "S4"}
    prompts = {"PrefixTuning", "PromptTuning", "PTuning"}
    assert families["additive"] == {"Houlsby", "Pfeiffer", "ParallelAdapter", "IA3"} | prompts
    masks = {"MagnitudeMask", "FishMask", "DiffPruning"}
    assert families["selective"] == {"BitFit", "LayerNormTuning", "TopLayers"} | masks
    assert methods.make("LoRA", rank=4, targets=["query"]) == methods.LoRA(rank=4, targets=("query",))
    for name, cls in methods.REGISTRY.items():
        assert cls.__name__ == name and cls.card.family in methods.FAMILIES
        assert cls.card.paper.startswith("arXiv:")
        assert methods.make(name, **cls().settings()) == cls()


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("Lora", {}, "there is no method 'Lora'; there are .*LoRA"),
        ("LoRA", {"r": 8}, "LoRA has no setting r; it has alpha, dropout, rank, targets"),
        ("LoRA", {"rank": 0}, "rank must be a whole number from 1 on; got 0"),
        ("LoRA", {"targets": "query"}, "targets must be a tuple of names"),
        ("LoRA", {"targets": ()}, "targets must be a tuple of names"),
        ("LoRA", {"alpha": 0}, "alpha must be a positive number"),
        ("LoRA", {"dropout": 1}, "dropout must be from 0 to below 1"),
        ("Houlsby", {"bottleneck": 2.5}, "bottleneck must be a whole number"),
        ("Houlsby", {"init_std": 0.0}, "init_std must be a positive number"),
        ("Pfeiffer", {"activation": "tanh"}, "activation must be one of gelu, relu, silu"),
        ("ParallelAdapter", {"scale": -1}, "scale must be a positive number"),
        ("TopLayers", {"layers": 0}, "layers must be a whole number"),
        ("HeadOnly", {"layers": 1}, "HeadOnly has no setting layers; it has no settings"),
    ],
)
def test_impossible_settings(name, settings, says):
    with pytest.raises(ValueError, match=says):
        methods.make(name, **settings)


def test_register_refuses():
    facts = {"paper": "arXiv:0000.00000", "identity_at_init": True, "mergeable": False}
    with pytest.raises(ValueError, match="there is no family 'subtractive'; there are additive"):
        methods.register(family="subtractive", **facts)
    with pytest.raises(ValueError, match="there is a method 'LoRA' already"):
        methods.register(family="additive", **facts)(methods.LoRA)

    @dataclass(frozen=True)
    class NoDefault(methods.HeadOnly):
        size: int

    with pytest.raises(ValueError, match="every setting of NoDefault needs a default"):
        methods.register(family="additive", **facts)(NoDefault)


# ---------------------------------------------------------------- apply, disabled, merge


@pytest.mark.parametrize(
    ("kind", "method", "says"),
    [
        ("bert", methods.LoRA(targets=("query", "ffn_gate")), "bert has no ffn_gate; it has .*ffn_out"),
        ("gpt2", methods.BitFit(("query",)), "query of gpt2 share one bias vector"),
        ("llama", methods.BitFit(("query",)), "no biases in query"),
        ("bert", methods.TopLayers(3), "the model has 2 layers"),
        ("gpt2", methods.TopLayers(1, pooler=True), "this gpt2 has no pooler"),
        ("bert", methods.LoRA, "apply needs a method with its settings"),
    ],
)
def test_apply_refuses_and_leaves_the_model(kind, method, says):
    model = backbone(kind)
    before = state(model)
    with pytest.raises(ValueError, match=says):
        methods.apply(model, method)
    assert_same(state(model), before, "refused")
    assert not hasattr(model, "adaptation") and all(p.requires_grad for p in model.parameters())


def test_one_method_at_a_time():
    model = applied(Case(LORA, "bert"))
    with pytest.raises(ValueError, match=r"carries LoRA\(.*already; remove"):
        methods.apply(model, LORA)
    methods.apply(methods.remove(model), methods.HeadOnly())
    for verb in (methods.remove, methods.merge, lambda m: methods.save(m, "nowhere")):
        with pytest.raises(ValueError, match="carries no method"):
            verb(backbone("bert"))


def test_an_error_inside_disabled_puts_the_method_back():
    model = trained(Case(methods.Houlsby(4), "bert"))
    learned = logits(model)
    with pytest.raises(KeyError), methods.disabled(model):
        model.train()
        raise KeyError
    assert torch.equal(logits(model), learned)
    with methods.disabled(model), pytest.raises(ValueError, match="disabled just now"):
        methods.save(model, "nowhere")


def test_layers_can_be_taken_out_alone():
    model = trained(Case(methods.Houlsby(4), "bert"))
    learned = logits(model)
    with methods.disabled(model, layers=[1]):
        wrappers = [name for name, module in model.named_modules() if isinstance(module, surgery.Wrapper)]
        assert len(wrappers) == 2 and all(".layer.0." in name for name in wrappers)
        assert len(surgery.trained_tensors(model)) == 8 + 10 + 2, "the other layer's adapters, the norms, the head"
        one = logits(model)
    assert not torch.equal(one, learned) and torch.equal(logits(model), learned)
    with pytest.raises(ValueError, match=r"layers 0 to 1; got \[1, 2\]"), methods.disabled(model, layers=[1, 2]):
        pass


def test_lora_on_a_third_of_gpt2_changes_only_its_columns():
    base, model = backbone("gpt2"), trained(Case(methods.LoRA(rank=2, targets=("key",)), "gpt2"))
    methods.merge(model)
    change = (model.transformer.h[0].attn.c_attn.weight - base.transformer.h[0].attn.c_attn.weight).abs().sum(0)
    assert (change[16:32] > 0).all() and (change[:16] == 0).all() and (change[32:] == 0).all()


def test_lora_equals_the_formula_by_hand():
    torch.manual_seed(0)
    model = applied(Case(methods.LoRA(rank=2, alpha=3.0, targets=("value",)), "bert"))
    disturb(model)
    linear = model.bert.encoder.layer[1].attention.self.value
    a, b, x = linear.down.weight, linear.up.weight, torch.randn(3, 16)
    by_hand = x @ linear.weight.T + linear.bias + 3.0 / 2 * (x @ a.T @ b.T)
    assert a.shape == (2, 16) and b.shape == (16, 2)
    assert torch.allclose(linear(x), by_hand, atol=1e-6)


def test_the_parallel_adapter_reads_the_feed_forward_input():
    model = trained(Case(methods.ParallelAdapter(3), "gpt2")).eval()
    block, x = model.transformer.h[0].mlp, torch.randn(2, 5, 16)
    wrapper = block.c_proj
    base = wrapper.base(block.act(block.c_fc.base(x)))
    by_hand = base + 4.0 * wrapper.up(torch.relu(wrapper.down(x)))
    assert torch.allclose(block(x), by_hand, atol=1e-5)
    assert wrapper.taps[0].lent == [], "the input is forgotten after its use"


def test_pooler_and_tied_heads_stay_frozen():
    for method in (methods.Houlsby(4), methods.HeadOnly(), LORA):
        model = applied(Case(method, "bert"))
        assert not any(p.requires_grad for p in model.bert.pooler.parameters())
        assert all(p.requires_grad for p in model.classifier.parameters())
    model = methods.apply(backbone("gpt2", "generate"), LORA)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert not model.lm_head.weight.requires_grad


def test_full_fine_tuning_keeps_tied_tensors_tied():
    model = methods.apply(backbone("gpt2", "generate"), methods.FullFineTuning())
    assert model.lm_head.weight is model.transformer.wte.weight and model.lm_head.weight.requires_grad
    half = methods.apply(backbone("gpt2", "generate").to(torch.bfloat16), methods.FullFineTuning())
    copies = [half.get_submodule(at).trained["weight"] for at in ("lm_head", "transformer.wte")]
    assert copies[0] is copies[1] and copies[0].dtype is torch.float32
    assert methods.remove(half).lm_head.weight is half.transformer.wte.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_can_be_trained_in_several_goes(dtype):
    """A method may ask for a module's bias and later for the whole module; each tensor is copied once."""

    @dataclass(frozen=True)
    class BiasThenAll(methods.TopLayers):
        def inject(self, anatomy):
            module = anatomy.layers[1].sites["query"].module
            surgery.train(anatomy, [module.bias])
            surgery.train(anatomy, module.parameters())

    model = methods.apply(backbone("bert").to(dtype), BiasThenAll())
    found = surgery.trained_tensors(model)
    path = "bert.encoder.layer.1.attention.self.query"
    assert found.keys() == {f"{path}.weight", f"{path}.bias", "classifier.weight", "classifier.bias"}
    disturb(model)
    with methods.disabled(model):
        assert torch.equal(logits(model), logits(backbone("bert").to(dtype)))


def test_a_classifier_on_the_mean_works_too(tmp_path):
    def fresh():
        return backbones.mean_pooled_classifier(tiny.model("bert", head=False), 2).eval()

    torch.manual_seed(0)
    model = methods.apply(fresh(), methods.Houlsby(4))
    disturb(model)
    wanted = model(**batch("bert")).logits
    methods.save(model, tmp_path / "mean")
    torch.manual_seed(1)
    loaded = methods.load(fresh(), tmp_path / "mean")
    assert torch.equal(loaded(**batch("bert")).logits, wanted)


# ---------------------------------------------------------------- what load answers


def cut(folder):
    path = folder / "method.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def drop_head(folder):
    rewrite(folder, lambda tensors, header: [tensors.pop(name) for name in list(tensors) if "classifier" in name])


def add_key(folder):
    rewrite(folder, lambda tensors, header: tensors.update({"bert.extra.weight": torch.zeros(2)}))


def several(folder):
    drop_head(folder)
    add_key(folder)


def other_backbone(folder):
    rewrite(folder, lambda tensors, header: header["backbone"].update(name="roberta-base", sha256="0" * 64))


def other_rank(folder):
    rewrite(folder, lambda tensors, header: header["settings"].update(rank=3))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is truncated or not a safetensors file"),
        (drop_head, r"missing: classifier\.bias, classifier\.weight"),
        (add_key, r"unexpected: bert\.extra\.weight"),
        (several, r"missing: classifier\.bias, classifier\.weight; unexpected: bert\.extra\.weight"),
        (other_backbone, "trained on another backbone: roberta-base with hash 000000000000"),
        (other_rank, r"of another shape: .*down\.weight: \(2, 16\) in the file, \(3, 16\) here"),
        (lambda f: rewrite(f, lambda t, h: h.update(method="LoHa")), "can't be loaded: there is no method 'LoHa'"),
        (lambda f: rewrite(f, lambda t, h: h["settings"].update(r=1)), "can't be loaded: LoRA has no setting r"),
        (lambda f: rewrite(f, lambda t, h: h.pop("method")), "is no saved method: its header has backbone"),
    ],
)
@pytest.mark.parametrize("verb", ["load", "switch"])
def test_damaged_files_are_refused_and_nothing_is_half_applied(saved, damage, says, verb):
    damage(saved)
    fresh = backbone("bert") if verb == "load" else trained(Case(methods.Houlsby(4), "bert"))
    before, answers = state(fresh), logits(fresh)
    with pytest.raises(ValueError, match=says):
        getattr(methods, verb)(fresh, saved)
    assert_same(state(fresh), before, "refused")
    assert torch.equal(logits(fresh), answers)
    if verb == "load":
        assert not hasattr(fresh, "adaptation") and all(p.requires_grad for p in fresh.parameters())
    else:
        assert fresh.adaptation.method == methods.Houlsby(4)
        assert len(surgery.trained_tensors(fresh)) == 16 + 10 + 2


def test_load_wants_the_same_weights_and_a_fresh_model(saved, tmp_path):
    other = backbone("bert")
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1e-6
    with pytest.raises(ValueError, match="another backbone"):
        methods.load(other, saved)
    with pytest.raises(ValueError, match="another backbone"):
        methods.load(methods.merge(methods.load(backbone("bert"), saved)), saved)  # merged already
    with pytest.raises(ValueError, match="another backbone"):
        methods.load(backbone("roberta"), saved)
    with pytest.raises(ValueError, match="carries LoRA"):
        methods.load(applied(Case(LORA, "bert")), saved)
    with pytest.raises(FileNotFoundError, match="no checkpoint file"):
        methods.load(backbone("bert"), tmp_path / "nowhere")


def test_the_header_is_readable(saved):
    header = json.loads((saved / "method.json").read_text(encoding="utf-8"))
    assert header["method"] == "LoRA" and header["settings"]["rank"] == 2
    assert header["backbone"]["sha256"] == methods.backbone_hash(backbone("bert", head_seed=5))
    tensors, stored = storage.read_tensors(saved / "method.safetensors")
    assert stored == header
    assert len(tensors) == 2 * 2 * 2 + 2 and {t.dtype for t in tensors.values()} == {torch.float32}


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    wanted = logits(methods.load(backbone("bert"), saved))

    def full_disk(tensors, path, metadata=None):
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        methods.save(trained(Case(methods.Houlsby(4), "bert")), saved)
    monkeypatch.undo()
    assert torch.equal(logits(methods.load(backbone("bert"), saved)), wanted)
    assert sorted(path.name for path in saved.iterdir()) == ["method.json", "method.safetensors"]


def test_buffers_of_new_modules_are_saved(tmp_path, monkeypatch):
    class OnFixedDirections(surgery.Wrapper):
        def __init__(self, base):
            super().__init__(base)
            self.register_buffer("random", torch.randn(16, 2))
            self.scale = nn.Parameter(torch.zeros(2, 16))

        def forward(self, x):
            return self.base(x) + x @ self.random @ self.scale

    @dataclass(frozen=True)
    class FixedDirections(methods.HeadOnly):
        card = replace(LORA.card, mergeable=False)

        def inject(self, anatomy):
            surgery.wrap(anatomy, anatomy.sites(("value",)), lambda base, site: OnFixedDirections(base))

    monkeypatch.setitem(methods.REGISTRY, "FixedDirections", FixedDirections)
    conformance.saves_and_loads(Case(FixedDirections(), "bert"), tmp_path)


# ---------------------------------------------------------------- many tasks, one backbone


def test_tasks_in_sequence_forget_nothing(tmp_path):
    """Five tasks with other methods and other numbers of classes: task 1 answers as on its first day, to the bit."""
    model, base = backbone("bert"), backbone("bert")
    plan = [methods.Houlsby(4), LORA, methods.FullFineTuning(), methods.BitFit(), methods.TopLayers(1)]
    answers = []
    for number, method in enumerate(plan):
        one = copy.deepcopy(base)
        one.classifier, one.num_labels = nn.Linear(16, number + 2), number + 2
        one.config.id2label = {i: f"task {number}, class {i}" for i in range(number + 2)}
        methods.apply(one, method)
        disturb(one)
        answers.append(logits(one))
        methods.save(one, tmp_path / str(number))
    for number in (0, 1, 2, 3, 4, 0):
        methods.switch(model, tmp_path / str(number))
        assert torch.equal(logits(model), answers[number]), f"task {number} answers otherwise"
        assert model.config.id2label[1] == f"task {number}, class 1" and model.num_labels == number + 2
    with methods.disabled(model):
        assert torch.equal(logits(model), logits(base)) and model.num_labels == 2
    methods.switch(model, None)
    assert_same(state(model), state(base), "after five tasks")
    assert model.config.id2label == base.config.id2label
    with pytest.raises(ValueError, match=r"classifier\.bias: \(6,\) in the file, \(2,\) here"):
        methods.load(model, tmp_path / "4")


def test_switch_in_bfloat16(tmp_path):
    plan, base = [methods.Houlsby(4), methods.BitFit(), LORA], backbone("bert").to(torch.bfloat16)
    answers = []
    for number, method in enumerate(plan):
        one = methods.apply(copy.deepcopy(base), method)
        disturb(one)
        answers.append(logits(one))
        methods.save(one, tmp_path / str(number))
    model = copy.deepcopy(base)
    for number in (0, 1, 2, 0):
        methods.switch(model, tmp_path / str(number))
        assert torch.equal(logits(model), answers[number])
    with pytest.raises(FileNotFoundError):
        methods.switch(model, tmp_path / "nowhere")
    assert torch.equal(logits(model), answers[0])
    methods.switch(model, None)
    assert_same(state(model), state(base), "after three tasks in bfloat16")
    assert all(p.requires_grad for p in model.parameters())


def test_fit_trains_the_method_and_nothing_else():
    base = backbone("bert")
    model = methods.apply(copy.deepcopy(base), methods.Houlsby(4))
    settings = training.Settings(learning_rate=1e-2, epochs=1, batch_size=8, keep_best=False, progress=False)
    model.name = "tiny"
    run = training.fit(model, tiny.tokenizer(), tiny.task(), settings)
    assert run.trainable == methods.Houlsby(4).parameter_count(model.adaptation.anatomy) + 2 * 16 + 2
    assert not torch.equal(logits(model), logits(base))
    with methods.disabled(model):
        assert_same(state(model), state(base), "after fit")

"""Methods that change weights by few numbers: their papers' formulas by hand, peft's implementations, exact counts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import peft
import pytest
import scipy.linalg
import tiny
import torch
from conformance import Case, applied, backbone, backward, batch, disturb, logits, trained
from test_method_counts import bert, gpt2
from test_method_counts import trained as trained_parameters

from peft_helpers import accounting, backbones, methods, quantization
from peft_helpers.methods import fisher, surgery, weight_change
from peft_helpers.methods.rank_allocation import RankAllocator
from peft_helpers.methods.said import walsh_hadamard

# peft 0.21 asks transformers by a name that 5.23 calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
QUERY = "bert.encoder.layer.1.attention.self.query"
TARGETS = ("query", "value", "ffn_in")  # two shapes


# ---------------------------------------------------------------- the same as in peft


def in_peft(config: peft.PeftConfig, model: torch.nn.Module, place: Callable) -> torch.nn.Module:
    """peft's model on the same base, with the head of ours, and the tensors that `place(theirs, ours)` copies."""
    theirs = peft.get_peft_model(backbone("bert"), config).eval()
    with torch.no_grad():
        for path, ours in model.named_modules():
            if isinstance(ours, surgery.Wrapper):
                place(theirs.base_model.model.get_submodule(path), ours)
        for name, tensor in model.classifier.named_parameters():
            theirs.base_model.model.get_submodule("classifier").get_parameter(name).copy_(tensor)
    return theirs


def assert_equal_to_peft(model: torch.nn.Module, theirs: torch.nn.Module) -> None:
    with torch.no_grad():
        made, wanted = logits(model), theirs(**batch("bert")).logits
    assert (made - logits(backbone("bert"))).abs().max() > 0.01, "nothing was learned, so nothing is compared"
    assert (made - wanted).abs().max() <= 1e-6 * wanted.abs().max().clamp(min=1)


def paths(model: torch.nn.Module, names: tuple[str, ...]) -> list[str]:
    return [site.path for site in model.adaptation.anatomy.sites(names)]


def test_ia3_equals_peft():
    model = trained(Case(methods.IA3(), "bert"))
    feed_forward = paths(model, ("ffn_out",))
    config = peft.IA3Config(
        target_modules=paths(model, ("key", "value")) + feed_forward, feedforward_modules=feed_forward
    )

    def place(theirs, ours):
        theirs.ia3_l["default"].copy_(ours.scale.view(theirs.ia3_l["default"].shape))

    assert_equal_to_peft(model, in_peft(config, model, place))


def test_peft_scales_bert_attention_outputs_too():
    """Its default for BERT, "output.dense", fits two projections of a layer: 64,512 numbers for 55,296."""
    with torch.device("meta"):
        theirs = peft.get_peft_model(bert("base"), peft.IA3Config(task_type="SEQ_CLS", modules_to_save=[]))
    counted = sum(p.numel() for name, p in theirs.named_parameters() if "ia3_l" in name)
    assert counted == 64_512 == 55_296 + 12 * 768


def test_dora_equals_peft():
    model = trained(Case(methods.DoRA(rank=3, alpha=5.0, targets=TARGETS), "bert"))
    config = peft.LoraConfig(r=3, lora_alpha=5, use_dora=True, target_modules=paths(model, TARGETS))

    def place(theirs, ours):
        theirs.lora_A["default"].weight.copy_(ours.down.weight)
        theirs.lora_B["default"].weight.copy_(ours.up.weight)
        theirs.lora_magnitude_vector["default"].weight.copy_(ours.magnitude)

    theirs = in_peft(config, model, place)
    assert_equal_to_peft(model, theirs)
    model.zero_grad()
    for one in (model, theirs):
        one.train()
        torch.nn.functional.cross_entropy(still_logits(one), torch.tensor([0, 1, 0])).backward()
    ours, others = model.get_submodule(QUERY), theirs.base_model.model.get_submodule(QUERY)
    for mine, its in (
        (ours.magnitude, others.lora_magnitude_vector["default"].weight),
        (ours.down.weight, others.lora_A["default"].weight),
        (ours.up.weight, others.lora_B["default"].weight),
    ):
        assert mine.grad.abs().max() > 1e-4 and torch.allclose(mine.grad, its.grad, rtol=1e-4, atol=1e-6)


def still_logits(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(**batch("bert")).logits


def test_vera_equals_peft():
    model = trained(Case(methods.VeRA(rank=5, targets=TARGETS), "bert"))
    config = peft.VeraConfig(r=5, target_modules=paths(model, TARGETS), save_projection=True)

    def place(theirs, ours):
        theirs.vera_A["default"].copy_(ours.shared.a)
        theirs.vera_B["default"].copy_(ours.shared.b)
        theirs.vera_lambda_d["default"].copy_(ours.scale_rank)
        theirs.vera_lambda_b["default"].copy_(ours.scale_out)

    assert_equal_to_peft(model, in_peft(config, model, place))


def adalora_in_peft(model: torch.nn.Module, rank: int, **settings) -> torch.nn.Module:
    config = peft.AdaLoraConfig(init_r=rank, target_modules=paths(model, TARGETS), **settings)

    def place(theirs, ours):
        theirs.lora_A["default"].copy_(ours.q)
        theirs.lora_B["default"].copy_(ours.p)
        theirs.lora_E["default"].copy_(ours.singular[:, None])
        theirs.scaling["default"] = ours.scale * (theirs.ranknum["default"].item() + 1e-5)  # it divides by r + 1e-5

    return in_peft(config, model, place)


def test_adalora_equals_peft():
    model = trained(Case(methods.AdaLoRA(rank=3, alpha=5.0, targets=TARGETS), "bert"))
    assert_equal_to_peft(model, adalora_in_peft(model, 3, total_step=10))


def test_rank_allocation_equals_peft():
    """The same gradients, the same triplets are taken out, step by step."""
    model = trained(Case(methods.AdaLoRA(rank=4, alpha=4.0, targets=TARGETS), "bert"))
    theirs = adalora_in_peft(model, 4, target_r=2, total_step=12, tinit=2, tfinal=3, deltaT=2)
    allocator = RankAllocator(model, 2, steps=12, warmup=2 / 12, final=3 / 12, every=2, orthogonality=0)
    layers = [(path, model.get_submodule(path)) for path in dict.fromkeys(paths(model, TARGETS))]
    masks = set()
    for step in range(1, 13):
        torch.manual_seed(step)
        model.zero_grad()
        backward(model)
        for path, ours in layers:
            other = theirs.base_model.model.get_submodule(path)
            other.lora_A["default"].grad = ours.q.grad.clone()
            other.lora_B["default"].grad = ours.p.grad.clone()
            other.lora_E["default"].grad = ours.singular.grad[:, None].clone()
        if step < 12:  # at the last step peft cuts its matrices down instead
            theirs.base_model.rankallocator.update_and_allocate(theirs.base_model.model, step, force_mask=step == 9)
            allocator.step(step)
            kept = [theirs.base_model.model.get_submodule(p).lora_E["default"][:, 0] != 0 for p, _ in layers]
            assert torch.equal(torch.cat(kept), torch.cat([ours.singular != 0 for _, ours in layers])), f"step {step}"
            masks.add(tuple(allocator.ranks()))
        with torch.no_grad():  # what was taken out may come back
            for path, ours in layers:
                ours.singular -= 0.1 * ours.singular.grad
                theirs.base_model.model.get_submodule(path).lora_E["default"].copy_(ours.singular[:, None])
    assert len(masks) > 2 and min(sum(mask) for mask in masks) == 2 * len(layers)


# ---------------------------------------------------------------- the papers' formulas by hand


@pytest.mark.parametrize(
    "method",
    [
        methods.VeRA(rank=5),
        methods.KronA(),
        methods.KronA(block=8, scale=0.5),
        methods.SAID(dimension=20),
        methods.AdaLoRA(rank=3),
        methods.MagnitudeMask(share=0.1),
        methods.FishMask(share=0.1),
    ],
    ids=tiny.called,
)
def test_the_change_is_that_of_the_weight(method):
    layer, x = trained(Case(method, "bert")).get_submodule(QUERY).eval(), torch.randn(2, 5, 16)
    with torch.no_grad():
        delta = layer.delta()
        assert delta.shape == (16, 16) and delta.abs().max() > 0.005
        assert torch.allclose(layer(x), layer.base(x) + x @ delta.T, atol=1e-5)


def test_krona_by_hand():
    layer = trained(Case(methods.KronA(block=2, scale=3.0), "bert")).get_submodule(QUERY)
    a, b = layer.a.detach(), layer.b.detach()
    assert a.shape == (8, 8) and b.shape == (2, 2)
    by_hand = torch.cat([torch.cat([a[i, j] * b for j in range(8)], 1) for i in range(8)])
    assert torch.allclose(layer.delta(), 3.0 * by_hand)
    assert torch.linalg.matrix_rank(layer.delta()) == 16 > methods.LoRA().rank, "of fewer numbers, and of full rank"
    with pytest.raises(ValueError, match="block=5 must divide the 16 inputs and 16 outputs of bert"):
        applied(Case(methods.KronA(block=5), "bert"))


def test_fastfood_is_the_product_of_its_five_matrices():
    layer = (
        applied(Case(methods.SAID(dimension=12, targets=("ffn_in",)), "bert")).bert.encoder.layer[1].intermediate.dense
    )
    hadamard = torch.tensor(scipy.linalg.hadamard(512), dtype=torch.float32)
    x = torch.randn(512)
    assert torch.allclose(walsh_hadamard(x), hadamard @ x, atol=1e-4)
    theta = torch.randn(10)
    with torch.no_grad():
        layer.vector.theta.copy_(theta)
        layer.vector.layer_scale.copy_(torch.tensor([7.0, 2.0]))
    padded = torch.zeros(512)
    padded[:10] = theta * layer.signs
    permutation = torch.eye(512)[layer.order.long()]
    by_hand = hadamard @ torch.diag(layer.normal) @ permutation @ hadamard @ padded
    assert torch.allclose(layer.delta(), 2.0 * by_hand.view(32, 16), atol=1e-5)


def test_said_keeps_lengths_on_average_and_has_one_vector():
    model = applied(Case(methods.SAID(dimension=102), "bert"))
    anatomy = model.adaptation.anatomy
    with torch.no_grad():
        theta = model.get_submodule(QUERY).vector.theta
        theta.copy_(torch.randn(100))
        lengths = [model.get_submodule(site.path).delta().norm() for site in anatomy.sites(("query", "value"))]
    assert 0.7 < torch.stack(lengths).mean() / theta.norm() < 1.3
    found = surgery.trained_tensors(model)
    assert sum(p.numel() for name, p in found.items() if "classifier" not in name) == 102 and len(found) == 4
    with pytest.raises(ValueError, match="dimension=2 must be more than the 2 layers"):
        applied(Case(methods.SAID(dimension=2), "bert"))


def test_random_matrices_come_from_the_seed(tmp_path):
    """Frozen forever, in NumPy's words: a checkpoint holds the seed in the matrices' place."""
    layer = applied(Case(methods.VeRA(rank=2, seed=5), "bert")).get_submodule(QUERY)
    drawn = torch.tensor([0.22199317, 0.87073231, 0.20671916])  # what NumPy's RandomState(5) gives first
    assert torch.allclose(layer.shared.a[0, :3], (6 / 16) ** 0.5 * (2 * drawn - 1), atol=1e-6)
    for method in (methods.VeRA(rank=256), methods.SAID()):
        folder = methods.save(trained(Case(method, "bert")), tmp_path / type(method).__name__)
        assert (folder / "method.safetensors").stat().st_size < 12_000


def test_compacter_by_hand():
    adapter = trained(Case(methods.Compacter(), "bert")).bert.encoder.layer[1].output.dense.adapter.double()
    other = trained(Case(methods.Compacter(), "bert")).bert.encoder.layer[0].attention.output.dense.adapter
    x = torch.randn(3, 16, dtype=torch.float64)
    down, up = adapter.down, adapter.up
    assert down.weight().shape == (16, 24) and up.weight().shape == (24, 16)
    assert down.rule is up.rule and torch.allclose(other.down.rule.a.double(), down.rule.a)
    inner = torch.nn.functional.gelu(x @ down.weight() + down.bias)
    assert torch.allclose(adapter(x), x + inner @ up.weight() + up.bias)
    rule = [
        name for name, _ in applied(Case(methods.Compacter(), "bert")).named_parameters() if name.endswith("rule.a")
    ]
    assert len(rule) == 1, "one set of A for all adapters"


def test_ia3_scales_what_the_paper_scales():
    model = trained(Case(methods.IA3(), "gpt2")).eval()
    attention, block, x = model.transformer.h[0].attn.c_attn, model.transformer.h[0].mlp, torch.randn(2, 16)
    query, key, value = attention(x).chunk(3, -1)
    plain = attention.innermost(x).chunk(3, -1)
    scales = {module.third: module.scale for module in attention.modules() if hasattr(module, "third")}
    assert torch.equal(query, plain[0]) and set(scales) == {1, 2}
    assert torch.allclose(key, scales[1] * plain[1]) and torch.allclose(value, scales[2] * plain[2])
    inner = block.act(block.c_fc(x))
    assert torch.allclose(block(x), block.c_proj.base(block.c_proj.scale * inner), atol=1e-6)
    assert methods.IA3().parameter_count(backbones.anatomy(backbone("bart"))) == 2 * (2 * 16 + 32) + 2 * (4 * 16 + 32)


def test_dora_separates_magnitude_from_direction():
    """Whatever LoRA does, each row of the merged weight has the length m."""
    model = trained(Case(methods.DoRA(), "bert"))
    magnitude = model.get_submodule(QUERY).magnitude.detach().clone()
    methods.merge(model)
    assert torch.allclose(model.get_submodule(QUERY).weight.norm(dim=1), magnitude, rtol=1e-5)


# ---------------------------------------------------------------- masks


def changed(method: methods.Method, kind: str = "bert") -> dict[str, torch.Tensor]:
    """Which weights a method has changed, by the module's path, after training and merging."""
    base, model = backbone(kind), methods.merge(trained(Case(method, kind)))
    sites = weight_change.present(backbones.anatomy(base))
    return {
        site.path: (model.get_submodule(site.path).weight != base.get_submodule(site.path).weight) for site in sites
    }


def test_the_magnitude_mask_takes_the_largest_weights_of_each_matrix():
    base = backbone("gpt2")
    for path, mask in changed(methods.MagnitudeMask(share=0.1), "gpt2").items():
        weight = base.get_submodule(path).weight.abs()
        thirds = 3 if path.endswith("c_attn") else 1  # GPT-2's fused query, key and value: (in, 3 D)
        for part, chosen in zip(weight.chunk(thirds, 1), mask.chunk(thirds, 1), strict=True):
            assert chosen.sum() == round(0.1 * part.numel())
            assert part[chosen].min() > part[~chosen].max()


def test_fisher_information_is_the_expected_square_of_the_derivative():
    """Against the exact expectation over both labels, text by text."""
    model = backbone("bert")
    sites, exact = backbones.anatomy(model).sites(("query",)), torch.zeros(16, 16)
    weight, texts = model.get_submodule(QUERY).weight, [batch("bert")] * 200
    for row in range(3):
        log_p = model(**{key: value[row : row + 1] for key, value in batch("bert").items()}).logits.log_softmax(-1)[0]
        for label in range(2):
            (gradient,) = torch.autograd.grad(log_p[label], weight, retain_graph=True)
            exact += log_p[label].exp().item() * gradient.square() / 3
    model.train()
    found = fisher.information(model, sites, texts)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert set(found) == {site.path for site in sites}
    assert torch.allclose(found[QUERY].norm(), exact.norm(), rtol=0.1)
    assert torch.nn.functional.cosine_similarity(found[QUERY].flatten(), exact.flatten(), dim=0) > 0.99


def test_the_fish_mask_follows_its_texts(tmp_path):
    model = backbone("bert")
    texts = [{"input_ids": torch.tensor([[2, 5, 5, 3]]), "labels": torch.tensor([1])}]
    measured = methods.FishMask(share=0.02).measured(model, texts)
    scores = torch.cat([one.flatten() for one in measured.information.values()])
    adapted = methods.apply(copy.deepcopy(model), measured)
    index = next(iter(surgery.own_buffers(adapted).values()))
    assert len(index) == round(0.02 * len(scores))
    assert scores[index.long()].min() >= scores[~torch.isin(torch.arange(len(scores)), index.long())].max()
    without = applied(Case(methods.FishMask(share=0.02), "bert"))
    assert not torch.equal(next(iter(surgery.own_buffers(without).values())), index)
    disturb(adapted)
    loaded = methods.load(backbone("bert"), methods.save(adapted, tmp_path / "fish"))  # the mask is in the file
    assert torch.equal(logits(loaded), logits(adapted))
    with pytest.raises(ValueError, match="measured on another model or other targets"):
        methods.apply(backbone("gpt2"), measured)
    with pytest.raises(ValueError, match="needs at least one text"):
        methods.FishMask().measured(model, [])


def test_fish_is_measured_before_the_backbone_is_quantized():
    quantized = quantization.quantize(backbone("bert"))
    with pytest.raises(ValueError, match=r"query is quantized \(Int8Linear\) and has none. Measure it before"):
        methods.apply(quantized, methods.FishMask())
    measured = methods.FishMask(share=0.02).measured(backbone("bert"), [batch("bert")])
    model = methods.apply(quantization.quantize(backbone("bert")), measured)
    disturb(model)
    assert (logits(model) - logits(quantization.quantize(backbone("bert")))).abs().max() > 0.01


# ---------------------------------------------------------------- rank allocation


def test_the_budget_falls_along_a_cubic():
    model = applied(Case(methods.AdaLoRA(rank=6), "bert"))
    allocator = RankAllocator(model, 2, steps=100, warmup=0.1, final=0.4)
    assert [allocator.budget(step) for step in (1, 10, 35, 60, 100)] == [24, 24, 8 + 16 // 8, 8, 8]


def test_the_penalty_pulls_towards_orthogonality():
    model = applied(Case(methods.AdaLoRA(rank=4), "bert"))
    layer, allocator = model.get_submodule(QUERY), RankAllocator(model, 2, steps=1000)
    before = layer.penalty().item()
    copy_of = layer.p.detach().clone()
    (gradient,) = torch.autograd.grad(layer.penalty(), layer.p)
    allocator.step(1, learning_rate=0.01)
    assert torch.allclose(layer.p, copy_of - 0.01 * 0.1 * gradient, atol=1e-6)
    for step in range(2, 400):
        allocator.step(step, learning_rate=1.0)
    assert layer.penalty() < 1e-3 * before


def test_rank_allocation_in_training():
    import tiny

    from peft_helpers import training

    model = methods.apply(tiny.model("bert"), methods.AdaLoRA(rank=4))
    model.name = "tiny"
    steps = 20
    allocator = RankAllocator(model, 2, steps, every=1)
    settings = training.Settings(learning_rate=1e-2, epochs=4, batch_size=8, keep_best=False, progress=False)
    training.fit(model, tiny.tokenizer(), tiny.task(), settings, callbacks=[allocator])
    assert sum(allocator.ranks()) == 8, "4 matrices, 2 triplets each on average"
    allocator.close()
    merged = logits(copy.deepcopy(model))
    assert torch.allclose(logits(methods.merge(model)), merged, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_rank": 9}, r"target_rank=9 must be at most AdaLoRA's rank in the model; it has 16 triplets in 4"),
        ({"target_rank": 0}, "target_rank must be a whole number"),
        ({"warmup": 0.6, "final": 0.5}, "shares whose sum is below 1"),
        ({"smoothing": 1.0}, "smoothing and uncertainty lie between 0 and 1"),
    ],
)
def test_impossible_allocations(settings, says):
    model = applied(Case(methods.AdaLoRA(rank=4), "bert"))
    with pytest.raises(ValueError, match=says):
        RankAllocator(model, **({"target_rank": 2, "steps": 10} | settings))


# ---------------------------------------------------------------- counts and settings


COUNTS = [  # method, BERT-base, BERT-large, the formula in accounting
    (methods.DoRA(8), 313_344, 835_584, lambda d, n, i: accounting.lora_parameters(d, n, 8, magnitudes=True)),
    (methods.IA3(), 55_296, 147_456, lambda d, n, i: accounting.ia3_parameters(d, n, i)),
    (methods.VeRA(256), 24_576, 61_440, lambda d, n, i: accounting.vera_parameters(d, n, 256)),
    (methods.Compacter(24), 57_088, 150_976, lambda d, n, i: 2 * n * 3 * (d + 24) + 64),
    (methods.Compacter(24, sites=("ffn_out",)), 28_576, 75_520, lambda d, n, i: n * 3 * (d + 24) + 64),
    (methods.KronA(), 2 * 12 * (24**2 + 32**2), 2 * 24 * 2 * 32**2, lambda d, n, i: 2 * n * sum(factors(d))),
    (methods.AdaLoRA(12), 12 * 2 * 12 * 1537, 24 * 2 * 12 * 2049, lambda d, n, i: 2 * n * 12 * (2 * d + 1)),
    (methods.SAID(200), 200, 200, lambda d, n, i: 200),
    (
        methods.MagnitudeMask(0.005),
        424_656,
        1_509_984,
        lambda d, n, i: n * (4 * half_percent(d * d) + 2 * half_percent(d * i)),
    ),
]


def half_percent(size: int) -> int:
    return round(size / 200)


def factors(width: int) -> tuple[int, int]:
    """The sizes of KronA's factors for a square matrix."""
    block = {768: 24, 1024: 32}[width]
    return block**2, (width // block) ** 2


@functools.cache
def shape(size: str) -> tuple[int, int, int]:
    return {"base": (768, 12, 3072), "large": (1024, 24, 4096)}[size]


@pytest.mark.parametrize(("method", "base", "large", "formula"), COUNTS, ids=tiny.called)
def test_counts_on_bert(method, base, large, formula):
    assert method.parameter_count(backbones.anatomy(bert("large"))) == formula(*shape("large")) == large
    assert formula(*shape("base")) == base
    if isinstance(method, methods.SAID):  # it draws its projections, which has no meaning without memory
        assert method.parameter_count(backbones.anatomy(bert("base"))) == base
    else:
        assert trained_parameters(bert("base"), method) == base


def test_the_fish_mask_counts_over_all_matrices():
    anatomy = backbones.anatomy(bert("base"))
    assert methods.FishMask(0.005).parameter_count(anatomy) == round(0.005 * 12 * (4 * 768**2 + 2 * 768 * 3072))


def test_counts_on_gpt2():
    assert trained_parameters(gpt2("small"), methods.DoRA(4)) == 147_456 + 2 * 12 * 768
    assert trained_parameters(gpt2("small"), methods.IA3()) == 55_296
    assert trained_parameters(gpt2("small"), methods.VeRA(256)) == 24_576


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("VeRA", {"start": 0.0}, "start must be a number other than 0"),
        ("VeRA", {"rank": 0}, "rank must be a whole number"),
        ("KronA", {"scale": 0}, "scale must be a positive number"),
        ("KronA", {"block": 1.5}, "block must be a whole number"),
        ("IA3", {"feed_forward": "ffn_out"}, "feed_forward must be a tuple of names"),
        ("SAID", {"dimension": -1}, "dimension must be a whole number"),
        ("MagnitudeMask", {"share": 0}, "share must be above 0 and at most 1; got 0"),
        ("FishMask", {"share": 1.5}, "share must be above 0 and at most 1"),
        ("FishMask", {"samples": 0}, "samples must be a whole number"),
        ("Compacter", {"blocks": 5}, "blocks=5 must divide bottleneck=24"),
        ("DoRA", {"rank": 0}, "rank must be a whole number"),
    ],
)
def test_impossible_settings(name, settings, says):
    with pytest.raises(ValueError, match=says):
        methods.make(name, **settings)


def test_refused_on_this_model():
    for method, says in (
        (methods.Compacter(bottleneck=9, blocks=3), "blocks=3 must divide the model's width 16"),
        (methods.IA3(keys_and_values=("cross_key",)), "bert has no cross_key; it has"),
        (methods.MagnitudeMask(targets=("ffn_gate",)), "bert has no ffn_gate"),
    ):
        with pytest.raises(ValueError, match=says):
            applied(Case(method, "bert"))

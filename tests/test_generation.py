"""Models that write: what is a target, a loss equal to transformers' own, the same text in any batch."""

import pytest
import tiny
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from peft_helpers import backbones, batching, generation, tasks, training

SOURCES = ["name: Elm | level: easy", "name: Oak", "name: Fir Hill | level: hard | dogs: no"]
REFERENCES = [["Elm is easy .", "Easy Elm ."], ["Oak ."], ["Fir Hill is hard , no dogs ."]]


@pytest.fixture
def task():
    rows = Dataset.from_dict({"meaning": SOURCES, "label": REFERENCES})
    return tasks.Task("trails", "generation", "bleu", ("meaning",), (), DatasetDict(train=rows, dev=rows, test=rows))


def words(special=()):
    text = " ".join(SOURCES + [r for each in REFERENCES for r in each] + ["=>"]).replace(":", " : ")
    names = [*special, *dict.fromkeys(text.split())]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made, len(names)


def decoder():
    made, count = words(("<end>",))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<end>", eos_token="<end>", pad_token="<end>", model_max_length=64
    )
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=count, n_positions=64, n_embd=16, n_layer=2, n_head=2,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config), tokenizer


def encoder_decoder():
    from tokenizers.processors import TemplateProcessing

    made, count = words(("<pad>", "<s>", "</s>"))
    made.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    )
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=count, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64, dropout=0.0,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return BartForConditionalGeneration(config), tokenizer


def test_targets_of_one_row_are_the_answer_only_each_at_the_position_before_it(task):
    _, tokenizer = decoder()
    data = batching.encode(task, "train", tokenizer, 64)
    assert len(data.inputs) == 4, "a reference is an example"
    ids, labels = data.inputs[0]["input_ids"], data.labels[0]
    assert tokenizer.decode(ids) == "<end> name : Elm | level : easy => Elm is easy ."
    told = [label for label in labels if label != batching.IGNORED]
    assert tokenizer.decode(told) == "Elm is easy . <end>"
    first = labels.index(told[0])
    assert tokenizer.decode(ids[first]) == "=>" and len(ids) == len(labels) == first + len(told)


@pytest.mark.parametrize("make", [decoder, encoder_decoder])
def test_the_loss_is_that_of_transformers(task, make):
    model, tokenizer = make()
    data = batching.encode(task, "train", tokenizer, 64, training.in_one_row(model))
    batch = batching.collate(data, range(4), tokenizer.pad_token_id)
    labels = batch.pop("labels")
    if make is decoder:  # transformers shifts by itself: give it the whole row
        full = [ids["input_ids"] + [row[-1]] for ids, row in zip(data.inputs, data.labels, strict=True)]
        masked = [[batching.IGNORED, *row] for row in data.labels]
        parts = [
            model(input_ids=torch.tensor([ids]), labels=torch.tensor([row])).loss * sum(t >= 0 for t in row)
            for ids, row in zip(full, masked, strict=True)
        ]
        theirs = sum(parts) / data.targets.sum()
    else:
        theirs = model(**batch, labels=labels).loss
    assert training.evaluate(model, tokenizer, task, "train").loss == pytest.approx(theirs.item(), abs=1e-5)


@pytest.mark.parametrize("make", [decoder, encoder_decoder])
def test_a_model_learns_to_write_the_references(task, make):
    model, tokenizer = make()
    settings = training.Settings(2e-2, epochs=60, batch_size=4, progress=False, keep_best=False, weight_decay=0.0)
    one = tasks.Task(
        "trails", "generation", "bleu", ("meaning",), (),
        DatasetDict(
            {s: Dataset.from_dict({"meaning": SOURCES, "label": [r[:1] for r in REFERENCES]}) for s in tasks.SPLITS}
        ),
    )  # fmt: skip
    done = training.fit(model, tokenizer, one, settings)
    assert done.metric == "token_accuracy" and done.labels == 3
    assert done.rows("dev")[-1]["token_accuracy"] == 1
    written = generation.evaluate(model, tokenizer, one, max_new_tokens=12)
    assert [text.split() for text in written.texts] == [r[0].split() for r in REFERENCES]
    assert [written.bleu, written.rouge_l, written.names_copied] == pytest.approx([1, 1, 1])
    apart = [generation.write(model, tokenizer, [source], max_new_tokens=12)[0] for source in SOURCES]
    assert apart == written.texts, "padding must not change what is written"
    assert generation.write(model, tokenizer, SOURCES, max_new_tokens=12, use_cache=False) == written.texts
    assert generation.write(model, tokenizer, SOURCES, max_new_tokens=12, num_beams=3) == written.texts


def test_judging_counts_slot_errors():
    written = generation.judge(["name: Elm | length: 8 miles"] * 2, ["Elm is 8 miles long.", "Oak."], [["x y"]] * 2)
    assert written.slot_errors == [0, 2]
    assert (written.slot_error_rate, written.names_copied) == (0.5, 0.5)
    plain = generation.judge(["a summary of this"], ["this"], [["this"]])
    assert plain.slot_errors is None and plain.scores()["names_copied"] is None


def test_one_broken_source_is_named_and_a_colon_makes_no_slots():
    for broken, says in (("", "an empty meaning representation"), ("Oak", "'Oak' is no 'slot: value'")):
        with pytest.raises(ValueError, match=rf"source 1 \(from 0\) is no meaning representation.*: {says}"):
            generation.judge(["name: Elm", broken], ["Elm."] * 2, [["Elm."]] * 2)
    news = ["Police: the bridge is closed.", "The bridge is open again."]
    assert generation.judge(news, ["Closed.", "Open."], [["Closed."], ["Open."]]).slot_errors is None


def test_bad_input(task):
    model, tokenizer = decoder()
    for sources in ("name: Elm", [], [" "]):
        with pytest.raises(ValueError, match="list of texts"):
            generation.write(model, tokenizer, sources)
    with pytest.raises(ValueError, match="don't fit into the model's 64 positions"):
        generation.write(model, tokenizer, SOURCES, max_new_tokens=60)
    with pytest.raises(ValueError, match="is a classification task"):
        generation.evaluate(model, tokenizer, tiny.task())
    with pytest.raises(ValueError, match="no language-modeling head"):
        training.fit(tiny.model(), tiny.tokenizer(), task, training.Settings(1e-3))
    with pytest.raises(ValueError, match="no language-modeling head"):
        training.evaluate(tiny.model("gpt2"), tokenizer, task)
    with pytest.raises(ValueError, match="GPT2ForSequenceClassification has no language-modeling head, so it can't"):
        generation.write(tiny.model("gpt2"), tokenizer, SOURCES)
    model.config.num_labels = 2  # as every configuration has it, whatever the head
    for kind in ("classification", "regression"):
        for use in (training.evaluate, lambda *given: training.fit(*given, training.Settings(1e-3))):
            with pytest.raises(ValueError, match=f"has a language-modeling head, and tiny is a {kind} task"):
                use(model, tokenizer, tiny.task(kind=kind))


def test_e2e_files_are_a_task(tmp_path):
    (tmp_path / "train.csv").write_text('mr,ref\n"name[The Elm], food[Thai]",The Elm is Thai.\n')
    (tmp_path / "test.csv").write_text('mr,ref\n"name[Oak], near[Elm]",Oak.\n"name[Oak], near[Elm]",Near Elm: Oak.\n')
    (tmp_path / "dev.csv").write_text("mr,ref\nname[Fir],Fir.\n")
    task = tasks.load(str(tmp_path))
    assert (task.kind, task.metric) == ("generation", "bleu")
    assert task.splits["test"][0] == {"meaning": "name: Oak | near: Elm", "label": ["Oak.", "Near Elm: Oak."]}
    assert task.splits["train"][0]["label"] == ["The Elm is Thai."]


def test_the_pocket_decoder_loads_for_it():
    task = tasks.load("trails", labels=8)
    model, tokenizer = backbones.load("pocket-gpt2", task)
    assert training.in_one_row(model)
    texts = generation.write(model, tokenizer, list(task.splits["test"]["meaning"])[:2], max_new_tokens=8)
    assert len(texts) == 2 and all(texts)

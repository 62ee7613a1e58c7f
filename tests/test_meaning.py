"""Meaning representations and generation metrics, on hand-made cases and on the references of the pocket task."""

import json

import pytest
import rouge_score.rouge_scorer
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from peft_helpers import generation_metrics, meaning, tasks

FOLDER = tasks.POCKET / "trails"
WORDINGS = {
    "dogs": {"yes": ["dogs are welcome"], "no": ["no dogs", "dogs are not welcome"]},
    "level": {"easy": ["easy"]},
}
GIVEN = {"name": "Osprey Ledge", "length": "8 miles", "start": "the old mill", "dogs": "no"}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z ]{0,8}[a-z]", fullmatch=True), st.from_regex(r"[A-Za-z0-9'][A-Za-z0-9:' ]{0,8}[a-z]", fullmatch=True), min_size=1))  # fmt: skip  # noqa: E501
def test_a_line_reads_back(slots):
    assert meaning.parse(meaning.linearize(slots)) == slots


@pytest.mark.parametrize("slots", [{}, {"name": ""}, {"": "x"}, {"name": "a | b"}, {"a:b": "c"}])
def test_what_cannot_be_read_back_is_refused(slots):
    with pytest.raises(ValueError):
        meaning.linearize(slots)


def test_an_empty_meaning_says_what_is_wanted():
    with pytest.raises(ValueError, match="an empty meaning representation says nothing; give at least one slot"):
        meaning.linearize({})


JUDGE = meaning.SlotJudge({})


@pytest.mark.parametrize(
    "use",
    [
        lambda: meaning.parse(""),
        lambda: meaning.parse("  "),
        lambda: meaning.recite({}),
        lambda: JUDGE.judge({}, "x"),
        lambda: JUDGE.error_rate([{}], ["x"]),
        lambda: JUDGE.names_copied([{}], ["x"]),
    ],
)
def test_an_empty_meaning_is_refused_wherever_it_comes(use):
    with pytest.raises(ValueError, match=f"^{meaning.EMPTY}$"):
        use()


@pytest.mark.parametrize("line", ["", "name", "name: a | name: b", "name: | x: y"])
def test_a_broken_line_is_refused(line):
    with pytest.raises(ValueError):
        meaning.parse(line)


@pytest.mark.parametrize(
    ("text", "missing", "added", "count"),
    [
        ("From the old mill, Osprey Ledge runs 8 miles; no dogs.", (), (), 0),
        ("Osprey Ledge is an 8-mile walk from an old mill where dogs are not welcome.", (), (), 0),
        ("From the old mill, osprey ledge runs 8 miles; no dogs.", ("name",), (), 1),
        ("From the old mill, Osprey Ledge runs 18 miles; no dogs.", ("length",), (), 1),
        ("Osprey Ledge, 8 miles from the old mill: dogs are welcome.", ("dogs",), (("dogs", "yes"),), 1),
        ("An easy walk from the old mill: Osprey Ledge, 8 miles, no dogs.", (), (("level", "easy"),), 1),
        ("A walk.", ("name", "length", "start", "dogs"), (), 4),
    ],
)
def test_slot_errors_by_hand(text, missing, added, count):
    errors = meaning.SlotJudge(WORDINGS).judge(GIVEN, text)
    assert (errors.missing, errors.added, errors.count) == (missing, added, count)


def test_rates_by_hand():
    judge = meaning.SlotJudge(WORDINGS)
    texts = ["Osprey Ledge, 8 miles from the old mill, no dogs.", "Ledge, 8 miles from the old mill, no dogs."]
    assert judge.error_rate([GIVEN, GIVEN], texts) == pytest.approx(1 / 8)
    assert judge.names_copied([GIVEN, GIVEN], texts) == 0.5
    for rate in (judge.error_rate, judge.names_copied):
        for meanings, said in (([GIVEN], texts), ([], [])):
            with pytest.raises(ValueError, match="one text a meaning"):
                rate(meanings, said)
    with pytest.raises(ValueError, match=r"\{'length': '8 miles'\} has no slot 'name' to be copied"):
        judge.names_copied([GIVEN, {"length": "8 miles"}], texts)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_references_of_the_pocket_task_have_almost_no_slot_errors(split):
    judge = meaning.SlotJudge(meaning.read_wordings(FOLDER))
    rows = [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text().splitlines()]
    pairs = [(row["meaning"], text) for row in rows for text in row["references"]]
    rate = judge.error_rate(*zip(*pairs, strict=True))
    assert rate <= 0.005, rate
    assert judge.names_copied(*zip(*pairs, strict=True)) == 1.0
    shuffled = [text for _, text in pairs[1:]] + [pairs[0][1]]
    assert judge.error_rate([m for m, _ in pairs], shuffled) > 0.5, "texts of other trails are full of errors"


def test_the_pocket_task_loads_as_lines_and_references():
    task = tasks.load("trails")
    row = task.splits["test"][0]
    assert (task.kind, task.metric, task.outputs) == ("generation", "bleu", 0)
    assert row["meaning"].startswith("name: ") and len(row["label"]) >= 2
    assert meaning.parse(row["meaning"])["name"] in row["label"][0]
    assert len(task.subset(50).splits["train"]) == 50
    assert "a text" in repr(task)


TEXTS = ["the cat sat on the mat", "a dog ran"]
REFERENCES = [["the cat sat on a mat", "a cat was on the mat"], ["the dog ran away"]]


def test_metrics_are_the_named_libraries():
    columns = [["the cat sat on a mat", "the dog ran away"], ["a cat was on the mat", None]]
    assert generation_metrics.bleu(TEXTS, REFERENCES) == sacrebleu.corpus_bleu(TEXTS, columns).score / 100
    assert generation_metrics.chrf(TEXTS, REFERENCES) == sacrebleu.corpus_chrf(TEXTS, columns).score / 100
    scorer = rouge_score.rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    by_hand = max(scorer.score(r, TEXTS[0])["rougeL"].fmeasure for r in REFERENCES[0])
    assert generation_metrics.rouge_l(TEXTS[:1], REFERENCES[:1]) == by_hand == pytest.approx(10 / 12)
    assert generation_metrics.bleu([r[0] for r in REFERENCES], REFERENCES) == pytest.approx(1)


@pytest.mark.parametrize(
    "texts, references", [([], []), (TEXTS, REFERENCES[:1]), (TEXTS, [["a"], []]), ("ab", ["a", "b"])]
)
@pytest.mark.parametrize("metric", [generation_metrics.bleu, generation_metrics.chrf, generation_metrics.rouge_l])
def test_metrics_refuse_what_does_not_fit(metric, texts, references):
    with pytest.raises(ValueError):
        metric(texts, references)


def test_the_data_card_publishes_what_the_template_reaches():
    rows = [json.loads(line) for line in (FOLDER / "test.jsonl").read_text().splitlines()]
    meanings, references = [row["meaning"] for row in rows], [row["references"] for row in rows]
    texts = [meaning.recite(slots) for slots in meanings]
    rate = meaning.SlotJudge(meaning.read_wordings(FOLDER)).error_rate(meanings, texts)
    figures = (generation_metrics.bleu(texts, references), generation_metrics.rouge_l(texts, references), rate)
    told = " | ".join(f"{100 * figure:.1f}" for figure in figures)
    assert f"| template (`meaning.recite`) | {told} |" in (FOLDER / "README.md").read_text()


def test_e2e_notation_is_read():
    text = "name[The Eagle], eatType[coffee shop], near[Burger King]"
    assert meaning.parse_e2e(text) == {"name": "The Eagle", "eatType": "coffee shop", "near": "Burger King"}
    rows = [{"mr": "name[A]", "ref": "A."}, {"mr": "name[B]", "ref": "B."}, {"mr": "name[A]", "ref": "It is A."}]
    assert meaning.group_e2e(rows)[0] == {"meaning": {"name": "A"}, "references": ["A.", "It is A."]}
    for broken in ("", "name The Eagle", "name[The Eagle", "name[A] B[c"):
        with pytest.raises(ValueError, match="is no list like"):
            meaning.parse_e2e(broken)


def test_a_phrase_for_a_vague_and_an_exact_value_counts_as_the_one_asked_for():
    judge = meaning.SlotJudge(meaning.read_wordings(tasks.POCKET / "e2e"))
    text = "Elm is a cheap pub by the river, not family-friendly."
    for price in ("cheap", "less than £20"):
        slots = {"name": "Elm", "eatType": "pub", "priceRange": price, "area": "riverside", "familyFriendly": "no"}
        assert judge.judge(slots, text).count == 0, price
    slots["priceRange"] = "more than £30"
    assert judge.judge(slots, text).missing == ("priceRange",)
    del slots["priceRange"]
    assert judge.judge(slots, text).added == (("priceRange", "cheap"),)

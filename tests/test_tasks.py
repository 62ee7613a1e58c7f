"""The task registry: shipped tasks, local files, and bad input."""

import json

import pytest

from peft_helpers import tasks


def write(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def rows(count, **more):
    return [{"text": f"sentence number {i}", "label": i % 2} | more for i in range(count)]


@pytest.mark.parametrize(
    ("name", "columns", "metric"),
    [
        ("sentiment", ("text",), "accuracy"),
        ("topic", ("text",), "accuracy"),
        ("acceptability", ("text",), "matthews"),
        ("paraphrase", ("first", "second"), "f1"),
        ("similarity", ("first", "second"), "spearman"),
    ],
)
def test_shipped_tasks(name, columns, metric):
    task = tasks.load(name)
    assert (task.text_columns, task.metric) == (columns, metric)
    assert [len(task.splits[s]) for s in ("dev", "test")] == [200, 400]
    assert set(task.splits["train"].column_names) == {*columns, "label"}
    assert task.outputs == {"topic": 8, "similarity": 1}.get(name, 2)
    assert name in repr(task) and metric in repr(task)


def test_label_names_become_numbers_in_the_registrys_order():
    task = tasks.load("sentiment")
    path = tasks.POCKET / "sentiment" / "test.jsonl"
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    assert task.splits["test"][0]["text"] == first["text"]
    assert task.labels[task.splits["test"][0]["label"]] == first["label"]


def test_subsets_are_seeded_and_keep_the_classes_shares():
    task = tasks.load("sentiment")
    few = task.subset(51, seed=1)
    assert len(few.splits["train"]) == 51
    assert abs(sum(few.splits["train"]["label"]) - 25.5) <= 0.5
    assert few.splits["train"]["text"] == task.subset(51, seed=1).splits["train"]["text"]
    assert few.splits["train"]["text"] != task.subset(51, seed=2).splits["train"]["text"]
    assert few.splits["test"]["text"] == task.splits["test"]["text"]
    assert set(task.subset(20, seed=1).splits["train"]["text"]) < set(few.splits["train"]["text"]), (
        "smaller subsets are nested"
    )
    assert len(tasks.load("sentiment", labels=30).splits["train"]) == 30
    for count in (1, 1801):
        with pytest.raises(ValueError, match=f"takes 2 to 1800 examples; got {count}"):
            task.subset(count)


def test_a_short_dev_split_is_its_first_rows():
    task = tasks.load("sentiment")
    short = task.short_dev(3)
    assert short.splits["dev"]["text"] == task.splits["dev"]["text"][:3]
    assert short.splits["train"] is task.splits["train"] and len(task.splits["dev"]) > 20
    assert len(task.short_dev(10**6).splits["dev"]) == len(task.splits["dev"])
    with pytest.raises(ValueError, match="at least one row; got 0"):
        task.short_dev(0)


def test_uneven_classes_keep_their_shares(tmp_path):
    uneven = [{"text": f"s{i}", "label": int(i % 10 == 0)} for i in range(200)]
    task = tasks.load(write(tmp_path, train=uneven, dev=rows(10), test=rows(10)))
    assert sum(task.subset(50).splits["train"]["label"]) == 5


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_a_folder_of_files_is_a_task(tmp_path, ending):
    for split, count in (("train", 20), ("dev", 4), ("test", 6)):
        if ending == "jsonl":
            text = "".join(json.dumps({"sentence": f'he said "{i}", so', "label": i % 2}) + "\n" for i in range(count))
        elif ending == "csv":
            text = "sentence,label\n" + "".join(f'"he said ""{i}"", so",{i % 2}\n' for i in range(count))
        else:
            text = "sentence\tlabel\n" + "".join(f'he said "{i}", so\t{i % 2}\n' for i in range(count))
        (tmp_path / f"{split}.{ending}").write_text(text)
    task = tasks.load(str(tmp_path))
    assert task.text_columns == ("sentence",)
    assert task.splits["train"][3] == {"sentence": 'he said "3", so', "label": 1}


def test_peft_data_takes_the_place_of_the_hub(tmp_path, monkeypatch):
    data = [{"sentence": f"a film {i}", "label": i % 2} for i in range(50)]
    write(tmp_path / "sst2", train=data, validation=data[:8], test=[{"sentence": "hidden", "label": -1}])
    monkeypatch.setenv("PEFT_DATA", str(tmp_path))
    task = tasks.load("sst2")
    assert [len(task.splits[s]) for s in ("train", "dev", "test")] == [45, 5, 8], (
        "dev is cut off train, validation is test"
    )
    assert not {*task.splits["dev"]["sentence"]} & {*task.splits["train"]["sentence"]}
    assert "local copy" in task.origin


def test_bad_input_is_named(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError,
        match=r"unknown task 'sentimnet'; there are sentiment, topic, .*similarity, trails, sst2",
    ):
        tasks.load("sentimnet")
    with pytest.raises(ValueError, match="has no train file"):
        tasks.load(write(tmp_path / "a", test=rows(3)))
    with pytest.raises(ValueError, match="test is empty"):
        tasks.load(write(tmp_path / "b", train=rows(9), dev=rows(3), test=[]))
    with pytest.raises(ValueError, match=r"the columns words, label; a task needs text"):
        tasks.load(write(tmp_path / "c", train=[{"words": "x", "label": 0}], test=rows(2)))
    with pytest.raises(ValueError, match=r"c2/test has no column text; its columns are words, label"):
        tasks.load(write(tmp_path / "c2", train=rows(9), dev=rows(2), test=[{"words": "x", "label": 0}]))
    with pytest.raises(ValueError, match=r"row 2: label 7 is none of 0, 1"):
        tasks.load(write(tmp_path / "d", train=rows(9), dev=rows(2), test=[*rows(2), {"text": "x", "label": 7}]))
    with pytest.raises(ValueError, match="add a test file"):
        tasks.load(write(tmp_path / "e", train=rows(9)))
    with pytest.raises(ValueError, match=r"score must be a finite number; got 'high'"):
        tasks.load(write(tmp_path / "f", train=[{"text": "x", "score": "high"}] * 9, test=[{"text": "x", "score": 1}]))
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "train.jsonl").write_text('{"text": "x"\n')
    with pytest.raises(ValueError, match=r"train.jsonl can't be read as jsonl"):
        tasks.load(str(tmp_path / "g"))
    monkeypatch.setenv("PEFT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"PEFT_DATA is set to .*nowhere.*, which is no folder"):
        tasks.load("sst2")


def test_without_network_a_hub_task_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("PEFT_DATA", raising=False)
    with pytest.raises(
        ConnectionError, match=r"the task 'cola' is not on this machine.*PEFT_PROFILE=pocket.*PEFT_DATA/cola"
    ):
        tasks.load("cola")

"""Atomic writes: what a reader finds is always a whole file, old or new."""

import json
import os

import pytest
import torch

from peft_helpers import storage


def test_round_trips(tmp_path):
    storage.write_json(tmp_path / "deep" / "a.json", {"b": [1, 2], "å": None})
    assert json.loads((tmp_path / "deep" / "a.json").read_text("utf-8")) == {"b": [1, 2], "å": None}
    tensors = {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16)}
    storage.write_tensors(tmp_path / "t.safetensors", tensors, {"step": 3, "rows": [{"loss": 0.1}]})
    read, metadata = storage.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"step": 3, "rows": [{"loss": 0.1}]}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[k], tensors[k]) and read[k].dtype == tensors[k].dtype for k in tensors)


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a.txt"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError), storage.replace_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_other_readers_may_read_what_was_written(tmp_path):
    storage.write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint file .*none.safetensors"):
        storage.read_tensors(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        storage.read_tensors(tmp_path / "bad.safetensors")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert storage.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

"""Models and data from the Hub: present, missing, failing, silent, forbidden. A loopback server plays the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from loopback_hub import LoopbackHub

LOAD = """
import json, sys
sys.path.insert(0, {tests!r})
import tiny
from peft_helpers import backbones, tasks
told = {{}}
for what, name in json.loads(sys.argv[1]):
    try:
        if what == "backbone":
            model, tokenizer = backbones.load(name, tiny.task())
            told[what + " " + name] = f"loaded {{model.config.model_type}} {{len(tokenizer)}}"
        else:
            source = tasks.Source("classification", "accuracy", ("sentence",), ("no", "yes"), hub=(name, None))
            tasks.REGISTRY[name] = source
            told[what + " " + name] = f"loaded {{tasks.load(name)}}"
    except Exception as error:
        told[what + " " + name] = f"{{type(error).__name__}} :: {{error}}"
print(json.dumps(told))
"""
NAMES = ("present", "nowhere", "failing", "stalling")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    folder = root / "models" / "course" / "present"
    tiny.model("bert", head=False).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    data = root / "datasets" / "course" / "present"
    data.mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 10)):
        rows = [{"sentence": f"sentence {split} {i}", "label": i % 2} for i in range(count)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = LoopbackHub(root)
    yield server
    server.close()


def ask(folder: Path, names: tuple[str, ...], **environment: str) -> dict[str, str]:
    """Load backbones and tasks in a process of its own (the Hub's address is read at import): the answers."""
    code = LOAD.format(tests=str(Path(__file__).parent))
    cases = json.dumps([(what, f"course/{name}") for what in ("backbone", "task") for name in names])
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PEFT_"))}
    environment = (
        quiet | {"HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "2"} | environment
    )
    made = subprocess.run(
        [sys.executable, "-c", code, cases], capture_output=True, text=True, env=environment, timeout=240
    )
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def told(served, tmp_path_factory):
    return ask(tmp_path_factory.mktemp("home"), NAMES, HF_ENDPOINT=served.address)


def test_present(told):
    assert told["backbone course/present"] == "loaded bert 17"
    assert told["task course/present"].startswith("loaded task present: sentence")


@pytest.mark.parametrize(("what", "known"), [("backbone", "pocket-bert"), ("task", "sst2")])
def test_missing_is_a_value_error_that_lists_what_there_is(told, what, known):
    answer = told[f"{what} course/nowhere"]
    assert answer.startswith(f"ValueError :: the Hugging Face Hub has no {what} 'course/nowhere'")
    assert known in answer


@pytest.mark.parametrize("what", ["backbone", "task"])
@pytest.mark.parametrize("name", ["failing", "stalling"])
def test_failing_and_stalling_are_connection_errors_with_a_way_out(told, what, name):
    answer = told[f"{what} course/{name}"]
    assert answer.startswith(f"ConnectionError :: the {what} 'course/{name}' is not on this machine")
    assert "PEFT_PROFILE=pocket" in answer
    assert ("$PEFT_MODELS/" if what == "backbone" else "$PEFT_DATA/") in answer
    assert ("did not answer in time" in answer) == (name == "stalling")


def test_no_network(tmp_path):
    for answer in ask(tmp_path, ("present",), HF_ENDPOINT="http://127.0.0.1:9").values():
        assert answer.startswith("ConnectionError")
        assert "PEFT_PROFILE=pocket" in answer


def test_offline_mode(tmp_path):
    for answer in ask(tmp_path, ("present",), HF_HUB_OFFLINE="1").values():
        assert answer.startswith("ConnectionError")
        assert "HF_HUB_OFFLINE is set" in answer

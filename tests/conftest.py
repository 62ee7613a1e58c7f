"""What holds for every test: no network, the pocket profile, and no traces in the working tree."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

GUARD = Path(__file__).parent / "network_guard"
sys.path.insert(0, str(GUARD))

import network_guard  # noqa: E402 (its folder has to be on the path first)

pytest.register_assert_rewrite("checker_cases", "widget_cases")  # tests stand in them: their asserts explain themselves


def pytest_configure(config: pytest.Config) -> None:
    """Set up this process, and through the environment the kernels that nbval starts."""
    scratch = tempfile.TemporaryDirectory(prefix="peft-course-tests-")
    config.add_cleanup(scratch.cleanup)
    os.environ.update(
        PYTHONPATH=os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH")])),
        HF_HUB_OFFLINE="1",
        PEFT_PROFILE="pocket",
        PEFT_LOG=str(Path(scratch.name) / "lesson_log.jsonl"),
        PEFT_RECORDS=str(Path(scratch.name) / "records"),
    )
    for name in ("http_proxy", "https_proxy", "all_proxy"):  # a proxy on loopback would be a way out
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    os.environ.pop("MPLBACKEND", None)  # kernels choose the inline backend themselves
    network_guard.install()


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that reached for the network, even if a library swallowed the guard's error."""
    before = len(network_guard.attempts)
    yield
    tried = network_guard.attempts[before:]
    if tried and request.node.get_closest_marker("tries_network") is None:
        pytest.fail(f"reached for the network: {', '.join(tried)} (mark the test tries_network if it means to)")

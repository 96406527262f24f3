"""The first API against its own client, which needs a protobuf and an OpenSSL that edgert does not.

    python -m venv client; client/bin/pip install "protobuf<3.21" numpy grpcio future tensorrtserver==1.11.0
    EDGERT_FIRST_API_PYTHON=client/bin/python pytest tests/system/test_first_api_client.py

It loads libssl.so.1.1: where the machine has none, let LD_LIBRARY_PATH lead to one.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fakes.http_front import HttpSite

PYTHON = os.environ.get("EDGERT_FIRST_API_PYTHON", "")
PROGRAM = Path(__file__).with_name("first_api_client.py")
TIMEOUT_S = 60
ROW = [float(value) for value in range(16)]

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not PYTHON, reason="EDGERT_FIRST_API_PYTHON names no Python with tensorrtserver"),
]


@pytest.fixture(scope="module")
def said():
    """What the client's program got, by name."""
    with HttpSite() as site:
        command = [PYTHON, str(PROGRAM), f"127.0.0.1:{site.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


def test_health_status_and_index(said):
    assert said["health"] == [True, True]
    state, models = said["status"]
    assert state == 2
    assert {"identity", "add", "slow"} < set(models)
    assert said["config"] == [8, [16], 1]
    assert said["index"] == models


def test_inferences(said):
    assert said["raw"] == [ROW, [1.0] * 16]
    assert said["model"] == ["identity", 1]
    assert said["two"] == {"OUTPUT0": list(range(1, 17)), "OUTPUT1": list(range(-1, 15))}
    assert said["classes"] == [[[1, 0.5, "dog"], [0, 0.25, "cat"]], [[3, 4.0, ""], [0, 2.0, "cat"]]]
    assert said["text"] == ["a", "", "long text"]
    assert said["sequence"] == [[3], [7], [12]]


def test_errors_are_the_clients_exceptions(said):
    assert said["unknown"] == ["no status available for unknown model 'nope'", "edgert", True]
    assert said["failing"] == ["the engine could not run", "edgert", True]
    assert "exceeds maximum batch size 8" in said["over"][0]  # the client's own, from the configuration


def test_control_and_shared_memory(said):
    assert said["unload"] is None
    assert said["load"] is None
    assert said["load unknown"][0] == "failed to load 'nope', no such model in the store"
    assert said["regions"] == [["edgert_first_api", 128]]
    assert said["shared"] == [ROW, ROW]
    assert said["no regions"] == 0

"""`edgert run` with `[serve]` as a process: a model that never returns, and commands that ask through TLS."""

from __future__ import annotations

import http.client
import json
import textwrap
import threading
import time

import pytest

from edgert.exit_codes import ExitCode
from tests.fakes.broker import Certificates
from tests.fakes.process import WAIT_S, Service, edgert
from tests.fakes.python_model import write_model
from tests.fakes.store import Site, noise

pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")
pytestmark = pytest.mark.system

CONFIG = """backend: "python" max_batch_size: 4
    input [{ name: "X" data_type: TYPE_FP32 dims: [1] }]
    output [{ name: "Y" data_type: TYPE_FP32 dims: [1] }]"""
NEVER = """
    import pathlib, time

    class Model:
        def load(self, context):
            self.folder = pathlib.Path(context.folder)

        def execute(self, inputs):
            if (self.folder / "hang").exists():
                (self.folder / "begun").write_text("")
                time.sleep(600)
            return {"Y": inputs["X"]}
"""
QUICK = """
    class Model:
        def execute(self, inputs):
            return {"Y": inputs["X"]}
"""
BODY = json.dumps({"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1]}]})


def add_model(site, source, config=CONFIG):
    folder = write_model(site.store, textwrap.dedent(source), name="m").parent
    (folder / "config.pbtxt").write_text(config)


def hang(site):
    """Let the model never return, and wait until it has something to do."""
    (site.store / "m" / "hang").write_text("")
    deadline = time.monotonic() + WAIT_S
    while not (site.store / "m" / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def infer(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v2/models/m/infer", BODY)
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        pass  # what the server ends without an answer
    finally:
        connection.close()


def test_a_stop_leaves_a_model_that_never_returns_behind_after_drain_s_and_says_so(tmp_path):
    site = Site(tmp_path)
    add_model(site, NEVER)
    file = site.write("[http]\nport = 0\n[service]\ndrain_s = 2.0\n[serve]\n")
    with Service(file) as service:
        port = int(service.wait_log(r"serve: http://127\.0\.0\.1:(\d+)")[1])
        service.wait_ready()
        (site.store / "m" / "hang").write_text("")
        asker = threading.Thread(target=infer, args=(port,))
        asker.start()
        hang(site)
        began = time.monotonic()
        assert service.stop() == ExitCode.WORK_LOST
        assert 2.0 < time.monotonic() - began < 4.2
        asker.join(10)
    assert "model m version 1 does not finish its batch; it is left behind" in service.log
    assert "not all requests were answered within drain_s = 2.0" in service.log


def test_a_frame_in_such_a_model_is_waited_for_no_longer(tmp_path):
    site = Site(tmp_path)
    add_model(site, NEVER, CONFIG.replace("dims: [1]", "dims: [3, 8, 8]"))
    source = f'[sources.s]\nuri = "{noise(2)}"\nloop = true\nfps = 50\nmodels = ["m"]\n'
    with Service(site.write(f"{source}[service]\ndrain_s = 2.0\n")) as service:
        service.wait_ready()
        hang(site)
        began = time.monotonic()
        assert service.stop() == ExitCode.WORK_LOST
        assert 2.0 < time.monotonic() - began < 4.2  # and not twice drain_s and what the end takes
    assert "model m version 1 does not finish its batch; it is left behind" in service.log


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_commands_ask_a_service_with_tls_token_and_clients_certificates(tmp_path, certificates):
    site = Site(tmp_path)
    add_model(site, QUICK)
    (tmp_path / "token").write_text("secret\n")
    (certificate, key), (own, own_key) = certificates.server, certificates.client
    file = site.write(
        '[http]\nport = 0\ncontrol = true\n[serve]\nmode = "explicit"\ntoken = "token"\n'
        f'tls = {{ certificate = "{certificate}", key = "{key}", client_ca = "{certificates.ca}" }}\n'
    )
    shown = ("--certificate", own, "--key", own_key)
    with Service(file) as service:
        port = service.wait_log(r"serve: https://127\.0\.0\.1:(\d+)")[1]
        service.wait_ready()
        given = ("models", file, "--set", f"http.port={port}", "--load", "m")
        done = edgert(*given, *shown)
        assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "m: loaded\n", "")
        refused = edgert(*given)
        assert refused.returncode == ExitCode.CONFIG
        assert "give --certificate FILE with --key FILE" in refused.stderr
        where = ("inspect", "--allocations", f"https://127.0.0.1:{port}", "--ca", certificates.ca, *shown)
        assert "wants a token; give --token-file FILE" in edgert(*where).stderr
        assert edgert(*where, "--token-file", tmp_path / "token").stdout.startswith("used ")
        assert service.stop() == ExitCode.OK

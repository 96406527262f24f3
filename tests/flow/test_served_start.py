"""A serving service in this process: secrets that change, models that are not there, and what it says."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import ssl
import threading

import pytest

from edgert.exit_codes import ExitCode
from edgert.service import Service
from tests.fakes.broker import Certificates
from tests.fakes.log_watch import LogWatch
from tests.fakes.onnx_store import add_times
from tests.fakes.store import Site

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")
pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")

WAIT_S = 20.0


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    add_times(site.store, "a", 2)
    return site


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(site, port, serve, steps):
    """Run a service while another thread takes the steps, given the log, after it is ready."""
    text = f"[http]\nport = {port}\n[service]\ndrain_s = 1.0\n[serve]\n{serve}\n"
    service, failures = Service(site.load(text)), []

    def take(log):
        try:
            log.wait_for("ready after", WAIT_S)
            steps(log)
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with LogWatch() as log:
        thread = threading.Thread(target=take, args=(log,))
        thread.start()
        code = service.run()
        thread.join(WAIT_S)
    if failures:
        raise failures[0]
    assert code == ExitCode.OK


def reload(log, said):
    """Send SIGHUP; return the line that says what came of it."""
    os.kill(os.getpid(), signal.SIGHUP)
    return log.wait_for(said, WAIT_S)


def status(port, token):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", "/v2/models/a", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def show(port, ca):
    """Let the server show its certificate. Raises SSLCertVerificationError if `ca` did not sign it."""
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection(("127.0.0.1", port), WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1"),
    ):
        pass


class TestSecrets:
    def test_a_revoked_token_is_refused_after_a_reload_and_the_new_one_is_taken(self, site, port):
        file = site.folder / "token"
        file.write_text("old\n")

        def steps(log):
            assert status(port, "old") == 200
            file.write_text("new\n")
            line = reload(log, "reloading: ")
            assert f"the file of serve.token of {site.folder / 'pipeline.toml'} changed" in line
            log.wait_for("reloaded: ", WAIT_S)
            assert (status(port, "old"), status(port, "new")) == (401, 200)

        run(site, port, 'token = "token"', steps)

    def test_a_new_token_that_is_none_changes_nothing(self, site, port):
        file = site.folder / "token"
        file.write_text("old\n")

        def steps(log):
            file.write_text("")
            assert "serve.token" in reload(log, "not reloaded, the old pipeline goes on")
            assert status(port, "old") == 200

        run(site, port, 'token = "token"', steps)

    def test_a_secret_that_is_as_it_was_starts_nothing_anew(self, site, port):
        (site.folder / "token").write_text("old\n")

        def steps(log):
            os.utime(site.folder / "token", ns=(1, 1))
            assert "nothing of it has changed: a" in reload(log, "not loaded again")
            assert status(port, "old") == 200

        run(site, port, 'token = "token"', steps)

    def test_a_renewed_certificate_is_shown_after_a_reload(self, site, port, tmp_path_factory):
        first, second = (Certificates(tmp_path_factory.mktemp(name)) for name in ("first", "second"))

        def install(certificates):
            for made, name in zip(certificates.server, ("server.pem", "server.key"), strict=True):
                shutil.copy(made, site.folder / name)

        install(first)

        def steps(log):
            show(port, first.ca)
            install(second)
            line = reload(log, "reloading: ")
            assert "the file of serve.tls.certificate, the file of serve.tls.key of" in line
            log.wait_for("reloaded: ", WAIT_S)
            show(port, second.ca)
            with pytest.raises(ssl.SSLCertVerificationError):
                show(port, first.ca)

        run(site, port, 'tls = { certificate = "server.pem", key = "server.key" }', steps)


def test_models_that_keep_it_from_being_ready_are_named_with_their_reasons(site, port):
    (add_times(site.store, "b", 2) / "1" / "model.onnx").write_bytes(b"no graph")
    (add_times(site.store, "c", 2) / "config.pbtxt").write_text("max_batch_size: [")

    def steps(log):
        [warning] = [line for line in log.warnings() if "/v2/health/ready" in line]
        told = warning.partition("not all models are loaded: ")[2]
        first, second = told.split("; c (")
        assert first.startswith("b (")
        assert "model.onnx" in first
        assert "config.pbtxt" in second
        assert len(told) < 400

    run(site, port, "", steps)


def test_nothing_is_said_where_all_are_loaded(site, port):
    def steps(log):
        assert [line for line in log.warnings() if "/v2/health/ready" in line] == []

    run(site, port, "", steps)

"""`edgert listen` with real brokers and nodes. Needs mosquitto, openssl and amqtt."""

from __future__ import annotations

import io
import json
import os
import pty
import queue
import re
import signal
import subprocess
import threading

import msgspec
import pytest

from edgert.cli import main
from edgert.exit_codes import ExitCode
from edgert.listen import roll_call
from edgert.listen.run import Bounds, listen
from edgert.listen.target import Asked, read_target
from tests.fakes.broker import Amqtt, Certificates, Mosquitto, Subscriber, password_file
from tests.fakes.mqtt_node import MqttNode
from tests.fakes.process import COMMAND, WAIT_S, edgert
from tests.unit.listen.heard import body

pytestmark = pytest.mark.system

BIRTH = b'{"boot":"boot","versions":{"edgert":"0.4"}}'
RESULT = "edgert/n/source/porch/result/classifier"


class Listener:
    """`edgert listen` as a child process; `wait_line` waits for a line that matches."""

    def __init__(self, port, *arguments):
        self.lines = []
        self._arrived = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [*COMMAND, "listen", "--port", str(port), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a test's Ctrl-C goes to the process group
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_line(self, pattern):
        while True:
            line = self._arrived.get(timeout=WAIT_S)
            assert line is not None, f"No {pattern!r} in {self.lines}"
            if re.search(pattern, line):
                return line

    def wait_lines(self, *patterns):
        """Wait for a line for each pattern, in any order."""
        left = {*patterns}
        while left:
            line = self.wait_line("|".join(left))
            left -= {pattern for pattern in left if re.search(pattern, line)}

    def interrupt(self):
        """Press Ctrl-C; return exit code, all lines, and what was said on standard error."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code, self.lines, self._process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        self._process.stdout.close()
        self._process.stderr.close()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._arrived.put(self.lines[-1])
        self._arrived.put(None)


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.mark.parametrize("kind", [Mosquitto, Amqtt])
def test_ctrl_c_ends_with_a_summary(tmp_path, kind):
    with kind(tmp_path) as broker, MqttNode(broker.port, qos=1) as node, Listener(broker.port) as listener:
        listener.wait_line(f"connected to .* with MQTT {'5' if kind is Mosquitto else '3.1.1'}$")
        node.state("ready")
        node.sink.announcer.publish_retained("birth", BIRTH)
        node.sink.announcer.publish_retained("source/porch/state", b'{"state":"online"}')
        listener.wait_lines("n is ready", "n was born with edgert 0.4", "n source porch is online")
        node.send(30)
        assert "; cat 0.50" in listener.wait_line(r"n porch/classifier: [\d.]+/s, 30 results, p50 ")
        code, lines, errors = listener.interrupt()
    assert (code, errors) == (ExitCode.OK, "")
    summary = lines[
        next(n for n, line in enumerate(lines) if re.match(r"listened for .*: 30 results", line)) :
    ]
    assert re.match(r"n +ready +[\d:]+ +edgert 0.4, boot boot", summary[2])
    totals = summary[-1].split()
    assert totals[:3] == ["n", "porch/classifier", "30"]
    assert totals[-4:] == ["0", "0", "0", "0"]


def test_json_says_what_was_published_and_what_was_wrong_with_it(broker):
    with Listener(broker.port, "--json") as listener, Subscriber(broker.port, "none") as sender:
        listener.wait_line('"connection":"connected"')
        one = {"source": "porch", "model": "classifier", "node": "n"}
        for seq in (0, 3, 3):
            sender.publish(RESULT, msgspec.json.encode(body(seq, **one)))
        sender.publish(RESULT, msgspec.msgpack.encode(body(4, **one, historical=True)))
        sender.publish(RESULT, b"not this")
        sender.publish("edgert/n/state", b"lost", retain=True)
        listener.wait_line('"state":"lost"')
        code, lines, errors = listener.interrupt()
    told = [json.loads(line) for line in lines]
    assert (code, errors) == (ExitCode.OK, "")
    assert [one["seq"] for one in told if "seq" in one] == [0, 3, 3, 4]
    assert {one["topic"] for one in told if "seq" in one or "malformed" in one} == {RESULT}
    summary = told[-1]["summary"]
    assert (summary["count"], summary["malformed"]) == (4, 1)
    counts = {key: summary["results"][0][key] for key in ("missing", "duplicates", "historical")}
    assert counts == {"missing": 2, "duplicates": 1, "historical": 1}


def test_a_broker_that_restarts_is_joined_again(tmp_path):
    first = Mosquitto(tmp_path)
    with first, Listener(first.port) as listener:
        listener.wait_line("connected to ")
        first.kill()
        listener.wait_line("connection lost: ")
        with Mosquitto(tmp_path, port=first.port), MqttNode(first.port) as node:
            listener.wait_line("connected to ")
            node.send(5)
            listener.wait_line("n porch/classifier: .* 5 results")
            code, lines, _ = listener.interrupt()
    assert code == ExitCode.OK
    assert any(": 5 results" in line for line in lines)


def test_it_ends_after_so_many_results(broker):
    with Listener(broker.port, "--count", "7", "--json", "--source", "porch") as listener:
        listener.wait_line('"connected"')
        with MqttNode(broker.port) as node:
            node.send(20)
            summary = json.loads(listener.wait_line('"summary"'))["summary"]
    assert summary["count"] == 7


def test_a_pipeline_file_says_where(tmp_path, broker):
    file = tmp_path / "door.toml"
    file.write_text(f'node = "n"\nstore = "none"\n[sinks.mqtt]\ntype = "mqtt"\nport = {broker.port}\n')
    with Subscriber(broker.port, "none") as sender:
        for node in "no":
            sender.publish(f"edgert/{node}/state", b"ready", retain=True)
            # QoS 1: when the second is acknowledged, the first is retained.
        with Subscriber(broker.port, "edgert/o/state") as other:
            other.wait_payload("edgert/o/state", b"ready")
        done = edgert("listen", file, "--seconds", "0.5")
    assert done.returncode == ExitCode.OK
    assert " n is ready\n" in done.stdout
    assert " o is" not in done.stdout


def test_nobody_there_is_said_with_what_to_try(tmp_path):
    broker = Mosquitto(tmp_path)  # not started
    done = edgert("listen", "--port", broker.port)
    assert (done.returncode, done.stdout) == (ExitCode.OUTSIDE, "")
    assert done.stderr.startswith(
        f"edgert: MQTT broker 127.0.0.1:{broker.port} cannot be reached: Connection refused. Is a broker"
    )


def test_credentials_that_are_refused_are_said(tmp_path):
    users = password_file(tmp_path / "users", "me", "right")
    (tmp_path / "secret").write_text("wrong\n")
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {users}") as broker:
        given = ("listen", "--port", broker.port, "--seconds", "0.1")
        nobody = edgert(*given)
        wrong = edgert(*given, "--user", "me", "--password-file", tmp_path / "secret")
        (tmp_path / "secret").write_text("right\n")
        right = edgert(*given, "--user", "me", "--password-file", "secret", cwd=tmp_path)
    assert nobody.returncode == wrong.returncode == ExitCode.CONFIG
    assert "refused the connection: Not authorized (as no user; check --user" in nobody.stderr
    assert "refused the connection: Not authorized (as user 'me'; check --user" in wrong.stderr
    assert "wrong" not in wrong.stderr
    assert (right.returncode, right.stderr) == (ExitCode.OK, "")


def test_tls(tmp_path):
    certificates = Certificates(tmp_path)
    certificate, key = certificates.server
    files = (f"cafile {certificates.ca}", f"certfile {certificate}", f"keyfile {key}")
    settings = ("allow_anonymous true", *files, "require_certificate true")
    shown = ("--certificate-file", certificates.client[0], "--key-file", certificates.client[1])
    with Mosquitto(tmp_path, *settings) as broker:
        given = ("listen", "--port", broker.port, "--seconds", "0.1")
        trusted = edgert(*given, "--ca-file", certificates.ca, *shown)
        unknown = edgert(*given, "--tls", *shown)
        plain = edgert(*given)
    assert (trusted.returncode, trusted.stderr) == (ExitCode.OK, "")
    assert "connected to MQTT broker 127.0.0.1:" in trusted.stdout
    assert unknown.returncode == plain.returncode == ExitCode.OUTSIDE
    assert "certificate verify failed" in unknown.stderr
    assert "closed the connection without an answer" in plain.stderr
    assert "(does it want --tls?)" in plain.stderr


@pytest.mark.parametrize("kind", [Mosquitto, Amqtt])
def test_a_broker_without_tls_is_said_with_what_to_try(tmp_path, kind):
    with kind(tmp_path) as broker:
        done = edgert("listen", "--tls", "--port", broker.port)
    assert (done.returncode, done.stdout) == (ExitCode.OUTSIDE, "")
    assert "cannot be reached: the other side does not answer in TLS: " in done.stderr
    assert done.stderr.endswith("(is this its port for TLS? Try --port 8883, or no --tls)\n")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_node_that_is_not_there_is_said_with_those_that_are(broker, monkeypatch, capsys, arguments):
    with Subscriber(broker.port, "edgert/o/birth") as sender:
        for node in "po":
            sender.publish(f"edgert/{node}/birth", BIRTH, retain=True)
        sender.wait_payload("edgert/o/birth", BIRTH)
    monkeypatch.setattr(roll_call, "PATIENCE_S", 0.5)
    monkeypatch.setattr(roll_call, "ANSWERS_S", 0.5)
    assert main(["listen", "--port", str(broker.port), "--node", "nobody", "--seconds", "2", *arguments]) == 0
    heard = capsys.readouterr()
    assert heard.err == ("edgert: nothing is heard of node 'nobody' below edgert/; nodes seen there: o, p\n")
    assert "was born" not in heard.out
    assert '"nodes":[]' in heard.out or "0 results" in heard.out


def test_a_terminal_is_left_as_it_was(broker):
    reader, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    environment.pop("NO_COLOR", None)
    command = [*COMMAND, "listen", "--port", str(broker.port)]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        with MqttNode(broker.port) as node:
            node.state("ready")
            node.send(3)
            while b"\x1b[32mready\x1b[0m" not in shown:
                shown += os.read(reader, 4096)
            process.send_signal(signal.SIGINT)
            shown += rest(reader)
            code = process.wait(WAIT_S)
    finally:
        process.kill()
        process.wait(WAIT_S)
        os.close(reader)
    assert code == ExitCode.OK
    on_screen, leave, after = shown.partition(b"\x1b[?25h\x1b[?1049l")
    assert on_screen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert leave
    assert after.startswith(b"listened for ")
    assert b"\x1b[?" not in after


def rest(reader):
    """Return what is written to a terminal until its last user has gone."""
    shown = b""
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:  # Linux says EIO then
            return shown
        if not part:
            return shown
        shown += part


class Kept:
    """A Display that keeps what it hears."""

    def __init__(self):
        self.events = []
        self.links = []
        self.calls = []

    def open(self):
        self.calls.append("open")

    def link_changed(self, link, now):
        self.links.append(link.is_connected)

    def notice(self, text):
        self.calls.append(text)

    def heard(self, received, event, now):
        self.events.append((event.kind, event.subject.name, event.text))

    def tick(self, watch, now):
        pass

    def close(self):
        self.calls.append("close")

    def summarize(self, watch, elapsed_s, now):
        self.calls.append("summarize")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_burst_arrives_whole_and_in_order(broker, protocol):
    """In this process, so that what it leaves open would be found."""
    display = Kept()
    target = read_target(Asked(broker={"port": broker.port, "protocol": protocol}))
    sender = MqttNode(broker.port, queue=5000, qos=1)
    display.open = lambda: sender.send(3000)  # the subscription is there by then
    with sender:
        listen(target, display, io.StringIO(), Bounds(seconds=WAIT_S, count=3000))
    assert display.events.count(("result", "n porch/classifier", "next")) == 3000
    assert display.links == [True]
    assert display.calls == ["close", "summarize"]

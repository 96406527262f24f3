"""Real brokers in child processes on free ports of 127.0.0.1, and a subscriber that waits."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

START_TIMEOUT_S = 20.0
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def demand(program: str, package: str) -> str:
    """Return the program's path; skip the test if it is absent, or fail it in CI."""
    path = shutil.which(program, path=SYSTEM_PATH)
    if path is None:
        text = f"{program} is missing; install the Debian package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return path


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Broker:
    """A child process that listens on `port` of `host`. Subclasses say what to run."""

    running_sign: bytes  # is in the line that it logs once it listens

    def __init__(self, folder: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.port = port or free_port(host)
        self.log = folder / f"broker-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_keeper: threading.Thread | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Start, and wait until it says that it accepts connections."""
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        is_running: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._log_keeper = threading.Thread(target=self._keep_log, args=(self._process.stdout, is_running))
        self._log_keeper.start()
        if not _first(is_running, START_TIMEOUT_S):
            self.kill()
            raise RuntimeError(f"The broker did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End it the friendly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it hold its connections and do nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _keep_log(self, said: BinaryIO, is_running: queue.SimpleQueue[bool]) -> None:
        """Write what it says to the log until it ends."""
        with said, self.log.open("ab", buffering=0) as log:
            for line in said:
                log.write(line)
                if self.running_sign in line:
                    is_running.put(True)
        is_running.put(False)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(START_TIMEOUT_S)
            self._log_keeper.join(START_TIMEOUT_S)


def _first(answers: queue.SimpleQueue[bool], timeout_s: float) -> bool:
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        return False


class Mosquitto(Broker):
    """`settings` are lines of mosquitto.conf. Nothing is kept over a restart, unless they say so."""

    running_sign = b" running"  # "mosquitto version 2.0.11 running"

    def __init__(self, folder: Path, *settings: str, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__(folder, port, host)
        self.settings = settings
        self._program = demand("mosquitto", "mosquitto")

    def command(self) -> list[str]:
        config = self.folder / f"mosquitto-{self.port}.conf"
        settings = self.settings or ("allow_anonymous true",)
        # As root, mosquitto would become a user who cannot read the test's files.
        lines = ["user root", "persistence false", f"listener {self.port} {self.host}", *settings]
        config.write_text("\n".join([*lines, ""]))
        return [self._program, "-c", str(config)]


class Amqtt(Broker):
    """A broker that speaks MQTT 3.1.1 only."""

    running_sign = b" bind to "

    def command(self) -> list[str]:
        config = self.folder / f"amqtt-{self.port}.yaml"
        config.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: {self.host}:{self.port}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        )
        main = "import sys; from amqtt.scripts.broker_script import main; main()"
        return [sys.executable, "-W", "ignore", "-c", main, "-c", str(config)]


def password_file(path: Path, user: str, password: str) -> Path:
    """Write mosquitto's password file."""
    program = demand("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-b", "-c", str(path), user, password], check=True, capture_output=True)
    return path


class Certificates:
    """A certificate authority of our own, server certificates for 127.0.0.1, and one for a client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl = demand("openssl", "openssl")
        self.ca = folder / "ca.pem"
        self._run(
            "req",
            "-x509",
            "-newkey",
            "ec",
            *CURVE,
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-addext",
            "keyUsage=critical,keyCertSign",  # Python 3.13 and later want it said
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        )
        self.server = self._signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.expired = self._signed("expired", "subjectAltName=IP:127.0.0.1", days=-1)
        self.client = self._signed("client", "extendedKeyUsage=clientAuth")

    def _signed(self, name: str, extension: str, days: int = 2) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"{extension}\nauthorityKeyIdentifier=keyid\n")
        self._run(
            "req",
            "-newkey",
            "ec",
            *CURVE,
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(key),
            "-out",
            str(request),
        )
        self._run(
            "x509",
            "-req",
            "-in",
            str(request),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            str(days),
            "-extfile",
            str(extensions),
            "-out",
            str(certificate),
        )
        return certificate, key

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], cwd=self._folder, check=True, capture_output=True)


CURVE = ("-pkeyopt", "ec_paramgen_curve:P-256")


class Subscriber:
    """Keeps what arrives below `topic`, in order; `retained` is how the broker marked it."""

    def __init__(
        self,
        port: int,
        topic: str = "#",
        configure: Callable[[paho.Client], object] = lambda _: None,
        qos: int = 1,
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._arrived: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self._subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        configure(self._client)
        self._client.reconnect_delay_set(0.05, 0.05)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos)
        self._client.on_subscribe = lambda *_: self._subscribed.put(True)
        self._client.on_message = lambda _client, _data, message: self._arrived.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self, timeout_s: float = 15.0) -> None:
        """Wait for the next (re)subscription."""
        self._subscribed.get(timeout=timeout_s)

    def wait_for(
        self, wanted: Callable[[paho.MQTTMessage], bool], timeout_s: float = 15.0
    ) -> paho.MQTTMessage:
        """Return the first message, from now on, that is wanted."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                seen = [(m.topic, m.payload[:60], m.retain) for m in self.messages[-20:]]
                raise AssertionError(
                    f"What was waited for did not arrive in {timeout_s} s; seen: {seen}"
                ) from None
            self.messages.append(message)
            if wanted(message):
                return message

    def wait_payload(self, topic: str, payload: bytes, timeout_s: float = 15.0) -> paho.MQTTMessage:
        """Return the next message with this topic and payload."""
        return self.wait_for(lambda m: m.topic == topic and m.payload == payload, timeout_s)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish something of our own, with QoS 1."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # loop_stop leaves its socket pair to the garbage collector

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    """Run the broker for a while."""
    with broker:
        yield broker

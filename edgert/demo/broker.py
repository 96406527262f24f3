"""A broker for the demo in a child process: mosquitto where it is installed, else amqtt.

`python -m edgert.demo.broker PORT` is the child that runs amqtt.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgert.demo.leash import leashed
from edgert.errors import ConfigError

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
HOST = "127.0.0.1"

_MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
persistence false
max_inflight_messages 100
user root
"""  # root stays root: a process that changes its user frees itself from its parent, see leash.py


@contextmanager
def running_broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the broker's name and port; it ends with the block. Raises ConfigError if none can be started."""
    port = free_port()
    name, command = _command(folder, port)
    with (folder / "broker.log").open("wb") as log:
        child = subprocess.Popen(leashed(command), stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_open(child, port, folder / "broker.log")
        yield name, port
    finally:
        stop_child(child)


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def stop_child(child: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> int:
    """Ask a child to end, then make it. Returns its exit code."""
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _command(folder: Path, port: int) -> tuple[str, list[str]]:
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if mosquitto:
        conf = folder / "mosquitto.conf"
        conf.write_text(_MOSQUITTO_CONF.format(port=port, host=HOST))
        return "mosquitto", [mosquitto, "-c", str(conf)]
    if importlib.util.find_spec("amqtt") is None:
        raise ConfigError(
            "No MQTT broker is here. Run: apt install mosquitto, or pip install 'edgert[broker]'"
        )
    return "amqtt", [sys.executable, "-m", "edgert.demo.broker", str(port)]


def _wait_until_open(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise ConfigError(f"The broker did not start: {log.read_text(errors='replace').strip()[-500:]}")


async def _run_amqtt(port: int) -> None:
    from amqtt.broker import Broker

    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listener = {"type": "tcp", "bind": f"{HOST}:{port}", "max_connections": 50}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run_amqtt(int(sys.argv[1])))

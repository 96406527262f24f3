"""`edgert demo`: two clips as cameras and a ZeroMQ client, a broker, a service, a subscriber."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from edgert.demo.broker import free_port, running_broker, stop_child
from edgert.demo.material import Material, default_cache, prepare_material
from edgert.demo.snapshots import SnapshotWriter
from edgert.demo.store import write_store
from edgert.demo.table import make_table
from edgert.demo.watch import Watcher
from edgert.errors import SinkError
from edgert.exit_codes import ExitCode

NODE = "demo"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PICTURES_PER_S = 4.0

_STREET = """
[sources.street]
uri = "file:{street}"
loop = true
policy = "latest"
models = ["coco"]
"""
_PIPELINE = """\
node = "{node}"
store = "store"
{street_table}
[sources.driver]
uri = "file:{driver}"
loop = true
policy = "latest"
models = ["face"]

[sources.requests]
uri = "router+bind:tcp://127.0.0.1:{request_port}"
models = ["classify"]

[sinks.broker]
type = "mqtt"
port = {broker_port}
protocol = "{protocol}"
qos = 1

{tap_table}
[service]
stats_s = 2.0
"""
_TAP = """
[sinks.tap]
type = "tap"
endpoint = "pub+bind:tcp://127.0.0.1:{tap_port}"
frames_per_s = 1.0
"""


def run_demo(seconds: float, snapshots: Path | None, cache: Path | None) -> ExitCode:
    """Run the main job for `seconds`. Ctrl-C ends it early; nothing is left running either way.

    Raises:
        ConfigError: no broker, or the cache cannot be used.
        SinkError: the service did not come up.
    """
    material = prepare_material(cache or default_cache(), _say)
    with tempfile.TemporaryDirectory(prefix="edgert-demo-") as name, ExitStack() as undo:
        folder = Path(name)
        broker, port = undo.enter_context(running_broker(folder))
        ports = _Ports(port, free_port(), free_port())
        protocol = "3.1.1" if broker == "amqtt" else "auto"  # amqtt never answers MQTT 5
        file = _write_pipeline(folder, material, ports, protocol, has_tap=snapshots is not None)
        watcher = undo.enter_context(Watcher(port, NODE, _say))
        watcher.is_subscribed.wait(READY_TIMEOUT_S)
        service = _start(undo, ["-m", "edgert.cli", "run", str(file)])
        _wait_ready(watcher, service)
        _say(_introduction(broker, watcher))
        writer = SnapshotWriter(f"tcp://127.0.0.1:{ports.tap}", snapshots) if snapshots else None
        if writer:
            undo.enter_context(writer)
        sender = _start(undo, _sender_arguments(ports.requests, material))
        ran_s = _run_for(seconds, service)
        stop_child(sender)
        code = stop_child(service, STOP_TIMEOUT_S)
        watcher.wait_disconnected(STOP_TIMEOUT_S)
    _conclude(watcher, writer, ran_s)
    return ExitCode(code) if code in set(ExitCode) else ExitCode.BUG


class _Ports(NamedTuple):
    broker: int
    requests: int
    tap: int


def _write_pipeline(folder: Path, material: Material, ports: _Ports, protocol: str, *, has_tap: bool) -> Path:
    write_store(folder / "store", material)
    text = _PIPELINE.format(
        node=NODE,
        street_table=_STREET.format(street=material.street_clip) if material.coco else "",
        driver=material.driver_clip,
        request_port=ports.requests,
        broker_port=ports.broker,
        protocol=protocol,
        tap_table=_TAP.format(tap_port=ports.tap) if has_tap else "",
    )
    file = folder / "demo.toml"
    file.write_text(text)
    return file


def _start(undo: ExitStack, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a Python child that does not get our Ctrl-C, and end it with the stack."""
    child = subprocess.Popen([sys.executable, *arguments], start_new_session=True)
    undo.callback(stop_child, child)
    return child


def _sender_arguments(port: int, material: Material) -> list[str]:
    endpoint = f"router+bind:tcp://127.0.0.1:{port}"
    return ["-m", "edgert.demo.sender", endpoint, str(PICTURES_PER_S), *map(str, material.pictures)]


def _wait_ready(watcher: Watcher, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not watcher.is_ready.wait(0.1):
        if service.poll() is not None:
            raise SinkError(f"The service ended with exit code {service.returncode}; its log is above.")
        if time.monotonic() > deadline:
            raise SinkError(f"The service was not ready within {READY_TIMEOUT_S:.0f} s.")


def _introduction(broker: str, watcher: Watcher) -> str:
    birth = watcher.birth or {}
    engines = ", ".join(f"{model} on {runtime}" for model, runtime in birth.get("models", {}).items())
    device = ", ".join(str(value) for value in birth.get("device", {}).values())
    return f"broker {broker}; device {device}; engines: {engines}"


def _run_for(seconds: float, service: subprocess.Popen[bytes]) -> float:
    """Wait until time is up, Ctrl-C, or the service ends by itself; returns how long that was."""
    began = time.monotonic()
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        service.wait(seconds)
    return time.monotonic() - began


def _conclude(watcher: Watcher, writer: SnapshotWriter | None, ran_s: float) -> None:
    if watcher.stats is not None:
        _say("")
        _say(make_table(watcher.stats, ran_s))
    _say(f"{watcher.results} results received in {ran_s:.1f} s; states seen: {', '.join(watcher.states)}")
    if writer is not None:
        _say(f"{len(writer.written)} annotated frames in {writer.folder}")


def _say(line: str) -> None:
    print(line, flush=True)

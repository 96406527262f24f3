"""`edgert demo`: two clips as cameras and a ZeroMQ client, a broker, a service, a subscriber."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from edgert.demo.broker import free_port, running_broker, stop_child
from edgert.demo.example import NODE, write_example
from edgert.demo.folders import make_empty, scratch_folder
from edgert.demo.leash import leashed
from edgert.demo.material import Material, default_cache, prepare_material
from edgert.demo.snapshots import SnapshotWriter
from edgert.demo.table import counted, make_table
from edgert.demo.watch import Watcher
from edgert.errors import SinkError
from edgert.exit_codes import ExitCode

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PICTURES_PER_S = 4.0
SNAPSHOTS_PER_S = 1.0

_BROKER = 'broker={{type="mqtt", port={port}, protocol="{protocol}", qos=1}}'
_TAP = 'tap={{type="tap", endpoint="pub+bind:tcp://127.0.0.1:{port}", frames_per_s={rate}}}'


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came, which end the demo as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run_demo(seconds: float, snapshots: Path | None, cache: Path | None, keep: Path | None = None) -> int:
    """Run the main job for `seconds` and return the exit code: the service's, or 128 + a signal's number.

    Ctrl-C, SIGTERM and SIGHUP end it early; nothing is left running, even if it is killed.
    `keep` is a new folder for its store and pipeline file, which stay.

    Raises:
        ConfigError: no broker, or a folder cannot be used.
        SinkError: the service did not come up.
    """
    with _stopped_by_signals():
        try:
            return _run_demo(seconds, snapshots, cache, keep)
        except KeyboardInterrupt as interrupt:
            return _exit_code(interrupt)


def _run_demo(seconds: float, snapshots: Path | None, cache: Path | None, keep: Path | None) -> int:
    ports = _Ports(free_port(), free_port())
    if keep:
        make_empty(keep, "--keep")
    writer = SnapshotWriter(f"tcp://127.0.0.1:{ports.tap}", snapshots) if snapshots else None
    material = prepare_material(cache or default_cache(), _say)
    with scratch_folder() as scratch, ExitStack() as undo:
        file = write_example(keep or scratch, material, has_links=keep is None)
        broker, port = undo.enter_context(running_broker(scratch))
        protocol = "3.1.1" if broker == "amqtt" else "auto"  # amqtt never answers MQTT 5
        sinks = [_BROKER.format(port=port, protocol=protocol)]
        sinks += [_TAP.format(port=ports.tap, rate=SNAPSHOTS_PER_S)] if writer else []
        watcher = undo.enter_context(Watcher(port, NODE, _say))
        watcher.is_subscribed.wait(READY_TIMEOUT_S)
        service = _start(undo, _service_arguments(file, ports, sinks))
        _wait_ready(watcher, service)
        _say(_introduction(broker, watcher))
        if writer:
            undo.enter_context(writer)
        sender = _start(undo, _sender_arguments(ports, material))
        ran_s, interrupt = _run_for(seconds, service)
        stop_child(sender)
        code = stop_child(service, STOP_TIMEOUT_S)
        watcher.wait_disconnected(STOP_TIMEOUT_S)
    _conclude(watcher, writer, ran_s)
    if keep:
        _say(f"Kept in {keep}: store, clips, pictures and a pipeline file. Run it: edgert run {file}")
    if interrupt is not None:
        return _exit_code(interrupt)
    return code if code in set(ExitCode) else ExitCode.BUG


class _Ports(NamedTuple):
    requests: int
    tap: int

    @property
    def endpoint(self) -> str:
        """The request source's uri."""
        return f"router+bind:tcp://127.0.0.1:{self.requests}"


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise Stopped in the block; one that is ignored, as by nohup, stays so."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _raise_stopped) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _exit_code(interrupt: KeyboardInterrupt) -> int:
    return 128 + (interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT)


def _start(undo: ExitStack, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a Python child that does not get our Ctrl-C, and end it with the stack."""
    child = subprocess.Popen(leashed([sys.executable, *arguments]), start_new_session=True)
    undo.callback(stop_child, child)
    return child


def _service_arguments(file: Path, ports: _Ports, sinks: list[str]) -> list[str]:
    """Run the example with ports that are free here, and our sinks in place of its own."""
    settings = [
        f"sources.requests.uri={ports.endpoint}",
        f"sinks={{{', '.join(sinks)}}}",
        "service.stats_s=2.0",
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    return ["-m", "edgert.cli", "run", str(file), *options]


def _sender_arguments(ports: _Ports, material: Material) -> list[str]:
    pictures = map(str, material.pictures)
    return ["-m", "edgert.demo.sender", ports.endpoint, str(PICTURES_PER_S), *pictures]


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
    return f"broker {broker}; device {_describe_device(birth.get('device', {}))}; engines: {engines}"


def _describe_device(attributes: dict[str, object]) -> str:
    facts = dict(attributes)
    cores = facts.pop("cores", None)
    words = [str(fact) for fact in facts.values()]
    return ", ".join([*words, counted(cores, "core")] if isinstance(cores, int) else words)


def _run_for(seconds: float, service: subprocess.Popen[bytes]) -> tuple[float, KeyboardInterrupt | None]:
    """Wait until time is up, a signal, or the service ends by itself; returns how long, and the signal."""
    began, interrupt = time.monotonic(), None
    try:
        service.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    except KeyboardInterrupt as caught:
        interrupt = caught
    return time.monotonic() - began, interrupt


def _conclude(watcher: Watcher, writer: SnapshotWriter | None, ran_s: float) -> None:
    if watcher.stats is not None:
        _say("")
        _say(make_table(watcher.stats, ran_s))
    _say(
        f"{counted(watcher.results, 'result')} received in {ran_s:.1f} s; states: {', '.join(watcher.states)}"
    )
    if writer is not None:
        _say(f"{counted(len(writer.written), 'annotated frame')} in {writer.folder}")
        if writer.failed:
            _say(
                f"{counted(writer.failed, 'annotated frame')} could not be written: is {writer.folder} full?"
            )


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:  # the reader or the terminal has gone; the work is ended in good order all the same
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())

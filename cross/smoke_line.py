"""Runs the demo's pipeline in a foreign root until a result of every model has arrived here over MQTT."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cross.errors import CrossError
from cross.smoke_requests import infer, is_ready
from cross.smoke_root import ForeignRoot, end, interrupt
from edgert.client import Client, RequestError
from edgert.demo.broker import free_port, running_broker
from edgert.demo.example import NODE
from edgert.demo.material import Material
from edgert.demo.watch import Watcher

READY_S = 120.0
RESULTS_S = 90.0
STOP_S = 60.0
POLL_S = 0.1
FRAMES_PER_S = 0.5


def run_line(
    inside: ForeignRoot, edgert: str, pipeline: str, material: Material, *, is_listened_to: bool = False
) -> str:
    """Run it with clips as cameras, a picture as a request, and one over HTTP; stop it as systemd would.

    Returns what arrived. The broker is of this machine, on 127.0.0.1; `edgert listen` in the root hears it,
    too, where `is_listened_to`.

    Raises:
        CrossError: it was not ready, a model's result did not arrive, or it did not end with exit code 0.
    """
    heard: list[str] = []
    http_port = free_port()
    endpoint = f"router+bind:tcp://127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        running_broker(Path(folder)) as (broker, port),
        Watcher(port, NODE, heard.append) as watcher,
        Path(folder, "service.log").open("w+") as log,
    ):
        options = _settings(endpoint, port, http_port, material)
        service = inside.start(edgert, "run", pipeline, *options, output=log.fileno())
        try:
            ready_s = _wait(watcher.is_ready.is_set, service, READY_S, "it was not ready")
            if is_listened_to:
                inside.run(edgert, "listen", "--port", str(port), "--count", "1", timeout_s=RESULTS_S)
            _ask(endpoint, material.pictures[0])
            _wait(lambda: is_ready(http_port), service, READY_S, "it serves no requests")
            answered = infer(http_port, "face")
            _wait(lambda: _models(heard) >= expected(material), service, RESULTS_S, "a result is missing")
            _stop(service, watcher)
        except CrossError as error:
            log.seek(0)
            raise CrossError(f"{error}; heard of {describe(heard)}.\n{log.read()[-2000:]}") from error
        finally:
            end(service)
    return f"ready after {ready_s:.1f} s; over {broker}: {describe(heard)}; {answered}"


def _settings(endpoint: str, port: int, http_port: int, material: Material) -> list[str]:
    """Return options of `edgert run`: our broker, and clips so slow that qemu keeps up."""
    clips = ["driver", *(["street"] if material.coco else [])]
    settings = (
        f"sources.requests.uri={endpoint}",
        f'sinks={{broker={{type="mqtt", port={port}, qos=1}}}}',
        f"http.port={http_port}",
        f"service.drain_s={STOP_S / 2}",
        *(f"sources.{clip}.fps={FRAMES_PER_S}" for clip in clips),
    )
    return [word for setting in settings for word in ("--set", setting)]


def expected(material: Material) -> set[str]:
    """Return the models of the demo's example."""
    return {"face", "classify", *(["coco"] if material.coco else [])}


def describe(heard: list[str]) -> str:
    """Return how many results of each model arrived, from the lines that the demo's watcher shows."""
    counts = Counter(map(_model, heard))
    return ", ".join(f"{count} of {model}" for model, count in sorted(counts.items())) or "no result"


def _models(heard: list[str]) -> set[str]:
    return set(map(_model, heard))


def _model(line: str) -> str:
    return line.split()[3]  # clock, source, frame, model


def _wait(
    is_done: Callable[[], bool], service: subprocess.Popen[str], timeout_s: float, problem: str
) -> float:
    began_s = time.monotonic()
    while not is_done():
        waited_s = time.monotonic() - began_s
        if service.poll() is not None:
            raise CrossError(f"edgert run ended with exit code {service.returncode}, {problem}")
        if waited_s > timeout_s:
            raise CrossError(f"{problem} within {timeout_s:.0f} s")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


def _ask(endpoint: str, picture: Path) -> None:
    try:
        with Client(endpoint) as client:
            client.infer(picture.read_bytes(), timeout_s=RESULTS_S)
    except (RequestError, TimeoutError) as error:
        raise CrossError(f"{picture.name}, sent by ZeroMQ, was not answered: {error}") from error


def _stop(service: subprocess.Popen[str], watcher: Watcher) -> None:
    interrupt(service, signal.SIGTERM)
    try:
        code = service.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise CrossError(f"It did not end within {STOP_S:.0f} s of SIGTERM") from None
    if code != 0 or not watcher.wait_disconnected(5.0):
        raise CrossError(f"It ended with exit code {code} after SIGTERM, states {watcher.states}")

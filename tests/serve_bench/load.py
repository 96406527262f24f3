"""Starts senders, see `client`, and tells what came of their requests."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.serve_bench.places import HOST

CLIENT = Path(__file__).with_name("client.py")
END_TIMEOUT_S = 60.0
Protocol = Literal["http", "grpc"]


class Prepared(NamedTuple):
    """A request as it goes over the wire. `proof` stands in every right answer, at its end over HTTP."""

    file: Path
    proof: bytes = b""


class Load(NamedTuple):
    """What senders saw. A request is failed if its answer is neither right nor tolerated."""

    answers: int
    per_s: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]
    failed: int
    failures: dict[str, int]

    @property
    def faultless_per_s(self) -> float:
        """Right answers a second; nothing if a request failed."""
        return 0.0 if self.failed else self.per_s


class Senders:
    """A client's process."""

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=folder, delete=False) as file:
            json.dump(job, file)
        command = [sys.executable, str(CLIENT), file.name]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def result(self, timeout_s: float = END_TIMEOUT_S) -> Load:
        """Tell it to end, unless it does so itself, and wait for what it counted."""
        said, errors = self._child.communicate("end\n", timeout_s)
        if self._child.returncode:
            reason = (errors.strip().splitlines() or ["no message"])[-1]
            return Load(0, 0.0, 0.0, 0.0, {}, 1, {f"the client ended: {reason}": 1})
        return Load(**json.loads(said))

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()

    @property
    def is_running(self) -> bool:
        """Whether it still sends."""
        return self._child.poll() is None


def measure(
    protocol: Protocol,
    port: int,
    request: Prepared,
    senders: int,
    seconds: float,
    *,
    warm_s: float = 0.5,
) -> Load:
    """Send for `seconds` after a warm-up."""
    job = _job(protocol, port, request, senders) | {"seconds": seconds, "warm_s": warm_s}
    client = Senders(job, request.file.parent)
    try:
        return client.result(warm_s + seconds + END_TIMEOUT_S)
    finally:
        client.close()


@contextmanager
def sending(
    protocol: Protocol, port: int, request: Prepared, senders: int, tolerated: Sequence[str] = ()
) -> Iterator[Senders]:
    """Send while entered; ask for the `result` before leaving."""
    job = _job(protocol, port, request, senders) | {"seconds": 0, "warm_s": 0, "tolerated": list(tolerated)}
    client = Senders(job, request.file.parent)
    try:
        yield client
    finally:
        client.close()


def together(loads: Sequence[Load]) -> Load:
    """Return loads that ran side by side as one."""
    statuses, failures = Counter[str](), Counter[str]()
    for load in loads:
        statuses.update(load.statuses)
        failures.update(load.failures)
    return Load(
        sum(load.answers for load in loads),
        sum(load.per_s for load in loads),
        max(load.p50_ms for load in loads),
        max(load.p99_ms for load in loads),
        dict(statuses),
        sum(load.failed for load in loads),
        dict(failures),
    )


def _job(protocol: Protocol, port: int, request: Prepared, senders: int) -> dict[str, Any]:
    return {
        "protocol": protocol,
        "host": HOST,
        "port": port,
        "request_file": str(request.file),
        "proof": request.proof.hex(),
        "senders": senders,
        "tolerated": [],
    }

"""A server as a process group: started, asked whether it is ready, weighed, and ended whatever happens."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgert.demo.leash import leashed
from tests.serve_bench.memory import Memory, memory_of
from tests.serve_bench.places import HOST, free_ports

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.003
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server did not start, or ended by itself."""


class Server:
    """A context manager; entered, it is ready. `start_s` is from the process's start to ready."""

    title = "server"

    def __init__(self, folder: Path) -> None:
        """`folder` gets its log and what else it needs."""
        self.folder = folder
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.start_s = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return what to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the variables that it gets."""
        return os.environ

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = leashed(self.command())
        with self.log_file.open("wb") as log:
            began_s = time.perf_counter()
            self._child = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment(), start_new_session=True
            )
        try:
            self._await_ready(began_s + START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - began_s
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log_file(self) -> Path:
        """What it said."""
        return self.folder / "server.log"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """End it and all that it started."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def memory(self) -> Memory:
        """Weigh all its processes."""
        return memory_of(self._pids())

    def cpu_s(self) -> float:
        """Return the CPU time that its processes have used."""
        return sum(cpu_s_of(pid) for pid in self._pids())

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of one HTTP request."""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=START_TIMEOUT_S)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def last_lines(self, count: int = 3) -> str:
        """Return the end of its log."""
        return "\n".join(self.log_file.read_text(errors="replace").strip().splitlines()[-count:])

    def _await_ready(self, until_s: float) -> None:
        while not self._is_ready():
            if not self.is_running:
                raise ServerError(f"{self.title} ended before it was ready:\n{self.last_lines(20)}")
            if time.perf_counter() > until_s:
                raise ServerError(f"{self.title} is not ready:\n{self.last_lines(20)}")
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        try:
            return self.ask("GET", "/v2/health/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def said_of_faults(self) -> int:
        """Return how many faults its log tells of that are its own."""
        return self.log_file.read_text(errors="replace").count("Traceback (most recent call last)")

    def _pids(self) -> Iterator[int]:
        if self._child is None:
            return
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = _stat_fields(int(folder.name))
            except OSError:
                continue
            if int(fields[2]) == self._child.pid:
                yield int(folder.name)


def cpu_s_of(pid: int) -> float:
    """Return user and system time of a process; 0 if it is gone."""
    try:
        fields = _stat_fields(pid)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _CLOCK_HZ


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, group, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

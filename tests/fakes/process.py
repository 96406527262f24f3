"""`edgert run` as a child process, watched through its log."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

COMMAND = (sys.executable, "-W", "error", "-m", "edgert.cli")
WAIT_S = 30.0  # before a test gives up


def edgert(*arguments, **options) -> subprocess.CompletedProcess:
    """Run a command of edgert to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        **options,
    )


class Service:
    """`edgert run FILE`. On exit it is killed if it still runs. `prelude` is Python that runs before it."""

    def __init__(self, file: Path, *arguments, prelude: str = "") -> None:
        code = f"import sys; from edgert.cli import main; {prelude}; sys.exit(main())"
        command = [sys.executable, "-W", "error", "-c", code] if prelude else COMMAND
        self.lines: list[str] = []
        self.output: list[str] = []
        self._changed = threading.Condition()
        self._open_pipes = 2
        self._process = subprocess.Popen(
            [*command, "run", str(file), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a test's Ctrl-C goes to the process group
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stderr, self.lines)),
            threading.Thread(target=self._read, args=(self._process.stdout, self.output)),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(WAIT_S)
        for reader in self._readers:
            reader.join(WAIT_S)
        self._process.stdout.close()
        self._process.stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_log(self, pattern: str, count: int = 1) -> re.Match:
        """Return the match of the `count`th line of the log that has the pattern, once it is there."""
        found: list[re.Match] = []

        def is_there() -> bool:
            found[:] = [match for line in self.lines if (match := re.search(pattern, line))]
            return len(found) >= count or self._has_ended()

        with self._changed:
            self._changed.wait_for(is_there, WAIT_S)
        assert len(found) >= count, f"No {pattern!r} in the log: {self.lines}"
        return found[count - 1]

    def wait_output(self, count: int) -> list[dict]:
        """Return what is on standard output, once it has `count` lines."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.output) >= count or self._has_ended(), WAIT_S)
        assert len(self.output) >= count, f"{len(self.output)} lines; the log: {self.lines}"
        return [json.loads(line) for line in self.output]

    def wait_ready(self) -> None:
        self.wait_log("ready after")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code."""
        code = self._process.wait(WAIT_S)
        for reader in self._readers:
            reader.join(WAIT_S)
        return code

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def events(self) -> list[dict]:
        """Return the log's lines as the JSON that they are."""
        return [json.loads(line) for line in self.lines]

    def url(self) -> str:
        """Return where it answers HTTP."""
        return self.wait_log(r"http: health and metrics at (http://[^\s\"]+)")[1]

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Ask over HTTP; return status and body."""
        request = urllib.request.Request(self.url() + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _has_ended(self) -> bool:
        return self._open_pipes == 0

    def _read(self, pipe, lines: list[str]) -> None:
        for line in pipe:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._open_pipes -= 1
            self._changed.notify_all()

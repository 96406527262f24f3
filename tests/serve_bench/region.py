"""A POSIX shared memory object as a client makes it, registered with a server."""

from __future__ import annotations

import json
import os
from multiprocessing.shared_memory import SharedMemory

from tests.serve_bench.prepared import Array
from tests.serve_bench.server import Server


class Region:
    """A context manager; entered, the server knows it under its name."""

    def __init__(self, server: Server, name: str, size: int, values: Array | None = None) -> None:
        """It begins with `values`."""
        self._server = server
        self.name = name
        self.size = size
        self._values = values
        self._memory: SharedMemory

    def __enter__(self) -> Region:
        key = f"edgert-bench-{os.getpid()}-{self.name}"
        self._memory = SharedMemory(key, create=True, size=self.size)
        if self._values is not None:
            data = self._values.tobytes()
            self._memory.buf[: len(data)] = data
        told = json.dumps({"key": f"/{key}", "offset": 0, "byte_size": self.size}).encode()
        self._ask("register", told)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._server.is_running:
                self._ask("unregister", b"")
        finally:
            self._memory.close()
            self._memory.unlink()

    def _ask(self, verb: str, body: bytes) -> None:
        path = f"/v2/systemsharedmemory/region/{self.name}/{verb}"
        status, answer = self._server.ask("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{self._server.title} does not {verb} shared memory: {answer.decode()}")

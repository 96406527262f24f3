"""Requests that are right, while something else goes on; and how the server came through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.serve_bench.bench import Bench
from tests.serve_bench.load import Load, Protocol, Senders, sending, together
from tests.serve_bench.prepared import identity_values, prepare
from tests.serve_bench.server import Server

SENDERS: dict[Protocol, int] = {"http": 2, "grpc": 2}
GROWTH_LIMIT_MB = 4.0  # the heap's holes fill within some 1,000 loads, 2.4 MB; 4,000 take no more


class Witness:
    """Good senders, and what the server weighs from time to time."""

    def __init__(self, server: Server, clients: list[Senders]) -> None:
        self.server = server
        self._clients = clients
        self._weights_mb: list[float] = []

    def weigh(self) -> None:
        """Note what the server weighs now."""
        self._weights_mb.append(self.server.memory().alone_bytes / 1e6)

    @property
    def grown_mb(self) -> float:
        """From the first weighing to the last."""
        return self._weights_mb[-1] - self._weights_mb[0] if self._weights_mb else 0.0

    def end(self) -> Load:
        """Stop the senders and return what they saw."""
        return together([client.result() for client in self._clients])

    def survived(self) -> bool:
        """Say whether the server lives, is ready, and has told of no fault of its own."""
        server = self.server
        is_ready = server.is_running and server.ask("GET", "/v2/health/ready")[0] == 200
        return is_ready and not server.said_of_faults()

    def told(self, load: Load) -> str:
        """Say it."""
        faults = self.server.said_of_faults()
        text = f"{load.failed} of {load.answers} good requests failed; {self.grown_mb:+.2f} MB"
        text += f"; {faults} tracebacks" if faults else ""
        return text if self.survived() else f"{text}; NOT well"


@contextmanager
def watched(bench: Bench, server: Server, model: str = "identity") -> Iterator[Witness]:
    """Send good requests to a model while entered."""
    ports: dict[Protocol, int] = {"http": server.http_port, "grpc": server.grpc_port}
    with ExitStack() as stack:
        clients = []
        for protocol, count in SENDERS.items():
            request = prepare(bench.folder, protocol, model, "INPUT0", identity_values(), is_echoed=True)
            clients.append(stack.enter_context(sending(protocol, ports[protocol], request, count)))
        yield Witness(server, clients)

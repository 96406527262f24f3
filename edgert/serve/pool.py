"""An HTTP server with a few threads that stay, so that no client holds up all others."""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer
from typing import Any

log = logging.getLogger(__name__)

THREADS = 4
REQUEST_S = 5.0  # a request that takes longer to arrive, or its answer to leave, is given up
LOOK_UP_S = 0.2  # how often a thread looks whether it is to end


class PooledServer(HTTPServer):
    """Answers `THREADS` requests side by side. `start` and `stop` once each."""

    timeout = LOOK_UP_S

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)
        self.socket.setblocking(False)  # several threads hear of a connection, one gets it
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._serve, name="http", daemon=True) for _ in range(THREADS)
        ]

    def start(self) -> None:
        """Answer requests."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the socket. A request that is being answered gets a second to finish."""
        self._is_stopping = True
        deadline = time.monotonic() + 1.0
        for thread in self._threads:
            thread.join(max(LOOK_UP_S * 2, deadline - time.monotonic()))
        self.server_close()

    def server_bind(self) -> None:
        """Bind, without the base's look-up of the host's name: without a name server it takes seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one request; the base prints it."""
        is_client = isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError))
        log.log(logging.DEBUG if is_client else logging.ERROR, "a request failed", exc_info=not is_client)

    def _serve(self) -> None:
        while not self._is_stopping:
            self.handle_request()


class BoundedHandler(BaseHTTPRequestHandler):
    """Reads a request within `REQUEST_S` in all, however slowly its client sends."""

    timeout = REQUEST_S

    def setup(self) -> None:
        """Replace the base's reader, whose time limit begins anew with each byte."""
        super().setup()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection, time.monotonic() + REQUEST_S))


class _DeadlineReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(REQUEST_S)

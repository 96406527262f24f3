"""HTTP beside the pipeline: health, metrics and model control, one request at a time on one thread."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote

from edgert.errors import ConfigError, EdgertError
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")
_REQUEST_TIMEOUT_S = 5.0
_MAX_BODY_BYTES = 65536
LOOK_UP_S = 0.2  # how often the thread looks whether it is to end


class Backend(Protocol):
    """What the front asks of the service."""

    def is_ready(self) -> bool:
        """Say whether every model is loaded and the service is not stopping."""

    def report(self) -> dict[str, Any]:
        """Return all counts, as published on the `stats` topic."""

    def index(self) -> list[dict[str, str]]:
        """Return the models with version, state and reason."""

    def load(self, model: str) -> None:
        """Load or reload a model."""

    def unload(self, model: str) -> None:
        """Unload a model."""


class HttpServer:
    """Answers `/v2/health/live`, `/v2/health/ready`, `/metrics`, `/v2/repository/...`."""

    live: ClassVar[LiveCount] = LiveCount("http server")

    def __init__(self, host: str, port: int, backend: Backend, *, control: bool) -> None:
        self._address = (host, port)
        self._backend = backend
        self._control = control
        self._server: HTTPServer | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> str:
        """Listen, and return the URL. Raises ConfigError if the address cannot be had."""
        handler = type(
            "Handler", (_Handler,), {"backend": self._backend, "is_control_allowed": self._control}
        )
        kind = _Ipv6Server if ":" in self._address[0] else _Server
        try:
            self._server = kind(self._address, handler)
        except OSError as error:
            place = f"{self._address[0]}:{self._address[1]}"
            raise ConfigError(
                f"http: cannot listen on {place}: {error}. Choose another http.port."
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_UP_S,), name="http", daemon=True
        )
        self._thread.start()
        self.live.opened()
        host = f"[{self._address[0]}]" if kind is _Ipv6Server else self._address[0]
        return f"http://{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None
        self.live.closed()


class _Server(HTTPServer):
    def server_bind(self) -> None:
        """Bind, without the base's look-up of the host's name: without a name server it takes seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one request; the base prints it."""
        is_client = isinstance(sys.exc_info()[1], ConnectionError)
        log.log(logging.DEBUG if is_client else logging.ERROR, "a request failed", exc_info=not is_client)


class _Ipv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    backend: Backend
    is_control_allowed: bool
    timeout = _REQUEST_TIMEOUT_S  # a client that says nothing does not hold the one thread
    server_version = "edgert"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = self._pages().get(path)
        if answer is None:
            self._send_error(404, f"unknown path {path}")
        else:
            answer()

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self._send_error(413, f"a body of at most {_MAX_BODY_BYTES} bytes is accepted")
            return
        self.rfile.read(int(length))
        path = self.path.partition("?")[0]
        control = _CONTROL.fullmatch(path)
        if path == "/v2/repository/index":
            self._send_json(200, self.backend.index())
        elif control is None:
            self._send_error(404, f"unknown path {path}")
        elif not self.is_control_allowed:
            self._send_error(403, "model control is off; set http.control = true in the pipeline file")
        else:
            self._change(unquote(control[1]), control[2])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        log.debug("http: %s", format % args)

    def _pages(self) -> dict[str, Callable[[], None]]:
        return {
            "/v2/health/live": lambda: self._send(200, b"", "text/plain"),
            "/v2/health/ready": lambda: self._send(
                200 if self.backend.is_ready() else 503, b"", "text/plain"
            ),
            "/v2/repository/index": lambda: self._send_json(200, self.backend.index()),
            "/metrics": self._send_metrics,
        }

    def _change(self, model: str, verb: str) -> None:
        try:
            self.backend.load(model) if verb == "load" else self.backend.unload(model)
        except EdgertError as error:
            self._send_error(400, str(error))
        else:
            self._send_json(200, {})

    def _send_metrics(self) -> None:
        from edgert.serve.metrics import CONTENT_TYPE, render  # its client costs 3 MB until it is asked for

        self._send(200, render(self.backend.report()), CONTENT_TYPE)

    def _send_error(self, status: int, message: str) -> None:
        self._send_json(status, {"error": message})

    def _send_json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

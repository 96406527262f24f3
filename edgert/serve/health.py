"""HTTP beside the pipeline: health, metrics, allocations and model control."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote

from edgert.errors import ConfigError, EdgertError
from edgert.serve.pool import BoundedHandler, PooledServer
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")
_MAX_BODY_BYTES = 65536


class Backend(Protocol):
    """What the front asks of the service."""

    def is_ready(self) -> bool:
        """Say whether every model is loaded and the service is not stopping."""

    def report(self) -> dict[str, Any]:
        """Return all counts, as published on the `stats` topic."""

    def index(self) -> list[dict[str, str]]:
        """Return the models with version, state and reason."""

    def allocations(self) -> dict[str, Any]:
        """Return who holds how much memory, and the newest allocations and releases."""

    def load(self, model: str) -> None:
        """Load or reload a model."""

    def unload(self, model: str) -> None:
        """Unload a model."""


class HttpServer:
    """Answers `/v2/health/live`, `/v2/health/ready`, `/metrics`, `/v1/allocations`, `/v2/repository/...`."""

    live: ClassVar[LiveCount] = LiveCount("http server")

    def __init__(self, host: str, port: int, backend: Backend, *, control: bool) -> None:
        self._address = (host, port)
        self._backend = backend
        self._control = control
        self._server: PooledServer | None = None

    def open(self) -> str:
        """Listen, and return the URL. Raises ConfigError if the address cannot be had."""
        handler = type(
            "Handler", (_Handler,), {"backend": self._backend, "is_control_allowed": self._control}
        )
        host, port = self._address
        try:
            self._server = PooledServer(self._address, handler)
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {host}:{port}: {error}. Choose another http.port."
            ) from error
        self._server.start()
        self.live.opened()
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening. Allowed also when not open."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            self.live.closed()


class _Handler(BoundedHandler):
    backend: Backend
    is_control_allowed: bool
    server_version = "edgert"
    sys_version = ""

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        path = self.path.partition("?")[0]
        answer = self._pages().get(path)
        if answer is None:
            self._send_error(404, f"unknown path {path}")
        else:
            answer()

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
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
        elif "Origin" in self.headers:  # a browser says so: some page tries to reach this machine through it
            self._send_error(403, "models are not changed by web pages")
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
            "/v1/allocations": lambda: self._send_json(200, self.backend.allocations()),
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

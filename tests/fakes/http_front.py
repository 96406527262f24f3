"""An HTTP front over the fake core, and a client that sends just the bytes that a test gives it."""

from __future__ import annotations

import json
import socket
import ssl
from contextlib import ExitStack

import msgspec
import numpy as np

from edgert.serve.bodies import Bodies
from edgert.serve.front import Front
from edgert.serve.gate import Gate
from edgert.serve.http.server import HttpFront
from edgert.serve.options import LimitOptions, ServeOptions
from edgert.serve.shared_memory import SharedMemory
from edgert.stats import CopyCounts
from tests.fakes.core import FakeCore

WAIT_S = 10.0  # real seconds before a test that waits for an answer gives up


class Answer(msgspec.Struct):
    """What came back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        """Return the body's JSON; NaN is a number."""
        return json.loads(self.body)

    @property
    def error(self):
        """The text of an error."""
        return self.json()["error"]


class RawClient:
    """One connection."""

    def __init__(self, port, context=None):
        plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
        self._received = b""

    def send(self, *pieces):
        """Send bytes."""
        for piece in pieces:
            self.socket.sendall(piece)

    def ask(self, method, path, body=b"", **headers):
        """Send a request and return its answer."""
        self.send(request(method, path, body, **headers))
        return self.answer(has_body=method != "HEAD")

    def answer(self, *, has_body=True):
        """Wait for an answer and return it."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        size = int(headers.get("content-length", 0)) if has_body else 0
        while len(self._received) < size:
            self._receive()
        body, self._received = self._received[:size], self._received[size:]
        return Answer(int(head[0].split()[1]), headers, body)

    def is_closed(self):
        """Wait until the server has closed the connection; False if it sends something."""
        try:
            return not self._received and self.socket.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _until(self, end):
        while end not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(end)
        return found

    def _receive(self):
        data = self.socket.recv(1 << 20)
        assert data, f"The server closed the connection after {self._received!r}."
        self._received += data


class HttpSite:
    """A front that listens, as a context manager. `limits` are LimitOptions' fields, `options` its own."""

    def __init__(self, *, limits=None, control=True, token="", pages=None, has_regions=True, **options):
        self.core = FakeCore()
        self.copies = CopyCounts()
        self.regions = SharedMemory(self.copies) if has_regions else None
        self._options = ServeOptions(limits=LimitOptions(**(limits or {})), **options)
        self.gate = Gate(self._options.limits.requests, Bodies(self._options.limits))
        self._settings = {"control_allowed": control, "pages": pages or {}}
        self._token = token
        self._stack = ExitStack()
        self.front = Front(self._make)
        self.http = None
        self.port = 0

    def __enter__(self):
        self._stack.enter_context(self.core)
        if self.regions is not None:
            self._stack.callback(self.regions.close)
        with self._stack:
            [self.address] = self.front.open()
            self._stack.callback(self.front.close, 1.0)
            self._stack = self._stack.pop_all()
        self.port = int(self.address.rpartition(":")[2])
        return self

    def __exit__(self, *_):
        self._stack.close()

    def client(self, context=None):
        """Return a connection."""
        return RawClient(self.port, context)

    def ask(self, method, path, body=b"", **headers):
        """Send a request on a connection of its own and return its answer."""
        with self.client() as client:
            return client.ask(method, path, body, **headers)

    def infer(self, model, tree, **headers):
        """Send an inference in JSON."""
        return self.ask("POST", f"/v2/models/{model}/infer", json.dumps(tree).encode(), **headers)

    def _make(self):
        self.http = HttpFront(
            "127.0.0.1",
            0,
            self.core,
            self._options,
            **self._settings,
            regions=self.regions,
            gate=self.gate,
            token=self._token,
        )
        return [self.http]


def request(method, path, body=b"", **headers):
    """Return a request's bytes; `_` in a header's name is written `-`."""
    if body:
        headers.setdefault("Content_Length", len(body))
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body


def binary_request(model, array, *, name="INPUT0", datatype="FP32", data=None, head=None, **headers):
    """Return a request with one binary input, whose outputs are wanted binary too."""
    data = np.ascontiguousarray(array).tobytes() if data is None else data
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": len(data)}
    tree = {"inputs": [tensor], "parameters": {"binary_data_output": True}} | (head or {})
    text = json.dumps(tree).encode()
    length = {"Inference_Header_Content_Length": len(text)}
    return request("POST", f"/v2/models/{model}/infer", text + data, **(length | headers))

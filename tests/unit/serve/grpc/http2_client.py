"""A client of HTTP/2 that sends what it is told to, wrong or not."""

from __future__ import annotations

import socket
import struct

from edgert.serve.grpc.transport.hpack import HeaderDecoder
from edgert.serve.grpc.transport.http2 import (
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    PREFACE,
    Kind,
    frame,
)
from tests.unit.serve.grpc.asking import SERVICE, message

TIMEOUT_S = 5.0
CALL = {
    ":method": "POST",
    ":scheme": "http",
    ":path": SERVICE + "ModelInfer",
    "te": "trailers",
    "content-type": "application/grpc",
}


def literal(name, value):
    """Return a header as HPACK writes it without its table; both shorter than 127 bytes."""
    name, value = name.encode(), value.encode()
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def block(**changes):
    """Return the headers of a ModelInfer; a header that is None is left out."""
    headers = {
        **CALL,
        **{name.replace("_", "-").replace("--", ":"): value for name, value in changes.items()},
    }
    return b"".join(literal(name, value) for name, value in headers.items() if value is not None)


def framed(data, flag=0):
    """Return a message with its prefix."""
    return bytes((flag,)) + struct.pack(">I", len(data)) + data


INFER = framed(message().SerializeToString())


class Client:
    """Sends and receives frames."""

    def __init__(self, address, *, preface=PREFACE, settings=b""):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._headers = HeaderDecoder(1 << 16, 100)
        if preface:
            self.send_bytes(preface + frame(Kind.SETTINGS, 0, 0, settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send_bytes(self, data):
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send(self, kind, flags=0, stream=0, content=b""):
        """Send a frame."""
        self.send_bytes(frame(kind, flags, stream, content))

    def call(self, stream=1, data=INFER, **changes):
        """Send a whole call."""
        self.send(Kind.HEADERS, END_HEADERS, stream, block(**changes))
        self.send(Kind.DATA, END_STREAM, stream, data)

    def read(self):
        """Return the next frame: kind, flags, stream, content; None at the end."""
        head = self._take(HEAD_BYTES)
        if head is None:
            return None
        length_and_kind, flags, stream = struct.unpack(">IBI", head)
        content = self._take(length_and_kind >> 8) if length_and_kind >> 8 else b""
        return length_and_kind & 0xFF, flags, stream, content

    def read_kind(self, kind):
        """Return the next frame of a kind, others left out; None at the end."""
        while (read := self.read()) is not None:
            if read[0] == kind:
                return read
        return None

    def status(self):
        """Return gRPC's status of the next call that ends, and its text."""
        while (read := self.read_kind(Kind.HEADERS)) is not None:
            headers = self._headers.decode(read[3])
            if read[1] & END_STREAM:
                status = int(headers.get(b"grpc-status", b"-1"))
                return status, headers.get(b"grpc-message", headers.get(b":status", b"")).decode()
        return None

    def error(self):
        """Return the code of the GOAWAY that ends the connection; None if it just ends."""
        goaway = self.read_kind(Kind.GOAWAY)
        return None if goaway is None else struct.unpack(">II", goaway[3][:8])[1]

    def _take(self, size):
        while len(self._buffer) < size:
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

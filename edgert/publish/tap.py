"""Sampled frames with their results, to ZeroMQ subscribers.

A message is `[source, header, pixels]`. The header is msgpack: the frame header of the wire format, and
`model` and `result`, the JSON text that other sinks publish. The pixels are raw, as `format` says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import zmq

from edgert.errors import ClosedError, ConfigError, SinkError
from edgert.frames.frame import Frame
from edgert.frames.result import Result
from edgert.publish.options import TAP_ENDPOINT, TapOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import CountingEncoder, DeliveryThread, SinkCounts, SinkQueue
from edgert.publish.sink import SinkPulse, SinkStats
from edgert.stats import CopyCounts, LiveCount

Parts = list[bytes]


class TapHeader(msgspec.Struct, gc=False):
    """What stands before the pixels."""

    v: int
    source: str
    seq: int
    captured_utc_ns: int
    format: str
    height: int
    width: int
    model: str
    result: str


class Picture(msgspec.Struct, gc=False, eq=False):
    """A copy of a frame's pixels, with what is known of it."""

    result: Result
    format: str
    pixels: bytes

    @property
    def captured_mono_ns(self) -> int:
        """By time.monotonic_ns."""
        return self.result.captured_mono_ns


class ZmqTap:
    """A Tap on a PUB socket: a slow subscriber loses frames, nobody else does."""

    live: ClassVar[LiveCount] = LiveCount("tap socket")

    def __init__(
        self, name: str, options: TapOptions, encoder: ResultEncoder, copies: CopyCounts | None = None
    ) -> None:
        self.name = name
        self._options = options
        self._copies = copies or CopyCounts()
        self._interval_ns = int(1e9 / options.frames_per_s) if options.frames_per_s else 0
        self._due_ns: dict[str, int] = {}
        self._counts = SinkCounts()
        self._queue: SinkQueue[Picture] = SinkQueue(options.queue, self._counts)
        self._encoder = CountingEncoder(name, encoder, self._counts)
        self._encode_header = msgspec.msgpack.Encoder().encode
        self._thread = DeliveryThread(name, self._queue, self._counts, self._encode, self._write)
        self._ipc_file: Path | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None

    def open(self) -> None:
        """Bind or connect. Raises ConfigError if the endpoint is taken or impossible."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self.live.opened()
        self._socket.sndhwm = self._options.queue
        try:
            self._attach(self._socket)
        except zmq.ZMQError as error:
            self._disconnect(0.0)
            raise ConfigError(f"Tap {self.name}: endpoint {self._options.endpoint}: {error}") from error
        self._thread.start()

    def wants(self, source: str, now_mono_ns: int) -> bool:
        """Say whether this frame's pixels are wanted, and count it as taken. Cheap; any thread."""
        if now_mono_ns < self._due_ns.get(source, 0):
            return False
        self._due_ns[source] = now_mono_ns + self._interval_ns
        return True

    def give_back(self, source: str) -> None:
        """Say that a frame that was counted as taken is not offered: the next one is wanted. Any thread."""
        self._due_ns.pop(source, None)

    def offer(self, frame: Frame, result: Result) -> None:
        """Copy the pixels, once, and queue them. The caller may release its slot on return."""
        pixels = frame.image().tobytes()
        self._copies.add("host_to_host", len(pixels))
        self._queue.put(Picture(result, frame.format, pixels))

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, at most for `timeout_s`, then close the socket."""
        deadline_s = time.monotonic() + timeout_s
        self._thread.stop(timeout_s)
        self._disconnect(max(0.0, deadline_s - time.monotonic()))

    def statistics(self) -> SinkStats:
        """Return what the tap did, in frames."""
        return self._queue.statistics(is_connected=self._socket is not None)

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far its thread has come."""
        return [self._thread.pulse()]

    def _attach(self, socket: zmq.Socket[bytes]) -> None:
        found = TAP_ENDPOINT.fullmatch(self._options.endpoint)
        if found is None:
            raise ConfigError(f"Tap {self.name}: endpoint {self._options.endpoint} is not one")
        attach = socket.bind if found["verb"] == "bind" else socket.connect
        attach(found["address"])
        if found["verb"] == "bind" and found["address"].startswith("ipc:///"):
            self._ipc_file = Path(found["address"].removeprefix("ipc://"))

    def _disconnect(self, linger_s: float) -> None:
        """Close the socket; what ZeroMQ still holds gets `linger_s` to leave."""
        socket, self._socket = self._socket, None
        context, self._context = self._context, None
        if socket is not None and context is not None:
            socket.close(linger=int(linger_s * 1000))
            context.term()
            self.live.closed()
            self._remove_ipc_file()

    def _remove_ipc_file(self) -> None:
        """Remove the file of our own bound socket, which libzmq leaves behind."""
        path, self._ipc_file = self._ipc_file, None
        if path is not None:
            path.unlink(missing_ok=True)

    def _encode(self, picture: Picture) -> Parts | None:
        result = picture.result
        text = self._encoder.encode(result)
        if text is None:
            return None
        header = TapHeader(
            v=1,
            source=result.source,
            seq=result.seq,
            captured_utc_ns=result.captured_utc_ns,
            format=picture.format,
            height=result.height,
            width=result.width,
            model=result.model,
            result=text.decode(),
        )
        return [result.source.encode(), self._encode_header(header), picture.pixels]

    def _write(self, messages: list[Parts]) -> None:
        socket: Any = self._socket
        if socket is None:
            raise ClosedError("The tap is not open.")
        try:
            for parts in messages:
                # ZeroMQ copies once more. Without that, pyzmq would start a thread that never ends.
                socket.send_multipart(parts)
                self._copies.add("host_to_host", len(parts[-1]))
        except zmq.ZMQError as error:
            raise SinkError(f"tap endpoint {self._options.endpoint}: {error}") from error

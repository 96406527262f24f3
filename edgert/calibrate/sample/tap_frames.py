"""Frames from the tap of a running service: the other side of `publish/tap.py`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
import zmq

from edgert.calibrate.sample.candidate import Candidate
from edgert.calibrate.sample.options import SampleOptions, TapLinkOptions
from edgert.calibrate.sample.thinning import Thinning
from edgert.capture.pace import Clock
from edgert.errors import ConfigError, FrameError, SourceError
from edgert.frames.frame import image_bytes, image_shape
from edgert.stats import LiveCount

SLICE_MS = 200  # longest wait for a message before time and silence are looked at
HELD_MESSAGES = 4  # frames that ZeroMQ keeps for us; more are old by the time they are read
REMEMBERED = 256  # frames that may come again: the tap sends one for each model that has seen it

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TapFrameHeader(msgspec.Struct):
    """What is read of a tap's header; the result in it is not."""

    v: Literal[1]
    source: str
    seq: Count
    captured_utc_ns: Count
    format: Literal["bgr8", "rgb8", "gray8", "nv12"]
    height: int
    width: int


class TapFrames:
    """Subscribes to a tap. Each frame is given once, however many models have seen it."""

    is_in_order = True
    live: ClassVar[LiveCount] = LiveCount("tap subscription")

    def __init__(self, link: TapLinkOptions, sample: SampleOptions, clock: Clock | None = None) -> None:
        self.total = sample.frames_limit(is_endless=True)
        self._link = link
        self._name = str(link.spec()).removeprefix("sub+")
        self._patience_s = sample.patience_s
        self._clock = clock or Clock()
        self._thinning = Thinning(sample.every, sample.frames_per_s, sample.duration_s, self.total)
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._decode = msgspec.msgpack.Decoder(TapFrameHeader).decode
        self._refused = 0
        self._complaint = ""  # of the first message that was refused

    def read(self) -> Generator[Candidate, None, None]:
        """Yield frames until enough were taken. Raises SourceError if none comes for `patience_s`."""
        with self._subscribed() as socket:
            heard_ns = self._clock.monotonic_ns()
            while not self._thinning.is_over(self._clock.monotonic_ns()):
                candidate = self._receive(socket)
                now_ns = self._clock.monotonic_ns()
                if candidate is None:
                    self._demand_patience(now_ns - heard_ns)
                    continue
                heard_ns = now_ns
                if self._thinning.take(now_ns):
                    yield candidate

    def warnings(self) -> list[str]:
        """Return how many messages were refused."""
        if not self._refused:
            return []
        return [f"tap {self._name}: {self._refused} messages were refused, the first: {self._complaint}"]

    @contextmanager
    def _subscribed(self) -> Iterator[Any]:
        """Yield a socket. A tap that is away is waited for."""
        spec = self._link.spec()
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        self.live.opened()
        try:
            socket.setsockopt(zmq.MAXMSGSIZE, int(self._link.max_frame_mb * 2**20))
            socket.rcvhwm = HELD_MESSAGES
            socket.setsockopt(zmq.SUBSCRIBE, self._link.source.encode())
            attach = socket.bind if spec.binds else socket.connect
            attach(spec.target)
            yield socket
        except zmq.ZMQError as error:
            raise ConfigError(f"[sample.tap] endpoint = {self._link.endpoint!r}: {error}") from error
        finally:
            socket.close(linger=0)
            context.term()
            self.live.closed()

    def _receive(self, socket: Any) -> Candidate | None:
        """Return the next new frame; None if none comes soon, or what came is none."""
        if not socket.poll(SLICE_MS):
            return None
        parts = socket.recv_multipart()
        try:
            return self._unpack(parts)
        except FrameError as error:
            self._refused += 1
            self._complaint = self._complaint or str(error)
            return None

    def _unpack(self, parts: list[bytes]) -> Candidate | None:
        if len(parts) != 3:
            raise FrameError(f"A message has {len(parts)} parts; expected source, header and pixels.")
        header = self._parse(parts[1])
        if self._link.source not in ("", header.source):
            return None
        shape = image_shape(header.format, header.height, header.width)
        if image_bytes(shape) != len(parts[2]):
            size = f"{header.width}x{header.height}"
            raise FrameError(f"A {header.format} frame of {size} cannot have {len(parts[2])} bytes.")
        if self._is_known(header):
            return None
        image = np.frombuffer(parts[2], np.uint8).reshape(shape)
        source = f"tap:{header.source}#{header.seq}"
        return Candidate(image, header.format, source, header.captured_utc_ns)

    def _parse(self, data: bytes) -> TapFrameHeader:
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FrameError(f"The header of {len(data)} bytes is refused: {error}.") from error

    def _is_known(self, header: TapFrameHeader) -> bool:
        key = header.source, header.seq
        is_known = key in self._seen
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return is_known

    def _demand_patience(self, silent_ns: int) -> None:
        if silent_ns < self._patience_s * 1e9:
            return
        of_whom = f" of source {self._link.source!r}" if self._link.source else ""
        raise SourceError(
            f"No frame{of_whom} came from the tap at {self._link.endpoint} within {self._patience_s:g} s. "
            "Does `edgert run` run with a sink of type tap at this endpoint, do its sources deliver, and are "
            f"its frames below max_frame_mb = {self._link.max_frame_mb:g}?"
        )

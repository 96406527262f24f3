"""Frames from other processes over ZeroMQ, and answers to those who ask for them.

libzmq collects all parts of a message before it hands them over. `max_frame_mb` bounds each part, and
parts beyond those a message may have are thrown away unread, but libzmq has no bound on their number:
let only senders you trust reach an endpoint. `SourceOptions.check` makes a person say that they are.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import zmq

from edgert.capture.answers import Answer, Encode, Outbox, Requester
from edgert.capture.ipc import demand_free, ipc_path
from edgert.capture.message import (
    MAX_HEADER_BYTES,
    PayloadReader,
    SequenceGaps,
    envelope_length,
    is_json,
    parse_header,
)
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.source import Captured
from edgert.capture.unforeseen import UnforeseenError, unforeseen_as
from edgert.errors import ClosedError, ConfigError, EdgertError, FrameError, SourceError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts, LiveCount

log = logging.getLogger(__name__)

MAX_PARTS = 5  # of a message that are looked at: one more than any may have
HEARTBEAT_MS = 5_000  # a peer that does not answer for so long is disconnected
RECONNECT_MAX_MS = 10_000
LINGER_MS = 1_000  # what closing waits for answers to leave
MIN_ANSWERS = 16  # that one client may leave unread, even if it may send fewer requests

Message = list[memoryview]


class ZeroMqSource:
    """One endpoint. A refused frame is raised as FrameError and, where the socket has answers, answered.

    `encode` makes the payload of an answer from a result, in the thread that reads the source. Sockets
    share `context` where one is given (`inproc://` demands that); else the source has its own.
    """

    def __init__(
        self,
        name: str,
        options: SourceOptions,
        *,
        encode: Encode,
        copies: CopyCounts | None = None,
        clock: Clock | None = None,
        context: zmq.Context[Any] | None = None,
    ) -> None:
        self._name = name
        self._options = options
        self._spec = options.spec()
        self._encode = encode
        self._clock = clock or Clock()
        self._context = context
        self._payloads = PayloadReader(options.max_frame_bytes, copies or CopyCounts())
        self._gaps = SequenceGaps() if self._spec.socket == "sub" else None
        self._counts: Counter[str] = Counter()
        self._link: Link | None = None

    @property
    def address(self) -> str:
        """Where the socket is bound, also if the URI left the port open."""
        return self._opened().address

    def open(self) -> None:
        """Bind or connect. Raises SourceError if that fails, ConfigError for inproc:// without a context."""
        if self._spec.is_inproc and self._context is None:
            raise ConfigError(f"{self._spec}: inproc:// reaches nobody without a context that is shared.")
        self._link = Link(self._options, self._context, self._encode, self._counts)

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Put the next message's frame into `slot`, with one copy; send the answers that wait."""
        link = self._opened()
        message = link.receive(timeout_s)
        if message is None:
            return None
        now_ns, utc_ns = self._clock.monotonic_ns(), self._clock.utc_ns()
        length = envelope_length(self._spec.socket, message)
        requester = self._requester(link, message[:length])
        try:
            with unforeseen_as(UnforeseenError, "a message cannot be read"):
                captured = self._unpack(message[length:], slot, requester)
        except EdgertError as error:
            if requester is not None:
                requester.refuse(error)
                link.send_answers()
            raise
        captured.captured_mono_ns = now_ns
        captured.captured_utc_ns = captured.captured_utc_ns or utc_ns
        return captured

    def helper_cpu_ns(self) -> int:
        """Return 0: the threads of libzmq cannot be asked."""
        return 0

    def tend(self, timeout_s: float) -> None:
        """Send answers for `timeout_s`; messages stay where they are."""
        self._opened().tend(timeout_s)

    def close(self) -> None:
        """Send the answers that wait, for at most about a second, and close the socket.

        Later answers, and requests that were not read, are dropped without a word.
        """
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._payloads.close()

    def take_counts(self) -> dict[str, int]:
        """Return and reset what was lost, by name.

        `gap`: frames that a SUB missed. `unsent_answer`: its client was gone, or left too many unread (a
        REP cannot tell). `unencoded_answer`: the client got an error instead.
        """
        counts = dict(self._counts)
        self._counts.clear()
        return counts

    def _opened(self) -> Link:
        if self._link is None:
            raise ClosedError(f"{self._spec} is not open.")
        return self._link

    def _requester(self, link: Link, envelope: Message) -> Requester | None:
        if link.outbox is None:
            return None
        return Requester(link.outbox, self._name, [bytes(part) for part in envelope])

    def _unpack(self, parts: Message, slot: Slot | None, requester: Requester | None) -> Captured:
        if len(parts) != 2:
            said = "more than 2" if len(parts) > 2 else len(parts)
            raise FrameError(f"A message has {said} parts; expected 2, header and payload.")
        header = parse_header(parts[0])
        if requester is not None:
            requester.identify(header.id, header.model, is_json=is_json(parts[0]))
        if self._gaps is not None:
            self._counts["gap"] += self._gaps.missed(header.source, header.seq)
        pixel_format, height, width = self._payloads.read_into(header, parts[1], slot)
        return Captured(pixel_format, height, width, 0, header.captured_utc_ns, header.model, requester)


class Link:
    """An open socket, and the outbox whose messages it sends. For the thread that made it.

    Raises SourceError if it cannot be bound or connected.
    """

    live: ClassVar[LiveCount] = LiveCount("zeromq socket")

    def __init__(
        self,
        options: SourceOptions,
        context: zmq.Context[Any] | None,
        encode: Encode,
        counts: Counter[str],
    ) -> None:
        self._spec = options.spec()
        self._encode = encode
        self._counts = counts
        self._context = context or zmq.Context()
        self._owns_context = context is None
        self._socket = self._context.socket(_TYPES[self._spec.socket])
        self._has_complained = False  # of an answer that cannot be encoded
        self._owes_answer = False  # a REP socket has to answer before it may receive
        self._path: Path | None = None  # of our own ipc:// socket
        self.outbox: Outbox | None = None
        try:
            self._configure(options)
            self.address = self._attach()
        except zmq.ZMQError as error:
            self._close_socket()
            raise SourceError(f"{self._spec} cannot be opened: {error}.") from error
        except SourceError:
            self._close_socket()
            raise
        self.outbox = Outbox() if self._spec.answers else None
        self._pollers = self._make_pollers()
        self.live.opened()

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message's first parts, not copied; None if none comes in time.

        Sends answers meanwhile. Raises SourceError if the socket is broken.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.send_answers()
            message = None if self._owes_answer else self._receive_now()
            left_s = deadline_s - time.monotonic()
            if message is not None or left_s <= 0:
                return message
            self._pollers[self._owes_answer].poll(math.ceil(left_s * 1000))

    def tend(self, timeout_s: float) -> None:
        """Send what comes into the outbox within `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        self.send_answers()
        while self.outbox is not None and (left_s := deadline_s - time.monotonic()) > 0:
            self._pollers[True].poll(math.ceil(left_s * 1000))
            self.send_answers()

    def send_answers(self) -> None:
        """Send what waits in the outbox. Never blocks; what cannot be sent is counted."""
        for answer in self.outbox.take() if self.outbox is not None else ():
            self._send(answer)

    def close(self) -> None:
        """Send what waits and close the socket; its address is free when this returns.

        With a context of its own it blocks until clients have the answers, at most `LINGER_MS`.
        """
        for answer in self.outbox.close() if self.outbox is not None else ():
            self._send(answer)
        if self._spec.binds and self._spec.is_inproc:  # elsewhere unbinding would lose what is on its way
            with contextlib.suppress(zmq.ZMQError):
                self._socket.unbind(self.address)
        self._close_socket()
        self.live.closed()

    def _send(self, answer: Answer) -> None:
        message = self._encoded(answer)
        try:
            self._socket.send_multipart(message, zmq.NOBLOCK)
        except zmq.ZMQError:  # the client is gone, or does not take its answers
            self._counts["unsent_answer"] += 1
        self._owes_answer = False

    def _encoded(self, answer: Answer) -> list[bytes]:
        """Return the answer's parts; those of a refusal if its result cannot be encoded."""
        try:
            return answer.message(self._encode)
        except EdgertError as error:
            level = logging.DEBUG if self._has_complained else logging.ERROR
            self._has_complained = True
            self._counts["unencoded_answer"] += 1
            log.log(level, "source %s: %s", answer.header.source, error, exc_info=error)
            return answer.refusal(error).message(self._encode)

    def _receive_now(self) -> Message | None:
        try:
            part = self._socket.recv(zmq.NOBLOCK, copy=False)
            parts = [part.buffer]
            while part.more:
                part = self._socket.recv(copy=False)
                if len(parts) < MAX_PARTS:
                    parts.append(part.buffer)
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            raise SourceError(f"{self._spec} is broken: {error}.") from error
        self._owes_answer = self._spec.socket == "rep"
        return parts

    def _configure(self, options: SourceOptions) -> None:
        settings = {
            zmq.LINGER: LINGER_MS,
            zmq.RCVHWM: options.high_water_mark,
            # As many answers as there are slots may come at once; a client that reads must get them all.
            zmq.SNDHWM: max(options.high_water_mark, options.slots, MIN_ANSWERS),
            zmq.MAXMSGSIZE: options.max_frame_bytes + MAX_HEADER_BYTES,
            zmq.TCP_KEEPALIVE: 1,
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
            zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
            zmq.IPV6: int("[" in self._spec.target),
        }
        for option, value in settings.items():
            self._socket.setsockopt(option, value)
        if self._spec.socket == "sub":
            self._socket.setsockopt_string(zmq.SUBSCRIBE, options.topic)
        if self._spec.socket == "router":
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else lost answers could not be counted

    def _attach(self) -> str:
        address = self._spec.target
        if not self._spec.binds:
            self._socket.connect(address)
            return address
        path = ipc_path(address)
        if path is not None:
            demand_free(path)
        self._socket.bind(address)
        self._path = path
        return self._socket.get_string(zmq.LAST_ENDPOINT)

    def _make_pollers(self) -> tuple[zmq.Poller, zmq.Poller]:
        """Return what to wait for while messages may be received, and while an answer is owed."""
        either, answers = zmq.Poller(), zmq.Poller()
        either.register(self._socket, zmq.POLLIN)
        if self.outbox is not None:
            either.register(self.outbox.descriptor, zmq.POLLIN)
            answers.register(self.outbox.descriptor, zmq.POLLIN)
        return either, answers

    def _close_socket(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)  # libzmq leaves it
        self._socket.close()
        if self._owns_context:
            self._context.term()


_TYPES = {
    "router": zmq.ROUTER,
    "rep": zmq.REP,
    "pull": zmq.PULL,
    "sub": zmq.SUB,
    "dealer": zmq.DEALER,
}

"""An open ZeroMQ socket: how it is set up, received from, and sends the answers that wait."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import zmq

from edgert.capture.answers import Answer, Encode, Outbox
from edgert.capture.ipc import demand_free, ipc_path
from edgert.capture.message import MAX_HEADER_BYTES
from edgert.capture.options import SourceOptions
from edgert.errors import EdgertError, SourceError
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

MAX_PARTS = 5  # of a message that are looked at: one more than any may have
HEARTBEAT_MS = 5_000  # a peer that does not answer for so long is disconnected
RECONNECT_MAX_MS = 10_000
LINGER_MS = 1_000  # what closing waits for answers to leave
MIN_ANSWERS = 16  # that one client may leave unread, even if it may send fewer requests

Message = list[memoryview]


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
        if answer.is_refusal and answer.refusals_count_as:
            self._counts[answer.refusals_count_as] += 1
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

"""One call: a stream of HTTP/2 with messages in both directions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from edgert.errors import CancelledError, EdgertError
from edgert.serve.bodies import FullError
from edgert.serve.grpc.transport.arriving import ArrivingMessages, Compressed, Message
from edgert.serve.grpc.transport.http2 import Kind, frame_head
from edgert.serve.grpc.transport.response_heads import begin_frame, done_frame, failed_frame
from edgert.serve.grpc.transport.status import Code, LateError, code_of

if TYPE_CHECKING:
    from edgert.serve.grpc.transport.streams import Streams

_WORTH_SPARING_BYTES = 4096  # what is larger is not copied behind its prefix
_WORTH_COUNTING_BYTES = 1 << 16  # of an answer


class Rpc:
    """All on the loop's thread. It ends once: answered, failed or left by its client."""

    def __init__(self, streams: Streams, stream: int, arriving: ArrivingMessages) -> None:
        self.stream = stream
        self.arriving = arriving
        self.window_bytes = 0  # that the client lets be sent, beside what it lets in each call
        self.received_bytes = 0  # that the client has not been allowed again
        self.allowed_bytes = 0  # of them, at most
        self.is_all_here = False  # the client sends no more
        self.is_ended = False
        self.failure: Code | None = None
        self.heard_s = monotonic()  # when it began, or the message that arrives did
        self.deadline_s = inf
        self.on_gone: Callable[[], object] = _nothing  # the client has gone, or waits no longer
        self.on_stop: Callable[[], object] = _nothing  # the server stops; who works on it may finish
        self._streams = streams
        self._blocked_s: float | None = None  # since when something waits for the client to take it
        self._held_bytes = 0  # of the only message, counted until it has left
        self._outbox: deque[memoryview] = deque()
        self._last: bytes | None = None  # frames for when the outbox is empty
        self._has_begun = False
        self._waiters: list[asyncio.Future[None]] = []  # for a message, or for room

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        return self._streams.is_local

    def reply(self, message: bytes) -> None:
        """Send the only message and end; if there is no room for what waits to be taken, fail."""
        if self.is_ended:
            return
        if len(message) > _WORTH_COUNTING_BYTES:
            try:
                self._streams.bodies.take(len(message))
            except FullError as error:
                self.fail(error)
                return
            self._held_bytes = len(message)
        self._put(message)
        self.end()

    def end(self) -> None:
        """End well, after all that was sent."""
        self._end(done_frame(self.stream))

    def fail(self, error: EdgertError) -> None:
        """End with a status; what was sent before goes first."""
        if not self.is_ended:
            self.failure = code_of(error)
            self._end(failed_frame(self.stream, self.failure, str(error), is_first=not self._has_begun))

    async def read(self) -> Message | None:
        """Return the next message; None if there are no more.

        Raises:
            RequestError: it cannot be inflated.
            FullError: there was no room for it; the next one may be read.
        """
        while not len(self.arriving):
            if self.is_all_here:
                return None
            await self._wait()
        try:
            message = self.arriving.take()
        finally:
            if not len(self.arriving):
                self.heard_s = monotonic()
            self._streams.consumed(self)
        return await self._streams.inflated(message) if isinstance(message, Compressed) else message

    async def write(self, message: bytes) -> None:
        """Send a message; returns once it has left. Raises CancelledError if the call has ended."""
        if self.is_ended:
            raise CancelledError("The call has ended.")
        self._put(message)
        while self._outbox:
            await self._wait()
            if self.is_ended:
                raise CancelledError("The call has ended.")

    # What the connection calls.

    def leave(self) -> None:
        """The client has gone. Nothing more is sent."""
        self.is_ended = True
        self.arriving.close()
        self._outbox.clear()
        self._let_go()
        self._last = None
        self.on_gone()
        self._forget()
        self.notify()

    def cut_off(self) -> None:
        """End at once: the client does not take what it is sent."""
        self._streams.cut_off(self)

    def expire(self, now_s: float, arrive_s: float, *, is_streaming: bool) -> None:
        """End what takes too long, in arriving, in being answered or in taking the answer."""
        is_awaited = self.arriving.is_partial and not len(self.arriving)
        is_arriving = not self.is_all_here and (is_awaited or not is_streaming)
        if self._blocked_s is not None and now_s - self._blocked_s > arrive_s:
            self.cut_off()
        elif now_s > self.deadline_s or (is_arriving and now_s - self.heard_s > arrive_s):
            self.on_gone()
            self.fail(LateError("Deadline Exceeded"))

    def notify(self) -> None:
        """Wake whoever waits for a message or for room."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def pump(self) -> None:
        """Send what the windows let through."""
        streams = self._streams
        while self._outbox:
            piece = self._outbox[0]
            window_bytes = min(self.window_bytes + streams.call_window_bytes, streams.window_bytes)
            size = min(len(piece), window_bytes, streams.max_frame_bytes)
            if size <= 0 or not streams.may_send:
                if self._blocked_s is None:
                    self._blocked_s = monotonic()
                return
            self.window_bytes -= size
            streams.window_bytes -= size
            streams.unsent_bytes += size
            streams.send(frame_head(size, Kind.DATA, 0, self.stream), piece[:size])
            if size == len(piece):
                self._outbox.popleft()
            else:
                self._outbox[0] = piece[size:]
        self._blocked_s = None
        if self._held_bytes:
            self._let_go()
        if self._last is not None:
            streams.send(self._last)
            self._last = None
            streams.ended(self)
        if self._waiters:
            self.notify()

    def _let_go(self) -> None:
        self._streams.bodies.free(self._held_bytes)
        self._held_bytes = 0

    async def _wait(self) -> None:
        waiter = self._streams.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _put(self, message: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._streams.send(begin_frame(self.stream))
        prefix = b"\x00" + len(message).to_bytes(4, "big")
        if len(message) < _WORTH_SPARING_BYTES:
            self._outbox.append(memoryview(prefix + message))
        else:
            self._outbox += (memoryview(prefix), memoryview(message))
        self.pump()

    def _end(self, last: bytes) -> None:
        if self.is_ended:
            return
        self.is_ended = True
        self._forget()
        self._last = last
        self.pump()

    def _forget(self) -> None:
        """Leave nothing to the collector: who works on this call refers to it."""
        self.on_gone = self.on_stop = _nothing


def _nothing() -> None:
    """What a call does whose client is gone, unless it says otherwise."""

"""The calls on one connection, and the windows that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from edgert.errors import EdgertError, RequestError
from edgert.serve.bodies import FullError
from edgert.serve.grpc.transport.arriving import ArrivingMessages, Compressed, Message
from edgert.serve.grpc.transport.call_head import encoding_of, http_fault, timeout_s
from edgert.serve.grpc.transport.faults import FaultsTo
from edgert.serve.grpc.transport.frame_reader import Frame
from edgert.serve.grpc.transport.hpack import Headers
from edgert.serve.grpc.transport.http2 import (
    DEFAULT_WINDOW,
    END_STREAM,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    ErrorCode,
    Http2Error,
    Setting,
    reset_frame,
    window_frame,
)
from edgert.serve.grpc.transport.response_heads import failed_frame, refused_frame
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.transport.site import Method, Site, UnaryMethod
from edgert.serve.grpc.transport.status import Code

_SLACK_BYTES = 1 << 16  # that a window is larger than the largest message
_HEADERS = "the call's headers are over the limit"
FIRST_WINDOW = 1 << 20  # of each call; what has one message gets room for the largest later
_CREDIT_BYTES = 1 << 15  # a client is allowed more once it has used that much
MOST_UNSENT_BYTES = 1 << 19  # of messages, that the transport is given at once
_LEAST_FRAME_BYTES, _MOST_FRAME_BYTES = 1 << 14, (1 << 24) - 1


class Streams:
    """Calls by their streams' numbers."""

    def __init__(self, site: Site, send: Callable[..., None], *, is_local: bool) -> None:
        """`send` takes frames, in pieces."""
        self.loop = site.loop
        self.send = send
        self.is_local = is_local
        self.is_writable = True  # the transport takes more
        self.is_progressing = False  # a call has come forward; whoever looks sets it back
        self.window_bytes = DEFAULT_WINDOW  # what the client lets be sent, over all calls
        self.call_window_bytes = DEFAULT_WINDOW  # and in each; what a call was allowed beside is its own
        self.max_frame_bytes = MAX_FRAME_BYTES
        self._is_pump_due = False
        self.unsent_bytes = 0  # of messages that the transport has not been given
        self.bodies = site.bodies
        self.limit_bytes = site.limits.request_mb << 20
        self.own_window = min(self.limit_bytes + _SLACK_BYTES, MAX_WINDOW)
        self._site = site
        self._open: dict[int, tuple[Rpc, Method]] = {}
        self._last_headers: Headers | None = None  # of a call that was let in
        self._last_call: tuple[Method, str, float]
        self.last = 0  # stream that a call has begun on
        self._received_bytes = 0  # that the client has not been allowed again

    def __len__(self) -> int:
        return len(self._open)

    def take_headers(self, read: Frame, headers: Headers | None) -> None:
        """Begin a call, or end what its client sends; None: headers over the limits. Raises Http2Error."""
        known = self._open.get(read.stream)
        if known is not None:
            self._end_of_messages(*known)
        elif not read.stream % 2:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"a client cannot begin call {read.stream}")
        elif read.stream > self.last:  # else it is the end of a call that has ended here already
            self.last = read.stream
            self._begin(read.stream, headers, is_all_here=bool(read.flags & END_STREAM))

    def take_data(self, read: Frame) -> None:
        """Take a piece of a call's messages; of a call that has ended, nothing. Raises Http2Error."""
        self._credit(read.size)
        known = self._open.get(read.stream)
        if known is None:
            if read.stream > self.last or not read.stream:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "data for no call")
            return
        rpc, method = known
        if rpc.is_ended:  # its status waits for the client
            return
        rpc.received_bytes += read.size
        self.is_progressing |= bool(read.content)
        if rpc.is_all_here or rpc.received_bytes > rpc.allowed_bytes:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than was allowed")
        if not rpc.arriving.is_partial:
            rpc.heard_s = monotonic()
        try:
            rpc.arriving.feed(read.content)
        except RequestError as error:
            rpc.on_gone()
            rpc.fail(error)
            return
        if read.flags & END_STREAM:
            self._end_of_messages(rpc, method)
        else:
            self._go_on(rpc, method)

    def take_reset(self, stream: int) -> None:
        """A client wants no answer any more."""
        known = self._open.pop(stream, None)
        if known is not None:
            known[0].leave()

    def take_window(self, stream: int, more_bytes: int) -> None:
        """Send more. Raises Http2Error."""
        was_shut = self.window_bytes <= 0
        if not stream:
            self.window_bytes += more_bytes
        known = self._open.get(stream)
        if known is not None:
            known[0].window_bytes += more_bytes
        window_bytes = known[0].window_bytes + self.call_window_bytes if known else self.window_bytes
        if not more_bytes or window_bytes > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large, or grows by nothing")
        if known is not None:
            known[0].pump()
        elif not stream and was_shut:
            self._pump_soon()

    def take_settings(self, settings: list[tuple[int, int]]) -> None:
        """Heed what the client announces. Raises Http2Error."""
        window_bytes = self.call_window_bytes
        for setting, value in settings:
            if setting == Setting.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
                window_bytes = value
            elif setting == Setting.MAX_FRAME_SIZE:
                if not _LEAST_FRAME_BYTES <= value <= _MOST_FRAME_BYTES:
                    raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a frame's limit is out of range")
                self.max_frame_bytes = value
        if window_bytes > self.call_window_bytes:
            self._pump_soon()
        self.call_window_bytes = window_bytes

    @property
    def may_send(self) -> bool:
        """Whether the transport can be given more."""
        return self.is_writable and self.unsent_bytes < MOST_UNSENT_BYTES

    def flushed(self) -> None:
        """The transport has been given all; what was held back for that goes next."""
        is_more = self.unsent_bytes >= MOST_UNSENT_BYTES
        self.unsent_bytes = 0
        if is_more:
            self._pump_soon()

    def _pump_soon(self) -> None:
        """Go through all calls once, however often a client gives reason to."""
        if not self._is_pump_due:
            self._is_pump_due = True
            self.loop.call_soon(self.pump)

    def pump(self) -> None:
        """Send what can be sent now."""
        self._is_pump_due = False
        for rpc in self.calls():
            rpc.pump()

    def inflated(self, message: Compressed) -> asyncio.Future[Message]:
        """Return what a message holds, once another thread has found out."""
        site = self._site
        return self.loop.run_in_executor(site.executor, message.inflated, site.bodies, self.limit_bytes)

    def consumed(self, rpc: Rpc) -> None:
        """Let the client send more, once all that is whole of a call was read."""
        if rpc.received_bytes >= _CREDIT_BYTES and not len(rpc.arriving) and not rpc.is_all_here:
            self.send(window_frame(rpc.stream, rpc.received_bytes))
            rpc.received_bytes = 0

    def ended(self, rpc: Rpc) -> None:
        """Forget a call whose last frame is on its way."""
        self.is_progressing = True
        rpc.arriving.close()
        if self._open.pop(rpc.stream, None) is not None and not rpc.is_all_here:
            self.send(reset_frame(rpc.stream, ErrorCode.NO_ERROR))
        if rpc.failure is not None:
            self._site.counts.add(rpc.failure.name)

    def cut_off(self, rpc: Rpc) -> None:
        """End a call at once."""
        self.send(reset_frame(rpc.stream, ErrorCode.CANCEL))
        self.take_reset(rpc.stream)

    def calls(self) -> list[Rpc]:
        """Return those under way."""
        return [rpc for rpc, _ in self._open.values()]

    def leave(self) -> None:
        """The connection is lost."""
        open_, self._open = self._open, {}
        for rpc, _ in open_.values():
            rpc.leave()

    def expire(self, now_s: float) -> None:
        """End the calls that take too long, in arriving, in being answered or in taking the answer."""
        for rpc, method in list(self._open.values()):
            rpc.expire(now_s, self._site.limits.arrive_s, is_streaming=method.is_streaming)

    def _credit(self, size: int) -> None:
        """Let the client send more, over all calls: each has its own window too."""
        self._received_bytes += size
        if self._received_bytes >= _CREDIT_BYTES:
            self.send(window_frame(0, self._received_bytes))
            self._received_bytes = 0

    def _widen(self, rpc: Rpc) -> None:
        """Let a call's one message come whole."""
        if rpc.allowed_bytes < self.own_window:
            self.send(window_frame(rpc.stream, self.own_window - rpc.allowed_bytes))
            rpc.allowed_bytes = self.own_window

    def _begin(self, stream: int, headers: Headers | None, *, is_all_here: bool) -> None:
        if headers is None:
            self._site.counts.add(Code.RESOURCE_EXHAUSTED.name)
            self.send(failed_frame(stream, Code.RESOURCE_EXHAUSTED, _HEADERS, is_first=True))
            return
        fault = http_fault(headers)
        if fault:
            self.send(refused_frame(stream, fault))
            return
        site = self._site
        if site.connections.is_stopping or len(self._open) >= site.limits.requests:
            self.send(reset_frame(stream, ErrorCode.REFUSED_STREAM))
            return
        rpc = Rpc(self, stream, ArrivingMessages(site.bodies, self.limit_bytes))
        rpc.is_all_here, rpc.allowed_bytes = is_all_here, FIRST_WINDOW
        self._open[stream] = (rpc, _NOBODY)
        try:
            if headers is not self._last_headers:
                self._last_call = (site.find(headers), encoding_of(headers), timeout_s(headers))
                self._last_headers = headers
            method, encoding, wait_s = self._last_call
            rpc.arriving.set_encoding(encoding)
            rpc.deadline_s = rpc.heard_s + wait_s
        except EdgertError as error:
            rpc.fail(error)
            return
        self._open[stream] = (rpc, method)
        method.begin(rpc)
        if is_all_here:
            self._end_of_messages(rpc, method)

    def _go_on(self, rpc: Rpc, method: Method) -> None:
        """A piece of a call's messages has come that is not the last."""
        if method.is_streaming:
            rpc.notify()
            self.consumed(rpc)
        elif rpc.arriving.is_passing_over:
            with FaultsTo(rpc.fail):
                rpc.arriving.take()
        elif rpc.received_bytes > FIRST_WINDOW // 2:
            self._widen(rpc)

    def _end_of_messages(self, rpc: Rpc, method: Method) -> None:
        rpc.is_all_here = True
        rpc.notify()
        if method.is_streaming or rpc.is_ended:
            return
        if len(rpc.arriving) != 1 or rpc.arriving.is_partial:
            rpc.fail(RequestError("a call has to have one message"))
            return
        try:
            message = rpc.arriving.take()
        except FullError as error:
            rpc.fail(error)
            return
        if isinstance(message, Compressed):
            self._answer_later(rpc, method, message)
        else:
            method.answer(rpc, message)

    def _answer_later(self, rpc: Rpc, method: Method, message: Compressed) -> None:
        """Answer once the message is inflated."""

        def answer(inflated: asyncio.Future[Message]) -> None:
            with FaultsTo(rpc.fail):
                whole = inflated.result()
                if not rpc.is_ended:
                    method.answer(rpc, whole)

        self.inflated(message).add_done_callback(answer)


def _nobody(rpc: Rpc, message: Message) -> None:
    """Answer nothing: the call was refused."""


_NOBODY = UnaryMethod(_nobody)

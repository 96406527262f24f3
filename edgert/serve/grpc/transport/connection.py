"""One connection: its transport, and the frames that are not a call's."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import ClassVar, cast

from edgert.serve.access import is_local
from edgert.serve.grpc.transport.frame_reader import Frame, FrameReader
from edgert.serve.grpc.transport.hpack import HeaderDecoder
from edgert.serve.grpc.transport.http2 import (
    ACK,
    DEFAULT_WINDOW,
    ErrorCode,
    Http2Error,
    Kind,
    Setting,
    frame,
    goaway_frame,
    read_number,
    read_settings,
    settings_frame,
    window_frame,
)
from edgert.serve.grpc.transport.site import Site, stopping
from edgert.serve.grpc.transport.streams import FIRST_WINDOW, Streams
from edgert.stats import LiveCount

_MAX_IDLE_FRAMES = 10_000  # in a row, that bring no call forward
_PING = b"edgert: "
_STOP_GRACE_S = 0.2  # once the front stops: for calls on their way, and so that the last status is read


class Connection(asyncio.BufferedProtocol):
    """Calls side by side. What a client does wrong on it ends it, and nothing else."""

    live: ClassVar[LiveCount] = LiveCount("grpc connection")

    def __init__(self, site: Site) -> None:
        limits = site.limits
        self._site = site
        self._loop = site.loop
        self._frames = FrameReader(limits.header_kb << 10)
        self._headers = HeaderDecoder(limits.header_kb << 10, limits.headers)
        self._transport: asyncio.Transport
        self._streams: Streams
        self._idle_frames = 0
        self._outbox: list[bytes | memoryview] = []
        self._is_closing = False
        self._is_reading = False
        self._began_s = self._heard_s = monotonic()
        self._paused_s: float | None = None
        self._ended_s: float | None = None
        self._last_stream: int | None = None  # whose call is answered; known once the client is told so
        self._is_end_due = False
        self._pinged_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. A connection too many is told so and closed."""
        self._transport = cast("asyncio.Transport", transport)
        self._streams = Streams(self._site, self._send, is_local=is_local(transport))
        self.live.opened()
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: self._site.limits.requests,
            Setting.INITIAL_WINDOW_SIZE: FIRST_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: self._site.limits.header_kb << 10,
        }
        self._send(settings_frame(settings), window_frame(0, self._streams.own_window - DEFAULT_WINDOW))
        if not self._site.connections.join(self):
            self._end(ErrorCode.ENHANCE_YOUR_CALM, "there are too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Whoever works for this client hears that it is gone."""
        self._is_closing = True
        self._streams.leave()
        self._site.connections.part(self)
        self.live.closed()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to receive."""
        return self._site.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Go on with what was received. What is answered at once goes out in one piece."""
        self._heard_s, self._pinged_s = monotonic(), None
        self._is_reading = True
        try:
            for read in self._frames.feed(bytes(self._site.scratch[:nbytes])):
                if self._is_closing:
                    return
                self._take(read)
        except Http2Error as error:
            self._end(error.code, str(error))
        finally:
            self._is_reading = False
            if self._outbox:
                self._flush()

    def pause_writing(self) -> None:
        """Send nothing more, and read nothing more, until the client has taken what it has."""
        self._streams.is_writable = False
        self._paused_s = monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._streams.is_writable = True
        self._paused_s = None
        self._transport.resume_reading()
        self._streams.pump()

    def stop(self) -> None:
        """Take no more calls, and end after those under way."""
        self._go_away(ErrorCode.NO_ERROR)
        for rpc in self._streams.calls():
            rpc.on_stop()

    def abort(self) -> None:
        """End at once; calls under way hear why, if their clients take it."""
        if self._is_closing:
            self._transport.abort()
            return
        for rpc in self._streams.calls():
            rpc.on_gone()
            rpc.fail(stopping())
        self._is_closing = True
        self._flush()
        self._loop.call_later(_STOP_GRACE_S, self._transport.abort)

    def expire(self, now_s: float) -> None:
        """End what takes too long: calls, or the connection."""
        limits = self._site.limits
        self._streams.expire(now_s)
        is_silent = now_s - self._heard_s > limits.idle_s
        is_late = not self._frames.has_preface and now_s - self._began_s > limits.arrive_s
        is_dead = self._pinged_s is not None and now_s - self._pinged_s > limits.arrive_s
        is_full = self._paused_s is not None and now_s - self._paused_s > limits.arrive_s
        is_over = self._ended_s is not None and now_s - self._ended_s > limits.arrive_s
        if is_late or is_dead or is_full or is_over:
            self._is_closing = True
            self._transport.abort()
        elif is_silent and not self._streams:
            self._end(ErrorCode.NO_ERROR)
        elif is_silent and self._pinged_s is None:
            self._pinged_s = now_s
            self._send(frame(Kind.PING, 0, 0, _PING))

    def _take(self, read: Frame) -> None:
        kind = read.kind
        if kind == Kind.DATA:
            self._streams.take_data(read)
        elif kind == Kind.HEADERS:
            self._streams.take_headers(read, self._headers.decode(bytes(read.content)))
        elif kind == Kind.WINDOW_UPDATE:
            self._streams.take_window(read.stream, read_number(read.content))
        else:
            self._take_other(kind, read)
        self._idle_frames += 1
        if self._streams.is_progressing:
            self._idle_frames, self._streams.is_progressing = 0, False
        elif self._idle_frames > _MAX_IDLE_FRAMES:  # it only keeps the server busy
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that bring no call forward")

    def _take_other(self, kind: int, read: Frame) -> None:
        content = bytes(read.content)
        if kind == Kind.RST_STREAM:
            self._streams.take_reset(read.stream)
        elif kind == Kind.SETTINGS and not read.flags & ACK:
            self._send(frame(Kind.SETTINGS, ACK, 0))
            self._streams.take_settings(read_settings(content))
        elif kind == Kind.PING and not read.flags & ACK:
            if len(content) != len(_PING):
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a PING has the wrong length")
            self._send(frame(Kind.PING, ACK, 0, content))
        elif kind == Kind.PUSH_PROMISE:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a client does not push")

    def _end_soon(self) -> None:
        """End after a grace; calls that come in it are refused, and their clients try another server."""
        if not self._is_end_due and not self._streams:
            self._is_end_due = True
            self._loop.call_later(_STOP_GRACE_S, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._is_end_due = False
        if not self._streams and not self._is_closing:
            self._end(ErrorCode.NO_ERROR)

    def _end(self, code: ErrorCode, words: str = "") -> None:
        """Say why, and close once the client has taken what it is sent; it has some time for that."""
        self._is_closing = True
        if self._ended_s is None:
            self._ended_s = monotonic()
        self._go_away(code, words)
        self._flush()
        self._transport.close()

    def _go_away(self, code: ErrorCode, words: str = "") -> None:
        """Tell the client which calls are answered: it may send all later ones again, elsewhere."""
        if self._last_stream is None:
            self._last_stream = self._streams.last
        self._send(goaway_frame(self._last_stream, code, words))

    def _send(self, *pieces: bytes | memoryview) -> None:
        """Send frames, soon and together with others."""
        if not self._outbox and not self._is_reading:
            self._loop.call_soon(self._flush)
        self._outbox += pieces

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if outbox and not self._transport.is_closing():
            self._transport.write(b"".join(outbox))
        self._streams.flushed()
        if self._site.connections.is_stopping:
            self._end_soon()

"""One connection: its requests one after the other, each within its time."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import ClassVar, cast

from edgert.errors import EdgertError, RequestError
from edgert.serve.bodies import FullError
from edgert.serve.http.admission import Admission
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.handling import handle
from edgert.serve.http.message import (
    Answer,
    Head,
    RefusedError,
    encode_answer,
    error_answer,
    refusal_of,
    stopping,
)
from edgert.serve.http.reader import RequestReader
from edgert.serve.http.site import Job, Peer, Phase, Site
from edgert.stats import LiveCount

LINGER_S = 2.0  # a client that was refused may go on sending that long, so that it reads the answer
STOP_GRACE_S = 0.2  # once the front stops: for requests on their way, and then so that answers are read
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.BufferedProtocol):
    """Requests may be sent ahead: each is begun once the one before it is answered."""

    live: ClassVar[LiveCount] = LiveCount("http connection")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RequestReader(site.limits, site.scratch, site.gate.bodies)
        self._transport: asyncio.Transport
        self._peer: Peer
        self._admission: Admission
        self._phase: Phase = "idle"
        self._deadline_s = 0.0
        self._head: Head | None = None  # of the request that arrives
        self._job: Job | None = None  # who will answer it
        self._refusal: Answer | None = None  # or what it will be answered
        self._exchange: Exchange | None = None  # the one that is answered
        self._is_advancing = False
        self._is_write_paused = False
        self._is_reading_paused = False
        self._untaken_bytes = 0  # of answers, counted among the bodies
        self._ending: asyncio.TimerHandle | None = None  # the front stops

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. A connection too many is told so and closed."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = Peer(transport)
        self._admission = Admission(self._site, self._peer)
        self.live.opened()
        self._enter("idle")
        if not self._site.connections.join(self):
            self._refuse(RefusedError(503, "too_many_connections", "there are too many connections"))
            self._transport.close()
        elif self._site.connections.is_stopping:
            self._end_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Whoever works for this client hears that it is gone."""
        if self._ending is not None:
            self._ending.cancel()
        self._admission.leave()
        self._is_write_paused = False
        self._free_answers()
        if self._exchange is not None:
            self._site.counts.add("disconnected")
            self._abandon()
        self._site.connections.part(self)
        self.live.closed()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to receive."""
        return self._site.scratch if self._phase == "closing" else self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Go on with what was received."""
        if self._phase == "closing":
            return
        self._reader.received(nbytes)
        if self._phase in ("answering", "taking"):
            if self._reader.pending_bytes > len(self._site.scratch):  # a client that sends far ahead
                self._transport.pause_reading()
                self._is_reading_paused = True
            return
        if self._phase == "idle":
            self._enter("arriving")
        self._advance()

    def pause_writing(self) -> None:
        """Begin nothing more until the client has taken its answers."""
        self._is_write_paused = True
        if self._phase == "idle":
            self._enter("taking")

    def resume_writing(self) -> None:
        """Go on."""
        self._is_write_paused = False
        self._free_answers()
        if self._phase == "taking":
            self._go_on()

    def expire(self, now_s: float) -> None:
        """Give up what has taken too long."""
        if now_s < self._deadline_s:
            return
        if self._phase == "idle":
            self._site.counts.add("idle")
            self._close()
        elif self._phase == "arriving":
            self._refuse(RefusedError(408, "late_request", "the request took too long to arrive"))
        elif self._phase == "answering":
            self._site.counts.add("late_answer")
            self._abandon()
            late = error_answer(RefusedError(504, "late_answer", "the answer took too long"))
            self._send(encode_answer(late, connection="close"), is_last=True)
        else:
            if self._transport.get_write_buffer_size():
                self._site.counts.add("answer_not_taken")
            self._transport.abort()

    def stop(self) -> None:
        """Close as soon as nothing is under way, nor on its way."""
        if self._phase not in ("answering", "taking"):
            self._end_soon()

    def abort(self) -> None:
        """Close at once; whoever waits for an answer hears why."""
        if self._phase != "answering":
            self._transport.abort()
            return
        self._abandon()
        self._refuse(stopping())
        self._site.loop.call_later(STOP_GRACE_S, self._transport.abort)

    def _enter(self, phase: Phase, seconds: float | None = None) -> None:
        self._phase = phase
        seconds = seconds or self._site.seconds.get(phase, self._site.limits.arrive_s)
        self._deadline_s = monotonic() + seconds

    def _advance(self) -> None:
        if self._is_advancing:  # answered within the call that asked for it
            return
        self._is_advancing = True
        try:
            while self._phase == "arriving" and self._step():
                pass
        except RequestError as refused:
            self._refuse(refused)
        finally:
            self._is_advancing = False

    def _step(self) -> bool:
        """Do the next thing with what has come; False if there is nothing to do."""
        if self._head is None:
            head = self._reader.read_head()
            if head is None:
                return False
            self._begin(head)
            return True
        try:
            body = self._reader.read_body()
        except FullError as error:
            self._admission.leave()
            if self._head.body_bytes is None:  # it comes in chunks
                raise
            self._job = None
            self._pass_over(self._head, error)
            return True
        if body is None:
            return False
        self._dispatch(self._head, body)
        return True

    def _begin(self, head: Head) -> None:
        self._head = head
        self._job = self._refusal = None
        try:
            job = self._admission.admit(head)
            self._reader.begin_body(head, is_wanted=True)
        except EdgertError as error:
            self._admission.leave()
            self._pass_over(head, error)
            return
        self._job = job
        if head.awaits_continue and not self._reader.has_begun_body:
            self._transport.write(_CONTINUE)

    def _pass_over(self, head: Head, error: EdgertError) -> None:
        """Answer a request whose body nobody wants. Raises RefusedError if that is too long to come."""
        is_stranger = isinstance(error, RefusedError) and error.code == 401 and head.body_bytes != 0
        if is_stranger or head.awaits_continue:  # a body may come or not: nothing after it can be told apart
            self._refuse(error)
            return
        self._reader.begin_body(head, is_wanted=False)
        self._count(error)
        self._refusal = error_answer(error)

    def _dispatch(self, head: Head, body: memoryview) -> None:
        self._head = None
        is_in_gate = self._admission.pass_on()
        exchange = Exchange(head, body, self._finish, self._site, self._peer, is_in_gate=is_in_gate)
        self._exchange = exchange
        self._enter("answering")
        if self._job is not None:
            handle(self._job, exchange, self._site)
        elif self._refusal is not None:
            exchange.reply(self._refusal)

    def _finish(self, exchange: Exchange, data: bytes | memoryview) -> None:
        if exchange.is_in_gate:
            self._site.gate.leave()
        self._untaken_bytes += exchange.held_bytes
        if exchange is self._exchange:  # else nobody waits for it any more
            self._exchange = None
            self._send(data, is_last=exchange.is_last)
        if self._untaken_bytes and not self._is_write_paused:
            self._free_answers()

    def _free_answers(self) -> None:
        self._site.gate.bodies.free(self._untaken_bytes)
        self._untaken_bytes = 0

    def _send(self, data: bytes | memoryview, *, is_last: bool) -> None:
        self._phase = "idle"  # writing may pause
        self._transport.write(data)
        if is_last and self._site.connections.is_stopping:
            self._linger(self._site.limits.arrive_s)
        elif is_last:
            self._close()
        elif self._phase == "idle":
            self._go_on()

    def _go_on(self) -> None:
        """Turn to the next request, if it has come."""
        if self._site.connections.is_stopping:
            self._end_soon()
        if self._is_reading_paused:
            self._transport.resume_reading()
            self._is_reading_paused = False
        self._enter("arriving" if self._reader.pending_bytes else "idle")
        self._advance()

    def _refuse(self, refused: EdgertError) -> None:
        """Answer what cannot be read to its end, and read no more."""
        self._count(refused)
        self._admission.leave()
        self._transport.write(encode_answer(error_answer(refused), connection="close"))
        self._linger(LINGER_S)

    def _linger(self, seconds: float) -> None:
        """Let the client go on sending for a while: a reset could take the answer from it."""
        self._enter("closing", seconds)
        self._transport.resume_reading()
        if self._site.connections.is_stopping:
            self._end_soon()
        if self._transport.can_write_eof() and not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # the client is gone, and its loss not yet noticed
                self._transport.write_eof()

    def _end_soon(self) -> None:
        """Close after a grace; a request that comes in it is refused."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._site.loop.call_later(STOP_GRACE_S, self._end_grace)

    def _end_grace(self) -> None:
        if self._phase == "closing":
            self._transport.close()
            if not self._transport.get_write_buffer_size():  # a client of TLS may not say that it closes too
                self._site.loop.call_later(STOP_GRACE_S, self._transport.abort)
        elif self._phase == "idle":
            self._linger(LINGER_S)
        elif self._phase == "arriving":
            self._refuse(stopping())

    def _close(self) -> None:
        self._enter("closing")
        self._transport.close()

    def _abandon(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def _count(self, error: EdgertError) -> None:
        self._site.counts.add(refusal_of(error) or error.status)

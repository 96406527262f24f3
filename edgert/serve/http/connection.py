"""One connection: its requests one after the other, each within its time."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import ClassVar, cast

from edgert.errors import EdgertError, RequestError
from edgert.serve.bodies import FullError
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.handling import handle
from edgert.serve.http.message import Answer, Head, RefusedError, encode_answer, error_answer, refusal_of
from edgert.serve.http.reader import RequestReader
from edgert.serve.http.site import Job, Peer, Phase, Site
from edgert.stats import LiveCount

LINGER_S = 2.0  # a client that was refused may go on sending that long, so that it reads the answer
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.BufferedProtocol):
    """Requests may be sent ahead: each is begun once the one before it is answered."""

    live: ClassVar[LiveCount] = LiveCount("http connection")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reader = RequestReader(site.limits, site.scratch, site.gate.bodies)
        self._transport: asyncio.Transport
        self._peer: Peer
        self._phase: Phase = "idle"
        self._deadline_s = 0.0
        self._head: Head | None = None  # of the request that arrives
        self._job: Job | None = None  # who will answer it
        self._admitted: Head | None = None  # the last one that was
        self._its_job: Job | None = None
        self._refusal: Answer | None = None  # or what it will be answered
        self._is_in_gate = False  # the request that arrives
        self._exchange: Exchange | None = None  # the one that is answered
        self._is_advancing = False
        self._is_write_paused = False
        self._is_reading_paused = False
        self._untaken_bytes = 0  # of answers, counted among the bodies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. A connection too many is told so and closed."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = Peer(transport)
        self.live.opened()
        self._enter("idle")
        if not self._site.connections.join(self):
            self._refuse(RefusedError(503, "too_many_connections", "there are too many connections"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Whoever works for this client hears that it is gone."""
        self._leave_gate()
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
            self._answer(error_answer(RefusedError(504, "late_answer", "the answer took too long")))
        else:
            if self._transport.get_write_buffer_size():
                self._site.counts.add("answer_not_taken")
            self._transport.abort()

    def stop(self) -> None:
        """Close as soon as nothing is under way."""
        if self._phase in ("idle", "arriving"):
            self._close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _enter(self, phase: Phase, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = self._site.seconds.get(phase, self._site.limits.arrive_s)
        self._phase = phase
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
            self._leave_gate()
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
            job = self._admit(head)
            self._enter_gate(head)
            self._reader.begin_body(head, is_wanted=True)
        except EdgertError as error:
            self._leave_gate()
            self._pass_over(head, error)
            return
        self._job = job
        if head.awaits_continue and not self._reader.has_begun_body:
            self._transport.write(_CONTINUE)

    def _admit(self, head: Head) -> Job:
        """Return who answers. For the head that the last request had it is the same. Raises EdgertError."""
        if self._its_job is None or head is not self._admitted:
            self._its_job = self._site.admit(head, self._peer)
            self._admitted = head
        return self._its_job

    def _pass_over(self, head: Head, error: EdgertError) -> None:
        """Answer a request whose body nobody wants. Raises RefusedError if that is too long to come."""
        is_stranger = isinstance(error, RefusedError) and error.code == 401 and head.body_bytes != 0
        if is_stranger or head.awaits_continue:  # a body may come or not: nothing after it can be told apart
            self._count(error)
            self._answer_last(error_answer(error))
            return
        self._reader.begin_body(head, is_wanted=False)
        self._count(error)
        self._refusal = error_answer(error)

    def _dispatch(self, head: Head, body: memoryview) -> None:
        self._head = None
        is_last = self._site.connections.is_stopping or not head.is_kept_alive
        exchange = Exchange(
            head, body, self._finish, self._site, self._peer, is_last=is_last, is_in_gate=self._is_in_gate
        )
        self._is_in_gate = False  # now the exchange is
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

    def _answer(self, answer: Answer) -> None:
        self._send(encode_answer(answer, connection="close"), is_last=True)

    def _send(self, data: bytes | memoryview, *, is_last: bool) -> None:
        self._phase = "idle"  # writing may pause
        self._transport.write(data)
        if is_last or self._site.connections.is_stopping:
            self._close()
        elif self._phase == "idle":
            self._go_on()

    def _go_on(self) -> None:
        """Turn to the next request, if it has come."""
        if self._site.connections.is_stopping:
            self._close()
            return
        if self._is_reading_paused:
            self._transport.resume_reading()
            self._is_reading_paused = False
        self._enter("arriving" if self._reader.pending_bytes else "idle")
        self._advance()

    def _refuse(self, refused: RequestError) -> None:
        """Answer what cannot be read to its end, and read no more."""
        self._count(refused)
        self._leave_gate()
        self._answer_last(error_answer(refused))

    def _answer_last(self, answer: Answer) -> None:
        """Answer, and let the client go on sending for a while: a reset could take the answer from it."""
        self._enter("closing", LINGER_S)
        self._transport.write(encode_answer(answer, connection="close"))
        if self._transport.can_write_eof() and not self._transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # the client is gone, and its loss not yet noticed
                self._transport.write_eof()

    def _close(self) -> None:
        self._enter("closing")
        self._transport.close()

    def _abandon(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def _count(self, error: EdgertError) -> None:
        self._site.counts.add(refusal_of(error) or error.status)

    def _enter_gate(self, head: Head) -> None:
        if head.method != "POST":
            return
        if not self._site.gate.enter():
            raise RefusedError(503, "too_many_requests", "there are too many requests under way")
        self._is_in_gate = True

    def _leave_gate(self) -> None:
        if self._is_in_gate:
            self._is_in_gate = False
            self._site.gate.leave()

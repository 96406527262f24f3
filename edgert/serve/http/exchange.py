"""One request under way, and the way back to who sent it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgert.errors import EdgertError
from edgert.serve.bodies import FullError
from edgert.serve.http.message import Answer, Head, encode_answer, error_answer

if TYPE_CHECKING:
    from edgert.serve.http.site import Peer, Site

_WORTH_COUNTING = 1 << 16  # bytes; a connection takes that much of answers anyway
Finish = Callable[["Exchange", bytes], None]


class Exchange:
    """A request and its one answer. `body` and what views it stay valid as long as anyone holds them."""

    def __init__(
        self,
        head: Head,
        body: memoryview,
        finish: Finish,
        site: Site,
        peer: Peer,
        *,
        is_last: bool,
        is_in_gate: bool,
    ) -> None:
        """`finish` is called on this thread, the fronts' own, with the encoded answer.

        `is_last`: the connection closes after it. `is_in_gate`: it counts among the requests under way.
        """
        self.head = head
        self.body = body
        self.is_last = is_last
        self.is_in_gate = is_in_gate
        self.arrived_mono_ns = time.monotonic_ns()
        self.held_bytes = 0  # of the answer, counted until it is written
        self.is_gone = False  # nobody waits any more
        self._peer = peer
        self._on_gone: Callable[[], None] = _nothing
        self._finish = finish
        self._site = site
        self._thread = threading.get_ident()
        self._is_answered = False

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        return self._peer.is_local

    @property
    def on_gone(self) -> Callable[[], None]:
        """What is called once nobody waits any more; set later than that, it is called at once."""
        return self._on_gone

    @on_gone.setter
    def on_gone(self, call: Callable[[], None]) -> None:
        self._on_gone = call
        if self.is_gone:
            call()

    def leave(self) -> None:
        """Say that nobody waits any more. Only the fronts' thread calls."""
        self.is_gone = True
        self._on_gone()

    def reply(self, answer: Answer) -> None:
        """Answer. Any thread, not two at once; the first answer counts. Copies the body's buffers."""
        if self._is_answered:
            return
        self._is_answered = True
        answer = self._held(answer)
        self._on_gone = _nothing  # it refers to what refers to this
        connection = "keep-alive" if self.head.is_http_1_0 else ""
        data = encode_answer(
            answer,
            connection="close" if self.is_last else connection,
            is_head=self.head.method == "HEAD",
        )
        if threading.get_ident() == self._thread:
            self._finish(self, data)
        else:
            self._site.mailbox.post(self._finish, self, data)

    def _held(self, answer: Answer) -> Answer:
        """Count what the answer takes until it is written; if there is no room, say that instead."""
        size = answer.body_bytes
        if size <= _WORTH_COUNTING or self.is_gone:
            return answer
        try:
            self._site.gate.bodies.take(size)
        except FullError as error:
            return error_answer(error)
        self.held_bytes = size
        return answer

    def hold_json(self, size: int) -> None:
        """Count what JSON or texts of that size take, until this is forgotten. Raises RequestError."""
        self._site.gate.bodies.take_json(size, self)

    def fail(self, error: EdgertError) -> None:
        """Answer with an error."""
        self.reply(error_answer(error))


def _nothing() -> None:
    """What a request does whose sender is gone, unless it says otherwise."""

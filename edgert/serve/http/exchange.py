"""One request under way, and the way back to who sent it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgert.errors import EdgertError
from edgert.serve.bodies import FullError
from edgert.serve.http.message import WORTH_COUNTING, Answer, Head, encode_answer, error_answer

if TYPE_CHECKING:
    from edgert.serve.http.site import Peer, Site

Finish = Callable[["Exchange", bytes | memoryview], None]


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
        is_in_gate: bool,
    ) -> None:
        """`finish` is called on this thread, the fronts' own, with the encoded answer.

        `is_in_gate`: it counts among the requests under way.
        """
        self.head = head
        self.body = body
        self.is_last = not head.is_kept_alive  # the connection closes after it, and the answer says so
        self.is_in_gate = is_in_gate
        self.arrived_mono_ns = time.monotonic_ns()
        self.held_bytes = 0  # of the answer, counted until it is written
        self.is_gone = False  # nobody waits any more
        self._peer = peer
        self._on_gone: Callable[[], None] = _nothing
        self._finish = finish
        self.site = site
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
        self.is_last = self.is_last or self.site.connections.is_stopping
        size = answer.body_bytes
        if size > WORTH_COUNTING and not self.is_gone:
            answer = self._held(answer, size)
        self._on_gone = _nothing  # it refers to what refers to this
        try:
            data = self._encoded(answer)
        except FullError as error:
            data = self._encoded(error_answer(error))
        self.site.mailbox.hand_over(self._finish, self, data)

    def _encoded(self, answer: Answer) -> bytes | memoryview:
        connection = "keep-alive" if self.head.is_http_1_0 else ""
        return encode_answer(
            answer,
            connection="close" if self.is_last else connection,
            is_head=self.head.method == "HEAD",
            room=self.site.gate.bodies.blocks.room,
        )

    def _held(self, answer: Answer, size: int) -> Answer:
        """Count what the answer takes until it is written; if there is no room, say that instead."""
        try:
            self.site.gate.bodies.take(size)
        except FullError as error:
            return error_answer(error)
        self.held_bytes = size
        return answer

    def hold_json(self, size: int) -> None:
        """Count what JSON or texts of that size take, until this is forgotten. Raises RequestError."""
        self.site.gate.bodies.take_json(size, self)

    def fail(self, error: EdgertError) -> None:
        """Answer with an error."""
        self.reply(error_answer(error))


def _nothing() -> None:
    """What a request does whose sender is gone, unless it says otherwise."""

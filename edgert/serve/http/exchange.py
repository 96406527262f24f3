"""One request under way, and the way back to who sent it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgert.errors import EdgertError
from edgert.serve.http.message import Answer, Head, encode_answer, error_answer

if TYPE_CHECKING:
    from edgert.serve.http.site import Site

Finish = Callable[["Exchange", bytes], None]


class Exchange:
    """A request and its one answer. `body` and what views it stay valid as long as anyone holds them."""

    def __init__(
        self,
        head: Head,
        body: memoryview,
        finish: Finish,
        site: Site,
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
        self.on_gone: Callable[[], None] = _nothing  # called on the fronts' thread: nobody waits any more
        self._finish = finish
        self._site = site
        self._thread = threading.get_ident()
        self._is_answered = False

    def reply(self, answer: Answer) -> None:
        """Answer. Any thread, not two at once; the first answer counts. Copies the body's buffers."""
        if self._is_answered:
            return
        self._is_answered = True
        self.on_gone = _nothing  # it refers to what refers to this
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

    def hold_json(self, size: int) -> None:
        """Count what JSON or texts of that size take, until this is forgotten. Raises RequestError."""
        self._site.gate.bodies.take_json(size, self)

    def fail(self, error: EdgertError) -> None:
        """Answer with an error."""
        self.reply(error_answer(error))


def _nothing() -> None:
    """What a request does whose sender is gone, unless it says otherwise."""

"""Responses in the order in which the requests came, whichever lane is done first."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from edgert.frames.request import InferResponse, Responder


class OrderedResponder:
    """The Responder of one request in its order. `leave` if it gets no final response."""

    def __init__(self, ordering: Ordering, responder: Responder) -> None:
        self.responder = responder
        self.held: deque[InferResponse] = deque()
        self.is_over = False  # nothing comes after what is held
        self._ordering = ordering

    def respond(self, response: InferResponse) -> None:
        """Hand a response on at once if it is this request's turn, else keep a copy until it is."""
        self._ordering.put(self, response)

    def leave(self) -> None:
        """Give the turn up: no more responses come, and none that did would be sent. Allowed again."""
        self._ordering.put(self, None)


class Ordering:
    """The requests of one model that have not been answered wholly, in order of coming.

    Responses of a decoupled model all go in its request's turn. Who sends sends alone, outside the lock; what
    comes on other threads meanwhile is left to that one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: deque[OrderedResponder] = deque()
        self._is_sending = False

    def __len__(self) -> int:
        return len(self._turns)

    def enter(self, responder: Responder) -> OrderedResponder:
        """Return the responder for the request that comes next."""
        turn = OrderedResponder(self, responder)
        with self._lock:
            self._turns.append(turn)
        return turn

    def put(self, turn: OrderedResponder, response: InferResponse | None) -> None:
        """Send or keep a response, then send what had to wait for it; None says that no more come."""
        if response is None:
            with self._lock:
                turn.is_over = True
        elif self._begin(turn):
            self._send(turn, response)
        else:
            self._hold(turn, _copied(response))
        while (ready := self._next()) is not None:
            self._send(*ready)

    def _begin(self, turn: OrderedResponder) -> bool:
        with self._lock:
            is_next = not self._is_sending and not turn.held and turn in self._first()
            self._is_sending |= is_next
        return is_next

    def _first(self) -> list[OrderedResponder]:
        return [self._turns[0]] if self._turns else []

    def _hold(self, turn: OrderedResponder, response: InferResponse) -> None:
        with self._lock:
            turn.held.append(response)
            turn.is_over |= response.is_final

    def _send(self, turn: OrderedResponder, response: InferResponse) -> None:
        try:
            turn.responder.respond(response)
        finally:
            with self._lock:
                self._is_sending = False
                turn.is_over |= response.is_final

    def _next(self) -> tuple[OrderedResponder, InferResponse] | None:
        """Return whose turn it is and what it has to send; nothing while another thread sends."""
        with self._lock:
            if self._is_sending:
                return None
            while self._turns and self._turns[0].is_over and not self._turns[0].held:
                self._turns.popleft()
            if not self._turns or not self._turns[0].held:
                return None
            self._is_sending = True
            return self._turns[0], self._turns[0].held.popleft()


def _copied(response: InferResponse) -> InferResponse:
    """Return the response with arrays of its own: those of a lane are valid during the call only."""
    outputs = {name: array.copy() for name, array in response.outputs.items()}
    return msgspec.structs.replace(response, outputs=outputs)

"""Which of a connection's requests are let in, and who answers them."""

from __future__ import annotations

from edgert.serve.http.message import Head, RefusedError, stopping
from edgert.serve.http.site import Job, Peer, Site


class Admission:
    """Of one connection, whose requests come one after the other. Only the fronts' thread calls."""

    def __init__(self, site: Site, peer: Peer) -> None:
        self._site = site
        self._peer = peer
        self._head: Head | None = None  # the last one that was let in
        self._job: Job
        self._is_in_gate = False  # the request that arrives

    def admit(self, head: Head) -> Job:
        """Return who answers, and count the request in the gate. For the last request's head it is the same.

        Raises:
            EdgertError: the request is refused.
        """
        if self._site.connections.is_stopping:
            raise stopping()
        if head is not self._head:
            self._job = self._site.admit(head, self._peer)
            self._head = head
        if head.method == "POST":
            self._enter()
        return self._job

    def pass_on(self) -> bool:
        """Return whether the request is in the gate; whoever asks counts it out."""
        is_in_gate, self._is_in_gate = self._is_in_gate, False
        return is_in_gate

    def leave(self) -> None:
        """Give up the request that arrives."""
        if self.pass_on():
            self._site.gate.leave()

    def _enter(self) -> None:
        if not self._site.gate.enter():
            raise RefusedError(503, "too_many_requests", "there are too many requests under way")
        self._is_in_gate = True

"""Who may come in, and where to: judged from a request's head, before its body is read."""

from __future__ import annotations

from edgert.serve.access import Token
from edgert.serve.http.handling import check_encoding
from edgert.serve.http.message import Head, RefusedError
from edgert.serve.http.router import Route, Router
from edgert.serve.http.site import Job, Peer


class Door:
    """Lets requests in."""

    def __init__(self, router: Router, token: str, *, is_control_allowed: bool) -> None:
        """Every request must carry `token`, unless that is empty."""
        self._router = router
        self._token = Token(token)
        self._is_control_allowed = is_control_allowed

    def admit(self, head: Head, peer: Peer) -> Job:
        """Return who answers a request. Raises RefusedError."""
        if not self._token.is_in(head.headers.get(b"authorization", b"")):
            raise RefusedError(401, "unauthorized", "expected the server's token: Authorization: Bearer ...")
        found = self._router.find(head.method, head.path)
        check_encoding(head.headers.get(b"content-encoding", b""))
        if found.route.is_control or found.route.is_local:
            self._check_right(found.route, head, peer)
        return found.job

    def _check_right(self, route: Route, head: Head, peer: Peer) -> None:
        if b"origin" in head.headers:  # a browser says so: some page tries to reach this machine through it
            raise RefusedError(403, "forbidden", "the server is not changed by web pages")
        if route.is_local and not peer.is_local:
            raise RefusedError(403, "forbidden", "shared memory is for clients on the server's machine")
        if route.is_control and not self._is_control_allowed:
            raise RefusedError(
                403, "forbidden", "model control is off; set http.control = true in the pipeline file"
            )

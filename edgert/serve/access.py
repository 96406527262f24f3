"""Who is at the other end: on this machine or not, with the server's token or without."""

from __future__ import annotations

import asyncio
import hmac

_BEARER = b"bearer "


class Token:
    """What every request must carry, unless it is empty."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def is_in(self, authorization: bytes) -> bool:
        """Say whether the value of a header `authorization` carries it."""
        if not self._token:
            return True
        is_bearer = authorization[: len(_BEARER)].lower() == _BEARER
        return is_bearer and hmac.compare_digest(authorization[len(_BEARER) :].strip(), self._token)


def is_local(transport: asyncio.BaseTransport) -> bool:
    """Say whether a client is on this machine, so that its shared memory may be used."""
    peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
    if not peer or not own:
        return False
    host: str = peer[0]
    return host in (own[0], "::1") or host.startswith(("127.", "::ffff:127."))

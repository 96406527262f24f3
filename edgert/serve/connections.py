"""The open connections of one front: how many, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Callable
from typing import Protocol, TypeVar

from edgert.errors import ConfigError
from edgert.serve.options import LimitOptions
from edgert.stats import Tally

_BACKLOG = 512
_MAX_LOOK_S = 1.0  # how often connections are looked at; oftener where limits are shorter
_HANDSHAKE_S = 5.0
_SPARE = 16  # connections too many that may finish their handshake, to be told so
_ABORTED_S = 1.0  # until those are gone that were ended at once


class OpenConnection(Protocol):
    """A connection, on the fronts' thread."""

    def expire(self, now_s: float) -> None:
        """End what has taken too long."""

    def stop(self) -> None:
        """Close as soon as nothing is under way."""

    def abort(self) -> None:
        """Close at once."""


Connection = TypeVar("Connection", bound=OpenConnection)


class Connections:
    """Only the fronts' own thread calls."""

    def __init__(self, limits: LimitOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.is_stopping = False
        self._limits = limits
        self._loop = loop
        self._open: set[OpenConnection] = set()
        self._arriving: weakref.WeakKeyDictionary[OpenConnection, float] = weakref.WeakKeyDictionary()
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._watch: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection, counts: Tally, *, has_handshake: bool) -> Connection:
        """Count a connection before its handshake.

        Raises:
            ConnectionRefusedError: there are far too many, and asyncio drops its socket.
        """
        if has_handshake and not self._expect(connection):
            counts.add("too_many_connections")
            raise ConnectionRefusedError
        return connection

    def _expect(self, connection: OpenConnection) -> bool:
        now_s = self._loop.time()
        for other, given_up_s in list(self._arriving.items()):
            if now_s > given_up_s:  # its handshake has failed, and the collector has not come yet
                del self._arriving[other]
        if len(self._open) + len(self._arriving) >= self._limits.connections + _SPARE:
            return False
        self._arriving[connection] = now_s + _HANDSHAKE_S
        return True

    def join(self, connection: OpenConnection) -> bool:
        """Take a connection in; False if there are too many."""
        self._arriving.pop(connection, None)
        self._open.add(connection)
        self._all_gone.clear()
        return len(self._open) <= self._limits.connections

    def part(self, connection: OpenConnection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        if not self._open:
            self._all_gone.set()

    def watch(self) -> None:
        """End what is over its time, now and from time to time."""
        now_s = self._loop.time()
        for connection in list(self._open):
            connection.expire(now_s)
        limits = self._limits
        look_s = min(_MAX_LOOK_S, limits.arrive_s / 4, limits.idle_s / 4, limits.answer_s / 4)
        self._watch = self._loop.call_later(look_s, self.watch)

    async def end(self, timeout_s: float) -> None:
        """Let what is under way come to its end for at most that long, then close all."""
        self.is_stopping = True
        for connection in list(self._open):
            connection.stop()
        await self._gone(timeout_s)
        for connection in list(self._open):
            connection.abort()
        await self._gone(_ABORTED_S)
        if self._watch is not None:
            self._watch.cancel()

    async def _gone(self, timeout_s: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._all_gone.wait(), timeout_s)


async def listen(
    make: Callable[[], asyncio.BaseProtocol],
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    limits: LimitOptions,
    *,
    key: str,
) -> asyncio.Server:
    """Let `make` make a protocol of each connection. Raises ConfigError, with `key`."""
    handshake_s = min(limits.arrive_s, _HANDSHAKE_S) if context else None
    try:
        return await asyncio.get_running_loop().create_server(
            make, host, port, ssl=context, backlog=_BACKLOG, ssl_handshake_timeout=handshake_s
        )
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot listen on {host}:{port}: {error}. Choose another {key}.port."
        ) from error

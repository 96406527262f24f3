"""ModelStreamInfer: requests one way, responses the other, in the order in which they are there."""

from __future__ import annotations

import asyncio
from collections import deque

from edgert.serve.bodies import FullError
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.response import stream_error
from edgert.serve.grpc.stream_call import StreamCall
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.transport.site import stopping
from edgert.serve.grpc.wire import request_id_of

_PER_TURN = 4  # requests that are begun before others have the loop
_ENTRY_BYTES = 64  # that a response takes beside what it holds
_MOST_WAITING_BYTES = 1 << 22  # of responses; with more no request is begun


class InferStream:
    """One call. What goes wrong with a request is a message, not the stream's end.

    A client that sends faster than it is answered, or than it takes its responses, waits. It is cut off if
    it does not take what a decoupled model pushes.
    """

    def __init__(self, desk: Desk, rpc: Rpc) -> None:
        self._desk = desk
        self._rpc = rpc
        self._calls: set[StreamCall] = set()
        self._most_calls = max(1, desk.gate.limit // 2)  # one stream leaves room for others
        self._has_room = asyncio.Event()
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0  # counted among the bodies
        self._bodies = desk.gate.bodies
        self._most_bytes = desk.limits.request_mb << 20
        self._is_read = False
        self._is_stopping = False
        self._has_news = asyncio.Event()
        rpc.on_stop = self._stop

    async def run(self) -> None:
        """Answer until the client has sent its last request and has all its responses."""
        reading = asyncio.ensure_future(self._read())
        try:
            await self._write()
            await reading
        finally:
            reading.cancel()
            for call in self._calls:
                call.close()
            self._forget(self._outbox_bytes)

    def _forget(self, size: int) -> None:
        """Count less of what waits for the client."""
        self._outbox_bytes -= size
        self._bodies.free(size)

    async def _read(self) -> None:
        begun = 0
        try:
            while (data := await self._next()) is not None:
                await self._until_taken()
                await self._begin(data)
                begun += 1
                if begun % _PER_TURN == 0:
                    await asyncio.sleep(0)
        finally:
            self._is_read = True
            self._has_news.set()

    async def _next(self) -> Message | None:
        """Return the next request; one that found no room is told so."""
        while True:
            try:
                return await self._rpc.read()
            except FullError as error:
                words = str(error)
            await self._until_taken()
            self._post(stream_error(words))
            await asyncio.sleep(0)

    async def _until_taken(self) -> None:
        while self._outbox and self._outbox_bytes > _MOST_WAITING_BYTES:
            self._has_room.clear()
            await self._has_room.wait()

    async def _begin(self, data: Message) -> None:
        while len(self._calls) >= self._most_calls or not self._desk.gate.enter():
            if not self._calls:
                self._post(stream_error(str(self._desk.full()), request_id_of(data)))
                return
            self._has_room.clear()
            await self._has_room.wait()
        call = StreamCall(self._desk, self._send)
        self._calls.add(call)
        await call.begin(data, is_local=self._rpc.is_local)

    def _send(self, call: StreamCall, message: bytes | None, is_final: bool) -> None:
        if is_final:
            self._calls.discard(call)
            self._has_room.set()
        self._post(message, call.id)
        if not is_final and len(self._outbox) > 1 and self._outbox_bytes > self._most_bytes:
            self._rpc.cut_off()

    def _post(self, message: bytes | None, request_id: str = "") -> None:
        if message is not None:
            try:
                self._put(message)
            except FullError as error:
                self._put_refusal(stream_error(str(error), request_id))
        self._has_news.set()

    def _put(self, message: bytes) -> None:
        """Keep a message for the client. Raises FullError."""
        self._bodies.take(_ENTRY_BYTES + len(message))
        self._outbox.append(message)
        self._outbox_bytes += _ENTRY_BYTES + len(message)

    def _put_refusal(self, message: bytes) -> None:
        """Say that there is no room for a response; without room even for that the stream ends."""
        try:
            self._put(message)
        except FullError:
            self._rpc.cut_off()

    def _stop(self) -> None:
        """Answer what is under way, and then no more."""
        self._is_stopping = True
        self._has_news.set()

    async def _write(self) -> None:
        while True:
            while self._outbox:
                message = self._outbox.popleft()
                await self._rpc.write(message)
                self._forget(_ENTRY_BYTES + len(message))
                self._has_room.set()
            if not self._calls:
                if self._is_read:
                    return
                if self._is_stopping:
                    raise stopping()
            self._has_news.clear()
            await self._has_news.wait()

"""One request of a ModelStreamInfer."""

from __future__ import annotations

from collections.abc import Callable

from edgert.frames.request import InferRequest, InferResponse
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.response import ResponseWriter, empty_final, stream_error
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.transport.faults import FaultsTo
from edgert.serve.grpc.wire import request_id_of

_LATE = "Deadline Exceeded"
Send = Callable[["StreamCall", bytes | None, bool], None]


class StreamCall:
    """Its responder. Counted in the gate until its final response, or until it is refused."""

    def __init__(self, desk: Desk, send: Send) -> None:
        """The caller has entered the gate. `send` gets messages, on the loop, until a final one."""
        self.id = ""  # of the request, once it is read
        self._desk = desk
        self._send = send
        self._request: InferRequest | None = None  # None until it is read
        self._writer: ResponseWriter
        self._wants_empty_final = False
        self._timer = desk.loop.call_later(desk.limits.answer_s, self._give_up)
        self._is_closed = False

    async def begin(self, data: Message, *, is_local: bool) -> None:
        """Hand the request to the core; what is wrong with it is sent."""
        is_begun = False
        try:
            with FaultsTo(lambda error: self._finish(stream_error(str(error), request_id_of(data)))):
                arrived = await self._desk.read(data, self, is_local=is_local)
                self._request, self._writer = arrived.request, arrived.writer
                self.id = arrived.request.id
                self._wants_empty_final = arrived.wants_empty_final
                if not self._is_closed:
                    self._desk.core.infer(arrived.request)
                    is_begun = True
        finally:
            if not is_begun:
                self._leave()

    def respond(self, response: InferResponse) -> None:
        """Write the response while its arrays are valid, and hand it to the loop."""
        post, is_final = self._desk.mailbox.post, response.is_final
        with FaultsTo(lambda error: post(self._take, stream_error(str(error), response.id), is_final)):
            post(self._take, self._write(response), is_final)

    def close(self) -> None:
        """Hear of no response any more."""
        self._timer.cancel()
        self._is_closed = True
        if self._request is not None:
            self._request.is_cancelled = True

    def _write(self, response: InferResponse) -> bytes | None:
        if response.is_final and not response.outputs and response.error is None:
            return empty_final(response) if self._wants_empty_final else None
        return self._writer.streamed(response)

    def _take(self, message: bytes | None, is_final: bool) -> None:
        if is_final:
            self._leave()
        if self._is_closed:
            return
        if is_final:
            self._finish(message)
        else:
            self._send(self, message, False)

    def _leave(self) -> None:
        self._request = None  # it refers to this, and to the message
        self._desk.gate.leave()

    def _give_up(self) -> None:
        self.close()
        self._send(self, stream_error(_LATE, self.id), True)

    def _finish(self, message: bytes | None) -> None:
        self._timer.cancel()
        self._is_closed = True
        self._send(self, message, True)

"""ModelInfer: one request, one response."""

from __future__ import annotations

from time import monotonic

from edgert.errors import EdgertError, UnsupportedError
from edgert.frames.request import InferRequest, InferResponse
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.request import Arrived, is_long, read_infer
from edgert.serve.grpc.response import ResponseWriter
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.transport.faults import FaultsTo
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.wire import Cut, cut
from edgert.serve.transaction import demand_one_answer

Outcome = bytes | EdgertError
_DECOUPLED = "ModelInfer RPC doesn't support models with decoupled transaction policy"


def answer_unary(desk: Desk, rpc: Rpc, message: Message) -> None:
    """Answer one call, now or later. Raises EdgertError, and then the core has no request."""
    if not desk.gate.enter():
        raise desk.full()
    UnaryCall(desk, rpc).begin(cut(message))


class UnaryCall:
    """The responder of one ModelInfer, counted in the gate until its final response."""

    def __init__(self, desk: Desk, rpc: Rpc) -> None:
        """The caller has entered the gate."""
        self._desk = desk
        self._rpc = rpc
        self._request: InferRequest | None = None  # None until it is read
        self._writer: ResponseWriter
        rpc.on_gone = self._cancel
        rpc.deadline_s = min(rpc.deadline_s, monotonic() + desk.limits.answer_s)

    def begin(self, pieces: Cut) -> None:
        """Read the request and hand it to the core; what is long, later. Raises EdgertError."""
        if is_long(pieces):
            self._desk.executor.submit(self._read_long, pieces)
            return
        try:
            self._infer(self._read(pieces))
        except BaseException:
            self._leave()
            raise

    def respond(self, response: InferResponse) -> None:
        """Write the response while its arrays are valid, and hand it to the loop."""
        hand_over, is_final = self._desk.mailbox.hand_over, response.is_final
        if response.error is not None and is_final:
            hand_over(self._take, response.error, True)
            return
        with FaultsTo(lambda error: hand_over(self._take, error, is_final)):
            if not is_final or not response.outputs:
                raise UnsupportedError(_DECOUPLED)
            hand_over(self._take, self._writer.unary(response), is_final)

    def _read(self, pieces: Cut) -> Arrived:
        desk = self._desk
        regions = desk.regions if self._rpc.is_local else None
        return read_infer(pieces, self, desk.core, regions, desk.gate.bodies)

    def _read_long(self, pieces: Cut) -> None:
        """Run on another thread."""
        post = self._desk.mailbox.post
        with FaultsTo(lambda error: post(self._take, error, True)):
            post(self._infer_late, self._read(pieces))

    def _infer(self, arrived: Arrived) -> None:
        request, self._writer = arrived.request, arrived.writer
        demand_one_answer(self._desk.core, request.model, request.version, _DECOUPLED)
        self._request = request
        self._desk.core.infer(request)

    def _infer_late(self, arrived: Arrived) -> None:
        if self._rpc.is_ended:
            self._leave()
            return
        with FaultsTo(lambda error: self._take(error, True)):
            self._infer(arrived)

    def _take(self, outcome: Outcome, is_final: bool) -> None:
        if is_final:
            self._leave()
        else:
            self._cancel()
        if isinstance(outcome, EdgertError):
            self._rpc.fail(outcome)
        else:
            self._rpc.reply(outcome)

    def _leave(self) -> None:
        self._request = None  # it refers to this, and to the message
        self._desk.gate.leave()

    def _cancel(self) -> None:
        if self._request is not None:
            self._request.is_cancelled = True

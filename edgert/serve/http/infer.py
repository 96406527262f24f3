"""`POST /v2/models/{model}[/versions/{version}]/infer`."""

from __future__ import annotations

import functools
import logging

from edgert.errors import EdgertError, RequestError, UnsupportedError
from edgert.frames.request import InferRequest, InferResponse
from edgert.frames.result import Array
from edgert.serve.core import InferenceCore
from edgert.serve.encode import ResponseEncoder
from edgert.serve.http.asked import Asked, JsonReader, ask
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import InferBody
from edgert.serve.http.inputs import InputReader
from edgert.serve.http.message import BINARY, Answer, RefusedError, error_answer
from edgert.serve.http.packing import accepted_encoding, reply_packed
from edgert.serve.http.router import Route, Router
from edgert.serve.http.site import Later
from edgert.serve.shared_memory import SharedMemory
from edgert.serve.transaction import demand_one_answer

log = logging.getLogger(__name__)

HEADER_LENGTH = "Inference-Header-Content-Length"
LONG_COPY_BYTES = 1 << 20  # of shared memory
_DECOUPLED = "HTTP end point doesn't support models with decoupled transaction policy"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
_RAW = ask(InferBody(inputs=[], parameters={"binary_data_output": True}))


class InferRoutes:
    """Inferences over HTTP."""

    def __init__(self, core: InferenceCore, regions: SharedMemory | None) -> None:
        """`regions` is None where shared memory is off."""
        self._core = core
        self._regions = regions
        self._json = JsonReader()

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        router.add(
            Route("POST", "/v2/models/{model}/infer", self.infer),
            Route("POST", "/v2/models/{model}/versions/{version}/infer", self.infer),
        )

    def infer(self, exchange: Exchange, model: str, version: int = 0) -> Later | None:
        """Begin an inference, or return what begins it. Raises RequestError."""
        demand_one_answer(self._core, model, version, _DECOUPLED)
        json_bytes = _json_bytes(exchange)
        if not json_bytes:
            reader = InputReader(self._core, model, version, None)
            inputs = reader.read_raw(_raw(exchange.body), exchange.hold_json)
            self._core.infer(self._request(exchange, model, version, _RAW, inputs))
            return None
        exchange.hold_json(json_bytes)
        asked = self._json.read(exchange.body[:json_bytes])
        regions = self._regions_for(exchange) if asked.has_regions else None
        reader = InputReader(self._core, model, version, regions)
        is_long = asked.has_long_texts or (
            asked.has_regions and reader.copied_bytes(asked.body) > LONG_COPY_BYTES
        )
        begin = functools.partial(self._begin, exchange, model, version, asked, reader, json_bytes)
        return begin if is_long else begin()

    def _begin(
        self, exchange: Exchange, model: str, version: int, asked: Asked, reader: InputReader, json_bytes: int
    ) -> None:
        inputs = reader.read(asked.body, exchange.body[json_bytes:], exchange.hold_json)
        self._core.infer(self._request(exchange, model, version, asked, inputs))

    def _request(
        self, exchange: Exchange, model: str, version: int, asked: Asked, inputs: dict[str, Array]
    ) -> InferRequest:
        settings = asked.settings
        wishes = asked.wishes(self._regions_for(exchange)) if asked.has_regions else asked.named
        request = InferRequest(
            model=model,
            version=version,
            inputs=inputs,
            responder=HttpResponder(exchange, ResponseEncoder(self._core, wishes, asked.otherwise)),
            id=asked.body.id,
            outputs=tuple(wishes),
            priority=settings.priority,
            timeout_us=settings.timeout,
            sequence=asked.sequence,
            parameters=asked.others,
            arrived_mono_ns=exchange.arrived_mono_ns,
        )
        exchange.on_gone = functools.partial(_cancel, request)
        return request

    def _regions_for(self, exchange: Exchange) -> SharedMemory | None:
        return self._regions if exchange.is_local else None


class HttpResponder:
    """Answers an exchange with the one response of a model."""

    def __init__(self, exchange: Exchange, encoder: ResponseEncoder) -> None:
        self._exchange = exchange
        self._encoder = encoder

    def respond(self, response: InferResponse) -> None:
        """Send the response, encoded at once, on this thread."""
        try:
            self._reply(self._answer(response), is_packed=response.error is None)
        except EdgertError as error:
            self._exchange.fail(error)
        except Exception:  # a fault of edgert's own must not end the lane that answers
            log.exception("http: a response of %s could not be encoded", response.model)
            self._exchange.fail(EdgertError("internal error; see the log"))

    def _reply(self, answer: Answer, *, is_packed: bool) -> None:
        accepted = self._exchange.head.headers.get(b"accept-encoding")
        encoding = accepted_encoding(accepted) if is_packed and accepted else ""
        if encoding:
            reply_packed(self._exchange, answer, encoding)
        else:
            self._exchange.reply(answer)

    def _answer(self, response: InferResponse) -> Answer:
        if response.error is not None:  # not raised: it would hold on to this call, and that to the request
            return error_answer(response.error)
        if not response.is_final:
            self._exchange.on_gone()
            raise UnsupportedError(_DECOUPLED)
        encoded = self._encoder.encode(response)
        if not encoded.tensors:
            return Answer(body=(encoded.json,))
        headers = ((HEADER_LENGTH, str(len(encoded.json))),)
        return Answer(200, (encoded.json, *encoded.tensors), BINARY, headers)


def _cancel(request: InferRequest) -> None:
    request.is_cancelled = True


def _json_bytes(exchange: Exchange) -> int:
    """Return how much of the body is JSON; 0: nothing is, it is the only input as it is."""
    header = exchange.head.headers.get(_HEADER_LENGTH)
    length = len(exchange.body)
    if header is None:
        return length
    try:
        size = int(header)
    except ValueError:
        raise RequestError(f"{HEADER_LENGTH} has to be a number, got: {header.decode('latin-1')}") from None
    if not 0 <= size <= length:
        raise RequestError(f"inference header size should be in range (0, {length}), got: {size}")
    return size


def _raw(body: memoryview) -> memoryview:
    if not body:
        raise RefusedError(400, "empty", "the request has no body")
    return body

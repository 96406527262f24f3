"""`POST /v2/models/{model}[/versions/{version}]/infer`."""

from __future__ import annotations

import functools
import logging

from edgert.errors import EdgertError, RequestError, UnsupportedError
from edgert.frames.request import InferRequest, InferResponse
from edgert.frames.result import Array
from edgert.serve.core import InferenceCore
from edgert.serve.encode import ResponseEncoder, Wish
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.infer_body import InferBody, OutputTensor, read_json, read_settings
from edgert.serve.http.inputs import InputReader
from edgert.serve.http.message import BINARY, Answer, RefusedError, error_answer
from edgert.serve.http.router import Route, Router
from edgert.serve.http.site import Later
from edgert.serve.shared_memory import SharedMemory, no_regions
from edgert.serve.transaction import demand_one_answer

log = logging.getLogger(__name__)

HEADER_LENGTH = "Inference-Header-Content-Length"
LONG_TEXT_BYTES = 1 << 15
LONG_COPY_BYTES = 1 << 20  # of shared memory
_DECOUPLED = "HTTP end point doesn't support models with decoupled transaction policy"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()


class InferRoutes:
    """Inferences over HTTP."""

    def __init__(self, core: InferenceCore, regions: SharedMemory | None) -> None:
        """`regions` is None where shared memory is off."""
        self._core = core
        self._regions = regions

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
        reader = InputReader(self._core, model, version, self._regions_for(exchange))
        if not json_bytes:
            body = InferBody(inputs=[], parameters={"binary_data_output": True})
            inputs = reader.read_raw(_raw(exchange.body), exchange.hold_json)
            self._core.infer(self._request(exchange, model, version, body, inputs))
            return None
        exchange.hold_json(json_bytes)
        body = read_json(exchange.body[:json_bytes], InferBody)

        def begin() -> None:
            inputs = reader.read(body, exchange.body[json_bytes:], exchange.hold_json)
            self._core.infer(self._request(exchange, model, version, body, inputs))

        if _has_long_texts(body) or reader.copied_bytes(body) > LONG_COPY_BYTES:
            return begin
        begin()
        return None

    def _request(
        self, exchange: Exchange, model: str, version: int, body: InferBody, inputs: dict[str, Array]
    ) -> InferRequest:
        settings, others = read_settings(body.parameters)
        otherwise = Wish(is_binary=settings.binary_data_output)
        regions = self._regions_for(exchange)
        wishes = {output.name: self._wish(output, otherwise, regions) for output in body.outputs}
        request = InferRequest(
            model=model,
            version=version,
            inputs=inputs,
            responder=HttpResponder(exchange, ResponseEncoder(self._core, wishes, otherwise)),
            id=body.id,
            outputs=tuple(wishes),
            priority=settings.priority,
            timeout_us=settings.timeout,
            sequence=settings.sequence,
            parameters=others,
            arrived_mono_ns=exchange.arrived_mono_ns,
        )
        exchange.on_gone = functools.partial(_cancel, request)
        return request

    def _regions_for(self, exchange: Exchange) -> SharedMemory | None:
        return self._regions if exchange.is_local else None

    @staticmethod
    def _wish(output: OutputTensor, otherwise: Wish, regions: SharedMemory | None) -> Wish:
        wanted = output.parameters
        is_binary = otherwise.is_binary if wanted.binary_data is None else wanted.binary_data
        if wanted.shared_memory_region is None:
            return Wish(is_binary, wanted.classification)
        if regions is None:
            raise no_regions()
        span = regions.span(
            wanted.shared_memory_region, wanted.shared_memory_offset, wanted.shared_memory_byte_size
        )
        return Wish(is_binary, wanted.classification, span)


class HttpResponder:
    """Answers an exchange with the one response of a model."""

    def __init__(self, exchange: Exchange, encoder: ResponseEncoder) -> None:
        self._exchange = exchange
        self._encoder = encoder

    def respond(self, response: InferResponse) -> None:
        """Send the response, encoded at once, on this thread."""
        try:
            self._exchange.reply(self._answer(response))
        except EdgertError as error:
            self._exchange.fail(error)
        except Exception:  # a fault of edgert's own must not end the lane that answers
            log.exception("http: a response of %s could not be encoded", response.model)
            self._exchange.fail(EdgertError("internal error; see the log"))

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


def _has_long_texts(body: InferBody) -> bool:
    """Say whether an input has texts that take long to be told apart."""
    return any(
        tensor.datatype == "BYTES"
        and max(tensor.parameters.binary_data_size or 0, tensor.parameters.shared_memory_byte_size)
        > LONG_TEXT_BYTES
        for tensor in body.inputs
    )


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

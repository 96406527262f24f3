"""From a response's arrays to a message's bytes, each tensor copied once."""

from __future__ import annotations

from collections.abc import Mapping

from edgert.errors import EdgertError
from edgert.frames.request import InferResponse
from edgert.serve.core import InferenceCore
from edgert.serve.encode import ResponseEncoder, Wish, tensor_bytes, write_span
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.grpc.parameters import FINAL, set_parameters
from edgert.serve.grpc.places import AS_IT_IS
from edgert.serve.grpc.wire import RAW_OUTPUT_TAG, STREAM_RESPONSE_TAG, Buffer, field

_Response = INFERENCE_MESSAGES["ModelInferResponse"]
_StreamResponse = INFERENCE_MESSAGES["ModelStreamInferResponse"]


class ResponseWriter(ResponseEncoder):
    """Writes the responses to one request. On the thread that answers, while the arrays are valid."""

    def __init__(self, core: InferenceCore, wishes: Mapping[str, Wish]) -> None:
        super().__init__(core, wishes, AS_IT_IS)

    def unary(self, response: InferResponse) -> bytes:
        """Return a ModelInferResponse of what is no error. Raises EdgertError where there is none."""
        return b"".join(self._pieces(response, {}))

    def streamed(self, response: InferResponse) -> bytes:
        """Return a ModelStreamInferResponse; an error is its text."""
        is_final = {FINAL: response.is_final}
        if response.error is not None:  # not raised: it would hold on to this call, and that to the request
            return stream_error(str(response.error), response.id, response.model, is_final)
        try:
            return b"".join(field(STREAM_RESPONSE_TAG, self._pieces(response, is_final)))
        except EdgertError as error:
            return stream_error(str(error), response.id, response.model, is_final)

    def _pieces(self, response: InferResponse, parameters: Mapping[str, bool]) -> list[Buffer]:
        head = _Response(model_name=response.model, model_version=str(response.version), id=response.id)
        if parameters or response.parameters:
            set_parameters(head.parameters, {**response.parameters, **parameters})
        raws: list[Buffer] = []
        for name in response.outputs:
            wish = self._wishes.get(name, AS_IT_IS)
            array = self._tensor(response, name, wish)
            head.outputs.add(name=name, datatype=self._datatype(response, name, array), shape=array.shape)
            data = tensor_bytes(array)
            if wish.span is not None:
                write_span(wish.span, name, data)
                data = b""
            raws += field(RAW_OUTPUT_TAG, [data])
        return [head.SerializeToString(), *raws]


def empty_final(response: InferResponse) -> bytes:
    """Return the ModelStreamInferResponse that ends the responses of a decoupled model."""
    head = _Response(model_name=response.model, id=response.id)
    set_parameters(head.parameters, {FINAL: True})
    data: bytes = _StreamResponse(infer_response=head).SerializeToString()
    return data


def stream_error(
    message: str, request_id: str = "", model: str = "", parameters: Mapping[str, bool] = {}
) -> bytes:
    """Return a ModelStreamInferResponse that says what went wrong with one request."""
    head = _Response(model_name=model, id=request_id)
    set_parameters(head.parameters, parameters)
    data: bytes = _StreamResponse(error_message=message, infer_response=head).SerializeToString()
    return data

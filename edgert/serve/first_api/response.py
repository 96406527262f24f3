"""A model's response as raw tensors with an InferResponseHeader behind them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from edgert.errors import EdgertError, UnsupportedError
from edgert.frames.request import InferResponse
from edgert.frames.result import Array
from edgert.serve.classify import classify
from edgert.serve.core import InferenceCore
from edgert.serve.encode import Wish, tensor_bytes, write_span
from edgert.serve.first_api.messages import MESSAGE_CLASSES, encoded, one_line
from edgert.serve.first_api.reply import failure, success, wants_binary
from edgert.serve.first_api.request import Asked
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import Answer, Buffer

log = logging.getLogger(__name__)

HEADER = "NV-InferResponse"
DECOUPLED = "this API has one answer to a request; the model is decoupled"
_RAW = Wish(is_binary=True)


class FirstApiResponder:
    """Answers an exchange with the one response of a model."""

    def __init__(self, exchange: Exchange, core: InferenceCore, asked: Asked) -> None:
        self._exchange = exchange
        self._core = core
        self._wishes = asked.wishes
        self._number = asked.number
        self._batch_size = asked.batch_size
        self._is_batched = asked.is_batched

    def respond(self, response: InferResponse) -> None:
        """Send the response, encoded at once, on this thread."""
        try:
            self._exchange.reply(self._answer(response))
        except EdgertError as error:
            self._exchange.reply(failure(error))
        except Exception:  # a fault of edgert's own must not end the lane that answers
            log.exception("http: a response of %s could not be encoded", response.model)
            self._exchange.reply(failure(EdgertError("internal error; see the log")))

    def _answer(self, response: InferResponse) -> Answer:
        if response.error is not None:  # not raised: it would hold on to this call, and that to the request
            return failure(response.error)
        if not response.is_final:
            self._exchange.on_gone()
            raise UnsupportedError(DECOUPLED)
        header = MESSAGE_CLASSES["InferResponseHeader"](
            id=self._number,
            model_name=response.model,
            model_version=response.version,
            batch_size=self._batch_size,
        )
        tensors: list[Buffer] = []
        for name, array in response.outputs.items():
            self._add(header.output.add(name=name), array, response, tensors)
        is_binary = wants_binary(self._exchange)
        body = (*tensors, encoded(header, is_binary=is_binary))
        return success(body, is_binary=True, headers=((HEADER, one_line(header)),))

    def _add(self, output: Any, array: Array, response: InferResponse, tensors: list[Buffer]) -> None:
        """Describe an output; what goes into the body is appended to `tensors`."""
        wish = self._wishes.get(output.name, _RAW)
        if wish.classes:
            labels = self._core.labels(response.model, response.version, output.name)
            texts = classify(array, wish.classes, labels, is_batched=self._is_batched)
            self._add_classes(output, array, texts)
            return
        data = tensor_bytes(array)
        output.raw.dims.extend(array.shape[1:] if self._is_batched else array.shape)
        output.raw.batch_byte_size = len(data)
        if wish.span is None:
            tensors.append(data)
        else:
            write_span(wish.span, output.name, data)

    def _add_classes(self, output: Any, array: Array, texts: Array) -> None:
        rows = array.reshape(len(array) if self._is_batched else 1, -1)
        for row, best in zip(rows, np.atleast_2d(texts), strict=True):
            classes = output.batch_classes.add()
            for text in best:
                _, index, *label = text.decode().split(":", 2)
                classes.cls.add(idx=int(index), value=float(row[int(index)]), label="".join(label))

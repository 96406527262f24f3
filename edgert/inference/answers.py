"""From the outputs of a batch to the responses of its requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from edgert.errors import DeviceLostError, EdgertError, ModelError
from edgert.execute.engine import Completed
from edgert.execute.python_buffers import OnPart, PythonBufferSet
from edgert.frames.request import InferResponse
from edgert.frames.result import Array
from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.fill import reshaped
from edgert.inference.signature import Signature
from edgert.models.model_config import ModelConfig
from edgert.schedule.queued import Queued

log = logging.getLogger(__name__)

GivePart = Callable[[Queued, Mapping[str, Array], int, int], None]


class Answers:
    """Answers the requests of one version and counts that. `on_final` hears of each final response."""

    def __init__(
        self,
        model: str,
        version: int,
        config: ModelConfig,
        signature: Signature,
        counts: Counts,
        on_final: Callable[[Queued, InferResponse], None],
        on_lost: Callable[[DeviceLostError], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._version = version
        self._signature = signature
        self._counts = counts
        self._on_final = on_final
        self._on_lost = on_lost
        self._is_batched = bool(config.max_batch_size)
        self._is_decoupled = config.is_decoupled
        self._reshaped = {tensor.name: tensor for tensor in config.outputs if tensor.reshape is not None}

    def give(self, batch: Sequence[Queued], completed: Completed, rows: Sequence[int] | None = None) -> None:
        """Answer every request of a batch that has left its lane.

        `rows` are those of the lane's batch that the requests have, a row each, where they do not stand one
        behind the other.
        """
        error, outputs = self._read(completed)
        times = _times(completed)
        self._counts.batch(sum(queued.rows for queued in batch), times)
        each = completed.buffers.answers if isinstance(completed.buffers, PythonBufferSet) else None
        if error is not None:
            self._fail_all(batch, error)
        elif self._is_decoupled:
            self._end_all(batch, times)
        elif each is not None:
            self._answer_each(batch, [each[row] for row in rows] if rows else each, times)
        else:
            is_padded = rows is not None or completed.buffers.stream is not None
            self._answer_all(batch, rows or _starts(batch), outputs, times, is_padded=is_padded)

    @staticmethod
    def _read(completed: Completed) -> tuple[EdgertError | None, Mapping[str, Array]]:
        if completed.error is not None:
            return completed.error, {}
        try:
            return None, completed.buffers.outputs()
        except Exception as failure:  # noqa: BLE001 - whatever a runtime raises is the fate of this batch only
            return ModelError(f"The outputs cannot be read: {failure}"), {}

    def count(self, rows: int, completed: Completed) -> None:
        """Count a batch of a warm-up, each row a request, as the Inference Server does."""
        times = _times(completed)
        self._counts.batch(rows, times)
        for _ in range(rows):
            self._counts.answered(1, times.started_mono_ns, times)

    def part_sender(self, queued: Queued) -> OnPart | None:
        """Return what takes the responses of a decoupled model to a request as they come."""
        return PartSender(self._give_part, queued) if self._is_decoupled else None

    def _give_part(self, queued: Queued, outputs: Mapping[str, Array], index: int, took_ns: int) -> None:
        self._counts.part(index, took_ns, 0, queued.arrived_ns)
        response = self._response(queued, outputs)
        response.is_final = False
        self._hand_over(queued, response)

    def fail(self, queued: Queued, error: EdgertError) -> None:
        """Answer a request with an error."""
        self._counts.failed(queued.arrived_ns, error)
        request = queued.request
        self._finish(queued, InferResponse(self._model, self._version, request.id, error=error))

    def _fail_all(self, batch: Sequence[Queued], error: EdgertError) -> None:
        for queued in batch:
            self.fail(queued, error)
        if isinstance(error, DeviceLostError):
            self._on_lost(error)

    def _end_all(self, batch: Sequence[Queued], times: BatchTimes) -> None:
        for queued in batch:
            self._counts.answered(queued.rows, queued.arrived_ns, times)
            self._finish(queued, InferResponse(self._model, self._version, queued.request.id))

    def _answer_all(
        self,
        batch: Sequence[Queued],
        starts: Sequence[int],
        outputs: Mapping[str, Array],
        times: BatchTimes,
        *,
        is_padded: bool,
    ) -> None:
        end = starts[-1] + batch[-1].rows
        try:
            for name, array in outputs.items() if self._is_batched else ():
                _check_rows(name, array, end, is_padded=is_padded)
            responses = [self._response_at(*placed, outputs) for placed in zip(batch, starts, strict=True)]
        except ModelError as error:
            self._fail_all(batch, error)
            return
        for queued in batch:
            self._counts.answered(queued.rows, queued.arrived_ns, times)
        for queued, response in zip(batch, responses, strict=True):
            self._finish(queued, response)

    def _answer_each(
        self, batch: Sequence[Queued], answers: Sequence[Mapping[str, Array] | EdgertError], times: BatchTimes
    ) -> None:
        """Answer requests that the model has answered one by one."""
        for queued, answer in zip(batch, answers, strict=True):
            try:
                response = self._response(queued, _given(answer))
            except EdgertError as error:
                self.fail(queued, error)
            else:
                self._counts.answered(queued.rows, queued.arrived_ns, times)
                self._finish(queued, response)

    def _response_at(self, queued: Queued, start: int, outputs: Mapping[str, Array]) -> InferResponse:
        if not self._is_batched:
            return self._response(queued, outputs)
        end = start + queued.rows
        return self._response(queued, {name: array[start:end] for name, array in outputs.items()})

    def _response(self, queued: Queued, outputs: Mapping[str, Array]) -> InferResponse:
        """Return what a request gets. Raises ModelError for a shape that config.pbtxt does not show."""
        request = queued.request
        kept = request.kept
        wanted = {
            name: self._viewed(name, outputs[name])
            for name in self._signature.wanted(request)
            if name in outputs  # a decoupled model's response may leave some out
            and (kept is None or kept.is_shown(name))
        }
        return InferResponse(self._model, self._version, request.id, wanted)

    def _viewed(self, name: str, array: Array) -> Array:
        """Return an output in the shape that config.pbtxt shows."""
        tensor = self._reshaped.get(name)
        if tensor is None:
            return array
        axis = array.shape[:1] if self._is_batched else ()
        shape = (*axis, *reshaped(tensor.engine_dims, tensor.dims, array.shape[len(axis) :]))
        try:
            return array.reshape(shape)
        except ValueError as error:
            raise ModelError(
                f"output {name!r} has shape {list(array.shape)}, config.pbtxt shows {list(shape)}"
            ) from error

    def _finish(self, queued: Queued, response: InferResponse) -> None:
        self._hand_over(queued, response)
        self._on_final(queued, response)

    def _hand_over(self, queued: Queued, response: InferResponse) -> None:
        try:
            queued.request.responder.respond(response)
        except Exception:  # a front that fails must not take the lanes with it
            log.exception("model %s: a response could not be handed over", self._model)


class PartSender:
    """Counts and times the responses of one request. On the lane's thread."""

    def __init__(self, give: GivePart, queued: Queued) -> None:
        self._give = give
        self._queued = queued
        self._index = 0
        self._since_ns = time.monotonic_ns()

    def __call__(self, outputs: Mapping[str, Array]) -> None:
        """Hand on one response."""
        now_ns = time.monotonic_ns()
        self._give(self._queued, outputs, self._index, now_ns - self._since_ns)
        self._index, self._since_ns = self._index + 1, now_ns


def _given(answer: Mapping[str, Array] | EdgertError) -> Mapping[str, Array]:
    if isinstance(answer, EdgertError):
        raise answer
    return answer


def _check_rows(name: str, array: Array, end: int, *, is_padded: bool) -> None:
    """Raise ModelError for an output that does not have a row for each of the batch.

    A padded batch has more: slots without a request, or the size at which a device runs it.
    """
    rows = array.shape[0] if array.ndim else 0
    if rows < end or (rows > end and not is_padded):
        raise ModelError(
            f"output {name!r} has shape {list(array.shape)} for a batch of {end}, expected its first axis to "
            "be the batch's; a model that gives as many rows as it finds needs max_batch_size: 0"
        )


def _starts(batch: Sequence[Queued]) -> list[int]:
    ends = accumulate(queued.rows for queued in batch)
    return [end - queued.rows for queued, end in zip(batch, ends, strict=True)]


def _times(completed: Completed) -> BatchTimes:
    started, filled, finished = (
        completed.started_mono_ns,
        completed.filled_mono_ns,
        completed.finished_mono_ns,
    )
    return BatchTimes(started, filled - started, finished - filled, time.monotonic_ns() - finished)

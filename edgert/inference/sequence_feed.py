"""Requests of sequences: what their model is told of them, and the states that it hands itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgert.errors import EdgertError, ModelError, RequestError
from edgert.execute.engine import Completed
from edgert.execute.python_buffers import PythonBufferSet
from edgert.frames.request import InferRequest, InferResponse, SequenceStep
from edgert.frames.result import Array
from edgert.inference.answers import Answers
from edgert.inference.fill import Part
from edgert.models.files import confined
from edgert.models.model_config import Control, ModelConfig, SequenceState
from edgert.schedule.queued import Queued
from edgert.schedule.scheduler import BatchQueue
from edgert.schedule.sequence import Turn
from edgert.schedule.sequences import Sequences
from edgert.serve.datatypes import DATATYPE_OF_DTYPE, host_dtype

INITIAL_FOLDER = "initial_state"  # beside config.pbtxt
Turns = Sequence[Turn | None]


class Nobody:
    """The responder of a slot without a request."""

    def respond(self, response: InferResponse) -> None:
        """Forget it."""


class SequenceFeed:
    """A Feed whose queues are one for each lane."""

    def __init__(self, sequences: Sequences, config: ModelConfig, folder: Path, answers: Answers) -> None:
        """`folder` is the model's. Raises ModelError for an initial state that cannot be read."""
        batching = config.sequence_batching
        if batching is None:
            raise ModelError(f"{config.file}: field sequence_batching: not given")
        self._sequences = sequences
        self._answers = answers
        self._is_batched = bool(config.max_batch_size)
        self._controls = [(given.name, control) for given in batching.controls for control in given.controls]
        self._states = batching.states
        self._state_outputs = tuple(state.output_name for state in batching.states)
        self._id_dtype = next((own.dtype for _, own in self._controls if own.kind == "CORRID"), "")
        self._nobody = InferRequest(model=config.name, inputs={}, responder=Nobody())
        self._initial = {
            state.input_name: self._initial_value(state, folder, config.file) for state in self._states
        }

    @property
    def queues(self) -> Sequence[BatchQueue]:
        """One for each lane."""
        return self._sequences.lanes

    @property
    def is_awaited(self) -> bool:
        """A lane would take a request now."""
        return self._sequences.is_awaited

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._sequences.waiting

    @property
    def ready(self) -> int:
        """Requests of sequences that have a seat; the others wait for one, which is nobody's fault."""
        return sum(lane.waiting for lane in self._sequences.lanes)

    @property
    def sequences(self) -> int:
        """Sequences under way."""
        return self._sequences.count

    def offer(self, queued: Queued, now_ns: int) -> None:
        """Let a request wait for its turn. Raises RequestError."""
        self._check_id(queued.request.sequence)
        self._sequences.offer(queued, now_ns)

    def parts(self, batch: Turns) -> list[Part]:
        """Return each slot's inputs, controls and states; zeros where a slot has no request."""
        model = next(turn for turn in batch if turn is not None)
        return [self._part(turn) if turn is not None else self._empty(model) for turn in batch]

    def done(self, index: int, batch: Turns, completed: Completed) -> None:
        """Keep the states, answer the requests, let the sequences go on."""
        placed = [(row, turn) for row, turn in enumerate(batch) if turn is not None]
        try:
            if completed.error is None and self._states:
                completed.error = self._keep_states(placed, completed)
            self._answers.give([turn.queued for _, turn in placed], completed, [row for row, _ in placed])
        finally:
            self._sequences.lanes[index].complete(batch, time.monotonic_ns())

    def close(self) -> None:
        """Take no more requests."""
        self._sequences.close()

    def drop_all(self, error: EdgertError) -> None:
        """Answer those that wait with an error, and end all sequences."""
        self._sequences.drop_all(error)

    def _part(self, turn: Turn) -> Part:
        if turn.is_start or turn.sequence.state is None:
            turn.sequence.state = dict(self._initial)
        controls = {name: self._told(control, turn) for name, control in self._controls}
        request = turn.queued.request
        inputs = {**request.inputs, **controls, **turn.sequence.state}
        return Part(inputs, 1, request, self._answers.part_sender(turn.queued), self._state_outputs)

    def _empty(self, model: Turn) -> Part:
        inputs = {name: _blank(array) for name, array in model.queued.request.inputs.items()}
        controls = {name: self._untold(control) for name, control in self._controls}
        return Part({**inputs, **controls, **self._initial}, 1, self._nobody, is_empty=True)

    def _check_id(self, step: SequenceStep | None) -> None:
        """Raise RequestError for an id that the model cannot be told."""
        if step is None or self._id_dtype in ("", "object"):
            return
        limits = np.iinfo(self._id_dtype)
        if not isinstance(step.id, int) or not limits.min <= step.id <= limits.max:
            datatype = DATATYPE_OF_DTYPE[self._id_dtype]
            raise RequestError(
                f"correlation ID {step.id!r} does not fit the control input of the model, which is "
                f"TYPE_{datatype}"
            )

    def _told(self, control: Control, turn: Turn) -> Array:
        if control.kind == "CORRID":
            return self._value(control, turn.sequence.id)
        is_true = {"START": turn.is_start, "END": turn.is_end, "READY": True}[control.kind]
        return self._value(control, control.false_true[is_true])

    def _untold(self, control: Control) -> Array:
        is_text = control.dtype == "object"
        return self._value(
            control, ("" if is_text else 0) if control.kind == "CORRID" else control.false_true[0]
        )

    def _value(self, control: Control, value: float | str) -> Array:
        array = np.empty((1, 1) if self._is_batched else (1,), control.dtype)
        array[...] = str(value).encode() if control.dtype == "object" else value
        return array

    def _keep_states(self, placed: Sequence[tuple[int, Turn]], completed: Completed) -> EdgertError | None:
        """Keep what the sequences' next requests begin with; return why that cannot be had."""
        buffers = completed.buffers
        each = buffers.answers if isinstance(buffers, PythonBufferSet) else None
        try:
            outputs = buffers.outputs()
            for row, turn in placed:
                if each is None:
                    turn.sequence.state |= self._states_in(outputs, row)
                elif not isinstance(answer := each[row], EdgertError):
                    turn.sequence.state |= self._states_in(answer, 0)
        except EdgertError as error:
            return error
        except Exception as failure:  # noqa: BLE001 - whatever a runtime raises is the fate of this batch only
            return ModelError(f"the outputs cannot be read: {failure}")
        return None

    def _states_in(self, outputs: Mapping[str, Array], row: int) -> dict[str, Array]:
        """Return copies of the states in one row of outputs. Raises ModelError."""
        kept = {}
        for state in self._states:
            output = outputs.get(state.output_name)
            if output is None:
                raise ModelError(f"the model gave no state output {state.output_name!r}")
            own = output[row : row + 1] if self._is_batched else output
            if self._is_batched and not len(own):
                raise ModelError(f"state output {state.output_name!r} has no row {row}")
            kept[state.input_name] = np.array(own)
        return kept

    def _initial_value(self, state: SequenceState, folder: Path, file: str) -> Array:
        initial = state.initial
        dims = tuple(max(side, 1) for side in (initial.dims if initial and initial.dims else state.dims))
        shape = (1, *dims) if self._is_batched else dims
        if initial is None or initial.kind == "zero":
            return _blank(np.empty(shape, host_dtype(state.dtype)))
        path = confined(
            folder / INITIAL_FOLDER, initial.file, folder, f"{file}: initial_state {initial.name!r}"
        )
        try:
            return np.frombuffer(path.read_bytes(), host_dtype(state.dtype)).reshape(shape)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{path}: cannot be the state {state.input_name!r} of shape {shape}: {error}"
            ) from error


def _blank(array: Array) -> Array:
    """Return zeros, or empty texts, as an array is."""
    blank = np.zeros(array.shape, array.dtype)
    if blank.dtype.hasobject:
        blank.fill(b"")
    return blank

"""A model written in Python: what its class is told, how it is called, and what becomes of its faults."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from edgert.errors import EdgertError, ModelError
from edgert.execute.python_faults import FaultLog
from edgert.execute.python_outputs import OutputCheck
from edgert.frames.request import InferRequest
from edgert.frames.result import Array
from edgert.models.model_config import ModelConfig
from edgert.models.tensor_spec import TensorSpec

log = logging.getLogger(__name__)
T = TypeVar("T")

Inputs = Mapping[str, Array]
Outputs = Mapping[str, Array]
_MOST_TEXT = 500  # characters of an exception's text
_END = object()


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What `Model.load` is told."""

    model: str
    version: int
    folder: Path  # of the model
    version_folder: Path  # where model.py stands
    parameters: Mapping[str, str]  # of config.pbtxt
    inputs: tuple[TensorSpec, ...]  # as `execute` gets them; -1 is variable
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int  # 0: tensors have no batch axis
    is_decoupled: bool
    instance: int  # from 0
    device_kind: Literal["cpu", "gpu", "model"]  # as instance_group says
    device_id: int
    config: ModelConfig


class Asked(msgspec.Struct, frozen=True):
    """One request of a batch: its inputs, those too that no client sends, and who asks, if that is known."""

    inputs: Inputs
    request: InferRequest | None = None

    @property
    def is_cancelled(self) -> bool:
        """Nobody waits for the answer."""
        return self.request is not None and self.request.is_cancelled


class Instance(Protocol):
    """One object of a model's class. All calls come from one thread."""

    takes_requests: bool  # `answer_each` is what it does best
    keeps_outputs: bool  # arrays it has answered with stay as they are when it runs again

    def load(self) -> None:
        """Make and load the object. Raises ModelError."""

    def answer(self, inputs: Inputs, rows: int | None) -> Outputs:
        """Return the outputs of a whole batch. Raises EdgertError: the batch's fate."""

    def answer_each(self, asked: Sequence[Asked]) -> list[Outputs | EdgertError]:
        """Return the outputs of every request of a batch, in their order. Raises EdgertError."""

    def parts(self, asked: Asked) -> Generator[Outputs, None, None]:
        """Return the outputs of a decoupled model one after the other. Raises EdgertError."""

    def unload(self) -> None:
        """Let the object end. Never raises."""


class Caller:
    """Calls what a model's author wrote, and says where it failed."""

    def __init__(self, model: str, kind: str, file: Path) -> None:
        self.name = f"{file}: class {kind}"
        self._model = model
        self._kind = kind
        self._file = file
        self._faults = FaultLog()

    def call(self, what: str, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns. edgert's own errors pass, all others become a ModelError.

        Those of `execute` are logged, as only clients would hear of them.

        Raises:
            ModelError: without the exception that it was made from, which would keep the batch alive.
        """
        try:
            return function(*arguments)
        except EdgertError:
            raise
        except BaseException as error:  # also sys.exit, which would end the lane's thread
            log.debug("model %s: %s failed", self._model, what, exc_info=True)
            place = self._place(error)
            failure = self._failure(what, error, place)
            if what == "execute":
                self._faults.note(f"{type(error).__name__} at {place}", str(failure))
        raise failure

    def _failure(self, what: str, error: BaseException, place: str) -> ModelError:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        text = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
        return ModelError(f"Model {self._model!r}: {self._kind}.{what} failed at {place}: {text}")

    def _place(self, error: BaseException) -> str:
        """Return `file:line` of the innermost line of the model's own that the exception went through."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        folder = self._file.parent.parent.absolute()  # as Python names its files
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        return f"{own[-1].filename}:{own[-1].lineno}" if own else str(self._file)


class ModelInstance:
    """An Instance of a class `Model`: load(context), execute(inputs) and unload()."""

    takes_requests = False
    keeps_outputs = True

    def __init__(self, kind: type, context: Context, caller: Caller) -> None:
        self._kind = kind
        self._context = context
        self._caller = caller
        self._model: Any = None
        self._check = OutputCheck(
            f"{caller.name}: execute", context.outputs, is_batched=context.max_batch_size > 0
        )

    def load(self) -> None:
        """Make the object and call its `load`, if it has one."""
        model = self._caller.call("__init__", self._kind)
        if hasattr(model, "load"):
            self._caller.call("load", model.load, self._context)
        self._model = model

    def answer(self, inputs: Inputs, rows: int | None) -> Outputs:
        """Call `execute`; all outputs must be there."""
        return self._check.whole(self._caller.call("execute", self._model.execute, inputs), rows)

    def answer_each(self, asked: Sequence[Asked]) -> list[Outputs | EdgertError]:
        """Raise ModelError: `takes_requests` says that this class knows batches only."""
        raise ModelError(f"{self._caller.name}: class Model takes whole batches, not {len(asked)} requests.")

    def parts(self, asked: Asked) -> Generator[Outputs, None, None]:
        """Call `execute` and yield what it yields; what it has open is closed with this generator."""
        answers = self._caller.call("execute", self._model.execute, asked.inputs)
        if isinstance(answers, Mapping) or not hasattr(answers, "__iter__"):
            raise ModelError(
                f"{self._caller.name}: execute returned {type(answers).__name__}, expected a generator or "
                "another iterable of dicts: config.pbtxt says decoupled"
            )
        answers = iter(answers)
        try:
            while (part := self._caller.call("execute", next, answers, _END)) is not _END:
                yield self._check.part(part)
        finally:
            if inspect.isgenerator(answers):
                self._caller.call("execute", answers.close)

    def unload(self) -> None:
        """Call `unload`, if the object has one; a fault in it is logged."""
        model, self._model, self._kind = self._model, None, object  # the lane may outlive the code
        if hasattr(model, "unload"):
            unload(self._caller, "unload", model.unload)


def unload(caller: Caller, what: str, function: Callable[[], None]) -> None:
    """Call what frees a model; a fault in it is logged and nothing else."""
    try:
        caller.call(what, function)
    except EdgertError as error:
        log.warning("%s", error)

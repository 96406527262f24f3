"""Models written for the Inference Server's python backend, unchanged: `class TritonPythonModel`."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from msgspec.structs import replace

from edgert.errors import (
    CancelledError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.execute import python_backend_utils as utils
from edgert.execute.python_model import Asked, Caller, Context, Inputs, Outputs, unload
from edgert.execute.python_outputs import OutputCheck
from edgert.frames.result import Array
from edgert.models.config_json import config_to_json
from edgert.models.runtime import PYTHON

_ERRORS: dict[int, type[EdgertError]] = {
    utils.TritonError.NOT_FOUND: UnknownModelError,
    utils.TritonError.INVALID_ARG: RequestError,
    utils.TritonError.UNAVAILABLE: UnavailableError,
    utils.TritonError.UNSUPPORTED: UnsupportedError,
    utils.TritonError.ALREADY_EXISTS: RequestError,
    utils.TritonError.CANCELLED: CancelledError,
}
_NOT_DECOUPLED = {"model_transaction_policy": {"decoupled": False}}
_Mail = SimpleQueue["utils.InferenceResponse | EdgertError | None"]


def stand_in(version_folder: Path) -> dict[str, ModuleType]:
    """Return the modules that the server's python backend has, for one model."""
    module = ModuleType("triton_python_backend_utils", utils.__doc__)
    public = {name: value for name, value in vars(utils).items() if not name.startswith("_")}
    vars(module).update(public, InferenceResponseSender=ResponseSender)
    vars(module)["get_model_dir"] = lambda: str(version_folder)
    return {module.__name__: module, "c_python_backend_utils": module}


class TritonInstance:
    """An Instance of such a class. Requests reach it one by one, as its author knows them."""

    takes_requests = True
    keeps_outputs = False  # its author may write to an array again as soon as `execute` is called again

    def __init__(self, kind: type, context: Context, caller: Caller) -> None:
        self._kind = kind
        self._context = context
        self._caller = caller
        self._model: Any = None
        self._names = [spec.name for spec in context.outputs]
        where = f"{caller.name}: execute"
        self._check = OutputCheck(where, context.outputs, is_batched=context.max_batch_size > 0)

    def load(self) -> None:
        """Make the object and call `initialize`, if it has one."""
        model = self._caller.call("__init__", self._kind)
        if hasattr(model, "initialize"):
            self._caller.call("initialize", model.initialize, _arguments(self._context))
        self._model = model

    def answer(self, inputs: Inputs, rows: int | None) -> Outputs:
        """Call `execute` with one request that is the whole batch."""
        [answer] = self._answers([_Request(Asked(inputs), self._names)])
        if isinstance(answer, EdgertError):
            raise answer
        return self._check.whole(answer, rows)

    def answer_each(self, asked: Sequence[Asked]) -> list[Outputs | EdgertError]:
        """Call `execute` with all requests; each has an answer or an error of its own."""
        return self._answers([_Request(one, self._names) for one in asked])

    def parts(self, asked: Asked) -> Generator[Outputs, None, None]:
        """Call `execute` with one request and yield what is sent for it, from whichever thread."""
        mail: _Mail = SimpleQueue()
        request = _Request(asked, self._names, ResponseSender(mail, asked))
        answer = self._caller.call("execute", self._model.execute, [request])
        del request  # with its sender: a model that has dropped both sends nothing more
        if answer is not None:
            raise ModelError(
                f"{self._caller.name}: execute returned {type(answer).__name__}, expected None: config.pbtxt "
                "says decoupled, so responses are sent"
            )
        while (response := mail.get()) is not None:
            if isinstance(response, EdgertError):
                raise response
            outputs = self._outputs(response, self._names)
            if isinstance(outputs, EdgertError):
                raise outputs
            yield outputs

    def unload(self) -> None:
        """Call `finalize`, if the object has one; a fault in it is logged."""
        model, self._model, self._kind = self._model, None, object  # the lane may outlive the code
        if hasattr(model, "finalize"):
            unload(self._caller, "finalize", model.finalize)

    def _answers(self, requests: list[_Request]) -> list[Outputs | EdgertError]:
        responses = self._caller.call("execute", self._model.execute, list(requests))
        if not isinstance(responses, list | tuple) or len(responses) != len(requests):
            found = f"{len(responses)}" if isinstance(responses, list | tuple) else type(responses).__name__
            raise ModelError(
                f"{self._caller.name}: execute returned {found}, expected a list of {len(requests)} "
                "InferenceResponse, one for each request"
            )
        return [
            self._outputs(response, request.requested_output_names())
            for response, request in zip(responses, requests, strict=True)
        ]

    def _outputs(self, response: object, wanted: Collection[str]) -> Outputs | EdgertError:
        """Return the wanted ones of a response's outputs, or its error."""
        if not isinstance(response, utils.InferenceResponse):
            return ModelError(
                f"{self._caller.name}: execute answered with {type(response).__name__}, expected "
                "InferenceResponse"
            )
        error = response.error()
        if error is not None:
            return _ERRORS.get(error.code(), ModelError)(error.message())
        tensors = response.output_tensors()
        try:
            return self._check.lax({t.name(): t.as_numpy() for t in tensors if t.name() in wanted})
        except ModelError as failure:
            return failure


class ResponseSender:
    """Where a decoupled model sends its responses, from any of its threads."""

    def __init__(self, mail: _Mail, asked: Asked) -> None:
        self._mail = mail
        self._asked = asked
        self._is_final = False

    def send(self, response: utils.InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, the last one with TRITONSERVER_RESPONSE_COMPLETE_FINAL; that may come alone."""
        if self._is_final:
            raise utils.TritonModelException("send: the final response was sent before")
        is_final = bool(flags & utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if response is None and not is_final:
            raise utils.TritonModelException("send: expected a response, or flags to say that there is none")
        if response is not None:
            self._mail.put(_kept(response))
        self._is_final = is_final
        if is_final:
            self._mail.put(None)

    def is_cancelled(self) -> bool:
        """Say whether nobody waits any longer."""
        return self._asked.is_cancelled

    def __del__(self) -> None:
        if not self._is_final:  # or the lane would wait for ever
            self._mail.put(ModelError("The model dropped the response sender before the final response."))


class _Request(utils.InferenceRequest):
    """A request of a client, or a batch of unknown clients."""

    def __init__(self, asked: Asked, outputs: Sequence[str], sender: ResponseSender | None = None) -> None:
        self._asked = asked
        self._sender = sender
        request = asked.request
        step = request.sequence if request else None
        start = utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START * bool(step and step.is_start)
        end = utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END * bool(step and step.is_end)
        super().__init__(
            request.id if request else "",
            step.id if step else 0,
            [_Input(name, array) for name, array in asked.inputs.items()],
            (request and request.outputs) or outputs,
            flags=start | end,
            timeout=request.timeout_us if request else 0,
            parameters=request.parameters if request else None,
        )

    def priority(self) -> int:
        return self._asked.request.priority if self._asked.request else 0

    def is_cancelled(self) -> bool:
        return self._asked.is_cancelled

    def get_response_sender(self) -> ResponseSender:
        return self._sender or super().get_response_sender()


class _Input(utils.Tensor):
    """An input that becomes the model's own when it asks for it: it may keep it, and write to it."""

    _own: Array | None = None

    def as_numpy(self) -> Array:
        if self._own is None:
            self._own = self._array.copy()
        return self._own


def _kept(response: utils.InferenceResponse) -> utils.InferenceResponse:
    """Return a response whose arrays the model cannot change any more."""
    tensors = [utils.Tensor(tensor.name(), tensor.as_numpy().copy()) for tensor in response.output_tensors()]
    return utils.InferenceResponse(tensors, response.error())


def _arguments(context: Context) -> Mapping[str, str]:
    """Return what `initialize` gets."""
    own = context.config
    config = replace(own, name=own.name or context.model, backend=own.backend or PYTHON.backend)
    return {
        "model_config": json.dumps(_NOT_DECOUPLED | config_to_json(config)),
        "model_instance_kind": context.device_kind.upper(),
        "model_instance_name": f"{context.model}_0_{context.instance}",
        "model_instance_device_id": str(context.device_id),
        "model_repository": str(context.folder),
        "model_version": str(context.version),
        "model_name": context.model,
    }

"""The paths of the first API."""

from __future__ import annotations

import functools

from edgert.errors import RequestError, UnavailableError, UnsupportedError
from edgert.frames.request import InferRequest
from edgert.serve.core import InferenceCore
from edgert.serve.first_api.describe import StatusBuilder, regions_message
from edgert.serve.first_api.reply import message_answer, success, told
from edgert.serve.first_api.request import Asked, HeaderReader
from edgert.serve.first_api.response import DECOUPLED, FirstApiResponder
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.router import Route, Router
from edgert.serve.http.site import Later
from edgert.serve.shared_memory import SharedMemory
from edgert.serve.transaction import demand_one_answer

_MEMORY = "/api/sharedmemorycontrol"


class FirstApiRoutes:
    """`/api`: health, status, inferences, control and shared memory."""

    def __init__(self, core: InferenceCore, regions: SharedMemory | None) -> None:
        """`regions` is None where shared memory is off."""
        self._core = core
        self._regions = regions
        self._status = StatusBuilder(core)

    def add_to(self, router: Router) -> None:
        """Make the paths known."""
        control = functools.partial(Route, "POST", where="control", is_control=True)
        region = functools.partial(Route, "POST", is_local=True)
        place = "{key}/{offset}/{byte_size}"
        router.add(
            Route("GET", "/api/health/live", told(self.live)),
            Route("GET", "/api/health/ready", told(self.ready)),
            Route("GET", "/api/status", told(self.status)),
            Route("GET", "/api/status/{model}", told(self.status)),
            Route("POST", "/api/infer/{model}", told(self.infer)),
            Route("POST", "/api/infer/{model}/{version}", told(self.infer)),
            Route("GET", "/api/repository/index", told(self.index)),
            control(path="/api/modelcontrol/load/{model}", run=told(self.load)),
            control(path="/api/modelcontrol/unload/{model}", run=told(self.unload)),
            Route("GET", f"{_MEMORY}/status", told(self.regions), is_local=True),
            region(path=f"{_MEMORY}/register/{{name}}/{place}", run=told(self.register)),
            region(path=f"{_MEMORY}/register/{{name}}//{place}", run=told(self.register)),  # the key has a /
            region(path=f"{_MEMORY}/unregister/{{name}}", run=told(self.unregister)),
            region(path=f"{_MEMORY}/unregisterall", run=told(self.unregister)),
            region(path=f"{_MEMORY}/cudaregister/{{name}}/{{device}}/{{byte_size}}", run=told(self.cuda)),
        )

    def live(self, exchange: Exchange) -> None:
        """Answer that it lives."""
        exchange.reply(success())

    def ready(self, exchange: Exchange) -> None:
        """Answer whether all models are ready."""
        if not self._core.is_ready():
            raise UnavailableError("not all models are ready")
        exchange.reply(success())

    def status(self, exchange: Exchange, model: str = "") -> None:
        """Answer how the server and its models stand."""
        exchange.reply(message_answer(self._status.server(model), exchange))

    def index(self, exchange: Exchange) -> None:
        """Answer what the repository has."""
        exchange.reply(message_answer(self._status.index(), exchange))

    def infer(self, exchange: Exchange, model: str, version: int = 0) -> Later | None:
        """Begin an inference, or return what begins it. Raises RequestError."""
        demand_one_answer(self._core, model, version, DECOUPLED)
        regions = self._regions if exchange.is_local else None
        reader = HeaderReader(self._core, model, version, regions)
        announced = reader.read_header(exchange)

        def begin() -> None:
            self._begin(exchange, model, version, reader.read(announced, exchange))

        if reader.is_long(announced):
            return begin
        begin()
        return None

    def _begin(self, exchange: Exchange, model: str, version: int, asked: Asked) -> None:
        request = InferRequest(
            model=model,
            version=version,
            inputs=asked.inputs,
            responder=FirstApiResponder(exchange, self._core, asked),
            id=str(asked.number or ""),
            outputs=tuple(asked.wishes),
            sequence=asked.sequence,
            arrived_mono_ns=exchange.arrived_mono_ns,
        )
        exchange.on_gone = functools.partial(setattr, request, "is_cancelled", True)
        self._core.infer(request)

    def load(self, exchange: Exchange, model: str) -> None:
        """Load a model. Blocks."""
        self._core.load(model)
        exchange.reply(success())

    def unload(self, exchange: Exchange, model: str) -> None:
        """Unload a model. Blocks."""
        self._core.unload(model)
        exchange.reply(success())

    def regions(self, exchange: Exchange) -> None:
        """Answer which shared memory is known."""
        known = self._regions.status() if self._regions is not None else []
        exchange.reply(message_answer(regions_message(known), exchange))

    def register(self, exchange: Exchange, name: str, key: str, offset: str, byte_size: str) -> None:
        """Make shared memory known."""
        if self._regions is None:
            raise UnsupportedError(
                "shared memory is off; set serve.shared_memory = true in the pipeline file"
            )
        self._regions.register(name, f"/{key}", _number(offset), _number(byte_size))
        exchange.reply(success())

    def unregister(self, exchange: Exchange, name: str = "") -> None:
        """Forget one region or all."""
        if self._regions is not None:
            self._regions.unregister(name)
        exchange.reply(success())

    def cuda(self, exchange: Exchange, name: str, device: str, byte_size: str) -> None:
        """Refuse."""
        raise UnsupportedError(f"failed to register CUDA shared memory region '{name}': it is not offered")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RequestError(f"{text!r} is no number of bytes")
    return int(text)

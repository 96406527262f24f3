"""The methods of the two services, and who may call them."""

from __future__ import annotations

from functools import partial

from edgert.errors import UnsupportedError
from edgert.serve.access import Token
from edgert.serve.grpc.calls import Call, CallAnswerer
from edgert.serve.grpc.desk import Desk
from edgert.serve.grpc.health import HealthCalls
from edgert.serve.grpc.messages import HEALTH_MESSAGES, INFERENCE_MESSAGES
from edgert.serve.grpc.schema import HEALTH, INFERENCE
from edgert.serve.grpc.stream import InferStream
from edgert.serve.grpc.transport.hpack import Headers
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.transport.site import Method, StreamingMethod, UnaryMethod
from edgert.serve.grpc.transport.status import UnauthenticatedError
from edgert.serve.grpc.unary import answer_unary

SERVICE = f"{INFERENCE}.GRPCInferenceService"
_SLOW = {"RepositoryModelLoad", "RepositoryModelUnload"}
_LOCAL = {"SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"}


class Service:
    """Finds what answers a call."""

    def __init__(self, token: str) -> None:
        """Every call must carry `token`, unless that is empty."""
        self._token = Token(token)
        self._methods: dict[bytes, Method] = {}

    def find(self, headers: Headers) -> Method:
        """Return what answers a call. Raises UnauthenticatedError, UnsupportedError."""
        if not self._token.is_in(headers.get(b"authorization", b"")):
            raise UnauthenticatedError("expected the server's token: authorization: Bearer ...")
        path = headers.get(b":path", b"")
        method = self._methods.get(path)
        if method is None:
            raise UnsupportedError(f"unknown method {path.decode('utf-8', 'replace')}")
        return method

    def add_inference(self, desk: Desk) -> None:
        """Answer ModelInfer and ModelStreamInfer."""

        async def stream(rpc: Rpc) -> None:
            await InferStream(desk, rpc).run()

        self._add(SERVICE, "ModelInfer", UnaryMethod(partial(answer_unary, desk)))
        self._add(SERVICE, "ModelStreamInfer", StreamingMethod(stream))

    def add_calls(self, calls: object, answerer: CallAnswerer) -> None:
        """Answer with the public methods of `calls`, which are named after those of the service."""
        for own_name in dir(calls):
            name = "".join(word.capitalize() for word in own_name.split("_"))
            if own_name[0] != "_" and f"{name}Request" in INFERENCE_MESSAGES:
                call = Call(
                    INFERENCE_MESSAGES[f"{name}Request"],
                    getattr(calls, own_name),
                    is_slow=name in _SLOW,
                    is_control=name in _SLOW,
                    is_local=name in _LOCAL,
                )
                self._add(SERVICE, name, UnaryMethod(partial(answerer.answer, call)))

    def add_health(self, health: HealthCalls, answerer: CallAnswerer) -> None:
        """Answer Check and Watch."""
        check = Call(HEALTH_MESSAGES["HealthCheckRequest"], health.check)
        self._add(f"{HEALTH}.Health", "Check", UnaryMethod(partial(answerer.answer, check)))
        self._add(f"{HEALTH}.Health", "Watch", StreamingMethod(health.watch))

    def _add(self, service: str, name: str, method: Method) -> None:
        self._methods[f"/{service}/{name}".encode()] = method

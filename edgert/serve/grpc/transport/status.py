"""Which gRPC status an error has."""

from __future__ import annotations

from enum import IntEnum

from edgert.errors import (
    CancelledError,
    EdgertError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.serve.bodies import FullError, TooLargeError
from edgert.serve.shared_memory import TakenError


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class LateError(UnavailableError):
    """An answer takes longer than it may."""


class ForbiddenError(RequestError):
    """What this client may not do."""


class UnauthenticatedError(RequestError):
    """A client that does not show who it is."""


_CODES = (  # the first class that fits
    (UnknownModelError, Code.NOT_FOUND),
    (FullError, Code.RESOURCE_EXHAUSTED),
    (LateError, Code.DEADLINE_EXCEEDED),
    (UnavailableError, Code.UNAVAILABLE),
    (UnsupportedError, Code.UNIMPLEMENTED),
    (ForbiddenError, Code.PERMISSION_DENIED),
    (TooLargeError, Code.RESOURCE_EXHAUSTED),
    (UnauthenticatedError, Code.UNAUTHENTICATED),
    (CancelledError, Code.CANCELLED),
    (TakenError, Code.ALREADY_EXISTS),
    (RequestError, Code.INVALID_ARGUMENT),
)


def code_of(error: EdgertError) -> Code:
    """Return the status; INTERNAL for what is not the client's fault."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def forbidden() -> ForbiddenError:
    """Return what a client hears that would change the server."""
    return ForbiddenError("model control is off; set http.control = true in the pipeline file")

"""What goes wrong in answering a call becomes its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from edgert.errors import EdgertError

log = logging.getLogger(__name__)


class FaultsTo:
    """A context that hands an error to `fail`; a fault of edgert's own is logged, and the client told so."""

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[EdgertError], object]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, EdgertError):
            self._fail(error)
        elif isinstance(error, Exception):
            log.error("grpc: a call failed", exc_info=error)
            self._fail(EdgertError("internal error; see the log"))
        else:
            return False
        return True

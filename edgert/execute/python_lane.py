"""The lane of a model in Python: its object lives and dies on the lane's own thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from edgert.errors import EdgertError
from edgert.execute.host_lane import HostLane, RunnableBufferSet
from edgert.execute.python_model import Instance
from edgert.execute.python_output import LogWriter, printing_to

log = logging.getLogger(__name__)


class PythonLane(HostLane):
    """A HostLane that loads its instance first and unloads it last.

    `close` waits `grace_s` for the batch in flight. A model that has not returned by then is given up:
    its thread cannot be ended, so it keeps its memory, unloads whenever it returns, and ends with the
    process at the latest. Nobody else waits for it.
    """

    def __init__(
        self,
        instance: Instance,
        sets: Sequence[RunnableBufferSet],
        on_done: Callable[[], None],
        name: str,
        writer: LogWriter,
        on_end: Callable[[], None],
        grace_s: float,
    ) -> None:
        self._instance = instance
        self._writer = writer
        self._on_end = on_end
        self._grace_s = grace_s
        self._has_tried = threading.Event()
        self._load_error: EdgertError | None = None
        super().__init__(sets, on_done, name)

    def await_load(self) -> None:
        """Wait for the instance. Raises ModelError if it could not be loaded; the lane is closed then."""
        self._has_tried.wait()
        error, self._load_error = self._load_error, None
        if error is not None:
            self.close()
            raise error

    def close(self) -> None:
        """Finish the batch in flight, unload, end the worker."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.put(None)
        self._thread.join(self._grace_s)
        if self._thread.is_alive():
            self._on_done = lambda: None
            log.error(
                "%s: the model has not returned for %g s and is given up; its thread and memory stay until "
                "it returns",
                self._thread.name,
                self._grace_s,
            )

    def _serve(self) -> None:
        with printing_to(self._writer):
            if self._load():
                super()._serve()
                self._instance.unload()
        for buffers in self._sets:
            buffers.close()
        self._on_end()
        self.live.closed()

    def _load(self) -> bool:
        try:
            self._instance.load()
        except EdgertError as error:
            self._load_error = error
        is_loaded = self._load_error is None
        self._has_tried.set()
        return is_loaded

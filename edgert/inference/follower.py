"""Loads and unloads what changes in the store, while requests come."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import ClassVar, Protocol

from edgert.errors import EdgertError
from edgert.inference.poll import StoreWatch
from edgert.models.store import ModelStore
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

LEAST_S = 0.05  # between two looks
RETRY_S = 30.0  # a model that could not be loaded is tried again after this time, then after twice that


class Reloader(Protocol):
    """What follows the store."""

    def reload(self, model: str) -> Iterable[str]:
        """Load what the store has of a model now, or unload it; return what was loaded for it.

        Raises:
            EdgertError: it stays as it was.
        """


class Follower:
    """A thread that looks at a store every `poll_s`, and sooner where a change may be whole by then."""

    live: ClassVar[LiveCount] = LiveCount("store follower")

    def __init__(self, store: ModelStore, reloader: Reloader, poll_s: float) -> None:
        self._watch = StoreWatch(store, settle_s=min(2.0, poll_s), retry_s=RETRY_S)
        self._reloader = reloader
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    def begin(self) -> list[str]:
        """Return the models that are whole now. The others are loaded once they are."""
        return self._watch.begin()

    def failed(self, model: str) -> None:
        """Hear that a model of `begin` could not be loaded."""
        self._watch.failed(model)

    def start(self) -> None:
        """Begin to look."""
        self.live.opened()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Look no more. A load that runs is waited for that long, then it is left behind."""
        self._stopping.set()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("a model is still being loaded; it is left behind")
        self.live.closed()

    def _follow(self) -> None:
        while not self._stopping.wait(self._pause_s()):
            for change in self._watch.changes():
                if self._stopping.is_set():
                    return
                log.info("model %s was %s in the store", change.model, change.kind)
                self._reload(change.model)

    def _reload(self, model: str) -> None:
        try:
            loaded = self._reloader.reload(model)
        except EdgertError as error:
            log.debug("model %s stays as it was: %s", model, error)  # whoever loads has said why
            self._watch.failed(model)
        else:
            for name in {model, *loaded}:
                self._watch.loaded(name)

    def _pause_s(self) -> float:
        due_s = self._watch.due_s()
        left_s = self._poll_s if due_s is None else due_s - time.monotonic()
        return min(self._poll_s, max(left_s, LEAST_S))

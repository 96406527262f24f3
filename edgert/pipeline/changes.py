"""What can be changed while a pipeline runs: by commands, over HTTP, by SIGHUP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from edgert import __version__
from edgert.errors import EdgertError, ModelError
from edgert.pipeline.assembly import Assembly
from edgert.pipeline.file import PipelineFile

log = logging.getLogger(__name__)


class Served(Protocol):
    """The models that requests use. Loading one there loads it for frames too, where they use it."""

    def load(self, model: str) -> None:
        """Load a model, or load it again. Raises EdgertError."""

    def unload(self, model: str) -> None:
        """Unload a model. Raises EdgertError."""

    def reload_changed(self) -> None:
        """Load again what has changed; failures are logged."""


class Changes:
    """A Target of commands. `stop` begins what SIGTERM does. Any thread, also several at once."""

    def __init__(self, file: PipelineFile, assembly: Assembly, stop: Callable[[], None]) -> None:
        self._file = file
        self._assembly = assembly
        self._stop = stop
        self.served: Served | None = None  # with `[serve]`

    def follow(self, file: PipelineFile) -> None:
        """Go on with the file as it was read again; only `store` and `models` may differ."""
        self._file = file
        self._assembly.follow(file)

    def load(self, model: str) -> None:
        """Load or reload a model, as the store and the pipeline file describe it now.

        With `[serve]` any model of the store, as HTTP does it, else one that a source feeds.

        Raises:
            RequestError: `serve.mode` does not allow it, or the store has no such model.
            ModelError, ConfigError, OutOfDeviceMemoryError: it stays as it was.
            ClosedError: the service stops.
        """
        if self.served is not None:
            self.served.load(model)
        else:
            self.load_for_frames(model)

    def unload(self, model: str) -> None:
        """Unload a model; frames for it are dropped until it is loaded again. Raises as `load` does."""
        if self.served is not None:
            self.served.unload(model)
        else:
            self.unload_for_frames(model)

    def load_for_frames(self, model: str) -> None:
        """Load or reload a model for frames alone. Raises ModelError, and what `load` does."""
        if model not in self._file.model_names:
            raise ModelError(f"Model {model!r} is in no source of {self._file.document.path}.")
        self._assembly.models.load(self._file.read_again().plan(model))

    def unload_for_frames(self, model: str) -> None:
        """Unload a model for frames alone. Raises ModelError."""
        if model not in self._assembly.models.states:
            raise ModelError(f"Model {model!r} is not loaded.")
        self._assembly.models.unload(model)

    def reload_all(self) -> None:
        """Reload every model of frames, and those of requests that have changed.

        One that cannot be loaded stays as it was and keeps no other from it.

        Raises:
            ModelError: some of frames could not be loaded; each has been logged.
        """
        failures: dict[str, EdgertError] = {}
        if self.served is not None:
            self.served.reload_changed()
        for model in self._file.model_names:
            try:
                self.load_for_frames(model)
            except EdgertError as error:
                log.error("model %s is not reloaded, what was loaded goes on: %s", model, error)  # noqa: TRY400
                failures[model] = error
        if failures:
            said = "; ".join(f"{model}: {error}" for model, error in failures.items())
            raise ModelError(f"{len(failures)} of {len(self._file.model_names)} not reloaded: {said}")

    def set_score_min(self, model: str, score_min: float) -> None:
        """Change the least score of a model's results until it is loaded again. Raises ModelError."""
        self._assembly.models.set_score_min(model, score_min)
        log.info("model %s: score_min is %s until it is loaded again", model, score_min)

    def pause(self, source: str) -> None:
        """Close a source until it is resumed. Raises ConfigError, EndOfSourceError."""
        self._assembly.pause(source)

    def resume(self, source: str) -> None:
        """Open a source that was paused. Raises ConfigError, EndOfSourceError."""
        self._assembly.resume(source)

    def snapshot(self, source: str) -> str:
        """Let the next frame of a source be published as a picture; returns the topic. Raises ConfigError."""
        return self._assembly.snapshot(source)

    def drain(self) -> None:
        """Begin to stop, as SIGTERM does."""
        self._stop()

    def status(self) -> dict[str, Any]:
        """Return which process this is and how long it runs."""
        return {
            "boot": self._assembly.boot,
            "uptime_s": self._assembly.uptime_s(),
            "version": __version__,
        }

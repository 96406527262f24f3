"""What a pipeline file says of serving: which models, whether they need a GPU, what is wrong with it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgert.config import Document
from edgert.device.board import probe_cuda_driver
from edgert.errors import ConfigError, EdgertError, ModelError
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import ModelStore
from edgert.pipeline.model_plan import plan_model
from edgert.pipeline.options import PipelineOptions
from edgert.pipeline.served_check import ServedCheck
from edgert.publish.credentials import find_secret, read_secret
from edgert.serve.options import ServeOptions, TlsOptions
from edgert.serve.tls import tls_context

LOOPBACK = ("127.", "::1", "localhost")


class ServedPart:
    """The `[serve]` table with its store. Without the table nothing is served and nothing wrong."""

    def __init__(self, document: Document, options: PipelineOptions, store: ModelStore) -> None:
        self._document = document
        self._options = options
        self._serve = options.serve
        self._store = store
        self.secret_digests: Mapping[str, bytes] = self._digests()  # by key; what its file held just now

    def models(self) -> Sequence[str]:
        """Return the models that requests may use."""
        with suppress(ModelError):  # a store that cannot be read is told of elsewhere
            return self._store.names() if self._serve is not None else ()
        return ()

    def at_start(self) -> Sequence[str]:
        """Return the models that requests use from the start, with those of ensembles' steps."""
        if self._serve is None:
            return ()
        with suppress(ModelError):  # a store that cannot be read is told of elsewhere
            there = self._store.names()
            names = [name for name in self._serve.named_at_start(there) if name in there]
            for name in names:
                names += [step for step in self._steps_of(name) if step in there and step not in names]
            return names
        return ()

    def needs_gpu(self) -> bool:
        """Say whether serving takes a GPU.

        What is loaded at the start decides; what clients may load later only has one where there is one.
        """
        if self._serve is None:
            return False
        if _any_needs_gpu(self._runtimes(self.at_start())):
            return True
        if self._serve.mode != "explicit":
            return False
        with suppress(ModelError):
            return _any_needs_gpu(self._runtimes(self._store.names())) and _is_gpu_usable()
        return False

    def problems(self) -> Iterator[EdgertError]:
        """Yield what is wrong with the table itself; the text begins with the key."""
        if self._serve is None:
            return
        if self._options.http is None and self._serve.grpc is None:
            yield ConfigError("serve: nothing would listen; add [http], [serve.grpc] or both")
            return
        try:
            self._serve.check(self._find, self._store.names())
        except ConfigError as error:
            yield ConfigError(f"serve.{error}")
            return
        yield from self._secret_problems(self._serve)

    def model_problems(self, models: Iterable[str], *, opens_engines: bool) -> Iterator[EdgertError]:
        """Yield what is wrong with models' files, one problem for each model."""
        check = ServedCheck(self._store, self._document.path, opens_engines=opens_engines)
        for model in check.sorted(list(models)):
            try:
                check.check(model)
            except EdgertError as error:
                yield error

    def model_warnings(self, models: Iterable[str]) -> Iterator[str]:
        """Yield what edgert ignores in models' config.pbtxt, as is logged when they are loaded."""
        for model in models:
            with suppress(EdgertError):  # told by `model_problems`
                yield from self._store.entry(model).warnings

    def warnings(self) -> Iterator[str]:
        """Yield where anybody in the network may change which models are loaded."""
        serve = self._serve or ServeOptions()
        if serve.token or (serve.tls is not None and serve.tls.client_ca):
            return
        fronts = {"http": self._options.http, "serve.grpc": serve.grpc}
        http_control = self._options.http is not None and self._options.http.control  # holds for both
        remedy = "give serve.token or serve.tls.client_ca, or listen" if self._serve else "listen"
        for key, front in fronts.items():
            is_open = front is not None and not front.host.startswith(LOOPBACK)
            if front is not None and is_open and (front.control or http_control):
                yield (
                    f"{self._document.path}: {key}.host = {front.host!r} with control = true: whoever "
                    f'reaches port {front.port} may load and unload models; {remedy} at "127.0.0.1"'
                )

    def resolved(self, tls: TlsOptions) -> TlsOptions:
        """Return the places of certificates as paths. Raises ConfigError."""
        places = {name: getattr(tls, name) for name in ("certificate", "key", "client_ca")}
        return TlsOptions(**{name: str(self._find(place)) if place else "" for name, place in places.items()})

    def _digests(self) -> Mapping[str, bytes]:
        """Return what tells whether a secret's file has changed; files that cannot be read are left out."""
        digests: dict[str, bytes] = {}
        for key, place in (self._serve or ServeOptions()).secrets().items():
            with suppress(OSError):  # told by `problems`
                digests[f"serve.{key}"] = hashlib.sha256(self._find(place).read_bytes()).digest()
        return digests

    def _secret_problems(self, serve: ServeOptions) -> Iterator[ConfigError]:
        try:
            if serve.token:
                read_secret(serve.token, self._document.resolve, key="serve.token")
            if serve.tls is not None:
                tls_context(self.resolved(serve.tls))
        except ConfigError as error:
            yield error

    def _find(self, place: str) -> Path:
        return find_secret(place, self._document.resolve, os.environ)

    def _steps_of(self, model: str) -> list[str]:
        with suppress(EdgertError):  # told when it is loaded
            ensemble = self._store.entry(model).config.ensemble
            return [step.model for step in ensemble.steps] if ensemble else []
        return []

    def _runtimes(self, models: Iterable[str]) -> Iterator[str]:
        """Yield the runtimes of models; those that are wrong are told of when they are loaded."""
        for name in models:
            with suppress(EdgertError):
                entry = self._store.entry(name)
                if entry.config.ensemble is None:
                    yield plan_model(entry, {}, self._document.path).runtime


def _any_needs_gpu(runtimes: Iterable[str]) -> bool:
    return any(FAMILY_OF_RUNTIME[runtime] is TENSORRT for runtime in runtimes)


def _is_gpu_usable() -> bool:
    """Say whether there is a driver, and what edgert needs to use it."""
    return probe_cuda_driver().version is not None and importlib.util.find_spec("pycuda") is not None

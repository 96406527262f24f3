"""Calls about the model repository."""

from __future__ import annotations

from typing import Any

from edgert.errors import RequestError, UnsupportedError
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.fill import fill
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.grpc.parameters import plain

_CONFIG = "config"
_FILE = "file:"
_DEPENDENTS = "unload_dependents"


class RepositoryCalls:
    """Methods by their names in the Inference Server's service."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    def repository_index(self, request: Any) -> Any:
        """Return what the repository has."""
        _check_repository(request)
        response = INFERENCE_MESSAGES["RepositoryIndexResponse"]()
        for entry in self._core.index(only_ready=request.ready):
            fill(response.models.add(), entry)
        return response

    def repository_model_load(self, request: Any) -> Any:
        """Load a model, as its folder or as the request describes it. Blocks."""
        _check_repository(request)
        config: str | None = None
        files: dict[str, bytes] = {}
        for name, value in plain(request.parameters).items():
            if name == _CONFIG:
                config = _typed(name, value, str)
            elif name.startswith(_FILE):
                files[name.removeprefix(_FILE)] = _typed(name, value, bytes)
            else:
                raise RequestError(f"unrecognized load parameter '{name}'.")
        if files and config is None:
            raise RequestError(
                f"failed to load '{request.model_name}', failed to poll from model repository: files need a "
                "'config' too"
            )
        self._core.load(request.model_name, config, files or None)
        return INFERENCE_MESSAGES["RepositoryModelLoadResponse"]()

    def repository_model_unload(self, request: Any) -> Any:
        """Unload a model. Blocks."""
        _check_repository(request)
        with_dependents = plain(request.parameters).get(_DEPENDENTS, False)
        if not isinstance(with_dependents, bool):
            raise RequestError(f"invalid value type for '{_DEPENDENTS}' parameter, expected bool_param.")
        self._core.unload(request.model_name, with_dependents=with_dependents)
        return INFERENCE_MESSAGES["RepositoryModelUnloadResponse"]()


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise UnsupportedError("'repository_name' specification is not supported")


def _typed(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        expected = "string_param" if kind is str else "bytes_param"
        raise RequestError(f"invalid value type for load parameter '{name}', expected {expected}.")
    return value

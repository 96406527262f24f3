"""`edgert models`: what a pipeline's store has, and changes to the running service."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import quote

from edgert.errors import ConfigError, EdgertError, ModelError
from edgert.exit_codes import ExitCode
from edgert.pipeline.file import PipelineFile

CHANGE_TIMEOUT_S = 300.0  # an engine may take minutes to load


def list_models(path: Path, overrides: list[str]) -> ExitCode:
    """Print every model of the store: versions, those served, runtime, and what is wrong with it."""
    file = PipelineFile.load(path, overrides)
    print(f"{'model':24} {'versions':14} {'served':10} {'used':5} runtime")
    has_problem = False
    for name in file.store.names():
        try:
            plan = file.plan(name)
            plan.check()
        except EdgertError as error:
            print(f"{name:24} {error}")
            has_problem = True
            continue
        present, served = (
            ",".join(str(version.number) for version in versions)
            for versions in (plan.entry.versions(), plan.entry.chosen_versions())
        )
        used = "yes" if name in file.model_names else "no"
        print(f"{name:24} {present:14} {served:10} {used:5} {plan.runtime}")
    return ExitCode.MODEL if has_problem else ExitCode.OK


def change_model(path: Path, overrides: list[str], model: str, *, load: bool) -> ExitCode:
    """Ask the running service to load or unload a model.

    Raises:
        ConfigError: the pipeline file opens no HTTP port, or nobody answers there.
        ModelError: the service refused.
    """
    options = PipelineFile.load(path, overrides).options.http
    if options is None:
        raise ConfigError(
            f"{path}: http is not set, so the service cannot be asked. Add [http] control = true."
        )
    verb = "load" if load else "unload"
    path_of_model = f"/v2/repository/models/{quote(model, safe='')}/{verb}"
    status, body = _post(options.host, options.port, path_of_model)
    if status != http.client.OK:
        raise ModelError(_reason(body) or f"{options.host}:{options.port} answered {status}; is it edgert?")
    print(f"{model}: {verb}ed")
    return ExitCode.OK


def _post(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=CHANGE_TIMEOUT_S)
    try:
        connection.request("POST", path, body=b"")
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"No service answers at {host}:{port}: {error}. Is `edgert run` running?"
        ) from error
    finally:
        connection.close()


def _reason(body: bytes) -> str:
    """Return the error that the service gave; empty if it is somebody else who answers."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""

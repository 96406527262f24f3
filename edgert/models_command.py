"""`edgert models`: what a pipeline's store has, and changes to the running service."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from urllib.parse import quote

from edgert.errors import EdgertError, ModelError
from edgert.exit_codes import ExitCode
from edgert.models.runtime import ENSEMBLE
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.running import server_of
from edgert.serve.ask_arguments import Access

CHANGE_TIMEOUT_S = 300.0  # an engine may take minutes to load


def list_models(path: Path, overrides: list[str]) -> ExitCode:
    """Print every model of the store: versions, those served, runtime, and what is wrong with it."""
    file = PipelineFile.load(path, overrides)
    used = {*file.model_names, *file.served.at_start()}
    print(f"{'model':24} {'versions':14} {'served':10} {'used':5} runtime")
    has_problem = False
    for name in file.store.names():
        try:
            print(_row(file, name, is_used=name in used))
        except EdgertError as error:
            print(f"{name:24} {error}")
            has_problem = True
    for warning in file.store.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.MODEL if has_problem else ExitCode.OK


def change_model(
    path: Path, overrides: list[str], model: str, *, load: bool, access: Access | None = None
) -> ExitCode:
    """Ask the running service to load or unload a model.

    Raises:
        ConfigError: the pipeline file opens no HTTP port, nobody answers there, or it lets nobody in who
            has no more to show.
        ModelError: the service refused.
    """
    server = server_of(PipelineFile.load(path, overrides), access or Access())
    verb = "load" if load else "unload"
    path_of_model = f"/v2/repository/models/{quote(model, safe='')}/{verb}"
    status, body = server.ask("POST", path_of_model, CHANGE_TIMEOUT_S, "Is `edgert run` running?")
    if status != http.client.OK:
        raise ModelError(_reason(body) or f"{server} answered {status}; is it edgert?")
    print(f"{model}: {verb}ed")
    return ExitCode.OK


def _row(file: PipelineFile, name: str, *, is_used: bool) -> str:
    """Return what there is to say of a model. Raises EdgertError: what is wrong with it."""
    entry = file.store.entry(name)
    is_ensemble = entry.config.ensemble is not None
    if is_ensemble or (file.options.serve is not None and name not in file.model_names):
        for problem in file.served.model_problems([name], opens_engines=False):
            raise problem
    else:
        file.plan(name).check()
    present, served = (
        ",".join(str(version.number) for version in versions)
        for versions in (entry.versions(), entry.chosen_versions())
    )
    runtime = ENSEMBLE if is_ensemble else file.plan(name).runtime
    return f"{name:24} {present:14} {served:10} {'yes' if is_used else 'no':5} {runtime}"


def _reason(body: bytes) -> str:
    """Return the error that the service gave; empty if it is somebody else who answers."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""

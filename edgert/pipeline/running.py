"""Where the service of a pipeline file can be asked, and with what."""

from __future__ import annotations

import os
from pathlib import Path

from edgert.errors import ConfigError
from edgert.pipeline.file import PipelineFile
from edgert.publish.credentials import find_secret, read_secret
from edgert.serve.ask import Server, context_for, demand_no_tls
from edgert.serve.ask_arguments import Access
from edgert.serve.options import TlsOptions


def server_of(file: PipelineFile, access: Access) -> Server:
    """Return the HTTP port of the service that runs the file. What `access` gives comes first.

    Raises:
        ConfigError: it has none, or none that is known, or a token or certificate cannot be read.
    """
    http, serve, path = file.options.http, file.options.serve, file.document.path
    if http is None:
        raise ConfigError(
            f"{path}: http is not set, so the service cannot be asked. Add [http] control = true."
        )
    if not http.port:
        raise ConfigError(
            f"{path}: http.port = 0 is any free port; the service's log names it. Add --set http.port=NUMBER"
        )
    token = _token(file, serve.token if serve else "", access)
    if serve is None or serve.tls is None:
        demand_no_tls(access, path)
        return Server(http.host, http.port, None, token)
    _demand_certificate(path, serve.tls, access)
    own = find_secret(serve.tls.certificate, file.document.resolve, os.environ)
    return Server(http.host, http.port, context_for(access, own), token)


def read_token(file: Path) -> str:
    """Return the token in a file of the person who asks. Raises ConfigError."""
    return read_secret(str(file), lambda _: file, {}, key="--token-file").reveal()


def _token(file: PipelineFile, place: str, access: Access) -> str:
    if access.token_file is not None:
        return read_token(access.token_file)
    if not place:
        return ""
    try:
        return read_secret(place, file.document.resolve, key="serve.token").reveal()
    except ConfigError as error:
        raise ConfigError(f"{file.document.path}: {error}. Give --token-file FILE") from error


def _demand_certificate(path: Path, tls: TlsOptions, access: Access) -> None:
    if tls.client_ca and access.certificate is None:
        raise ConfigError(
            f"{path}: serve.tls.client_ca: the service wants to see a client's certificate; give "
            "--certificate FILE with --key FILE"
        )

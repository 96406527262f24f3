"""Secrets from files, and the TLS context. Nothing here shows a secret in a log or `repr`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgert.errors import ConfigError
from edgert.publish.options import Resolve, TlsOptions


class Secret:
    """A text that only `reveal` shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"


def read_secret(place: str, resolve: Resolve, environment: Mapping[str, str] = os.environ) -> Secret:
    """Return the first line of a password_file.

    A bare name is looked for in $CREDENTIALS_DIRECTORY (systemd) first. Raises ConfigError.
    """
    path = find_secret(place, resolve, environment)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"password_file {path} cannot be read: {_reason(error)}") from error
    if not lines or not lines[0]:
        raise ConfigError(f"password_file {path}: the first line is empty; expected the secret there.")
    return Secret(lines[0])


def find_secret(place: str, resolve: Resolve, environment: Mapping[str, str]) -> Path:
    """Return where the secret called `place` stands."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and "/" not in place:
        credential = Path(folder, place)
        if credential.exists():
            return credential
    return resolve(place)


def tls_context(options: TlsOptions, resolve: Resolve) -> ssl.SSLContext:
    """Return a context that verifies the peer and its host name. Raises ConfigError, naming the file."""
    ca_file = _existing(options.ca_file, "ca_file", resolve)
    certificate = _existing(options.certificate_file, "certificate_file", resolve)
    key = _existing(options.key_file, "key_file", resolve)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"tls.ca_file {ca_file}: no PEM certificates: {_reason(error)}") from error
    context.sslsocket_class = ClosingTlsSocket
    if certificate:
        _load_certificate(context, certificate, key)
    return context


class ClosingTlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands. Raises OSError."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # The callable keeps OpenSSL from asking for a passphrase on the terminal.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, OSError, ValueError) as error:
        pair = f"tls.certificate_file {certificate} and its key {key or certificate}"
        raise ConfigError(f"{pair} do not go together: {_reason(error)}") from error


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase; give one without")


def _existing(place: str | None, key: str, resolve: Resolve) -> Path | None:
    if place is None:
        return None
    path = find_secret(place, resolve, os.environ)
    if not path.is_file():
        raise ConfigError(f"tls.{key} {path}: no such file")
    return path


def _reason(error: Any) -> str:
    return getattr(error, "strerror", None) or str(error)

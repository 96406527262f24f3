"""Secrets from files, and the TLS context. Nothing here shows a secret in a log or `repr`."""

from __future__ import annotations

import os
import ssl
import sys
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


def read_secret(
    place: str,
    resolve: Resolve,
    environment: Mapping[str, str] = os.environ,
    key: str = "password_file",
) -> Secret:
    """Return the first line of a file that the option `key` names.

    A bare name is looked for in $CREDENTIALS_DIRECTORY (systemd) first. Raises ConfigError.
    """
    path = find_secret(place, resolve, environment)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key} {path} cannot be read: {_reason(error)}") from error
    if not lines or not lines[0]:
        raise ConfigError(f"{key} {path}: the first line is empty; expected the secret there.")
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
    """Return a context for TLS 1.2 and later that verifies the peer: by certificate and host name, or by key.

    Raises:
        ConfigError: a file cannot be used, or this Python has no TLS by key.
    """
    if options.psk_identity and options.psk_file:
        context = _context_by_key(options.psk_identity, options.psk_file, resolve)
    else:
        context = _context_by_certificate(options, resolve)
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    context.sslsocket_class = ClosingTlsSocket
    return context


def _context_by_certificate(options: TlsOptions, resolve: Resolve) -> ssl.SSLContext:
    ca_file = _existing(options.ca_file, "ca_file", resolve)
    certificate = _existing(options.certificate_file, "certificate_file", resolve)
    key = _existing(options.key_file, "key_file", resolve)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"tls.ca_file {ca_file}: no PEM certificates: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever the system's OpenSSL allows besides
    if certificate:
        _load_certificate(context, certificate, key)
    return context


def _context_by_key(identity: str, place: str, resolve: Resolve) -> ssl.SSLContext:
    """Return a context in which only the holder of the same key can answer; nobody shows a certificate."""
    key = _key(place, resolve)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    set_callback = getattr(context, "set_psk_client_callback", None)
    if set_callback is None:
        here = ".".join(map(str, sys.version_info[:2]))
        raise ConfigError(f"tls.psk_file needs Python 3.13 or later; this is {here}. Or use certificates.")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Python offers keys in TLS 1.2 only, and without these ciphers certificates would be accepted unseen.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    set_callback(lambda _hint: (identity, key))
    return context


def _key(place: str, resolve: Resolve) -> bytes:
    text = read_secret(place, resolve, key="tls.psk_file").reveal()
    try:
        return bytes.fromhex(text)
    except ValueError:
        path = find_secret(place, resolve, os.environ)
        raise ConfigError(f"tls.psk_file {path}: the first line is no key in hexadecimal digits.") from None


# OpenSSL's X509_V_ERR_ numbers, and what is to be done.
VERIFY_HINTS = {
    9: "is this computer's clock right?",  # not yet valid
    10: "the broker needs a new one, or this computer's clock is wrong",  # expired
    18: "tls.ca_file is to name this certificate, or the authority that signed it",  # self-signed
    19: "is tls.ca_file the authority that signed the broker's certificate?",  # self-signed in the chain
    20: "is tls.ca_file the authority that signed the broker's certificate?",  # issuer unknown
    62: "connect to a name that it has",  # host name mismatch
    64: "connect to an address that it has",  # IP address mismatch
}
NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")  # OpenSSL's words


def tls_fault(error: ssl.SSLError, remedy: str = "") -> str:
    """Say why no TLS connection came about, and what to look at: `remedy`, if the peer speaks no TLS."""
    if isinstance(error, NoTlsError):
        return f"{error} ({remedy})"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return str(error)
    hint = VERIFY_HINTS.get(error.verify_code)
    said = f"certificate verify failed: {error.verify_message}"
    return f"{said} (of the broker's certificate; {hint})" if hint else said


class NoTlsError(ssl.SSLError):
    """The peer answered the handshake with something that is not TLS, or not at all."""


class ClosingTlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands. Raises OSError."""
        try:
            super().do_handshake(block)
        except OSError as error:
            self.close()
            if _is_no_tls(error):
                said = f"the other side does not answer in TLS: {_reason(error)}"
                raise NoTlsError(ssl.SSL_ERROR_SSL, said) from error
            raise


def _is_no_tls(error: OSError) -> bool:
    """Say whether a handshake failed as it does where TLS is not spoken; an alert, for one, is TLS."""
    is_silent = isinstance(error, ssl.SSLEOFError | ConnectionError | TimeoutError)
    return is_silent or getattr(error, "reason", None) in NOT_TLS


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

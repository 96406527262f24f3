"""Asks a running service over its HTTP port, with or without TLS and a token."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import msgspec

from edgert.errors import ConfigError
from edgert.serve.ask_arguments import Access

_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a service is asked
_CERTIFICATE_END = "-----END CERTIFICATE-----"


class Server(msgspec.Struct, frozen=True):
    """Where a service listens, and what it wants to see. `context` is None where it speaks no TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    token: str = ""

    def __repr__(self) -> str:
        """Return the address: the token is nobody's to see."""
        return f"Server({self})"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https://' if self.context else ''}{host}:{self.port}"

    def ask(self, method: str, path: str, timeout_s: float, hint: str = "") -> tuple[int, bytes]:
        """Return status and body. `hint` follows where nobody answers.

        Raises:
            ConfigError: nobody answers, or the service lets nobody in who shows no more than this.
        """
        connection = self._connection(timeout_s)
        headers = {"Authorization": f"Bearer {self.token}".encode()} if self.token else {}
        try:
            connection.request(method, path, body=b"" if method == "POST" else None, headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except ssl.SSLError as error:
            raise ConfigError(f"{self}: {_tls_fault(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"No service answers at {self}: {error}. {hint}".rstrip()) from error
        finally:
            connection.close()
        if status == http.client.UNAUTHORIZED:
            wants = "does not take this token" if self.token else "wants a token"
            raise ConfigError(f"{self} {wants}; give --token-file FILE")
        return status, body

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        host = _HERE.get(self.host, self.host)
        if self.context is None:
            return http.client.HTTPConnection(host, self.port, timeout=timeout_s)
        return http.client.HTTPSConnection(host, self.port, timeout=timeout_s, context=self.context)


def demand_no_tls(access: Access, place: object) -> None:
    """Raise ConfigError for files that only TLS needs, as the token would go in clear to whoever listens."""
    given = {"--ca": access.ca, "--certificate": access.certificate, "--key": access.key}
    if found := next((option for option, file in given.items() if file is not None), ""):
        raise ConfigError(f"{found}: {place} names a service that speaks no TLS; leave it out, or see to TLS")


def context_for(access: Access, own_certificate: Path | None = None) -> ssl.SSLContext:
    """Return the context of a client.

    It believes whom `access.ca` signed, else the service's `own_certificate` alone, whatever names that
    has, else what this machine believes. Raises ConfigError.
    """
    try:
        context = _pinned(own_certificate) if own_certificate and not access.ca else _by_authority(access.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if access.certificate is not None:
            context.load_cert_chain(access.certificate, access.key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        files = [str(file) for file in (access.ca or own_certificate, access.certificate, access.key) if file]
        raise ConfigError(
            f"{', '.join(files)}: cannot be used for TLS: {error}; give --ca FILE, and --certificate FILE "
            "with --key FILE where the service wants to see yours"
        ) from error
    return context


def _by_authority(ca: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _pinned(certificate: Path) -> ssl.SSLContext:
    """Return a context that takes the first certificate of a file for the other side's own, and no other."""
    text = certificate.read_text("ascii", "replace")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=text.partition(_CERTIFICATE_END)[0] + _CERTIFICATE_END)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _tls_fault(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not believed: {error.verify_message}; give --ca FILE, the certificate of "
            "who signed it"
        )
    if "CERTIFICATE_REQUIRED" in str(error).upper() or "HANDSHAKE_FAILURE" in str(error).upper():
        return "wants to see a certificate; give --certificate FILE with --key FILE"
    return f"no TLS connection: {error}; does it speak TLS there?"


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase; give one without")

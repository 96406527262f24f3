"""TLS of a server, and whose certificates it asks clients for."""

from __future__ import annotations

import ssl

from edgert.errors import ConfigError
from edgert.serve.options import TlsOptions

_NOT_A_PAIR = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")  # OpenSSL's words


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context of a server. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _take_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "certificate", options.certificate)
    _take_pair(context, options)
    if options.client_ca:
        _take_certificates(context, "client_ca", options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _take_certificates(context: ssl.SSLContext, key: str, file: str) -> None:
    """Trust the certificates of a file. Raises ConfigError, also where there are none."""
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(f"serve.tls.{key} {file} is no PEM certificate: {error.reason or error}") from error
    except OSError as error:
        raise _unreadable(key, file, error) from error


def _take_pair(context: ssl.SSLContext, options: TlsOptions) -> None:
    """Show a certificate that was read before; what fails now is the key. Raises ConfigError."""
    try:
        # The callable keeps OpenSSL from asking for a passphrase on the terminal.
        context.load_cert_chain(options.certificate, options.key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason in _NOT_A_PAIR:
            what = f"does not belong to serve.tls.certificate {options.certificate}"
        else:
            what = f"is no PEM key, or {options.certificate} no whole chain: {error.reason or error}"
        raise ConfigError(f"serve.tls.key {options.key} {what}") from error
    except ValueError as error:
        raise ConfigError(f"serve.tls.key {options.key}: {error}") from error
    except OSError as error:
        raise _unreadable("key", options.key, error) from error


def _unreadable(key: str, file: str, error: OSError) -> ConfigError:
    return ConfigError(f"serve.tls.{key} {file} cannot be read: {error.strerror or error}")


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase; give one without")

"""TLS of a server, and whose certificates it asks clients for."""

from __future__ import annotations

import ssl

from edgert.errors import ConfigError
from edgert.serve.options import TlsOptions


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context of a server. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The callable keeps OpenSSL from asking for a passphrase on the terminal.
        context.load_cert_chain(options.certificate, options.key, password=_no_passphrase)
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise ConfigError(f"serve.tls: certificate, key or client_ca cannot be read: {error}") from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key needs a passphrase; give one without")

"""What differs between those who connect to a broker: a node that publishes, a person who listens."""

from __future__ import annotations

import msgspec


class Remedies(msgspec.Struct, frozen=True, kw_only=True):
    """What messages tell their reader to look at, in the words of the place where it is set."""

    credentials: str = "check user, password_file and the broker's access list"
    tls: str = "does it want tls?"
    certificate: str = "does it want a certificate_file?"
    psk: str = "does it know psk_identity?"
    port: str = "is this its port for TLS? That is often 8883; or leave tls out"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """How a session is used. The defaults are a node's."""

    receive_maximum: int = (
        20  # messages of QoS 1 and 2 that a broker may send before we have acknowledged one
    )
    receive_bytes: int = 1_048_576  # commands are small; a broker drops what is larger than this packet
    packets_at_once: int = 1  # that one `pump` takes from the network
    remedies: Remedies = Remedies()

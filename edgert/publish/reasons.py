"""What a broker's reason codes mean for the next attempt. Return codes of 3.1.1 are mapped to them before."""

from __future__ import annotations

from edgert.errors import SinkError
from edgert.publish.session import BrokerRefusedError

VERSION_REFUSALS = (0x81, 0x82, 0x84)  # malformed packet, protocol error, unsupported version
CREDENTIAL_REFUSALS = (0x86, 0x87, 0x8C)  # bad user or password, not authorized, bad method
FINAL_REFUSALS = (*CREDENTIAL_REFUSALS, 0x85, 0x8A, 0x9A, 0x9B)  # client id, banned, retain, QoS of the will
SESSION_TAKEN_OVER = 0x8E


class CredentialsRefusedError(BrokerRefusedError):
    """The broker does not let this user in. Final."""


class TlsFailedError(SinkError):
    """Somebody is there, and no encrypted connection came about."""


def refusal(code: int, text: str, user: str | None, remedy: str, *, is_v5: bool) -> BrokerRefusedError:
    """Return what a CONNACK that says no means. `remedy`: what to check if it is about the user."""
    said = f"refused the connection: {text}"
    if code in CREDENTIAL_REFUSALS:
        return CredentialsRefusedError(f"{said} (as {shown_user(user)}; {remedy})", is_final=True)
    return BrokerRefusedError(
        said,
        try_other_version=is_v5 and code in VERSION_REFUSALS,
        is_final=code in FINAL_REFUSALS,
    )


def shown_user(user: str | None) -> str:
    """Return how messages call the one who connects."""
    return "no user" if user is None else f"user {user!r}"


def parting(code: int, text: str, client_id: str) -> SinkError:
    """Return what the broker's DISCONNECT means."""
    if code == SESSION_TAKEN_OVER:
        said = f"another client has connected as {client_id!r}; give each its own client_id"
        return BrokerRefusedError(said, is_final=True)
    return SinkError(f"ended the connection: {text}")

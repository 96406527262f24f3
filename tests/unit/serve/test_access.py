"""Who is at the other end."""

from __future__ import annotations

import pytest

from edgert.serve import access
from edgert.serve.access import Token


class Transport:
    """One that knows both its ends, or, once it is closed, none."""

    def __init__(self, **ends):
        self._ends = ends

    def get_extra_info(self, name):
        return self._ends.get(name)


@pytest.mark.parametrize(
    ("peer", "own", "is_local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.0.1", "0.0.0.0", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("2001:db8::1", "2001:db8::2", False),
    ],
)
def test_who_is_on_this_machine(peer, own, is_local):
    transport = Transport(peername=(peer, 1), sockname=(own, 2))
    assert access.is_local(transport) is is_local


def test_a_client_that_is_gone_is_not_on_this_machine():
    assert not access.is_local(Transport())


@pytest.mark.parametrize(
    ("authorization", "is_in"),
    [
        (b"Bearer s3cret", True),
        (b"bearer  s3cret ", True),
        (b"", False),
        (b"Bearer", False),
        (b"Bearer s3cre", False),
        (b"Basic s3cret", False),
        (b"s3cret", False),
    ],
)
def test_a_token_is_in_its_header(authorization, is_in):
    assert Token("s3cret").is_in(authorization) is is_in
    assert Token("").is_in(authorization)

from __future__ import annotations

import socket

import pytest

from edgert.publish.cork import BURST, TCP_CORK, Burst, cork_socket


class Session:
    def __init__(self):
        self.said = []

    def cork(self, *, is_corked):
        self.said.append(is_corked)


def corked(count):
    """Return what a session hears when so many messages are published in one block."""
    session = Session()
    with Burst(session) as burst:
        for _ in range(count):
            burst.add()
            session.said.append("message")
    return session.said


def test_messages_go_out_together():
    assert corked(3) == [True, "message", "message", "message", False]


def test_without_a_message_nothing_is_said():
    assert corked(0) == []


def test_a_long_block_goes_out_in_bursts():
    one = [True, *["message"] * BURST, False]
    assert corked(BURST) == one
    assert corked(2 * BURST + 1) == [*one, *one, True, "message", False]


def publish_and_fail(session):
    with Burst(session) as burst:
        burst.add()
        raise ValueError("no")


def test_what_was_published_before_an_error_goes_out():
    session = Session()
    with pytest.raises(ValueError, match="no"):
        publish_and_fail(session)
    assert session.said == [True, False]


@pytest.mark.skipif(TCP_CORK is None, reason="only Linux has TCP_CORK")
def test_the_kernel_is_told():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as end,
    ):
        cork_socket(end, is_corked=True)
        assert end.getsockopt(socket.IPPROTO_TCP, TCP_CORK)
        cork_socket(end, is_corked=False)
        assert not end.getsockopt(socket.IPPROTO_TCP, TCP_CORK)
    cork_socket(end, is_corked=True)  # closed: nothing to tell

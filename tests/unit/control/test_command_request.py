"""Where an answer goes, and what is read of a payload."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.control.request import RefusedError, answer_topic, identity_of, read_command
from edgert.control.verbs import VERBS, Command, Reload
from edgert.publish.session import Received

TOPIC = "edgert/here/cmd/ping"


@pytest.mark.parametrize(
    ("response_topic", "answered_at"),
    [
        ("me/answers", "me/answers"),
        ("", f"{TOPIC}/answer"),
        ("me/+", f"{TOPIC}/answer"),
        ("#", f"{TOPIC}/answer"),
        ("a\0b", f"{TOPIC}/answer"),
        ("$SYS/x", f"{TOPIC}/answer"),
    ],
)
def test_the_answer_goes_where_the_sender_wants_it_if_it_can(response_topic, answered_at):
    assert answer_topic(Received(TOPIC, b"", response_topic=response_topic)) == answered_at


@given(st.sampled_from(list(VERBS)), st.binary(max_size=200))
def test_bytes_are_a_command_or_refused(verb, payload):
    try:
        assert isinstance(read_command(verb, payload), Command)
    except RefusedError as refused:
        assert refused.status == "bad_request"  # noqa: PT017 - either may be
    assert identity_of(payload) is None or isinstance(identity_of(payload), str | int)


def test_nesting_ends_nothing():
    deep = b'{"other":' + b"[" * 4000 + b"]" * 4000 + b',"id":3}'
    assert identity_of(deep) is None
    with pytest.raises(RefusedError, match="unknown field `other`"):
        read_command("ping", deep)


def test_an_id_far_inside_a_huge_payload_is_not_looked_for():
    assert identity_of(b'{"id":3}' + b" " * 65_529) is None
    assert identity_of(b'{"id":3}' + b" " * 65_528) == 3


def test_only_reload_may_leave_its_model_out():
    assert read_command("reload", b"") == Reload()
    assert read_command("reload", b'{"model":null}').subject is None
    for verb in ("load", "unload", "threshold", "pause", "resume", "snapshot"):
        with pytest.raises(RefusedError, match="missing required field"):
            read_command(verb, b"{}")

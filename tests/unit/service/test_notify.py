"""systemd's protocol on real sockets."""

from __future__ import annotations

import itertools
import logging
import os
import re
import socket

import pytest

from edgert.errors import ConfigError, ModelError
from edgert.service import notify
from edgert.service.notify import Notifier, failure_fields
from tests.fakes.manager import Manager


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@edgert-test-{os.getpid()}"
    with Manager(address) as manager:
        yield manager


@pytest.fixture
def notifier(manager):
    notifier = Notifier.from_environment(manager.environment(), os.getpid())
    yield notifier
    notifier.close()


def test_a_message_is_one_datagram_of_lines(manager, notifier):
    assert notifier.is_on
    assert notifier.send({"READY": 1, "STATUS": "2 of 2 sources online"})
    assert manager.next() == {"READY": "1", "STATUS": "2 of 2 sources online"}


def test_what_would_end_a_line_is_taken_out(manager, notifier):
    notifier.send({"STATUS": "failed: a\nREADY=1\r\n\tb\vc\u2028d"})
    assert manager.next() == {"STATUS": "failed: a READY=1 b c d"}


def test_text_that_is_no_utf8_is_sent_with_question_marks(manager, notifier):
    notifier.send({"STATUS": os.fsdecode(b"door\xff.toml")})
    assert manager.next() == {"STATUS": "door?.toml"}


@pytest.mark.parametrize("character", ["x", "é", "🚪"])
def test_long_text_is_cut_between_two_characters(manager, notifier, character):
    notifier.send({"STATUS": character * 9000})
    said = manager.next()["STATUS"]
    assert set(said) == {character}
    assert notify.MAX_STATUS_BYTES - 4 < len(said.encode()) <= notify.MAX_STATUS_BYTES


def test_without_a_socket_in_the_environment_nothing_happens():
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"}, os.getpid())
    assert (notifier.is_on, notifier.watchdog_s) == (False, None)
    assert not notifier.send({"READY": 1})


def test_an_address_of_another_kind_is_warned_of_and_left(caplog):
    assert not Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}, os.getpid()).is_on
    assert "NOTIFY_SOCKET=vsock:2:1234 is neither a path nor an abstract name" in caplog.text


def test_a_manager_that_is_gone_is_warned_of_once_and_found_again(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    notifier = Notifier(str(tmp_path / "notify"))
    assert [notifier.send({"READY": 1, "STATUS": "a"}) for _ in range(3)] == [False] * 3
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]
    assert re.search("systemd cannot be told READY STATUS: .*No such file", caplog.text)
    with Manager(str(tmp_path / "notify")) as manager:
        assert notifier.send({"STATUS": "back"})
        assert manager.next() == {"STATUS": "back"}
    notifier.close()


def test_a_manager_that_does_not_read_holds_nobody_up_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "SEND_S", 0.05)
    with Manager(str(tmp_path / "notify")) as manager:
        manager._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        notifier = Notifier(manager.address)
        sent = list(itertools.takewhile(bool, (notifier.send({"STATUS": "x" * 900}) for _ in range(1000))))
        assert len(sent) < 1000
        assert len(manager.drain()) == len(sent)
        assert notifier.send({"STATUS": "again"})
        notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("3000000", None, 3.0),
        ("3000000", "own", 3.0),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        ("3000000", "mine", None),
        (None, "own", None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(usec, pid, expected):
    environment = {"NOTIFY_SOCKET": "@nobody"}
    environment |= {} if usec is None else {"WATCHDOG_USEC": usec}
    environment |= {} if pid is None else {"WATCHDOG_PID": str(os.getpid()) if pid == "own" else pid}
    assert Notifier.from_environment(environment, os.getpid()).watchdog_s == expected


def test_a_failure_is_told_with_its_exit_code_and_the_system_s_number():
    try:
        try:
            raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ConfigError("door.toml: cannot be read") from error
    except ConfigError as error:
        fields = failure_fields(error, 2)
    assert fields == {
        "STATUS": "failed with exit code 2: door.toml: cannot be read",
        "EXIT_STATUS": 2,
        "ERRNO": 13,
    }
    assert "ERRNO" not in failure_fields(ModelError("no engine"), 3)
    assert failure_fields(None, 1)["STATUS"] == (
        "failed with exit code 1: an error that edgert did not foresee; the log has it"
    )

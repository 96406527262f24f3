"""Opening what a pipeline file names."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys

import pytest

from edgert.errors import ConfigError
from edgert.publish.factory import check_sink, open_pictures, open_sink, open_tap
from edgert.publish.home_assistant import HomeAssistantOptions
from edgert.publish.options import LinesOptions, MqttOptions, SparkplugOptions, TapOptions, TlsOptions
from edgert.stats import LiveCount

CLOSED_PORT = 1  # nothing listens on tcpmux; an absent broker is no error


def test_lines(tmp_path, make_result):
    sink = open_sink("out", LinesOptions(path="out"), "n", "b", tmp_path.joinpath)
    sink.send(make_result())
    sink.close(5.0)
    assert (tmp_path / "out").read_text().startswith('{"schema":"edgert.result/1","node":"n","boot":"b"')
    assert (sink.name, sink.announcer) == ("out", None)


def test_mqtt_opens_without_a_broker(make_result):
    sink = open_sink("broker", MqttOptions(port=CLOSED_PORT), "n", "b")
    sink.announcer.publish_state("ready")
    sink.send(make_result())
    sink.close(5.0)
    assert sink.statistics().dropped == {"closed": 1}


def test_a_tap(tmp_path):
    tap = open_tap("tap", TapOptions(endpoint=f"pub+bind:ipc://{tmp_path}/tap"), "n", "b")
    assert tap.name == "tap"
    tap.close(5.0)


@pytest.mark.parametrize(
    ("options", "node", "fault"),
    [
        (MqttOptions(), "a/b", "node 'a/b' contains '/'"),
        (MqttOptions(user="u", password_file="absent"), "n", "Sink s: password_file .*absent cannot be read"),
        (MqttOptions(tls=TlsOptions(ca_file="absent")), "n", "Sink s: tls.ca_file .*absent: no such file"),
    ],
)
def test_what_can_never_work_is_an_error_at_once(tmp_path, options, node, fault):
    with pytest.raises(ConfigError, match=fault):
        open_sink("s", options, node, "b", tmp_path.joinpath)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            MqttOptions(user="u", password_file="absent"),
            "password_file .*/absent cannot be read: No such",
        ),
        (MqttOptions(user="u", password_file="empty"), "password_file .*/empty: the first line is empty"),
        (MqttOptions(tls=TlsOptions(ca_file="absent")), "tls.ca_file .*/absent: no such file"),
        (MqttOptions(tls=TlsOptions(ca_file="empty")), "tls.ca_file .*/empty: no PEM certificates"),
        (
            MqttOptions(tls=TlsOptions(psk_identity="n", psk_file="absent")),
            "tls.psk_file .*/absent cannot be read: No such",
        ),
        (MqttOptions(tls=TlsOptions(certificate_file="absent")), "tls.certificate_file .*/absent: no such"),
        (MqttOptions(tls=TlsOptions(certificate_file="empty")), "tls.certificate_file .*/empty and its key"),
        (
            MqttOptions(tls=TlsOptions(certificate_file="empty", key_file="absent")),
            "tls.key_file .*/absent: no such file",
        ),
        (LinesOptions(path="absent/out"), "path .*/absent/out: there is no folder .*/absent that"),
        (LinesOptions(path="empty/out"), "path .*/empty/out: there is no folder .*/empty that"),
        (LinesOptions(path="."), "path .* is a folder; expected a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_sink_and_key(tmp_path, options, fault):
    (tmp_path / "empty").write_text("")
    for use in (check_sink, lambda *rest: open_sink(rest[0], rest[1], "n", "b", rest[2])):
        with pytest.raises(ConfigError, match=f"^Sink s: {fault}"):
            use("s", options, tmp_path.joinpath)


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="this Python has TLS by key")
def test_tls_by_key_is_refused_before_a_connection_where_python_is_too_old(tmp_path):
    (tmp_path / "key").write_text("c0ffee")
    options = MqttOptions(tls=TlsOptions(psk_identity="n", psk_file="key"))
    with pytest.raises(ConfigError, match=r"^Sink s: tls\.psk_file needs Python 3\.13 or later; this is 3\."):
        check_sink("s", options, tmp_path.joinpath)


@pytest.mark.parametrize("name", ["new", "old"])
def test_lines_that_may_not_be_written_are_said(tmp_path, monkeypatch, name):
    (tmp_path / "old").write_text("")
    target = {"new": tmp_path, "old": tmp_path / "old"}[name]
    monkeypatch.setattr(os, "access", lambda path, mode: path != target or mode != os.W_OK)  # root may all
    with pytest.raises(ConfigError, match=f"^Sink s: path .*/{name}: this user may not write {target}$"):
        check_sink("s", LinesOptions(path=name), tmp_path.joinpath)


@pytest.mark.parametrize(
    "options",
    [
        MqttOptions(user="u", password_file="pw", tls=TlsOptions()),
        LinesOptions(path="out"),
        LinesOptions(),
        TapOptions(),
    ],
)
def test_checking_opens_nothing_and_makes_nothing(tmp_path, options):
    (tmp_path / "pw").write_text("secret")
    counts = LiveCount.snapshot()
    check_sink("s", options, tmp_path.joinpath)
    assert [path.name for path in tmp_path.iterdir()] == ["pw"]
    assert LiveCount.snapshot() == counts


def test_a_library_is_imported_only_if_its_sink_is_configured():
    check = (
        "import sys; from edgert.publish.factory import open_sink, LinesOptions\n"
        "open_sink('s', LinesOptions(), 'n', 'b').close(5.0)\n"
        "print([name for name in ('paho', 'zmq', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


class Announcing:
    """A sink that can retain."""

    announcer = object()


@pytest.mark.parametrize(
    ("options", "takes_orders", "wants_first"),
    [
        (MqttOptions(home_assistant=HomeAssistantOptions()), False, True),
        (MqttOptions(home_assistant=HomeAssistantOptions()), True, True),
        (MqttOptions(home_assistant=HomeAssistantOptions(camera=False)), True, False),
        (MqttOptions(), True, False),
    ],
)
def test_pictures_are_published_now_and_then_or_when_asked_for(options, takes_orders, wants_first):
    pictures = open_pictures("m", options, "n", Announcing(), takes_orders=takes_orders)
    assert pictures.name == "m.pictures"
    assert pictures.wants("door", 1) is wants_first
    assert pictures.take_next("door") == "edgert/n/source/door/snapshot"
    assert pictures.wants("door", 2)


@pytest.mark.parametrize(
    ("options", "takes_orders"),
    [
        (MqttOptions(), False),
        (MqttOptions(home_assistant=HomeAssistantOptions(camera=False)), False),
        (MqttOptions(sparkplug=SparkplugOptions(group="g")), True),
        (LinesOptions(), True),
    ],
)
def test_where_pictures_have_no_place_there_are_none(options, takes_orders):
    assert open_pictures("m", options, "n", Announcing(), takes_orders=takes_orders) is None

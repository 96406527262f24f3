"""Opening what a pipeline file names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgert.errors import ConfigError
from edgert.publish.factory import open_sink, open_tap
from edgert.publish.options import LinesOptions, MqttOptions, TapOptions, TlsOptions

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
        (MqttOptions(user="u", password_file="absent"), "n", "Sink s: Secret file .*absent cannot be read"),
        (MqttOptions(tls=TlsOptions(ca_file="absent")), "n", "Sink s: ca_file .*absent: no such file"),
    ],
)
def test_what_can_never_work_is_an_error_at_once(tmp_path, options, node, fault):
    with pytest.raises(ConfigError, match=fault):
        open_sink("s", options, node, "b", tmp_path.joinpath)


def test_a_library_is_imported_only_if_its_sink_is_configured():
    check = (
        "import sys; from edgert.publish.factory import open_sink, LinesOptions\n"
        "open_sink('s', LinesOptions(), 'n', 'b').close(5.0)\n"
        "print([name for name in ('paho', 'zmq', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"

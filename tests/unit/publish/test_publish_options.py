"""The sink tables of a pipeline file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgert.config import Document
from edgert.errors import ConfigError
from edgert.publish.options import LinesOptions, MqttOptions, SinkOptions, TapOptions, TlsOptions


def read(**table):
    return msgspec.convert(table, SinkOptions)


def test_a_type_alone_is_enough():
    assert read(type="mqtt") == MqttOptions()
    assert read(type="lines") == LinesOptions()
    assert read(type="tap") == TapOptions()


@pytest.mark.parametrize(
    ("table", "address"),
    [
        ({}, ("127.0.0.1", 1883)),
        ({"tls": {}}, ("127.0.0.1", 8883)),
        ({"host": "broker.lan", "port": 2000, "tls": {}}, ("broker.lan", 2000)),
    ],
)
def test_the_port_follows_tls_unless_it_is_given(table, address):
    assert read(type="mqtt", **table).address == address


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"type": "mqtt", "qos": 3}, "3"),
        ({"type": "mqtt", "port": 70_000}, "65535"),
        ({"type": "mqtt", "queue": 0}, ">= 1"),
        ({"type": "mqtt", "retry_min_s": 60}, "retry_max_s 30.0 is less than retry_min_s 60.0"),
        ({"type": "mqtt", "password_file": "secret"}, "password_file needs a user"),
        ({"type": "mqtt", "password": "secret"}, "unknown field"),
        ({"type": "mqtt", "tls": {"insecure": True}}, "unknown field"),
        ({"type": "mqtt", "tls": {"key_file": "k"}}, "key_file needs a certificate_file"),
        ({"type": "mqtt", "topic_root": "a/+"}, "contains '\\+'"),
        ({"type": "mqtt", "client_id": ""}, "length >= 1"),
        ({"type": "tap", "endpoint": "tcp://127.0.0.1:1"}, "is not pub\\+bind: or pub\\+connect:"),
        ({"type": "tap", "endpoint": "sub+bind:tcp://127.0.0.1:1"}, "is not pub\\+bind"),
        ({"type": "tap", "endpoint": "pub+bind:tcp://*:1"}, "opens every interface; name the host"),
        ({"type": "tap", "frames_per_s": -1}, ">= 0"),
        ({"type": "udp"}, "Invalid value 'udp'"),
        ({}, "missing required field `type`"),
    ],
    ids=str,
)
def test_refused_tables(table, fault):
    with pytest.raises(msgspec.ValidationError, match=fault):
        read(**table)


def test_an_error_names_the_file_and_the_sink():
    class File(msgspec.Struct):
        sinks: dict[str, SinkOptions]

    document = Document(
        Path("cam.toml"), {"sinks": {"ok": {"type": "lines"}, "bad": {"type": "mqtt", "retry_min_s": 60}}}
    )
    with pytest.raises(ConfigError, match=r"cam\.toml: sinks\.bad.*retry_max_s"):
        document.as_type(File)


@pytest.mark.parametrize(
    "endpoint", ["pub+bind:ipc:///run/tap", "pub+connect:tcp://viewer:1", "pub+bind:tcp://0.0.0.0:1"]
)
def test_an_endpoint_that_is_written_out_is_accepted(endpoint):
    assert read(type="tap", endpoint=endpoint).endpoint == endpoint


def test_tls_options_alone():
    assert TlsOptions().ca_file is None

"""The sink tables of a pipeline file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgert.config import Document
from edgert.errors import ConfigError
from edgert.publish.options import (
    LinesOptions,
    MqttOptions,
    SinkOptions,
    TapOptions,
    TlsOptions,
    shown_address,
)


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


def test_brokers_are_tried_in_the_order_in_which_they_are_written():
    brokers = ["b", "c.lan:2000", "10.0.0.1:3000", "[::1]", "[fe80::1%eth0]:4000"]
    options = read(type="mqtt", host="a", brokers=brokers)
    assert options.addresses == [
        ("a", 1883),
        ("b", 1883),
        ("c.lan", 2000),
        ("10.0.0.1", 3000),
        ("::1", 1883),
        ("fe80::1%eth0", 4000),
    ]
    assert read(type="mqtt", brokers=["b"], tls={}).addresses[1] == ("b", 8883)
    assert [shown_address(*address) for address in options.addresses[-2:]] == [
        "[::1]:1883",
        "[fe80::1%eth0]:4000",
    ]


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:0", "a:65536", "::1", "[::1", "mqtt://a", "a b", "[]:1"])
def test_a_broker_that_is_none_is_refused(text):
    with pytest.raises(msgspec.ValidationError, match="is not host, host:port or"):
        read(type="mqtt", brokers=["ok", text])


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
        ({"type": "mqtt", "tls": {"psk_identity": "n"}}, "psk_identity and psk_file need each other"),
        ({"type": "mqtt", "tls": {"psk_file": "k"}}, "psk_identity and psk_file need each other"),
        (
            {"type": "mqtt", "tls": {"psk_identity": "n", "psk_file": "k", "ca_file": "c"}},
            "psk_file takes the place of ca_file",
        ),
        ({"type": "mqtt", "tls": {"alpn": [""]}}, "alpn '' is not 1 to 255 characters"),
        ({"type": "mqtt", "tls": {"alpn": ["x" * 256]}}, "is not 1 to 255 characters"),
        ({"type": "mqtt", "tls": {"alpn": ["\u00fc"]}}, "is not 1 to 255 characters of ASCII"),
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

"""Passwords, access lists and TLS. Needs mosquitto and openssl."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from edgert.publish import mqtt
from edgert.publish.credentials import tls_context
from edgert.publish.options import TlsOptions
from tests.fakes.broker import Certificates, Mosquitto, Subscriber, password_file
from tests.fakes.log_watch import LogWatch
from tests.fakes.mqtt_node import MqttNode, is_result

pytestmark = pytest.mark.system

STATE = "edgert/n/state"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls_settings(certificates, *more, server=None):
    certificate, key = server or certificates.server
    return (
        "allow_anonymous true",
        f"cafile {certificates.ca}",
        f"certfile {certificate}",
        f"keyfile {key}",
        *more,
    )


def as_test_client(certificates):
    certificate, key = certificates.client
    return lambda client: client.tls_set(str(certificates.ca), str(certificate), str(key))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_wrong_password_is_said_once_and_the_right_one_is_taken_up(tmp_path, protocol):
    users = password_file(tmp_path / "users", "cam", "right")
    (tmp_path / "secret").write_text("wrong\n")
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {users}") as broker, LogWatch() as log:
        with MqttNode(
            broker.port, tmp_path.joinpath, user="cam", password_file="secret", protocol=protocol
        ) as node:
            node.send()
            said = log.wait_for(
                "refused the connection: Not authorized (as user 'cam'; check user, password_file"
            )
            assert "wrong" not in said
            log.wait_for("refused the connection")
            assert not node.sink.statistics().is_connected
            assert len([line for line in log.warnings() if "refused the connection" in line]) == 1
            (tmp_path / "secret").write_text("right\n")
            log.wait_for(f"connected with MQTT {protocol}")
            with Subscriber(broker.port, configure=lambda c: c.username_pw_set("cam", "right")) as subscriber:
                node.send()
                subscriber.wait_for(lambda m: is_result(m, 1))
        assert not [line for line in log.lines if "right" in line[1]]


def test_a_broker_that_learns_the_password_is_joined(tmp_path):
    users = password_file(tmp_path / "users", "cam", "old")
    (tmp_path / "secret").write_text("new")
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {users}")
    with broker, LogWatch() as log:
        with MqttNode(broker.port, tmp_path.joinpath, user="cam", password_file="secret") as node:
            log.wait_for("refused the connection")
            broker.stop()
            password_file(tmp_path / "users", "cam", "new")
            broker.start()
            log.wait_for("connected")
            node.send()
        assert node.sink.statistics().sent == 1


def test_a_forbidden_topic_is_refused_counted_and_said(tmp_path):
    users = password_file(tmp_path / "users", "cam", "pw")
    (tmp_path / "secret").write_text("pw")
    (tmp_path / "acl").write_text("user cam\ntopic write edgert/n/state\n")
    settings = ("allow_anonymous false", f"password_file {users}", f"acl_file {tmp_path / 'acl'}")
    with Mosquitto(tmp_path, *settings) as broker, LogWatch() as log:
        with MqttNode(broker.port, tmp_path.joinpath, user="cam", password_file="secret", qos=1) as node:
            node.send(2)
            log.wait_for("the broker refuses edgert/n/source/porch/result/classifier: Not authorized")
        statistics = node.sink.statistics()
        assert (statistics.sent, statistics.acknowledged, statistics.refused) == (2, 0, 2)
        assert len([line for line in log.warnings() if "refuses" in line]) == 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_tls_with_a_client_certificate(tmp_path, certificates, protocol):
    certificate, key = certificates.client
    tls = TlsOptions(ca_file=str(certificates.ca), certificate_file=str(certificate), key_file=str(key))
    with Mosquitto(tmp_path, *tls_settings(certificates, "require_certificate true")) as broker:
        configure = as_test_client(certificates)
        with Subscriber(broker.port, configure=configure) as subscriber:
            with MqttNode(broker.port, tls=tls, protocol=protocol, qos=1) as node:
                node.state("ready")
                subscriber.wait_payload(STATE, b"ready")
                node.send(200)
                subscriber.wait_for(lambda m: is_result(m, 199))
            subscriber.wait_payload(STATE, b"disconnected")
        assert node.sink.statistics().acknowledged == 200


def test_without_a_client_certificate_it_is_refused_and_says_so(tmp_path, certificates):
    tls = TlsOptions(ca_file=str(certificates.ca))
    broker = Mosquitto(tmp_path, *tls_settings(certificates, "require_certificate true"))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=tls) as node:
        log.wait_for("closed the connection without an answer (")  # the alert, or a guess without one
        assert not node.sink.statistics().is_connected


def test_a_broker_that_nobody_vouches_for_is_not_trusted(tmp_path, certificates):
    broker = Mosquitto(tmp_path, *tls_settings(certificates))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=TlsOptions()) as node:
        log.wait_for("certificate verify failed")
        log.wait_for("certificate verify failed")
        assert not node.sink.statistics().is_connected


OTHER_HOST = "127.0.0.2"  # the certificate does not name it


@pytest.fixture
def other_broker(tmp_path, certificates):
    """A broker that listens under another name than its certificate, whose authority is trusted."""
    with Mosquitto(tmp_path, *tls_settings(certificates), host=OTHER_HOST) as broker:
        yield broker


def test_a_broker_under_another_name_is_not_trusted(other_broker, certificates):
    tls = TlsOptions(ca_file=str(certificates.ca))
    with LogWatch() as log, MqttNode(other_broker.port, host=OTHER_HOST, tls=tls) as node:
        for _ in range(2):
            said = log.wait_for(f"MQTT broker {OTHER_HOST}:{other_broker.port}: ")
            assert "certificate verify failed" in said
            assert "IP address mismatch" in said
        assert not node.sink.statistics().is_connected


def test_it_is_the_name_alone_that_is_not_trusted(other_broker, certificates, monkeypatch):
    """Without the look at the name, the same broker is joined: so the test above tests just that."""

    def without_name(options, resolve):
        context = tls_context(options, resolve)
        context.check_hostname = False
        return context

    monkeypatch.setattr(mqtt, "tls_context", without_name)
    tls = TlsOptions(ca_file=str(certificates.ca))
    with LogWatch() as log, MqttNode(other_broker.port, host=OTHER_HOST, tls=tls):
        log.wait_for("connected with MQTT 5")


def test_a_broker_is_trusted_under_every_name_of_its_certificate(tmp_path, certificates):
    tls = TlsOptions(ca_file=str(certificates.ca))
    with Mosquitto(tmp_path, *tls_settings(certificates)) as broker:
        for host in ("127.0.0.1", "localhost"):
            with LogWatch() as log, MqttNode(broker.port, host=host, tls=tls):
                log.wait_for("connected with MQTT 5")


def test_a_plain_client_at_a_tls_port_keeps_trying(tmp_path, certificates):
    broker = Mosquitto(tmp_path, *tls_settings(certificates))
    with broker, LogWatch() as log, MqttNode(broker.port):
        log.wait_for("closed the connection without an answer")
        log.wait_for("closed the connection without an answer")


def test_an_expired_certificate_says_so_and_what_to_look_at(tmp_path, certificates):
    broker = Mosquitto(tmp_path, *tls_settings(certificates, server=certificates.expired))
    tls = TlsOptions(ca_file=str(certificates.ca))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=tls) as node:
        log.wait_for(
            "cannot be reached: certificate verify failed: certificate has expired "
            "(of the broker's certificate; the broker needs a new one, or this computer's clock is wrong)"
        )
        assert not node.sink.statistics().is_connected


def test_another_authority_says_which_option_names_it(tmp_path, tmp_path_factory, certificates):
    other = Certificates(tmp_path_factory.mktemp("other"))
    broker = Mosquitto(tmp_path, *tls_settings(certificates))
    tls = TlsOptions(ca_file=str(other.ca))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=tls) as node:
        said = log.wait_for("certificate verify failed")
        assert "is tls.ca_file the authority that signed the broker's certificate?" in said
        assert not node.sink.statistics().is_connected


def test_a_client_certificate_that_has_expired_is_refused(tmp_path, certificates):
    certificate, key = certificates.expired
    tls = TlsOptions(ca_file=str(certificates.ca), certificate_file=str(certificate), key_file=str(key))
    broker = Mosquitto(tmp_path, *tls_settings(certificates, "require_certificate true"))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=tls) as node:
        log.wait_for("closed the connection without an answer")
        assert not node.sink.statistics().is_connected


def test_alpn_is_no_hindrance_where_the_broker_does_not_look_at_it(tmp_path, certificates):
    tls = TlsOptions(ca_file=str(certificates.ca), alpn=("mqtt",))
    broker = Mosquitto(tmp_path, *tls_settings(certificates))
    with broker, LogWatch() as log, MqttNode(broker.port, tls=tls):
        log.wait_for("connected with MQTT 5")


@pytest.mark.skipif(
    not hasattr(ssl.SSLContext, "set_psk_client_callback"), reason="TLS by key needs Python 3.13 or later"
)
def test_tls_by_key(tmp_path):
    (tmp_path / "keys").write_text("node:c0ffee\n")
    settings = ("allow_anonymous true", f"psk_file {tmp_path / 'keys'}", "psk_hint edgert")
    tls = TlsOptions(psk_identity="node", psk_file="key")
    with Mosquitto(tmp_path, *settings) as broker, LogWatch() as log:
        (tmp_path / "key").write_text("badbad\n")
        with MqttNode(broker.port, tmp_path.joinpath, tls=tls, qos=1) as node:
            log.wait_for("cannot be reached")
            (tmp_path / "key").write_text("c0ffee\n")
            log.wait_for("connected with MQTT 5")
            node.send()
        assert node.sink.statistics().acknowledged == 1


DYNAMIC_SECURITY = "mosquitto_dynamic_security.so"


def test_a_forbidden_subscription_says_what_to_check(tmp_path):
    plugin = next(Path("/usr/lib").glob(f"**/{DYNAMIC_SECURITY}"), None)
    if plugin is None:
        pytest.skip(f"{DYNAMIC_SECURITY} is missing; it comes with mosquitto")
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False}
    rules = {
        "defaultACLAccess": access,
        "clients": [],
        "roles": [],
        "groups": [{"groupname": "all", "roles": []}],
        "anonymousGroup": "all",
    }
    (tmp_path / "rules").write_text(json.dumps(rules))
    settings = ("allow_anonymous true", f"plugin {plugin}", f"plugin_opt_config_file {tmp_path / 'rules'}")
    with Mosquitto(tmp_path, *settings) as broker, LogWatch() as log, MqttNode(broker.port, qos=1) as node:
        node.sink.connection.listen("cmd/+", print)
        log.wait_for("refuses to send edgert/n/cmd/+: Not authorized (check its access list)")
        node.send()
        node.close()
        assert node.sink.statistics().acknowledged == 1

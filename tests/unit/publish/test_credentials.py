"""Secrets from files."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.publish.credentials import NoTlsError, Secret, read_secret, tls_context, tls_fault
from edgert.publish.options import TlsOptions


def test_a_secret_does_not_show():
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hunter2"


@pytest.mark.parametrize("text", ["hunter2", "hunter2\n", "hunter2\r\nsecond line\n"])
def test_the_first_line_is_the_secret(tmp_path, text):
    (tmp_path / "pw").write_text(text)
    assert read_secret("pw", tmp_path.joinpath, {}).reveal() == "hunter2"


def test_a_bare_name_is_a_credential_of_systemd_first(tmp_path):
    credentials, beside = tmp_path / "credentials", tmp_path / "beside"
    for folder in (credentials, beside):
        folder.mkdir()
        (folder / "pw").write_text(folder.name)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert read_secret("pw", beside.joinpath, environment).reveal() == "credentials"
    assert read_secret("./pw", beside.joinpath, environment).reveal() == "beside"
    (credentials / "pw").unlink()
    assert read_secret("pw", beside.joinpath, environment).reveal() == "beside"


def test_an_absent_or_empty_secret_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"pw cannot be read: No such file"):
        read_secret("pw", tmp_path.joinpath, {})
    (tmp_path / "pw").write_text("\nsecond line")
    with pytest.raises(ConfigError, match=r"pw: the first line is empty"):
        read_secret("pw", tmp_path.joinpath, {})
    (tmp_path / "pw").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"pw cannot be read"):
        read_secret("pw", tmp_path.joinpath, {})


def test_tls_verifies_the_peer_and_its_name(tmp_path):
    context = tls_context(TlsOptions(), tmp_path.joinpath)
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_tls_files_that_are_absent_or_wrong_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.pem: no such file"):
        tls_context(TlsOptions(ca_file="ca.pem"), tmp_path.joinpath)
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.pem: no PEM certificates"):
        tls_context(TlsOptions(ca_file="ca.pem"), tmp_path.joinpath)
    with pytest.raises(ConfigError, match=r"certificate_file .*ca\.pem and its key .*do not go together"):
        tls_context(TlsOptions(certificate_file="ca.pem"), tmp_path.joinpath)


def test_nothing_older_than_tls_1_2_is_spoken(tmp_path):
    assert tls_context(TlsOptions(), tmp_path.joinpath).minimum_version == ssl.TLSVersion.TLSv1_2


def hello_of(context):
    """Return the first words of a client with this context."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="broker.lan")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_alpn_offers_the_protocols_in_order(tmp_path):
    hello = hello_of(tls_context(TlsOptions(alpn=("x-amzn-mqtt-ca", "mqtt")), tmp_path.joinpath))
    offer = b"\x0ex-amzn-mqtt-ca\x04mqtt"
    extension = b"\0\x10" + (len(offer) + 2).to_bytes(2, "big") + len(offer).to_bytes(2, "big") + offer
    assert extension in hello
    assert offer not in hello_of(tls_context(TlsOptions(), tmp_path.joinpath))


BY_KEY = TlsOptions(psk_identity="node", psk_file="key")
knows_keys = hasattr(ssl.SSLContext, "set_psk_client_callback")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "tls.psk_file .*key cannot be read: No such file"),
        ("", "tls.psk_file .*key: the first line is empty"),
        ("not hex", "tls.psk_file .*key: the first line is no key in hexadecimal digits"),
        ("abc", "tls.psk_file .*key: the first line is no key in hexadecimal digits"),
    ],
)
def test_a_key_that_is_none_names_the_file_and_does_not_show(tmp_path, text, fault):
    if text is not None:
        (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError, match=fault) as caught:
        tls_context(BY_KEY, tmp_path.joinpath)
    assert not text or text not in str(caught.value)


@pytest.mark.skipif(knows_keys, reason="this Python has TLS by key")
def test_tls_by_key_says_which_python_it_needs(tmp_path):
    (tmp_path / "key").write_text("c0ffee\n")
    with pytest.raises(ConfigError, match=r"tls\.psk_file needs Python 3\.13 or later; this is 3\.\d+\."):
        tls_context(BY_KEY, tmp_path.joinpath)


@pytest.mark.skipif(not knows_keys, reason="TLS by key needs Python 3.13 or later")
def test_tls_by_key_accepts_nobody_without_the_key(tmp_path):
    (tmp_path / "key").write_text("c0ffee\n")
    context = tls_context(BY_KEY, tmp_path.joinpath)
    older = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert older
    assert all("PSK" in name for name in older)
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("code", "text", "hint"),
    [
        (10, "certificate has expired", "the broker needs a new one, or this computer's clock is wrong"),
        (9, "certificate is not yet valid", "is this computer's clock right?"),
        (20, "unable to get local issuer certificate", "is tls.ca_file the authority"),
        (64, "IP address mismatch", "connect to an address that it has"),
    ],
)
def test_a_fault_of_a_certificate_says_what_to_look_at(code, text, hint):
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, text
    assert tls_fault(error).startswith(
        f"certificate verify failed: {text} (of the broker's certificate; {hint}"
    )


def test_another_fault_of_a_certificate_is_said_as_it_is():
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 99, "something else"
    assert tls_fault(error) == "certificate verify failed: something else"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["text", "end", "reset"]
)
def test_a_peer_that_speaks_no_tls_is_told_from_one_that_is_not_trusted(answer):
    context = tls_context(TlsOptions(), Path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = threading.Thread(target=answer_once, args=(listener, answer))
        peer.start()
        with socket.create_connection(listener.getsockname()) as plain, pytest.raises(NoTlsError) as raised:
            context.wrap_socket(plain, server_hostname="localhost")
        peer.join()
    assert tls_fault(raised.value, "which port?").startswith("the other side does not answer in TLS: ")
    assert tls_fault(raised.value, "which port?").endswith(" (which port?)")


def answer_once(listener, answer):
    """Read what the client says, and answer; None: reset the connection."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(1)
        if answer is not None:
            connection.recv(65_536)
            connection.sendall(answer)


def test_an_alert_is_an_answer_in_tls(monkeypatch):
    alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"

    def refuse(*_):
        raise alert

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", refuse)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ssl.SSLError) as raised:
        tls_context(TlsOptions(), Path).wrap_socket(ours, server_hostname="localhost")
    assert raised.value is alert
    assert "unknown ca" in tls_fault(raised.value, "which port?")
    assert "which port?" not in tls_fault(raised.value, "which port?")

"""Secrets from files."""

from __future__ import annotations

import pytest

from edgert.errors import ConfigError
from edgert.publish.credentials import Secret, read_secret, tls_context
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

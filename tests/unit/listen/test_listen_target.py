"""What to listen to, from a pipeline file and the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.listen.command import add_arguments, read_options
from edgert.listen.target import read_target

FILE = """
node = "porch"
store = "no/such/store"
[sources.door]
uri = "v4l2:/dev/video0"
models = ["m"]
[sinks.out]
type = "lines"
[sinks.broker]
type = "mqtt"
host = "far"
brokers = ["farther:1884"]
topic_root = "site/edgert"
client_id = "the-node"
user = "cam"
password_file = "secret"
"""
SECOND = '[sinks.second]\ntype = "mqtt"\nhost = "there"\n'


@pytest.fixture
def pipeline(tmp_path):
    def write(text):
        file = tmp_path / "door.toml"
        file.write_text(text)
        return str(file)

    return write


def target(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_target(read_options(parser.parse_args(arguments)))


def test_by_default_it_is_every_node_here():
    found = target()
    assert found.broker.addresses == [("127.0.0.1", 1883)]
    assert found.broker.tls is None
    assert found.filters[0] == "edgert/+/state"
    assert "edgert/+/source/+/result/+" in found.filters


def test_the_command_line_chooses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broker = ("--host", "h", "--user", "u", "--password-file", "p", "--root", "a/b")
    found = target(*broker, "--node", "n", "--source", "s", "--model", "m", "--ca-file", "ca.pem")
    assert found.broker.address == ("h", 8883)
    assert found.broker.user == "u"
    assert found.resolve(found.broker.password_file) == tmp_path / "p"
    assert found.resolve(found.broker.tls.ca_file) == tmp_path / "ca.pem"
    assert "a/b/n/source/s/result/m" in found.filters


def test_tls_alone_trusts_what_the_system_does():
    tls = target("--tls").broker.tls
    assert tls.ca_file is None


def test_a_pipeline_file_says_broker_root_and_node(pipeline, tmp_path):
    found = target(pipeline(FILE))
    assert found.broker.addresses == [("far", 1883), ("farther", 1884)]
    assert found.filters[0] == "site/edgert/porch/state"
    assert found.resolve(found.broker.password_file) == tmp_path / "secret"


def test_the_command_line_wins_over_the_file(pipeline, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = target(pipeline(FILE), "--host", "near", "--node", "other", "--password-file", "mine")
    assert found.broker.addresses == [("near", 1883)]  # the others are the file's
    assert found.filters[0] == "site/edgert/other/state"
    assert (found.broker.user, found.resolve(found.broker.password_file)) == ("cam", elsewhere / "mine")


def test_several_sinks_are_chosen_by_name(pipeline):
    file = pipeline(FILE + SECOND)
    assert target(file, "--sink", "second").broker.host == "there"
    with pytest.raises(ConfigError, match="several mqtt sinks; choose with --sink: broker, second"):
        target(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sink", "out"], "--sink out: is no mqtt sink; there are: broker"),
        (["--sink", "none"], "--sink none: is no mqtt sink"),
        (["--port", "70000"], "port = 70000: expected `int` <= 65535"),
        (["--node", "a/b"], "--node 'a/b' contains '/'"),
        (["--source", "#"], "--source '#' contains '#'"),
        (["--model", ""], "--model '' is empty"),
        (["--root", "a/+"], "topic root '\\+' contains"),
        (["--key-file", "k"], "key_file needs a certificate_file"),
    ],
)
def test_what_is_wrong_is_said(pipeline, arguments, said):
    with pytest.raises(ConfigError, match=said):
        target(pipeline(FILE), *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--password-file", "p"], "^--password-file needs --user$"),
        (["--root", "a/+"], r"^--root a/\+: topic root '\+' contains"),
        (["--port", "70000"], "the command line: port = 70000"),
        (["--sink", "x"], "--sink x: is for a pipeline file"),
        (["no/such.toml"], "no/such.toml: no such file"),
    ],
)
def test_so_it_is_without_a_file(arguments, said):
    with pytest.raises(ConfigError, match=said):
        target(*arguments)


def test_a_password_needs_a_user_of_the_file_or_the_command_line(pipeline):
    assert target(pipeline(FILE), "--password-file", "p").broker.user == "cam"
    with pytest.raises(ConfigError, match=r"^--password-file needs --user$"):
        target(pipeline('node = "n"\n' + SECOND), "--password-file", "p")


def test_a_file_without_a_broker_says_so(pipeline):
    with pytest.raises(ConfigError, match="has no mqtt sink"):
        target(pipeline('node = "n"\n[sinks.out]\ntype = "lines"\n'))
    with pytest.raises(ConfigError, match="'node' is missing"):
        target(pipeline('[sinks.out]\ntype = "mqtt"\n'))


def test_every_pipeline_of_the_folder_can_be_listened_to():
    folder = Path(__file__).parents[3] / "pipelines"
    found = {file.name: target(str(file)) for file in folder.glob("*.toml") if "mqtt" in file.read_text()}
    assert "door.toml" in found
    assert all(one.node for one in found.values())


@pytest.mark.parametrize(
    "arguments",
    [["--seconds", "0"], ["--seconds", "nan"], ["--count", "0"], ["--port", "x"], ["--password", "x"]],
)
def test_wrong_use_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        target(*arguments)
    assert arguments[0] in capsys.readouterr().err

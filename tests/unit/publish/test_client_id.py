"""Client ids that two nodes do not share."""

from __future__ import annotations

import re

from edgert.publish.client_id import default_client_id, machine_id


def test_the_id_names_the_node_and_hides_the_machine():
    identity = default_client_id("gate", "broker", "0123456789abcdef")
    assert re.fullmatch(r"edgert-gate-[0-9a-f]{8}", identity)
    assert "01234567" not in identity
    assert identity == default_client_id("gate", "broker", "0123456789abcdef")


def test_another_machine_node_or_sink_has_another_id():
    ids = {
        default_client_id(*which)
        for which in [("n", "s", "m"), ("n2", "s", "m"), ("n", "s2", "m"), ("n", "s", "m2")]
    }
    assert len(ids) == 4


def test_the_machine_has_its_own_id(tmp_path):
    (tmp_path / "machine-id").write_text("abc\n")
    assert machine_id(tmp_path / "machine-id", {}, tmp_path) == "abc"


def test_without_one_a_random_id_is_stored(tmp_path):
    first = machine_id(tmp_path / "absent", {}, tmp_path)
    assert first == machine_id(tmp_path / "absent", {}, tmp_path)
    assert (tmp_path / ".local/state/edgert/machine-id").read_text() == first
    in_service = machine_id(tmp_path / "absent", {"STATE_DIRECTORY": f"{tmp_path}/state:/other"}, tmp_path)
    assert (tmp_path / "state/machine-id").read_text() == in_service != first


def test_an_uninitialized_machine_has_none(tmp_path):
    (tmp_path / "machine-id").write_text("uninitialized\n")
    assert len(machine_id(tmp_path / "machine-id", {"XDG_STATE_HOME": str(tmp_path / "x")}, tmp_path)) == 32


def test_where_nothing_can_be_stored_the_id_lasts_for_the_process(tmp_path):
    (tmp_path / "file").write_text("")
    environment = {"STATE_DIRECTORY": str(tmp_path / "file")}
    first = machine_id(tmp_path / "absent", environment, tmp_path)
    assert first != machine_id(tmp_path / "absent", environment, tmp_path)

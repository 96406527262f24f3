"""What of a board the service may open, and what stays closed to it."""

from __future__ import annotations

import pytest

from edgert.systemd.board import RECORDED, Board, character_groups, look_at_board
from edgert.systemd.devices import devices_drop_in, left_closed, openings
from tests.unit.systemd.places import add_board


@pytest.fixture
def opened(tmp_path):
    """Return a function that looks at a recorded board and returns what would be opened of it."""

    def look(name):
        board = look_at_board(add_board(tmp_path, name))
        return [device for opening in openings(board) for device in opening.devices]

    return look


def test_an_orin_gets_its_gpu_memory_dla_decoder_and_cameras_and_no_more(opened):
    assert sorted(opened("orin-jp6")) == [
        "/dev/dri/renderD128",
        "/dev/host1x-fence",
        "/dev/nvgpu/igpu0/as",
        "/dev/nvgpu/igpu0/channel",
        "/dev/nvgpu/igpu0/ctrl",
        "/dev/nvgpu/igpu0/nvsched",
        "/dev/nvgpu/igpu0/nvsched_ctrl_fifo",
        "/dev/nvgpu/igpu0/power",
        "/dev/nvgpu/igpu0/tsg",
        "/dev/nvhost-as-gpu",
        "/dev/nvhost-ctrl-gpu",
        "/dev/nvhost-ctrl-nvdla0",
        "/dev/nvhost-ctrl-nvdla1",
        "/dev/nvhost-gpu",
        "/dev/nvhost-nvsched-gpu",
        "/dev/nvhost-nvsched_ctrl_fifo-gpu",
        "/dev/nvhost-power-gpu",
        "/dev/nvhost-tsg-gpu",
        "/dev/nvmap",
        "/dev/v4l2-nvdec",
        "char-video4linux",
    ]


def test_debuggers_and_profilers_of_a_gpu_stay_closed_and_are_named(tmp_path):
    board = look_at_board(add_board(tmp_path, "orin-jp6"))
    (closed,) = left_closed(board)
    assert {"/dev/nvgpu/igpu0/dbg", "/dev/nvhost-prof-gpu", "/dev/nvgpu/igpu0/sched"} <= set(closed.devices)
    text = devices_drop_in(board)
    assert "# Left closed (debuggers, profilers and schedulers of the GPU): /dev/nvgpu/igpu0/ctxsw" in text
    assert not [line for line in text.splitlines() if line.startswith("DeviceAllow=") and "dbg" in line]


def test_a_thor_gets_the_drivers_of_its_gpu_whole(opened):
    """Their nodes may be made after the service has started."""
    assert sorted(opened("thor-jp7")) == [
        "/dev/dri/renderD128",
        "/dev/host1x-fence",
        "/dev/nvmap",
        "/dev/v4l2-nvdec",
        "char-nvidia",
        "char-nvidia-uvm",
        "char-nvidiactl",
        "char-video4linux",
    ]


def test_a_discrete_gpu_has_neither_tegra_nodes_nor_its_switches(opened):
    assert sorted(opened("desktop")) == [
        "/dev/dri/renderD128",
        "char-nvidia-caps",
        "char-nvidia-frontend",
        "char-nvidia-uvm",
        "char-video4linux",
    ]


def test_without_a_gpu_only_cameras_are_opened(opened):
    assert opened("none") == ["char-video4linux"]


@pytest.mark.parametrize(
    ("recorded", "found"), [("orin", "orin-jp6"), ("thor", "thor-jp7"), ("none", "none")]
)
def test_a_recorded_board_opens_nothing_that_the_machine_itself_does_not_have(opened, recorded, found):
    openable = [device for opening in openings(RECORDED[recorded]) for device in opening.devices]
    assert set(openable) <= set(opened(found))


def test_each_device_stands_under_its_reason():
    text = devices_drop_in(Board("x", (), ("nvmap", "dri/renderD128")))
    before, after = text.split("DeviceAllow=/dev/nvmap rw\n")
    assert before.splitlines()[-1].startswith("# memory that the CPU")
    assert after.splitlines()[0].startswith("# render node")


def test_groups_are_those_of_character_devices_each_once():
    text = "Character devices:\n 4 tty\n 4 ttyS\n195 nvidia\n195 nvidia\n\nBlock devices:\n  7 loop\n"
    assert list(character_groups(text)) == ["tty", "ttyS", "nvidia"]


def test_a_machine_that_lists_nothing_has_no_devices(tmp_path):
    board = look_at_board(tmp_path)
    assert (board.groups, board.nodes, board.has_argus) == ((), (), False)


@pytest.mark.parametrize("place", ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"])
def test_the_camera_daemon_is_known_by_its_unit(tmp_path, place):
    unit = tmp_path / place / "nvargus-daemon.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert look_at_board(tmp_path).has_argus


def test_a_board_says_what_it_is(tmp_path):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert look_at_board(tmp_path).name == "NVIDIA Jetson AGX Orin Developer Kit"

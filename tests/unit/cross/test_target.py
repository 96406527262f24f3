"""Targets: each file is right, and what is wrong is said as everywhere in edgert."""

from __future__ import annotations

import pytest

from cross.lock import lock_file, read_lock
from cross.target import read_target, target_names
from edgert.errors import ConfigError
from edgert.prepare.kernels import CUDA12_IMAGE, CUDA13_IMAGE

ALL = {
    *("debian-arm64", "drive-linux", "drive-qnx", "jetson-orin-jp6", "jetson-orin-jp72"),
    *("jetson-thor-jp7", "x86_64"),
}


def test_the_targets_are_those_that_are_promised():
    assert set(target_names()) == ALL


@pytest.mark.parametrize("name", sorted(ALL - {"drive-qnx"}))
def test_every_locked_wheel_is_for_its_target(name):
    target = read_target(name)
    pins = read_lock(lock_file(name))
    for pin in pins:
        pin.check_tags(target)
    assert {"numpy", "msgspec", "paho-mqtt", "pyzmq", "protobuf"} <= {pin.distribution for pin in pins}


@pytest.mark.parametrize("name", sorted(ALL - {"drive-qnx"}))
def test_a_lock_holds_the_targets_own_pins_and_not_what_it_leaves_out(name):
    target = read_target(name)
    pins = {pin.distribution: pin.version for pin in read_lock(lock_file(name))}
    for pin in target.wheels.pins:
        distribution, _, version = pin.partition("==")
        assert pins[distribution] == version
    assert not pins.keys() & set(target.wheels.without)


@pytest.mark.parametrize("name", sorted(name for name in ALL if name.startswith(("jetson", "drive-linux"))))
def test_a_board_with_a_gpu_gets_the_kernels_that_its_driver_takes(name):
    target = read_target(name)
    image = CUDA12_IMAGE if target.board.cuda.startswith("12.") else CUDA13_IMAGE
    assert target.bundle.kernels == (image,)
    assert "opencv-python-headless" not in {pin.distribution for pin in read_lock(lock_file(name))}


def test_qnx_says_why_it_has_no_bundle():
    assert "Python" in read_target("drive-qnx").no_bundle


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'jetson-thor-jp7'"):
        read_target("jetson-tor-jp7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'description = "x"\narchitecture = "arm"',
            "architecture = 'arm': expected one of 'aarch64', 'x86_64'",
        ),
        ('description = "x"\narchitecture = "aarch64"\npyton = "3.11"', "did you mean 'python'"),
        ('description = "x"\narchitecture = "aarch64"\npython = "3"', "python = '3'"),
        (
            'description = "x"\narchitecture = "aarch64"\n[bundle]\nkernels = ["odd"]',
            "bundle.kernels[0] = 'odd': expected one of 'kernels-cuda12-sm87.cubin'",
        ),
        ('architecture = "aarch64"', "key 'description' is missing"),
        ('description = "x"\narchitecture = "aarch64"\nname = "y"', "unknown key 'name'"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.toml") as raised:
        read_target("mine", tmp_path)
    assert message in str(raised.value)


def test_platforms_begin_with_the_newest_that_the_c_library_takes():
    platforms = read_target("jetson-orin-jp6").platforms
    assert platforms[0] == "manylinux_2_35_aarch64"
    assert "manylinux_2_36_aarch64" not in platforms
    assert "manylinux2014_aarch64" in platforms

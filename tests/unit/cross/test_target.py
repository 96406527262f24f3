"""Targets: each file is right, and what is wrong is said as everywhere in edgert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cross.lock import canonical_name, lock_file, read_lock
from cross.own_wheel import CHECKOUT
from cross.resolve import environment_of, requirements_of
from cross.target import read_target, target_names
from edgert.config import Document
from edgert.errors import ConfigError
from edgert.prepare.kernels import CUDA12_IMAGE, CUDA13_IMAGE

JETPACK = Document.load(Path(__file__).with_name("jetpack.toml")).tree
OF_UBUNTU = {"g++": "13", "python3-dev": "3.12"}
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


@pytest.mark.parametrize("name", sorted(ALL - {"drive-qnx"}))
def test_a_lock_has_all_that_edgert_requires_now(name):
    """A dependency that came later would be missing from the bundle: python -m cross lock TARGET."""
    target = read_target(name)
    project = Document.load(CHECKOUT / "pyproject.toml").tree
    required = requirements_of(target, project, environment_of(target))
    wanted = {canonical_name(Requirement(text).name) for text in required} - {*target.wheels.without}
    assert wanted <= {pin.distribution for pin in read_lock(lock_file(name))}


@pytest.mark.parametrize("name", sorted(name for name in ALL if name.startswith(("jetson", "drive-linux"))))
def test_a_board_with_a_gpu_gets_the_kernels_that_its_driver_takes(name):
    target = read_target(name)
    image = CUDA12_IMAGE if target.board.cuda.startswith("12.") else CUDA13_IMAGE
    assert target.bundle.kernels == (image,)
    assert "opencv-python-headless" not in {pin.distribution for pin in read_lock(lock_file(name))}


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("jetson-orin-jp6", "36.5"),
        ("jetson-thor-jp7", "38.4"),
        ("jetson-thor-jp7", "39.2"),
        ("jetson-orin-jp72", "39.2"),
    ],
)
def test_every_package_that_a_jetson_is_to_have_is_in_its_jetpack(name, release):
    board = read_target(name).board
    there = {**JETPACK[release], **OF_UBUNTU}
    for wanted in (*board.depends, *board.recommends, *board.suggests):
        assert any(is_there(text, there) for text in wanted.split(" | ")), wanted


def test_a_package_that_a_jetpack_lacks_or_has_too_old_would_be_found():
    assert is_there("nvidia-l4t-core (>= 36.4)", JETPACK["36.5"])
    assert not is_there("nvidia-l4t-core (>= 36.6)", JETPACK["36.5"])
    assert not is_there("nvidia-l4t-opencv", JETPACK["36.5"])


def is_there(text, packages):
    name, least = re.fullmatch(r"(\S+)(?: \(>= ([\d.]+)\))?", text).groups()
    return name in packages and (least is None or numbers(packages[name].partition("-")[0]) >= numbers(least))


def numbers(version):
    return [int(number) for number in version.split(".")]


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

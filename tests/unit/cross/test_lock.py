"""Locks: their lines, and which wheel fits which target."""

from __future__ import annotations

import subprocess

import pytest

from cross.errors import BundleError
from cross.lock import Pin, read_lock, sha256_of, write_lock
from cross.target import read_target
from edgert.errors import ConfigError
from tests.fakes.wheelhouse import make_wheel

HASH = "ab" * 32
ORIN = read_target("jetson-orin-jp6")  # Python 3.10, glibc 2.35


def test_what_is_written_is_read(tmp_path):
    pins = [Pin(HASH, "zmq-1-py3-none-any.whl"), Pin(HASH, "Mako-2-py3-none-any.whl")]
    write_lock(tmp_path / "a.lock", pins, "how it was made")
    assert read_lock(tmp_path / "a.lock") == [pins[1], pins[0]]


def test_sha256sum_reads_a_lock(tmp_path):
    wheel = make_wheel(tmp_path / "tiny-1.0-py3-none-any.whl", {})
    write_lock(tmp_path / "tiny.lock", [Pin(sha256_of(wheel), wheel.name)], "how it was made")
    done = subprocess.run(
        ["sha256sum", "-c", "tiny.lock"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{wheel.name}: OK\n")


@pytest.mark.parametrize("line", ["abc  a-1-py3-none-any.whl", HASH, f"{HASH}  ../a-1-py3-none-any.whl"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    (tmp_path / "a.lock").write_text(f"# heading\n{line}\n")
    with pytest.raises(ConfigError, match=r"a\.lock:2: expected"):
        read_lock(tmp_path / "a.lock")


def test_a_missing_lock_says_how_it_is_made(tmp_path):
    with pytest.raises(ConfigError, match="python -m cross lock orin"):
        read_lock(tmp_path / "orin.lock")


def test_a_pin_is_a_requirement_of_one_file():
    pin = Pin(HASH, "paho_mqtt-2.2.0-py3-none-any.whl")
    assert pin.requirement == f"paho-mqtt==2.2.0 --hash=sha256:{HASH}"


@pytest.mark.parametrize(
    "tags",
    [
        *("py3-none-any", "py2.py3-none-any", "cp310-cp310-manylinux_2_35_aarch64"),
        *("cp37-abi3-manylinux_2_28_aarch64", "cp310-cp310-manylinux2014_aarch64.manylinux_2_17_aarch64"),
        "py3-none-manylinux2014_aarch64",
    ],
)
def test_a_wheel_that_fits(tags):
    Pin(HASH, f"a-1-{tags}.whl").check_tags(ORIN)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("cp311-cp311-manylinux_2_28_aarch64", "is for Python cp311"),
        ("cp312-abi3-manylinux_2_28_aarch64", "is for Python cp312"),
        ("py2-none-any", "is for Python py2"),
        ("cp310-cp310-manylinux_2_28_x86_64", "jetson-orin-jp6 is aarch64"),
        ("cp310-cp310-manylinux_2_36_aarch64", "with glibc 2.35"),
        ("cp310-cp310-musllinux_1_2_aarch64", "is for musllinux_1_2_aarch64"),
    ],
)
def test_a_wheel_that_does_not(tags, message):
    with pytest.raises(BundleError, match=message):
        Pin(HASH, f"a-1-{tags}.whl").check_tags(ORIN)

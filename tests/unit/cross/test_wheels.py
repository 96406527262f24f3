"""Fetching and unpacking wheels: nothing with another hash, nothing outside its folder."""

from __future__ import annotations

import zipfile

import pytest

from cross.distribution import read_distribution
from cross.errors import BundleError, CrossError
from cross.lock import Pin, sha256_of
from cross.wheels import fetch, run_pip, unpack
from tests.fakes.wheelhouse import make_wheel

NAME = "tiny-1.0-py3-none-any.whl"
PLATFORMS = ("manylinux2014_aarch64",)


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "cache" / NAME, {"tiny/__init__.py": "x = 1\n"})


def test_what_is_in_the_cache_is_not_fetched(wheel):
    pin = Pin(sha256_of(wheel), NAME)
    assert fetch([pin], PLATFORMS, "3.11", wheel.parent, offline=True) == [wheel]


def test_another_hash_is_refused_with_both(wheel):
    with pytest.raises(BundleError, match=f"{NAME} has SHA-256 {sha256_of(wheel)}; the lock says {'0' * 64}"):
        fetch([Pin("0" * 64, NAME)], PLATFORMS, "3.11", wheel.parent, offline=True)


def test_offline_names_what_is_missing(tmp_path):
    pins = [Pin("0" * 64, f"a{index}-1-py3-none-any.whl") for index in range(5)]
    with pytest.raises(CrossError, match=r"--offline forbids fetching: a0-1.*a2-1.*whl and 2 more"):
        fetch(pins, PLATFORMS, "3.11", tmp_path, offline=True)


def test_without_a_network_the_registry_is_said_to_fail(tmp_path, monkeypatch):
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(CrossError, match=rf"cannot be fetched: {NAME}\. pip download failed: ERROR: .*tiny"):
        fetch([Pin("0" * 64, NAME)], PLATFORMS, "3.11", tmp_path / "cache", offline=False)
    assert [*(tmp_path / "cache").iterdir()] == []


def test_pip_of_this_python_is_run():
    assert run_pip("--version").startswith("pip ")


def test_a_wheel_is_laid_out_as_pip_would(tmp_path):
    files = {
        "tiny/__init__.py": "",
        "tiny-1.0.data/purelib/tiny/more.py": "",
        "tiny-1.0.data/scripts/run": "",
    }
    unpack(make_wheel(tmp_path / NAME, files), tmp_path / "site")
    laid = {file.relative_to(tmp_path / "site").as_posix() for file in (tmp_path / "site").rglob("*.py")}
    assert laid == {"tiny/__init__.py", "tiny/more.py"}
    assert not (tmp_path / "site" / "tiny-1.0.data").exists()


@pytest.mark.parametrize("name", ["../out.py", "/etc/out.py", "tiny-1.0.data/purelib/../../out.py"])
def test_a_file_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(BundleError, match="outside its folder"):
        unpack(make_wheel(tmp_path / NAME, {name: ""}), tmp_path / "site")


def test_two_wheels_with_one_file_are_refused(tmp_path):
    for folder in ("a", "b"):
        make_wheel(tmp_path / folder / f"{folder}-1.0-py3-none-any.whl", {"same.py": ""})
    unpack(tmp_path / "a" / "a-1.0-py3-none-any.whl", tmp_path / "site")
    with pytest.raises(BundleError, match=r"b-1\.0-py3-none-any\.whl has same\.py"):
        unpack(tmp_path / "b" / "b-1.0-py3-none-any.whl", tmp_path / "site")


def test_half_a_wheel_is_named(wheel):
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(BundleError, match=f"{NAME} is no wheel"):
        unpack(wheel, wheel.parent / "site")


@pytest.mark.parametrize(
    ("more", "licence"),
    [
        ("License-Expression: MIT\nLicense: old\n", "MIT"),
        ("License: BSD\n", "BSD"),
        (
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: Apache Software License\n",
            "Apache Software License",
        ),
        ("Classifier: Topic :: Nothing\n", ""),
    ],
)
def test_the_licence_is_what_the_metadata_says(tmp_path, more, licence):
    file = make_wheel(tmp_path / NAME, {"tiny/NOTICE": "thanks", "tiny/licence.py": ""}, more)
    part = read_distribution(file, Pin("0" * 64, NAME))
    assert (part.name, part.version, part.licence) == ("tiny", "1.0", licence)
    assert part.licence_texts == {"LICENSE": b"licence of tiny\n", "tiny/NOTICE": b"thanks"}


def test_a_zip_without_metadata_is_no_wheel(tmp_path):
    with zipfile.ZipFile(tmp_path / NAME, "w") as opened:
        opened.writestr("a.py", "")
    with pytest.raises(BundleError, match=r"it has no \.dist-info/METADATA"):
        read_distribution(tmp_path / NAME, Pin("0" * 64, NAME))

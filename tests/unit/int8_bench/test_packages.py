"""Fetching Debian packages for the bench, with stand-ins for apt and dpkg."""

import pytest

from edgert.demo.fetch import FetchError
from tests.int8_bench.packages import DebianPackage, package_folder

PACKAGE = DebianPackage("pictures", "usr/share/pictures", "one.txt")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH with nothing but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, script):
        (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def test_a_package_is_fetched_once(tmp_path, tools):
    tools("apt-get", f"echo fetched >> {tmp_path}/calls; touch pictures_1.deb")
    tools("dpkg", "mkdir -p $3/usr/share/pictures && echo 1 > $3/usr/share/pictures/one.txt")
    for _ in range(2):
        folder = package_folder(PACKAGE, tmp_path / "cache")
        assert (folder / "one.txt").read_text() == "1\n"
    assert (tmp_path / "calls").read_text() == "fetched\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["pictures"]


def test_without_apt_it_says_what_to_do(tmp_path, tools):
    with pytest.raises(FetchError, match=r"apt-get is not there.* by hand"):
        package_folder(PACKAGE, tmp_path / "cache")


def test_apt_s_failure_is_said(tmp_path, tools):
    tools("apt-get", "echo 'E: Unable to locate package pictures' >&2; exit 100")
    with pytest.raises(FetchError, match="Unable to locate package pictures"):
        package_folder(PACKAGE, tmp_path / "cache")


def test_another_package_is_refused_and_not_kept(tmp_path, tools):
    tools("apt-get", "touch pictures_2.deb")
    tools("dpkg", "mkdir -p $3/usr/share/other")
    with pytest.raises(FetchError, match=r"holds no usr/share/pictures/one\.txt"):
        package_folder(PACKAGE, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())

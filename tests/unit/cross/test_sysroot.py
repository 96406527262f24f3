"""How a root of Debian arm64 is asked for and described; `tests/system` runs one."""

from __future__ import annotations

import pytest

from cross import sysroot
from cross.errors import CrossError
from cross.sysroot import apt_options, as_installed, make_root, root_folder

CONTROL = "Package: libc6\nArchitecture: arm64\nMulti-Arch: same\nDescription: library\n more of it\n"


def test_a_root_in_the_cache_is_taken_as_it_is(tmp_path):
    root_folder(tmp_path).mkdir()
    assert make_root(tmp_path, offline=True) == root_folder(tmp_path)


def test_offline_makes_none(tmp_path):
    with pytest.raises(CrossError, match="--offline forbids fetching"):
        make_root(tmp_path, offline=True)


def test_other_packages_are_another_root(tmp_path, monkeypatch):
    before = root_folder(tmp_path)
    monkeypatch.setattr(sysroot, "RUNTIME", (*sysroot.RUNTIME, "curl"))
    assert root_folder(tmp_path) != before


def test_apt_is_kept_to_a_folder_of_its_own(tmp_path):
    options = apt_options(tmp_path)
    settings = dict(word.split("=", 1) for word in options if "=" in word)
    assert settings["Dir::State::status"] == "/dev/null"
    folders = [value for key, value in settings.items() if key.startswith("Dir::") and value != "/dev/null"]
    assert len(folders) == 4
    assert all(folder.startswith(str(tmp_path)) for folder in folders)


def test_a_package_is_described_as_installed():
    assert as_installed(CONTROL).splitlines()[:3] == [
        "Package: libc6",
        "Status: install ok installed",
        "Architecture: arm64",
    ]


@pytest.mark.parametrize(
    ("control", "name"), [(CONTROL, "libc6:arm64"), ("Package: dash\nArchitecture: arm64\n", "dash")]
)
def test_dpkg_lists_files_by_the_qualified_name(control, name):
    assert sysroot._qualified_name(control) == name


def test_a_failure_says_what_the_program_said(tmp_path):
    with pytest.raises(CrossError, match="nowhere"):
        sysroot._run("ls", str(tmp_path / "nowhere"))
    with pytest.raises(CrossError, match="no-such-program is not installed"):
        sysroot._run("no-such-program")


def test_a_failure_leaves_no_half_made_root(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CrossError, match="apt-get is not installed"):
        make_root(tmp_path)
    assert list(tmp_path.iterdir()) == []

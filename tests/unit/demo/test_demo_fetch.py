"""Packages are made here and "fetched" by small commands that stand in for pip and npm."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgert.demo import fetch
from edgert.demo.fetch import Archive, Bar, FetchError, download, extract, hash_file

COPY = "import shutil, sys; shutil.copy(sys.argv[1], '.')"


def make_wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tarball(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "thing-1.0-py3-none-any.whl", {"thing/a.bin": b"a", "thing/b.py": b"b"})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "download").mkdir()
    return tmp_path / "download"


def archive_of(path: Path, sha256: str = "") -> Archive:
    return Archive("pip", "thing", "1.0", sha256 or hash_file(path), path.stat().st_size, ("thing/*.bin",))


def running(script: str, *arguments: object) -> dict[str, fetch.Command]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return {"pip": lambda archive: command, "npm": lambda archive: command}


def test_download_returns_the_pinned_file(wheel, folder):
    path = download(archive_of(wheel), folder, running(COPY, wheel))
    assert path == folder / wheel.name
    assert path.read_bytes() == wheel.read_bytes()


def test_download_removes_a_file_with_another_hash(wheel, folder):
    with pytest.raises(FetchError, match=f"SHA-256 {hash_file(wheel)}, expected {'0' * 64}. It was removed"):
        download(archive_of(wheel, "0" * 64), folder, running(COPY, wheel))
    assert list(folder.iterdir()) == []


def test_download_shows_what_the_client_said_and_what_to_do(wheel, folder):
    commands = running("import sys; sys.exit('ERROR: no route to index')")
    with pytest.raises(FetchError) as caught:
        download(archive_of(wheel), folder, commands)
    text = str(caught.value)
    assert "PyPI package thing 1.0 could not be fetched: exit status 1" in text
    assert "ERROR: no route to index" in text
    assert sys.executable in text
    assert "Check the network and pip's index and proxy settings" in text


def test_download_of_nothing_says_what_was_found(wheel, folder):
    with pytest.raises(FetchError, match="expected one archive from pip, found nothing"):
        download(archive_of(wheel), folder, running("pass"))


def test_a_client_that_stalls_is_killed(wheel, folder, monkeypatch):
    monkeypatch.setattr(fetch, "STALL_S", 0.0)
    monkeypatch.setattr(fetch, "POLL_S", 0.01)
    with pytest.raises(FetchError, match="nothing arrived for 0 s"):
        download(archive_of(wheel), folder, running("import time; time.sleep(60)"))


def test_an_interrupted_download_leaves_no_process(wheel, folder, monkeypatch):
    def interrupt(bar: Bar, done_bytes: int) -> None:
        if (folder / "pid").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "POLL_S", 0.01)
    monkeypatch.setattr(Bar, "update", interrupt)
    script = (
        "import os, time; open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid'); time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt):
        download(archive_of(wheel), folder, running(script))
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_a_missing_npm_is_named_with_its_cure(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    archive = Archive("npm", "thing", "1.0", "0" * 64, 1, ("*",))
    with pytest.raises(
        FetchError, match=r"npm package thing 1.0 .*npm is not installed. Run: sudo apt-get install"
    ):
        download(archive, folder)


def test_a_missing_pip_is_named_with_its_cure(wheel, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"pip is missing in this environment. Run: .* -m ensurepip"):
        download(archive_of(wheel), folder)


def test_commands_pin_the_version_and_install_nothing():
    archive = Archive("pip", "thing", "1.0", "0" * 64, 1, ("*",))
    assert fetch.pip_command(archive)[-1] == "thing==1.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(fetch.pip_command(archive))
    assert fetch.npm_command(archive)[-1] == "thing@1.0"
    assert {"pack", "--ignore-scripts"} <= set(fetch.npm_command(archive))


def test_a_long_complaint_is_shortened_from_the_middle():
    said = "".join(f"line {number}\n" for number in range(20))
    assert fetch._excerpt(said).split("\n") == [
        f"  {x}" for x in (*(f"line {i}" for i in range(4)), "...", "line 18", "line 19")
    ]


@pytest.mark.parametrize(("make", "name"), [(make_wheel, "thing.whl"), (make_tarball, "thing.tgz")])
class TestExtract:
    def test_takes_only_what_is_wanted_without_folders(self, make, name, tmp_path, folder):
        path = make(tmp_path / name, {"thing/a.bin": b"a", "thing/deep/b.bin": b"b", "thing/c.py": b"c"})
        extract(path, ("thing/*.bin",), folder)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"a.bin": b"a", "b.bin": b"b"}

    @pytest.mark.parametrize("member", ["../evil.bin", "/evil.bin", "thing/../../evil.bin"])
    def test_refuses_an_archive_with_a_member_that_leaves_it(self, make, name, member, tmp_path, folder):
        path = make(tmp_path / name, {"thing/a.bin": b"a", member: b"evil"})
        with pytest.raises(FetchError, match="which leaves the archive; nothing was taken"):
            extract(path, ("thing/*.bin",), folder)
        assert list(folder.iterdir()) == []

    def test_says_which_file_is_not_there(self, make, name, tmp_path, folder):
        path = make(tmp_path / name, {"thing/a.bin": b"a"})
        with pytest.raises(FetchError, match=f"{name} holds no thing/b.bin"):
            extract(path, ("thing/b.bin",), folder)

    def test_refuses_a_damaged_archive(self, make, name, tmp_path, folder):
        path = make(tmp_path / name, {"thing/a.bin": b"a" * 10_000})
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(FetchError, match=f"{name} cannot be unpacked"):
            extract(path, ("thing/*.bin",), folder)


def test_extract_does_not_follow_links(tmp_path, folder):
    path = make_tarball(tmp_path / "thing.tgz", {}, links={"thing/a.bin": "/etc/passwd"})
    with pytest.raises(FetchError, match=r"holds no thing/a\.bin"):
        extract(path, ("thing/a.bin",), folder)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_in_place_on_a_terminal():
    terminal = Terminal()
    bar = Bar("PyPI package thing 1.0", 2_000_000, terminal)
    bar.update(1_000_000)
    bar.clear()
    assert terminal.getvalue() == f"\r{'█' * 10}{'·' * 10}  50% of 2.0 MB  PyPI package thing 1.0\r\x1b[K"


def test_the_bar_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    Bar("PyPI package thing 1.0", 2_000_000, terminal).update(9_000_000)
    assert len(terminal.getvalue()) == 30


def test_the_bar_writes_nothing_to_a_file():
    stream = io.StringIO()
    bar = Bar("thing", 2, stream)
    bar.update(1)
    bar.clear()
    assert stream.getvalue() == ""

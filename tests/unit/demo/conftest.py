from __future__ import annotations

import zipfile

import pytest


@pytest.fixture
def make_wheel(tmp_path):
    """Return a function that writes a zip archive of `files` into the test's folder."""

    def make(name, files):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return tmp_path / name

    return make

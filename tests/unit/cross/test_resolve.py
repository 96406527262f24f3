"""Making a lock: pip resolves among tiny wheels of a folder, for another Python than ours."""

from __future__ import annotations

import re
import sys

import pytest
from msgspec.structs import replace

from cross.errors import CrossError
from cross.lock import canonical_name, lock_file, read_lock, sha256_of
from cross.resolve import CHECKOUT, Asked, constraints_of, environment_of, requirements_of, resolve
from cross.target import Wheels, read_target, target_names
from edgert.config import Document
from edgert.errors import ConfigError
from tests.fakes.wheelhouse import TARGET, make_wheel

OTHER = "3.10" if sys.version_info[:2] != (3, 10) else "3.12"
OURS = ".".join(map(str, sys.version_info[:2]))
BOARD = replace(TARGET, python=OTHER)
PROJECT = {
    "project": {
        "dependencies": ["a>=1", f"only-ours; python_version == '{OURS}'"],
        "optional-dependencies": {"host": ["b"], "cuda": ["c"]},
    }
}


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    def add(name, *requires):
        lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
        return make_wheel(tmp_path / name, {}, lines)

    return add


def names(pins):
    return sorted(pin.file_name for pin in pins)


def run(requirements, constraints=(), without=()):
    asked = Asked(list(requirements), list(constraints), frozenset(without))
    return resolve(asked, BOARD.platforms, BOARD.python, environment_of(BOARD))


def test_markers_are_those_of_the_target(registry):
    tag = OTHER.replace(".", "")
    registry(
        "top-1.0-py3-none-any.whl", f"theirs; python_version=='{OTHER}'", f"ours; python_version=='{OURS}'"
    )
    registry(f"theirs-1.0-cp{tag}-cp{tag}-manylinux_2_28_aarch64.whl", "deep")
    registry("ours-1.0-py3-none-any.whl")
    registry("deep-1.0-py3-none-any.whl")
    assert names(run(["top"])) == [
        *("deep-1.0-py3-none-any.whl", f"theirs-1.0-cp{tag}-cp{tag}-manylinux_2_28_aarch64.whl"),
        "top-1.0-py3-none-any.whl",
    ]


def test_a_pin_has_the_files_hash_and_the_version_asked_for(registry):
    old = registry("top-1.0-py3-none-any.whl")
    registry("top-2.0-py3-none-any.whl")
    (pin,) = run(["top"], constraints=["top==1.0"])
    assert pin == (sha256_of(old), old.name)


def test_what_is_left_out_takes_what_it_needs_with_it(registry):
    registry("top-1.0-py3-none-any.whl", "heavy")
    registry("heavy-1.0-py3-none-any.whl", "heavier")
    registry("heavier-1.0-py3-none-any.whl")
    assert names(run(["top"], without=["heavy"])) == ["top-1.0-py3-none-any.whl"]


def test_a_wheel_for_another_machine_is_not_found(registry):
    registry("top-1.0-py3-none-manylinux2014_x86_64.whl")
    with pytest.raises(CrossError, match="No matching distribution found for top"):
        run(["top"])


def test_requirements_are_edgerts_and_those_of_the_targets_extras():
    target = replace(BOARD, wheels=Wheels(extras=("host",)))
    assert requirements_of(target, PROJECT, environment_of(target)) == ["a>=1", "b"]


def test_what_a_target_leaves_out_is_not_asked_for():
    target = replace(BOARD, wheels=Wheels(extras=("host",), without=("B",)))
    assert requirements_of(target, PROJECT, environment_of(target)) == ["a>=1"]


def test_an_extra_that_edgert_has_not_is_named():
    target = replace(BOARD, wheels=Wheels(extras=("hots",)))
    with pytest.raises(ConfigError, match="edgert has no extra 'hots'"):
        requirements_of(target, PROJECT, environment_of(target))


def test_a_targets_pins_go_before_those_of_the_lock():
    target = replace(BOARD, wheels=Wheels(pins=("numpy==1.26.4",)))
    lines = [
        "numpy==2.4.6",
        f"x==1 ; python_version == '{OURS}'",
        f"x==2 ; python_version == '{OTHER}'",
        "y==3",
    ]
    assert constraints_of(target, lines, environment_of(target)) == ["numpy==1.26.4", "x==2", "y==3"]


def test_each_real_lock_holds_what_its_target_requires_today():
    project = Document.load(CHECKOUT / "pyproject.toml").tree
    for name in target_names():
        target = read_target(name)
        if not target.no_bundle:
            locked = {pin.distribution for pin in read_lock(lock_file(name))}
            wanted = requirements_of(target, project, environment_of(target))
            named = {canonical_name(re.split("[<>=!~]", text, maxsplit=1)[0]) for text in wanted}
            assert named <= locked, f"python -m cross lock {name}"

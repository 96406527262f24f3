"""Which versions are served, and what becomes of those that go."""

from __future__ import annotations

import threading
import time

import pytest

from edgert.config import Document
from edgert.errors import ClosedError, DeviceLostError, ModelError, UnknownModelError
from edgert.inference.repository import Repository
from edgert.models.model_config import ModelConfig
from edgert.models.store import ModelEntry, ModelVersion

WAIT_S = 5.0


class Version:
    """A ServedVersion that is idle when told so."""

    def __init__(self, name, version):
        self.name, self.version, self.config = name, version, ModelConfig()
        self.is_idle = True
        self.calls = []
        self.closed = threading.Event()

    def refuse(self):
        self.calls.append("refuse")

    def give_up(self):
        self.calls.append("give_up")

    def close(self):
        self.calls.append("close")
        self.closed.set()


class Entry(ModelEntry, frozen=True):
    """An entry that chooses the versions it is given."""

    numbers: tuple[int, ...] = (1,)

    def chosen_versions(self):
        return tuple(ModelVersion(self.name, number, self.folder) for number in self.numbers)


class Site:
    """A repository, what it opened, and which numbers it cannot open."""

    def __init__(self, folder):
        self.folder = folder
        self.opened = []
        self.broken = set()
        self.repository = Repository(self.open, retire_s=0.1)

    def open(self, entry, version):
        if version.number in self.broken:
            raise ModelError(f"version {version.number} is broken")
        self.opened.append(Version(entry.name, version.number))
        return self.opened[-1]

    def load(self, *numbers, name="m"):
        config = Document(self.folder / "edgert.toml", {})
        self.repository.load(Entry(name, self.folder, ModelConfig(), config, (), numbers))
        return self.opened[-len(numbers) :]

    def states(self):
        return {(entry.name, entry.version): entry.state for entry in self.repository.index(())}


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.repository.close()


def wait_for(question):
    deadline = time.monotonic() + WAIT_S
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_newest_version_answers_unless_one_is_named(site):
    one, three = site.load(1, 3)
    assert site.repository.get("m") is three
    assert site.repository.get("m", 1) is one
    with pytest.raises(UnknownModelError, match="Request for unknown model: 'm' version 2 is not found"):
        site.repository.get("m", 2)
    with pytest.raises(UnknownModelError, match="Request for unknown model: 'n' is not found"):
        site.repository.get("n")


def test_a_new_load_takes_the_place_of_the_old_which_is_closed_when_idle(site):
    [old] = site.load(1)
    old.is_idle = False
    [new] = site.load(1)
    assert site.repository.get("m") is new
    assert old.calls == ["refuse"]
    old.is_idle = True
    assert old.closed.wait(WAIT_S)
    assert old.calls[-1] == "close"


def test_what_cannot_be_opened_changes_nothing(site):
    [old] = site.load(1)
    site.broken = {2}
    with pytest.raises(ModelError, match="version 2 is broken"):
        site.load(1, 2)
    assert site.repository.get("m") is old
    assert site.opened[-1].calls == ["close"]  # what was opened on the way
    assert site.states() == {("m", "1"): "READY", ("m", "2"): "UNAVAILABLE"}
    assert not old.calls


def test_a_model_that_never_could_be_loaded_is_unavailable_with_the_reason(site):
    site.broken = {1}
    with pytest.raises(ModelError):
        site.load(1)
    [entry] = site.repository.index(())
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "version 1 is broken")
    assert site.repository.index((), only_ready=True) == []


def test_whatever_ends_a_load_it_is_loading_no_more(site):
    def open_badly(entry, version):
        raise ZeroDivisionError("a library's own")

    site.repository._open_version = open_badly
    with pytest.raises(ZeroDivisionError):
        site.load(1)
    [entry] = site.repository.index(())
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "a library's own")
    with pytest.raises(UnknownModelError):
        site.repository.get("m")


def test_models_of_the_store_that_were_never_loaded_have_a_name_only(site):
    site.load(1)
    assert [(entry.name, entry.version) for entry in site.repository.index(("a", "m"))] == [
        ("a", ""),
        ("m", "1"),
    ]


def test_unload_returns_while_the_model_finishes(site):
    [version] = site.load(1)
    version.is_idle = False
    site.repository.unload("m")
    assert site.states() == {("m", "1"): "UNLOADING"}
    with pytest.raises(UnknownModelError, match="'m' has no available versions"):
        site.repository.get("m")
    version.is_idle = True
    assert version.closed.wait(WAIT_S)
    wait_for(lambda: site.states() == {("m", "1"): "UNAVAILABLE"})


def test_what_never_becomes_idle_is_given_up_and_then_left_behind(site):
    [version] = site.load(1)
    version.is_idle = False
    site.repository.close()
    assert version.calls == ["refuse", "give_up"]


def test_a_version_that_the_policy_no_longer_chooses_goes(site):
    first, second = site.load(1, 2)
    site.load(2)
    assert first.closed.wait(WAIT_S)
    assert second.closed.wait(WAIT_S)
    wait_for(lambda: site.states() == {("m", "1"): "UNAVAILABLE", ("m", "2"): "READY"})


def test_nothing_is_loaded_once_it_is_closed(site):
    site.repository.close()
    with pytest.raises(ClosedError):
        site.load(1)


def test_closing_does_not_wait_for_a_load_that_runs_and_that_load_leaves_nothing(site):
    begun, go = threading.Event(), threading.Event()
    open_now = site.open

    def open_slowly(entry, version):
        begun.set()
        assert go.wait(WAIT_S)
        return open_now(entry, version)

    site.repository._open_version = open_slowly
    errors = []

    def load():
        try:
            site.load(1)
        except ClosedError as error:
            errors.append(error)

    loader = threading.Thread(target=load)
    loader.start()
    assert begun.wait(WAIT_S)
    began = time.monotonic()
    site.repository.close(0.05)
    assert time.monotonic() - began < 1.0
    go.set()
    loader.join(WAIT_S)
    assert len(errors) == 1
    assert [version.calls for version in site.opened] == [["close"]]
    assert site.repository.versions() == []


def test_closing_ends_the_wait_of_those_that_go_already(site):
    site.repository._retire_s = 60.0
    [version] = site.load(1)
    version.is_idle = False
    site.repository.unload("m")
    began = time.monotonic()
    site.repository.close(0.05)
    assert time.monotonic() - began < 3.0
    assert version.calls == ["refuse", "give_up"]


def test_unload_can_wait_until_the_model_has_gone(site):
    [version] = site.load(1)
    version.is_idle = False
    threading.Timer(0.05, setattr, (version, "is_idle", True)).start()
    site.repository.unload("m", waits=True)
    assert version.closed.is_set()


def test_what_cannot_be_freed_as_the_device_is_lost_ends_no_thread(site, caplog):
    [version] = site.load(1)

    def close():
        raise DeviceLostError("gone")

    version.close = close
    site.repository.unload("m", waits=True)
    assert site.states() == {("m", "1"): "UNAVAILABLE"}
    assert "model m version 1 is not freed: gone" in caplog.text

"""Following a store on disk: a change is told once it is whole, and only once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgert.errors import ModelError
from edgert.inference.poll import Change, Item, StoreWatch, Tree, is_open_for_writing, read_trees
from edgert.models.store import ModelStore
from tests.fakes.clock import FakeClock

SECOND_NS = 1_000_000_000
ADDED, CHANGED, REMOVED = (Change("m", kind) for kind in ("added", "changed", "removed"))


def tree(mtime_ns=1, *names):
    return Tree(tuple(Item(name, 1, mtime_ns, 1, 1) for name in ("", "1", *names)))


class Told:
    """A watch over trees that a test sets, on a clock that it moves; `written` are files open for writing."""

    def __init__(self, **options):
        self.clock = FakeClock()
        self.trees = {}
        self.written = set()
        self.error = None
        self.watch = StoreWatch(
            ModelStore(Path("store")),
            settle_s=2.0,
            clock_ns=self.clock,
            look=self._look,
            is_written=lambda path: path.name in self.written,
            **options,
        )

    def _look(self, store):
        if self.error:
            raise self.error
        return dict(self.trees)

    def after(self, seconds):
        self.clock.advance(round(seconds * SECOND_NS))
        return self.watch.changes()

    def set(self, new, name="m"):
        self.trees[name] = new

    def settle(self, new=None):
        """Let the watch know the model as it is."""
        self.set(new or tree())
        self.after(0)
        assert self.after(2)
        assert self.after(2) == []


@pytest.fixture
def told():
    return Told()


def test_a_new_model_is_told_after_two_looks_that_agree(told):
    told.set(tree())
    assert told.after(0) == []
    assert told.after(2) == [ADDED]
    assert told.after(2) == []


def test_two_looks_in_quick_succession_are_not_enough(told):
    told.set(tree())
    assert [told.after(seconds) for seconds in (0, 0.5, 1.4, 0.2)] == [[], [], [], [ADDED]]


def test_one_look_is_not_enough_however_long_ago_the_last_one_was(told):
    told.after(0)
    told.set(tree())
    assert told.after(1000) == []
    assert told.after(1000) == [ADDED]


def test_every_change_begins_the_wait_again(told):
    for mtime in range(1, 6):
        told.set(tree(mtime))
        assert told.after(1.5) == []
    assert told.after(1.5) == []
    assert told.after(1.5) == [ADDED]


def test_a_change_and_a_removal_are_told(told):
    told.settle()
    told.set(tree(2))
    assert [told.after(2), told.after(2), told.after(2)] == [[], [CHANGED], []]
    del told.trees["m"]
    assert [told.after(2), told.after(2), told.after(2)] == [[], [REMOVED], []]


def test_a_change_that_is_taken_back_is_none(told):
    told.settle(tree(1))
    told.set(tree(2))
    told.after(1)
    told.set(tree(1))
    assert [told.after(3), told.after(3)] == [[], []]


def test_a_model_that_comes_and_goes_unsettled_is_never_told(told):
    told.set(tree())
    told.after(1)
    del told.trees["m"]
    assert [told.after(3), told.after(3)] == [[], []]
    assert told.watch.due_s() is None


def test_a_model_that_is_away_for_one_look_is_not_removed(told):
    told.settle()
    kept = told.trees.pop("m")
    told.after(2)
    told.set(kept)
    assert [told.after(2), told.after(2)] == [[], []]


def test_models_do_not_wait_for_each_other(told):
    told.set(tree(), "a")
    told.after(0)
    told.set(tree(), "b")
    assert told.after(2) == [Change("a", "added")]
    assert told.after(2) == [Change("b", "added")]


def test_a_file_that_is_open_for_writing_holds_the_change_up(told):
    told.set(tree(1, "1/model.onnx"))
    told.written.add("model.onnx")
    assert [told.after(2) for _ in range(4)] == [[]] * 4
    told.written.clear()
    assert told.after(0) == [ADDED]


@pytest.mark.parametrize(
    "name", [".model.onnx.Xy12", "1/.model.swp", "1/model.onnx.part", "model~", "1/__pycache__/a.pyc"]
)
def test_passing_files_are_no_change_but_hold_one_up(told, name):
    told.settle(tree(1))
    told.set(tree(1, name))
    assert [told.after(2), told.after(2)] == [[], []]
    told.set(tree(2, name))
    told.after(2)
    told.set(
        Tree(
            tuple(Item(own, 9, 2, 1, 1) if own == name else Item(own, 1, 2, 1, 1) for own in ("", "1", name))
        )
    )
    assert told.after(2) == []
    assert told.after(2) == [CHANGED]


def test_a_store_that_cannot_be_read_has_not_changed(told, caplog):
    told.settle()
    told.error = ModelError("store: cannot be read")
    assert [told.after(2) for _ in range(3)] == [[]] * 3
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    told.error = None
    assert told.after(2) == []


def test_a_folder_that_cannot_be_read_is_neither_changed_nor_removed(told, caplog):
    told.settle()
    told.set(None)
    assert [told.after(2) for _ in range(3)] == [[]] * 3
    assert caplog.text.count("model m: its folder cannot be read") == 1
    told.set(tree(2))
    assert [told.after(2), told.after(2)] == [[], [CHANGED]]


def test_a_look_that_failed_begins_the_wait_again(told):
    told.set(tree())
    told.after(0)
    told.set(None)
    told.after(2)
    told.set(tree())
    assert [told.after(2), told.after(2)] == [[], [ADDED]]


# Models that cannot be loaded


def test_a_model_that_failed_is_told_again_only_when_it_has_changed(told):
    told.settle()
    told.watch.failed("m")
    assert [told.after(1000) for _ in range(3)] == [[]] * 3
    told.set(tree(2))
    assert [told.after(2), told.after(2)] == [[], [CHANGED]]


def test_another_try_comes_later_each_time_up_to_ten_minutes():
    told = Told(retry_s=100.0)
    told.settle()
    for wait_s in (100, 200, 400, 600, 600):
        told.watch.failed("m")
        assert told.after(wait_s - 1) == []
        assert told.after(1) == [ADDED]
        assert told.after(1) == []
    told.watch.loaded("m")
    assert told.after(10_000) == []


def test_a_change_begins_the_tries_anew():
    told = Told(retry_s=100.0)
    told.settle()
    told.watch.failed("m")
    told.watch.failed("m")
    told.set(tree(2))
    told.after(2)
    assert told.after(2) == [CHANGED]
    told.watch.failed("m")
    assert [told.after(99), told.after(1)] == [[], [CHANGED]]


def test_it_says_when_to_look_next():
    told = Told(retry_s=100.0)
    assert told.watch.due_s() is None
    told.set(tree())
    told.after(10)
    assert told.watch.due_s() == 12
    told.after(2)
    assert told.watch.due_s() is None
    told.watch.failed("m")
    assert told.watch.due_s() == 112


# At the start


def test_at_the_start_what_is_old_is_whole_and_the_rest_comes_later():
    told = Told(utc_ns=lambda: 100 * SECOND_NS)
    told.set(Tree(tree().items, 98 * SECOND_NS), "old")
    told.set(Tree(tree().items, 99 * SECOND_NS), "young")
    told.set(Tree(tree(1, "busy").items, 1), "written")
    told.set(None, "unreadable")
    told.written.add("busy")
    assert told.watch.begin() == ["old"]
    told.written.clear()
    assert told.after(0) == []
    assert told.after(2) == [Change("written", "added"), Change("young", "added")]


# Real files


class Store:
    """A store on disk, watched; `now` looks twice, far enough apart."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = FakeClock()
        self.watch = StoreWatch(ModelStore(folder), settle_s=2.0, clock_ns=self.clock)

    def add(self, name="m", content=b"whole", version=1):
        place = self.folder / name / str(version)
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(content)
        return place / "model.onnx"

    def look(self):
        self.clock.advance(2 * SECOND_NS)
        return self.watch.changes()

    def now(self):
        return self.look() + self.look()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_file_that_grows_is_not_told_until_it_has_been_whole_for_a_while(store):
    file = store.add(content=b"")
    for _ in range(4):
        with file.open("ab") as half:
            half.write(b"half")
        assert store.look() == []
    assert store.look() == [ADDED]


def test_a_writer_that_pauses_is_seen_by_the_file_that_it_has_open(store):
    file = store.add(content=b"half")
    with file.open("ab"):
        assert store.now() + store.now() == []
    assert store.look() == [ADDED]


def test_a_file_open_for_writing_is_told_from_one_open_for_reading(store, tmp_path):
    file = store.add()
    assert not is_open_for_writing(file)
    with file.open("rb"):
        assert not is_open_for_writing(file)
    with file.open("r+b"):
        assert is_open_for_writing(file)
    assert not is_open_for_writing(tmp_path / "absent")
    assert not is_open_for_writing(tmp_path)


def test_a_writer_that_comes_while_a_file_is_looked_at_is_not_held_up(store):
    file = store.add()
    for _ in range(20):
        assert not is_open_for_writing(file)
        file.write_bytes(b"again")


def test_a_copy_of_many_files_is_told_once(store, tmp_path):
    source = Store(tmp_path / "elsewhere").add().parent.parent
    names = ["config.pbtxt", "labels.txt", "edgert.toml"]
    target = store.folder / "m"
    target.mkdir()
    for name in names:
        (source / name).write_text("text")
        shutil.copy2(source / name, target / name)
        assert store.look() == []
    shutil.copytree(source / "1", target / "1")
    assert store.look() == []
    assert store.look() == [ADDED]
    assert store.now() == []


@pytest.mark.parametrize("how", ["content", "version", "label", "same size and time", "rename over"])
def test_changes_of_a_model_are_told(store, how):
    file = store.add()
    assert store.now() == [ADDED]
    if how == "content":
        file.write_bytes(b"whole anew")
    elif how == "version":
        store.add(version=2)
    elif how == "label":
        (store.folder / "m" / "labels.txt").write_text("cat")
    else:
        when = file.stat()
        fresh = file.with_suffix(".fresh") if how == "rename over" else store.folder / "fresh"
        fresh.write_bytes(b"other")
        os.utime(fresh, ns=(when.st_atime_ns, when.st_mtime_ns))
        fresh.replace(file)
    assert store.now() == [CHANGED]
    assert store.now() == []


def test_a_swap_of_a_link_is_a_change(store):
    for name in ("one", "two"):
        release = store.folder / ".releases" / name
        release.mkdir(parents=True)
        (release / "model.onnx").write_bytes(b"same size")
    model = store.folder / "m"
    model.mkdir()
    (model / "1").symlink_to(store.folder / ".releases" / "one")
    assert store.now() == [ADDED]
    (model / "new").symlink_to(store.folder / ".releases" / "two")
    (model / "new").rename(model / "1")
    assert store.now() == [CHANGED]


def test_a_swap_of_whole_folders_is_a_change_and_a_rename_an_addition(store):
    store.add("m")
    store.add("n", b"other")
    assert store.now() == [ADDED, Change("n", "added")]
    (store.folder / "m").rename(store.folder / "o")
    (store.folder / "n").rename(store.folder / "m")
    assert store.now() == [CHANGED, Change("n", "removed"), Change("o", "added")]


def test_a_model_that_is_deleted_is_removed(store):
    store.add()
    assert store.now() == [ADDED]
    shutil.rmtree(store.folder / "m")
    assert store.now() == [REMOVED]


def test_folders_that_hold_no_model_are_none(store):
    (store.folder / "notes").mkdir()
    (store.folder / ".git" / "1").mkdir(parents=True)
    assert store.now() == []


def test_a_link_that_leads_back_or_nowhere_is_no_error(store):
    file = store.add()
    (file.parent / "back").symlink_to(store.folder / "m")
    (file.parent / "nowhere").symlink_to(store.folder / "absent")
    assert store.now() == [ADDED]


def test_a_store_that_goes_away_unloads_nothing(store, tmp_path):
    store.add()
    assert store.now() == [ADDED]
    store.folder.rename(tmp_path.parent / f"{tmp_path.name}-away")
    assert store.now() == []
    (tmp_path.parent / f"{tmp_path.name}-away").rename(store.folder)
    assert store.now() == []


class Vanishing(ModelStore):
    """A store that names a model which has gone by the time its folder is looked at."""

    def names(self):
        return (*super().names(), "ghost")


def test_a_model_that_disappears_during_a_look_is_no_error(store, monkeypatch):
    store.add()
    assert list(read_trees(Vanishing(store.folder))) == ["m"]


def test_a_file_that_disappears_during_a_look_spoils_the_look(store, monkeypatch):
    file = store.add()
    real = os.scandir

    def scan(path):
        if str(path) == str(file.parent):
            shutil.rmtree(file.parent)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert read_trees(ModelStore(store.folder)) == {"m": None}


def test_at_the_start_a_store_of_old_files_is_known_and_a_young_one_is_not(tmp_path):
    Store(tmp_path).add()
    ctime_ns = (tmp_path / "m" / "1").stat().st_ctime_ns
    young = StoreWatch(ModelStore(tmp_path), utc_ns=lambda: ctime_ns + SECOND_NS)
    old = StoreWatch(ModelStore(tmp_path), utc_ns=lambda: ctime_ns + 60 * SECOND_NS)
    assert (young.begin(), old.begin()) == ([], ["m"])

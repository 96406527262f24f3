"""Files in PyTorch's legacy format, written here without PyTorch."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest

from edgert.demo.convert.torch_checkpoint import MAGIC, PROTOCOL, read_state_dict
from edgert.errors import ModelError


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("only its name is pickled")


class FloatStorage:
    def __init__(self, key, elements):
        self.key = key
        self.elements = np.asarray(elements, "<f4")


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, FloatStorage):
            return ("storage", FloatStorage, value.key, "cpu", len(value.elements), None)
        return None


@pytest.fixture(autouse=True)
def torch_modules(monkeypatch):
    """Give the two names that a checkpoint refers to a place to be looked up in, for writing it."""
    for name, value in (("torch", FloatStorage), ("torch._utils", _rebuild_tensor_v2)):
        module = ModuleType(name)
        setattr(module, value.__name__, value)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(value, "__module__", name)


@pytest.fixture
def write(tmp_path):
    def write(state, storages, magic=MAGIC):
        path = tmp_path / "net.pth"
        with path.open("wb") as file:
            for value in (
                magic,
                PROTOCOL,
                {"little_endian": True},
                state,
                [storage.key for storage in storages],
            ):
                Pickler(file, protocol=2).dump(value)
            for storage in storages:
                file.write(struct.pack("<q", len(storage.elements)) + storage.elements.tobytes())
        return path

    return write


def test_reads_views_of_shared_storages(write):
    storage = FloatStorage("a", range(12))
    other = FloatStorage("b", [0.5])
    state = OrderedDict(
        plain=Tensor(storage, 0, (3, 4), (4, 1)),
        transposed=Tensor(storage, 0, (4, 3), (1, 4)),
        part=Tensor(storage, 10, (2,), (1,)),
        scalar=Tensor(other, 0, (), ()),
    )
    read = read_state_dict(write(state, [storage, other]))
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(read["plain"], whole)
    np.testing.assert_array_equal(read["transposed"], whole.T)
    np.testing.assert_array_equal(read["part"], [10, 11])
    assert read["scalar"] == 0.5


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (11, (2,), (1,)),
        (0, (2, 2), (12, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
    ],
)
def test_refuses_a_tensor_that_leaves_its_storage(write, offset, shape, strides):
    storage = FloatStorage("a", range(12))
    path = write(OrderedDict(x=Tensor(storage, offset, shape, strides)), [storage])
    with pytest.raises(ModelError, match="not a legacy PyTorch state dict of plain tensors"):
        read_state_dict(path)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_refuses_to_run_code(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"it asks for posix\.mkdir"):
        read_state_dict(write(OrderedDict(x=Attack()), []))
    assert not (tmp_path / "attacked").exists()


def test_refuses_a_file_that_ends_early(write):
    storage = FloatStorage("a", range(12))
    path = write(OrderedDict(x=Tensor(storage, 0, (12,), (1,))), [storage])
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match="the file ends after 10 of 12 elements"):
        read_state_dict(path)


def test_refuses_another_pickle(write):
    with pytest.raises(ModelError, match=r"it begins with \(5, 1001\)"):
        read_state_dict(write(OrderedDict(), [], magic=5))


def test_refuses_what_is_no_pickle(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError):
        read_state_dict(tmp_path / "net.pth")

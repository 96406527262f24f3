"""Where the tensors of a batch lie."""

from __future__ import annotations

import ctypes
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.device.memory import Budget, Buffer, MemoryKind
from edgert.errors import OutOfDeviceMemoryError
from edgert.execute.bindings import ALIGNMENT, BindingCache, TensorMemory
from edgert.execute.engine import EngineInfo
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.noted_device import NotedDriver, NotedGraph, open_noted

INFO = EngineInfo(
    "fake",
    (TensorSpec("image", "float32", (-1, 4)), TensorSpec("scale", "float16", (-1, 1))),
    (TensorSpec("boxes", "float32", (-1, 5)), TensorSpec("classes", "int64", (-1, 2))),
    batches=True,
)
LARGEST = {"image": (8, 4), "scale": (8, 1), "boxes": (8, 5), "classes": (8, 2)}


def shapes_of(batch):
    return ((batch, 4), (batch, 1)), {"boxes": (batch, 5), "classes": (batch, 2)}


class Rig:
    """Tensor memory of one buffer set, on a device that is current."""

    def __init__(self):
        self.driver = NotedDriver()
        self.memory = None

    def open(self, info=INFO, largest=LARGEST, *, is_staged=False):
        device = open_noted(self.driver, outputs_are_staged=is_staged, outputs=MemoryKind.PINNED)
        self.memory = TensorMemory(self.driver, device.memory, info, largest, "model m")
        return self.memory

    def bind(self, batch=2, **options):
        return self.open(**options).bind(*shapes_of(batch), context="the context")

    def close(self):
        self.memory.close()
        assert self.driver.budget.used_bytes == 0


@pytest.fixture
def rig():
    rig = Rig()
    with rig.driver.current():
        yield rig
    rig.close()


def write(address, array):
    ctypes.memmove(address, array.ctypes.data, array.nbytes)


# Memory


def test_inputs_carry_the_shapes_of_the_batch_and_lie_where_the_engine_is_told(rig):
    binding = rig.bind(batch=3)
    assert {name: tensor.shape for name, tensor in binding.inputs.items()} == {
        "image": (3, 4),
        "scale": (3, 1),
    }
    assert {name: tensor.dtype for name, tensor in binding.inputs.items()} == {
        "image": "float32",
        "scale": "float16",
    }
    assert {name: tensor.address for name, tensor in binding.inputs.items()} == {
        name: binding.tensors[name] for name in ("image", "scale")
    }
    assert binding.context == "the context"


def test_every_tensor_is_aligned(rig):
    assert {address % ALIGNMENT for address in rig.bind().tensors.values()} == {0}


def test_outputs_are_read_where_the_engine_wrote_them(rig):
    binding = rig.bind()
    boxes, classes = np.arange(10, dtype=np.float32).reshape(2, 5), np.array([[1, 2], [3, 4]], np.int64)
    write(binding.tensors["boxes"], boxes)
    write(binding.tensors["classes"], classes)
    assert (binding.fetches(), binding.fetch_bytes()) == ((), 0)
    np.testing.assert_array_equal(binding.outputs["boxes"], boxes)
    np.testing.assert_array_equal(binding.outputs["classes"], classes)


def test_outputs_of_a_device_with_memory_of_its_own_are_fetched_by_one_copy(rig):
    binding = rig.bind(is_staged=True)
    classes = np.array([[1, 2], [3, 4]], np.int64)
    write(binding.tensors["boxes"], np.ones((2, 5), np.float32))
    write(binding.tensors["classes"], classes)
    assert binding.outputs["classes"].sum() == 0

    stream = rig.driver.open_stream()
    binding.fetch(stream)
    stream.close()

    np.testing.assert_array_equal(binding.outputs["boxes"], 1)
    np.testing.assert_array_equal(binding.outputs["classes"], classes)
    [copy] = rig.driver.asked
    assert copy.what == binding.fetch_bytes() == ALIGNMENT + classes.nbytes


THREE = EngineInfo(
    "fake",
    INFO.inputs[:1],
    tuple(TensorSpec(name, "float32", (-1, 4)) for name in ("a", "b", "none", "c")),
    batches=True,
)


@pytest.mark.parametrize(
    ("fetched", "spans"),
    [
        (None, [(0, 3)]),
        (set(), []),
        ({"a"}, [(0, 1)]),
        ({"a", "b"}, [(0, 2)]),
        ({"a", "c"}, [(0, 1), (2, 1)]),
        ({"a", "none", "c"}, [(0, 1), (2, 1)]),
        ({"b", "none", "c"}, [(1, 2)]),
        ({"none"}, []),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_only_named_outputs_are_fetched_and_neighbours_by_one_copy(rig, fetched, spans):
    memory = rig.open(
        THREE, {"image": (8, 4), **dict.fromkeys("abc", (8, 4)), "none": (8, 0)}, is_staged=True
    )
    shapes = dict.fromkeys("abc", (2, 4)) | {"none": (2, 0)}
    binding = memory.bind(((2, 4),), shapes, None)
    for name in "abc":
        write(binding.tensors[name], np.ones((2, 4), np.float32))
    names = None if fetched is None else frozenset(fetched)
    stream = rig.driver.open_stream()
    binding.fetch(stream, names)
    stream.close()

    last = [(begin * ALIGNMENT, (begin + count - 1) * ALIGNMENT + 32) for begin, count in spans]
    assert [asked.what for asked in rig.driver.asked] == [end - begin for begin, end in last]
    assert binding.fetch_bytes(names) == sum(end - begin for begin, end in last)
    seen = {name for name in "abc" if binding.outputs[name].all()}
    assert seen == (set("abc") if fetched is None else fetched & set("abc"))


def test_the_engines_own_memory_of_an_output_is_told_with_its_shape_and_type(rig):
    binding = rig.bind(batch=3, is_staged=True)
    left = binding.left["classes"]
    assert (left.address, left.shape, left.dtype) == (binding.tensors["classes"], (3, 2), "int64")
    assert left.address != binding.outputs["classes"].ctypes.data


def test_a_small_batch_fetches_only_what_it_has(rig):
    memory = rig.open(is_staged=True)
    one, eight = (memory.bind(*shapes_of(batch), None).fetch_bytes() for batch in (1, 8))
    assert (one, eight) == (ALIGNMENT + 16, ALIGNMENT + 128)


def test_batches_of_all_sizes_use_the_same_memory(rig):
    memory = rig.open()
    held = rig.driver.budget.used_bytes
    small, large = (memory.bind(*shapes_of(batch), None) for batch in (1, 8))
    assert small.tensors["image"] == large.tensors["image"]
    assert rig.driver.budget.used_bytes == held


@pytest.mark.parametrize(
    ("is_staged", "kinds"), [(False, ["device", "pinned"]), (True, ["device", "pinned", "device"])]
)
def test_memory_is_of_the_kinds_that_the_plan_names_and_counted_for_the_model(rig, is_staged, kinds):
    rig.open(is_staged=is_staged)
    events = rig.driver.budget.events()
    assert [event.kind for event in events] == kinds
    assert {event.owner for event in events} == {"model m"}


def test_an_output_without_elements_is_an_empty_array(rig):
    info = EngineInfo("fake", INFO.inputs[:1], (TensorSpec("none", "float32", (-1, 0)),), batches=True)
    memory = rig.open(info, {"image": (8, 4), "none": (8, 0)}, is_staged=True)
    binding = memory.bind(((2, 4),), {"none": (2, 0)}, None)
    assert (binding.outputs["none"].shape, binding.fetch_bytes()) == ((2, 0), 0)


@pytest.mark.parametrize(
    "limit_bytes", [100, 600, 1200], ids=["inputs", "host's outputs", "device's outputs"]
)
def test_memory_that_does_not_fit_leaves_nothing(limit_bytes):
    driver, buffers = NotedDriver(Budget(limit_bytes)), Buffer.live.count
    plan = open_noted(driver, outputs_are_staged=True).memory
    with pytest.raises(OutOfDeviceMemoryError):
        TensorMemory(driver, plan, INFO, LARGEST, "model m")
    assert (driver.budget.used_bytes, Buffer.live.count) == (0, buffers)


def test_memory_may_be_closed_twice(rig):
    memory = rig.open()
    memory.close()
    assert rig.driver.budget.used_bytes == 0
    memory.close()


SHAPES = st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=4)
TYPES = st.sampled_from(["float32", "float16", "uint8", "int64"])


@given(SHAPES, SHAPES, TYPES)
def test_tensors_of_any_shapes_never_overlap(inputs, outputs, dtype):
    driver = NotedDriver()
    specs = [
        tuple(TensorSpec(f"{kind}{index}", dtype, shape) for index, shape in enumerate(shapes))
        for kind, shapes in (("in", inputs), ("out", outputs))
    ]
    info = EngineInfo("fake", *specs, batches=False)
    largest = {spec.name: spec.shape for spec in (*info.inputs, *info.outputs)}
    memory = TensorMemory(driver, open_noted(driver).memory, info, largest, "m")
    binding = memory.bind(tuple(inputs), {spec.name: spec.shape for spec in info.outputs}, None)
    sizes = {name: prod(shape) * np.dtype(dtype).itemsize for name, shape in largest.items()}
    spans = sorted(
        (address, address + sizes[name]) for name, address in binding.tensors.items() if sizes[name]
    )
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert sum(sizes.values()) <= driver.budget.used_bytes
    assert {name: view.shape for name, view in binding.outputs.items()} == {
        spec.name: spec.shape for spec in info.outputs
    }
    memory.close()


# The cache


@pytest.fixture
def cache(rig):
    cache = BindingCache(rig.open(), max_graphs=2)
    yield cache
    cache.close()


def add(cache, batch, driver=None):
    binding = cache.add(*shapes_of(batch), None)
    if driver is not None:
        driver.open_graphs += 1
        cache.keep(binding.shapes, None, NotedGraph(driver))
    return binding


def test_a_binding_is_found_by_its_shapes(cache):
    binding = add(cache, 2)
    assert cache.find(shapes_of(2)[0]) is binding
    assert cache.find(shapes_of(3)[0]) is None


def test_the_binding_used_longest_ago_goes_and_its_graph_with_it(rig, cache):
    first, _ = add(cache, 1, rig.driver), add(cache, 2, rig.driver)
    assert cache.find(first.shapes) is first
    add(cache, 3, rig.driver)
    assert cache.find(shapes_of(2)[0]) is None
    assert cache.find(first.shapes) is first
    assert (rig.driver.open_graphs, cache.dropped) == (2, 1)


def test_a_binding_that_goes_without_a_graph_is_not_counted(cache):
    for batch in (1, 2, 3):
        add(cache, batch)
    assert cache.dropped == 0


def test_without_graphs_more_bindings_are_kept(rig):
    cache = BindingCache(rig.open(), max_graphs=0)
    assert not cache.keeps_graphs
    bindings = [cache.add(((batch, 4), (batch, 1)), shapes_of(1)[1], None) for batch in range(1, 18)]
    assert [cache.find(binding.shapes) is binding for binding in bindings] == [False] + [True] * 16
    cache.close()


def test_graphs_that_fetch_other_outputs_of_the_same_shapes_count_against_the_same_limit(rig, cache):
    binding = add(cache, 1)
    graphs = {}
    for fetched in (None, frozenset(), frozenset({"boxes"})):
        rig.driver.open_graphs += 1
        graphs[fetched] = NotedGraph(rig.driver)
        cache.keep(binding.shapes, fetched, graphs[fetched])
        cache.graph(binding.shapes, None)  # used again and again
    assert cache.graph(binding.shapes, frozenset()) is None
    for fetched in (None, frozenset({"boxes"})):
        assert cache.graph(binding.shapes, fetched) is graphs[fetched]
    assert (rig.driver.open_graphs, cache.dropped) == (2, 1)


def test_a_binding_that_goes_takes_all_its_graphs(rig, cache):
    for batch, fetched in ((1, None), (1, frozenset())):
        cache.find(shapes_of(batch)[0]) or add(cache, batch)
        rig.driver.open_graphs += 1
        cache.keep(shapes_of(batch)[0], fetched, NotedGraph(rig.driver))
    add(cache, 2)
    add(cache, 3)
    assert (rig.driver.open_graphs, cache.dropped) == (0, 2)


def test_dropped_graphs_are_freed_and_their_bindings_stay(rig, cache):
    bindings = [add(cache, batch, rig.driver) for batch in (1, 2)]
    cache.drop_graphs()
    assert rig.driver.open_graphs == 0
    assert [cache.find(binding.shapes) for binding in bindings] == bindings
    assert [cache.graph(binding.shapes, None) for binding in bindings] == [None, None]


def test_closing_frees_graphs_and_memory(rig, cache):
    add(cache, 1, rig.driver)
    cache.close()
    assert (rig.driver.open_graphs, rig.driver.budget.used_bytes) == (0, 0)
    assert cache.find(shapes_of(1)[0]) is None

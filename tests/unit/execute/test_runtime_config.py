"""How contexts are asked for, and what of their kernels is kept."""

from __future__ import annotations

import logging

import pytest

from edgert.execute.engine import EngineInfo
from edgert.execute.runtime_cache import RuntimeCacheFile
from edgert.execute.runtime_config import RuntimeConfigs
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.plan_file import write_plan
from tests.fakes.tensorrt_runtime import EAGER, USER_MANAGED, FakeConfig, FakeTensorRT

RTX = {"runtime": "tensorrt_rtx", "version": (1, 4, 0, 76)}
WITHOUT_CACHE = {"runtime": "tensorrt", "version": (10, 11, 0, 33)}
VARIABLE, FIXED = (-1, 4), (2, 4)


class Engine:
    """As much of an ICudaEngine as is asked here."""

    def __init__(self, trt):
        self._trt = trt

    def create_runtime_config(self):
        return FakeConfig(self._trt)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGERT_CACHE", str(tmp_path / "cache"))
    return write_plan(tmp_path / "store" / "m" / "1" / "model.plan")


@pytest.fixture
def open_configs(file):
    """Return a function that returns configurations of a module, and this."""

    def opened(shape=VARIABLE, **module):
        trt = FakeTensorRT(**(module or RTX))
        info = EngineInfo(trt.runtime, (TensorSpec("x", "float32", shape),), (), batches=shape == VARIABLE)
        return RuntimeConfigs(trt.bindings(), Engine(trt), info, file), trt

    return opened


def test_a_release_without_configurations_is_given_the_strategy_itself(open_configs):
    configs, _ = open_configs(runtime="tensorrt", version=(10, 3, 0))
    assert configs.for_context() == USER_MANAGED


@pytest.mark.parametrize("module", [RTX, WITHOUT_CACHE], ids=["with a cache", "without"])
def test_scratch_memory_is_edgerts_in_every_configuration(open_configs, module):
    configs, _ = open_configs(**module)
    assert configs.for_context().strategy == USER_MANAGED


def test_tensorrt_rtx_compiles_before_a_graph_can_keep_the_general_kernels(open_configs):
    configs, trt = open_configs()
    config = configs.for_context()
    assert config.dynamic_shapes_kernel_specialization_strategy == EAGER
    assert config.cache is trt.caches[0]


@pytest.mark.parametrize(
    ("shape", "module"), [(FIXED, RTX), (FIXED, WITHOUT_CACHE), (VARIABLE, WITHOUT_CACHE)]
)
def test_contexts_share_a_configuration_where_that_costs_nothing(open_configs, shape, module):
    configs, _ = open_configs(shape, **module)
    assert configs.for_context() is configs.for_context()


def test_contexts_with_variable_sides_have_copies_of_what_was_compiled_so_far(open_configs):
    configs, trt = open_configs()
    first = configs.for_context()
    first.cache.content = b"for batches of one"
    second = configs.for_context()
    assert second is not first
    assert second.cache is not first.cache
    assert [cache.given for cache in trt.caches] == [None, b"for batches of one"]


@pytest.mark.parametrize("shape", [VARIABLE, FIXED])
def test_what_was_compiled_is_there_at_the_next_start(open_configs, shape):
    configs, _ = open_configs(shape)
    configs.for_context().cache.content = b"kernels"
    configs.keep()
    configs.close()
    _, trt = again = open_configs(shape)
    again[0].for_context()
    assert trt.caches[0].given == b"kernels"


def test_only_what_is_new_is_written(open_configs, file, monkeypatch):
    RuntimeCacheFile(file).write(b"kept")
    written = []
    monkeypatch.setattr(RuntimeCacheFile, "write", lambda file, content: written.append(content))
    configs, trt = open_configs()
    configs.keep()
    configs.for_context()
    configs.keep()
    assert written == []
    for content in (b"one", b"one", b"two"):
        trt.caches[0].content = content
        configs.keep()
    assert written == [b"one", b"two"]


def test_what_another_gpu_compiled_is_told_and_compiled_anew(open_configs, file, caplog):
    RuntimeCacheFile(file).write(b"foreign kernels")
    configs, _ = open_configs()
    with caplog.at_level(logging.INFO):
        configs.for_context()
    assert "it is compiled anew" in caplog.text
    configs.keep()
    assert RuntimeCacheFile(file).read() == b"compiled here"


def test_a_release_without_a_cache_reads_and_keeps_nothing(open_configs, file, tmp_path):
    configs, trt = open_configs(**WITHOUT_CACHE)
    configs.for_context()
    configs.keep()
    assert trt.caches == []
    assert not (tmp_path / "cache").exists()


def test_closing_drops_configurations_and_caches(open_configs, file):
    configs, trt = open_configs()
    configs.for_context()
    configs.close()
    assert len(trt.configs) == 0
    configs.keep()
    assert RuntimeCacheFile(file).read() == b""

"""Requests on lanes of a GPU: rows, staging, batches, reload under traffic, memory given back."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import helper

from edgert.device.opened import open_device
from edgert.errors import ClosedError
from edgert.inference.open_version import Opener
from edgert.inference.repository import Repository
from edgert.models.store import ModelStore
from edgert.pipeline.open_model import load_engine
from edgert.pipeline.shared_engines import SharedEngines
from edgert.schedule.scheduler import Scheduler
from tests.fakes.onnx_graphs import graph
from tests.fakes.waiting import answer, ask
from tests.gpu.plans import batches, build_plan

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

SIDE = 16
TIMEOUT_S = 30.0


def add_model(store, name, factor, rest=""):
    """Write a model whose Y is X times a factor, for up to 8 rows."""
    nodes = [helper.make_node("Mul", ["X", "factor"], ["Y"])]
    shape = ["batch", SIDE]
    model = graph(nodes, {"X": shape}, {"Y": shape}, {"factor": np.float32(factor)})
    file = store / f"{name}.onnx"
    onnx.save(model, file)
    build_plan(file, store / name / "1" / "model.plan", batches("X", (SIDE,), 8))
    (store / name / "edgert.toml").write_text('[engine]\nruntime = "tensorrt_rtx"\n')
    (store / name / "config.pbtxt").write_text(
        f"""platform: "tensorrt_plan" max_batch_size: 8
        input [{{ name: "X" data_type: TYPE_FP32 dims: [{SIDE}] }}]
        output [{{ name: "Y" data_type: TYPE_FP32 dims: [{SIDE}] }}]
        {rest}"""
    )


@contextmanager
def serving(store):
    """Yield a function that loads and one that infers, over a store on the GPU."""
    device = open_device("cuda")
    scheduler = Scheduler(current=device.driver.current)
    scheduler.start()
    models = ModelStore(store)

    def infer(request):
        repository.get(request.model, request.version).infer(request)

    opener = Opener(device, scheduler, SharedEngines(load_engine).load, infer)
    repository = Repository(opener.open, retire_s=5.0)
    try:
        yield lambda name: repository.load(models.entry(name)), infer, device
    finally:
        repository.close()
        scheduler.stop()
        device.close()
        assert device.driver.budget.used_bytes == 0, device.driver.budget.holders()


def rows(*firsts):
    values = np.zeros((len(firsts), SIDE), np.float32)
    values[:, 0], values[:, -1] = firsts, 1
    return values


def test_requests_of_all_sizes_come_back_multiplied(tmp_path):
    add_model(tmp_path, "double", 2.0)
    with serving(tmp_path) as (load, infer, _):
        load("double")
        for count in (1, 2, 3, 5, 8):
            values = rows(*range(count))
            np.testing.assert_array_equal(answer(infer, "double", {"X": values})["Y"], values * 2)


def test_requests_that_come_together_share_a_batch_and_each_gets_its_own_rows(tmp_path):
    add_model(tmp_path, "double", 2.0, "dynamic_batching { max_queue_delay_microseconds: 50000 }")
    with serving(tmp_path) as (load, infer, device):
        load("double")
        before = device.copies.copies["host_to_device"]
        asked = [ask(infer, "double", {"X": rows(index)}) for index in range(8)]
        for index, one in enumerate(asked):
            np.testing.assert_array_equal(one.final().outputs["Y"], rows(index) * 2)
        assert device.copies.copies["host_to_device"] - before == 1


def test_two_models_with_two_lanes_each_answer_many_senders(tmp_path):
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        add_model(tmp_path, name, factor, "dynamic_batching { } instance_group [{ count: 2 }]")
    wrong = []
    with serving(tmp_path) as (load, infer, _):
        load("double")
        load("triple")

        def send(name, factor, number):
            for step in range(100):
                values = rows(number * 1000 + step)
                if not np.array_equal(answer(infer, name, {"X": values})["Y"], values * factor):
                    wrong.append((name, number, step))

        senders = [
            threading.Thread(target=send, args=(name, factor, number))
            for name, factor in (("double", 2.0), ("triple", 3.0))
            for number in range(4)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(TIMEOUT_S)
            assert not sender.is_alive()
    assert wrong == []


def test_no_request_is_lost_while_a_model_is_loaded_again_and_again(tmp_path):
    add_model(tmp_path, "double", 2.0)
    stop, counts, wrong = threading.Event(), {"ok": 0}, []
    with serving(tmp_path) as (load, infer, _):
        load("double")

        def send():
            while not stop.is_set():
                try:
                    good = np.array_equal(answer(infer, "double", {"X": rows(3)})["Y"], rows(3) * 2)
                except ClosedError:
                    continue  # a core asks the version that came in its place
                counts["ok"] += 1
                if not good:
                    wrong.append(counts["ok"])

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(5):
            load("double")
        stop.set()
        sender.join(TIMEOUT_S)
    assert wrong == []
    assert counts["ok"] > 0

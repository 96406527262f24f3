"""Models in Python on lanes: batches in, batches out; a fault is one batch's."""

from __future__ import annotations

import logging
import sys
import threading
import weakref

import numpy as np
import pytest

from edgert.errors import CancelledError, ClosedError, ModelError, RequestError
from edgert.execute.engine import EngineInfo
from edgert.models.model_config import InstanceGroup, TensorConfig
from tests.fakes.lane import TIMEOUT_S, Bell
from tests.fakes.python_model import DOUBLE, Runner, X, load_model, request, rows, write_model

# A model that says what happens to it: the fixture `diary` has it.
DIARY = """
class Model:
    def load(self, context):
        self.context = context
        diary.append(("load", context.instance))

    def execute(self, inputs):
        diary.append("execute")
        if inputs["x"][0, 0] < 0:
            raise ValueError("below zero")
        return {"y": inputs["x"]}

    def unload(self):
        diary.append("unload")
"""
TEXT = TensorConfig(name="x", dtype="object", dims=(2,)), TensorConfig(name="y", dtype="object", dims=(2,))


# Batches


def test_a_batch_goes_in_and_a_batch_comes_out(make):
    np.testing.assert_array_equal(make().run(x=rows(1, 2, 3))["y"], rows(2, 4, 6))


def test_it_says_what_config_pbtxt_says(make):
    info = make().engine.info
    assert isinstance(info, EngineInfo)
    assert (info.runtime, info.batches) == ("python", True)
    assert [(spec.name, spec.dtype, spec.shape) for spec in info.inputs] == [("x", "float32", (-1, 2))]


def test_without_a_batch_axis_tensors_have_the_stated_shapes(make):
    runner = make(max_batch_size=0)
    assert not runner.engine.info.batches
    np.testing.assert_array_equal(runner.run(x=np.ones(2, np.float32))["y"], [2, 2])


def test_memory_for_inputs_is_the_same_every_time(make):
    runner, places = make(), set()

    def fill(buffers):
        places.add((buffers.index, buffers.inputs({"x": (2, 2)})["x"].ctypes.data))

    for _ in range(4):
        assert runner.complete(fill).error is None
    assert len(places) == 2  # one for each buffer set


def test_shapes_that_change_are_served_from_memory_that_grows(make):
    wide = (
        TensorConfig(name="x", dtype="float32", dims=(-1,)),
        TensorConfig(name="y", dtype="float32", dims=(-1,)),
    )
    runner = make(inputs=wide[:1], outputs=wide[1:])
    for width in (3, 50, 2, 50, *range(1, 20)):
        x = np.full((2, width), width, np.float32)
        np.testing.assert_array_equal(runner.run(x=x)["y"], x * 2)


def test_one_request_is_handed_over_without_a_copy(make, diary):
    source = "class Model:\n    def execute(self, inputs):\n        diary.append(inputs['x'])\n"
    source += "        return {'y': inputs['x']}"
    x = rows(1, 2)
    make(source).ask(request({"x": x}))
    assert np.shares_memory(diary[0], x)


def test_several_requests_become_one_batch(make):
    runner, copied = make(), []
    asked = [request({"x": rows(1, 2)}), request({"x": rows(3)})]
    completed = runner.complete(lambda buffers: copied.append(buffers.take(asked)))
    np.testing.assert_array_equal(completed.buffers.outputs()["y"], rows(2, 4, 6))
    assert copied == [3 * 2 * 4]


def test_the_model_sees_shapes_after_reshape(make, diary):
    source = "class Model:\n    def execute(self, inputs):\n        diary.append(inputs['x'].shape)\n"
    source += "        return {'y': np.zeros((2, 2), np.float32)}\n"
    x = TensorConfig(name="x", dtype="float32", dims=(4,), reshape=(2, 2))
    make("import numpy as np\n" + source, inputs=(x,)).ask(request({"x": np.zeros((2, 4), np.float32)}))
    assert diary == [(2, 2, 2)]


@pytest.mark.parametrize("give", ["run", "ask"])
def test_inputs_cannot_be_written_to_whoever_owns_them(make, give):
    runner = make(
        "class Model:\n    def execute(self, inputs):\n        inputs['x'] += 1\n        return inputs"
    )
    with pytest.raises(ModelError, match="read-only"):
        runner.run(x=rows(1)) if give == "run" else runner.ask(request({"x": rows(1)}))


@pytest.mark.parametrize("many", [1, 2])
def test_text_is_objects_of_bytes_and_str_becomes_utf_8(make, many):
    source = """
    import numpy as np
    class Model:
        def execute(self, inputs):
            assert all(type(text) is bytes for text in inputs["x"].flat)
            return {"y": np.array([[text.decode() + "ö" for text in row] for row in inputs["x"]])}
    """
    runner = make(source, inputs=TEXT[:1], outputs=TEXT[1:])
    x = np.array([[b"a", b"bc"]], object)
    outputs = runner.ask(*[request({"x": x})] * many)
    assert outputs["y"].tolist() == [["aö".encode(), "bcö".encode()]] * many


def test_inputs_that_are_optional_may_be_missing(make):
    source = "class Model:\n    def execute(self, inputs): return {'y': inputs['x'] + ('z' in inputs)}"
    z = TensorConfig(name="z", dtype="float32", dims=(2,), optional=True)
    np.testing.assert_array_equal(make(source, inputs=(X, z)).run(x=rows(1))["y"], rows(1))


# Faults


def test_a_fault_in_execute_is_that_batchs_alone_and_names_its_place(make, diary, tmp_path):
    runner = make(DIARY)
    with pytest.raises(ModelError) as caught:
        runner.run(x=rows(-1))
    place = tmp_path / "m" / "1" / "model.py"
    assert str(caught.value) == f"Model 'm': Model.execute failed at {place}:10: ValueError: below zero"
    assert caught.value.__context__ is None  # its traceback would keep the batch alive
    np.testing.assert_array_equal(runner.run(x=rows(4))["y"], rows(4))


def test_the_place_is_the_innermost_line_of_the_models_own(make, tmp_path):
    helper = "import json\ndef parse():\n    return json.loads('{')"
    runner = make(
        "import helper\nclass Model:\n    def execute(self, inputs): helper.parse()",
        helpers={"helper": helper},
    )
    with pytest.raises(ModelError, match=r"helper\.py:3: JSONDecodeError"):
        runner.run(x=rows(1))


def test_the_place_has_its_line_where_the_store_is_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = write_model(tmp_path, "class Model:\n    def execute(self, inputs): 1 / 0")
    runner = Runner(place.relative_to(tmp_path))
    with pytest.raises(ModelError, match=r"m/1/model\.py:2: ZeroDivisionError"):
        runner.run(x=rows(1))
    runner.close()


@pytest.mark.parametrize("fault", ["sys.exit(3)", "raise KeyboardInterrupt", "raise StopIteration", "1 / 0"])
def test_no_exception_ends_the_lane(make, fault):
    source = "import sys\nclass Model:\n    def execute(self, inputs):\n"
    source += f"        if inputs['x'].min() < 0: {fault}\n"
    runner = make(source + "        return {'y': inputs['x']}")
    with pytest.raises(ModelError, match=r"model\.py:4"):
        runner.run(x=rows(-1))
    assert runner.run(x=rows(1))["y"].shape == (1, 2)


def test_errors_of_edgert_pass_as_they_are(make):
    source = "from edgert.errors import RequestError\nclass Model:\n    def execute(self, inputs):\n"
    runner = make(source + "        raise RequestError('x must be above 0')")
    with pytest.raises(RequestError, match=r"^x must be above 0$"):
        runner.run(x=rows(1))


def test_long_texts_of_exceptions_are_cut(make):
    runner = make("class Model:\n    def execute(self, inputs): raise ValueError('n' * 100_000)")
    with pytest.raises(ModelError) as caught:
        runner.run(x=rows(1))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("None", "returned NoneType, expected a dict of arrays"),
        ("{}", r"did not return \['y'\]; config.pbtxt has \['y'\]"),
        ("{'y': x, 'z': x}", r"returned \['z'\]; config.pbtxt has \['y'\]"),
        ("{'y': [1, 2]}", "output 'y' is of type list, expected a NumPy array"),
        ("{'y': x.astype('float64')}", "output 'y' is float64, expected float32"),
        ("{'y': x.astype('>f4')}", "output 'y' is >f4, expected float32"),
        ("{'y': x[:1]}", r"output 'y' has shape \[1, 2\], expected \[3, 2\] for a batch of 3"),
        ("{'y': x[:, :1]}", r"output 'y' has shape \[3, 1\], expected \[3, 2\]"),
        ("{'y': x[0]}", r"output 'y' has shape \[2\], expected \[3, 2\]"),
    ],
)
def test_outputs_that_do_not_fit_are_refused_by_name(make, answer, said):
    runner = make(
        f"class Model:\n    def execute(self, inputs):\n        x = inputs['x']\n        return {answer}"
    )
    with pytest.raises(ModelError, match=rf"m/1/model\.py: class Model: execute: {said}"):
        runner.run(x=rows(1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("np.zeros((1, 2))", "is float64, expected object"),
        ("np.array([[b'a', 1]], object)", "holds int, expected bytes"),
    ],
)
def test_texts_that_are_none_are_refused(make, answer, said):
    source = f"import numpy as np\nclass Model:\n    def execute(self, inputs): return {{'y': {answer}}}"
    with pytest.raises(ModelError, match=said):
        make(source, outputs=TEXT[1:]).run(x=rows(1))


def test_outputs_in_another_order_of_memory_are_put_right(make):
    runner = make("class Model:\n    def execute(self, inputs): return {'y': inputs['x'][:, ::-1]}")
    completed = runner.complete(lambda own: own.inputs({"x": (1, 2)})["x"].__setitem__(slice(None), [[1, 2]]))
    y = completed.buffers.outputs()["y"]
    assert y.flags.c_contiguous
    assert y.tolist() == [[2, 1]]


# Loading and unloading


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Model: pass", "class Model has no execute"),
        ("value = 1", "has neither class Model nor TritonPythonModel"),
        ("import no_such_thing", r"import failed at .*model\.py:1: ModuleNotFoundError: .*no_such_thing"),
        ("x = 1\nclass Model", r"import failed at .*model\.py:2: SyntaxError"),
        ("raise SystemExit", r"import failed at .*model\.py:1: SystemExit"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path, source, said):
    with pytest.raises(ModelError, match=said):
        load_model(write_model(tmp_path, source))


def test_tensors_have_to_be_stated(tmp_path):
    place = write_model(tmp_path, DOUBLE)
    with pytest.raises(ModelError, match=r"config.pbtxt: field output\[0\].dims: is not given"):
        load_model(place, outputs=(TensorConfig(name="y", dtype="float32"),))


@pytest.mark.parametrize("where", ["__init__", "load"])
def test_a_fault_while_an_object_is_made_is_the_loads_error(make, diary, where):
    source = DIARY + f"    def {where}(self, *context): raise OSError('no weights')\n"
    runner = make(source)
    with pytest.raises(ModelError, match=rf"Model\.{where} failed at .*model\.py:15: OSError: no weights"):
        runner.engine.open_lane(1, Bell())
    assert diary == []


def test_an_object_lives_on_its_lanes_thread_and_is_unloaded_at_the_end(make, diary):
    source = """
    import threading
    class Model:
        def __init__(self): self.note()
        def load(self, context): self.note()
        def execute(self, inputs): self.note(); return {"y": inputs["x"]}
        def unload(self): self.note()
        def note(self): diary.append(threading.current_thread().name)
    """
    runner = make(source)
    runner.run(x=rows(1))
    runner.close()
    assert diary == ["lane:m"] * 4


def test_unload_is_called_after_a_fault_too(make, diary):
    runner = make(DIARY)
    with pytest.raises(ModelError):
        runner.run(x=rows(-1))
    runner.close()
    assert diary == [("load", 0), "execute", "unload"]


def test_a_fault_in_unload_is_logged_and_nothing_else(make, caplog):
    runner = make(DOUBLE + "    def unload(self): raise OSError('busy')\n")
    runner.run(x=rows(1))
    runner.close()
    assert "Model.unload failed" in caplog.text


def test_load_is_told_about_the_model(make, diary, tmp_path):
    source = DOUBLE + "    def load(self, context): diary.append(context)\n"
    groups = (InstanceGroup(count=1, kind="KIND_CPU"), InstanceGroup(count=1, kind="KIND_GPU", gpus=(0, 3)))
    runner = make(source, parameters={"threshold": "0.5"}, instance_groups=groups)
    lanes = [runner.engine.open_lane(8, Bell()) for _ in range(3)]
    for lane in lanes:
        lane.close()
    context = diary[0]
    assert (context.model, context.version, context.max_batch_size) == ("m", 1, 8)
    assert (context.folder, context.version_folder) == (tmp_path / "m", tmp_path / "m" / "1")
    assert context.parameters == {"threshold": "0.5"}
    assert [spec.name for spec in (*context.inputs, *context.outputs)] == ["x", "y"]
    assert [one.instance for one in diary] == [0, 1, 2]
    assert [(one.device_kind, one.device_id) for one in diary] == [("cpu", 0), ("gpu", 0), ("gpu", 3)]


def test_each_lane_has_an_object_of_its_own(make):
    source = """
    import numpy as np
    class Model:
        calls = 0
        def execute(self, inputs):
            self.calls += 1
            return {"y": np.full_like(inputs["x"], self.calls)}
    """
    runner = make(source)
    assert [runner.run(x=rows(0))["y"][0, 0] for _ in range(2)] == [1, 2]
    runner.lane.close()
    runner._lane = None
    assert runner.run(x=rows(0))["y"][0, 0] == 1


def test_a_closed_engine_opens_no_lane(make):
    runner = make()
    runner.engine.close()
    with pytest.raises(ModelError, match="was closed"):
        runner.engine.open_lane(1, Bell())


def test_a_reload_is_new_and_the_old_ones_memory_is_freed(make, tmp_path):
    source = """
    import numpy as np
    class Weights(np.ndarray): pass
    table = np.ones(1000).view(Weights)
    class Model:
        def execute(self, inputs): return {"y": inputs["x"] * np.float32(table[0])}
    """
    old = make(source)
    assert old.run(x=rows(2))["y"][0, 0] == 2
    module = sys.modules[f"{old.engine._code.package}.model"]
    weights = weakref.ref(module.table)
    del module
    new = make(source.replace("ones", "zeros"))
    assert new.run(x=rows(2))["y"][0, 0] == 0
    assert old.run(x=rows(2))["y"][0, 0] == 2
    old.close()
    assert weights() is None
    assert new.run(x=rows(2))["y"][0, 0] == 0


def test_a_model_that_hangs_does_not_hang_its_unload(make, diary, caplog):
    source = """
    class Model:
        def execute(self, inputs):
            diary[0].set()
            diary[1].wait()
            return {"y": inputs["x"]}
        def unload(self):
            diary[2].set()
    """
    diary += [threading.Event(), threading.Event(), threading.Event()]
    runner = make(source, grace_s=0.05)
    lane = runner.lane
    lane.submit(lane.acquire(), lambda own: own.inputs({"x": (1, 2)}), None)
    assert diary[0].wait(TIMEOUT_S)
    runner.close()
    assert "lane:m: the model has not returned for 0.05 s and is given up" in caplog.text
    assert not diary[2].is_set()
    with pytest.raises(ClosedError):
        lane.submit(None, None, None)

    diary[1].set()
    assert diary[2].wait(TIMEOUT_S)
    lane._thread.join(TIMEOUT_S)  # then nothing of it is left, as every test is checked for


# What models print


def test_what_a_model_prints_goes_to_the_log(make, caplog, capsys):
    source = """
    import sys, pprint, threading
    print("at import")
    sys.stdout.write("and beside print\\n")
    class Model:
        def execute(self, inputs):
            print("rows:", len(inputs["x"]))
            pprint.pprint("from a library")
            sys.stdout.write("half ")
            sys.stdout.write("a line\\n")
            thread = threading.Thread(target=print, args=("on a thread",))
            thread.start()
            thread.join()
            return {"y": inputs["x"]}
    """
    with caplog.at_level(logging.INFO):
        runner = make(source)
        runner.run(x=rows(1, 2))
        print("of the process")
        runner.close()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("python_output")]
    assert said == [
        "model m: at import",
        "model m: and beside print",
        "model m: rows: 2",
        "model m: 'from a library'",
        "model m: half a line",
        "model m: on a thread",
    ]
    assert capsys.readouterr().out == "of the process\n"


def test_standard_output_is_given_back(make):
    before = sys.stdout
    runner = make()
    runner.run(x=rows(1))
    runner.close()
    assert sys.stdout is before


# Decoupled models

REPEAT = """
class Model:
    def execute(self, inputs):
        try:
            for _ in range(int(inputs["x"][0, 0])):
                yield {"y": inputs["x"]}
        finally:
            diary.append("ended")
"""


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_decoupled_model_gives_none_one_or_many(make, diary, count):
    parts = make(REPEAT, is_decoupled=True).parts(x=rows(count))
    assert len(parts) == count
    assert all(part["y"].tolist() == [[count, count]] for part in parts)


def test_parts_are_handed_on_as_they_come(make, diary):
    source = "class Model:\n    def execute(self, inputs):\n        for index in range(2):\n"
    source += "            diary.append(f'made {index}')\n            yield {'y': inputs['x']}"
    make(source, is_decoupled=True).parts(lambda part: diary.append("handed on"), x=rows(1))
    assert diary == ["made 0", "handed on", "made 1", "handed on"]


def test_an_iterator_will_do_and_parts_may_leave_outputs_out(make):
    source = "class Model:\n    def execute(self, inputs): return iter([{}, {'y': inputs['x']}])"
    assert [list(part) for part in make(source, is_decoupled=True).parts(x=rows(1))] == [[], ["y"]]


def test_a_fault_after_some_parts_is_the_batchs_error(make):
    source = "class Model:\n    def execute(self, inputs):\n        yield {'y': inputs['x']}\n        1 / 0"
    runner, got = make(source, is_decoupled=True), []
    with pytest.raises(ModelError, match=r"model\.py:4: ZeroDivisionError"):
        runner.parts(got.append, x=rows(1))
    assert len(got) == 1


def test_a_part_that_does_not_fit_is_refused(make):
    source = "class Model:\n    def execute(self, inputs): yield {'z': inputs['x']}"
    with pytest.raises(ModelError, match=r"returned \['z'\]"):
        make(source, is_decoupled=True).parts(x=rows(1))


def test_a_receiver_that_has_gone_ends_the_model(make, diary):
    runner = make(REPEAT, is_decoupled=True)

    def leave(part):
        raise CancelledError("gone")

    with pytest.raises(CancelledError):
        runner.parts(leave, x=rows(5))
    assert diary == ["ended"]
    assert len(runner.parts(x=rows(2))) == 2


def test_what_one_batch_hands_its_parts_to_the_next_does_not_know(make, diary):
    runner, got = make(REPEAT, is_decoupled=True), []
    runner.parts(got.append, x=rows(1))
    for _ in range(2):  # both buffer sets
        runner.complete(lambda own: own.take([request({"x": rows(1)})]))
    assert len(got) == 1


@pytest.mark.parametrize("answer", ["{'y': inputs['x']}", "None"])
def test_a_decoupled_model_has_to_return_something_to_iterate_over(make, answer):
    source = f"class Model:\n    def execute(self, inputs): return {answer}"
    with pytest.raises(ModelError, match="expected a generator or another iterable of dicts"):
        make(source, is_decoupled=True).parts(x=rows(1))


def test_a_generator_is_no_answer_of_a_model_that_is_not_decoupled(make, diary):
    with pytest.raises(ModelError, match="returned generator, expected a dict"):
        make(REPEAT).run(x=rows(1))


def test_the_outputs_of_one_batch_stay_while_the_next_runs(make):
    runner = make()
    lane = runner.lane
    first = lane.acquire()
    lane.submit(first, lambda own: own.take([request({"x": rows(1)})]), None)
    done = runner.bell.next_from(lane)
    kept = done.buffers.outputs()["y"]
    runner.run(x=rows(9))
    assert kept.tolist() == rows(2).tolist()
    lane.release(first)

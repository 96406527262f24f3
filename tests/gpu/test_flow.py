"""Whole pipelines on the GPU: capture, slots, kernel, engine, decoding, lines.

What is right is what the same model says on onnxruntime after the preparation of the host.
"""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from onnx import helper

from edgert.client import Client, RequestError
from edgert.device.opened import open_device
from edgert.device.placement import obstacle
from edgert.errors import OutOfDeviceMemoryError
from edgert.stats import LiveCount
from tests.fakes.line import WAIT_S, Line, demand_conservation
from tests.fakes.onnx_graphs import graph
from tests.fakes.store import Site
from tests.gpu.plans import batches, build_plan

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

RUNTIME = "tensorrt_rtx"
SIDE = 16
ITEM = (3, SIDE, SIDE)
LEVELS = 1e-2  # how far a tensor's values may be apart, in grey levels; the preparations are equal
SCORES = 2e-3  # how far scores may be apart; boxes nearer than that to `score_min` are on one side only
STRETCH = '[prepare]\nfit = "stretch"\n'
SINGLE = "max_batch_size: 1\n"
BATCHED = "max_batch_size: 4\ndynamic_batching { max_queue_delay_microseconds: 2000 }\n"
TWO_LANES = "instance_group [ { count: 2 } ]\n"
LEAK_BYTES = 4 << 20  # free memory comes and goes in blocks of 2 MiB


# Models


def times(factor, side=SIDE):
    """Return a model whose output is the picture times a factor."""
    shape = ["batch", 3, side, side]
    nodes = [helper.make_node("Mul", ["image", "factor"], ["values"])]
    return graph(nodes, {"image": shape}, {"values": shape}, {"factor": np.float32(factor)})


def detector():
    """Return an SSD with a box for each of 4 x 4 tiles; scores are how red, green and blue a tile is."""
    tiles = [(y, x, y + 0.25, x + 0.25) for y in np.arange(0, 1, 0.25) for x in np.arange(0, 1, 0.25)]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Reshape", ["pooled", "flat"], ["planes"]),
        helper.make_node("Transpose", ["planes"], ["levels"], perm=[0, 2, 1]),
        helper.make_node("Div", ["levels", "white"], ["scores"]),
        helper.make_node("ReduceMean", ["scores"], ["means"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["means", "nothing"], ["zeros"]),
        helper.make_node("Add", ["tiles", "zeros"], ["boxes"]),
    ]
    constants = {
        "flat": np.array([0, 3, 16]),
        "white": np.float32(255),
        "nothing": np.float32(0),
        "tiles": np.array([tiles], np.float32),
    }
    outputs = {"boxes": ["batch", 16, 4], "scores": ["batch", 16, 3]}
    return graph(nodes, {"image": ["batch", *ITEM]}, outputs, constants)


def convolutions(seed, side=32):
    """Return a model of three convolutions, which need megabytes of scratch memory."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["e"], ["values"], kernel_shape=[8, 8], strides=[8, 8]),
    ]
    channels = {"w0": (16, 3), "w1": (16, 16), "w2": (3, 16)}
    weights = {
        name: random.normal(size=(there, here, 3, 3), scale=(9 * here) ** -0.5).astype(np.float32)
        for name, (there, here) in channels.items()
    }
    tiles = side // 8
    return graph(nodes, {"image": ["batch", 3, side, side]}, {"values": ["batch", 3, tiles, tiles]}, weights)


def heavy():
    """Return a model with 24 MiB of weights."""
    inner = int(np.prod(ITEM))
    weights = np.random.default_rng(0).normal(size=(inner, 8192)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["values"]),
    ]
    return graph(nodes, {"image": ["batch", *ITEM]}, {"values": ["batch", 8192]}, {"weights": weights})


# Stores


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path / "gpu")


def make_site(folder):
    folder.mkdir()
    return Site(folder)


def add(site, name, model, *, config=SINGLE, settings=STRETCH, engine="", runtime=RUNTIME, largest=4):
    """Write a model into the store; for TensorRT build it, for batches up to `largest`."""
    text = f'[engine]\nruntime = "{runtime}"\n{engine}\n{settings}'
    content = model.SerializeToString()
    if runtime == "onnxruntime":
        site.add(name, content, config=config, settings=text)
        return
    folder = site.add(name, config=config, settings=text)
    source = folder / "source.onnx"
    source.write_bytes(content)
    item = tuple(side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[1:])
    build_plan(source, folder / "1" / "model.plan", batches("image", item, largest))


def noise(width, height, *, frames=20, seed=0, total=0):
    return f"replay:noise?width={width}&height={height}&frames={frames}&seed={seed}&total={total}"


def source(name, uri, *models, more=""):
    return f'[sources.{name}]\nuri = "{uri}"\nmodels = {json.dumps(models)}\n{more}\n'


def lines(site, queue=100_000):
    return f'[sinks.lines]\ntype = "lines"\npath = "{site.lines}"\nqueue = {queue}\n'


# Lines


class CountedLine(Line):
    """Counts copies from when the last model was loaded and warm; `on_warm` is called at each such moment."""

    def __init__(self, file, on_warm=lambda: None):
        super().__init__(file)
        self._on_warm = on_warm
        self._before = {}

    def model_changed(self, model, state):
        super().model_changed(model, state)
        if state.state == "READY":
            self._before = self._counted()
            self._on_warm()

    def copied(self):
        """Return {kind: (copies, bytes)} since then."""
        changes = {
            kind: (copies - self._before.get(kind, (0, 0))[0], size - self._before.get(kind, (0, 0))[1])
            for kind, (copies, size) in self._counted().items()
        }
        return {kind: change for kind, change in changes.items() if any(change)}

    def graph_launches(self):
        """Return how many CUDA graphs the lanes have launched."""
        lanes = [lane for model in self.models.loaded() for lane in model.lanes]
        return sum(lane.runner.launched for lane in lanes)

    def _counted(self):
        counts = self.assembly.device.copies
        return {kind: (copies, counts.bytes[kind]) for kind, copies in counts.copies.snapshot().items()}


def run(site, text):
    """Run a line to its end; return its report and its results by (source, model, seq)."""
    with Line(site.load(text + lines(site))) as line:
        report = line.finish()
    demand_conservation(report)
    return report, by_key(site)


def by_key(site):
    results = site.results()
    found = {(result["source"], result["model"], result["seq"]): result for result in results}
    assert len(found) == len(results), "A result was published twice."
    return found


def on_host(tmp_path, models, text):
    """Return the results of the same line on onnxruntime; `models` are {name: (model, options of `add`)}."""
    site = make_site(tmp_path / "host")
    for name, (model, options) in models.items():
        add(site, name, model, runtime="onnxruntime", **options)
    _, results = run(site, text)
    return results


def demand_equal(results, expected, tolerance=LEVELS):
    """Compare raw tensors, result by result."""
    assert results.keys() == expected.keys()
    for key, result in results.items():
        [tensor], [right] = result["tensors"], expected[key]["tensors"]
        assert (tensor["name"], tensor["shape"]) == (right["name"], right["shape"]), key
        np.testing.assert_allclose(tensor["data"], right["data"], atol=tolerance, rtol=0, err_msg=str(key))


def demand_same_boxes(result, right, score_min):
    """Compare detections, but for those whose score is as good as at the threshold."""
    found, expected = _boxes(result), _boxes(right)
    for box in found.keys() ^ expected.keys():
        score = found.get(box, expected.get(box))
        assert abs(score - score_min) <= SCORES, f"Only one side has {box} with score {score}."
    for box in found.keys() & expected.keys():
        assert found[box] == pytest.approx(expected[box], abs=SCORES), box


def _boxes(result):
    return {(d["class_index"], *d["box_xyxy_px"]): d["score"] for d in result["detections"]}


# Every frame, once, and right


def test_frames_of_several_sources_give_what_the_host_gives(site, tmp_path):
    ssd = '[prepare]\nfit = "letterbox"\n[decode]\nkind = "ssd"\nscore_min = 0.5\n'
    models = {
        "twice": (times(2), {"config": BATCHED + TWO_LANES}),
        "ssd": (detector(), {"config": BATCHED, "settings": ssd}),
    }
    for name, (model, options) in models.items():
        add(site, name, model, **options)
    sizes = {"wide": (64, 48), "high": (40, 80), "same": (SIDE, SIDE)}
    text = "".join(
        source(name, noise(*size, seed=seed), *models) for seed, (name, size) in enumerate(sizes.items())
    )
    report, results = run(site, text)
    expected = on_host(tmp_path, models, text)
    assert len(results) == 2 * 3 * 20
    tensors, boxes = (
        [{key: result for key, result in side.items() if key[1] == name} for side in (results, expected)]
        for name in models
    )
    demand_equal(*tensors)
    assert sum(len(result["detections"]) for result in boxes[1].values()) > 100
    for key, right in boxes[1].items():
        demand_same_boxes(boxes[0][key], right, 0.5)
    for model in report.models.values():
        assert [version.failed for version in model.versions] == [0]


def test_a_frame_of_the_wrong_size_fails_alone(site, tmp_path):
    options = {"config": BATCHED, "settings": '[prepare]\nfit = "none"\n'}
    add(site, "twice", times(2), **options)
    good = source("good", noise(SIDE, SIDE, total=40), "twice")
    report, results = run(site, good + source("bad", noise(SIDE + 4, SIDE, total=40), "twice"))
    links = {name: source.models["twice"] for name, source in report.sources.items()}
    assert (links["good"].published, links["good"].dropped) == (40, {})
    assert (links["bad"].published, links["bad"].dropped) == (0, {"frame_error": 40})
    demand_equal(results, on_host(tmp_path, {"twice": (times(2), options)}, good))


# Where memory lies, and what is copied

FRAMES = 40
FRAME_BYTES = 64 * 48 * 3
OUTPUT_BYTES = 4 * int(np.prod(ITEM))
COPIES = {  # of FRAMES frames that two models read, each with one output
    "mapped": {},
    "registered": {},
    "managed": {},
    "staged": {
        "host_to_device": (FRAMES, FRAMES * FRAME_BYTES),
        "device_to_host": (2 * FRAMES, 2 * FRAMES * OUTPUT_BYTES),
    },
}


def add_two(site):
    """Write two models with two lanes each; return them as `on_host` takes them."""
    models = {name: (times(factor), {"config": SINGLE + TWO_LANES}) for name, factor in (("a", 1), ("b", 2))}
    for name, (model, options) in models.items():
        add(site, name, model, **options)
    return models


def placed(memory):
    return source("s", noise(64, 48, total=FRAMES), "a", "b") + f'[service]\nmemory = "{memory}"\n'


def demand_possible(memory):
    """Skip what this device says it cannot do; every GPU can do the other two."""
    device = open_device("cuda")
    reason = obstacle(device.driver.attributes(), memory)
    device.close()
    if reason and memory in ("registered", "managed"):
        pytest.skip(reason)
    assert not reason


@pytest.mark.parametrize("memory", COPIES)
def test_every_placement_is_right_and_copies_only_what_it_must(site, tmp_path, memory):
    demand_possible(memory)
    models = add_two(site)
    with CountedLine(site.load(placed(memory) + lines(site))) as line:
        demand_conservation(line.finish())
        assert line.assembly.device.memory.choice == memory
        copied = line.copied()
        launched = line.graph_launches()
    assert copied == COPIES[memory]
    assert launched == 2 * FRAMES
    demand_equal(by_key(site), on_host(tmp_path, models, source("s", noise(64, 48, total=FRAMES), *models)))


@pytest.fixture(scope="module")
def profiler():
    """Return torch.profiler, once it has traced something: it starts threads and opens files of its own."""
    torch = pytest.importorskip("torch", reason="needs torch, whose profiler counts copies")
    import torch.profiler as profiler

    if not torch.cuda.is_available():
        pytest.skip("needs a torch that is built for CUDA")
    torch.cuda.init()
    with traced(profiler):
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
    return profiler


def traced(profiler):
    """Return a profile of everything that the GPU does; CUPTI sees the driver's calls, not torch's alone."""
    return profiler.profile(activities=[profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.CUDA])


@pytest.mark.filterwarnings("ignore")  # of torch
@pytest.mark.parametrize("memory", ["staged", "mapped"])
def test_copies_are_counted_as_the_profiler_counts_them(site, tmp_path, profiler, memory):
    """The graphs are captured while the profiler watches: it may not see into others."""
    add_two(site)
    marks = []

    def begin():
        while marks:  # the models before were not the last
            marks.pop().__exit__(None, None, None)
        marks.append(profiler.record_function("traffic"))
        marks[-1].__enter__()

    with traced(profiler) as profile, CountedLine(site.load(placed(memory)), begin) as line:
        line.finish()
        marks.pop().__exit__(None, None, None)
        copied = line.copied()
        launched = line.graph_launches()
    assert launched == 2 * FRAMES
    path = tmp_path / "trace.json"
    profile.export_chrome_trace(str(path))
    events = traffic_events(json.loads(path.read_text("utf-8", "replace"), strict=False)["traceEvents"])
    kernels = sum(event.get("cat") == "kernel" for event in events)
    assert kernels >= 2 * FRAMES, f"The profiler saw {kernels} kernels: it does not see what edgert does."
    assert copies_in(events) == copied == COPIES[memory]


def traffic_events(events):
    """Return what began within the last range of that name."""
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "traffic" and _is_on_host(e)]
    assert spans, "The trace has no range `traffic`."
    begin, end = max(spans)
    return [event for event in events if event.get("ph") == "X" and begin <= event["ts"] <= end]


def _is_on_host(event):
    return event.get("ph") == "X" and event.get("cat") in ("user_annotation", "cpu_op")


def copies_in(events):
    """Return {kind: (copies, bytes)} of a trace's copies between host and device."""
    found = {}
    for name, kind in (("Memcpy HtoD", "host_to_device"), ("Memcpy DtoH", "device_to_host")):
        sizes = [int(event["args"]["bytes"]) for event in events if event["name"].startswith(name)]
        if sizes:
            found[kind] = (len(sizes), sum(sizes))
    return found


def test_a_trace_is_read_as_torch_writes_it():
    def event(name, ts, category, **args):
        return {"ph": "X", "name": name, "ts": ts, "dur": 10.0, "cat": category, "args": args}

    events = [
        {"ph": "M", "name": "process_name"},
        event("traffic", 0.0, "user_annotation") | {"dur": 50.0},
        event("Memcpy HtoD (Pageable -> Device)", 90.0, "gpu_memcpy", bytes=1000),
        event("traffic", 100.0, "user_annotation") | {"dur": 100.0},
        event("traffic", 120.0, "gpu_user_annotation") | {"dur": 50.0},
        event("Memcpy HtoD (Pinned -> Device)", 110.0, "gpu_memcpy", bytes=10),
        event("Memcpy HtoD (Pinned -> Device)", 130.0, "gpu_memcpy", bytes=10),
        event("Memcpy DtoH (Device -> Pinned)", 140.0, "gpu_memcpy", bytes=7),
        event("Memcpy DtoD (Device -> Device)", 141.0, "gpu_memcpy", bytes=5),
        event("prepare_frame", 142.0, "kernel"),
        event("Memcpy DtoH (Device -> Pageable)", 201.0, "gpu_memcpy", bytes=3),
    ]
    assert copies_in(traffic_events(events)) == {"host_to_device": (2, 20), "device_to_host": (1, 7)}


# Models that come and go

PICTURE = np.full((SIDE, SIDE, 3), 7, np.uint8)


class Asking:
    """A client that asks one model without pause. `answers` are `ok` or the status of a refusal."""

    def __init__(self, uri, model, value):
        self.answers = []
        self._arrived = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._ask, args=(uri, model, value))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over = True
        self._thread.join(WAIT_S)

    def wait_for(self, wanted, count=3):
        """Wait for this answer, `count` times from now on."""
        with self._arrived:
            begin = len(self.answers)
            arrived = self._arrived.wait_for(lambda: self.answers[begin:].count(wanted) >= count, WAIT_S)
        assert arrived, f"The last answers were {self.answers[-10:]}, not {wanted}."

    def _ask(self, uri, model, value):
        with Client(uri) as client:
            while not self._is_over:
                answer = self._once(client, model, value)
                with self._arrived:
                    self.answers.append(answer)
                    self._arrived.notify_all()

    @staticmethod
    def _once(client, model, value):
        try:
            result = client.infer(PICTURE, model, timeout_s=WAIT_S)
        except RequestError as refused:
            return refused.status
        except TimeoutError as late:
            return str(late)
        [tensor] = result["tensors"]
        is_right = np.allclose(tensor["data"], value, atol=LEVELS)
        return "ok" if is_right else f"wrong: {tensor['data'][:5]} ..."


def serving(site, *models):
    """Return the endpoint and the file of a line that answers requests; two slots are soon both in use."""
    uri = f"router+bind:ipc://{site.folder}/in"
    quiet = '[sinks.lines]\ntype = "lines"\npath = "/dev/null"\n'
    return uri, site.load(source("in", uri, *models, more="slots = 2") + quiet)


def held(line, model):
    """Return what can be told of the memory that loading a model must give back."""
    usage = line.assembly.allocations().owners[f"model {model}/1"]
    live = {name: count for name, count in LiveCount.snapshot().items() if name != "claimed slot"}
    return usage.used_bytes, usage.count, live


def free_bytes(line):
    return line.assembly.device.driver.memory_info()[0]


def test_twenty_loads_and_unloads_under_traffic_fail_no_request_and_leave_nothing(site):
    add(site, "steady", times(2))
    add(site, "moving", times(3))
    uri, file = serving(site, "steady", "moving")
    with Line(file) as line:
        with Asking(uri, "steady", 14) as steady, Asking(uri, "moving", 21) as moving:

            def cycle():
                line.models.unload("moving")
                moving.wait_for("model_error")
                line.models.load(file.plan("moving"))
                moving.wait_for("ok")
                steady.wait_for("ok")

            for _ in range(3):  # what the driver keeps for good, it has after these
                cycle()
            before, free_before = held(line, "moving"), free_bytes(line)
            for _ in range(20):
                cycle()
            after, free_after = held(line, "moving"), free_bytes(line)
        links = line.drain().sources["in"].models
    for link in links.values():
        assert link.admitted == link.published + sum(link.dropped.values())
    assert set(steady.answers) == {"ok"}
    assert set(moving.answers) == {"ok", "model_error"}
    assert (links["steady"].dropped, set(links["moving"].dropped)) == ({}, {"no_model"})
    assert after == before
    assert free_before - free_after <= LEAK_BYTES


def test_a_model_that_is_replaced_under_traffic_answers_every_request(site):
    add(site, "moving", times(3))
    uri, file = serving(site, "moving")
    with Line(file) as line:
        with Asking(uri, "moving", 21) as one, Asking(uri, "moving", 21) as other:
            for _ in range(10):
                line.models.load(file.plan("moving"))
                one.wait_for("ok")
                other.wait_for("ok")
        report = line.drain()
    demand_conservation(report)
    assert (set(one.answers), set(other.answers)) == ({"ok"}, {"ok"})
    assert report.sources["in"].models["moving"].dropped == {}


# Budgets and scratch memory

BUDGET_MB = 16


@pytest.mark.parametrize("big", ["tensors", "weights"])
@pytest.mark.parametrize("bound", ["service", "engine"])
def test_memory_beyond_a_budget_is_refused_with_who_holds_what_and_the_rest_goes_on(site, bound, big):
    model = heavy() if big == "weights" else times(2, side=512)
    engine = "memory_mb = 1" if bound == "engine" else ""
    add(site, "small", times(2))
    add(site, "big", model, config="max_batch_size: 8\ndynamic_batching { }\n", engine=engine, largest=8)
    budget = f"[service]\nmemory_mb = {BUDGET_MB}\n" if bound == "service" else ""
    limit = BUDGET_MB << 20 if bound == "service" else 1 << 20
    told = {
        "service": rf"Asked for \d+ bytes with \d+ of {limit} in use \(.*model small/1 \d+.*Raise the memory",
        "engine": rf"Asked for \d+ bytes with \d+ of {limit} in use by model big/1\. Raise its memory_mb",
    }
    text = source("s", noise(64, 48), "small", more="loop = true") + budget
    with Line(site.load(text)) as line:
        with pytest.raises(OutOfDeviceMemoryError, match=told[bound]):
            line.models.load(line.file.plan("big"))
        assert line.assembly.allocations().owners["model big/1"].used_bytes == 0
        wait_for_frames(line, "s", "small", 50)
        report = line.drain()
    demand_conservation(report)
    assert report.sources["s"].models["small"].dropped == {}
    assert (report.models["small"].state, report.models["big"].state) == ("READY", "UNAVAILABLE")


def wait_for_frames(line, name, model, count):
    """Wait until so many more results were published."""

    def published():
        return line.assembly.source_report(name).models[model].published

    begin, deadline = published(), time.monotonic() + WAIT_S
    while published() < begin + count:
        assert time.monotonic() < deadline, f"{published() - begin} of {count} frames came out."
        time.sleep(0.01)


def test_models_that_share_scratch_memory_have_one_buffer_and_are_right(site, tmp_path):
    options = {"config": SINGLE + TWO_LANES, "engine": 'scratch_group = "both"'}
    models = {"a": (convolutions(0), options), "b": (convolutions(1), options)}
    for name, (model, more) in models.items():
        add(site, name, model, **more)
    text = "".join(source(f"s{n}", noise(64, 48, seed=n, total=200), *models) for n in range(2))
    with Line(site.load(text + lines(site))) as line:
        scratch = line.assembly.allocations().owners["scratch group both"]
        demand_conservation(line.finish())
        # A model that needs more than the one before brings a larger buffer; the old one goes when all moved.
        after = line.assembly.allocations().owners["scratch group both"]
    assert after.count == 1
    assert scratch.used_bytes > 1 << 16, "These models need no scratch memory: the test says nothing."
    expected = on_host(tmp_path, models, text)
    largest = max(np.abs(result["tensors"][0]["data"]).max() for result in expected.values())
    demand_equal(by_key(site), expected, tolerance=0.01 * largest)  # products are rounded to 10 bits (TF32)

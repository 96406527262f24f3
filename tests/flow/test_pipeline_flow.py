"""Whole pipelines in this process: frames in memory, real engines on the CPU, results in a file."""

from __future__ import annotations

import fcntl
import os
from collections import Counter

import msgspec
import numpy as np
import pytest
import zmq
from jsonschema import Draft202012Validator

from edgert.capture.replay import make_noise
from edgert.client import Client, RequestError
from edgert.errors import ModelError
from edgert.publish.payload import result_schema
from tests.fakes import store
from tests.fakes.line import WAIT_S, Line, demand_conservation, run
from tests.fakes.store import EXACT, Site, noise

DARK, BRIGHT = np.full((8, 8, 3), 40, np.uint8), np.full((8, 8, 3), 250, np.uint8)
BATCHING = "max_batch_size: 4\ndynamic_batching { max_queue_delay_microseconds: 60000000 }\n"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def means(frames, seed=0, offset=0.0):
    """Return what `mean_model` says of the pictures of `noise(frames, seed=seed)`, in RGB."""
    return [picture.mean(axis=(0, 1))[::-1] + offset for picture in make_noise(8, 8, frames, seed)]


def by_key(results):
    """Return results by (source, model, seq). Each may be there once."""
    found = {(result["source"], result["model"], result["seq"]): result for result in results}
    assert len(found) == len(results), "A result was published twice."
    return found


def data(result):
    [tensor] = result["tensors"]
    return tensor["data"]


# Every frame, once, and right


def test_every_frame_comes_out_once_with_the_means_that_numpy_has(site):
    site.add("mean", store.mean_model())
    file = site.load(
        "".join(f'[sources.s{n}]\nuri = "{noise(20, seed=n)}"\nmodels = ["mean"]\n' for n in range(3))
    )
    report = run(file)
    demand_conservation(report)
    results = by_key(site.results())
    assert results.keys() == {(f"s{n}", "mean", seq) for n in range(3) for seq in range(20)}
    for n in range(3):
        got = [data(results[f"s{n}", "mean", seq]) for seq in range(20)]
        np.testing.assert_allclose(got, means(20, seed=n), rtol=1e-5)
    assert {name: sink.sent for name, sink in report.sinks.items()} == {"lines": 60}


def test_results_are_what_the_schema_says(site):
    site.add("mean", store.mean_model())
    site.add("ssd", store.ssd_model(), settings=EXACT + '[decode]\nkind = "ssd"\n')
    site.add("top", store.mean_model(), settings=EXACT + '[decode]\nkind = "classify"\ntop_k = 2\n')
    run(site.load(f'[sources.s]\nuri = "{noise(2)}"\nmodels = ["mean", "ssd", "top"]\n'))
    validator = Draft202012Validator(result_schema())
    results = site.results()
    assert len(results) == 6
    for result in results:
        validator.validate(result)
        assert (result["node"], result["boot"], result["size"]) == ("here", "boot", [8, 8])


def test_several_models_read_each_slot_of_several_sources(site):
    site.add("mean", store.mean_model())
    site.add("ssd", store.ssd_model(), settings=EXACT + '[decode]\nkind = "ssd"\n')
    site.add("top", store.mean_model(), settings=EXACT + '[decode]\nkind = "classify"\ntop_k = 1\n')
    text = '[sources.{0}]\nuri = "{1}"\nmodels = ["mean", "ssd", "top"]\nslots = 2\n'
    report = run(site.load(text.format("a", noise(30)) + text.format("b", noise(30, seed=1))))
    demand_conservation(report)
    results = by_key(site.results())
    assert Counter(model for _, model, _ in results) == {"mean": 60, "ssd": 60, "top": 60}
    for (source, model, seq), result in results.items():
        if model == "top":
            expected = means(30, seed="ab".index(source))[seq]
            assert result["classes"][0]["class_index"] == int(np.argmax(expected))


def test_boxes_come_back_in_the_pixels_of_the_source(site):
    settings = '[prepare]\nfit = "letterbox"\n[decode]\nkind = "ssd"\nscore_min = 0.8\n'
    settings += '[labels]\nfile = "labels.txt"\n'
    site.add("ssd", store.ssd_model(), settings=settings, labels="cat\ndog\n")
    uri = "replay:noise?width=64&height=32&frames=1"
    run(site.load(f'[sources.wide]\nuri = "{uri}"\nmodels = ["ssd"]\n'))
    [result] = site.results()
    # 64x32 stands as 8x4 in rows 2 to 6 of the tensor: a tensor pixel is 8 of the source.
    assert result["detections"] == [
        {"label": "cat", "class_index": 0, "score": 0.875, "box_xyxy_px": [8.0, 0.0, 32.0, 32.0]}
    ]


def test_model_without_any_description_runs(site):
    site.add("mean", store.mean_model(), settings=None)
    run(site.load(f'[sources.s]\nuri = "{noise(6)}"\nmodels = ["mean"]\n'))
    assert sorted(result["seq"] for result in site.results()) == list(range(6))


def test_two_lanes_share_the_frames(site):
    site.add("mean", store.mean_model(), config="instance_group [ { count: 2 } ]\n")
    report = run(site.load(f'[sources.s]\nuri = "{noise(10, total=200)}"\nmodels = ["mean"]\n'))
    demand_conservation(report)
    assert sorted(result["seq"] for result in site.results()) == list(range(200))
    [version] = report.models["mean"].versions
    assert (version.lanes, version.frames, version.failed) == (2, 200, 0)


def test_model_that_computes_nothing_carries_every_frame(site):
    site.add_noop()
    report = run(site.load(f'[sources.s]\nuri = "{noise(1, size=64, total=2000)}"\nmodels = ["noop"]\n'))
    demand_conservation(report)
    assert report.sources["s"].models["noop"].published == 2000


def test_memory_is_given_back_to_the_budget(site):
    site.add("mean", store.mean_model())
    file = site.load(f'[sources.s]\nuri = "{noise(5)}"\nmodels = ["mean"]\n')
    with Line(file) as line:
        assert line.finish().memory.used_bytes > 0
    assert line.assembly.report().memory.used_bytes == 0


# Batches


def test_frames_of_four_sources_run_in_one_batch(site):
    site.add("mean", store.mean_model(), config=BATCHING)
    text = "".join(f'[sources.s{n}]\nuri = "{noise(1, seed=n)}"\nmodels = ["mean"]\n' for n in range(4))
    report = run(site.load(text))
    [version] = report.models["mean"].versions
    assert (version.batches, version.frames) == (1, 4)
    results = by_key(site.results())
    for n in range(4):
        np.testing.assert_allclose(data(results[f"s{n}", "mean", 0]), means(1, seed=n)[0], rtol=1e-5)


def test_frames_are_gathered_only_where_the_configuration_says_so(site):
    site.add("mean", store.mean_model(), config="max_batch_size: 4\n")
    report = run(site.load(f'[sources.s]\nuri = "{noise(12)}"\nmodels = ["mean"]\n'))
    [version] = report.models["mean"].versions
    assert (version.batches, version.frames) == (12, 12)


def test_preferred_size_goes_at_once(site):
    site.add("mean", store.mean_model(), config=BATCHING.replace("{ ", "{ preferred_batch_size: [ 2 ] "))
    text = "".join(f'[sources.s{n}]\nuri = "{noise(1)}"\nmodels = ["mean"]\n' for n in range(2))
    [version] = run(site.load(text)).models["mean"].versions
    assert (version.batches, version.frames) == (1, 2)


def test_incomplete_batch_goes_when_its_delay_is_over(site):
    site.add("mean", store.mean_model(), config=BATCHING.replace("60000000", "1000"))
    [version] = (
        run(site.load(f'[sources.s]\nuri = "{noise(3)}"\nmodels = ["mean"]\n')).models["mean"].versions
    )
    assert version.frames == 3


def test_engine_of_a_fixed_batch_is_fed_with_what_there_is(site):
    site.add("mean", store.mean_model(batch="4"), settings=EXACT)
    report = run(site.load(f'[sources.s]\nuri = "{noise(7)}"\nmodels = ["mean"]\n'))
    demand_conservation(report)
    results = by_key(site.results())
    got = [data(results["s", "mean", seq]) for seq in range(7)]
    np.testing.assert_allclose(got, means(7), rtol=1e-5)


# Sizes that vary, sizes of zero


def test_frames_of_different_sizes_never_share_a_batch(site):
    config = "max_batch_size: 4\ndynamic_batching { }\n"
    site.add("mean", store.mean_model(side="side"), config=config, settings='[prepare]\nfit = "none"\n')
    text = "".join(
        f'[sources.s{size}]\nuri = "{noise(10, size=size)}"\nmodels = ["mean"]\n' for size in (8, 10, 16)
    )
    report = run(site.load(text))
    demand_conservation(report)
    results = by_key(site.results())
    for size in (8, 10, 16):
        expected = [picture.mean(axis=(0, 1))[::-1] for picture in make_noise(size, size, 10, 0)]
        got = [data(results[f"s{size}", "mean", seq]) for seq in range(10)]
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_sides_that_the_engine_leaves_open_take_the_size_of_the_settings(site):
    settings = '[prepare]\nfit = "stretch"\nsize = [16, 8]\n[decode]\nkind = "tensors"\n'
    site.add("mean", store.mean_model(side="side"), settings=settings)
    run(site.load(f'[sources.s]\nuri = "{noise(3)}"\nmodels = ["mean"]\n'))
    got = [data(result) for result in sorted(site.results(), key=lambda result: result["seq"])]
    np.testing.assert_allclose(got, means(3), atol=8)  # enlarging moves the mean a little


def test_sides_that_the_engine_leaves_open_take_the_size_of_the_configuration(site):
    config = 'max_batch_size: 4\ninput [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 4, 4 ] } ]\n'
    site.add("mean", store.mean_model(side="side"), config=config)
    run(site.load(f'[sources.s]\nuri = "{noise(2, size=4)}"\nmodels = ["mean"]\n'))
    got = [data(result) for result in sorted(site.results(), key=lambda result: result["seq"])]
    expected = [picture.mean(axis=(0, 1))[::-1] for picture in make_noise(4, 4, 2, 0)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


RESHAPED = """\
max_batch_size: 4
dynamic_batching { }
input [ { name: "row" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] reshape { shape: [ 192 ] } } ]
output [ { name: "level" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
"""


def test_tensors_that_the_configuration_reshapes_look_as_it_says(site):
    site.add("flat", store.flat_model(), config=RESHAPED)
    report = run(site.load(f'[sources.s]\nuri = "{noise(9)}"\nmodels = ["flat"]\n'))
    demand_conservation(report)
    results = by_key(site.results())
    got = [results["s", "flat", seq]["tensors"][0] for seq in range(9)]
    assert {tuple(tensor["shape"]) for tensor in got} == {(1,)}
    expected = [[picture.mean()] for picture in make_noise(8, 8, 9, 0)]
    np.testing.assert_allclose([tensor["data"] for tensor in got], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RESHAPED.replace("max_batch_size: 4", "max_batch_size: 0"), "max_batch_size"),
        (RESHAPED.replace("3, 8, 8", "3, -1, 8").replace("[ 192 ]", "[ 3, -1, 8 ]"), "row"),
    ],
)
def test_reshape_that_cannot_be_is_refused(site, config, said):
    site.add("flat", store.flat_model(), config=config)
    with pytest.raises(ModelError, match=said):
        run(site.load(f'[sources.s]\nuri = "{noise(1)}"\nmodels = ["flat"]\n'))


@pytest.fixture
def requests(site):
    """Return a function that starts a line with a request source, and gives it and its client."""
    opened = []

    def start(models, extra=""):
        uri = f"router+bind:ipc://{site.folder}/in"
        names = ", ".join(f'"{model}"' for model in models)
        line = Line(site.load(f'[sources.in]\nuri = "{uri}"\nmodels = [{names}]\n{extra}'))
        opened.append(line.__enter__())
        client = Client(uri)
        opened.append(client)
        return line, client

    yield start
    for thing in reversed(opened):
        thing.__exit__(None, None, None)


def test_outputs_may_have_no_rows(site, requests):
    settings = EXACT + '[decode]\nkind = "yolo"\nhead = "end2end"\nscore_min = 0.1\n'
    site.add("ends", store.ends_model(), settings=settings)
    line, client = requests(["ends"])
    counts = [len(client.infer(picture)["detections"]) for picture in (DARK, BRIGHT, DARK, BRIGHT)]
    assert counts == [3, 0, 3, 0]
    demand_conservation(line.drain())


def test_picture_of_the_wrong_size_is_refused_where_none_is_resized(site, requests):
    site.add("mean", store.mean_model(), settings='[prepare]\nfit = "none"\n')
    line, client = requests(["mean"])
    with pytest.raises(
        RequestError, match=r"A frame of 8x9 becomes .*\[3, 9, 8\]; model mean takes \[3, 8, 8\]"
    ) as refused:
        client.infer(np.zeros((9, 8, 3), np.uint8))
    assert refused.value.status == "frame_error"
    assert data(client.infer(DARK)) == [40, 40, 40]
    assert line.drain().sources["in"].models["mean"].dropped == {"frame_error": 1}


# Versions


def test_a_source_gets_the_newest_version_or_the_one_it_names(site):
    for version in (1, 2, 10):
        site.add("mean", store.mean_model(offset=version * 1000), version=version)
    site.add("mean", config="version_policy { all { } }\n")
    text = "".join(
        f'[sources.{name}]\nuri = "{noise(3)}"\nmodels = ["{model}"]\n'
        for name, model in (("newest", "mean"), ("first", "mean/1"), ("second", "mean/2"))
    )
    report = run(site.load(text))
    demand_conservation(report)
    assert [version.version for version in report.models["mean"].versions] == [1, 2, 10]
    results = by_key(site.results())
    for source, version in (("newest", 10), ("first", 1), ("second", 2)):
        found = [results[source, "mean", seq] for seq in range(3)]
        assert {result["version"] for result in found} == {version}
        np.testing.assert_allclose(
            [data(result) for result in found], means(3, offset=version * 1000), rtol=1e-5
        )


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("latest { num_versions: 2 }", [2, 3]),
        ("specific { versions: [ 1, 3 ] }", [1, 3]),
        ("latest { }", [3]),
    ],
)
def test_version_policy_decides_what_is_loaded(site, policy, served):
    for version in (1, 2, 3):
        site.add("mean", store.mean_model(), version=version, config=f"version_policy {{ {policy} }}\n")
    report = run(site.load(f'[sources.s]\nuri = "{noise(1)}"\nmodels = ["mean"]\n'))
    assert [version.version for version in report.models["mean"].versions] == served
    assert site.results()[0]["version"] == 3


# What is dropped is counted


def test_live_source_keeps_the_newest_and_counts_the_rest(site):
    site.add("slow", store.slow_model(1))
    site.add_noop()
    text = f'[sources.live]\nuri = "{noise(4, total=400)}"\npolicy = "latest"\nslots = 8\n'
    text += 'models = ["slow", "noop"]\n'  # one waits and one is prepared for each: 8 are always enough
    report = run(site.load(text))
    demand_conservation(report)
    live = report.sources["live"]
    assert live.frames == 400
    slow = live.models["slow"]
    assert set(slow.dropped) == {"superseded"}
    assert slow.dropped["superseded"] > 0
    results = by_key(site.results())
    assert len([key for key in results if key[1] == "slow"]) == slow.published
    last_admitted = max(seq for _, model, seq in results if model == "slow")
    assert last_admitted == max(seq for _, model, seq in results if model == "noop")


def test_frame_that_has_waited_too_long_is_shed(site):
    site.add("slow", store.slow_model(2))
    text = f'[sources.s]\nuri = "{noise(12)}"\nmodels = ["slow"]\nmax_age_ms = 1\n'
    report = run(site.load(text))
    demand_conservation(report)
    link = report.sources["s"].models["slow"]
    assert link.dropped.keys() == {"stale"}
    assert link.published >= 1


def test_batch_that_fails_in_the_engine_is_counted_and_answered_and_the_next_runs(site, requests):
    site.add("picky", store.failing_model())
    site.add("mean", store.mean_model())
    line, client = requests(["picky", "mean"])
    assert data(client.infer(DARK, model="picky")) == [42.0]
    with pytest.raises(RequestError, match="out of data bounds") as failed:
        client.infer(BRIGHT, model="picky")
    assert failed.value.status == "model_error"
    assert data(client.infer(BRIGHT, model="mean")) == [250, 250, 250]
    assert data(client.infer(DARK, model="picky")) == [42.0]
    report = line.drain()
    picky = report.sources["in"].models["picky"]
    assert (picky.admitted, picky.published, picky.dropped) == (3, 2, {"model_error": 1})
    assert [(version.frames, version.failed) for version in report.models["picky"].versions] == [(3, 1)]


def test_outputs_that_cannot_be_decoded_are_counted_and_answered(site, requests):
    site.add("odd", store.undecodable_model(), settings=EXACT + '[decode]\nkind = "ssd"\n')
    line, client = requests(["odd"])
    assert len(client.infer(DARK)["detections"]) == 2
    with pytest.raises(RequestError, match="outputs cannot be decoded") as failed:
        client.infer(BRIGHT)
    assert failed.value.status == "model_error"
    assert len(client.infer(DARK)["detections"]) == 2
    report = line.drain()
    odd = report.sources["in"].models["odd"]
    assert (odd.admitted, odd.published, odd.dropped) == (3, 2, {"model_error": 1})
    assert [(version.frames, version.failed) for version in report.models["odd"].versions] == [(3, 1)]


def test_output_without_the_batch_axis_that_it_promised_fails_frame_by_frame(site):
    site.add("loose", store.loose_model())
    report = run(site.load(f'[sources.s]\nuri = "{noise(8)}"\nmodels = ["loose"]\n'))
    demand_conservation(report)
    assert report.sources["s"].models["loose"].dropped == {"model_error": 8}
    assert [version.failed for version in report.models["loose"].versions] == [8]


def test_lasting_fault_of_a_model_is_said_once(site, caplog):
    site.add("loose", store.loose_model())
    run(site.load(f'[sources.s]\nuri = "{noise(30)}"\nmodels = ["loose"]\n'))
    said = [record for record in caplog.records if "cannot be decoded" in record.getMessage()]
    assert sum(record.levelname == "WARNING" for record in said) == 1


def test_request_has_to_say_which_of_several_models_it_means(site, requests):
    site.add("mean", store.mean_model())
    site.add("other", store.mean_model(offset=500))
    line, client = requests(["mean", "other"])
    with pytest.raises(RequestError, match="names model none; source 'in' feeds mean, other"):
        client.infer(DARK)
    with pytest.raises(RequestError, match="names model 'cat'; source 'in' feeds mean, other"):
        client.infer(DARK, model="cat")
    assert data(client.infer(DARK, model="other")) == [540, 540, 540]
    source = line.drain().sources["in"]
    assert (source.frames, source.refused) == (3, {"model_error": 2})


# Receivers


def test_slow_reader_of_lines_loses_results_but_holds_up_nobody(site):
    site.add("mean", store.mean_model())
    os.mkfifo(site.lines)
    reader = os.open(site.lines, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, 1031, 4096)  # F_SETPIPE_SZ: room for a dozen results
    sink = f'[sinks.lines]\ntype = "lines"\npath = "{site.lines}"\nqueue = 2\n'
    try:
        with Line(site.load(f'[sources.s]\nuri = "{noise(100)}"\nmodels = ["mean"]\n{sink}')) as line:
            report = line.finish()
            demand_conservation(report)
            assert report.sources["s"].models["mean"].published == 100
            assert report.sinks["lines"].dropped["queue_full"] > 50
            os.set_blocking(reader, False)
            while (
                line.assembly.report().sinks["lines"].sent
                + line.assembly.report().sinks["lines"].dropped["queue_full"]
                < 100
            ):
                try:
                    os.read(reader, 65536)
                except BlockingIOError:
                    continue
    finally:
        os.close(reader)


def test_tap_sends_pixels_with_their_result(site, requests):
    site.add("mean", store.mean_model())
    endpoint = f"ipc://{site.folder}/tap"
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    try:
        subscriber.setsockopt(zmq.SUBSCRIBE, b"in")
        subscriber.bind(endpoint)
        sinks = f'[sinks.tap]\ntype = "tap"\nendpoint = "pub+connect:{endpoint}"\nframes_per_s = 0\n'
        line, client = requests(["mean"], sinks)
        for _ in range(1000):  # a PUB socket sends nothing before it knows of its subscriber
            answer = client.infer(DARK)
            if subscriber.poll(10):
                break
        source, header, pixels = subscriber.recv_multipart()
        header = msgspec.msgpack.decode(header)
        assert (source, pixels) == (b"in", DARK.tobytes())
        assert (header["format"], header["height"], header["width"]) == ("bgr8", 8, 8)
        assert data(msgspec.json.decode(header["result"])) == data(answer) == [40, 40, 40]
        report = line.drain()
        demand_conservation(report)
        assert report.sinks["tap"].sent == report.sources["in"].frames
    finally:
        subscriber.close(linger=0)
        context.term()


def test_frames_that_fail_or_are_dropped_leave_no_slot_to_the_tap(site, requests):
    site.add("picky", store.failing_model())
    sinks = f'[sinks.tap]\ntype = "tap"\nendpoint = "pub+bind:ipc://{site.folder}/tap"\nframes_per_s = 0\n'
    line, client = requests(["picky"], sinks)
    for _ in range(20):
        with pytest.raises(RequestError):
            client.infer(BRIGHT, timeout_s=WAIT_S)
    report = line.drain()
    demand_conservation(report)
    assert report.sources["in"].models["picky"].dropped == {"model_error": 20}

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.observe import observation as module
from edgert.calibrate.observe.observation import Observation, ObservationState, Observer
from edgert.errors import ModelError
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import node, parameters, plain, random, read, run

FRAMES = [(f"{index}.png", random(3, 6, 6, seed=index) * (index + 1)) for index in range(5)]
TENSORS = ("image", "maps", "positive")


def info_of(model):
    with open_host_model(model.file.path, model.proto) as opened:
        return opened.info


def observer_of(tmp_path, model, tensors=TENSORS):
    source = read(tmp_path, model)
    return Observer(source, info_of(source), tensors)


def observed(observer, frames=FRAMES, state=None):
    observation = Observation(state)
    observer.observe(observation, lambda: frames, lambda: None, lambda: None)
    return observation


def same(one, other):
    assert msgspec.msgpack.encode(one.state(), order="sorted") == msgspec.msgpack.encode(
        other.state(), order="sorted"
    )


def tensor_values(model, tensor, frames=FRAMES):
    """Return what onnxruntime makes of the frames, by a marked output."""
    marked = type(model)()
    marked.CopyFrom(model)
    if tensor not in [value.name for value in marked.graph.output]:
        marked.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * 4))
    names = [value.name for value in marked.graph.output]
    return np.concatenate([run(marked, {"image": each[None]})[names.index(tensor)] for _name, each in frames])


# What is counted


def test_each_tensor_is_counted_whole(tmp_path):
    observation = observed(observer_of(tmp_path, plain()))
    assert set(observation.histograms) == set(TENSORS)
    for tensor in ("maps", "positive"):
        values, histogram = tensor_values(plain(), tensor), observation.histograms[tensor]
        assert histogram.count == values.size
        assert histogram.zeros == np.count_nonzero(values == 0)
        assert (histogram.low, histogram.high) == pytest.approx((values.min(), values.max()), rel=1e-5)
        np.testing.assert_allclose(
            observation.channel_means()[tensor], values.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5
        )
        assert observation.frames_of(tensor) == 5
    assert observation.frames_of("out") == 0


def test_the_input_is_counted_as_it_is(tmp_path):
    observation = observed(observer_of(tmp_path, plain(), ["image"]))
    pictures = np.stack([tensor for _name, tensor in FRAMES])
    assert observation.histograms["image"].amax == np.abs(pictures).max()
    assert observation.histograms["image"].count == pictures.size
    means = observation.channel_means()["image"]
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, pictures.mean(axis=(0, 2, 3)), rtol=1e-5)


def test_a_tensor_that_is_an_output_too_is_counted(tmp_path):
    observation = observed(observer_of(tmp_path, plain(), ["out", "positive"]))
    assert observation.histograms["out"].amax == pytest.approx(np.abs(tensor_values(plain(), "out")).max())


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_every_batch_size_gives_the_same_picture(tmp_path, batch):
    expected = observed(observer_of(tmp_path / "one", plain(batch=1)))
    observation = observed(observer_of(tmp_path, plain(batch=batch)))
    for tensor in TENSORS:
        assert observation.histograms[tensor].amax == pytest.approx(expected.histograms[tensor].amax)
        np.testing.assert_allclose(
            observation.channel_means()[tensor], expected.channel_means()[tensor], rtol=1e-5
        )


def test_open_sides_are_those_of_the_frames(tmp_path):
    model = plain()
    for value in (model.graph.input[0], model.graph.output[0]):
        for side in value.type.tensor_type.shape.dim[2:]:
            side.Clear()
    observer = observer_of(tmp_path, model)
    observation = observed(observer)
    same(observation, observed(observer_of(tmp_path / "known", plain())))
    wide = random(3, 4, 9)
    assert observed(observer, [("wide.png", wide)]).histograms["maps"].count == 4 * 4 * 9


def test_a_model_without_a_batch_axis_is_fed_the_picture(tmp_path):
    nodes = [
        node("Unsqueeze", ["x", "first"], ["image"]),
        node("Conv", ["image", "one.w", "one.b"], ["maps"], "one"),
        node("Squeeze", ["maps", "first"], ["out"]),
    ]
    constants = parameters(one=(4, 3, 1, 1)) | {"first": np.zeros(1, np.int64)}
    observer = observer_of(tmp_path, graph(nodes, {"x": [3, 6, 6]}, {"out": [4, 6, 6]}, constants), ["image"])
    assert observed(observer).histograms["image"].count == 5 * 3 * 6 * 6


def test_a_model_without_a_batch_axis_has_means_by_its_own_axes(tmp_path):
    nodes = [
        node("Gemm", ["x", "w", "b"], ["product"], "layer"),
        node("Transpose", ["product"], ["out"], perm=[1, 0]),
    ]
    model = graph(nodes, {"x": [5, 4]}, {"out": [3, 5]}, {"w": random(4, 3), "b": random(3)})
    rows = random(5, 4)
    means = observed(observer_of(tmp_path, model, ["x"]), [("rows", rows)]).channel_means()["x"]
    np.testing.assert_allclose(means, rows.mean(axis=0), rtol=1e-5)


def test_an_axis_within_the_graph_that_is_no_batch_axis_is_left(tmp_path):
    """Windows of a picture, as one batch: variable, and not of the batch's size."""
    nodes = [
        node("Reshape", ["image", "windows"], ["split"]),
        node("MatMul", ["split", "w"], ["mixed"], "layer"),
        node("Reshape", ["mixed", "whole"], ["out"]),
    ]
    constants = {
        "windows": np.array([-1, 9], np.int64),
        "whole": np.array([-1, 3, 6, 6], np.int64),
        "w": random(9, 9),
    }
    model = graph(nodes, {"image": ["n", 3, 6, 6]}, {"out": ["n", 3, 6, 6]}, constants)
    observation = observed(observer_of(tmp_path, model, ["split"]))
    assert observation.histograms["split"].count == 5 * 3 * 6 * 6
    assert observation.channel_means()["split"].shape == (9,)


# Chunks


def test_chunks_are_as_large_as_the_bytes_allow(tmp_path, monkeypatch):
    sizes = {"image": 4 * 3 * 36, "maps": 4 * 4 * 36, "positive": 4 * 4 * 36}
    monkeypatch.setattr(module, "CHUNK_BYTES", sizes["image"] + sizes["maps"])
    assert observer_of(tmp_path, plain()).chunks == [["image", "maps"], ["positive"]]
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert observer_of(tmp_path, plain()).chunks == [["image"], ["maps"], ["positive"]]


def test_tensors_of_unknown_shape_are_taken_for_large(tmp_path, monkeypatch):
    model = plain()
    model.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    model.graph.output[0].type.tensor_type.shape.dim[2].Clear()
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * module.UNKNOWN_BYTES)
    assert observer_of(tmp_path, model).chunks == [["image", "maps"], ["positive"]]


def test_several_chunks_see_what_one_sees(tmp_path, monkeypatch):
    whole = observed(observer_of(tmp_path, plain()))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    observer, seen, saved = observer_of(tmp_path, plain()), [], []
    observation = Observation()
    observer.observe(observation, lambda: FRAMES, lambda: seen.append(1), lambda: saved.append(1))
    same(observation, whole)
    assert (len(seen), len(saved)) == (3 * 5, 3)


# Stops


class Stop(Exception):  # noqa: N818 - no error
    pass


@pytest.mark.parametrize("stop_after", range(16))
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_after_a_stop_at_any_frame_the_rest_gives_the_same_bits(
    tmp_path, monkeypatch, stop_after, chunk_bytes
):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(module, "CHECKPOINT_FRAMES", 2)
    observer = observer_of(tmp_path, plain())
    saved, left = [msgspec.msgpack.encode(ObservationState({}, {}, {}, {}))], [stop_after]
    observation = Observation()

    def on_frame():
        left[0] -= 1
        if left[0] < 0:
            raise Stop

    def checkpoint():
        saved.append(msgspec.msgpack.encode(observation.state()))

    try:
        observer.observe(observation, lambda: FRAMES, on_frame, checkpoint)
    except Stop:
        assert stop_after < 5 * len(observer.chunks)
    state = msgspec.msgpack.decode(saved[-1], type=ObservationState)
    same(observed(observer, state=state), observed(observer))


def test_a_state_with_other_chunks_is_gone_on_with(tmp_path, monkeypatch):
    """What one tensor was seen in already is not counted again with its neighbours."""
    state = observed(observer_of(tmp_path, plain(), ["maps"])).state()
    same(observed(observer_of(tmp_path, plain()), state=state), observed(observer_of(tmp_path, plain())))


def test_what_was_seen_is_not_run_again(tmp_path):
    observer = observer_of(tmp_path, plain())
    state, seen = observed(observer).state(), []
    observer.observe(Observation(state), lambda: FRAMES, lambda: seen.append(1), lambda: None)
    assert seen == []


# Bad values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_tensor_and_frame(tmp_path, value):
    bad = FRAMES[2][1].copy()
    bad[1, 3, 3] = value
    frames = [*FRAMES[:2], ("spoilt.png", bad)]
    with pytest.raises(
        ModelError, match=r"Tensor 'image' holds 1 values that are NaN or Inf, frame spoilt\.png"
    ):
        observed(observer_of(tmp_path, plain()), frames)
    with pytest.raises(ModelError, match=r"Tensor 'maps' holds \d+ values .*frame spoilt\.png.*\[prepare\]"):
        observed(observer_of(tmp_path, plain(), ["maps"]), frames)


def test_a_tensor_that_is_empty_in_a_frame_keeps_its_means():
    """Regions of a detector, where it found none."""
    observation = Observation()
    observation.add("regions", np.full((2, 3, 1, 1), 4, np.float32), "one")
    observation.add("regions", np.empty((0, 3, 1, 1), np.float32), "two")
    np.testing.assert_array_equal(observation.channel_means()["regions"], np.full(3, 4))
    assert observation.frames_of("regions") == 2


def test_channels_that_change_in_number_have_no_means():
    observation = Observation()
    for count in (3, 5, 3):
        observation.add("tokens", np.ones((1, count, 2), np.float32), "frame")
    observation.add("maps", np.ones((1, 2), np.float32), "frame")
    restored = Observation(observation.state())
    assert list(observation.channel_means()) == list(restored.channel_means()) == ["maps"]
    assert observation.histograms["tokens"].count == 22


def test_a_frame_of_another_shape_is_told(tmp_path):
    with pytest.raises(ModelError):
        observed(observer_of(tmp_path, plain()), [("small.png", random(3, 4, 4))])

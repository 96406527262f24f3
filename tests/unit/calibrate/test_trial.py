from pathlib import Path

import numpy as np
import onnx
import pytest

from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.compare.trial import REFERENCE, Trial, TrialFrame
from edgert.errors import ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Classes, Tensors
from edgert.stats import LiveCount
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import node, plain, random

NAME = Path("model.onnx")
WHERE = Placement(1.0, 1.0, 0.0, 0.0, 3, 3, 3, 3)


class Raw:
    def decode(self, outputs, _placement):
        return Tensors(outputs)


class Best:
    def decode(self, outputs, _placement):
        order = np.argsort(-outputs["out"], kind="stable")
        return Classes(outputs["out"][order], order, ())


def scaling(factors, shape=(3,)):
    """Return a model that multiplies its input."""
    constants = {"factors": np.array(factors, np.float32)}
    nodes = [node("Mul", ["x", "factors"], ["out"])]
    return graph(nodes, {"x": ["n", *shape]}, {"out": ["n", *shape]}, constants)


def frames(count=4, shape=(3,)):
    return [TrialFrame(f"{index}.png", random(*shape, seed=index), WHERE) for index in range(count)]


def trial(reference, decoder=None):
    return Trial(NAME, reference, decoder or Raw(), 0.5)


def test_candidates_are_compared_in_one_pass():
    read, told = [], []

    def once():
        for frame in frames():
            read.append(frame.name)
            yield frame

    candidates = {"same": scaling([2, 2, 2]), "longer": scaling([4, 4, 4]), "opposite": scaling([-2, -2, -2])}
    figures = trial(scaling([2, 2, 2])).run(candidates, once(), lambda: told.append(1))
    assert read == [frame.name for frame in frames()]
    assert len(told) == 4
    assert list(figures) == list(candidates)
    assert [each.frames for each in figures.values()] == [4, 4, 4]
    assert figures["same"].cosine_min == pytest.approx(1)
    assert figures["longer"].cosine_min == pytest.approx(1)
    assert figures["opposite"].cosine_mean == pytest.approx(-1)
    [same] = figures["same"].tensors
    [longer] = figures["longer"].tensors
    assert same.relative_error_max == 0
    assert longer.relative_error_max == pytest.approx(1)


def test_models_that_run_at_once_say_the_same():
    candidates = {"a": scaling([1, 2, 3]), "b": scaling([-1, 2, 3]), "c": scaling([3, 2, 1])}
    one = Trial(NAME, scaling([1, 1, 1]), Best(), 0.5).run(candidates, frames(5))
    two = Trial(NAME, scaling([1, 1, 1]), Best(), 0.5, at_once=2).run(candidates, frames(5))
    assert one == two


def test_every_run_of_every_model_is_timed():
    compared = trial(scaling([1, 1, 1]))
    compared.run({"a": scaling([1, 1, 1]), "b": scaling([1, 1, 1])}, frames(3))
    assert {name: len(times) for name, times in compared.run_ms.items()} == {REFERENCE: 3, "a": 3, "b": 3}
    assert min(map(min, compared.run_ms.values())) > 0
    compared.run({"a": scaling([1, 1, 1])}, frames(1))
    assert {name: len(times) for name, times in compared.run_ms.items()} == {REFERENCE: 1, "a": 1}


def test_changes_and_truths_go_by_frame():
    changes, asked = [], []

    def truth_of(name):
        asked.append(name)
        return 2

    best_first = [TrialFrame("a.png", np.array([3, 2, 1], np.float32), WHERE)]
    figures = trial(scaling([1, 1, 1]), Best()).run(
        {"turned": scaling([0, 0, 1])}, best_first, truth_of=truth_of, on_change=changes.append
    )
    assert asked == ["a.png"]
    assert figures["turned"].top1_agreement == 0
    assert figures["turned"].accuracy_drop == -1  # only the candidate is right
    [change] = changes
    assert change.frame is best_first[0]
    assert change.difference > 1
    assert (change.reference.class_indices[0], change.candidate.class_indices[0]) == (0, 2)


def test_outputs_of_another_shape_are_the_greatest_difference():
    nodes = [node("ReduceSum", ["x", "last"], ["out"])]
    sums = graph(nodes, {"x": ["n", 3]}, {"out": ["n", 1]}, {"last": np.array([1])})
    changes = []
    figures = trial(scaling([1, 1, 1])).run({"sums": sums}, frames(2), on_change=changes.append)
    assert [change.difference for change in changes] == [1, 1]
    assert figures["sums"].tensors == ()


def test_no_frames_give_empty_figures():
    assert trial(scaling([1, 1, 1])).run({"a": scaling([1, 1, 1])}, [])["a"].frames == 0


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_picture_is_one_whatever_the_batch(batch):
    picture = random(3, 6, 6)
    with open_host_model(NAME, plain(batch=batch)) as model, open_host_model(NAME, plain()) as like:
        assert model.batch_of(picture).shape == (batch if isinstance(batch, int) else 1, 3, 6, 6)
        outputs = model.run(picture)
        assert outputs["out"].shape == (5, 6, 6)
        np.testing.assert_allclose(outputs["out"], like.run(picture)["out"], rtol=1e-5)


def test_a_model_without_a_batch_axis_takes_the_picture_as_it_is():
    model = graph([node("ReduceSum", ["x"], ["out"], keepdims=0)], {"x": [3, 6, 6]}, {"out": []})
    model.graph.node[0].attribute[0].i = 1
    model.graph.output[0].type.tensor_type.shape.CopyFrom(model.graph.input[0].type.tensor_type.shape)
    for side in model.graph.output[0].type.tensor_type.shape.dim:
        side.dim_value = 1
    picture = random(3, 6, 6)
    with open_host_model(NAME, model) as opened:
        assert opened.run(picture)["out"].item() == pytest.approx(picture.sum(), rel=1e-4)


def test_a_model_that_cannot_be_run_leaves_nothing_open():
    broken = onnx.ModelProto()
    broken.CopyFrom(scaling([1, 1, 1]))
    broken.graph.node[0].op_type = "Mystery"
    with pytest.raises(ModelError, match=r"model\.onnx: .*Mystery"):
        trial(scaling([1, 1, 1])).run({"broken": broken}, frames())
    assert LiveCount.snapshot() == {}

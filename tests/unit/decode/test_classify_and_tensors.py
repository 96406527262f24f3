import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgert.decode.classify import ClassifyOptions, softmax
from edgert.decode.factory import open_decoder
from edgert.decode.tensors import TensorsOptions
from edgert.frames.placement import Placement
from edgert.models.tensor_spec import TensorSpec

PLACEMENT = Placement.stretch(4, 4, 4, 4)


def decode(options, labels, **outputs):
    specs = tuple(TensorSpec(name, str(array.dtype), (1, *array.shape)) for name, array in outputs.items())
    return open_decoder(options, labels, specs).decode(outputs, PLACEMENT)


@given(arrays.arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32)), st.integers(1, 40))
def test_classify_ranks_the_finite_scores(scores, top_k):
    classes = decode(ClassifyOptions(top_k=top_k), (), out=scores)
    finite = [i for i, score in enumerate(scores) if np.isfinite(score)]
    expected = sorted(finite, key=lambda i: (-scores[i], i))[:top_k]
    assert classes.class_indices.tolist() == expected
    np.testing.assert_array_equal(classes.scores, scores[expected])


def test_softmax_is_over_all_classes_even_if_few_are_reported():
    logits = np.array([1, 3, 2, np.nan], np.float32)
    options = ClassifyOptions(activation="softmax", classes=("a", "c"), score_min=0.1)
    classes = decode(options, ("a", "b", "c", "d"), out=logits)
    powers = np.exp([1, 3, 2])
    assert classes.class_indices.tolist() == [2]
    np.testing.assert_allclose(classes.scores, [powers[2] / powers.sum()], rtol=1e-6)
    assert classes.labels == ("a", "b", "c", "d")


def test_softmax_of_large_logits_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([1e30, 1e30, -1e30], np.float32)), [0.5, 0.5, 0])
    assert softmax(np.empty(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3)])
def test_sides_of_one_do_not_matter(shape):
    classes = decode(
        ClassifyOptions(top_k=1), ("a", "b", "c"), out=np.array([0, 2, 1], np.float16).reshape(shape)
    )
    assert classes.class_indices.tolist() == [1]


def test_tensors_are_copies_of_all_outputs():
    one, two = np.arange(3.0), np.array([b"x"], object)
    tensors = decode(None, (), one=one, two=two).tensors
    one[:] = 9
    assert tensors["one"].tolist() == [0, 1, 2]
    assert list(tensors) == ["one", "two"]


def test_tensors_can_be_chosen():
    tensors = decode(TensorsOptions(outputs=("two",)), (), one=np.zeros(1), two=np.ones(1)).tensors
    assert list(tensors) == ["two"]


def test_an_engine_without_batch_axis_has_its_outputs_whole():
    specs = (TensorSpec("out", "float32", (3,)),)
    decoder = open_decoder(ClassifyOptions(top_k=1), ("a", "b", "c"), specs, has_batch_axis=False)
    assert decoder.decode({"out": np.array([0, 0, 1], np.float32)}, PLACEMENT).class_indices.tolist() == [2]

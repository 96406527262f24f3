"""Optimization profiles from batch sizes and shapes."""

from __future__ import annotations

import pytest

from edgert.build.shapes import (
    calibration_inputs,
    check_single,
    fixed_shapes,
    largest_batch,
    parse_profile,
    profiles_for,
)
from edgert.errors import ConfigError
from edgert.models.manifest import ShapeRange
from edgert.models.tensor_spec import TensorSpec

IMAGES = TensorSpec("images", "float32", (-1, 3, 8, 8))
STATIC = TensorSpec("images", "float32", (2, 3, 8, 8))
OPEN = TensorSpec("images", "float32", (-1, 3, -1, -1))
SCALE = TensorSpec("scale", "float32", (1,))


def sides(*batches):
    return ShapeRange(*((batch, 3, 8, 8) for batch in batches))


def test_three_shapes_are_smallest_best_and_largest():
    profile = parse_profile("images=1x3x8x8:4x3x8x8:8x3x8x8,scale=1")
    assert profile == {"images": sides(1, 4, 8), "scale": ShapeRange((1,), (1,), (1,))}


def test_a_name_may_hold_what_separates():
    assert list(parse_profile("input:0=1x3x8x8")) == ["input:0"]


@pytest.mark.parametrize(
    "text",
    ["images", "images=", "=1x3", "images=1x3:2x3", "images=0x3", "images=1x-3", "images=1x3,images=2x3", ""],
)
def test_a_text_that_is_no_profile_is_shown(text):
    with pytest.raises(ConfigError, match="--shapes "):
        parse_profile(text)


def test_each_batch_size_has_a_profile_that_takes_less_too():
    assert profiles_for([IMAGES, SCALE], (), (8, 1, 4), 2) == (
        {"images": sides(1, 1, 1)},
        {"images": sides(1, 4, 4)},
        {"images": sides(1, 8, 8)},
    )


def test_without_a_wish_the_default_is_taken():
    assert profiles_for([IMAGES], (), (), 2) == ({"images": sides(1, 2, 2)},)


def test_an_engine_without_choice_has_no_profile():
    assert profiles_for([STATIC], (), (), 4) == profiles_for([STATIC], (), (2,), 4) == ()


def test_given_shapes_are_taken_as_they_are():
    profile = parse_profile("images=1x3x32x32:2x3x64x64:4x3x64x96")
    assert profiles_for([OPEN], (profile,), (), 4) == (profile,)


@pytest.mark.parametrize(
    ("inputs", "shapes", "batches", "message"),
    [
        ([STATIC], (), (4,), r"--batch: the model's inputs are fixed \(images 2x3x8x8\)"),
        ([STATIC], ("images=1x3x8x8",), (), "--shapes: the model's inputs are fixed"),
        ([OPEN], (), (4,), r"'images' is \?x3x\?x\?: more than its batch axis is variable. Give --shapes"),
        ([IMAGES], ("other=1x3x8x8",), (), "has no input 'other', it has images"),
        ([IMAGES], ("images=1x3x9x8",), (), r"'images' is \?x3x8x8, 1x3x9x8 does not fit it"),
        ([IMAGES], ("images=1x3x8",), (), "1x3x8 does not fit it"),
        (
            [IMAGES],
            ("images=2x3x8x8:1x3x8x8:4x3x8x8",),
            (),
            "expected no side smaller than in the shape before",
        ),
    ],
)
def test_it_says_what_does_not_fit(inputs, shapes, batches, message):
    profiles = tuple(map(parse_profile, shapes))
    with pytest.raises(ConfigError, match=message):
        profiles_for(inputs, profiles, batches, 1)


def test_every_variable_input_needs_shapes():
    other = TensorSpec("other", "float32", (-1, 2))
    with pytest.raises(ConfigError, match="input 'other' is variable too"):
        profiles_for([IMAGES, other], (parse_profile("images=1x3x8x8"),), (), 1)


def test_the_largest_batch_is_that_of_the_largest_profile():
    profiles = profiles_for([IMAGES], (), (1, 8, 4), 1)
    assert largest_batch([IMAGES], profiles) == 8
    assert largest_batch([STATIC], ()) == 0


@pytest.mark.parametrize(
    ("texts", "is_single"),
    [((), True), (("x=4x3",), True), (("x=1x3:4x3:4x3",), False), (("x=1x3", "x=4x3"), False)],
)
def test_the_dla_takes_one_shape_only(texts, is_single):
    profiles = [parse_profile(text) for text in texts]
    if is_single:
        check_single(profiles)
        return
    with pytest.raises(ConfigError, match="--dla-core: the DLA takes inputs of one shape only"):
        check_single(profiles)


def test_a_fixed_batch_takes_the_place_of_the_variable_axis():
    assert fixed_shapes([IMAGES], 4) == {"images": (4, 3, 8, 8)}
    assert fixed_shapes([STATIC], 2) == {"images": (2, 3, 8, 8)}
    for spec in (OPEN, STATIC):
        with pytest.raises(ConfigError, match="for an engine of batch 4"):
            fixed_shapes([spec], 4)


def test_tensorrt_calibrates_with_the_best_shape_of_the_first_profile():
    profiles = ({"images": sides(1, 2, 4)}, {"images": sides(1, 8, 8)})
    assert calibration_inputs((IMAGES, SCALE), profiles) == (
        TensorSpec("images", "float32", (2, 3, 8, 8)),
        SCALE,
    )
    assert calibration_inputs((STATIC,), ()) == (STATIC,)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.frames.placement import Placement, Rect, crop_part, letterbox_place

side = st.integers(1, 5000)
sizes = st.tuples(side, side)
keeps = st.floats(0.01, 1.0)
fractions = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=40).map(
    lambda values: np.array(values[: len(values) // 4 * 4], np.float32).reshape(-1, 4)
)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    source, tensor = draw(sizes), draw(sizes)
    make = draw(st.sampled_from(["letterbox", "top_left", "stretch", "crop"]))
    if make == "stretch":
        return Placement.stretch(*source, *tensor)
    if make == "crop":
        return Placement.crop(*source, *tensor, keep=draw(keeps))
    return Placement.letterbox(*source, *tensor, anchor="centre" if make == "letterbox" else "top_left")


def source_boxes(placement: Placement, fractions: np.ndarray) -> np.ndarray:
    limits = (placement.source_width, placement.source_height) * 2
    return (fractions * np.array(limits, np.float32)).astype(np.float32)


@given(placements(), fractions)
def test_to_source_is_the_inverse_of_to_tensor(placement, fractions):
    boxes = source_boxes(placement, fractions)
    there = placement.to_tensor(boxes)
    back = placement.to_source(there)
    # float32 keeps 24 bits of a tensor coordinate; a source pixel may be much larger or smaller than those
    scale = np.array([placement.scale_x, placement.scale_y] * 2)
    tolerance = np.maximum(np.abs(there) * 2.0**-23 / scale, 5000 * 2.0**-23)
    assert (np.abs(back - boxes) <= tolerance).all()


@given(placements(), st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_to_source_clips_to_the_source(placement, box):
    (x1, y1, x2, y2) = placement.to_source(np.array([box], np.float32))[0]
    assert 0 <= x1 <= placement.source_width
    assert 0 <= x2 <= placement.source_width
    assert 0 <= y1 <= placement.source_height
    assert 0 <= y2 <= placement.source_height


@given(placements(), fractions)
def test_points_go_the_way_of_box_corners(placement, fractions):
    there = placement.to_tensor(source_boxes(placement, fractions))
    points = placement.points_to_source(there.reshape(-1, 2, 2))
    np.testing.assert_array_equal(points.reshape(-1, 4), placement.to_source(there))


@given(sizes, sizes, st.sampled_from(["centre", "top_left"]))
def test_letterbox_shows_the_whole_source_and_touches_two_sides(source, tensor, anchor):
    place = letterbox_place(source, tensor, anchor)
    assert place.x >= 0 <= place.y
    assert 1 <= place.width <= tensor[0] - place.x
    assert 1 <= place.height <= tensor[1] - place.y
    assert place.width == tensor[0] or place.height == tensor[1]
    exact = min(tensor[0] / source[0], tensor[1] / source[1])
    assert abs(place.width - source[0] * exact) <= 1
    assert abs(place.height - source[1] * exact) <= 1


@given(sizes, sizes)
def test_letterbox_bars_are_even_within_a_pixel(source, tensor):
    place = letterbox_place(source, tensor)
    assert 0 <= tensor[0] - place.width - 2 * place.x <= 1
    assert 0 <= tensor[1] - place.height - 2 * place.y <= 1


@given(sizes, sizes, keeps)
def test_crop_stays_inside_the_source_and_keeps_the_shape(source, tensor, keep):
    part = crop_part(source, tensor, keep)
    assert part.x >= 0 <= part.y
    assert part.x + part.width <= source[0]
    assert part.y + part.height <= source[1]
    exact = min(source[0] / tensor[0], source[1] / tensor[1]) * keep
    assert abs(part.width - max(1, tensor[0] * exact)) <= 0.5 + 1e-6
    assert abs(part.height - max(1, tensor[1] * exact)) <= 0.5 + 1e-6


@given(placements())
def test_tensor_corners_of_crop_and_stretch_lie_in_the_source(placement):
    corners = np.array([[0, 0, placement.tensor_width, placement.tensor_height]], np.float32)
    x1, y1, x2, y2 = placement.to_source(corners)[0]
    assert 0 <= x1 < x2 <= placement.source_width
    assert 0 <= y1 < y2 <= placement.source_height


@pytest.mark.parametrize(
    ("source", "tensor", "expected"),
    [
        ((640, 480), (320, 320), Rect(0, 40, 320, 240)),
        ((480, 640), (320, 320), Rect(40, 0, 240, 320)),
        ((1, 1000), (300, 300), Rect(149, 0, 1, 300)),
        ((1000, 1), (300, 300), Rect(0, 149, 300, 1)),
        ((1, 1), (300, 200), Rect(50, 0, 200, 200)),
    ],
)
def test_letterbox_place(source, tensor, expected):
    assert letterbox_place(source, tensor) == expected


def test_crop_is_imagenets_evaluation_for_a_square_tensor():
    assert crop_part((640, 256), (224, 224)) == Rect(208, 16, 224, 224)


def test_letterbox_maps_known_points():
    placement = Placement.letterbox(640, 480, 320, 320)
    boxes = placement.to_source(np.array([[0, 40, 320, 280], [160, 0, 170, 160]], np.float32))
    np.testing.assert_array_equal(boxes, [[0, 0, 640, 480], [320, 0, 340, 240]])
    assert boxes.dtype == np.float32


def test_no_boxes_are_fine():
    placement = Placement.stretch(4, 3, 2, 1)
    assert placement.to_source(np.empty((0, 4), np.float32)).shape == (0, 4)
    assert placement.points_to_source(np.empty((0, 5, 2), np.float32)).shape == (0, 5, 2)


def test_boxes_handed_in_are_not_changed():
    boxes = np.full((1, 4), 500, np.float32)
    Placement.stretch(10, 10, 100, 100).to_source(boxes)
    np.testing.assert_array_equal(boxes, 500)

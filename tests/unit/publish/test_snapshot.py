"""Pictures for people."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from edgert.errors import FrameError, SinkError
from edgert.frames.frame import image_shape
from edgert.frames.result import Classes, Detections
from edgert.publish.home_assistant import HomeAssistantOptions
from edgert.publish.snapshot import Snapshots
from tests.fakes.frames import make_frame

S = 1_000_000_000
RED_BGR = (0, 0, 255)


class FakeSlot:
    """What a frame asks of its slot."""

    def __init__(self, image):
        self.image = image

    def view(self, shape):
        assert shape == self.image.shape
        return self.image


def frame_of(image, pixel_format="bgr8"):
    height = image.shape[0] * 2 // 3 if pixel_format == "nv12" else image.shape[0]
    return make_frame(slot=FakeSlot(image), width=image.shape[1], height=height, format=pixel_format)


def grey_frame(width=320, height=240):
    return frame_of(np.full((height, width, 3), 128, np.uint8))


def boxes(*boxes_xyxy_px, labels=("cat",), scores=None):
    count = len(boxes_xyxy_px)
    return Detections(
        np.array(boxes_xyxy_px, "f4").reshape(count, 4),
        np.full(count, 0.5, "f4") if scores is None else np.array(scores, "f4"),
        np.zeros(count, np.int64),
        list(labels),
    )


def picture(frame, output=None, **options):
    jpeg = Snapshots(HomeAssistantOptions(**options)).encode(frame, output)
    assert jpeg[:2] == b"\xff\xd8"
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def changed(output, frame=None):
    """Return where drawing the output changes the picture, (h, w) booleans."""
    plain, drawn = (
        picture(frame or grey_frame(), some, snapshot_quality=100).astype(int) for some in (None, output)
    )
    return np.abs(plain - drawn).max(axis=2) > 30


def test_one_picture_of_each_source_in_so_many_seconds():
    snapshots = Snapshots(HomeAssistantOptions(snapshot_s=10))
    assert [snapshots.wants("a", now) for now in (5, 6, 10 * S, 10 * S + 5, 10 * S + 6)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert snapshots.wants("b", 6)


def test_a_frame_that_made_no_picture_makes_the_next_one_wanted():
    snapshots = Snapshots(HomeAssistantOptions())
    assert snapshots.wants("a", 0)
    snapshots.give_back("a")
    assert snapshots.wants("a", 1)
    assert not snapshots.wants("a", 2)
    snapshots.give_back("never taken")


def test_pictures_that_are_only_asked_for_are_taken_once_each_time():
    snapshots = Snapshots(HomeAssistantOptions(), only_asked=True)
    assert not snapshots.wants("a", 10**18)
    snapshots.give_back("a")
    assert not snapshots.wants("b", 1)
    assert [snapshots.wants("a", now) for now in (2, 3, 10**18)] == [True, False, False]


def test_of_many_threads_that_ask_at_once_one_gets_the_picture():
    snapshots, start, taken = Snapshots(HomeAssistantOptions()), threading.Barrier(8), []

    def ask():
        start.wait()
        taken.extend(moment for moment in range(200) if snapshots.wants("a", moment))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (640, 360)),
        ((1080, 1920), (360, 640)),
        ((640, 480), (640, 480)),
        ((100, 50), (100, 50)),
        ((3000, 2), (640, 1)),
    ],
)
def test_the_longest_side_is_bounded(size, expected):
    height, width = picture(grey_frame(*size)).shape[:2]
    assert (width, height) == expected


@pytest.mark.parametrize("max_side_px", [640, 32])
@pytest.mark.parametrize("pixel_format", ["bgr8", "rgb8", "gray8", "nv12"])
def test_colours_are_right_in_every_format(pixel_format, max_side_px):
    image = np.zeros(image_shape(pixel_format, 48, 64), np.uint8)
    expected = RED_BGR
    if pixel_format == "gray8":
        image[:], expected = 90, (90, 90, 90)
    elif pixel_format == "nv12":
        image[:48], image[48:, 0::2], image[48:, 1::2] = 81, 90, 240  # BT.601, limited range
    else:
        image[..., {"bgr8": 2, "rgb8": 0}[pixel_format]] = 255
    shown = picture(frame_of(image, pixel_format), snapshot_max_side_px=max_side_px)
    assert shown.shape[:2] == ((48, 64) if max_side_px == 640 else (24, 32))
    assert np.abs(shown.reshape(-1, 3).mean(axis=0) - expected).max() < 6


@pytest.mark.parametrize("max_side_px", [640, 100])
@pytest.mark.parametrize("pixel_format", ["bgr8", "rgb8", "gray8", "nv12"])
def test_the_frames_own_pixels_stay_as_they_are(pixel_format, max_side_px):
    image = np.random.default_rng(0).integers(0, 255, image_shape(pixel_format, 120, 160), np.uint8)
    before = image.copy()
    picture(frame_of(image, pixel_format), boxes([5, 5, 60, 60]), snapshot_max_side_px=max_side_px)
    assert (image == before).all()


def test_a_box_is_drawn_where_it_was_found():
    where = changed(boxes([100, 80, 200, 160]))
    rows, columns = np.nonzero(where)
    assert abs(columns.min() - 100) <= 2
    assert abs(columns.max() - 200) <= 2
    assert abs(rows.max() - 160) <= 2
    assert rows.min() < 80  # the label above it
    assert not where[100:140, 120:180].any()


def test_a_box_is_scaled_with_the_picture():
    shrunk = grey_frame(1280, 960)
    rows, columns = np.nonzero(changed(boxes([400, 320, 800, 640]), shrunk))
    assert abs(columns.min() - 200) <= 2
    assert abs(columns.max() - 400) <= 2
    assert abs(rows.max() - 320) <= 2


def test_a_label_stays_in_the_picture():
    where = changed(boxes([260, 0, 319, 20], labels=["a long label"]))
    assert where[4:10, 200:258].any()


@pytest.mark.parametrize(
    "box",
    [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-50, -50, -10, -10],
        [400, 10, 500, 20],
        [10, 300, 20, 400],
    ],
    ids=str,
)
def test_a_box_outside_is_not_drawn(box):
    assert not changed(boxes(box)).any()


@pytest.mark.parametrize("box", [[-1e30, -1e30, 1e30, 1e30], [300, 200, 9e9, 9e9], [50, 50, 50, 50]], ids=str)
def test_an_odd_box_is_drawn_as_far_as_it_is_inside(box):
    assert changed(boxes(box)).any()


@pytest.mark.parametrize(
    "labels", [["Tür 日本"], [], ["x" * 1000], [""]], ids=["odd", "none", "long", "empty"]
)
def test_any_label_can_be_drawn(labels):
    assert changed(boxes([100, 80, 200, 160], labels=labels, scores=[np.nan])).any()


def test_only_the_best_of_very_many_boxes_are_drawn():
    many = [[10, 30, 20, 40]] * 100 + [[200, 150, 300, 230]]
    assert not changed(boxes(*many))[130:, 150:].any()


@pytest.mark.parametrize(
    "output", [boxes(), Classes(np.array([0.9], "f4"), np.array([0]), ["cat"])], ids=["no boxes", "classes"]
)
def test_without_boxes_the_picture_is_plain(output):
    assert not changed(output).any()


def test_a_lower_quality_makes_fewer_bytes():
    noise = frame_of(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))
    small, large = (
        len(Snapshots(HomeAssistantOptions(snapshot_quality=quality)).encode(noise)) for quality in (20, 95)
    )
    assert small < large / 2


def test_what_opencv_refuses_is_an_error_of_the_sink():
    frame = frame_of(np.zeros((4, 70_000, 3), np.uint8))  # JPEG ends at 65,500
    with pytest.raises(SinkError, match="bgr8 frame"):
        Snapshots(HomeAssistantOptions(snapshot_max_side_px=100_000)).encode(
            frame
        )  # more than a file may say


def test_a_format_that_is_none_is_refused():
    frame = frame_of(np.zeros((4, 4, 3), np.uint8))
    frame.format = "yuy2"
    with pytest.raises(FrameError, match="yuy2"):
        Snapshots(HomeAssistantOptions()).encode(frame)

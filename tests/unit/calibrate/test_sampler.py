"""From frames to a sample set on disk, and what becomes of it when something fails."""

from __future__ import annotations

import logging
import re
import resource
from itertools import combinations

import numpy as np
import pytest

from edgert.calibrate.sample.frame_files import MARKER
from edgert.calibrate.sample.sample_set import load_sample_set
from edgert.calibrate.sample.sampler import sample, sample_from
from edgert.calibrate.sample.split import Counts, spare_frames
from edgert.capture.picture_file import read_frame
from edgert.errors import ConfigError, FrameError, SourceError
from tests.unit.calibrate.sample_frames import (
    BEGAN_UTC_NS,
    ScriptedFrames,
    files_in,
    options_for,
    picture,
    write_pictures,
)

PICTURES = [picture(number) for number in range(60)]


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def sizes(samples):
    return len(samples.calibration), len(samples.selection), len(samples.held_out)


def numbers(frames):
    return [int(frame.source.rpartition("#")[2]) for frame in frames]


def hashes(samples):
    return [frame.sha256 for frame in samples.frames()]


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_a_stream_becomes_three_sets_of_png_files(work, choice):
    frames = ScriptedFrames(PICTURES)
    samples = sample_from(frames, options_for(choice=choice, seed=4), work)
    assert sizes(samples) == (6, 2, 3)
    assert (samples.seed, samples.choice, samples.offered) == (4, choice, 60)
    assert files_in(work) == sorted([*(frame.file for frame in samples.frames()), "samples.json"])
    for frame, number in zip(samples.frames(), numbers(samples.frames()), strict=True):
        assert frame.file == f"frames/{number:06}.png"
        np.testing.assert_array_equal(read_frame(work / frame.file)[0], PICTURES[number])
        assert frame.captured_utc_ns == BEGAN_UTC_NS + number * 10**10
    assert load_sample_set(work / "samples.json") == samples
    assert frames.is_closed


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_the_same_seed_gives_the_same_samples(tmp_path, choice):
    def taken(name, seed):
        return sample_from(ScriptedFrames(PICTURES), options_for(choice=choice, seed=seed), tmp_path / name)

    first = taken("a", 1)
    assert first == taken("b", 1)
    assert hashes(first) != hashes(taken("c", 2))


def numbers_by_set(samples):
    return [numbers(part) for part in (samples.calibration, samples.selection, samples.held_out)]


def nearest(samples):
    """Return by how many frames the nearest two of different sets are apart."""
    sets = numbers_by_set(samples)
    return min(abs(a - b) for one, other in combinations(sets, 2) for a in one for b in other)


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_the_sets_of_a_video_are_a_second_apart(work, choice):
    options = options_for(count=60, selection_count=20, held_out_count=20, choice=choice)
    pictures = [picture(number) for number in range(250)]
    samples = sample_from(ScriptedFrames(pictures, frames_s=0.04), options, work)
    assert nearest(samples) >= 25
    assert not any("apart" in warning for warning in samples.warnings)


def test_a_video_that_is_too_short_is_told_of(work):
    options = options_for(count=40, selection_count=4, held_out_count=8)
    samples = sample_from(ScriptedFrames(PICTURES, frames_s=0.04), options, work)
    [warning] = [warning for warning in samples.warnings if "apart" in warning]
    found = re.match(r"Frames of different sets are only ([0-9.]+) s apart, and should be 1 s: ", warning)
    assert 0 < float(found[1]) < 1
    assert nearest(samples) * 0.04 >= float(found[1])


def test_the_distance_is_an_option(work):
    options = options_for(count=30, apart_s=0.2)
    samples = sample_from(ScriptedFrames(PICTURES, frames_s=0.04), options, work)
    assert nearest(samples) >= 5
    assert not any("apart" in warning for warning in samples.warnings)


def test_of_frames_without_a_time_a_share_lies_between(work):
    pictures = [picture(number) for number in range(400)]
    options = options_for(count=200, selection_count=20, held_out_count=20)
    samples = sample_from(ScriptedFrames(pictures, frames_s=None), options, work)
    assert nearest(samples) >= 4
    assert not any("apart" in warning for warning in samples.warnings)


def test_sets_of_so_few_frames_are_neighbours_and_that_is_told(work):
    samples = sample_from(ScriptedFrames(PICTURES[:4], frames_s=0.04), options_for(), work)
    assert sizes(samples) == (2, 1, 1)
    assert "different sets are next to each other, and should be 1 s" in samples.warnings[-1]


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_never_more_files_than_are_kept_for_now(work, choice):
    most = []
    limit = (11 + spare_frames(Counts(6, 2, 3))) * (2 if choice == "farthest" else 1)
    sample_from(
        ScriptedFrames(PICTURES * 5),
        options_for(choice=choice),
        work,
        on_progress=lambda *_: most.append(len(files_in(work))),
    )
    assert len(most) == 300
    assert max(most) <= limit


def test_progress_is_told_with_every_frame(work):
    told = []
    frames = ScriptedFrames(PICTURES[:5], total=5)
    sample_from(frames, options_for(), work, on_progress=lambda *numbers: told.append(numbers))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("pixel_format", ["rgb8", "gray8", "nv12"])
def test_other_formats_are_kept_without_loss(work, pixel_format):
    pictures = [image if pixel_format == "rgb8" else image[:6, :, 0].copy() for image in PICTURES[:3]]
    samples = sample_from(ScriptedFrames(pictures, pixel_format=pixel_format), options_for(), work)
    for frame, number in zip(samples.frames(), numbers(samples.frames()), strict=True):
        found, _ = read_frame(work / frame.file)
        np.testing.assert_array_equal(
            found[:, :, ::-1] if pixel_format == "rgb8" else found, pictures[number]
        )


def test_no_frames_at_all_is_an_error(work):
    with pytest.raises(ConfigError, match="gave no frame; at least 2 are needed"):
        sample_from(ScriptedFrames([]), options_for(), work)
    assert files_in(work.parent) == []


def test_one_frame_is_an_error(work):
    with pytest.raises(ConfigError, match="gave a single frame"):
        sample_from(ScriptedFrames(PICTURES[:1]), options_for(), work)
    assert files_in(work.parent) == []


@pytest.mark.parametrize(
    ("frames", "expected"), [(2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (8, (5, 1, 2))]
)
def test_fewer_frames_than_asked_for_are_shared_out(work, frames, expected, caplog):
    samples = sample_from(ScriptedFrames(PICTURES[:frames]), options_for(), work)
    assert sizes(samples) == expected
    assert samples.warnings[0].startswith("Fewer frames than the 11 wanted: ")
    assert samples.warnings[0].endswith(f", of {frames} offered")
    assert [record.getMessage() for record in caplog.records] == list(samples.warnings)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_fewer_than_advised_is_a_warning(work):
    samples = sample_from(ScriptedFrames(PICTURES), options_for(), work)
    assert samples.warnings == ("6 frames to calibrate with; at least 500 are advised",)


@pytest.mark.parametrize("choice", ["reservoir", "farthest"])
def test_frames_that_are_all_the_same_are_one_picture(work, choice):
    samples = sample_from(ScriptedFrames([PICTURES[0]] * 40), options_for(choice=choice), work)
    assert sizes(samples) == (1, 0, 0)
    [warning] = samples.warnings
    assert warning.startswith("All 40 frames are the same picture")
    assert files_in(work) == sorted([samples.calibration[0].file, "samples.json"])


def test_the_same_picture_is_in_no_two_sets(work):
    samples = sample_from(
        ScriptedFrames([PICTURES[number // 5] for number in range(60)]), options_for(), work
    )
    assert len(set(hashes(samples))) == len(hashes(samples)) >= 8


def test_a_camera_that_dies_halfway_has_given_enough(work):
    script = [*PICTURES[:7], SourceError("v4l2:/dev/video0: unplugged.")]
    samples = sample_from(ScriptedFrames(script), options_for(), work)
    assert sizes(samples) == (5, 1, 1)
    assert samples.warnings[0] == (
        "The source broke after 7 frames, which have to do: v4l2:/dev/video0: unplugged."
    )


@pytest.mark.parametrize("frames", [0, 1, 19])
def test_a_camera_that_dies_too_early_is_an_error(work, frames):
    script = [*PICTURES[:frames], SourceError("unplugged.")]
    options = options_for(count=70, selection_count=10, held_out_count=20)
    reason = rf"unplugged\. It had delivered {frames} frames; at least 20 are needed"
    with pytest.raises(SourceError, match=reason):
        sample_from(ScriptedFrames(script), options, work)
    assert files_in(work.parent) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError("no"), FrameError("no")])
def test_what_ends_sampling_leaves_nothing(work, error):
    def end():
        raise error

    frames = ScriptedFrames([*PICTURES[:1], end])
    with pytest.raises((KeyboardInterrupt, ConfigError, SourceError)):
        sample_from(frames, options_for(), work)
    assert files_in(work.parent) == []
    assert frames.is_closed
    assert sizes(sample_from(ScriptedFrames(PICTURES), options_for(), work)) == (6, 2, 3)


def test_what_a_killed_process_has_left_is_not_counted(work):
    (work / "frames").mkdir(parents=True)
    for name in (MARKER, "000001.png", "000077.png", "000002.png.partial"):
        (work / "frames" / name).write_bytes(b"half")
    samples = sample_from(ScriptedFrames(PICTURES[:8]), options_for(), work)
    assert files_in(work) == sorted([*(frame.file for frame in samples.frames()), "samples.json"])
    load_sample_set(work / "samples.json")


@pytest.mark.parametrize("size_bytes", [100, 800])
def test_a_full_disk_is_an_error_and_leaves_nothing(work, size_bytes):
    """The kernel refuses what a file has beyond the limit: of a frame, or, where that fits, of the list."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
        with pytest.raises(ConfigError) as caught:
            sample_from(ScriptedFrames(PICTURES[:9]), options_for(), work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused = "frames/000000.png" if size_bytes == 100 else "samples.json"
    assert str(caught.value) == f"{work / refused}: cannot be written: File too large"
    assert files_in(work) == []


def test_pictures_of_a_folder_are_listed_where_they_are(tmp_path, work):
    paths = write_pictures(tmp_path / "pictures", range(30))
    samples = sample(options_for(pictures=("pictures",)), tmp_path, work)
    assert sizes(samples) == (6, 2, 3)
    assert {frame.file for frame in samples.frames()} <= {str(path) for path in paths}
    assert files_in(work) == ["samples.json"]
    assert len(files_in(tmp_path / "pictures")) == 30
    load_sample_set(work / "samples.json")


def test_copies_of_a_picture_are_in_no_two_sets(tmp_path, work):
    write_pictures(tmp_path / "pictures", range(0, 12, 2))
    for path in list((tmp_path / "pictures").iterdir()):
        for copy in range(3):
            path.with_name(f"{copy}{path.name}").write_bytes(path.read_bytes())
    samples = sample(options_for(pictures=("pictures",)), tmp_path, work)
    assert len(set(hashes(samples))) == len(hashes(samples)) == 6
    assert sizes(samples) == (4, 1, 1)


def test_unreadable_pictures_are_named_in_a_warning(tmp_path, work):
    write_pictures(tmp_path / "pictures", range(12))
    (tmp_path / "pictures" / "0003.jpg").write_bytes(b"")
    samples = sample(options_for(pictures=("pictures",), choice="farthest"), tmp_path, work)
    assert "1 pictures cannot be used and were skipped: " in samples.warnings[0]
    assert "0003.jpg" in samples.warnings[0]
    assert sizes(samples) == (6, 2, 3)


def test_only_unreadable_pictures_are_an_error_that_names_them(tmp_path, work):
    write_pictures(tmp_path / "pictures", range(3))
    for path in (tmp_path / "pictures").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"gave no frame; .*3 pictures cannot be used .*0000\.png"):
        sample(options_for(pictures=("pictures",)), tmp_path, work)


def test_a_recording_is_sampled_where_it_lies(tmp_path, work):
    recorded = sample_from(ScriptedFrames(PICTURES), options_for(count=20), work)
    again = sample(options_for(recording="work", seed=3), tmp_path, tmp_path / "again")
    assert sizes(again) == (6, 2, 3)
    assert files_in(tmp_path / "again") == ["samples.json"]
    assert set(hashes(again)) < set(hashes(recorded))
    assert {frame.source for frame in again.frames()} < {frame.source for frame in recorded.frames()}
    load_sample_set(tmp_path / "again" / "samples.json")
    load_sample_set(work / "samples.json")


def test_samples_that_are_there_are_not_taken_again(tmp_path, work):
    options = options_for(source="replay:noise?width=8&height=8&frames=40")
    first = sample(options, tmp_path, work)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    told = []
    assert sample(options, tmp_path, work, on_progress=lambda *numbers: told.append(numbers)) == first
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before
    assert told == []


def test_samples_of_other_options_are_neither_used_nor_removed(tmp_path, work):
    sample(options_for(source="replay:noise?width=8&height=8&frames=40"), tmp_path, work)
    before = files_in(work)
    changed = options_for(source="replay:noise?width=8&height=8&frames=40", count=7, seed=1)
    with pytest.raises(
        ConfigError, match=r"count = 6, now 7, seed = 0, now 1\. Take the frames anew with --fresh"
    ):
        sample(changed, tmp_path, work)
    assert files_in(work) == before


def test_samples_that_have_changed_are_an_error(tmp_path, work):
    options = options_for(source="replay:noise?width=8&height=8&frames=40")
    damaged = work / sample(options, tmp_path, work).held_out[0].file
    damaged.write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{damaged}: has changed since it was sampled"):
        sample(options, tmp_path, work)


def test_options_are_checked_before_anything_is_opened(tmp_path, work):
    with pytest.raises(ConfigError, match="only for live sources"):
        sample(options_for(source="file:absent.mp4", duration_s=5.0), tmp_path, work)


def test_passwords_do_not_come_into_the_list(work):
    options = options_for(source="rtsp://me:secret@cam/1")
    sample_from(ScriptedFrames(PICTURES), options, work)
    assert "secret" not in (work / "samples.json").read_text()
    assert "rtsp://me:***@cam/1" in (work / "samples.json").read_text()

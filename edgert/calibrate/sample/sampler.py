"""Samples frames for calibration: read, choose, keep, split, and list them with their hashes.

What runs is deterministic in the frames that come and the seed. Streams are split by time, pictures by
file (see `split`); no picture is in two sets, as files of one content count as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edgert.calibrate.sample.candidate import Frames
from edgert.calibrate.sample.choice import make_choice
from edgert.calibrate.sample.frame_files import open_frame_folder
from edgert.calibrate.sample.options import ADVISED_FRAMES, SampleOptions
from edgert.calibrate.sample.pool import Kept, SamplePool
from edgert.calibrate.sample.sample_set import SAMPLE_FILE, SampleSet, load_sample_set, save_sample_set
from edgert.calibrate.sample.split import Counts, Split, spare_frames, split_at_random, split_in_order
from edgert.capture.pace import Clock
from edgert.errors import ConfigError, SourceError

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]  # frames read, and frames that will be; 0: nobody knows

APART_SHARE = 0.01  # of a stream without times: how far the sets are apart
ENOUGH_OF_BROKEN = 0.2  # of the frames that are wanted, when a source breaks; with fewer, sampling fails


def sample(
    options: SampleOptions,
    folder: Path,
    work: Path,
    *,
    on_progress: OnProgress = lambda _done, _wanted: None,
    clock: Clock | None = None,
) -> SampleSet:
    """Return the samples in `work`, taken now unless they are there, complete and unchanged.

    Relative paths of the options begin at `folder`. Blocks until the source has ended or given enough. An
    error or Ctrl-C leaves no frames; a process that was killed leaves some, which the next one removes. Only
    one process at a time may sample into a folder.

    Raises:
        ConfigError: the options, a picture or the disk; the samples are of other options, or were changed.
        SourceError: the source cannot be opened, or broke before there was enough.
    """
    options.check()
    file = work / SAMPLE_FILE
    if file.exists():
        return _taken_before(file, options)
    return sample_from(open_frames(options, folder, clock), options, work, on_progress=on_progress)


def open_frames(options: SampleOptions, folder: Path, clock: Clock | None = None) -> Frames:
    """Return the frames that the options name; nothing is read yet. Raises ConfigError."""
    from edgert.calibrate.sample import picture_frames, stream_frames

    if options.tap is not None:
        from edgert.calibrate.sample.tap_frames import TapFrames  # pyzmq only where it is used

        return TapFrames(options.tap, options, clock)
    if options.recording is not None:
        recording = folder / Path(options.recording).expanduser()
        return picture_frames.RecordedFrames(recording, options.every, options.max_frames)
    if options.pictures:
        return picture_frames.open_pictures(options, folder)
    return stream_frames.open_stream(options, folder, clock)


def sample_from(
    frames: Frames,
    options: SampleOptions,
    work: Path,
    *,
    on_progress: OnProgress = lambda _done, _wanted: None,
) -> SampleSet:
    """Take samples of `frames` into `work` and list them there. Raises ConfigError, SourceError."""
    wanted = Counts(options.count, options.selection_count, options.held_out_count)
    capacity = options.wanted + (spare_frames(wanted) if frames.is_in_order else 0)
    with open_frame_folder(work) as folder:
        pool = SamplePool(make_choice(options.choice, capacity, options.seed), folder)
        broken = _read_all(frames, pool, options, on_progress)
        _demand_frames(pool, frames)
        kept = pool.chosen(capacity)
        split, close = _divide(kept, wanted, options, pool.offered, is_in_order=frames.is_in_order)
        parts = [[kept[index] for index in part] for part in split[:3]]
        warnings = (*broken, *frames.warnings(), *_shortages(parts, pool.offered, options), *close)
        for warning in warnings:
            log.warning("%s", warning)
        folder.keep({kept.file.path for part in parts for kept in part})
        listed = [tuple(kept.listed(work) for kept in part) for part in parts]
        made_of = options.seed, options.choice, pool.offered, warnings, options.record()
        sample_set = SampleSet(listed[0], listed[1], listed[2], *made_of)
        save_sample_set(sample_set, work / SAMPLE_FILE)
    return sample_set


def _read_all(frames: Frames, pool: SamplePool, options: SampleOptions, on_progress: OnProgress) -> list[str]:
    """Offer all frames; return what broke the source, where there were enough of them before."""
    try:
        with closing(frames.read()) as candidates:
            for candidate in candidates:
                pool.offer(candidate)
                on_progress(pool.offered, frames.total)
    except SourceError as error:
        enough = max(2, round(ENOUGH_OF_BROKEN * min(options.wanted, frames.total or options.wanted)))
        if pool.offered < enough:
            raise SourceError(
                f"{error} It had delivered {pool.offered} frames; at least {enough} are needed to go on with."
            ) from error
        return [f"The source broke after {pool.offered} frames, which have to do: {error}"]
    return []


def _divide(
    frames: list[Kept], wanted: Counts, options: SampleOptions, offered: int, *, is_in_order: bool
) -> tuple[Split, list[str]]:
    """Return the three sets, and whether they are close together."""
    if not is_in_order:
        return split_at_random(len(frames), wanted, options.seed), []
    if frames[0].captured_utc_ns:
        began_ns, apart, unit = frames[0].captured_utc_ns, options.apart_s, " s"
        places = [(frame.captured_utc_ns - began_ns) / 1e9 for frame in frames]
    else:
        apart, unit = max(2.0, APART_SHARE * offered) if options.apart_s else 0.0, " frames"
        places = [float(frame.number) for frame in frames]
    split = split_in_order(places, wanted, apart, options.seed)
    return split, _closeness(split, apart, unit)


def _closeness(split: Split, apart: float, unit: str) -> list[str]:
    if split.apart >= apart or not (split.selection or split.held_out):
        return []
    how = f"only {split.apart:.2g}{unit} apart" if split.apart else "next to each other"
    return [
        f"Frames of different sets are {how}, and should be {apart:.3g}{unit}: the source gave too few for "
        "that. Neighbours are nearly the same picture, so the figures of the held-out frames flatter"
    ]


def _demand_frames(pool: SamplePool, frames: Frames) -> None:
    if pool.offered > 1:
        return
    found = "no frame" if not pool.offered else "a single frame, which nothing can be measured against"
    why = "".join(f" ({warning})" for warning in frames.warnings())
    raise ConfigError(f"[sample] The source gave {found}; at least 2 are needed{why}")


def _shortages(parts: list[list[Kept]], offered: int, options: SampleOptions) -> list[str]:
    """Return what a person should know of the numbers."""
    sizes = [len(part) for part in parts]
    if sum(sizes) == 1:
        return [
            f"All {offered} frames are the same picture: it is calibrated with, and nothing is left to "
            "choose thresholds by or to measure with"
        ]
    found = []
    if sum(sizes) < options.wanted:
        shown = "{} to calibrate with, {} for selection, {} held out".format(*sizes)
        found.append(f"Fewer frames than the {options.wanted} wanted: {shown}, of {offered} offered")
    if sizes[0] < ADVISED_FRAMES:
        found.append(f"{sizes[0]} frames to calibrate with; at least {ADVISED_FRAMES} are advised")
    return found


def _taken_before(file: Path, options: SampleOptions) -> SampleSet:
    """Return the samples that are there. Raises ConfigError unless they are what the options ask for."""
    sample_set = load_sample_set(file)
    asked, record = options.record(), sample_set.options
    changed = [name for name in asked if asked[name] != record.get(name)]
    if changed:
        shown = ", ".join(f"{name} = {record.get(name)!r}, now {asked[name]!r}" for name in changed)
        raise ConfigError(
            f"{file}: was sampled with {shown}. Take the frames anew with --fresh, or change that back"
        )
    return sample_set

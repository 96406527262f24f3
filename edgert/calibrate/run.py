"""One calibration, stage after stage; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgert.calibrate.cache import cache_from_thresholds
from edgert.calibrate.calibrator_route import TENSORRT_CACHE_FILE, TENSORRT_STATE_FILE
from edgert.calibrate.check import open_checked
from edgert.calibrate.choose import CHOICE_FILE, LAYERS_FILE, METHOD_FILE, Choice, Chooser
from edgert.calibrate.compare.held_out import compare_held_out
from edgert.calibrate.deliver import deliver, newest_version, policy_note, runtime_version
from edgert.calibrate.observe.observation import Frame, Observation, ObservationState, Observer
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.recipe import InstallOptions, Recipe
from edgert.calibrate.report.html import html_page
from edgert.calibrate.report.pictures import pictures_of
from edgert.calibrate.report.report import CalibrationReport, Delivered, report_json
from edgert.calibrate.report.summary import TOOLS, Findings, summarise
from edgert.calibrate.sample.frame_files import check_frames, remove_frames
from edgert.calibrate.sample.sample_set import SAMPLE_FILE, SampleFrame, SampleSet
from edgert.calibrate.sample.sampler import sample
from edgert.calibrate.setting import Setting
from edgert.calibrate.work import WorkFolder, key_of, open_work_folder
from edgert.models.manifest import sha256_of

INT8_MODEL = "model.int8.onnx"
CACHE_FILE = "calibration.cache"
CACHE_RELEASE = (10, 3, 0)  # of TensorRT, which its first line names; JetPack 6 has this one
REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_OBSERVATION_FILE = "observation.state"
_REPORT_FILE = "report.state"
_DELIVERED_FILE = "delivered.state"
MADE = (
    SAMPLE_FILE,  # the first that goes: without it the frames are none
    _OBSERVATION_FILE,
    METHOD_FILE,
    LAYERS_FILE,
    CHOICE_FILE,
    _REPORT_FILE,
    _DELIVERED_FILE,
    TENSORRT_STATE_FILE,
    INT8_MODEL,
    CACHE_FILE,
    TENSORRT_CACHE_FILE,
    REPORT_JSON,
    REPORT_HTML,
)  # all that a calibration leaves in its folder of work, but frames


class Outcome(msgspec.Struct, frozen=True):
    """What a calibration has come to."""

    report: CalibrationReport
    work: Path  # where report and model are
    delivered: Delivered | None  # None: a limit was exceeded, or nothing was to be delivered


def calibrate(recipe: Recipe, progress: StageProgress, *, is_fresh: bool = False) -> Outcome:
    """Do what the recipe says. Blocks for minutes; a stop loses little, the next run goes on.

    With `is_fresh` what an earlier run has made is removed first, once the recipe was found to be right.

    Raises:
        ConfigError, SourceError: the recipe, the store, the frames, the disk.
        ModelError: the model cannot be calibrated or built.
        DeviceError: the engine needs a GPU, and there is none or it failed.
        BusyError: another calibration is at work in the same folder.
    """
    with open_work_folder(recipe.work) as work:
        with progress.stage("read the model"):
            setting, _ = open_checked(recipe)
        work.remove_partial(MADE)
        if is_fresh:
            check_frames(work.path)
            work.remove(MADE)
            remove_frames(work.path)
        return _Calibration(setting, work, progress).run()


class _Calibration:
    def __init__(self, setting: Setting, work: WorkFolder, progress: StageProgress) -> None:
        self._setting = setting
        self._recipe = setting.recipe
        self._work = work
        self._progress = progress

    def run(self) -> Outcome:
        samples = self._sample()
        observation, key = self._observe(samples)
        chooser = Chooser(self._setting, observation, samples.selection, self._work, self._progress)
        choice = chooser.choose(key)
        report = self._report(samples, observation, choice, chooser, key)
        delivered = self._told(self._deliver(report, samples, key))
        report = msgspec.structs.replace(report, delivered=delivered)
        self._work.write(REPORT_JSON, report_json(report))
        return Outcome(report, self._work.path, delivered)

    def _sample(self) -> SampleSet:
        options = self._recipe.options.sample
        with self._progress.stage("sample frames") as stage:
            return sample(options, self._recipe.folder, self._work.path, on_progress=stage.at)

    def _observe(self, samples: SampleSet) -> tuple[Observation, bytes]:
        """Return what was seen of the tensors, and the key of everything that depends on it."""
        setting = self._setting
        tensors = tuple(place(setting.model.graph()).edges)  # in the graph's order: errors name the first
        key = self._observed_key(samples, tensors)
        state = self._work.load(_OBSERVATION_FILE, key, ObservationState)
        observation = Observation(state)
        if all(observation.frames_of(tensor) == len(samples.calibration) for tensor in tensors):
            return observation, key
        observer = Observer(setting.model, setting.info, tensors)

        def read() -> Iterable[Frame]:
            return ((frame.name, frame.tensor) for frame in setting.frames(samples.calibration))

        def save() -> None:
            self._work.save(_OBSERVATION_FILE, key, observation.state())

        with self._progress.stage("observe", len(samples.calibration) * len(observer.chunks)) as stage:
            observer.observe(observation, read, stage, save)
        return observation, key

    def _observed_key(self, samples: SampleSet, tensors: Iterable[str]) -> bytes:
        """Return the key of the model with its weights, the frames, and what both go through."""
        model = self._setting.model.proto.SerializeToString(deterministic=True)
        prepare = msgspec.to_builtins(self._setting.plan.settings.prepare)
        return key_of(TOOLS, key_of(model), prepare, list(tensors), _hashes(samples.calibration))

    def _report(
        self, samples: SampleSet, observation: Observation, choice: Choice, chooser: Chooser, observed: bytes
    ) -> CalibrationReport:
        """Compare with FP32, unless that was done, and write model, cache and report."""
        placement = chooser.placement(choice)
        proto = chooser.quantizer.quantize(placement, choice.amax)
        int8_model = self._work.write(INT8_MODEL, proto.SerializeToString(deterministic=True))
        cache = cache_from_thresholds(placement.thresholds(choice.amax), CACHE_RELEASE, "EntropyCalibration2")
        self._work.write(CACHE_FILE, cache.encode())
        key = self._report_key(samples, choice, int8_model, observed)
        before = self._work.load(_REPORT_FILE, key, CalibrationReport)
        if before is not None and (self._work.path / REPORT_HTML).is_file():
            return before
        with self._progress.stage("compare", len(samples.held_out)) as stage:
            held_out = compare_held_out(self._setting, samples.held_out, proto, stage)
        findings = Findings(samples, observation, choice, placement, int8_model, self._progress.times)
        report = summarise(self._setting, findings, held_out)
        compared = [frame.above(self._recipe.options.score_min) for frame in held_out.changed]
        pictures = list(pictures_of(self._work.path, compared))
        self._work.write(REPORT_HTML, html_page(report, pictures).encode())
        self._work.save(_REPORT_FILE, key, report)
        return report

    def _report_key(self, samples: SampleSet, choice: Choice, int8_model: Path, observed: bytes) -> bytes:
        options, setting = self._recipe.options, self._setting
        labels = sha256_of(self._recipe.file(options.labels)) if options.labels else ""
        source = setting.model.file.path.name, setting.model.file.sha256
        said = self._recipe.name, labels, options.limits, options.score_min, source
        decode = setting.plan.settings.decode, setting.plan.entry.labels()
        found = sha256_of(int8_model), choice, _hashes(samples.held_out), samples.warnings
        return key_of(said, decode, found, observed)

    def _deliver(self, report: CalibrationReport, samples: SampleSet, observed: bytes) -> Delivered | None:
        options = self._recipe.options.engine
        if options is None or not options.activate or report.problems:
            return None
        int8_model = self._work.path / INT8_MODEL
        key = self._delivered_key(options, int8_model, samples, observed)
        before = self._work.load(_DELIVERED_FILE, key, Delivered)
        if before is not None and self._is_there(before):
            return before
        self._work.write(REPORT_JSON, report_json(report))  # whatever becomes of the delivery
        with self._progress.stage("install" if options.runtime == "onnxruntime" else "build the engine"):
            delivered = deliver(self._setting, options, int8_model, samples, report)
        self._work.save(_DELIVERED_FILE, key, delivered)
        return delivered

    def _is_there(self, delivered: Delivered) -> bool:
        newest = newest_version(self._recipe)
        return newest is not None and newest.number == delivered.version and Path(delivered.file).is_file()

    def _told(self, delivered: Delivered | None) -> Delivered | None:
        """Return the same with what keeps it from being served now."""
        if delivered is None or not (note := policy_note(self._recipe, delivered.version)):
            return delivered
        return msgspec.structs.replace(delivered, notes=(*delivered.notes, note))

    def _delivered_key(
        self, options: InstallOptions, int8_model: Path, samples: SampleSet, observed: bytes
    ) -> bytes:
        """Return the key of what the engine is made of, by which runtime, and where it goes."""
        place = self._recipe.name, str(self._recipe.store)
        made_of = sha256_of(int8_model), observed, _hashes(samples.held_out)
        return key_of(made_of, options, runtime_version(options), place)


def _hashes(samples: Iterable[SampleFrame]) -> list[str]:
    return [sample.sha256 for sample in samples]

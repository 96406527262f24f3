"""One calibration, stage after stage; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgert.calibrate.cache import cache_from_thresholds
from edgert.calibrate.choose import LAYERS_FILE, Choice, Chooser
from edgert.calibrate.compare.held_out import HeldOut, compare_held_out, pictures_of
from edgert.calibrate.deliver import Delivered, deliver
from edgert.calibrate.observe.observation import Frame, Observation, ObservationState, Observer
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.recipe import Recipe
from edgert.calibrate.report.html import html_page
from edgert.calibrate.report.report import CalibrationReport, report_json
from edgert.calibrate.report.summary import Findings, summarise
from edgert.calibrate.sample.frame_files import FOLDER
from edgert.calibrate.sample.sample_set import SAMPLE_FILE, SampleSet
from edgert.calibrate.sample.sampler import sample
from edgert.calibrate.setting import Setting, open_setting
from edgert.calibrate.work import WorkFolder, key_of, open_work_folder
from edgert.models.calibration_cache import write_calibration_cache
from edgert.models.manifest import sha256_of

INT8_MODEL = "model.int8.onnx"
CACHE_FILE = "calibration.cache"
CACHE_RELEASE = (10, 3, 0)  # of TensorRT, which its first line names; JetPack 6 has this one
REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_OBSERVATION_FILE, _CHOICE_FILE = "observation.state", "choice.state"
_DELIVERED_FILE = "delivered.state"
MADE = (
    FOLDER,
    SAMPLE_FILE,
    _OBSERVATION_FILE,
    LAYERS_FILE,
    _CHOICE_FILE,
    _DELIVERED_FILE,
    INT8_MODEL,
    CACHE_FILE,
    REPORT_JSON,
    REPORT_HTML,
)  # all that a calibration leaves in its folder of work


class Outcome(msgspec.Struct, frozen=True):
    """What a calibration has come to."""

    report: CalibrationReport
    work: Path  # where report and model are
    delivered: Delivered | None  # None: a limit was exceeded, or nothing was to be delivered


def calibrate(recipe: Recipe, progress: StageProgress) -> Outcome:
    """Do what the recipe says. Blocks for minutes; a stop loses little, the next run goes on.

    Raises:
        ConfigError, SourceError: the recipe, the store, the frames, the disk.
        ModelError: the model cannot be calibrated or built.
        BusyError: another calibration is at work in the same folder.
    """
    with open_work_folder(recipe.work) as work:
        return _Calibration(recipe, work, progress).run()


class _Calibration:
    def __init__(self, recipe: Recipe, work: WorkFolder, progress: StageProgress) -> None:
        self._recipe = recipe
        self._work = work
        self._progress = progress

    def run(self) -> Outcome:
        with self._progress.stage("read the model"):
            setting = open_setting(self._recipe)
        samples = self._sample()
        observation, key = self._observe(setting, samples)
        choice, chooser = self._choose(setting, samples, observation, key)
        placement = chooser.placement(choice)
        proto = chooser.quantizer.quantize(placement, choice.amax)
        int8_model = self._work.write(INT8_MODEL, proto.SerializeToString())
        self._write_cache(choice)
        with self._progress.stage("compare", len(samples.held_out)) as step:
            held_out = compare_held_out(setting, samples.held_out, proto, step)
        findings = Findings(samples, observation, choice, placement, int8_model, self._progress.times)
        report = self._report(setting, findings, held_out)
        delivered = self._deliver(setting, report, int8_model, samples)
        return Outcome(report, self._work.path, delivered)

    def _sample(self) -> SampleSet:
        options = self._recipe.options.sample
        with self._progress.stage("sample frames", options.wanted) as step:
            return sample(
                options, self._recipe.folder, self._work.path, on_progress=lambda _done, _wanted: step()
            )

    def _observe(self, setting: Setting, samples: SampleSet) -> tuple[Observation, bytes]:
        """Return what was seen of the tensors, and the key of everything that depends on it."""
        tensors = place(setting.model.graph()).tensors
        frames = [sample.sha256 for sample in samples.calibration]
        prepare = msgspec.to_builtins(setting.plan.settings.prepare)
        key = key_of(setting.model.file.sha256, frames, tensors, prepare)
        state = self._work.load(_OBSERVATION_FILE, key, ObservationState)
        observation = Observation(state)
        observer = Observer(setting.model, setting.info, tensors)

        def read() -> Iterable[Frame]:
            return ((frame.name, frame.tensor) for frame in setting.frames(samples.calibration))

        with self._progress.stage("observe", len(frames) * len(observer.chunks)) as step:
            observer.observe(
                observation,
                read,
                step,
                lambda: self._work.save(_OBSERVATION_FILE, key, observation.state()),
            )
        return observation, key

    def _choose(
        self, setting: Setting, samples: SampleSet, observation: Observation, key: bytes
    ) -> tuple[Choice, Chooser]:
        chooser = Chooser(setting, observation, samples.selection, self._work, self._progress)
        options = msgspec.to_builtins(self._recipe.options.quantize)
        frames = [sample.sha256 for sample in samples.selection]
        decode = msgspec.to_builtins(setting.plan.settings.decode)
        key = key_of(key, options, frames, decode, self._recipe.options.score_min)
        choice = self._work.load(_CHOICE_FILE, key, Choice)
        if choice is None:
            choice = chooser.choose(key)
            self._work.save(_CHOICE_FILE, key, choice)
        return choice, chooser

    def _write_cache(self, choice: Choice) -> None:
        cache = cache_from_thresholds(choice.amax, CACHE_RELEASE, "EntropyCalibration2")
        write_calibration_cache(self._work.path / CACHE_FILE, cache)

    def _report(self, setting: Setting, findings: Findings, held_out: HeldOut) -> CalibrationReport:
        report = summarise(setting, findings, held_out)
        self._work.write(REPORT_JSON, report_json(report))
        pictures = list(pictures_of(setting, held_out.changed))
        self._work.write(REPORT_HTML, html_page(report, pictures).encode())
        return report

    def _deliver(
        self, setting: Setting, report: CalibrationReport, int8_model: Path, samples: SampleSet
    ) -> Delivered | None:
        options = self._recipe.options.engine
        if options is None or not options.activate or report.problems:
            return None
        key = key_of(sha256_of(int8_model), options, str(self._recipe.store))
        before = self._work.load(_DELIVERED_FILE, key, Delivered)
        if before is not None and Path(before.file).is_file():
            return before
        with self._progress.stage("build the engine"):
            delivered = deliver(setting, options, int8_model, samples.held_out)
        self._work.save(_DELIVERED_FILE, key, delivered)
        return delivered

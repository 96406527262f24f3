"""Thresholds and layers in float, chosen on a few frames with a real model."""

from __future__ import annotations

import io
from contextlib import contextmanager

import msgspec
import pytest

from edgert.calibrate import choose as choose_module
from edgert.calibrate.choose import FALLBACK, Chooser, runners_up, spread
from edgert.calibrate.compare import trial as trial_module
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.host_models import open_host_model
from edgert.calibrate.compare.metrics import TensorFigures
from edgert.calibrate.observe.observation import Observation, Observer
from edgert.calibrate.observe.thresholds import METHODS
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.report.report import MethodReport
from edgert.calibrate.sample.sampler import sample
from edgert.calibrate.setting import open_setting
from edgert.calibrate.work import open_work_folder
from edgert.errors import ConfigError, ModelError
from edgert.models.calibration_cache import CalibrationCache, write_calibration_cache
from tests.fakes.recipe import RecipeSite
from tests.unit.calibrate.tiny_models import residual_of_two

LAYERS = ["measure layers", "keep layers in float", "choose again"]
AS_TENSORS = '[prepare]\nfit = "stretch"\nscale = 0.00392\n'  # cosines agree to less than 1 always


class Bench:
    """A tiny model that was observed, and a folder of work."""

    def __init__(self, folder, quantize, *, few=None, model=None, settings=AS_TENSORS, stream=None):
        site = RecipeSite(folder, model, settings=settings)
        frames = {"few": few} if few else {}
        recipe = load_recipe(site.recipe(f"[quantize]\n{quantize}", sample=site.pictures(), **frames))
        self.setting = open_setting(recipe)
        self.samples = sample(recipe.options.sample, folder, site.work)
        self.observation = Observation()
        frames = [(frame.name, frame.tensor) for frame in self.setting.frames(self.samples.calibration)]
        observer = Observer(self.setting.model, self.setting.info, place(self.setting.model.graph()).tensors)
        observer.observe(self.observation, lambda: frames, lambda: None, lambda: None)
        self.stream = stream or io.StringIO()
        self.work = site.work

    def choose(self, key=b"observed"):
        selection = self.samples.selection
        with open_work_folder(self.work) as work:
            self.progress = StageProgress("tiny", self.stream)
            chooser = Chooser(self.setting, self.observation, selection, work, self.progress)
            choice = chooser.choose(key)
            return choice, chooser.placement(choice)

    @property
    def stages(self):
        return [time.name for time in self.progress.times]


def outputs(mean):
    output = TensorFigures(
        name="y",
        frames=50,
        not_finite=0,
        cosine_mean=mean,
        cosine_min=mean,
        relative_error_mean=0,
        relative_error_max=0,
    )
    return ComparisonFigures(frames=50, tensors=(output,))


def method(name, mean, *, is_chosen=False):
    return MethodReport(method=name, agreement=1.0, is_chosen=is_chosen, figures=outputs(mean))


@pytest.mark.parametrize(
    ("tried", "near"),
    [
        ([], []),
        ([method("mse", 0.99, is_chosen=True)], []),
        ([method("mse", 0.99, is_chosen=True), method("minmax", 0.988), method("entropy", 0.98)], ["minmax"]),
        (
            [
                method("minmax", 0.9889),
                method("percentile_99.99", 0.9899),
                method("percentile_99.999", 0.992),
                method("mse", 0.99, is_chosen=True),
            ],
            ["percentile_99.999", "percentile_99.99"],
        ),
    ],
)
def test_methods_that_may_be_nearer_with_layers_in_float(tried, near):
    assert runners_up(tried) == near


def test_with_layers_in_float_another_method_may_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_module, "fewest_layers", lambda tried, _agreement_min: max(tried))
    monkeypatch.setattr(choose_module, "surely_nearest", lambda tried: list(tried)[-1])
    choice, placement = Bench(tmp_path, "most_sensitive = 1").choose()
    first = choice.notes[0].rpartition(" ")[2]
    assert choice.notes == (f"With 1 layers in float {choice.method} comes nearer than {first}",)
    assert choice.method in runners_up(
        [msgspec.structs.replace(each, is_chosen=each.method == first) for each in choice.tried]
    )
    assert [each.method for each in choice.tried if each.is_chosen] == [choice.method]
    (tmp_path / "asked").mkdir()
    asked = Bench(tmp_path / "asked", f'method = "{choice.method}"\nmost_sensitive = 0').choose()[0]
    assert choice.amax == asked.amax
    assert len(placement.layers) == 2


def test_one_of_the_methods_is_chosen_by_agreement(tmp_path):
    bench = Bench(tmp_path, "most_sensitive = 0")
    choice, placement = bench.choose()
    agreements = {each.method: each.agreement for each in choice.tried}
    assert agreements[choice.method] == max(agreements.values())
    assert len(agreements) == 5
    assert [each.method for each in choice.tried if each.is_chosen] == [choice.method]
    assert placement.layers == ("first", "second", "last")
    assert choice.errors == choice.kept == {}


def test_a_method_that_is_asked_for_is_taken_as_it_is(tmp_path):
    bench = Bench(tmp_path, 'method = "minmax"\nmost_sensitive = 0')
    choice, _ = bench.choose()
    assert (choice.method, choice.tried, bench.stages) == ("minmax", (), [])
    histograms = bench.observation.histograms
    assert choice.amax == {name: pytest.approx(histograms[name].amax) for name in choice.amax}


def test_without_frames_to_choose_by_nothing_is_tried_and_a_note_says_so(tmp_path):
    bench = Bench(tmp_path, "", few="count = 1\nselection_count = 1\nheld_out_count = 1\nmax_frames = 2")
    assert bench.samples.selection == ()
    choice, placement = bench.choose()
    assert (choice.method, bench.stages, len(placement.layers)) == (FALLBACK, [], 3)
    assert choice.notes == ("There were no frames to choose a method by, so it is mse",)


def test_layers_that_are_asked_for_stay_in_float(tmp_path):
    choice, placement = Bench(tmp_path, 'keep = ["fir*"]\nkeep_types = ["Gemm"]\nmost_sensitive = 0').choose()
    assert choice.kept == {"first": "asked for", "last": "asked for"}
    assert placement.layers == ("second",)


def test_the_most_sensitive_layers_stay_in_float_as_far_as_that_helps(tmp_path):
    bench = Bench(tmp_path, 'method = "mse"\nmost_sensitive = 2')
    choice, placement = bench.choose()
    assert bench.stages == ["measure layers", "keep layers in float"]
    assert set(choice.errors) == {"first", "second", "last"}
    worst = sorted(choice.errors, key=lambda layer: -choice.errors[layer])
    assert list(choice.kept) == worst[: len(choice.kept)]
    assert set(choice.kept.values()) == {"sensitive"}
    assert set(placement.layers) == set(choice.errors) - set(choice.kept)


def test_enough_agreement_ends_the_search(tmp_path):
    bench = Bench(tmp_path, "agreement_min = 0.5")
    _, placement = bench.choose()
    assert bench.stages == ["choose thresholds"]
    assert len(placement.layers) == 3


def test_what_was_chosen_is_not_chosen_again(tmp_path):
    bench = Bench(tmp_path, "most_sensitive = 2")
    first = bench.choose()
    assert bench.stages == ["choose thresholds", *LAYERS]
    assert bench.choose() == first
    assert bench.stages == []
    bench.choose(b"another observation")
    assert len(bench.stages) == 4


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ({"most_sensitive": 1}, LAYERS[1:]),
        ({"agreement_min": 0.99999999}, LAYERS[1:]),
        ({"sensitivity_frames": 2}, LAYERS),
        ({"method": "minmax"}, LAYERS[:2]),
        ({"keep": ("first",)}, ["choose thresholds", *LAYERS]),
    ],
)
def test_a_change_redoes_what_depends_on_it(tmp_path, changed, stages):
    bench = Bench(tmp_path, "most_sensitive = 2")
    bench.choose()
    recipe = bench.setting.recipe
    quantize = msgspec.structs.replace(recipe.options.quantize, **changed)
    options = msgspec.structs.replace(recipe.options, quantize=quantize)
    recipe = msgspec.structs.replace(recipe, options=options)
    bench.setting = msgspec.structs.replace(bench.setting, recipe=recipe)
    bench.choose()
    assert bench.stages == stages


def test_layers_that_were_measured_before_a_stop_are_not_measured_again(tmp_path):
    class Stops(io.StringIO):
        def write(self, text):
            if "keep layers" in text:
                raise KeyboardInterrupt
            return super().write(text)

    bench = Bench(tmp_path, "most_sensitive = 2", stream=Stops())
    with pytest.raises(KeyboardInterrupt):
        bench.choose()
    bench.stream = io.StringIO()
    bench.choose()
    assert bench.stages == LAYERS[1:]


@pytest.mark.parametrize(
    ("count", "taken"), [(4, [0, 5, 10, 15]), (3, [0, 6, 13]), (1, [0]), (20, range(20)), (99, range(20))]
)
def test_frames_to_measure_layers_with_are_of_all_blocks(count, taken):
    assert spread(range(20), count) == list(taken)
    assert spread([], count) == []


def test_other_frames_measure_the_layers_anew(tmp_path):
    bench = Bench(tmp_path, "most_sensitive = 1\nsensitivity_frames = 2")
    bench.choose()
    samples = bench.samples
    bench.samples = msgspec.structs.replace(samples, selection=samples.selection[::-1])
    bench.choose()
    assert "measure layers" in bench.stages


def test_a_few_models_are_open_at_a_time_and_all_are_tried(tmp_path, monkeypatch):
    is_open, most = [], []

    @contextmanager
    def counted(*arguments, **options):
        with open_host_model(*arguments, **options) as model:
            is_open.append(model)
            most.append(len(is_open))
            yield model
            is_open.remove(model)

    monkeypatch.setattr(trial_module, "open_host_model", counted)
    monkeypatch.setattr(choose_module, "_CANDIDATES_AT_ONCE", 2)
    bench = Bench(tmp_path, "most_sensitive = 0")
    choice, _ = bench.choose()
    assert [each.method for each in choice.tried] == list(METHODS)
    assert max(most) == 3  # the reference too
    shown = [time.name for time in bench.progress.times]
    assert shown == ["choose thresholds"]


def test_some_layer_is_always_quantized(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_module, "fewest_layers", lambda tried, _agreement_min: max(tried))
    choice, placement = Bench(tmp_path, "most_sensitive = 16").choose()
    assert (len(choice.kept), len(placement.layers)) == (1, 2)  # of 3; with none left there is no INT8 model


def test_a_residual_that_was_not_observed_is_added_in_float(tmp_path):
    """With `shortcut` in float the other branch would get the pair, whose range nobody has seen."""
    model = residual_of_two()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 8
    choice, placement = Bench(
        tmp_path, 'keep = ["shortcut"]\nmethod = "minmax"\nmost_sensitive = 0', model=model
    ).choose()
    assert placement.layers == ("main", "next")
    assert set(choice.amax) == {"image", "positive"}


def cache_at(folder, scales):
    write_calibration_cache(folder / "old.cache", CalibrationCache(100300, "EntropyCalibration2", scales))
    return 'cache = "old.cache"'


def test_thresholds_of_a_cache(tmp_path):
    quantize = cache_at(tmp_path, {"image": 0.5, "r1": 0.25, "r2": 0.125, "flat": 1.0, "logits": 2.0})
    choice, placement = Bench(tmp_path, f"{quantize}\nmost_sensitive = 0").choose()
    assert choice.method == "cache"
    assert choice.amax == {"image": 63.5, "r1": 31.75, "flat": 127.0}
    assert (len(placement.layers), choice.notes) == (3, ())


def test_what_the_cache_has_no_range_for_stays_in_float(tmp_path):
    quantize = cache_at(tmp_path, {"image": 0.5, "r1": 0.25, "r2": 0.125, "flat": 0.0})
    choice, placement = Bench(tmp_path, f"{quantize}\nmost_sensitive = 0").choose()
    assert placement.layers == ("first", "second")
    assert choice.notes == ("1 tensors have no range in old.cache and stay in float: flat",)


def test_another_cache_is_another_choice(tmp_path):
    bench = Bench(
        tmp_path, cache_at(tmp_path, {"image": 0.5, "r1": 0.25, "flat": 1.0}) + "\nmost_sensitive = 0"
    )
    first, _ = bench.choose()
    cache_at(tmp_path, {"image": 0.25, "r1": 0.25, "flat": 1.0})
    second, _ = bench.choose()
    assert (first.amax["image"], second.amax["image"]) == (63.5, 31.75)


@pytest.mark.parametrize(
    ("quantize", "kind", "told"),
    [
        (
            'keep = ["frist"]',
            ConfigError,
            "quantize.keep: no layer is called 'frist'; there are 3, such as first, second, last",
        ),
        (
            'keep_types = ["LSTM"]',
            ConfigError,
            "quantize.keep_types: no layer is a 'LSTM'; there are Conv, Gemm",
        ),
        ('keep = ["*"]', ModelError, "has no layer that could be quantized: all 3 are to be kept in float"),
    ],
)
def test_what_cannot_be_kept(tmp_path, quantize, kind, told):
    with pytest.raises(kind) as caught:
        Bench(tmp_path, quantize).choose()
    assert told in str(caught.value)

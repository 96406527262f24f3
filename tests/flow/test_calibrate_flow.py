"""Whole calibrations of tiny models, through the command line, with real parts."""

from __future__ import annotations

import datetime
import io
import json
import os
import time

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgert.calibrate import deliver
from edgert.calibrate.observe import observation
from edgert.calibrate.recipe import InstallOptions, load_recipe
from edgert.calibrate.report.report import read_report
from edgert.cli import main
from edgert.errors import ModelError
from edgert.exit_codes import ExitCode
from edgert.models.calibration_cache import read_calibration_cache
from edgert.models.manifest import Manifest, SourceModel, sha256_of, write_manifest
from edgert.models.store import ModelStore
from edgert.service import Service
from tests.fakes.onnx_graphs import run
from tests.fakes.recipe import CLASSES, SIDE, RecipeSite, blotch, classifier, detector, product

ENGINE = '[engine]\nruntime = "onnxruntime"\n'
AS_TENSORS = (
    '[prepare]\nfit = "stretch"\nscale = 0.00392\n'  # cosines agree to less than 1: all stages have work
)
SETTINGS_SSD = f'{AS_TENSORS}[decode]\nkind = "ssd"\nboxes = "boxes"\nscores = "scores"\nscore_min = {{}}\n'
CHANGING = ("made_utc", "stages", "peak_rss_bytes", "reference", "candidate", "delivered")


@pytest.fixture
def site(tmp_path):
    site = RecipeSite(tmp_path)
    site.pictures()
    return site


def calibrate(site, text=ENGINE, *words, **keys):
    return main(["calibrate", str(site.recipe(text, **keys)), *words])


def steady(site):
    """Return what has to be the same in any run of the same recipe."""
    report = {key: value for key, value in site.report().items() if key not in CHANGING}
    made = site.made()
    samples = json.loads(made["samples.json"])
    for frame in (*samples["calibration"], *samples["selection"], *samples["held_out"]):
        del frame["captured_utc_ns"]
    return report, made["model.int8.onnx"], made["calibration.cache"], samples


def versions(site, name="tiny-int8"):
    folder = site.store / name
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


# The whole of it


@pytest.mark.parametrize("source", ["pictures", "clip"])
def test_from_frames_to_a_model_in_the_store(site, capsys, source):
    assert calibrate(site, sample=getattr(site, source)()) == ExitCode.OK
    said = capsys.readouterr()
    report = read_report(site.work / "report.json")
    assert said.out.startswith(f"tiny-int8: INT8 by {report.method}, no limits\n")
    assert f"in the store: tiny-int8 1, {site.store}/tiny-int8/1/model.onnx" in said.out
    assert [line.split(", ")[0] for line in said.err.splitlines()][:3] == [
        "tiny-int8: read the model",
        "tiny-int8: sample frames",
        "tiny-int8: observe",
    ]
    counts = report.samples
    assert (counts.calibration, counts.selection, counts.held_out) == (8, 4, 6)
    assert [layer.name for layer in report.layers if not layer.is_kept] == ["first", "second", "last"]
    assert report.figures.classes.frames == 6
    assert (site.work / "report.html").read_text().startswith("<!doctype html>")
    assert set(read_calibration_cache(site.work / "calibration.cache").scales) == {"image", "r1", "flat"}
    installed = site.store / "tiny-int8" / "1" / "model.onnx"
    assert installed.read_bytes() == (site.work / "model.int8.onnx").read_bytes()


def test_the_model_is_int8_and_says_nearly_the_same(site):
    calibrate(site)
    int8 = onnx.load(site.work / "model.int8.onnx")
    kinds = {
        numpy_helper.to_array(tensor).dtype.name
        for tensor in int8.graph.initializer
        if tensor.dims and len(tensor.dims) > 1
    }
    assert kinds == {"int8"}
    picture = cv2.cvtColor(blotch(99), cv2.COLOR_BGR2RGB).transpose(2, 0, 1)[None] * np.float32(0.00392)
    [new], [old] = run(int8, {"image": picture}).values(), run(classifier(), {"image": picture}).values()
    assert new.shape == old.shape == (1, CLASSES)
    assert not np.array_equal(new, old)
    assert float((new * old).sum() / np.linalg.norm(new) / np.linalg.norm(old)) > 0.999


def test_the_store_runs_what_was_installed(site, capsys):
    calibrate(site)
    capsys.readouterr()
    assert main(["inspect", str(site.store / "tiny-int8"), "--json"]) == ExitCode.OK
    version = json.loads(capsys.readouterr().out)["versions"]["1"]
    assert version["outputs"] == ["logits float32 ?x6"]
    told, report = version["calibration"], site.report()
    assert told["against_fp32"]["top1_agreement"] == report["figures"]["classes"]["top1_agreement"]
    assert (told["source"], told["layers_int8"]) == (report["source"], 3)
    assert (told["held_out_frames"], told["verdict"]) == (6, "no limits")
    uri = f"replay:noise?width={SIDE}&height={SIDE}&frames=4&total=4"
    models = f'[sources.s]\nuri = "{uri}"\npolicy = "every"\nmodels = ["tiny", "tiny-int8"]\n'
    assert Service(site.load(models)).run() == ExitCode.OK
    results = {
        (result["model"], result["seq"]): result["classes"][0]["class_index"] for result in site.results()
    }
    assert len(results) == 8
    assert all(results["tiny", seq] == results["tiny-int8", seq] for seq in range(4))


def test_a_detector_with_labels(tmp_path, capsys):
    site = RecipeSite(tmp_path, detector(), settings=SETTINGS_SSD.format(0.3))
    images = [{"id": n, "file_name": f"{n:03}.png"} for n in range(24)]
    annotations = [{"image_id": n, "category_id": n % 2, "bbox": [2, 3, 20, 20]} for n in range(24)]
    labels = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 0, "name": "0"}, {"id": 1, "name": "1"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(labels))
    text = "[limits]\nrecall_min = 0.5\nmap_drop_max = 0.5\n"
    assert calibrate(site, text, sample=site.pictures(), top='labels = "boxes.json"') == ExitCode.OK
    report = read_report(site.work / "report.json")
    assert report.figures.detections.reference_count > 10
    assert (report.figures.reference_map.frames, report.samples.labelled) == (6, 6)
    assert "18 of the 24 labelled frames are not held out, and count for nothing" in capsys.readouterr().out


@pytest.mark.parametrize(("own", "compared"), [(0.3, 0.5), (0.6, 0.6)])
def test_no_score_below_the_model_s_own_is_compared(tmp_path, own, compared):
    site = RecipeSite(tmp_path, detector(), settings=SETTINGS_SSD.format(own))
    assert calibrate(site, "", sample=site.pictures()) == ExitCode.OK
    assert site.report()["figures"]["detections"]["score_min"] == compared


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_to_ask_for_lower_scores_than_the_model_gives_is_refused(tmp_path, capsys, words):
    site = RecipeSite(tmp_path, detector(), settings=SETTINGS_SSD.format(0.6))
    assert calibrate(site, "", *words, sample=site.pictures(), top="score_min = 0.4") == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert "recipe.toml: score_min = 0.4: the service gives no detection below decode.score_min = 0.6" in said
    assert not site.work.exists()


# Once more


def test_the_same_recipe_comes_to_the_same_bits(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        site = RecipeSite(tmp_path / name, settings=AS_TENSORS)
        assert calibrate(site, sample=site.clip()) == ExitCode.OK
        found.append(steady(site))
    assert found[0] == found[1]


def test_another_run_does_nothing(site, capsys):
    calibrate(site)
    first = capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in site.folder.rglob("*") if path.name != "recipe.toml"}
    assert calibrate(site) == ExitCode.OK
    second = capsys.readouterr()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert versions(site) == ["1"]
    assert second.out == first.out
    assert [line.split(", ")[0] for line in second.err.splitlines()] == [
        "tiny-int8: read the model",
        "tiny-int8: sample frames",
    ]


def stages(capsys):
    """Return the stages that were gone through after the frames were there."""
    lines = (line.split(", ")[0] for line in capsys.readouterr().err.splitlines())
    return [line.partition(": ")[2] for line in lines][2:]


@pytest.mark.parametrize(
    ("changed", "redone"),
    [
        ({"text": f"[limits]\ncosine_min = 0.5\n{ENGINE}"}, ["compare"]),
        ({"top": "score_min = 0.25"}, ["choose thresholds", "compare"]),
        (
            {"text": f"[quantize]\nmethod = 'minmax'\n{ENGINE}"},
            ["measure layers", "keep layers in float", "compare", "install"],
        ),
        ({"text": '[engine]\nname = "other"\nruntime = "onnxruntime"\n'}, ["compare", "install"]),
        ({"text": ""}, []),
    ],
)
def test_a_changed_recipe_redoes_what_depends_on_it(site, capsys, changed, redone):
    calibrate(site)
    capsys.readouterr()
    assert calibrate(site, **changed) == ExitCode.OK
    assert stages(capsys) == redone


def test_other_frames_have_to_be_asked_for(site, capsys):
    calibrate(site)
    fewer = "count = 6\nselection_count = 4\nheld_out_count = 6\n"
    assert calibrate(site, few=fewer) == ExitCode.CONFIG
    assert "samples.json: was sampled with count = 8, now 6. Take" in capsys.readouterr().err
    assert calibrate(site, ENGINE, "--fresh", few=fewer) == ExitCode.OK
    assert site.report()["samples"]["calibration"] == 6


def test_fresh_forgets_what_was_made_and_nothing_else(site, capsys):
    calibrate(site, sample=site.clip())
    (site.work / "notes.txt").write_text("mine")
    before = steady(site)
    capsys.readouterr()
    assert calibrate(site, ENGINE, "--fresh", sample=site.clip()) == ExitCode.OK
    assert "observe" in stages(capsys)
    assert steady(site) == before
    assert (site.work / "notes.txt").read_text() == "mine"
    assert versions(site) == ["1"]


@pytest.mark.parametrize("words", [(), ("--fresh",)])
def test_a_folder_of_frames_that_is_somebody_elses_is_left_alone(site, capsys, words):
    mine = site.work / "frames" / "000001.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert calibrate(site, ENGINE, *words, sample=site.clip()) == ExitCode.CONFIG
    assert "recipe/frames: holds files, and edgert has not made this folder" in capsys.readouterr().err
    assert site.made() == {"frames/000001.png": b"mine"}


def test_fresh_with_a_wrong_recipe_forgets_nothing(site):
    calibrate(site)
    before = site.made()
    assert calibrate(site, '[quantize]\nkeep = ["absent"]\n', "--fresh") == ExitCode.CONFIG
    assert site.made() == before


def test_a_version_that_was_taken_away_is_made_again(site):
    calibrate(site)
    (site.store / "tiny-int8" / "1").rename(site.store / "tiny-int8" / "1.rolled-back")
    assert calibrate(site) == ExitCode.OK
    assert versions(site) == ["1.rolled-back", "2"]


def test_a_version_that_another_one_took_the_place_of_is_made_again(site, capsys):
    calibrate(site)
    first = (site.store / "tiny-int8" / "1" / "model.onnx").read_bytes()
    other = "[quantize]\nmethod = 'minmax'\nmost_sensitive = 0\n"
    assert calibrate(site, f"{other}{ENGINE}") == ExitCode.OK
    capsys.readouterr()
    assert calibrate(site) == ExitCode.OK
    assert "in the store: tiny-int8 3, " in capsys.readouterr().out
    assert versions(site) == ["1", "2", "3"]
    assert (site.store / "tiny-int8" / "3" / "model.onnx").read_bytes() == first
    calibrate(site, f"{other}{ENGINE}")
    newest = site.store / "tiny-int8" / "4"
    newest.rename(newest.with_name("4.rolled-back"))
    assert calibrate(site) == ExitCode.OK
    assert versions(site) == ["1", "2", "3", "4.rolled-back"]


def test_a_version_that_config_pbtxt_does_not_serve_is_told_of_and_made_once(site, capsys):
    calibrate(site)
    config = site.store / "tiny-int8" / "config.pbtxt"
    config.write_text(f"{config.read_text()}version_policy {{ specific {{ versions: [1] }} }}\n")
    other = f"[quantize]\nmethod = 'minmax'\nmost_sensitive = 0\n{ENGINE}"
    note = (
        f"version 2 is NOT served: {config} names the versions that are. Add 2 to "
        "version_policy.specific.versions there, then reload"
    )
    for _ in range(2):
        capsys.readouterr()
        assert calibrate(site, other) == ExitCode.OK
        assert f"  note: {note}\n" in capsys.readouterr().out
        assert site.report()["delivered"]["notes"] == [note]
        assert versions(site) == ["1", "2"]
    config.write_text(config.read_text().replace("[1]", "[1, 2]"))
    assert calibrate(site, other) == ExitCode.OK
    assert "NOT served" not in capsys.readouterr().out
    assert site.report()["delivered"]["notes"] == []


def test_the_report_says_what_was_delivered(site):
    calibrate(site, "")
    assert site.report()["delivered"] is None
    calibrate(site)
    delivered = site.report()["delivered"]
    assert (delivered["model"], delivered["version"], delivered["notes"]) == ("tiny-int8", 1, [])
    assert delivered["file"] == f"{site.store}/tiny-int8/1/model.onnx"
    assert read_report(site.work / "report.json").delivered.version == 1
    calibrate(site, f"[limits]\ncosine_min = 1.0\n{ENGINE}")
    assert site.report()["delivered"] is None


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("scale = 0.00392", "scale = 0.5", "prepare.scale"),
        ('kind = "classify"', 'kind = "tensors"', "decode.kind"),
        ("[decode]", '[labels]\nfile = "l.txt"\n[decode]', "labels"),
    ],
)
def test_an_int8_model_with_settings_of_its_own_is_refused(site, capsys, old, new, keys):
    calibrate(site)
    settings = site.store / "tiny-int8" / "edgert.toml"
    (settings.parent / "l.txt").write_text("a\nb\nc\nd\ne\nf\n")
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))
    for words in ((), ("--check",)):
        assert calibrate(site, ENGINE, *words) == ExitCode.CONFIG
        said = capsys.readouterr().err
        assert f"{settings}: {keys}" in said
        assert f"not as in {site.store}/tiny/edgert.toml" in said


def test_other_preparation_is_another_comparison_and_another_delivery(site, capsys):
    calibrate(site)
    capsys.readouterr()
    for name in ("tiny", "tiny-int8"):
        settings = site.store / name / "edgert.toml"
        settings.write_text(settings.read_text().replace("0.00392", "0.0039"))
    assert calibrate(site) == ExitCode.OK
    assert {"observe", "compare"} < set(stages(capsys))


def test_a_model_that_cannot_be_loaded_is_not_installed(site, capsys, monkeypatch):
    def refuse(file, *_):
        assert file.parent.name == "1.partial"
        raise ModelError(f"{file}: damaged")

    monkeypatch.setattr(deliver, "load_onnx_engine", refuse)
    assert calibrate(site) == ExitCode.MODEL
    assert "damaged" in capsys.readouterr().err
    assert not (site.store / "tiny-int8").exists()
    assert site.report()["delivered"] is None


def test_a_stop_just_after_the_version_was_made_makes_no_second_one(site):
    calibrate(site)
    (site.work / "delivered.state").unlink()
    assert calibrate(site) == ExitCode.OK
    assert versions(site) == ["1"]


@pytest.mark.parametrize(
    "name",
    [
        "observation.state",
        "method.state",
        "layers.state",
        "choice.state",
        "report.state",
        "delivered.state",
        "model.int8.onnx",
        "report.json",
        "calibration.cache",
    ],
)
@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: os.urandom(len(content))]
)
def test_damaged_results_are_made_again(tmp_path, name, damage):
    site = RecipeSite(tmp_path, settings=AS_TENSORS)
    few = "count = 3\nselection_count = 2\nheld_out_count = 2\n"
    site.pictures(8)
    calibrate(site, few=few)
    before = steady(site)
    file = site.work / name
    file.write_bytes(damage(file.read_bytes()))
    assert calibrate(site, few=few) == ExitCode.OK
    assert steady(site) == before
    assert versions(site) == ["1"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text.replace('"calibration"', '"calibrating"'), "is no list of samples"),
        (lambda text: text[:100], "is no list of samples"),
        (lambda text: text.replace(".png", ".pgn", 1), "is missing, and"),
    ],
)
def test_an_edited_list_of_samples(site, capsys, edit, told):
    calibrate(site)
    file = site.work / "samples.json"
    file.write_text(edit(file.read_text()))
    assert calibrate(site) == ExitCode.CONFIG
    assert told in capsys.readouterr().err


def test_a_picture_that_was_changed(site, capsys):
    calibrate(site)
    for number in range(24):
        cv2.imwrite(str(site.folder / "pictures" / f"{number:03}.png"), blotch(100 + number))
    assert calibrate(site) == ExitCode.CONFIG
    assert "has changed since it was sampled" in capsys.readouterr().err


# Stops


class StopAt(io.StringIO):
    """A stream that raises what Ctrl-C raises when a line of so many about a stage is written."""

    def __init__(self, stage, count):
        super().__init__()
        self._stage = stage
        self._left = count

    def write(self, text):
        super().write(text)
        self._left -= f": {self._stage}" in text
        if not self._left:
            self._left = -1
            raise KeyboardInterrupt
        return len(text)


STAGES = [
    "read the model",
    "sample frames",
    "observe",
    "choose thresholds",
    "measure layers",
    "keep layers in float",
    "compare",
    "install",
]


def test_a_stop_in_any_stage_changes_nothing_of_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr("edgert.calibrate.progress.LINE_S", 0.0)  # a line for each step
    monkeypatch.setattr(observation, "CHECKPOINT_FRAMES", 2)
    found = []
    for name, stops in (("undisturbed", []), ("stopped", STAGES)):
        (tmp_path / name).mkdir()
        site = RecipeSite(tmp_path / name, settings=AS_TENSORS)
        sample = site.clip()
        for stage in stops:
            stream = StopAt(
                stage, 4 if stage in ("sample frames", "observe", "choose thresholds", "compare") else 1
            )
            with monkeypatch.context() as patch:
                patch.setattr("sys.stderr", stream)
                assert calibrate(site, sample=sample) == 130
            assert (
                stream.getvalue().splitlines()[-1].startswith("edgert: stopped. To go on: edgert calibrate ")
            )
            left = sorted(site.made()) if site.work.exists() else []
            assert not [file for file in left if "partial" in file or file.startswith(".")]
            assert versions(site) == []
        assert calibrate(site, sample=sample) == ExitCode.OK
        found.append(steady(site))
        assert versions(site) == ["1"]
    assert found[0] == found[1]


def test_a_stop_while_sampling_leaves_no_frames(site, monkeypatch):
    monkeypatch.setattr("edgert.calibrate.progress.LINE_S", 0.0)
    monkeypatch.setattr("sys.stderr", StopAt("sample frames", 5))
    assert calibrate(site, sample=site.clip()) == 130
    assert not site.work.exists()


def test_an_observation_goes_on_where_it_was(site, monkeypatch):
    monkeypatch.setattr("edgert.calibrate.progress.LINE_S", 0.0)
    monkeypatch.setattr(observation, "CHECKPOINT_FRAMES", 2)
    stream = StopAt("observe", 6)  # the fifth frame was seen
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        assert calibrate(site) == 130
    state = (site.work / "observation.state").read_bytes()
    seen = msgspec.msgpack.decode(state[32:], type=observation.ObservationState).frames
    assert set(seen.values()) == {4}
    assert calibrate(site) == ExitCode.OK
    state = (site.work / "observation.state").read_bytes()
    seen = msgspec.msgpack.decode(state[32:], type=observation.ObservationState).frames
    assert set(seen.values()) == {8}


def test_an_engine_that_was_built_just_before_a_stop_is_not_built_again(site, capsys, monkeypatch):
    """The manifest beside it tells what it was made from, and by which version, which is installed now."""
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'edgert[rtx]'")
    version = deliver.runtime_version(InstallOptions(runtime="tensorrt_rtx"))
    calibrate(site, "")
    int8_model = site.work / "model.int8.onnx"
    folder = site.store / "tiny-int8" / "1"
    folder.mkdir(parents=True)
    settings = (site.store / "tiny" / "edgert.toml").read_text()
    (folder.parent / "edgert.toml").write_text(f'{settings}[engine]\nruntime = "tensorrt_rtx"\n')
    (folder / "model.plan").write_bytes(b"an engine")
    manifest = Manifest(
        plan_sha256=sha256_of(folder / "model.plan"),
        plan_bytes=9,
        runtime="tensorrt_rtx",
        runtime_version=version,
        built_utc=datetime.datetime.now(datetime.timezone.utc),
        source=SourceModel(int8_model.name, sha256_of(int8_model)),
        precision="int8",
        options={"runtime": "tensorrt_rtx", "precision": "int8", "batches": [2]},
    )
    write_manifest(folder / "model.plan", manifest)
    assert calibrate(site, '[engine]\nruntime = "tensorrt_rtx"\nbatches = [2]\n') == ExitCode.OK
    assert f"in the store: tiny-int8 1, {folder}/model.plan" in capsys.readouterr().out
    assert versions(site) == ["1"]
    write_manifest(folder / "model.plan", msgspec.structs.replace(manifest, runtime_version="1.3.0.1"))
    (site.work / "delivered.state").unlink()
    built = []

    def build(options):
        built.append(options)
        raise ModelError("stopped here")

    monkeypatch.setattr(deliver, "build_version", build)
    assert calibrate(site, '[engine]\nruntime = "tensorrt_rtx"\nbatches = [2]\n') == ExitCode.MODEL
    assert [options.model for options in built] == [int8_model]


# Limits and labels


@pytest.mark.parametrize(
    ("limit", "code", "made"),
    [("cosine_min = 0.9", ExitCode.OK, ["1"]), ("cosine_min = 1.0", ExitCode.OVER_LIMIT, [])],
)
def test_limits(site, capsys, limit, code, made):
    assert calibrate(site, f"[limits]\n{limit}\n{ENGINE}") == code
    assert versions(site) == made
    said = capsys.readouterr().out
    assert ("PROBLEM: cosine 0.99" in said) is bool(code)
    assert ("NOT added to the store" in said) is bool(code)
    assert site.report()["verdict"] == ("over limits" if code else "within limits")


def test_over_a_limit_the_store_keeps_the_version_it_has(site):
    calibrate(site)
    before = {path: path.read_bytes() for path in site.store.rglob("*") if path.is_file()}
    text = f"[quantize]\nmethod = 'minmax'\n[limits]\ncosine_min = 1.0\n{ENGINE}"
    assert calibrate(site, text) == ExitCode.OVER_LIMIT
    assert {path: path.read_bytes() for path in site.store.rglob("*") if path.is_file()} == before


def test_labels_of_classes(site, capsys):
    rows = "".join(f"{number:03}.png,{number % CLASSES}\n" for number in range(24))
    (site.folder / "l.csv").write_text(f"file,label\n{rows}")
    assert calibrate(site, "[limits]\naccuracy_drop_max = 1.0\n", top='labels = "l.csv"') == ExitCode.OK
    assert site.report()["samples"]["labelled"] == 6
    said = capsys.readouterr().out
    assert "of 6 labelled frames" in said
    assert "note: 18 of the 24 labelled frames are not held out, and count for nothing" in said


def test_labels_of_none_of_the_held_out_frames(site, capsys):
    (site.folder / "l.csv").write_text("file,label\nelsewhere.png,0\n")
    text = "[limits]\naccuracy_drop_max = 1.0\n"
    assert calibrate(site, text, top='labels = "l.csv"') == ExitCode.OVER_LIMIT
    said = capsys.readouterr().out
    assert "PROBLEM: drop of the accuracy could not be measured, expected at most 1.000" in said
    assert "1 of the 1 labelled frames are not held out" in said


def test_other_labels_are_another_comparison(site, capsys):
    labels = site.folder / "l.csv"
    labels.write_text("file,label\n" + "".join(f"{n:03}.png,0\n" for n in range(24)))
    calibrate(site, top='labels = "l.csv"')
    first = site.report()["figures"]["classes"]["reference_top1"]
    labels.write_text("file,label\n" + "".join(f"{n:03}.png,5\n" for n in range(24)))
    calibrate(site, top='labels = "l.csv"')
    assert site.report()["figures"]["classes"]["reference_top1"] != first


# What is printed


def test_json_alone_is_on_standard_output(site, capsys):
    assert calibrate(site, ENGINE, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == site.report()
    assert calibrate(site, f"[limits]\ncosine_min = 1.0\n{ENGINE}", "--json") == ExitCode.OVER_LIMIT
    assert json.loads(capsys.readouterr().out)["problems"]


def test_check_looks_and_does_nothing(site, capsys):
    assert calibrate(site, ENGINE, "--check") == ExitCode.OK
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("model.onnx: 3 layers and 3 tensors can be INT8")
    assert second.endswith(f"the first frame came: 32x32 bgr8 from {site.folder}/pictures#0")
    assert not site.work.exists()
    assert calibrate(site, "[limits]\nrecall_min = 0.5\n", "--check") == ExitCode.CONFIG
    assert "limits.recall_min: is of boxes" in capsys.readouterr().err


def test_check_takes_the_first_frame_of_the_source(site, capsys):
    assert calibrate(site, ENGINE, "--check", sample=site.clip()) == ExitCode.OK
    assert "the first frame came: 32x32 bgr8 from file:clip.avi#0\n" in capsys.readouterr().out
    code = calibrate(site, ENGINE, "--check", "--set", "sample.source=file:absent.avi", sample=site.clip())
    said = capsys.readouterr()
    assert code == ExitCode.OUTSIDE
    assert "3 layers and 3 tensors can be INT8" in said.out
    assert "absent.avi cannot be opened: there is no such file" in said.err
    assert not site.work.exists()


def test_check_waits_for_a_silent_sender_no_longer_than_its_patience(site, capsys, tmp_path):
    sample = f'source = "pull+bind:ipc://{tmp_path}/s"\npatience_s = 0.3'
    started_s = time.monotonic()
    assert calibrate(site, ENGINE, "--check", sample=sample) == ExitCode.OUTSIDE
    assert time.monotonic() - started_s < 5
    assert "no frame for 0.3 s" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_a_store_that_is_not_there_is_the_recipe_s_mistake(site, capsys, words):
    assert calibrate(site, ENGINE, "--set", "store=nowhere", *words) == ExitCode.CONFIG
    told = f"recipe.toml: store = 'nowhere': there is no folder {site.folder}/nowhere"
    assert told in capsys.readouterr().err


def test_a_key_set_beside_the_recipe_holds_and_is_told_after_a_stop(site, capsys, monkeypatch):
    assert calibrate(site, ENGINE, "--set", "quantize.method=minmax") == ExitCode.OK
    assert site.report()["method"] == "minmax"
    capsys.readouterr()
    stream = StopAt("read the model", 1)
    monkeypatch.setattr("sys.stderr", stream)
    assert calibrate(site, ENGINE, "--set", "quantize.method=mse") == 130
    assert stream.getvalue().endswith("recipe.toml --set quantize.method=mse\n")


def test_without_an_engine_the_next_command_is_told(site, capsys):
    assert calibrate(site, "") == ExitCode.OK
    command = f"edgert build {site.work}/model.int8.onnx --precision int8 --store {site.store}"
    assert f"  to build it: {command} --name tiny-int8 --like tiny\n" in capsys.readouterr().out
    assert calibrate(site, f"{ENGINE}activate = false\n") == ExitCode.OK
    assert "  NOT in the store: engine.activate is false\n" in capsys.readouterr().out
    assert versions(site) == []


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    assert "edgert calibrate calibration/coco.toml --check" in capsys.readouterr().out


# Few frames, strange frames, strange models


@pytest.mark.parametrize(("count", "told"), [(0, "no picture"), (1, "a single frame")])
def test_too_few_frames(site, capsys, count, told):
    for path in sorted((site.folder / "pictures").iterdir())[count:]:
        path.unlink()
    assert calibrate(site) == ExitCode.CONFIG
    assert told in capsys.readouterr().err
    assert not site.work.exists()


def test_two_frames_have_to_do(tmp_path, capsys):
    site = RecipeSite(tmp_path)
    assert calibrate(site, sample=site.pictures(2)) == ExitCode.OK
    samples = site.report()["samples"]
    assert (samples["calibration"], samples["selection"], samples["held_out"]) == (1, 0, 1)
    said = capsys.readouterr().out
    assert "There were no frames to choose a method by, so it is mse" in said
    assert (
        "Fewer frames than the 18 wanted: 1 to calibrate with, 0 for selection, 1 held out, of 2 offered"
        in said
    )


def test_copies_of_one_picture_are_one_frame(tmp_path, capsys):
    site = RecipeSite(tmp_path)
    assert calibrate(site, sample=site.pictures(make=lambda _: blotch(0))) == ExitCode.CONFIG
    assert "a single frame, which nothing can be measured against" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code"), [(ENGINE, ExitCode.OK), (f"[limits]\ncosine_min = 0.5\n{ENGINE}", ExitCode.OVER_LIMIT)]
)
def test_a_clip_of_black_frames(tmp_path, capsys, text, code):
    site = RecipeSite(tmp_path)
    sample = site.clip(make=lambda _: np.zeros((SIDE, SIDE, 3), np.uint8))
    assert calibrate(site, text, sample=sample) == code
    assert site.report()["samples"]["held_out"] == 0
    said = capsys.readouterr().out
    assert "All 40 frames are the same picture" in said
    assert ("PROBLEM: there are limits, and no frame was held out to measure with" in said) is bool(code)
    [image] = [tensor for tensor in site.report()["tensors"] if tensor["name"] == "image"]
    assert image["is_dead"]
    assert image["amax"] > 0


def test_fewer_frames_than_asked_are_noted(site):
    assert calibrate(site, few="count = 100\nselection_count = 10\nheld_out_count = 10\n") == ExitCode.OK
    assert site.report()["notes"][0].startswith("Fewer frames than the 120 wanted: ")


def test_a_model_that_gives_nan_names_tensor_and_frame(tmp_path, capsys):
    bias = np.array([np.nan, *np.zeros(7)], np.float32)
    site = RecipeSite(tmp_path, classifier(b1=bias))
    assert calibrate(site, sample=site.pictures()) == ExitCode.MODEL
    said = capsys.readouterr().err
    assert "Tensor 'r1' holds " in said
    assert f"frame {tmp_path}/pictures/" in said
    assert versions(site) == []


def test_dead_channels_are_quantized_all_the_same(tmp_path):
    kernels = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    kernels[2] = 0
    site = RecipeSite(tmp_path, classifier(k1=kernels))
    assert calibrate(site, sample=site.pictures()) == ExitCode.OK
    assert site.report()["figures"]["tensors"][0]["not_finite"] == 0
    assert site.report()["figures"]["classes"]["top1_agreement"] == 1.0


def test_a_model_of_products(tmp_path):
    site = RecipeSite(tmp_path, product())
    assert calibrate(site, sample=site.pictures()) == ExitCode.OK
    assert site.report()["figures"]["tensors"][0]["cosine_mean"] > 0.999
    assert site.report()["candidate"]["size_bytes"] < 0.4 * site.report()["reference"]["size_bytes"]


def test_the_cache_that_was_written_is_a_recipe_for_the_same_model(site):
    calibrate(site, "[quantize]\nmost_sensitive = 0\n")
    (site.folder / "old.cache").write_bytes((site.work / "calibration.cache").read_bytes())
    before = (site.work / "model.int8.onnx").read_bytes()
    assert calibrate(site, '[quantize]\ncache = "old.cache"\nmost_sensitive = 0\n') == ExitCode.OK
    assert site.report()["method"] == "cache"
    after = (site.work / "model.int8.onnx").read_bytes()
    old, new = (
        run(onnx.load_from_string(model), {"image": np.full((1, 3, SIDE, SIDE), 0.5, np.float32)})["logits"]
        for model in (before, after)
    )
    np.testing.assert_allclose(new, old, rtol=1e-5)


def test_the_cache_has_no_range_for_what_a_layer_in_float_alone_reads(tmp_path, monkeypatch):
    """With one, an older board would quantize the very layers that the search kept in float."""
    monkeypatch.setattr("edgert.calibrate.choose.fewest_layers", lambda tried, _agreement_min: max(tried))
    site = RecipeSite(tmp_path, settings=AS_TENSORS)
    site.pictures()
    assert calibrate(site, "[quantize]\nmost_sensitive = 1\n") == ExitCode.OK
    [kept] = [layer.name for layer in read_report(site.work / "report.json").layers if layer.is_kept]
    reads = {"first": "image", "second": "r1", "last": "flat"}
    scales = read_calibration_cache(site.work / "calibration.cache").scales
    assert set(scales) == set(reads.values()) - {reads[kept]}


def test_the_store_says_who_may_read_it(site):
    """What is installed is a model like others: its settings are the FP32 model's."""
    calibrate(site)
    store = ModelStore(load_recipe(site.folder / "recipe.toml").store)
    assert store.names() == ("tiny", "tiny-int8")
    assert store.entry("tiny-int8").settings.tree["prepare"] == store.entry("tiny").settings.tree["prepare"]
    assert store.entry("tiny-int8").settings.tree["engine"] == {"runtime": "onnxruntime"}

"""Pipeline files: what `edgert check` finds wrong, and how it says so."""

from __future__ import annotations

import pytest

from edgert.errors import ConfigError, EdgertError, ModelError
from edgert.pipeline.file import PipelineFile
from tests.fakes import store
from tests.fakes.store import EXACT, Site

GOOD = '[sources.door]\nuri = "replay:noise"\nmodels = ["noop"]\n'
SSD_CONFIG = """\
max_batch_size: 4
input [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 2, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ 2, 2 ] }
]
"""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add_noop()
    return site


def refusal(site, text, overrides=()):
    """Return what is said of a file whose keys or values are wrong."""
    path = site.write(text)
    with pytest.raises(ConfigError) as refused:
        PipelineFile.load(path, overrides)
    assert str(refused.value).startswith(f"{path}: ") or overrides
    return str(refused.value).removeprefix(f"{path}: ")


def problems(site, text, overrides=()):
    """Return all that is wrong with a file whose keys and values are of the right types."""
    path = site.write(text)
    found = [str(problem) for problem in PipelineFile.load(path, overrides).problems()]
    return [problem.removeprefix(f"{path}: ") for problem in found]


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ('type = "lines"\npath = "/no/such/folder/out.jsonl"', "sinks.out: "),
        ('type = "mqtt"\nuser = "u"\npassword_file = "/no/such/secret"', "sinks.out: "),
    ],
    ids=["lines", "mqtt"],
)
def test_files_of_sinks_are_looked_at(site, sink, said):
    [problem] = problems(site, GOOD + f"[sinks.out]\n{sink}\n")
    assert problem.startswith(said)
    assert "/no/such/" in problem


def test_clip_that_is_not_there_is_a_problem(site):
    text = '[sources.s]\nuri = "file:no.mp4"\nmodels = ["noop"]\n'
    [problem] = problems(site, text)
    assert "sources.s: uri = 'file:no.mp4': there is no file" in problem


def test_good_file_has_no_problems(site):
    assert problems(site, GOOD) == []


def test_models_are_those_that_sources_name_each_once(site):
    site.add_noop("other")
    text = GOOD.replace('"noop"', '"noop", "other/1"') + GOOD.replace("door", "back")
    assert PipelineFile.load(site.write(text)).model_names == ("noop", "other")


# Keys and values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sources.door]\nurl = 1\n", "sources.door: unknown key 'url'; did you mean 'uri'?"),
        ("[sources.door]\nmodels = []\n", "sources.door: key 'uri' is missing"),
        ("[sources.door]\nuri = 5\n", "sources.door.uri = 5: expected `str`, got `int`"),
        (GOOD + "slots = 1\n", "sources.door.slots = 1: expected `int` >= 2"),
        (GOOD + 'policy = "all"\n', "sources.door.policy = 'all': expected one of 'latest', 'every'"),
        (GOOD.replace('["noop"]', '"noop"'), "sources.door.models = 'noop': expected `array`, got `str`"),
        (GOOD + '[sinks.s]\ntype = "kafka"\n', "sinks.s.type = 'kafka': expected one of"),
        (GOOD + '[sinks.s]\nhost = "x"\n', "sinks.s: key 'type' is missing"),
        (GOOD + '[sinks.s]\ntype = "mqtt"\nqos = 3\n', "sinks.s.qos = 3: expected one of 0, 1, 2"),
        (GOOD + "[http]\nport = 70000\n", "http.port = 70000: expected `int` <= 65535"),
        (GOOD + "[service]\ndrain_s = -1\n", "service.drain_s = -1: expected `float` >= 0"),
        (GOOD + '[service]\nlog = "xml"\n', "service.log = 'xml': expected one of 'text', 'json'"),
        (GOOD + "[pipeline]\n", "the file: unknown key 'pipeline'; known keys: control, http, models, node"),
    ],
)
def test_wrong_key_or_value_is_named_with_what_was_expected(site, text, said):
    assert refusal(site, text).startswith(said)


def test_node_and_store_are_needed(site):
    path = site.folder / "empty.toml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match="the file: key 'node' is missing"):
        PipelineFile.load(path)


def test_two_sources_of_one_name_are_no_toml(site):
    said = refusal(site, GOOD + GOOD)
    assert said.startswith("not valid TOML: ")
    assert "door" in said
    assert "line 6" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"node = ", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
        (None, "no such file"),
        ("folder", "cannot be read"),
    ],
    ids=["toml", "text", "absent", "folder"],
)
def test_file_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "p.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        PipelineFile.load(path)
    assert str(refused.value).startswith(f"{path}: {said}")


# Names


@pytest.mark.parametrize("name", ["front/door", "a+b", "a#b", "$door", " door", "x" * 129, "a\u0007b"])
@pytest.mark.parametrize("kind", ["source", "sink", "node"])
def test_names_that_cannot_be_in_a_topic_are_refused(site, kind, name):
    quoted = '"' + name.replace("\u0007", "\\u0007") + '"'
    texts = {
        "source": GOOD.replace("door", quoted),
        "sink": GOOD + f'[sinks.{quoted}]\ntype = "lines"\n',
        "node": GOOD,
    }
    overrides = [f"node={quoted}"] if kind == "node" else []
    [said] = problems(site, texts[kind], overrides)
    key = {"source": f"sources.{name}", "sink": f"sinks.{name}", "node": "node"}[kind]
    assert said.startswith(f"{key}: name {name!r} ")
    assert said.endswith("a leading '$', or space at either end.")


@pytest.mark.parametrize("name", ["a+b", "a#b", "$model"])
def test_model_whose_name_cannot_be_in_a_topic_is_refused(site, name):
    site.add_noop(name)
    said = problems(site, GOOD.replace('"noop"', f'"{name}"'))
    assert said[0].startswith(f"sources.door.models = {name!r}: name {name!r} ")


# Sources


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            'uri = "http://x"\nmodels = ["noop"]',
            "sources.door: uri 'http://x': expected the scheme to be one of",
        ),
        (
            'uri = "rtsp://user:hunter2@"\nmodels = ["noop"]\nfourcc = "MJPG"',
            "sources.door: fourcc = 'MJPG': means nothing for rtsp://user:***@; only for v4l2",
        ),
        ('uri = "replay:noise"', "sources.door.models: names no model, so its frames would go nowhere"),
        (
            'uri = "sub+bind:tcp://127.0.0.1:1"\npolicy = "every"\nmodels = ["noop"]',
            "sources.door: policy = 'every' on sub+bind:tcp://127.0.0.1:1: a SUB socket cannot",
        ),
    ],
)
def test_wrong_source_is_named_with_what_was_expected(site, source, said):
    [found] = problems(site, f"[sources.door]\n{source}\n")
    assert found.startswith(said)
    assert "hunter2" not in found


def test_file_without_sources_is_told_what_to_add(site):
    assert problems(site, "[sources]\n") == [
        'sources: none is given; add one, e.g. [sources.door] uri = "v4l2:/dev/video0"'
    ]


def test_every_problem_is_told_not_only_the_first(site):
    text = '[sources."a/b"]\nuri = "x:y"\nmodels = ["noop"]\n' + GOOD.replace("noop", "cat")
    found = problems(site, text + "[models.dog.decode]\nscore_min = 1\n")
    assert len(found) == 4
    assert [any(word in problem for problem in found) for word in ("a/b: name", "uri 'x:y'", "'cat'", "dog")]


# Models and versions


def test_missing_model_is_told_with_its_nearest_neighbour(site):
    assert problems(site, GOOD.replace('"noop"', '"nop"')) == [
        f"Model 'nop' is not in the store {site.store}; did you mean 'noop'?"
    ]


def test_missing_store_is_told(site):
    said = problems(site, GOOD, ["store=absent"])
    assert said == [f"{site.folder}/absent: cannot be read: No such file or directory"]


@pytest.mark.parametrize("version", ["2", "01", "x", "", "1/1"])
def test_version_that_is_not_served_is_refused(site, version):
    [said] = problems(site, GOOD.replace('"noop"', f'"noop/{version}"'))
    assert said.startswith(
        f"sources.door.models = 'noop/{version}': version {version} is not served; served: [1]"
    )


@pytest.mark.parametrize("model", ["../noop", "..", ".hidden", "a\\\\b", ""])
def test_model_name_that_leaves_the_store_is_refused(site, model):
    assert problems(site, GOOD.replace('"noop"', f'"{model}"')) != []


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ('default_model_filename: "../../other/1/model.onnx"', "default_model_filename"),
        ('default_model_filename: "/etc/passwd"', "default_model_filename"),
        ('output [ { name: "mean" label_filename: "../../labels.txt" } ]', "output[0].label_filename"),
    ],
)
def test_path_that_leaves_the_model_is_refused(site, config, field):
    site.add("mean", store.mean_model(), config=config + "\n")
    site.add("other", store.mean_model())
    [said] = problems(site, GOOD.replace("noop", "mean"))
    assert said.startswith(f"{site.store}/mean/config.pbtxt: field {field} = ")
    assert f"expected a file inside {site.store}/mean" in said


def test_link_that_leaves_the_store_is_refused(site):
    (site.folder / "secret.txt").write_text("cat\n")
    folder = site.add("mean", store.mean_model(), settings='[labels]\nfile = "labels.txt"\n')
    (folder / "labels.txt").symlink_to(site.folder / "secret.txt")
    [said] = problems(site, GOOD.replace("noop", "mean"))
    assert "a link leads to" in said


def test_broken_pbtxt_is_told_with_its_line(site):
    site.add("mean", store.mean_model(), config="max_batch_size: 4\ninput { name: }\n")
    [said] = problems(site, GOOD.replace("noop", "mean"))
    assert said.startswith(f"{site.store}/mean/config.pbtxt:2:")


def test_unknown_field_of_a_pbtxt_is_a_warning(site):
    site.add("mean", store.mean_model(), config="max_batch_size: 4\nrespond_cache { enable: true }\n")
    file = PipelineFile.load(site.write(GOOD.replace("noop", "mean")))
    assert file.warnings() == [
        f"{site.store}/mean/config.pbtxt:2: field 'respond_cache' is not known to edgert and is ignored; "
        "did you mean 'response_cache'?",
        f"{site.store}/mean/edgert.toml: there is no [decode], so raw tensors are published",
    ]


def test_field_that_is_read_and_not_followed_is_a_warning(site):
    site.add_noop(config="max_batch_size: 4\ndynamic_batching { preserve_ordering: true }\n")
    [said] = PipelineFile.load(site.write(GOOD)).warnings()
    assert said.endswith(
        "field dynamic_batching.preserve_ordering is followed for requests only, not for frames"
    )


def test_what_only_requests_have_is_a_warning_for_frames(site):
    site.add_noop(
        config="""instance_group { kind: KIND_CPU rate_limiter { priority: 2 } }
        model_warmup { } response_cache { enable: true }
        dynamic_batching { default_queue_policy { max_queue_size: 3 } }"""
    )
    warnings = PipelineFile.load(site.write(GOOD)).warnings()
    assert [warning.split(" ", 1)[1] for warning in warnings] == [
        f"field {name} is followed for requests only, not for frames"
        for name in (
            "dynamic_batching.default_queue_policy",
            "instance_group.rate_limiter",
            "model_warmup",
            "response_cache",
        )
    ]


def test_ensemble_cannot_be_fed_frames(site):
    site.add(
        "noop",
        config="""platform: "ensemble" input { name: "x" data_type: TYPE_FP32 dims: 1 }
        output { name: "y" data_type: TYPE_FP32 dims: 1 } ensemble_scheduling { step { model_name: "b"
        input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } }""",
        settings="",
    )
    assert any("it answers requests and is fed no frames" in said for said in problems(site, GOOD))


def test_missing_engine_is_told_with_what_was_looked_for(site):
    site.add("mean", settings=EXACT)
    [said] = problems(site, GOOD.replace("noop", "mean"))
    assert said.startswith(f"{site.store}/mean/1: looked for model.plan or model.onnx")


# Settings and overrides


def test_wrong_settings_name_their_own_file(site):
    site.add("mean", store.mean_model(), settings='[decode]\nkind = "ssd"\nscore_min = 2\n')
    [said] = problems(site, GOOD.replace("noop", "mean"))
    assert said == f"{site.store}/mean/edgert.toml: decode.score_min = 2: expected `float` <= 1.0"


def test_wrong_override_names_the_pipeline_file(site):
    site.add("ssd", store.ssd_model(), settings='[decode]\nkind = "ssd"\n')
    text = GOOD.replace("noop", "ssd") + "[models.ssd.decode]\nscore_min = 2\n"
    assert problems(site, text) == ["models.ssd.decode.score_min = 2: expected `float` <= 1.0"]
    text = GOOD.replace("noop", "ssd") + "[models.ssd.decode]\nscore_mn = 0.2\n"
    assert problems(site, text) == ["models.ssd.decode: unknown key 'score_mn'; did you mean 'score_min'?"]


def test_override_of_a_model_that_no_source_feeds_is_refused(site):
    site.add_noop("other")
    assert problems(site, GOOD + "[models.other.engine]\nlanes = 2\n") == [
        "models.other: no source feeds a model of this name"
    ]


def test_overrides_lie_on_the_settings_of_the_model(site):
    site.add("ssd", store.ssd_model(), settings='[decode]\nkind = "ssd"\nscore_min = 0.4\niou_max = 0.3\n')
    text = (
        GOOD.replace("noop", "ssd") + "[models.ssd.decode]\nscore_min = 0.9\n[models.ssd.engine]\nlanes = 3\n"
    )
    plan = PipelineFile.load(site.write(text)).plan("ssd")
    assert (plan.settings.decode.score_min, plan.settings.decode.iou_max, plan.lanes) == (0.9, 0.3, 3)


def test_labels_and_runtime_can_be_overridden_too(site):
    folder = site.add(
        "mean", store.mean_model(), settings='[labels]\nfile = "labels.txt"\n', labels="a\nb\nc\n"
    )
    (folder / "other.txt").write_text("x\ny\nz\n")
    (folder / "1" / "model.plan").write_bytes(b"")
    text = GOOD.replace("noop", "mean")
    text += '[models.mean.labels]\nfile = "other.txt"\n[models.mean.engine]\nruntime = "onnxruntime"\n'
    file = PipelineFile.load(site.write(text))
    assert list(file.problems()) == []
    plan = file.plan("mean")
    assert plan.entry.labels() == ("x", "y", "z")
    assert plan.entry.engine_file(plan.entry.chosen_versions()[0]).name == "model.onnx"


# Labels and outputs


def test_missing_label_file_is_told(site):
    site.add("mean", store.mean_model(), settings='[labels]\nfile = "labels.txt"\n')
    [said] = problems(site, GOOD.replace("noop", "mean"))
    folder = site.store / "mean"
    assert said == f"{folder}/edgert.toml: labels.file = 'labels.txt': {folder}/labels.txt: no such file"


def test_labels_are_counted_against_the_outputs_that_the_configuration_states(site):
    settings = EXACT + '[decode]\nkind = "ssd"\n[labels]\nfile = "labels.txt"\n'
    site.add("ssd", store.ssd_model(), config=SSD_CONFIG, settings=settings, labels="cat\ndog\nbird\n")
    assert problems(site, GOOD.replace("noop", "ssd")) == [
        f"{site.store}/ssd/edgert.toml: [decode]: The label file has 3 labels, the engine's output 2 classes."
    ]
    (site.store / "ssd" / "labels.txt").write_text("cat\ndog\n")
    assert problems(site, GOOD.replace("noop", "ssd")) == []


def test_decoder_that_does_not_fit_the_stated_outputs_is_told(site):
    site.add("ssd", store.ssd_model(), config=SSD_CONFIG, settings='[decode]\nkind = "centerface"\n')
    [said] = problems(site, GOOD.replace("noop", "ssd"))
    assert said.startswith(f"{site.store}/ssd/edgert.toml: [decode]: No output of 1 channel")


def test_outputs_that_are_not_stated_are_left_to_the_engine(site):
    settings = '[decode]\nkind = "ssd"\n[labels]\nfile = "labels.txt"\n'
    site.add("ssd", store.ssd_model(), settings=settings, labels="cat\ndog\nbird\n")
    assert problems(site, GOOD.replace("noop", "ssd")) == []


def test_classification_of_one_of_several_outputs_follows_the_configuration(site):
    config = SSD_CONFIG.replace('"boxes"', '"other"')
    site.add("top", config=config, settings='[engine]\nruntime = "noop"\n[decode]\nkind = "classify"\n')
    [said] = problems(site, GOOD.replace("noop", "top"))
    assert "Set output in [decode]." in said


# --set


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("node=porch", "node", "porch"),
        ('node = "porch"', "node", "porch"),
        ("service.drain_s=0.5", "service.drain_s", 0.5),
        ("service.log=json", "service.log", "json"),
        ("http.port=0", "http.port", 0),
        (
            "sources.door.uri=replay:noise?width=16&height=16",
            "sources.door.uri",
            "replay:noise?width=16&height=16",
        ),
        ('sources.door.models=["noop/1"]', "sources.door.models", ["noop/1"]),
        ("sources.door.loop=true", "sources.door.loop", True),
    ],
)
def test_settings_override_keys(site, setting, key, value):
    options = PipelineFile.load(site.write(GOOD), [setting]).options
    for step in key.split("."):
        options = options[step] if isinstance(options, dict) else getattr(options, step)
    assert options == value


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("node", "--set node: expected KEY=VALUE, e.g. --set node=porch"),
        ("=x", "--set =x: expected KEY=VALUE"),
        ("a..b=1", "--set a..b=1: expected KEY=VALUE"),
        ("node.x=1", "--set node.x=1: node is a value, not a table"),
        ("service.drian_s=1", "pipeline.toml: service: unknown key 'drian_s'; did you mean 'drain_s'?"),
        ("http.port=web", "pipeline.toml: http.port = 'web': expected `int`, got `str`"),
    ],
)
def test_wrong_settings_are_told(site, setting, said):
    with pytest.raises(ConfigError) as refused:
        PipelineFile.load(site.write(GOOD), [setting])
    assert said in str(refused.value)


def test_reading_again_keeps_the_settings_and_sees_the_file_as_it_is(site):
    file = PipelineFile.load(site.write(GOOD), ["node=porch"])
    site.write(GOOD + "[service]\ndrain_s = 1.5\n")
    again = file.read_again()
    assert (again.options.node, again.options.service.drain_s) == ("porch", 1.5)
    site.write("[")
    with pytest.raises(ConfigError):
        file.read_again()


def test_checking_raises_the_first_problem(site):
    with pytest.raises(ModelError, match="Model 'cat' is not in the store"):
        PipelineFile.load(site.write(GOOD.replace("noop", "cat"))).check()
    with pytest.raises(EdgertError, match="none is given"):
        PipelineFile.load(site.write("[sources]\n")).check()


def test_paths_are_relative_to_the_file(site):
    file = PipelineFile.load(site.write(GOOD))
    assert file.store.folder == site.store


# Commands

BROKER = '[sinks.broker]\ntype = "mqtt"\n'
OTHER = '[sinks.b]\ntype = "mqtt"\ntopic_root = "b"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            BROKER + '[control]\nallow = []\nsink = "lines"\n',
            "control.sink = 'lines': no MQTT sink has this name",
        ),
        (BROKER + '[control]\nallow = []\nsink = "b"\n', "there is broker"),
        ('[sinks.lines]\ntype = "lines"\n[control]\nallow = []\n', "control.sink: must name the MQTT sink"),
        (BROKER + OTHER + "[control]\nallow = []\n", "there is broker, b"),
        (
            BROKER + '[control]\nallow = ["load:cat"]\n',
            "control.allow: 'load:cat' names no model of this file; there is noop",
        ),
        (
            BROKER + '[control]\nallow = ["load", "pause:noop"]\n',
            "control.allow: 'pause:noop' names no source of this file; there is door",
        ),
    ],
)
def test_commands_that_nobody_could_give_are_a_problem(site, text, said):
    [problem] = problems(site, GOOD + text)
    assert said in problem


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ("", "control: key 'allow' is missing"),
        ('allow = ["load"]\nalow = 1', "control: unknown key 'alow'; did you mean 'allow'?"),
        ('allow = ["sing"]', "allow: 'sing' begins with no verb"),
        ("allow = []\nper_minute = 0", "control.per_minute = 0: expected `int` >= 1"),
    ],
)
def test_a_wrong_table_of_control_is_told(site, control, said):
    assert said in refusal(site, GOOD + BROKER + f"[control]\n{control}\n")


def test_the_one_mqtt_sink_listens_or_the_one_that_is_named(site):
    allow = '[control]\nallow = ["ping", "load:noop", "pause:door"]\n'
    file = site.load(GOOD + BROKER + allow)
    assert file.control_sink(file.options.control) == "broker"
    file = site.load(GOOD + BROKER + OTHER + allow + 'sink = "b"\n')
    assert file.control_sink(file.options.control) == "b"
    assert site.load(GOOD).options.control is None


DOOR_TEXT = '[sources.door]\nuri = "replay:noise?width=8&height=8&frames=2"\nmodels = ["noop"]\n'


def test_two_sinks_with_the_same_topics_are_a_problem(site):
    both = '[sinks.b]\ntype = "mqtt"\nencoding = "msgpack"\n'
    with pytest.raises(ConfigError, match=r"sinks\.b: publishes to the same topics as sinks\.a"):
        site.load(DOOR_TEXT + '[sinks.a]\ntype = "mqtt"\n' + both)
    site.load(DOOR_TEXT + '[sinks.a]\ntype = "mqtt"\ntopic_root = "packed"\n' + both)


@pytest.mark.parametrize("key", ["sources", "models"])
def test_a_filter_of_what_is_not_there_is_a_problem(site, key):
    with pytest.raises(ConfigError, match=rf"sinks.l.filter.{key}: 'nope' is none; there are"):
        site.load(DOOR_TEXT + f'[sinks.l]\ntype = "lines"\nfilter = {{ {key} = ["nope"] }}\n')


SSD_SETTINGS = '[decode]\nkind = "ssd"\nboxes = "boxes"\nscores = "scores"\n'
SSD_DOOR = '[sources.door]\nuri = "replay:noise"\nmodels = ["noop", "ssd"]\n'


@pytest.fixture
def label_problems(site):
    """Return a function that returns what is wrong with a filter, beside a model with these labels."""

    def label_problems(chosen, labels="person\nbicycle\n", decode=SSD_SETTINGS):
        settings = decode + ('[labels]\nfile = "labels.txt"\n' if labels else "")
        site.add("ssd", store.ssd_model(), config=SSD_CONFIG, settings=settings, labels=labels)
        return problems(site, SSD_DOOR + f'[sinks.l]\ntype = "lines"\nfilter = {{ {chosen} }}\n')

    return label_problems


@pytest.mark.parametrize(
    ("chosen", "hint"),
    [
        ('labels = ["person", "bycicle"]', "'bycicle' is none of noop, ssd; did you mean 'bicycle'?"),
        ('labels = ["whale"]', "'whale' is none of noop, ssd; there are 2 labels"),
        ('labels = ["1"]', "'1' is none of noop, ssd; there are 2 labels"),
        ('labels = ["person"], models = ["noop"]', "'person' is none of noop; there are 0 labels"),
    ],
)
def test_a_filter_of_a_label_that_nobody_finds_is_a_problem(label_problems, chosen, hint):
    assert label_problems(chosen) == [f"sinks.l.filter.labels: {hint}"]


def test_a_filter_of_a_label_that_a_model_finds_is_none(label_problems):
    assert label_problems('labels = ["person", "2"]') == []
    assert label_problems('labels = ["0", "1"]', labels="") == []


def test_labels_of_a_model_that_is_wrong_are_not_looked_at(label_problems):
    [problem] = label_problems('labels = ["whale"]', decode="[decode]\nkind = 1\n")
    assert "filter" not in problem


# Where a spool lies


def spool_problems(site, place):
    text = f'[sinks.m]\ntype = "mqtt"\nqos = 1\nspool = {{ path = "{place}" }}\n'
    before = sorted(site.folder.rglob("*"))
    found = problems(site, GOOD + text)
    assert {*site.folder.rglob("*")} - {*before} <= {site.folder / "pipeline.toml"}
    return found


def test_a_spool_may_be_in_folders_that_are_not_there_yet(site):
    assert spool_problems(site, "a/b/c.db") == []


def test_a_spool_that_cannot_be_made_is_a_problem(site):
    (site.folder / "file").write_text("")
    [problem] = spool_problems(site, "file/b/c.db")
    assert problem.startswith("sinks.m: Sink m: spool.path ")
    assert problem.endswith(f"/file/b/c.db: {site.folder}/file is a file; expected a folder")

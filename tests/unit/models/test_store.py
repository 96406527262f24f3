"""The model store as a folder of files."""

import pytest

from edgert.errors import ModelError
from edgert.models.model_config import ModelConfig
from edgert.models.store import ModelStore, ModelVersion, wrong_with


class Folder:
    """Writes a store's files; a file's parents come with it."""

    def __init__(self, path):
        self.path = path
        self.store = ModelStore(path)

    def write(self, name, content=""):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def entry(self, name="m"):
        return self.store.entry(name)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    return Folder(tmp_path / "store")


def refuse(call, *args):
    with pytest.raises(ModelError) as caught:
        call(*args)
    return str(caught.value)


# Models


def test_names_are_those_of_folders_that_hold_a_model(folder):
    folder.write("zebra/config.pbtxt")
    folder.write("by_version/1/model.onnx")
    folder.write("by_settings/edgert.toml")
    folder.write("notes/readme.txt")
    folder.write(".git/config.pbtxt")
    folder.write("lost+found/config.pbtxt")
    folder.write("config.pbtxt")
    assert folder.store.names() == ("by_settings", "by_version", "zebra")


def test_store_that_is_absent_is_an_error(tmp_path):
    assert "absent: cannot be read: No such file" in refuse(ModelStore(tmp_path / "absent").names)


def test_model_that_cannot_be_read_is_listed_and_says_why(folder, monkeypatch):
    folder.write("m/config.pbtxt")

    def list_folder_without_permission(path):
        if path.name == "m":
            raise ModelError(f"{path}: cannot be read: Permission denied")
        return sorted(path.iterdir())

    monkeypatch.setattr("edgert.models.store.list_folder", list_folder_without_permission)
    assert folder.store.names() == ("m",)
    assert "m: cannot be read: Permission denied" in refuse(folder.entry)


def test_entry_holds_configuration_settings_and_warnings(folder):
    path = folder.write("m/config.pbtxt", 'name: "m"\nmax_batch_size: 2\nresponses { enable: true }')
    folder.write("m/edgert.toml", '[engine]\nruntime = "noop"\n')
    entry = folder.entry()
    assert (entry.name, entry.folder) == ("m", folder.path / "m")
    assert (entry.config.max_batch_size, entry.config.file) == (2, str(path))
    assert entry.settings.tree == {"engine": {"runtime": "noop"}}
    assert entry.settings.path == folder.path / "m" / "edgert.toml"
    assert entry.warnings == (f"{path}:3: field 'responses' is not known to edgert and is ignored",)


def test_model_without_any_file_of_settings_has_empty_ones(folder):
    folder.write("m/1/model.onnx")
    entry = folder.entry()
    assert entry.config == ModelConfig(file=str(folder.path / "m" / "config.pbtxt"), name="m")
    assert entry.settings.tree == {}
    assert entry.warnings == ()


def test_entry_is_read_anew_each_time(folder):
    folder.write("m/config.pbtxt", "max_batch_size: 1")
    before = folder.entry()
    folder.write("m/config.pbtxt", "max_batch_size: 2")
    assert (before.config.max_batch_size, folder.entry().config.max_batch_size) == (1, 2)


def test_model_that_is_absent_is_told_with_near_and_known_names(folder):
    folder.write("detector/config.pbtxt")
    folder.write("faces/config.pbtxt")
    assert "did you mean 'detector'?" in refuse(folder.entry, "detectr")
    assert "it has: detector, faces" in refuse(folder.entry, "xyz")


def test_folder_without_a_model_is_told(folder):
    (folder.path / "m").mkdir()
    assert "its folder has neither config.pbtxt nor a version such as" in refuse(folder.entry)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "/abs", "a+b", "a#", "a\\b", "a\nb", "a\0b", "x" * 256, "\ud800"],
)
def test_name_that_cannot_be_a_topic_level_or_folder_is_refused(folder, name):
    assert wrong_with(name)
    assert "expected a name" in refuse(folder.entry, name)


@pytest.mark.parametrize("name", ["m", "SSD-Lite_v2.1", "größe", "with space", "1"])
def test_other_names_are_fine(name):
    assert wrong_with(name) == ""


def test_model_reached_through_a_link_out_of_the_store_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (folder.path / "m").symlink_to(tmp_path / "elsewhere")
    assert "outside the store" in refuse(folder.entry)


@pytest.mark.parametrize("name", ["config.pbtxt", "edgert.toml"])
def test_files_of_settings_may_not_be_links_out_of_the_store(folder, tmp_path, name):
    folder.write("m/1/model.onnx")
    (tmp_path / "secret").write_text("")
    (folder.path / "m" / name).symlink_to(tmp_path / "secret")
    assert "outside the store" in refuse(folder.entry)


@pytest.mark.parametrize("name", ["config.pbtxt", "edgert.toml"])
def test_link_that_leads_nowhere_is_not_taken_for_an_absent_file(folder, name):
    folder.write("m/1/model.onnx")
    (folder.path / "m" / name).symlink_to(folder.path / "gone")
    assert "o such file" in refuse(folder.entry)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config.pbtxt",
            'name: "n"',
            "config.pbtxt:1: field name: found 'n', expected its folder's name, 'm'",
        ),
        ("config.pbtxt", "max_batch_size: x", "config.pbtxt:1: field max_batch_size: found 'x'"),
        ("config.pbtxt", b"\xff", "config.pbtxt:1: not text in UTF-8"),
        ("edgert.toml", "a = ", "edgert.toml: not valid TOML"),
        ("edgert.toml", b"\xff", "edgert.toml: cannot be read"),
        (
            "edgert.toml",
            "#" * ((1 << 20) + 1),
            "edgert.toml: has 1048577 bytes or more, expected at most 1048576",
        ),
    ],
)
def test_broken_file_of_settings_is_told_with_its_name(folder, name, content, message):
    folder.write(f"m/{name}", content)
    assert message in refuse(folder.entry)


def test_broken_model_does_not_hide_the_others(folder):
    folder.write("broken/config.pbtxt", "}")
    folder.write("sound/config.pbtxt")
    assert folder.store.names() == ("broken", "sound")
    assert folder.entry("sound").name == "sound"


# Versions


def with_versions(folder, config, *names):
    folder.write("m/config.pbtxt", config)
    for name in names:
        (folder.path / "m" / name).mkdir()
    return folder.entry()


def test_versions_are_positive_numbers_in_order(folder):
    entry = with_versions(folder, "", "10", "9", "2", "0", "01", "-1", "1a", "v3", "x", "٣", "9" * 19)
    folder.write("m/7", "a file")
    assert entry.versions() == tuple(
        ModelVersion("m", number, folder.path / "m" / str(number)) for number in (2, 9, 10)
    )


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [
        ("", [10]),
        ("version_policy { latest { num_versions: 2 } }", [9, 10]),
        ("version_policy { all { } }", [2, 9, 10]),
        ("version_policy { specific { versions: [ 9, 2 ] } }", [2, 9]),
    ],
)
def test_policy_chooses_versions(folder, policy, numbers):
    entry = with_versions(folder, policy, "10", "9", "2")
    assert [version.number for version in entry.chosen_versions()] == numbers


def test_no_version_is_an_error(folder):
    assert "has no version, expected a folder such as" in refuse(with_versions(folder, "").chosen_versions)


def test_specific_version_that_is_missing_is_an_error(folder):
    entry = with_versions(folder, "version_policy { specific { versions: [ 2, 3, 4 ] } }", "1", "2")
    assert "versions: found 3, 4, expected versions that are present: 1, 2" in refuse(entry.chosen_versions)


# Engine files

CC = 'cc_model_filenames { key: "8.7" value: "orin.plan" } '


def engine(folder, config, files, settings="", capability=None):
    folder.write("m/config.pbtxt", config)
    folder.write("m/edgert.toml", settings)
    (folder.path / "m" / "1").mkdir()
    for name in files:
        folder.write(f"m/1/{name}")
    entry = folder.entry()
    return entry.engine_file(entry.versions()[0], capability)


@pytest.mark.parametrize(
    ("config", "capability", "files", "chosen"),
    [
        (CC, "8.7", ["orin.plan", "model.plan"], "orin.plan"),
        (CC, "7.2", ["orin.plan", "model.plan"], "model.plan"),
        (CC, None, ["orin.plan", "model.plan"], "model.plan"),
        (CC + 'default_model_filename: "d.plan"', "8.7", ["orin.plan", "d.plan"], "orin.plan"),
        (CC + 'default_model_filename: "d.plan"', "7.2", ["orin.plan", "d.plan", "model.plan"], "d.plan"),
        ('platform: "tensorrt_plan"', None, ["model.onnx", "model.plan"], "model.plan"),
        ('backend: "onnxruntime"', None, ["model.onnx", "model.plan"], "model.onnx"),
        ('backend: "onnxruntime"', None, ["yolo.onnx", "model.plan", "yolo.txt"], "yolo.onnx"),
        ("", None, ["model.onnx"], "model.onnx"),
        ("", None, ["model.plan", "other.plan"], "model.plan"),
        ("", None, ["Net.ENGINE", "notes.md"], "Net.ENGINE"),
        ('default_model_filename: "sub/net"', None, ["sub/net", "model.plan"], "sub/net"),
    ],
)
def test_engine_file_is_chosen(folder, config, capability, files, chosen):
    assert engine(folder, config, files, capability=capability) == folder.path / "m" / "1" / chosen


def test_runtime_of_edgert_toml_chooses_the_engine_file(folder):
    settings = '[engine]\nruntime = "onnxruntime"'
    path = engine(folder, 'platform: "tensorrt_plan"', ["model.onnx", "model.plan"], settings)
    assert path.name == "model.onnx"


def test_noop_engine_needs_no_file(folder):
    assert engine(folder, "", [], '[engine]\nruntime = "noop"') == folder.path / "m" / "1"


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        (
            "",
            [],
            "looked for model.plan or model.onnx, or one file ending in .plan, .engine, .trt, .onnx, .ort;",
        ),
        (
            "",
            ["model.onnx", "model.plan"],
            "found model.onnx, model.plan. Give default_model_filename or platform",
        ),
        ("", ["a.onnx", "b.onnx"], "found a.onnx, b.onnx."),
        (
            'backend: "tensorrt"',
            ["model.onnx"],
            "looked for model.plan, or one file ending in .plan, .engine, .trt;",
        ),
        (
            'default_model_filename: "gone.plan"',
            ["model.plan"],
            "default_model_filename = 'gone.plan': expected a file",
        ),
        ('default_model_filename: "../../n/1/x.plan"', [], "expected a file inside"),
        ('default_model_filename: "/etc/passwd"', [], "expected a file inside"),
        ('platform: "ensemble"', ["model.plan"], "field platform: found 'ensemble'"),
    ],
)
def test_engine_file_that_is_missing_or_unclear_is_told(folder, config, files, message):
    assert message in refuse(engine, folder, config, files)


def test_engine_of_the_right_capability_must_exist_even_if_another_does(folder):
    with pytest.raises(ModelError, match=r"cc_model_filenames\[8\.7\] = 'orin\.plan': expected a file"):
        engine(folder, CC, ["model.plan"], capability="8.7")


def test_engine_file_may_not_be_a_link_out_of_the_store(folder, tmp_path):
    (tmp_path / "outside.onnx").write_bytes(b"")
    (folder.path / "m" / "1").mkdir(parents=True)
    (folder.path / "m" / "1" / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    entry = folder.entry()
    assert "outside the store" in refuse(entry.engine_file, entry.versions()[0])


# Labels

OUTPUTS = """output { name: "boxes" }
output { name: "kinds" label_filename: "kinds.txt" }
output { name: "colours" label_filename: "colours.txt" }"""


def test_labels_of_an_output(folder):
    folder.write("m/config.pbtxt", OUTPUTS)
    folder.write("m/edgert.toml", '[labels]\nfile = "all.txt"\ncolour = "red"')
    folder.write("m/kinds.txt", "cat\ndog\n")
    folder.write("m/colours.txt", "red\n")
    folder.write("m/all.txt", "everything")
    entry = folder.entry()
    assert entry.labels() == entry.labels("kinds") == ("cat", "dog")
    assert entry.labels("colours") == ("red",)
    assert entry.labels("boxes") == entry.labels("other") == ("everything",)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("", ()),
        ("\n\n", ()),
        ("cat", ("cat",)),
        ("cat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("\ncat\n\n dog \n", ("", "cat", "", "dog")),
        ("\ufeffcat\nété", ("cat", "été")),
        ("traffic light\nliné sep\u2028arator", ("traffic light", "liné sep\u2028arator")),
    ],
)
def test_labels_are_one_a_line(folder, content, labels):
    folder.write("m/edgert.toml", '[labels]\nfile = "labels.txt"')
    folder.write("m/labels.txt", content)
    assert folder.entry().labels() == labels


def test_no_label_file_named_means_no_labels(folder):
    folder.write("m/config.pbtxt", 'output { name: "boxes" }')
    folder.write("m/edgert.toml", "labels = 3")
    assert folder.entry().labels() == ()
    assert folder.entry().labels("boxes") == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('"gone.txt"', "edgert.toml: labels.file = 'gone.txt': "),
        ('"/etc/hostname"', "labels.file = '/etc/hostname': expected a file inside"),
        ('"../n/labels.txt"', "labels.file = '../n/labels.txt': expected a file inside"),
        ('"bad.txt"', "bad.txt:2: not text in UTF-8"),
        ("3", "labels.file = 3: expected a file's name"),
    ],
)
def test_labels_that_cannot_be_read_are_an_error(folder, settings, message):
    folder.write("m/edgert.toml", f"[labels]\nfile = {settings}")
    folder.write("m/bad.txt", b"a\n\xff")
    assert message in refuse(folder.entry().labels)


@pytest.mark.parametrize("config", [None, "max_batch_size: 4\n"])
def test_a_model_in_python_that_does_not_say_so_is_told_what_it_needs(tmp_path, config):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").write_text("")
    if config is not None:
        (tmp_path / "m" / "config.pbtxt").write_text(config)
    entry = ModelStore(tmp_path).entry("m")
    with pytest.raises(ModelError, match=r'model\.py is there, .*config\.pbtxt .* Give backend: "python"'):
        entry.engine_file(entry.versions()[0])

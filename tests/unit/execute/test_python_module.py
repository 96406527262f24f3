"""A model's code: modules of its own, new at each load, gone afterwards."""

from __future__ import annotations

import os
import sys
import threading
import weakref

import pytest

from edgert.execute.python_module import ModelCode
from tests.fakes.python_model import write_model


@pytest.fixture
def open_code(tmp_path):
    opened = []

    def open_one(source, name="m", given=None, own=None, **helpers):
        place = write_model(tmp_path, source, name, **helpers)
        code = ModelCode(f"{name}_1", (place, place.parent), given or {}, **(own or {}))
        opened.append(code)
        return code

    yield open_one
    for code in opened:
        if code.package in sys.modules:
            code.leave()


def test_two_models_with_modules_of_the_same_name_do_not_meet(open_code):
    one = open_code("import helper\nvalue = helper.value", "one", helper="value = 1").load("model")
    two = open_code("import helper\nvalue = helper.value", "two", helper="value = 2").load("model")
    assert (one.value, two.value) == (1, 2)
    assert one.__name__ != two.__name__
    assert "helper" not in sys.modules


@pytest.mark.parametrize(
    "statement",
    [
        "from helper import value",
        "from .helper import value",
        "from . import helper\nvalue = helper.value",
        "import helper as other\nvalue = other.value",
        "from helper import *",
    ],
)
def test_modules_beside_model_py_are_found_however_they_are_imported(open_code, statement):
    assert open_code(statement, helper="value = 7").load("model").value == 7


@pytest.mark.parametrize(
    "statement",
    [
        "import tools.boxes\nvalue = tools.boxes.value",
        "import tools.boxes as boxes\nvalue = boxes.value",
        "from tools import boxes\nvalue = boxes.value",
        "from tools.boxes import value",
    ],
)
def test_packages_beside_model_py_are_found(open_code, tmp_path, statement):
    code = open_code(statement)
    folder = tmp_path / "m" / "1" / "tools"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "boxes.py").write_text("from .inner import value")
    (folder / "inner.py").write_text("value = 3")
    assert code.load("model").value == 3


def test_modules_of_the_models_folder_are_found_after_those_of_the_version(open_code, tmp_path):
    code = open_code("import near, far\nvalue = near.value + far.value", near="value = 'version '")
    for name in ("near", "far"):
        (tmp_path / "m" / f"{name}.py").write_text("value = 'model'")
    assert code.load("model").value == "version model"


def test_a_file_comes_before_what_is_installed_and_the_standard_library_before_it(open_code):
    code = open_code("import json, pytest", json="value = 1", pytest="value = 2")
    module = code.load("model")
    assert module.json is sys.modules["json"]
    assert module.pytest.value == 2


def test_a_bare_folder_gives_way_to_what_is_installed(open_code, tmp_path):
    code = open_code("import numpy, weights.names\nvalue = weights.names.value")
    for name in ("numpy", "weights"):
        (tmp_path / "m" / "1" / name).mkdir()
    (tmp_path / "m" / "1" / "weights" / "names.py").write_text("value = 4")
    module = code.load("model")
    assert module.numpy is sys.modules["numpy"]
    assert module.value == 4


def test_imports_that_come_late_and_on_other_threads_are_the_models_own(open_code):
    module = open_code("def ask():\n    import helper\n    return helper.value", helper="value = 5").load(
        "model"
    )
    found = []
    thread = threading.Thread(target=lambda: found.append(module.ask()))
    thread.start()
    thread.join()
    assert found == [5]


def test_sys_path_is_left_alone(open_code):
    before = list(sys.path)
    open_code("import sys, helper\nseen = list(sys.path)", helper="").load("model")
    assert sys.path == before


def test_a_module_that_is_nowhere_is_not_found(open_code):
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        open_code("import no_such_thing").load("model")


def test_what_is_given_is_seen_by_the_model_alone(open_code):
    given = {"only_here": sys.modules[__name__]}
    module = open_code("import only_here\nimport helper", given=given, helper="import only_here").load(
        "model"
    )
    assert module.only_here is module.helper.only_here is sys.modules[__name__]
    assert "only_here" not in sys.modules


def test_built_in_functions_can_be_replaced_for_the_model_alone(open_code):
    said = []
    open_code("import helper\nprint('a')", own={"print": said.append}, helper="print('b')").load("model")
    assert said == ["b", "a"]


def test_dataclasses_and_pickles_work(open_code):
    source = """
    from __future__ import annotations
    import dataclasses, pickle

    @dataclasses.dataclass
    class Box:
        side: int

    again = pickle.loads(pickle.dumps(Box(3)))
    """
    assert open_code(source).load("model").again.side == 3


def test_a_reload_takes_the_new_source_even_of_the_same_size_and_time(open_code, tmp_path):
    source = "import helper\nvalue = helper.value"
    first = open_code(source, helper="value = 1")
    assert first.load("model").value == 1
    file = tmp_path / "m" / "1" / "helper.py"
    when = file.stat()
    first.leave()

    second = open_code(source, helper="value = 2")
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert second.load("model").value == 2


def test_nothing_is_written_to_the_folder(open_code, tmp_path):
    open_code("import helper", helper="value = 1").load("model")
    assert sorted(path.name for path in (tmp_path / "m" / "1").iterdir()) == ["helper.py", "model.py"]


def test_what_the_old_code_held_is_freed(open_code):
    code = open_code("import helper\nclass Thing: pass\nthing = Thing()", helper="def f(): pass")
    module = code.load("model")
    watched = [weakref.ref(module.thing), weakref.ref(module.Thing), weakref.ref(module.helper.f)]
    package = code.package
    del module
    code.leave()
    assert [ref() for ref in watched] == [None] * 3
    assert not [name for name in sys.modules if name.startswith(package)]


def test_code_stays_until_its_last_user_leaves(open_code):
    code = open_code("value = 1")
    code.load("model")
    code.use()
    code.leave()
    assert f"{code.package}.model" in sys.modules
    code.leave()
    assert f"{code.package}.model" not in sys.modules


def test_old_and_new_code_live_side_by_side_and_the_name_comes_back(open_code):
    old, new = open_code("value = 1"), open_code("value = 2")
    assert old.package != new.package
    assert (old.load("model").value, new.load("model").value) == (2, 2)
    name = old.package
    old.leave()
    new.leave()
    assert open_code("value = 3").package == name

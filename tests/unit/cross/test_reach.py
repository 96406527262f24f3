"""What is left of wheels: what edgert's modules lead to, and nothing else."""

from __future__ import annotations

import pytest

from cross.errors import BundleError
from cross.prune import prune, unreached
from cross.reach import modules_of, reached


def lay(folder, texts):
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def from_edgert(folder):
    return reached(modules_of(folder), ["edgert"])


def test_every_way_of_importing_is_followed(tmp_path):
    lay(
        tmp_path,
        {
            "edgert/__init__.py": "import a.deep\nfrom c.sub import x\ndef f():\n    from b import part, y",
            "a/__init__.py": "",
            "a/deep.py": "from . import side\nfrom .. import nothing\n",
            "a/side.py": "from .below import y",
            "a/below.py": "",
            "a/unused.py": "",
            "b/__init__.py": "",
            "b/part.py": "",
            "c/__init__.py": "",
            "c/sub/__init__.py": "from ..up import z",
            "c/up.py": "",
            "d.py": "",
        },
    )
    expected = {"edgert", "a", "a.deep", "a.side", "a.below", "b", "b.part", "c", "c.sub", "c.up"}
    assert from_edgert(tmp_path) == expected


def test_names_in_texts_and_in_native_modules_count(tmp_path):
    lay(
        tmp_path,
        {
            "edgert/__init__.py": "import n\nload('plug.ins')\nload('.near', __package__)",
            "edgert/near.py": "",
            "plug/__init__.py": "",
            "plug/ins.py": "",
            "n.cpython-311-aarch64-linux-gnu.so": b"\x7fELF PyInit_n\0q.helper\0q.other2\0",
            "q/__init__.py": "",
            "q/helper.py": "",
            "q/other.py": "",
        },
    )
    assert from_edgert(tmp_path) == {"edgert", "edgert.near", "plug", "plug.ins", "n", "q", "q.helper"}


def test_what_a_package_loads_by_names_it_puts_together_stays(tmp_path):
    lay(
        tmp_path,
        {"edgert/__init__.py": "import cv2", "cv2/__init__.py": "", "cv2/config.py": "", "cv2/x/y.py": ""},
    )
    assert from_edgert(tmp_path) == {"edgert", "cv2", "cv2.config", "cv2.x.y"}


def test_a_library_that_another_one_loads_is_no_module(tmp_path):
    lay(tmp_path, {"edgert/libdriver.so": b"\x7fELF"})
    assert modules_of(tmp_path) == {}


def test_a_source_that_is_no_python_is_named(tmp_path):
    lay(tmp_path, {"edgert/__init__.py": "def ("})
    with pytest.raises(BundleError, match=r"__init__\.py is no Python"):
        from_edgert(tmp_path)


def test_what_nothing_reads_goes_and_what_is_read_stays(tmp_path):
    kept = {
        "edgert/__init__.py": "import a",
        "edgert/own.py": "",
        "edgert/prepare/cuda/kernels.cu": "",
        "a/__init__.py": "",
        "a/table.json": "{}",
        "a.libs/liba-1234.so.5": "",
        "a-1.dist-info/METADATA": "",
    }
    gone = {
        "a/unused.py": "12345",
        "a/__init__.pyi": "",
        "a/py.typed": "",
        "a/include/a.h": "",
        "a/tests/test_a.py": "",
        "a/tests/data/big.bin": "1234567",
        "a/LICENSE": "",
        "a-1.dist-info/RECORD": "",
        "a-1.dist-info/licenses/LICENSE": "",
        "b/__init__.py": "",
        "b/data.json": "",
    }
    lay(tmp_path, kept | gone)
    assert prune(tmp_path) == 12
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()} == set(
        kept
    )
    assert not [folder for folder in tmp_path.rglob("*") if folder.is_dir() and not [*folder.iterdir()]]
    assert unreached(tmp_path) == []


def test_patterns_keep_more(tmp_path):
    lay(tmp_path, {"edgert/__init__.py": "", "n/__init__.py": "", "n/include/n.h": ""})
    prune(tmp_path, ("n/include/*",))
    assert (tmp_path / "n" / "include" / "n.h").exists()
    assert not (tmp_path / "n" / "__init__.py").exists()

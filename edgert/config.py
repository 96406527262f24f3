"""Reads TOML into typed options; an error names file, key, value and what was expected."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgert.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
Tree = dict[str, Any]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all option groups: unknown keys are refused, values are checked when read.

    Subclasses say `frozen=True, kw_only=True` themselves: msgspec does not inherit the second, and
    type checkers want the first.
    """


class Document:
    """A parsed TOML file that remembers its path, so that errors can name it."""

    def __init__(self, path: Path, tree: Tree) -> None:
        self.path = path
        self.tree = tree

    @classmethod
    def load(cls, path: Path) -> Document:
        """Parse `path`. Raises ConfigError if it is absent, unreadable or not TOML."""
        try:
            return cls(path, tomllib.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error

    def as_type(self, kind: type[T]) -> T:
        """Return the whole file as `kind`. Raises ConfigError."""
        return self._convert(self.tree, kind, "")

    def section(self, key: str, kind: type[T]) -> T:
        """Return table `key` as `kind`, from an empty table if it is absent. Raises ConfigError."""
        return self._convert(self.tree.get(key, {}), kind, key)

    def resolve(self, path: str) -> Path:
        """Return `path` relative to the folder this file stands in; absolute paths stay."""
        return self.path.parent / Path(path).expanduser()

    def override(self, settings: Iterable[str]) -> Document:
        """Return a copy with `a.b.c=value` settings applied; a value is TOML, else a bare string."""
        tree = _copy(self.tree)
        for setting in settings:
            _set(tree, setting)
        return Document(self.path, tree)

    def _convert(self, tree: Any, kind: type[T], prefix: str) -> T:
        try:
            return msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.path}: {_explain(str(error), tree, kind, prefix)}") from None


def merge(base: Tree, over: Tree) -> Tree:
    """Return `base` with the values of `over` laid on it, table by table. Neither is changed."""
    merged = _copy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _copy(tree: Tree) -> Tree:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _set(tree: Tree, setting: str) -> None:
    key, found, text = setting.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not found or not all(names):
        raise ConfigError(f"--set {setting}: expected KEY=VALUE, e.g. --set node=porch")
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {setting}: {name} is a value, not a table")
    tree[names[-1]] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(message: str, tree: Any, kind: Any, prefix: str) -> str:
    """Turn msgspec's `Expected ... - at `$.a[...].b`` into `a.name.b = value: expected ...`."""
    text, _, path = message.partition(" - at `$")
    where, value, kind = _walk(re.findall(r"[^.\[\]`]+|\.\.\.", path), tree, kind, prefix)
    unknown = re.match(r"Object contains unknown field `(.*)`", text)
    if unknown:
        return _explain_unknown(unknown[1], where or "the file", kind)
    missing = re.match(r"Object missing required field `(.*)`", text)
    if missing:
        return f"{where or 'the file'}: key {missing[1]!r} is missing"
    return f"{where or 'the file'} = {value!r}: {text[0].lower()}{text[1:]}"


def _explain_unknown(name: str, where: str, kind: Any) -> str:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"{where}: unknown key {name!r}; {hint}"


def _walk(steps: list[str], value: Any, kind: Any, where: str) -> tuple[str, Any, Any]:
    """Follow msgspec's path; where it says `...` (any key of a table), find the key that fails."""
    for step in steps:
        kind = _plain(kind)
        if hasattr(kind, "__struct_fields__"):
            kind = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}[step]
            key: Any = step
        else:
            kind = kind.__args__[-1]
            key = int(step) if step.isdigit() else _failing_key(value, kind)
        where = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
        value = value[key]
    return where, value, _plain(kind)


def _failing_key(table: Tree, kind: Any) -> str:
    for key, value in table.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return key
    raise AssertionError("msgspec refused a table whose values it accepts")


def _plain(kind: Any) -> Any:
    """Take `X` out of `X | None`."""
    options = [a for a in getattr(kind, "__args__", ()) if a is not type(None)]
    is_optional = type(None) in getattr(kind, "__args__", ())
    return options[0] if is_optional and len(options) == 1 else kind

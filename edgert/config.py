"""Reads TOML into typed options; an error names file, key, value and what was expected."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

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
        """Return `path` relative to this file's folder; absolute paths stay. Raises ConfigError."""
        try:
            return self.path.parent / Path(path).expanduser()
        except RuntimeError as error:  # `~name` of a user who does not exist
            raise ConfigError(f"{self.path}: path {path!r}: {error}") from error

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
    if text.startswith("Invalid ") and get_origin(kind) is Literal:
        text = f"expected one of {', '.join(map(repr, get_args(kind)))}"
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"{where or 'the file'}{shown}: {text[0].lower()}{text[1:]}"


def _explain_unknown(name: str, where: str, kind: Any) -> str:
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"{where}: unknown key {name!r}; {hint}"


def _walk(steps: list[str], value: Any, kind: Any, where: str) -> tuple[str, Any, Any]:
    """Follow msgspec's path; where it says `...` (any key of a table), find the key that fails."""
    kind = _plain(kind, value)
    for step in steps:
        key, kind = _enter(step, value, kind)
        where = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}".lstrip(".")
        value = value[key]
        kind = _plain(kind, value)
    return where, value, kind


def _enter(step: str, value: Any, kind: Any) -> tuple[str | int, Any]:
    """Return the key or index that a step of the path means, and the type of what is there."""
    if step == "...":
        element = get_args(kind)[-1]
        return _failing_key(value, element), element
    if step.isdigit():
        elements = [element for element in get_args(kind) if element is not ...]
        return int(step), elements[min(int(step), len(elements) - 1)]
    tags = [option.__struct_config__.tag for option in _structs(kind, tag_field=step)]
    if tags:
        return step, Literal.__getitem__(tuple(tags))
    return step, next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == step)


def _failing_key(table: Tree, kind: Any) -> str:
    for key, value in table.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return key
    raise AssertionError("msgspec refused a table whose values it accepts")


def _plain(kind: Any, value: Any) -> Any:
    """Take off `Annotated`; of a union, take what `value` was read as, where that is plain."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0], value)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    options = [option for option in get_args(kind) if option is not type(None)]
    if len(options) == 1:
        return _plain(options[0], value)
    fitting = [option for option in options if _fits(option, value)]
    return _plain(fitting[0], value) if len(fitting) == 1 else kind


def _fits(option: Any, value: Any) -> bool:
    """Say whether a table or array was read as this option of a union. A table's tag decides."""
    plain = _plain(option, value)
    config = getattr(plain, "__struct_config__", None)
    if config is not None:
        return isinstance(value, dict) and bool(value.get(config.tag_field) == config.tag)
    kinds = (list, tuple) if isinstance(value, list) else (dict,) if isinstance(value, dict) else ()
    return get_origin(plain) in kinds


def _structs(kind: Any, tag_field: str) -> list[Any]:
    """Return the option groups that `kind` allows and that are told apart by `tag_field`."""
    options = [kind, *get_args(kind)]
    configs = [(option, getattr(option, "__struct_config__", None)) for option in options]
    return [option for option, config in configs if config is not None and config.tag_field == tag_field]

"""Reports as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_RANGE = ({"minimum", "optimum", "maximum"}, {"min", "opt", "max"})
_COLUMNS = ("kind", "precision", "tactic", "name")
_WIDEST = 60


def people_lines(report: dict[str, Any], *, with_layers: bool = False) -> list[str]:
    """Return a report as indented lines, `key: value`; a table of each engine's layers comes last."""
    return [*tree_lines(report), *(_layer_tables(report, "") if with_layers else ())]


def tree_lines(tree: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a tree as indented lines."""
    for key, value in tree.items():
        if key == "layers" and isinstance(value, (list, tuple)):
            yield f"{indent}layers: {len(value)}{' (--layers lists them)' if value else ''}"
        elif isinstance(value, dict) and value and set(value) not in _RANGE:
            yield f"{indent}{key}:"
            yield from tree_lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, dict) for item in value):
            yield f"{indent}{key}:"
            yield from tree_lines({str(index): item for index, item in enumerate(value)}, indent + "  ")
        else:
            yield f"{indent}{key}: {_leaf(key, value)}"


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows under their header, each column as wide as its widest cell."""
    cells = [[cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 1]}…" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for row in (header, *cells):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def bytes_text(size_bytes: int) -> str:
    """Return a size for people."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _leaf(key: str, value: Any) -> str:
    if isinstance(value, dict) and value:  # the shapes that a profile covers
        least, best, most = ("x".join(map(str, shape)) for shape in value.values())
        return f"{least} to {most}, best {best}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    is_size = key.endswith("bytes") and isinstance(value, int) and value >= 1024
    return f"{value} ({bytes_text(value)})" if is_size else str(value)


def _layer_tables(tree: dict[str, Any], title: str) -> Iterator[str]:
    for key, value in tree.items():
        if key == "layers" and isinstance(value, (list, tuple)) and value:
            yield ""
            yield f"layers{title}"
            yield from table_lines(_COLUMNS, ([str(layer[name]) for name in _COLUMNS] for layer in value))
        elif isinstance(value, dict):
            yield from _layer_tables(value, f"{title} of version {key}" if key.isdigit() else title)

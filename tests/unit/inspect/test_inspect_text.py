"""Reports as lines for people."""

from __future__ import annotations

import pytest

from edgert.inspect.text import bytes_text, people_lines, table_lines, tree_lines

LAYER = {"name": "conv1", "kind": "Conv", "tactic": "", "precision": "Half"}


def test_a_tree_is_indented():
    tree = {"a": 1, "b": {"c": "x", "d": {}}, "e": [1, 2], "f": [], "g": None}
    assert list(tree_lines(tree)) == ["a: 1", "b:", "  c: x", "  d: {}", "e: 1, 2", "f: none", "g: none"]


def test_tables_in_a_list_are_numbered():
    tree = {"profiles": [{"x": {"min": [1, 2], "opt": [1, 3], "max": [1, 4]}}, {"x": "all"}]}
    assert list(tree_lines(tree)) == [
        "profiles:",
        "  0:",
        "    x: 1x2 to 1x4, best 1x3",
        "  1:",
        "    x: all",
    ]


def test_sizes_are_told_twice_where_they_are_large():
    assert list(tree_lines({"plan_bytes": 1023, "bytes": 3_145_728, "lanes": 5000})) == [
        "plan_bytes: 1023",
        "bytes: 3145728 (3.0 MiB)",
        "lanes: 5000",
    ]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (-2_097_152, "-2.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3072.0 GiB"),
    ],
)
def test_sizes_for_people(size_bytes, text):
    assert bytes_text(size_bytes) == text


def test_columns_are_as_wide_as_their_widest_cell_and_that_is_bounded():
    lines = list(table_lines(("a", "name"), [("x", "n" * 100), ("longer", "m")]))
    assert lines == ["a       name", "x       " + "n" * 59 + "…", "longer  m"]
    assert list(table_lines(("a", "b"), [])) == ["a  b"]


def test_layers_of_each_version_have_their_own_table():
    versions = {
        "1": {"engine": {"layers": [LAYER]}},
        "2": {"engine": {"layers": []}},
        "3": {"runs_here": "no"},
    }
    lines = people_lines({"versions": versions}, with_layers=True)
    assert lines[-4:] == [
        "",
        "layers of version 1",
        "kind  precision  tactic  name",
        "Conv  Half               conv1",
    ]
    assert "      layers: 0" in lines

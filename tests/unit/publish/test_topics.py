"""Names that may be a level of a topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.errors import ConfigError
from edgert.publish import topics


def test_the_tree():
    assert topics.prefix("edgert", "gate") == "edgert/gate/"
    assert topics.prefix("site/berlin", "gate") == "site/berlin/gate/"
    assert topics.source_state("porch") == "source/porch/state"
    assert topics.model_state("detector") == "model/detector/state"
    assert topics.result("porch", "detector") == "source/porch/result/detector"
    assert topics.command("reload") == "cmd/reload"


@pytest.mark.parametrize("name", ["a", "porch-1", "Tür 3", "a.b_c:d", "x" * 128, "a$b"])
def test_allowed_names(name):
    assert topics.check_name(name) == name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("a+", "contains '\\+'"),
        ("#", "contains '#'"),
        ("a/b", "contains '/'"),
        ("a\0b", r"contains '\\x00'"),
        ("a\nb", r"contains '\\n'"),
        ("$SYS", "begins with"),
        (" a", "begins or ends with space"),
        ("a ", "begins or ends with space"),
        ("x" * 129, "has 129 bytes"),
        ("ü" * 65, "has 130 bytes"),
        ("\ud800", "is not text"),
    ],
)
def test_refused_names_and_what_the_error_says(name, fault):
    with pytest.raises(ConfigError, match=rf"^source .* {fault}.*Allowed are 1 to 128 bytes"):
        topics.check_name(name, "source")


@pytest.mark.parametrize(
    ("root", "node"), [("", "n"), ("a//b", "n"), ("a/", "n"), ("$SYS", "n"), ("a", "n/m")]
)
def test_refused_prefixes(root, node):
    with pytest.raises(ConfigError):
        topics.prefix(root, node)


@given(name=st.text(max_size=150))
def test_an_accepted_name_never_adds_or_matches_a_level(name):
    try:
        topics.check_name(name)
    except ConfigError:
        return
    topic = topics.prefix("edgert", "n") + topics.result(name, name)
    assert topic.count("/") == 5
    assert not set("+#\0") & set(topic)
    assert len(topic.encode()) < 65_535

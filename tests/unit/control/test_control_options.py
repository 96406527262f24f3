"""What `[control]` allows."""

from __future__ import annotations

import msgspec
import pytest

from edgert.control.options import ControlOptions
from edgert.control.verbs import VERBS


def options(**keys):
    return msgspec.convert(keys, ControlOptions)


def test_nothing_is_allowed_that_is_not_written():
    for verb in VERBS:
        assert not options(allow=[]).allows_some(verb)
        assert not options(allow=[]).allows(verb, None)
    with pytest.raises(msgspec.ValidationError, match="missing required field `allow`"):
        options()


def test_a_verb_alone_is_for_all_of_them_and_one_with_a_name_for_that():
    allowed = options(allow=["load", "pause:door", "pause:a:b"])
    assert allowed.allows("load", "coco")
    assert allowed.allows("pause", "door")
    assert allowed.allows("pause", "a:b")
    assert not allowed.allows("pause", "a")
    assert not allowed.allows("pause", None)
    assert allowed.allows_some("pause")
    assert not allowed.allows_some("resume")
    assert list(allowed.subjects()) == [("pause:door", "source", "door"), ("pause:a:b", "source", "a:b")]


def test_a_star_is_everything():
    assert all(options(allow=["*"]).allows(verb, "any") for verb in VERBS)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("reboot", "'reboot' begins with no verb; verbs: load,"),
        ("", "'' begins with no verb"),
        ("*:coco", "begins with no verb"),
        ("load:", "'load:' is no verb, or a verb of models or sources"),
        ("drain:now", "'drain:now' is no verb, or a verb of models or sources"),
    ],
)
def test_an_entry_that_means_nothing_is_refused(entry, said):
    with pytest.raises(msgspec.ValidationError, match="allow") as refused:
        options(allow=[entry])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "keys", [{"max_bytes": 63}, {"per_minute": 0}, {"per_minute": 60_001}, {"sinks": ""}]
)
def test_values_have_bounds(keys):
    with pytest.raises(msgspec.ValidationError):
        options(allow=[], **keys)

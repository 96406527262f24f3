from __future__ import annotations

import json

import pytest

from edgert.errors import RequestError
from edgert.serve.encode import Wish
from edgert.serve.http import asked as http_asked
from edgert.serve.http.asked import MAX_REMEMBERED, MAX_REMEMBERED_BYTES, JsonReader


def text(**fields):
    tensor = {"name": "X", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    return memoryview(json.dumps({"inputs": [tensor], **fields}).encode())


@pytest.fixture
def reads(monkeypatch):
    """What was really read."""
    reads = []
    read = http_asked.read_json
    monkeypatch.setattr(
        http_asked, "read_json", lambda *given: (reads.append(bytes(given[0])), read(*given))[1]
    )
    return reads


def test_the_same_text_is_read_once(reads):
    reader = JsonReader()
    first, other, again = (reader.read(text(id=name)) for name in ("a", "b", "a"))
    assert first is again
    assert (first.body.id, other.body.id) == ("a", "b")
    assert reads == [text(id="a"), text(id="b")]


def test_so_many_texts_are_remembered(reads):
    reader = JsonReader()
    for _ in range(2):
        for index in range(MAX_REMEMBERED + 1):
            assert reader.read(text(id=str(index))).body.id == str(index)
    assert len(reads) > MAX_REMEMBERED + 1
    assert len(reader._remembered) <= MAX_REMEMBERED


def test_long_texts_are_not_remembered(reads):
    reader = JsonReader()
    for _ in range(2):
        reader.read(text(id="a" * MAX_REMEMBERED_BYTES))
    assert len(reads) == 2
    assert not reader._remembered


@pytest.mark.parametrize("fields", [{"inputs": 1}, {"parameters": {"priority": -1}}])
def test_what_is_wrong_is_wrong_again(fields):
    reader = JsonReader()
    for _ in range(2):
        with pytest.raises(RequestError):
            reader.read(text(**fields))


def test_outputs_are_wanted_as_they_say_or_else_as_all_are():
    outputs = [{"name": "A"}, {"name": "B", "parameters": {"binary_data": False, "classification": 3}}]
    asked = JsonReader().read(text(outputs=outputs, parameters={"binary_data_output": True}))
    assert asked.named == {"A": Wish(is_binary=True), "B": Wish(is_binary=False, classes=3)}
    assert (asked.otherwise, asked.has_regions) == (Wish(is_binary=True), False)


def test_shared_memory_is_looked_up_each_time():
    class Regions:
        spans = 0

        def span(self, *place):
            self.spans += 1
            return place

    place = {"shared_memory_region": "r", "shared_memory_offset": 1, "shared_memory_byte_size": 4}
    asked = JsonReader().read(text(outputs=[{"name": "A", "parameters": place}, {"name": "B"}]))
    assert asked.has_regions
    regions = Regions()
    for count in (1, 2):
        assert asked.wishes(regions) == {"A": Wish(span=("r", 1, 4)), "B": Wish()}
        assert regions.spans == count
    with pytest.raises(RequestError):
        asked.wishes(None)

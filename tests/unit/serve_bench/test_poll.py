"""Ways to write a version."""

import pytest

from tests.serve_bench import poll


@pytest.mark.parametrize(
    "write", [poll.write_slowly, poll.write_in_two_sittings, poll.write_aside, poll.write_over]
)
def test_every_way_ends_with_the_whole_file_and_nothing_beside_it(write, tmp_path, monkeypatch):
    monkeypatch.setattr(poll, "PIECE_S", 0.001)
    monkeypatch.setattr(poll, "PAUSE_S", 0.001)
    content = bytes(range(256)) * 9 + b"end"
    write(tmp_path / "2", content)
    assert (tmp_path / "2" / "model.onnx").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["2"]

"""What a request's header may ask for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgert.errors import RequestError
from edgert.serve.first_api.request import HEADER, HeaderReader
from tests.fakes.core import FakeCore


def test_no_input_has_more_axes_than_an_array():
    header = f'batch_size: 1 input {{ name: "INPUT0" {"dims: 4611686018427387904 " * 1000}}}'
    head = SimpleNamespace(headers={HEADER.lower().encode(): header.encode()})
    with FakeCore() as core, pytest.raises(RequestError, match="'INPUT0' has more than 32 dims"):
        HeaderReader(core, "identity", 1, None).read_header(SimpleNamespace(head=head))

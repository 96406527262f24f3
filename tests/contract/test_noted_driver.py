"""The fake device that notes what it is asked for is a Driver as the others are."""

from __future__ import annotations

import pytest

from edgert.device.memory import Budget
from tests.contract.test_driver_contract import TestDriver, TestStream, rig  # noqa: F401 - run here too
from tests.fakes.noted_device import NotedDriver


@pytest.fixture
def open_driver():
    return lambda limit_bytes=0: NotedDriver(Budget(limit_bytes))

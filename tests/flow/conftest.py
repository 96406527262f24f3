import gc
import sys

import pytest


@pytest.fixture(autouse=True)
def process_as_it_was():
    """Take back what a service sets for the whole process."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()

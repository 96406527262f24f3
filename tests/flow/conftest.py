import gc
import sys

import pytest


@pytest.fixture(autouse=True)
def process_as_it_was(frozen_again):
    """Take back what a service sets for the whole process."""
    interval = sys.getswitchinterval()
    gc.freeze()  # a service of the test before took that back
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()

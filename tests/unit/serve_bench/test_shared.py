"""Counters of the metrics' page."""

from tests.serve_bench.shared import read_counters

PAGE = """\
# TYPE edgert_device_copies_total counter
edgert_device_copies_total{kind="host_to_host"} 2.0
edgert_device_copies_total{kind="shared_to_host"} 1.5e+06
edgert_device_copied_bytes_total{kind="host_to_host"} 128.0
"""


def test_counters_are_read_by_kind():
    counted = {"host_to_host": 2.0, "shared_to_host": 1.5e6}
    assert read_counters(PAGE, "edgert_device_copies_total") == counted
    assert read_counters(PAGE, "edgert_device_copied_bytes_total") == {"host_to_host": 128.0}
    assert read_counters(PAGE, "edgert_other") == {}

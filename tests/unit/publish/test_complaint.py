"""Faults that are said once."""

from __future__ import annotations

import logging

from edgert.publish.complaint import Complaint


def test_a_lasting_fault_is_a_warning_once_and_its_end_is_news(caplog):
    caplog.set_level(logging.DEBUG)
    complaint = Complaint(logging.getLogger("test"), "Sink a")
    complaint.over("fine")
    for fault in ("gone", "gone", "refused", "refused"):
        complaint.raised(fault)
    complaint.over("back")
    complaint.over("back")
    complaint.raised("refused")
    complaint.forget()
    complaint.over("back")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Sink a: gone"),
        ("DEBUG", "Sink a: gone"),
        ("WARNING", "Sink a: refused"),
        ("DEBUG", "Sink a: refused"),
        ("INFO", "Sink a: back"),
        ("WARNING", "Sink a: refused"),
    ]

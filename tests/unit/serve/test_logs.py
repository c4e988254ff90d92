"""The daemon's log lines."""

from __future__ import annotations

import json
import logging
import sys

from kvsync.serve.logs import JsonLines


def test_a_record_is_one_line_of_json() -> None:
    """With its message, its extras and nothing of logging's own insides."""
    record = logging.makeLogRecord(
        {"name": "kvsync.x", "levelname": "WARNING", "msg": "a\nb %s", "args": ("c",), "pod": "p"}
    )
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"], line["pod"]) == ("warning", "kvsync.x", "a\nb c", "p")
    assert set(line) == {"time", "level", "logger", "message", "pod"}


def test_a_traceback_stays_on_the_line() -> None:
    """As one text."""
    try:
        raise ValueError("x")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    line = json.loads(JsonLines().format(record))
    assert "ValueError: x" in line["traceback"]

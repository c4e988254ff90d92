"""What is logged of bytes that are no HTTP."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong

from kvsync.serve.malformed import logger

SECRET = "Bearer 0123456789"

MALFORMED = [
    (BadHttpMessage(f"Invalid header value char:\n\n  b'{SECRET}'\n   ^"), "Invalid header value char"),
    (LineTooLong(f"Authorization: {SECRET}".encode(), 8190), "Got more than 8190 bytes when reading"),
    (InvalidURLError(f"/?token={SECRET}"), "Invalid URL"),
    (HttpProcessingError(code=400, message="Expected LF after chunk data:\n\n"), "Expected LF after chunk data"),
    (web.RequestPayloadError("Not enough data"), "Not enough data"),
]


@pytest.mark.parametrize(("error", "why"), MALFORMED)
def test_malformed_http_is_a_line_at_debug(error: Exception, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """It says why, without a traceback and without the bytes, which may be a secret."""
    caplog.set_level(logging.DEBUG, logger.name)
    logger.exception("Error handling request from %s", "127.0.0.1", exc_info=error)
    [record] = caplog.records
    assert record.levelname == "DEBUG"
    assert record.getMessage() == f"malformed HTTP: Error handling request from 127.0.0.1: {why}"
    assert record.exc_info is None


def test_malformed_http_is_not_logged_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    """So that nobody fills the log of a daemon in service."""
    caplog.set_level(logging.INFO, logger.name)
    logger.exception("Error handling request from %s", "127.0.0.1", exc_info=BadHttpMessage("x"))
    assert not caplog.records


def test_an_error_of_ours_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """And its level."""
    logger.exception("Unhandled exception", exc_info=ValueError("ours"))
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None

"""
What is logged of bytes that are no HTTP: one line at debug.

Anybody who reaches the port can send such bytes as often as they like, and the HTTP library logs each time as an error
with a traceback. It is told to use our logger instead. What is wrong stands in the answer (400); the bytes themselves
are not logged, as they may hold a token.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import InvalidURLError

_MALFORMED = (HttpProcessingError, web.RequestPayloadError)


class _Hush(logging.Filter):
    """Makes a line at debug of a record about malformed HTTP; others stay as they are, with their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, _MALFORMED):
            return True
        record.msg, record.args = f"malformed HTTP: {record.getMessage()}: {_why(error)}", ()
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        record.exc_info = record.exc_text = None
        return logger.isEnabledFor(logging.DEBUG)


logger = logging.getLogger("kvsync.serve.http")
logger.addFilter(_Hush())


def _why(error: BaseException) -> str:
    """What the library says up to where it quotes the bytes; of a URL it says nothing else."""
    if isinstance(error, InvalidURLError):
        return "Invalid URL"
    said = error.message if isinstance(error, HttpProcessingError) else str(error)
    return said.partition(":")[0].partition("\n")[0]

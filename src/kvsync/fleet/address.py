"""
HTTP addresses as an operator writes them: checked once, at the edge, with an error that says what to write instead.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from kvsync.errors import ConfigError

EXAMPLE = "http://127.0.0.1:8000"
PORT_MAX = 65_535


def check_http(text: str, where: str) -> str:
    """
    Give `text` as a base URL without a trailing slash; raise `ConfigError` unless it is http(s)://HOST[:PORT][/PATH].
    """
    parts = _split(text, where)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}: {text!r} is no HTTP address; write one like {EXAMPLE}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{where}: an address is scheme, host, port and path only; drop the rest of {parts.hostname}")
    if _port(parts, text, where) == 0:
        raise ConfigError(f"{where}: port 0 of {text!r} cannot be connected to; give the port the pod listens on")
    segments = parts.path.split("/")
    if "v1" in segments:
        base = f"{parts.scheme}://{parts.netloc}{'/'.join(segments[: segments.index('v1')])}"
        raise ConfigError(f"{where}: {text!r} holds a path of the API, which is added to each request; write {base}")
    return text.rstrip("/")


def _split(text: str, where: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text!r} is no address ({error}); write one like {EXAMPLE}") from error


def _port(parts: SplitResult, text: str, where: str) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ConfigError(f"{where}: the port of {text!r} is no number from 1 to {PORT_MAX}") from error

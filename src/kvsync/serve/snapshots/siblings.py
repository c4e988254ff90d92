"""
A snapshot from a daemon that runs already: asked for over HTTP, written to a file of ours, loaded by `begin`.

Siblings are asked in their order. One that is busy giving to another is asked again while there is time; one that is
not there, refuses us or gives too much is not. Nothing is believed here: the file is checked like any other.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from kvsync.errors import ConfigError
from kvsync.index.snapshot import unfinished
from kvsync.serve.auth import read_token
from kvsync.serve.settings import Settings
from kvsync.serve.snapshots.folder import NAME

CONNECT_S = 2.0
SILENCE_S = 10.0
AGAIN_S = 1.0
PIECE_BYTES = 1 << 20

_logger = logging.getLogger(__name__)


class _BusyError(Exception):
    """It gives to another just now."""


class _RefusedError(Exception):
    """Nothing is to be had there."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """Whom to ask, with which token; how long and how much it may take."""

    urls: tuple[str, ...] = ()
    token: bytes | None = field(default=None, repr=False)
    seconds: float = 30.0
    bytes_max: int = 1 << 33

    @asynccontextmanager
    async def fetched(self, folder: Path | None) -> AsyncIterator[tuple[Path, str] | None]:
        """A file with the first snapshot that was given, for as long as the context lasts, and who gave it."""
        if not self.urls:
            yield None
            return
        with _new_file(folder) as file:
            url = await self._fetch(file)
            yield None if url is None else (Path(file.name), url)

    async def _fetch(self, file: IO[bytes]) -> str | None:
        end, urls = time.monotonic() + self.seconds, list(self.urls)
        async with ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as session:
            while urls and time.monotonic() < end:
                for url in tuple(urls):
                    try:
                        async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
                            await self._ask(session, url, file)
                        return url
                    except _BusyError:
                        _logger.info("sibling %s is giving its snapshot to another; asking again", url)
                    except (_RefusedError, ClientError, OSError, TimeoutError) as error:
                        urls.remove(url)
                        _logger.warning("no snapshot from sibling %s: %s", url, _told(error))
                if urls:
                    await asyncio.sleep(min(AGAIN_S, max(0.0, end - time.monotonic())))
        when = "" if not urls else f" within {self.seconds:g} s"
        _logger.warning("no sibling gave a snapshot%s", when)
        return None

    async def _ask(self, session: ClientSession, url: str, file: IO[bytes]) -> None:
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        headers = {"Authorization": f"Bearer {(self.token or b'').decode()}", "Accept-Encoding": "identity"}
        async with session.get(
            f"{url}/v1/snapshot", headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status == 503:
                raise _BusyError
            if response.status != 200:
                raise _RefusedError(_why(response.status))
            file.seek(0)
            file.truncate()
            size = 0
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                size += len(piece)
                if size > self.bytes_max:
                    raise _RefusedError(
                        f"it is larger than {self.bytes_max} bytes; raise bootstrap_bytes_max or max_bytes"
                    )
                file.write(piece)
            file.flush()


def siblings_of(settings: Settings, token: bytes | None) -> Siblings:
    """Whom the settings name; `token` is the daemon's own, for those who share it."""
    if not settings.bootstrap:
        return Siblings()
    if settings.bootstrap_token_file is not None:
        token = read_token(settings.bootstrap_token_file, "--bootstrap-token-file")
    if token is None:
        raise ConfigError(
            f"a snapshot of {settings.bootstrap[0]} is given to those with its token only; give --bootstrap-token-file"
            " FILE, or --token-file where both have the same"
        )
    bytes_max = min(settings.bootstrap_bytes_max, settings.max_bytes or settings.bootstrap_bytes_max)
    return Siblings(settings.bootstrap, token, settings.bootstrap_seconds, bytes_max)


def _new_file(folder: Path | None) -> IO[bytes]:
    prefix = unfinished(Path(NAME))
    try:
        return tempfile.NamedTemporaryFile(dir=folder, prefix=prefix)
    except OSError:
        return tempfile.NamedTemporaryFile(prefix=prefix)


def _why(status: int) -> str:
    match status:
        case 401:
            return "it does not take our token (401); give its token with --bootstrap-token-file"
        case 403:
            return "it has no token and so gives nothing away (403); start it with --token-file"
        case 404:
            return "there is no /v1/snapshot (404); is it a kvsync of this version?"
        case _:
            return f"it answered {status}"


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(error) or type(error).__name__

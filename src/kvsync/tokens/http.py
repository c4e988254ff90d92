"""
What brings a question to an engine and its answer back, by a deadline: a blocking client, for backends are called from
threads that wait for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kvsync.errors import ConfigError
from kvsync.tokens import files
from kvsync.tokens.extras import need
from kvsync.tokens.model import ModelSpec

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Client(Protocol):
    """What brings a body to an address and its answer back; raises `CallFailed`."""

    def __call__(self, url: str, body: bytes, deadline: float) -> tuple[int, bytes]: ...


class CallFailed(Exception):
    """An engine could not be asked, or its answer is of no use."""


def urllib3_client(spec: ModelSpec, clock: Callable[[], float]) -> Client:
    """
    A client on urllib3: pooled connections that threads share, no retries and no redirects of its own.
    """
    library = need("urllib3", "remote")
    headers = {"Content-Type": "application/json"}
    if spec.token_file is not None:
        if not spec.token_file.is_file():
            raise ConfigError(f"token_file {str(spec.token_file)!r} is not there; give a file with the engines' token")
        headers["Authorization"] = f"Bearer {files.read_text(spec.token_file).strip()}"
    return _Pool(library, headers, clock)


class _Pool:
    def __init__(self, library: Any, headers: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._library = library
        self._clock = clock
        self._pool = library.PoolManager(num_pools=64, maxsize=8, headers=headers, retries=False)

    def __call__(self, url: str, body: bytes, deadline: float) -> tuple[int, bytes]:
        errors = (self._library.exceptions.HTTPError, OSError, ValueError)
        try:
            answer = self._pool.request(
                "POST",
                url,
                body=body,
                timeout=self._library.Timeout(total=self._left(deadline)),
                redirect=False,
                preload_content=False,
            )
            try:
                return answer.status, self._read(answer, deadline)
            except BaseException:
                answer.close()
                raise
        except errors as error:
            raise CallFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error

    def _read(self, answer: Any, deadline: float) -> bytes:
        """The whole answer, if it comes in time: one that drips would else keep its thread for ever."""
        parts, size = [], 0
        for part in answer.stream(65_536):
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise CallFailed(f"the answer is longer than {ANSWER_BYTES_MAX:,} bytes")
            self._left(deadline)
        answer.release_conn()
        return b"".join(parts)

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise CallFailed("no answer in time")
        return left

    def close(self) -> None:
        self._pool.clear()

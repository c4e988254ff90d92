"""
Who may ask: anyone on this machine while the daemon listens on loopback only, else who brings the token.

The token is compared in constant time and never logged. `/healthz` and `/readyz` are open, so that a kubelet needs no
secret; to those without the token they say yes or no and nothing else.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from kvsync.errors import ConfigError
from kvsync.files import read_secret
from kvsync.serve.problems import Problem
from kvsync.serve.settings import Settings

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
TOKEN_BYTES_MIN = 8


def token_of(settings: Settings) -> bytes | None:
    """
    The token that requests must bring, None if they need none; `ConfigError` where one is needed and missing.
    """
    token: bytes | None = None
    if settings.token_file is not None:
        token = read_token(settings.token_file)
    elif settings.token is not None:
        token = settings.token.get_secret_value().strip().encode()
        check_token(token, "KVSYNC_TOKEN")
    if token is None and not settings.listen.is_loopback:
        raise ConfigError(
            f"listen {settings.listen.host}:{settings.listen.port} can be reached from other machines;"
            " give --token-file FILE or KVSYNC_TOKEN, or listen on 127.0.0.1"
        )
    return token


def read_token(path: Path, flag: str = "--token-file") -> bytes:
    """Read a file that holds a token and nothing else; `flag` is what named it."""
    token = read_secret(path, flag, "give a file that holds a token and nothing else")
    check_token(token, f"{flag} {path}")
    return token


def check_token(token: bytes, where: str) -> None:
    """Refuse a token that is easily guessed or cannot stand in a header; the token itself is not in the message."""
    if len(token) < TOKEN_BYTES_MIN:
        raise ConfigError(f"{where} holds {len(token)} bytes; a token has at least {TOKEN_BYTES_MIN}")
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise ConfigError(f"{where} holds white space or characters beyond ASCII; use visible ASCII on one line")


def is_bearer(header: str | None, token: bytes) -> bool:
    """Whether an Authorization header brings the token."""
    scheme, _, given = (header or "").partition(" ")
    # Compared whatever the scheme is, so that time tells nothing.
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
    return same and scheme.lower() == "bearer"


def make_middleware(token: bytes | None) -> Middleware:
    """A middleware that lets through who may ask."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is None or request.path in OPEN_PATHS or is_bearer(request.headers.get("Authorization"), token):
            return await handler(request)
        raise Problem(
            401,
            "the request brings no valid token; send 'Authorization: Bearer TOKEN'",
            code="unauthorized",
            headers={"WWW-Authenticate": "Bearer"},
        )

    return authenticate

"""
All of it, as long as a context lasts: HTTPS on loopback, users with kubeconfigs, and the switches.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from kvsync.testing.apiserver.access import ADMIN, Access
from kvsync.testing.apiserver.certificates import server_context, write_kubeconfig
from kvsync.testing.apiserver.faults import Faults, Sabotage
from kvsync.testing.apiserver.handlers import Handlers
from kvsync.testing.apiserver.refusals import Refusal, expired

LOOPBACK = "127.0.0.1"


class ApiServer:
    """
    The double, in this process's event loop; its files are in `folder`. `process` runs it in a process of its own.
    """

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.faults = Faults()
        self.access = Access({secrets.token_urlsafe(): ADMIN})
        self.handlers = Handlers(self.access, self.faults, seed=seed)
        self.port = 0
        self._folder = folder
        self._context = server_context(folder)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.handlers.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self.handlers.end_watches(None)
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def kubeconfig(self, user: str = ADMIN, *, token: str | None = None, namespace: str = "default") -> Path:
        """A kubeconfig for a user, who is made if need be; with `token` one that nobody knows."""
        known = next((known for known, name in self.access.tokens.items() if name == user), None)
        if token is None and known is None:
            known = secrets.token_urlsafe()
            self.access.tokens[known] = user
        return write_kubeconfig(self._folder, user.replace(":", "-"), self.url, token or known or "", namespace)

    def renew_token(self, user: str) -> str:
        """Give the user another token; the one before is nobody's any more."""
        self.access.tokens = {token: name for token, name in self.access.tokens.items() if name != user}
        token = secrets.token_urlsafe()
        self.access.tokens[token] = user
        return token

    # ------------------------------------------------------------------ faults

    async def go_away(self) -> None:
        """Refuse connections, and cut those that are open."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()
        self.handlers.end_watches(None)
        if self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()

    async def come_back(self) -> None:
        """Listen, on the same port as before."""
        assert self._runner is not None
        site = web.TCPSite(self._runner, LOOPBACK, self.port, ssl_context=self._context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def cut_watches(self) -> None:
        """Cut every open connection of a watch, in the middle of whatever it sends."""
        self.handlers.end_watches(None)

    def expire_watches(self) -> None:
        """Forget all history, and end every open watch with 410."""
        self.handlers.pods.compact()
        current = self.handlers.pods.oldest
        self.handlers.end_watches(expired(current - 1, current))

    def fail_watches(self) -> None:
        """End every open watch with an in-stream 500."""
        self.handlers.end_watches(Refusal(500, "etcdserver: no leader"))

    def compact(self) -> None:
        """Forget all history: what is asked for from before is expired."""
        self.handlers.pods.compact()

    def sabotage(self, name: str | None) -> None:
        """Be unfaithful in one point, or in none."""
        self.faults.sabotage = None if name is None else Sabotage[name]

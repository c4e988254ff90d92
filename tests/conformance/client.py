"""
Plain requests to whatever a kubeconfig names: status and JSON, nothing hidden.

The official client reads the kubeconfig and opens the connections; its models and its error handling stay out of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
TIMEOUT = urllib3.Timeout(connect=5, read=40)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any

    @property
    def version(self) -> str:
        """The version of the object or the list."""
        return str(self.body["metadata"]["resourceVersion"])


class Api:
    """An API server as its kubeconfig's user sees it."""

    def __init__(self, kubeconfig: str) -> None:
        self._configuration = client.Configuration()
        config.load_kube_config(config_file=kubeconfig, client_configuration=self._configuration)
        self._pool = client.ApiClient(self._configuration).rest_client.pool_manager
        self._headers = {
            setting["key"]: setting["value"]
            for setting in self._configuration.auth_settings().values()
            if setting["in"] == "header" and setting["value"]
        }

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        """Send a request; underscores begin what is no query: `_as` a user, `_type` of the body, `_token`."""
        with self._open(method, path, body, query) as response:
            return Answer(response.status, json.loads(response.data or b"null"))

    def watch(
        self, path: str, *, until: Callable[[list[Any]], bool] = lambda _: False, **query: Any
    ) -> tuple[int, list[Any]]:
        """The status and the events of a watch, up to its end or until enough have come."""
        query = {"watch": "true", "timeoutSeconds": 10, **query}
        events: list[Any] = []
        with self._open("GET", path, None, query) as response:
            rest = b""
            for piece in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + piece).split(b"\n")
                events += [json.loads(line) for line in lines if line]
                if until(events):
                    break
            return response.status, events if not rest else [*events, json.loads(rest)]

    def _open(self, method: str, path: str, body: Any, query: dict[str, Any]) -> _Open:
        headers = dict(self._headers)
        asked = {key: value for key, value in query.items() if not key.startswith("_")}
        if "_as" in query:
            headers["Impersonate-User"] = query["_as"]
        if body is not None:
            headers["Content-Type"] = query.get("_type", "application/json")
        pool = self._pool
        if "_token" in query:
            headers = {"Authorization": f"Bearer {query['_token']}"}
            pool = self._without_certificate()
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(asked)}" if asked else "")
        content = None if body is None else json.dumps(body).encode()
        return _Open(pool, method, url, headers, content)

    def _without_certificate(self) -> Any:
        plain = client.Configuration(host=self._configuration.host)
        plain.ssl_ca_cert, plain.verify_ssl = self._configuration.ssl_ca_cert, self._configuration.verify_ssl
        return client.ApiClient(plain).rest_client.pool_manager


class _Open:
    """A response, closed at the end whatever of it was read."""

    def __init__(self, pool: Any, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> None:
        self._response = pool.request(
            method, url, headers=headers, body=content, timeout=TIMEOUT, preload_content=False, retries=False
        )

    def __enter__(self) -> Any:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def pod(name: str, labels: Mapping[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    """A pod that no scheduler takes, so that nobody but the test changes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {}), **metadata},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "engine", "image": "example.invalid/none"}],
        },
    }


def eventually(check: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until something has become so at the server."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.1)

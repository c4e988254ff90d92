"""
The official client, used for what it is best at: credentials and their renewal, TLS, proxies (see `configuration`).
Bodies are read as plain JSON: making its model objects costs far more than the parsing, and
hides the `Status` objects that a watch may hold.

Everything here blocks, and belongs to one watcher's thread; only `stop` may be called from another. What goes wrong
comes out as `ApiError`, which carries a `Failure`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final, Protocol

from kvsync.errors import ConfigError
from kvsync.fleet.kubernetes.configuration import configuration_of, namespace_of
from kvsync.fleet.kubernetes.failure import CONFIG, MALFORMED, TEXT_MAX, UNREACHABLE, ApiError, Failure, failure_of
from kvsync.fleet.kubernetes.options import ALL_NAMESPACES, KubernetesOptions

INSTALL: Final = "pip install 'kvsync[kubernetes]'"
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one event; the API server itself refuses objects above 3 MiB."""

BODY_BYTES_MAX: Final = 256 * 1024 * 1024


class PodApi(Protocol):
    """What a watcher needs of an API server."""

    def namespace(self) -> str:
        """The namespace that is meant where none is named."""
        ...

    def list(self, namespace: str, selector: str, continue_token: str | None) -> Any:
        """One page of a list."""
        ...

    def watch(self, namespace: str, selector: str, version: str, timeout_s: int) -> Iterator[Any]:
        """None once the watch is open, then the events after a version, until the server ends it."""
        ...

    def stop(self) -> None:
        """End what is being waited for; called from any thread."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def check_installed() -> None:
    """Raise `ConfigError` where the client is missing."""
    if find_spec("kubernetes") is None:
        raise ConfigError(f"--kubernetes needs the official client, which is not installed: {INSTALL}")


class OfficialPodApi:
    """The API server that the options name, connected on first use."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._core: Any = None
        self._response: Any = None
        self._is_stopped = False

    def namespace(self) -> str:
        return namespace_of(self._options)

    def list(self, namespace: str, selector: str, continue_token: str | None) -> Any:
        query: dict[str, Any] = {"label_selector": selector, "limit": self._options.page_pods}
        if continue_token is not None:
            query["_continue"] = continue_token
        with self._asked(namespace, query, self._options.answer_s) as response:
            body = bytearray()
            for piece in response.stream(65_536):
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    raise ApiError(Failure(200, MALFORMED, f"a page of pods has more than {BODY_BYTES_MAX} bytes"))
            return _parsed(bytes(body))

    def watch(self, namespace: str, selector: str, version: str, timeout_s: int) -> Iterator[Any]:
        query = {
            "label_selector": selector,
            "watch": True,
            "allow_watch_bookmarks": True,
            "resource_version": version,
            "timeout_seconds": timeout_s,
        }
        with self._asked(namespace, query, timeout_s + self._options.answer_s) as response:
            yield None
            for line in _lines(response):
                yield _parsed(line)

    def stop(self) -> None:
        self._is_stopped = True
        response = self._response
        if response is not None:
            with contextlib.suppress(Exception):  # it may end by itself at this very moment
                response.shutdown()

    def close(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            core.api_client.rest_client.pool_manager.clear()

    @contextlib.contextmanager
    def _asked(self, namespace: str, query: dict[str, Any], read_s: float) -> Iterator[Any]:
        """Ask, and give the response with an open body; it is closed at the end."""
        with _translated():
            response = self._answer(namespace, query, read_s)
            self._response = response
            try:
                if self._is_stopped:
                    raise ApiError(Failure(0, UNREACHABLE, "stopped"))
                if response.status != 200:
                    raise ApiError(failure_of(None, response.status))
                yield response
            finally:
                self._response = None
                with contextlib.suppress(Exception):
                    response.close()

    def _answer(self, namespace: str, query: dict[str, Any], read_s: float) -> Any:
        """Ask; where a token is refused that was read before, once more: it may have been renewed since."""
        was_connected = self._core is not None
        try:
            return self._send(namespace, query, read_s)
        except Exception as error:
            self.close()  # the next try reads the configuration anew
            if not was_connected or getattr(error, "status", None) != 401:
                raise
        return self._send(namespace, query, read_s)

    def _send(self, namespace: str, query: dict[str, Any], read_s: float) -> Any:
        core = self._connected()
        options = {**query, "_preload_content": False, "_request_timeout": (self._options.connect_s, read_s)}
        if namespace == ALL_NAMESPACES:
            return core.list_pod_for_all_namespaces(**options)
        return core.list_namespaced_pod(namespace, **options)

    def _connected(self) -> Any:
        if self._core is None:
            from kubernetes import client

            self._core = client.CoreV1Api(client.ApiClient(configuration_of(self._options)))
        return self._core


def _lines(response: Any) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in response.stream(amt=None, decode_content=False):
        buffer += piece
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        if len(buffer) > LINE_BYTES_MAX:
            raise ApiError(Failure(200, MALFORMED, f"an event has more than {LINE_BYTES_MAX} bytes"))
        yield from (bytes(line) for line in lines if line.strip())


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ApiError(Failure(200, MALFORMED, f"the answer is no JSON: {error}")) from error


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's exceptions into ours: they do not leave this room."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        headers = error.headers or {}
        status = int(error.status or 0)
        body = error.body.encode() if isinstance(error.body, str) else error.body
        failure = failure_of(_json_or_none(body or b""), status, headers.get("Retry-After"))
        raise ApiError(failure if status else _unreachable(error.reason)) from error
    except (HTTPError, OSError) as error:
        raise ApiError(_unreachable(error)) from error
    except ValueError as error:  # of a header, which its text would show
        raise ApiError(Failure(0, CONFIG, "a request cannot be sent: check the user in the kubeconfig")) from error


def _unreachable(why: object) -> Failure:
    text = " ".join(str(why).split())[:TEXT_MAX]
    remedy = "; check the certificate-authority in the kubeconfig" if "SSLError" in text else ""
    return Failure(0, UNREACHABLE, text + remedy)

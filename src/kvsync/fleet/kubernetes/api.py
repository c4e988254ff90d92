"""
The official client, used for what it is best at (kubeconfigs, credentials and their renewal, TLS, proxies), and the
only file that imports it. Bodies are read as plain JSON: making its model objects costs far more than the parsing, and
hides the `Status` objects that a watch may hold.

Everything here blocks, and belongs to one watcher's thread; only `stop` may be called from another. What goes wrong
comes out as `ApiError`, which carries a `Failure`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from kvsync.errors import ConfigError, DiscoveryError
from kvsync.fleet.kubernetes.failure import CONFIG, MALFORMED, UNREACHABLE, Failure, failure_of
from kvsync.fleet.kubernetes.options import ALL_NAMESPACES, KubernetesOptions

INSTALL: Final = "pip install 'kvsync[kubernetes]'"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one event; the API server itself refuses objects above 3 MiB."""

BODY_BYTES_MAX: Final = 256 * 1024 * 1024


class ApiError(DiscoveryError):
    """The API server, or the way to it, failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.status} {failure.reason}: {failure.message}")
        self.failure = failure


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
        with _translated():
            if self._is_inside():
                return NAMESPACE_FILE.read_text().strip() or "default"
            from kubernetes import config

            _, active = config.list_kube_config_contexts(config_file=self._kubeconfig())
            context = self._options.context
            if context is not None:
                contexts, _ = config.list_kube_config_contexts(config_file=self._kubeconfig())
                active = next((one for one in contexts if one["name"] == context), active)
            return str((active or {}).get("context", {}).get("namespace") or "default")

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
            timeout = (self._options.connect_s, read_s)
            core = self._connected()
            try:
                if namespace == ALL_NAMESPACES:
                    ask = core.list_pod_for_all_namespaces
                    response = ask(**query, _preload_content=False, _request_timeout=timeout)
                else:
                    ask = core.list_namespaced_pod
                    response = ask(namespace, **query, _preload_content=False, _request_timeout=timeout)
            except Exception:
                self.close()  # the next try reads the configuration anew: credentials may have been renewed
                raise
            self._response = response
            try:
                if self._is_stopped:
                    raise ApiError(Failure(0, UNREACHABLE, "stopped"))
                if response.status != 200:
                    failure = failure_of(
                        _json_or_none(response.data), response.status, response.headers.get("Retry-After")
                    )
                    if failure.status == 401:
                        self.close()
                    raise ApiError(failure)
                yield response
            finally:
                self._response = None
                with contextlib.suppress(Exception):
                    response.close()

    def _connected(self) -> Any:
        if self._core is None:
            from kubernetes import client, config

            configuration = client.Configuration()
            if self._is_inside():
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(
                    config_file=self._kubeconfig(), context=self._options.context, client_configuration=configuration
                )
            configuration.retries = False  # when to try again is the reflector's to say
            configuration.keep_alive = True  # a server that vanished without a word is noticed
            self._core = client.CoreV1Api(client.ApiClient(configuration))
        return self._core

    def _is_inside(self) -> bool:
        return self._options.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ and NAMESPACE_FILE.exists()

    def _kubeconfig(self) -> str | None:
        path = self._options.kubeconfig
        return None if path is None else str(path)


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
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError
    from yaml import YAMLError

    try:
        yield
    except ApiException as error:
        headers = error.headers or {}
        status = int(error.status or 0)
        body = error.body.encode() if isinstance(error.body, str) else error.body
        failure = failure_of(_json_or_none(body or b""), status, headers.get("Retry-After"))
        raise ApiError(failure if status else Failure(0, UNREACHABLE, str(error.reason)[:400])) from error
    except (ConfigException, YAMLError) as error:
        text = " ".join(str(error).split())[:400]
        raise ApiError(Failure(0, CONFIG, f"the kubeconfig cannot be used: {text}")) from error
    except (HTTPError, OSError) as error:
        raise ApiError(Failure(0, UNREACHABLE, " ".join(str(error).split())[:400])) from error

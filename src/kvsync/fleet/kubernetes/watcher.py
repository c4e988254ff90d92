"""
One namespace and one selector, followed in a thread of its own: ask, take in, wait, ask again, for ever.

    its thread     blocks in the client; changes the reflector under the lock; tells `stir`, which must not block
    any thread     `snapshot`, `stop`, `join`

The client is blocking and has no asyncio form; there are as many threads as namespaces times selectors, not as pods.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from kvsync.fleet.kubernetes.api import PodApi
from kvsync.fleet.kubernetes.failure import INTERNAL, ApiError, Failure
from kvsync.fleet.kubernetes.options import KubernetesOptions
from kvsync.fleet.kubernetes.reading import Reading, read_pod
from kvsync.fleet.kubernetes.reflector import List, Reflector, Watch
from kvsync.stream.backoff import Backoff

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a watcher knows at one moment; `namespace` is None until the configuration could be read."""

    namespace: str | None
    selector: str
    readings: Mapping[str, Reading]
    is_listed: bool
    failure: Failure | None
    failures: int


class Watcher:
    """Follows the pods of `namespace` (None: the one that the configuration means) that match `selector`."""

    # Guarded by `_lock`: _reflector and _namespace, which only the thread changes.

    def __init__(
        self,
        api: PodApi,
        namespace: str | None,
        selector: str,
        options: KubernetesOptions,
        stir: Callable[[], None],
        rng: Random,
    ) -> None:
        self.selector = selector
        self._api = api
        self._namespace = namespace
        self._options = options
        self._stir = stir
        self._rng = rng
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reflector = Reflector(self._read, Backoff(options.pause_first_s, options.pause_max_s, rng))
        self._thread = threading.Thread(target=self._run, name=f"kvsync-pods-{selector}", daemon=True)

    def __repr__(self) -> str:
        return f"<Watcher {self._namespace} {self.selector!r} {self._reflector!r}>"

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def snapshot(self) -> Snapshot:
        """What is known now."""
        with self._lock:
            reflector = self._reflector
            return Snapshot(
                self._namespace,
                self.selector,
                dict(reflector.readings),
                reflector.is_listed,
                reflector.failure,
                reflector.failures,
            )

    def stop(self) -> None:
        """Ask the thread to end, and end what it waits for."""
        self._stopping.set()
        self._api.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it is still busy."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
                if not self._stopping.is_set():
                    self._stir()
                    self._stopping.wait(self._pause_s())
        finally:
            self._api.close()

    def _step(self) -> None:
        try:
            if self._namespace is None:
                namespace = self._api.namespace()
                with self._lock:
                    self._namespace = namespace
            step = self._reflector.next()
            if isinstance(step, List):
                self._list(self._namespace, step)
            else:
                self._watch(self._namespace, step)
        except ApiError as error:
            self._failed(error.failure)
        except Exception as error:
            _logger.exception("following pods failed; it is tried again")
            self._failed(Failure(0, INTERNAL, f"{type(error).__name__}; the log says more"))

    def _list(self, namespace: str, step: List) -> None:
        document = self._api.list(namespace, self.selector, step.continue_token)
        with self._lock:
            self._reflector.page(document)

    def _watch(self, namespace: str, step: Watch) -> None:
        began, events = time.monotonic(), 0
        timeout_s = round(self._options.watch_s * self._rng.uniform(1.0, 2.0))
        for document in self._api.watch(namespace, self.selector, step.version, timeout_s):
            events += document is not None
            with self._lock:
                goes_on = self._take(document)
            if not goes_on or self._stopping.is_set():
                return
            self._stir()
        with self._lock:
            self._reflector.ended(lived_s=time.monotonic() - began, events=events)

    def _take(self, document: Any) -> bool:
        if document is not None:
            return self._reflector.event(document)
        self._reflector.opened()
        return True

    def _failed(self, failure: Failure) -> None:
        if self._stopping.is_set():
            return
        with self._lock:
            self._reflector.failed(failure)
        _logger.debug("pods of %s %r: %s", self._namespace, self.selector, failure)

    def _pause_s(self) -> float:
        with self._lock:
            return self._reflector.pause_s()

    def _read(self, item: Mapping[str, Any]) -> Reading:
        return read_pod(item, bind_host=self._options.bind_host)

"""
A cluster without nodes for tests: the API server's double, pods that are really publishers on loopback addresses, and
the daemon's writing half (subscriber, index, fleet) that follows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.client import STRATEGIC, Api
from tests.integration.stream_helpers import QUICK, batch, held, holds
from tests.patience import PATIENCE_S

from kvsync.fleet.kubernetes import KubernetesOptions, KubernetesPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve import fleet
from kvsync.serve.parts import Parts
from kvsync.serve.settings import load_settings
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.types import Engine

NAMESPACE = "engines"
MODEL_LABEL = "model.aibrix.ai/name"
EVENTS_LABEL = "model.aibrix.ai/kv-events-enabled"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
OPTIONS = KubernetesOptions(
    namespaces=(NAMESPACE,),
    connect_s=PATIENCE_S,
    answer_s=PATIENCE_S,
    pause_first_s=0.02,
    pause_max_s=0.2,
    page_pods=7,
    open_s=PATIENCE_S,
)
"""However slow the server, it is not out of reach before it is."""


@dataclass(slots=True)
class Container:
    """A publisher at an address of its own, and how many batches its present life has published."""

    address: str
    publisher: ScriptedPublisher
    count: int = 0
    life: int = 0

    @classmethod
    def at(cls, address: str) -> Container:
        """One that listens there on free ports."""
        return cls(address, ScriptedPublisher(events=f"tcp://{address}:*", replay=f"tcp://{address}:*"))

    def publish(self, count: int) -> None:
        """Publish so many more batches."""
        for _ in range(count):
            self.publisher.publish(batch(self.count, self.life))
            self.count += 1

    def restart(self) -> None:
        """Begin anew on the same ports."""
        self.publisher.restart()
        self.life, self.count = self.life + 1, 0

    def annotations(self) -> dict[str, str]:
        """Where a pod with this container is found."""
        assert self.publisher.replay is not None
        return {
            "kvsync.io/http-port": "9",
            "kvsync.io/events-port": self.publisher.events.rpartition(":")[2],
            "kvsync.io/replay-port": self.publisher.replay.rpartition(":")[2],
        }


class Cluster:
    """Pods at the API server, as a scheduler and a kubelet would have them. Blocking."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = Api(str(kubeconfig))
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask until it is answered without an error of the server's."""
        while True:
            answer = self.api.ask(method, path, body, **query)
            if answer.status < 429:
                assert answer.status < 400, answer
                return answer.body

    def run(self, name: str, container: Container, model: str = "m") -> None:
        """Make a pod that runs and is ready."""
        metadata = {"name": name, "labels": {MODEL_LABEL: model, EVENTS_LABEL: "true"}}
        spec = {"nodeName": "node", "containers": [{"name": "engine", "image": "i"}]}
        self.ask("POST", PODS, {"metadata": {**metadata, "annotations": container.annotations()}, "spec": spec})
        self.status(name, phase="Running", podIP=container.address)
        self.ready(name, is_ready=True)

    def status(self, name: str, **status: Any) -> None:
        """Write a part of the status."""
        self.ask("PATCH", f"{PODS}/{name}/status", {"status": status}, _type=STRATEGIC)

    def ready(self, name: str, *, is_ready: bool) -> None:
        """Let the readiness probe pass or fail."""
        self.status(name, conditions=[{"type": "Ready", "status": str(is_ready)}])

    def restarted(self, name: str, count: int) -> None:
        """Tell that the container began anew in place."""
        self.status(name, containerStatuses=[{"name": "engine", "restartCount": count}])

    def annotate(self, name: str, **annotations: str | None) -> None:
        """Change annotations of ours; None takes one away."""
        ours = {f"kvsync.io/{key.replace('_', '-')}": text for key, text in annotations.items()}
        self.ask("PATCH", f"{PODS}/{name}", {"metadata": {"annotations": ours}}, _type=STRATEGIC)

    def label(self, name: str, **labels: str | None) -> None:
        """Change the model's label; None takes it away."""
        patch = {"metadata": {"labels": {MODEL_LABEL: labels["model"]}}}
        self.ask("PATCH", f"{PODS}/{name}", patch, _type=STRATEGIC)

    def delete(self, name: str) -> None:
        """Delete a pod at once."""
        self.ask("DELETE", f"{PODS}/{name}", gracePeriodSeconds=0)


@dataclass(slots=True)
class Followed:
    """The daemon's writing half, following a cluster."""

    parts: Parts
    index: Index
    streams: Subscriber
    source: KubernetesPods
    restored: list[Any] = field(default_factory=list)

    def holds(self, pod: str) -> list[int]:
        """What the index says that a pod's engine holds."""
        return held(self.index, Engine(f"{NAMESPACE}/{pod}"))

    def equals(self, truth: dict[str, tuple[Container, str]]) -> bool:
        """Whether exactly these pods are followed, with their models, and each record is what was published."""
        names = {f"{NAMESPACE}/{name}" for name in truth}
        return (
            set(self.parts.pods) == names
            and {engine.pod for engine in self.streams.status()} == names
            and {engine.pod for engine in self.index.engines()}
            == {f"{NAMESPACE}/{name}" for name, (container, _) in truth.items() if container.count}
            and all(self.parts.pods[f"{NAMESPACE}/{name}"].model == model for name, (_, model) in truth.items())
            and all(self.holds(name) == holds(container.count) for name, (container, _) in truth.items())
        )


@asynccontextmanager
async def following(kubeconfig: Path, options: KubernetesOptions = OPTIONS) -> AsyncIterator[Followed]:
    """Follow the cluster while the context lasts."""
    from dataclasses import replace

    settings = load_settings({"kubernetes": True}, environment={})
    source = KubernetesPods(replace(options, kubeconfig=kubeconfig), seed=1)
    with Index(seed=1) as index, Subscriber(index, QUICK) as streams:
        router = Router(dict(BUILT_IN), default="cost", prefill_rate=1_000.0, seed=1)
        parts = Parts(settings, index, streams, router, None)
        await source.open()
        task = asyncio.create_task(fleet.follow(parts, source))
        try:
            yield Followed(parts, index, streams, source)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await source.close()


async def become(true: Callable[[], bool], what: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until something has become so; fail with what is there instead."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not true():
        assert loop.time() < end, what()
        await asyncio.sleep(0.02)

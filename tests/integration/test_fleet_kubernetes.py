"""
The daemon's writing half before an API server: what it follows, what it tells, and that it lives through everything.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.integration.fleet_helpers import (
    MODEL_LABEL,
    NAMESPACE,
    OPTIONS,
    Cluster,
    Container,
    Followed,
    become,
    following,
)
from tests.integration.stream_helpers import holds, wait_for

from kvsync.fleet.kubernetes import KubernetesOptions, KubernetesPods
from kvsync.testing.apiserver.process import ApiServerProcess

SEED = 20_261_124
STEPS = 200
FAULTS = (
    ("cut_watches",),
    ("expire_watches",),
    ("fail_watches",),
    ("compact",),
    ("set", "throttled", 2),
    ("set", "failing", 3),
    ("go_away",),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServerProcess]:
    """An API server of the test's own."""
    with ApiServerProcess(tmp_path) as server:
        yield server


class Life:
    """A fleet's life, step by step by a seed, and what is true after each."""

    def __init__(self, server: ApiServerProcess, seed: int) -> None:
        self.server, self.cluster, self.rng = server, Cluster(server.kubeconfig()), Random(seed)
        self.pods: dict[str, tuple[Container, str]] = {}
        self.hidden: dict[str, tuple[Container, str]] = {}
        self.free: list[Container] = []
        self.made = self.restarts = 0
        self.told: list[str] = []

    def step(self) -> None:
        """Do one thing, and note it."""
        steps = [self.add, self.delete, self.publish, self.restart, self.relabel, self.ready, self.replace, self.model]
        step = self.rng.choice(steps) if len(self.pods) > 2 else self.add
        self.told.append(step.__name__)
        step()
        if self.rng.random() < 0.15:
            self.fault()

    def add(self) -> None:
        """A pod comes; every other time to an address that another one had."""
        if self.free and self.rng.random() < 0.5:
            container = self.free.pop(self.rng.randrange(len(self.free)))
            container.restart()
        else:
            self.made += 1
            container = Container.at(f"127.0.3.{self.made % 250 + 1}")
        container.publish(self.rng.randrange(4))
        name = f"p{self.rng.randrange(12)}"
        if name in self.pods or name in self.hidden:
            name = f"q{self.made}-{len(self.told)}"
        self.cluster.run(name, container)
        self.pods[name] = container, "m"

    def delete(self) -> None:
        """A pod goes; its address may be another's soon."""
        name = self.any()
        self.cluster.delete(name)
        self.free.append(self.pods.pop(name)[0])

    def replace(self) -> None:
        """A pod of the same name, at the same address, is another pod."""
        name = self.any()
        container, _ = self.pods[name]
        self.cluster.delete(name)
        container.restart()
        container.publish(2)
        self.cluster.run(name, container)
        self.pods[name] = container, "m"

    def restart(self) -> None:
        """A container begins anew in place; its pod stays."""
        name = self.any()
        container, _ = self.pods[name]
        container.restart()
        container.publish(self.rng.randrange(1, 4))
        self.restarts += 1
        self.cluster.restarted(name, self.restarts)

    def publish(self) -> None:
        """An engine stores more."""
        self.pods[self.any()][0].publish(3)

    def relabel(self) -> None:
        """A pod loses the label that it is found by, or has it again."""
        if self.hidden and self.rng.random() < 0.5:
            name, kept = self.hidden.popitem()
            self.cluster.label(name, model="m")
            self.pods[name] = kept[0], "m"
        else:
            name = self.any()
            self.cluster.label(name, model=None)
            self.hidden[name] = self.pods.pop(name)

    def model(self) -> None:
        """A pod serves another model."""
        name = self.any()
        model = self.rng.choice("mn")
        self.cluster.label(name, model=model)
        self.pods[name] = self.pods[name][0], model

    def ready(self) -> None:
        """A readiness probe passes or fails."""
        self.cluster.ready(self.any(), is_ready=self.rng.random() < 0.5)

    def fault(self) -> None:
        """The API server has a bad moment."""
        fault = self.rng.choice(FAULTS)
        self.told.append(fault[0])
        self.server.do(*fault)
        if fault[0] == "go_away":
            self.server.do("come_back")

    def any(self) -> str:
        """One of the pods that are there."""
        return self.rng.choice(sorted(self.pods))

    def end(self) -> None:
        """Delete every pod, and close all publishers."""
        for name in (*self.pods, *self.hidden):
            self.cluster.delete(name)
        self.close()

    def close(self) -> None:
        """Close all publishers."""
        for container, _ in (*self.pods.values(), *self.hidden.values()):
            container.publisher.close()
        for container in self.free:
            container.publisher.close()
        self.cluster.api.close()


def test_a_fleet_of_many_lives_ends_with_the_truth(server: ApiServerProcess) -> None:
    """Two hundred steps, an API server's faults between: the right streams, records equal to the truth, no leak."""
    life = Life(server, SEED)

    async def story() -> None:
        async with following(server.kubeconfig()) as followed:

            def what() -> object:
                wrong = {
                    name: (followed.holds(name), container.count, followed.parts.pods.get(f"{NAMESPACE}/{name}"))
                    for name, (container, _) in life.pods.items()
                    if followed.holds(name) != holds(container.count)
                }
                return f"seed {SEED}: {wrong}, {sorted(followed.parts.pods)} is not {sorted(life.pods)}; {life.told}"

            await asyncio.to_thread(life.add)  # libzmq's own threads come with the first socket, and stay
            await become(lambda: followed.equals(life.pods), what)
            await asyncio.to_thread(life.delete)
            await become(lambda: not any(entries(followed).values()), lambda: entries(followed))
            before = counted(followed)
            for number in range(STEPS):
                await asyncio.to_thread(life.step)
                if number % 50 == 49:
                    await become(lambda: followed.equals(life.pods), what)
            assert not [finding for finding in followed.source.findings() if finding.reason == "bad_pod"]
            assert entries(followed)["pods"] == len(life.pods) > 2
            await asyncio.to_thread(life.end)
            await become(lambda: not any(entries(followed).values()), lambda: f"seed {SEED}: {entries(followed)}")
            await become(
                lambda: is_like(before, counted(followed)), lambda: f"seed {SEED}: {before}, {counted(followed)}"
            )

    try:
        asyncio.run(story())
    finally:
        life.close()


def test_nothing_is_left_of_pods_that_went(server: ApiServerProcess) -> None:
    """No thread, no socket, no entry: counted after thirty pods came and went, and again after thirty more."""
    cluster = Cluster(server.kubeconfig())

    async def story() -> list[tuple[int, int, int]]:
        counts: list[tuple[int, int, int]] = []
        async with following(server.kubeconfig()) as followed:
            for turn in range(2):
                containers = {f"p{turn}-{number}": Container.at(f"127.0.4.{number + 1}") for number in range(30)}
                for name, container in containers.items():
                    container.publish(2)
                    await asyncio.to_thread(cluster.run, name, container)
                truth = {name: (container, "m") for name, container in containers.items()}
                await become(lambda truth=truth: followed.equals(truth), lambda: followed.parts.pods)  # type: ignore[misc]
                for name, container in containers.items():
                    await asyncio.to_thread(cluster.delete, name)
                    container.publisher.close()
                await become(lambda: not followed.parts.pods and not followed.streams.status(), lambda: followed.parts)
                # The subscriber's thread closes sockets after it was told to, and libzmq's own after that.
                await become(lambda: not followed.streams._open_links, lambda: followed.streams)
                if turn == 0:
                    await asyncio.sleep(0.3)
                else:
                    await become(lambda: is_like(counts[0], counted(followed)), lambda: counted(followed))
                counts.append(counted(followed))
        return counts

    threads_before = threading.active_count()
    first, second = asyncio.run(story())
    assert is_like(first, second)
    wait_for(lambda: threading.active_count() <= threads_before, threading.enumerate)
    cluster.api.close()


def test_the_data_path_works_while_the_api_server_is_away(server: ApiServerProcess) -> None:
    """Events are applied, the pods stay, the trouble is told; what happened meanwhile is seen when it is back."""
    cluster = Cluster(server.kubeconfig())
    one, two = Container.at("127.0.5.1"), Container.at("127.0.5.2")

    async def story() -> None:
        one.publish(1)
        await asyncio.to_thread(cluster.run, "one", one)
        async with following(server.kubeconfig()) as followed:
            await become(lambda: followed.equals({"one": (one, "m")}), lambda: followed.parts.pods)
            await asyncio.to_thread(server.do, "go_away")
            await become(
                lambda: any(f.reason == "unreachable" for f in followed.source.findings()), followed.source.findings
            )
            one.publish(5)
            await become(lambda: followed.holds("one") == holds(6), lambda: followed.holds("one"))
            await asyncio.to_thread(server.do, "come_back")
            two.publish(2)
            await asyncio.to_thread(cluster.run, "two", two)
            truth = {"one": (one, "m"), "two": (two, "m")}
            await become(lambda: followed.equals(truth), lambda: followed.parts.pods)
            await become(lambda: not followed.source.findings(), followed.source.findings)

    asyncio.run(story())
    for container in (one, two):
        container.publisher.close()
    cluster.api.close()


def counted(followed: Followed) -> tuple[int, int, int]:
    """Threads and descriptors of this process, libzmq's with them, and engines of the index."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")]  # those of the tests
    threads = len(list(Path("/proc/self/task").iterdir())) - len(ours)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return threads, descriptors, len(followed.index.engines())


def entries(followed: Followed) -> dict[str, int]:
    """How much is kept of pods, by who keeps it."""
    parts, roster = followed.parts, followed.parts.roster
    return {
        "pods": len(parts.pods),
        "described": len(roster.described),
        "learned": len(roster.learned) + len(roster.served) + len(roster.refused),
        "health": len(parts.health._pods),
        "streams": len(followed.streams.status()),
        "links": len(followed.streams._open_links),
        "readings": sum(len(watcher.snapshot().readings) for watcher in followed.source._watchers),
        "engines": len(followed.index.engines()),
        "entries": int(followed.index.stats()["entries"]),
        "blocks": int(followed.index.stats()["blocks"]),
        "block sizes": len(parts.picker.block_sizes),
    }


def is_like(first: tuple[int, int, int], second: tuple[int, int, int]) -> bool:
    """Whether there are no more of anything than there were, and no engines."""
    return second[0] <= first[0] and second[1] <= first[1] + 2 and second[2] == 0


def test_two_daemons_follow_one_fleet_exactly(server: ApiServerProcess) -> None:
    """Each by itself, also where one came later and an engine began anew between."""
    cluster = Cluster(server.kubeconfig())
    containers = {f"p{number}": Container.at(f"127.0.6.{number + 1}") for number in range(3)}
    truth = {name: (container, "m") for name, container in containers.items()}

    async def story() -> None:
        for name, container in containers.items():
            container.publish(3)
            await asyncio.to_thread(cluster.run, name, container)
        async with following(server.kubeconfig()) as first:
            await become(lambda: first.equals(truth), lambda: first.parts.pods)
            containers["p0"].restart()
            async with following(server.kubeconfig()) as second:
                for container in containers.values():
                    container.publish(2)
                for one in (first, second):
                    await become(lambda one=one: one.equals(truth), lambda: containers)  # type: ignore[misc]
                    trust = {engine: one.index.trust(engine).value for engine in one.index.engines()}
                    assert set(trust.values()) == {"exact"}, trust

    asyncio.run(story())
    for container in containers.values():
        container.publisher.close()
    cluster.api.close()


def test_two_pods_that_claim_one_endpoint_are_told(server: ApiServerProcess) -> None:
    """The first has it; the other is named, and takes its place when the first goes."""
    from kvsync.fleet import CombinedPods

    cluster, one = Cluster(server.kubeconfig()), Container.at("127.0.6.9")
    cluster.run("a", one)
    cluster.run("b", one)

    async def story() -> None:
        options = replace(OPTIONS, kubeconfig=server.kubeconfig())
        fleet = CombinedPods([KubernetesPods(options, seed=1)])
        await fleet.open()
        try:
            await become(lambda: list(fleet.current()) == [f"{NAMESPACE}/a"], fleet.current)
            (finding,) = fleet.findings()
            assert (finding.about, finding.reason) == (f"{NAMESPACE}/b", "endpoint_taken")
            await asyncio.to_thread(cluster.delete, "a")
            await become(lambda: list(fleet.current()) == [f"{NAMESPACE}/b"], fleet.current)
            assert not fleet.findings()
        finally:
            await fleet.close()

    asyncio.run(story())
    one.publisher.close()
    cluster.api.close()


async def findings_of(options: KubernetesOptions) -> dict[str, str]:
    """What is found at once, by reason."""
    source = KubernetesPods(options, seed=1)
    await source.open()
    try:
        await become(lambda: bool(source.findings()), source.findings)
        return {finding.reason: finding.text for finding in source.findings()}
    finally:
        await source.close()


def test_what_only_the_operator_can_mend_is_told(server: ApiServerProcess, tmp_path: Path) -> None:
    """No rights, a bad token, a namespace with no pods, a kubeconfig without a cluster: each with its remedy."""
    Cluster(server.kubeconfig()).api.close()
    empty = tmp_path / "empty.kubeconfig"
    empty.write_text("apiVersion: v1\nkind: Config\n")
    cases = {
        "forbidden": replace(OPTIONS, kubeconfig=server.kubeconfig("kvsync")),
        "unauthorized": replace(OPTIONS, kubeconfig=server.kubeconfig("who", token="nobody's")),
        "no_pods": replace(OPTIONS, kubeconfig=server.kubeconfig(), namespaces=("wrong",)),
        "config": replace(OPTIONS, kubeconfig=empty),
    }
    said = {reason: asyncio.run(findings_of(options)) for reason, options in cases.items()}
    assert {reason: list(found) for reason, found in said.items()} == {reason: [reason] for reason in cases}
    assert "deploy/kubernetes/rbac.yaml" in said["forbidden"]["forbidden"]


def test_rights_that_are_missing_in_part_concern_that_part(
    server: ApiServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """A forbidden namespace leaves the other; without the verb `watch` pods are still seen, and it stays told."""
    cluster, one, two = Cluster(server.kubeconfig()), Container.at("127.0.5.4"), Container.at("127.0.5.5")
    server.grant("half", NAMESPACE, ["pods"], ["list", "watch"])
    server.grant("lists", NAMESPACE, ["pods"], ["list"])
    for container in (one, two):
        container.publish(2)
    cluster.run("one", one)

    async def forbidden_namespace() -> None:
        options = replace(OPTIONS, namespaces=("elsewhere", NAMESPACE))
        async with following(server.kubeconfig("half"), options) as followed:
            await become(lambda: followed.equals({"one": (one, "m")}), followed.source.findings)
            (finding,) = followed.source.findings()
            assert (finding.about, finding.reason) == ("namespace elsewhere", "forbidden")
            assert 'cannot list resource "pods"' in finding.text

    async def no_watch() -> None:
        one_watch = replace(OPTIONS, selectors=(MODEL_LABEL,))
        async with following(server.kubeconfig("lists"), one_watch) as followed:
            await become(lambda: bool(followed.source.findings()), followed.source.findings)
            await asyncio.to_thread(cluster.run, "two", two)
            truth = {"one": (one, "m"), "two": (two, "m")}
            await become(lambda: followed.equals(truth), followed.source.findings)
            assert 'cannot watch resource "pods"' in followed.source.findings()[0].text
            assert not [message for message in caplog.messages if message.startswith("no longer so")]

    caplog.set_level(logging.INFO)
    asyncio.run(forbidden_namespace())
    caplog.clear()
    asyncio.run(no_watch())
    for container in (one, two):
        container.publisher.close()
    cluster.api.close()


def test_a_token_that_is_renewed_is_read_anew(
    server: ApiServerProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From its file, when the old one is refused: nothing is told, for there is nothing to mend."""
    cluster, one, two = Cluster(server.kubeconfig()), Container.at("127.0.5.6"), Container.at("127.0.5.7")
    server.grant("kvsync", NAMESPACE, ["pods"], ["list", "watch"])
    token, kubeconfig = tmp_path / "token", server.kubeconfig("kvsync")
    document = json.loads(kubeconfig.read_text())
    token.write_text(document["users"][0]["user"]["token"] + "\n")
    document["users"][0]["user"] = {"tokenFile": str(token)}
    kubeconfig.write_text(json.dumps(document))
    for container in (one, two):
        container.publish(2)
    cluster.run("one", one)

    async def story() -> None:
        async with following(kubeconfig) as followed:
            await become(lambda: followed.equals({"one": (one, "m")}), followed.source.findings)
            token.write_text(str(await asyncio.to_thread(server.do, "renew_token", "kvsync")) + "\n")
            await asyncio.to_thread(server.do, "cut_watches")
            await asyncio.to_thread(cluster.run, "two", two)
            truth = {"one": (one, "m"), "two": (two, "m")}
            await become(lambda: followed.equals(truth), followed.source.findings)
        assert not [message for message in caplog.messages if "401" in message]

    asyncio.run(story())
    for container in (one, two):
        container.publisher.close()
    cluster.api.close()


def test_the_manifest_grants_enough(server: ApiServerProcess) -> None:
    """The rules of deploy/kubernetes/rbac.yaml, and nothing more, let it follow pods."""
    import yaml

    documents = list(yaml.safe_load_all(Path("deploy/kubernetes/rbac.yaml").read_text()))
    (rule,) = next(one for one in documents if one["kind"] == "Role")["rules"]
    cluster, one = Cluster(server.kubeconfig()), Container.at("127.0.5.3")
    user = f"system:serviceaccount:{NAMESPACE}:kvsync"
    server.grant(user, NAMESPACE, rule["resources"], rule["verbs"])
    one.publish(2)
    cluster.run("one", one)

    async def story() -> None:
        async with following(server.kubeconfig(user)) as followed:
            await become(lambda: followed.equals({"one": (one, "m")}), followed.source.findings)
            await asyncio.to_thread(cluster.annotate, "one", ranks="none")
            await become(lambda: bool(followed.source.findings()), followed.source.findings)
            one.publish(1)  # a bad annotation leaves the pod as it was: what it says from now on is read
            await become(lambda: followed.equals({"one": (one, "m")}), followed.source.findings)

    asyncio.run(story())
    one.publisher.close()
    cluster.api.close()

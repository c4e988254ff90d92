"""
`kvsync serve --kubernetes` from nothing to a routed request, as docs/kubernetes.md has it: real processes, and the API
server's double for a cluster. The guide's commands are read from it. How long requests go to a pod that has died is
printed: the promise is a second.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine_helpers import engine_beside as engine
from tests.integration.fleet_helpers import NAMESPACE, PODS, Cluster
from tests.integration.test_serve_process import serving
from tests.patience import PATIENCE_S

from kvsync.testing.apiserver.process import ApiServerProcess


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServerProcess]:
    """A cluster of the test's own."""
    with ApiServerProcess(tmp_path) as server:
        yield server


def places(ready: dict[str, Any]) -> dict[str, str]:
    """Where a pod that is this engine is found."""
    ports = {"http": ready["http"], "events": ready["events"][0], "replay": ready["replay"][0]}
    return {f"kvsync.io/{key}-port": address.rpartition(":")[2] for key, address in ports.items()}


def run_pod(cluster: Cluster, name: str, ready: dict[str, Any], labels: dict[str, str]) -> None:
    """A pod of the cluster that is this engine."""
    metadata = {"name": name, "labels": labels, "annotations": places(ready)}
    spec = {"nodeName": "node", "containers": [{"name": "engine", "image": "i"}]}
    cluster.ask("POST", PODS, {"metadata": metadata, "spec": spec})
    cluster.status(name, phase="Running", podIP="127.0.0.1")
    cluster.ready(name, is_ready=True)


def ask(url: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
    """Status, JSON and headers of an answer."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=content, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


def until(true: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
    """Wait until something is so; gives how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + within_s, "it never became so"
        time.sleep(0.01)
    return time.monotonic() - began


def only_finding(url: str, reason: str) -> dict[str, Any]:
    """
    What the daemon has to tell, once it is this alone.

    It answers before its first look is over, and a server that is slow is out of reach at first.
    """
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        told[:] = ask(url, "/v1/engines")[1]["findings"]
        return [finding["reason"] for finding in told] == [reason]

    until(is_told)
    return told[0]


def ups(url: str) -> dict[str, bool]:
    """Which pods get requests."""
    return {pod["pod"].removeprefix(f"{NAMESPACE}/"): pod["up"] for pod in ask(url, "/v1/pods")[1]["pods"]}


GUIDE = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def commands(program: str) -> list[list[str]]:
    """The words of the guide's commands that begin with a program."""
    lines = re.findall(rf"^    ({program} .*)$", GUIDE.replace("\\\n", " "), flags=re.MULTILINE)
    assert lines, f"the guide has no command of {program}"
    return [shlex.split(line) for line in lines]


def flags(kubeconfig: Path) -> list[str]:
    """The daemon's flags of the guide, and which cluster and port are the test's."""
    (serve,) = commands("kvsync serve")
    return [*serve[2:], "--kubeconfig", str(kubeconfig), "--listen", "127.0.0.1:0"]


def asked_in_the_guide() -> list[tuple[str, Any]]:
    """Path and body of each request in the guide."""
    asked = []
    for words in commands("curl"):
        path = next(word for word in words if word.startswith("http")).removeprefix("http://127.0.0.1:8090")
        asked.append((path, json.loads(words[words.index("-d") + 1]) if "-d" in words else None))
    return asked


PICKS = 12
"""Enough for each of two pods that may be picked to be, were it by lot."""

_serial = itertools.count()

AIBRIX = {"model.aibrix.ai/name": "simulated", "model.aibrix.ai/kv-events-enabled": "true"}
LLM_D = {"llm-d.ai/inference-serving": "true"}


def test_from_nothing_to_a_routed_request(server: ApiServerProcess) -> None:
    """Pods of two label schemes are found; one names no model and is asked; a prompt goes where it lies."""
    cluster = Cluster(server.kubeconfig())
    with engine() as (_, one), engine("--lora", "sql") as (_, two), serving(*flags(server.kubeconfig())) as (_, ready):
        url = ready["http"]

        def findings() -> list[str]:
            return [finding["reason"] for finding in ask(url, "/v1/engines")[1]["findings"]]

        until(lambda: findings() == ["no_pods"])
        run_pod(cluster, "one", one, AIBRIX)
        run_pod(cluster, "two", two, LLM_D)
        until(lambda: ups(url) == {"one": True, "two": True})

        def models() -> dict[str, Any]:
            return {pod["pod"]: (pod["model"], pod["loras"]) for pod in ask(url, "/v1/pods")[1]["pods"]}

        wanted = {f"{NAMESPACE}/one": ("simulated", []), f"{NAMESPACE}/two": ("simulated", ["sql"])}
        until(lambda: models() == wanted)
        until(lambda: all(one["connected"] for one in ask(url, "/v1/engines")[1]["engines"]))
        until(lambda: findings() == [])
        told, completed = [ask(url, path, body) for path, body in asked_in_the_guide()]
        assert (told[0], told[1]["findings"]) == (200, [])
        assert (completed[0], completed[2]["x-kvsync-pod"] in wanted) == (200, True)

        asked = {"model": "simulated", "prompt": "a prompt of some length " * 40, "max_tokens": 2}
        status, _, headers = ask(url, "/v1/completions", asked)
        assert status == 200
        holder = headers["x-kvsync-pod"]

        def is_held() -> bool:
            scored = ask(url, "/v1/score", {"model": "simulated", "prompt": asked["prompt"]})[1]["pods"]
            return any(pod["pod"] == holder and pod["matched_tokens"] > 500 for pod in scored)

        until(is_held)
        assert ask(url, "/v1/completions", asked)[2]["x-kvsync-pod"] == holder

        adapter = ask(url, "/v1/completions", {**asked, "model": "sql"})
        assert (adapter[0], adapter[2]["x-kvsync-pod"]) == (200, f"{NAMESPACE}/two")
        assert ask(url, "/v1/completions", {**asked, "model": "unheard"})[0] == 404
    cluster.api.close()


def is_picked(url: str, name: str) -> bool:
    """Whether the next of some new prompts goes to this pod."""
    prompts = [f"{next(_serial)} is a prompt that nobody had" for _ in range(PICKS)]
    picks = [ask(url, "/v1/route", {"model": "simulated", "prompt": prompt})[1]["pod"] for prompt in prompts]
    return f"{NAMESPACE}/{name}" in picks


def picked_s(url: str, name: str) -> float:
    """How long a pod is still picked, in seconds: from now to the last pick before it is down; none may follow."""
    began = last = time.monotonic()
    while ups(url)[name]:
        assert time.monotonic() < began + PATIENCE_S, "it never went down"
        last = time.monotonic() if is_picked(url, name) else last
    assert not is_picked(url, name)
    return last - began


def test_a_pod_that_dies_gets_no_more_requests(server: ApiServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Its socket closes, or its readiness falls: whichever is seen first keeps requests away."""
    cluster = Cluster(server.kubeconfig())
    with engine() as (process, one), engine() as (_, two), serving(*flags(server.kubeconfig())) as (_, ready):
        url = ready["http"]
        run_pod(cluster, "one", one, AIBRIX)
        run_pod(cluster, "two", two, AIBRIX)
        until(lambda: ups(url) == {"one": True, "two": True})
        until(lambda: all(one["connected"] for one in ask(url, "/v1/engines")[1]["engines"]))
        until(lambda: is_picked(url, "two"))
        cluster.ready("two", is_ready=False)
        fell_s = picked_s(url, "two")
        cluster.ready("two", is_ready=True)
        until(lambda: is_picked(url, "two") and is_picked(url, "one"))
        process.kill()
        died_s = picked_s(url, "one")
        assert ask(url, "/v1/completions", {"model": "simulated", "prompt": "hi", "max_tokens": 1})[0] == 200
    with capsys.disabled():
        print(f"\nkept away after: readiness fell {fell_s:.3f} s, socket closed {died_s:.3f} s")  # noqa: T201  (the figure)
    cluster.api.close()

"""
What a cluster, a file and engines can say wrong, all at once, to one `kvsync serve`: each is a finding with a remedy in
the log and at `/v1/engines`, the pod beside goes on, and nothing odd gets out unescaped.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.integration.engine_helpers import engine_beside as engine
from tests.integration.fleet_helpers import EVENTS_LABEL, MODEL_LABEL, NAMESPACE, PODS, Cluster
from tests.integration.serve_helpers import MODEL, daemon, make_pod
from tests.integration.test_fleet_process import ask, flags, only_finding, places, until
from tests.integration.test_serve_process import refused, serving
from tests.patience import PATIENCE_S

from kvsync.serve import fleet
from kvsync.serve.served import finding_of, listed
from kvsync.testing.apiserver.process import ApiServerProcess
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Engine

LABELS = {MODEL_LABEL: "simulated", EVENTS_LABEL: "true"}
ODD = {
    "ranks": {"kvsync.io/ranks": "none"},
    "port": {"kvsync.io/events-port": "99999"},
    "loras": {"kvsync.io/loras": "a++b"},
    "lora-name": {"kvsync.io/loras": "a\tb"},
    "model": {"kvsync.io/model": 'm"\n{le="1"} 1'},
    "long": {"kvsync.io/model": "x" * 3000},
    "bind": {"kvsync.io/bind": "true"},
    "scheme": {"kvsync.io/scheme": "javascript"},
    "ranks-off": {"kvsync.io/ranks": "9", "kvsync.io/events-port": "65530", "kvsync.io/replay-port": "1"},
}
"""Annotations that cannot be used, by the name of their pod."""

FILE = r"""
pods:
  - {name: "with space", http: "http://127.0.0.1:9", model: m}
  - {name: "nämé", http: "http://127.0.0.1:10", model: m}
  - {name: "\e[31mred", http: "http://127.0.0.1:11", model: m}
  - {name: file-model, http: "http://127.0.0.1:12", model: "m\r\nx-evil: 1"}
  - {name: file-port, http: "http://127.0.0.1:70000", model: m}
  - {name: file-lora, http: "http://127.0.0.1:13", model: m, loras: ["\0"]}
  - 7
"""
NASTY = 'a"b\\c\n<script>ü\u202e'


def pods_of(url: str) -> dict[str, bool]:
    """Which pods there are, and whether they get requests."""
    return {pod["pod"]: pod["up"] for pod in ask(url, "/v1/pods")[1]["pods"]}


def test_bad_descriptions_are_told_and_concern_nobody_else(tmp_path: Path) -> None:
    """Annotations, entries of a file, one address claimed twice: a finding each, logged too; the good pod serves."""
    file = tmp_path / "pods.yaml"
    file.write_text(FILE)
    with ApiServerProcess(tmp_path) as server, engine() as (_, good):
        cluster = Cluster(server.kubeconfig())
        spec = {"nodeName": "node", "containers": [{"name": "engine", "image": "i"}]}
        said = {"good": places(good), "twin": places(good), **ODD}
        for name, annotations in said.items():
            cluster.ask("POST", PODS, {"metadata": _metadata(name, annotations), "spec": spec})
            cluster.status(name, phase="Running", podIP="127.0.0.1" if name in ("good", "twin") else "127.0.9.9")
            cluster.ready(name, is_ready=True)
        cluster.api.close()
        with serving(*flags(server.kubeconfig()), "--pods-file", str(file)) as (process, ready):
            url = ready["http"]
            until(lambda: pods_of(url) == {f"{NAMESPACE}/good": True})
            until(lambda: len(ask(url, "/v1/engines")[1]["findings"]) == len(ODD) + 1 + FILE.count("\n  - "))
            findings = ask(url, "/v1/engines")[1]["findings"]
            by_pod = {finding["about"].removeprefix(f"{NAMESPACE}/"): finding for finding in findings}
            assert {name for name, finding in by_pod.items() if finding["reason"] == "bad_pod"} == set(ODD)
            assert by_pod["twin"]["reason"] == "endpoint_taken"
            bad_entries = [finding["text"] for finding in findings if finding["reason"] == "bad_entry"]
            assert len(bad_entries) == FILE.count("\n  - ")
            assert len(findings) == len(ODD) + 1 + len(bad_entries)
            asked = {"model": "simulated", "prompt": "hi", "max_tokens": 1}
            status, _, headers = ask(url, "/v1/completions", asked)
            assert (status, headers["x-kvsync-pod"]) == (200, f"{NAMESPACE}/good")
            process.terminate()
            _, log = process.communicate(timeout=PATIENCE_S)
    lines = [json.loads(line) for line in log.splitlines()]
    told = [line["message"] for line in lines if line["level"] == "warning"]
    for finding in findings:
        assert all(character.isprintable() for character in finding["text"]), finding
        assert any(finding["text"] in message for message in told), finding


def _metadata(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": LABELS, "annotations": annotations}


def test_a_name_that_no_namespace_has_is_refused() -> None:
    """At the start, with the value met: it could only be a mistake, or lead elsewhere."""
    error = refused("--kubernetes", "--kubernetes-namespace", "../\x1b[31m", "--listen", "127.0.0.1:0")
    assert "is no namespace's name" in error
    assert "\x1b" not in error


def test_a_kubeconfig_without_a_cluster_is_told_by_the_daemon(tmp_path: Path) -> None:
    """It runs, for the pods of other sources, and says what to mend."""
    empty = tmp_path / "empty.kubeconfig"
    empty.write_text("apiVersion: v1\nkind: Config\n")
    with serving(*flags(empty)) as (_, ready):
        assert only_finding(ready["http"], "config")


def test_no_rights_and_a_wrong_namespace_are_told_by_the_daemon(tmp_path: Path) -> None:
    """The role to grant is named, and the namespace in which nothing was found."""
    with ApiServerProcess(tmp_path) as server:
        for kubeconfig, reason, remedy in (
            (server.kubeconfig("nobody"), "forbidden", "deploy/kubernetes/rbac.yaml"),
            (server.kubeconfig(), "no_pods", "check the namespace"),
        ):
            with serving(*flags(kubeconfig)) as (_, ready):
                assert remedy in only_finding(ready["http"], reason)["text"]


def test_odd_names_of_engines_get_out_escaped() -> None:
    """Media, adapters and models that an engine names as it likes: its pages stay pages, and it is told."""

    async def story() -> None:
        async with daemon(make_pod("a")) as here:
            event = Stored((1,), None, tuple(range(16)), 16, medium=NASTY, lora_name=NASTY)
            here.index.apply(Engine("a"), encode_batch([event]), model=MODEL)
            learned = listed({"data": [{"id": MODEL}, {"id": NASTY}]})
            pod = here.parts.pods["a"]
            fleet.learn(here.parts, pod, learned, finding_of(pod, learned, 200))
            async with here.client.get(f"{here.url}/metrics") as answer:
                samples = [s for family in text_string_to_metric_families(await answer.text()) for s in family.samples]
            media = {sample.labels["medium"] for sample in samples if "medium" in sample.labels}
            assert {medium.lower() for medium in media} == {"gpu", NASTY.lower()}
            _, engines = await here.get("/v1/engines")
            assert [finding["reason"] for finding in engines["findings"]] == ["odd_name"]
            assert all(character.isprintable() for character in engines["findings"][0]["text"])
            for path in ("/v1/pods", "/v1/models", "/v1/engines", "/v1/stats"):
                async with here.client.get(f"{here.url}{path}") as answer:
                    assert answer.content_type == "application/json"
                    json.loads(await answer.text())
            status, answer_ = await here.post("/v1/score", {"model": NASTY + "?", "token_ids": [1, 2]})
            assert status == 404
            assert "\n" not in answer_["error"]["message"]

    asyncio.run(story())

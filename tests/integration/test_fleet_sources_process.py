"""`kvsync serve` as a process, with each source of pods but Kubernetes, and with encrypted streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq
from tests.integration.engine_helpers import engine_beside as engine
from tests.integration.test_fleet_process import ask, only_finding, until
from tests.integration.test_serve_process import serving

MODEL = "simulated"


def entry(name: str, ready: dict[str, Any]) -> str:
    """An engine as a pod of a file."""
    return (
        f"  - {{name: {name}, http: '{ready['http']}', events: '{ready['events'][0]}',"
        f" replay: '{ready['replay'][0]}', model: {MODEL}}}\n"
    )


def connected(url: str) -> dict[str, bool]:
    """The pods whose events are followed."""
    return {one["pod"]: one["connected"] for one in ask(url, "/v1/engines")[1]["engines"]}


def route(url: str) -> str | None:
    """Send a request; the pod that answered, if one did."""
    status, _, headers = ask(url, "/v1/completions", {"model": MODEL, "prompt": "hi", "max_tokens": 1})
    return str(headers["x-kvsync-pod"]) if status == 200 else None


def test_a_file_of_pods_is_followed(tmp_path: Path) -> None:
    """A pod is added and taken away while the daemon runs; a broken file changes nothing and is told."""
    file = tmp_path / "pods.yaml"
    with engine() as (_, one), engine() as (_, two):
        file.write_text("pods:\n" + entry("one", one))
        with serving("--pods-file", str(file), "--listen", "127.0.0.1:0") as (_, ready):
            url = ready["http"]
            until(lambda: connected(url) == {"one": True})
            until(lambda: route(url) == "one")
            file.write_text("pods:\n" + entry("two", two))
            until(lambda: connected(url) == {"two": True})
            until(lambda: route(url) == "two")
            file.write_text("pods: {")
            until(lambda: [f["reason"] for f in ask(url, "/v1/engines")[1]["findings"]] == ["unreadable"])
            assert route(url) == "two"


def test_a_name_of_pods_is_followed() -> None:
    """Each address that the name has is a pod."""
    with engine() as (_, one):
        there = {key: one[key] if key == "http" else one[key][0] for key in ("http", "events", "replay")}
        pattern = ",".join(f"{key}={address.replace('127.0.0.1', 'localhost')}" for key, address in there.items())
        with serving("--pods-dns", f"name=e,{pattern},model={MODEL}", "--listen", "127.0.0.1:0") as (_, ready):
            url = ready["http"]
            until(lambda: connected(url).get("e/127.0.0.1", False))
            until(lambda: route(url) == "e/127.0.0.1")


def test_a_name_that_is_nobodys_is_told() -> None:
    """The daemon runs, says so, and looks again."""
    pattern = f"name=e,http=http://nobody.invalid:8000,model={MODEL}"
    with serving("--pods-dns", pattern, "--listen", "127.0.0.1:0") as (_, ready):
        finding = only_finding(ready["http"], "lookup")
        assert (finding["source"], finding["about"]) == ("dns", "nobody.invalid")
        assert ask(ready["http"], "/healthz")[0] == 200


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_encrypted_events_are_followed(tmp_path: Path, is_right: bool) -> None:
    """With the engine's key its events come; with another's the engine is named with that reason."""
    public, secret = zmq.curve_keypair()
    _, ours = zmq.curve_keypair()
    files = {"engine": secret, "ours": ours, "server": public if is_right else zmq.curve_keypair()[0]}
    for name, key in files.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(key)
    with engine("--curve-key", str(tmp_path / "engine")) as (_, one):
        pod = f"name=one,http={one['http']},events={one['events'][0]},replay={one['replay'][0]},model={MODEL}"
        keys = ["--curve-key", str(tmp_path / "ours"), "--curve-server-key", str(tmp_path / "server")]
        with serving("--pod", pod, *keys, "--listen", "127.0.0.1:0") as (_, ready):
            url = ready["http"]
            if is_right:
                until(lambda: connected(url) == {"one": True})
                until(lambda: ask(url, "/v1/engines")[1]["engines"][0]["stream"]["replay_available"] is True)
                long = {"model": MODEL, "prompt": "a prompt of some length " * 20, "max_tokens": 1}
                until(lambda: ask(url, "/v1/completions", long)[0] == 200)
                until(lambda: ask(url, "/v1/engines")[1]["engines"][0]["blocks"] > 0)
                assert ask(url, "/v1/engines")[1]["engines"][0]["trust"] == "exact"
                return

            def error() -> str:
                return str(ask(url, "/v1/engines")[1]["engines"][0]["stream"]["error"])

            until(lambda: "has another CURVE key than ours" in error())
            assert connected(url) == {"one": False}

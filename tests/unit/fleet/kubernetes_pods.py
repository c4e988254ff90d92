"""Pods as an API server has them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

AIBRIX = {"model.aibrix.ai/name": "llama", "model.aibrix.ai/kv-events-enabled": "true"}
LLM_D = {"llm-d.ai/inference-serving": "true"}


def v1_pod(
    name: str = "a",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    ip: str | None = "10.0.0.1",
    phase: str = "Running",
    ready: bool = True,
    restarts: int = 0,
    version: str = "1",
    **metadata: Any,
) -> dict[str, Any]:
    """A running pod with AIBrix's labels, unless told otherwise; annotations are given without our prefix."""
    return {
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "labels": AIBRIX if labels is None else labels,
            "annotations": {f"kvsync.io/{key}": text for key, text in (annotations or {}).items()},
            **metadata,
        },
        "spec": {"containers": [{"name": "engine", "image": "i"}]},
        "status": {
            "phase": phase,
            **({"podIP": ip} if ip else {}),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "engine", "restartCount": restarts, "containerID": f"c://{restarts}"}],
        },
    }

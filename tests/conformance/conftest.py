"""
Which API server the cases run against: the one that `KVSYNC_CONFORMANCE_KUBECONFIG` names, else the double.

`nox -s conformance -- --kubeconfig FILE` sets the variable. Each run makes one namespace of its own, and deletes it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.client import Api

from kvsync.testing.apiserver.process import ApiServerProcess


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API server."""
    named = os.environ.get("KVSYNC_CONFORMANCE_KUBECONFIG")
    if named:
        yield Api(str(Path(named).expanduser()))
        return
    with ApiServerProcess(tmp_path_factory.mktemp("apiserver")) as double:
        yield Api(str(double.kubeconfig()))


@pytest.fixture(scope="session")
def namespace(api: Api) -> Iterator[str]:
    """A namespace that is ours alone."""
    name = f"kvsync-conformance-{uuid.uuid4().hex[:10]}"
    made = api.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.status == 201, made
    try:
        yield name
    finally:
        api.ask("DELETE", f"/api/v1/namespaces/{name}")

"""A CA of its own, a certificate for loopback, and the kubeconfig that trusts it: made anew at each start."""

from __future__ import annotations

import base64
import json
import os
import ssl
from pathlib import Path

import trustme


def server_context(folder: Path) -> ssl.SSLContext:
    """A TLS context for 127.0.0.1; its CA is written to `ca.pem` in the folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def write_kubeconfig(folder: Path, name: str, url: str, token: str, namespace: str = "default") -> Path:
    """Write what a client of this user needs; JSON is YAML, too. Only the owner can read it."""
    authority = base64.b64encode((folder / "ca.pem").read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "double", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": "double", "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    path = folder / f"{name}.kubeconfig"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(document, file)
    return path

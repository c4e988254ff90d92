"""
Kubeconfigs, sound and not, as the official client reads them: what is made of them, and what is told. The client's own
libraries look for IPv6 when they are imported, so that this is no unit test.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvsync.fleet.kubernetes.configuration import configuration_of, namespace_of
from kvsync.fleet.kubernetes.failure import CONFIG, ApiError, finding_of
from kvsync.fleet.kubernetes.options import KubernetesOptions

SECRET = "s3cr3t-t0k3n"
SOUND: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "prod"}}],
    "current-context": "x",
}


def written(folder: Path, document: Any) -> KubernetesOptions:
    """The options that name this kubeconfig; JSON is YAML, too."""
    path = folder / "kubeconfig"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return KubernetesOptions(kubeconfig=path)


def changed(part: str, **values: Any) -> dict[str, Any]:
    """The sound one, but for values of its only cluster, user or context; None takes one away."""
    document = copy.deepcopy(SOUND)
    inner = document[f"{part}s"][0][part]
    inner |= values
    for key in [key for key, value in values.items() if value is None]:
        del inner[key]
    return document


def authorization(options: KubernetesOptions) -> str:
    """What is sent to say who we are, each time the same."""
    configuration = configuration_of(options)
    first, second = (str(configuration.auth_settings()["BearerToken"]["value"]) for _ in range(2))
    assert first == second
    return first


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    """Server, token and namespace; `default` where none is named."""
    options = written(tmp_path, SOUND)
    assert configuration_of(options).host == "https://10.0.0.1:6443"
    assert authorization(options) == f"Bearer {SECRET}"
    assert namespace_of(options) == "prod"
    assert namespace_of(written(tmp_path, changed("context", namespace=None))) == "default"


def test_a_tokens_file_may_end_its_line(tmp_path: Path) -> None:
    """As files do; each look at the configuration reads it anew."""
    (tmp_path / "token").write_text(f"{SECRET}\n")
    options = written(tmp_path, changed("user", token=None, tokenFile=str(tmp_path / "token")))
    assert authorization(options) == f"Bearer {SECRET}"
    (tmp_path / "token").write_text("renewed\n")
    assert authorization(options) == "Bearer renewed"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "file is empty"),
        ("hello", "has not the form of one"),
        ("- a", "has not the form of one"),
        ("a: [", "while parsing"),
        ("\x00", "unacceptable character"),
        ({**SOUND, "clusters": []}, "Expected object with name c"),
        ({**SOUND, "contexts": []}, "Expected object with name x"),
        ({**SOUND, "current-context": None}, "current-context"),
        ({key: value for key, value in SOUND.items() if key != "clusters"}, "clusters"),
        (changed("cluster", server=None), "server is ''; give https://HOST:PORT"),
        (changed("cluster", server="nonsense"), "server is 'nonsense'; give https://HOST:PORT"),
        (changed("cluster", server="https://h:99999"), "server is 'https://h:99999'; give https://HOST:PORT"),
        (changed("cluster", server="https://[::1"), "kubeconfig cannot be used"),
        (changed("cluster", server=7), "has not the form of one"),
        (changed("cluster", **{"certificate-authority": "/none/ca.pem"}), "/none/ca.pem"),
        (changed("user", token=None, tokenFile="/none/token"), "/none/token"),
        (changed("user", token=f"{SECRET}\nx"), "its token holds characters that no token has"),
        (changed("user", token=f"{SECRET}\u00fc"), "its token holds characters that no token has"),
    ],
)
def test_what_cannot_be_used_is_the_operators_to_mend(tmp_path: Path, document: Any, said: str) -> None:
    """It is told on one line, with the value where that is no secret."""
    options = written(tmp_path, document)
    with pytest.raises(ApiError) as caught:
        authorization(options)
    failure = caught.value.failure
    assert failure.reason == CONFIG
    assert failure.is_lasting
    text = finding_of(failure, "cluster").text
    assert said in text
    assert text.isprintable()
    assert SECRET not in text


@pytest.mark.parametrize("namespace", ["../x", "a\nb", 7.5])
def test_a_namespace_that_cannot_be_is_told(tmp_path: Path, namespace: Any) -> None:
    """It would stand in a path and in the log."""
    with pytest.raises(ApiError, match="is no namespace's name") as caught:
        namespace_of(written(tmp_path, changed("context", namespace=namespace)))
    assert str(caught.value).isprintable()


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """A folder, and a path at which there is nothing."""
    reads: list[Callable[[KubernetesOptions], object]] = [namespace_of, configuration_of]
    for path in (tmp_path, tmp_path / "none"):
        for read in reads:
            with pytest.raises(ApiError, match="kubeconfig cannot be used"):
                read(KubernetesOptions(kubeconfig=path))


@pytest.mark.timeout(60)
def test_a_file_without_end_is_told(tmp_path: Path) -> None:
    """Neither a pipe that nobody writes nor a device, nor what is far too long, is handed to the client."""
    pipe, long = tmp_path / "pipe", tmp_path / "long"
    os.mkfifo(pipe)
    with long.open("wb") as file:
        file.truncate(1 << 26)
    for path, said in (
        (pipe, "is no regular file"),
        (Path("/dev/zero"), "is no regular file"),
        (long, "has more than"),
    ):
        for read in (namespace_of, configuration_of):
            with pytest.raises(ApiError, match=f"--kubeconfig {path} {said}"):
                read(KubernetesOptions(kubeconfig=path))


def test_a_context_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name."""
    path = written(tmp_path, SOUND).kubeconfig
    with pytest.raises(ApiError, match="Expected object with name other"):
        configuration_of(KubernetesOptions(kubeconfig=path, context="other"))

"""
Where the API server is, who we are to it, and which namespace is meant: as the official client reads it from a
kubeconfig or from inside a cluster, and held to what can work.

What is wrong with it is an `ApiError` whose failure is the configuration's, and never says a secret: where a library
might, only the kind of the error is told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from kvsync import files
from kvsync.errors import ConfigError
from kvsync.fleet.kubernetes.failure import CONFIG, TEXT_MAX, ApiError, Failure
from kvsync.fleet.kubernetes.options import NAMESPACE, SHOWN, KubernetesOptions

BYTES_MAX: Final = 4 * 1024 * 1024
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def namespace_of(options: KubernetesOptions) -> str:
    """The namespace that is meant where none is named: the one we run in, or the context's."""
    with _refusals():
        namespace = _inside() if _is_inside(options) else _of_context(options)
        if not NAMESPACE.fullmatch(namespace):
            raise _unusable(f"its namespace is {namespace[:SHOWN]!r}, which is no namespace's name")
        return namespace


def configuration_of(options: KubernetesOptions) -> Any:
    """The client's own `Configuration`, read anew."""
    from kubernetes import client, config

    with _refusals():
        configuration = client.Configuration()
        if _is_inside(options):
            config.load_incluster_config(client_configuration=configuration)
        else:
            path = _kubeconfig(options)
            config.load_kube_config(config_file=path, context=options.context, client_configuration=configuration)
        _check_server(str(configuration.host))
        _check_tokens(configuration)
    configuration.retries = False  # when to try again is the reflector's to say
    configuration.keep_alive = True  # a server that vanished without a word is noticed
    return configuration


def _is_inside(options: KubernetesOptions) -> bool:
    return options.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ and NAMESPACE_FILE.exists()


def _inside() -> str:
    return NAMESPACE_FILE.read_text().strip() or "default"


def _of_context(options: KubernetesOptions) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(config_file=_kubeconfig(options))
    if options.context is not None:
        active = next((one for one in contexts if one["name"] == options.context), active)
    return str((active or {}).get("context", {}).get("namespace") or "default")


def check_there(kubeconfig: Path | None) -> None:
    """Raise `ConfigError` for a kubeconfig that was asked for and is no file."""
    if kubeconfig is not None and not kubeconfig.is_file():
        raise ConfigError(f"--kubeconfig {kubeconfig} is not there, or is no file; check the path")


def _kubeconfig(options: KubernetesOptions) -> str | None:
    if options.kubeconfig is None:
        return None
    # The client reads it anew, by its name: the files that it names lie beside it.
    files.read_file(
        options.kubeconfig, f"--kubeconfig {options.kubeconfig}", BYTES_MAX, "give a kubeconfig", pipe=False
    )
    return str(options.kubeconfig)


def _check_server(address: str) -> None:
    """Refuse an address that cannot be one, before a library does so without a word of where it stands."""
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise _unusable(f"server is {address[:SHOWN]!r}; give https://HOST:PORT")


def _check_tokens(configuration: Any) -> None:
    """
    Let each token, now and whenever it is renewed, be without the line break that ends its file, and refuse one that
    cannot be sent: the library that would refuse it names it.
    """
    renew = configuration.refresh_api_key_hook

    def renewed(configuration: Any) -> None:
        if renew is not None:
            renew(configuration)
        for name, token in tuple(configuration.api_key.items()):
            sound = str(token).strip()
            if not sound.isascii() or not sound.isprintable():
                raise _unusable("its token holds characters that no token has; write it alone, on one line")
            configuration.api_key[name] = sound
        configuration.refresh_api_key_hook = renewed  # renewing puts the client's own back

    configuration.refresh_api_key_hook = renewed


def _unusable(why: str) -> ApiError:
    return ApiError(Failure(0, CONFIG, f"the kubeconfig cannot be used: {' '.join(why.split())[:TEXT_MAX]}"))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Say of whatever cannot be read, or be made of what was, that it is the configuration's fault."""
    from kubernetes.config.config_exception import ConfigException
    from yaml import YAMLError

    try:
        yield
    except ApiError:
        raise
    except ConfigException as error:
        raise _unusable(f"{error}; it is what --kubeconfig, KUBECONFIG or ~/.kube/config names") from error
    except (ConfigError, YAMLError, OSError) as error:
        raise _unusable(str(error)) from error
    except Exception as error:
        raise _unusable(f"it has not the form of one ({type(error).__name__})") from error

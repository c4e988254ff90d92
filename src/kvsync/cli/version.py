"""`kvsync version`: what is installed, as one would paste it into a bug report."""

from __future__ import annotations

import json
import platform
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """
    Show the versions of kvsync, its C core, Python and ZeroMQ.
    """
    versions = collect()
    if as_json:
        print(json.dumps(versions))
        return
    width = max(map(len, versions)) + 1
    for name, value in versions.items():
        print(f"{name + ':':<{width}} {value}")


def collect() -> dict[str, str]:
    """
    The versions by name; what cannot be loaded says so in its place, since that is what a report is about.
    """
    from kvsync import __version__

    return {
        "kvsync": __version__,
        "core": _core_version(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **_zmq_versions(),
        "platform": platform.platform(),
    }


def _core_version() -> str:
    try:
        from kvsync._core import ffi, lib
    except ImportError as error:
        return f"not loadable ({error})"
    text = ffi.string(lib.kvs_version())
    return text.decode() if isinstance(text, bytes) else str(text)


def _zmq_versions() -> dict[str, str]:
    # From the package's metadata: loading ZeroMQ takes longer than all the rest of this command.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"pyzmq": version("pyzmq")}
    except PackageNotFoundError as error:
        return {"pyzmq": f"not installed ({error})"}

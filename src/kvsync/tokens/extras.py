"""
The libraries behind backends, each an extra of its own: imported on first use, and named with a remedy when missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kvsync.errors import ConfigError


def need(module: str, extra: str) -> Any:
    """
    Import a library that `kvsync[extra]` brings; a missing one is a `ConfigError` with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"tokenizers of kind {extra!r} need the library {error.name or module!r}, which is not installed;"
            f" run: python -m pip install 'kvsync[{extra}]'"
        ) from error

"""
The keys of the event streams, as the settings name them: for all engines, or for none.
"""

from __future__ import annotations

from kvsync.errors import ConfigError
from kvsync.keys import read_public_key, read_secret_key
from kvsync.serve.settings import Settings
from kvsync.stream.options import Curve


def curve_of(settings: Settings) -> Curve | None:
    """Read the keys; `ConfigError` for files that hold none, one without the other, a secret that others can read."""
    secret, server = settings.curve_key, settings.curve_server_key
    if secret is None and server is None:
        return None
    if secret is None or server is None:
        raise ConfigError(
            "curve_key and curve_server_key belong together: give our secret key and the engines' public one"
        )
    return Curve(read_secret_key(secret, "--curve-key"), read_public_key(server, "--curve-server-key"))

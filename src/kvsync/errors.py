"""
What can go wrong, by who can do something about it.

Every message names the thing, the value met and the remedy. A gap in a stream is not an error: it is a
value on the normal path.
"""

from __future__ import annotations


class KvsyncError(Exception):
    """Anything kvsync raises on purpose."""


class ConfigError(KvsyncError):
    """The operator gave a setting, flag or file that cannot be used."""


class FrameError(KvsyncError):
    """An engine, or a capture of one, sent something that cannot be read."""


class DiscoveryError(KvsyncError):
    """The cluster, or another source of pods, cannot be read."""


class TokenizeError(KvsyncError):
    """A text or a chat could not be turned into token ids: it can still be routed, by load alone."""


class TokenizerUnavailable(TokenizeError):
    """Whether the text is right cannot be said: its tokenizer does not answer, or is not to be had."""


class CapacityError(KvsyncError):
    """A limit of ours was reached; what was known before is still known."""


class ClosedError(KvsyncError):
    """The caller used something after closing it."""

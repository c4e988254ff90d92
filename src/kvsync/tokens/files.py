"""
Where a model's tokenizer files lie: a file, a folder, or a model of the hub, from its cache or fetched into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvsync.errors import ConfigError
from kvsync.tokens.extras import need
from kvsync.tokens.model import ModelSpec

FILE_BYTES_MAX = 512 * 1024 * 1024
"""The largest tokenizers have 40 MB; more is no tokenizer."""

PARTS = ("tokenizer_config.json", "chat_template.jinja", "chat_template.json", "special_tokens_map.json")
"""What may stand beside a tokenizer's own file."""


def find(spec: ModelSpec, names: Sequence[str], *, adapter: Path | None = None) -> Path:
    """
    The first of the named files that the model has; an adapter's own counts before the base's.

    A `*` in a name stands for any characters. `ConfigError` where there is none, or too much.
    """
    base = Path(spec.base).expanduser()
    if adapter is not None:
        if not adapter.is_dir():
            raise ConfigError(f"adapter {str(adapter)!r} of {spec.base!r} is no folder; give the adapter's folder")
        if (own := _in(adapter, names)) is not None:
            return _checked(own)
    if base.is_file():
        return _checked(base)
    if base.is_dir():
        found = _in(base, names)
        if found is None:
            raise ConfigError(
                f"{spec.base!r} has no {_listed(names)}; give the folder or file of a {spec.kind} tokenizer"
            )
        return _checked(found)
    if spec.base.startswith(("/", ".", "~")) or spec.base.count("/") != 1:
        raise ConfigError(f"tokenizer {spec.base!r} is not there; give a file, a folder, or OWNER/NAME on the hub")
    found = _in(_from_hub(spec, names), names)
    if found is None:
        raise ConfigError(f"{spec.base!r} has no {_listed(names)} on the hub; it is no {spec.kind} tokenizer")
    return _checked(found)


def read_json(path: Path) -> Any:
    """A JSON file's content; `ConfigError` where it is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error}); fetch the file anew") from error


def read_text(path: Path) -> str:
    """A text file's content; `ConfigError` where it is none."""
    try:
        return _checked(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error.reason}); fetch the file anew") from error


def settings_of(folder: Path) -> Mapping[str, Any]:
    """What `tokenizer_config.json` says, with the special tokens of `special_tokens_map.json` where it names none."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            document = read_json(path)
            if not isinstance(document, dict):
                raise ConfigError(f"{path} holds no object; fetch the file anew")
            config |= document
    return config


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """The names that templates know special tokens by, `bos_token` and so on, with their texts."""
    found = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def template_of(spec: ModelSpec, folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: the operator's own, the folder's file, or what the settings hold; None where there is none."""
    if spec.chat_template is not None:
        if not spec.chat_template.is_file():
            raise ConfigError(f"chat_template {str(spec.chat_template)!r} is not there; give a Jinja file")
        return read_text(spec.chat_template)
    if (folder / "chat_template.jinja").is_file():
        return read_text(folder / "chat_template.jinja")
    held: Any = settings.get("chat_template")
    if held is None and (folder / "chat_template.json").is_file():
        document = read_json(folder / "chat_template.json")
        held = document.get("chat_template") if isinstance(document, dict) else None
    if isinstance(held, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in held if isinstance(one, dict)}
        held = named.get("default")
    return held if isinstance(held, str) else None


def _in(folder: Path, names: Sequence[str]) -> Path | None:
    return next((path for name in names for path in sorted(folder.glob(name)) if path.is_file()), None)


def _checked(path: Path) -> Path:
    size = path.stat().st_size
    if not 0 < size <= FILE_BYTES_MAX:
        raise ConfigError(f"{path} has {size:,} bytes; a tokenizer's file has from 1 to {FILE_BYTES_MAX:,}")
    return path


def _from_hub(spec: ModelSpec, names: Sequence[str]) -> Path:
    """The folder of a hub's model in the local cache, fetched if it is not there and the hub may be asked."""
    hub = need("huggingface_hub", "hf")
    try:
        return Path(
            hub.snapshot_download(spec.base, revision=spec.revision, allow_patterns=[*names, *PARTS], max_workers=2)
        )
    except Exception as error:  # of a dozen kinds, by what the network and the hub do
        raise ConfigError(
            f"tokenizer {spec.base!r} (revision {spec.revision or 'main'}) cannot be had from the hub"
            f" ({type(error).__name__}); fetch it beforehand and give its folder, or set HF_HOME to a cache that has it"
        ) from error


def _listed(names: Sequence[str]) -> str:
    return " or ".join(names)

"""`kvsync serve`: what its flags set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kvsync.cli import main
from kvsync.cli.serve import command
from kvsync.errors import ConfigError
from kvsync.serve import settings
from kvsync.serve.settings import Settings, flag_of


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings that the command hands over when it is given none."""
    met: dict[str, Any] = {}

    def note(flags: Mapping[str, Any], *, config: Path | None) -> Settings:
        met.update(flags)
        raise ConfigError("enough")

    monkeypatch.setattr(settings, "load_settings", note)
    CliRunner().invoke(main.app, ["serve"])
    return met


def test_each_flag_sets_a_setting_and_messages_know_its_name(flags: dict[str, Any]) -> None:
    """Every option but --config is a setting, under the name that an error message gives it."""
    options = {"--" + name.replace("_", "-") for name in inspect.signature(command).parameters} - {"--config"}
    assert {flag_of(name) for name in flags} == options
    assert set(flags) <= set(Settings.model_fields)
    assert set(flags.values()) == {None}

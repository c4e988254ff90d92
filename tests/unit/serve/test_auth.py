"""Who may ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsync.errors import ConfigError
from kvsync.serve.auth import is_bearer, token_of
from kvsync.serve.settings import Settings, load_settings

TOKEN = "correct-horse"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVSYNC_TOKEN", raising=False)
    monkeypatch.delenv("KVSYNC_TOKEN_FILE", raising=False)


def settings(**flags: object) -> Settings:
    """Settings of these flags alone."""
    return load_settings(flags, environment={})


def test_loopback_needs_no_token() -> None:
    """Whoever is on this machine may ask."""
    assert token_of(settings(listen="127.0.0.1:0")) is None


@pytest.mark.parametrize("listen", ["0.0.0.0:8090", "[::]:8090", "10.0.0.1:8090", "host.example:8090"])
def test_off_loopback_a_token_is_needed(listen: str) -> None:
    """The daemon refuses to start without."""
    with pytest.raises(ConfigError, match="--token-file FILE or KVSYNC_TOKEN"):
        token_of(settings(listen=listen))


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file counts before the environment; white space around it does not."""
    monkeypatch.setenv("KVSYNC_TOKEN", "of-the-environment")
    assert token_of(settings(listen="0.0.0.0:1")) == b"of-the-environment"
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="ascii")
    assert token_of(settings(listen="0.0.0.0:1", token_file=path)) == TOKEN.encode()


@pytest.mark.parametrize("content", ["", "short", "with space in it", "ümlaute-überall"])
def test_a_useless_token_is_refused_without_telling_it(tmp_path: Path, content: str) -> None:
    """Too short, or nothing that a header can carry."""
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        token_of(settings(token_file=path))
    assert not content or content not in str(caught.value)


def test_an_unreadable_token_file_is_refused(tmp_path: Path) -> None:
    """Even on loopback: somebody meant there to be a token."""
    with pytest.raises(ConfigError, match="cannot be read"):
        token_of(settings(token_file=tmp_path / "none"))


def test_settings_do_not_show_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a log nor in a traceback."""
    monkeypatch.setenv("KVSYNC_TOKEN", TOKEN)
    assert TOKEN not in repr(settings())


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("Bearer ü", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_token_as_bearer_is_let_through(header: str | None, allowed: bool) -> None:
    """Whatever else stands in the header is refused, and nothing raises."""
    assert is_bearer(header, TOKEN.encode()) is allowed

"""The demo's options."""

from __future__ import annotations

import re

import pytest

from kvsync.demo.run import DemoOptions
from kvsync.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": 0.5}, "--seconds is 0.5"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"pods": 0}, "--pods is 0"),
        ({"pods": 65}, "--pods is 65"),
        ({"policies": ()}, "names no policy"),
        ({"policies": ("cost", "fastest")}, "'fastest' is not known"),
        ({"policies": ("cost", "cost")}, "names a policy twice"),
    ],
)
def test_what_cannot_be_run_is_refused(options: dict[str, object], said: str) -> None:
    """The message names the flag and the value met."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        DemoOptions(**options)  # type: ignore[arg-type]  # options by name


def test_traffic_grows_with_the_fleet() -> None:
    """There are more conversations than pods and more system prompts than one, however small the fleet."""
    for pods in (1, 3, 8, 64):
        traffic = DemoOptions(pods=pods).traffic()
        assert traffic.people > pods
        assert 2 <= traffic.assistants < traffic.people

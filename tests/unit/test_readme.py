"""The README's claims that a machine can check."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
SERVED = re.compile(r"kvsync (?:engine|serve) .*model[= ](\w+)")
LINK = re.compile(r"\]\((?!http)([^)#]+)\)")


def test_the_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python example runs and prints what its last comment promises."""
    code = EXAMPLE.findall(README.read_text(encoding="utf-8"))[0]
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out.strip() == code.rstrip().rsplit("# ", 1)[1]


def test_the_example_is_short() -> None:
    """The example stays within twenty lines of code."""
    code = EXAMPLE.findall(README.read_text(encoding="utf-8"))[0]
    lines = [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 20


def test_every_link_leads_somewhere() -> None:
    """Every relative link of the README names a file of the repository."""
    for target in LINK.findall(README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def test_the_engine_serves_what_the_daemon_asks_for() -> None:
    """The lines of the shell example name one model."""
    names = SERVED.findall(README.read_text(encoding="utf-8"))
    assert len(names) == 2
    assert names[0] == names[1]

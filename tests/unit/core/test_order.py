"""
The files of the C core stand above each other, as the picture in `csrc/src/index.h` says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[3] / "csrc" / "src"
DEFINED: Final = re.compile(r"^(?!static)[a-z][\w *]*?\b(kvs_\w+)\([^;]*\{", re.MULTILINE)
NAMED: Final = re.compile(r"\bkvs_\w+(?=\()")


def order() -> list[str]:
    """The files in the order of the picture, from below, without their suffix."""
    files = (SOURCES / "index.h").read_text().partition("---- files")[2].partition("*/")[0].partition("after it:")[2]
    return re.findall(r"(?<!\.)\b[a-z_]+\b(?!\.h)", files.replace("and by themselves", ""))


def test_every_file_has_its_place() -> None:
    """The picture names each source file once."""
    assert sorted(order()) == sorted(path.stem for path in SOURCES.glob("*.c"))


def test_nothing_calls_what_stands_above_it() -> None:
    """A source file calls functions of files below it only."""
    place = {name: number for number, name in enumerate(order())}
    texts = {path.stem: path.read_text() for path in SOURCES.glob("*.c")}
    home = {function: file for file, text in texts.items() for function in DEFINED.findall(text)}
    assert len(home) > len(texts)
    upward = {
        f"{file}.c: {function}"
        for file, text in texts.items()
        for function in NAMED.findall(text)
        if place[home.get(function, file)] > place[file]
    }
    assert upward == set()

"""The project around the code: sessions, version, public names, changelog fragments."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import kvsync

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# What a user may write behind `from kvsync import`. Taking a name away breaks somebody.
PUBLIC_NAMES = [
    "Applied",
    "CapacityError",
    "ClosedError",
    "ConfigError",
    "DiscoveryError",
    "Engine",
    "FrameError",
    "Index",
    "KvsyncError",
    "Match",
    "Trust",
]


def is_session(decorator: ast.expr) -> bool:
    """Whether a decorator is `@nox.session`, with or without arguments."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(named) == "nox.session"


def sessions() -> list[ast.FunctionDef]:
    """The session functions of the noxfile, read and not run: nox need not be installed here."""
    module = ast.parse((ROOT / "noxfile.py").read_text())
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return [function for function in functions if any(map(is_session, function.decorator_list))]


def called(session: ast.FunctionDef) -> str:
    """What `nox -s` calls a session: the name it was given, or else its function's."""
    calls = [node for node in session.decorator_list if isinstance(node, ast.Call)]
    named = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "name"]
    return str(ast.literal_eval(named[0])) if named else session.name


def workflow_commands() -> list[str]:
    """What the workflows run."""
    texts = [path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    return [command for text in texts for command in re.findall(r"^\s*-? *run: *(.*)$", text, flags=re.MULTILINE)]


def fragments() -> list[Path]:
    """The changelog fragments that wait for the next release."""
    return sorted(path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md")


@pytest.mark.parametrize("session", sessions(), ids=lambda session: session.name)
def test_session_has_one_line_of_docstring(session: ast.FunctionDef) -> None:
    """`nox -l` says of each session in one line what it does."""
    docstring = ast.get_docstring(session)
    assert docstring
    assert "\n" not in docstring


@pytest.mark.parametrize("session", sessions(), ids=lambda session: session.name)
def test_session_passes_arguments_on(session: ast.FunctionDef) -> None:
    """What stands behind `--` reaches the session's tool, directly or through the pytest helper."""
    body = ast.unparse(session)
    assert "session.posargs" in body or "pytest(session" in body


@pytest.mark.parametrize("session", sessions(), ids=lambda session: session.name)
def test_session_is_in_the_guide(session: ast.FunctionDef) -> None:
    """CONTRIBUTING names every session."""
    assert f"nox -s {called(session)}`" in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("command", workflow_commands())
def test_workflow_calls_sessions_only(command: str) -> None:
    """A workflow does nothing that cannot be done at a desk: it calls sessions that exist."""
    program, *arguments = command.split(" -- ")[0].split()
    assert program == "ci/session"
    assert set(arguments) <= {called(session) for session in sessions()}


def test_version_is_the_installed_one() -> None:
    """`kvsync.__version__`, the metadata and pyproject.toml say the same version."""
    assert kvsync.__version__ == importlib.metadata.version("kvsync") == PYPROJECT["project"]["version"]


def test_version_of_the_c_library() -> None:
    """The public C header carries the package's version."""
    header = (ROOT / "csrc" / "include" / "kvsync.h").read_text()
    assert re.findall(r'#define KVS_VERSION "(.*)"', header) == [PYPROJECT["project"]["version"]]


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name(name: str) -> None:
    """A public name is there, and is announced in `__all__`."""
    assert isinstance(getattr(kvsync, name), type)
    assert name in kvsync.__all__


def test_unknown_name() -> None:
    """A name that is not public is refused in the way Python does."""
    with pytest.raises(AttributeError, match="module 'kvsync' has no attribute 'Indx'"):
        kvsync.Indx  # noqa: B018  # the access is what is tested


def test_values_without_the_c_library() -> None:
    """Importing kvsync for its values and errors loads neither cffi nor the index."""
    program = "import sys, kvsync; print([name for name in ('_cffi_backend', 'kvsync.index') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_typed() -> None:
    """The installed package says that it is typed."""
    assert (Path(kvsync.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("fragment", fragments(), ids=lambda path: path.name)
def test_fragment_name(fragment: Path) -> None:
    """A changelog fragment is named for an issue or with a plus, and for a type that towncrier knows."""
    types = [entry["directory"] for entry in PYPROJECT["tool"]["towncrier"]["type"]]
    assert re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(types)})(\.\d+)?\.md", fragment.name)


@pytest.mark.parametrize("fragment", fragments(), ids=lambda path: path.name)
def test_fragment_text(fragment: Path) -> None:
    """A changelog fragment is a full sentence."""
    assert fragment.read_text().strip().endswith(".")

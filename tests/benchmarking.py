"""Runs benchmarks as asv would, once each and at a size that takes no time."""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = sorted(path.stem for path in (Path(__file__).parents[1] / "benchmarks").glob("bench_*.py"))
KINDS = ("time_", "track_", "peakmem_")


def load(name: str) -> Any:
    """A module of the suite; the first one loaded fixes the size for the whole process."""
    os.environ["KVSYNC_BENCH_SIZE"] = "tiny"
    return importlib.import_module(f"benchmarks.{name}")


def classes(name: str) -> list[type[Any]]:
    """The benchmark classes of a module."""
    module = load(name)
    found = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return [kind for kind in found if methods(kind)]


def methods(kind: type[Any]) -> list[str]:
    """The benchmarks of a class."""
    return [name for name in dir(kind) if name.startswith(KINDS)]


def runs(kind: type[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each benchmark of a class with each of its parameters."""
    params = [values if isinstance(values, list | tuple) else [values] for values in getattr(kind, "params", ())]
    return itertools.product(methods(kind), itertools.product(*params))


def run(kind: type[Any]) -> dict[str, Any]:
    """Run everything in a class, and say what each benchmark returned; raises NotImplementedError to be skipped."""
    cached = [kind().setup_cache()] if hasattr(kind, "setup_cache") else []
    returned = {}
    for method, values in runs(kind):
        benchmark = kind()
        arguments = [*cached, *values]
        getattr(benchmark, "setup", ignore)(*arguments)
        try:
            returned[f"{method}{values}"] = getattr(benchmark, method)(*arguments)
        finally:
            getattr(benchmark, "teardown", ignore)(*arguments)
    return returned


def ignore(*arguments: Any) -> None:
    """Stands for what a benchmark does not have."""

"""The table of targets beside figures: read from what asv writes, whatever it leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarking import classes, load, runs

COLUMNS = ["result", "params", "version"]


def written(folder: Path, results: dict[str, Any]) -> Path:
    """A results directory as asv leaves it."""
    machine = folder / "machine"
    machine.mkdir(parents=True)
    (machine / "machine.json").write_text("{}")
    document = {"commit_hash": "1234", "result_columns": COLUMNS, "results": results}
    (machine / "1234-existing.json").write_text(json.dumps(document))
    return folder


def test_row_is_converted_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds become the row's unit, and ratios say how many times as good, also where less is better."""
    results = written(tmp_path, {"bench_match.WalkHot.time_walk": [[1e-6, 10e-6], [["1", "3"]]]})
    assert load("table").main([str(results), "--json"]) == 0
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    hot = rows["walk, hashes given, hot"]
    assert hot["measured"] == pytest.approx(10)
    assert hot["ratio_target"] == pytest.approx(1.5)
    assert hot["ratio_dynamo"] == pytest.approx(2)


def test_missing_value_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark that ran and failed shows as failed, and the table's exit code says so; one not run is left out."""
    results = written(tmp_path, {"bench_match.Miss.time_tokens": [None], "bench_match.Miss.time_hashes": [[None], []]})
    assert load("table").main([str(results)]) == 1
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3
    assert all("failed" in line for line in table[1:])


def test_no_results(tmp_path: Path) -> None:
    """Without any results the remedy is named."""
    with pytest.raises(FileNotFoundError, match="nox -s bench"):
        load("table").main([str(tmp_path)])


@pytest.mark.parametrize("target", load("targets").TARGETS, ids=lambda target: target.row)
def test_target_names_a_benchmark(target: Any) -> None:
    """Every row's benchmark exists and has these parameters: a renamed one would show as failed for ever."""
    module, name, method = target.benchmark.split(".")
    (kind,) = [kind for kind in classes(module) if kind.__name__ == name]
    assert (method, target.params) in {(run, tuple(map(str, values))) for run, values in runs(kind)}


def lap(value: float | None, other: float = 1.0) -> dict[str, Any]:
    """One run's document: a timed benchmark with two parameters."""
    columns = ["result", "params", "version", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25"]
    found = [[value, other], [["a", "b"]], "1", [value, other], [value, other], [0.5, 0.5]]
    return {"commit_hash": "1234", "result_columns": columns, "results": {"bench_x.X.time_x": found}}


def test_medians_of_runs(tmp_path: Path) -> None:
    """Of three runs the newest file keeps the medians, with the lowest and the highest as their interval."""
    results = written(tmp_path / "results", {})
    files = []
    for nth, value in enumerate([3.0, 1.0, 7.0]):
        files.append(tmp_path / f"{nth}.json")
        files[-1].write_text(json.dumps(lap(value)))
    load("medians").main([str(results), *map(str, files)])
    (file,) = (path for path in results.glob("*/*.json") if path.name != "machine.json")
    found = json.loads(file.read_text())["results"]["bench_x.X.time_x"]
    assert found == [[3.0, 1.0], [["a", "b"]], "1", [1.0, 1.0], [7.0, 1.0], [None, None]]


def test_a_value_that_failed_once_is_none() -> None:
    """A benchmark that failed in one of the runs has no median; one that failed whole has none at all."""
    medians = load("medians")
    assert medians.merged([lap(1.0), lap(None), lap(3.0)])["results"]["bench_x.X.time_x"][0] == [None, 1.0]
    failed = lap(1.0)
    failed["results"]["bench_x.X.time_x"][0] = None
    assert medians.merged([lap(1.0), failed])["results"]["bench_x.X.time_x"][0] is None


def test_runs_of_other_benchmarks_are_refused() -> None:
    """Medians are made of the same benchmarks only."""
    with pytest.raises(ValueError, match="not of the same benchmarks"):
        load("medians").merged([lap(1.0), {**lap(1.0), "results": {}}])

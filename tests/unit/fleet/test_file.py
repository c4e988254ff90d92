"""A file of pods: how it is read, and what a change for the worse leaves as it was."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

from kvsync.errors import ConfigError
from kvsync.fleet import FilePods, Pod
from kvsync.fleet.file import BYTES_MAX, parse_entries

A = Pod("a", "http://h:1", "m", ranks=2, events="tcp://h:5557", replay="tcp://h:6557", loras=("x", "y"))
B = Pod("b", "http://h:2", "m")
YAML = """
pods:
- {name: a, http: "http://h:1", model: m, ranks: 2, events: "tcp://h:5557", replay: "tcp://h:6557", loras: [x, y]}
- name=b,http=http://h:2,model=m
"""
TOML = """
[[pods]]
name = "a"
http = "http://h:1"
model = "m"
ranks = 2
events = "tcp://h:5557"
replay = "tcp://h:6557"
loras = ["x", "y"]
[[pods]]
name = "b"
http = "http://h:2"
model = "m"
"""


def looked_at(path: Path, *contents: str) -> FilePods:
    """The source after it looked at each of the contents in turn."""

    async def look() -> FilePods:
        source = FilePods(path)
        for content in contents:
            path.write_text(content)  # noqa: ASYNC240  (nobody else waits)
            await source._look()
        return source

    return asyncio.run(look())


@pytest.mark.parametrize(("name", "content"), [("p.yaml", YAML), ("p.yml", YAML), ("p.toml", TOML)])
def test_either_form_says_the_same(tmp_path: Path, name: str, content: str) -> None:
    """Tables and texts may be mixed."""
    source = looked_at(tmp_path / name, content)
    assert source.current() == {"a": A, "b": B}
    assert source.findings() == ()


def test_a_change_is_taken_over(tmp_path: Path) -> None:
    """Also one of equal size within the same tick of the file system's clock."""
    source = looked_at(tmp_path / "p.yaml", YAML, YAML.replace("http://h:2", "http://h:3"))
    assert source.current()["b"].http == "http://h:3"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("pods: [", "is no YAML"),
        ("pods: &x [*x, *x]\npods: {", "is no YAML"),
        ("", "no list named pods"),
        ("pods: {}", "no list named pods"),
        ("pods: []\nmore: 1", "unknown key 'more'"),
        ("#" * (BYTES_MAX + 1), "more than"),
    ],
)
def test_a_broken_file_keeps_the_pods(tmp_path: Path, broken: str, said: str) -> None:
    """With a finding, which goes when the file is whole again."""
    source = looked_at(tmp_path / "p.yaml", YAML, broken)
    assert source.current() == {"a": A, "b": B}
    (finding,) = source.findings()
    assert said in finding.text
    assert finding.text.endswith("the pods that were read before stay")
    assert looked_at(tmp_path / "p.yaml", YAML, broken, YAML).findings() == ()


def test_a_file_that_is_gone_keeps_the_pods(tmp_path: Path) -> None:
    """As while it is replaced by a program that does not rename."""

    async def story() -> FilePods:
        path = tmp_path / "p.yaml"
        path.write_text(YAML)
        source = FilePods(path)
        await source._look()
        path.unlink()
        await source._look()
        return source

    source = asyncio.run(story())
    assert list(source.current()) == ["a", "b"]
    assert "No such file" in source.findings()[0].text


def test_a_bad_entry_concerns_its_own_pod_only(tmp_path: Path) -> None:
    """It stays what it was; one that was never good is left out; others change as the file says."""
    worse = """
pods:
- {name: a, http: "http://h:1", model: m, ranks: many}
- {name: b, http: "http://h:4", model: m}
- {name: c, http: "nowhere", model: m}
- 7
"""
    source = looked_at(tmp_path / "p.yaml", YAML, worse)
    assert source.current() == {"a": A, "b": Pod("b", "http://h:4", "m")}
    path = tmp_path / "p.yaml"
    assert [str(finding).split(";")[0] for finding in source.findings()] == [
        f"{path}: pods[0]: ranks is 'many'",
        f"{path}: pods[2]: http: 'nowhere' is no HTTP address",
        f"{path}: pods[3]: is 7",
    ]


def test_a_file_without_pods_says_so(tmp_path: Path) -> None:
    """As long as there are none: it may be meant, and is most likely not."""
    source = looked_at(tmp_path / "p.yaml", "pods: []")
    (finding,) = source.findings()
    assert (finding.about, finding.reason) == (str(tmp_path / "p.yaml"), "no_pods")
    assert looked_at(tmp_path / "p.yaml", "pods: []", YAML).findings() == ()


def test_a_name_twice_is_a_finding(tmp_path: Path) -> None:
    """The first counts."""
    twice = "pods: ['name=a,http=http://h:1,model=m', 'name=a,http=http://h:2,model=m']"
    source = looked_at(tmp_path / "p.yaml", twice)
    assert source.current()["a"].http == "http://h:1"
    assert len(source.findings()) == 1


def test_a_yaml_file_makes_no_objects() -> None:
    """A tag of Python's is refused, not obeyed."""
    with pytest.raises(ConfigError, match="is no YAML"):
        parse_entries(b"pods: !!python/object/apply:os.getcwd []", Path("p.yaml"))


def test_another_ending_is_refused() -> None:
    """To guess the form would be to read half a file as something else."""
    with pytest.raises(ConfigError, match="neither"):
        parse_entries(b"pods: []", Path("pods.json"))


def test_opening_an_unreadable_file_is_the_operators_mistake(tmp_path: Path) -> None:
    """At start there is nothing to keep."""
    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(FilePods(tmp_path / "none.yaml").open())


def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    """Its file is a link through a folder's link, which is swapped; whoever listens is told, once."""

    async def story() -> None:
        for number, content in (("1", YAML), ("2", "pods: []")):
            (tmp_path / number).mkdir()
            (tmp_path / number / "p.yaml").write_text(content)
        (tmp_path / "data").symlink_to("1")
        (tmp_path / "p.yaml").symlink_to("data/p.yaml")
        told = asyncio.Event()
        source = FilePods(tmp_path / "p.yaml", every_s=0.01)
        await source.open()
        source.listen(told.set)
        assert len(source.current()) == 2
        (tmp_path / "new").symlink_to("2")
        os.replace(tmp_path / "new", tmp_path / "data")  # noqa: PTH105  (as the kubelet does it: rename over the link)
        await asyncio.wait_for(told.wait(), PATIENCE_S)
        assert source.current() == {}
        await source.close()
        await source.close()

    asyncio.run(story())

"""Pods as an operator writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.errors import ConfigError
from kvsync.fleet import Pod, check_pods, parse_pod, parse_pods, pod_of
from kvsync.types import Engine

FULL = (
    "name=ns/a,http=http://127.0.0.1:8000,events=tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5567,"
    "model=m,ranks=2,topic=kv,bind=1,loras=x+y"
)
SHORT = "name=a,http=http://127.0.0.1:8000,model=m"


def test_every_key_is_read() -> None:
    """A pod with every key given has them all."""
    assert parse_pod(FULL) == Pod(
        name="ns/a",
        http="http://127.0.0.1:8000",
        model="m",
        events="tcp://127.0.0.1:5557",
        replay="tcp://127.0.0.1:5567",
        ranks=2,
        topic="kv",
        bind=True,
        loras=("x", "y"),
    )


def test_events_may_be_absent() -> None:
    """Name, address and model are enough."""
    pod = parse_pod(SHORT)
    assert (pod.events, pod.ranks, pod.loras, pod.sources) == (None, 1, (), [])


def test_a_pod_has_an_engine_and_a_source_for_each_rank() -> None:
    """Rank r publishes at the ports plus r."""
    pod = parse_pod(FULL)
    assert pod.engines == (Engine("ns/a", 0), Engine("ns/a", 1))
    assert [(source.engine, source.events, source.replay) for source in pod.sources] == [
        (Engine("ns/a", 0), "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5567"),
        (Engine("ns/a", 1), "tcp://127.0.0.1:5558", "tcp://127.0.0.1:5568"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name", "'name' is not key=value"),
        (SHORT + ",port=1", "unknown key 'port'"),
        (SHORT + ",model=n", "'model' is given twice"),
        ("http=http://h,model=m", "'name' is missing"),
        ("name=a,model=m", "'http' is missing"),
        ("name=a,http=http://h", "'model' is missing"),
        ("name=,http=http://h,model=m", "'name' is missing"),
        ("name=a b,http=http://h,model=m", "name is 'a b'"),
        ("name=ä,http=http://h,model=m", "name is 'ä'"),
        ("name=a,http=127.0.0.1:8000,model=m", "no HTTP address"),
        ("name=a,http=ftp://h,model=m", "no HTTP address"),
        ("name=a,http=http://,model=m", "no HTTP address"),
        ("name=a,http=http://h:99999,model=m", "no number from 1 to 65535"),
        ("name=a,http=http://h:0,model=m", "port 0"),
        ("name=a,http=http://h:x,model=m", "no number from 1 to 65535"),
        ("name=a,http=http://[::1,model=m", "no address"),
        ("name=a,http=http://h?x=1,model=m", "scheme, host, port and path only"),
        ("name=a,http=http://h:1/v1,model=m", "is added to each request; write http://h:1"),
        ("name=a,http=http://h/base/v1/completions,model=m", "write http://h/base"),
        (SHORT + ",ranks=0", "ranks is 0"),
        (SHORT + ",ranks=two", "ranks is 'two'"),
        (SHORT + ",ranks=2000", "ranks is 2000"),
        (SHORT + ",events=127.0.0.1:5557", "write tcp://HOST:PORT"),
        (SHORT + ",events=", "write tcp://HOST:PORT"),
        (SHORT + ",events=tcp://h", "no host and port"),
        (SHORT + ",events=tcp://h:65535,ranks=2", "no port for rank 1"),
        (SHORT + ",events=tcp://*:5557", "no host to connect to"),
        (SHORT + ",events=ipc:///run/kv,ranks=2", "serves rank 0 only"),
        (SHORT + ",replay=tcp://h:1", "'replay' is of no use without events"),
        (SHORT + ",topic=t", "'topic' is of no use without events"),
        (SHORT + ",bind=1", "'bind' is of no use without events"),
        (SHORT + ",events=tcp://h:1,bind=yes", "bind is 'yes'"),
        (SHORT + ",events=tcp://h:5557,replay=tcp://h:5558,ranks=2", "at least 2 ports apart"),
        ("name=a,http=http://h,model=m\nm", "model is 'm\\nm'; give up to 1024 visible characters"),
        ("name=a,http=http://h,model=" + "m" * 2000, "visible characters"),
        (SHORT + ",loras=x\x00", "adapter 'x\\x00' is no name"),
        (SHORT + ",loras=x++y", "loras is 'x++y'"),
        (SHORT + ",loras=x+x", "twice"),
        (SHORT + ",loras=m", "cannot be one of its adapters"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, says: str) -> None:
    """The error holds the value as written and says what is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        parse_pod(text)
    assert says in str(caught.value)
    assert repr(text)[1:-1] in str(caught.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    """A table's address with credentials is refused without printing them."""
    with pytest.raises(ConfigError) as caught:
        pod_of({"name": "a", "http": "http://u:secret@h", "model": "m"}, "pods[0]")
    assert "secret" not in str(caught.value)


def test_two_pods_of_one_name_are_refused() -> None:
    """A name says which pod is meant."""
    with pytest.raises(ConfigError, match="two pods are named 'a'"):
        parse_pods([SHORT, SHORT])
    assert check_pods([parse_pod(SHORT)]) == (parse_pod(SHORT),)


@pytest.mark.parametrize(
    ("one", "other", "endpoint"),
    [
        ("http=http://h:1", "http=http://h:1/", "http://h:1"),
        ("http=http://h:1,events=tcp://h:5", "http=http://h:2,events=tcp://h:5", "tcp://h:5"),
        ("http=http://h:1,events=tcp://h:5,ranks=2", "http=http://h:2,events=tcp://h:6", "tcp://h:6"),
        ("http=http://h:1,events=tcp://h:5,replay=tcp://h:6", "http=http://h:2,events=tcp://h:6", "tcp://h:6"),
    ],
)
def test_two_pods_at_one_address_are_refused(one: str, other: str, endpoint: str) -> None:
    """Each rank's counts; both pods and the address are named."""
    with pytest.raises(ConfigError, match=f"'a' and 'b' share the address {endpoint} "):
        parse_pods([f"name=a,model=m,{one}", f"name=b,model=m,{other}"])


def test_a_table_has_types_of_its_own() -> None:
    """A file may say a number, a truth value and a list where a flag says text."""
    table = {
        "name": "a",
        "http": "http://h",
        "model": "m",
        "events": "tcp://*:1",
        "ranks": 2,
        "bind": True,
        "loras": ["x"],
    }
    pod = pod_of(table, "pods[0]")
    assert (pod.ranks, pod.bind, pod.loras) == (2, True, ("x",))


@pytest.mark.parametrize(("key", "value"), [("ranks", True), ("ranks", 1.0), ("bind", 1), ("model", 3), ("loras", [3])])
def test_a_table_with_a_wrong_type_is_refused(key: str, value: object) -> None:
    """Nothing is guessed of a value of another type."""
    with pytest.raises(ConfigError, match=r"pods\[0\]"):
        pod_of({"name": "a", "http": "http://h", "model": "m", "events": "tcp://h:1", key: value}, "pods[0]")


def test_a_trailing_slash_is_dropped() -> None:
    """Paths are appended to the address."""
    assert parse_pod("name=a,http=http://h/base/,model=m").http == "http://h/base"


def test_a_pod_serves_its_model_and_the_adapters_it_lists() -> None:
    """A pod that lists adapters has those; one that lists none is believed to have the one asked for."""
    listing, silent = parse_pod(SHORT + ",loras=x"), parse_pod(SHORT)
    assert listing.serves("m", None)
    assert listing.serves("m", "x")
    assert not listing.serves("m", "y")
    assert silent.serves("m", "y")
    assert not silent.serves("n", None)


@given(st.text())
def test_any_text_is_a_pod_or_a_config_error(text: str) -> None:
    """No text does anything else."""
    try:
        pod = parse_pod(text)
    except ConfigError:
        return
    assert pod.name


@given(st.lists(st.sampled_from(["name", "http", "model", "events", "replay", "ranks", "bind", "loras"])), st.text())
def test_known_keys_with_any_value_are_a_pod_or_a_config_error(keys: list[str], value: str) -> None:
    """Values meet the same fate wherever they stand."""
    try:
        parse_pod(",".join(f"{key}={value}" for key in keys))
    except ConfigError:
        return

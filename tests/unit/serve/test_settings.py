"""Flags, environment and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsync.errors import ConfigError
from kvsync.fleet import Pod
from kvsync.serve.app import stream_options
from kvsync.serve.settings import Listen, Settings, load_settings, parse_listen, unknown_variables
from kvsync.stream.options import SubscriberOptions

POD = "name=a,http=http://h:1,model=m"
OTHER = "name=b,http=http://h:2,model=m"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"KVSYNC_{name.upper()}", raising=False)


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "kvsync.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    """Loopback, the cost policy, a learned rate, no ceiling."""
    settings = load_settings({}, environment={})
    assert settings.listen == Listen("127.0.0.1", 8090)
    assert (settings.policy, settings.prefill_rate, settings.max_bytes, settings.pods) == ("cost", None, None, ())


def test_the_streams_defaults_are_the_library_s() -> None:
    """What is not set is as in an embedded subscriber."""
    assert stream_options(load_settings({}, environment={}), None) == SubscriberOptions()


def test_the_streams_are_made_with_what_was_set(tmp_path: Path) -> None:
    """A rate of 0 is no limit."""
    path = write(tmp_path, "frames_per_s = 0\nreplays_max = 4\nreplay_spread_s = 2\n")
    options = stream_options(load_settings({}, config=path, environment={}), None)
    assert options == SubscriberOptions(frames_per_s=None, replays_max=4, replay_spread_s=2.0)


def test_flags_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first source that says something counts."""
    path = write(tmp_path, 'policy = "random"\nlog_level = "error"\nlisten = "127.0.0.1:1"\n')
    monkeypatch.setenv("KVSYNC_POLICY", "prefix")
    monkeypatch.setenv("KVSYNC_LISTEN", "127.0.0.1:2")
    settings = load_settings({"listen": "127.0.0.1:3"}, config=path, environment={})
    assert (settings.listen.port, settings.policy, settings.log_level) == (3, "prefix", "error")


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    """As --config does."""
    path = write(tmp_path, 'policy = "random"\n')
    assert load_settings({}, environment={"KVSYNC_CONFIG": str(path)}).policy == "random"


def test_pods_from_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of texts, white space between texts, tables."""
    expected = (Pod("a", "http://h:1", "m"), Pod("b", "http://h:2", "m"))
    assert load_settings({"pods": [POD, OTHER]}, environment={}).pods == expected
    path = write(tmp_path, f'[[pods]]\nname = "a"\nhttp = "http://h:1"\nmodel = "m"\n[[pods]]\n{_table(OTHER)}')
    assert load_settings({}, config=path, environment={}).pods == expected
    monkeypatch.setenv("KVSYNC_PODS", f"{POD}\n {OTHER}")
    assert load_settings({}, environment={}).pods == expected


def _table(pod: str) -> str:
    return "\n".join(f'{key} = "{value}"' for key, value in (item.split("=", 1) for item in pod.split(",")))


def test_sizes_have_units() -> None:
    """Bytes may be written as people do."""
    assert load_settings({"max_bytes": "2GiB"}, environment={}).max_bytes == 2 << 30


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('polcy = "cost"', "unknown key 'polcy'; keys are pods, listen"),
        ('token = "hidden-secret"', "holds the token itself"),
        ("policy = ", "no TOML"),
        ("prefill_rate = 0", "prefill_rate is 0"),
        ('log_level = "loud"', "log_level is 'loud'"),
        ('listen = "8090"', "listen is '8090'"),
        ("pods = 3", "pods is 3"),
        ("pods = [3]", r"pods[0] is 3"),
        ('pods = ["name=a"]', "'http' is missing"),
        ('[[pods]]\nname = "a"\nhttp = "http://h"\nmodel = "m"\nrank = 2', "pods[0]: unknown key 'rank'"),
        ('max_bytes = "lots"', "max_bytes is 'lots'"),
        ("max_bytes = 10", "max_bytes is 10"),
        ("frames_per_s = -1", "frames_per_s is -1"),
        ("replays_max = 0", "replays_max is 0"),
        ('kubernetes_selectors = [""]', "kubernetes_selectors is ['']: no list of texts"),
        ("replay_spread_s = inf", "replay_spread_s is inf"),
        ('max_bytes = "100000000000000000000"', "max_bytes is '1000"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """The key and the value are named, the token never."""
    with pytest.raises(ConfigError) as caught:
        load_settings({}, config=write(tmp_path, text), environment={})
    assert says in str(caught.value)
    assert "hidden-secret" not in str(caught.value)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """Not passed over in silence."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings({}, config=tmp_path / "none.toml", environment={})


def test_a_wrong_flag_is_named() -> None:
    """With all the ways it can be set."""
    with pytest.raises(ConfigError, match=r"--prefill-rate, KVSYNC_PREFILL_RATE or prefill_rate in the file"):
        load_settings({"prefill_rate": -1.0}, environment={})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kubeconfig": Path("k")}, "kubeconfig means nothing without kubernetes: give both, as --kubernetes"),
        ({"kubernetes_namespaces": ["engines"]}, "kubernetes_namespaces means nothing without kubernetes"),
        ({"bootstrap_token_file": Path("t")}, "bootstrap_token_file means nothing without bootstrap"),
        ({"max_bytes": "lots"}, "max_bytes is 'lots': give bytes, or a number and a unit, as 512MiB"),
        ({"pods": ["foo"]}, "pod 'foo': 'foo' is not key=value"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    """Whichever way it was set, and with what to do."""
    with pytest.raises(ConfigError) as caught:
        load_settings(given, environment={})
    assert str(caught.value).startswith(says)


def test_what_has_no_flag_is_not_said_to_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable and the key are all there is."""
    monkeypatch.setenv("KVSYNC_REPLAYS_MAX", "0")
    with pytest.raises(ConfigError) as caught:
        load_settings({"prefill_rate": None}, environment={})
    assert "replays_max is '0'" in str(caught.value)
    assert str(caught.value).endswith("(set by KVSYNC_REPLAYS_MAX or replays_max in the file)")


def test_misspelt_variables_are_found_and_service_links_are_not() -> None:
    """Kubernetes puts variables for a service named kvsync into every container."""
    found = unknown_variables(
        {
            "KVSYNC_POLICI": "cost",
            "KVSYNC_POLICY": "cost",
            "KVSYNC_CONFIG": "x",
            "KVSYNC_PORT": "tcp://10.0.0.1:8090",
            "KVSYNC_PORT_8090_TCP_ADDR": "10.0.0.1",
            "KVSYNC_SERVICE_HOST": "10.0.0.1",
            "KVSYNC_SERVICE_PORT_HTTP": "8090",
            "PATH": "/bin",
        }
    )
    assert found == ["KVSYNC_POLICI"]


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("localhost:80", "localhost", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("example:80", "example", 80, False),
    ],
)
def test_listen(text: str, host: str, port: int, is_loopback: bool) -> None:
    """Host and port, and whether other machines can come."""
    listen = parse_listen(text)
    assert (listen.host, listen.port, listen.is_loopback) == (host, port, is_loopback)


def test_a_listen_that_is_a_url_is_told_so() -> None:
    """It is not taken for an IPv6 address."""
    with pytest.raises(ConfigError, match="give HOST:PORT without scheme"):
        parse_listen("http://127.0.0.1:8090")


def test_pods_at_one_address_are_refused() -> None:
    """As a flag, a variable or a table."""
    texts = [f"name={name},http=http://h:1,model=m" for name in "ab"]
    for value in (texts, " ".join(texts), [{"name": name, "http": "http://h:1", "model": "m"} for name in "ab"]):
        with pytest.raises(ConfigError, match="share the address http://h:1 "):
            load_settings({"pods": value}, environment={})


@pytest.mark.parametrize("text", ["", "8090", ":8090", "h:", "h:x", "h:70000", "::1:80", "h:-1"])
def test_a_wrong_listen_is_refused(text: str) -> None:
    """The error says how to write it."""
    with pytest.raises(ConfigError, match="listen is"):
        parse_listen(text)

"""Settings: flag, environment, file, default; and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.config.settings import Settings, self_host_switch
from muster.errors import ConfigError, InvalidArgument
from muster.runtime import RouterMode


def load(tmp_path: Path, text: str = "", **environ: str) -> Settings:
    path = tmp_path / "muster.toml"
    path.write_text(text)
    return Settings.load(environ=environ, file=path)


def test_defaults_read_nothing() -> None:
    settings = Settings.load(environ={})
    assert settings == Settings()
    assert set(settings.origins.values()) == {"default"}
    assert (settings.http.port, settings.discovery.backend) == (8000, "file")


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "muster.toml"
    file.write_text("[http]\nport = 1\nhost = 'h'\nbody_limit_mb = 7\n")
    settings = Settings.load(
        flags={"http.port": 3, "http.host": None},
        environ={"DYN_HTTP_PORT": "2", "DYN_HTTP_HOST": "e"},
        file=file,
    )
    assert (settings.http.port, settings.http.host, settings.http.body_limit_mb) == (3, "e", 7)
    origins = settings.origins
    assert origins["http.port"] == "flag"
    assert origins["http.host"] == "env DYN_HTTP_HOST"
    assert origins["http.body_limit_mb"] == "file"
    assert origins["http.router_mode"] == "default"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "muster.toml"
    file.write_text("[http]\nport = 1234\n")
    assert Settings.load(environ={"MUSTER_CONFIG": str(file)}).http.port == 1234


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DYN_HTTP_PORT", "many", "environment variable DYN_HTTP_PORT is 'many'"),
        ("DYN_HTTP_PORT", "70000", "must be between -1 and 65535"),
        ("DYN_TCP_REQUEST_TIMEOUT", "-1", "must be at least 0.01"),
        ("DYN_DISCOVERY_BACKEND", "bogus", "must be one of"),
        ("DYN_REQUEST_PLANE", "http", "must be one of tcp"),
        ("DYN_LOGGING_JSONL", "perhaps", "expected one of"),
    ],
)
def test_a_bad_value_names_its_variable_and_text(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, **{name: text})


def test_ports_above_32767_are_fine(tmp_path: Path) -> None:
    assert load(tmp_path, DYN_SYSTEM_PORT="40000").system.port == 40000


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    settings = load(tmp_path, DYN_HTTP_PORT="", DYN_FILE_KV="", DYN_DISCOVERY_BACKEND="")
    assert (settings.http.port, settings.discovery.file_root) == (8000, None)
    assert settings.discovery.backend == "file"


def test_mem_is_dynamos_word_for_memory(tmp_path: Path) -> None:
    assert load(tmp_path, DYN_DISCOVERY_BACKEND="mem").discovery.backend == "memory"


@pytest.mark.parametrize("text", ["[nonsense]\na = 1\n", "[http\n"])
def test_a_file_with_unknown_tables_or_bad_syntax_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, text)


def test_an_unknown_name_in_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting: prot"):
        load(tmp_path, "[http]\nprot = 1\n")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings file"):
        Settings.load(environ={}, file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "on"),
    [
        *[(word, True) for word in ("1", "true", "yes", "on", " TRUE ", "Yes", "oN")],
        *[(word, False) for word in ("0", "false", "no", "off", " 0 ", " false", "Off", "NO")],
        *[(word, True) for word in ("", "garbage", "2", "00", "f", "n", "disable", " ")],
    ],
)
def test_w1_the_self_host_switch_reads_as_in_1_6_1(tmp_path: Path, text: str, on: bool) -> None:
    assert self_host_switch(text) is on
    assert load(tmp_path, DYN_SELF_HOST_METADATA=text).metadata.self_host is on


def test_w1_self_hosting_is_on_by_default() -> None:
    assert Settings.load(environ={}).metadata.self_host is True


@pytest.mark.parametrize(
    "text",
    [
        *RouterMode,
        "round_robin",
        "power_of_two_choices",
        "PowerOfTwoChoices",
        "RouterMode.LeastLoaded",
        "RouterMode.DeviceAwareWeighted",
    ],
)
def test_router_modes_are_taken_in_every_spelling_that_the_runtime_knows(text: str) -> None:
    mode = Settings.load(environ={"DYN_ROUTER_MODE": text}).http.router_mode
    assert RouterMode.parse(mode) is RouterMode.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kv", "is not supported"),
        ("RouterMode.KV", "is not supported"),
        ("fastest", "must be one of round-robin, "),
        ("RouterMode.", "must be one of"),
        ("", "must be one of"),
    ],
)
def test_other_router_modes_are_refused_as_the_runtime_does(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument):
        RouterMode.parse(text)
    with pytest.raises(ConfigError, match=why):
        Settings.load(flags={"http.router_mode": text}, environ={})

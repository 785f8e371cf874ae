"""Settings of the status server and of health, as a deployment written for Dynamo gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.config.settings import Settings
from muster.errors import ConfigError


def load(**environ: str) -> Settings:
    return Settings.load(environ=environ)


def test_dynamos_variables_are_read() -> None:
    settings = load(
        DYN_SYSTEM_PORT="40000",
        DYN_SYSTEM_HEALTH_PATH="/healthz",
        DYN_SYSTEM_LIVE_PATH="/livez",
        DYN_SYSTEM_STARTING_HEALTH_STATUS="ready",
        DYN_HEALTH_CHECK_ENABLED="true",
        DYN_CANARY_WAIT_TIME="5",
        DYN_HEALTH_CHECK_REQUEST_TIMEOUT="2",
        DYN_LORA_ENABLED="true",
    )
    system, health = settings.system, settings.health
    assert (system.port, system.health_path, system.live_path) == (40000, "/healthz", "/livez")
    assert system.lora_enabled
    assert (health.starting, health.canary) == ("ready", True)
    assert (health.canary_wait_s, health.canary_timeout_s) == (5, 2)


def test_defaults_are_dynamos() -> None:
    settings = Settings()
    assert (settings.health.starting, settings.health.canary) == ("notready", False)
    assert (settings.health.canary_wait_s, settings.health.canary_timeout_s) == (10, 3)
    assert (settings.system.health_path, settings.system.live_path) == ("/health", "/live")
    assert not settings.system.lora_enabled
    assert settings.system.deprecations() == ()


@pytest.mark.parametrize("text", ["NotReady", " notready ", ""])
def test_the_starting_status_is_read_in_any_case(text: str) -> None:
    assert load(DYN_SYSTEM_STARTING_HEALTH_STATUS=text).health.starting == "notready"


def test_deprecated_variables_are_accepted_and_named() -> None:
    system = load(
        DYN_SYSTEM_ENABLED="true", DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS='["generate"]'
    ).system
    enabled, endpoints = system.deprecations()
    assert enabled.startswith("DYN_SYSTEM_ENABLED is deprecated")
    assert "DYN_SYSTEM_PORT" in enabled
    assert endpoints.startswith("DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS is deprecated")
    assert system.port is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DYN_SYSTEM_HEALTH_PATH", "health", "must be the path of a URL"),
        ("DYN_SYSTEM_LIVE_PATH", "/live?x", "must be the path of a URL"),
        ("DYN_SYSTEM_STARTING_HEALTH_STATUS", "maybe", "must be one of ready, notready"),
        ("DYN_CANARY_WAIT_TIME", "0", "must be at least 0.01"),
        ("DYN_HEALTH_CHECK_REQUEST_TIMEOUT", "soon", "DYN_HEALTH_CHECK_REQUEST_TIMEOUT is 'soon'"),
        ("DYN_SYSTEM_PORT", "70000", "must be between -1 and 65535"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(**{name: text})


def test_the_canarys_request_is_json_or_a_file_of_it(tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"a": 1}')
    for text, expected in (('{"a": 1}', {"a": 1}), (f"@{file}", {"a": 1}), ("", None)):
        settings = Settings.load(environ={"DYN_HEALTH_CHECK_PAYLOAD": text})
        assert settings.health.payload == expected
    for text in ("[1]", "{", f"@{tmp_path / 'none'}"):
        with pytest.raises(ConfigError, match="not a JSON object"):
            Settings.load(environ={"DYN_HEALTH_CHECK_PAYLOAD": text})

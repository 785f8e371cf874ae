"""Settings of logging and tracing: what their variables mean together."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.config.settings import Settings
from muster.errors import ConfigError


@pytest.mark.parametrize(
    ("environ", "as_jsonl"),
    [
        ({}, False),
        ({"DYN_LOGGING_JSONL": "1"}, True),
        ({"DYN_LOGGING_CONSOLE_FORMAT": "jsonl"}, True),
        ({"DYN_LOGGING_CONSOLE_FORMAT": "readable", "DYN_LOGGING_JSONL": "1"}, False),
        ({"DYN_LOGGING_CONSOLE_FORMAT": "", "DYN_LOGGING_JSONL": "1"}, True),
    ],
)
def test_the_console_format_wins_over_the_switch(environ: dict[str, str], as_jsonl: bool) -> None:
    assert Settings.load(environ=environ).log.as_jsonl is as_jsonl


def test_the_other_variables_of_logging_are_read() -> None:
    log = Settings.load(
        environ={
            "DYN_LOG": "info,a=debug",
            "DYN_LOGGING_CONFIG_PATH": "/etc/log.toml",
            "DYN_LOG_USE_LOCAL_TZ": "true",
            "DYN_SDK_DISABLE_ANSI_LOGGING": "1",
            "DYN_LOGGING_SPAN_EVENTS": "1",
        }
    ).log
    assert (log.filter, log.file) == ("info,a=debug", Path("/etc/log.toml"))
    assert (log.local_time, log.no_colour, log.span_events) == (True, True, True)


def test_the_variables_of_tracing_are_read() -> None:
    tracing = Settings.load(
        environ={
            "OTEL_EXPORT_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
            "OTEL_SERVICE_NAME": "w1",
            "OTEL_TRACES_SAMPLE_RATIO": "0.25",
        }
    ).tracing
    assert (tracing.enabled, tracing.url) == (True, "http://c:4318/v1/traces")
    assert (tracing.service_name, tracing.sample_ratio) == ("w1", 0.25)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DYN_LOGGING_CONSOLE_FORMAT", "pretty", "must be one of readable, jsonl"),
        ("OTEL_TRACES_SAMPLE_RATIO", "1.5", "must be between 0 and 1"),
        ("OTEL_TRACES_SAMPLE_RATIO", "nan", "must be between 0 and 1"),
        ("OTEL_TRACES_SAMPLE_RATIO", "half", "could not convert"),
    ],
)
def test_a_value_that_is_wrong_is_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Settings.load(environ={name: value})

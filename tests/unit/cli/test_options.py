from __future__ import annotations

import click
import pytest

from muster.cli import frontend, ls, worker
from muster.cli.options import load_settings
from muster.config.setting import iter_settings
from muster.config.settings import GuardSettings, NatsSettings, RequestTlsSettings
from muster.errors import ConfigError

GROUPS = {"request_tls": RequestTlsSettings, "nats": NatsSettings, "guard": GuardSettings}


def options_of(command: click.Command) -> dict[str, str]:
    """Flag by name of the argument it gives."""
    return {option.name or "": option.opts[0] for option in command.params}


@pytest.mark.parametrize(("command", "count"), [(frontend.command, 13), (worker.command, 10)])
def test_each_tls_flag_is_the_setting_of_its_environment_variable(
    command: click.Command, count: int
) -> None:
    found = {name: flag for name, flag in options_of(command).items() if "-tls-" in flag}
    assert len(found) == count
    for name, flag in found.items():
        group, _, field = name.partition("__")
        envs = {each: info.env for each, info, _ in iter_settings(GROUPS[group])}
        prefix = "" if group == "nats" else "DYN_"
        assert envs[field] == prefix + flag.lstrip("-").replace("-", "_").upper()


@pytest.mark.parametrize(
    ("given", "backend"), [("mem", "memory"), ("etcd", "etcd"), ("file", "file"), (None, "file")]
)
def test_registries_have_dynamos_names(given: str | None, backend: str) -> None:
    arguments = [] if given is None else ["--discovery-backend", given]
    context = ls.command.make_context("ls", arguments)
    settings = load_settings(discovery__backend=context.params["discovery_backend"])
    assert settings.discovery.backend == backend


def test_an_unknown_registry_is_wrong_usage() -> None:
    context = ls.command.make_context("ls", ["--discovery-backend", "zookeeper"])
    with pytest.raises(ConfigError, match="must be one of file, etcd, memory"):
        load_settings(discovery__backend=context.params["discovery_backend"])

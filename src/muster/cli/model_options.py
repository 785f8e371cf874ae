"""Options and words that the commands about one model share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from muster.cli.frontend_key import key_option
from muster.cli.options import discovery_option
from muster.errors import ConfigError

__all__ = ["ago", "check_url", "frontend_options", "short"]

F = TypeVar("F", bound=Callable[..., Any])

_SHORT = 12
"""Digits of a digest that are shown to people."""


def frontend_options(command: F) -> F:
    """``--frontend``, ``--api-key-file``, ``--discovery-backend`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        discovery_option,
        key_option,
        click.option(
            "--frontend",
            "url",
            help="Frontend to ask.  [default: http://127.0.0.1:$DYN_HTTP_PORT]",
        ),
    ):
        command = option(command)
    return command


def check_url(url: str | None, port: int) -> str:
    """The frontend's address.

    Raises:
        ConfigError: It is none.
    """
    address = (url or f"http://127.0.0.1:{port}").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"--frontend is {address!r}, which is no address", hint="such as http://127.0.0.1:8000"
        )
    return address


def short(digest: str) -> str:
    """The first digits of a digest, without its algorithm's name."""
    return digest.removeprefix("blake3:")[:_SHORT]


def ago(since: float) -> str:
    """How long it is since a moment, in words."""
    seconds = max(0, round(time.time() - since))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

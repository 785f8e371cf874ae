"""Options that several commands share, and the settings they give."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from muster.config.settings import Settings

__all__ = ["load_settings", "registry_options", "run_loop"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def registry_options(command: F) -> F:
    """``--discovery-backend`` and ``--request-plane``, as Dynamo's commands have them."""
    for option in (
        click.option("--request-plane", metavar="PLANE", help="Transport of requests: tcp."),
        click.option("--discovery-backend", metavar="NAME", help="Registry: file or memory."),
    ):
        command = option(command)
    return command


def load_settings(**flags: Any) -> Settings:
    """All settings, with these flags (``group__field``) first; and logging set up by them.

    Raises:
        ConfigError: If one is wrong.
    """
    from muster import log
    from muster.config.settings import Settings

    settings = Settings.load(
        flags={name.replace("__", ".", 1): value for name, value in flags.items()}
    )
    log.configure(
        filter=settings.log.filter,
        file=settings.log.file,
        jsonl=settings.log.as_jsonl,
        local_time=settings.log.local_time,
        colour=False if settings.log.no_colour else None,
        span_events=settings.log.span_events,
    )
    return settings


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop where there is one."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

"""Options that several commands share, and the settings they give."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from muster.config.settings import Settings

__all__ = [
    "configure_log",
    "discovery_option",
    "load_settings",
    "registry_options",
    "run_loop",
    "tls_options",
]

_TLS = (
    ("--tcp-tls-cert-path", "request_tls__certificate", "Certificate to listen with."),
    ("--tcp-tls-key-path", "request_tls__key", "Its private key."),
    ("--tcp-tls-client-ca-cert-path", "request_tls__client_ca", "Authorities of who connects."),
    ("--tcp-tls-ca-cert-path", "request_tls__ca", "Authorities of what is connected to."),
    ("--tcp-tls-client-cert-path", "request_tls__client_certificate", "Certificate to show."),
    ("--tcp-tls-client-key-path", "request_tls__client_key", "Its private key."),
    ("--nats-tls-ca-cert-path", "nats__ca", "NATS: authorities of the servers."),
    ("--nats-tls-client-cert-path", "nats__client_certificate", "NATS: certificate to show."),
    ("--nats-tls-client-key-path", "nats__client_key", "NATS: its private key."),
)
"""Flag, setting and help of the files for TLS, all PEM."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def discovery_option(command: F) -> F:
    """``--discovery-backend``, with Dynamo's names."""
    return click.option(
        "--discovery-backend",
        metavar="NAME",
        callback=lambda _context, _option, name: "memory" if name == "mem" else name,
        help="Registry: file, etcd (see ETCD_ENDPOINTS) or mem.  [default: file]",
    )(command)


def registry_options(command: F) -> F:
    """``--discovery-backend`` and ``--request-plane``, as Dynamo's commands have them."""
    plane = click.option(
        "--request-plane",
        metavar="PLANE",
        help="Transport of requests: tcp or nats (see NATS_SERVER).  [default: tcp]",
    )
    return discovery_option(plane(command))


def tls_options(command: F) -> F:
    """Dynamo's ``--tcp-tls-*`` and ``--nats-tls-*``, as arguments that ``load_settings`` takes."""
    command = click.option(
        "--nats-tls-insecure", "nats__insecure", is_flag=True, default=None,
        help="NATS: use TLS without checking anything.",
    )(command)  # fmt: skip
    for flag, setting, text in reversed(_TLS):
        file = click.Path(path_type=Path)
        command = click.option(flag, setting, type=file, metavar="FILE", help=text)(command)
    return command


def load_settings(**flags: Any) -> Settings:
    """All settings, with these flags (``group__field``) first; and logging set up by them.

    Raises:
        ConfigError: If one is wrong.
    """
    from muster.config.settings import Settings

    settings = Settings.load(
        flags={name.replace("__", ".", 1): value for name, value in flags.items()}
    )
    configure_log(settings)
    return settings


def configure_log(settings: Settings) -> None:
    """Set up this process's logging.

    Raises:
        ConfigError: If the filter or its file is wrong.
    """
    from muster import log

    log.configure(
        filter=settings.log.filter,
        file=settings.log.file,
        jsonl=settings.log.as_jsonl,
        local_time=settings.log.local_time,
        colour=False if settings.log.no_colour else None,
        span_events=settings.log.span_events,
    )


_OBJECTS_A_COLLECTION = 20_000
"""Some hundred requests' worth; Python's own 700 is less than one keeps while it runs."""


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop where there is one.

    What was imported until now is not looked at by the garbage collector any more, which also looks
    less often: what a request makes is freed by its reference counts.
    """
    import asyncio
    import gc

    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, 20, 20)

    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

"""``muster ls``: what the registry has, and what a frontend makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.frontend_key import frontend_key, key_option
from muster.cli.options import discovery_option, load_settings, run_loop
from muster.cli.table import printable, show_table
from muster.errors import ConfigError

if TYPE_CHECKING:
    from muster.cli.overview_rows import InstanceRow, ModelRow, Overview

__all__ = ["command"]

_SHORT = 12
"""Digits of a digest that are shown."""


@click.command()
@click.option(
    "--frontend", "url", help="Frontend to ask.  [default: http://127.0.0.1:$DYN_HTTP_PORT]"
)
@key_option
@discovery_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(
    *, url: str | None, key_file: Path | None, discovery_backend: str | None, as_json: bool
) -> None:
    """List models and instances in the registry, and what a frontend does not serve and why.

    The exit code is 1 if the registry cannot be read. That no frontend answers is not an error. With
    --frontend, a frontend that answers is believed where the registry cannot be read.
    """
    import msgspec

    from muster.cli.overview import look

    settings = load_settings(discovery__backend=discovery_backend, log__filter="error")
    asked = url is not None
    url = (url or f"http://127.0.0.1:{settings.http.port}").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"--frontend is {url!r}, which is no address", hint="such as http://127.0.0.1:8000"
        )
    found = run_loop(
        look(settings, url, key=frontend_key(key_file, settings), frontend_will_do=asked)
    )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
        return
    if found.registry_error:
        click.echo(
            f"the registry cannot be read: {printable(found.registry_error)}; this is what the "
            f"frontend at {url} says\n",
            err=True,
        )
    _show_models(found.models)
    _show_instances([row for row in found.instances if not row.has_model])
    _show_frontend(found)


def _show_models(rows: Sequence[ModelRow]) -> None:
    if not rows:
        click.echo("no models")
        return
    show_table(
        ["MODEL", "ENDPOINT", "INSTANCE", "VIA", "MDCSUM", "CONTEXT", "FILES", "STATE"],
        [
            [
                row.model or "?",
                row.endpoint or row.key,
                row.instance,
                row.transport or "none",
                row.mdcsum[:_SHORT] + (" !=" if row.differs else ""),
                str(row.context_length or ""),
                row.files,
                f"unreadable: {row.error}" if row.error else row.state,
            ]
            for row in rows
        ],
    )
    cards: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.differs:
            cards.setdefault((row.model, row.endpoint), set()).add(row.mdcsum[:_SHORT])
    for (model, endpoint), digests in cards.items():
        _echo(
            f"\n!= {model} at {endpoint} has {len(digests)} different cards, of which a frontend "
            f"serves one: {', '.join(sorted(digests))}"
        )


def _show_instances(rows: Sequence[InstanceRow]) -> None:
    if rows:
        click.echo("\ninstances without a model")
        show_table(
            ["ENDPOINT", "INSTANCE", "VIA", "ADDRESS"],
            [
                [
                    row.endpoint or row.key,
                    row.instance,
                    row.transport,
                    f"unreadable: {row.error}" if row.error else row.address,
                ]
                for row in rows
            ],
        )


def _show_frontend(found: Overview) -> None:
    frontend = found.frontend
    if not frontend.answers:
        click.echo(
            f"\nno frontend answers at {frontend.url}: {printable(frontend.message)}", err=True
        )
        return
    _echo(f"\nfrontend {frontend.url}: {frontend.status}")
    if frontend.message:
        click.echo(f"  {printable(frontend.message)}", err=True)
    if frontend.registry is not None:
        stale = frontend.registry
        _echo(f"  registry stale since {stale.stale_since}: {stale.reason}")
    for each in frontend.models:
        if each.state != "ready":
            reason = f" ({each.reason})" if each.reason else ""
            _echo(f"  {each.model or '?'} is {each.state}{reason}: {each.message}")
    told = {(row.endpoint, row.instance) for row in found.models if row.state not in ("", "ready")}
    for left_out in frontend.excluded:
        if (left_out.endpoint, left_out.instance) not in told:
            _echo(
                f"  {left_out.model} at {left_out.endpoint}: instance {left_out.instance} gets no "
                f"requests: {left_out.reason}"
            )


def _echo(text: str) -> None:
    """Print ``text``, whose line breaks at the beginning are ours and everything else anybody's."""
    rest = text.lstrip("\n")
    click.echo("\n" * (len(text) - len(rest)) + printable(rest))

"""``muster keys``: API keys for a frontend."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.group()
def command() -> None:
    """Make API keys for a frontend."""


@command.command("new")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May use the admin routes, too.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Requests a minute.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="Tokens a minute.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Requests at a time.")
def new(name: str, *, admin: bool, **limits: int | None) -> None:
    """Print a key for NAME, and the line for the file of keys.

    The line goes to standard output, so that it can be appended to the file; the key goes to
    standard error and is not to be had again.
    """
    from muster.frontend.guard.keys import key_line, new_key

    key = new_key()
    words = [key_line(name, key)]
    words += ["admin"] if admin else []
    words += [f"{option}={value}" for option, value in limits.items() if value is not None]
    click.echo(" ".join(words))
    click.echo(f"key of {name} (shown only now): {key}", err=True)

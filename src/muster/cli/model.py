"""``muster model``: one model of the registry, looked at closely."""

from __future__ import annotations

import importlib

import click

__all__ = ["command"]

_COMMANDS = {
    "show": "Show a model's cards as they are in the registry.",
    "why": "Say why a model is served, or is not, and what to do.",
    "diff": "Say which files and keys differ between a model's replicas.",
}


class _Commands(click.Group):
    """Commands by name, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"muster.cli.model_{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands)
def command() -> None:
    """One model: what is registered, why it is not served, how its replicas differ."""

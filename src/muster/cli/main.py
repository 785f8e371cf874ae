"""Entry point. Commands are imported when they are called, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from typing import Any

import click

from muster._version import __version__
from muster.cli.lazy_group import LazyGroup
from muster.errors import ConfigError, MusterError
from muster.limits import raise_descriptor_limit

__all__ = ["main"]

_COMMANDS = {
    "worker": "Serve an engine and its model's metadata.",
    "frontend": "Serve the OpenAI API over the models of a registry.",
    "demo": "Run a worker and a frontend, chat once, and clean up.",
    "ls": "List models, instances, and what is not served and why.",
    "top": "Watch a frontend: models, requests, latencies, events.",
    "model": "Show a model, say why it is not served, compare its replicas.",
    "card": "Show the card of a model's directory.",
    "verify": "Check that a model, or the files of a card, can be served.",
    "pack": "Write a model's metadata into one verified file.",
    "unpack": "Write a packed model's files into a directory.",
    "cache": "Look after the cache of models' files.",
    "keys": "Make API keys for a frontend.",
}


@click.group(
    cls=LazyGroup,
    modules={name: (name, text) for name, text in _COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, package_name="muster-serve")
def cli() -> None:
    """Serve language models from many processes and machines."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 an error (said on standard error), 2 wrong usage or settings, 130 interrupted.
    """
    raise_descriptor_limit()
    try:
        outcome: Any = cli.main(arguments, prog_name="muster", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except MusterError as error:
        click.echo(f"muster: {error.diagnostics()}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    return outcome if isinstance(outcome, int) else 0


if __name__ == "__main__":
    sys.exit(main())

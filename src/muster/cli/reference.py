"""Write ``docs/reference`` from the code, so that it cannot say anything else.

``python -m muster.cli.reference DIRECTORY``
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from muster import errors
from muster.cli.main import cli
from muster.config.setting import iter_settings
from muster.config.settings import Settings
from muster.frontend.file_table import FILE_STATES
from muster.model.catalog.reason import Reason
from muster.model.catalog.status import ModelState
from muster.model.publish.harvest import LeftOutReason

__all__ = ["pages"]

_NOTE = "<!-- Written by `make docs` from the code; edit that instead. -->\n\n"


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {
        "cli.md": _cli(),
        "settings.md": _settings(),
        "errors.md": _errors(),
        "states.md": _states(),
    }


def _cli() -> str:
    context = click.Context(cli, info_name="muster", terminal_width=96)
    return "".join([_NOTE, "# Commands\n\n", _help(cli, context), *_commands(cli, context)])


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """A section for each command of a group, and for those of groups in it."""
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if found is None:
            continue
        inner = click.Context(found, info_name=name, parent=context, terminal_width=96)
        yield f"\n## {inner.command_path}\n\n"
        yield _help(found, inner)
        if isinstance(found, click.Group):
            yield from _commands(found, inner)


def _help(command: click.Command, context: click.Context) -> str:
    return f"```text\n{command.get_help(context)}\n```\n"


def _settings() -> str:
    order = (
        "A flag wins over the environment, that over the file named by `MUSTER_CONFIG` (TOML, one "
        "table a group), that over the default."
    )
    parts = [_NOTE, f"# Settings\n\n{order}\n"]
    for group in dataclasses.fields(Settings):
        if group.name == "origins":
            continue
        factory: Any = group.default_factory
        title = (factory.__doc__ or "").splitlines()[0]
        parts.append(f"\n## {group.name}\n\n{title}\n\n")
        parts.append("| name | variable | default | unit | meaning |\n|---|---|---|---|---|\n")
        for name, info, default in iter_settings(factory):
            shown = "" if default is None else f"`{default}`"
            parts.append(f"| `{name}` | `{info.env}` | {shown} | {info.unit} | {info.help} |\n")
    return "".join(parts)


def _errors() -> str:
    parts = [
        _NOTE,
        "# Errors\n\nEvery exception that leaves a public call, with its stable code.\n\n",
        "| exception | code | meaning |\n|---|---|---|\n",
    ]
    for name in sorted(errors.__all__):
        kind = getattr(errors, name)
        meaning = (kind.__doc__ or "").splitlines()[0]
        parts.append(f"| `{name}` | `{kind.code}` | {meaning} |\n")
    return "".join(parts)


def _states() -> str:
    intro = (
        "What a frontend says of models, replicas and files: in `/health`, `GET /v1/muster/models`, "
        "`muster ls`, `muster model why`, the log and the metric `muster_model_state`."
    )
    parts = [_NOTE, f"# States and reasons\n\n{intro}\n\n## Models and replicas\n\n"]
    parts.append("| state | meaning |\n|---|---|\n")
    parts += [f"| `{state}` | {state.meaning} |\n" for state in ModelState]
    parts.append("\n## Files\n\n| state | meaning |\n|---|---|\n")
    parts += [f"| `{state}` | {meaning} |\n" for state, meaning in FILE_STATES.items()]
    parts.append(
        "\n## Reasons\n\nWhy something is not served, or left out. The codes of "
        "[errors](errors.md) are reasons, too.\n\n| code | meaning |\n|---|---|\n"
    )
    parts += [f"| `{reason}` | {reason.meaning} |\n" for reason in Reason]
    parts.append(
        "\n## What stays with a worker\n\nFiles of a model's directory that do not travel, as "
        "`muster card` lists them.\n\n| reason | meaning |\n|---|---|\n"
    )
    parts += [f"| `{left.name.lower()}` | {left.value} |\n" for left in LeftOutReason]
    return "".join(parts)


def _main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, "utf-8")
        click.echo(f"wrote {directory / name}", err=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))

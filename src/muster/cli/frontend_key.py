"""The key that commands send to a frontend which asks for one; never on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.errors import ConfigError

if TYPE_CHECKING:
    from muster.config.settings import Settings

__all__ = ["frontend_key", "key_headers", "key_option"]

F = TypeVar("F", bound=Callable[..., Any])


def key_option(command: F) -> F:
    """``--api-key-file``, with ``--key-file`` for short, as the argument ``key_file``."""
    return click.option(
        "--api-key-file", "--key-file", "key_file",
        type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="File with an admin's key, if the frontend asks for one.  [default: $MUSTER_API_KEY]",
    )(command)  # fmt: skip


def frontend_key(key_file: Path | None, settings: Settings) -> str:
    """The key in the file, else that of the settings; empty if there is none.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    if key_file is None:
        return (settings.guard.client_key or "").strip()
    try:
        key = key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the key in {key_file} cannot be read: {error}", hint="see --api-key-file"
        ) from error
    if not key:
        raise ConfigError(f"{key_file} has no key", hint="see --api-key-file")
    return key


def key_headers(key: str) -> dict[str, str]:
    """The request headers that carry a key; none for an empty one."""
    return {"authorization": f"Bearer {key}"} if key else {}

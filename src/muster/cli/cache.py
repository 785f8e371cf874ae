"""``muster cache``: what is kept of models' files, whether it is right, and how to get rid of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.lazy_group import LazyGroup
from muster.cli.options import load_settings
from muster.cli.quantity import show_age, show_size
from muster.cli.table import show_table

if TYPE_CHECKING:
    from muster.config.settings import Settings
    from muster.content.inventory import Inventory
    from muster.content.store import BlobStore

__all__ = ["cache_options", "command", "open_cache"]

F = TypeVar("F", bound=Callable[..., Any])

_SHORT = 12
"""Digits of a digest that are shown."""


@click.group(
    cls=LazyGroup,
    modules={
        "ls": ("cache:ls_command", "List the files that are kept, and who uses them."),
        "verify": ("cache_verify", "Hash every file that is kept, and set bad ones aside."),
        "prune": ("cache_prune:prune_command", "Remove files that nobody uses."),
        "clear": ("cache_prune:clear_command", "Remove everything that is not in use."),
        "import": ("cache_import", "Put the files of packs into the cache."),
        "path": ("cache:path_command", "Say where the cache is."),
    },
)
def command() -> None:
    """Look after the cache of models' files.

    It is in MUSTER_CACHE_DIR, else under XDG_CACHE_HOME, else under ~/.cache. Processes may use it
    all the while.
    """


def cache_options(function: F) -> F:
    """``--cache-dir`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        click.option(
            "--cache-dir", type=click.Path(path_type=Path), help="Directory of the file cache."
        ),
    ):
        function = option(function)
    return function


def open_cache(directory: Path | None) -> tuple[BlobStore, Settings]:
    """The cache in ``directory``, or where the settings say.

    Raises:
        ConfigError: Nothing says where, or a setting is wrong.
    """
    from muster.content.location import cache_root
    from muster.content.store import BlobStore

    settings = load_settings(cache__directory=directory, log__filter="error")
    return BlobStore(cache_root(settings.cache, os.environ)), settings


@click.command("path")
@cache_options
def path_command(*, cache_dir: Path | None, as_json: bool) -> None:
    """Print the cache's directory, which need not exist."""
    store, _ = open_cache(cache_dir)
    click.echo(json.dumps({"cache": str(store.root)}) if as_json else str(store.root))


@click.command("ls")
@cache_options
def ls_command(*, cache_dir: Path | None, as_json: bool) -> None:
    """List the cached files, what they are of, and who uses them now."""
    import msgspec

    store, _ = open_cache(cache_dir)
    inventory = store.scan()
    if as_json:
        told = {
            "cache": str(store.root),
            "size_bytes": inventory.size_bytes,
            "spare_bytes": inventory.spare_bytes,
            "blobs": [
                msgspec.to_builtins(blob) | {"digest": str(blob.digest)} for blob in inventory.blobs
            ],
            "views": [
                {
                    "name": view.name,
                    "path": str(view.path),
                    "files": {name: str(digest) for name, digest in view.links.items()},
                }
                for view in inventory.views
            ],
        }
        click.echo(json.dumps(told))
        return
    _show(inventory)


def _show(inventory: Inventory) -> None:
    if not inventory.blobs:
        click.echo(f"nothing is cached in {inventory.root}", err=True)
        return
    names: dict[str, list[str]] = {}
    for view in inventory.views:
        slug = view.name.rpartition("/")[0]
        for name, digest in sorted(view.links.items()):
            names.setdefault(digest.hex, []).append(f"{slug}/{name}" if slug else name)
    now = time.time()
    show_table(
        ["DIGEST", "SIZE", "USED", "BY", "FILE"],
        [
            [
                blob.digest.hex[:_SHORT],
                show_size(blob.size_bytes),
                show_age(now - blob.used_s),
                ",".join(blob.users) or "-",
                blob.problem or " ".join(dict.fromkeys(names.get(blob.digest.hex, ["-"]))),
            ]
            for blob in sorted(inventory.blobs, key=lambda blob: blob.used_s, reverse=True)
        ],
    )
    click.echo(
        f"{len(inventory.blobs)} files, {show_size(inventory.size_bytes)}, in {inventory.root}",
        err=True,
    )

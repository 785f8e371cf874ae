"""``muster cache prune`` and ``clear``: room again, without taking what is in use."""

from __future__ import annotations

import collections
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.cache import cache_options, open_cache
from muster.cli.quantity import parse_age, parse_size, show_size
from muster.errors import ConfigError

if TYPE_CHECKING:
    from muster.content.prune import PrunePlan
    from muster.content.pruning import Pruned
    from muster.content.store import BlobStore

__all__ = ["clear_command", "prune_command"]

_WHY = {
    "in_use": "in use",
    "recent": "used within the last minute",
    "within_limits": "within the limits",
    "old": "not used for long",
    "over_size": "to make room",
}
"""The reasons in words."""


@click.command("prune")
@cache_options
@click.option(
    "--older-than",
    type=parse_age,
    metavar="AGE",
    help="Remove what nobody has used for so long: 7d, 12h.",
)
@click.option(
    "--max-size",
    type=parse_size,
    metavar="SIZE",
    help="Remove the longest unused until no more is left: 2GiB.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
def prune_command(
    *,
    cache_dir: Path | None,
    as_json: bool,
    older_than: float | None,
    max_size: int | None,
    dry_run: bool,
) -> None:
    """Remove cached files that are old or too much. What a live process uses stays.

    Without a limit, MUSTER_CACHE_MAX_BYTES is the limit.
    """
    from muster.content.prune import plan_prune

    store, settings = open_cache(cache_dir)
    if older_than is None and max_size is None:
        max_size = settings.cache.max_bytes
        if max_size is None:
            raise ConfigError(
                "nothing says what to prune",
                hint="give --older-than 7d or --max-size 2GiB; muster cache clear removes everything",
            )
    plan = plan_prune(
        store.scan(),
        older_than_s=older_than,
        max_size_bytes=max_size,
        now=time.time(),
    )
    _run(store, plan, dry_run=dry_run, as_json=as_json)


@click.command("clear")
@cache_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
def clear_command(*, cache_dir: Path | None, as_json: bool, yes: bool, dry_run: bool) -> None:
    """Remove all cached files that no live process uses.

    Bad ones that were kept go, too.
    """
    from muster.content.prune import plan_prune

    store, _ = open_cache(cache_dir)
    plan = plan_prune(store.scan(), max_size_bytes=0, now=time.time())
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "clear asks before it removes anything, and nobody is here to answer",
                hint="give --yes, or --dry-run to see what would go",
            )
        size = show_size(plan.freed_bytes)
        question = f"Remove {len(plan.removed)} files, {size}, from {store.root}?"
        click.confirm(question, abort=True, err=True)
    if not dry_run:
        store.empty_quarantine()
    _run(store, plan, dry_run=dry_run, as_json=as_json)


def _run(store: BlobStore, plan: PrunePlan, *, dry_run: bool, as_json: bool) -> None:
    done: PrunePlan | Pruned = plan
    views: tuple[str, ...] = ()
    if not dry_run:
        store.sweep()
        done = pruned = store.prune(plan)
        views = pruned.views
    if as_json:
        told = {
            "cache": str(store.root),
            "dry_run": dry_run,
            "freed_bytes": done.freed_bytes,
            "removed": _rows(done, removed=True),
            "kept": _rows(done, removed=False),
            "views": list(views),
        }
        click.echo(json.dumps(told))
        return
    for row in _rows(done, removed=True):
        size = show_size(int(str(row["size_bytes"])))
        click.echo(f"{row['digest']}  {size}  {_WHY[str(row['reason'])]}")
    word = "would be removed" if dry_run else "removed"
    click.echo(f"{len(done.removed)} files {word}, {show_size(done.freed_bytes)}", err=True)
    for reason, count in collections.Counter(each.reason for each in done.kept).items():
        click.echo(f"{count} kept: {_WHY[reason]}", err=True)


def _rows(done: PrunePlan | Pruned, *, removed: bool) -> list[dict[str, object]]:
    return [
        {
            "digest": str(each.blob.digest),
            "size_bytes": each.blob.size_bytes,
            "reason": each.reason.value,
            "users": list(each.blob.users),
        }
        for each in (done.removed if removed else done.kept)
    ]

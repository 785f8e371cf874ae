"""``muster cache verify``: every cached file hashed again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.cache import cache_options, open_cache
from muster.cli.quantity import show_size

if TYPE_CHECKING:
    from muster.content.inventory import StoredBlob

__all__ = ["command"]


@click.command("verify")
@cache_options
@click.option("--dry-run", is_flag=True, help="Leave bad files where they are.")
def command(*, cache_dir: Path | None, as_json: bool, dry_run: bool) -> int:
    """Hash all cached files, and move bad ones away.

    They are fetched again when they are needed. Bad files are kept in the cache's quarantine
    directory for a day. The exit code is 1 if there was one.
    """
    store, _ = open_cache(cache_dir)
    blobs = store.scan().blobs
    bad: dict[str, str] = {}
    for blob in _with_progress(blobs):
        problem = store.verify(blob.digest, set_aside=not dry_run)
        if problem:
            bad[str(blob.digest)] = problem
    if as_json:
        told = {
            "cache": str(store.root),
            "verified": len(blobs),
            "size_bytes": sum(blob.size_bytes for blob in blobs),
            "bad": [{"digest": digest, "problem": problem} for digest, problem in bad.items()],
            "moved": bool(bad) and not dry_run,
        }
        click.echo(json.dumps(told))
    else:
        for digest, problem in bad.items():
            click.echo(f"{digest}: {problem}")
        size = show_size(sum(blob.size_bytes for blob in blobs))
        click.echo(f"{len(blobs)} files verified, {size}, {len(bad)} bad", err=True)
        if bad and not dry_run:
            click.echo(f"the bad ones are in {store.root / 'quarantine'} for a day", err=True)
    return 1 if bad else 0


def _with_progress(blobs: Iterable[StoredBlob]) -> Iterator[StoredBlob]:
    """``blobs``, with a bar while they are gone through if somebody is looking."""
    if not sys.stderr.isatty():
        yield from blobs
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    blobs = list(blobs)
    columns = (BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(blob.size_bytes for blob in blobs))
        for blob in blobs:
            yield blob
            progress.advance(task, blob.size_bytes)

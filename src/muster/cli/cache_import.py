"""``muster cache import``: packs' files into the cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from muster.cli.cache import cache_options
from muster.cli.options import load_settings
from muster.cli.table import printable

__all__ = ["command"]


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@cache_options
def command(*, files: tuple[str, ...], cache_dir: Path | None, as_json: bool) -> None:
    """Verify packs (- is standard input) and put their files into the cache.

    A frontend with this cache then serves these models without fetching anything.
    """
    from muster.cli.pack_file import open_pack
    from muster.content.location import cache_root
    from muster.content.store import BlobStore
    from muster.model.pack.unpack import import_pack

    settings = load_settings(cache__directory=cache_dir, log__filter="error")
    store = BlobStore(
        cache_root(settings.cache, os.environ),
        min_free_bytes=settings.cache.min_free_bytes,
        max_bytes=settings.cache.max_bytes,
    )
    store.prepare()
    told = []
    for file in files:
        with open_pack(file) as reader:
            done = import_pack(reader, store)
            manifest = reader.manifest
        told.append(
            {
                "pack": file,
                "model": manifest.model,
                "identity": str(manifest.identity),
                "imported": [each.name for each in done.imported],
                "present": [each.name for each in done.present],
            }
        )
        if not as_json:
            click.echo(
                f"{printable(manifest.model)}: {len(done.imported)} files imported, "
                f"{len(done.present)} there already",
                err=True,
            )
    if as_json:
        click.echo(json.dumps({"cache": str(store.root), "packs": told}))

"""``muster unpack``: a model's directory again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from muster.cli.table import printable

__all__ = ["command"]


@click.command()
@click.argument("file")
@click.option(
    "-d", "--directory", required=True, type=click.Path(path_type=Path),
    help="Where to; must not exist, or be empty.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a directory that has files.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object that says what was unpacked."
)
def command(*, file: str, directory: Path, force: bool, as_json: bool) -> None:
    """Verify the pack in FILE (- is standard input) and write its files into a directory.

    The directory appears complete or not at all, and serves as --model-path of a frontend or worker.
    """
    from muster.cli.pack_file import open_pack
    from muster.model.pack.unpack import unpack_into

    with open_pack(file) as reader:
        unpack_into(reader, directory, replace=force)
        manifest = reader.manifest
    template = manifest.card.chat_template_file
    custom = template.file.basename() if template is not None and template.is_custom else None
    if as_json:
        told = {
            "directory": str(directory),
            "model": manifest.model,
            "identity": str(manifest.identity),
            "files": [member.name for member in manifest.members()],
            "custom_template": str(directory / custom) if custom is not None else None,
        }
        click.echo(json.dumps(told))
        return
    click.echo(
        f"unpacked {printable(manifest.model)} into {directory}: {len(manifest.members())} files, "
        f"identity {manifest.identity}",
        err=True,
    )
    if custom is not None:
        click.echo(
            f"its template is not the model's own: give workers "
            f"--custom-jinja-template {directory / custom}",
            err=True,
        )

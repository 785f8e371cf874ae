"""``muster pack``: a model's metadata as one file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from muster.cli.options import load_settings
from muster.cli.table import printable
from muster.errors import ConfigError, ContentError

__all__ = ["command"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The pack; - is standard output."
)
@click.option("--name", help="What clients are to call the model; by default the directory's name.")
@click.option("--custom-jinja-template", type=click.Path(path_type=Path), help="A chat template.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object that says what was packed.")
def command(
    *,
    directory: Path,
    output: str,
    name: str | None,
    custom_jinja_template: Path | None,
    as_json: bool,
) -> None:
    """Write the metadata of the model in DIRECTORY, without its weights, into one file.

    The file is a tar that lists what is in it and the digests. The same model gives the same bytes.
    """
    from muster.model.pack.contents import survey_model
    from muster.model.pack.write import write_pack, write_pack_file
    from muster.model.publish.inventory import check_links

    if as_json and output == "-":
        raise ConfigError("--json and -o - both want standard output", hint="give -o a file")
    name = name or Path(os.path.abspath(directory)).name or "model"  # noqa: PTH100 - a link keeps its name
    settings = load_settings(log__filter="error").metadata
    contents = survey_model(
        directory, name, custom_template=custom_jinja_template, settings=settings
    )
    check_links(contents.card, directory)
    manifest = contents.manifest
    if output == "-":
        try:
            size_bytes = write_pack(sys.stdout.buffer, manifest, contents.path_of)
        except OSError as error:
            # what is still in the buffer would fail again, and noisily, when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise ContentError(f"cannot write standard output: {error.strerror}") from error
    else:
        size_bytes = write_pack_file(Path(output), manifest, contents.path_of)
    left_out = [{"name": left.name, "reason": left.reason} for left in manifest.left_out]
    if as_json:
        files = [
            {
                "role": file.role.value,
                "name": file.name,
                "digest": str(file.digest),
                "size_bytes": file.size_bytes,
            }
            for file in manifest.files
        ]
        told = {
            "pack": output,
            "size_bytes": size_bytes,
            "model": manifest.model,
            "identity": str(manifest.identity),
            "files": files,
            "left_out": left_out,
        }
        click.echo(json.dumps(told))
        return
    for left in left_out:
        click.echo(f"left out {printable(left['name'])}: {left['reason']}", err=True)
    click.echo(
        f"packed {printable(manifest.model)}: {len(manifest.members())} files, {size_bytes} bytes, "
        f"identity {manifest.identity}",
        err=True,
    )

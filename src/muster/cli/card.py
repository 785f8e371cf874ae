"""``muster card``: what a worker would publish of a directory, without any server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.options import load_settings
from muster.cli.table import printable

if TYPE_CHECKING:
    from muster.model.card import ModelDeploymentCard
    from muster.model.pack.manifest import PackManifest
    from muster.model.strictjson.node import Json

__all__ = ["command"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", help="What clients would call the model; by default the path as given.")
@click.option("--custom-jinja-template", type=click.Path(path_type=Path), help="A chat template.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with everything.")
@click.option("--card", "bare", is_flag=True, help="The card alone, as it goes on the wire.")
def command(
    *,
    directory: Path,
    name: str | None,
    custom_jinja_template: Path | None,
    as_json: bool,
    bare: bool,
) -> None:
    """Show the card of the model in DIRECTORY: its files, digests and digest as a whole.

    Nothing is contacted. The exit code is 1 if the directory makes no card.
    """
    from muster.model.extension import CardExtension
    from muster.model.pack.contents import survey_model
    from muster.model.publish.self_host import self_hosted
    from muster.names import EndpointId

    contents = survey_model(
        directory,
        name or str(directory),
        custom_template=custom_jinja_template,
        settings=load_settings(log__filter="error").metadata,
    )
    extension = CardExtension(identity=contents.manifest.identity).to_json()
    whole = _as_registered(contents.card, directory, extension)
    by_path = _without_extra_files(whole)
    if bare:
        click.echo(by_path.to_json_str())
        return
    # The digest covers names as a URL spells them, so a URL it has to be; whose does not matter.
    endpoint = EndpointId("dynamo", "backend", "generate")
    hosted = self_hosted(whole, base_url="http://worker", endpoint=endpoint).card
    template = _template_place(whole)
    if as_json:
        told = {
            "card": json.loads(by_path.to_json_str()),
            "mdcsum": by_path.mdcsum(),
            "mdcsum_hosted": hosted.mdcsum(),
            "identity": str(contents.manifest.identity),
            "context_length": whole.context_length or None,
            "template": template,
            "files": [
                {
                    "role": file.role.value,
                    "name": file.name,
                    "digest": str(file.digest),
                    "size_bytes": file.size_bytes,
                }
                for file in contents.manifest.files
            ],
            "left_out": [
                {"name": left.name, "reason": left.reason} for left in contents.manifest.left_out
            ],
        }
        click.echo(json.dumps(told))
        return
    for label, value in (
        ("name", whole.display_name),
        ("slug", whole.slug or "(empty)"),
        ("context", f"{whole.context_length} tokens" if whole.context_length else "unknown"),
        ("template", template or "none: completions only"),
        ("identity", f"{contents.manifest.identity}"),
        ("mdcsum", f"{by_path.mdcsum()}  (files by path)"),
        ("", f"{hosted.mdcsum()}  (files served by the worker)"),
    ):
        click.echo(f"{label:<9} {printable(value)}")
    _show_files(whole, contents.manifest)


def _as_registered(
    card: ModelDeploymentCard, directory: Path, extension: dict[str, Json]
) -> ModelDeploymentCard:
    """The card as a worker with the options' defaults registers it."""
    import msgspec

    from muster.model.model_type import ModelInput, ModelType, WorkerType

    return msgspec.structs.replace(
        card,
        source_path=str(directory),
        muster=extension,
        kv_cache_block_size=16,
        model_type=ModelType.Chat | ModelType.Completions,
        model_input=ModelInput.Tokens,
        worker_type=WorkerType.Aggregated,
    )


def _without_extra_files(card: ModelDeploymentCard) -> ModelDeploymentCard:
    """The card as it is when the worker does not serve its files."""
    import msgspec

    return msgspec.structs.replace(card, extra_files=())


def _template_place(card: ModelDeploymentCard) -> str | None:
    """The name of the file that has the chat template; ``None`` if there is none, or none to read."""
    from muster.errors import CardError
    from muster.llm.json_file import read_json_object
    from muster.llm.template_sources import find_template_sources

    files = [
        Path(slot.file.path) if slot is not None and slot.file.path is not None else None
        for slot in (card.prompt_formatter, card.chat_template_file)
    ]
    config, template = files
    try:
        found = find_template_sources(read_json_object(config) if config else {}, template)
    except CardError as error:
        click.echo(f"the chat template cannot be read: {error.message}", err=True)
        return None
    place = template or config
    return place.name if found and place is not None else None


def _show_files(card: ModelDeploymentCard, manifest: PackManifest) -> None:
    from muster.model.identity import FileRole

    by_role = {file.role: file for file in manifest.files}
    click.echo("\nfiles that must arrive")
    for role in FileRole:
        if role is FileRole.EXTRA:
            continue
        file = by_role.get(role)
        if file is None:
            click.echo(f"  {role.value:<18} -")
        else:
            click.echo(
                f"  {role.value:<18} {printable(file.name):<28} {file.size_bytes:>10}  {file.digest}"
            )
    click.echo("\nfiles that travel along when the worker serves them")
    for file in manifest.files:
        if file.role is FileRole.EXTRA:
            click.echo(f"  {printable(file.name):<47} {file.size_bytes:>10}  {file.digest}")
    if not card.extra_files:
        click.echo("  none")
    if manifest.left_out:
        click.echo("\nfiles that stay")
    for left in manifest.left_out:
        click.echo(f"  {left.name!r:<47} {left.reason}")

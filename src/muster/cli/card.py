"""``muster card``: what a worker would publish of a directory, without any server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from muster.model.card import ModelDeploymentCard
    from muster.model.publish.harvest import Harvest

__all__ = ["command"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", help="What clients would call the model; by default the path as given.")
@click.option("--custom-jinja-template", type=click.Path(path_type=Path), help="A chat template.")
@click.option("--json", "as_json", is_flag=True, help="The card itself, as it goes on the wire.")
def command(
    *, directory: Path, name: str | None, custom_jinja_template: Path | None, as_json: bool
) -> None:
    """Show the card of the model in DIRECTORY: its files, digests and digest as a whole."""
    from muster.errors import CardError
    from muster.model.publish.harvest import harvest_extra_files
    from muster.model.publish.self_host import self_hosted, with_extra_files
    from muster.names import EndpointId

    try:
        card = _load(directory, name or str(directory), custom_jinja_template)
    except CardError as error:
        hint = error.hint or "give the directory that holds the model's config.json"
        raise CardError(error.message, hint=hint) from error
    if as_json:
        click.echo(card.to_json_str())
        return
    # The digest covers names as a URL spells them, so a URL it has to be; whose does not matter.
    whole = with_extra_files(card, directory)
    endpoint = EndpointId("dynamo", "backend", "generate")
    hosted = self_hosted(whole, base_url="http://worker", endpoint=endpoint).card
    taken = {file.basename() or "" for file in card.iter_typed_files()}
    _show(whole, card.mdcsum(), hosted.mdcsum(), harvest_extra_files(directory, taken))


def _load(directory: Path, name: str, template: Path | None) -> ModelDeploymentCard:
    """The card as a worker with the options' defaults registers it, without self-hosting."""
    import msgspec

    from muster.model.card import ModelDeploymentCard
    from muster.model.model_type import ModelInput, ModelType, WorkerType

    return msgspec.structs.replace(
        ModelDeploymentCard.load(directory, name, custom_template_path=template),
        source_path=str(directory),
        kv_cache_block_size=16,
        model_type=ModelType.Chat | ModelType.Completions,
        model_input=ModelInput.Tokens,
        worker_type=WorkerType.Aggregated,
    )


def _show(card: ModelDeploymentCard, by_path: str, hosted: str, harvest: Harvest) -> None:
    for label, value in (
        ("name", card.display_name),
        ("slug", card.slug or "(empty)"),
        ("context", f"{card.context_length} tokens" if card.context_length else "unknown"),
        ("mdcsum", f"{by_path}  (files by path)"),
        ("", f"{hosted}  (files served by the worker)"),
    ):
        click.echo(f"{label:<9} {value}")
    click.echo("\nfiles that must arrive")
    for slot, file in (
        ("model_info", card.model_info),
        ("tokenizer", card.tokenizer),
        ("prompt_formatter", card.prompt_formatter),
        ("chat_template", card.chat_template_file),
        ("gen_config", card.gen_config),
    ):
        if file is None:
            click.echo(f"  {slot:<17} -")
        else:
            size = file.file.size
            click.echo(
                f"  {slot:<17} {file.file.basename() or '?':<28} {size:>10}  {file.file.checksum}"
            )
    click.echo("\nfiles that travel along when the worker serves them")
    for extra in card.extra_files:
        click.echo(f"  {extra.basename() or '?':<46} {extra.size:>10}  {extra.checksum}")
    if not card.extra_files:
        click.echo("  none")
    left_out = [left for left in harvest.left_out if left.reason.name != "TYPED"]
    if left_out:
        click.echo("\nfiles that stay")
    for left in left_out:
        click.echo(f"  {left.name!r:<46} {left.reason}")

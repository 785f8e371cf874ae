"""``muster model show``: a model's cards, as they are in the registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from muster.cli.options import load_settings, run_loop
from muster.cli.table import printable, show_table

if TYPE_CHECKING:
    from muster.cli.model_records import Record

__all__ = ["command"]


@click.command()
@click.argument("name")
@click.option("--discovery-backend", metavar="NAME", help="Registry: file or memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, with the cards as they are.")
def command(*, name: str, discovery_backend: str | None, as_json: bool) -> int:
    """Show the cards registered for the model NAME: one for each instance.

    Cards that are alike but for the addresses of their files are shown once. The exit code is 1 if
    nothing is registered under that name.
    """
    from muster.cli.model_records import find_records

    settings = load_settings(discovery__backend=discovery_backend, log__filter="error")
    records = run_loop(find_records(settings, name))
    if as_json:
        click.echo(json.dumps([_as_json(record) for record in records]))
    elif not records:
        click.echo(f"no model {printable(name)!r} is registered", err=True)
    else:
        _show(records)
    return 0 if records else 1


def _as_json(record: Record) -> dict[str, Any]:
    card = record.card
    return {
        "key": record.key,
        "endpoint": record.endpoint,
        "address": record.instance.transport.address if record.instance is not None else "",
        "mdcsum": card.mdcsum() if card is not None else "",
        "error": record.error,
        "card": json.loads(card.to_json_str()) if card is not None else None,
    }


def _show(records: Sequence[Record]) -> None:
    alike: dict[str, list[Record]] = {}
    for record in records:
        if record.card is None:
            click.echo(f"{printable(record.key)} cannot be read: {printable(record.error)}\n")
        else:
            alike.setdefault(record.card.mdcsum(), []).append(record)
    for number, group in enumerate(alike.values()):
        if number:
            click.echo()
        _show_card(group)


def _show_card(records: Sequence[Record]) -> None:
    from muster.cli.model_options import short
    from muster.model.extension import CardExtension
    from muster.model.identity import files_of

    card = records[0].card
    assert card is not None  # noqa: S101 - unreadable ones are shown otherwise
    extension = CardExtension.read(card.muster)
    context = f"{card.context_length} tokens" if card.context_length else "unknown"
    for label, value in (
        ("model", card.display_name),
        ("endpoint", records[0].endpoint),
        ("mdcsum", card.mdcsum()),
        ("identity", str(extension.identity or "not said")),
        ("source", card.source_path or "not said"),
        ("types", str(card.model_type)),
        ("context", context),
        ("aliases", ", ".join(card.aliases) or "none"),
        ("lora", card.lora.name if card.lora is not None else "no"),
    ):
        click.echo(f"{label:<9} {printable(value)}")
    click.echo()
    sizes = {file.checksum: file for file, _ in card.iter_metadata_files()}
    rows = [
        [
            file.role,
            file.name,
            str(sizes[file.digest].size or "?"),
            short(str(file.digest)),
            _place(sizes[file.digest].location),
        ]
        for file in files_of(card)
    ]
    show_table(["ROLE", "FILE", "BYTES", "BLAKE3", "AT"], rows)
    click.echo()
    show_table(
        ["INSTANCE", "ADDRESS", "FILES AT"],
        [
            [
                record.key.split("/")[3] if record.key.count("/") >= 3 else record.key,
                record.instance.transport.address.partition("/")[0]
                if record.instance is not None
                else "no instance in the registry",
                CardExtension.read(record.card.muster if record.card else {}).status or "-",
            ]
            for record in records
        ],
    )


def _place(location: str) -> str:
    """Where a file is, as far as people need to know: a server, a hub, or a path."""
    from muster.model.fetch.place import redact

    shown = redact(location)
    scheme, separator, rest = shown.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if separator and scheme != "hf" else shown

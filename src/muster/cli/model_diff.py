"""``muster model diff``: which files and keys differ between a model's replicas."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.frontend_key import frontend_key
from muster.cli.model_options import check_url, frontend_options, short
from muster.cli.options import load_settings, run_loop
from muster.cli.table import printable

if TYPE_CHECKING:
    from muster.cli.model_compare import Comparison
    from muster.cli.model_records import Record
    from muster.config.settings import Settings

__all__ = ["command"]


@click.command()
@click.argument("name")
@frontend_options
@click.option(
    "--allow", "hosts", multiple=True, metavar="HOST",
    help="Host or network to fetch files from besides the card's instance; may be repeated.",
)  # fmt: skip
@click.option(
    "--root", "roots", multiple=True, type=click.Path(path_type=Path),
    help="Directory under which a card's local paths are believed; may be repeated.",
)  # fmt: skip
def command(
    *,
    name: str,
    url: str | None,
    key_file: Path | None,
    discovery_backend: str | None,
    as_json: bool,
    hosts: tuple[str, ...],
    roots: tuple[Path, ...],
) -> int:
    """Say how the cards registered for the model NAME differ: files, JSON keys, both values.

    Replicas are compared with the card that the frontend serves or, without a frontend, with the
    one most replicas have. The exit code is 0 if there is no difference, 1 if there is, 3 if
    something could not be compared.

    \b
    muster model diff acme/small
    muster model diff acme/small --json | jq '.differences[].files'
    """  # noqa: D301 - click reads the escape as "leave these lines as they are"
    settings = load_settings(discovery__backend=discovery_backend, log__filter="off")
    fetch = dataclasses.replace(
        settings.fetch,
        allow=(*settings.fetch.allow, *hosts),
        roots=(*settings.fetch.roots, *(root.absolute() for root in roots)),
    )
    settings = dataclasses.replace(settings, fetch=fetch)
    url = check_url(url, settings.http.port)
    records, reference, found = run_loop(
        _look(settings, name, url, frontend_key(key_file, settings))
    )
    if as_json:
        click.echo(_as_json(name, records, reference, found))
    else:
        _show(name, records, reference, found)
    if not records or any(record.card is None for record in records):
        return 3
    if any(file.kind == "unknown" for each in found for file in each.files):
        return 3
    return 1 if found else 0


async def _look(
    settings: Settings, name: str, url: str, key: str
) -> tuple[list[Record], str, list[Comparison]]:
    """The records, the mdcsum everything is compared with, and what differs from it."""
    from muster.cli.model_compare import compare
    from muster.cli.model_records import ask_frontend, find_records

    records = await find_records(settings, name)
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.card is not None:
            groups.setdefault(record.card.mdcsum(), []).append(record)
    if not groups:
        return records, "", []
    report = await ask_frontend(url, key)
    serving = (
        []
        if isinstance(report, str)
        else [
            each.mdcsum for each in report.models if each.model == name and each.state == "serving"
        ]
    )
    reference = next(
        (mdcsum for mdcsum in serving if mdcsum in groups),
        max(groups, key=lambda mdcsum: len(groups[mdcsum])),
    )
    found = [
        await compare(
            groups[reference][0].replica(),
            group[0].replica(),
            [record.key for record in group],
            settings.fetch,
            settings.metadata.token,
        )
        for mdcsum, group in groups.items()
        if mdcsum != reference
    ]
    return records, reference, found


def _as_json(
    name: str, records: Sequence[Record], reference: str, found: Sequence[Comparison]
) -> str:
    import msgspec

    return json.dumps(
        {
            "model": name,
            "reference": reference,
            "replicas": {
                record.key: record.card.mdcsum() if record.card is not None else None
                for record in records
            },
            "unreadable": {record.key: record.error for record in records if record.error},
            "differences": msgspec.to_builtins(found),
        }
    )


def _show(
    name: str, records: Sequence[Record], reference: str, found: Sequence[Comparison]
) -> None:
    from muster.cli.model_compare import describe

    def say(text: str) -> None:
        click.echo(printable(text))

    if not records:
        say(f"no model {name!r} is registered")
        return
    for record in records:
        if record.card is None:
            say(f"{record.key} cannot be read: {record.error}")
    have = sum(record.card is not None and record.card.mdcsum() == reference for record in records)
    if reference:
        say(f"mdcsum {short(reference)} is the reference; {have} replicas have it")
    for each in found:
        say("")
        say(f"mdcsum {short(each.mdcsum)}, of {', '.join(each.keys)}")
        for line in describe(each):
            say(f"  {line}")
        if each.cosmetic:
            say("  nothing that matters: the files are the same, and frontends serve both together")
    if not found and reference:
        say("no replica differs")

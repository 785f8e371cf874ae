"""``muster model why``: the story of one model, from the frontend, the registry and the workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from muster.cli.frontend_key import frontend_key
from muster.cli.model_options import ago, check_url, frontend_options, short
from muster.cli.options import load_settings, run_loop
from muster.cli.table import printable
from muster.errors import DiscoveryError

if TYPE_CHECKING:
    from muster.cli.model_records import Drift, Record
    from muster.config.settings import Settings
    from muster.frontend.report import FileReport, FleetReport, ModelReport

__all__ = ["command", "story", "tell"]


@click.command()
@click.argument("name")
@frontend_options
def command(
    *,
    name: str,
    url: str | None,
    key_file: Path | None,
    discovery_backend: str | None,
    as_json: bool,
) -> int:
    """Say why the model NAME is served, or is not: its state, its files, each of its replicas.

    Asks the frontend, the registry and the workers. Without a frontend it says what the registry
    alone can tell, and without a registry what the frontend can. The exit code is 0 if the model is
    served, else 1.

    \b
    muster model why acme/small
    muster model why acme/small --frontend http://10.0.0.5:8000 --json
    """  # noqa: D301 - click reads the escape as "leave these lines as they are"
    settings = load_settings(discovery__backend=discovery_backend, log__filter="error")
    url = check_url(url, settings.http.port)
    key = frontend_key(key_file, settings)
    report, records, drifts, trouble = run_loop(_look(settings, name, url, key))
    reports = [] if isinstance(report, str) else _of_model(report, name, records)
    if as_json:
        click.echo(_as_json(name, report, reports, records, drifts))
    else:
        for line in tell(name, url, report, reports, records, drifts, trouble):
            click.echo(printable(line))
    return 0 if any(each.state == "serving" for each in reports) else 1


async def _look(
    settings: Settings, name: str, url: str, key: str
) -> tuple[FleetReport | str, list[Record], list[Drift], str]:
    """The frontend's report, the registry's records, the workers' files, and why there are no records.

    Raises:
        DiscoveryError: Neither a registry nor a frontend answers.
    """
    from muster.cli.model_records import ask_frontend, ask_workers, find_records

    try:
        records = await find_records(settings, name)
    except DiscoveryError as error:
        report = await ask_frontend(url, key)
        if isinstance(report, str):
            raise
        return report, [], [], error.message
    drifts = await ask_workers(records, settings.metadata.token)
    return await ask_frontend(url, key), records, drifts, ""


def _of_model(report: FleetReport, name: str, records: Sequence[Record]) -> list[ModelReport]:
    keys = {record.key for record in records}
    return [
        each
        for each in report.models
        if each.model == name
        or name in each.aliases
        or any(replica.key in keys for replica in each.replicas)
    ]


def _as_json(
    name: str,
    report: FleetReport | str,
    reports: Sequence[ModelReport],
    records: Sequence[Record],
    drifts: Sequence[Drift],
) -> str:
    import msgspec

    return json.dumps(
        {
            "model": name,
            "frontend": report if isinstance(report, str) else report.status,
            "reports": msgspec.to_builtins(reports),
            "records": [
                {
                    "key": record.key,
                    "endpoint": record.endpoint,
                    "mdcsum": record.card.mdcsum() if record.card is not None else "",
                    "has_instance": record.instance is not None,
                    "error": record.error,
                }
                for record in records
            ],
            "workers": msgspec.to_builtins(drifts),
        }
    )


def tell(
    name: str,
    url: str,
    report: FleetReport | str,
    reports: Sequence[ModelReport],
    records: Sequence[Record],
    drifts: Sequence[Drift],
    registry_error: str = "",
) -> Iterator[str]:
    """The story in lines. With ``registry_error`` there are no records, which says nothing then."""
    if registry_error:
        yield f"the registry cannot be read: {registry_error}; this is what the frontend says"
    if isinstance(report, str):
        yield f"no frontend of ours answers at {url} ({report}); this is what the registry says"
        yield from _from_registry(name, records)
    elif report.stale_since is not None:
        yield f"the frontend has not read the registry for {ago(report.stale_since)}"
    if not isinstance(report, str) and not reports:
        if not registry_error:
            yield from _from_registry(name, records)
        if records or registry_error:
            yield "the frontend does not know it: it may look at other namespaces, or another registry"
    for each in reports:
        yield from story(each)
    yield from _drifts(drifts)


def _drifts(drifts: Sequence[Drift]) -> Iterator[str]:
    """Which workers' files have changed since they were registered."""
    for drift in drifts:
        if drift.drifted:
            yield (
                f"drift: {drift.key} was made from files that have changed since "
                f"({', '.join(drift.drifted)}); it serves them as they were registered. "
                "Restart the worker to publish the new ones"
            )
        elif drift.url and drift.error:
            yield f"{drift.key} does not say whether its files have changed: {drift.error}"


def story(report: ModelReport) -> Iterator[str]:
    """One model at one endpoint, as a frontend has it."""
    where = f" at {report.endpoint}" if report.endpoint else ""
    code = f" ({report.code})" if report.code and report.state != "serving" else ""
    yield f"{report.model or 'a record'}{where} is {report.state}{code}, for {ago(report.since)}"
    if report.message and report.state != "serving":
        yield f"  {report.message}"
    if report.retry_in_s is not None:
        yield f"  attempt {report.attempt} failed; the next one is in {report.retry_in_s:.0f} s"
    for note in report.notes:
        yield f"  note: {note}"
    for file in report.files:
        yield f"  {_file(file)}"
    for replica in report.replicas:
        digest = f" mdcsum {short(replica.mdcsum)}" if replica.mdcsum else ""
        at = f" {replica.address}" if replica.address else " (no instance)"
        why = f" ({replica.code})" if replica.code and replica.state != "serving" else ""
        yield f"  replica {replica.key}{at}{digest} is {replica.state}{why}"
        if replica.message and replica.message != report.message and replica.state != "serving":
            yield f"    {replica.message}"
    for left_out in report.excluded:
        yield f"  instance {left_out.instance} gets no requests: {left_out.reason}"
    if any(
        replica.code in ("incompatible", "minority", "not_pinned") for replica in report.replicas
    ):
        yield f"  what differs: muster model diff {report.model}"


def _file(file: FileReport) -> str:
    size = f"{file.done_bytes}" if file.done_bytes else f"{file.size_bytes or '?'}"
    source = f" from {file.source}" if file.source else ""
    took = f" in {file.seconds:.2f} s" if file.state == "verified" else ""
    why = f" ({file.code}) {file.message}" if file.message else ""
    return f"{file.role:<18} {file.name:<28} {size:>10} bytes  {file.state}{source}{took}{why}"


def _from_registry(name: str, records: Sequence[Record]) -> Iterator[str]:
    """What the registry alone tells."""
    if not records:
        yield f"no model {name!r} is registered"
        yield "  see `muster ls` for what is, and whether the registry is the worker's"
        return
    cards: dict[str, list[str]] = {}
    for record in records:
        if record.card is None:
            yield f"{record.key} cannot be read: {record.error}"
            continue
        cards.setdefault(record.card.mdcsum(), []).append(record.key)
        if record.instance is None:
            yield f"{record.key} has no instance in the registry: nobody would answer for it"
    for mdcsum, keys in cards.items():
        yield f"mdcsum {short(mdcsum)} is registered by {len(keys)}: {', '.join(keys)}"
    if len(cards) > 1:
        yield f"the cards differ; see `muster model diff {name}`"

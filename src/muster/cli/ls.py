"""``muster ls``: what the registry has, and what a frontend makes of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from muster.cli.options import load_settings

if TYPE_CHECKING:
    from muster.config.settings import Settings

__all__ = ["command"]

_ASK_S = 3.0


@click.command()
@click.option(
    "--frontend", "url", help="Frontend to ask.  [default: http://127.0.0.1:$DYN_HTTP_PORT]"
)
@click.option("--discovery-backend", metavar="NAME", help="Registry: file or memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(*, url: str | None, discovery_backend: str | None, as_json: bool) -> None:
    """List models and instances in the registry, and what a frontend does not serve and why."""
    settings = load_settings(discovery__backend=discovery_backend, log__filter="error")
    url = (url or f"http://127.0.0.1:{settings.http.port}").rstrip("/")
    found = asyncio.run(_look(settings, url))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)


async def _look(settings: Settings, url: str) -> dict[str, Any]:
    from muster.discovery.open import open_discovery
    from muster.discovery.records import INSTANCES, MODELS

    discovery = open_discovery(settings.discovery)
    try:
        models = [_model(key, value) for key, value in (await discovery.list(MODELS)).items()]
        instances = [
            _instance(key, value) for key, value in (await discovery.list(INSTANCES)).items()
        ]
    finally:
        await discovery.close()
    frontend = await _ask(url)
    return {
        "models": sorted(models, key=lambda row: (row["model"], row["key"])),
        "instances": sorted(instances, key=lambda row: str(row["key"])),
        "frontend": {"url": url, **frontend},
    }


def _model(key: str, value: bytes) -> dict[str, Any]:
    from muster.discovery.records import ModelRecord
    from muster.errors import MusterError
    from muster.model.card import ModelDeploymentCard
    from muster.model.group import name_in

    row: dict[str, Any] = {"key": key, "model": "", "error": ""}
    try:
        record = ModelRecord.from_json(value)
        row |= {
            "model": name_in(record),
            "endpoint": str(record.endpoint_id),
            "instance": f"{record.instance_id:x}",
        }
        card = ModelDeploymentCard.from_json_str(bytes(record.card_json))
    except MusterError as error:
        return row | {"error": error.message}
    places = {file.location.partition(":")[0] if file.url else "path"
              for file, _ in card.iter_metadata_files()}  # fmt: skip
    return row | {
        "mdcsum": card.mdcsum(),
        "context_length": card.context_length,
        "types": str(card.model_type),
        "files": "+".join(sorted(places)) or "none",
        "aliases": list(card.aliases),
        "lora": card.lora.name if card.lora is not None else None,
    }


def _instance(key: str, value: bytes) -> dict[str, Any]:
    from muster.discovery.records import Instance
    from muster.errors import MusterError

    try:
        instance = Instance.from_json(value)
    except MusterError as error:
        return {"key": key, "error": error.message}
    return {
        "key": key,
        "endpoint": str(instance.endpoint_id),
        "instance": f"{instance.instance_id:x}",
        "transport": instance.transport.kind,
        "address": instance.transport.address.partition("/")[0],
    }


async def _ask(url: str) -> dict[str, Any]:
    """What the frontend says of its health, or why it says nothing."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session,
            session.get(f"{url}/health") as reply,
        ):
            health: dict[str, Any] = json.loads(await reply.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return {
            "status": "unreachable",
            "message": str(error) or type(error).__name__,
            "models": [],
        }
    return {
        "status": health.get("status", "unknown"),
        "message": health.get("message", ""),
        "models": health.get("models", []),
    }


def _show(found: dict[str, Any]) -> None:
    frontend = found["frontend"]
    states = {row["model"]: row for row in reversed(frontend["models"])}
    rows = []
    for row in found["models"]:
        state = states.get(row["model"], {}).get("state", "?")
        if row["error"]:
            rows.append(
                [row["model"] or "?", row.get("endpoint", row["key"]), "", "", "", row["error"]]
            )
            continue
        rows.append(
            [
                row["model"],
                row["endpoint"],
                row["instance"],
                row["mdcsum"][:12],
                row["files"],
                state if frontend["status"] != "unreachable" else "",
            ]
        )
    _table(["MODEL", "ENDPOINT", "INSTANCE", "MDCSUM", "FILES", "STATE"], rows, "no models")
    _say_differing(found["models"])
    with_model = {(row.get("endpoint"), row.get("instance")) for row in found["models"]}
    others = [
        row for row in found["instances"]
        if (row.get("endpoint"), row.get("instance")) not in with_model
    ]  # fmt: skip
    if others:
        click.echo("\ninstances without a model")
        _table(
            ["ENDPOINT", "INSTANCE", "ADDRESS"],
            [[r.get("endpoint", r["key"]), r.get("instance", ""), r.get("address", r.get("error", ""))] for r in others],
            "",
        )  # fmt: skip
    if frontend["status"] == "unreachable":
        click.echo(f"\nno frontend answers at {frontend['url']}: {frontend['message']}", err=True)
        return
    click.echo(f"\nfrontend {frontend['url']}: {frontend['status']}")
    for row in frontend["models"]:
        if row["state"] != "ready":
            reason = f" ({row['reason']})" if row.get("reason") else ""
            click.echo(f"  {row['model'] or '?'} is {row['state']}{reason}: {row['message']}")


def _say_differing(models: list[dict[str, Any]]) -> None:
    """Name models whose workers carry different cards: they do not serve together."""
    digests: dict[tuple[str, str], set[str]] = {}
    for row in models:
        if not row["error"]:
            digests.setdefault((row["model"], row["endpoint"]), set()).add(row["mdcsum"][:12])
    for (model, endpoint), found in digests.items():
        if len(found) > 1:
            click.echo(
                f"\n{model} at {endpoint} has {len(found)} different cards: "
                f"{', '.join(sorted(found))}"
            )


def _table(head: list[str], rows: list[list[str]], empty: str) -> None:
    """Columns aligned for reading; the last one is not padded."""
    if not rows:
        click.echo(empty)
        return
    lines = [head, *rows]
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(head) - 1)]
    for line in lines:
        padded = [f"{cell!s:<{width}}" for cell, width in zip(line, widths, strict=False)]
        click.echo("  ".join([*padded, str(line[-1])]).rstrip())

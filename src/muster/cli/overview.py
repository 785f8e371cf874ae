"""What ``muster ls`` shows: the registry's records, and what a frontend makes of each.

Reading and asking are at the top; what follows from them is decided below by pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import aiohttp
import msgspec

from muster.cli.model_records import KEY_WANTED, ask_frontend
from muster.cli.overview_rows import (
    UNREACHABLE,
    ExclusionRow,
    FrontendRow,
    InstanceRow,
    ModelRow,
    ModelStanding,
    Overview,
)
from muster.config.settings import Settings
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, MODELS, Instance, ModelRecord
from muster.errors import DiscoveryError, MusterError
from muster.frontend.report import FleetReport
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import name_in
from muster.model.extension import CardExtension
from muster.model.mdcsum import compute_terms

__all__ = ["arrange", "from_report", "look", "read_health"]

_ASK_S = 3.0


async def look(
    settings: Settings, url: str, *, key: str = "", frontend_will_do: bool = False
) -> Overview:
    """Read the registry, and ask the frontend at ``url``, which has 3 s to answer.

    Args:
        settings: Where the registry is.
        url: The frontend's.
        key: An admin's key, if the frontend asks for one.
        frontend_will_do: Take the frontend's word for what cannot be read from the registry.

    Raises:
        DiscoveryError: The registry cannot be read, and there is nobody else to ask.
    """
    try:
        models, instances = await _read(settings)
    except DiscoveryError as error:
        frontend, report = await _ask(url), await ask_frontend(url, key)
        if not frontend_will_do or isinstance(report, str) or not frontend.answers:
            raise
        return from_report(report, frontend, registry_error=error.message)
    frontend, report = await _ask(url), await ask_frontend(url, key)
    if not isinstance(report, str):
        frontend = msgspec.structs.replace(frontend, excluded=_exclusions(report))
    elif KEY_WANTED in report:
        frontend = msgspec.structs.replace(frontend, message=report)
    return arrange(models, instances, frontend)


async def _read(settings: Settings) -> tuple[dict[str, bytes], dict[str, bytes]]:
    discovery = open_discovery(settings.discovery, settings.etcd)
    try:
        return await discovery.list(MODELS), await discovery.list(INSTANCES)
    finally:
        await discovery.close()


async def _ask(url: str) -> FrontendRow:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session,
            session.get(f"{url}/health") as reply,
        ):
            body = await reply.read()
    except TimeoutError:
        return FrontendRow(url=url, status=UNREACHABLE, message=f"no answer within {_ASK_S:g} s")
    except (aiohttp.ClientError, ValueError) as error:
        return FrontendRow(url=url, status=UNREACHABLE, message=str(error) or repr(error))
    return read_health(url, body)


def read_health(url: str, body: bytes) -> FrontendRow:
    """What a ``/health`` says, Dynamo's too; something else counts as no frontend."""
    try:
        reply = msgspec.json.decode(body, type=FrontendRow)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"its /health is not a frontend's: {error}"
        return FrontendRow(url=url, status=UNREACHABLE, message=message)
    return msgspec.structs.replace(reply, url=url)


def arrange(
    models: Mapping[str, bytes], instances: Mapping[str, bytes], frontend: FrontendRow
) -> Overview:
    """The overview of these records, by key."""
    rows = sorted(
        (_model(key, value) for key, value in models.items()), key=lambda row: (row.model, row.key)
    )
    several = _with_several_cards(rows)
    with_model = {(row.endpoint, row.instance) for row in rows}
    found = [_instance(key, instances[key]) for key in sorted(instances)]
    places = {(row.endpoint, row.instance): row for row in found}
    return Overview(
        models=tuple(
            msgspec.structs.replace(
                _with_standing(_at_its_place(row, places), frontend),
                differs=not row.error and (row.model, row.endpoint) in several,
            )
            for row in rows
        ),
        instances=tuple(
            msgspec.structs.replace(row, has_model=(row.endpoint, row.instance) in with_model)
            for row in found
        ),
        frontend=frontend,
    )


def from_report(report: FleetReport, frontend: FrontendRow, *, registry_error: str) -> Overview:
    """What a frontend knows, where the registry cannot be read: less than its records would say."""
    rows = [
        ModelRow(
            key=replica.key,
            model=model.model,
            endpoint=model.endpoint,
            instance=replica.instance,
            transport=replica.transport,
            address=replica.address,
            mdcsum=replica.mdcsum,
            identity=replica.identity,
            aliases=model.aliases,
            lora=model.lora or None,
        )
        for model in report.models
        for replica in model.replicas
    ]
    return Overview(
        models=tuple(_with_standing(row, frontend) for row in rows),
        instances=(),
        frontend=msgspec.structs.replace(frontend, excluded=_exclusions(report)),
        registry_error=registry_error,
    )


def _exclusions(report: FleetReport) -> tuple[ExclusionRow, ...]:
    return tuple(
        ExclusionRow(
            model=model.model,
            endpoint=model.endpoint,
            instance=each.instance,
            transport=each.transport,
            address=each.address,
            reason=each.reason,
        )
        for model in report.models
        for each in model.excluded
    )


def _at_its_place(row: ModelRow, places: Mapping[tuple[str, str], InstanceRow]) -> ModelRow:
    place = places.get((row.endpoint, row.instance))
    if place is None or row.error:
        return row
    return msgspec.structs.replace(row, transport=place.transport, address=place.address)


def _with_several_cards(rows: Iterable[ModelRow]) -> set[tuple[str, str]]:
    """Models at endpoints whose replicas do not serve together, told apart as a frontend does."""
    groups: dict[tuple[str, str], list[ModelRow]] = {}
    for row in rows:
        if not row.error:
            groups.setdefault((row.model, row.endpoint), []).append(row)
    found = set()
    for place, group in groups.items():
        by_identity = all(row.identity for row in group)
        cards = {(row.identity, row.terms) if by_identity else (row.mdcsum,) for row in group}
        if len(cards) > 1:
            found.add(place)
    return found


def _model(key: str, value: bytes) -> ModelRow:
    row = ModelRow(key=key)
    try:
        record = ModelRecord.from_json(value)
        row = ModelRow(
            key=key,
            model=name_in(record),
            endpoint=str(record.endpoint_id),
            instance=f"{record.instance_id:x}",
        )
        card = ModelDeploymentCard.from_json_str(bytes(record.card_json))
    except MusterError as error:
        return msgspec.structs.replace(row, error=error.message)
    places = {
        file.location.partition(":")[0] if file.url else "path"
        for file, _ in card.iter_metadata_files()
    }
    return msgspec.structs.replace(
        row,
        mdcsum=card.mdcsum(),
        identity=str(CardExtension.read(card.muster).identity or ""),
        terms=compute_terms(card),
        context_length=card.context_length or None,
        types=str(card.model_type),
        files="+".join(sorted(places)) or "none",
        aliases=tuple(card.aliases),
        lora=card.lora.name if card.lora is not None else None,
    )


def _with_standing(row: ModelRow, frontend: FrontendRow) -> ModelRow:
    """``row`` with how the frontend has it: by name and card, else by name if it does not tell cards."""
    if not frontend.answers:
        return row
    named = [each for each in frontend.models if each.model == row.model]
    exact = [each for each in named if each.mdcsum == row.mdcsum]
    loose = [each for each in named if each.state == "ready" or not each.mdcsum]
    found = next(iter([*exact, *loose]), ModelStanding())
    return msgspec.structs.replace(
        row, state=found.state, reason=found.reason, message=found.message
    )


def _instance(key: str, value: bytes) -> InstanceRow:
    try:
        instance = Instance.from_json(value)
    except MusterError as error:
        return InstanceRow(key=key, error=error.message)
    return InstanceRow(
        key=key,
        endpoint=str(instance.endpoint_id),
        instance=f"{instance.instance_id:x}",
        transport=instance.transport.kind,
        address=instance.transport.address.partition("/")[0],
    )

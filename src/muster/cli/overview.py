"""What ``muster ls`` shows: the registry's records, and what a frontend makes of each.

Reading and asking are at the top; what follows from them is decided below by pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import aiohttp
import msgspec

from muster.config.settings import Settings
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, MODELS, Instance, ModelRecord
from muster.errors import MusterError
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import name_in
from muster.model.extension import CardExtension
from muster.model.mdcsum import compute_terms

__all__ = [
    "FrontendRow",
    "InstanceRow",
    "ModelRow",
    "ModelStanding",
    "Overview",
    "arrange",
    "look",
    "read_health",
]

_ASK_S = 3.0
_UNREACHABLE = "unreachable"


class ModelStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a model stands with the frontend: an entry of ``models`` in its ``/health``."""

    model: str = ""
    state: str = "unknown"
    reason: str = ""
    message: str = ""
    mdcsum: str = ""


class FrontendRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontend says of itself; ``status`` is ``unreachable`` if it says nothing."""

    url: str = ""
    status: str
    message: str = ""
    models: tuple[ModelStanding, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether there is one."""
        return self.status != _UNREACHABLE


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model record.

    ``files`` says where its files are: ``http``, ``path``, ``hf``, several with ``+``, or ``none``.
    ``identity`` names those files wherever they lie, ``terms`` all else that must be equal (see
    ``compute_terms``). ``differs``: other records of its name at its endpoint cannot serve with it. ``state``, ``reason``
    and ``message`` are the frontend's; empty without one. A record that cannot be read has only its
    key and ``error``, and what else could be made out.
    """

    key: str
    model: str = ""
    endpoint: str = ""
    instance: str = ""
    mdcsum: str = ""
    identity: str = ""
    terms: str = ""
    context_length: int | None = None
    types: str = ""
    files: str = ""
    aliases: tuple[str, ...] = ()
    lora: str | None = None
    differs: bool = False
    state: str = ""
    reason: str = ""
    message: str = ""
    error: str = ""


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance record; one that cannot be read has its key and ``error``."""

    key: str
    endpoint: str = ""
    instance: str = ""
    transport: str = ""
    address: str = ""
    has_model: bool = False
    error: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, each list in a stable order."""

    models: tuple[ModelRow, ...]
    instances: tuple[InstanceRow, ...]
    frontend: FrontendRow


async def look(settings: Settings, url: str) -> Overview:
    """Read the registry, then ask the frontend at ``url``, which has 3 s to answer.

    Raises:
        DiscoveryError: The registry cannot be read.
    """
    discovery = open_discovery(settings.discovery, settings.etcd)
    try:
        models = await discovery.list(MODELS)
        instances = await discovery.list(INSTANCES)
    finally:
        await discovery.close()
    return arrange(models, instances, await _ask(url))


async def _ask(url: str) -> FrontendRow:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session,
            session.get(f"{url}/health") as reply,
        ):
            body = await reply.read()
    except TimeoutError:
        return FrontendRow(url=url, status=_UNREACHABLE, message=f"no answer within {_ASK_S:g} s")
    except (aiohttp.ClientError, ValueError) as error:
        return FrontendRow(url=url, status=_UNREACHABLE, message=str(error) or repr(error))
    return read_health(url, body)


def read_health(url: str, body: bytes) -> FrontendRow:
    """What a ``/health`` says, Dynamo's too; something else counts as no frontend."""
    try:
        reply = msgspec.json.decode(body, type=FrontendRow)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"its /health is not a frontend's: {error}"
        return FrontendRow(url=url, status=_UNREACHABLE, message=message)
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
    return Overview(
        models=tuple(
            msgspec.structs.replace(
                _with_standing(row, frontend),
                differs=not row.error and (row.model, row.endpoint) in several,
            )
            for row in rows
        ),
        instances=tuple(
            msgspec.structs.replace(row, has_model=(row.endpoint, row.instance) in with_model)
            for row in (_instance(key, instances[key]) for key in sorted(instances))
        ),
        frontend=frontend,
    )


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

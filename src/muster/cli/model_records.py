"""What the registry has of one model, and what its workers say of its files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from muster.cli.frontend_key import key_headers
from muster.config.settings import Settings
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, MODELS, Instance, ModelRecord
from muster.errors import MusterError
from muster.frontend.replicas import instance_host
from muster.frontend.report import FleetReport
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.group import name_in
from muster.model.extension import CardExtension
from muster.model.fetch.replica import Replica

__all__ = [
    "KEY_WANTED",
    "Drift",
    "Record",
    "arrange_records",
    "ask_frontend",
    "ask_workers",
    "find_records",
]

_ASK_S = 2.0
KEY_WANTED = "asks for an admin's key"
"""Part of what is said of a frontend whose report needs one."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a model.

    Attributes:
        key: Its key in the registry.
        endpoint: ``namespace.component.endpoint``; empty if the record cannot be read.
        card: Its card, if that can be read.
        instance: Its instance's record, if there is one.
        error: Why the record or its card cannot be read.
    """

    key: str
    endpoint: str = ""
    card: ModelDeploymentCard | None = None
    instance: Instance | None = None
    error: str = ""

    def replica(self) -> Replica:
        """Itself as a place to fetch from; its card must be readable."""
        assert self.card is not None  # noqa: S101 - the caller has looked
        host = instance_host(self.instance) if self.instance is not None else None
        return Replica(card=self.card, key=self.key, host=host)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of the files it serves: which sources have changed, or why it says nothing."""

    key: str
    url: str = ""
    drifted: tuple[str, ...] = ()
    error: str = ""


async def find_records(settings: Settings, name: str) -> list[Record]:
    """The records of the model called ``name``, by name or alias, by key.

    Raises:
        DiscoveryError: The registry cannot be read.
    """
    discovery = open_discovery(settings.discovery, settings.etcd)
    try:
        models = await discovery.list(MODELS)
        instances = await discovery.list(INSTANCES)
    finally:
        await discovery.close()
    return arrange_records(models, instances, name)


def arrange_records(
    models: Mapping[str, bytes], instances: Mapping[str, bytes], name: str
) -> list[Record]:
    """The records among ``models`` that are of ``name``, each with its instance."""
    known: dict[str, Instance] = {}
    for key, value in instances.items():
        try:
            known[key] = Instance.from_json(value)
        except MusterError:
            continue
    found = (_read(key, models[key], name, known) for key in sorted(models))
    return [record for record in found if record is not None]


def _read(key: str, value: bytes, name: str, instances: Mapping[str, Instance]) -> Record | None:
    instance = instances.get("/".join(key.split("/")[:4]))
    called = ""
    endpoint = ""
    try:
        record = ModelRecord.from_json(value)
        called, endpoint = name_in(record), str(record.endpoint_id)
        card = ModelDeploymentCard.from_json_str(bytes(record.card_json))
    except MusterError as error:
        if called != name:
            return None
        return Record(key=key, endpoint=endpoint, instance=instance, error=error.message)
    if name != card.display_name and name not in card.aliases:
        return None
    return Record(key=key, endpoint=endpoint, card=card, instance=instance)


async def ask_frontend(url: str, key: str = "") -> FleetReport | str:
    """A frontend's report, or why there is none; it has 2 s to answer.

    Args:
        url: Its address.
        key: An admin's key, if it asks for one.
    """
    try:
        content = await _get(f"{url}/v1/muster/models", key_headers(key))
        return msgspec.json.decode(content, type=FleetReport)
    except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def ask_workers(records: Sequence[Record], token: str | None) -> list[Drift]:
    """What the workers say of the files they serve; each has 2 s to answer."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_ask_worker(record, token))
            for record in records
            if record.card is not None
        ]
    return [task.result() for task in tasks]


class _Hosted(msgspec.Struct):
    name: str
    slug: str
    endpoint: str
    drifted: bool = False


async def _ask_worker(record: Record, token: str | None) -> Drift:
    card = record.card
    assert card is not None  # noqa: S101 - the caller has looked
    status = CardExtension.read(card.muster).status
    if status is None:
        return Drift(key=record.key, error="its card names no status server")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        content = await _get(f"{status}/v1/muster/files", headers)
        files = msgspec.json.decode(content, type=list[_Hosted])
    except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as error:
        return Drift(key=record.key, url=status, error=str(error) or type(error).__name__)
    drifted = tuple(file.name for file in files if file.drifted and file.slug == card.slug)
    return Drift(key=record.key, url=status, drifted=drifted)


async def _get(url: str, headers: dict[str, str]) -> bytes:
    timeout = aiohttp.ClientTimeout(total=_ASK_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, headers=headers, allow_redirects=False) as reply,
    ):
        content: Any = await reply.read()
        if reply.status in (401, 403):
            raise ValueError(
                f"{url} {KEY_WANTED} (status {reply.status}): name a file that has it with "
                "--api-key-file, or set MUSTER_API_KEY"
            )
        if reply.status != 200:
            raise ValueError(f"{url} answered with status {reply.status}")
        return bytes(content)

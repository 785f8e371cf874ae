"""Configuration documents of a component: what its replicas publish, and others list and read.

A document is a record in the bucket ``v1/documents`` under ``namespace/component/name/instance id``,
so that each replica has its own and it lives as long as its publisher's lease. Dynamo has no such
bucket and does not look into it. The record's JSON::

    {"type": "Document", "namespace": ..., "component": ..., "name": ..., "instance_id": ...,
     "digest": "blake3:<of the content's text>", "content": <the JSON value>}
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from muster.digest import Digest
from muster.discovery.base import Discovery
from muster.errors import ConflictError, InvalidArgument, NotRegisteredError
from muster.log import facts
from muster.runtime.components.component_path import check_key_name, component_key
from muster.runtime.components.json_value import json_text

__all__ = ["DOCUMENTS", "Document", "Documents"]

logger = logging.getLogger(__name__)

DOCUMENTS = "v1/documents"
"""Bucket of configuration documents."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One content of a document and who publishes it.

    Attributes:
        name: Its name.
        content: The JSON value.
        digest: Names the content: equal values, equal digests, whatever the order of members.
        publishers: Instance ids, sorted; one at least.
    """

    name: str
    content: Any
    digest: str
    publishers: tuple[int, ...]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """The wire form; the digest is for other readers, we work it out."""

    type: str
    namespace: str
    component: str
    name: str
    instance_id: int
    digest: str
    content: msgspec.Raw


class Documents:
    """The documents of one component; see ``Component`` for what its methods raise."""

    def __init__(self, discovery: Discovery, namespace: str, component: str) -> None:
        self._discovery = discovery
        self._namespace = namespace
        self._component = component

    async def publish(self, name: str, content: Any) -> Document:
        """Write this process's document ``name``."""
        key = self._own_key(name)
        text = json_text(content, what=f"the document {name!r}")
        digest = str(Digest.of(text))
        record = _Record(
            type="Document",
            namespace=self._namespace,
            component=self._component,
            name=name,
            instance_id=self._discovery.instance_id,
            digest=digest,
            content=msgspec.Raw(text),
        )
        await self._discovery.register(DOCUMENTS, key, msgspec.json.encode(record))
        return Document(
            name=name,
            content=json.loads(text),
            digest=digest,
            publishers=(self._discovery.instance_id,),
        )

    async def withdraw(self, name: str) -> None:
        """Take back this process's document ``name``."""
        await self._discovery.deregister(DOCUMENTS, self._own_key(name))

    async def list(self) -> dict[str, tuple[Document, ...]]:
        """All documents by name."""
        return await self._read_all()

    async def read(self, name: str, *, digest: str | None, instance_id: int | None) -> Document:
        """One document."""
        check_key_name(name, what="document")
        found = (await self._read_all(name)).get(name, ())
        wanted = [
            each
            for each in found
            if digest in (None, each.digest)
            and (instance_id is None or instance_id in each.publishers)
        ]
        if not wanted:
            raise NotRegisteredError(
                f"nobody publishes {self._of(name, digest, instance_id)}",
                hint=f"published are: {_who_has_what(found)}" if found else "",
            )
        if len(wanted) > 1:
            raise ConflictError(
                f"replicas publish different contents of {self._of(name)}: {_who_has_what(wanted)}",
                hint="say which, by digest or instance_id",
            )
        return wanted[0]

    async def _read_all(self, *name: str) -> dict[str, tuple[Document, ...]]:
        prefix = component_key(self._namespace, self._component, *name)
        values = await self._discovery.list(DOCUMENTS, prefix)
        # Contents may be megabytes; the event loop is not made to wait for their digests.
        return await asyncio.to_thread(self._grouped, values)

    def _grouped(self, values: dict[str, bytes]) -> dict[str, tuple[Document, ...]]:
        """Documents by name: the one of most publishers first."""
        publishers: dict[tuple[str, str], list[int]] = {}
        contents: dict[str, Any] = {}
        for key, value in values.items():
            found = _read(value)
            if found is None or key != self._key_of(found[0].name, found[0].instance_id):
                logger.debug("not a document's record", extra=facts(bucket=DOCUMENTS, key=key))
                continue
            record, content, digest = found
            contents[digest] = content
            publishers.setdefault((record.name, digest), []).append(record.instance_id)
        documents: dict[str, tuple[Document, ...]] = {}
        for (name, digest), who in sorted(
            publishers.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])
        ):
            document = Document(
                name=name, content=contents[digest], digest=digest, publishers=tuple(sorted(who))
            )
            documents[name] = (*documents.get(name, ()), document)
        return documents

    def _own_key(self, name: str) -> str:
        check_key_name(name, what="document")
        return self._key_of(name, self._discovery.instance_id)

    def _key_of(self, name: str, instance_id: int) -> str:
        return component_key(self._namespace, self._component, name, f"{instance_id:x}")

    def _of(self, name: str, digest: str | None = None, instance_id: int | None = None) -> str:
        which = f" with digest {digest}" if digest is not None else ""
        who = f" as instance {instance_id}" if instance_id is not None else ""
        return f"the document {name!r} of {self._namespace}.{self._component}{which}{who}"


def _read(value: bytes) -> tuple[_Record, Any, str] | None:
    """A record, its content and its digest, which is worked out here, whatever the record says."""
    try:
        record = msgspec.json.decode(value, type=_Record)
        content = json.loads(bytes(record.content))
        digest = str(Digest.of(json_text(content, what="a document")))
    except (msgspec.DecodeError, InvalidArgument, ValueError, RecursionError):
        return None
    return (record, content, digest) if record.type == "Document" else None


def _who_has_what(documents: Iterable[Document]) -> str:
    return "; ".join(f"{each.digest} by {_ids(each)}" for each in documents)


def _ids(document: Document) -> str:
    return ", ".join(map(str, document.publishers))

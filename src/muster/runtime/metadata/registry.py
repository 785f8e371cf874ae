"""Which metadata files this process serves, and on whose behalf.

Pure bookkeeping: no file is opened here. Reading never takes a lock: writers copy the tables, change
the copies and put them in place, so a reader sees a table before or after a change, never within.

Invariant: a key is served exactly as long as some owner has published it and has not left.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from muster.digest import Digest
from muster.errors import ConflictError
from muster.names import EndpointId

__all__ = [
    "BASE_SUFFIX",
    "Artifact",
    "Body",
    "HostedFile",
    "MetadataArtifactRegistry",
    "MetadataKey",
    "MetadataOwner",
]

BASE_SUFFIX = "_base"
"""The suffix of a base model's files; those of a LoRA adapter have its slug."""


class MetadataKey(msgspec.Struct, frozen=True, order=True):
    """Names one served file. All parts are plain text, not percent-encoded; any may be empty."""

    namespace: str
    component: str
    endpoint: str
    slug: str
    suffix: str
    filename: str

    def __str__(self) -> str:
        return "/".join(msgspec.structs.astuple(self))


class MetadataOwner(msgspec.Struct, frozen=True):
    """One registration of one endpoint by one instance; a LoRA adapter is a registration of its own.

    ``serial`` tells a registration from an earlier one that it is to replace.
    """

    connection_id: int
    endpoint: EndpointId
    lora_slug: str | None = None
    serial: int = 0

    def __str__(self) -> str:
        lora = f" (LoRA {self.lora_slug})" if self.lora_slug is not None else ""
        serial = f" (registration {self.serial})" if self.serial else ""
        return f"{self.endpoint}/{self.connection_id:x}{lora}{serial}"


class Body(Protocol):
    """Bytes that do not change; see ``muster.content.snapshot.Snapshot``."""

    @property
    def digest(self) -> Digest:
        """Their digest."""
        ...

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        ...

    def open_fd(self) -> int:
        """A descriptor to read them from, which the caller closes."""
        ...


class Artifact(msgspec.Struct, frozen=True):
    """A served file: where it came from, and its bytes."""

    source: Path
    snapshot: Body

    @property
    def digest(self) -> Digest:
        """The digest of what is served."""
        return self.snapshot.digest

    @property
    def size_bytes(self) -> int:
        """The size of what is served."""
        return self.snapshot.size_bytes


class HostedFile(msgspec.Struct, frozen=True):
    """One entry of the registry: a key, its file, and all who hold it."""

    key: MetadataKey
    artifact: Artifact
    owners: tuple[MetadataOwner, ...]


_Holders = dict[MetadataOwner, Artifact]


class _Staged(msgspec.Struct, frozen=True):
    """A registration that is not visible yet, and the one it will replace."""

    entries: dict[MetadataKey, Artifact]
    replaces: MetadataOwner | None


class MetadataArtifactRegistry:
    """Files by key, each held by one or more owners.

    Safe to use from any thread; whoever has a reference shares the content. A key held by several
    owners is served from the file of the one that has held it longest. The registry closes nothing:
    whoever made a snapshot closes it after its owner has left.

    A registration is made in one step with ``register``, or in two: ``stage`` claims its keys
    without showing anything, ``publish`` shows everything at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[MetadataKey, _Holders] = {}
        self._served: dict[MetadataKey, Artifact] = {}
        self._blobs: dict[Digest, Artifact] = {}
        self._staged: dict[MetadataOwner, _Staged] = {}
        self._staged_keys: frozenset[MetadataKey] = frozenset()
        self._drifted: frozenset[Path] = frozenset()

    def __len__(self) -> int:
        return len(self._served)

    def is_empty(self) -> bool:
        """Whether no file is served."""
        return not self._served

    def get(self, key: MetadataKey) -> Artifact | None:
        """The file served under exactly this key."""
        return self._served.get(key)

    def find_blob(self, digest: Digest) -> Artifact | None:
        """A served file with these bytes, under whatever key."""
        return self._blobs.get(digest)

    def is_staged(self, key: MetadataKey) -> bool:
        """Whether a registration that is under way will serve this key."""
        return key in self._staged_keys

    def entries(self) -> list[HostedFile]:
        """Everything served, by key."""
        holders, served = self._holders, self._served
        return [
            HostedFile(key, served[key], tuple(holders[key]))
            for key in sorted(served)
            if key in holders
        ]

    @property
    def drifted(self) -> frozenset[Path]:
        """Sources whose files have other bytes by now than what is served."""
        return self._drifted

    def set_drifted(self, sources: frozenset[Path]) -> None:
        """Note which sources have changed; what is served does not change by that."""
        self._drifted = sources

    def register(
        self, owner: MetadataOwner, entries: Mapping[MetadataKey, Artifact]
    ) -> MetadataOwner:
        """Serve ``entries`` at once, until ``owner`` (and all others that hold them) left.

        Repeated by the same owner, it replaces that owner's files under the same keys.

        Returns:
            ``owner``: the handle to leave with.

        Raises:
            ConflictError: As ``stage``; nothing changed.
        """
        with self._lock:
            self._check(owner, entries, None)
            self._show(owner, entries, None)
        return owner

    def stage(
        self,
        owner: MetadataOwner,
        entries: Mapping[MetadataKey, Artifact],
        *,
        replaces: MetadataOwner | None = None,
    ) -> MetadataOwner:
        """Claim the keys of ``entries`` for ``owner``; nothing is served before ``publish``.

        Args:
            owner: The registration.
            entries: Its files.
            replaces: An earlier registration that leaves when this one is published.

        Returns:
            ``owner``: the handle to publish and to leave with.

        Raises:
            ConflictError: Another owner holds, or has claimed, other bytes under one of the keys;
                nothing changed.
        """
        with self._lock:
            self._check(owner, entries, replaces)
            self._set_staged({**self._staged, owner: _Staged(dict(entries), replaces)})
        return owner

    def publish(self, owner: MetadataOwner) -> None:
        """Serve what ``owner`` staged; what it replaces goes in the same step. Idempotent."""
        with self._lock:
            staged = self._staged.get(owner)
            if staged is None:
                return
            self._show(owner, staged.entries, staged.replaces)
            self._set_staged(
                {other: each for other, each in self._staged.items() if other != owner}
            )

    def unregister_for_owner(self, owner: MetadataOwner) -> int:
        """Let go of everything ``owner`` holds or has staged; what others hold stays. Idempotent.

        Returns:
            How many keys it held.
        """
        with self._lock:
            self._set_staged(
                {other: each for other, each in self._staged.items() if other != owner}
            )
            changes = self._without(owner)
            self._put(changes)
            return len(changes)

    # -- with the lock held ------------------------------------------------------------------

    def _check(
        self,
        owner: MetadataOwner,
        entries: Mapping[MetadataKey, Artifact],
        replaces: MetadataOwner | None,
    ) -> None:
        for key, artifact in entries.items():
            claims = [*self._holders.get(key, {}).items()]
            claims += [
                (other, staged.entries[key])
                for other, staged in self._staged.items()
                if key in staged.entries
            ]
            for other, held in claims:
                if other not in (owner, replaces) and held.digest != artifact.digest:
                    raise ConflictError(
                        f"metadata-registry collision on key {key}: "
                        f"prior_owner={other}, new_owner={owner}",
                        hint="two registrations of one model under one endpoint must have the same "
                        "files; give one of them another name or endpoint",
                    )

    def _show(
        self,
        owner: MetadataOwner,
        entries: Mapping[MetadataKey, Artifact],
        replaces: MetadataOwner | None,
    ) -> None:
        changes = self._without(replaces) if replaces is not None else {}
        for key, artifact in entries.items():
            holders = changes.get(key, self._holders.get(key, {}))
            changes[key] = holders | {owner: artifact}
        self._put(changes)

    def _without(self, owner: MetadataOwner) -> dict[MetadataKey, _Holders]:
        return {
            key: {other: held for other, held in holders.items() if other != owner}
            for key, holders in self._holders.items()
            if owner in holders
        }

    def _put(self, changes: Mapping[MetadataKey, _Holders]) -> None:
        """Apply new holders by key, all at once for readers."""
        merged = {**self._holders, **changes}
        self._holders = {key: holders for key, holders in merged.items() if holders}
        served = {key: next(iter(holders.values())) for key, holders in self._holders.items()}
        self._blobs = {artifact.digest: artifact for artifact in served.values()}
        self._served = served

    def _set_staged(self, staged: dict[MetadataOwner, _Staged]) -> None:
        self._staged = staged
        self._staged_keys = frozenset(key for each in staged.values() for key in each.entries)

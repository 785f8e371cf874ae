"""Which metadata files this process serves, and on whose behalf.

Pure bookkeeping: no file is opened here. Reading never takes a lock: writers copy the table, change
the copy and put it in place, so a reader sees a table before or after a change, never within.

Invariant: a key is present exactly as long as some owner registered it and has not left.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from muster.digest import Digest
from muster.errors import ConflictError
from muster.names import EndpointId

__all__ = ["BASE_SUFFIX", "Artifact", "MetadataArtifactRegistry", "MetadataKey", "MetadataOwner"]

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
    """One registration of one endpoint by one instance; a LoRA adapter is a registration of its own."""

    connection_id: int
    endpoint: EndpointId
    lora_slug: str | None = None

    def __str__(self) -> str:
        lora = f" (LoRA {self.lora_slug})" if self.lora_slug is not None else ""
        return f"{self.endpoint}/{self.connection_id:x}{lora}"


class Artifact(msgspec.Struct, frozen=True):
    """A file: where it is and, where known, the digest and size it had when registered."""

    path: Path
    digest: Digest | None = None
    size: int | None = None

    def same_content(self, other: Artifact) -> bool:
        """Whether both are known to hold the same bytes: by digest, else by path."""
        if self.digest is not None and other.digest is not None:
            return self.digest == other.digest
        return self.path == other.path


_Holders = dict[MetadataOwner, Artifact]


class MetadataArtifactRegistry:
    """Files by key, each held by one or more owners.

    Safe to use from any thread. A key held by several owners is served from the file of the one
    that has held it longest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[MetadataKey, _Holders] = {}
        self._served: dict[MetadataKey, Artifact] = {}

    def __len__(self) -> int:
        return len(self._served)

    def is_empty(self) -> bool:
        """Whether no file is registered."""
        return not self._served

    def get(self, key: MetadataKey) -> Artifact | None:
        """The file under exactly this key."""
        return self._served.get(key)

    def register(self, owner: MetadataOwner, key: MetadataKey, artifact: Artifact) -> None:
        """Serve ``artifact`` under ``key`` until ``owner`` (and all others that hold it) left.

        Repeated by the same owner, it replaces that owner's file.

        Raises:
            ConflictError: If another owner holds other content under ``key``; nothing changed.
        """
        with self._lock:
            holders = self._holders.get(key, {})
            for other, held in holders.items():
                if other != owner and not held.same_content(artifact):
                    raise ConflictError(
                        f"metadata-registry collision on key {key}: "
                        f"prior_owner={other}, new_owner={owner}",
                        hint="two registrations of one model under one endpoint must have the same "
                        "files; give one of them another name or endpoint",
                    )
            self._put({key: holders | {owner: artifact}})

    def unregister_for_owner(self, owner: MetadataOwner) -> int:
        """Let go of everything ``owner`` holds; what others hold too stays. Idempotent.

        Returns:
            How many keys it held.
        """
        with self._lock:
            changes = {
                key: {other: held for other, held in holders.items() if other != owner}
                for key, holders in self._holders.items()
                if owner in holders
            }
            self._put(changes)
            return len(changes)

    def _put(self, changes: dict[MetadataKey, _Holders]) -> None:
        """Apply new holders by key, all at once for readers. The lock is held."""
        merged = self._holders | changes
        self._holders = {key: holders for key, holders in merged.items() if holders}
        self._served = {key: next(iter(holders.values())) for key, holders in self._holders.items()}

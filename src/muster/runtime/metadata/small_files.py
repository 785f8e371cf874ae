"""Small files as they were answered last: bytes and headers, so that the next answer opens nothing.

An entry stands for a path as it was spelled, and counts only while the registry serves the same
bytes under the path's key. No descriptor is held.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from muster.digest import Digest
from muster.runtime.metadata.registry import MetadataArtifactRegistry, MetadataKey
from muster.runtime.metadata.route import parse_path

__all__ = ["KeptFile", "SmallFiles"]

_MOST_BYTES = 4 << 20
"""What is kept of bodies and paths; beyond it all is forgotten, and asked for again."""
_ENTRY_BYTES = 1024
"""What an entry takes beside its body and its path."""


class KeptFile(msgspec.Struct, frozen=True):
    """One answer: its further header lines, each with its line break, and its body."""

    key: MetadataKey
    digest: Digest
    fields: str
    body: bytes


class SmallFiles:
    """Answers by path.

    Args:
        registry: What is served now.
    """

    def __init__(self, registry: MetadataArtifactRegistry) -> None:
        self._registry = registry
        self._kept: dict[str, KeptFile] = {}
        self._bytes = 0

    def find(self, path: str) -> KeptFile | None:
        """The answer to a plain request for ``path``, if it is kept and still right."""
        kept = self._kept.get(path)
        if kept is None:
            return None
        artifact = self._registry.get(kept.key)
        return kept if artifact is not None and artifact.digest == kept.digest else None

    def keep(self, path: str, digest: Digest, headers: Mapping[str, str], body: bytes) -> None:
        """Answer a metadata path with this from now on; other paths are left alone."""
        key = parse_path(path)
        if key is None:
            return
        size = len(body) + len(path) + _ENTRY_BYTES
        if path in self._kept or self._bytes + size > _MOST_BYTES:
            self._kept.clear()
            self._bytes = 0
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._kept[path] = KeptFile(key, digest, fields, body)
        self._bytes += size

"""The list of served files."""

from __future__ import annotations

import msgspec

from muster.runtime.metadata.registry import MetadataArtifactRegistry

__all__ = ["FileEntry", "list_files"]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One served file in the list."""

    namespace: str
    component: str
    endpoint: str
    slug: str
    suffix: str
    name: str
    digest: str
    size: int
    source: str
    drifted: bool


def list_files(registry: MetadataArtifactRegistry) -> list[FileEntry]:
    """Everything served at present, by key."""
    drifted = registry.drifted
    return [
        FileEntry(
            namespace=each.key.namespace,
            component=each.key.component,
            endpoint=each.key.endpoint,
            slug=each.key.slug,
            suffix=each.key.suffix,
            name=each.key.filename,
            digest=str(each.artifact.digest),
            size=each.artifact.size_bytes,
            source=str(each.artifact.source),
            drifted=each.artifact.source in drifted,
        )
        for each in registry.entries()
    ]

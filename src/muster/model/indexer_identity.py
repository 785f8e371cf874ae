"""What makes two workers' KV block indexes interchangeable, as a card carries it."""

from __future__ import annotations

import msgspec

from muster.errors import CardError
from muster.model.strictjson.compound import Field, MapOf, Maybe, Record, if_none
from muster.model.strictjson.node import Json, Node
from muster.model.strictjson.shape import TEXT

__all__ = ["INDEXER_IDENTITY", "IndexerIdentity"]


class IndexerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Two sets of facts; a set that is there has at least one, and its keys are sorted."""

    semantics: dict[str, str] | None = None
    routing_scope: dict[str, str] | None = None


class _Facts:
    _inner = MapOf(TEXT, repeated=False)

    def read(self, node: Node, at: str) -> dict[str, str]:
        facts = self._inner.read(node, at)
        if not facts:
            raise CardError(f"{at}: explicit identity map must contain at least one entry")
        return {key: facts[key] for key in sorted(facts)}

    def write(self, value: dict[str, str]) -> Json:
        return self._inner.write({key: value[key] for key in sorted(value)})


INDEXER_IDENTITY = Record(
    "struct IndexerIdentitySpec",
    IndexerIdentity,
    Field("semantics", Maybe(_Facts()), None, omit=if_none),
    Field("routing_scope", Maybe(_Facts()), None, omit=if_none),
)

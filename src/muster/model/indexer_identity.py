"""What makes two workers' KV block indexes interchangeable, as a card carries it."""

from __future__ import annotations

import msgspec

from muster.errors import CardError
from muster.model.strictjson.compound import Field, MapOf, Maybe, Record, if_none
from muster.model.strictjson.node import Json, Node
from muster.model.strictjson.shape import TEXT

__all__ = ["INDEXER_IDENTITY", "IndexerIdentity"]


_MOST_FACTS = 32
_KEY_BYTES = 128
_VALUE_BYTES = 1024


class IndexerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Two sets of facts; a set that is there has at least one, and its keys are sorted."""

    semantics: dict[str, str] | None = None
    routing_scope: dict[str, str] | None = None


def _check(text: str, what: str, most_bytes: int, at: str) -> None:
    if not text:
        raise CardError(f"{at}: explicit identity {what} must not be empty")
    if len(text.encode()) > most_bytes:
        raise CardError(f"{at}: explicit identity {what[:80]} exceeds {most_bytes} UTF-8 bytes")


class _Facts:
    _inner = MapOf(TEXT, repeated=False)

    def read(self, node: Node, at: str) -> dict[str, str]:
        facts = self._inner.read(node, at)
        if not facts:
            raise CardError(f"{at}: explicit identity map must contain at least one entry")
        if len(facts) > _MOST_FACTS:
            raise CardError(f"{at}: explicit identity map contains more than {_MOST_FACTS} entries")
        for key, value in facts.items():
            _check(key, "key", _KEY_BYTES, at)
            _check(value, f"value for `{key}`", _VALUE_BYTES, at)
        return {key: facts[key] for key in sorted(facts)}

    def write(self, value: dict[str, str]) -> Json:
        return self._inner.write({key: value[key] for key in sorted(value)})


INDEXER_IDENTITY = Record(
    "struct IndexerIdentitySpec",
    IndexerIdentity,
    Field("semantics", Maybe(_Facts()), None, omit=if_none),
    Field("routing_scope", Maybe(_Facts()), None, omit=if_none),
)

"""What a card says in its ``"muster"`` key: facts that Dynamo 1.6.1 ignores and none of ours needs.

::

    "muster": {"identity": "blake3:<hex>",
               "blobs": "http://host:port/v1/blobs/",
               "status": "http://host:port"}

Every part is optional. Anybody may have written it, so what is not as it should be counts as absent.
"""

from __future__ import annotations

import msgspec

from muster.digest import Digest
from muster.errors import MusterError
from muster.model.strictjson.node import Json

__all__ = ["CardExtension"]


class CardExtension(msgspec.Struct, frozen=True, kw_only=True):
    """The extension of one card.

    Attributes:
        identity: See ``muster.model.identity``.
        blobs: Base URL of the worker's files by digest; ends in a slash.
        status: Base URL of the worker's status server.
    """

    identity: Digest | None = None
    blobs: str | None = None
    status: str | None = None

    @classmethod
    def read(cls, content: dict[str, Json]) -> CardExtension:
        """What ``card.muster`` says; never fails."""
        return cls(
            identity=_digest(content.get("identity")),
            blobs=_http_base(content.get("blobs"), slash=True),
            status=_http_base(content.get("status"), slash=False),
        )

    def to_json(self) -> dict[str, Json]:
        """For ``card.muster``."""
        content: dict[str, Json] = {}
        if self.identity is not None:
            content["identity"] = str(self.identity)
        if self.blobs is not None:
            content["blobs"] = self.blobs
        if self.status is not None:
            content["status"] = self.status
        return content


def _digest(value: Json) -> Digest | None:
    try:
        return Digest.parse(value) if isinstance(value, str) else None
    except MusterError:
        return None


def _http_base(value: Json, *, slash: bool) -> str | None:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        return None
    return value.rstrip("/") + ("/" if slash else "")

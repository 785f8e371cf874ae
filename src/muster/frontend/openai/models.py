"""``GET /v1/models`` and ``/v1/models/{id}``."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from muster.frontend.http.exchange import Exchange
from muster.frontend.model_table import ModelTable

__all__ = ["ModelRoutes"]

_PREFIX = "/v1/models/"


class _Model(msgspec.Struct, frozen=True):
    id: str
    created: int
    context_window: int
    object: str = "model"
    owned_by: str = "muster"


class _ModelList(msgspec.Struct, frozen=True):
    data: list[_Model]
    object: str = "list"


class ModelRoutes:
    """The handlers. An alias is an entry of its own.

    Args:
        table: The models.
    """

    def __init__(self, table: ModelTable) -> None:
        self._table = table

    async def list(self, exchange: Exchange) -> None:
        """All models that are served."""
        models = [
            _Model(name, model.created, model.context_length) for name, model in self._table.names()
        ]
        exchange.respond(200, msgspec.json.encode(_ModelList(models)))

    async def one(self, exchange: Exchange) -> None:
        """One model; slashes in its name may be sent as they are or as ``%2F``.

        Raises:
            ApiError: 404 if nobody knows it, 503 if it is registered but not served.
        """
        name = unquote(exchange.path.removeprefix(_PREFIX))
        model = self._table.get(name)
        exchange.respond(
            200, msgspec.json.encode(_Model(name, model.created, model.context_length))
        )

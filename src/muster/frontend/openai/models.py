"""``GET /v1/models`` and ``/v1/models/{id}``."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from muster.frontend.http.exchange import Exchange
from muster.frontend.model_table import ModelTable
from muster.frontend.served_model import ServedModel

__all__ = ["ModelRoutes"]

_PREFIX = "/v1/models/"

_encode = msgspec.json.Encoder().encode


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. The order of the fields is the one clients are used to, here and below."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "muster"
    context_window: int

    @classmethod
    def of(cls, name: str, model: ServedModel) -> _Model:
        return cls(id=name, created=model.created, context_window=model.context_length)


class _ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[_Model]


class ModelRoutes:
    """The handlers. An alias is an entry of its own.

    Args:
        table: The models.
    """

    def __init__(self, table: ModelTable) -> None:
        self._table = table

    async def list(self, exchange: Exchange) -> None:
        """All models that are served."""
        models = [_Model.of(name, model) for name, model in self._table.names()]
        exchange.respond(200, _encode(_ModelList(data=models)))

    async def one(self, exchange: Exchange) -> None:
        """One model; slashes in its name may be sent as they are or as ``%2F``.

        Raises:
            ApiError: 404 if nobody knows it, 503 if it is registered but not served.
        """
        name = unquote(exchange.path.removeprefix(_PREFIX))
        exchange.respond(200, _encode(_Model.of(name, self._table.get(name))))

"""``GET /v1/models``, ``/v1/models/{id}`` and ``/v1/models/{id}/ready``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.model_table import ModelTable
from muster.frontend.report import ModelReport
from muster.frontend.served_model import ServedModel
from muster.http.exchange import Exchange
from muster.model.catalog.status import ModelState

__all__ = ["AnthropicModel", "AnthropicModelList", "Model", "ModelList", "ModelRoutes", "Readiness"]

_PREFIX = "/v1/models/"
_READY = "/ready"

_encode = msgspec.json.Encoder().encode


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. The order of the fields is the one clients are used to, here and below.

    Attributes:
        parent: The base model, for a LoRA adapter whose base is served where it is.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "muster"
    context_window: int
    parent: str | msgspec.UnsetType = msgspec.UNSET


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All entries."""

    object: Literal["list"] = "list"
    data: list[Model]


class AnthropicModel(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as Anthropic's API shows it: to clients that send ``anthropic-version``."""

    id: str
    display_name: str
    type: Literal["model"] = "model"
    created_at: str
    max_input_tokens: int


class AnthropicModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All entries, on one page."""

    data: list[AnthropicModel]
    has_more: Literal[False] = False
    first_id: str | None
    last_id: str | None


class WorkersReport(msgspec.Struct, frozen=True):
    """Workers of one type that serve, and the types they need beside them."""

    workers: int
    needs: list[str]


class NamespaceReport(msgspec.Struct, frozen=True, kw_only=True):
    """A model in one namespace."""

    ready: bool
    worker_types: dict[str, WorkersReport]
    present: list[str]
    missing_worker_types: list[str] = []


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model answers requests, and who would."""

    model: str
    ready: bool
    namespaces: dict[str, NamespaceReport]


class ModelRoutes:
    """The handlers. An alias is an entry of its own, and so is a LoRA adapter.

    Args:
        table: The models.
    """

    def __init__(self, table: ModelTable) -> None:
        self._table = table

    async def list(self, exchange: Exchange) -> None:
        """All models that are served."""
        models = [self._model(name, model) for name, model in self._table.names()]
        if exchange.header(b"anthropic-version"):
            page = AnthropicModelList(
                data=[_anthropic(model) for model in models],
                first_id=models[0].id if models else None,
                last_id=models[-1].id if models else None,
            )
            exchange.respond(200, _encode(page))
        else:
            exchange.respond(200, _encode(ModelList(data=models)))

    async def one(self, exchange: Exchange) -> None:
        """One model, or whether it is ready; slashes in its name may be sent as ``%2F``.

        Raises:
            ApiError: 404 if nobody knows it, 503 if it is registered but not served.
        """
        name = unquote(exchange.path.removeprefix(_PREFIX))
        if name.endswith(_READY) and self._table.find(name) is None:
            self._answer_ready(exchange, name.removesuffix(_READY))
            return
        model = self._model(name, self._table.get(name))
        anthropic = exchange.header(b"anthropic-version")
        exchange.respond(200, _encode(_anthropic(model) if anthropic else model))

    def _answer_ready(self, exchange: Exchange, name: str) -> None:
        """200 if the model is served, 503 with the same body if it is registered only."""
        served = self._table.find(name)
        own = served.name if served is not None else name
        reports = [one for one in self._table.report().models if one.model == own]
        if served is None and not reports:
            try:
                self._table.get(name)
            except ApiError as error:
                if error.status == 404:
                    raise
        reply = readiness(name, reports, served=served is not None)
        exchange.respond(200 if reply.ready else 503, _encode(reply))

    def _model(self, name: str, model: ServedModel) -> Model:
        parent = self._parent(model) if model.lora else ""
        return Model(
            id=name,
            created=model.created,
            context_window=model.context_length,
            parent=parent or msgspec.UNSET,
        )

    def _parent(self, adapter: ServedModel) -> str:
        for model in self._table.models():
            if not model.lora and model.endpoint and model.endpoint == adapter.endpoint:
                return model.name
        return ""


def readiness(name: str, reports: list[ModelReport], *, served: bool) -> Readiness:
    """Dynamo's report of a model, from ours. Pure.

    A namespace is ready if one of its groups serves. Workers of one type answer alone here, so none
    need any beside them.

    Args:
        name: The name asked for.
        reports: What is known of the model, one for each endpoint.
        served: Whether requests are answered.
    """
    namespaces: dict[str, dict[str, int]] = {}
    for report in reports:
        if not report.worker_set:
            continue  # a record that could not be read
        namespace, _, _, _, worker_type = msgspec.json.decode(report.worker_set, type=list[str])
        ready = sum(replica.state == ModelState.SERVING.value for replica in report.replicas)
        counts = namespaces.setdefault(namespace, {})
        counts[worker_type] = counts.get(worker_type, 0) + ready
    return Readiness(
        model=name,
        ready=served,
        namespaces={
            namespace: NamespaceReport(
                ready=served and any(counts.values()),
                worker_types={kind: WorkersReport(count, []) for kind, count in counts.items()},
                present=[kind for kind, count in counts.items() if count],
            )
            for namespace, counts in namespaces.items()
        },
    )


def _anthropic(model: Model) -> AnthropicModel:
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return AnthropicModel(
        id=model.id,
        display_name=model.id,
        created_at=created,
        max_input_tokens=model.context_window,
    )

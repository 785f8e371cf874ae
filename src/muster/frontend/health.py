"""``/health`` and ``/live``: what orchestrators and people ask first."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.http.exchange import Exchange
from muster.frontend.model_table import ModelStatus, ModelTable

__all__ = ["HealthRoutes", "HealthState"]

_DRAINING = b'{"status":"not_ready","stage":"draining","message":"Service is not ready"}'
_LIVE = b'{"status":"live","message":"Service is live"}'


class HealthReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``/health``: Dynamo's three fields, then why."""

    status: str
    endpoints: list[str]
    instances: list[dict[str, Any]]  # the seven-field object of Instance.to_builtins
    models: list[ModelStatus]
    message: str = ""


class HealthState:
    """Whether the process still takes requests."""

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False


class HealthRoutes:
    """Handlers of the probes.

    Args:
        table: The models.
        state: Whether the frontend is draining.
    """

    def __init__(self, table: ModelTable, state: HealthState) -> None:
        self._table = table
        self._state = state

    async def live(self, exchange: Exchange) -> None:
        """200 while the process takes requests, 503 while it drains."""
        if self._state.draining:
            exchange.respond(503, _DRAINING)
        else:
            exchange.respond(200, _LIVE)

    async def health(self, exchange: Exchange) -> None:
        """200 ``healthy`` or ``degraded``; 503 when none is served of what is, or may be, registered."""
        if self._state.draining:
            exchange.respond(503, _DRAINING)
            return
        reply = self._judge()
        status = 503 if reply.status == "unavailable" else 200
        exchange.respond(status, msgspec.json.encode(reply))

    def _judge(self) -> HealthReply:
        served = self._table.models()
        unserved = self._table.unserved()
        instances = sorted(self._table.instances())
        reasons = [_explain(one) for one in unserved]
        trouble = self._table.trouble()
        if trouble:
            reasons.insert(0, trouble)
        status = "degraded" if served else "unavailable"
        return HealthReply(
            status=status if reasons else "healthy",
            endpoints=list(dict.fromkeys(one.endpoint_id.url for one in instances)),
            instances=[one.to_builtins() for one in instances],
            models=list(self._table.statuses()),
            message="; ".join(reasons),
        )


def _explain(status: ModelStatus) -> str:
    why = " ".join(
        part for part in (status.reason and f"({status.reason})", status.message) if part
    )
    return f"{status.model} is {status.state}" + (f" {why}" if why else "")

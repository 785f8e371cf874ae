"""``/health`` and ``/live``: what orchestrators and people ask first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.report import ProcessReport, RegistryReport
from muster.http.exchange import Exchange

__all__ = ["DRAINING", "HealthRoutes", "HealthState", "Others", "Verdict", "judge", "worst"]

_DRAINING = b'{"status":"not_ready","stage":"draining","message":"Service is not ready"}'
_LIVE = b'{"status":"live","message":"Service is live"}'


DRAINING = "draining"
"""The status of a process that takes no new requests."""
_BAD = ("healthy", "degraded", "unavailable")


def _alone() -> Iterable[tuple[int, Verdict]]:
    return ()


class HealthReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``/health``: Dynamo's three fields, then why.

    ``registry`` is there while the registry is out of reach and the fleet as it was seen last.
    """

    status: str
    endpoints: list[str]
    instances: list[dict[str, Any]]  # the seven-field object of Instance.to_builtins
    models: list[ModelStatus]
    message: str = ""
    registry: RegistryReport | None = None


class Verdict(NamedTuple):
    """The word of ``/health``, and why it is not ``healthy``."""

    status: str
    message: str


def judge(
    served: Collection[str], unserved: Sequence[ModelStatus], required: Sequence[str], trouble: str
) -> Verdict:
    """``healthy``; ``degraded`` while something registered is not served; else ``unavailable``.

    ``unavailable``, which is 503, only if nothing at all is served of what is registered, or a model
    that somebody requires is not: one bad card must not take a frontend out of rotation.

    Args:
        served: Names and aliases that are served.
        unserved: What is registered and not served.
        required: Names without which this frontend is of no use.
        trouble: Why there may be models nobody here knows of; empty if there is no such reason.
    """
    missing = [name for name in required if name not in served]
    reasons = [f"{name!r} is required and not served" for name in missing]
    if trouble:
        reasons.append(trouble)
    reasons += [_explain(one) for one in unserved]
    if not reasons:
        return Verdict("healthy", "")
    usable = bool(served) and not missing
    return Verdict("degraded" if usable else "unavailable", "; ".join(reasons))


def worst(own: Verdict, others: Iterable[tuple[int, Verdict]]) -> Verdict:
    """The verdict of several processes together: one of them answers the next connection.

    Args:
        own: That of the process that answers.
        others: Those of the others, by number. What they say besides is said with their number.
    """
    status, messages = own.status, [own.message] if own.message else []
    for number, verdict in others:
        if verdict.status == DRAINING:
            continue  # it takes no more connections
        status = max(status, verdict.status, key=_BAD.index)
        if verdict.message and verdict.message != own.message:
            messages.append(f"process {number}: {verdict.message}")
    return Verdict(status, "; ".join(messages))


Others = Callable[[], Iterable[tuple[int, Verdict]]]
"""Gives the verdicts of other processes, by number."""


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
        required: Models without which ``/health`` is 503.
        others: Gives the verdicts of other processes of this frontend, by number.
        processes: Gives the report of all of them, if it is several.
    """

    def __init__(
        self,
        table: ModelTable,
        state: HealthState,
        *,
        required: Sequence[str] = (),
        others: Others | None = None,
        processes: Callable[[], tuple[ProcessReport, ...]] | None = None,
    ) -> None:
        self._table = table
        self._state = state
        self._required = required
        self._others = others if others is not None else _alone
        self._processes = processes

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

    async def models(self, exchange: Exchange) -> None:
        """``GET /v1/muster/models``: what has become of every model and replica; see ``FleetReport``."""
        verdict = self._verdict()
        report = msgspec.structs.replace(
            self._table.report(), status=verdict.status, message=verdict.message
        )
        if self._processes is not None:
            report = msgspec.structs.replace(report, processes=self._processes())
        exchange.respond(200, msgspec.json.encode(report))

    def verdict(self) -> Verdict:
        """What this process alone says."""
        return Verdict(DRAINING, "") if self._state.draining else self._own()

    def _own(self) -> Verdict:
        served = {name for name, _ in self._table.names()}
        return judge(served, self._table.unserved(), self._required, self._table.registry.trouble())

    def _verdict(self) -> Verdict:
        return worst(self._own(), self._others())

    def _judge(self) -> HealthReply:
        instances = sorted(self._table.instances())
        verdict = self._verdict()
        return HealthReply(
            status=verdict.status,
            endpoints=list(dict.fromkeys(one.endpoint_id.url for one in instances)),
            instances=[one.to_builtins() for one in instances],
            models=list(self._table.statuses()),
            message=verdict.message,
            registry=self._table.registry.report(),
        )


def _explain(status: ModelStatus) -> str:
    why = " ".join(
        part for part in (status.reason and f"({status.reason})", status.message) if part
    )
    return f"{status.model} is {status.state}" + (f" {why}" if why else "")

"""How a process is: the state of each endpoint it serves, and what follows for the whole.

Everything here is a decision about values. Who serves endpoints, probes them or talks to the
registry tells the board; the status server asks it for a report.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping

import msgspec

from muster.names import EndpointId

__all__ = ["EndpointHealth", "HealthBoard", "HealthReport", "Presence", "StaleRegistry"]

_SET = "set_health_status(False) was called"
_UNPROVEN = "no request has been answered yet, and the canary has not run"


class Presence(enum.Enum):
    """Whether callers can find an endpoint in the registry."""

    STARTING = "starting"
    REGISTERED = "registered"
    WITHDRAWN = "withdrawn"


class EndpointHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: whether callers find it, and whether its engine answers.

    The two are kept apart because they end independently: an engine that answers again does not
    bring back an instance that was withdrawn.

    Args:
        presence: Where it stands with the registry.
        note: Why it stands there, if there is more to say than the word.
        fault: What speaks against its engine; ``None`` if nothing does.
    """

    presence: Presence = Presence.STARTING
    note: str = ""
    fault: str | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self.presence is Presence.REGISTERED and self.fault is None

    @property
    def reason(self) -> str:
        """Why it is not ready; empty if it is."""
        parts = []
        if self.presence is not Presence.REGISTERED:
            parts.append(
                f"{self.presence.value}: {self.note}" if self.note else self.presence.value
            )
        if self.fault is not None:
            parts.append(self.fault)
        return "; ".join(parts)


class StaleRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """The registry cannot be reached: what is known of the fleet is as old as this says.

    Args:
        stale_since: RFC 3339 in UTC.
        reason: What goes wrong.
    """

    stale_since: str
    reason: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is at one moment.

    Args:
        ready: Whether it takes requests.
        uptime_s: How long it has run.
        endpoints: By short name, whether it is ready; of two endpoints with the same short name in
            different components the worse counts.
        reasons: Why ``ready`` is false, endpoints by their full path; empty if it is true.
        instance_id: The process's identity in the registry.
        registry: Set while the registry cannot be reached, which makes nobody unready.
    """

    ready: bool
    uptime_s: float
    endpoints: Mapping[str, bool]
    reasons: tuple[str, ...] = ()
    instance_id: int | None = None
    registry: StaleRegistry | None = None


class HealthBoard:
    """What is known of this process's health.

    The process is ready while it serves at least one endpoint and every one is ready. One that
    serves none is what ``starting_ready`` says. ``override`` replaces this, but hides neither an
    engine that does not answer nor a shutdown.

    Args:
        starting_ready: Whether a process without endpoints counts as ready.
        instance_id: Shown in reports.
    """

    def __init__(self, *, starting_ready: bool = False, instance_id: int | None = None) -> None:
        self._starting_ready = starting_ready
        self._instance_id = instance_id
        self._endpoints: dict[EndpointId, EndpointHealth] = {}
        self._override: bool | None = None
        self._ending: str | None = None
        self._registry: StaleRegistry | None = None

    def get(self, endpoint: EndpointId) -> EndpointHealth | None:
        """The state of an endpoint; ``None`` if the board does not know it."""
        return self._endpoints.get(endpoint)

    def add(self, endpoint: EndpointId, *, proven: bool = True) -> None:
        """An endpoint is about to be served.

        Args:
            endpoint: Its id; one known already begins anew.
            proven: False for an endpoint that is not ready before its engine has answered once.
        """
        self._endpoints[endpoint] = EndpointHealth(fault=None if proven else _UNPROVEN)

    def remove(self, endpoint: EndpointId) -> None:
        """An endpoint is not served any more; a no-op if the board does not know it."""
        self._endpoints.pop(endpoint, None)

    def registered(self, endpoint: EndpointId) -> None:
        """Its instance is in the registry."""
        self._change(endpoint, presence=Presence.REGISTERED, note="")

    def withdrawn(self, endpoint: EndpointId, note: str = "") -> None:
        """Its instance was taken out of the registry."""
        self._change(endpoint, presence=Presence.WITHDRAWN, note=note)

    def probed(self, endpoint: EndpointId, fault: str | None) -> None:
        """Its engine answered (``None``), or did not and why."""
        self._change(endpoint, fault=fault)

    def override(self, ready: bool | None) -> None:
        """Say what the process is, whatever its endpoints' places in the registry; ``None`` ends it."""
        self._override = ready

    def shut_down(self, reason: str = "shutting down") -> None:
        """The process is ending and is not ready any more, for good."""
        self._ending = self._ending or reason

    def registry_stale(self, since_wall_s: float, reason: str) -> None:
        """The registry cannot be reached since this moment of the wall clock."""
        since = datetime.datetime.fromtimestamp(since_wall_s, datetime.UTC)
        text = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._registry = StaleRegistry(stale_since=text, reason=reason)

    def registry_fresh(self) -> None:
        """The registry is reached again."""
        self._registry = None

    def report(self, uptime_s: float) -> HealthReport:
        """How the process is now."""
        reasons = self._reasons()
        endpoints: dict[str, bool] = {}
        for endpoint, health in self._endpoints.items():
            ready = health.ready and self._ending is None
            endpoints[endpoint.name] = endpoints.get(endpoint.name, True) and ready
        return HealthReport(
            ready=not reasons,
            uptime_s=uptime_s,
            endpoints=endpoints,
            reasons=reasons,
            instance_id=self._instance_id,
            registry=self._registry,
        )

    def _reasons(self) -> tuple[str, ...]:
        """Everything that keeps the process from being ready."""
        if self._ending is not None:
            return (self._ending,)
        if self._override:
            return tuple(
                f"{endpoint}: {health.fault}"
                for endpoint, health in self._endpoints.items()
                if health.fault is not None
            )
        reasons = [
            f"{endpoint}: {health.reason}"
            for endpoint, health in self._endpoints.items()
            if not health.ready
        ]
        if self._override is False:
            reasons.insert(0, _SET)
        elif not self._endpoints and not self._starting_ready:
            reasons.append("no endpoint is served")
        return tuple(reasons)

    def _change(self, endpoint: EndpointId, **values: object) -> None:
        """Set fields of an endpoint; late news of one that is gone says nothing."""
        health = self._endpoints.get(endpoint)
        if health is not None:
            self._endpoints[endpoint] = msgspec.structs.replace(health, **values)

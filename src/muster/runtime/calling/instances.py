"""The live instances of one endpoint, as this process sees them.

Three sets, each with a reason for what it leaves out: *discovered* (in the registry), *routable*
(reachable by a transport we speak and not avoided after a failure), and *free* (routable and not
full, sorted by id, ready for a chooser).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import msgspec

from muster.discovery.records import Instance
from muster.errors import CannotConnect, MusterError, Overloaded
from muster.runtime.calling.in_flight import InFlight, is_dead, speaks_against
from muster.wire.targets import Target, read_target

__all__ = ["InstanceSet", "Member"]


class Member(msgspec.Struct, frozen=True):
    """An instance, and where its requests go; without a target it cannot be reached, and why."""

    instance: Instance
    target: Target | None
    reason: str = ""

    @classmethod
    def of(cls, instance: Instance, spoken: Collection[str]) -> Member:
        """Read the instance's address; ``spoken`` are the transports this process can call."""
        transport = instance.transport
        try:
            target = read_target(
                transport.kind, transport.address, instance.request_plane_codec, spoken=spoken
            )
        except CannotConnect as error:
            return cls(instance, None, str(error))
        return cls(instance, target)


class _Avoided(msgspec.Struct, frozen=True):
    until: float
    failure: MusterError


class InstanceSet:
    """Decides who may get a request; no I/O, and time is asked of ``now``.

    An instance whose request failed is avoided for a fixed time. That does not grow when it fails
    again: a worker that is gone for good leaves the registry by itself, and one that is back should
    not wait longer than the setting says.

    Args:
        now: Time in seconds from an arbitrary start.
        inhibit_s: How long an instance is avoided after a failure; 0 never avoids.
        overloaded_s: How long an instance that refused a request for want of room counts as full,
            if no request on it ends earlier; 0 never.
        spoken: The transports this process can call.

    Attributes:
        members: All discovered instances by id.
        loads: What is under way at each of them, and at those that left before it ended.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        inhibit_s: float,
        overloaded_s: float = 0.0,
        spoken: Collection[str] = ("tcp",),
    ) -> None:
        self._now = now
        self._spoken = spoken
        self._inhibit_s = inhibit_s
        self._overloaded_s = overloaded_s
        self._avoided: dict[int, _Avoided] = {}
        self._full: dict[int, float] = {}
        self._orphans: set[int] = set()
        self._routable: tuple[int, ...] = ()
        self._free: tuple[int, ...] = ()
        self._excluded: tuple[int, ...] = ()
        self._sorted: tuple[Instance, ...] | None = None
        self._recheck = math.inf
        self.members: dict[int, Member] = {}
        self.loads: dict[int, InFlight] = {}

    # -- what happens ------------------------------------------------------------------------

    def put(self, instance: Instance) -> None:
        """An instance is there, or has changed; only a change forgets what it was avoided for."""
        instance_id = instance.instance_id
        known = self.members.get(instance_id)
        if known is not None and known.instance == instance:
            return
        self.members[instance_id] = Member.of(instance, self._spoken)
        self._sorted = None
        load = self.loads.get(instance_id)
        if load is None:
            load = self.loads[instance_id] = InFlight(instance_id, self._ended)
        load.device_type = instance.device_type
        self._forget(instance_id)
        self._orphans.discard(instance_id)
        for orphan in [*self._orphans]:
            if orphan in self.loads:
                self.loads[orphan].left()

    def remove(self, instance_id: int) -> None:
        """An instance is gone; a no-op if it was not there.

        What is under way there and has somewhere else to go goes there, now or when somebody else
        appears: see ``InFlight.left``.
        """
        if self.members.pop(instance_id, None) is None:
            return
        self._sorted = None
        self._forget(instance_id)
        self._orphans.add(instance_id)
        self.loads[instance_id].left()
        self._drop_unused(instance_id)

    def forgive(self, instance_id: int) -> None:
        """An instance that was avoided runs a request: it is not avoided any more."""
        if instance_id in self._avoided:
            self._forget(instance_id)

    def _ended(
        self, instance_id: int, failure: MusterError | None, reported: bool, had_place: bool
    ) -> None:
        """A request has ended, or could not be sent; see ``InFlight``."""
        if instance_id not in self.members:
            self._drop_unused(instance_id)
            return
        if isinstance(failure, Overloaded) and not reported:
            if self._overloaded_s > 0:
                self._full[instance_id] = self._now() + self._overloaded_s
                self._recheck = -math.inf
        elif had_place and instance_id in self._full:
            del self._full[instance_id]
            self._recheck = -math.inf
        if failure is not None and speaks_against(failure, reported=reported):
            self._avoid(instance_id, failure)

    def _avoid(self, instance_id: int, failure: MusterError) -> None:
        if self._inhibit_s > 0:
            self._avoided[instance_id] = _Avoided(self._now() + self._inhibit_s, failure)
            self._recheck = -math.inf

    def _forget(self, instance_id: int) -> None:
        self._avoided.pop(instance_id, None)
        self._full.pop(instance_id, None)
        self._recheck = -math.inf

    def _drop_unused(self, instance_id: int) -> None:
        load = self.loads.get(instance_id)
        if load is not None and not load.count:
            del self.loads[instance_id]
            self._orphans.discard(instance_id)

    # -- who is left -------------------------------------------------------------------------

    def instances(self) -> tuple[Instance, ...]:
        """All discovered instances, sorted by path; the same object while they are the same."""
        if self._sorted is None:
            # By a key: comparing two instances makes the texts of both.
            self._sorted = tuple(
                sorted((member.instance for member in self.members.values()), key=str)
            )
        return self._sorted

    def free(self) -> tuple[int, ...]:
        """Ids that may get a request now, sorted; the same object while nothing changes."""
        now = self._now()
        if now >= self._recheck:
            self._recount(now)
        return self._free

    def routable(self) -> tuple[int, ...]:
        """As ``free``, and those that are full."""
        self.free()
        return self._routable

    def last_resort(self, among: Collection[int]) -> int | None:
        """The first to be no longer avoided, among these; for when nobody is routable.

        A fleet of one worker that broke one response must not be away for seconds. Who does not
        answer at its address is left out: trying it again could only make the caller wait.
        """
        self.free()
        found = [
            (avoided.until, instance_id)
            for instance_id, avoided in self._avoided.items()
            if instance_id in among
            and self.members[instance_id].target is not None
            and not is_dead(avoided.failure)
        ]
        return min(found)[1] if found else None

    def next_return(self) -> float | None:
        """When the first avoided instance is routable again; ``None`` if none is avoided."""
        return min((avoided.until for avoided in self._avoided.values()), default=None)

    def exclusions(self) -> dict[int, str]:
        """Why each discovered instance that is not free is not, by id."""
        self.free()
        now = self._now()
        # Asked for each group of a fleet every second: it must not cost a look at every instance.
        return {key: self._reason(key, now) for key in self._excluded}

    def _reason(self, instance_id: int, now: float) -> str:
        member = self.members[instance_id]
        if member.target is None:
            return member.reason
        avoided = self._avoided.get(instance_id)
        if avoided is not None:
            left = avoided.until - now
            return f"avoided for {left:.1f} s after a failure: {avoided.failure.message}"
        left = self._full[instance_id] - now
        return f"full: it refused a request; tried again in {left:.1f} s"

    def _recount(self, now: float) -> None:
        self._avoided = {key: each for key, each in self._avoided.items() if each.until > now}
        self._full = {key: until for key, until in self._full.items() if until > now}
        self._routable = tuple(
            sorted(
                key
                for key, member in self.members.items()
                if member.target is not None and key not in self._avoided
            )
        )
        self._free = tuple(key for key in self._routable if key not in self._full)
        free = set(self._free)
        self._excluded = tuple(sorted(key for key in self.members if key not in free))
        untils = [*self._full.values(), *(each.until for each in self._avoided.values())]
        self._recheck = min(untils, default=math.inf)

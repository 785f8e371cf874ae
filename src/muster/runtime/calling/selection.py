"""Who gets a client's next request, and what is said when nobody can."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from muster.errors import MusterError, Overloaded, WorkerUnavailable
from muster.names import EndpointId
from muster.runtime.calling.choosers import Chooser, RouterMode, chooser_for
from muster.runtime.calling.instance_source import InstanceSource

__all__ = ["Selection"]

_NOBODY: frozenset[int] = frozenset()


class Selection:
    """A client's choosers over the instances of its endpoint.

    Args:
        endpoint: The endpoint.
        source: Its instances.
    """

    def __init__(self, endpoint: EndpointId, source: InstanceSource) -> None:
        self.endpoint = endpoint
        self.source = source
        self._set = source.set
        self._choosers: dict[RouterMode, Chooser] = {}
        self._narrowed: tuple[tuple[int, ...], frozenset[int], tuple[int, ...]] = ((), _NOBODY, ())

    def free(self, among: frozenset[int] | None) -> tuple[int, ...]:
        """Ids, sorted, that may get a request now: of all, or only those in ``among``.

        Narrowing is remembered while nothing changes.
        """
        free = self._set.free()
        if among is None:
            return free
        was_free, was_among, narrowed = self._narrowed
        if was_free is not free or was_among is not among:
            narrowed = tuple(instance_id for instance_id in free if instance_id in among)
            self._narrowed = (free, among, narrowed)
        return narrowed

    def next(
        self, mode: RouterMode, among: frozenset[int] | None, tried: Collection[int]
    ) -> int | None:
        """Who is asked next: one that is free, or else a last resort; ``None`` if nobody is left.

        Raises:
            InvalidArgument: ``mode`` is ``direct``.
        """
        chooser = self._choosers.get(mode)
        if chooser is None:
            ratio = self.source.settings.cuda_to_cpu_ratio
            chooser = self._choosers[mode] = chooser_for(mode, cuda_to_cpu_ratio=ratio)
        free = self.free(among)
        if tried:
            free = tuple(instance_id for instance_id in free if instance_id not in tried)
        if free:
            return chooser(free, self._set.loads)
        if not set(self._routable(among)) <= set(tried):
            return None
        return self._set.last_resort(self._members(among) - set(tried))

    def has_other(self, among: frozenset[int] | None, tried: Collection[int]) -> bool:
        """Whether somebody is free who has not been tried."""
        return any(instance_id not in tried for instance_id in self.free(among))

    def exclusions(self, among: frozenset[int] | None = None) -> dict[int, str]:
        """Why each discovered instance that gets no requests now does not, by id."""
        excluded = self._set.exclusions()
        if among is None:
            return excluded
        return {key: reason for key, reason in excluded.items() if key in among}

    def nobody(self, among: frozenset[int] | None = None, when: str = "now") -> MusterError:
        """The error when nobody can be asked: says who was seen and why each does not count."""
        excluded = self.exclusions(among)
        reasons = "; ".join(
            [
                *(f"{key:x}: {reason}" for key, reason in excluded.items()),
                *(f"{key}: {reason}" for key, reason in self.source.skipped.items()),
            ]
        )
        if self._routable(among):
            return Overloaded(f"All workers are busy, please retry later ({reasons})")
        if excluded:
            return WorkerUnavailable(
                f"no instance of endpoint {self.endpoint} can be reached {when} ({reasons})"
            )
        seen = f" (records that cannot be used: {reasons})" if reasons else ""
        return WorkerUnavailable(
            f"no instances found for endpoint {self.endpoint} {when}{seen}",
            hint="start a worker that serves it, on the same registry",
        )

    def failed(
        self, tried: Mapping[int, MusterError], among: frozenset[int] | None = None
    ) -> MusterError:
        """The error after these were asked in vain: a single failure itself, or all in one.

        Its class is the last one's, or ``Overloaded`` if anybody was merely full: trying later may
        help then.
        """
        *_, last = failures = list(tried.values())
        free = set(self.free(among))
        full = [key for key in self._routable(among) if key not in tried and key not in free]
        if len(failures) == 1 and not full:
            return last
        excluded = self.exclusions(among)
        reasons = {key: failure.message for key, failure in tried.items()}
        reasons |= {key: excluded[key] for key in full}
        each = "; ".join(f"{key:x}: {reason}" for key, reason in reasons.items())
        if full or any(isinstance(failure, Overloaded) for failure in failures):
            return Overloaded(f"All workers are busy, please retry later ({each})")
        return type(last)(
            f"none of {len(tried)} instances of endpoint {self.endpoint} took the request ({each})",
            hint=last.hint,
        )

    def _routable(self, among: frozenset[int] | None) -> tuple[int, ...]:
        routable = self._set.routable()
        return routable if among is None else tuple(key for key in routable if key in among)

    def _members(self, among: frozenset[int] | None) -> set[int]:
        members = self._set.members.keys()
        return set(members) if among is None else members & among

"""What a process knows of the others of its frontend, from what the supervisor passes on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from muster.frontend.health import Verdict
from muster.frontend.processes.messages import Gone, Seen, Tally
from muster.frontend.processes.tallies import active_of
from muster.frontend.report import ProcessReport

__all__ = ["Others"]


class Others:
    """The other processes that run, up to a second old, and what those counted that have ended."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._tallies: dict[int, dict[str, Tally]] = {}
        self._past: dict[str, Tally] = {}

    def seen(self, message: Seen) -> None:
        """Another process lives; of its counts those are new that are told."""
        self._seen[message.process] = message
        self._tallies.setdefault(message.process, {}).update(message.tick.tallies)

    def gone(self, message: Gone) -> None:
        """Another process has ended."""
        self._seen.pop(message.process, None)
        self._tallies.pop(message.process, None)
        self._past |= message.past

    def tallies(self) -> list[Mapping[str, Tally]]:
        """The counts of each of them, by model, and of all that have ended."""
        return [*self._tallies.values(), self._past]

    def verdicts(self) -> Sequence[tuple[int, Verdict]]:
        """What they say of their health, by number."""
        return [
            (number, Verdict(seen.tick.status, seen.tick.message))
            for number, seen in sorted(self._seen.items())
        ]

    def reports(self) -> list[ProcessReport]:
        """How they do, in no order."""
        return [
            ProcessReport(
                process=number,
                pid=seen.pid,
                status=seen.tick.status,
                message=seen.tick.message,
                restarts=seen.restarts,
                active=active_of(self._tallies.get(number, {}).values()),
            )
            for number, seen in self._seen.items()
        ]

"""Where one prompt went: the instances that had it, why it left them, and since when."""

from __future__ import annotations

import msgspec

__all__ = ["Journey", "Leg"]


class Leg(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An instance that lost a request.

    Attributes:
        instance: Its id, in hexadecimal as in the registry.
        code: The failure's code.
        tokens: How many tokens of the answer had come by then.
    """

    instance: str
    code: str
    tokens: int = 0


class Journey:
    """Notes of the way of one prompt; written by its stream, read for ``x-muster-trace``.

    Attributes:
        instance_id: Where it is, or was last; ``None`` before anybody has taken it.
        cohort: Digest of the card that it was prepared with; empty if unknown.
        taken_at: When an instance first took it, in the event loop's seconds; ``None`` before.
        lost: The instances that had it before, in order.
        session: ``home`` if it went to its session's instance, ``away`` if that could not take it;
            empty without a session.
    """

    __slots__ = ("cohort", "instance_id", "lost", "session", "taken_at")

    def __init__(self, cohort: str = "") -> None:
        self.cohort = cohort
        self.instance_id: int | None = None
        self.taken_at: float | None = None
        self.lost: list[Leg] = []
        self.session = ""

    @property
    def attempts(self) -> int:
        """How many instances were asked."""
        return len(self.lost) + (self.instance_id is not None)

    def facts(self) -> dict[str, object]:
        """What ``x-muster-trace`` says of it; names no empty ones."""
        found: dict[str, object] = {
            "instance": None if self.instance_id is None else f"{self.instance_id:x}",
            "cohort": self.cohort,
            "attempts": self.attempts,
        }
        if self.session:
            found["session"] = self.session
        if self.lost:
            found["lost"] = self.lost
        return found

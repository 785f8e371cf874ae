"""What became of the requests of a load, one by one and in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import msgspec

from muster.testing.replies import Ending

__all__ = ["Lost", "Outcome", "Summary"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request.

    Attributes:
        ending: How it ended.
        streamed: Whether it was to be streamed.
        status: HTTP's; 0 if there was none.
        code: The error's, if it is one.
        message: The error's, or what is wrong with the reply.
        began: By the monotonic clock.
        seconds: How long it took, attempts on other frontends included.
    """

    ending: Ending
    streamed: bool
    status: int = 0
    code: str = ""
    message: str = ""
    began: float
    seconds: float


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that was refused or broke; its request was sent to the next frontend.

    Attributes:
        url: The frontend.
        began: When the attempt began, by the monotonic clock.
        at: When it failed.
        reason: What the client saw.
    """

    url: str
    began: float
    at: float
    reason: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes in numbers; as text, one line.

    Attributes:
        requests: All of them.
        answers: Those that were answered in full.
        streams: How many answers were streams.
        errors: Clear errors by status and code.
        broken: Replies that were neither.
        late: Requests that did not end within their deadline.
        retries: Connections lost; each was tried again elsewhere.
        slowest_s: The longest a request took.
    """

    requests: int
    answers: int
    streams: int
    errors: dict[str, int]
    broken: int
    late: int
    retries: int
    slowest_s: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], lost: Sequence[Lost] = ()) -> Self:
        """Count them."""
        endings = Counter(outcome.ending for outcome in outcomes)
        errors = Counter(
            f"{outcome.status} {outcome.code}".rstrip()
            for outcome in outcomes
            if outcome.ending is Ending.ERROR
        )
        answers = [outcome for outcome in outcomes if outcome.ending is Ending.ANSWER]
        return cls(
            requests=len(outcomes),
            answers=len(answers),
            streams=sum(outcome.streamed for outcome in answers),
            errors=dict(sorted(errors.items())),
            broken=endings[Ending.BROKEN],
            late=endings[Ending.LATE],
            retries=len(lost),
            slowest_s=max((outcome.seconds for outcome in outcomes), default=0.0),
        )

    def __str__(self) -> str:
        errors = ", ".join(f"{count} x {code}" for code, count in self.errors.items()) or "none"
        return (
            f"{self.requests} requests: {self.answers} answers ({self.streams} streamed), "
            f"errors: {errors}, broken: {self.broken}, late: {self.late}, "
            f"connections lost and retried: {self.retries}, slowest {self.slowest_s:.1f} s"
        )

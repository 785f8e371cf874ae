"""How sources have done lately: who is to be left alone for a while, and who is good. Pure.

A source is a scheme, host and port. After each failure in a row it is left alone for twice as long,
from half a second to half a minute; what it says itself (``Retry-After``) counts instead.
"""

from __future__ import annotations

import dataclasses

__all__ = ["Score", "Scoreboard"]

_FIRST_S = 0.5
_MOST_S = 30.0


@dataclasses.dataclass(slots=True)
class Score:
    """One source's record.

    Attributes:
        failures: In a row.
        resting_until: Not to be asked before, if anybody else can be; on the caller's clock.
        rate: Bytes per second at its last success; 0 if there was none.
    """

    failures: int = 0
    resting_until: float = 0.0
    rate: float = 0.0


class Scoreboard:
    """Scores by source. Not shared between threads."""

    def __init__(self) -> None:
        self._scores: dict[str, Score] = {}

    def score(self, source: str) -> Score:
        """A source's score; a new one has a clean record."""
        return self._scores.get(source, Score())

    def succeeded(self, source: str, *, size_bytes: int, seconds: float) -> None:
        """It gave a whole file, or the rest of one, with the right bytes."""
        rate = size_bytes / seconds if seconds > 0 else 0.0
        self._scores[source] = Score(rate=rate)

    def failed(self, source: str, *, now: float, retry_after_s: float | None = None) -> None:
        """It did not give a file, or gave other bytes."""
        score = self._scores.setdefault(source, Score())
        score.failures += 1
        pause_s = min(_FIRST_S * 2 ** min(score.failures - 1, 10), _MOST_S)
        if retry_after_s is not None:
            pause_s = min(retry_after_s, _MOST_S)
        score.resting_until = now + pause_s

    def is_resting(self, source: str, now: float) -> bool:
        """Whether it is to be left alone at ``now``."""
        return self.score(source).resting_until > now

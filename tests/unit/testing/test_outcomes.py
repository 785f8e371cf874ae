"""What the load generator says of its requests in numbers."""

from __future__ import annotations

from typing import Any

from muster.testing.outcomes import Lost, Outcome, Summary
from muster.testing.replies import Ending


def test_a_summary_counts_every_outcome_once() -> None:
    def outcome(ending: Ending, seconds: float, **more: Any) -> Outcome:
        return Outcome(ending=ending, began=0.0, seconds=seconds, **({"streamed": False} | more))

    outcomes = [
        outcome(Ending.ANSWER, 1.0, streamed=True, status=200),
        outcome(Ending.ANSWER, 2.0, status=200),
        outcome(Ending.ERROR, 0.5, status=503, code="disconnected"),
        outcome(Ending.ERROR, 0.5, status=429),
        outcome(Ending.BROKEN, 0.5, status=200),
        outcome(Ending.LATE, 30.0),
    ]
    summary = Summary.of(outcomes, [Lost(url="http://one", began=0.0, at=1.0, reason="reset")])
    assert summary == Summary(
        requests=6,
        answers=2,
        streams=1,
        errors={"429": 1, "503 disconnected": 1},
        broken=1,
        late=1,
        retries=1,
        slowest_s=30.0,
    )
    assert "errors: 1 x 429, 1 x 503 disconnected" in str(summary)
    assert Summary.of([]).requests == 0

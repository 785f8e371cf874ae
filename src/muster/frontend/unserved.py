"""Models that are known and not served, for who asks for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from muster.frontend.model_table import ModelStatus
from muster.model.catalog.status import ModelState
from muster.model.catalog.status import ModelStatus as CardStatus

__all__ = ["unserved_models"]


def unserved_models(statuses: Iterable[CardStatus], *, now: float) -> list[ModelStatus]:
    """What has become of each card that is not served.

    Args:
        statuses: Of all cards.
        now: Monotonic time, in which retries are planned.
    """
    found = []
    for status in statuses:
        if status.state is ModelState.SERVING:
            continue
        message = status.message
        if status.state is ModelState.FETCHING and not message:
            message = f"{status.files_done} of {status.files_total} files"
        if status.retry_at is not None:
            pause = max(0.0, status.retry_at - now)
            message += f" (attempt {status.attempt}, next in {pause:.0f} s)"
        found.append(
            ModelStatus(
                model=status.model,
                state=status.state,
                reason=status.code,
                message=message,
                mdcsum=status.mdcsum or "",
            )
        )
    return found

"""An answer's stream that goes on at another instance when the one that gives it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from muster.errors import MusterError, Overloaded
from muster.frontend.journey import Journey, Leg
from muster.frontend.migration import Progress
from muster.frontend.migration_metrics import MigrationMetrics
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.log import facts
from muster.runtime.calling.response import Response
from muster.wire.items import Annotated

__all__ = ["MovingStream", "Reopen"]

logger = logging.getLogger(__name__)


class Reopen(Protocol):
    """Sends what is left of a request to another instance."""

    async def __call__(
        self, request: EngineRequest, *, lost: frozenset[int], moves: int
    ) -> Response[EngineOutput]:
        """Return the response once a worker runs it.

        Args:
            request: What is left.
            lost: Instances that had it before.
            moves: How often it may move before its first item.

        Raises:
            MusterError: Nobody takes it.
        """
        ...


class MovingStream:
    """The items of a response, and of those that continue it; see ``ResponseStream``.

    Args:
        response: The first response.
        progress: What has come of it, and when it may move.
        reopen: How it moves.
        metrics: Where moves are counted.
        journey: Where they are noted.
    """

    __slots__ = (
        "_failed_at",
        "_failures",
        "_fresh",
        "_killed",
        "_kind",
        "_lost",
        "_metrics",
        "_progress",
        "_reopen",
        "_response",
        "_told_long",
        "journey",
    )

    def __init__(
        self,
        response: Response[EngineOutput],
        progress: Progress,
        reopen: Reopen,
        metrics: MigrationMetrics,
        journey: Journey,
    ) -> None:
        self._response = response
        self._progress = progress
        self._reopen = reopen
        self._metrics = metrics
        self._lost: set[int] = set()
        self._failures: list[tuple[int, MusterError]] = []
        self._failed_at: float | None = None
        self._kind = ""
        self._fresh = True
        self._killed = False
        self._told_long = False
        self.journey = journey

    async def batch(self) -> Sequence[EngineOutput]:
        """All items that have arrived, at least one; empty at the clean end.

        Raises:
            MusterError: What ended the stream, if it could not go on elsewhere.
        """
        while True:
            try:
                while items := await self._response.batch():
                    if outputs := self._outputs(items):
                        return outputs
            except MusterError as failure:
                if await self._move(failure):
                    continue
            return ()

    async def read(self, take: Callable[[Sequence[EngineOutput]], bool]) -> bool:
        """Hand over what arrives; see ``ResponseStream.read``."""

        def arrived(items: Sequence[Annotated[EngineOutput]]) -> bool:
            outputs = self._outputs(items)
            return not outputs or take(outputs)

        while True:
            try:
                return await self._response.read(arrived)
            except MusterError as failure:
                if not await self._move(failure):
                    return False

    def kill(self) -> None:
        """Drop the response."""
        self._killed = True
        self._response.kill()
        self._settle("cancelled")

    def _outputs(self, items: Sequence[Annotated[EngineOutput]]) -> Sequence[EngineOutput]:
        """What items carry, once it has been noted; may be nothing."""
        outputs = [item.payload for item in items if item.payload is not None]
        if outputs:
            if self._fresh:
                self._arrived()
            progress = self._progress
            progress.take(outputs)
            if progress.exceeded and not self._told_long:
                self._told_long = True
                self._metrics.exceeded(progress.request.model)
        return outputs

    # -- moving ------------------------------------------------------------------------------

    def _arrived(self) -> None:
        """The first output of a response is here: say how the request came to its instance."""
        self._fresh = False
        response = self._response
        self._note_left()
        self.journey.instance_id = here = response.instance_id
        if self._failed_at is None:
            self._failed_at = response.failing_since
        if not self._failures:
            return
        targets = [*(instance_id for instance_id, _ in self._failures[1:]), here]
        for (left, failure), target in zip(self._failures, targets, strict=True):
            logger.info(
                "request moved to another instance",
                extra=facts(
                    model=self._progress.request.model,
                    from_instance=f"{left:x}",
                    to_instance=None if target is None else f"{target:x}",
                    code=failure.code,
                    reason=failure.message,
                    tokens=self._progress.tokens,
                ),
            )
        self._failures.clear()
        self._settle("success")

    def _note_left(self) -> None:
        """Note the instances that failed before the response's first item."""
        failures, here = self._response.failures, self._response.instance_id
        for instance_id, failure in failures.items():
            self._leave(instance_id, failure)
        # From the last one it has not moved; being refused for want of room is no move.
        self._count(
            sum(
                instance_id != here and not isinstance(failure, Overloaded)
                for instance_id, failure in failures.items()
            )
        )

    def _leave(self, instance_id: int, failure: MusterError) -> None:
        leg = Leg(f"{instance_id:x}", failure.code, self._progress.tokens)
        self.journey.lost.append(leg)
        self.journey.instance_id = None
        self._failures.append((instance_id, failure))
        self._lost.add(instance_id)

    def _count(self, times: int) -> None:
        if times:
            progress = self._progress
            self._kind = progress.kind
            progress.moved(times)
            self._metrics.moved(progress.request.model, self._kind, times)

    async def _move(self, failure: MusterError) -> bool:
        """Go on elsewhere; false if there is nothing left to do.

        Raises:
            MusterError: ``failure``, if it may not or nobody takes it.
        """
        now = asyncio.get_running_loop().time()
        response, progress = self._response, self._progress
        if self._fresh:
            self._note_left()
        here = response.instance_id
        if here is not None and here not in response.failures:
            self._leave(here, failure)
        if self._failed_at is None:
            self._failed_at = response.failing_since or now
        refusal = progress.refusal(failure, reported=response.reported)
        if refusal:
            self._give_up(failure, refusal)
        rest = progress.rest()
        if rest is None:
            return False
        left = progress.moves_left - 1
        self._count(1)
        try:
            response = await self._reopen(rest, lost=frozenset(self._lost), moves=left)
        except MusterError as other:
            self._give_up(failure, f"nobody takes it: {other.message}", cause=other)
        except BaseException:
            self._settle("cancelled")
            raise
        self._response = response
        self._fresh = True
        if self._killed:
            response.kill()
        return True

    def _give_up(
        self, failure: MusterError, why: str, *, cause: MusterError | None = None
    ) -> NoReturn:
        here, _ = self._failures[-1] if self._failures else (None, None)
        logger.info(
            "request not moved to another instance",
            extra=facts(
                model=self._progress.request.model,
                from_instance=None if here is None else f"{here:x}",
                code=failure.code,
                tokens=self._progress.tokens,
                reason=why,
            ),
        )
        self._settle("failure")
        raise failure from cause

    def _settle(self, outcome: str) -> None:
        """Count how the moves since the last output have come out, if there are any."""
        since, kind = self._failed_at, self._kind
        self._failed_at, self._kind = None, ""
        if since is not None and kind:
            seconds = asyncio.get_running_loop().time() - since
            self._metrics.settled(self._progress.request.model, kind, outcome, seconds)

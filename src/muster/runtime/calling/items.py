"""A response as application code reads it: item by item."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from muster.runtime.calling.response import Response
from muster.wire.context import Context

__all__ = ["Items"]


class Items:
    """A response for application code: iterate it once.

    Yields ``Annotated`` items, or their data alone, and raises the failure that ended the stream.
    Stopping or killing the request's context reaches the worker, also before the first item.
    Leaving the loop before the end drops the request.
    """

    def __init__(self, response: Response[Any], context: Context, *, annotated: bool) -> None:
        self._response = response
        self._context = context
        self._annotated = annotated

    @classmethod
    async def of(cls, response: Response[Any], context: Context, *, annotated: bool) -> Items:
        """Open ``response`` and give its items. Raises as ``Response.open``."""
        items = cls(response, context, annotated=annotated)
        context.listen(items._stopped)
        try:
            await response.open()
        except BaseException:
            context.forget(items._stopped)
            raise
        return items

    def _stopped(self) -> None:
        if self._context.is_killed():
            self._response.kill()
        else:
            self._response.stop()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The items."""
        try:
            while batch := await self._response.batch():
                for item in batch:
                    yield item if self._annotated else item.payload
        finally:
            self._context.forget(self._stopped)
            self._response.kill()

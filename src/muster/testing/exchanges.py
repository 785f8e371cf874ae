"""Requests as handlers see them, of no connection."""

from __future__ import annotations

from muster.frontend.request_id import response_id
from muster.http.exchange import Exchange

__all__ = ["unanswered_exchange"]


class _NoSink:
    congested = False

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent")

    async def drained(self) -> None:
        return

    async def send_file(self, *_: object) -> None:
        raise AssertionError("no file is sent")


def unanswered_exchange(**headers: str) -> Exchange:
    """A request without a body, with its id as the frontend gives it; answering it is a mistake.

    Args:
        headers: By name, with ``_`` for ``-``.
    """
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    made = Exchange(_NoSink(), method="POST", target=b"/v1/x", headers=fields, body=b"")
    made.request_id = response_id(made)
    return made

"""What a response waits for, one after the other, and what it means if that does not come."""

from __future__ import annotations

import enum

from muster.config.settings import RequestPlaneSettings
from muster.errors import (
    ConnectionTimeout,
    MusterError,
    Overloaded,
    ProtocolError,
    ResponseTimeout,
    WorkerUnavailable,
)
from muster.wire.control import ACK_OVERLOADED, ACK_UNAVAILABLE

__all__ = ["Phase", "overdue", "refusal"]


class Phase(enum.IntEnum):
    """What a response stream waits for."""

    ACK = 0
    CALL_HOME = 1
    PROLOGUE = 2
    ITEMS = 3
    ENDED = 4


def overdue(
    phase: Phase,
    peer: str,
    limits: RequestPlaneSettings,
    *,
    silence_s: float,
    address: str,
    advice: str,
) -> MusterError:
    """The error of a response that has waited too long.

    Args:
        phase: What it waited for; not ``ENDED``.
        peer: Its worker, for the message.
        limits: The deadlines.
        silence_s: The one between items, which may be shorter than in ``limits``.
        address: Where the worker was told to connect to.
        advice: What to look at if it did not.
    """
    match phase:
        case Phase.ACK:
            return ConnectionTimeout(
                f"no acknowledgement from {peer} in time",
                hint="the worker is overloaded or stopped; DYN_TCP_REQUEST_TIMEOUT sets the limit "
                "(over NATS: DYN_NATS_REQUEST_TIMEOUT_SECS)",
            )
        case Phase.CALL_HOME:
            return ConnectionTimeout(
                f"{peer} accepted the request but did not connect back to "
                f"{address} within {limits.call_home_timeout_s:g} s",
                hint=advice,
            )
        case Phase.PROLOGUE:
            return ResponseTimeout(
                f"{peer} connected back but did not start the response within "
                f"{limits.prologue_timeout_s:g} s"
            )
        case _:
            return ResponseTimeout(
                f"nothing came from {peer} for {silence_s:g} s",
                hint="DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS sets the limit "
                "(MUSTER_LEFT_STREAM_SECS once the worker has left the registry)",
            )


def refusal(text: bytes, peer: str) -> MusterError:
    """The error a refusing acknowledgement means."""
    reason = text.decode("utf-8", "replace")
    if reason.startswith(ACK_UNAVAILABLE):
        return WorkerUnavailable(f"{reason} (from {peer})")
    if reason.startswith(ACK_OVERLOADED.partition(":")[0]):
        return Overloaded(f"{reason} (from {peer})")
    return ProtocolError(f"{peer} refused the request: {reason}")

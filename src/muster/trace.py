"""Where a request stands in a distributed trace: W3C Trace Context, read, checked and written.

The format is that of https://www.w3.org/TR/trace-context/: ``traceparent`` names the trace and the
span that sent the request, ``tracestate`` carries what tracing systems add. Nothing here exports
anything; the ids travel whether or not somebody records them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

__all__ = ["TraceContext", "parse_tracestate"]

_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.DOTALL,
)
_STATE_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_STATE_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE_MEMBER = re.compile(f"({_STATE_KEY})=({_STATE_VALUE})")
_MAX_STATE_MEMBERS = 32
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_SAMPLED = 0x01
_KNOWN_FLAGS = _SAMPLED
"""Others are sent as 0. That the trace id is random (bit 1, level 2 of the standard) is among them:
1.6.1 takes flags above 2 for a malformed header, and would begin a trace of its own."""


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """One span's place in a trace.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all 0; the same on every hop.
        span_id: 16 such digits: the span that works on the request here.
        parent_id: The span that this one came from; ``None`` for the first of a trace, and for one
            that was read from a header.
        flags: The trace flags: 1 if the trace is sampled, else 0.
        tracestate: What tracing systems add, as it is sent; empty if there is none.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    flags: int = _SAMPLED
    tracestate: str = ""

    @classmethod
    def start(cls, *, sampled: bool = True) -> TraceContext:
        """The first span of a new trace, with random ids."""
        return cls(_random_id(16), _random_id(8), None, _SAMPLED if sampled else 0)

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> TraceContext | None:
        """Read the two headers of a request.

        A ``tracestate`` that breaks the rules is dropped, and the rest is kept. Of a version above
        00 the parts that 00 has are read, and it is sent on as 00.

        Returns:
            The sender's place, or ``None`` if ``traceparent`` is not valid.
        """
        match = _PARENT.fullmatch(traceparent.strip(" \t"))
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more is not None):
            return None
        if trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        state = parse_tracestate(tracestate) if tracestate else ""
        return cls(trace_id, span_id, None, int(flags, 16) & _KNOWN_FLAGS, state)

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> TraceContext | None:
        """The sender's place by headers with lower-case names; ``None`` without a valid one.

        Values that are no text count as absent.
        """
        parent = headers.get("traceparent")
        if not isinstance(parent, str):
            return None
        state = headers.get("tracestate")
        return cls.parse(parent, state if isinstance(state, str) else "")

    def child(self) -> TraceContext:
        """A new span under this one: same trace, flags and state, a span id of its own."""
        return TraceContext(self.trace_id, _random_id(8), self.span_id, self.flags, self.tracestate)

    def unsampled(self) -> TraceContext:
        """The same place in a trace that is not recorded."""
        return msgspec.structs.replace(self, flags=self.flags & ~_SAMPLED)

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace records it."""
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header's value that makes this span the parent of whoever receives it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> dict[str, str]:
        """``traceparent``, and ``tracestate`` if there is one, for a request sent by this span."""
        if self.tracestate:
            return {"traceparent": self.traceparent, "tracestate": self.tracestate}
        return {"traceparent": self.traceparent}


def parse_tracestate(text: str) -> str:
    """Check a ``tracestate``; several headers of that name are given joined by commas.

    Returns:
        Its members in their order without blanks around them and without empty ones, or an empty
        text if one of them is malformed, a key comes twice or there are more than 32.
    """
    members: dict[str, str] = {}
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _STATE_MEMBER.fullmatch(member)
        if match is None or match[1] in members or len(members) == _MAX_STATE_MEMBERS:
            return ""
        members[match[1]] = member
    return ",".join(members.values())


def _random_id(size: int) -> str:
    """So many random bytes as hexadecimal digits, not all 0.

    From the system, not from ``random``: engines seed that alike in every process.
    """
    while True:
        digits = os.urandom(size).hex()
        if digits.strip("0"):
            return digits

"""Which instance a session belongs to: decided by its name alone, so all frontends agree. Pure.

Rendezvous hashing: every instance has a score for the session, and the highest is its home. When an
instance comes or goes, only the sessions that gain or lose it as their home move.

Where sessions are remembered (``Bindings``), one that had to go elsewhere stays there, and one that
is under way stays when an instance comes that would have been its home. Each frontend remembers for
itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from hashlib import blake2b

import msgspec

from muster.llm.protocol import EngineRequest

__all__ = ["SESSION_HEADERS", "Bindings", "home_of", "in_session", "named_session", "session_of"]

SESSION_HEADERS = (b"x-session-id", b"x-dynamo-session-id")
"""Headers by which a client names its session; Dynamo's."""

_KEY = "session_id"


def home_of(session: str, model: str, instance_ids: Collection[int]) -> int | None:
    """The one of these instances that the session belongs to; ``None`` if there are none.

    Args:
        session: The session's name.
        model: The model's name: sessions of one name need not meet at one worker of all models.
        instance_ids: Those to choose among.
    """
    if not instance_ids:
        return None
    # At most 64 bytes may be a key, so names are digested first; the parts cannot run together.
    key = blake2b(f"{len(model)}:{model}{session}".encode(), digest_size=32).digest()

    def score(instance_id: int) -> tuple[bytes, int]:
        data = instance_id.to_bytes(8, "big")
        return blake2b(data, key=key, digest_size=8).digest(), instance_id

    return max(instance_ids, key=score)


class Bindings:
    """Which instance had each session last. The time is passed in.

    Args:
        ttl_s: How long a session is remembered after its last request.
        most: How many are remembered; then the one that has been idle longest is forgotten.
    """

    __slots__ = ("_bound", "_most", "_ttl_s")

    def __init__(self, ttl_s: float, *, most: int = 100_000) -> None:
        self._ttl_s = ttl_s
        self._most = most
        self._bound: OrderedDict[str, tuple[int, float]] = OrderedDict()  # longest idle first

    def __len__(self) -> int:
        return len(self._bound)

    def find(self, session: str, now: float) -> int | None:
        """Its instance; ``None`` if it is not remembered."""
        instance_id, used = self._bound.get(session, (None, 0.0))
        return None if now - used > self._ttl_s else instance_id

    def bind(self, session: str, instance_id: int, now: float) -> None:
        """The session's request went to this instance."""
        bound = self._bound
        bound[session] = (instance_id, now)
        bound.move_to_end(session)
        while len(bound) > self._most or now - next(iter(bound.values()))[1] > self._ttl_s:
            bound.popitem(last=False)


def named_session(headers: Mapping[bytes, bytes]) -> str:
    """The session that a client's headers name, or empty."""
    for name in SESSION_HEADERS:
        if name in headers:
            return headers[name].decode("latin-1")
    return ""


def session_of(request: EngineRequest) -> str:
    """The session a request names, or empty."""
    context = request.agent_context
    if not context:  # unset, null or empty
        return ""
    session = context.get(_KEY)
    return session if isinstance(session, str) else ""


def in_session(request: EngineRequest, session: str) -> EngineRequest:
    """The request as one of this session; where Dynamo's frontend names it, so that engines see it.

    An empty name changes nothing.
    """
    if not session:
        return request
    return msgspec.structs.replace(
        request, agent_context={_KEY: session}, image_cache_scope=session
    )

"""Reading an engine's request, whichever way it came."""

from __future__ import annotations

from typing import Any

from muster.errors import InvalidArgument, ProtocolError
from muster.llm.protocol import EngineRequest, as_request

__all__ = ["Item", "choice_count", "read_request"]

Item = dict[str, Any]
"""One output as it is encoded for the wire; see ``muster.llm.protocol.EngineOutput``."""


def read_request(request: EngineRequest | dict[str, Any]) -> EngineRequest:
    """The typed request.

    Raises:
        InvalidArgument: If it has no tokens or a field of another type than the protocol says; the
            caller is told, as it is the caller's request that is at fault.
    """
    if isinstance(request, EngineRequest):
        return request
    try:
        return as_request(request)
    except ProtocolError as error:
        raise InvalidArgument(
            error.message,
            hint="this engine takes tokens: register the model with ModelInput.Tokens",
        ) from error


def choice_count(request: EngineRequest) -> int:
    """How many answers are asked for.

    Raises:
        InvalidArgument: If that is less than one or more than 128.
    """
    count = request.sampling_options.n
    if count is None:
        return 1
    if not 1 <= count <= 128:
        raise InvalidArgument(f"n must be between 1 and 128, got {count}")
    return count

"""What a frontend's live stream has told so far: a snapshot with the changes applied. Pure."""

from __future__ import annotations

import msgspec

from muster.errors import ProtocolError
from muster.frontend.dashboard.view import Change, Snapshot

__all__ = ["apply_event"]

_SECONDS = 600
_EVENTS = 200


def apply_event(state: Snapshot | None, name: str, data: bytes) -> Snapshot | None:
    """The state after an event; events of other names, and changes of nothing, change nothing.

    Raises:
        ProtocolError: Its data is not what it should be.
    """
    try:
        if name == "snapshot":
            return msgspec.json.decode(data, type=Snapshot)
        if name != "change" or state is None:
            return state
        change = msgspec.json.decode(data, type=Change)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(
            f"the frontend's event {name!r} cannot be read: {error}",
            hint="it may be of a version that this one does not understand",
        ) from error
    models = {
        key: view
        for key, view in (dict(state.models) | dict(change.models)).items()
        if view is not None
    }
    return Snapshot(
        at=change.at,
        frontend=change.frontend or state.frontend,
        models=models,
        traffic=state.traffic if change.traffic is None else change.traffic,
        seconds=(*state.seconds, *change.seconds)[-_SECONDS:],
        events=(*state.events, *change.events)[-_EVENTS:],
        cache=change.cache or state.cache,
    )

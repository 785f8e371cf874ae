"""What a parser finds in a reply, in the order it was written.

Events of one kind that follow each other belong together: how a text is split into several depends
on how it came, their concatenation does not. ``merged`` joins them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

__all__ = [
    "CallAborted",
    "CallArguments",
    "CallEnded",
    "CallStarted",
    "Content",
    "Event",
    "Parser",
    "Reasoning",
    "merged",
]


class Content(msgspec.Struct, frozen=True, gc=False):
    """Text for the reader."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """The model thinking aloud."""

    text: str


class CallStarted(msgspec.Struct, frozen=True, gc=False):
    """A tool call begins; ``index`` counts the calls of a reply, aborted ones too."""

    index: int
    id: str
    name: str


class CallArguments(msgspec.Struct, frozen=True, gc=False):
    """More of a call's arguments. Joined, those of a call that ends are one JSON object."""

    index: int
    text: str


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """A call is complete."""

    index: int


class CallAborted(msgspec.Struct, frozen=True, gc=False):
    """A call that had started turned out malformed, so it is none.

    ``text`` is all of it as the model wrote it, what came as arguments included.
    """

    index: int
    text: str


Event = Content | Reasoning | CallStarted | CallArguments | CallEnded | CallAborted


class Parser(Protocol):
    """Reads one reply. Not to be shared between replies."""

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; return what is certain now."""
        ...

    def finish(self) -> list[Event]:
        """The reply is over: return what is left. Feed no more."""
        ...


def merged(events: Iterable[Event]) -> list[Event]:
    """The events with neighbours of one kind joined: the same for any split of a reply."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Content) and isinstance(last, Content):
            joined[-1] = Content(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + event.text)
        elif isinstance(event, CallArguments) and isinstance(last, CallArguments):
            # A call that starts stands between the arguments of two.
            joined[-1] = CallArguments(last.index, last.text + event.text)
        else:
            joined.append(event)
    return joined

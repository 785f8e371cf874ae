"""Reading a text that comes in pieces as if it were there at once.

A format is written as a generator over a ``Scanner``: plain sequential code whose every look ahead
is a ``yield from`` that waits until the text is there, or until there will be none. What it decides
then depends on the text alone, never on how it was split. This is what makes all parsers agree with
themselves however they are fed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Reasoning,
)
from muster.llm.tool_calls.markers import Markers

__all__ = ["MAX_NAME", "Malformed", "NewId", "Scanner", "Sink", "Steps"]

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A part of a format: yields whenever it needs more text."""

Sink = Callable[[str], None]
NewId = Callable[[], str]

MAX_NAME = 256
"""Longest name of a function, in characters."""

_SPACE = re.compile(r"[ \t\r\n]*")


class Malformed(Exception):  # noqa: N818 - control flow between a format and its parser
    """The text is not what the format says."""


class Scanner:
    """The text not read yet, and the events found so far.

    White space alone around calls is layout: it is dropped before a call and after one, and kept
    in front of other text.

    Args:
        new_id: Makes the ids of calls whose format has none.
    """

    __slots__ = (
        "_at",
        "_calls",
        "_events",
        "_held",
        "_layout",
        "_new_id",
        "_open",
        "_raw",
        "_text",
        "_thought_space",
        "ended",
    )

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        self._text = ""
        self._at = 0
        self.ended = False
        self._events: list[Event] = []
        self._raw: list[str] | None = None
        self._calls = 0
        self._open: int | None = None
        self._layout = True
        self._held = ""
        self._thought_space: str | None = None

    # -- from outside

    def push(self, text: str) -> None:
        """Add text."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def drain(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def flush(self) -> None:
        """At the end: white space that was held as layout, if nothing else came."""
        if self._held and not self._calls and self._thought_space is None:
            self._events.append(Content(self._held))
        self._held = ""

    # -- looking and taking

    def take(self, count: int) -> str:
        """The next ``count`` characters, which must be there."""
        return self._advance(self._at + count)

    def _advance(self, to: int) -> str:
        piece = self._text[self._at : to]
        self._at = to
        if self._raw is not None:
            self._raw.append(piece)
        return piece

    def remainder(self, sink: Sink) -> Steps[None]:
        """Hand all text to ``sink``, to the end."""
        while True:
            if self._at < len(self._text):
                sink(self._advance(len(self._text)))
            if self.ended:
                return
            yield

    def run(self, pattern: re.Pattern[str], most: int | None = None) -> str:
        """Take what ``pattern`` matches here of the text that is there, perhaps nothing."""
        end = len(self._text) if most is None else self._at + most
        match = pattern.match(self._text, self._at, end)
        return self._advance(match.end()) if match is not None else ""

    def peek(self, count: int) -> Steps[str]:
        """The next ``count`` characters without taking them; fewer only at the end."""
        while len(self._text) - self._at < count and not self.ended:
            yield
        return self._text[self._at : self._at + count]

    def space(self, sink: Sink | None = None) -> Steps[str]:
        """Take white space; returns the character after it, empty at the end."""
        while True:
            piece = self.run(_SPACE)
            if piece and sink is not None:
                sink(piece)
            if self._at < len(self._text):
                return self._text[self._at]
            if self.ended:
                return ""
            yield

    def accept(self, *literals: str) -> Steps[str | None]:
        """Take the one of ``literals`` that comes next; none is the beginning of another."""
        waiting = list(literals)
        while True:
            there = self._text[self._at : self._at + max(map(len, literals))]
            for literal in waiting:
                if there.startswith(literal):
                    return self._advance(self._at + len(literal))
            waiting = [literal for literal in waiting if literal.startswith(there)]
            if not waiting or self.ended:
                return None
            yield

    def expect(self, *literals: str) -> Steps[str]:
        """Take one of ``literals``.

        Raises:
            Malformed: If none comes next.
        """
        found = yield from self.accept(*literals)
        if found is None:
            raise Malformed
        return found

    def text_until(self, markers: Markers, sink: Sink) -> Steps[str | None]:
        """Hand text to ``sink`` up to a marker, which is taken; ``None`` at the end."""
        while True:
            found = markers.find(self._text, self._at)
            if found is not None:
                if found.start() > self._at:
                    sink(self._advance(found.start()))
                return self._advance(found.end())
            keep = 0 if self.ended else markers.partial(self._text, self._at)
            if len(self._text) - keep > self._at:
                sink(self._advance(len(self._text) - keep))
            if self.ended:
                return None
            yield

    def short_until(self, markers: Markers, most: int = MAX_NAME) -> Steps[tuple[str, str]]:
        """The text before a marker, and the marker.

        Raises:
            Malformed: If more than ``most`` characters come first, or the end.
        """
        while True:
            found = markers.find(self._text, self._at)
            if found is not None and found.start() - self._at <= most:
                return self._advance(found.start()), self._advance(found.end())
            keep = 0 if self.ended else markers.partial(self._text, self._at)
            if self.ended or len(self._text) - keep - self._at > most:
                raise Malformed
            yield

    # -- what was found

    def content(self, text: str) -> None:
        """Text for the reader."""
        if self._layout:
            if text.isspace():
                self._held += text
                return
            text = self._held + text
            self._held = ""
            self._layout = False
        self._events.append(Content(text))

    def reasoning(self, text: str) -> None:
        """Reasoning; white space around it is dropped."""
        if self._thought_space is None:
            self._held = ""
            text = text.lstrip()
            if not text:
                return
            self._thought_space = ""
        text = self._thought_space + text
        stripped = text.rstrip()
        self._thought_space = text[len(stripped) :]
        if stripped:
            self._events.append(Reasoning(stripped))

    def end_reasoning(self) -> None:
        """What comes next is not reasoning."""
        self._thought_space = None
        self._layout = True
        self._held = ""

    def begin(self, marker: str = "") -> None:
        """From here on text may turn out not to be calls: keep it. ``marker`` was taken before."""
        self._raw = [marker] if marker else []

    def start_call(self, name: str, call_id: str | None = None) -> None:
        """A call begins.

        Raises:
            Malformed: If the name cannot be one.
        """
        if not name or len(name) > MAX_NAME or name != name.strip():
            raise Malformed
        self._held = ""
        self._open = self._calls
        self._calls += 1
        self._events.append(CallStarted(self._open, call_id or self._new_id(), name))

    def arguments(self, text: str) -> None:
        """More arguments of the open call."""
        if self._open is not None and text:
            self._events.append(CallArguments(self._open, text))

    def end_call(self) -> None:
        """The open call is complete: what follows cannot undo it."""
        if self._open is not None:
            self._events.append(CallEnded(self._open))
        self._open = None
        self._raw = []
        self._layout = True

    def close(self) -> None:
        """What follows is text again."""
        self._raw = None

    def abort(self) -> None:
        """What was kept is no call: it is text, and so is what follows."""
        text = "".join(self._raw or ())
        self._raw = None
        if self._open is not None:
            self._events.append(CallAborted(self._open, text))
            self._open = None
            self._layout = False
        elif text:
            self.content(text)

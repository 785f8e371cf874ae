"""Replies to a request that demands calls: JSON alone, written under guided decoding."""

from __future__ import annotations

import abc

from muster.llm.tool_calls.events import Event, Parser
from muster.llm.tool_calls.json_value import call_array, call_object, stream_arguments
from muster.llm.tool_calls.scanner import Malformed, NewId, Steps
from muster.llm.tool_calls.scanner_parser import ScannerParser

__all__ = ["ForcedParser", "NamedCallParser", "RequiredCallsParser"]


class _JsonReply(ScannerParser):
    @abc.abstractmethod
    def calls(self) -> Steps[None]:
        """The reply's calls."""

    def steps(self) -> Steps[None]:
        """Calls, and then text if there is any."""
        scanner = self.scanner
        scanner.begin()
        try:
            yield from scanner.space()
            yield from self.calls()
        except Malformed:
            scanner.abort()
        scanner.close()
        yield from scanner.remainder(scanner.content)


class RequiredCallsParser(_JsonReply):
    """``tool_choice: required``: ``[{"name": ..., "parameters": {...}}, ...]``, or one alone."""

    def calls(self) -> Steps[None]:
        """The array."""
        if (yield from self.scanner.peek(1)) == "[":
            yield from call_array(self.scanner)
        else:
            yield from call_object(self.scanner)


class NamedCallParser(_JsonReply):
    """A named ``tool_choice``: the reply is that function's arguments.

    Args:
        name: The function's.
        new_id: Makes the id.
    """

    def __init__(self, name: str, new_id: NewId) -> None:
        self._name = name
        super().__init__(new_id)

    def calls(self) -> Steps[None]:
        """The arguments."""
        yield from stream_arguments(self.scanner, self._name)
        self.scanner.end_call()


class ForcedParser:
    """Reads JSON, or, of an engine that has no guided decoding, the model's own format.

    Args:
        guided: Reads the JSON.
        own: Reads the model's format.
        array: Whether the JSON may be an array of objects, besides an object.
    """

    def __init__(self, guided: Parser, own: Parser, *, array: bool) -> None:
        self._guided = guided
        self._own = own
        self._array = array
        self._held = ""
        self._chosen: Parser | None = None

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; how it begins decides."""
        if self._chosen is not None:
            return self._chosen.feed(text)
        self._held += text
        start = self._held.lstrip()
        if self._array and start.startswith("["):
            # Several formats begin with a bracket; what is in it tells.
            start = start[1:].lstrip()
        if not start:
            return []
        self._chosen = self._guided if start.startswith("{") else self._own
        return self._chosen.feed(self._held)

    def finish(self) -> list[Event]:
        """The reply is over."""
        if self._chosen is None:
            return [*self._guided.feed(self._held), *self._guided.finish()]
        return self._chosen.finish()

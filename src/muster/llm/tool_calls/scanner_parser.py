"""Parsers whose format is a generator over a ``Scanner``."""

from __future__ import annotations

import abc

from muster.llm.tool_calls.events import Event
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Malformed, NewId, Scanner, Steps

__all__ = ["MarkedParser", "ScannerParser"]


class ScannerParser(abc.ABC):
    """A parser whose format is a generator over its scanner: subclasses write ``steps``.

    Args:
        new_id: Makes the ids of calls whose format has none.
    """

    def __init__(self, new_id: NewId) -> None:
        self.scanner = Scanner(new_id)
        self._steps = self.steps()

    @abc.abstractmethod
    def steps(self) -> Steps[None]:
        """Read the whole reply."""

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; return what is certain now."""
        self.scanner.push(text)
        next(self._steps)
        return self.scanner.drain()

    def finish(self) -> list[Event]:
        """The reply is over: return what is left."""
        self.scanner.ended = True
        for _ in self._steps:
            pass
        self.scanner.flush()
        return self.scanner.drain()


class MarkedParser(ScannerParser):
    """A format whose calls follow a marker; everything else is text.

    Attributes:
        opening: What calls begin with.
    """

    opening: Markers

    def calls(self, marker: str) -> Steps[None]:
        """Read the calls after ``marker``; for formats that do not write ``attempt`` themselves.

        Raises:
            Malformed: What has been read since the last complete call becomes text.
        """
        raise NotImplementedError

    def steps(self) -> Steps[None]:
        """Text, calls, text, ..."""
        scanner = self.scanner
        while True:
            marker = yield from scanner.text_until(self.opening, scanner.content)
            if marker is None:
                return
            yield from self.attempt(marker)

    def attempt(self, marker: str) -> Steps[None]:
        """Read calls; what turns out to be none becomes text."""
        self.scanner.begin(marker)
        try:
            yield from self.calls(marker)
        except Malformed:
            self.scanner.abort()
        else:
            self.scanner.close()

"""Reasoning between two markers: nearly every model's way."""

from __future__ import annotations

from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import Steps
from muster.llm.tool_calls.scanner_parser import ScannerParser

__all__ = ["TaggedReasoningParser"]


def _no_id() -> str:
    return ""


class TaggedReasoningParser(ScannerParser):
    """Splits a reply into reasoning and content; white space around reasoning is dropped.

    Reasoning that is not ended goes on to the end. A closing marker without an opening one, before
    any reasoning, is dropped: the prompt had opened it.

    Args:
        opening: The markers that begin reasoning.
        closing: The markers that end it.
        inside: Whether the reply begins with reasoning, without a marker.
        anywhere: Whether it may also begin later than at the start of the reply.
        label: What may follow an opening marker and is dropped with it.
        calls: Markers that end reasoning as well, and stay in the content.
        plain: Characters. A reply that begins with one of them does not begin with reasoning.
    """

    def __init__(
        self,
        opening: tuple[str, ...],
        closing: tuple[str, ...],
        *,
        inside: bool = False,
        anywhere: bool = True,
        label: str = "",
        calls: tuple[str, ...] = (),
        plain: str = "",
    ) -> None:
        self._openings = opening
        self._calls = calls
        self._label = label
        self._plain = plain
        self._closing = Markers(*closing, *calls)
        self._opening = Markers(*opening)
        self._first = Markers(*opening, *closing)
        self._inside = inside
        self._anywhere = anywhere
        super().__init__(_no_id)

    def steps(self) -> Steps[None]:
        """Content and reasoning in turn."""
        scanner = self.scanner
        if self._inside or not self._anywhere:
            scanner.begin()
            first = yield from scanner.space()
            opened = yield from scanner.accept(*self._openings)
            inside = self._inside and (not first or first not in self._plain)
            if opened is None:
                # Only white space was taken: it belongs to what follows.
                scanner.abort()
            scanner.close()
            if opened is not None or inside:
                yield from self._reasoning()
            elif not self._anywhere:
                yield from scanner.remainder(scanner.content)
                return
        else:
            marker = yield from scanner.text_until(self._first, scanner.content)
            if marker in self._openings:
                yield from self._reasoning()
        while (yield from scanner.text_until(self._opening, scanner.content)) is not None:
            yield from self._reasoning()

    def _reasoning(self) -> Steps[None]:
        scanner = self.scanner
        if self._label:
            yield from scanner.accept(self._label)
        marker = yield from scanner.text_until(self._closing, scanner.reasoning)
        scanner.end_reasoning()
        if marker in self._calls:
            scanner.content(marker)
        else:
            yield from scanner.space()

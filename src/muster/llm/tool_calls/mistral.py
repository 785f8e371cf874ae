"""Mistral: ``[TOOL_CALLS]`` and an array of objects, or, from v11 on, a name and its arguments."""

from __future__ import annotations

from muster.llm.tool_calls.json_value import call_array, call_object, stream_arguments
from muster.llm.tool_calls.markers import Markers
from muster.llm.tool_calls.scanner import NewId, Steps
from muster.llm.tool_calls.scanner_parser import MarkedParser

__all__ = ["MistralParser"]

_AFTER_NAME = Markers("[CALL_ID]", "[ARGS]", "{")
_AFTER_ID = Markers("[ARGS]", "{")


class MistralParser(MarkedParser):
    """Both forms; the later one has a marker a call.

    Ids have nine characters, since Mistral's templates refuse any other.
    """

    opening = Markers("[TOOL_CALLS]")

    def __init__(self, new_id: NewId) -> None:
        super().__init__(lambda: new_id()[-9:])

    def calls(self, marker: str) -> Steps[None]:
        """An array, an object, or ``name[CALL_ID]id[ARGS]{...}`` with its markers optional."""
        scanner = self.scanner
        first = yield from scanner.space()
        if first == "[":
            yield from call_array(scanner)
        elif first == "{":
            yield from call_object(scanner)
        else:
            name, after = yield from scanner.short_until(_AFTER_NAME)
            call_id: str | None = None
            if after == "[CALL_ID]":
                call_id, after = yield from scanner.short_until(_AFTER_ID)
            yield from stream_arguments(scanner, name.strip(), call_id, opened=after == "{")
            scanner.end_call()

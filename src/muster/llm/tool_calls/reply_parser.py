"""One reply read by all parsers that apply to it: reasoning first, calls in what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.llm.reasoning.registry import new_reasoning_parser
from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Parser,
)
from muster.llm.tool_calls.forced import ForcedParser, NamedCallParser, RequiredCallsParser
from muster.llm.tool_calls.harmony import HarmonyParser
from muster.llm.tool_calls.registry import new_tool_call_parser
from muster.llm.tool_calls.scanner import NewId

__all__ = ["FirstCallOnly", "ReplyFormat", "ReplyParser"]

_SPECIAL_REASONING = frozenset({"gpt_oss", "kimi", "mistral"})


class FirstCallOnly:
    """Leaves out all calls of a reply but the first that is not malformed.

    Args:
        parser: Finds the calls.
    """

    __slots__ = ("_parser", "_wanted")

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._wanted: int | None = None

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply."""
        return [event for event in self._parser.feed(text) if self._keeps(event)]

    def finish(self) -> list[Event]:
        """The reply is over."""
        return [event for event in self._parser.finish() if self._keeps(event)]

    def _keeps(self, event: Event) -> bool:
        if isinstance(event, CallStarted) and self._wanted is None:
            self._wanted = event.index
        if isinstance(event, CallAborted) and event.index == self._wanted:
            self._wanted = None
            return True
        if isinstance(event, CallStarted | CallArguments | CallEnded | CallAborted):
            return event.index == self._wanted
        return True


class ReplyParser:
    """Reasoning, then calls in what is not reasoning.

    Args:
        reasoning: Finds reasoning; ``None`` if there is none to be found.
        calls: Finds calls; likewise.
    """

    __slots__ = ("_calls", "_reasoning")

    def __init__(self, reasoning: Parser | None, calls: Parser | None) -> None:
        self._reasoning = reasoning
        self._calls = calls

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; return what is certain now."""
        if self._reasoning is not None:
            return self._pass_on(self._reasoning.feed(text))
        return self._calls.feed(text) if self._calls is not None else [Content(text)]

    def finish(self) -> list[Event]:
        """The reply is over: return what is left."""
        left = self._pass_on(self._reasoning.finish()) if self._reasoning is not None else []
        return left if self._calls is None else [*left, *self._calls.finish()]

    def _pass_on(self, events: list[Event]) -> list[Event]:
        calls = self._calls
        if calls is None:
            return events
        found: list[Event] = []
        for event in events:
            if isinstance(event, Content):
                found += calls.feed(event.text)
            else:
                found.append(event)
        return found


class ReplyFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How the replies to one request are read.

    Attributes:
        tool_call_parser: The model's, by its card; ``None`` if it has none.
        reasoning_parser: Likewise.
        tools: The functions that may be called; empty if none may.
        required: Whether the reply must be calls, written as JSON under guided decoding.
        named: The one function that must be called, if there is one.
        parallel: Whether there may be more calls than one.
    """

    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    required: bool = False
    named: str | None = None
    parallel: bool = True

    @property
    def plain(self) -> bool:
        """Whether a reply is text and nothing else."""
        calls = self.tools and (self.tool_call_parser or self.required or self.named)
        return not calls and self.reasoning_parser is None

    @property
    def special_tokens(self) -> bool:
        """Whether markers may be special tokens, which decoding must then not leave out."""
        return bool(self.tools and self.tool_call_parser) or (
            self.reasoning_parser in _SPECIAL_REASONING
        )

    def new_parser(self, new_id: NewId, *, prompt_end: str = "") -> ReplyParser:
        """A parser for one reply. A name that nobody knows stands for none.

        Args:
            new_id: Makes the ids of calls; at least nine letters and digits at their end.
            prompt_end: The last characters of the prompt, which may have opened the reasoning.
        """
        calls = self._new_call_parser(new_id)
        if isinstance(calls, HarmonyParser):
            # Its format has the reasoning too.
            return ReplyParser(None, self._limited(calls))
        reasoning = (
            None
            if self.reasoning_parser is None
            else new_reasoning_parser(self.reasoning_parser, prompt_end=prompt_end)
        )
        return ReplyParser(reasoning, None if calls is None else self._limited(calls))

    def _limited(self, parser: Parser) -> Parser:
        return parser if self.parallel else FirstCallOnly(parser)

    def _new_call_parser(self, new_id: NewId) -> Parser | None:
        if not self.tools:
            return None
        own = (
            None
            if self.tool_call_parser is None
            else new_tool_call_parser(self.tool_call_parser, new_id, self.tools)
        )
        if self.named is not None:
            return ForcedParser(NamedCallParser(self.named, new_id), own, first="{")
        if self.required:
            return ForcedParser(RequiredCallsParser(new_id), own, first="[{")
        return own

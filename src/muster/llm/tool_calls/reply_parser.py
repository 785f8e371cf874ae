"""One reply read by all parsers that apply to it: reasoning first, calls in what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muster.llm.reasoning.registry import REASONING_FORMATS, new_reasoning_parser
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
from muster.llm.tool_calls.registry import new_tool_call_parser
from muster.llm.tool_calls.scanner import NewId
from muster.llm.tool_calls.whole_reply import WHOLE_REPLY_PARSERS, WholeReplyFactory

__all__ = ["FirstCallOnly", "ReplyFormat", "ReplyParser"]


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


def _starts(event: Event) -> bool:
    return isinstance(event, CallStarted)


class _OneCount:
    """Counts the calls of two parsers as those of one reply. Calls do not overlap."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls = 0

    def counted(self, event: Event) -> Event:
        """The event with the call's place in the reply."""
        if isinstance(event, CallStarted):
            self._calls += 1
        if isinstance(event, CallStarted | CallArguments | CallEnded | CallAborted):
            return msgspec.structs.replace(event, index=self._calls - 1)
        return event


class ReplyParser:
    """Reasoning, then calls in what is not reasoning.

    Args:
        reasoning: Finds reasoning; ``None`` if there is none to be found.
        calls: Finds calls; likewise.
        both: Whether the first finds calls as well.
    """

    __slots__ = ("_calls", "_count", "_reasoning")

    def __init__(
        self, reasoning: Parser | None, calls: Parser | None, *, both: bool = False
    ) -> None:
        self._reasoning = reasoning
        self._calls = calls
        self._count = _OneCount() if both else None

    def feed(self, text: str) -> list[Event]:
        """Take more of the reply; return what is certain now."""
        if self._reasoning is not None:
            return self._pass_on(self._reasoning.feed(text))
        return self._calls.feed(text) if self._calls is not None else [Content(text)]

    def finish(self) -> list[Event]:
        """The reply is over: return what is left."""
        left = self._pass_on(self._reasoning.finish()) if self._reasoning is not None else []
        if self._calls is None:
            return left
        return [*left, *self._counted(self._calls.finish())]

    def _pass_on(self, events: list[Event]) -> list[Event]:
        if self._calls is None and self._count is None:
            return events
        found: list[Event] = []
        for event in events:
            if self._count is not None and self._calls is not None and _starts(event):
                # Calls do not overlap, so what the second has not finished is no call.
                found += self._counted(self._calls.finish())
                self._calls = None
            if isinstance(event, Content) and self._calls is not None:
                found += self._counted(self._calls.feed(event.text))
            else:
                found += self._counted([event])
        return found

    def _counted(self, events: list[Event]) -> list[Event]:
        count = self._count
        return events if count is None else [count.counted(event) for event in events]


class ReplyFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How the replies to one request are read.

    Attributes:
        tool_call_parser: The model's, by its card; ``None`` if it has none.
        reasoning_parser: Likewise.
        tools: The functions that may be called; empty if none may.
        required: Whether the reply must be calls, written as JSON under guided decoding.
        named: The one function that must be called, if there is one.
        parallel: Whether there may be more calls than one.
        guided: Whether the engine was asked for JSON as the reply.
    """

    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    required: bool = False
    named: str | None = None
    parallel: bool = True
    guided: bool = False

    @property
    def _whole(self) -> WholeReplyFactory | None:
        """The format of all of a reply, if the model's is one."""
        found = WHOLE_REPLY_PARSERS.get(self.tool_call_parser or "")
        if found is None and self.tool_call_parser is None:
            found = WHOLE_REPLY_PARSERS.get(self.reasoning_parser or "")
        return found

    @property
    def plain(self) -> bool:
        """Whether a reply is text and nothing else."""
        calls = self.tools and (self.tool_call_parser or self.required or self.named)
        return not calls and self.reasoning_parser is None and self._whole is None

    @property
    def needs_prompt(self) -> bool:
        """Whether the end of the prompt says how a reply begins."""
        return self.reasoning_parser is not None or self._whole is not None

    @property
    def special_tokens(self) -> bool:
        """Whether markers may be special tokens, which decoding must then not leave out."""
        if self.tools and self.tool_call_parser:
            return True
        reasoning = REASONING_FORMATS.get(self.reasoning_parser or "")
        return (
            self._whole is not None
            or self.reasoning_parser in WHOLE_REPLY_PARSERS
            or (reasoning is not None and reasoning.special)
        )

    def new_parser(self, new_id: NewId, *, prompt_end: str = "") -> ReplyParser:
        """A parser for one reply. A name that nobody knows stands for none.

        Args:
            new_id: Makes the ids of calls; at least nine letters and digits at their end.
            prompt_end: The last characters of the prompt, which may have opened the reasoning.
        """
        forced = self._new_forced_parser(new_id)
        whole = self._whole
        if whole is not None:
            reply = whole(new_id, self.tools, calls=bool(self.tools), prompt_end=prompt_end)
            both = ReplyParser(reply, forced, both=forced is not None)
            return both if self.parallel else ReplyParser(FirstCallOnly(both), None)
        own = (
            None
            if self.tool_call_parser is None or not self.tools
            else new_tool_call_parser(self.tool_call_parser, new_id, self.tools)
        )
        calls = own
        if forced is not None:
            calls = forced if own is None else ForcedParser(forced, own, array=self.named is None)
        if calls is not None and not self.parallel:
            calls = FirstCallOnly(calls)
        if self.reasoning_parser is None:
            return ReplyParser(None, calls)
        guided = self.guided or forced is not None
        return ReplyParser(
            new_reasoning_parser(self.reasoning_parser, prompt_end=prompt_end, guided=guided),
            calls,
        )

    def _new_forced_parser(self, new_id: NewId) -> Parser | None:
        if not self.tools:
            return None
        if self.named is not None:
            return NamedCallParser(self.named, new_id)
        return RequiredCallsParser(new_id) if self.required else None

"""A request's answers as they are read: reasoning, text and calls told apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from muster.frontend.choice import Choice
from muster.frontend.openai.reply import ChatMessage, FunctionCall, ReasoningField, ToolCall
from muster.llm.tool_calls.events import (
    CallAborted,
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Reasoning,
    merged,
)
from muster.llm.tool_calls.reply_parser import ReplyFormat
from muster.llm.tool_calls.scanner import NewId

__all__ = ["Reading"]


class _Answer:
    """One choice's part."""

    __slots__ = ("calls", "ended", "events", "parser", "reasoning_tokens", "thinking", "tokens")

    def __init__(self, form: ReplyFormat, new_id: NewId, prompt_end: str) -> None:
        self.parser = form.new_parser(new_id, prompt_end=prompt_end)
        self.events: list[Event] = []
        self.calls = 0
        self.ended = False
        self.tokens = 0
        self.reasoning_tokens = 0
        self.thinking = False

    def take(self, choice: Choice) -> list[Event]:
        text = choice.take_text()
        events = self.parser.feed(text) if text else []
        if choice.finish_reason is not None and not self.ended:
            self.ended = True
            events = [*events, *self.parser.finish()]
        thought = self.thinking if not events else False
        for event in events:
            self.thinking = isinstance(event, Reasoning)
            thought = thought or self.thinking
            self.calls += isinstance(event, CallEnded)
        if thought:
            self.reasoning_tokens += _thought(events, len(text), choice.tokens - self.tokens)
        self.tokens = choice.tokens
        return merged(events)


def _thought(events: Sequence[Event], characters: int, tokens: int) -> int:
    """How many of a batch's tokens were reasoning: all, or its share of the characters."""
    thoughts = sum(len(event.text) for event in events if isinstance(event, Reasoning))
    if all(isinstance(event, Reasoning) for event in events) or thoughts >= characters:
        return tokens
    return round(tokens * thoughts / characters)


class Reading:
    """Reads the choices of one request.

    Args:
        form: How.
        new_id: Makes the ids of calls.
        prompt_end: The last characters of the prompt.
        keep: Whether everything is kept for ``message``; a stream has no use for it.
    """

    __slots__ = ("_answers", "_counts_reasoning", "_form", "_keep", "_new_id", "_prompt_end")

    def __init__(
        self, form: ReplyFormat, new_id: NewId, *, prompt_end: str = "", keep: bool = True
    ) -> None:
        self._form = form
        self._new_id = new_id
        self._prompt_end = prompt_end
        self._keep = keep
        self._counts_reasoning = form.reasoning_parser is not None
        self._answers: dict[int, _Answer] = {}

    def _answer(self, index: int) -> _Answer:
        answer = self._answers.get(index)
        if answer is None:
            answer = self._answers[index] = _Answer(self._form, self._new_id, self._prompt_end)
        return answer

    def take(self, choice: Choice) -> list[Event]:
        """Read what is new in a choice, and, once it has ended, what is left."""
        answer = self._answer(choice.index)
        events = answer.take(choice)
        if self._keep:
            answer.events += events
        return events

    def take_all(self, choices: Sequence[Choice]) -> None:
        """As ``take``, for replies that are sent whole."""
        for choice in choices:
            self.take(choice)

    def finish_reason(self, choice: Choice) -> str | None:
        """Why a choice ended: for its calls, if it has any and was not cut off."""
        if choice.finish_reason == "stop" and self._answer(choice.index).calls:
            return "tool_calls"
        return choice.finish_reason

    @property
    def reasoning_tokens(self) -> int | None:
        """Tokens of all choices that were reasoning; ``None`` without a parser for it.

        Of a batch that holds something else, too, the share of its characters counts.
        """
        if not self._counts_reasoning:
            return None
        return sum(answer.reasoning_tokens for answer in self._answers.values())

    def message(
        self, choice: Choice, reasoning_field: ReasoningField = "reasoning_content"
    ) -> ChatMessage:
        """A choice's message, its reasoning in that field; needs ``keep``."""
        return _message(merged(self._answer(choice.index).events), reasoning_field)


def _message(events: Sequence[Event], reasoning_field: ReasoningField) -> ChatMessage:
    content: list[str] = []
    reasoning: list[str] = []
    names: dict[int, CallStarted] = {}
    arguments: dict[int, list[str]] = {}
    for event in events:
        match event:
            case Content(text):
                content.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case CallStarted(index):
                names[index] = event
                arguments[index] = []
            case CallArguments(index, text):
                arguments[index].append(text)
            case CallAborted(index, text):
                del names[index], arguments[index]
                content.append(text)
            case CallEnded():
                pass
    calls = [
        ToolCall(id=call.id, function=FunctionCall(call.name, "".join(arguments[index])))
        for index, call in names.items()
    ]
    text = "".join(content)
    thoughts = "".join(reasoning) if reasoning else UNSET
    return ChatMessage(
        content=text or (None if calls or reasoning else ""),
        reasoning_content=thoughts if reasoning_field == "reasoning_content" else UNSET,
        reasoning=thoughts if reasoning_field == "reasoning" else UNSET,
        tool_calls=calls or UNSET,
    )

"""What is new in choices, as events of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.frontend.choice import Choice
from muster.frontend.openai.additions import Writer, WriterWithAdditions
from muster.frontend.openai.frames import DONE, ChatFrames, Frames
from muster.frontend.openai.job import Api, Job
from muster.frontend.openai.reading import Reading

__all__ = ["EventWriter", "event_writer"]


def event_writer(job: Job, api: Api[Any], *, always_usage: bool = False) -> Writer:
    """The writer of a request's stream.

    Args:
        job: The request.
        api: Its API.
        always_usage: End with the usage chunk even if the client did not ask for it.
    """
    frames: Frames = api.frames(job)
    writer: EventWriter
    if job.reading is not None and isinstance(frames, ChatFrames):
        writer = _ReadingWriter(job, api, frames, job.reading, always_usage=always_usage)
    else:
        writer = EventWriter(job, api, frames, always_usage=always_usage)
    return writer if job.additions is None else WriterWithAdditions(writer, job.additions)


class EventWriter:
    """Turns what is new in choices into events.

    With ``continuous_usage_stats`` each has the usage up to it, the prompt's tokens included.
    """

    __slots__ = ("_api", "_ended", "_frames", "_job", "_plain", "_usage_at_end", "_usage_in_each")

    def __init__(self, job: Job, api: Api[Any], frames: Frames, *, always_usage: bool) -> None:
        options = job.options
        self._job = job
        self._api = api
        self._frames = frames
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self._usage_at_end = always_usage or bool(options and options.include_usage)
        self._plain = job.scoring is None and not self._usage_in_each
        self._ended: set[int] = set()

    def events(self, changed: Sequence[Choice]) -> bytes:
        """Events for choices that have new output, joined."""
        if len(changed) == 1:  # almost always
            return self._event(changed[0])
        return b"".join([self._event(choice) for choice in changed])

    def unasked(self) -> bytes:
        """The events of a request no engine is asked for: each choice ends where it begins."""
        usage = self._job.usage() if self._usage_in_each else None
        return b"".join(
            self._frames.chunk(choice.index, "", finish_reason="length", logprobs=None, usage=usage)
            for run in self._job.runs
            for choice in run.choices
        )

    def _event(self, choice: Choice) -> bytes:
        if choice.finish_reason is None and self._plain:
            text = choice.take_text()
            if text:
                return self._frames.text(choice.index, text)
            return self._frames.opening(choice.index)
        return self._full_event(choice)

    def _full_event(self, choice: Choice) -> bytes:
        index = choice.index
        usage = self._job.usage() if self._usage_in_each else None
        if index in self._ended:
            return b""
        if choice.finish_reason is not None:
            self._ended.add(index)
        elif not choice.text and not choice.scores:
            return self._frames.opening(index, usage)
        return self._frames.chunk(
            index,
            choice.take_text(),
            finish_reason=choice.finish_reason,
            logprobs=self._api.logprobs(self._job, choice),
            usage=usage,
        )

    def ending(self) -> bytes:
        """What follows the last choice's end."""
        if self._usage_at_end:
            return self._frames.usage(self._job.usage()) + DONE
        return DONE


class _ReadingWriter(EventWriter):
    """The same for answers that are more than text."""

    __slots__ = ("_chat", "_reading")

    def __init__(
        self,
        job: Job,
        api: Api[Any],
        frames: ChatFrames,
        reading: Reading,
        *,
        always_usage: bool,
    ) -> None:
        super().__init__(job, api, frames, always_usage=always_usage)
        self._chat = frames
        self._reading = reading

    def _event(self, choice: Choice) -> bytes:
        index = choice.index
        if index in self._ended:
            return b""
        events = self._reading.take(choice)
        reason = self._reading.finish_reason(choice)
        if reason is not None:
            self._ended.add(index)
        return self._chat.events(
            index,
            events,
            finish_reason=reason,
            logprobs=self._api.logprobs(self._job, choice) if choice.scores else None,
            usage=self._job.usage() if self._usage_in_each else None,
        )

"""Answering a prepared request: whole, or as a stream of events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.http.exchange import Exchange
from muster.frontend.metrics import RequestMeter
from muster.frontend.openai.frames import DONE, ChatFrames, Frames, error_frame
from muster.frontend.openai.job import Api, Job
from muster.frontend.openai.reading import Reading
from muster.frontend.prompt_run import PromptRun
from muster.log import facts

__all__ = ["answer"]

logger = logging.getLogger(__name__)

FIRST_OUTPUT_S = 0.2
"""How long a stream's headers wait for its first output, so that an early failure still gets a
status of its own. Dynamo's value, where it is switched on."""


async def answer(exchange: Exchange, job: Job, api: Api[Any], meter: RequestMeter) -> None:
    """Run ``job`` and send its reply. If the client leaves, every engine is told to stop.

    Raises:
        MusterError: What went wrong before anything was sent. Later errors are sent as an event.
    """
    try:
        for run in job.runs:
            await run.start(job.model, job.scope.context)
        meter.sent(job.prompt_tokens)
        if job.stream:
            await _stream(exchange, job, api, meter)
        else:
            for run in job.runs:
                await _collect(run, meter, job.reading)
            exchange.respond(200, api.reply(job), headers=job.trace_headers())
    except MusterError as error:
        if not exchange.started:
            raise
        _fail_stream(exchange, job, error, meter)
    else:
        meter.finish(job.cached_tokens)
        for run in job.runs:
            await run.settle()
    finally:
        for run in job.runs:
            run.close()


def _fail_stream(exchange: Exchange, job: Job, error: MusterError, meter: RequestMeter) -> None:
    api_error = ApiError.from_error(error)
    meter.fail(api_error.error_type)
    job.scope.fail(error.code)
    logger.warning(
        "stream failed",
        extra=facts(x_request_id=exchange.request_id, code=error.code, error=error.message),
    )
    exchange.end(job.trace_comment() + error_frame(api_error.body()) + DONE)


async def _collect(run: PromptRun, meter: RequestMeter, reading: Reading | None) -> None:
    while not run.finished:
        changed = await run.step()
        meter.tokens(run.new_tokens)
        if reading is not None:
            reading.take_all(changed)


async def _stream(exchange: Exchange, job: Job, api: Api[Any], meter: RequestMeter) -> None:
    writer = _event_writer(job, api)
    patience = asyncio.get_running_loop().call_later(FIRST_OUTPUT_S, _start, exchange)
    data = b""
    try:
        for run in job.runs:
            while not run.finished:
                if data:
                    if exchange.started:
                        exchange.write(data)
                    else:
                        exchange.start_stream(data)
                    if exchange.congested:
                        await exchange.drained()
                changed = await run.step()
                meter.tokens(run.new_tokens)
                data = writer.events(changed)
    finally:
        patience.cancel()
    _start(exchange)
    exchange.end(data + job.trace_comment() + writer.ending())


def _start(exchange: Exchange) -> None:
    if not exchange.started:
        exchange.start_stream()


def _event_writer(job: Job, api: Api[Any]) -> _EventWriter:
    frames: Frames = api.frames(job)
    if job.reading is not None and isinstance(frames, ChatFrames):
        return _ReadingWriter(job, api, frames, job.reading)
    return _EventWriter(job, api, frames)


class _EventWriter:
    """Turns what is new in choices into events."""

    __slots__ = ("_api", "_ended", "_frames", "_job", "_plain", "_sent", "_usage_in_each")

    def __init__(self, job: Job, api: Api[Any], frames: Frames) -> None:
        options = job.options
        self._job = job
        self._api = api
        self._frames = frames
        self._usage_in_each = bool(options and options.continuous_usage_stats)
        self._plain = job.scoring is None and not self._usage_in_each
        self._ended: set[int] = set()
        self._sent: dict[int, int] = {}

    def events(self, changed: Sequence[Choice]) -> bytes:
        """Events for choices that have new output, joined."""
        if len(changed) == 1:  # almost always
            return self._event(changed[0])
        return b"".join([self._event(choice) for choice in changed])

    def _event(self, choice: Choice) -> bytes:
        if choice.finish_reason is None and self._plain:
            text = choice.take_text()
            if text:
                return self._frames.text(choice.index, text)
            return self._frames.opening(choice.index)
        return self._full_event(choice)

    def _full_event(self, choice: Choice) -> bytes:
        index = choice.index
        if index in self._ended:
            return b""
        if choice.finish_reason is not None:
            self._ended.add(index)
        elif not choice.text and not choice.scores:
            return self._frames.opening(index)
        text = choice.take_text()
        before = self._sent.get(index, 0)
        self._sent[index] = before + len(text)
        return self._frames.chunk(
            index,
            text,
            finish_reason=choice.finish_reason,
            logprobs=self._api.logprobs(self._job, choice, before),
            usage=self._job.usage() if self._usage_in_each else None,
        )

    def ending(self) -> bytes:
        """What follows the last choice's end."""
        options = self._job.options
        if options is not None and options.include_usage:
            return self._frames.usage(self._job.usage()) + DONE
        return DONE


class _ReadingWriter(_EventWriter):
    """The same for answers that are more than text."""

    __slots__ = ("_chat", "_reading")

    def __init__(self, job: Job, api: Api[Any], frames: ChatFrames, reading: Reading) -> None:
        super().__init__(job, api, frames)
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
            logprobs=self._api.logprobs(self._job, choice, 0) if choice.scores else None,
            usage=self._job.usage() if self._usage_in_each else None,
        )

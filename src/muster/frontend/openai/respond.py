"""Answering a prepared request: whole, or as a stream of events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from muster.errors import MusterError
from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.openai.additions import Writer
from muster.frontend.openai.event_writer import event_writer
from muster.frontend.openai.frames import DONE, error_frame
from muster.frontend.openai.job import Api, Job
from muster.frontend.openai.pulse import Pulse
from muster.frontend.openai.stream_rules import StreamRules
from muster.frontend.prompt_run import PromptRun
from muster.frontend.request_meter import RequestMeter
from muster.http.exchange import Exchange
from muster.log import facts

__all__ = ["answer"]

logger = logging.getLogger(__name__)


async def answer(
    exchange: Exchange, job: Job, api: Api[Any], meter: RequestMeter, rules: StreamRules
) -> None:
    """Run ``job`` and send its reply. If the client leaves, every engine is told to stop.

    The prompts of one request are answered at the same time; the choices of a whole reply are in
    their order, events of a stream come as they come.

    Raises:
        MusterError: What went wrong before anything was sent. Later errors are sent as an event.
    """
    try:
        if job.stream:
            await _stream(exchange, job, api, meter, rules)
        else:
            if job.asks_engine:
                await _each(job, meter, lambda run: _collect(run, job, meter))
            body = api.reply(job)
            if job.additions is not None:
                body = job.additions.whole(body)
            exchange.respond(200, body, headers=job.trace_headers())
    except MusterError as error:
        if not exchange.started:
            raise
        _fail_stream(exchange, job, error, meter)
    else:
        meter.finish(job.cached_tokens)
        if len(job.runs) == 1:
            await job.runs[0].settle()
        else:
            await _together([run.settle() for run in job.runs])
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


async def _each(
    job: Job,
    meter: RequestMeter,
    read: Callable[[PromptRun], Awaitable[None]],
    sent: Callable[[], None] = lambda: None,
) -> None:
    """Send every prompt and read what comes back. The first to fail ends the others.

    A prompt that has to wait for its turn at an engine does not keep those before it waiting. Once
    all have been taken, ``sent`` is called. Several prompts have ids of their own, as workers may
    refuse two requests of one id at a time: the request's with ``-0``, ``-1`` and so on, as Dynamo's.
    """
    runs, context = job.runs, job.scope.context
    if len(runs) == 1:
        await runs[0].start(job.model, context)
        meter.sent(job.prompt_tokens)
        if job.additions is not None:
            job.additions.sent()
        sent()
        await read(runs[0])
        return
    waiting = len(runs)

    async def run_one(number: int, run: PromptRun) -> None:
        nonlocal waiting
        await run.start(job.model, context.detached(f"{context.id()}-{number}"))
        waiting -= 1
        if not waiting:
            sent()
        await read(run)

    meter.sent(job.prompt_tokens)
    if job.additions is not None:
        job.additions.sent()
    await _together([run_one(number, run) for number, run in enumerate(runs)])


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _collect(run: PromptRun, job: Job, meter: RequestMeter) -> None:
    def changed(choices: Sequence[Choice]) -> bool:
        meter.tokens(run.new_tokens)
        if job.additions is not None:
            job.additions.came()
        if job.reading is not None:
            job.reading.take_all(choices)
        return True

    await run.read(changed)


async def _stream(
    exchange: Exchange, job: Job, api: Api[Any], meter: RequestMeter, rules: StreamRules
) -> None:
    writer = event_writer(job, api, always_usage=rules.always_usage)
    last = b""
    if job.asks_engine:
        with Pulse(exchange, rules) as pulse:

            async def follow(run: PromptRun) -> None:
                nonlocal last
                data = await _follow(run, exchange, writer, pulse, meter)
                if len(job.runs) == 1:
                    last = data
                elif data:
                    pulse.send(data)

            await _each(job, meter, follow, pulse.start)
    else:
        last = writer.unasked()
    if not exchange.started:
        exchange.start_stream()
    exchange.end(last + job.trace_comment() + writer.ending())


async def _follow(
    run: PromptRun, exchange: Exchange, writer: Writer, pulse: Pulse, meter: RequestMeter
) -> bytes:
    """Send a run's events but the last, which are returned: the end goes with them."""
    last = b""

    def changed(choices: Sequence[Choice]) -> bool:
        nonlocal last
        meter.tokens(run.new_tokens)
        data = writer.events(choices)
        if run.finished:
            last = data
        elif data:
            pulse.send(data)
        return not exchange.congested

    await run.read(changed)
    while not run.finished:
        await exchange.drained()
        await run.read(changed)
    return last

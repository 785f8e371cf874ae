from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from muster.clock import SYSTEM_CLOCK
from muster.config.guard import GuardSettings
from muster.frontend.dashboard.events import RecentEvents
from muster.frontend.guard.admission import Admission
from muster.frontend.health import Verdict
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.hub import Hub
from muster.frontend.processes.messages import Channel, Failed, Ready
from muster.frontend.processes.siblings import Siblings
from muster.testing.loops import run


class Part:
    """A process's side, in this process, at the hub over a real socket."""

    def __init__(self, siblings: Siblings, metrics: FrontendMetrics, channel: Channel) -> None:
        self.siblings = siblings
        self.metrics = metrics
        self.channel = channel
        self.events = RecentEvents(SYSTEM_CLOCK)
        self.orphaned = asyncio.Event()
        self.shut_down = asyncio.Event()

    def answer(self, count: int) -> None:
        for _ in range(count):
            meter = self.metrics.start("tiny", "chat_completions", stream=False)
            meter.tokens(2)
            meter.finish()


@contextlib.asynccontextmanager
async def joined(hub: Hub, process: int, *, listens: bool = True) -> AsyncIterator[Part]:
    ours, theirs = socket.socketpair()
    channel, end = await Channel.over(ours), await Channel.over(theirs)
    registry = CollectorRegistry()
    table = ModelTable()
    metrics = FrontendMetrics(registry, table)
    part = Part(Siblings(end, process=process), metrics, channel)
    part.siblings.attach(
        metrics=metrics,
        registry=registry,
        admission=Admission(GuardSettings()),
        verdict=lambda: Verdict("healthy", f"I am {process}"),
        served=lambda: ["tiny"],
        events=part.events,
    )
    hub.joined(process, channel, pid=1000 + process, restarts=0)

    async def attend() -> None:
        while (message := await channel.from_process()) is not None:
            assert not isinstance(message, Ready | Failed)
            hub.heard(process, message)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attend())]
        if listens:
            tasks.append(
                group.create_task(
                    part.siblings.run(shut_down=part.shut_down.set, orphaned=part.orphaned.set)
                )
            )
        try:
            yield part
        finally:
            for task in tasks:
                task.cancel()
            hub.left(process)
            end.close()
            channel.close()


async def tokens(part: Part) -> dict[str, float]:
    text = (await part.siblings.page()).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if line[:1] not in ("#", "")]
    return {name: float(value) for name, _, value in lines}


NAME = 'dynamo_frontend_output_tokens_total{model="tiny"}'


async def until(check: object) -> None:
    assert callable(check)
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - what others say arrives when it does
            await asyncio.sleep(0.01)


def test_a_process_shows_what_all_have_counted() -> None:
    async def main() -> None:
        hub = Hub(2)
        async with joined(hub, 0) as first, joined(hub, 1) as second:
            first.answer(2)
            second.answer(3)
            for part in (first, second):
                assert (await tokens(part))[NAME] == 10
        await hub.close()

    run(main())


def test_what_a_process_counted_stays_when_it_has_ended() -> None:
    async def main() -> None:
        hub = Hub(2)
        async with joined(hub, 0) as first:
            async with joined(hub, 1) as second:
                second.answer(3)
                second.metrics.start("tiny", "chat_completions", stream=False)
                page = await tokens(first)
                assert page['dynamo_frontend_active_requests{model="tiny"}'] == 1
            page = await tokens(first)
            assert page[NAME] == 6
            assert 'dynamo_frontend_active_requests{model="tiny"}' not in page
            assert page['muster_process_up{process="1"}'] == 0
            async with joined(hub, 1) as again:
                again.answer(1)
                assert (await tokens(again))[NAME] == 8
        await hub.close()

    run(main())


def test_of_a_process_that_does_not_answer_the_last_metrics_are_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        hub = Hub(2)
        async with joined(hub, 0) as first, joined(hub, 1, listens=False) as silent:
            silent.answer(4)
            asking = asyncio.create_task(silent.siblings.page())
            await until(lambda: hub._seats[1].page)
            page = await tokens(first)
            assert page[NAME] == 8
            assert page['muster_process_up{process="0"}'] == 1
            assert page['muster_process_up{process="1"}'] == 0
            asking.cancel()
        await hub.close()

    run(main())
    assert "does not say its metrics" in caplog.text


def test_one_that_joins_hears_what_the_others_said_and_what_is_past() -> None:
    async def main() -> None:
        hub = Hub(3)
        async with joined(hub, 0) as first:
            first.answer(2)
            async with joined(hub, 1) as second:
                second.answer(1)
                await until(lambda: dict(first.siblings.verdicts()).get(1))
                await until(
                    lambda: getattr(first.siblings.counts()["tiny"], "output_tokens", 0) == 6
                )
            assert hub.served() == ["tiny"]
            async with joined(hub, 2) as third:
                await until(lambda: dict(third.siblings.verdicts()) == {0: ("healthy", "I am 0")})
                await until(lambda: "tiny" in third.siblings.counts())
                assert third.siblings.counts()["tiny"].output_tokens == 6
                hub.note("error", "process 1 has ended", "SIGKILL")
                await until(lambda: third.events.count and first.events.count)
                assert third.events.after(0)[-1].detail == "SIGKILL"
            async with joined(hub, 1) as again:
                await until(lambda: again.events.count)
                assert again.events.after(0) == first.events.after(0)
        await hub.close()

    run(main())


def test_the_end_of_the_supervisor_is_seen() -> None:
    async def main() -> None:
        hub = Hub(1)
        async with joined(hub, 0) as part:
            part.channel.close()
            async with asyncio.timeout(10):
                await part.orphaned.wait()
        await hub.close()

    run(main())


def test_a_process_that_is_told_to_end_knows_that_all_do_and_gets_no_signal() -> None:
    async def main() -> None:
        hub = Hub(2)
        async with joined(hub, 0) as first, joined(hub, 1) as second:
            hub.drain(0)
            await until(first.shut_down.is_set)
            assert first.siblings.all_drain
            assert not second.shut_down.is_set()
            assert not second.siblings.all_drain
        await hub.close()

    run(main())

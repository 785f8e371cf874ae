"""``GET /v1/muster/live`` over a real frontend: snapshot, changes, coming back, slow watchers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.testing.fleet import FleetSite, frontend, serve, worker
from muster.testing.loops import run
from muster.testing.tiny_model import write_tiny_model

PATH = "/v1/muster/live"


class Watcher:
    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self.reply = reply
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        """The next event: its name and data."""
        name = data = ""
        async with asyncio.timeout(15):
            while True:
                line = (await self.reply.content.readline()).decode()
                if not line:
                    return "end", None
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif not field and data:
                    return name, json.loads(data)

    async def until(self, check: Callable[[Any], Any]) -> Any:
        """The first data that ``check`` likes."""
        while True:
            name, data = await self.next()
            assert name != "end"
            if check(data):
                return data


@contextlib.asynccontextmanager
async def watch(site: FleetSite, last_id: str = "") -> AsyncIterator[Watcher]:
    headers = {"last-event-id": last_id} if last_id else {}
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 22) as session,
        session.get(site.url + PATH, headers=headers) as reply,
    ):
        assert reply.status == 200
        assert reply.content_type == "text/event-stream"
        yield Watcher(reply)


def states(data: Any) -> list[str]:
    return [model and model["state"] for model in data.get("models", {}).values()]


def test_a_watcher_sees_a_worker_come_serve_and_leave(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, watch(site) as watcher:
            name, first = await watcher.next()
            assert (name, first["models"]) == ("snapshot", {})
            assert first["frontend"]["status"] in ("healthy", "unavailable")
            async with worker(registry) as runtime:
                await serve(runtime, model)
                change = await watcher.until(lambda data: "serving" in states(data))
                ((key, view),) = change["models"].items()
                assert (view["model"], view["file_done"]) == ("tiny", view["file_count"])
                (cohort,) = view["cohorts"]
                assert len(cohort["replicas"]) == 1
                assert await site.echo("hello") == "hello"
                change = await watcher.until(lambda data: "tiny" in (data.get("traffic") or {}))
                assert change["traffic"]["tiny"]["started"] > 0
                assert sum(second[5] for second in change["seconds"]) > 0
            gone = await watcher.until(lambda data: None in states(data))
            assert gone["models"] == {key: None}
            whats = [event["what"] for event in gone["events"]]
            assert "gone" in whats

    run(scenario())


def test_a_replica_that_differs_is_a_cohort_that_says_in_what(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=1024)

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as one,
            worker(registry) as two,
        ):
            await serve(one, model)
            await site.listed("tiny")
            await serve(two, other)
            await site.until(lambda: len(site.unserved) == 1)
            async with watch(site) as watcher:
                _, data = await watcher.next()
            (view,) = data["models"].values()
            good, bad = view["cohorts"]
            assert (good["state"], bad["state"], bad["code"]) == (
                "serving",
                "refused",
                "incompatible",
            )
            assert "context_length: 2048 → 1024" in bad["differs"]
            assert "config.json: other bytes" in bad["differs"]
            assert not any(line.startswith("source_path") for line in bad["differs"])
            assert [each["instance"] for each in view["excluded"]] == [
                bad["replicas"][0]["instance"]
            ]
            refused = next(event for event in data["events"] if event["what"] == "refused")
            assert (refused["level"], refused["code"]) == ("error", "incompatible")

    run(scenario())


def test_two_watchers_share_one_look(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            frontend(MemoryRegistry(), tmp_path) as site,
            watch(site) as one,
            watch(site) as two,
        ):
            await one.next()
            await two.next()
            for _ in range(2):
                assert await one.next() == await two.next()
                assert one.last_id == two.last_id

    run(scenario())


def test_a_watcher_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with frontend(MemoryRegistry(), tmp_path) as site, watch(site) as other:
            async with watch(site) as watcher:
                assert (await watcher.next())[0] == "snapshot"
            await other.until(lambda data: data.get("seconds"))
            await other.next()
            async with watch(site, watcher.last_id) as again:
                name, _ = await again.next()
                assert name == "change"
                epoch, number = watcher.last_id.split("-")
                assert again.last_id == f"{epoch}-{int(number) + 1}"
            async with watch(site, "elsewhere-1") as stranger:
                assert (await stranger.next())[0] == "snapshot"

    run(scenario())


def test_seconds_from_before_anybody_watched_are_there(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            assert await site.echo("hello") == "hello"
            await asyncio.sleep(1.5)
            async with watch(site) as watcher:
                _, data = await watcher.next()
            assert sum(second[1] for second in data["seconds"]) > 0
            assert data["traffic"]["tiny"]["ttft_p50"] is not None

    run(scenario())


def test_the_cache_is_shown(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            async with watch(site) as watcher:
                data = await watcher.until(lambda data: data.get("cache"))
            cache = data["cache"]
            assert cache["path"] == str(site.cache)
            assert cache["files"] == len([*(site.cache / "blobs").iterdir()])
            (entry,) = cache["entries"]
            assert entry["name"].startswith("tiny/")
            assert entry["size_bytes"] == cache["size_bytes"]

    run(scenario())


@pytest.mark.parametrize("reads", [False, True])
def test_a_watcher_that_does_not_read_harms_nobody(tmp_path: Path, reads: bool) -> None:
    """It is skipped ahead when it reads again, and its buffer never holds more than a state."""

    async def scenario() -> None:
        async with frontend(MemoryRegistry(), tmp_path) as site, watch(site) as other:
            await other.next()
            port = int(site.url.rpartition(":")[2])
            slow = socket.create_connection(("127.0.0.1", port))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            events = site.fleet.journal.events
            for number in range(4):
                for _ in range(200):
                    events.add("info", "noise", detail="x" * 500)
                data = await other.until(lambda data: data.get("events"))
                assert len(data["events"]) == 200, number
            if reads:
                slow.settimeout(10)
                seen = b""
                while seen.count(b"noise") < 100:
                    seen += await asyncio.to_thread(slow.recv, 1 << 16)
            slow.close()
            assert (await other.next())[0] == "change"

    run(scenario())


def test_a_drain_tells_watchers_and_does_not_wait_for_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with frontend(MemoryRegistry(), tmp_path) as site, watch(site) as watcher:
            await watcher.next()
            assert await site.server.drain()
            data = await watcher.until(lambda data: data.get("frontend"))
            assert data["frontend"]["status"] == "draining"
            assert (await watcher.next())[0] == "end"
            async with (
                aiohttp.ClientSession() as session,
                session.get(site.url + PATH) as reply,
            ):
                assert reply.status == 503

    run(scenario())


def test_there_is_a_limit_to_watchers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            frontend(MemoryRegistry(), tmp_path) as site,
            contextlib.AsyncExitStack() as stack,
        ):
            for _ in range(100):
                await stack.enter_async_context(watch(site))
            status, body = await site.get(PATH)
            assert (status, body["error"]["code"]) == (503, "too_many_watchers")

    run(scenario())


def test_the_page_and_its_parts_come_from_here_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            frontend(MemoryRegistry(), tmp_path) as site,
            aiohttp.ClientSession(site.url) as session,
        ):
            async with session.get("/dashboard") as reply:
                assert reply.status == 200
                page = await reply.text()
                policy = reply.headers["content-security-policy"]
                etag = reply.headers["etag"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in page.replace("http-equiv", "")
            async with session.get("/dashboard", headers={"if-none-match": etag}) as reply:
                assert (reply.status, await reply.read()) == (304, b"")
            async with session.get("/dashboard/", allow_redirects=False) as reply:
                assert (reply.status, reply.headers["location"]) == (308, "../dashboard")
            for name in ("app.js", "stream.js", "style.css", "icon.svg"):
                async with session.get(f"/dashboard/{name}") as reply:
                    assert reply.status == 200, name
            for name in ("index.html", "..%2fassets.py", "../assets.py", "nothing.js"):
                async with session.get(f"/dashboard/{name}") as reply:
                    assert reply.status == 404, name

    run(scenario())


def test_an_instance_out_of_reach_is_an_event_and_so_is_its_return(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            ((key, value),) = (await runtime.discovery.list(INSTANCES)).items()
            instance = Instance.from_json(value)
            unusable = msgspec.structs.replace(instance, transport=Transport("nats_tcp", "nowhere"))
            async with watch(site) as watcher:

                async def wait_for(what: str) -> Any:
                    def of(data: Any) -> list[Any]:
                        return [each for each in data.get("events", []) if each["what"] == what]

                    return of(await watcher.until(of))[0]

                await runtime.discovery.register(INSTANCES, key, unusable.to_json())
                event = await wait_for("an instance gets no requests")
                assert (event["level"], event["model"]) == ("warning", "tiny")
                assert event["detail"].startswith(f"{instance.instance_id:x}: ")
                await runtime.discovery.register(INSTANCES, key, instance.to_json())
                event = await wait_for("an instance gets requests again")
                assert event["detail"] == f"{instance.instance_id:x}"

    run(scenario())

"""A worker's advertised address: tried at the start, and never shared by two."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.errors import ConfigError
from muster.model.card import ModelDeploymentCard
from muster.model.publish.self_probe import judge_answer, probe_address
from muster.testing.loops import run
from muster.testing.ports import free_port
from muster.testing.publishing import PublishingWorker, locations, publishing_worker
from muster.testing.site import Site
from muster.testing.waiting import wait_until

ANSWERS = "the advertised metadata address answers"
DOES_NOT = "does not answer as it should"


async def until_said(caplog: pytest.LogCaptureFixture, *words: str) -> str:
    while not any(word in caplog.text for word in words):  # noqa: ASYNC110 - a log tells nobody
        await asyncio.sleep(0.01)
    return caplog.text


def test_the_worker_fetches_its_own_file_back_and_says_so(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # it would fail there

    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            await until_said(caplog, ANSWERS, DOES_NOT)
            await at.register(model, endpoint=at.runtime.endpoint("ns.comp.other"))

    run(scenario())
    assert caplog.text.count(ANSWERS) == 1
    assert DOES_NOT not in caplog.text


def test_the_worker_knows_its_own_token(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with publishing_worker(metadata=MetadataSettings(token="hidden-words")) as at:
            await at.register(model)
            assert ANSWERS in await until_said(caplog, ANSWERS, DOES_NOT)

    run(scenario())
    assert "hidden-words" not in caplog.text


def test_an_address_nobody_answers_at_is_said_with_what_to_do(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with publishing_worker(advertise_host="127.0.0.2") as at:
            card = (await at.register(model)).card
            await until_said(caplog, DOES_NOT)
            assert (await at.cards()).popitem()[
                1
            ].mdcsum() == card.mdcsum()  # published all the same

    run(scenario())
    (record,) = [r for r in caplog.records if DOES_NOT in r.getMessage()]
    facts = record.__dict__["facts"]
    assert facts["url"].startswith("http://127.0.0.2:")
    assert "MUSTER_ADVERTISE_HOST" in facts["hint"]
    assert "DYN_SYSTEM_HOST" in facts["hint"]


async def elsewhere(handler: Callable[[web.BaseRequest], web.Response]) -> web.ServerRunner:
    """Another service on 127.0.0.2, at a port that no connection of 127.0.0.1 is given by chance."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return handler(request)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.2", free_port()).start()
    return runner


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (lambda _: web.Response(text="hello"), "another service answers there"),
        (lambda _: web.Response(status=404), "does not know the file"),
        (lambda _: web.Response(status=302, headers={"location": "/"}), "status 302"),
        (lambda _: web.Response(headers={"etag": f'"{Digest.of(b"x")}"'}), "another worker"),
    ],
)
def test_an_address_somebody_else_answers_at_is_said(
    model: Path,
    caplog: pytest.LogCaptureFixture,
    reply: Callable[[web.BaseRequest], web.Response],
    words: str,
) -> None:
    async def scenario() -> None:
        other = await elsewhere(reply)
        try:
            port = other.addresses[0][1]
            async with publishing_worker(port=port, advertise_host="127.0.0.2") as at:
                await at.register(model)
                assert words in await until_said(caplog, DOES_NOT)
        finally:
            await other.cleanup()

    run(scenario())


def test_an_address_that_is_silent_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def keep_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)

        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        assert not await probe_address(url, Digest.of(b""), timeout_s=0.1)
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()

    run(scenario())
    assert "no answer within 0.1 s" in caplog.text


@pytest.mark.parametrize("url", ["http://", "nonsense", "http://127.0.0.1:99999/"])
def test_a_probe_raises_nothing(url: str) -> None:
    assert run(probe_address(url, Digest.of(b""))) is False


def test_the_right_answer_is_the_files_own_digest() -> None:
    digest = Digest.of(b"x")
    assert judge_answer(200, f'"{digest}"', digest) is None
    assert judge_answer(200, None, digest)
    assert judge_answer(401, f'"{digest}"', digest) == "it answers with status 401"


def test_two_runtimes_of_one_process_with_one_fixed_port_host_or_fail_loudly(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as first:
            assert first.runtime.status_url is not None
            port = int(first.runtime.status_url.rpartition(":")[2])
            card = (await first.register(model)).card
            with pytest.raises(ConfigError, match=f"port {port} is in use") as caught:
                async with publishing_worker(port=port):
                    raise AssertionError("two servers on one port")
            assert "DYN_SYSTEM_PORT" in caught.value.hint
            assert await first.all_served(card)

    run(scenario())


def test_every_runtime_of_a_process_hosts_with_a_port_of_its_own(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as first, publishing_worker() as second:
            workers: list[PublishingWorker] = [first, second]
            cards = [(await each.register(model)).card for each in workers]
            assert len({each.runtime.status_url for each in workers}) == 2
            assert len({card.mdcsum() for card in cards}) == 1
            for each, card in zip(workers, cards, strict=True):
                assert await each.all_served(card)

    run(scenario())


def test_the_command_says_how_many_files_it_serves_and_how_many_stay(
    site: Site, model: Path
) -> None:
    (model / "big.txt").write_bytes(b"x" * 101)
    (model / "model.safetensors").write_text("weights are expected to stay")
    for path in model.iterdir():
        if path.suffix == ".jinja":
            path.unlink()
    worker = site.worker(model, "tiny", MUSTER_METADATA_MAX_EXTRA_BYTES="100")
    (record,) = site.records("v1/mdc").values()
    card = ModelDeploymentCard.from_json_str(json.dumps(record["card_json"]))
    where = f"{len(locations(card))} files at {card.muster['status']}, 1 left out"
    assert f"({where})" in worker.text()


def test_two_processes_with_one_fixed_port_host_or_fail_loudly(site: Site, model: Path) -> None:
    first = site.worker(model, "tiny", role="first")
    wait_until(lambda: len(site.records("v1/mdc")) == 1, "the first has registered")
    (record,) = site.records("v1/mdc").values()
    port = record["card_json"]["muster"]["status"].rpartition(":")[2]
    command = [sys.executable, "-m", "muster.cli.main", "worker", "--model-path", str(model)]
    second = site.start("second", [*command, "--model-name", "tiny", "--system-port", port])
    assert second.wait(60) == 2
    assert f"port {port} is in use" in second.text()
    assert [*site.records("v1/mdc").values()] == [record]
    assert first.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see what is loaded")
def test_a_worker_that_has_tried_its_address_has_loaded_no_http_client(
    site: Site, model: Path
) -> None:
    worker = site.worker(model, "tiny")
    wait_until(lambda: ANSWERS in worker.text() or DOES_NOT in worker.text(), "it has tried")
    assert ANSWERS in worker.text()
    loaded = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "httptools" in loaded
    assert "aiohttp" not in loaded

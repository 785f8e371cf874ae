"""Several sources for one file: who is asked, what is resumed, who wins, who is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import FetchSettings
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError, DigestMismatchError, SourceBusyError, UntrustedSourceError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.model.fetch.resolved import FetchProgress, FetchState, ResolvedCard
from muster.model.slot import Slot, SlotKind
from muster.testing import metadata_server as reply
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer

SETTINGS = FetchSettings(
    connect_timeout_s=5.0, idle_timeout_s=5.0, card_timeout_s=20.0, hedge_s=0.3
)
DATA = bytes(range(256)) * 8192
"""2 MiB."""


def card(*urls: str, data: bytes = DATA, blobs: str | None = None) -> ModelDeploymentCard:
    """A card whose tokenizer is at the first URL; the others are copies under other names."""
    files = [CheckedFile.at(url, Digest.of(data), len(data)) for url in urls]
    return ModelDeploymentCard(
        display_name="M",
        slug="m",
        tokenizer=Slot(SlotKind.HF_TOKENIZER_JSON, files[0]) if files else None,
        extra_files=tuple(files[1:]),
        muster={"blobs": blobs} if blobs else {},
    )


def replica(*urls: str, host: str | None = "127.0.0.1", **more: Any) -> Replica:
    healthy = more.pop("healthy", True)
    return Replica(
        card=card(*urls, **more), key=urls[0] if urls else "", host=host, healthy=healthy
    )


class Setup:
    """A server of many ways, a cache and a fetcher."""

    def __init__(self, server: MetadataServer, store: BlobStore, fetcher: CardFetcher) -> None:
        self.server = server
        self.store = store
        self.fetcher = fetcher
        self.events: list[FetchProgress] = []

    async def resolve(self, *replicas: Replica) -> ResolvedCard:
        return await self.fetcher.resolve(replicas, self.events.append)

    def asked(self) -> list[str]:
        return [request.target for request in self.server.requests]

    def ranges(self) -> list[str]:
        return [request.headers.get("range", "") for request in self.server.requests]


@contextlib.asynccontextmanager
async def opened(root: Path, settings: FetchSettings, **options: Any) -> AsyncIterator[Setup]:
    store = BlobStore(root / "cache")
    async with MetadataServer() as server, CardFetcher(store, settings, **options) as fetcher:
        yield Setup(server, store, fetcher)


def play(
    root: Path,
    scenario: Callable[[Setup], Coroutine[Any, Any, None]],
    settings: FetchSettings = SETTINGS,
    **options: Any,
) -> None:
    async def main() -> None:
        async with opened(root, settings, **options) as setup:
            await scenario(setup)

    run(main())


def is_whole(resolved: ResolvedCard, data: bytes = DATA) -> bool:
    return resolved.files[0].path.read_bytes() == data


# -- one of several


@pytest.mark.parametrize(
    "bad",
    [
        reply.status(404),
        reply.status(500),
        reply.right(b"\0" * len(DATA)),
        reply.truncated(DATA, 0),
        reply.gzipped(DATA),
        reply.redirect("/good"),
        reply.lying_length(DATA, len(DATA) + 1),
        reply.reset(DATA, 100),
    ],
    ids=["404", "500", "corrupt", "empty", "gzip", "redirect", "too long", "reset"],
)
def test_a_bad_replica_is_passed_over_within_one_attempt(tmp_path: Path, bad: reply.Answer) -> None:
    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/bad/tokenizer.json", bad)
        second = setup.server.add("/good/tokenizer.json", reply.right(DATA))
        # Unhealthy comes last, so that the bad one is asked first.
        resolved = await setup.resolve(replica(first), replica(second, healthy=False))
        assert is_whole(resolved)
        assert setup.asked()[0] == "/bad/tokenizer.json"
        assert resolved.files[0].fetched

    play(tmp_path, scenario)


def test_a_replica_nobody_listens_at_is_passed_over(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        good = setup.server.add("/tokenizer.json", reply.right(DATA))
        dead = replica("http://127.0.0.1:1/tokenizer.json")
        assert is_whole(await setup.resolve(dead, replica(good, healthy=False)))

    play(tmp_path, scenario)


def test_bytes_under_another_name_and_blobs_by_digest_are_as_good(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        gone = setup.server.add("/gone/tokenizer.json", reply.status(404))
        blob = setup.server.add(f"/v1/blobs/{Digest.of(DATA).hex}", reply.right(DATA))
        base = blob.removesuffix(Digest.of(DATA).hex)
        resolved = await setup.resolve(replica(gone), replica(blobs=base))
        assert is_whole(resolved)
        assert setup.asked() == ["/gone/tokenizer.json", f"/v1/blobs/{Digest.of(DATA).hex}"]

    play(tmp_path, scenario)


def test_when_nobody_has_it_every_reason_is_said(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        one = setup.server.add("/one/tokenizer.json", reply.status(404))
        two = setup.server.add("/two/tokenizer.json", reply.right(b"wrong"))
        with pytest.raises(ContentError) as caught:
            await setup.resolve(replica(one), replica(two))
        assert "404" in caught.value.message
        assert "checksum mismatch" in caught.value.message
        assert setup.events[-1].state is FetchState.FAILED
        assert not list(setup.store.root.glob("blobs/*"))

    play(tmp_path, scenario)


# -- resuming


@pytest.mark.parametrize("at", [70_000, 1_000_000, len(DATA) - 1])
def test_what_one_replica_began_another_one_ends(tmp_path: Path, at: int) -> None:
    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/a/tokenizer.json", reply.ranged(DATA, stop_at=at))
        second = setup.server.add("/b/tokenizer.json", reply.ranged(DATA))
        assert is_whole(await setup.resolve(replica(first), replica(second, healthy=False)))
        assert setup.asked() == ["/a/tokenizer.json", "/b/tokenizer.json"]
        begun, resumed = setup.ranges()
        # What the system still held when the connection broke may have to be sent again.
        assert begun == ""
        assert 0 < int(resumed.removeprefix("bytes=").removesuffix("-")) <= at
        asked = setup.server.requests[1].headers
        assert asked["if-range"] == f'"{Digest.of(DATA)}"'

    play(tmp_path, scenario)


def test_a_replica_that_knows_no_ranges_ends_it_too(tmp_path: Path) -> None:
    """As Dynamo's workers do: all of it again, of which the beginning is skipped."""

    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/a/tokenizer.json", reply.ranged(DATA, stop_at=70_000))
        second = setup.server.add("/b/tokenizer.json", reply.right(DATA))
        assert is_whole(await setup.resolve(replica(first), replica(second, healthy=False)))
        assert len(setup.asked()) == 2

    play(tmp_path, scenario)


def test_the_only_replica_is_asked_to_go_on_where_it_broke_off(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        answers = [reply.ranged(DATA, stop_at=at) for at in (100_000, 300_000)]
        url = setup.server.add("/tokenizer.json", reply.in_turn(*answers, reply.ranged(DATA)))
        assert is_whole(await setup.resolve(replica(url)))
        assert setup.ranges()[0] == ""
        assert all(each.startswith("bytes=") for each in setup.ranges()[1:])

    play(tmp_path, scenario)


@pytest.mark.parametrize("size", [len(DATA), None], ids=["size known", "size unknown"])
def test_a_file_that_is_whole_although_its_source_said_more_is_taken(
    tmp_path: Path, size: int | None
) -> None:
    """All bytes came, then the connection broke: nothing is missing, whoever is asked next."""

    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/a/tokenizer.json", reply.lying_length(DATA, len(DATA) + 1))
        second = setup.server.add("/b/tokenizer.json", reply.ranged(DATA))
        slot = Slot(SlotKind.HF_TOKENIZER_JSON, CheckedFile.at(first, Digest.of(DATA), size))
        one = Replica(
            card=ModelDeploymentCard(display_name="M", slug="m", tokenizer=slot), host="127.0.0.1"
        )
        assert is_whole(await setup.resolve(one, replica(second, healthy=False)))

    play(tmp_path, scenario)


def test_a_replica_with_a_larger_file_spoils_nothing_that_is_here(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/a/tokenizer.json", reply.ranged(DATA, stop_at=1_000_000))
        larger = setup.server.add("/b/tokenizer.json", reply.ranged(DATA + b"more"))
        third = setup.server.add("/c/tokenizer.json", reply.ranged(DATA))
        replicas = (replica(first), replica(larger, healthy=False), replica(third, healthy=False))
        assert is_whole(await setup.resolve(*replicas))

    play(tmp_path, scenario)


@pytest.mark.parametrize("lie", [-1, 1, 70_000])
def test_a_part_that_begins_elsewhere_is_not_taken(tmp_path: Path, lie: int) -> None:
    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/a/tokenizer.json", reply.ranged(DATA, stop_at=70_000))
        liar = setup.server.add("/b/tokenizer.json", reply.ranged(DATA, lie=lie))
        with pytest.raises(ContentError, match="sent the part from byte"):
            await setup.resolve(replica(first), replica(liar, healthy=False))

    play(tmp_path, scenario)


def test_a_file_patched_together_from_wrong_parts_is_got_whole_from_who_has_it_right(
    tmp_path: Path,
) -> None:
    """A beginning of wrong bytes spoils what the honest replica adds: it must not be blamed."""

    async def scenario(setup: Setup) -> None:
        wrong = b"\xff" * len(DATA)
        liar = setup.server.add("/a/tokenizer.json", reply.ranged(wrong, stop_at=70_000))
        good = setup.server.add("/b/tokenizer.json", reply.ranged(DATA))
        assert is_whole(await setup.resolve(replica(liar), replica(good, healthy=False)))

    play(tmp_path, scenario)


def test_truncation_at_every_byte_of_a_small_file_is_made_good_by_the_next_replica(
    tmp_path: Path,
) -> None:
    small = b'{"model_type": "x"}'

    async def scenario(setup: Setup) -> None:
        good = setup.server.add("/good/tokenizer.json", reply.ranged(small))
        for at in range(len(small)):
            cut = setup.server.add("/cut/tokenizer.json", reply.truncated(small, at))
            resolved = await setup.resolve(
                replica(cut, data=small), replica(good, data=small, healthy=False)
            )
            assert is_whole(resolved, small)
            setup.store.blob_path(Digest.of(small)).unlink()

    play(tmp_path, scenario)


# -- lagging and busy sources


@pytest.mark.parametrize(
    "slow",
    [
        reply.hang(),
        reply.hang(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(DATA)),
        reply.trickle(DATA, every_s=0.05),
    ],
    ids=["silent", "headers only", "trickle"],
)
def test_a_source_that_lags_gets_another_beside_it(tmp_path: Path, slow: reply.Answer) -> None:
    async def scenario(setup: Setup) -> None:
        first = setup.server.add("/slow/tokenizer.json", slow)
        second = setup.server.add("/good/tokenizer.json", reply.right(DATA))
        assert is_whole(await setup.resolve(replica(first), replica(second, healthy=False)))
        assert setup.asked() == ["/slow/tokenizer.json", "/good/tokenizer.json"]
        assert [path.name for path in setup.store.root.glob("blobs/*")] == [Digest.of(DATA).hex]

    play(tmp_path, scenario)


def test_a_source_below_the_least_rate_is_given_up(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.trickle(DATA, every_s=0.2))
        with pytest.raises(ContentError, match="gave less than 1024 bytes a second"):
            await setup.resolve(replica(url))

    settings = dataclasses.replace(SETTINGS, hedge_s=0.0)
    play(tmp_path, scenario, settings)


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_source_is_asked_again_when_it_wants_to_be(tmp_path: Path, code: int) -> None:
    async def scenario(setup: Setup) -> None:
        date = email.utils.formatdate(time.time() - 10, usegmt=True)
        busy = [reply.busy(when, code) for when in ("0", date)]
        url = setup.server.add("/tokenizer.json", reply.in_turn(*busy, reply.right(DATA)))
        assert is_whole(await setup.resolve(replica(url)))
        assert len(setup.asked()) == 3

    play(tmp_path, scenario)


def test_a_source_that_stays_busy_is_an_error_that_says_so(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.busy("0"))
        with pytest.raises(SourceBusyError, match="503 Service Unavailable"):
            await setup.resolve(replica(url))
        assert len(setup.asked()) > 2

    play(tmp_path, scenario)


def test_while_one_is_busy_another_one_is_asked(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        busy = setup.server.add("/busy/tokenizer.json", reply.busy("60"))
        good = setup.server.add("/good/tokenizer.json", reply.right(DATA))
        assert is_whole(await setup.resolve(replica(busy), replica(good, healthy=False)))

    play(tmp_path, scenario)


def test_a_source_that_failed_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        async with MetadataServer() as other:
            bad = setup.server.add("/tokenizer.json", reply.status(500))
            good = other.add("/tokenizer.json", reply.right(DATA))
            for data in (DATA, DATA + b"1"):
                other.add("/tokenizer.json", reply.right(data))
                resolved = await setup.resolve(
                    replica(bad, data=data), replica(good, data=data, healthy=False)
                )
                assert is_whole(resolved, data)
            assert len(setup.asked()) == 1

    play(tmp_path, scenario)


# -- hub


def test_a_hub_is_asked_only_when_somebody_opted_in_and_may_redirect(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        hub = setup.server.url("")
        setup.server.add("/Org/M/resolve/main/tokenizer.json", reply.redirect("/cdn/blob", 307))
        setup.server.add("/cdn/blob", reply.right(DATA))
        with pytest.raises(ContentError, match="on a hub"):
            await setup.resolve(replica("hf://Org/M/tokenizer.json"))
        assert setup.asked() == []
        settings = dataclasses.replace(SETTINGS, hub_url=hub)
        async with CardFetcher(setup.store, settings, token="secret") as fetcher:
            resolved = await fetcher.resolve([replica("hf://Org/M/tokenizer.json")])
        assert is_whole(resolved)
        assert setup.asked() == ["/Org/M/resolve/main/tokenizer.json", "/cdn/blob"]
        for request in setup.server.requests:
            assert "secret" not in str(request.headers)

    play(tmp_path, scenario)


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/cdn/blob", "ftp://h/x", "/loop"])
def test_a_hub_does_not_send_us_anywhere(tmp_path: Path, to: str) -> None:
    async def scenario(setup: Setup) -> None:
        setup.server.add("/Org/M/resolve/main/tokenizer.json", reply.redirect(to))
        setup.server.add("/loop", reply.redirect("/loop"))
        settings = dataclasses.replace(SETTINGS, hub_url=setup.server.url(""))
        async with CardFetcher(setup.store, settings) as fetcher:
            with pytest.raises(ContentError, match="redirects"):
                await fetcher.resolve([replica("hf://Org/M/tokenizer.json")])

    play(tmp_path, scenario)


def test_the_hubs_cache_on_this_host_needs_no_network(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--Org--M"
    snapshot = folder / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c" * 40)
    (folder / "blobs").mkdir()
    (folder / "blobs" / "etag").write_bytes(DATA)
    (snapshot / "tokenizer.json").symlink_to("../../blobs/etag")

    async def scenario(setup: Setup) -> None:
        assert is_whole(await setup.resolve(replica("hf://Org/M/tokenizer.json")))

    play(tmp_path, scenario, hub_roots=[tmp_path / "hub"])


# -- trust


def test_a_card_sends_us_to_its_own_instance_and_to_nobody_else(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(DATA))
        for host in ("10.1.2.3", None, "worker.invalid"):
            with pytest.raises(UntrustedSourceError) as caught:
                await setup.resolve(replica(url, host=host))
            assert "MUSTER_FETCH_ALLOW=127.0.0.1" in caught.value.hint
        assert setup.asked() == []
        for host in ("127.0.0.1", "::1", "localhost"):
            assert is_whole(await setup.resolve(replica(url, host=host)))

    play(tmp_path, scenario)


@pytest.mark.parametrize("word", ["127.0.0.1", "127.0.0.0/8", "any", "localhost"])
def test_a_setting_allows_more(tmp_path: Path, word: str) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(DATA))
        if word == "localhost":
            url = url.replace("127.0.0.1", "localhost")
        assert is_whole(await setup.resolve(replica(url, host="10.1.2.3")))

    play(tmp_path, scenario, dataclasses.replace(SETTINGS, allow=(word,)))


def test_a_name_is_connected_to_at_the_address_that_was_checked(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(DATA))
        named = url.replace("127.0.0.1", "localhost")
        assert is_whole(await setup.resolve(replica(named, host="127.0.0.1")))
        assert setup.server.requests[0].headers["host"].startswith("localhost:")

    play(tmp_path, scenario)


def test_a_path_is_believed_under_the_directories_that_are_and_links_do_not_lead_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tokenizer.json").write_bytes(DATA)
    (tmp_path / "outside.json").write_bytes(DATA)
    (tmp_path / "models" / "link.json").symlink_to("../outside.json")

    async def scenario(setup: Setup) -> None:
        for path in ("outside.json", "models/link.json", "models/../outside.json"):
            for url in (f"{tmp_path}/{path}", f"file://{tmp_path}/{path}"):
                with pytest.raises(UntrustedSourceError) as caught:
                    await setup.resolve(replica(url))
                assert "MUSTER_FETCH_ROOTS" in caught.value.hint
        assert is_whole(await setup.resolve(replica(f"{tmp_path}/models/tokenizer.json")))

    play(tmp_path, scenario, dataclasses.replace(SETTINGS, roots=(tmp_path / "models",)))


def test_the_token_goes_to_workers_only_and_is_asked_for_by_name(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(DATA))
        await setup.resolve(replica(url))
        assert setup.server.requests[0].headers["authorization"] == "Bearer secret"
        locked = setup.server.add("/locked/tokenizer.json", reply.status(401))
        with pytest.raises(ContentError) as caught:
            await setup.resolve(replica(locked, data=b"other"))
        assert "MUSTER_METADATA_TOKEN" in caught.value.hint
        assert "secret" not in caught.value.diagnostics()

    play(tmp_path, scenario, token="secret")


def test_a_proxy_of_the_environment_is_not_used_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(DATA))
        asks = dataclasses.replace(SETTINGS, use_proxy=True)
        async with CardFetcher(setup.store, asks) as fetcher:
            with pytest.raises(ContentError):
                await fetcher.resolve([replica(url)])
        assert setup.asked() == []
        assert is_whole(await setup.resolve(replica(url)))

    play(tmp_path, scenario)


# -- limits and code


def test_code_is_left_out_and_refused_in_a_slot(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        urls = [
            setup.server.add(f"/{name}", reply.right(DATA))
            for name in ("tokenizer.json", "modeling.py", "MODELING.PY", "x.so")
        ]
        resolved = await setup.resolve(replica(*urls))
        assert {left.code for left in resolved.left_out} == {"code_file"}
        assert len(resolved.left_out) == 3
        assert resolved.local_dir is not None
        assert [path.name for path in resolved.local_dir.iterdir()] == ["tokenizer.json"]
        with pytest.raises(ContentError, match="is code"):
            await setup.resolve(replica(urls[1]))

    play(tmp_path, scenario)


def test_files_beyond_the_limits_of_a_card_are_left_out(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        urls = [setup.server.add(f"/{number}.txt", reply.right(DATA)) for number in range(5)]
        resolved = await setup.resolve(replica(*urls))
        assert [left.code for left in resolved.left_out] == ["limit"] * 2
        assert len(resolved.files) == 3

    play(tmp_path, scenario, dataclasses.replace(SETTINGS, max_files=3))
    limit = dataclasses.replace(SETTINGS, max_card_bytes=3 * len(DATA) + 1)
    play(tmp_path, scenario, limit)


def test_the_digest_of_foreign_bytes_is_not_told(tmp_path: Path) -> None:
    """Else a card could be used to learn what some other server has."""

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(b"secret content"))
        with pytest.raises(DigestMismatchError) as caught:
            await setup.resolve(replica(url))
        assert Digest.of(b"secret content").hex not in caught.value.diagnostics()
        assert Digest.of(DATA).hex in caught.value.message

    play(tmp_path, scenario)


def test_one_bad_card_delays_no_other(tmp_path: Path) -> None:
    """The same digest, from a source that hangs: whoever has a good source does not wait for it."""

    async def scenario(setup: Setup) -> None:
        slow = setup.server.add("/slow/tokenizer.json", reply.hang())
        good = setup.server.add("/good/tokenizer.json", reply.right(DATA))
        async with asyncio.TaskGroup() as group:
            stuck = group.create_task(setup.fetcher.resolve([replica(slow)]))
            await setup.server.wait_for_requests(1)
            assert is_whole(await setup.resolve(replica(good)))
            stuck.cancel()

    play(tmp_path, scenario)

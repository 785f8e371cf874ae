"""The fetch pipeline against a server that does everything wrong, and against itself."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from muster.config.settings import FetchSettings
from muster.content.store import BlobStore
from muster.content.sweep import ORPHAN_AGE_S
from muster.digest import Digest
from muster.errors import (
    ContentError,
    DigestMismatchError,
    SourceError,
    TooLargeError,
)
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.model.fetch.resolved import FetchProgress, FetchState, ResolvedCard
from muster.testing import metadata_server as reply
from muster.testing.metadata_server import MetadataServer

QUICK = FetchSettings(connect_timeout_s=5.0, idle_timeout_s=5.0, card_timeout_s=20.0)
CONFIG = b'{"model_type":"llama"}'
TOKENIZER = b'{"model":{}}' * 50_000
TEMPLATE = b"{{ messages }}"


@pytest.fixture(autouse=True)
def _nothing_of_ours_blocks_the_loop() -> Iterator[None]:
    with blockbuster_ctx("muster"):
        yield


def checked(path: str, data: bytes, size: int | None = None) -> dict[str, Any]:
    size = len(data) if size is None else size
    return {"path": path, "checksum": str(Digest.of(data)), "size": size}


def card(**slots: Any) -> ModelDeploymentCard:
    """A card with these fields; ``config``, ``tokenizer``, ``template`` are short for slots."""
    fields: dict[str, Any] = {
        "display_name": "Org/M",
        "slug": "org_m",
        "model_info": None,
        "tokenizer": None,
        "context_length": 0,
        "kv_cache_block_size": 16,
        "migration_limit": 0,
        "model_type": "Chat | Completions",
        "model_input": "Tokens",
    }
    if "config" in slots:
        fields["model_info"] = {"hf_config_json": slots.pop("config")}
    if "tokenizer" in slots:
        fields["tokenizer"] = {"hf_tokenizer_json": slots.pop("tokenizer")}
    if "template" in slots:
        file = {"is_custom": True, "file": slots.pop("template")}
        fields["chat_template_file"] = {"hf_chat_template": file}
    return ModelDeploymentCard.from_json_str(json.dumps(fields | slots))


def replica(content: ModelDeploymentCard) -> Replica:
    """An instance on this host that published the card."""
    return Replica(card=content, key="ns/backend/generate/1", host="127.0.0.1")


def view_of(resolved: ResolvedCard) -> Path:
    """The directory of a card whose files are on the disk."""
    assert resolved.local_dir is not None
    return resolved.local_dir


class Setup:
    """A server, a cache and a fetcher."""

    def __init__(self, server: MetadataServer, store: BlobStore, fetcher: CardFetcher) -> None:
        self.server = server
        self.store = store
        self.fetcher = fetcher
        self.events: list[FetchProgress] = []

    async def resolve(self, content: ModelDeploymentCard) -> ResolvedCard:
        return await self.fetcher.resolve([replica(content)], self.events.append)

    def blobs(self) -> list[str]:
        directory = self.store.root / "blobs"
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def states(self, name: str) -> list[FetchState]:
        return [event.state for event in self.events if event.name == name]


@contextlib.asynccontextmanager
async def opened(
    root: Path, settings: FetchSettings = QUICK, **options: Any
) -> AsyncIterator[Setup]:
    store = BlobStore(root)
    settings = dataclasses.replace(settings, roots=settings.roots or (root.parent,))
    async with MetadataServer() as server, CardFetcher(store, settings, **options) as fetcher:
        yield Setup(server, store, fetcher)


Scenario = Callable[[Setup], Coroutine[Any, Any, None]]


def play(root: Path, scenario: Scenario, settings: FetchSettings = QUICK, **options: Any) -> None:
    async def run() -> None:
        async with opened(root, settings, **options) as setup:
            await scenario(setup)

    asyncio.run(run())


def refusal(root: Path, answer: reply.Answer, data: bytes = CONFIG, **options: Any) -> ContentError:
    """What is raised when ``data`` is answered so; checks that nothing is left and nothing served."""
    caught: list[ContentError] = []

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", answer)
        with pytest.raises(ContentError) as error:
            await setup.resolve(card(config=checked(url, data)))
        assert setup.blobs() == []
        assert setup.states("config.json")[-1] is FetchState.FAILED
        assert setup.events[-1].reason == error.value.message
        assert not (setup.store.root / "by-slug").exists()
        error.value.add_note(url)
        caught.append(error.value)

    play(root, scenario, **options)
    return caught[0]


def url_in(error: ContentError) -> str:
    return error.__notes__[0]


# -- what should work


def test_every_slot_points_at_a_verified_local_copy(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/m/config.json", reply.right(CONFIG)), CONFIG),
            tokenizer=checked(
                serve("/m/tokenizer.json", reply.without_length(TOKENIZER)), TOKENIZER
            ),
            template=checked(serve("/m/my.jinja", reply.right(TEMPLATE)), TEMPLATE),
            extra_files=[checked(serve("/m/special%20map.json", reply.right(b"{}")), b"{}")],
        )
        resolved = await setup.resolve(content)
        view = setup.store.root / "by-slug" / "org_m" / content.mdcsum()
        assert view_of(resolved) == view
        assert resolved.mdcsum == content.mdcsum()
        assert {path.name: path.read_bytes() for path in view.iterdir()} == {
            "config.json": CONFIG,
            "tokenizer.json": TOKENIZER,
            "my.jinja": TEMPLATE,
            "special map.json": b"{}",
        }
        assert [file.path for file, _ in resolved.card.iter_metadata_files()] == [
            str(view / name)
            for name in ("config.json", "tokenizer.json", "my.jinja", "special map.json")
        ]
        assert all(file.url is None for file, _ in resolved.card.iter_metadata_files())
        assert resolved.left_out == ()
        assert resolved.find_file("tokenizer.json") == view / "tokenizer.json"
        assert resolved.find_file("missing") is None
        assert all(file.fetched for file in resolved.files)
        assert len(setup.blobs()) == 4

    play(tmp_path, scenario)


def test_a_request_asks_for_the_plain_file_and_gives_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/m/we%25ird%20n%C3%A4me.json", reply.right(CONFIG))
        resolved = await setup.resolve(card(config=checked(url, CONFIG)))
        (request,) = setup.server.requests
        assert (request.method, request.target) == ("GET", "/m/we%25ird%20n%C3%A4me.json")
        assert request.headers["accept-encoding"] == "identity"
        assert not {"authorization", "cookie", "referer"} & request.headers.keys()
        assert resolved.files[0].name == "we%ird näme.json"

    play(tmp_path, scenario)


def test_progress_tells_every_step_of_every_file(tmp_path: Path) -> None:
    big = os.urandom(3 << 20)

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(big))
        content = card(tokenizer=checked(url, big))
        await setup.resolve(content)
        states = setup.states("tokenizer.json")
        assert states[0] is FetchState.FETCHING
        assert states[-1] is FetchState.VERIFIED
        assert states[-2] is FetchState.VERIFYING
        assert set(states[:-2]) == {FetchState.FETCHING}
        assert len(states) > 4
        done = [event.done_bytes for event in setup.events]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, len(big))
        assert {event.total_bytes for event in setup.events} == {len(big)}
        assert {event.place for event in setup.events} == {url}
        setup.events.clear()
        await setup.resolve(content)
        assert setup.states("tokenizer.json") == [FetchState.CACHED]
        assert setup.events[0].done_bytes == len(big)

    play(tmp_path, scenario)


def test_files_of_a_card_come_in_parallel_up_to_the_setting(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        files = [
            checked(setup.server.add(f"/{number}", reply.hang()), b"%d" % number)
            for number in range(6)
        ]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(setup.resolve(card(extra_files=files)))
            await setup.server.wait_for_requests(4)
            # a fifth request would come at once if nothing held it back
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await setup.server.wait_for_requests(5)
            task.cancel()

    play(tmp_path, scenario, FetchSettings(parallel=4))


def test_a_warm_cache_needs_no_network(tmp_path: Path) -> None:
    async def first(setup: Setup) -> None:
        urls.append(setup.server.add("/config.json", reply.right(CONFIG)))
        await setup.resolve(card(config=checked(urls[0], CONFIG)))

    async def again(setup: Setup) -> None:
        before = {path: path.stat() for path in (setup.store.root / "blobs").iterdir()}
        resolved = await setup.resolve(card(config=checked(urls[0], CONFIG)))
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG
        assert [file.fetched for file in resolved.files] == [False]
        # nor does the place matter: nobody can fetch this one
        await setup.resolve(card(config=checked("mx://somewhere/config.json", CONFIG)))
        assert setup.server.requests == []
        assert before == {path: path.stat() for path in (setup.store.root / "blobs").iterdir()}

    urls: list[str] = []
    play(tmp_path, first)
    play(tmp_path, again)  # the first server is gone


def test_models_share_equal_files_and_keep_their_views_apart(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        other = setup.server.add("/other/config.json", reply.right(b"{}"))
        one = await setup.resolve(card(config=checked(url, CONFIG)))
        same = await setup.resolve(card(config=checked(url, CONFIG), display_name="Org/N"))
        changed = await setup.resolve(card(config=checked(other, b"{}")))
        assert len({view_of(each) for each in (one, same, changed)}) == 3
        assert len(setup.blobs()) == 2
        assert (view_of(one) / "config.json").read_bytes() == CONFIG
        assert (view_of(changed) / "config.json").read_bytes() == b"{}"
        assert len(setup.server.requests) == 2

    play(tmp_path, scenario)


@pytest.mark.parametrize("spoil", ["truncate", "flip", "empty"])
def test_a_spoiled_blob_is_fetched_again(tmp_path: Path, spoil: str) -> None:
    spoiled = {"truncate": CONFIG[:-1], "flip": b"[" + CONFIG[1:], "empty": b""}[spoil]

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        content = card(config=checked(url, CONFIG))
        path = view_of(await setup.resolve(content)) / "config.json"
        blob = path.resolve()
        blob.unlink()
        blob.write_bytes(spoiled)
        resolved = await setup.resolve(content)
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG
        assert len(setup.server.requests) == 2
        assert setup.blobs() == [Digest.of(CONFIG).hex]

    play(tmp_path, scenario)


def test_a_legacy_card_without_sizes_works(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        file = {"path": url, "checksum": str(Digest.of(CONFIG))}
        resolved = await setup.resolve(card(config=file))
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG

    play(tmp_path, scenario)


def test_a_body_shorter_than_declared_is_fine_if_its_bytes_are_right(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        await setup.resolve(card(config=checked(url, CONFIG, size=10_000)))

    play(tmp_path, scenario)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/merges.txt", reply.right(b""))
        resolved = await setup.resolve(card(extra_files=[checked(url, b"")]))
        assert (view_of(resolved) / "merges.txt").read_bytes() == b""

    play(tmp_path, scenario)


def test_a_card_without_files_needs_nothing(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        resolved = await setup.resolve(card())
        assert resolved.files == ()
        assert view_of(resolved).is_dir()

    play(tmp_path, scenario)


# -- files of this host


@pytest.mark.parametrize("form", ["path", "file url", "link"])
def test_a_local_file_goes_through_the_cache_as_any_other(tmp_path: Path, form: str) -> None:
    source = tmp_path / "models" / "my model" / "config.json"
    source.parent.mkdir(parents=True)
    source.write_bytes(CONFIG)
    if form == "link":
        blob = tmp_path / "models" / "blob"
        source.rename(blob)
        source.symlink_to(blob)
    path = source.as_uri() if form == "file url" else str(source)

    async def scenario(setup: Setup) -> None:
        resolved = await setup.resolve(card(config=checked(path, CONFIG)))
        source.unlink()
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG
        assert setup.blobs() == [Digest.of(CONFIG).hex]

    play(tmp_path / "cache", scenario)


def test_nothing_beside_a_local_file_is_linked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(CONFIG)
    (tmp_path / "secret").write_bytes(b"secret")

    async def scenario(setup: Setup) -> None:
        resolved = await setup.resolve(card(config=checked(str(tmp_path / "config.json"), CONFIG)))
        assert [path.name for path in view_of(resolved).iterdir()] == ["config.json"]

    play(tmp_path / "cache", scenario)


@pytest.mark.parametrize(
    "place",
    [
        "/nowhere/config.json",
        "file:///nowhere/config.json",
        "hf://Org/M/config.json",
        "mx://Org/M/config.json",
        "relative/config.json",
        "http://127.0.0.1:1/config.json",
    ],
)
def test_the_model_path_stands_in_for_a_place_that_does_not_give_the_file(
    tmp_path: Path, place: str
) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "config.json").write_bytes(CONFIG)

    async def scenario(setup: Setup) -> None:
        resolved = await setup.resolve(card(config=checked(place, CONFIG)))
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG

    play(tmp_path / "cache", scenario, model_path=overlay)


def test_the_model_path_is_verified_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"other")

    async def scenario(setup: Setup) -> None:
        with pytest.raises(ContentError) as caught:
            await setup.resolve(card(config=checked("/nowhere/config.json", CONFIG)))
        assert "/nowhere/config.json" in caught.value.message
        assert f"checksum mismatch for {tmp_path / 'config.json'}" in caught.value.message
        assert setup.blobs() == []

    play(tmp_path / "cache", scenario, model_path=tmp_path)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/nowhere/config.json", "/nowhere/config.json"),
        ("relative/config.json", "not an absolute path"),
        ("", "unsafe file name"),
        ("hf://Org/M/config.json", "on a hub, and none is asked"),
        ("mx://Org/M/config.json", "unsupported scheme 'mx'"),
        ("s3://bucket/config.json", "unsupported scheme 's3'"),
        ("file://elsewhere/config.json", "elsewhere"),
        ("/dev/zero", "under no directory that is believed"),
    ],
)
def test_a_place_nobody_can_read_is_an_error_that_says_what_to_do(
    tmp_path: Path, place: str, words: str
) -> None:
    async def scenario(setup: Setup) -> None:
        with pytest.raises(ContentError) as caught:
            await setup.resolve(card(config=checked(place, CONFIG)))
        assert words in caught.value.message
        assert setup.blobs() == []

    play(tmp_path, scenario)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")

    async def scenario(setup: Setup) -> None:
        with pytest.raises(SourceError, match="not a regular file"):
            await setup.resolve(card(config=checked(str(tmp_path / "config.json"), CONFIG)))

    play(tmp_path / "cache", scenario)


def test_a_local_file_over_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(CONFIG)

    async def scenario(setup: Setup) -> None:
        with pytest.raises(TooLargeError) as caught:
            await setup.resolve(card(config=checked(str(path), CONFIG, size=5)))
        assert caught.value.message == f"{path} is {len(CONFIG)} bytes, exceeds cap 5"

    play(tmp_path / "cache", scenario)


# -- what a bad server may do


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (404, "404 Not Found"),
        (500, "500 Internal Server Error"),
        (206, "206 Partial Content"),
        (203, "203 Non-Authoritative Information"),
    ],
)
def test_only_200_counts_even_with_the_right_bytes(tmp_path: Path, code: int, text: str) -> None:
    error = refusal(tmp_path, reply.status(code, CONFIG))
    assert type(error) is SourceError
    assert error.message == f"fetching {url_in(error)} returned status {text}"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(tmp_path: Path, code: int) -> None:
    async def scenario(setup: Setup) -> None:
        good = setup.server.add("/good/config.json", reply.right(CONFIG))
        url = setup.server.add("/config.json", reply.redirect(good, code))
        with pytest.raises(SourceError, match=f"returned status {code}") as caught:
            await setup.resolve(card(config=checked(url, CONFIG)))
        assert "redirects" in caught.value.hint
        assert [request.target for request in setup.server.requests] == ["/config.json"]

    play(tmp_path, scenario)


def test_wrong_bytes_are_refused(tmp_path: Path) -> None:
    wrong = b"X" * len(CONFIG)
    error = refusal(tmp_path, reply.right(wrong))
    assert type(error) is DigestMismatchError
    assert error.message == f"checksum mismatch for {url_in(error)}: expected {Digest.of(CONFIG)}"


def test_a_length_over_the_declared_size_is_refused_before_the_body(tmp_path: Path) -> None:
    error = refusal(tmp_path, reply.hang(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n"))
    assert type(error) is TooLargeError
    assert error.message == f"{url_in(error)} reports 999 bytes, exceeds cap {len(CONFIG)}"


def test_the_absolute_limit_holds_where_the_card_declares_more(tmp_path: Path) -> None:
    settings = FetchSettings(max_file_bytes=10)
    error = refusal(tmp_path, reply.right(CONFIG), settings=settings)
    assert error.message == f"{url_in(error)} reports {len(CONFIG)} bytes, exceeds cap 10"


@pytest.mark.parametrize("answer", [reply.endless(), reply.without_length(CONFIG + b"x")])
def test_a_body_without_length_is_cut_at_the_cap(tmp_path: Path, answer: reply.Answer) -> None:
    error = refusal(tmp_path, answer)
    assert type(error) is TooLargeError
    assert error.message == f"{url_in(error)} body exceeds cap {len(CONFIG)}"


@pytest.mark.parametrize("at", range(len(CONFIG)))
def test_a_body_cut_at_any_byte_is_refused(tmp_path: Path, at: int) -> None:
    error = refusal(tmp_path, reply.truncated(CONFIG, at))
    assert type(error) is SourceError
    assert error.message == (
        f"streaming body from {url_in(error)}: it ended after {at} bytes of {len(CONFIG)}"
    )


def test_a_length_that_is_too_small_is_refused(tmp_path: Path) -> None:
    # as wrong bytes, or as bytes after the end, whichever the client meets first
    error = refusal(tmp_path, reply.lying_length(CONFIG, 5))
    assert isinstance(error, DigestMismatchError | SourceError)


def test_compressed_bodies_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, reply.gzipped(CONFIG), data=b"x" * 1000)
    assert type(error) is SourceError
    assert "content encoding 'gzip'" in error.message


@pytest.mark.parametrize(
    "answer",
    [
        reply.hang(),
        reply.hang(b"HTTP/1.1 200 OK\r\n"),
        reply.hang(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"),
    ],
    ids=["before the answer", "in the head", "in the body"],
)
def test_silence_has_a_limit(tmp_path: Path, answer: reply.Answer) -> None:
    error = refusal(tmp_path, answer, settings=FetchSettings(idle_timeout_s=0.1))
    assert type(error) is SourceError
    assert error.message == f"{url_in(error)} was silent for 0.1 s"


def test_a_trickle_ends_at_the_cards_deadline(tmp_path: Path) -> None:
    settings = FetchSettings(idle_timeout_s=5.0, card_timeout_s=0.3)
    error = refusal(tmp_path, reply.trickle(CONFIG, every_s=0.05), settings=settings)
    assert type(error) is SourceError
    assert error.message == "'config.json' was not here after 0.3 s, the limit for a card"


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"],
)
def test_an_answer_that_is_not_http_is_a_source_error(tmp_path: Path, raw: bytes) -> None:
    async def answer(connection: reply.Connection) -> None:
        await connection.send(raw)

    assert type(refusal(tmp_path, answer)) is SourceError


def test_nobody_listening_is_a_source_error(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = "http://127.0.0.1:1/config.json"
        with pytest.raises(SourceError, match=r"^cannot fetch http://127.0.0.1:1/config.json"):
            await setup.resolve(card(config=checked(url, CONFIG)))

    play(tmp_path, scenario)


def test_connecting_has_a_limit(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):  # until the system takes no more connections for it
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}/config.json"
            with pytest.raises(SourceError) as caught:
                await setup.resolve(card(config=checked(url, CONFIG)))
        assert caught.value.message == f"connecting to {url} took longer than 0.2 s"

    play(tmp_path, scenario, FetchSettings(connect_timeout_s=0.2))


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:1/config.json?token=hunter2#hunter2",
        "http://hunter2@127.0.0.1:1/config.json",
        "http://127.0.0.1:1/config.json?token=hunter2",
    ],
)
def test_secrets_in_a_url_are_never_sent_nor_shown(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(setup: Setup) -> None:
        url_here = url.replace(":1/", f":{setup.server.port}/")
        with pytest.raises(SourceError) as caught:
            await setup.resolve(card(config=checked(url_here, CONFIG)))
        shown = [caught.value.diagnostics(), caplog.text, *map(repr, setup.events)]
        assert "hunter2" not in "".join(shown)
        if "@" in url:
            assert setup.server.requests == []

    play(tmp_path, scenario)


# -- names


@pytest.mark.parametrize("segment", ["..%2f..%2fpwned", "%00x", "%2e%2e%2f", "%ff", "a" * 256])
def test_an_unsafe_name_in_a_slot_refuses_the_card(tmp_path: Path, segment: str) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.url(f"/m/{segment}")
        with pytest.raises(ContentError, match="unsafe file name"):
            await setup.resolve(card(config=checked(url, CONFIG)))
        assert setup.server.requests == []

    play(tmp_path, scenario)


def test_an_unsafe_name_of_an_extra_file_leaves_that_file_out(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        bad = checked(setup.server.url("/..%2fpwned"), b"x")
        resolved = await setup.resolve(card(config=checked(url, CONFIG), extra_files=[bad]))
        assert [path.name for path in view_of(resolved).iterdir()] == ["config.json"]
        assert "unsafe file name" in resolved.left_out[0].message

    play(tmp_path, scenario)


def test_an_extra_file_never_takes_a_slots_name(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        evil = checked(serve("/evil/config.json", reply.right(b"evil")), b"evil")
        encoded = checked(serve("/evil/con%66ig.json", reply.right(b"evil2")), b"evil2")
        content = card(
            config=checked(serve("/config.json", reply.right(CONFIG)), CONFIG),
            extra_files=[evil, encoded],
        )
        resolved = await setup.resolve(content)
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG
        assert [left.code for left in resolved.left_out] == ["name_taken", "name_taken"]
        assert [request.target for request in setup.server.requests] == ["/config.json"]

    play(tmp_path, scenario)


def test_two_slots_with_one_name_each_get_their_own_bytes(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/a/config.json", reply.right(CONFIG)), CONFIG),
            template=checked(serve("/b/config.json", reply.right(TEMPLATE)), TEMPLATE),
        )
        resolved = await setup.resolve(content)
        paths = [Path(file.path or "") for file, _ in resolved.card.iter_metadata_files()]
        assert [path.read_bytes() for path in paths] == [CONFIG, TEMPLATE]
        assert (view_of(resolved) / "config.json").read_bytes() == CONFIG

    play(tmp_path, scenario)


# -- extra files that cannot be had


def test_an_extra_file_that_cannot_be_had_is_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/config.json", reply.right(CONFIG)), CONFIG),
            extra_files=[
                checked(serve("/missing.txt", reply.status(404)), b"m"),
                checked(serve("/wrong.txt", reply.right(b"y")), b"x"),
                checked(serve("/big.txt", reply.right(b"z" * 100)), b"z" * 100, size=1),
                checked("hf://Org/M/hub.txt", b"h"),
                checked(serve("/good.txt", reply.right(b"good")), b"good"),
            ],
        )
        resolved = await setup.resolve(content)
        assert sorted(path.name for path in view_of(resolved).iterdir()) == [
            "config.json",
            "good.txt",
        ]
        assert {left.name: left.code for left in resolved.left_out} == {
            "missing.txt": "source",
            "wrong.txt": "digest_mismatch",
            "big.txt": "too_large",
            "hub.txt": "source",
        }
        assert [file.basename() for file in resolved.card.extra_files] == ["good.txt"]
        assert setup.states("missing.txt")[-1] is FetchState.FAILED
        logged = [getattr(record, "facts", {}).get("file") for record in caplog.records]
        assert sorted(filter(None, logged)) == ["big.txt", "hub.txt", "missing.txt", "wrong.txt"]

    play(tmp_path, scenario)


def test_an_extra_file_that_hangs_does_not_take_the_model_with_it(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/config.json", reply.right(CONFIG)), CONFIG),
            extra_files=[checked(serve("/slow.txt", reply.trickle(b"slow", every_s=0.1)), b"slow")],
        )
        resolved = await setup.resolve(content)
        assert [left.name for left in resolved.left_out] == ["slow.txt"]

    play(tmp_path, scenario, FetchSettings(card_timeout_s=0.3))


def test_one_slot_that_fails_stops_the_others_and_leaves_only_whole_blobs(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nab" % len(TOKENIZER)
        content = card(
            config=checked(serve("/config.json", reply.status(404)), CONFIG),
            tokenizer=checked(serve("/tokenizer.json", reply.hang(head)), TOKENIZER),
        )
        with pytest.raises(SourceError, match="404"):
            await setup.resolve(content)
        assert setup.blobs() == []

    play(tmp_path, scenario)


def test_where_the_cache_cannot_be_written_the_files_are_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")

    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/config.json", reply.right(CONFIG))
        bad = setup.server.add("/extra.txt", reply.right(b"wrong"))
        content = card(config=checked(url, CONFIG), extra_files=[checked(bad, b"right")])
        for states in (["fetching", "verifying", "verified"], ["cached"]):
            setup.events.clear()
            resolved = await setup.resolve(content)
            assert resolved.local_dir is None
            assert setup.states("config.json")[-len(states) :] == states
            path = resolved.find_file("config.json")
            assert path is not None
            assert path.read_bytes() == CONFIG
            assert [left.code for left in resolved.left_out] == ["digest_mismatch"]
        assert "kept in memory" in caplog.text

    play(tmp_path / "file" / "cache", scenario)


# -- many at once, and sudden ends


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(TOKENIZER)
        url = setup.server.add("/tokenizer.json", reply.hang(head + TOKENIZER[:-1]))
        on_disk = asyncio.Event()

        def watch(event: FetchProgress) -> None:
            if event.done_bytes:
                on_disk.set()

        async with asyncio.TaskGroup() as group:
            content = card(tokenizer=checked(url, TOKENIZER))
            task = group.create_task(setup.fetcher.resolve([replica(content)], watch))
            await on_disk.wait()
            assert [name[64:69] for name in setup.blobs()] == [".tmp."]
            task.cancel()
        assert task.cancelled()
        assert setup.blobs() == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("turns", range(0, 60, 3))
def test_cancelling_at_any_moment_leaves_nothing_or_a_whole_blob(
    tmp_path: Path, turns: int
) -> None:
    async def scenario(setup: Setup) -> None:
        url = setup.server.add("/tokenizer.json", reply.right(TOKENIZER))
        async with asyncio.TaskGroup() as group:
            content = card(tokenizer=checked(url, TOKENIZER))
            task = group.create_task(setup.fetcher.resolve([replica(content)]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        assert all(len(name) == 64 for name in setup.blobs())

    play(tmp_path, scenario)


def test_eight_resolves_of_one_card_fetch_each_file_once(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/config.json", reply.right(CONFIG)), CONFIG),
            tokenizer=checked(serve("/tokenizer.json", reply.right(TOKENIZER)), TOKENIZER),
        )
        results = await asyncio.gather(*(setup.resolve(content) for _ in range(8)))
        assert {view_of(result) for result in results} == {view_of(results[0])}
        assert (view_of(results[0]) / "tokenizer.json").read_bytes() == TOKENIZER
        assert setup.blobs() == sorted(Digest.of(data).hex for data in (CONFIG, TOKENIZER))
        assert sorted(request.target for request in setup.server.requests) == [
            "/config.json",
            "/tokenizer.json",
        ]

    play(tmp_path, scenario)


def test_a_slow_place_does_not_hold_up_a_good_place_of_the_same_file(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        slow = setup.server.add("/slow/config.json", reply.hang())
        good = setup.server.add("/good/config.json", reply.right(CONFIG))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(setup.resolve(card(config=checked(slow, CONFIG))))
            await setup.server.wait_for_requests(1)
            async with asyncio.timeout(5):
                await setup.resolve(card(config=checked(good, CONFIG)))
            task.cancel()

    play(tmp_path, scenario)


_CHILD = """
import asyncio, sys
from pathlib import Path
from muster.config.settings import FetchSettings
from muster.content.store import BlobStore
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica

async def main():
    card = ModelDeploymentCard.from_json_str(sys.stdin.read())
    store = BlobStore(Path(sys.argv[1]))
    store.prepare()
    async with CardFetcher(store, FetchSettings()) as fetcher:
        replica = Replica(card=card, host="127.0.0.1")
        resolved = await fetcher.resolve([replica], lambda event: print(event.state, flush=True))
    print(resolved.local_dir)

asyncio.run(main())
"""


async def child(root: Path, content: ModelDeploymentCard) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(content.to_json_str().encode())
    process.stdin.close()
    return process


def test_two_processes_share_one_cache(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        serve = setup.server.add
        content = card(
            config=checked(serve("/config.json", reply.right(CONFIG)), CONFIG),
            tokenizer=checked(serve("/tokenizer.json", reply.right(TOKENIZER)), TOKENIZER),
        )
        processes = [await child(tmp_path, content) for _ in range(2)]
        outputs = [(await process.communicate())[0].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        view = setup.store.view_directory("org_m", content.mdcsum())
        assert {output.split()[-1] for output in outputs} == {str(view)}
        assert (view / "tokenizer.json").read_bytes() == TOKENIZER
        assert setup.blobs() == sorted(Digest.of(data).hex for data in (CONFIG, TOKENIZER))

    play(tmp_path, scenario)


def test_a_killed_process_leaves_at_most_a_temporary_file_that_the_next_start_sweeps(
    tmp_path: Path,
) -> None:
    async def scenario(setup: Setup) -> None:
        data = os.urandom(2 << 20)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data)
        url = setup.server.add("/tokenizer.json", reply.hang(head + data[: 1 << 20]))
        content = card(tokenizer=checked(url, data))
        process = await child(tmp_path, content)
        assert process.stdout is not None
        for _ in range(2):  # at its start, then after the first piece on the disk
            assert (await process.stdout.readline()).strip() == b"fetching"
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        (left,) = setup.blobs()
        assert left.startswith(f"{Digest.of(data).hex}.tmp.{process.pid}.")
        # not in the way of the next one ...
        setup.server.add("/tokenizer.json", reply.right(data))
        await setup.resolve(content)
        assert await asyncio.to_thread(setup.store.find, Digest.of(data)) is not None
        # ... and gone once it is old enough to be nobody's
        status = (tmp_path / "blobs" / left).stat()
        old = status.st_mtime - ORPHAN_AGE_S
        os.utime(tmp_path / "blobs" / left, (old, old))
        await asyncio.to_thread(setup.store.prepare)
        assert setup.blobs() == [Digest.of(data).hex]

    play(tmp_path, scenario)

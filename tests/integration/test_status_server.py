"""The worker's status server over real sockets, spoken to byte by byte where a client would tidy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter

from muster.config.settings import MetadataSettings, SystemSettings
from muster.content.snapshot import take_snapshot
from muster.digest import Digest
from muster.errors import ConfigError
from muster.http.file_transfer import PIECE_BYTES
from muster.names import EndpointId
from muster.runtime.metadata.registry import (
    BASE_SUFFIX,
    Artifact,
    MetadataArtifactRegistry,
    MetadataKey,
    MetadataOwner,
)
from muster.runtime.metadata.route import format_path
from muster.runtime.serving.health import HealthReport, StaleRegistry
from muster.runtime.status.server import StatusServer

OWNER = MetadataOwner(1, EndpointId("ns", "backend", "generate"))
READY = HealthReport(ready=True, uptime_s=6.5, endpoints={"generate": True})
NOT_READY = HealthReport(
    ready=False,
    uptime_s=0.25,
    endpoints={"generate": True, "embed": False},
    reasons=("ns/backend/embed: starting",),
    instance_id=0xAB12,
)


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Fixture:
    """A running server, its registry, and what it will say of its health."""

    def __init__(
        self, folder: Path, settings: SystemSettings, metadata: MetadataSettings | None = None
    ) -> None:
        self.folder = folder
        self.report = READY
        self.registry = MetadataArtifactRegistry()
        self.metrics = CollectorRegistry()
        self.server = StatusServer(
            settings, self.registry, lambda: self.report, self.metrics, metadata=metadata
        )

    def publish(self, name: str, content: bytes, *, slug: str = "m") -> MetadataKey:
        path = self.folder / f"file{len(self.registry)}"
        path.write_bytes(content)
        return self.publish_path(name, path, slug=slug)

    def publish_path(self, name: str, path: Path, *, slug: str = "m") -> MetadataKey:
        key = MetadataKey("ns", "backend", "generate", slug, BASE_SUFFIX, name)
        self.registry.register(OWNER, {key: Artifact(path, take_snapshot(path))})
        return key

    async def ask(self, target: str | bytes, method: str = "GET", **headers: str) -> Reply:
        raw = target.encode() if isinstance(target, str) else target
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        lines = [f"{name}: {value}" for name, value in {"Host": "t", **headers}.items()]
        writer.write(
            method.encode()
            + b" "
            + raw
            + b" HTTP/1.1\r\nConnection: close\r\n"
            + "\r\n".join(lines).encode()
            + b"\r\n\r\n"
        )
        async with asyncio.timeout(20):
            data = await reader.read()
        writer.close()
        head, _, body = data.partition(b"\r\n\r\n")
        status, *rest = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in rest)
        return Reply(int(status.split(" ")[1]), {k.lower(): v for k, v in fields.items()}, body)

    def outcome(self, name: str) -> float | None:
        return self.metrics.get_sample_value("muster_metadata_requests_total", {"outcome": name})


@contextlib.asynccontextmanager
async def serving(
    folder: Path, settings: SystemSettings | None = None, metadata: MetadataSettings | None = None
) -> AsyncIterator[Fixture]:
    fixture = Fixture(folder, settings or SystemSettings(host="127.0.0.1", port=0), metadata)
    async with fixture.server:
        yield fixture


LoopFactory = Callable[[], asyncio.AbstractEventLoop]

both_loops = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


def run(
    folder: Path,
    test: Callable[[Fixture], Awaitable[None]],
    loop: LoopFactory | None = None,
    metadata: MetadataSettings | None = None,
) -> None:
    async def main() -> None:
        async with serving(folder, metadata=metadata) as fixture:
            await test(fixture)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_file_is_served_as_it_is(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask(format_path(at.publish("config.json", b'{"a": 1}')))
        assert reply.status == 200
        assert reply.body == b'{"a": 1}'
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["content-length"] == "8"
        assert "content-encoding" not in reply.headers
        assert at.outcome("served") == 1

    run(tmp_path, test)


@both_loops
@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7]
)
def test_every_byte_of_a_file_arrives_whatever_its_size(
    tmp_path: Path, loop: LoopFactory, size: int
) -> None:
    async def test(at: Fixture) -> None:
        content = os.urandom(size)
        reply = await at.ask(format_path(at.publish("f", content)))
        assert reply.status == 200
        assert reply.headers["content-length"] == str(size)
        assert reply.body == content

    run(tmp_path, test, loop)


def test_head_has_the_headers_of_get_and_no_body(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        path = format_path(at.publish("f", b"x" * 1000))
        get, head = await at.ask(path), await at.ask(path, "HEAD")
        del get.headers["date"], head.headers["date"]
        assert (head.status, head.headers, head.body) == (200, get.headers, b"")

    run(tmp_path, test)


@both_loops
def test_a_kept_connection_serves_one_file_after_another(tmp_path: Path, loop: LoopFactory) -> None:
    async def test(at: Fixture) -> None:
        contents = [b"first", b"", os.urandom(PIECE_BYTES * 2), b"last"]
        paths = [format_path(at.publish(f"f{i}", data)) for i, data in enumerate(contents)]
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.port)
        for path, content in zip(paths, contents, strict=True):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await asyncio.wait_for(reader.readexactly(len(content)), 20) == content
        writer.close()

    run(tmp_path, test, loop)


@pytest.mark.parametrize(
    "name",
    [
        "100%.json",
        "%41",
        "a#b",
        "a?b",
        "back\\slash",
        "sp ace",
        "naïve 模型.json",
        "-dash",
        "a+b",
        "😀",
    ],
)
def test_names_of_all_kinds_travel(tmp_path: Path, name: str) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask(format_path(at.publish(name, name.encode())))
        assert (reply.status, reply.body) == (200, name.encode())

    run(tmp_path, test)


def test_needless_escapes_and_either_case_mean_the_same_name(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.publish("é.json", b"x")
        prefix = b"/v1/metadata/ns/backend/generate/m/_base/"
        for spelling in (b"%c3%A9.json", b"%C3%A9%2Ejso%6e"):
            assert (await at.ask(prefix + spelling)).body == b"x"

    run(tmp_path, test)


@pytest.mark.parametrize("name", ["é.json".encode(), b"\xff.json"])
def test_a_name_that_is_not_escaped_is_a_bad_request(tmp_path: Path, name: bytes) -> None:
    async def test(at: Fixture) -> None:
        at.publish("é.json", b"x")
        assert (await at.ask(b"/v1/metadata/ns/backend/generate/m/_base/" + name)).status == 400

    run(tmp_path, test)


def test_an_empty_slug_matches(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.publish("config.json", b"x", slug="")
        reply = await at.ask("/v1/metadata/ns/backend/generate//_base/config.json")
        assert (reply.status, reply.body) == (200, b"x")

    run(tmp_path, test)


def test_query_and_absolute_form_are_accepted(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        path = format_path(at.publish("f", b"x"))
        assert (await at.ask(f"{path}?a=/b")).body == b"x"
        assert (await at.ask(f"http://elsewhere{path}")).body == b"x"

    run(tmp_path, test)


@pytest.mark.parametrize(
    "tail",
    [
        "m/_base/other.json",
        "M/_base/config.json",
        "m/lora/config.json",
        "m/_base/CONFIG.JSON",
        "m/_base/config.json/",
        "m/_base//config.json",
        "m/_base/../config.json",
        "m/_base/x/../config.json",
        "m/_base/%2e%2e/config.json",
        "m/_base/..%2fconfig.json",
        "m/_base/x%2F..%2Fconfig.json",
        "m/_base/%2Fetc%2Fpasswd",
        "m/_base/%252e%252e",
        "m/_base/config.json%00",
        "../m/_base/config.json",
        "m//config.json/_base/x",
    ],
)
def test_only_the_exact_name_is_found(tmp_path: Path, tail: str) -> None:
    async def test(at: Fixture) -> None:
        at.publish("config.json", b"x")
        reply = await at.ask(f"/v1/metadata/ns/backend/generate/{tail}")
        assert (reply.status, reply.body) == (404, b"Not found")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert at.outcome("not_found") == 1

    run(tmp_path, test)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/metadata",
        "/v1/metadata/",
        "/v1/metadata/ns/backend/generate/m/config.json",
        "/v1/metadata/ns/backend/generate/m/_base",
        "/v1/metadata/ns/backend/generate/m/_base/",
        "/v1//metadata/ns/backend/generate/m/_base/config.json",
        "/health/",
        "/Health",
        "/engine",
        "/engine/",
        "/v1/loras",
        "/v1/loras/a",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_route_says_so(tmp_path: Path, target: str, method: str) -> None:
    async def test(at: Fixture) -> None:
        at.publish("config.json", b"x")
        reply = await at.ask(target, method)
        assert (reply.status, reply.body) == (404, b"Route not found")

    run(tmp_path, test)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_not_allowed(tmp_path: Path, method: str) -> None:
    async def test(at: Fixture) -> None:
        known = format_path(at.publish("f", b"x"))
        for target in (known, known + "-unknown", "/health", "/metrics", "/metadata"):
            reply = await at.ask(target, method)
            assert (reply.status, reply.body) == (405, b"")
            assert reply.headers["allow"] == "GET,HEAD"

    run(tmp_path, test)


@pytest.mark.parametrize("name", [b"%ff", b"a%C3.json"])
def test_a_name_that_is_not_utf8_is_a_bad_request(tmp_path: Path, name: bytes) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask(b"/v1/metadata/ns/backend/generate/m/_base/" + name)
        assert reply.status == 400
        assert reply.body == b"Invalid URL: Invalid UTF-8 in `filename`"

    run(tmp_path, test)


def test_a_copy_that_is_gone_is_a_500(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        key = at.publish("f", b"x")
        snapshot = take_snapshot(tmp_path / "file0")
        snapshot.close()
        at.registry.register(OWNER, {key: Artifact(tmp_path / "file0", snapshot)})
        reply = await at.ask(format_path(key))
        assert (reply.status, reply.body) == (500, b"Failed to read file")
        assert at.outcome("unreadable") == 1

    run(tmp_path, test)


@both_loops
@pytest.mark.parametrize("change", ["edited", "truncated", "replaced", "deleted"])
def test_what_was_registered_is_served_whatever_becomes_of_the_file(
    tmp_path: Path, loop: LoopFactory, change: str
) -> None:
    async def test(at: Fixture) -> None:
        content = os.urandom(8 * PIECE_BYTES)
        key = at.publish("f", content)
        file = tmp_path / "file0"
        async with _begun(at, key) as (reader, _):
            match change:
                case "edited":
                    with file.open("r+b") as opened:
                        opened.write(b"edited")
                case "truncated":
                    os.truncate(file, 10)
                case "replaced":
                    (tmp_path / "new").write_bytes(b"new")
                    (tmp_path / "new").replace(file)
                case _:
                    file.unlink()
            assert await asyncio.wait_for(reader.read(), 20) == content
        assert (await at.ask(format_path(key))).body == content

    run(tmp_path, test, loop)


def test_a_file_has_its_digest_as_its_tag(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        path = format_path(at.publish("f", b"content"))
        tag = f'"{Digest.of(b"content")}"'
        reply = await at.ask(path)
        assert reply.headers["etag"] == tag
        assert reply.headers["accept-ranges"] == "bytes"
        for method in ("GET", "HEAD"):
            same = await at.ask(path, method, **{"If-None-Match": f'"a", W/{tag}'})
            assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        other = await at.ask(path, **{"If-None-Match": '"other"'})
        assert (other.status, other.body) == (200, b"content")
        assert at.outcome("not_modified") == 2

    run(tmp_path, test)


def test_a_small_file_asked_for_again_is_the_one_that_is_registered_then(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        key = at.publish("f", b"old")
        path = format_path(key)
        first, again = await at.ask(path), await at.ask(path)
        del first.headers["date"], again.headers["date"]
        assert first == again
        assert at.outcome("served") == 2
        assert at.metrics.get_sample_value("muster_metadata_bytes_total") == 6
        tag = again.headers["etag"]
        assert (await at.ask(path, **{"If-None-Match": tag})).status == 304
        assert (await at.ask(path, Range="bytes=1-")).body == b"ld"
        assert (await at.ask(path, "HEAD")).body == b""
        assert (await at.ask(path, "POST")).status == 405
        at.registry.unregister_for_owner(OWNER)
        assert (await at.ask(path)).status == 404
        at.publish("f", b"new")
        for _ in range(2):
            reply = await at.ask(path)
            assert reply.body == b"new"
            assert reply.headers["etag"] != tag

    run(tmp_path, test)


def test_small_files_without_end_are_all_served(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        names = range(80)  # more than are kept
        paths = [format_path(at.publish(f"f{name}", bytes([name]) * 60_000)) for name in names]
        for name, path in zip(names, paths, strict=True):
            for spelling in (path, path.replace("/ns/", "/%6es/")):
                assert (await at.ask(spelling)).body == bytes([name]) * 60_000

    run(tmp_path, test)


@both_loops
def test_a_part_of_a_file_arrives_alone(tmp_path: Path, loop: LoopFactory) -> None:
    async def test(at: Fixture) -> None:
        content = os.urandom(3 * PIECE_BYTES + 5)
        path = format_path(at.publish("f", content))
        size, tag = len(content), (await at.ask(path, "HEAD")).headers["etag"]
        for start in (0, 1, PIECE_BYTES, size - 1):
            asked = {"Range": f"bytes={start}-", "If-Range": tag}
            reply = await at.ask(path, **asked)
            assert reply.status == 206
            assert reply.headers["content-range"] == f"bytes {start}-{size - 1}/{size}"
            assert reply.headers["content-length"] == str(size - start)
            assert reply.body == content[start:]
            head = await at.ask(path, "HEAD", **asked)
            assert (head.status, head.headers["content-length"]) == (206, str(size - start))
        assert (await at.ask(path, Range="bytes=-3")).body == content[-3:]
        assert (await at.ask(path, Range="bytes=2-4")).body == content[2:5]
        whole = await at.ask(path, **{"Range": "bytes=2-4", "If-Range": '"another"'})
        assert (whole.status, whole.body) == (200, content)
        beyond = await at.ask(path, Range=f"bytes={size}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        assert at.outcome("partial") == 6
        assert at.outcome("unsatisfiable") == 1

    run(tmp_path, test, loop)


def test_a_blob_is_found_by_its_digest(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.publish("f", b"content")
        blob = f"/v1/blobs/{Digest.of(b'content').hex}"
        reply = await at.ask(blob)
        assert (reply.status, reply.body) == (200, b"content")
        assert "immutable" in reply.headers["cache-control"]
        assert (await at.ask(blob, Range="bytes=3-")).body == b"tent"
        for wrong in (Digest.of(b"x").hex, "", "..", "A" * 64, blob[-64:] + "/", blob[-64:-1]):
            missing = await at.ask(f"/v1/blobs/{wrong}")
            assert (missing.status, missing.body) == (404, b"Not found")
        assert (await at.ask(blob, "POST")).status == 405
        at.registry.unregister_for_owner(OWNER)
        assert (await at.ask(blob)).status == 404

    run(tmp_path, test)


def test_a_request_for_a_file_being_registered_waits_for_the_outcome(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.publish("f", b"content")
        key = MetadataKey("ns", "backend", "generate", "m", BASE_SUFFIX, "new")
        entry = {key: Artifact(tmp_path / "file0", take_snapshot(tmp_path / "file0"))}
        for outcome in (404, 200):
            owner = MetadataOwner(2, OWNER.endpoint)
            at.registry.stage(owner, entry)
            asked = asyncio.ensure_future(at.ask(format_path(key)))
            await at.ask("/live")
            assert not asked.done()
            if outcome == 200:
                at.registry.publish(owner)
            else:
                at.registry.unregister_for_owner(owner)
            assert (await asked).status == outcome

    run(tmp_path, test)


def test_transfers_beyond_the_limit_are_asked_to_come_again(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        content = os.urandom(64 * PIECE_BYTES)
        key = at.publish("f", content)
        async with _begun(at, key) as (reader, _), _begun(at, key):
            busy = await at.ask(format_path(key))
            assert (busy.status, busy.headers["retry-after"]) == (503, "1")
            assert (await at.ask(format_path(key), "HEAD")).status == 200
            assert await asyncio.wait_for(reader.read(), 20) == content
            assert (await at.ask(format_path(key))).body == content
        assert at.outcome("busy") == 1

    run(tmp_path, test, metadata=MetadataSettings(transfers=2))


def test_a_token_is_asked_for_before_anything_about_files_is_said(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        path = format_path(at.publish("f", b"content"))
        blob = f"/v1/blobs/{Digest.of(b'content').hex}"
        for target in (path, path + "-unknown", blob, "/v1/muster/files"):
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
                reply = await at.ask(target, **given)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        right = {"Authorization": "Bearer secret"}
        for _ in range(2):
            assert (await at.ask(path, **right)).body == b"content"
            assert (await at.ask(path)).status == 401
        assert (await at.ask(blob, **right)).body == b"content"
        assert (await at.ask("/health")).status == 200
        assert (await at.ask("/metrics")).status == 200

    run(tmp_path, test, metadata=MetadataSettings(token="secret"))


def test_the_list_of_files_says_which_have_drifted(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.publish("f", b"content")
        at.publish("g", b"other")
        at.registry.set_drifted(frozenset({tmp_path / "file1"}))
        listed = json.loads((await at.ask("/v1/muster/files")).body)
        assert [(file["name"], file["size"], file["drifted"]) for file in listed] == [
            ("f", 7, False),
            ("g", 5, True),
        ]
        assert listed[0]["digest"] == str(Digest.of(b"content"))
        assert listed[0]["source"] == str(tmp_path / "file0")
        assert at.metrics.get_sample_value("muster_metadata_drifted_files") == 1

    run(tmp_path, test)


@contextlib.asynccontextmanager
async def _begun(at: Fixture, key: MetadataKey) -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A response of which the headers are read and the body waits behind small buffers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", at.server.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
    writer.write(
        f"GET {format_path(key)} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    try:
        yield reader, length
    finally:
        writer.transport.abort()


def _open_copies(at: Fixture, key: MetadataKey) -> int:
    """How many descriptors of the file's copy this process holds."""
    artifact = at.registry.get(key)
    assert artifact is not None
    descriptor = artifact.snapshot.open_fd()
    try:
        copy = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            count += os.path.samestat(os.fstat(int(name)), copy)
    return count


@both_loops
def test_a_client_that_leaves_mid_file_costs_nothing_and_no_descriptor(
    tmp_path: Path, loop: LoopFactory
) -> None:
    async def test(at: Fixture) -> None:
        key = at.publish("f", os.urandom(64 * PIECE_BYTES))
        await at.ask("/live")
        assert await asyncio.to_thread(_open_copies, at, key) == 1
        for _ in range(5):
            async with _begun(at, key):
                pass
        async with asyncio.timeout(20):
            while at.outcome("cut") != 5:
                await at.ask("/live")
        assert await asyncio.to_thread(_open_copies, at, key) == 1

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to count descriptors")
    run(tmp_path, test, loop)


def test_health_is_json_with_the_peers_fields(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask("/health")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("application/json")
        assert json.loads(reply.body) == {
            "status": "ready",
            "uptime": {"secs": 6, "nanos": 500_000_000},
            "endpoints": {"generate": "ready"},
        }
        at.report = NOT_READY
        reply = await at.ask("/health")
        assert reply.status == 503
        assert json.loads(reply.body) == {
            "status": "notready",
            "uptime": {"secs": 0, "nanos": 250_000_000},
            "endpoints": {"generate": "ready", "embed": "notready"},
            "instance_id": "ab12",
            "reasons": ["ns/backend/embed: starting"],
        }
        assert (await at.ask("/health", "HEAD")).body == b""

    run(tmp_path, test)


def test_live_is_200_while_the_process_lives(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        at.report = NOT_READY
        reply = await at.ask("/live?x")
        assert reply.status == 200
        body = json.loads(reply.body)
        assert body["status"] == "ready"
        assert "reasons" not in body

    run(tmp_path, test)


def test_a_registry_that_cannot_be_reached_is_in_the_body_of_a_200(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        stale = StaleRegistry(stale_since="2023-11-14T22:13:20.250Z", reason="connection refused")
        at.report = msgspec.structs.replace(READY, registry=stale)
        reply = await at.ask("/health")
        assert reply.status == 200
        assert json.loads(reply.body)["registry"] == {
            "stale_since": "2023-11-14T22:13:20.250Z",
            "reason": "connection refused",
        }

    run(tmp_path, test)


def test_the_paths_of_health_and_live_can_be_set(tmp_path: Path) -> None:
    async def main() -> None:
        settings = SystemSettings(
            host="127.0.0.1", port=0, health_path="/ready/now", live_path="/alive"
        )
        async with serving(tmp_path, settings) as at:
            at.report = NOT_READY
            assert (await at.ask("/ready/now")).status == 503
            assert (await at.ask("/alive")).status == 200
            assert (await at.ask("/health")).body == b"Route not found"
            assert (await at.ask("/live")).body == b"Route not found"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("health", "live"), [("/live", "/live"), ("/metrics", "/live"), ("/health", "/metadata")]
)
def test_two_pages_with_one_path_are_a_config_error(tmp_path: Path, health: str, live: str) -> None:
    settings = SystemSettings(host="127.0.0.1", port=0, health_path=health, live_path=live)
    with pytest.raises(ConfigError, match="two pages") as caught:
        asyncio.run(Fixture(tmp_path, settings).server.start())
    assert "DYN_SYSTEM_HEALTH_PATH" in caught.value.hint


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_metadata_of_discovery_is_not_there_and_says_so_as_the_peer(
    tmp_path: Path, method: str
) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask("/metadata", method)
        assert reply.status == 404
        assert reply.body == (b"" if method == "HEAD" else b"Discovery metadata not available")

    run(tmp_path, test)


def test_a_hostname_can_be_listened_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, SystemSettings(host="localhost", port=0)) as at:
            assert (await at.ask("/live")).status == 200

    asyncio.run(main())


def test_a_port_above_32767_can_be_listened_on(tmp_path: Path) -> None:
    async def main() -> None:
        for port in range(33000, 65000, 97):
            with contextlib.suppress(ConfigError):
                async with serving(tmp_path, SystemSettings(host="127.0.0.1", port=port)) as at:
                    assert at.server.port == port
                    assert (await at.ask("/live")).status == 200
                    return
        raise AssertionError("no port above 32767 was free")

    asyncio.run(main())


def test_metrics_shows_the_registry_in_the_text_format(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        Counter("things", "Things.", registry=at.metrics).inc(3)
        reply = await at.ask("/metrics")
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/plain")
        assert b"\nthings_total 3.0\n" in reply.body
        asked = await at.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert asked.headers["content-type"].startswith("application/openmetrics-text")
        assert asked.body.endswith(b"# EOF\n")

    run(tmp_path, test)


@both_loops
def test_sockets_have_nagle_off(tmp_path: Path, loop: LoopFactory) -> None:
    async def test(at: Fixture) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", at.server.port)
        await at.ask("/live")
        http = at.server._http
        assert http is not None
        transports = [connection._transport for connection in http._connections]
        sockets = [transport.get_extra_info("socket") for transport in transports if transport]
        assert sockets
        assert all(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in sockets)
        writer.close()

    run(tmp_path, test, loop)


def test_the_base_url_has_the_bound_address_and_the_real_port(tmp_path: Path) -> None:
    async def test(at: Fixture) -> None:
        assert at.server.port > 0
        assert at.server.base_url == f"http://127.0.0.1:{at.server.port}"

    run(tmp_path, test)


def test_the_advertised_host_setting_wins(tmp_path: Path) -> None:
    async def main() -> None:
        settings = SystemSettings(host="127.0.0.1", advertise_host="2001:db8::1")
        async with serving(tmp_path, settings) as at:
            assert at.server.base_url == f"http://[2001:db8::1]:{at.server.port}"

    asyncio.run(main())


def test_a_busy_port_is_a_config_error_that_says_which_and_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as at:
            port = at.server.port
            second = Fixture(tmp_path, SystemSettings(host="127.0.0.1", port=port))
            with pytest.raises(ConfigError, match=f"port {port} is in use") as caught:
                await second.server.start()
            assert "DYN_SYSTEM_PORT" in caught.value.hint
            with pytest.raises(ConfigError, match="does not run"):
                _ = second.server.base_url
            await second.server.close()

    asyncio.run(main())


def test_an_address_of_another_machine_is_a_config_error(tmp_path: Path) -> None:
    fixture = Fixture(tmp_path, SystemSettings(host="192.0.2.200", port=0))
    with pytest.raises(ConfigError, match=r"192\.0\.2\.200"):
        asyncio.run(fixture.server.start())


def test_port_minus_one_means_off_and_a_running_server_starts_once(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="turned off"):
            await Fixture(tmp_path, SystemSettings(port=-1)).server.start()
        async with serving(tmp_path) as at:
            with pytest.raises(ConfigError, match="running already"):
                await at.server.start()

    asyncio.run(main())


def test_closing_lets_a_transfer_end_refuses_new_ones_and_may_be_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as at:
            content = os.urandom(64 * PIECE_BYTES)
            key = at.publish("f", content)
            async with _begun(at, key) as (reader, _):
                port = at.server.port
                closing = asyncio.ensure_future(at.server.close(timeout_s=20))
                assert await asyncio.wait_for(reader.read(), 20) == content
                await closing
            await at.server.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(main())


def test_closing_does_not_wait_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as at:
            key = at.publish("f", os.urandom(64 * PIECE_BYTES))
            async with _begun(at, key), asyncio.timeout(10):
                await at.server.close(timeout_s=0.05)

    asyncio.run(main())

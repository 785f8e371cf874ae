"""One cache and many processes: killed, pruning, reading, and out of room. No lock file is used:
there is no ``flock`` that could lie."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

from muster.content.prune import plan_prune
from muster.content.store import BlobStore
from muster.content.sweep import ORPHAN_AGE_S, sweep
from muster.digest import Digest
from muster.testing.api import Api
from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

MDCSUM = "ab" * 32
DATA = [bytes([number]) * 200_000 for number in range(4)]

PRELUDE = """
import os, sys, time
from pathlib import Path
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import StoreError

MDCSUM = "ab" * 32
DATA = [bytes([number]) * 200_000 for number in range(4)]
store = BlobStore(Path(sys.argv[1]))

def put(data):
    with store.stage(Digest.of(data), cap_bytes=len(data), source="test") as staged:
        for start in range(0, len(data), 50_000):
            staged.write(data[start:start + 50_000])
        return staged.commit()

def say(word):
    print(word, flush=True)
"""


class Child:
    """A Python process with the prelude; it is spoken to by lines."""

    def __init__(self, root: Path, code: str, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(root), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def _output(self) -> IO[str]:
        assert self.popen.stdout is not None
        return self.popen.stdout

    def hear(self) -> str:
        """The next line it says."""
        return self._output.readline().strip()

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> str:
        """What it says until it ends, which it must do well."""
        output, _ = self.popen.communicate(timeout=60)
        assert self.popen.returncode == 0
        return output

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()
        self.popen.communicate(timeout=60)


@contextmanager
def children(number: int, root: Path, code: str, *arguments: str) -> Iterator[list[Child]]:
    """Some at once; none is left."""
    with ExitStack() as stack:
        started = []
        for _ in range(number):
            child = Child(root, code, *arguments)
            stack.callback(child.kill)
            started.append(child)
        yield started


def check_blobs(root: Path) -> set[str]:
    """Every file under a blob's name has the bytes that name says."""
    names = {path.name for path in (root / "blobs").iterdir() if len(path.name) == 64}
    for name in names:
        assert Digest.of((root / "blobs" / name).read_bytes()).hex == name
    return names


def put(store: BlobStore, data: bytes) -> Path:
    with store.stage(Digest.of(data), cap_bytes=len(data), source="test") as staged:
        staged.write(data)
        return staged.commit()


def age(path: Path) -> None:
    then = time.time() - 3600
    os.utime(path, (then, then))


def muster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "cache", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


# -- storing


def test_many_processes_put_the_same_blobs(tmp_path: Path) -> None:
    code = """
        say("ready")
        sys.stdin.readline()
        for _ in range(5):
            for data in DATA:
                assert put(data).read_bytes() == data
                assert store.find(Digest.of(data)) is not None
    """
    with children(6, tmp_path, code) as several:
        for child in several:
            assert child.hear() == "ready"
        for child in several:
            child.tell("go")
        for child in several:
            child.end()
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {
        Digest.of(data).hex for data in DATA
    }
    check_blobs(tmp_path)


def test_one_of_many_processes_downloads(tmp_path: Path) -> None:
    code = """
        digest = Digest.of(DATA[0])
        say("ready")
        sys.stdin.readline()
        deadline = time.monotonic() + 30
        while store.find(digest) is None:
            assert time.monotonic() < deadline
            claim = store.claim(digest)
            if claim is None:
                time.sleep(0.01)
                continue
            with claim:
                if store.find(digest) is None:
                    say("downloads")
                    time.sleep(0.5)  # others come while this goes on
                    claim.beat()
                    put(DATA[0])
    """
    with children(8, tmp_path, code) as several:
        for child in several:
            assert child.hear() == "ready"
        for child in several:
            child.tell("go")
        said = "".join(child.end() for child in several)
    assert said.split() == ["downloads"]
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_killed_downloader_keeps_nobody_waiting(tmp_path: Path) -> None:
    digest = Digest.of(DATA[0])
    store = BlobStore(tmp_path)
    code = """
        claim = store.claim(Digest.of(DATA[0]))
        assert claim is not None
        say("claimed")
        sys.stdin.readline()
    """
    with children(1, tmp_path, code) as (child,):
        assert child.hear() == "claimed"
        assert store.claim(digest) is None
        child.kill()
        claim = store.claim(digest)  # at once: its process is known to be dead
        assert claim is not None
        claim.release()


def test_a_process_killed_while_it_stores_is_not_in_the_way_and_is_tidied_up_after(
    tmp_path: Path,
) -> None:
    code = """
        staged = store.stage(Digest.of(DATA[0]), cap_bytes=len(DATA[0]), source="test")
        staged.write(DATA[0][:1000])
        say("half")
        sys.stdin.readline()
    """
    with children(1, tmp_path, code) as (child,):
        assert child.hear() == "half"
        (left,) = (tmp_path / "blobs").iterdir()
        child.kill()
    store = BlobStore(tmp_path)
    assert store.find(Digest.of(DATA[0])) is None
    put(store, DATA[0])
    assert left.exists()
    then = time.time() - ORPHAN_AGE_S
    os.utime(left, (then, then))
    store.prepare()
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {Digest.of(DATA[0]).hex}


def test_processes_killed_at_any_moment_leave_nothing_bad_and_nothing_for_long(
    tmp_path: Path,
) -> None:
    code = """
        from muster.content.prune import plan_prune
        digests = [Digest.of(data) for data in DATA]
        number = int(sys.argv[2])
        say("ready")
        while True:
            number += 1
            lease = store.lease(digests[:2])
            with store.claim(digests[number % 4]) or lease:
                put(DATA[number % 4])
            names = {f"{n}": digests[(n + number) % 4] for n in range(4)}
            store.link_view("slug", MDCSUM, names)
            later = time.time() + 3600
            store.prune(plan_prune(store.scan(), max_size_bytes=300_000, now=later))
            store.sweep()
            lease.release()
    """
    chance = random.Random(3)
    for number in range(12):
        with children(2, tmp_path, code, str(number)) as pair:
            for child in pair:
                assert child.hear() == "ready"
            time.sleep(chance.uniform(0.0, 0.05))
            for child in pair:
                child.kill()
        check_blobs(tmp_path)
    store = BlobStore(tmp_path)
    for data in DATA:
        put(store, data)
    view = store.link_view("slug", MDCSUM, {f"{n}": Digest.of(DATA[n]) for n in range(4)})
    assert [(view / f"{n}").read_bytes() for n in range(4)] == DATA
    sweep(tmp_path, now=time.time() + 2 * ORPHAN_AGE_S)
    assert len(check_blobs(tmp_path)) == len(list((tmp_path / "blobs").iterdir()))
    assert list(view.parent.iterdir()) == [view]
    for name in ("claims", "leases"):
        assert list((tmp_path / name).iterdir()) == []


# -- views


def test_a_reader_in_another_process_always_finds_a_views_names(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digests = [Digest.of(put(store, data).read_bytes()) for data in DATA]
    view = store.link_view("slug", MDCSUM, {"a": digests[0], "b": digests[1]})
    code = """
        view = Path(sys.argv[2])
        say("ready")
        rounds = 0
        while not os.path.exists(sys.argv[3]):
            listed = os.listdir(view)
            assert {"a", "b"} <= set(listed), listed
            for name in "ab":
                with open(view / name, "rb") as file:
                    assert len(file.read()) == 200_000
            rounds += 1
        assert rounds > 0
    """
    stop = tmp_path / "stop"
    with children(2, tmp_path, code, str(view), str(stop)) as readers:
        for reader in readers:
            assert reader.hear() == "ready"
        for number in range(300):
            if number % 3 == 0:
                (view / "unlisted").symlink_to("/etc/passwd")
            a, b = digests[number % 4], digests[(number + 1) % 4]
            store.link_view("slug", MDCSUM, {"a": a, "b": b})
        stop.touch()
        for reader in readers:
            reader.end()
    assert sorted(path.name for path in view.iterdir()) == ["a", "b"]


# -- pruning


def test_pruning_never_takes_what_a_live_process_uses(tmp_path: Path) -> None:
    code = """
        used = [Digest.of(data) for data in DATA[:2]]
        lease = store.lease(used)
        for data in DATA:
            put(data)
        view = store.link_view("slug", MDCSUM, {"a": used[0], "b": used[1]})
        assert all(store.find(digest) for digest in used)
        say("loaded")
        for line in sys.stdin:
            lease.beat()
            for number, name in enumerate("ab"):
                assert (view / name).read_bytes() == DATA[number]
            say("read")
    """
    with children(1, tmp_path, code) as (child,):
        assert child.hear() == "loaded"
        for path in (*(tmp_path / "blobs").iterdir(), tmp_path / "by-slug" / "slug" / MDCSUM):
            age(path)
        done = muster("clear", "--yes", "--cache-dir", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "2 files removed" in done.stderr
        assert "2 kept: in use" in done.stderr
        child.tell("once more")
        assert child.hear() == "read"
        assert check_blobs(tmp_path) == {Digest.of(data).hex for data in DATA[:2]}
        child.kill()
    for path in (tmp_path / "blobs").iterdir():
        age(path)
    done = muster("prune", "--max-size", "0", "--cache-dir", str(tmp_path))
    assert "2 files removed" in done.stderr
    assert check_blobs(tmp_path) == set()
    assert not (tmp_path / "by-slug" / "slug").exists()
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_process_that_loads_while_another_prunes_keeps_what_it_found(tmp_path: Path) -> None:
    code = """
        found = 0
        for number in range(150):
            data = DATA[number % 4]
            digest = Digest.of(data)
            with store.lease([digest]):
                path = store.find(digest) or put(data)
                found += 1
                deadline = time.monotonic() + 10
                while True:  # a pruner that sees the lease late takes a moment to put it back
                    try:
                        assert path.read_bytes() == data
                        break
                    except FileNotFoundError:
                        assert time.monotonic() < deadline, "what was in use is gone"
        say(f"found {found}")
    """
    store = BlobStore(tmp_path)
    removed = 0
    with children(2, tmp_path, code) as users:
        while any(user.popen.poll() is None for user in users):
            later = time.time() + 3600  # nothing is new then
            plan = plan_prune(store.scan(), max_size_bytes=0, now=later)
            removed += len(store.prune(plan).removed)
        assert [user.end().strip() for user in users] == ["found 150"] * 2
    assert removed > 0
    check_blobs(tmp_path)


# -- no room, no right


def can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            'd=$(mktemp -d) && mount -t tmpfs tmpfs "$d"; rc=$?; rmdir "$d"; exit $rc',
        ],
        capture_output=True,
        check=False,
        timeout=30,
    )
    # the directory cannot be removed while it is mounted, and is when the namespace ends
    return done.returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")


def on_a_small_disk(cache: Path, options: str, command: list[str]) -> list[str]:
    """``command`` with a disk of its own, of 256 KiB, in ``cache``."""
    cache.mkdir(parents=True)
    mount = f'mount -t tmpfs -o mode=700,size=256k tmpfs "$0" && {options} exec "$@"'
    return ["unshare", "-m", "sh", "-c", mount, str(cache), *command]


@needs_mount
def test_a_disk_that_fills_while_a_blob_is_written_keeps_what_it_has(tmp_path: Path) -> None:
    code = PRELUDE + textwrap.dedent("""
        first = put(DATA[0])
        for attempt in (lambda: put(DATA[1]), lambda: store.make_room(100_000)):
            try:
                attempt()
            except StoreError as error:
                say(error.diagnostics())
        assert os.listdir(first.parent) == [first.name]
        assert BlobStore(store.root).find(Digest.of(DATA[0])) == first
        with open(store.root / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        claim = store.claim(Digest.of(DATA[1]))  # granted: nothing can be written
        assert claim is not None
        claim.release()
        with store.lease([Digest.of(DATA[0])]) as lease:
            lease.beat()
        assert os.listdir(first.parent) == [first.name]
        os.unlink(first)
        os.unlink(store.root / "filler")
        assert put(DATA[1]).read_bytes() == DATA[1]
        say("recovered")
    """)
    cache = tmp_path / "cache"
    command = on_a_small_disk(cache, "", [sys.executable, "-c", code, str(cache)])
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout
    assert "no room in" in done.stdout
    assert done.stdout.count("MUSTER_CACHE_DIR") == 2
    assert done.stdout.endswith("recovered\n")


def serves_from_memory(site: Site, api: Api) -> None:
    try:
        wait_until(lambda: "tiny" in api.models(), "the model is served")
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{api.process.text()[-3000:]}") from None
    assert api.chat("tiny")["choices"][0]["message"]["content"]
    assert "memory" in api.process.text()
    assert "WARN" in api.process.text()
    del site


@needs_mount
@pytest.mark.parametrize(
    "options",
    ['dd if=/dev/zero of="$0/filler" bs=4096 2>/dev/null;', 'mount -o remount,ro "$0" &&'],
    ids=["full", "read-only"],
)
def test_a_frontend_whose_disk_takes_nothing_serves_from_memory(
    site: Site, model: Path, tmp_path: Path, options: str
) -> None:
    site.worker(model, "tiny", DYN_SYSTEM_PORT="0")
    cache, port = tmp_path / "small", free_port()
    command = [sys.executable, "-m", "muster.cli.main", "frontend", "--http-host", "127.0.0.1"]
    command = on_a_small_disk(cache, options, [*command, "--http-port", str(port)])
    process = site.start("frontend", command, MUSTER_CACHE_DIR=str(cache))
    serves_from_memory(site, Api(process, port))


def test_a_frontend_whose_home_cannot_be_written_serves_from_memory(
    site: Site, model: Path, tmp_path: Path
) -> None:
    site.worker(model, "tiny", DYN_SYSTEM_PORT="0")
    (tmp_path / "file").touch()
    serves_from_memory(site, site.frontend(HOME=str(tmp_path / "file")))  # not even root can


@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_the_commands_say_what_to_set(home: str) -> None:
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MUSTER_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "cache", "ls"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env=env | {"HOME": home},
    )
    assert done.returncode == 2
    assert "MUSTER_CACHE_DIR" in done.stderr

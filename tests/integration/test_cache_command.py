"""``muster cache``: what it prints, what it removes, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from muster.content.store import BlobStore
from muster.digest import Digest

pytestmark = pytest.mark.timeout(120)

MDCSUM = "ab" * 32


def muster(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")}
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "cache", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=kept | env,
    )


def told(*arguments: str, **env: str) -> Any:
    done = muster(*arguments, "--json", **env)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def put(store: BlobStore, data: bytes, *, age_s: float = 3600.0) -> Digest:
    digest = Digest.of(data)
    with store.stage(digest, cap_bytes=len(data), source="test") as staged:
        staged.write(data)
        path = staged.commit()
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return digest


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "cache")


@pytest.fixture
def here(store: BlobStore) -> list[str]:
    return ["--cache-dir", str(store.root)]


def spoil(store: BlobStore, digest: Digest) -> None:
    path = store.blob_path(digest)
    path.unlink()
    path.write_bytes(b"bad")


def present(store: BlobStore) -> set[str]:
    return {path.name for path in (store.root / "blobs").iterdir()}


def test_the_path_is_where_the_settings_say(tmp_path: Path, store: BlobStore) -> None:
    assert muster("path", MUSTER_CACHE_DIR=str(store.root)).stdout == f"{store.root}\n"
    assert muster("path", XDG_CACHE_HOME=str(tmp_path)).stdout == f"{tmp_path / 'muster'}\n"
    home = muster("path", XDG_CACHE_HOME="", HOME=str(tmp_path))
    assert home.stdout == f"{tmp_path / '.cache' / 'muster'}\n"
    assert told("path", "--cache-dir", str(store.root)) == {"cache": str(store.root)}
    assert not store.root.exists()


def test_files_are_listed_with_their_names_and_users(store: BlobStore, here: list[str]) -> None:
    big, small = put(store, b"x" * 2048, age_s=7300.0), put(store, b"y")
    view = store.link_view("acme_tiny", MDCSUM, {"tokenizer.json": big})
    with store.lease([small]):
        done = muster("ls", *here)
        found = told("ls", *here)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["DIGEST", "SIZE", "USED", "BY", "FILE"]
    assert lines[1].split()[:4] == [small.hex[:12], "1", "B", "1h"]
    assert lines[1].split()[4].startswith(f"{os.getpid()}@")
    assert lines[2].split() == [
        big.hex[:12], "2.0", "KiB", "2h", "-", "acme_tiny/tokenizer.json",
    ]  # fmt: skip
    assert "2 files, 2.0 KiB" in done.stderr
    assert found["size_bytes"] == 2049
    assert {blob["digest"]: blob["size_bytes"] for blob in found["blobs"]} == {
        str(big): 2048,
        str(small): 1,
    }
    assert found["views"] == [
        {
            "name": f"acme_tiny/{MDCSUM}",
            "path": str(view),
            "files": {"tokenizer.json": str(big)},
        }
    ]


def test_an_empty_cache_is_fine(store: BlobStore, here: list[str]) -> None:
    for arguments in (["ls"], ["verify"], ["clear", "--yes"], ["prune", "--max-size", "0"]):
        done = muster(*arguments, *here)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert told("ls", *here)["blobs"] == []
    assert not store.root.exists()


def test_a_good_cache_verifies(store: BlobStore, here: list[str]) -> None:
    put(store, b"x")
    done = muster("verify", *here)
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 files verified" in done.stderr
    assert "0 bad" in done.stderr


def test_a_bad_file_is_found_said_and_moved_away(store: BlobStore, here: list[str]) -> None:
    good, bad = put(store, b"x"), put(store, b"y")
    spoil(store, bad)
    looked = muster("verify", "--dry-run", *here)
    assert looked.returncode == 1
    assert looked.stdout == f"{bad}: its bytes hash to {Digest.of(b'bad')}\n"
    assert present(store) == {good.hex, bad.hex}
    found = told("verify", *here)
    assert found["verified"] == 2
    assert [each["digest"] for each in found["bad"]] == [str(bad)]
    assert found["moved"] is True
    assert present(store) == {good.hex}
    assert len(list((store.root / "quarantine").iterdir())) == 1
    assert muster("verify", *here).returncode == 0


def test_what_is_old_is_pruned(store: BlobStore, here: list[str]) -> None:
    old, young = put(store, b"x", age_s=8 * 86400.0), put(store, b"y", age_s=86400.0)
    dry = told("prune", "--older-than", "7d", "--dry-run", *here)
    assert dry["removed"] == [{"digest": str(old), "size_bytes": 1, "reason": "old", "users": []}]
    assert dry["dry_run"] is True
    assert present(store) == {old.hex, young.hex}
    done = muster("prune", "--older-than", "7d", *here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{old}  1 B  not used for long\n"
    assert "1 files removed, 1 B" in done.stderr
    assert "1 kept: within the limits" in done.stderr
    assert present(store) == {young.hex}


def test_what_is_too_much_is_pruned(store: BlobStore, here: list[str]) -> None:
    old, young = put(store, b"x" * 1000, age_s=7200.0), put(store, b"y" * 1000)
    done = told("prune", "--max-size", "1.5KB", *here)
    assert [each["digest"] for each in done["removed"]] == [str(old)]
    assert done["freed_bytes"] == 1000
    assert present(store) == {young.hex}


def test_the_budget_is_the_limit_if_none_is_given(store: BlobStore, here: list[str]) -> None:
    put(store, b"x" * 1000)
    assert told("prune", *here, MUSTER_CACHE_MAX_BYTES="999")["freed_bytes"] == 1000


def test_pruning_needs_a_limit(store: BlobStore, here: list[str]) -> None:
    put(store, b"x")
    done = muster("prune", *here)
    assert done.returncode == 2
    assert "--older-than" in done.stderr
    assert len(present(store)) == 1


@pytest.mark.parametrize(
    "option", [["--older-than", "7x"], ["--max-size", "much"], ["--max-size", "-1"]]
)
def test_a_limit_that_makes_no_sense_is_wrong_usage(here: list[str], option: list[str]) -> None:
    done = muster("prune", *option, *here)
    assert done.returncode == 2
    assert option[0] in done.stderr


def test_clearing_removes_all_that_nobody_uses(store: BlobStore, here: list[str]) -> None:
    idle, used, bad = put(store, b"x"), put(store, b"y"), put(store, b"z")
    spoil(store, bad)
    assert store.verify(bad)
    view = store.link_view("slug", MDCSUM, {"a": idle})
    os.utime(view, (1.0, 1.0))
    with store.lease([used]):
        dry = told("clear", "--dry-run", *here)
        assert [each["digest"] for each in dry["removed"]] == [str(idle)]
        assert present(store) == {idle.hex, used.hex}
        done = told("clear", "--yes", *here)
    assert [each["digest"] for each in done["removed"]] == [str(idle)]
    assert [(each["digest"], each["reason"]) for each in done["kept"]] == [(str(used), "in_use")]
    assert done["views"] == [f"slug/{MDCSUM}"]
    assert present(store) == {used.hex}
    assert list((store.root / "quarantine").iterdir()) == []


def test_clearing_asks_first(store: BlobStore, here: list[str]) -> None:
    put(store, b"x")
    done = muster("clear", *here)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(present(store)) == 1


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 130, 1), (b"y\n", 0, 0)])
def test_clearing_asks_on_a_terminal(
    store: BlobStore, here: list[str], answer: bytes, code: int, left: int
) -> None:
    put(store, b"x")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        done = subprocess.run(
            [sys.executable, "-m", "muster.cli.main", "cache", "clear", *here],
            stdin=theirs,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code
    assert f"Remove 1 files, 1 B, from {store.root}?" in done.stderr
    assert len(present(store)) == left


def test_verifying_shows_a_bar_on_a_terminal_and_nothing_remains_of_it(
    store: BlobStore, here: list[str]
) -> None:
    put(store, b"x" * 100_000)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "muster.cli.main", "cache", "verify", *here],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
            timeout=60,
            env=os.environ | {"TERM": "xterm"},
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "KiB" in shown
    assert "1 files verified" in shown


def test_a_cache_that_is_somebody_elses_link_is_left_alone(tmp_path: Path) -> None:
    real = BlobStore(tmp_path / "real")
    put(real, b"x")
    (tmp_path / "link").symlink_to(real.root)
    for arguments in (["verify"], ["clear", "--yes"]):
        done = muster(*arguments, "--cache-dir", str(tmp_path / "link"))
        assert done.returncode == 1
        assert "is a link" in done.stderr
        assert "hint:" in done.stderr
    assert len(present(real)) == 1


def test_the_commands_of_the_cache_are_listed() -> None:
    done = muster("--help")
    assert [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()] == [
        "ls", "verify", "prune", "clear", "import", "path",
    ]  # fmt: skip

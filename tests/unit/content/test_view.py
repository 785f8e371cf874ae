import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muster.content.disk import remove_entry
from muster.content.exchange import exchange
from muster.content.staging import LIVE_NAMES
from muster.content.sweep import ORPHAN_AGE_S, sweep
from muster.content.view import Exchange, link_view
from muster.digest import Digest
from muster.errors import StoreError

A, B, C = (Digest.of(data) for data in (b"a", b"b", b"c"))


def refuse(one: Path, other: Path) -> bool:
    """A system that cannot exchange."""
    del one, other
    return False


class Site:
    """A root with three blobs and a view."""

    def __init__(self, root: Path, swap: Exchange) -> None:
        self.root = root
        self.view = root / "by-slug" / "slug" / ("ab" * 32)
        self._swap = swap
        (root / "blobs").mkdir(parents=True)
        for data in (b"a", b"b", b"c"):
            self.blob(Digest.of(data)).write_bytes(data)

    def blob(self, digest: Digest) -> Path:
        return self.root / "blobs" / digest.hex

    def link(
        self,
        names: dict[str, Digest],
        listed: dict[str, Digest] | None = None,
        *,
        later_s: float = 0.0,
    ) -> None:
        link_view(
            self.root,
            self.view,
            {name: self.blob(digest) for name, digest in names.items()},
            listed={name: self.blob(digest) for name, digest in (listed or {}).items()},
            now=time.time() + later_s,
            swap=self._swap,
        )

    def links(self) -> dict[str, Path]:
        return {path.name: path.readlink() for path in self.view.iterdir()}

    def wanted(self, **names: Digest) -> dict[str, Path]:
        return {name: self.blob(digest) for name, digest in names.items()}


@pytest.fixture(params=[exchange, refuse], ids=["exchange", "link by link"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(tmp_path / "cache", request.param)


def test_a_view_has_what_was_asked_for(site: Site) -> None:
    site.link({"a": A, "b": B})
    assert site.links() == site.wanted(a=A, b=B)
    assert [path.name for path in site.view.parent.iterdir()] == [site.view.name]


def test_a_right_view_is_left_alone(site: Site) -> None:
    site.link({"a": A})
    before = site.view.stat()
    site.link({"a": A})
    after = site.view.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_not_listed_does_not_stay(site: Site, tmp_path: Path) -> None:
    site.link({"a": A, "old": B})
    keep = tmp_path / "mine"
    keep.mkdir()
    (keep / "file").touch()
    (site.view / "evil.py").write_text("import os")
    (site.view / "linked").symlink_to(keep)
    (site.view / "directory").mkdir()
    (site.view / "directory" / "inner").touch()
    (site.view / ".hidden").touch()
    site.link({"a": A})
    assert site.links() == site.wanted(a=A)
    assert (keep / "file").exists()


def test_what_another_process_got_stays_if_it_is_listed_and_right(site: Site) -> None:
    listed = {"a": A, "b": B, "c": C, "gone": Digest.of(b"gone")}
    site.link({"a": A, "b": B})
    (site.view / "c").symlink_to(site.blob(A))  # not what the card says
    (site.view / "gone").symlink_to(site.blob(listed["gone"]))  # leads nowhere
    site.link({"a": A}, listed)
    assert site.links() == site.wanted(a=A, b=B)


@pytest.mark.parametrize("wrong", ["link", "file", "directory"])
def test_a_wrong_entry_gives_way(site: Site, wrong: str) -> None:
    site.link({"a": A, "b": B})
    (site.view / "b").unlink()
    match wrong:
        case "link":
            (site.view / "b").symlink_to(site.blob(C))
        case "file":
            (site.view / "b").write_bytes(b"not a link")
        case _:
            (site.view / "b").mkdir()
            (site.view / "b" / "inner").touch()
    site.link({"a": A, "b": B})
    assert site.links() == site.wanted(a=A, b=B)


def test_an_empty_directory_in_its_place_is_filled(site: Site) -> None:
    site.view.mkdir(parents=True)
    site.link({"a": A})
    assert site.links() == site.wanted(a=A)


def test_old_views_are_left_to_whoever_lists_them_and_then_removed(site: Site) -> None:
    site.link({"a": A})
    with os.scandir(site.view) as listing:
        site.link({"b": B})
        assert [entry.name for entry in listing] in (["a"], ["b"])
    aside = [path for path in site.view.parent.iterdir() if path != site.view]
    assert len(aside) <= 1
    site.link({"c": C}, later_s=2 * ORPHAN_AGE_S)
    assert not any(path.exists() for path in aside)
    sweep(site.root, now=time.time() + 4 * ORPHAN_AGE_S)
    assert list(site.view.parent.iterdir()) == [site.view]
    assert site.links() == site.wanted(c=C)
    assert not LIVE_NAMES


def test_a_view_somebody_else_made_meanwhile_keeps_what_is_listed(tmp_path: Path) -> None:
    site = Site(tmp_path / "cache", exchange)

    def late(one: Path, other: Path) -> bool:
        (other / "b").symlink_to(site.blob(B))  # between the look and the exchange
        return exchange(one, other)

    site.link({"a": C})
    link_view(
        site.root,
        site.view,
        site.wanted(a=A),
        listed=site.wanted(a=A, b=B),
        now=time.time(),
        swap=late,
    )
    assert site.links() == site.wanted(a=A, b=B)


def test_a_view_that_goes_away_meanwhile_is_made_again(tmp_path: Path) -> None:
    site = Site(tmp_path / "cache", exchange)
    site.link({"a": B})
    gone: list[Path] = []

    def prune(one: Path, other: Path) -> bool:
        if not gone:
            gone.append(other)
            remove_entry(other)
        return exchange(one, other)

    link_view(site.root, site.view, site.wanted(a=A), listed={}, now=0.0, swap=prune)
    assert site.links() == site.wanted(a=A)
    assert gone == [site.view]


def test_a_view_that_never_stays_is_given_up_with_a_reason(tmp_path: Path) -> None:
    site = Site(tmp_path / "cache", exchange)

    def vanish(one: Path, other: Path) -> bool:
        del one, other
        raise FileNotFoundError

    site.link({"a": B})
    with pytest.raises(StoreError, match="others change it"):
        link_view(site.root, site.view, site.wanted(a=A), listed={}, now=0.0, swap=vanish)
    assert site.links() == site.wanted(a=B)


def test_a_reader_always_finds_the_names_that_old_and_new_share(tmp_path: Path) -> None:
    site = Site(tmp_path / "cache", exchange)
    site.link({"a": A, "b": B})
    stop = threading.Event()
    misses = []

    def read() -> int:
        count = 0
        while not stop.is_set():
            for name in ("a", "b"):
                try:
                    assert (site.view / name).read_bytes() in (b"a", b"b", b"c")
                except FileNotFoundError as error:
                    misses.append(error)
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for number in range(300):
            site.link({"a": (A, B, C)[number % 3], "b": (B, C, A)[number % 3]})
        stop.set()
        assert reading.result() > 0
    assert misses == []

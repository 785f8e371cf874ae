"""Files that are read again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.errors import ConfigError
from muster.frontend.guard.guard import load_keys
from muster.frontend.guard.keys import KeyRing, key_line, new_key
from muster.frontend.guard.watched import stamp_of, watch_files
from muster.testing.loops import run


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what changes it tells nobody
            await asyncio.sleep(0.005)


def test_a_changed_file_counts_and_a_bad_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text("")
    rings: list[KeyRing] = []

    async def test() -> None:
        watching = asyncio.create_task(
            watch_files(
                [path], stamp_of([path]), lambda: load_keys(path), rings.append, interval_s=0.01
            )
        )
        try:
            path.write_text(f"{key_line('alice', new_key())}\n")
            await reached(lambda: len(rings) == 1)
            path.write_text("alice half-a-li")
            await reached(lambda: "the old ones stay" in caplog.text)
            path.unlink()
            await reached(lambda: "cannot be read" in caplog.text)
            aside = tmp_path / "keys.new"
            aside.write_text(f"{key_line('bob', new_key())}\n")
            aside.rename(path)
            await reached(lambda: len(rings) == 2)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    run(test())
    assert [ring.names for ring in rings] == [{"alice"}, {"bob"}]


def test_a_file_that_is_not_text_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keys(tmp_path / "keys")

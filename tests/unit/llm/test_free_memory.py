"""Giving free memory back to the system."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from muster.llm.free_memory import give_back

glibc = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) << 12


@pytest.mark.skipif(not glibc, reason="there is nothing to give back with")
def test_what_lies_between_blocks_in_use_is_given_back() -> None:
    blocks = [bytearray(20_000) for _ in range(3000)]
    kept = blocks[::100]
    full = resident_bytes()
    del blocks
    give_back()
    assert full - resident_bytes() > 30 << 20
    assert all(len(block) == 20_000 for block in kept)


def test_it_can_be_asked_for_again_and_anywhere() -> None:
    give_back()
    give_back()

"""Giving memory back to the system that the allocator keeps for later.

glibc keeps what was freed between blocks still in use. After a large file was read and taken apart
that is some twenty megabytes, never needed again.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back"]


def give_back() -> None:
    """Give back whatever the allocator has free; takes some milliseconds: call it in a thread.

    Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

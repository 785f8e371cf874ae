"""Swapping two names in one step, so that whoever looks finds the one or the other, and never none.

``rename`` cannot replace a directory that has entries. Linux can exchange two (renameat2(2)); where
it cannot, or the file system cannot, the caller does without.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["exchange"]

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


def exchange(one: Path, other: Path) -> bool:
    """Let each of two entries of one file system have the other's name. Links are not followed.

    Returns:
        Whether that was done; ``False`` if this system or file system cannot do it.

    Raises:
        OSError: It could, and refused; ``FileNotFoundError`` if either is gone.
    """
    call = _renameat2()
    if call is None:
        return False
    failed = call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:  # EPERM: a container's filter that does not know the call
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    path, number = ctypes.c_char_p, ctypes.c_int
    function.argtypes = (number, path, number, path, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Callable[[int, bytes, int, bytes, int], int] = function
    return found

"""Opening a pack named on the command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from muster.errors import ContentError

if TYPE_CHECKING:
    from muster.model.pack.read import PackReader

__all__ = ["open_pack"]


@contextlib.contextmanager
def open_pack(file: str) -> Iterator[PackReader]:
    """The reader of the pack in ``file``, or on standard input if that is ``-``.

    Raises:
        ContentError: It cannot be opened, or is no pack.
    """
    from muster.model.pack.read import PackReader

    if file == "-":
        yield PackReader(sys.stdin.buffer, label="standard input")
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - the with statement follows
    except OSError as error:
        raise ContentError(f"cannot read {file}: {error.strerror or error}") from error
    with stream:
        yield PackReader(stream, label=file)

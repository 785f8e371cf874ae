"""The bytes of a pack's tar members: a pure function of each member's name and size.

POSIX.1-2001 (pax), uncompressed, nothing but regular files. Owner, times and modes are fixed, so one
model gives one pack, byte for byte; and a reader that knows which member comes next knows its whole
header, which it compares instead of interpreting: no link, no device and no odd field of a tar file
can do anything.
"""

from __future__ import annotations

from typing import Final

from muster.errors import ContentError

__all__ = ["BLOCK_BYTES", "END", "member_header", "padding_of", "size_in", "stored_name"]

BLOCK_BYTES: Final = 512
"""Everything in a tar file takes a whole number of these."""
END: Final = bytes(2 * BLOCK_BYTES)
"""What ends the archive."""

_NAME_BYTES = 100
_MAX_SIZE = 8**11 - 1
_SIZE_FIELD = slice(124, 136)
_OCTAL = b"01234567"


def member_header(name: str, size_bytes: int) -> bytes:
    """What precedes the content of the file ``name``: one block, or three with a long name's own.

    Raises:
        ContentError: ``size_bytes`` is 8 GiB or more, which the format has no room for.
    """
    if size_bytes > _MAX_SIZE:
        raise ContentError(
            f"{name!r} has {size_bytes} bytes; a pack takes files of less than 8 GiB",
            hint="such a file is no metadata; leave it out of the model's directory",
        )
    encoded = name.encode()
    if len(encoded) <= _NAME_BYTES and name.isascii():
        return _block(encoded, size_bytes, b"0")
    record = _pax_record(encoded)
    return b"".join(
        (
            _block(b"././@PaxHeader", len(record), b"x"),
            record,
            bytes(padding_of(len(record))),
            _block(name.encode("ascii", "replace")[:_NAME_BYTES], size_bytes, b"0"),
        )
    )


def padding_of(size_bytes: int) -> int:
    """How many zero bytes follow ``size_bytes`` of content."""
    return -size_bytes % BLOCK_BYTES


def size_in(block: bytes) -> int | None:
    """The size a header block claims; ``None`` if it is not written as it is here."""
    field = block[_SIZE_FIELD]
    digits = field[:-1]
    if len(field) != 12 or field[-1] or any(digit not in _OCTAL for digit in digits):
        return None
    return int(digits, 8)


def stored_name(block: bytes) -> str:
    """The name in a header block, for messages: as good as it can be shown."""
    return block[:_NAME_BYTES].partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _block(name: bytes, size_bytes: int, kind: bytes) -> bytes:
    before = b"".join(
        (
            name.ljust(_NAME_BYTES, b"\0"),
            b"0000644\0",  # mode
            b"0000000\0" * 2,  # owner and group
            b"%011o\0" % size_bytes,
            b"00000000000\0",  # time
        )
    )
    after = kind + bytes(_NAME_BYTES) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
    after = after.ljust(BLOCK_BYTES - len(before) - 8, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")  # its own field counts as spaces
    return before + b"%06o\0 " % checksum + after


def _pax_record(name: bytes) -> bytes:
    r"""``<length> path=<name>\n``, where the length counts its own digits."""
    rest = b" path=" + name + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest

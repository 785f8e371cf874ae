"""API keys: made once, kept as digests, found by digest. Pure.

A file of keys has one key a line: a name, the digest of the key, and options::

    # comment
    alice blake3:<64 hex digits> requests_per_minute=600 concurrent=16
    ops   blake3:<64 hex digits> admin

A key is 256 random bits, so its plain BLAKE3 digest gives nothing away and needs no salt and no
slow hash; that is also why keys are made by ``new_key`` and not by people. A name may have several
lines with the same options, so that a key can be replaced while the old one still works.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Mapping

import msgspec
from blake3 import blake3

from muster.errors import ConfigError

__all__ = ["Holder", "KeyRing", "Limits", "key_line", "new_key", "parse_keys"]

_PREFIX = "mk-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"blake3:([0-9a-f]{64})")
_NUMBERS = frozenset({"requests_per_minute", "tokens_per_minute", "concurrent"})
_MAX = 10**12
_BIN = 4
"""Hex digits of a digest that pick its bin."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one holder may use; ``None`` is without limit.

    Attributes:
        requests_per_minute: Requests begun.
        tokens_per_minute: Tokens of prompts and answers.
        concurrent: Requests at a time.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return self != _UNLIMITED


_UNLIMITED = Limits()


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a key.

    Attributes:
        name: For logs and metrics.
        admin: Whether the admin routes may be used.
        limits: What may be used.
    """

    name: str
    admin: bool = False
    limits: Limits = _UNLIMITED


class KeyRing:
    """The holders of all keys.

    Args:
        holders: By the hex BLAKE3 digest of their keys.

    Attributes:
        names: Who has keys.
    """

    __slots__ = ("_bins", "_size", "names")

    def __init__(self, holders: Mapping[str, Holder]) -> None:
        self._size = len(holders)
        self.names = frozenset(holder.name for holder in holders.values())
        self._bins: dict[str, list[tuple[str, Holder]]] = {}
        for digest, holder in holders.items():
            self._bins.setdefault(digest[:_BIN], []).append((digest, holder))

    def __len__(self) -> int:
        return self._size

    def find(self, key: str) -> Holder | None:
        """The holder of ``key``.

        How long it takes says nothing about keys: only digests are compared, which nobody can
        choose; the beginning of one picks a bin, whose digests are all compared in constant time.
        """
        digest = _digest(key)
        found = None
        for known, holder in self._bins.get(digest[:_BIN], ()):
            if hmac.compare_digest(known, digest):
                found = holder
        return found


def new_key() -> str:
    """A key: ``mk-`` and 256 random bits in URL-safe base64, 46 characters."""
    return _PREFIX + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode("ascii")


def key_line(name: str, key: str) -> str:
    """The line of ``key`` for the file, without a line break.

    Raises:
        ConfigError: ``name`` is not one the file may hold.
    """
    return f"{_checked_name(name)} blake3:{_digest(key)}"


def parse_keys(text: str, *, source: str) -> KeyRing:
    """Read a file of keys.

    Args:
        text: The whole file; its last line must end with a line break, so that a file that is still
            being written is not taken for a whole one.
        source: Its name, for errors.

    Raises:
        ConfigError: A line is not understood; the message has its number, not what it says.
    """
    if text and not text.endswith("\n"):
        raise ConfigError(
            f"{source}: the last line has no end",
            hint="the file may be half written; end its last line with a line break",
        )
    found = _Holders()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            found.add(*_entry(words))
        except ValueError as error:
            raise ConfigError(
                f"{source}, line {number}: {error}",
                hint="a line is: NAME blake3:DIGEST [OPTION...]",
            ) from error
    return KeyRing(found.by_digest)


class _Holders:
    def __init__(self) -> None:
        self.by_digest: dict[str, Holder] = {}
        self._by_name: dict[str, Holder] = {}

    def add(self, digest: str, holder: Holder) -> None:
        if digest in self.by_digest:
            raise ValueError("the same key is in a line before")
        if self._by_name.setdefault(holder.name, holder) != holder:
            raise ValueError(f"{holder.name} has other options in a line before")
        self.by_digest[digest] = holder


def _entry(words: list[str]) -> tuple[str, Holder]:
    if len(words) < 2:
        raise ValueError("a name and a digest are needed")
    name, digest, *options = words
    if not _NAME.fullmatch(name):
        raise ValueError("the name is not one of up to 64 letters, digits and . _ @ -")
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError("the second word is no digest; is it the key itself?")
    admin, numbers = False, dict[str, int]()
    for option in options:
        field, equals, value = option.partition("=")
        if option == "admin":
            admin = True
        elif equals and field in _NUMBERS and field not in numbers:
            numbers[field] = _positive(field, value)
        else:
            known = ", ".join(["admin", *sorted(f"{each}=N" for each in _NUMBERS)])
            raise ValueError(f"an option is unknown or given twice; known are {known}")
    return match.group(1), Holder(name=name, admin=admin, limits=Limits(**numbers))


def _positive(field: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:15]) < _MAX:
        raise ValueError(f"{field} must be a positive number")
    return int(text)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a key",
            hint="a name has up to 64 letters, digits and . _ @ -, a letter or digit first",
        )
    return name


def _digest(key: str) -> str:
    return blake3(key.encode("utf-8", "surrogateescape")).hexdigest()

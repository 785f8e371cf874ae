"""Sizes and ages as people write them: ``2GiB``, ``7d``."""

from __future__ import annotations

import re
from typing import Final

import click

__all__ = ["parse_age", "parse_size", "show_age", "show_size"]

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
_SIZES: Final = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_AGES: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number and a unit. ``GiB`` and ``G`` are 2**30, ``GB`` is 10**9.

    Raises:
        click.BadParameter: It is no size.
    """
    return int(_parse(text, _SIZES, "a size is 2GiB, 500MB or 4096"))


def parse_age(text: str) -> float:
    """Seconds in ``text``: a number and a unit.

    Raises:
        click.BadParameter: It is no age.
    """
    return _parse(text, _AGES, "an age is 7d, 12h, 30m or 45s")


def _parse(text: str, units: dict[str, int], example: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise click.BadParameter(f"{text!r}: {example}")
    return float(match[1]) * units[match[2].lower()]


def show_size(size_bytes: int) -> str:
    """``size_bytes`` with a unit people can take in: ``4.4 MiB``."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1023.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def show_age(age_s: float) -> str:
    """How long ago, in the largest unit that gives at least one: ``3d``."""
    age_s = max(0.0, age_s)
    for unit in ("d", "h", "m"):
        if age_s >= _AGES[unit]:
            return f"{int(age_s // _AGES[unit])}{unit}"
    return f"{int(age_s)}s"

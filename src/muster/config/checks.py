"""How texts of settings are read and values checked; for the declarations beside this module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["MIB", "at_least", "between", "is_port", "one_of", "paths", "words"]

MIB = 1 << 20


def at_least(low: float) -> Any:
    """Check that a number, if there is one, is not below ``low``."""

    def check(value: Any) -> str | None:
        return None if value is None or value >= low else f"must be at least {low:g}"

    return check


def between(low: float, high: float) -> Any:
    """Check that a number, if there is one, is neither below ``low`` nor above ``high``."""

    def check(value: Any) -> str | None:
        inside = value is None or low <= value <= high
        return None if inside else f"must be between {low:.12g} and {high:.12g}"

    return check


def one_of(*known: str) -> Any:
    """Check that a text is one of ``known``."""

    def check(value: Any) -> str | None:
        return None if value in known else f"must be one of {', '.join(known)}"

    return check


def words(text: str) -> tuple[str, ...]:
    """Read a list separated by commas; spaces around its items do not count."""
    return tuple(word for part in text.split(",") if (word := part.strip()))


def paths(text: str) -> tuple[Path, ...]:
    """Read a list of directories, separated as in PATH."""
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def is_port(value: Any) -> str | None:
    """Check that a number, if there is one, is a port, 0 (any) or -1 (none)."""
    return None if value is None or -1 <= value <= 65535 else "must be between -1 and 65535"

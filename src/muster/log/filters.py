"""What is logged: filters in the style of Rust's ``env_logger``, as ``DYN_LOG`` has them.

``info,muster.wire=debug,hyper::x=off`` is a level for everything and others for parts of the tree
of targets. A target is a logger's name; ``::`` counts as ``.``, so that filters written for Dynamo
can be read. The most specific target wins, whether it is noisier or quieter than the others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from muster.errors import ConfigError

__all__ = ["LEVELS", "OFF", "TRACE", "Filters", "level_name", "parse_filters", "read_filters"]

TRACE = 5
"""The level below ``DEBUG``: ``logger.log(TRACE, ...)``."""
OFF = logging.CRITICAL + 10
"""A threshold that nothing reaches."""

LEVELS: Mapping[str, int] = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
    "off": OFF,
}
_ALIASES = {"warning": "warn"}
_TARGET = re.compile(r"[A-Za-z_][\w-]*(?:(?:\.|::)[A-Za-z_][\w-]*)*", re.ASCII)
_HINT = f"write level or target=level; levels are {', '.join(LEVELS)}"


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Lowest levels to log, as numbers of ``logging``.

    Attributes:
        level: For what no target covers; ``None`` if not said.
        targets: For single loggers and those below them.
    """

    level: int | None = None
    targets: dict[str, int] = {}

    def over(self, base: Filters) -> Filters:
        """These, and what they don't say from ``base``."""
        level = base.level if self.level is None else self.level
        return Filters(level=level, targets=base.targets | self.targets)


def level_name(number: int) -> str:
    """``ERROR``, ``WARN``, ``INFO``, ``DEBUG`` or ``TRACE``: the highest not above ``number``."""
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    if number >= logging.INFO:
        return "INFO"
    return "DEBUG" if number >= logging.DEBUG else "TRACE"


def parse_filters(text: str, *, where: str = "the log filter (DYN_LOG)") -> Filters:
    """Read a list of filters separated by commas; of several for the same target the last counts.

    A part is a level (in any case; ``warning`` is taken for ``warn``), ``target=level``, or a
    target alone, which logs all of it. Empty parts are skipped.

    Args:
        text: The list.
        where: Where it is from, for the error.

    Raises:
        ConfigError: A part is none of these, or looks like a misspelt level; the message has it.
    """
    level: int | None = None
    targets: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        target, equals, word = (piece.strip() for piece in part.rpartition("="))
        number = _level(word)
        if equals:
            if number is None:
                raise ConfigError(f"unknown level {word!r} in {part!r} of {where}", hint=_HINT)
            targets[_target(target, part, where)] = number
        elif number is not None:
            level = number
        else:
            targets[_bare_target(word, where)] = TRACE
    return Filters(level=level, targets=targets)


def read_filters(path: Path) -> Filters:
    """Read a TOML file with ``log_level`` and a table ``log_filters`` of level by target.

    The names are those of Dynamo's file. ``log_level`` may be a list of filters too.

    Raises:
        ConfigError: The file cannot be read, has other names, or a level or target is wrong.
    """
    import tomllib

    where = f"the log settings file {path}"
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {where}: {error}") from error
    unknown = sorted(tables.keys() - {"log_level", "log_filters"})
    if unknown:
        raise ConfigError(
            f"unknown setting {', '.join(unknown)} in {where}",
            hint="it has log_level and a table log_filters",
        )
    level, by_target = tables.get("log_level", ""), tables.get("log_filters", {})
    if not isinstance(level, str) or not isinstance(by_target, dict):
        raise ConfigError(f"log_level is no text, or log_filters no table, in {where}", hint=_HINT)
    targets: dict[str, int] = {}
    for target, word in by_target.items():
        number = _level(str(word))
        part = f"{target} = {word!r}"
        if number is None:
            raise ConfigError(f"unknown level {word!r} in {part} of {where}", hint=_HINT)
        targets[_target(target, part, where)] = number
    return Filters(targets=targets).over(parse_filters(level, where=where))


def _level(word: str) -> int | None:
    word = word.strip().lower()
    return LEVELS.get(_ALIASES.get(word, word))


def _target(word: str, part: str, where: str) -> str:
    if not _TARGET.fullmatch(word):
        raise ConfigError(f"{part!r} of {where} names no target", hint=_HINT)
    return word.replace("::", ".")


def _bare_target(word: str, where: str) -> str:
    import difflib

    close = difflib.get_close_matches(word.lower(), [*LEVELS, *_ALIASES], n=1, cutoff=0.7)
    if close:
        raise ConfigError(
            f"unknown level {word!r} in {where}; is it {close[0]}?",
            hint=f"{_HINT}; for a target of that name write {word}=trace",
        )
    return _target(word, word, where)

"""What is logged, and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from muster.config.setting import setting

__all__ = ["LogSettings"]

_FORMATS = ("readable", "jsonl")


def _is_format(value: Any) -> str | None:
    return None if value is None or value in _FORMATS else f"must be one of {', '.join(_FORMATS)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    filter: str | None = setting(
        None,
        env="DYN_LOG",
        help=(
            "Lowest level to log, by default info: error, warn, info, debug, trace, off; or a list"
            " like info,muster.wire=debug."
        ),
    )
    file: Path | None = setting(
        None,
        env="DYN_LOGGING_CONFIG_PATH",
        help=(
            "TOML file with log_level and a table log_filters of level by target; DYN_LOG wins"
            " where both say something."
        ),
    )
    jsonl: bool = setting(
        False,
        env="DYN_LOGGING_JSONL",
        help="Log one JSON object a line instead of text.",
    )
    console_format: str | None = setting(
        None,
        env="DYN_LOGGING_CONSOLE_FORMAT",
        help="readable or jsonl; wins over DYN_LOGGING_JSONL.",
        check=_is_format,
    )
    local_time: bool = setting(
        False,
        env="DYN_LOG_USE_LOCAL_TZ",
        help="Times of the system's zone with their offset instead of UTC.",
    )
    no_colour: bool = setting(
        False,
        env="DYN_SDK_DISABLE_ANSI_LOGGING",
        help="Never colour the log; otherwise text on a terminal is.",
    )
    span_events: bool = setting(
        False,
        env="DYN_LOGGING_SPAN_EVENTS",
        help="Log the end of every span with its duration, as debug messages of muster.span.",
    )

    @property
    def as_jsonl(self) -> bool:
        """Whether lines are JSON objects."""
        return self.jsonl if self.console_format is None else self.console_format == "jsonl"

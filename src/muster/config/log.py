"""What is logged, and how."""

from __future__ import annotations

import dataclasses

from muster.config.setting import setting

__all__ = ["LogSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    filter: str = setting(
        "info",
        env="DYN_LOG",
        help="Lowest level to log: error, warn, info, debug; or a list like info,muster.wire=debug.",
    )
    jsonl: bool = setting(
        False,
        env="DYN_LOGGING_JSONL",
        help="Log one JSON object a line instead of text.",
    )

"""How streams are sent, whatever they carry."""

from __future__ import annotations

import dataclasses

from muster.config.settings import HttpSettings

__all__ = ["StreamRules"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamRules:
    """How streams are sent.

    Attributes:
        peek_s: How long a stream's headers wait for its first output, so that an early failure
            still gets a status of its own. Output does not wait for it.
        keep_alive_s: After how much silence a comment is sent; 0 for never.
        always_usage: End each stream with its usage.
    """

    peek_s: float = 0.2
    keep_alive_s: float = 15.0
    always_usage: bool = False

    @classmethod
    def of(cls, settings: HttpSettings) -> StreamRules:
        """The rules the settings make."""
        return cls(
            peek_s=settings.error_peek_ms / 1000,
            keep_alive_s=settings.keep_alive_ms / 1000,
            always_usage=settings.force_usage,
        )

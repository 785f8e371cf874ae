"""What goes wrong with cards and the bytes they promise."""

from __future__ import annotations

from muster.errors.base import MusterError

__all__ = [
    "CardError",
    "ContentError",
    "DigestMismatchError",
    "SourceBusyError",
    "SourceError",
    "StoreError",
    "TooLargeError",
    "UntrustedSourceError",
]


class CardError(MusterError):
    """A model card, or the model directory it is made from, cannot be read."""

    code = "card"


class ContentError(MusterError):
    """Bytes are missing, or are not what the card promised."""

    code = "content"


class DigestMismatchError(ContentError):
    """The bytes hash to something else than the digest that names them."""

    code = "digest_mismatch"


class TooLargeError(ContentError):
    """More bytes than the cap allows."""

    code = "too_large"


class SourceError(ContentError):
    """A source did not give the bytes."""

    code = "source"


class SourceBusyError(SourceError):
    """A source has no place free at present.

    Args:
        message: What is wrong, and where.
        retry_after_s: When it wants to be asked again, in seconds.
    """

    code = "source_busy"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class UntrustedSourceError(SourceError):
    """A place that the settings do not allow a card to send us to."""

    code = "untrusted"


class StoreError(ContentError):
    """The directory that keeps verified bytes cannot be read or written."""

    code = "store"

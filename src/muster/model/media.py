"""How frontends fetch and decode images for a model, as its card carries it."""

from __future__ import annotations

import msgspec

from muster.errors import CardError
from muster.model.strictjson.compound import Distinct, Field, Maybe, Record, if_none
from muster.model.strictjson.shape import BOOL, TEXT, U32, U64

__all__ = [
    "MEDIA_DECODER",
    "MEDIA_FETCHER",
    "Duration",
    "ImageDecoder",
    "ImageLimits",
    "MediaDecoder",
    "MediaFetcher",
]

_NANOS = 10**9
_U64_MAX = 2**64 - 1


class ImageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest image to decode; ``None`` is no limit. ``max_alloc`` is in bytes."""

    max_image_width: int | None = None
    max_image_height: int | None = None
    max_alloc: int | None = None


class ImageDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """How images are decoded."""

    limits: ImageLimits = ImageLimits(max_alloc=128 * 1024 * 1024)


class MediaDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """What the frontend decodes; ``None`` is left to the worker."""

    image: ImageDecoder | None = None


class Duration(msgspec.Struct, frozen=True):
    """A length of time, exact to the nanosecond."""

    secs: int
    nanos: int


class MediaFetcher(msgspec.Struct, frozen=True, kw_only=True):
    """What the frontend may fetch; ``allowed_media_domains`` has no order of its own."""

    user_agent: str = "dynamo-ai/dynamo"
    allow_direct_ip: bool = False
    allow_direct_port: bool = False
    allow_private_ips: bool = False
    allowed_media_domains: tuple[str, ...] | None = None
    timeout: Duration | None = Duration(30, 0)


def _duration(secs: int, nanos: int) -> Duration:
    secs += nanos // _NANOS
    if secs > _U64_MAX:
        raise CardError("overflow deserializing Duration")
    return Duration(secs, nanos % _NANOS)


_DURATION = Record(
    "struct Duration", _duration, Field("secs", U64), Field("nanos", U32), closed=True
)
_LIMITS = Record(
    "struct ImageDecoderLimits",
    ImageLimits,
    Field("max_image_width", Maybe(U32), None),
    Field("max_image_height", Maybe(U32), None),
    Field("max_alloc", Maybe(U64), None),
    closed=True,
)
_IMAGE_DECODER = Record(
    "struct ImageDecoder",
    ImageDecoder,
    Field("limits", _LIMITS, ImageDecoder().limits),
    closed=True,
)

MEDIA_DECODER = Record(
    "struct MediaDecoder",
    MediaDecoder,
    Field("image", Maybe(_IMAGE_DECODER), None, omit=if_none),
)
MEDIA_FETCHER = Record(
    "struct MediaFetcher",
    MediaFetcher,
    Field("user_agent", TEXT),
    Field("allow_direct_ip", BOOL),
    Field("allow_direct_port", BOOL),
    Field("allow_private_ips", BOOL),
    Field("allowed_media_domains", Maybe(Distinct(TEXT)), None, in_array=False),
    Field("timeout", Maybe(_DURATION), None, in_array=False),
)

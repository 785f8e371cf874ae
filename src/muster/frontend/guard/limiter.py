"""What each holder of keys has used, and whether it may have more. Pure; the time is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from muster.frontend.api_error import ApiError
from muster.frontend.guard.bucket import TokenBucket
from muster.frontend.guard.keys import Holder, Limits

__all__ = ["Limiter", "Usage", "duration"]


class Usage:
    """What one holder has used of its limits.

    A rate is a token bucket that holds a minute's worth: a holder that was idle may use all of it
    at once. Tokens are charged when a request has ended, as only then they are known; a holder in
    debt waits until it is paid.

    Args:
        limits: The limits.
        now: The time.

    Attributes:
        limits: The limits.
        running: Requests that have begun and not ended.
    """

    __slots__ = ("_requests", "_tokens", "limits", "running")

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.running = 0
        self._requests = _per_minute(limits.requests_per_minute, now)
        self._tokens = _per_minute(limits.tokens_per_minute, now)

    def begin(self, now: float) -> None:
        """Count a request.

        Raises:
            ApiError: 429, with when to come back; nothing is counted then.
        """
        limits = self.limits
        if limits.concurrent is not None and self.running >= limits.concurrent:
            raise self._refused(f"{limits.concurrent} requests at a time", "concurrent", 1.0, now)
        if self._requests is not None:
            wait = self._requests.wait_s(1.0, now)
            if wait:
                text = f"{limits.requests_per_minute} requests per minute"
                raise self._refused(text, "requests", wait, now)
        if self._tokens is not None:
            wait = self._tokens.wait_s(1.0, now)
            if wait:
                text = f"{limits.tokens_per_minute} tokens per minute"
                raise self._refused(text, "tokens", wait, now)
        if self._requests is not None:
            self._requests.charge(1.0, now)
        self.running += 1

    def end(self, tokens: int, now: float) -> None:
        """A request that ``begin`` counted has ended and used ``tokens``."""
        self.running -= 1
        if self._tokens is not None:
            self._tokens.charge(tokens, now)

    def headers(self, now: float) -> dict[str, str]:
        """OpenAI's ``x-ratelimit-*`` headers for the rates that are limited."""
        fields: dict[str, str] = {}
        for kind, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                fields[f"x-ratelimit-limit-{kind}"] = f"{bucket.capacity:g}"
                left = max(0, math.floor(bucket.level(now)))
                fields[f"x-ratelimit-remaining-{kind}"] = str(left)
                fields[f"x-ratelimit-reset-{kind}"] = duration(bucket.full_in_s(now))
        return fields

    def _refused(self, limit: str, kind: str, wait_s: float, now: float) -> ApiError:
        seconds, thousandths = math.ceil(wait_s), math.ceil(wait_s * 1000)
        return ApiError(
            429,
            f"Rate limit reached: {limit}. Please try again in {duration(wait_s)}.",
            slug="concurrency_limit_exceeded" if kind == "concurrent" else "rate_limit_exceeded",
            headers={
                "retry-after": str(seconds),
                "retry-after-ms": str(thousandths),
                **self.headers(now),
            },
        )


class Limiter:
    """The usage of every holder, by name.

    Args:
        make: Makes the usage of a holder; by default one of its own.
    """

    def __init__(self, make: Callable[[Holder, float], Usage] | None = None) -> None:
        self._make = make if make is not None else _alone
        self._usages: dict[str, Usage] = {}

    def usage(self, holder: Holder, now: float) -> Usage | None:
        """The holder's usage; ``None`` if it has no limits.

        Changed limits begin anew, with the requests that still run.
        """
        if not holder.limits:
            return None
        usage = self._usages.get(holder.name)
        if usage is None or usage.limits != holder.limits:
            running = usage.running if usage is not None else 0
            usage = self._usages[holder.name] = self._make(holder, now)
            usage.running = running
        return usage

    def keep(self, names: Collection[str]) -> None:
        """Forget holders that are not among ``names``."""
        self._usages = {name: usage for name, usage in self._usages.items() if name in names}


def duration(seconds: float) -> str:
    """A time as OpenAI's headers write it, rounded up: ``0s``, ``250ms``, ``8.64s``, ``6m0s``.

    From a minute on it is in whole seconds; below a second in whole milliseconds.
    """
    if seconds <= 0:
        return "0s"
    thousandths = math.ceil(seconds * 1000)
    if thousandths < 1000:
        return f"{thousandths}ms"
    if thousandths < 60_000:
        return f"{thousandths / 1000:g}s"
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return (f"{hours}h" if hours else "") + f"{minutes}m{whole % 60}s"


def _alone(holder: Holder, now: float) -> Usage:
    return Usage(holder.limits, now)


def _per_minute(limit: int | None, now: float) -> TokenBucket | None:
    return None if limit is None else TokenBucket(limit, limit / 60, now)

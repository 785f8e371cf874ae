"""Cross-origin requests: which pages of which origins a browser lets call the API. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["Cors"]

_METHODS = "GET, POST, OPTIONS"
_EXPOSED = ", ".join(
    [
        "x-request-id",
        "x-muster-trace",
        "retry-after",
        *(
            f"x-ratelimit-{what}-{kind}"
            for what in ("limit", "remaining", "reset")
            for kind in ("requests", "tokens")
        ),
    ]
)
_MAX_AGE_S = 600
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-, ")


class Cors:
    """Answers for a list of origins.

    Credentials (cookies) are never allowed: keys travel in a header that the page sets itself.

    Args:
        origins: Origins (``https://chat.example``), or ``*`` for any.
    """

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/") for origin in origins)

    def headers(self, origin: str) -> dict[str, str]:
        """Headers for the answer to a request from ``origin``; those it needs may be none.

        ``vary: origin`` is there whenever the answer would differ for another origin.
        """
        if not self._any and origin not in self._origins:
            return {"vary": "origin"}
        allowed = {"access-control-allow-origin": "*" if self._any else origin}
        if not self._any:
            allowed["vary"] = "origin"
        allowed["access-control-expose-headers"] = _EXPOSED
        return allowed

    def preflight(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """Headers for the answer (204) to a preflight request."""
        fields = self.headers(headers[b"origin"].decode("latin-1"))
        if "access-control-allow-origin" in fields:
            fields.pop("access-control-expose-headers")
            fields["access-control-allow-methods"] = _METHODS
            asked = headers.get(b"access-control-request-headers", b"").decode("latin-1").lower()
            if asked and _SAFE.issuperset(asked):
                fields["access-control-allow-headers"] = asked
            fields["access-control-max-age"] = str(_MAX_AGE_S)
        return fields

    @staticmethod
    def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request only asks whether another may be made."""
        return (
            method == "OPTIONS" and b"origin" in headers
            and b"access-control-request-method" in headers
        )  # fmt: skip

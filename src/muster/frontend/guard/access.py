"""Which routes ask for which key, and where a request carries its key. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from muster.frontend.api_error import ApiError
from muster.frontend.guard.keys import Holder, KeyRing

__all__ = ["Access", "Rules", "identify", "is_admin_path", "presented_key"]

_PAGES = "/dashboard"
"""Files of the package without data. A browser sends no key for them; what they load asks for one."""
_ADMIN_BELOW = ("/v1/muster/", f"{_PAGES}/")
_ADMIN = frozenset({"/busy_threshold", _PAGES})
_OPEN = frozenset({"/health", "/live"})


class Access(enum.Enum):
    """What a route asks for."""

    OPEN = "open"
    KEY = "key"
    ADMIN = "admin"


def is_admin_path(path: str) -> bool:
    """Whether a path is for those who run the service.

    These are ``/busy_threshold``, ``/v1/muster/*`` and ``/dashboard``.
    """
    return path in _ADMIN or path.startswith(_ADMIN_BELOW)


class Rules:
    """What each path asks for, on one port.

    Args:
        metrics_key: ``/metrics`` asks for an admin key.
        admin_key: The admin routes ask for an admin key.
    """

    __slots__ = ("_admin", "_metrics")

    def __init__(self, *, metrics_key: bool, admin_key: bool) -> None:
        self._metrics = Access.ADMIN if metrics_key else Access.OPEN
        self._admin = Access.ADMIN if admin_key else Access.OPEN

    def of(self, path: str) -> Access:
        """What ``path`` asks for; a path nobody serves asks for a key as well."""
        if path in _OPEN or path == _PAGES or path.startswith(f"{_PAGES}/"):
            return Access.OPEN
        if path == "/metrics":
            return self._metrics
        return self._admin if is_admin_path(path) else Access.KEY


def presented_key(headers: Mapping[bytes, bytes]) -> str:
    """The key of a request: ``Authorization: Bearer``, else ``x-api-key``; empty if there is none."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    key = credentials.strip() if scheme.lower() == b"bearer" else b""
    return (key or headers.get(b"x-api-key", b"")).decode("latin-1")


def identify(ring: KeyRing, access: Access, headers: Mapping[bytes, bytes]) -> Holder | None:
    """Who asks; ``None`` where nobody needs to say.

    Raises:
        ApiError: 401 without a key or with one nobody has, 403 if an admin's is asked for.
    """
    if access is Access.OPEN:
        return None
    key = presented_key(headers)
    if not key:
        raise _unauthorized(
            "You didn't provide an API key. Send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.",
            slug="missing_api_key",
        )
    holder = ring.find(key)
    if holder is None:
        raise _unauthorized("Incorrect API key provided.", slug="invalid_api_key")
    if access is Access.ADMIN and not holder.admin:
        raise ApiError(
            403, f"The key of {holder.name} is not an admin's", slug="insufficient_permissions"
        )
    return holder


def _unauthorized(message: str, *, slug: str) -> ApiError:
    return ApiError(401, message, slug=slug, headers={"www-authenticate": "Bearer"})

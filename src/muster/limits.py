"""How many files and connections a process may have open.

The request plane has one connection per response that is under way, at both ends.
"""

from __future__ import annotations

import contextlib
import math
import resource

__all__ = ["connection_budget", "raise_descriptor_limit"]

_ENOUGH = 1 << 20
_SHARE = 0.9
"""What is left is for files, listeners, and connections to registries."""


def connection_budget() -> float:
    """How many connections for responses this process may have; infinite without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else int(soft * _SHARE)


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one, or to a million; keeps it where that is not allowed.

    For processes that are ours from the start: the limit is inherited by what they start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""Free ports on loopback, for processes that have to be told one."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket

__all__ = ["free_port"]

_PORTS = itertools.cycle(range(20000, 32000))
"""Below 32768: Dynamo reads some as signed 16-bit numbers."""
_OWN_PORTS = itertools.islice(_PORTS, os.getpid() * 97 % 12000, None)


def free_port() -> int:
    """A port nobody listens on just now, and that this process has not given out lately."""
    for port in itertools.islice(_OWN_PORTS, 12000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port from 20000 to 31999")

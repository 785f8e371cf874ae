"""Runtimes for tests: on loopback, on a registry in memory, without signal handlers."""

from __future__ import annotations

import dataclasses
from typing import Any

from muster.config.settings import RequestPlaneSettings, Settings, SystemSettings
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.runtime import DistributedRuntime

__all__ = ["loopback_settings", "runtime_in"]


def loopback_settings(
    *, system_port: int | None = None, codec: str = "msgpack", **request_plane: Any
) -> Settings:
    """Default settings with every listener on 127.0.0.1, and no pause before a shutdown drains."""
    chosen: dict[str, Any] = {"withdraw_grace_s": 0.0, "codec": codec} | request_plane
    return dataclasses.replace(
        Settings(),
        request_plane=RequestPlaneSettings(host="127.0.0.1", response_host="127.0.0.1", **chosen),
        system=SystemSettings(host="127.0.0.1", port=system_port),
    )


def runtime_in(registry: MemoryRegistry, settings: Settings | None = None) -> DistributedRuntime:
    """A runtime that shares ``registry`` with others, as if each were a process."""
    return DistributedRuntime(
        settings=settings or loopback_settings(),
        discovery=MemoryDiscovery(registry),
        handle_signals=False,
    )

"""Opens the registry the settings name."""

from __future__ import annotations

from muster.config.settings import DiscoverySettings, EtcdSettings
from muster.discovery.base import Discovery
from muster.discovery.file import FileDiscovery
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.errors import ConfigError

__all__ = ["open_discovery"]


def open_discovery(
    settings: DiscoverySettings,
    etcd: EtcdSettings | None = None,
    *,
    registry: MemoryRegistry | None = None,
) -> Discovery:
    """The registry of ``settings.backend``, not yet used; whoever opens it closes it.

    Args:
        settings: Which backend, and its settings.
        etcd: For the ``etcd`` backend: where it is; by default as its settings have it.
        registry: For the ``memory`` backend: what to share; by default a registry of its own, which
            nobody else can see.

    Raises:
        ConfigError: If there is no such backend.
    """
    match settings.backend:
        case "file":
            return FileDiscovery(settings)
        case "memory":
            return MemoryDiscovery(registry or MemoryRegistry())
        case "etcd":
            # Here, because its client takes a tenth of a second to import.
            from muster.discovery.etcd.registry import EtcdDiscovery

            return EtcdDiscovery(etcd or EtcdSettings())
        case other:
            raise ConfigError(
                f"there is no discovery backend {other!r}", hint="use file, etcd or memory"
            )

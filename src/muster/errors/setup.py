"""What goes wrong around requests: settings, the registry."""

from __future__ import annotations

from muster.errors.base import MusterError

__all__ = ["ConfigError", "ConflictError", "DiscoveryError", "NotRegisteredError"]


class ConfigError(MusterError):
    """A setting, flag or argument is wrong."""

    code = "config"


class DiscoveryError(MusterError):
    """The registry refused, or could not be reached."""

    code = "discovery"


class ConflictError(DiscoveryError):
    """The key exists already and holds something else."""

    code = "conflict"


class NotRegisteredError(DiscoveryError):
    """The key to remove or update does not exist."""

    code = "not_registered"

"""What a runtime's arguments say, those carried over from Dynamo among them. Pure but for settings."""

from __future__ import annotations

from muster.config.settings import Settings
from muster.errors import ConfigError

__all__ = ["check_reach", "settings_of"]


def settings_of(
    settings: Settings | None,
    *,
    discovery_backend: str | None,
    request_plane: str | None,
    response_plane: str | None,
) -> Settings:
    """The settings given, or those of the environment with what the other arguments override.

    Args:
        settings: All settings; they go with neither of the next two.
        discovery_backend: ``file``, ``etcd``, ``memory`` or ``mem``.
        request_plane: ``tcp``, ``nats`` or ``loopback``.
        response_plane: Only ``tcp`` is spoken.

    Raises:
        ConfigError: A setting is wrong, or two do not go together.
    """
    if response_plane not in (None, "tcp"):
        raise ConfigError(f"the response plane {response_plane!r} is not spoken", hint="use tcp")
    if settings is None:
        backend = {"mem": "memory"}.get(discovery_backend or "", discovery_backend)
        return Settings.load(
            flags={"discovery.backend": backend, "request_plane.plane": request_plane}
        )
    if discovery_backend is not None or request_plane is not None:
        raise ConfigError("give either settings or discovery_backend and request_plane")
    return settings


def check_reach(settings: Settings) -> None:
    """Refuse to make a loopback instance known where other processes would see it.

    Raises:
        ConfigError: They would.
    """
    if settings.request_plane.plane == "loopback" and settings.discovery.backend != "memory":
        raise ConfigError(
            "the request plane loopback reaches this process only, but the registry "
            f"{settings.discovery.backend!r} is seen by others",
            hint="set DYN_DISCOVERY_BACKEND=mem with it",
        )
